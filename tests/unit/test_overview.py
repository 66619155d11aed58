"""The overview: its figures from Python, and its page in the admin."""

from __future__ import annotations

import datetime
import html
import re
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib.admin import AdminSite
from django.db import connection
from django.db.models import Count
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import include, path
from django.utils import timezone

from actor_runs import overview
from actor_runs.admin import RunAdmin
from actor_runs.admin import overview as admin_overview
from actor_runs.models import Run, RunStatus
from tests.support.admin_site import LIST, fill, page, queries, staff, text
from tests.support.admin_site import site as admin_site
from tests.support.people import join, make_organization, make_user
from tests.support.reads import entries_read, start_counting

pytestmark = pytest.mark.django_db

DAY = datetime.date(2025, 6, 15)
UTC = datetime.timezone.utc


def at(*moment: int, zone: Any = None) -> datetime.datetime:
    """Return a moment as runs have it in this configuration; in the current zone by default."""
    if not settings.USE_TZ:
        return datetime.datetime(*moment)  # type: ignore[arg-type]
    return datetime.datetime(*moment, tzinfo=zone or timezone.get_current_timezone())  # type: ignore[misc,arg-type]


def make(started_at: datetime.datetime, status: Any = RunStatus.SUCCEEDED, **fields: Any) -> Run:
    end = started_at if status in Run.FINISHED else None
    return Run(started_at=started_at, finished_at=end, status=status, **fields)


def spread(count: int, owner: dict[str, Any], **fields: Any) -> list[Run]:
    """Make so many runs, spread evenly over ``DAY``."""
    step = datetime.timedelta(days=1) / count
    start = at(2025, 6, 15)
    runs = [make(start + step * number, **owner, **fields) for number in range(count)]
    return Run.objects.bulk_create(runs)


@pytest.fixture
def few_are_read(monkeypatch: Any) -> None:
    """As if there were a thousand times as many runs."""
    monkeypatch.setattr(overview, "MAX_READ", 60)
    monkeypatch.setattr(overview, "MAX_PARTS", 12)
    monkeypatch.setattr(overview, "MAX_ENTRIES_COUNTED", 5000)


# The figures


def test_a_day_has_the_runs_that_started_on_it_by_status_and_their_cost(alice):
    Run.objects.bulk_create(
        [
            make(at(2025, 6, 14, 23, 59, 59), user=alice),
            make(at(2025, 6, 15), user=alice, usage_total_usd=0.5),
            make(at(2025, 6, 15, 12), RunStatus.FAILED, user=alice, usage_total_usd=0.25),
            make(at(2025, 6, 15, 23, 59, 59), RunStatus.RUNNING, user=alice),
            make(at(2025, 6, 16), user=alice),
        ]
    )
    day, next_day = Run.objects.overview(DAY, DAY + datetime.timedelta(days=1)).days
    assert (day.date, next_day.date) == (DAY, datetime.date(2025, 6, 16))
    assert day.statuses == {"SUCCEEDED": 1, "FAILED": 1, "RUNNING": 1}
    assert (day.runs, day.cost, day.is_estimate) == (3, 0.75, False)
    assert (next_day.runs, next_day.cost) == (1, 0)


def test_by_default_the_range_is_the_30_days_until_today(alice):
    found = Run.objects.overview()
    assert found.until == timezone.localdate() if settings.USE_TZ else datetime.date.today()
    assert found.until - found.since == datetime.timedelta(days=29)
    assert len(found.days) == 30
    assert len(Run.objects.overview(since=found.until).days) == 1
    assert Run.objects.overview(until=DAY).since == datetime.date(2025, 5, 17)
    assert not found.is_estimate


@pytest.mark.skipif(not settings.USE_TZ, reason="one zone for all")
def test_days_are_those_of_the_current_time_zone(alice):
    Run.objects.create(user=alice, started_at=at(2025, 6, 14, 23, zone=UTC))
    for zone, runs in (("Europe/Berlin", 1), ("UTC", 0), ("America/New_York", 0)):
        with timezone.override(zone):
            assert Run.objects.overview(DAY, DAY).days[0].runs == runs, zone


@pytest.mark.skipif(not settings.USE_TZ, reason="one zone for all")
@pytest.mark.parametrize(
    ("zone", "date"),
    [
        ("Europe/Berlin", datetime.date(2025, 3, 30)),  # 23 hours
        ("Europe/Berlin", datetime.date(2025, 10, 26)),  # 25 hours
        ("Africa/Cairo", datetime.date(2025, 4, 25)),  # begins at one o'clock
        ("Australia/Lord_Howe", datetime.date(2025, 4, 6)),  # half an hour more
    ],
)
def test_each_run_is_on_one_day_when_clocks_change(alice, zone, date, few_are_read):
    start = datetime.datetime.combine(date, datetime.time(), tzinfo=UTC)
    hour = datetime.timedelta(hours=1)
    Run.objects.bulk_create([make(start + hour * n, user=alice) for n in range(-72, 96)])
    with timezone.override(zone):
        runs = Run.objects.values_list("started_at", flat=True)
        local = [run.astimezone(ZoneInfo(zone)).date() for run in runs]
        first, last = (date + datetime.timedelta(days=n) for n in (-2, 2))
        found = Run.objects.overview(first, last)
        assert {day.date: day.runs for day in found.days} == {
            day.date: local.count(day.date) for day in found.days
        }


def test_statuses_are_counted_whenever_their_runs_started(alice):
    long_ago = at(1999, 1, 1)
    Run.objects.bulk_create([make(long_ago, status, user=alice) for status in RunStatus])
    Run.objects.create(user=alice, status=RunStatus.FAILED)
    counts = Run.objects.overview().statuses
    assert counts == dict.fromkeys(RunStatus, 1) | {RunStatus.FAILED: 2}
    assert list(counts) == list(RunStatus)


def test_statuses_are_counted_to_a_limit(alice, monkeypatch):
    monkeypatch.setattr(overview, "MAX_COUNTED", 3)
    spread(5, {"user": alice})
    assert Run.objects.overview().statuses[RunStatus.SUCCEEDED] == 3


def test_the_longest_unfinished_are_those_that_started_first(alice):
    start = at(2025, 1, 1)
    unfinished = [RunStatus.RUNNING, RunStatus.READY, RunStatus.ABORTING, RunStatus.TIMING_OUT]
    for number in range(20):
        moment = start + datetime.timedelta(minutes=number // 2)
        make(moment, unfinished[number % 4], id=f"run{number:02}", user=alice).save()
        make(start, RunStatus.FAILED, user=alice).save()
    found = Run.objects.overview().longest_unfinished
    assert [run.pk for run in found] == [f"run{number:02}" for number in range(10)]
    with CaptureQueriesContext(connection) as asked:
        assert {str(run.owner) for run in found} == {str(alice)}
    assert not asked.captured_queries


def test_owners_and_actors_are_those_with_the_most_runs_failures_and_cost(alice, acme):
    people = [make_user(f"person{number}") for number in range(10)]
    runs = []
    for number, person in enumerate(people):
        fields = {"user": person, "act_id": f"actor{number}"}
        runs += [make(at(2025, 6, 15), **fields) for _ in range(number + 1)]
    runs.append(make(at(2025, 6, 15), RunStatus.FAILED, user=people[0], act_id="actor0"))
    runs.append(make(at(2025, 6, 15), organization=acme, act_id="dear", usage_total_usd=9.5))
    Run.objects.bulk_create(runs)
    found = Run.objects.overview(DAY, DAY)
    assert list(found.owners) == [*people[:4:-1], people[0], acme]
    assert found.owners[people[9]] == overview.Figures(10, 0, 0)
    assert found.owners[people[0]] == overview.Figures(2, 1, 0)
    assert found.owners[acme] == overview.Figures(1, 0, 9.5)
    assert list(found.actors) == [*(f"actor{n}" for n in (9, 8, 7, 6, 5)), "actor0", "dear"]
    assert found.actors["dear"].cost == 9.5


def test_it_is_of_these_runs_alone(alice, bob, acme):
    join(alice, acme)
    for owner in ({"user": alice}, {"user": bob}, {"organization": acme}):
        make(at(2025, 6, 15), act_id="wanted", **owner).save()
        make(at(2025, 6, 15), RunStatus.RUNNING, **owner).save()
    owned = Run.objects.owned_by(alice).overview(DAY, DAY)
    assert owned.days[0].runs == 4
    assert set(owned.owners) == {alice, acme}
    assert owned.statuses[RunStatus.RUNNING] == 2
    assert len(owned.longest_unfinished) == 2
    wanted = Run.objects.filter(act_id="wanted").overview(DAY, DAY)
    assert wanted.days[0].statuses == {"SUCCEEDED": 3}
    assert not wanted.longest_unfinished
    nothing = Run.objects.none().overview(DAY, DAY)
    assert (nothing.days[0].runs, nothing.owners, nothing.longest_unfinished) == (0, {}, [])
    assert set(nothing.statuses.values()) == {0}


@pytest.mark.parametrize("is_read", [True, False], ids=["read", "estimated"])
def test_querysets_that_a_host_makes_are_honoured(alice, monkeypatch, is_read, request):
    if not is_read:
        request.getfixturevalue("few_are_read")
    organizations = [make_organization(f"Group{number}") for number in range(3)]
    for organization in organizations:
        join(alice, organization)
    spread(90, {"user": alice})
    members = {"Group": "user", "Company": "staff"}
    path = members[type(organizations[0]).__name__]
    if apps.is_installed("tests.host"):
        mine = Run.objects.filter(user__staff__company__in=organizations)
    else:
        mine = Run.objects.filter(user__groups__in=organizations)
    for runs in (
        mine.distinct(),
        Run.objects.annotate(number=Count(f"organization__{path}")),
        Run.objects.select_related("user").defer("status"),
        Run.objects.prefetch_related("user"),
        Run.objects.order_by("user__username"),
    ):
        found = runs.overview(DAY, DAY)
        assert found.days[0].runs == 90
        assert found.statuses[RunStatus.SUCCEEDED] == 90
        assert found.is_estimate != is_read


def test_of_a_range_with_many_runs_some_are_read_and_stand_for_all(alice, bob, few_are_read):
    spread(900, {"user": alice}, usage_total_usd=0.5)
    spread(300, {"user": bob}, status=RunStatus.FAILED, act_id="failing")
    found = Run.objects.overview(DAY, DAY)
    day = found.days[0]
    assert found.is_estimate
    assert day.is_estimate
    assert day.runs == pytest.approx(1200, abs=2)  # counted; rounded by status
    assert day.statuses["FAILED"] == pytest.approx(300, rel=0.2)
    assert day.cost == pytest.approx(450, rel=0.2)
    assert found.owners[alice].runs == pytest.approx(900, rel=0.2)
    assert found.actors["failing"].failed == pytest.approx(300, rel=0.2)


def test_what_is_too_much_to_be_counted_is_estimated_by_the_time_that_it_takes(
    alice, monkeypatch, few_are_read
):
    monkeypatch.setattr(overview, "MAX_ENTRIES_COUNTED", 200)
    spread(2000, {"user": alice})
    assert Run.objects.overview(DAY, DAY).days[0].runs == pytest.approx(2000, rel=0.2)


def test_many_runs_at_one_moment_are_counted(alice, few_are_read):
    Run.objects.bulk_create([make(at(2025, 6, 15, 6), user=alice) for _ in range(3000)])
    assert Run.objects.overview(DAY, DAY).days[0].runs == 3000


@pytest.mark.parametrize(
    ("since", "until", "message"),
    [
        (DAY, DAY - datetime.timedelta(days=1), "The range ends before it begins."),
        (DAY, DAY + datetime.timedelta(days=366), "A range has at most 366 days."),
        pytest.param(
            *(datetime.date.min, datetime.date.min, "A range is inside of the years 1 to 9999."),
            marks=pytest.mark.skipif(not settings.USE_TZ, reason="west of Greenwich"),
        ),
        (datetime.date.max, datetime.date.max, "A range is inside of the years 1 to 9999."),
        (None, datetime.date.min, "A range is inside of the years 1 to 9999."),
    ],
)
def test_a_range_that_cannot_be_is_refused(db, since, until, message):
    with (
        timezone.override("Pacific/Auckland"),
        pytest.raises(ValueError, match=f"^{message}$"),
    ):
        Run.objects.overview(since, until)


@pytest.mark.parametrize("day", ["2025-06-15", 5, timezone.now()])
def test_a_range_of_what_is_not_a_date_is_refused(db, day):
    with pytest.raises(TypeError, match="A range is from one date to another"):
        Run.objects.overview(day)


def test_a_range_in_the_future_is_empty(alice, run):
    tomorrow = datetime.date.today() + datetime.timedelta(days=2)
    found = Run.objects.overview(since=tomorrow)
    assert (found.since, found.until) == (tomorrow, tomorrow)
    assert found.days[0].runs == 0


def test_more_runs_need_no_more_statements(alice, acme, few_are_read):
    def statements() -> int:
        with CaptureQueriesContext(connection) as asked:
            Run.objects.overview(DAY, DAY)
        return len(asked.captured_queries)

    spread(20, {"user": alice})
    spread(20, {"organization": acme})
    assert statements() == 9
    spread(1000, {"user": alice})
    assert statements() <= 10
    spread(2000, {"user": alice})
    assert statements() <= 10


@pytest.mark.plain
@pytest.mark.django_db(transaction=True)
def test_more_runs_need_no_more_reads(alice, monkeypatch, few_are_read):
    monkeypatch.setattr(overview, "MAX_ENTRIES_COUNTED", 500)
    monkeypatch.setattr(overview, "MAX_COUNTED", 100)

    def reads() -> int:
        start_counting()
        before = entries_read()
        Run.objects.overview(DAY, DAY)
        return entries_read() - before

    spread(2000, {"user": alice})
    few = reads()
    spread(6000, {"user": alice})
    many = reads()
    assert many <= 1.3 * few
    if connection.vendor != "sqlite":  # which counts something else
        assert many < 4000  # of 8000; MariaDB counts rows of temporary tables too


# The page


PAGE = f"{LIST}overview/"
HOSTILE = "<script>alert(1)</script>\"'&"


@pytest.fixture
def viewer(db: None) -> Any:
    return staff("view")


def numbers(response: Any) -> dict[str, list[str]]:
    """Return the rows of the tables of the page, by their first cell."""
    rows = re.findall(r"(?s)<tr>(.*?)</tr>", response.content.decode())
    cells = [
        [re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", "", cell))).strip() for cell in row]
        for row in (re.findall(r"(?s)<t[hd][^>]*>(.*?)</t[hd]>", row) for row in rows)
    ]
    return {first: others for first, *others in cells}


def test_the_page_shows_the_figures(viewer, alice, acme):
    now = timezone.now()
    running = make(now, RunStatus.RUNNING, user=alice, act_id="crawler", usage_total_usd=1234.5)
    failed = make(now, RunStatus.FAILED, organization=acme, act_id="mailer")
    Run.objects.bulk_create([running, failed])
    response = viewer.get(PAGE)
    assert response.status_code == 200
    rows = numbers(response)
    assert rows["All days"] == ["2", "0", "1", "0", "0", "1", "$1,234.50"]
    assert rows["alice"] == ["1", "0", "$1,234.50"]
    assert rows["Acme organization"] == ["1", "1", "$0.00"]
    assert rows["mailer"] == ["1", "1", "$0.00"]
    assert rows[running.pk][:3] == ["Running", "alice", "crawler"]
    assert f'<a href="{page(running)}" title="{running.pk}">' in response.content.decode()
    assert "≈" not in text(response)


def test_each_status_leads_to_the_list_of_its_runs(viewer, alice):
    Run.objects.create(user=alice, status=RunStatus.TIMED_OUT)
    body = viewer.get(PAGE).content.decode()
    for status in RunStatus:
        assert f'href="{LIST}?status={status.value}" aria-label="{status.label}: ' in body
    assert "Timed out: 1" in body


def test_numbers_that_are_no_more_than_bounds_or_estimates_say_so(
    viewer, alice, monkeypatch, few_are_read
):
    spread(900, {"user": alice}, usage_total_usd=1.0)
    monkeypatch.setattr(admin_overview, "MAX_COUNTED", 20)
    monkeypatch.setattr(overview, "MAX_COUNTED", 20)
    response = viewer.get(f"{PAGE}?since=2025-06-15&until=2025-06-15")
    assert "20 or more" in text(response)
    assert "figures with ≈ are estimates" in text(response)
    assert all(figure.startswith("≈ ") for figure in numbers(response)["All days"])
    assert numbers(response)["alice"] == ["≈ 900", "≈ 0", "≈ $900.00"]


@pytest.mark.parametrize("query", ["", "since=2025-06-01&until=2025-06-30", "until=2025-06-30"])
def test_a_range_can_be_chosen(viewer, alice, query):
    Run.objects.bulk_create([make(at(2025, 6, 15), user=alice)])
    response = viewer.get(f"{PAGE}?{query}")
    assert numbers(response)["All days"][0] == ("1" if query else "0")
    shown = response.context["overview"]
    body = response.content.decode()
    assert f'value="{shown.since}"' in body or not response.context["form"].initial
    assert body.count("<rect fill") >= 5


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("since=2025-06-15&until=2025-06-14", "The range ends before it begins."),
        ("since=2020-01-01", "A range has at most 366 days."),
        ("since=2025-02-30", "Enter a valid date."),
        ("since=0001-01-01&until=0001-01-01&x=1", None),
        ("since=9999-12-31", "A range is inside of the years 1 to 9999."),
        ("since=10000-01-01", "Enter a valid date."),
        (f"since={quote(HOSTILE)}", "Enter a valid date."),
        ("since=%D9%A2&until=%ff", "Enter a valid date."),
        ("since=&until=", None),
        ("status=nonsense&owner=999&user=0&p=-1", None),
    ],
)
def test_a_range_that_cannot_be_is_a_message(viewer, alice, query, message):
    response = viewer.get(f"{PAGE}?{query}")
    assert response.status_code == 200
    if message:
        assert message in text(response)
    assert "All days" in numbers(response)
    assert HOSTILE not in response.content.decode()


def test_a_nul_is_refused_as_anywhere_in_the_admin(viewer):
    assert viewer.get(f"{PAGE}?since=%00").status_code == 400
    assert viewer.get(f"{PAGE}?x=%00").status_code == 400


def test_other_methods_are_refused(viewer):
    assert viewer.post(PAGE).status_code == 405
    assert viewer.head(PAGE).status_code == 200


def test_hostile_values_of_runs_are_escaped(viewer):
    run = make(timezone.now(), RunStatus.RUNNING, user=make_user(HOSTILE), act_id=HOSTILE)
    Run.objects.bulk_create([run])
    body = viewer.get(PAGE).content.decode()
    assert HOSTILE not in body
    assert body.count("&lt;script&gt;") >= 4


def test_runs_at_the_ends_of_the_calendar_are_shown(viewer, alice):
    with timezone.override("America/New_York"):
        for year in (1, 9999):
            Run.objects.create(user=alice, started_at=at(year, 6, 1))
        first = Run.objects.earliest()
        Run.objects.filter(pk=first.pk).update(started_at=at(1, 1, 1, 0, zone=UTC))
        assert first.pk in text(viewer.get(PAGE))


def test_it_needs_the_permission_to_view_runs(alice):
    assert staff("view").get(PAGE).status_code == 200
    assert staff("change", username="editor").get(PAGE).status_code == 200
    assert staff("add", username="adder").get(PAGE).status_code == 403
    assert Client().get(PAGE).status_code == 302


def test_the_list_and_the_page_of_the_app_lead_there(viewer):
    for address in (LIST, "/admin/actor_runs/"):
        assert f'<a href="{PAGE}">Overview</a>' in viewer.get(address).content.decode()
    assert PAGE not in staff("add", username="adder").get("/admin/actor_runs/").content.decode()


class ScopedAdmin(RunAdmin):
    def get_queryset(self, request: Any) -> Any:
        return super().get_queryset(request).filter(act_id="mine").select_related("user")

    def has_view_permission(self, request: Any, obj: Any = None) -> bool:
        return super().has_view_permission(request, obj) and (obj is None or obj.pk != "secret")


scoped = AdminSite(name="scoped")
scoped.register(Run, ScopedAdmin)
urlpatterns = [
    path("admin/", admin_site.urls),
    path("scoped/", scoped.urls),
    path("v2/", include("actor_runs.urls")),
]


@pytest.mark.urls(__name__)
def test_only_what_a_subclass_lets_the_viewer_see_is_counted_and_shown(viewer, alice, bob):
    Run.objects.create(user=alice, act_id="mine", usage_total_usd=1.0)
    Run.objects.create(id="secret", user=alice, act_id="mine")
    Run.objects.create(id="theirs", user=bob, act_id="theirs", usage_total_usd=4.0)
    response = viewer.get("/scoped/actor_runs/run/overview/")
    rows = numbers(response)
    assert rows["All days"] == ["2", "0", "0", "0", "0", "2", "$1.00"]
    assert "theirs" not in text(response)
    assert "bob" not in text(response)
    assert "secret" not in text(response)
    assert "Ready: 2" in response.content.decode()
    assert 'href="/scoped/actor_runs/run/?status=READY"' in response.content.decode()


def test_the_page_asks_as_often_for_1000_runs_as_for_10(viewer):
    fill(10)
    asked = len(queries(viewer, PAGE))
    assert asked <= 15  # ATOMIC_REQUESTS is two of them
    fill(1000)
    assert len(queries(viewer, PAGE)) <= asked
