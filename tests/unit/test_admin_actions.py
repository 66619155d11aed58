"""Deleting a selection of runs in the admin: what the page says, and what then happens."""

from __future__ import annotations

import datetime
import gc
import logging
import re
import tracemalloc
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.db.models.signals import post_delete, post_init, pre_save
from django.utils import timezone

from actor_runs.admin import actions, deletion
from actor_runs.admin.deletion import BATCH_SIZE
from actor_runs.models import Run, RunStatus
from tests.support.admin_site import EVERYTHING, LIST, after_reading, history, said, staff, text

pytestmark = pytest.mark.django_db


@pytest.fixture
def deleter() -> Any:
    return staff("view", "delete", username="deleter")


def ask(client: Any, runs: Any = (), *, query: str = "", everything: bool = False) -> Any:
    """Choose the action for these runs, or for everything that the list would page through."""
    ids = [run.pk for run in runs]
    if everything:
        ids = [run.pk for run in client.get(f"{LIST}?{query}").context["cl"].result_list]
    data = {
        "action": "delete_selected",
        "index": "0",
        "select_across": "1" if everything else "0",
        "_selected_action": ids,
    }
    return client.post(f"{LIST}?{query}", data)


def inputs(response: Any) -> dict[str, list[str]]:
    """Return what the form of the confirmation page sends."""
    values: dict[str, list[str]] = {}
    body = response.content.decode()
    for name, value in re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', body):
        values.setdefault(name, []).append(value)
    return values


def confirm(client: Any, asked: Any, query: str = "") -> Any:
    return client.post(f"{LIST}?{query}", inputs(asked), follow=True)


def delete(client: Any, runs: Any) -> list[str]:
    return said(confirm(client, ask(client, runs)))


def one_of_each(user: Any) -> dict[str, Run]:
    return {
        status: Run.objects.create(id=f"run-{status}", user=user, status=status)
        for status in RunStatus.values
    }


def many(user: Any, count: int, **fields: Any) -> None:
    moment = timezone.now()
    values = {"status": RunStatus.SUCCEEDED, "finished_at": moment, "started_at": moment} | fields
    Run.objects.bulk_create([Run(user=user, **values) for _ in range(count)])


def test_the_page_says_how_many_go_and_how_many_stay_and_why(deleter, alice):
    runs = one_of_each(alice)
    chosen = [runs[status] for status in ("SUCCEEDED", "FAILED", "READY", "RUNNING", "ABORTING")]
    words = text(ask(deleter, chosen))
    assert "2 runs will be deleted. This cannot be undone." in words
    assert "3 runs are kept, since they are not finished." in words
    assert "depend" not in words
    assert Run.objects.count() == 8


def test_the_finished_ones_go_and_the_others_stay(deleter, alice):
    runs = one_of_each(alice)
    assert delete(deleter, runs.values()) == [
        "4 runs were deleted.",
        "4 runs were kept, since they are not finished.",
    ]
    assert set(Run.objects.values_list("status", flat=True)) == set(Run.UNFINISHED)


def test_both_logs_have_every_deletion(deleter, alice, acme, caplog):
    runs = [
        Run.objects.create(user=alice, status=RunStatus.SUCCEEDED),
        Run.objects.create(organization=acme, status=RunStatus.FAILED),
        Run.objects.create(user=alice),
    ]
    with caplog.at_level(logging.INFO, "actor_runs"):
        delete(deleter, runs)
    me = str(get_user_model().objects.get(username="deleter").pk)
    logged = {
        (record.run_id, record.owner, record.deleted_by, record.run_status)
        for record in caplog.records
    }
    assert logged == {
        (runs[0].pk, str(alice.pk), me, "SUCCEEDED"),
        (runs[1].pk, f"org-{acme.pk}", me, "FAILED"),
    }
    assert sorted(history()) == sorted((run.pk, 3, "") for run in runs[:2])


def test_the_page_names_the_first_of_the_runs(deleter, alice):
    runs = one_of_each(alice)
    words = text(ask(deleter, runs.values()))
    assert {run.pk for run in runs.values() if run.pk in words} == {
        "run-SUCCEEDED",
        "run-FAILED",
        "run-TIMED-OUT",
        "run-ABORTED",
    }
    assert "other" not in words
    many(alice, 30)
    assert "and 14 others" in text(ask(deleter, everything=True))


def test_one_run_is_one_run(deleter, run):
    assert "1 run will be deleted. This cannot be undone." in text(ask(deleter, [run]))
    assert delete(deleter, [run]) == ["1 run was deleted."]


def test_a_selection_without_finished_runs_offers_nothing_to_confirm(deleter, alice):
    asked = ask(deleter, [Run.objects.create(user=alice)])
    assert "None of the selected runs can be deleted." in text(asked)
    assert "1 run is kept, since it is not finished." in text(asked)
    assert 'name="until"' not in asked.content.decode()


def test_nothing_happens_without_the_page(deleter, run):
    for until in (None, "", "yes", "-1", "1e9"):
        data = {"action": "delete_selected", "_selected_action": run.pk, "post": "yes"}
        response = deleter.post(LIST, data if until is None else {**data, "until": until})
        assert "1 run will be deleted. This cannot be undone." in text(response)
    assert Run.objects.exists()


@pytest.mark.parametrize("until", ["9" * 400, "99999999999999"])
def test_a_page_from_the_future_is_a_page_from_now(deleter, run, until):
    Run.objects.filter(pk=run.pk).update(finished_at=timezone.now() + datetime.timedelta(days=1))
    data = {"action": "delete_selected", "_selected_action": run.pk, "until": until}
    response = deleter.post(LIST, data, follow=True)
    assert said(response)[0] == "0 runs were deleted."


def test_more_runs_than_were_confirmed_are_asked_about_again(deleter, alice):
    many(alice, 2)
    asked = ask(deleter, everything=True)
    assert "2 runs will be deleted. This cannot be undone." in text(asked)
    # Imported meanwhile: they finished before the question.
    many(alice, 50, finished_at=timezone.now() - datetime.timedelta(days=9))
    again = confirm(deleter, asked)
    assert said(again) == ["The selection has changed since you were asked."]
    assert "52 runs will be deleted. This cannot be undone." in text(again)
    assert Run.objects.count() == 52
    assert said(confirm(deleter, again)) == ["52 runs were deleted."]


def test_what_finishes_after_the_question_stays(deleter, alice, run):
    running = Run.objects.create(user=alice, status=RunStatus.RUNNING)
    asked = ask(deleter, [run, running])
    later = timezone.now() + datetime.timedelta(seconds=1)
    running.transition_to(RunStatus.SUCCEEDED, finished_at=later)
    assert said(confirm(deleter, asked)) == [
        "1 run was deleted.",
        "1 run was kept, since it is not finished.",
    ]
    assert list(Run.objects.all()) == [running]


def test_what_comes_back_after_the_question_stays(deleter, alice, run):
    other = Run.objects.create(user=alice, status=RunStatus.FAILED)
    asked = ask(deleter, [run, other])
    other.transition_to(RunStatus.READY)
    assert said(confirm(deleter, asked)) == [
        "1 run was deleted.",
        "1 run was kept, since it is not finished.",
    ]


def test_what_goes_after_the_question_is_not_counted(deleter, alice, run, caplog):
    other = Run.objects.create(user=alice, status=RunStatus.FAILED)
    asked = ask(deleter, [run, other])
    Run.objects.get(pk=other.pk).delete()
    with caplog.at_level(logging.INFO, "actor_runs"):
        assert said(confirm(deleter, asked)) == ["1 run was deleted."]
    assert [record.run_id for record in caplog.records] == [run.pk]
    assert history() == [(run.pk, 3, "")]


def test_what_comes_back_at_the_last_moment_stays_and_is_not_counted(deleter, alice, run, caplog):
    other = Run.objects.create(user=alice, status=RunStatus.FAILED)
    asked = ask(deleter, [run, other])
    with (
        after_reading(lambda: other.transition_to(RunStatus.READY), f"LIMIT {BATCH_SIZE}"),
        caplog.at_level(logging.INFO, "actor_runs"),
    ):
        response = confirm(deleter, asked)
    assert said(response) == ["1 run was deleted."]
    assert list(Run.objects.all()) == [other]
    assert [record.run_id for record in caplog.records] == [run.pk]
    assert history() == [(run.pk, 3, "")]


def test_everything_that_matches_goes_in_batches(deleter, alice, bob, caplog):
    many(alice, 2 * BATCH_SIZE + 7)
    many(alice, 3, status=RunStatus.RUNNING, finished_at=None)
    many(bob, 5)
    asked = ask(deleter, query="q=alice", everything=True)
    assert f"{2 * BATCH_SIZE + 7} runs will be deleted. This cannot be undone." in text(asked)
    assert "3 runs are kept" in text(asked)
    with caplog.at_level(logging.INFO, "actor_runs"):
        response = confirm(deleter, asked, query="q=alice")
    assert said(response) == [
        f"{2 * BATCH_SIZE + 7} runs were deleted.",
        "3 runs were kept, since they are not finished.",
    ]
    assert Run.objects.filter(user=alice).count() == 3
    assert Run.objects.filter(user=bob).count() == 5
    assert len(history()) == len(caplog.records) == 2 * BATCH_SIZE + 7


def test_memory_does_not_grow_with_the_selection(deleter, alice, monkeypatch, caplog):
    caplog.set_level(logging.WARNING, "actor_runs")
    monkeypatch.setattr(deletion, "BATCH_SIZE", 60)

    def delete_everything() -> None:
        confirm(deleter, ask(deleter, everything=True))
        assert not Run.objects.exists()

    many(alice, 120)
    delete_everything()  # the first time everything else is loaded, too
    peaks = []
    for count in (120, 600):
        many(alice, count)
        gc.collect()
        tracemalloc.start()
        delete_everything()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # What waits for the garbage collector comes to some part of this; all runs, to 2 and more.
    assert peaks[1] < 1.5 * peaks[0]


def test_the_filter_holds_for_the_selection(deleter, alice):
    runs = one_of_each(alice)
    asked = ask(deleter, query="status=FAILED", everything=True)
    assert said(confirm(deleter, asked, query="status=FAILED")) == ["1 run was deleted."]
    assert set(Run.objects.values_list("pk", flat=True)) == {
        run.pk for status, run in runs.items() if status != "FAILED"
    }


def test_the_action_is_for_who_may_delete(run):
    changer = staff("view", "change", "add")
    assert "delete_selected" not in changer.get(LIST).content.decode()
    for extra in ({}, {"until": "0"}, {"index": "0"}):
        data = {"action": "delete_selected", "_selected_action": run.pk, **extra}
        changer.post(LIST, data)
    assert Run.objects.exists()


def test_a_selection_of_impossible_ids(deleter, run):
    data = {"action": "delete_selected", "_selected_action": ["'", "x" * 999, "💩", ""]}
    assert "None of the selected runs" in text(deleter.post(LIST, data))
    data["_selected_action"] = [run.pk, "a\0b"]
    assert deleter.post(LIST, data).status_code == 400
    assert Run.objects.exists()


def test_receivers_of_signals_are_told_of_each_run_once(deleter, alice):
    many(alice, BATCH_SIZE + 2)
    ids = set(Run.objects.values_list("pk", flat=True))
    told = []

    def tell(sender: Any, instance: Run, **kwargs: Any) -> None:
        told.append(instance.pk)

    post_delete.connect(tell, sender=Run)
    try:
        confirm(deleter, ask(deleter, everything=True))
    finally:
        post_delete.disconnect(tell, sender=Run)
    assert (len(told), set(told)) == (len(ids), ids)


@pytest.mark.host
@pytest.mark.parametrize("model", ["Invoice", "Archive"])
def test_protected_runs_stay_and_what_protects_them_is_named(deleter, alice, model):
    runs = one_of_each(alice)
    record = apps.get_model("host", model).objects.create(run=runs["FAILED"])
    asked = ask(deleter, runs.values())
    words = text(asked)
    assert "3 runs will be deleted. This cannot be undone." in words
    assert "1 run is kept, since other records depend on it:" in words
    assert f"{model}: {record}" in words
    assert said(confirm(deleter, asked)) == [
        "3 runs were deleted.",
        "4 runs were kept, since they are not finished.",
        f"1 run was kept, since other records depend on it. {model}: {record}",
    ]
    assert Run.objects.filter(pk=runs["FAILED"].pk).exists()
    assert runs["FAILED"].pk not in {entry[0] for entry in history()}


@pytest.mark.host
def test_what_comes_to_protect_a_run_at_the_last_moment_is_named(deleter, alice, run):
    other = Run.objects.create(user=alice, status=RunStatus.FAILED)
    invoices = apps.get_model("host.Invoice").objects

    def charge(sender: Any, instance: Any, **kwargs: Any) -> None:
        post_init.disconnect(charge, sender=apps.get_model("host.Note"))
        invoices.create(run=other)

    other.notes.create()
    asked = ask(deleter, [run, other])
    # Django reads the notes to count them, and after that everything is as it was asked.
    post_init.connect(charge, sender=apps.get_model("host.Note"))
    messages = said(confirm(deleter, asked))
    assert messages[0] == "1 run was deleted."
    assert messages[1].startswith("1 run was kept, since other records depend on it. Invoice: ")
    assert list(Run.objects.all()) == [other]
    assert history() == [(run.pk, 3, "")]


@pytest.mark.host
@pytest.mark.django_db(transaction=True)
def test_runs_that_the_database_alone_protects_stay(alice, caplog):
    deleter = staff("view", "delete")
    runs = one_of_each(alice)
    apps.get_model("host.Ledger").objects.create(run=runs["FAILED"])
    with caplog.at_level(logging.INFO, "actor_runs"):
        messages = delete(deleter, [runs["FAILED"], runs["SUCCEEDED"]])
    assert messages == [
        "1 run was deleted.",
        "1 run was kept, since other records depend on it.",
    ]
    assert [record.run_id for record in caplog.records] == [runs["SUCCEEDED"].pk]
    assert history() == [(runs["SUCCEEDED"].pk, 3, "")]


@pytest.mark.host
def test_what_goes_with_the_runs_is_counted(deleter, alice, run):
    for _ in range(3):
        run.notes.create()
    bookmark = apps.get_model("host.Bookmark").objects.create(run=run)
    asked = ask(deleter, [run])
    assert "Deleted with them: 3 notes." in text(asked)
    assert said(confirm(deleter, asked)) == ["1 run was deleted."]
    assert not apps.get_model("host.Note").objects.exists()
    bookmark.refresh_from_db()
    assert bookmark.run_id is None


@pytest.mark.host
@pytest.mark.urls("tests.support.admin_site")
def test_what_would_go_with_a_run_needs_its_own_permission(alice, run):
    other = Run.objects.create(user=alice, status=RunStatus.FAILED)
    run.notes.create()
    without = staff("view", "delete", username="without")
    asked = ask(without, [run, other])
    assert "1 run will be deleted" in text(asked)
    assert "1 run is kept, since other records depend on it: note" in text(asked)
    confirm(without, asked)
    assert list(Run.objects.all()) == [run]
    allowed = staff("view", "delete", "host.delete_note", username="allowed")
    assert delete(allowed, [run]) == ["1 run was deleted."]


@pytest.mark.host
def test_protected_runs_among_many_batches(deleter, alice):
    many(alice, BATCH_SIZE + 50)
    charged = Run.objects.order_by("pk")[BATCH_SIZE - 1 : BATCH_SIZE + 2]
    for run in charged:
        apps.get_model("host.Invoice").objects.create(run=run)
    asked = ask(deleter, everything=True)
    assert f"{BATCH_SIZE + 47} runs will be deleted. This cannot be undone." in text(asked)
    assert "3 runs are kept, since other records depend on them:" in text(asked)
    assert said(confirm(deleter, asked))[0] == f"{BATCH_SIZE + 47} runs were deleted."
    assert Run.objects.count() == 3


def test_other_staff_can_do_the_same_twice(alice, run):
    """Two people confirm the same page: the second deletes nothing, and is told so."""
    first, second = (staff(*EVERYTHING, username=name) for name in ("first", "second"))
    pages = [ask(first, [run]), ask(second, [run])]
    assert said(confirm(first, pages[0])) == ["1 run was deleted."]
    assert said(confirm(second, pages[1])) == ["0 runs were deleted."]
    assert len(history()) == 1


# Aborting and timing out


@pytest.fixture
def changer() -> Any:
    return staff("view", "change", username="changer")


def apply(client: Any, action: str, runs: Any) -> list[str]:
    data = {"action": action, "_selected_action": [run.pk for run in runs]}
    return said(client.post(LIST, data, follow=True))


def statuses() -> dict[str, str]:
    return dict(Run.objects.values_list("pk", "status"))


def test_what_is_not_finished_is_aborted(changer, alice):
    runs = one_of_each(alice)
    before = statuses()
    assert apply(changer, "abort_selected", runs.values()) == [
        "3 runs were aborted. 4 runs were left as they are, since they are finished. "
        "1 run could not be changed: run-TIMING-OUT: "
        "It is: Timing out, and cannot become: Aborted."
    ]
    aborted = {"run-READY", "run-RUNNING", "run-ABORTING"}
    assert statuses() == before | dict.fromkeys(aborted, "ABORTED")
    assert Run.objects.get(pk="run-READY").finished_at is not None
    assert set(history()) == {
        (f"run-{status}", 2, f"{status} → ABORTED") for status in ("READY", "RUNNING", "ABORTING")
    }


def test_what_is_not_finished_is_timed_out(changer, alice):
    runs = one_of_each(alice)
    before = statuses()
    assert apply(changer, "time_out_selected", runs.values()) == [
        "3 runs were timed out. 4 runs were left as they are, since they are finished. "
        "1 run could not be changed: run-ABORTING: It is: Aborting, and cannot become: Timed out."
    ]
    timed_out = {"run-READY", "run-RUNNING", "run-TIMING-OUT"}
    assert statuses() == before | dict.fromkeys(timed_out, "TIMED-OUT")


def test_one_run_that_is_aborted_is_one_run(changer, alice):
    run = Run.objects.create(user=alice)
    assert apply(changer, "abort_selected", [run]) == ["1 run was aborted."]
    assert apply(changer, "abort_selected", [run]) == [
        "0 runs were aborted. 1 run was left as it is, since it is finished."
    ]


def test_everything_that_matches_is_aborted_in_batches(changer, alice, bob, monkeypatch):
    monkeypatch.setattr(actions, "BATCH_SIZE", 10)
    many(alice, 25, status=RunStatus.RUNNING, finished_at=None)
    many(bob, 1, status=RunStatus.RUNNING, finished_at=None)
    data = {
        "action": "abort_selected",
        "select_across": "1",
        "_selected_action": Run.objects.filter(user=alice)[0].pk,
    }
    response = changer.post(f"{LIST}?q=alice", data, follow=True)
    assert said(response) == ["25 runs were aborted."]
    assert Run.objects.filter(status=RunStatus.ABORTED).count() == 25


MEANWHILE = {
    "finished": (
        lambda runs: runs.get().transition_to(RunStatus.SUCCEEDED),
        "It is: Succeeded, and cannot become: Aborted.",
    ),
    "deleted": (lambda runs: QuerySet(Run)._raw_delete(runs.db), "The run is deleted."),
}


@pytest.mark.parametrize("change", MEANWHILE)
def test_a_run_that_changes_meanwhile_is_named(changer, alice, change):
    run = Run.objects.create(user=alice, status=RunStatus.RUNNING)
    make, reason = MEANWHILE[change]
    with after_reading(lambda: make(Run.objects.all()), "status_message"):
        words = apply(changer, "abort_selected", [run])
    assert words == [f"0 runs were aborted. 1 run could not be changed: {run.pk}: {reason}"]
    assert not Run.objects.exclude(status=RunStatus.SUCCEEDED).exists()


def test_a_run_that_the_host_refuses_to_save_is_named(changer, alice):
    def refuse(**kwargs: Any) -> None:
        raise ValidationError("Not on Sundays.")

    run = Run.objects.create(user=alice)
    pre_save.connect(refuse, sender=Run)
    try:
        words = apply(changer, "abort_selected", [run])
    finally:
        pre_save.disconnect(refuse, sender=Run)
    assert words == [f"0 runs were aborted. 1 run could not be changed: {run.pk}: Not on Sundays."]
    assert (statuses(), history()) == ({run.pk: "READY"}, [])


@pytest.mark.parametrize("action", ["abort_selected", "time_out_selected"])
def test_finishing_is_for_who_may_change(alice, action):
    run = Run.objects.create(user=alice)
    client = staff("view", "add", "delete")
    assert action not in client.get(LIST).content.decode()
    apply(client, action, [run])
    run.refresh_from_db()
    assert run.status == RunStatus.READY
