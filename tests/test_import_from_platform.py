"""One installation mirrors another, server to server, with the official client."""

from __future__ import annotations

import datetime
import http.server
import itertools
import json
import logging
import threading
import urllib.request
from typing import Any

import pytest
from django.conf import settings
from django.core.signals import request_finished
from rest_framework.authtoken.models import Token

from actor_runs import sources
from actor_runs.importing import import_runs
from actor_runs.models import Run, RunStatus
from actor_runs.sources import Platform, PlatformError
from actor_runs.validators import format_time
from project.demo_data import ALICE_TOKEN
from tests.commands import manage, python
from tests.conftest import make_user, token_of
from tests.demo_server import demo_server, free_port


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The demo project as a real server, with runs of its own."""
    with demo_server(tmp_path_factory.mktemp("mirrored")) as server:
        yield server


def mirror(site: str, *arguments: str, token: str = ALICE_TOKEN, **variables: str) -> Any:
    return manage(
        "import_actor_runs",
        "--from-platform",
        *("--base-url", site, "--user", "alice", *arguments),
        APIFY_TOKEN=token,
        TZ="Asia/Kolkata",  # some errors show only where local time is not UTC
        **variables,
    )


def there(demo: Any, path: str = "") -> Any:
    """What the demo server shows to its own alice."""
    headers = {"Authorization": f"Bearer {ALICE_TOKEN}"}
    with urllib.request.urlopen(urllib.request.Request(demo.api + path, headers=headers)) as answer:
        return json.load(answer)["data"]


def without_owner(run: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in run.items() if key != "userId"}


def figures(**numbers: int) -> str:
    n = dict.fromkeys(["created", "updated", "unchanged", "older", "refused"], 0) | numbers
    return (
        f": {n['created']} created, {n['updated']} updated, {n['unchanged']} unchanged, "
        f"{n['older']} older than what is here. {n['refused']} refused."
    )


def test_a_mirror_shows_what_the_original_shows_key_by_key(transactional_db, api, alice, demo):
    child = mirror(demo.site)

    assert child.returncode == 0, child.stderr
    items = there(demo)["items"]
    assert figures(created=len(items)) in child.stdout
    mirrored = api.get(user=alice).json()["data"]["items"]
    assert [*map(without_owner, mirrored)] == [*map(without_owner, items)]
    for item in items:
        run = api.get(f"/{item['id']}", user=alice).json()["data"]
        assert without_owner(run) == without_owner(there(demo, f"/{item['id']}"))


def test_a_second_mirror_takes_over_what_changed_only(transactional_db, alice, demo):
    mirror(demo.site)
    ids = Run.objects.filter(status=RunStatus.SUCCEEDED).values_list("pk", flat=True)[:2]
    Run.objects.filter(pk__in=list(ids)).update(exit_code=99)

    child = mirror(demo.site)

    assert child.returncode == 0, child.stderr
    assert figures(updated=2, unchanged=Run.objects.count() - 2) in child.stdout
    assert not Run.objects.filter(exit_code=99).exists()


def test_only_runs_of_a_time_and_a_status_are_mirrored(transactional_db, alice, demo):
    items = there(demo)["items"]
    since = sorted(item["startedAt"] for item in items)[len(items) // 2]
    statuses = ("SUCCEEDED", "FAILED")

    child = mirror(demo.site, "--since", since, *(f"--status={status}" for status in statuses))

    assert child.returncode == 0, child.stderr
    assert set(Run.objects.values_list("pk", flat=True)) == {
        item["id"] for item in items if item["startedAt"] >= since and item["status"] in statuses
    }


def test_a_dry_run_mirrors_nothing(transactional_db, alice, demo):
    child = mirror(demo.site, "--dry-run")

    assert child.returncode == 0, child.stderr
    assert figures(created=there(demo)["total"]) in child.stdout
    assert not Run.objects.exists()


@pytest.mark.parametrize(
    ("path", "token", "message"),
    [
        ("", "wrong", "Authentication token is not valid."),
        ("/v2/actor-runs", ALICE_TOKEN, "The platform"),  # what is no API
        ("/admin", ALICE_TOKEN, "The platform"),
    ],
)
def test_a_platform_that_cannot_be_read_is_told_in_one_line(
    transactional_db, alice, demo, path, token, message
):
    child = mirror(demo.site + path, token=token)

    assert child.returncode == 1
    assert message in child.stderr
    assert child.stderr.count("\n") == 1
    assert not Run.objects.exists()


def test_a_platform_where_nobody_listens_is_told_in_one_line(monkeypatch):
    monkeypatch.setattr(sources, "RETRIES", 0)  # which are patient

    with pytest.raises(PlatformError) as error:
        next(iter(Platform("token", f"http://127.0.0.1:{free_port()}")))

    assert str(error.value) == "The platform cannot be read: Failed to connect to the server."


def test_without_the_client_it_is_told_what_to_install(transactional_db, alice):
    child = python(
        """
import sys
sys.modules["apify_client"] = None  # as if it were not installed
from django.core.management import execute_from_command_line
execute_from_command_line(["manage.py", "import_actor_runs", "--from-platform", "--user=alice"])
""",
        APIFY_TOKEN="token",
    )

    assert child.returncode == 2
    assert "pip install django-actor-runs[platform]" in child.stderr
    assert "Traceback" not in child.stderr


# Below, the original is the test's own server, so that the test can interfere.


@pytest.fixture
def runs(transactional_db, alice):
    """Runs of alice's, of which some started at the same moment."""
    start = datetime.datetime(2026, 5, 4, 10)
    if settings.USE_TZ:
        start = start.replace(tzinfo=datetime.timezone.utc)
    return [
        Run.objects.create(user=alice, started_at=start + datetime.timedelta(seconds=n // 3))
        for n in range(8)
    ]


def test_every_run_is_read_once_also_of_those_that_started_at_the_same_moment(live_server, runs):
    platform = Platform(token_of(runs[0].user), live_server.url)

    assert sorted(run_id for run_id, _ in platform) == sorted(run.pk for run in runs)
    assert platform.total == len(runs)


def test_it_goes_on_where_it_was_interrupted(live_server, runs):
    token = token_of(runs[0].user)
    interrupted = Platform(token, live_server.url)
    read = {run_id for run_id, _ in itertools.islice(interrupted, 5)}

    rest = [run_id for run_id, _ in Platform(token, live_server.url, since=interrupted.since)]

    assert len(rest) < len(runs)
    assert read | set(rest) == {run.pk for run in runs}


def test_a_run_that_is_deleted_after_it_was_listed_is_left_out(live_server, alice, runs):
    Run.objects.update(status=RunStatus.SUCCEEDED, finished_at=runs[-1].started_at)
    read = []
    for run_id, _ in Platform(token_of(alice), live_server.url):
        read.append(run_id)
        Run.objects.exclude(pk__in=read).delete()

    assert len(read) == 1


def test_what_was_read_before_the_platform_failed_is_in(live_server, alice, runs):
    token = token_of(alice)
    requests = []

    def revoke_the_token_after_the_fifth(**kwargs: Any) -> None:
        requests.append(1)
        if len(requests) == 5:
            Token.objects.all().delete()

    request_finished.connect(revoke_the_token_after_the_fifth)
    try:
        child = mirror(live_server.url, token=token)
    finally:
        request_finished.disconnect(revoke_the_token_after_the_fifth)

    # The list, and four runs, of which the fourth began a second after the first three.
    assert child.returncode == 1
    assert f"--since {format_time(runs[3].started_at)} goes on from here" in child.stderr
    assert "Traceback" not in child.stderr


def test_a_rate_limit_is_waited_for(live_server, configure, alice, runs, caplog):
    Run.objects.exclude(pk__in=[run.pk for run in runs[:4]]).update(
        status=RunStatus.SUCCEEDED, finished_at=runs[0].started_at
    )
    Run.objects.finished().delete()
    configure(RATE_LIMIT="1/s")  # refuses some, however slow they are

    with caplog.at_level(logging.WARNING, "django.request"):
        child = mirror(live_server.url, token=token_of(alice))

    assert child.returncode == 0, child.stderr
    assert figures(unchanged=4) in child.stdout
    assert "Too Many Requests" in caplog.text


def test_a_run_that_is_bad_there_is_named_and_the_others_go_in(live_server, alice, runs):
    Run.objects.filter(pk=runs[2].pk).update(options={"build": 5})

    child = mirror(live_server.url, token=token_of(alice))

    assert child.returncode == 1
    assert figures(unchanged=len(runs) - 1, refused=1) in child.stdout
    assert f"{runs[2].pk}: options." in child.stderr


def test_python_mirrors_by_the_same_rules(live_server, alice, runs):
    stranger = make_user("stranger")

    result = import_runs(Platform(token_of(alice), live_server.url), user=stranger)

    assert result.refused == len(runs)  # they are alice's


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"total": 1},
        {"total": 1, "items": [{"id": 5, "startedAt": "2026-01-01T00:00:00Z"}]},
        {"total": 1, "items": [{"id": "x", "startedAt": "soon"}]},
        {"total": 1, "items": [{"id": "x", "startedAt": "2026-01-01"}]},
        {"total": 1, "items": [{"id": "\ud800", "startedAt": "2026-01-01T00:00:00Z"}]},
    ],
)
def test_a_list_that_is_none_is_told(data):
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"data": data}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            with pytest.raises(PlatformError, match="no list of runs"):
                list(Platform("token", f"http://127.0.0.1:{server.server_port}"))
        finally:
            server.shutdown()
