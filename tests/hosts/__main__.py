"""The guides of docs/how-to in blank projects with the wheel: ``python -m tests.hosts dist/*.whl``.

Each guide is followed from its first block to its last, in a project of its own that has the app
and a user called alice; ``customized_host.py`` has the tests of the host of customizing.md. Then
hosts with each kind of tokens, and with drf-spectacular, delete a run over HTTP.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.hosts.follow import ROOT, SHELL, Reader, blocks, reader

GUIDES = ROOT / "docs" / "how-to"
SINCE_DJANGO_6 = ("django.tasks", "crawls.tasks", "crawls.upkeep")
TOKENS = ("knox", "JWT", "OAuth")

SETTINGS = """
INSTALLED_APPS += ["rest_framework", "rest_framework.authtoken", "actor_runs", "crawls"]
CELERY_BROKER_URL = "memory://"
"""
URLS = """
from django.urls import include
urlpatterns += [path("v2/", include("actor_runs.urls"))]
"""
SPECTACULAR = """
INSTALLED_APPS += ["drf_spectacular"]
REST_FRAMEWORK = {"DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema"}
"""
# The host's own, with the app's names.
SPECTACULAR_URLS = """
from rest_framework import generics, serializers
class RunSerializer(serializers.Serializer):
    status = serializers.ChoiceField(["open", "done"])
class Runs(generics.CreateAPIView):
    serializer_class = RunSerializer
    authentication_classes = []
urlpatterns += [path("runs/", Runs.as_view())]
"""
ALICE = """
from django.contrib.auth.models import User
from rest_framework.authtoken.models import Token
Token.objects.create(user=User.objects.create_user("alice"), key="alice-token")
"""
RUNS = """
from django.contrib.auth.models import User
from actor_runs.models import Run, RunStatus
alice = User.objects.get(username="alice")
Run.objects.create(user=alice, id="finished", status=RunStatus.SUCCEEDED)
Run.objects.create(user=alice, id="running", status=RunStatus.RUNNING)
"""


class Host:
    """A blank project with the app, in a folder of its own, and a reader in it."""

    def __init__(self, someone: Reader, environment: Path, with_schema: bool = False) -> None:
        self.someone = someone
        self.folder = someone.folder
        someone.run(f". {environment}/bin/activate")
        someone.run("django-admin startproject mysite .")
        someone.run("python manage.py startapp crawls")
        self.add("mysite/settings.py", SETTINGS + (SPECTACULAR if with_schema else ""))
        self.add("mysite/urls.py", URLS + (SPECTACULAR_URLS if with_schema else ""))
        self.has_alice = self.is_migrated = False

    def add(self, file: str, code: str) -> None:
        with (self.folder / file).open("a") as stream:
            stream.write(code)

    def shell(self, code: str) -> str:
        (self.folder / "given").write_text(code)
        return self.someone.run("python manage.py shell --verbosity 0 < given")

    def migrate(self) -> None:
        """Migrate, if there is code that may need it."""
        if self.is_migrated:
            return
        self.is_migrated = True
        self.someone.run("python manage.py makemigrations --verbosity 0")
        self.someone.run("python manage.py migrate --verbosity 0")
        if not self.has_alice:
            self.shell(ALICE)
            self.has_alice = True

    def follow(self, found: list[tuple[str, str]]) -> None:
        """Do what the blocks say. Whoever opens a shell or a server has migrated."""
        for language, code in found:
            if code.startswith(SHELL) or language == "sh":
                self.migrate()
            elif code.startswith(("# crawls/models.py", "# mysite/settings.py")):
                self.is_migrated = False
            if "curl" in code and self.someone.server is None:
                self.someone.start_server()
            self.someone.follow([(language, code)])


@contextmanager
def host(environment: Path, **options: bool) -> Iterator[Host]:
    with tempfile.TemporaryDirectory() as name, reader(Path(name)) as someone:
        yield Host(someone, environment, **options)


def ask(method: str, url: str, token: str | None = None) -> tuple[int, str | None]:
    """Return the status, and the type of an error."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    request = urllib.request.Request(url, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, None
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())["error"]["type"]


def check_api(found: Host, token: str) -> None:
    """Delete a run, and be refused in every way."""
    found.shell(RUNS)
    found.someone.start_server()
    runs = f"{found.someone.site}/v2/actor-runs"
    for given in (None, "wrong"):
        assert ask("DELETE", f"{runs}/finished", given) == (401, "token-not-valid")
        assert ask("GET", runs, given) == (401, "token-not-valid")
    assert ask("GET", runs, token) == (200, None)
    assert ask("DELETE", f"{runs}/running", token) == (400, "cannot-remove-running-run")
    assert ask("DELETE", f"{runs}/finished", token) == (204, None)
    assert ask("DELETE", f"{runs}/finished", token) == (404, "record-not-found")


# What many projects have: a tuple, REST framework, and a pattern that takes every path.
GROWN = """
INSTALLED_APPS = (*INSTALLED_APPS, "rest_framework", "crawls")
"""
CATCH_ALL = """
from django.http import HttpResponse
from django.urls import re_path
urlpatterns += [re_path("", lambda request: HttpResponse("a page"))]
"""


def install(environment: Path) -> None:
    with tempfile.TemporaryDirectory() as name, reader(Path(name)) as someone:
        someone.run(f". {environment}/bin/activate")
        someone.run("django-admin startproject mysite .")
        someone.run("python manage.py startapp crawls")
        for file, code in (("settings", GROWN), ("urls", CATCH_ALL)):
            with (someone.folder / "mysite" / f"{file}.py").open("a") as stream:
                stream.write(code)
        someone.follow(blocks(GUIDES / "install.md", "The apps", "The URLs", "The database"))
        assert "no issues" in someone.printed
        someone.start_server()
        assert ask("DELETE", f"{someone.site}/v2/actor-runs/x") == (401, "token-not-valid")


def recording(environment: Path, has_tasks: bool) -> None:
    with host(environment) as found:
        for page in ("recording.md", "import-and-prune.md"):
            found.follow(
                [
                    (language, code)
                    for language, code in blocks(GUIDES / page)
                    if language == "python"
                    and (has_tasks or not any(name in code for name in SINCE_DJANGO_6))
                ]
            )
        if not has_tasks:
            print("left out: Django tasks, which need Django 6.0")
        check_api(found, "alice-token")


def owners(environment: Path) -> None:
    page = GUIDES / "owners.md"
    with host(environment) as found:
        found.follow(blocks(page, "Groups are organizations by default", "Close an account"))
    with host(environment) as found:
        found.follow(blocks(page, "A model of your own"))


def other_paths(environment: Path) -> None:
    with host(environment) as found:
        found.follow(blocks(GUIDES / "other-paths.md"))
        found.shell(RUNS)
        found.someone.start_server()
        abort = f"{found.someone.site}/v2/actor-runs/running/abort"
        assert ask("POST", abort) == (401, "token-not-valid")
        assert ask("POST", abort, "alice-token") == (200, None)
        assert ask("POST", abort, "alice-token") == (400, "invalid-input")
        assert ask("GET", abort, "alice-token") == (405, "method-not-allowed")


CHECK_CRAWLS = """
from django.contrib.auth.models import User
from django.test import Client
from crawls.models import Crawl
client = Client(headers={"Host": "127.0.0.1"})
assert client.get("/api/crawls/").status_code == 403
client.force_login(User.objects.get(username="alice"))
states = {crawl["state"]: crawl["id"] for crawl in client.get("/api/crawls/").json()}
assert set(states) == {"done", "running"}
assert client.delete(f"/api/crawls/{states['running']}/").status_code == 400
assert client.delete(f"/api/crawls/{states['done']}/").status_code == 204
assert Crawl.objects.get().run.status == "RUNNING"
"""


def adopting(environment: Path) -> None:
    with host(environment) as found:
        found.follow(blocks(GUIDES / "adopting.md"))
        found.shell(CHECK_CRAWLS)


def testing(environment: Path) -> None:
    with host(environment) as found:
        found.follow(blocks(GUIDES / "testing.md"))


# "where your AppConfig.ready() runs"
READY = """
    def ready(self):
        import crawls.schema
"""


def customizing(environment: Path) -> None:
    with host(environment) as found:
        found.add("mysite/settings.py", 'INSTALLED_APPS += ["drf_spectacular"]\n')
        found.add("crawls/apps.py", READY)
        found.follow(blocks(GUIDES / "customizing.md"))
        tests = (ROOT / "tests" / "hosts" / "customized_host.py").read_text()
        (found.folder / "crawls" / "tests.py").write_text(tests)
        found.migrate()
        said = found.someone.run("python -W error manage.py test --verbosity 2 2>&1")
        assert f"Ran {tests.count('    def test_')} tests" in said
        assert "    Crawl:" in found.someone.run("python manage.py spectacular --validate")


def tokens(environment: Path) -> None:
    for section in (None, *TOKENS):
        with host(environment, with_schema=True) as found:
            if section is None:
                found.migrate()
                token = "alice-token"
            else:
                found.follow(blocks(GUIDES / "tokens.md", section))
                token = re.findall(r"^[\w.-]{8,}\s*$", found.someone.printed, re.M)[-1].strip()
            check_api(found, token)
            command = "python manage.py spectacular --validate --fail-on-warn"
            schema = found.someone.run(command)
            for name in ("/v2/actor-runs/{runId}", "Run", "StatusEnum", "ActorRun"):
                assert f" {name}:" in schema, name
            found.someone.run("python manage.py makemigrations --check")
            print(f"a run deleted: with drf-spectacular and {section or 'tokens'}", flush=True)


def main(wheel: Path) -> None:
    with tempfile.TemporaryDirectory() as name, reader(Path(name)) as someone:
        environment = Path(name) / "environment"
        someone.run(f"python3 -m venv {environment}\n. {environment}/bin/activate")
        someone.run(f"pip install --quiet {wheel} celery factory-boy")
        version = someone.run("python -c 'import django; print(django.VERSION[0])'")
        recording(environment, has_tasks=int(version) >= 6)
        for guide in (install, owners, other_paths, adopting, testing):
            guide(environment)
            print(f"followed: {guide.__name__}", flush=True)
        requirements = ROOT / "tests" / "hosts" / "requirements.txt"
        someone.run(f"pip install --quiet '{wheel}[openapi]' -r {requirements}")
        customizing(environment)
        tokens(environment)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
