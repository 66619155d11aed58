"""One installation mirrors another, server to server, with the official client."""

from __future__ import annotations

import datetime
import itertools
import json
import logging
import re
import sys
import urllib.request
from typing import Any

import pytest
from django.conf import settings
from django.core.signals import request_finished
from django.utils import timezone
from rest_framework.authtoken.models import Token

from actor_runs import importing
from actor_runs.importing import import_runs, sources
from actor_runs.importing.sources import Platform, PlatformError
from actor_runs.models import Run, RunStatus
from actor_runs.schemas import format_time
from project.demo_data import ALICE_TOKEN
from tests.support.commands import Outcome, manage
from tests.support.demo_server import demo_server
from tests.support.people import make_user, token_of
from tests.support.ports import free_port

FEW_OF_EACH_STATUS = """
    DELETE FROM actor_runs_run WHERE id NOT IN (
        SELECT id FROM (
            SELECT id, row_number() OVER (PARTITION BY status ORDER BY id) AS number
            FROM actor_runs_run WHERE user_id = (SELECT id FROM auth_user WHERE username = 'alice')
        ) WHERE number <= 2
    )
"""

FROM_PLATFORM = ["--from-platform", "--user", "alice"]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The demo project as a real server, with a few runs of its own, of every status."""
    with demo_server(tmp_path_factory.mktemp("mirrored")) as server:
        with server.database() as database:
            database.execute(FEW_OF_EACH_STATUS)
        yield server


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that mirrors ``site`` for alice in this process."""

    def mirror(site: str, *arguments: str, token: str = ALICE_TOKEN) -> Outcome:
        monkeypatch.setenv("APIFY_TOKEN", token)
        return Outcome("import_actor_runs", *FROM_PLATFORM, "--base-url", site, *arguments)

    return mirror


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
    # Some errors show only where local time is not UTC.
    child = manage(
        *("import_actor_runs", *FROM_PLATFORM, "--base-url", demo.site),
        APIFY_TOKEN=ALICE_TOKEN,
        TZ="Asia/Kolkata",
    )

    assert child.returncode == 0, child.stderr
    items = there(demo)["items"]
    assert figures(created=len(items)) in child.stdout
    mirrored = api.get(user=alice).json()["data"]["items"]
    assert [*map(without_owner, mirrored)] == [*map(without_owner, items)]
    for item in items:
        run = api.get(f"/{item['id']}", user=alice).json()["data"]
        assert without_owner(run) == without_owner(there(demo, f"/{item['id']}"))


def test_a_second_import_from_the_platform_updates_what_changed_only(mirror, alice, demo):
    mirror(demo.site)
    ids = Run.objects.finished().values_list("pk", flat=True)[:2]
    Run.objects.filter(pk__in=list(ids)).update(exit_code=99)

    outcome = mirror(demo.site)

    assert outcome.status == 0, outcome.err
    assert figures(updated=2, unchanged=Run.objects.count() - 2) in outcome.out
    assert not Run.objects.filter(exit_code=99).exists()


def test_since_and_status_limit_an_import_from_the_platform(mirror, alice, demo):
    items = there(demo)["items"]
    since = sorted(item["startedAt"] for item in items)[len(items) // 2]
    statuses = ("SUCCEEDED", "FAILED")

    outcome = mirror(demo.site, "--since", since, *(f"--status={status}" for status in statuses))

    assert outcome.status == 0, outcome.err
    assert set(Run.objects.values_list("pk", flat=True)) == {
        item["id"] for item in items if item["startedAt"] >= since and item["status"] in statuses
    }


def test_a_dry_run_imports_nothing_from_the_platform(mirror, alice, demo):
    outcome = mirror(demo.site, "--dry-run")

    assert outcome.status == 0, outcome.err
    assert figures(created=there(demo)["total"]) in outcome.out
    assert not Run.objects.exists()


def test_an_import_says_in_one_line_why_the_platform_cannot_be_read(mirror, alice, demo):
    outcome = mirror(demo.site, token="wrong")

    assert outcome.status == 1
    assert outcome.err == (
        "The platform cannot be read: Authentication token is not valid. "
        "What was done stays; run it again for the rest.\n"
    )
    assert not Run.objects.exists()


def test_a_platform_where_nobody_listens_is_told_in_one_line(monkeypatch):
    monkeypatch.setattr(sources, "RETRIES", 0)  # which are patient

    with pytest.raises(PlatformError) as error:
        next(iter(Platform("token", f"http://127.0.0.1:{free_port()}")))

    assert str(error.value) == "The platform cannot be read: Failed to connect to the server."


def test_an_import_without_the_client_says_what_to_install(monkeypatch, mirror, alice):
    # As if it were not installed.
    for name in ["apify_client", *filter(re.compile(r"apify_client\.").match, sys.modules)]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "actor_runs.importing.client", raising=False)
    monkeypatch.delattr(importing, "client", raising=False)

    outcome = mirror("http://127.0.0.1")

    assert outcome.status == 2
    assert "pip install django-actor-runs[platform]" in outcome.err


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

    local = timezone.make_naive(interrupted.since, timezone.get_default_timezone())
    for since in (interrupted.since, local):
        rest = [run_id for run_id, _ in Platform(token, live_server.url, since=since)]
        assert len(rest) < len(runs)
        assert read | set(rest) == {run.pk for run in runs}


def test_a_run_that_is_deleted_after_it_was_listed_is_left_out(live_server, alice, runs):
    Run.objects.update(status=RunStatus.SUCCEEDED, finished_at=runs[-1].started_at)
    read = []
    for run_id, _ in Platform(token_of(alice), live_server.url):
        read.append(run_id)
        Run.objects.exclude(pk__in=read).delete()

    assert len(read) == 1


def test_runs_read_before_the_platform_failed_are_imported(live_server, mirror, alice, runs):
    token = token_of(alice)
    requests = []

    def revoke_the_token_after_the_fifth(**kwargs: Any) -> None:
        requests.append(1)
        if len(requests) == 5:
            Token.objects.all().delete()

    request_finished.connect(revoke_the_token_after_the_fifth)
    try:
        outcome = mirror(live_server.url, token=token)
    finally:
        request_finished.disconnect(revoke_the_token_after_the_fifth)

    # The list, and four runs, of which the fourth began a second after the first three.
    assert outcome.status == 1
    assert f"--since {format_time(runs[3].started_at)} goes on from here" in outcome.err


def test_an_import_waits_where_the_platform_limits_its_rate(
    live_server, mirror, configure, alice, runs, caplog
):
    Run.objects.exclude(pk__in=[run.pk for run in runs[:2]]).update(
        status=RunStatus.SUCCEEDED, finished_at=runs[0].started_at
    )
    Run.objects.finished().delete()
    configure(RATE_LIMIT="1/s")  # refuses some, however slow they are

    with caplog.at_level(logging.WARNING, "django.request"):
        outcome = mirror(live_server.url, token=token_of(alice))

    assert outcome.status == 0, outcome.err
    assert figures(unchanged=2) in outcome.out
    assert "Too Many Requests" in caplog.text


def test_a_bad_run_of_the_platform_is_named_and_the_others_are_imported(
    live_server, mirror, alice, runs
):
    Run.objects.filter(pk=runs[2].pk).update(options={"build": 5})

    outcome = mirror(live_server.url, token=token_of(alice))

    assert outcome.status == 1
    assert figures(unchanged=len(runs) - 1, refused=1) in outcome.out
    assert f"{runs[2].pk}: options." in outcome.err


def test_python_mirrors_by_the_same_rules(live_server, alice, runs):
    stranger = make_user("stranger")

    result = import_runs(Platform(token_of(alice), live_server.url), user=stranger)

    assert result.refused == len(runs)  # they are alice's
