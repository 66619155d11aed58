"""What staff can narrow the list of runs down to."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from django.utils import timezone

from actor_runs.models import GeneralAccess, Run, RunStatus
from tests.admin_site import LIST, fill, queries, staff

STARTED = {
    "minutes": datetime.timedelta(minutes=5),
    "hours": datetime.timedelta(hours=5),
    "days": datetime.timedelta(days=5),
    "weeks": datetime.timedelta(days=20),
    "months": datetime.timedelta(days=100),
    "years": datetime.timedelta(days=500),
}


def listed(client: Any, query: str) -> set[str]:
    response = client.get(f"{LIST}?{query}")
    assert response.status_code == 200
    return {run.pk for run in response.context["cl"].result_list}


@pytest.fixture
def viewer(db: None) -> Any:
    return staff("view")


@pytest.mark.parametrize("status", RunStatus.values)
def test_one_status(viewer, alice, status):
    for each in RunStatus.values:
        Run.objects.create(id=f"run-{each}", user=alice, status=each)
    assert listed(viewer, f"status={status}") == {f"run-{status}"}


@pytest.mark.parametrize(
    ("group", "statuses"),
    [
        ("finished", {"SUCCEEDED", "FAILED", "TIMED-OUT", "ABORTED"}),
        ("unfinished", {"READY", "RUNNING", "TIMING-OUT", "ABORTING"}),
    ],
)
def test_finished_and_not_finished(viewer, alice, group, statuses):
    for each in RunStatus.values:
        Run.objects.create(id=f"run-{each}", user=alice, status=each)
    assert listed(viewer, f"status={group}") == {f"run-{status}" for status in statuses}


@pytest.mark.parametrize(
    ("period", "expected"),
    [
        ("hour", {"minutes"}),
        ("day", {"minutes", "hours"}),
        ("week", {"minutes", "hours", "days"}),
        ("month", {"minutes", "hours", "days", "weeks"}),
        ("before-day", {"days", "weeks", "months", "years"}),
        ("before-month", {"months", "years"}),
        ("before-year", {"years"}),
    ],
)
def test_when_a_run_was_started(viewer, alice, period, expected):
    for name, ago in STARTED.items():
        Run.objects.create(id=name, user=alice, started_at=timezone.now() - ago)
    assert listed(viewer, f"started={period}") == expected


def test_the_kind_of_owner(viewer, alice, acme):
    Run.objects.create(id="hers", user=alice)
    Run.objects.create(id="theirs", organization=acme)
    assert listed(viewer, "owner=user") == {"hers"}
    assert listed(viewer, "owner=organization") == {"theirs"}


@pytest.mark.parametrize("access", GeneralAccess.values)
def test_general_access(viewer, alice, access):
    for each in GeneralAccess.values:
        Run.objects.create(id=each, user=alice, general_access=each)
    assert listed(viewer, f"general_access={access}") == {access}


def test_filters_and_search_narrow_one_another(viewer, alice, bob):
    Run.objects.create(id="hers", user=alice, status="FAILED")
    Run.objects.create(id="his", user=bob, status="FAILED")
    Run.objects.create(user=alice, status="SUCCEEDED")
    assert listed(viewer, "status=FAILED") == {"hers", "his"}
    assert listed(viewer, "status=FAILED&q=alice") == {"hers"}
    assert listed(viewer, "status=FAILED&q=hers") == {"hers"}
    assert listed(viewer, "status=SUCCEEDED&q=hers") == set()


@pytest.mark.parametrize("parameter", ["status", "started", "owner", "general_access"])
@pytest.mark.parametrize("value", ["", "NONE", "finished'--", "%F0%9F%92%A9", "Ready", "9" * 500])
def test_a_value_that_is_no_choice_leads_back_to_the_whole_list(viewer, run, parameter, value):
    response = viewer.get(f"{LIST}?{parameter}={value}")
    assert (response.status_code, response["Location"]) == (302, f"{LIST}?e=1")
    assert listed(viewer, "e=1") == {run.pk}


@pytest.mark.parametrize(
    "lookup",
    [
        "id__regex=(",
        "started_at__year=99999999999",
        "started_at__gte=yesterday",
        "user__password__startswith=md5",
        "user__auth_token__key__startswith=a",
        "status__exact=RUNNING",
        "meta__origin=API",
        "no_such_field=1",
        "status=%00",
        "q=%00&status=READY%00",
        "_to_field=status",
    ],
)
def test_lookups_that_no_filter_makes_are_refused(viewer, run, lookup):
    assert viewer.get(f"{LIST}?{lookup}").status_code == 400


@pytest.mark.parametrize(
    "query",
    [
        "p=0",
        "p=-1",
        "p=x",
        "p=99999999999999999999",
        "o=x.99.-",
        "o=99999999999999999999",
        "all=",
        "_popup=1",
        "_facets=1",
        "status=READY&status=RUNNING",
        "e=1",
    ],
)
def test_odd_pages_and_orders_are_no_error(viewer, run, query):
    assert viewer.get(f"{LIST}?{query}", follow=True).status_code == 200


@pytest.mark.parametrize(
    "query",
    [
        "",
        "status=finished",
        "status=RUNNING",
        "started=week",
        "started=before-day",
        "owner=organization",
        "owner=user",
        "general_access=RESTRICTED",
    ],
)
def test_a_filter_asks_the_database_as_often_for_1000_runs_as_for_10(viewer, query):
    asked = []
    for count in (10, 1000):
        fill(count)
        asked.append(queries(viewer, f"{LIST}?{query}"))
    assert len(asked[0]) == len(asked[1]) <= 6, asked
