"""One run is deleted once, and never while it is unfinished, whoever else is at work on it.

Nothing here assumes SQLite, but for how a test learns that somebody waits for a lock. The other
side's transaction is held open while a request, or a host's code, arrives: so what happens does
not depend on luck. The stampedes do, and are there for what nobody thought of.
"""

from __future__ import annotations

import http.client
import json
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.apps import apps
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.db.models.signals import pre_delete

from actor_runs.exceptions import InvalidTransition, RunNotFinished
from actor_runs.models import Run, RunStatus
from tests.support.concurrency import TIMEOUT, rolled_back
from tests.support.people import join, token_of
from tests.support.runs import another
from tests.support.signals import DeletionSignals

pytestmark = pytest.mark.django_db(transaction=True)

CLIENTS = 10  # below the rate limit of one run
ROUNDS = 5


@pytest.fixture
def signals(signals_or_none: DeletionSignals) -> DeletionSignals:
    return signals_or_none


def make_run(owner: Any, status: str = RunStatus.SUCCEEDED, **fields: Any) -> Run:
    """Make a run; where a host has rows that go with runs, with such rows."""
    run = Run.objects.create(user=owner, status=status, **fields)
    if apps.is_installed("tests.host"):
        for _ in range(2):
            run.notes.create()
    return run


def assert_stays(*runs: Run) -> None:
    for run in runs:
        assert another(run).pk == run.pk
        if apps.is_installed("tests.host"):
            assert run.notes.count() == 2


def assert_gone(*run_ids: str) -> None:
    assert not Run.objects.filter(pk__in=run_ids).exists()
    if apps.is_installed("tests.host"):
        assert not apps.get_model("host.Note").objects.filter(run_id__in=run_ids).exists()


@pytest.fixture
def delete_over_http(live_server: Any, alice: Any) -> Callable[[str], tuple[int, Any]]:
    """A DELETE of a run over HTTP, as alice: its status, and the error's type and message."""
    headers = {"Authorization": f"Bearer {token_of(alice)}"}

    def delete(run_id: str) -> tuple[int, Any]:
        client = http.client.HTTPConnection(urlsplit(live_server.url).netloc, timeout=TIMEOUT)
        try:
            client.request("DELETE", f"/v2/actor-runs/{run_id}", headers=headers)
            response = client.getresponse()
            body = response.read()
        finally:
            client.close()
        if response.status == 204:
            return 204, body.decode()
        error = json.loads(body)["error"]
        return response.status, (error["type"], error["message"])

    return delete


DELETED = (204, "")
NOT_FOUND = (404, ("record-not-found", "The requested resource was not found."))
FORBIDDEN = (
    403,
    ("permission-denied", "You do not have permission to perform this action."),
)


def not_finished(run_id: str, status: str) -> tuple[int, Any]:
    message = f"Only finished runs can be deleted (run ID: {run_id}, status: {status})."
    return 400, ("cannot-remove-running-run", message)


# DELETE over HTTP


def test_of_many_concurrent_requests_one_deletes_the_run(
    alice, delete_over_http, concurrently, signals
):
    run_ids = []
    for _ in range(ROUNDS):
        run_id = make_run(alice).pk
        run_ids.append(run_id)
        answers = concurrently.all_at_once(
            *[lambda run_id=run_id: delete_over_http(run_id)] * CLIENTS
        )
        assert Counter(answers) == {DELETED: 1, NOT_FOUND: CLIENTS - 1}
        assert_gone(run_id)
    signals.assert_sent_for(*run_ids)


def test_a_run_that_is_resurrected_while_the_request_waits_stays(
    alice, delete_over_http, concurrently, signals
):
    run = make_run(alice)
    with transaction.atomic():
        run.transition_to(RunStatus.RUNNING)
        answer = concurrently.start_and_wait_for_its_lock(lambda: delete_over_http(run.pk))
    assert answer.result(TIMEOUT) == not_finished(run.pk, "RUNNING")
    assert_stays(run)
    signals.assert_sent_for()


def test_a_run_whose_resurrection_is_rolled_back_is_deleted(
    alice, delete_over_http, concurrently, signals
):
    run = make_run(alice)
    with rolled_back():
        another(run).transition_to(RunStatus.RUNNING)
        answer = concurrently.start_and_wait_for_its_lock(lambda: delete_over_http(run.pk))
    assert answer.result(TIMEOUT) == DELETED
    assert_gone(run.pk)
    signals.assert_sent_for(run.pk)


def test_a_run_that_is_resurrected_and_finished_meanwhile_is_deleted(
    alice, delete_over_http, concurrently, signals
):
    run = make_run(alice)
    with transaction.atomic():
        run.transition_to(RunStatus.RUNNING)
        run.transition_to(RunStatus.ABORTED)
        answer = concurrently.start_and_wait_for_its_lock(lambda: delete_over_http(run.pk))
    assert answer.result(TIMEOUT) == DELETED
    assert_gone(run.pk)
    signals.assert_sent_for(run.pk)


def test_a_run_that_is_deleted_while_the_request_waits_is_not_found(
    alice, delete_over_http, concurrently, signals
):
    run = make_run(alice)
    run_id = run.pk
    with transaction.atomic():
        run.delete()
        answer = concurrently.start_and_wait_for_its_lock(lambda: delete_over_http(run_id))
    assert answer.result(TIMEOUT) == NOT_FOUND
    assert_gone(run_id)
    signals.assert_sent_for(run_id)


def test_a_run_that_changes_its_owner_while_the_request_waits_is_forbidden(
    alice, bob, delete_over_http, concurrently, signals
):
    run = make_run(alice)
    with transaction.atomic():
        run.user = bob
        run.save()
        answer = concurrently.start_and_wait_for_its_lock(lambda: delete_over_http(run.pk))
    assert answer.result(TIMEOUT) == FORBIDDEN
    assert_stays(run)
    signals.assert_sent_for()


def test_a_run_that_is_about_to_finish_is_not_finished(
    alice, delete_over_http, concurrently, signals
):
    run = make_run(alice, RunStatus.RUNNING)
    with transaction.atomic():
        run.transition_to(RunStatus.SUCCEEDED)
        answer = concurrently.start(lambda: delete_over_http(run.pk))
        assert answer.result(TIMEOUT) == not_finished(run.pk, "RUNNING")
    assert_stays(run)
    signals.assert_sent_for()


def test_requests_and_resurrections_at_once_lose_no_unfinished_run(
    alice, delete_over_http, concurrently, signals
):
    gone = []
    for _ in range(ROUNDS * 2):
        run = make_run(alice)
        objects = [another(run) for _ in range(3)]
        answer, *steps = concurrently.all_at_once(
            lambda run=run: delete_over_http(run.pk),
            *[lambda other=other: other.transition_to(RunStatus.RUNNING) for other in objects],
        )
        winners = [step for step in steps if step is None]
        if answer == DELETED:
            assert winners == []
            assert_gone(run.pk)
            gone.append(run.pk)
        else:
            assert answer == not_finished(run.pk, "RUNNING")
            assert winners == [None]
            assert_stays(run)
        assert all(isinstance(step, InvalidTransition) for step in steps if step is not None)
    signals.assert_sent_for(*gone)


# Deleting in a host's code


def joined(run_ids: list[str]) -> Any:
    return Run.objects.filter(pk__in=run_ids, user__username="alice")


def itself(run_ids: list[str]) -> Any:
    return Run.objects.filter(pk__in=joined(run_ids).filter(status="SUCCEEDED").values("pk"))


SHAPES = {
    "plain": lambda run_ids: Run.objects.filter(pk__in=run_ids),
    "finished": lambda run_ids: Run.objects.filter(pk__in=run_ids).finished(),
    "joined": joined,
    "joined, finished": lambda run_ids: joined(run_ids).finished(),
    "joined, distinct": lambda run_ids: joined(run_ids).distinct(),
    "by a subquery on itself": itself,
    "ordered": lambda run_ids: Run.objects.filter(pk__in=run_ids).order_by("-started_at"),
}


@pytest.fixture(params=SHAPES.values(), ids=SHAPES)
def shape(request: Any) -> Any:
    """A queryset of the runs with given IDs, each in another way."""
    return request.param


def test_an_object_is_not_deleted_once_it_is_resurrected(alice, concurrently, signals):
    run = make_run(alice)
    outdated = another(run)
    with transaction.atomic():
        run.transition_to(RunStatus.RUNNING)
        deletion = concurrently.start_and_wait_for_its_lock(outdated.delete)
    refused = deletion.exception(TIMEOUT)
    assert isinstance(refused, RunNotFinished)
    assert (refused.run_id, refused.status) == (run.pk, "RUNNING")
    assert_stays(run)
    signals.assert_sent_for()


def test_an_object_that_somebody_else_deletes_counts_as_nothing_deleted(
    alice, concurrently, signals
):
    run = make_run(alice)
    outdated, run_id = another(run), run.pk
    with transaction.atomic():
        run.delete()
        deletion = concurrently.start_and_wait_for_its_lock(outdated.delete)
    assert deletion.result(TIMEOUT) == (0, {})
    assert_gone(run_id)
    signals.assert_sent_for(run_id)


def test_delete_takes_nothing_when_one_run_is_resurrected(alice, concurrently, signals, shape):
    runs = [make_run(alice) for _ in range(3)]
    run_ids = [run.pk for run in runs]
    with transaction.atomic():
        runs[1].transition_to(RunStatus.RUNNING)
        deletion = concurrently.start_and_wait_for_its_lock(lambda: shape(run_ids).delete())
    refused = deletion.exception(TIMEOUT)
    if refused is None:
        # A queryset of finished runs no longer has it.
        assert deletion.result()[1]["actor_runs.Run"] == 2
        assert_stays(runs[1])
        assert_gone(run_ids[0], run_ids[2])
        signals.assert_sent_for(run_ids[0], run_ids[2])
    else:
        assert isinstance(refused, RunNotFinished)
        assert (refused.run_id, refused.status) == (run_ids[1], "RUNNING")
        assert_stays(*runs)
        signals.assert_sent_for()


def test_delete_finished_leaves_a_run_that_is_resurrected(alice, concurrently, signals, shape):
    runs = [make_run(alice) for _ in range(3)]
    run_ids = [run.pk for run in runs]
    with transaction.atomic():
        runs[1].transition_to(RunStatus.RUNNING)
        deletion = concurrently.start_and_wait_for_its_lock(
            lambda: shape(run_ids).delete_finished()
        )
    assert deletion.result(TIMEOUT) == 2
    assert_stays(runs[1])
    assert_gone(run_ids[0], run_ids[2])
    signals.assert_sent_for(run_ids[0], run_ids[2])


@pytest.mark.parametrize("delete", ["delete", "delete_finished"])
def test_a_run_deleted_by_somebody_else_is_not_counted(alice, concurrently, signals, shape, delete):
    runs = [make_run(alice) for _ in range(3)]
    run_ids = [run.pk for run in runs]
    with transaction.atomic():
        runs[1].delete()
        deletion = concurrently.start_and_wait_for_its_lock(
            lambda: getattr(shape(run_ids), delete)()
        )
    deleted = deletion.result(TIMEOUT)
    assert (deleted if delete == "delete_finished" else deleted[1]["actor_runs.Run"]) == 2
    assert_gone(*run_ids)
    signals.assert_sent_for(*run_ids)


@pytest.mark.parametrize("delete", ["delete", "delete_finished"])
def test_a_run_that_goes_to_another_owner_is_not_the_former_ones_to_delete(
    alice, bob, concurrently, signals, delete
):
    run = make_run(alice)
    by_name = Run.objects.filter(user__username="alice")
    with transaction.atomic():
        Run.objects.filter(pk=run.pk).update(user=bob)
        deletion = concurrently.start_and_wait_for_its_lock(
            lambda: getattr(by_name.all(), delete)()
        )
    deleted = deletion.result(TIMEOUT)
    assert (deleted if delete == "delete_finished" else deleted[0]) == 0
    assert Run.objects.get(pk=run.pk).user == bob
    signals.assert_sent_for()


def test_a_run_that_goes_to_an_organization_of_the_callers_is_deleted_there(
    api, alice, acme, concurrently
):
    join(alice, acme)
    run = make_run(alice)
    token = token_of(alice)
    with transaction.atomic():
        Run.objects.filter(pk=run.pk).update(user=None, organization=acme)
        answer = concurrently.start_and_wait_for_its_lock(
            lambda: api.delete(f"/{run.pk}", token=token).status_code
        )
    assert answer.result(TIMEOUT) == 204
    assert_gone(run.pk)


def test_a_run_that_finishes_meanwhile_is_taken_or_left_but_counted_right(
    alice, concurrently, shape
):
    runs = [make_run(alice), make_run(alice, RunStatus.RUNNING)]
    run_ids = [run.pk for run in runs]
    with transaction.atomic():
        # Held as well, so that there is something to wait for on every database.
        Run.objects.filter(pk=run_ids[0]).update(status_message="at work")
        runs[1].transition_to(RunStatus.SUCCEEDED)
        deletion = concurrently.start_and_wait_for_its_lock(
            lambda: shape(run_ids).delete_finished()
        )
    deleted = deletion.result(TIMEOUT)
    assert deleted in (1, 2)
    assert Run.objects.count() == 2 - deleted


def test_concurrent_delete_finished_counts_each_run_once(alice, concurrently, signals, shape):
    run_ids = [make_run(alice).pk for _ in range(20)]
    counts = concurrently.all_at_once(*[lambda: shape(run_ids).delete_finished()] * 6)
    assert sum(counts) == 20
    assert_gone(*run_ids)
    signals.assert_sent_for(*run_ids)


def test_concurrent_delete_counts_each_run_once(alice, concurrently, signals, shape):
    run_ids = [make_run(alice).pk for _ in range(20)]
    counts = concurrently.all_at_once(*[lambda: shape(run_ids).delete()] * 6)
    assert sum(per_model.get("actor_runs.Run", 0) for _, per_model in counts) == 20
    assert_gone(*run_ids)
    signals.assert_sent_for(*run_ids)


# Transitions


def test_the_second_of_two_writers_gets_the_status_of_the_first(alice, concurrently):
    run = Run.objects.create(user=alice, status=RunStatus.RUNNING)
    second = another(run)
    with transaction.atomic():
        run.transition_to(RunStatus.SUCCEEDED, exit_code=0)
        step = concurrently.start_and_wait_for_its_lock(
            lambda: second.transition_to(RunStatus.ABORTING, status_message="mine")
        )
    refused = step.exception(TIMEOUT)
    assert isinstance(refused, InvalidTransition)
    assert (refused.run_id, refused.status) == (run.pk, "SUCCEEDED")
    assert (refused.known, refused.wanted) == ("RUNNING", "ABORTING")
    assert all(part in str(refused) for part in (run.pk, "SUCCEEDED", "ABORTING"))
    assert (second.status, second.status_message) == ("RUNNING", "")
    found = another(run)
    assert (found.status, found.exit_code, found.status_message) == ("SUCCEEDED", 0, "")


def test_a_transition_after_another_was_rolled_back_is_made(alice, concurrently):
    run = Run.objects.create(user=alice, status=RunStatus.RUNNING)
    with rolled_back():
        another(run).transition_to(RunStatus.SUCCEEDED)
        step = concurrently.start_and_wait_for_its_lock(
            lambda: run.transition_to(RunStatus.ABORTING)
        )
    step.result(TIMEOUT)
    assert run.status == another(run).status == "ABORTING"


def test_a_transition_that_waited_while_the_run_was_resurrected_and_finished_is_refused(
    alice, concurrently
):
    run = Run.objects.create(user=alice, status=RunStatus.FAILED)
    outdated = another(run)
    with transaction.atomic():
        run.transition_to(RunStatus.RUNNING)
        run.transition_to(RunStatus.FAILED)
        step = concurrently.start_and_wait_for_its_lock(
            lambda: outdated.transition_to(RunStatus.READY)
        )
    refused = step.exception(TIMEOUT)
    assert isinstance(refused, InvalidTransition)
    assert (refused.run_id, refused.status, refused.wanted) == (run.pk, "FAILED", "READY")
    assert another(run).stats["resurrectCount"] == 1


def test_a_transition_waits_for_a_deletion_and_does_not_bring_the_run_back(alice, concurrently):
    run = make_run(alice)
    outdated, run_id = another(run), run.pk
    with transaction.atomic():
        run.delete()
        step = concurrently.start_and_wait_for_its_lock(
            lambda: outdated.transition_to(RunStatus.READY)
        )
    refused = step.exception(TIMEOUT)
    assert isinstance(refused, InvalidTransition)
    assert (refused.run_id, refused.status, refused.wanted) == (run_id, None, "READY")
    assert_gone(run_id)


@pytest.mark.parametrize("wanted", [RunStatus.RUNNING, RunStatus.READY])
def test_a_finished_run_is_resurrected_by_one_of_many(alice, concurrently, wanted):
    for _ in range(ROUNDS):
        run = Run.objects.create(user=alice, status=RunStatus.TIMED_OUT, exit_code=1)
        rivals = [another(run) for _ in range(CLIENTS)]
        outcomes = concurrently.all_at_once(
            *[lambda rival=rival: rival.transition_to(wanted) for rival in rivals]
        )
        losers = [outcome for outcome in outcomes if outcome is not None]
        assert len(losers) == CLIENTS - 1
        for refused in losers:
            assert isinstance(refused, InvalidTransition)
            assert (refused.run_id, refused.status) == (run.pk, wanted)
            assert (refused.known, refused.wanted) == ("TIMED-OUT", wanted)
        found = another(run)
        assert (found.status, found.exit_code, found.finished_at) == (wanted, None, None)
        assert found.stats["resurrectCount"] == 1


def test_a_running_run_finishes_once(alice, concurrently):
    ends = ["SUCCEEDED", "FAILED", "TIMED-OUT", "ABORTED"]
    for _ in range(ROUNDS):
        run = Run.objects.create(user=alice, status=RunStatus.RUNNING)
        rivals = [(another(run), code, end) for code, end in enumerate(ends * 2)]
        outcomes = concurrently.all_at_once(
            *[
                lambda rival=rival, code=code, end=end: rival.transition_to(end, exit_code=code)
                for rival, code, end in rivals
            ]
        )
        (winner,) = (code for code, outcome in enumerate(outcomes) if outcome is None)
        found = another(run)
        assert (found.exit_code, found.status) == (winner, (ends * 2)[winner])
        for refused, (_, _, end) in zip(outcomes, rivals, strict=True):
            if refused is not None:
                assert isinstance(refused, InvalidTransition)
                assert (refused.run_id, refused.status) == (run.pk, found.status)
                assert refused.wanted == end


# Saving


def test_save_waits_for_a_transition_and_does_not_undo_it(alice, concurrently):
    run = Run.objects.create(user=alice, status=RunStatus.FAILED)
    outdated = another(run)
    outdated.status_message = "still failed"
    with transaction.atomic():
        run.transition_to(RunStatus.RUNNING)
        saving = concurrently.start_and_wait_for_its_lock(outdated.save)
    refused = saving.exception(TIMEOUT)
    assert isinstance(refused, InvalidTransition)
    assert (refused.run_id, refused.status) == (run.pk, "RUNNING")
    assert (another(run).status, another(run).status_message) == ("RUNNING", "")


def test_a_transition_waits_for_a_save_and_keeps_it(alice, concurrently):
    run = Run.objects.create(user=alice, status=RunStatus.RUNNING)
    other = another(run)
    with transaction.atomic():
        run.status_message = "nearly done"
        run.save()
        step = concurrently.start_and_wait_for_its_lock(
            lambda: other.transition_to(RunStatus.SUCCEEDED)
        )
    step.result(TIMEOUT)
    assert (another(run).status, another(run).status_message) == ("SUCCEEDED", "nearly done")


@pytest.mark.parametrize("fields", [None, ["status_message"]])
def test_save_waits_for_a_deletion_and_does_not_bring_the_run_back(alice, concurrently, fields):
    run = make_run(alice)
    outdated, run_id = another(run), run.pk
    with transaction.atomic():
        run.delete()
        saving = concurrently.start_and_wait_for_its_lock(
            lambda: outdated.save(update_fields=fields)
        )
    assert isinstance(saving.exception(TIMEOUT), DatabaseError)
    assert_gone(run_id)


# A host's rows


@pytest.mark.host
def test_rows_that_a_host_inserts_ahead_of_the_request_go_with_their_run(
    alice, delete_over_http, concurrently, signals
):
    run = make_run(alice)
    with transaction.atomic():
        run.notes.create()
        connection.check_constraints()  # PostgreSQL looks for the run at COMMIT otherwise
        answer = concurrently.start_and_wait_for_its_lock(lambda: delete_over_http(run.pk))
    assert answer.result(TIMEOUT) == DELETED
    assert_gone(run.pk)
    signals.assert_sent_for(run.pk)


@pytest.mark.host
@pytest.mark.parametrize("name", ["Invoice", "Archive"])
def test_rows_that_a_host_inserts_ahead_of_the_request_keep_their_run(
    alice, delete_over_http, concurrently, signals, name
):
    run = make_run(alice)
    with transaction.atomic():
        apps.get_model("host", name).objects.create(run=run)
        connection.check_constraints()
        answer = concurrently.start_and_wait_for_its_lock(lambda: delete_over_http(run.pk))
    message = f"Other records depend on this run (run ID: {run.pk})."
    assert answer.result(TIMEOUT) == (400, ("operation-not-allowed", message))
    assert_stays(run)
    signals.assert_sent_for()


@pytest.mark.host
@pytest.mark.parametrize("name", ["Note", "Invoice", "Archive", "Bookmark", "Ledger"])
def test_rows_that_a_host_inserts_after_the_request_came_find_no_run(
    alice, delete_over_http, concurrently, signals, name
):
    run = make_run(alice)
    run_id = run.pk
    deleting, go_on = threading.Event(), threading.Event()

    def pause(**kwargs: Any) -> None:
        deleting.set()
        assert go_on.wait(TIMEOUT)

    pre_delete.connect(pause, sender=Run)
    try:
        answer = concurrently.start(lambda: delete_over_http(run_id))
        assert deleting.wait(TIMEOUT)
        model = apps.get_model("host", name)
        insertion = concurrently.start_and_wait_for_its_lock(
            lambda: model.objects.create(run_id=run_id)
        )
    finally:
        go_on.set()
        pre_delete.disconnect(pause, sender=Run)
    assert answer.result(TIMEOUT) == DELETED
    assert isinstance(insertion.exception(TIMEOUT), IntegrityError)
    assert_gone(run_id)
    assert not model.objects.exists()
    signals.assert_sent_for(run_id)


@pytest.mark.host
def test_rows_inserted_in_a_stampede_are_gone_with_the_run_or_were_refused(
    alice, delete_over_http, concurrently, signals
):
    gone = []
    note = apps.get_model("host.Note").objects
    for _ in range(ROUNDS):
        run_id = make_run(alice).pk
        answer, *rows = concurrently.all_at_once(
            lambda run_id=run_id: delete_over_http(run_id),
            *[lambda run_id=run_id: note.create(run_id=run_id)] * CLIENTS,
        )
        assert answer == DELETED
        assert_gone(run_id)
        gone.append(run_id)
        # MariaDB says "deadlock" to some of them, where the rest find no run.
        assert all(isinstance(row, (note.model, DatabaseError)) for row in rows)
    signals.assert_sent_for(*gone)
