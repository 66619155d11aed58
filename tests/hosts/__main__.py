"""The wheel in blank projects that follow the docs: ``python -m tests.hosts dist/*.whl``.

First a host without drf-spectacular, which records runs in every way of docs/recording.md, and
imports and prunes them by docs/import-and-prune.md; then, with
drf-spectacular, hosts with REST framework's tokens and with each other kind. In each a run is
deleted over HTTP.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = ROOT / "docs" / "recording.md", ROOT / "docs" / "import-and-prune.md"
BLOCK = re.compile(r"^```python\n# ([^\n]+)\n(.*?)^```$", re.M | re.S)
SHELL = "python manage.py shell"
RECORDING = (
    *("A plain function", "Celery", "Django tasks", "Aborting", "Cleaning up", "Organizations"),
    *("From Python", "A Celery task", "A Django task"),
)
SINCE_DJANGO_6 = ("Django tasks", "A Django task")
TOKENS = ("knox", "JWT", "OAuth")

SETTINGS = """
INSTALLED_APPS += ["rest_framework", "rest_framework.authtoken", "actor_runs", "crawls"]
"""
URLS = """
from django.urls import include
urlpatterns += [path("v2/", include("actor_runs.urls"))]
"""
SPECTACULAR = """
INSTALLED_APPS += ["drf_spectacular"]
REST_FRAMEWORK = {"DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema"}
"""
SEED = """
from django.contrib.auth.models import User
from actor_runs.models import Run, RunStatus
alice, _ = User.objects.get_or_create(username="alice")
Run.objects.create(user=alice, id="finished", status=RunStatus.SUCCEEDED)
Run.objects.create(user=alice, id="running", status=RunStatus.RUNNING)
"""
OWN_TOKEN = """
from django.contrib.auth.models import User
from rest_framework.authtoken.models import Token
print(Token.objects.create(user=User.objects.get(username="alice")).key)
"""


def sections() -> dict[str, list[tuple[str, str]]]:
    """Return the blocks below each heading: where they go, and their code."""
    text = "".join(page.read_text() for page in PAGES)
    parts = re.split(r"^###? (.+)$", text, flags=re.M)
    return {name: BLOCK.findall(text) for name, text in zip(parts[1::2], parts[2::2], strict=True)}


class Host:
    """A blank project with the app, in a folder of its own."""

    def __init__(self, folder: Path, python: Path, with_schema: bool) -> None:
        self.folder = folder
        self.python = python
        folder.mkdir()
        self.run("-m", "django", "startproject", "mysite", ".")
        self.manage("startapp", "crawls")
        (folder / "crawls" / "models.py").unlink()
        self.add("mysite/settings.py", SETTINGS + (SPECTACULAR if with_schema else ""))
        self.add("mysite/urls.py", URLS)

    def run(self, *arguments: str) -> str:
        # The folder's own packages only: neither the clone's nor what this process was told.
        env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        env.pop("DJANGO_SETTINGS_MODULE", None)
        return subprocess.run(
            [str(self.python), *arguments],
            cwd=self.folder,
            env=env,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout

    def manage(self, *arguments: str) -> str:
        return self.run("manage.py", *arguments)

    def add(self, file: str, code: str) -> None:
        with (self.folder / file).open("a") as stream:
            stream.write(code)

    def shell(self, code: str) -> str:
        return self.manage("shell", "--verbosity", "0", "--command", code)

    def follow(self, blocks: list[tuple[str, str]]) -> str:
        """Do what the blocks say, in their order; return what the last one printed."""
        printed = ""
        assert blocks
        for place, code in blocks:
            if place == SHELL:
                self.manage("migrate", "--verbosity", "0")
                printed = self.shell(code)
            else:
                self.add(place, code)
        return printed

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Serve the project by wsgiref, on a port that is free; yield its address."""
        server = (
            "from wsgiref.simple_server import make_server; "
            "from mysite.wsgi import application; "
            "server = make_server('127.0.0.1', 0, application); "
            "print(server.server_port, flush=True); server.serve_forever()"
        )
        with subprocess.Popen(
            [str(self.python), "-c", server],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as process:
            try:
                assert process.stdout is not None
                yield f"http://127.0.0.1:{int(process.stdout.readline())}"
            finally:
                process.terminate()


def ask(method: str, url: str, token: str | None = None) -> tuple[int, str | None]:
    """Return the status, and the type of an error."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    request = urllib.request.Request(url, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, None
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())["error"]["type"]


def check_api(host: Host, token: str) -> None:
    """Delete a run, and be refused in every way."""
    with host.serving() as site:
        runs = f"{site}/v2/actor-runs"
        for given in (None, "wrong"):
            assert ask("DELETE", f"{runs}/finished", given) == (401, "token-not-valid")
            assert ask("GET", runs, given) == (401, "token-not-valid")
        assert ask("GET", runs, token) == (200, None)
        assert ask("DELETE", f"{runs}/running", token) == (400, "cannot-remove-running-run")
        assert ask("DELETE", f"{runs}/finished", token) == (204, None)
        assert ask("DELETE", f"{runs}/finished", token) == (404, "record-not-found")


def main(wheel: Path) -> None:
    found = sections()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        venv.create(folder / "venv", with_pip=True)
        python = folder / "venv" / "bin" / "python"
        pip = [str(python), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, wheel, "celery"], check=True)

        host = Host(folder / "without", python, with_schema=False)
        version = host.run("-c", "import django; print(django.VERSION[0])")
        for section in RECORDING:
            if section in SINCE_DJANGO_6 and int(version) < 6:
                print(f"left out: {section}, which needs Django 6.0")
                continue
            host.follow(found[section])
            print(f"followed: {section}", flush=True)
        host.shell(SEED)
        check_api(host, host.shell(OWN_TOKEN).split()[-1])
        print("a run deleted: without drf-spectacular", flush=True)

        requirements = ROOT / "tests" / "hosts" / "requirements.txt"
        subprocess.run([*pip, f"{wheel}[openapi]", "-r", requirements], check=True)
        for number, section in enumerate((None, *TOKENS)):
            host = Host(folder / f"host{number}", python, with_schema=True)
            host.add("crawls/models.py", "")
            settings = [block for block in found.get(section or "", []) if block[0] != SHELL]
            for place, code in settings:
                host.add(place, code)
            host.manage("migrate", "--verbosity", "0")
            host.shell(SEED)
            printed = host.shell(OWN_TOKEN if section is None else found[section][-1][1])
            check_api(host, printed.split()[-1])
            schema = host.manage("spectacular", "--validate", "--fail-on-warn")
            assert "/v2/actor-runs/{runId}:" in schema
            host.manage("makemigrations", "--check")
            print(f"a run deleted: with drf-spectacular and {section or 'tokens'}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
