"""Races over HTTP between the processes of a server, and with other processes of the host.

Under ``tests.services.settings`` a run is deleted by one conditional statement; under
``tests.services.settings_host`` rows depend on it and receivers listen, so that Django reads
first and deletes after. RACE_ROUNDS in the environment is how often each race is run.
"""

from __future__ import annotations

import time
from collections import Counter
from functools import partial
from urllib.parse import urlencode

import pytest
from django.apps import apps
from django.db import connection, transaction
from django.test import Client
from django.urls import reverse

from actor_runs.models import Run, RunStatus
from tests.services import other_side
from tests.services.conftest import AT_ONCE, ROUNDS
from tests.services.servers import environment, gunicorn
from tests.support.people import make_user


def signals_of(run: Run) -> Counter[str]:
    """Which signals of the run were heard, in all processes together."""
    if not apps.is_installed("tests.services.witness"):
        # Nobody listens: as if each deletion were heard.
        gone = not Run.objects.filter(pk=run.pk).exists()
        return Counter(pre_delete=1, post_delete=1) if gone else Counter()
    heard = apps.get_model("witness", "Heard").objects.filter(run_id=run.pk)
    return Counter(heard.values_list("signal", flat=True))


def assert_deleted_once(run: Run) -> None:
    assert not Run.objects.filter(pk=run.pk).exists()
    assert signals_of(run) == {"pre_delete": 1, "post_delete": 1}


def assert_kept(run: Run, status: RunStatus) -> None:
    assert Run.objects.get(pk=run.pk).status == status
    assert signals_of(run) == {}


def stagger(number: int) -> float:
    """By how many seconds the other side comes later in this round, up to 18 milliseconds."""
    return number % 10 * 0.002


def test_of_many_deletes_of_one_run_one_is_answered_204(server, token, finished, race, account):
    for _ in range(ROUNDS):
        run = finished()
        answers = race(*[partial(server.delete, run, token)] * AT_ONCE)
        statuses = Counter(answer.status for answer in answers)
        assert statuses == {204: 1, 404: AT_ONCE - 1}, answers
        assert_deleted_once(run)
        account.update(runs=1, requests=AT_ONCE)


@pytest.mark.parametrize("status", [RunStatus.READY, RunStatus.RUNNING])
def test_a_run_is_deleted_or_resurrected_and_never_both(
    status, server, token, finished, race, other_processes, account
):
    for number in range(ROUNDS):
        run = finished()
        answer, other, moved = race(
            partial(server.delete, run, token),
            partial(server.delete, run, token),
            other_processes.submit(other_side.move, run, status, stagger(number)).result,
        )
        statuses = sorted([answer.status, other.status])
        if moved == "moved":
            assert statuses == [400, 400]
            assert answer.error == other.error == "cannot-remove-running-run"
            assert_kept(run, status)
        else:
            assert (moved, statuses) == ("gone", [204, 404])
            assert_deleted_once(run)
        account.update({"runs": 1, "requests": 2, "resurrected" if moved == "moved" else moved: 1})


def test_a_run_that_finishes_meanwhile_is_deleted_whole_or_kept_whole(
    server, token, finished, race, other_processes, account
):
    for number in range(ROUNDS):
        run = finished()
        run.transition_to(RunStatus.RUNNING)
        answer, moved = race(
            partial(server.delete, run, token),
            other_processes.submit(other_side.move, run, RunStatus.FAILED, stagger(number)).result,
        )
        assert moved == "moved"  # nobody deletes a run ahead of its end
        if answer.status == 204:
            assert_deleted_once(run)
        else:
            assert answer.error == "cannot-remove-running-run"
            assert_kept(run, RunStatus.FAILED)
        account.update({"runs": 1, "requests": 1, str(answer.status): 1})


def test_of_processes_that_resurrect_or_finish_one_run_one_does(
    finished, race, other_processes, account
):
    for _ in range(ROUNDS):
        run = finished()
        for status in (RunStatus.RUNNING, RunStatus.ABORTED):
            moves = [other_processes.submit(other_side.move, run, status) for _ in range(4)]
            assert sorted(move.result() for move in moves) == ["moved"] + ["outdated"] * 3
            run.refresh_from_db()
            assert run.status == status
        assert run.stats["resurrectCount"] == 1
        account.update(runs=1, moves=8)


def test_an_outdated_object_brings_no_deleted_run_back(
    server, token, finished, race, other_processes, account
):
    for number in range(ROUNDS):
        run = finished()
        answer, saved = race(
            partial(server.delete, run, token),
            other_processes.submit(other_side.save, run, stagger(number)).result,
        )
        assert answer.status == 204
        assert saved in ("saved", "gone")
        assert_deleted_once(run)
        account.update({"runs": 1, saved: 1})


def test_a_run_is_deleted_once_by_requests_objects_and_querysets_together(
    server, token, finished, race, other_processes, account
):
    for _ in range(ROUNDS):
        run = finished()
        answer, by_object, by_queryset = race(
            partial(server.delete, run, token),
            other_processes.submit(other_side.delete, run).result,
            other_processes.submit(other_side.delete_finished, [run.pk]).result,
        )
        winners = [answer.status == 204, by_object == "deleted", by_queryset == 1]
        assert winners.count(True) == 1, (answer, by_object, by_queryset)
        assert answer.status in (204, 404)
        assert_deleted_once(run)
        account.update({"runs": 1, ("request", "object", "queryset")[winners.index(True)]: 1})


def test_a_run_is_deleted_once_by_requests_prunes_and_the_admin_together(
    token, finished, race, other_processes, account
):
    staff = Client()
    staff.force_login(make_user("staff", is_staff=True, is_superuser=True))
    secret = "s" * 32
    cookies = f"sessionid={staff.cookies['sessionid'].value}; csrftoken={secret}"
    headers = {"Cookie": cookies, "Content-Type": "application/x-www-form-urlencoded"}
    form = {"action": "delete_selected", "csrfmiddlewaretoken": secret}
    log = apps.get_model("admin", "LogEntry")
    # Its own server: the others remember content types from before this test's database.
    with gunicorn(env=environment()) as server:

        def bulk_action(run: Run) -> int:
            body = {**form, "_selected_action": run.pk, "until": int(time.time() * 1000)}
            url = reverse("admin:actor_runs_run_changelist")
            return server.request("POST", url, body=urlencode(body), headers=headers).status

        for _ in range(ROUNDS // 2):
            run = finished()
            answer, pruned, other, by_admin = race(
                partial(server.delete, run, token),
                other_processes.submit(other_side.prune).result,
                other_processes.submit(other_side.prune).result,
                partial(bulk_action, run),
            )
            assert by_admin == 302
            winners = {
                "request": answer.status == 204,
                "prune": pruned == 1,
                "other prune": other == 1,
                "admin": log.objects.filter(object_id=run.pk).count() == 1,
            }
            assert list(winners.values()).count(True) == 1, winners
            assert answer.status in (204, 404)
            assert_deleted_once(run)
            account.update(["runs", *(name for name, won in winners.items() if won)])


def test_prunes_and_resurrections_leave_nothing_unfinished_deleted(
    finished, other_processes, account
):
    for number in range(ROUNDS // 10):
        runs = [finished() for _ in range(8)]
        early = number % len(runs)  # so that either side wins some
        moves = [
            other_processes.submit(other_side.move, run, RunStatus.READY) for run in runs[:early]
        ]
        prunes = [other_processes.submit(other_side.prune) for _ in range(2)]
        moves += [
            other_processes.submit(other_side.move, run, RunStatus.READY) for run in runs[early:]
        ]
        pruned = sum(prune.result() for prune in prunes)
        moved = [run for run, move in zip(runs, moves, strict=True) if move.result() == "moved"]
        assert pruned == len(runs) - len(moved)
        for run in runs:
            if run in moved:
                assert_kept(run, RunStatus.READY)
            else:
                assert_deleted_once(run)
        account.update({"runs": len(runs), "pruned": pruned, "resurrected": len(moved)})


def test_querysets_that_overlap_delete_each_run_once(finished, other_processes, account):
    for _ in range(ROUNDS // 10):
        runs = [finished() for _ in range(12)]
        ids = [run.pk for run in runs]
        parts = [ids[:8], ids[4:], ids[::-1], ids[2:10]]
        counts = [other_processes.submit(other_side.delete_finished, part) for part in parts]
        assert sum(count.result() for count in counts) == len(runs)
        for run in runs:
            assert_deleted_once(run)
        account.update(runs=len(runs))


@pytest.mark.host
def test_rows_that_a_host_inserts_meanwhile_go_with_the_run_or_are_refused(
    server, token, finished, race, other_processes, account
):
    note = apps.get_model("host", "Note")
    for _ in range(ROUNDS):
        run = finished()
        note.objects.create(run=run)
        answer, *added = race(
            partial(server.delete, run, token),
            *[other_processes.submit(other_side.add_note, run).result for _ in range(3)],
        )
        if answer.status == 503:
            # MariaDB ends one side of a deadlock, and an insertion meets a deletion in one.
            account.update(["deletions to be tried again"])
            answer = server.delete(run, token)
        assert answer.status == 204, answer
        assert set(added) <= {"added", "refused", "deadlock"}
        assert_deleted_once(run)
        assert not note.objects.exists()
        account.update(["runs", "requests", *(f"rows {how}" for how in added)])


def test_a_delete_that_waited_for_a_resurrection_finds_the_run_unfinished(hold, finished):
    run = finished()
    with transaction.atomic():
        run.transition_to(RunStatus.RUNNING)
        answer = hold.delete_arrives(run)
    assert answer.result().error == "cannot-remove-running-run"
    assert_kept(run, RunStatus.RUNNING)


def test_a_delete_that_waited_for_a_resurrection_taken_back_deletes(hold, finished):
    run = finished()
    with transaction.atomic():
        run.transition_to(RunStatus.RUNNING)
        answer = hold.delete_arrives(run)
        transaction.set_rollback(True)
    assert answer.result().status == 204
    assert_deleted_once(run)


def test_a_delete_that_waited_for_another_deletion_finds_nothing(hold, finished):
    run = finished()
    with transaction.atomic():
        Run.objects.get(pk=run.pk).delete()
        answer = hold.delete_arrives(run)
    assert answer.result().error == "record-not-found"
    assert_deleted_once(run)


def test_a_delete_that_waited_for_another_deletion_taken_back_deletes(hold, finished):
    run = finished()
    with transaction.atomic():
        Run.objects.get(pk=run.pk).delete()
        answer = hold.delete_arrives(run)
        transaction.set_rollback(True)
    assert answer.result().status == 204
    assert_deleted_once(run)


def test_a_delete_that_waited_for_a_new_owner_leaves_the_run_to_them(hold, finished, bob):
    run = finished()
    with transaction.atomic():
        Run.objects.filter(pk=run.pk).update(user=bob)
        answer = hold.delete_arrives(run)
    assert answer.result().error == "permission-denied"
    assert_kept(run, RunStatus.SUCCEEDED)


@pytest.mark.host
def test_a_row_that_was_inserted_and_not_committed_yet_goes_with_the_run(hold, finished):
    note = apps.get_model("host", "Note")
    run = finished()
    with transaction.atomic():
        note.objects.create(run=run)
        connection.check_constraints()  # PostgreSQL would first look at the COMMIT
        answer = hold.delete_arrives(run)
    assert answer.result().status == 204
    assert_deleted_once(run)
    assert not note.objects.exists()


@pytest.mark.host
def test_a_row_that_protects_and_was_not_committed_yet_keeps_the_run(hold, finished):
    run = finished()
    with transaction.atomic():
        apps.get_model("host", "Invoice").objects.create(run=run)
        connection.check_constraints()
        answer = hold.delete_arrives(run)
    assert answer.result().error == "operation-not-allowed"
    assert_kept(run, RunStatus.SUCCEEDED)
