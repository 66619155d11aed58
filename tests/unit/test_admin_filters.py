"""What staff can narrow the list of runs down to."""

from __future__ import annotations

import datetime
import re
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.contrib.auth.admin import UserAdmin
from django.urls import path, reverse
from django.utils import timezone
from django.utils.http import urlencode

from actor_runs.admin import filters
from actor_runs.models import GeneralAccess, Run, RunStatus
from tests.support.admin_site import LIST, fill, listed, queries, said, staff, text

STARTED = {
    "minutes": datetime.timedelta(minutes=5),
    "hours": datetime.timedelta(hours=5),
    "days": datetime.timedelta(days=5),
    "weeks": datetime.timedelta(days=20),
    "months": datetime.timedelta(days=100),
    "years": datetime.timedelta(days=500),
}


@pytest.fixture
def viewer(db: None) -> Any:
    return staff("view")


@pytest.mark.parametrize("status", RunStatus.values)
def test_the_filter_by_one_status(viewer, alice, status):
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


def test_the_filter_by_one_owner(viewer, alice, bob, acme):
    Run.objects.create(id="hers", user=alice)
    Run.objects.create(id="his", user=bob)
    Run.objects.create(id="theirs", organization=acme)
    for kind, owner, run in (("user", alice, "hers"), ("organization", acme, "theirs")):
        query = urlencode({"owner": f"{kind}:{owner.pk}"})
        assert listed(viewer, query) == {run}
        words = text(viewer.get(f"{LIST}?{query}"))
        assert f"An organization {owner} By" in words


def test_the_owner_filter_names_only_owners_of_runs_that_the_viewer_sees(viewer, alice, bob):
    # Any key can be put into the URL.
    Run.objects.create(user=alice)
    for owner, is_named in ((alice, True), (bob, False)):
        words = text(viewer.get(f"{LIST}?owner=user:{owner.pk}"))
        assert (f"An organization {owner}" in words) == is_named


def test_an_owner_who_is_gone(viewer, bob):
    Run.objects.create(user=bob)
    key = "00000000-0000-0000-0000-000000000000" if apps.is_installed("tests.host") else "999"
    assert listed(viewer, f"owner=user:{key}") == set()
    assert f"An organization {key}" in text(viewer.get(f"{LIST}?owner=user:{key}"))


@pytest.mark.plain
@pytest.mark.parametrize("key", ["", "x", "1.5", "9" * 40, "-", "1:2", "%F0%9F%92%A9", "%00"])
def test_an_owner_who_cannot_be_leads_back_to_the_whole_list(viewer, run, key):
    for kind in ("user", "organization"):
        response = viewer.get(f"{LIST}?owner={kind}:{key}")
        assert response.status_code == (400 if key == "%00" else 302)
    assert viewer.get(f"{LIST}?owner=status:READY").status_code == 302


@pytest.mark.urls("tests.support.admin_site")
def test_an_owners_page_links_to_the_owners_runs(alice, acme):
    for owner in (alice, acme):
        opts = owner._meta
        name = f"{opts.app_label}.change_{opts.model_name}"
        address = reverse(f"admin:{opts.app_label}_{opts.model_name}_change", args=[owner.pk])
        sees = staff("view", name, username=f"sees-{opts.model_name}")
        sees_not = staff(name, username=f"sees-not-{opts.model_name}")
        field = "user" if owner == alice else "organization"
        link = f"{LIST}?{urlencode({'owner': f'{field}:{owner.pk}'})}"
        assert f'<li><a href="{link}">Runs</a></li>' in sees.get(address).content.decode()
        assert link not in sees_not.get(address).content.decode()
        run = Run.objects.create(**{field: owner})
        assert listed(sees, link.partition("?")[2]) == {run.pk}


def test_an_owners_page_links_to_the_runs_of_its_own_site(settings, alice, viewer):
    # Django's own site, which has the runs, has the same name.
    site = admin.AdminSite(name="admin")
    site.register(get_user_model(), UserAdmin)
    settings.ROOT_URLCONF = (path("admin/", site.urls),)
    opts = alice._meta
    sees = staff("view", f"{opts.app_label}.change_{opts.model_name}", username="sees")
    address = reverse(f"admin:{opts.app_label}_{opts.model_name}_change", args=[alice.pk])
    response = sees.get(address)
    assert response.status_code == 200
    assert "owner=user" not in response.content.decode()


def test_the_filter_by_one_actor(viewer, alice):
    Run.objects.create(id="a", user=alice, act_id="first")
    Run.objects.create(id="b", user=alice, act_id="second", status=RunStatus.FAILED)
    assert listed(viewer, "act_id=second") == {"b"}
    assert listed(viewer, "act_id=") == {"a", "b"}
    assert listed(viewer, "act_id=second&status=READY") == set()
    body = viewer.get(f"{LIST}?act_id=second&status=FAILED&p=1").content.decode()
    assert '<input type="text" name="act_id" value="second"' in body
    # The form of the range keeps the other filters, and begins with the first page.
    assert '<input type="hidden" name="act_id" value="second">' in body
    assert '<input type="hidden" name="status" value="FAILED">' in body
    assert '<input type="hidden" name="p"' not in body
    assert 'href="?p=1&amp;status=FAILED"' in body or 'href="?status=FAILED"' in body


def test_the_forms_of_filters_are_not_inside_of_another_form(viewer, run):
    """A browser drops the inner one of two, and themes have the filters inside of a form."""
    body = viewer.get(LIST).content.decode()
    depth = 0
    for tag in re.findall(r"</?form\b", body):
        depth += 1 if tag == "<form" else -1
        assert depth in (0, 1)
    for name in ("act_id", "since", "until"):
        (form_id,) = re.findall(rf'<input type="\w+" name="{name}"[^>]* form="([^"]+)"', body)
        assert f'<form method="get" id="{form_id}" hidden>' in body


def test_a_range_of_days(viewer, alice):
    noon = datetime.datetime(2024, 5, 15, 12)
    for day in range(5):
        moment = noon + datetime.timedelta(days=day)
        moment = timezone.make_aware(moment) if settings.USE_TZ else moment
        Run.objects.create(id=f"day{15 + day}", user=alice, started_at=moment)
    assert listed(viewer, "since=2024-05-16&until=2024-05-17") == {"day16", "day17"}
    assert listed(viewer, "since=2024-05-18") == {"day18", "day19"}
    assert listed(viewer, "until=2024-05-15") == {"day15"}
    assert listed(viewer, "since=&until=") == {f"day{day}" for day in range(15, 20)}
    assert len(listed(viewer, "until=9999-12-31")) == 5


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("since=2024-05-17&until=2024-05-16", "The range ends before it begins."),
        ("since=2023-02-29", "From: Enter a valid date."),
        ("until=31.12.2023", "To: Enter a valid date."),
        ("since=x&until=%F0%9F%92%A9", "From: Enter a valid date."),
        ("since=0000-01-01", "From: Enter a valid date."),
        ("since=99999-01-01", "From: Enter a valid date."),
        (f"act_id={'x' * 65}", "Actor ID: Ensure this value has at most 64 characters"),
    ],
)
def test_what_is_wrong_with_a_value_is_a_message(viewer, run, query, words):
    response = viewer.get(f"{LIST}?{query}", follow=True)
    assert response.redirect_chain == [(f"{LIST}?e=1", 302)]
    assert words in said(response)[0]
    assert {each.pk for each in response.context["cl"].result_list} == {run.pk}


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York", "UTC"])
@pytest.mark.parametrize("query", ["since=0001-01-01", "until=0001-01-01", "since=9999-12-31"])
def test_a_day_at_the_calendars_ends_is_a_list_or_a_message(viewer, run, zone, query):
    with timezone.override(zone):
        assert viewer.get(f"{LIST}?{query}", follow=True).status_code == 200


@pytest.mark.parametrize("access", GeneralAccess.values)
def test_the_filter_by_general_access(viewer, alice, access):
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


def test_the_choices_of_filters_are_plain_text(viewer, run):
    """Some themes put them into attributes and options."""
    changelist = viewer.get(LIST).context["cl"]
    choices = [each for spec in changelist.filter_specs for each in spec.choices(changelist)]
    words = [str(each["display"]) for each in choices if "display" in each]
    assert "\u2013 Failed (0)" in words
    assert not any("<" in each for each in words)


def test_the_filter_by_status_counts_unfinished_and_failed_runs(viewer, alice, monkeypatch):
    for status in ("READY", "RUNNING", "ABORTING", "FAILED", "FAILED", "SUCCEEDED"):
        Run.objects.create(user=alice, status=status)
    assert "Not finished (3) \u2013 Ready \u2013 Running" in text(viewer.get(LIST))
    assert "Succeeded \u2013 Failed (2) \u2013 Timed out" in text(
        viewer.get(f"{LIST}?status=READY&o=-4")
    )
    for narrowed in ("owner=user", "q=alice"):  # where it would not be the number that is found
        assert "(3)" not in text(viewer.get(f"{LIST}?{narrowed}"))
    monkeypatch.setattr(filters, "MAX_COUNTED", 2)
    assert "Not finished (2+)" in text(viewer.get(LIST))


FILTERS = [
    "",
    "status=finished",
    "status=RUNNING",
    "started=week",
    "started=before-day",
    "owner=organization",
    "owner=user",
    "general_access=RESTRICTED",
]


def test_a_filter_of_the_admin_sends_as_many_queries_for_1000_runs_as_for_10(viewer, subtests):
    fill(10)
    asked = {query: queries(viewer, f"{LIST}?{query}") for query in FILTERS}
    fill(1000)
    for query in FILTERS:
        with subtests.test(query):
            assert len(queries(viewer, f"{LIST}?{query}")) == len(asked[query]) <= 8, asked[query]
