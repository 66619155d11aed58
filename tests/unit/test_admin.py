"""The admin: the list of runs, the page of a run, its transitions, and deleting one."""

from __future__ import annotations

import datetime
import html
import logging
import re
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import IntegrityError
from django.db.models import QuerySet
from django.db.models.signals import post_delete, pre_delete, pre_save
from django.test import Client
from django.urls import path as url_path
from django.urls import reverse
from django.utils import timezone, translation
from django.utils.formats import date_format
from django.utils.html import escape

from actor_runs.admin import filters
from actor_runs.enums import TRANSITIONS
from actor_runs.models import GeneralAccess, Run, RunStatus
from actor_runs.schemas import format_time
from tests.support.admin_site import (
    EVERYTHING,
    LIST,
    after_reading,
    fill,
    history,
    page,
    queries,
    said,
    site,
    staff,
    text,
)
from tests.support.people import join, make_organization, make_user, token_of

pytestmark = pytest.mark.django_db

GONE = "The run is deleted."
CHANGED = "The run was changed meanwhile, and is now: {}. Nothing was done."
NO_STEP = "This transition is not possible now."
UNFINISHED = "Only finished runs can be deleted. This one is: {}."
HOSTILE = "<script>alert(1)</script>\"'&"
CONFIRMED = {"post": "yes"}


@pytest.fixture
def viewer(db: None) -> Any:
    return staff("view", username="viewer")


@pytest.fixture
def editor(db: None) -> Any:
    return staff(*EVERYTHING, username="editor")


def listed(client: Any, query: str = "") -> list[str]:
    response = client.get(f"{LIST}?{query}")
    assert response.status_code == 200
    return [run.pk for run in response.context["cl"].result_list]


def form_of(response: Any) -> dict[str, Any]:
    """Return what the form of a page would send."""
    form = response.context["adminform"].form
    values = {bound.html_name: bound.value() for bound in form}
    values |= {
        bound.html_initial_name: bound.value() for bound in form if bound.field.show_hidden_initial
    }
    return {name: "" if value is None else value for name, value in values.items()}


def buttons(response: Any) -> list[str]:
    """Return the statuses that a run's page offers."""
    return re.findall(
        r'<button form="run-transition" name="status" value="([^"]+)">', response.content.decode()
    )


def version(response: Any) -> str:
    found = re.search(
        r'<input type="hidden" name="version" value="([^"]+)">', response.content.decode()
    )
    assert found is not None
    return found.group(1)


def transition(client: Any, run: Run, status: str, seen: Any = None) -> Any:
    """Press the button of ``status`` on the page ``seen``, by default the one that is there now.

    What is asked then is answered with yes.
    """
    seen = seen or client.get(page(run))
    data = {"status": status, "version": version(seen), "confirmed": "yes"}
    return client.post(page(run, "transition"), data, follow=True)


# The list


def test_the_list_shows_what_staff_ask_for(viewer, alice):
    started = timezone.now() - datetime.timedelta(hours=2)
    run = Run.objects.create(
        user=alice,
        status=RunStatus.FAILED,
        started_at=started,
        finished_at=started + datetime.timedelta(seconds=75),
        usage_total_usd=1.25,
    )
    response = viewer.get(LIST)
    body = response.content.decode()
    assert f'<a href="{page(run)}"><div class="run-short" title="{run.pk}">{run.pk}</div>' in body
    assert '<span class="run-status" data-status="FAILED">Failed</span>' in body
    words = text(response)
    for shown in ("alice", run.act_id, "1\xa0minute", "$1.2500"):
        assert shown.replace("\xa0", " ") in words


@pytest.mark.parametrize("status", RunStatus.values)
def test_the_list_says_why_a_run_did_not_succeed(viewer, alice, status):
    reason = 'It <b>broke</b>: "' + "x" * 300
    Run.objects.create(user=alice, status=status, status_message=reason)
    body = viewer.get(LIST).content.decode()
    shown = f'<div class="run-short run-reason" title="{escape(reason)}">{escape(reason)}</div>'
    assert (shown in body) == (status in {"FAILED", "TIMED-OUT", "ABORTED"})


def test_the_list_is_not_as_long_as_the_messages_of_its_runs(viewer, alice):
    Run.objects.create(user=alice, status=RunStatus.FAILED, status_message="x" * 100_000)
    assert len(viewer.get(LIST).content) < 50_000


def test_long_names_and_ids_are_whole_in_the_list(viewer, acme):
    acme.name = "n" * 150
    acme.save()
    Run.objects.create(id="i" * 32, organization=acme, act_id="a" * 64)
    body = viewer.get(LIST).content.decode()
    for whole in ("i" * 32, "a" * 64):
        assert f'<div class="run-short" title="{whole}">{whole}</div>' in body
    name = f"<bdi>{acme}</bdi>"
    assert f'<div class="run-short" title="{acme}">{name} <span class="run-quiet">' in body


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 seconds"),
        (1, "1 second"),
        (59.9, "59 seconds"),
        (60, "1 minute"),
        (3 * 3600 + 5 * 60 + 7, "3 hours, 5 minutes"),
        (-5, "0 seconds"),
    ],
)
def test_how_long_a_run_took_is_said_in_words(viewer, alice, seconds, words):
    started = timezone.now() - datetime.timedelta(days=1)
    Run.objects.create(
        user=alice,
        status=RunStatus.SUCCEEDED,
        started_at=started,
        finished_at=started + datetime.timedelta(seconds=seconds),
    )
    assert f" {words} " in text(viewer.get(LIST))


def test_a_run_that_is_not_finished_takes_longer_so_far(viewer, alice):
    Run.objects.create(user=alice, started_at=timezone.now() - datetime.timedelta(hours=5))
    assert " 5 hours so far " in text(viewer.get(LIST))


@pytest.mark.parametrize(
    ("usd", "shown"),
    [
        (None, "-"),
        (0.0, "$0.0000"),
        (0.00001, "< $0.0001"),
        (12.34567, "$12.3457"),
        (12345.67891, "$12345.68"),
    ],
)
def test_what_a_run_cost(viewer, alice, usd, shown):
    Run.objects.create(user=alice, usage_total_usd=usd)
    body = viewer.get(LIST).content.decode()
    assert f'<td class="field-cost">{html.escape(shown)}</td>' in body


def test_the_newest_run_comes_first_and_ties_are_in_a_fixed_order(viewer, alice):
    moment = timezone.now()
    earlier = moment - datetime.timedelta(seconds=1)
    for run_id, started in (("b", moment), ("a", earlier), ("d", moment), ("c", moment)):
        Run.objects.create(id=run_id, user=alice, started_at=started)
    assert listed(viewer) == ["d", "c", "b", "a"]


def test_pages_neither_repeat_nor_skip_runs_that_started_together(viewer, alice):
    moment = timezone.now()
    Run.objects.bulk_create([Run(user=alice, started_at=moment) for _ in range(250)])
    pages = [listed(viewer, f"p={number}") for number in (1, 2, 3)]
    assert [len(runs) for runs in pages] == [100, 100, 50]
    assert len({run_id for runs in pages for run_id in runs}) == 250


def test_no_page_counts_all_runs(viewer, monkeypatch):
    monkeypatch.setattr(filters, "MAX_COUNTED", 150)
    fill(200)
    counts = [sql for sql in queries(viewer, LIST) if "COUNT(" in sql]
    assert len(counts) == 3  # what is listed, and what is unfinished and failed
    assert all("LIMIT" in sql for sql in counts)
    response = viewer.get(LIST)
    assert response.context["cl"].result_count == 150
    assert "Only the first 150" in text(response)
    assert len(listed(viewer, "p=2")) == 50
    assert viewer.get(f"{LIST}?p=3").status_code == 302
    assert "There are more" not in text(viewer.get(f"{LIST}?status=FAILED"))


def test_select_all_gives_no_number_that_the_list_does_not_know(editor, monkeypatch):
    fill(200)
    assert "Select all 200 runs" in text(editor.get(LIST))
    monkeypatch.setattr(filters, "MAX_COUNTED", 150)
    words = text(editor.get(LIST))
    assert "Select all runs that match" in words
    assert "150 runs 150" not in words
    assert "Select all 150" not in words


# Searching


def test_a_run_is_found_by_its_exact_id(viewer, alice):
    Run.objects.create(id="aBcDeF", user=alice)
    Run.objects.create(id="abcdef", user=alice)
    assert listed(viewer, "q=aBcDeF") == ["aBcDeF"]
    assert listed(viewer, "q=%20aBcDeF%20") == ["aBcDeF"]
    assert listed(viewer, "q=aBcDe") == []


def test_runs_are_found_by_actor_username_and_organization(viewer, alice, bob):
    acme = make_organization("The Acme Company")
    Run.objects.create(id="hers", user=alice, act_id="actor1")
    Run.objects.create(id="his", user=bob, act_id="actor2")
    Run.objects.create(id="theirs", organization=acme, act_id="actor2")
    assert listed(viewer, "q=actor1") == ["hers"]
    assert set(listed(viewer, "q=actor2")) == {"his", "theirs"}
    assert listed(viewer, "q=LIC") == ["hers"]
    assert listed(viewer, "q=acme+comp") == ["theirs"]
    assert listed(viewer, "q=nobody") == []


def test_an_id_that_is_also_a_name_finds_the_run(viewer, alice, bob):
    Run.objects.create(id="alice", user=bob)
    Run.objects.create(id="hers", user=alice)
    assert listed(viewer, "q=alice") == ["alice"]


def test_a_name_that_many_owners_have_finds_the_runs_of_all(viewer):
    users = get_user_model().objects
    users.bulk_create([users.model(username=f"smith{number}") for number in range(250)])
    # Read again, since not every database says which keys it has given.
    Run.objects.bulk_create([Run(user=user) for user in users.filter(username__startswith="smith")])
    assert viewer.get(f"{LIST}?q=smith").context["cl"].result_count == 250


@pytest.mark.urls("tests.support.admin_site")
def test_owners_are_found_as_their_own_admin_finds_them_by_who_may_see_them(bob):
    bob.email = "robert@example.org"
    bob.save()
    run = Run.objects.create(user=bob)
    view_user = bob._meta.label_lower.replace(".", ".view_")
    sees, sees_not = staff("view", view_user, username="sees"), staff("view", username="sees-not")
    assert listed(sees, "q=robert%40example") == [run.pk]
    assert listed(sees_not, "q=robert%40example") == []
    assert listed(sees_not, "q=bob") == [run.pk]


@pytest.mark.urls("tests.support.admin_site")
def test_owners_whose_own_admin_searches_nothing_are_found_by_name(monkeypatch, alice, bob):
    monkeypatch.setattr(site.get_model_admin(type(bob)), "search_fields", [])
    run = Run.objects.create(user=bob)
    Run.objects.create(user=alice)
    sees = staff("view", bob._meta.label_lower.replace(".", ".view_"))
    assert listed(sees, "q=bob") == [run.pk]


@pytest.mark.host
@pytest.mark.urls("tests.support.admin_site")
def test_organizations_are_found_by_whatever_their_own_admin_searches(monkeypatch, acme):
    company_admin = site.get_model_admin(type(acme))
    monkeypatch.setattr(company_admin, "search_fields", ["staff__person__username"])
    join(make_user("carol"), acme)
    run = Run.objects.create(organization=acme)
    sees = staff("view", "host.view_company", username="sees")
    assert listed(sees, "q=carol") == listed(sees, "q=acme") == [run.pk]


@pytest.mark.parametrize(
    "term", ["%25", "_", "'", '"', "\\", "a b", "(", "%F0%9F%92%A9", "%ff", "x" * 4000]
)
def test_hostile_terms_find_nothing(viewer, run, term):
    assert listed(viewer, f"q={term}") == []


def test_a_search_asks_as_often_for_1000_runs_as_for_10(viewer):
    for term in ("run00003", "person1", "nothing"):
        asked = []
        for count in (10, 1000):
            fill(count)
            asked.append(queries(viewer, f"{LIST}?q={term}"))
        assert len(asked[0]) == len(asked[1]) <= 10, asked
        QuerySet(Run)._raw_delete(Run.objects.db)


def test_a_search_by_id_asks_nothing_about_owners(viewer):
    fill(10)
    asked = queries(viewer, f"{LIST}?q=run00003")
    assert len(asked) <= 7
    assert not [sql for sql in asked if "LIKE" in sql.upper()]


# Owners


@pytest.mark.urls("tests.support.admin_site")
def test_an_owner_is_a_link_for_whoever_may_see_the_owner(alice, acme):
    runs = [Run.objects.create(user=alice), Run.objects.create(organization=acme)]
    for run, owner in zip(runs, (alice, acme), strict=True):
        label = type(owner)._meta.label_lower
        url = reverse(f"admin:{label.replace('.', '_')}_change", args=[owner.pk])
        link = f'<a href="{url}">{owner}</a>'
        app, name = label.split(".")
        sees = staff("view", f"{app}.view_{name}", username=f"sees-{name}")
        sees_not = staff("view", username=f"sees-not-{name}")
        for path in (LIST, page(run)):
            assert link in sees.get(path).content.decode()
            assert url not in sees_not.get(path).content.decode()
            assert str(owner) in text(sees_not.get(path))


@pytest.mark.host
def test_an_owner_without_a_page_is_no_link(alice, acme):
    superuser = staff(username="root")
    get_user_model().objects.update(is_superuser=True)
    for run in (Run.objects.create(user=alice), Run.objects.create(organization=acme)):
        for path in (LIST, page(run)):
            response = superuser.get(path)
            assert str(run.owner) in text(response)
            assert str(run.owner.pk) not in re.findall(r'href="([^"]*)"', response.content.decode())


def test_an_organization_is_told_from_a_person(viewer, alice, acme):
    for owner in ({"user": alice}, {"organization": acme}):
        Run.objects.create(**owner)
    cells = re.findall(r'<td class="field-owner">(.*?)</td>', viewer.get(LIST).content.decode())
    assert {("Acme" in cell, "organization" in cell) for cell in cells} == {
        (True, True),
        (False, False),
    }


def test_a_name_that_turns_the_direction_of_writing_turns_nothing_else(viewer):
    Run.objects.create(organization=make_organization("Acme\u202e"))
    assert "Acme\u202e</bdi> <span" in viewer.get(LIST).content.decode()


# The page of a run


@pytest.fixture
def full(alice: Any) -> Run:
    """A run with something in every field."""
    started = timezone.now().replace(microsecond=202000) - datetime.timedelta(hours=3)
    return Run.objects.create(
        id="full_run-1",
        user=alice,
        status=RunStatus.FAILED,
        started_at=started,
        finished_at=started + datetime.timedelta(seconds=90),
        act_id="the-actor",
        actor_task_id="the-task",
        build_id="the-build",
        build_number="0.1.2",
        exit_code=91,
        status_message="It broke.",
        is_status_message_terminal=True,
        general_access=GeneralAccess.RESTRICTED,
        default_key_value_store_id="the-store",
        default_dataset_id="the-dataset",
        default_request_queue_id="the-queue",
        storage_ids={"datasets": {"default": "the-dataset"}},
        container_url="https://container.example.com",
        is_container_server_ready=False,
        git_branch_name="the-branch",
        meta={"origin": "CLI", "userAgent": "the-agent"},
        usage={"DATASET_READS": 7},
        usage_usd={"DATASET_READS": 0.0028},
        usage_total_usd=0.0625,
        charged_event_counts={"page": 8},
        pricing_info={
            "pricingModel": "FREE",
            "apifyMarginPercentage": 0.5,
            "createdAt": "2024-01-01T00:00:00.000Z",
            "startedAt": "2024-01-01T00:00:00.000Z",
        },
        platform_usage_billing_model="DEVELOPER",
        metamorphs=[
            {
                "createdAt": "2024-01-01T00:00:00.000Z",
                "actorId": "the-other-actor",
                "buildId": "the-other-build",
            }
        ],
    )


SHOWN = [
    "full_run-1",
    "/v2/actor-runs/full_run-1",
    "alice",
    "Failed",
    "the-actor",
    "the-task",
    "the-build",
    "0.1.2",
    "91",
    "It broke.",
    "Only the owner can read",
    "the-store",
    "the-dataset",
    "the-queue",
    "https://container.example.com",
    "the-branch",
    '"origin": "CLI"',
    '"userAgent": "the-agent"',
    '"memoryMbytes": 1024',
    '"resurrectCount": 0',
    '"DATASET_READS": 7',
    '"DATASET_READS": 0.0028',
    "0.0625",
    '"page": 8',
    '"pricingModel": "FREE"',
    "DEVELOPER",
    '"actorId": "the-other-actor"',
]


def test_who_may_only_view_sees_everything(viewer, full):
    words = text(viewer.get(page(full)))
    assert [shown for shown in SHOWN if shown not in words] == []


def test_who_may_only_view_can_change_nothing(viewer, full):
    before = Run.objects.values().get(pk=full.pk)
    response = viewer.get(page(full))
    body = response.content.decode()
    assert buttons(response) == []
    assert list(response.context["adminform"].form) == []
    assert 'name="_save"' not in body
    assert f"{page(full, 'delete')}" not in body
    refused = [
        (page(full), {"act_id": "another"}),
        (page(full, "transition"), {"status": "READY", "version": "FAILED 0"}),
        (page(full, "delete"), CONFIRMED),
        (f"{LIST}add/", {"user": full.user_id}),
    ]
    assert [viewer.post(*request).status_code for request in refused] == [403, 403, 403, 403]
    assert Run.objects.values().get(pk=full.pk) == before
    assert history() == []


def test_nobody_without_permission_sees_anything(run):
    nobody = staff()
    for path in (LIST, page(run), page(run, "delete"), page(run, "history"), f"{LIST}add/"):
        assert nobody.get(path).status_code == 403
    assert nobody.post(page(run, "transition"), {"status": "READY"}).status_code == 403


def test_what_is_nested_is_shown_over_several_lines(viewer, full):
    body = html.unescape(viewer.get(page(full)).content.decode())
    assert (
        '<pre class="run-json">{\n  "datasets": {\n    "default": "the-dataset"\n  }\n}</pre>'
        in (body)
    )


def test_hostile_values_are_shown_as_text(alice, acme):
    alice.username = HOSTILE
    alice.save()
    acme.name = HOSTILE
    acme.save()
    values = {
        "act_id": HOSTILE,
        "actor_task_id": HOSTILE,
        "git_branch_name": HOSTILE,
        "status_message": HOSTILE,
        "meta": {"origin": "WEB", HOSTILE: [HOSTILE]},
        "usage": {HOSTILE: HOSTILE},
        "storage_ids": {HOSTILE: HOSTILE},
    }
    runs = [
        Run.objects.create(user=alice, status=RunStatus.FAILED, **values),
        Run.objects.create(organization=acme, status=RunStatus.FAILED, **values),
    ]
    viewer, editor = staff("view", username="v"), staff(*EVERYTHING, username="e")
    for client in (viewer, editor):
        for path in (LIST, f"{LIST}?q={HOSTILE}", *map(page, runs)):
            body = client.get(path).content.decode()
            assert "<script>alert" not in body
            assert "&lt;script&gt;alert" in body


def test_no_token_is_shown(full):
    token = token_of(full.user)
    superuser = staff(username="root")
    get_user_model().objects.filter(username="root").update(is_superuser=True)
    for path in (LIST, page(full), page(full, "delete"), page(full, "history")):
        assert token not in superuser.get(path).content.decode()
    assert listed(superuser, f"q={token}") == []


def test_times_are_in_the_viewers_zone_and_as_the_api_has_them(viewer, full):
    with timezone.override("Asia/Tokyo"):
        words = text(viewer.get(page(full)))
    assert format_time(full.started_at) in words
    assert format_time(full.finished_at) in words
    # Without USE_TZ Django has one zone for everybody.
    local = full.started_at
    if settings.USE_TZ:
        assert " JST " in words
        local += datetime.timedelta(hours=9)
    with translation.override("en"):
        assert date_format(local, "DATETIME_FORMAT") in words


@pytest.mark.urls("tests.support.admin_site")
def test_a_page_asks_as_often_among_1000_runs_as_among_10():
    client = staff(*EVERYTHING)
    fill(10)
    client.get(page("run00003"))  # Django remembers its content type
    asked = []
    for count in (10, 1000):
        fill(count)
        asked.append([len(queries(client, page(run))) for run in ("run00003", "run00004")])
    assert asked[0] == asked[1]
    assert max(asked[0]) <= 8


# Changing and adding


def test_who_may_change_can_change_what_staff_decide(editor, run, acme):
    data = form_of(editor.get(page(run)))
    data |= {
        "user": "",
        "organization": acme.pk,
        "general_access": "RESTRICTED",
        "act_id": "another",
        "build_number": "1.2.3",
        "git_branch_name": "main",
    }
    response = editor.post(page(run), data)
    assert response.status_code == 302
    run.refresh_from_db()
    assert (run.user, run.organization) == (None, acme)
    assert run.general_access == "RESTRICTED"
    assert (run.act_id, run.build_number, run.git_branch_name) == ("another", "1.2.3", "main")
    assert [entry[:2] for entry in history()] == [(run.pk, 2)]


def test_what_the_hosts_code_says_is_no_free_text(editor, run):
    before = Run.objects.values().get(pk=run.pk)
    data = form_of(editor.get(page(run)))
    forged = {
        "id": "another",
        "status": "RUNNING",
        "started_at": "2020-01-01",
        "started_at_0": "2020-01-01",
        "started_at_1": "00:00",
        "finished_at": "",
        "exit_code": "1",
        "status_message": "forged",
        "stats": "{}",
        "meta": "{}",
        "usage_total_usd": "1",
    }
    assert editor.post(page(run), data | forged).status_code == 302
    assert Run.objects.values().get(pk=run.pk) == before


def test_a_save_leaves_alone_what_the_hosts_code_writes_meanwhile(editor, run):
    def write(sender: Any, instance: Run, **kwargs: Any) -> None:
        Run.objects.filter(pk=run.pk).update(status_message="written meanwhile")

    data = form_of(editor.get(page(run))) | {"act_id": "another"}
    pre_save.connect(write, sender=Run)
    try:
        editor.post(page(run), data)
    finally:
        pre_save.disconnect(write, sender=Run)
    run.refresh_from_db()
    assert (run.act_id, run.status_message) == ("another", "written meanwhile")


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("build_number", "1.2", "Build number: must be major.minor.build, like 0.1.2."),
        ("act_id", "", "This field is required."),
        ("act_id", "x" * 65, "at most 64 characters"),
        ("general_access", "EVERYBODY", "Select a valid choice."),
        ("user", "", "A run is owned by exactly one: a user or an organization."),
        ("user", "nobody", "valid"),
        ("user", "9" * 30, "valid"),
    ],
)
def test_bad_values_are_errors_of_the_form(editor, run, field, value, words):
    before = Run.objects.values().get(pk=run.pk)
    response = editor.post(page(run), form_of(editor.get(page(run))) | {field: value})
    assert response.status_code == 200
    assert words in " ".join(response.context["adminform"].form.errors[field])
    assert Run.objects.values().get(pk=run.pk) == before


@pytest.mark.parametrize("field", ["user", "organization", "act_id", "general_access"])
def test_a_nul_is_refused(editor, run, field):
    data = form_of(editor.get(page(run))) | {field: "a\0b"}
    assert editor.post(page(run), data).status_code == 400
    assert editor.post(f"{LIST}add/", {field: "a\0b"}).status_code == 400
    assert editor.get(f"{LIST}add/?{field}=a%00b").status_code == 400


def test_a_run_is_added_with_nothing_but_its_owner(editor, alice, acme):
    for owner in ({"user": alice.pk}, {"organization": acme.pk}):
        assert editor.post(f"{LIST}add/", owner).status_code == 302
    hers, theirs = Run.objects.get(user=alice), Run.objects.get(organization=acme)
    for run in (hers, theirs):
        assert run.status == RunStatus.READY
        assert run.general_access == GeneralAccess.FOLLOW_USER_SETTING
        assert re.fullmatch("[A-Za-z0-9]{17}", run.act_id)
        assert re.fullmatch("[A-Za-z0-9]{17}", run.build_id)
    assert {entry[:2] for entry in history()} == {(hers.pk, 1), (theirs.pk, 1)}


def test_the_page_for_adding_needs_nothing_but_an_owner(editor, alice):
    data = form_of(editor.get(f"{LIST}add/"))
    assert editor.post(f"{LIST}add/", data | {"user": alice.pk}).status_code == 302
    run = Run.objects.get()
    assert (run.user, run.status) == (alice, RunStatus.READY)
    assert run.act_id


def test_a_run_is_added_as_it_was_filled_in(editor, alice):
    data = {
        "user": alice.pk,
        "act_id": "the-actor",
        "build_number": "1.2.3",
        "general_access": "RESTRICTED",
    }
    editor.post(f"{LIST}add/", data)
    assert Run.objects.filter(**data).count() == 1


def test_two_owners_or_none_are_an_error_of_the_form(editor, alice, acme):
    for owners in ({}, {"user": alice.pk, "organization": acme.pk}):
        response = editor.post(f"{LIST}add/", owners)
        assert response.status_code == 200
        words = "A run is owned by exactly one: a user or an organization."
        assert response.context["adminform"].form.errors == {"user": [words]}
    assert not Run.objects.exists()


@pytest.mark.parametrize("value", ["abc", "'", "99999999999999999999", "-1", "%F0%9F%92%A9"])
@pytest.mark.parametrize("urls", ["project.urls", "tests.support.admin_site"])
def test_hostile_owners_are_an_error_of_the_form(editor, settings, value, urls):
    settings.ROOT_URLCONF = urls
    assert editor.get(f"{LIST}add/?user={value}&organization={value}").status_code == 200
    for field in ("user", "organization"):
        response = editor.post(f"{LIST}add/", {field: value})
        assert response.status_code == 200
        assert field in response.context["adminform"].form.errors


@pytest.mark.parametrize("value", ["abc", "1.5", " ", "9" * 30])
@pytest.mark.parametrize("field", ["user", "organization"])
def test_hostile_owners_are_an_error_where_owners_are_looked_up(run, settings, field, value):
    settings.ROOT_URLCONF = "tests.support.admin_site"
    user = make_user("root", is_staff=True, is_superuser=True)
    client = Client(headers={"accept-language": "en"})
    client.force_login(user)
    assert client.get(f"{LIST}add/", {field: value}).status_code == 200
    for address in (f"{LIST}add/", page(run)):
        response = client.post(address, {field: value})
        assert response.status_code == 200
        assert response.context["adminform"].form.errors


@pytest.mark.parametrize("moment", [datetime.datetime.min, datetime.datetime.max])
@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York"])
def test_a_run_at_the_calendars_ends_is_shown(viewer, alice, settings, moment, zone):
    # Without USE_TZ the moment is one of the default zone, and must be one in UTC too.
    utc = datetime.timezone.utc
    moment = moment.replace(tzinfo=utc) if settings.USE_TZ else moment.replace(day=15)
    run = Run.objects.create(user=alice, started_at=moment)
    with timezone.override(zone):
        assert run.pk in text(viewer.get(LIST))
        assert viewer.get(page(run)).status_code == 200


def test_only_who_may_add_can_add(run):
    changer = staff("view", "change", "delete")
    assert changer.get(f"{LIST}add/").status_code == 403
    assert changer.post(f"{LIST}add/", {"user": run.user_id}).status_code == 403
    assert Run.objects.count() == 1


@pytest.mark.urls("tests.support.admin_site")
def test_owners_are_looked_up_not_listed(alice, acme):
    """However many there are, the page holds the chosen one alone."""
    make_user("somebody-else")
    run = Run.objects.create(user=alice)
    labels = [type(owner)._meta.label_lower.replace(".", ".view_") for owner in (alice, acme)]
    sees, sees_not = staff(*EVERYTHING, *labels, username="a"), staff(*EVERYTHING, username="b")
    body = sees.get(page(run)).content.decode()
    assert "admin-autocomplete" in body
    assert "alice</option>" in body
    assert "somebody-else" not in body
    body = sees_not.get(page(run)).content.decode()
    assert "admin-autocomplete" not in body
    assert re.search(rf'<input type="text" name="user" value="{alice.pk}"', body)
    assert "related-lookup" not in body


# IDs and pages that are not there


def test_ids_with_odd_characters(editor, alice):
    run = Run.objects.create(id="_5F-_a-B_", user=alice)
    assert listed(editor, f"q={run.pk}") == [run.pk]
    assert page(run) in editor.get(LIST).content.decode()
    assert said(transition(editor, run, "RUNNING")) == ["The run is now: Running."]
    assert said(transition(editor, run, "FAILED")) == ["The run is now: Failed."]
    assert editor.get(page(run, "history")).status_code == 200
    assert editor.post(page(run, "delete"), CONFIRMED).status_code == 302
    assert not Run.objects.exists()


@pytest.mark.parametrize(
    "run_id", ["a%00b", "..", "_00", "x" * 300, "%F0%9F%92%A9", "a b", "%ff", "'", "add/x"]
)
def test_ids_that_cannot_be_are_a_message(editor, run, run_id):
    for name in ("change", "delete", "history"):
        response = editor.get(f"{LIST}{run_id}/{name}/", follow=True)
        assert response.status_code == 200
        assert "Perhaps it was deleted?" in said(response)[0]
    response = editor.post(f"{LIST}{run_id}/transition/", {"status": "READY"}, follow=True)
    assert said(response) == [GONE]
    assert editor.get(f"{LIST}%0A/change/").status_code == 404


def test_a_run_deleted_while_its_page_is_open_is_a_message(editor, run):
    seen = editor.get(page(run))
    data = form_of(seen)
    run.delete()
    run_id = seen.context["original"].pk
    for path, values in ((page(run_id), data), (page(run_id, "delete"), CONFIRMED)):
        response = editor.post(path, values, follow=True)
        assert response.status_code == 200
        assert "Perhaps it was deleted?" in said(response)[0]
    values = {"status": "READY", "version": version(seen)}
    assert said(editor.post(page(run_id, "transition"), values, follow=True)) == [GONE]
    assert not Run.objects.exists()
    assert history() == []


# Transitions


@pytest.mark.parametrize("status", RunStatus.values)
def test_the_transitions_that_are_legal_now_are_offered_and_no_others(editor, alice, status):
    run = Run.objects.create(user=alice, status=status)
    response = editor.get(page(run))
    assert buttons(response) == [step.value for step in TRANSITIONS[status]]


def test_transitions_are_named_as_what_they_do(editor, alice):
    run = Run.objects.create(user=alice)
    names = {
        "READY": ["Start", "Abort", "Finish as aborted", "Finish as failed", "Finish as timed out"],
        "RUNNING": [
            "Finish as succeeded",
            "Finish as failed",
            "Time out",
            "Finish as timed out",
            "Abort",
            "Finish as aborted",
        ],
        "ABORTING": ["Finish as aborted", "Finish as failed"],
        "ABORTED": ["Resurrect", "Resurrect and start"],
    }
    for status, offered in names.items():
        if run.status != status:
            run.transition_to(status)
        body = editor.get(page(run)).content.decode()
        found = re.findall(r'<button form="run-transition"[^>]*>([^<]+)</button>', body)
        assert found == offered


@pytest.mark.parametrize("exit_code", [None, 0, 91])
def test_a_resurrection_asks_first_and_says_what_is_lost(editor, alice, exit_code):
    run = Run.objects.create(user=alice, status=RunStatus.FAILED, exit_code=exit_code)
    data = {"status": "READY", "version": version(editor.get(page(run)))}
    asked = editor.post(page(run, "transition"), data)
    words = text(asked)
    assert f"The run {run.pk} is finished: Failed. If it is resurrected, it loses:" in words
    assert format_time(run.finished_at) in words
    assert (f"Exit code: {exit_code}" in words) == (exit_code is not None)
    run.refresh_from_db()
    assert run.status == RunStatus.FAILED
    hidden = dict(
        re.findall(r'<input type="hidden" name="(\w+)" value="([^"]+)">', asked.content.decode())
    )
    response = editor.post(page(run, "transition"), hidden, follow=True)
    assert said(response) == ["The run is now: Ready."]


@pytest.mark.parametrize("status", ["RUNNING", "FAILED"])
def test_a_transition_leads_back_to_the_filtered_list(editor, alice, status):
    run = Run.objects.create(user=alice, status=status)
    filters = "_changelist_filters=owner%3Duser"
    response = editor.get(f"{page(run)}?{filters}")
    form = re.search(
        r'id="run-transition" method="post" action="([^"]+)"', response.content.decode()
    )
    assert form is not None
    assert form[1] == f"{page(run, 'transition')}?{filters}"
    data = {"status": TRANSITIONS[run.status][0].value, "version": version(response)}
    if status == "FAILED":
        asked = editor.post(form[1], data).content.decode()
        assert f'cancel-link" href="{page(run)}?{filters}">' in asked
    done = editor.post(form[1], {**data, "confirmed": "yes"})
    assert done.headers["Location"] == f"{page(run)}?{filters}"
    Run.objects.filter(pk=run.pk).update(status="RUNNING", finished_at=None)
    kept = editor.post(f"{page(run, 'delete')}?{filters}", {"post": "yes"})
    assert kept.headers["Location"] == f"{page(run)}?{filters}"


def test_what_asks_first_is_refused_once_the_run_has_changed(editor, run):
    asked = editor.post(
        page(run, "transition"), {"status": "READY", "version": version(editor.get(page(run)))}
    )
    run.transition_to(RunStatus.RUNNING)
    data = {"status": "READY", "version": asked.context["version"], "confirmed": "yes"}
    response = editor.post(page(run, "transition"), data, follow=True)
    assert said(response) == [CHANGED.format("Running")]


@pytest.mark.parametrize(
    ("status", "step"), [(status, step) for status in TRANSITIONS for step in TRANSITIONS[status]]
)
def test_a_button_is_the_transition_of_its_status(editor, alice, status, step):
    run = Run.objects.create(user=alice, status=status, exit_code=None)
    assert said(transition(editor, run, step)) == [f"The run is now: {step.label}."]
    run.refresh_from_db()
    assert run.status == step
    assert (run.finished_at is not None) == run.is_finished
    assert history() == [(run.pk, 2, f"{status} → {step}")]


@pytest.mark.parametrize("status", ["SUCCEEDED", "READY", "", "NONE", "running", HOSTILE])
def test_a_transition_that_is_not_legal_is_a_message(editor, alice, status):
    run = Run.objects.create(user=alice)
    assert said(transition(editor, run, status)) == [NO_STEP]
    run.refresh_from_db()
    assert run.status == RunStatus.READY
    assert history() == []


def test_a_lost_race_is_a_message(editor, alice):
    run = Run.objects.create(user=alice)
    seen = editor.get(page(run))
    run.transition_to(RunStatus.RUNNING)
    # Still a legal step, but not from what the page showed.
    assert said(transition(editor, run, "ABORTED", seen)) == [CHANGED.format("Running")]
    run.refresh_from_db()
    assert run.status == RunStatus.RUNNING
    assert history() == []


def test_a_run_that_went_and_came_back_is_not_the_one_that_the_page_showed(editor, alice):
    run = Run.objects.create(user=alice, status=RunStatus.RUNNING)
    seen = editor.get(page(run))
    run.transition_to(RunStatus.SUCCEEDED)
    run.transition_to(RunStatus.RUNNING)
    assert said(transition(editor, run, "ABORTED", seen)) == [CHANGED.format("Running")]
    run.refresh_from_db()
    assert run.status == RunStatus.RUNNING


def test_a_race_lost_at_the_last_moment_is_a_message(editor, alice):
    run = Run.objects.create(user=alice)
    seen = editor.get(page(run))
    read = "LIMIT 1"  # and not the statement that locks
    with after_reading(lambda: Run.objects.get(pk=run.pk).transition_to("RUNNING"), read):
        response = transition(editor, run, "ABORTED", seen)
    assert said(response) == [CHANGED.format("Running")]
    seen = editor.get(page(run))
    with after_reading(lambda: QuerySet(Run).filter(pk=run.pk)._raw_delete(Run.objects.db), read):
        response = transition(editor, run, "ABORTED", seen)
    assert said(response) == [GONE]


@pytest.mark.parametrize("known", [None, "", "READY", "READY x", "FAILED 0", HOSTILE])
def test_a_transition_needs_the_version_that_its_page_showed(editor, alice, known):
    run = Run.objects.create(user=alice)
    data = {"status": "RUNNING"} | ({} if known is None else {"version": known})
    response = editor.post(page(run, "transition"), data, follow=True)
    assert said(response) == [CHANGED.format("Ready")]
    run.refresh_from_db()
    assert run.status == RunStatus.READY


def test_transitions_are_for_who_may_change(alice):
    run = Run.objects.create(user=alice)
    for number, permissions in enumerate([("view",), ("add",), ("view", "add", "delete")]):
        client = staff(*permissions, username=f"staff{number}")
        data = {"status": "RUNNING", "version": "READY 0"}
        assert client.post(page(run, "transition"), data).status_code == 403
    changer = staff("change", username="changer")
    assert said(transition(changer, run, "RUNNING")) == ["The run is now: Running."]


def test_a_transition_is_a_post_with_a_csrf_token(alice):
    run = Run.objects.create(user=alice)
    careful = staff(*EVERYTHING, enforce_csrf_checks=True)
    assert careful.get(page(run, "transition")).status_code == 405
    data = {"status": "RUNNING", "version": "READY 0"}
    assert careful.post(page(run, "transition"), data).status_code == 403
    run.refresh_from_db()
    assert run.status == RunStatus.READY


# Deleting one


@pytest.mark.parametrize("status", RunStatus.values)
def test_the_button_to_delete_is_there_for_finished_runs_only(editor, alice, status):
    run = Run.objects.create(user=alice, status=status)
    body = editor.get(page(run)).content.decode()
    assert (f'href="{page(run, "delete")}"' in body) == run.is_finished


def test_a_finished_run_is_deleted_and_both_logs_say_so(editor, run, caplog):
    with caplog.at_level(logging.INFO, "actor_runs"):
        assert editor.get(page(run, "delete")).status_code == 200
        response = editor.post(page(run, "delete"), CONFIRMED, follow=True)
    assert "was deleted successfully" in said(response)[0]
    assert not Run.objects.exists()
    assert history() == [(run.pk, 3, "")]
    (record,) = caplog.records
    me = get_user_model().objects.get(username="editor")
    assert (record.name, record.levelname) == ("actor_runs", "INFO")
    assert record.getMessage() == f"Run {run.pk} of {run.user_id} deleted by user {me.pk}"
    assert record.run_id == run.pk
    assert record.owner == str(run.user_id)
    assert record.deleted_by == str(me.pk)
    assert record.run_status == "SUCCEEDED"


@pytest.mark.parametrize("status", Run.UNFINISHED)
def test_an_unfinished_run_is_never_deleted(editor, alice, caplog, status):
    run = Run.objects.create(user=alice, status=status)
    with caplog.at_level(logging.INFO, "actor_runs"):
        for response in (
            editor.get(page(run, "delete"), follow=True),
            editor.post(page(run, "delete"), CONFIRMED, follow=True),
        ):
            assert said(response) == [UNFINISHED.format(status.label)]
            assert response.context["original"] == run
    assert Run.objects.filter(pk=run.pk).exists()
    assert history() == []
    assert caplog.records == []


def test_a_run_that_came_back_after_the_question_stays(editor, run):
    assert "Are you sure" in text(editor.get(page(run, "delete")))
    run.transition_to(RunStatus.RUNNING)
    response = editor.post(page(run, "delete"), CONFIRMED, follow=True)
    assert said(response) == [UNFINISHED.format("Running")]
    assert Run.objects.filter(pk=run.pk, status="RUNNING").exists()
    assert history() == []


def test_deleting_is_for_who_may_delete(run):
    changer = staff("view", "change", "add")
    assert page(run, "delete") not in changer.get(page(run)).content.decode()
    assert changer.get(page(run, "delete")).status_code == 403
    assert changer.post(page(run, "delete"), CONFIRMED).status_code == 403
    assert Run.objects.exists()


def test_receivers_of_signals_are_told_once(editor, run):
    told = []

    def tell(sender: Any, instance: Run, **kwargs: Any) -> None:
        told.append(instance.pk)

    pre_delete.connect(tell, sender=Run)
    try:
        editor.post(page(run, "delete"), CONFIRMED)
    finally:
        pre_delete.disconnect(tell, sender=Run)
    assert told == [run.pk]


@pytest.mark.host
@pytest.mark.parametrize("model", ["Invoice", "Archive"])
def test_what_protects_a_run_is_named(editor, run, model):
    record = apps.get_model("host", model).objects.create(run=run)
    for response in (
        editor.get(page(run, "delete")),
        editor.post(page(run, "delete"), CONFIRMED),
    ):
        assert response.status_code == 200
        assert f"{model}: {record}" in text(response)
    assert Run.objects.exists()
    assert history() == []


@pytest.mark.host
@pytest.mark.django_db(transaction=True)
def test_a_run_that_the_database_alone_protects_is_a_message(run, caplog):
    editor = staff(*EVERYTHING)
    apps.get_model("host.Ledger").objects.create(run=run)
    with caplog.at_level(logging.INFO, "actor_runs"):
        response = editor.post(page(run, "delete"), CONFIRMED, follow=True)
    assert said(response) == ["Other records depend on the run. It was kept."]
    assert Run.objects.exists()
    assert history() == []
    assert caplog.records == []


@pytest.mark.host
@pytest.mark.urls("tests.support.admin_site")
def test_what_would_go_with_a_run_needs_its_own_permission(run):
    run.notes.create()
    without = staff("view", "delete", username="without")
    assert "your account doesn't have permission" in text(without.get(page(run, "delete")))
    assert without.post(page(run, "delete"), CONFIRMED).status_code == 403
    allowed = staff("view", "delete", "host.delete_note", username="allowed")
    assert allowed.post(page(run, "delete"), CONFIRMED).status_code == 302
    assert not Run.objects.exists()


# Owners' pages


@pytest.mark.urls("tests.support.admin_site")
@pytest.mark.parametrize("kind", ["user", "organization"])
def test_an_owner_of_many_runs_is_not_deleted_and_the_runs_are_named(kind):
    owner = make_user("owner") if kind == "user" else make_organization("Owner")
    runs = Run.objects.bulk_create([Run(**{kind: owner}) for _ in range(300)])
    superuser = staff(username="root")
    get_user_model().objects.filter(username="root").update(is_superuser=True)
    path = reverse(
        f"admin:{type(owner)._meta.label_lower.replace('.', '_')}_delete", args=[owner.pk]
    )
    for response in (superuser.get(path), superuser.post(path, CONFIRMED)):
        assert response.status_code == 200
        words = text(response)
        assert "protected related objects" in words
        assert sum(run.pk in words for run in runs) >= 20
    changelist = path.replace(f"{owner.pk}/delete/", "")
    data = {"action": "delete_selected", "_selected_action": [owner.pk], "post": "yes"}
    response = superuser.post(changelist, data)
    assert response.status_code == 200
    assert "protected related objects" in text(response)
    assert type(owner).objects.filter(pk=owner.pk).exists()
    assert Run.objects.count() == 300


@pytest.mark.urls("tests.support.admin_site")
@pytest.mark.parametrize("kind", ["user", "organization"])
def test_the_page_that_deletes_an_owner_says_which_runs_go(kind):
    owner = make_user("owner") if kind == "user" else make_organization("Owner")
    runs = [Run.objects.create(**{kind: owner}, status=status) for status in Run.FINISHED]
    label = type(owner)._meta.label_lower
    path = reverse(f"admin:{label.replace('.', '_')}_delete", args=[owner.pk])
    owners = label.replace(".", ".delete_"), label.replace(".", ".view_")
    without = staff(*owners, username="without")
    response = without.get(path)
    assert "your account doesn't have permission" in text(response)
    assert without.post(path, CONFIRMED).status_code == 403
    assert Run.objects.count() == 4
    allowed = staff("delete", "view", *owners, username="allowed")
    words = text(allowed.get(path))
    assert [run.pk for run in runs if run.pk not in words] == []
    assert "Runs: 4" in words
    assert allowed.post(path, CONFIRMED).status_code == 302
    assert not Run.objects.exists()


@pytest.mark.urls("tests.support.admin_site")
@pytest.mark.parametrize("kind", ["user", "organization"])
@pytest.mark.parametrize("policy", ["DELETE_FINISHED", "PROTECT"])
def test_the_page_that_deletes_an_owner_says_which_runs_keep_it(configure, kind, policy):
    configure(ON_OWNER_DELETE=policy)
    owner = make_user("owner") if kind == "user" else make_organization("Owner")
    finished = Run.objects.create(**{kind: owner}, status=RunStatus.FAILED)
    running = Run.objects.create(**{kind: owner}, status=RunStatus.RUNNING)
    label = type(owner)._meta.label_lower
    path = reverse(f"admin:{label.replace('.', '_')}_delete", args=[owner.pk])
    root = staff(username="root")
    get_user_model().objects.filter(username="root").update(is_superuser=True)
    for response in (root.get(path), root.post(path, CONFIRMED)):
        words = text(response)
        assert "protected related objects" in words
        assert running.pk in words
        assert (finished.pk in words) == (policy == "PROTECT")
    assert Run.objects.count() == 2


@pytest.mark.urls("tests.support.admin_site")
def test_an_owner_without_runs_is_deleted(alice):
    superuser = staff(username="root")
    get_user_model().objects.filter(username="root").update(is_superuser=True)
    path = reverse(
        f"admin:{type(alice)._meta.label_lower.replace('.', '_')}_delete", args=[alice.pk]
    )
    assert superuser.post(path, CONFIRMED).status_code == 302
    assert not type(alice).objects.filter(pk=alice.pk).exists()


# Colours

CSS = Path(apps.get_app_config("actor_runs").path) / "static" / "actor_runs" / "admin.css"


def luminance(colour: str) -> float:
    """As WCAG 2 defines it."""
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("status", RunStatus.values)
def test_a_badge_can_be_read_in_both_themes(status, theme):
    rules = re.findall(r"([^{}]+)\{([^{}]*)\}", re.sub(r"(?s)/\*.*?\*/", "", CSS.read_text()))
    declared: dict[str, tuple[str, str]] = {}
    for selectors, body in rules:
        if f'.run-status[data-status="{status}"]' in [
            each.strip() for each in selectors.split(",")
        ]:
            for name, *pair in re.findall(
                r"(color|background): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)", body
            ):
                declared[name] = (pair[0], pair[1])
    index = ["light", "dark"].index(theme)
    levels = sorted(luminance(declared[name][index]) for name in ("color", "background"))
    assert (levels[1] + 0.05) / (levels[0] + 0.05) >= 4.5


def test_a_badge_is_told_by_its_words_and_its_shape_too():
    shapes = dict(
        re.findall(r'\[data-status="([^"]+)"\]::before \{ content: "(.)"', CSS.read_text())
    )
    assert set(shapes) == set(RunStatus.values)
    assert len(set(shapes.values())) == len(shapes)
    # Where there is a font for emojis, these would be in its colours, and not in the badge's.
    assert "▶" not in shapes.values()
    assert len({RunStatus(status).label for status in RunStatus.values}) == len(shapes)


# What hosts may have


def test_organizations_without_a_name_are_not_searched(viewer, alice, configure):
    run = Run.objects.create(user=alice)
    configure(ORGANIZATION_MODEL="admin.LogEntry")
    assert run.pk in text(viewer.get(f"{LIST}?q=alice"))


def test_an_api_that_is_served_elsewhere_is_no_link(viewer, run, settings):
    settings.ROOT_URLCONF = (url_path("admin/", site.urls),)
    assert "/v2/actor-runs" not in viewer.get(page(run)).content.decode()


@pytest.mark.parametrize(
    ("stats", "words"),
    [
        ({"resurrectCount": -5}, "Statistics: stats.resurrectCount: must be from 0"),
        ({"resurrectCount": "one"}, "Statistics: stats.resurrectCount: must be "),
        ([], "Statistics: must be an object."),
    ],
    ids=str,
)
def test_what_the_run_itself_refuses_is_a_message(editor, run, stats, words):
    Run.objects.update(stats=stats)
    response = transition(editor, run, "READY")
    assert said(response)[0].startswith(words)
    assert Run.objects.get().is_finished


@pytest.mark.parametrize("many", [False, True])
def test_a_constraint_of_the_hosts_own_is_no_dependent_record(editor, run, many):
    def refuse(**kwargs: Any) -> None:
        raise IntegrityError("a rule of the host's")

    address, form = page(run, "delete"), {"post": "yes"}
    if many:
        far_ahead = 4_000_000_000_000
        address = LIST
        form = {"action": "delete_selected", "_selected_action": run.pk, "until": far_ahead}
    post_delete.connect(refuse, sender=Run)
    try:
        with pytest.raises(IntegrityError, match="a rule of the host's"):
            editor.post(address, form)
    finally:
        post_delete.disconnect(refuse, sender=Run)
    assert Run.objects.filter(pk=run.pk).exists()
