"""One run is deleted once, and never while it is unfinished, whoever else is at work on it.

Nothing here assumes SQLite, but for how a test learns that somebody waits for a lock. The other
side's transaction is held open while a request, or a host's code, arrives: so what happens does
not depend on luck. The stampedes do, and are there for what nobody thought of.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.apps import apps
from django.db import DatabaseError, IntegrityError, connection, connections, transaction
from django.db.backends.signals import connection_created
from django.db.models.signals import post_delete, pre_delete

from actor_runs.exceptions import InvalidTransition, RunNotFinished
from actor_runs.models import Run, RunStatus
from tests.conftest import join, token_of

pytestmark = pytest.mark.django_db(transaction=True)

PATIENCE = 30  # seconds, for what never comes
CROWD = 10  # below the rate limit of one run
ROUNDS = 5

# Sessions of this database that wait for somebody's lock. SQLite does not tell. MariaDB does, but
# not to whoever asks again within a tenth of a second: there, statements that do not end.
WAITING = {
    "postgresql": """
        SELECT COUNT(*) FROM pg_stat_activity, pg_stat_clear_snapshot()
        WHERE datname = current_database() AND wait_event_type = 'Lock'
    """,
    "mysql": """
        SELECT COUNT(*) FROM information_schema.processlist
        WHERE db = DATABASE() AND id <> CONNECTION_ID() AND command = 'Query' AND time_ms > 100
    """,
}


class Others:
    """What goes on in other threads, each with a database connection of its own."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self.pool = pool
        self.about_to_write = threading.Event()
        self._here = threading.get_ident()

    def watch(self, connection: Any, **kwargs: Any) -> None:
        if threading.get_ident() != self._here:
            connection.execute_wrappers.append(self._announce)

    def _announce(self, execute: Any, sql: str, *args: Any) -> Any:
        if not sql.lstrip().startswith("SELECT") or "FOR UPDATE" in sql:
            self.about_to_write.set()
        return execute(sql, *args)

    def start(self, call: Callable[[], Any]) -> Future[Any]:
        def with_a_connection_of_its_own() -> Any:
            try:
                return call()
            finally:
                connections.close_all()

        return self.pool.submit(with_a_connection_of_its_own)

    def start_and_wait_for_its_lock(self, call: Callable[[], Any]) -> Future[Any]:
        """Start ``call``; return once it waits for what this thread's transaction holds."""
        self.about_to_write.clear()
        future = self.start(call)
        assert self.about_to_write.wait(PATIENCE)
        self.wait_until_blocked(future)
        return future

    def wait_until_blocked(self, future: Future[Any]) -> None:
        """Wait until the database says that somebody waits for a lock, or ``future`` is done."""
        if connection.vendor not in WAITING:
            return
        deadline = time.monotonic() + PATIENCE
        with connection.cursor() as cursor:
            while not future.done():
                cursor.execute(WAITING[connection.vendor])
                if cursor.fetchone()[0]:
                    return
                assert time.monotonic() < deadline
                time.sleep(0.01)  # the databases offer nothing to wait for

    def all_at_once(self, *calls: Callable[[], Any]) -> list[Any]:
        """Return what each call returned or raised."""
        barrier = threading.Barrier(len(calls))

        def at_the_same_time(call: Callable[[], Any]) -> Any:
            barrier.wait(PATIENCE)
            try:
                return call()
            except Exception as exc:
                return exc

        futures = [self.start(lambda call=call: at_the_same_time(call)) for call in calls]
        return [future.result(PATIENCE) for future in futures]


@pytest.fixture
def others() -> Iterator[Others]:
    with ThreadPoolExecutor(max_workers=32) as pool:
        others = Others(pool)
        connection_created.connect(others.watch)
        yield others
        connection_created.disconnect(others.watch)


class Listener:
    """Counts which signal fired for which run, in whatever thread."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []

    def before(self, instance: Run, **kwargs: Any) -> None:
        assert instance.is_finished
        self.heard.append(("pre_delete", instance.pk))

    def after(self, instance: Run, **kwargs: Any) -> None:
        self.heard.append(("post_delete", instance.pk))


@pytest.fixture(params=[False, True], ids=["nobody listens", "receivers listen"])
def heard(request: Any) -> Iterator[Callable[..., None]]:
    """A test runs twice: where Django could delete by one statement, and where it collects.

    The fixture is what the test asserts: that signals fired once for the given runs alone.
    """
    listener = Listener()

    def assert_heard_once_of(*run_ids: str) -> None:
        expected = [(name, pk) for name in ("pre_delete", "post_delete") for pk in run_ids]
        assert sorted(listener.heard) == sorted(expected if request.param else [])

    if request.param:
        pre_delete.connect(listener.before, sender=Run)
        post_delete.connect(listener.after, sender=Run)
    yield assert_heard_once_of
    pre_delete.disconnect(listener.before, sender=Run)
    post_delete.disconnect(listener.after, sender=Run)


def make_run(owner: Any, status: str = RunStatus.SUCCEEDED, **fields: Any) -> Run:
    """Make a run; where a host has rows that go with runs, with such rows."""
    run = Run.objects.create(user=owner, status=status, **fields)
    if apps.is_installed("tests.host"):
        for _ in range(2):
            run.notes.create()
    return run


def same(run: Run) -> Run:
    """Another object for the same run, as it is now."""
    return Run.objects.get(pk=run.pk)


def assert_stays(*runs: Run) -> None:
    for run in runs:
        assert same(run).pk == run.pk
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
        client = http.client.HTTPConnection(urlsplit(live_server.url).netloc, timeout=PATIENCE)
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


@contextmanager
def rolled_back() -> Iterator[None]:
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


# DELETE over HTTP


def test_of_many_concurrent_requests_one_deletes_the_run(alice, delete_over_http, others, heard):
    run_ids = []
    for _ in range(ROUNDS):
        run_id = make_run(alice).pk
        run_ids.append(run_id)
        answers = others.all_at_once(*[lambda run_id=run_id: delete_over_http(run_id)] * CROWD)
        assert Counter(answers) == {DELETED: 1, NOT_FOUND: CROWD - 1}
        assert_gone(run_id)
    heard(*run_ids)


def test_a_run_that_is_resurrected_while_the_request_waits_stays(
    alice, delete_over_http, others, heard
):
    run = make_run(alice)
    with transaction.atomic():
        run.transition_to(RunStatus.RUNNING)
        answer = others.start_and_wait_for_its_lock(lambda: delete_over_http(run.pk))
    assert answer.result(PATIENCE) == not_finished(run.pk, "RUNNING")
    assert_stays(run)
    heard()


def test_a_run_whose_resurrection_comes_to_nothing_is_deleted(
    alice, delete_over_http, others, heard
):
    run = make_run(alice)
    with rolled_back():
        same(run).transition_to(RunStatus.RUNNING)
        answer = others.start_and_wait_for_its_lock(lambda: delete_over_http(run.pk))
    assert answer.result(PATIENCE) == DELETED
    assert_gone(run.pk)
    heard(run.pk)


def test_a_run_that_is_resurrected_and_finished_meanwhile_is_deleted(
    alice, delete_over_http, others, heard
):
    run = make_run(alice)
    with transaction.atomic():
        run.transition_to(RunStatus.RUNNING)
        run.transition_to(RunStatus.ABORTED)
        answer = others.start_and_wait_for_its_lock(lambda: delete_over_http(run.pk))
    assert answer.result(PATIENCE) == DELETED
    assert_gone(run.pk)
    heard(run.pk)


def test_a_run_that_is_deleted_while_the_request_waits_is_not_found(
    alice, delete_over_http, others, heard
):
    run = make_run(alice)
    run_id = run.pk
    with transaction.atomic():
        run.delete()
        answer = others.start_and_wait_for_its_lock(lambda: delete_over_http(run_id))
    assert answer.result(PATIENCE) == NOT_FOUND
    assert_gone(run_id)
    heard(run_id)


def test_a_run_that_changes_hands_while_the_request_waits_is_its_new_owners(
    alice, bob, delete_over_http, others, heard
):
    run = make_run(alice)
    with transaction.atomic():
        run.user = bob
        run.save()
        answer = others.start_and_wait_for_its_lock(lambda: delete_over_http(run.pk))
    assert answer.result(PATIENCE) == FORBIDDEN
    assert_stays(run)
    heard()


def test_a_run_that_is_about_to_finish_is_not_finished(alice, delete_over_http, others, heard):
    run = make_run(alice, RunStatus.RUNNING)
    with transaction.atomic():
        run.transition_to(RunStatus.SUCCEEDED)
        answer = others.start(lambda: delete_over_http(run.pk))
        assert answer.result(PATIENCE) == not_finished(run.pk, "RUNNING")
    assert_stays(run)
    heard()


def test_requests_and_resurrections_at_once_lose_no_unfinished_run(
    alice, delete_over_http, others, heard
):
    gone = []
    for _ in range(ROUNDS * 2):
        run = make_run(alice)
        objects = [same(run) for _ in range(3)]
        answer, *steps = others.all_at_once(
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
    heard(*gone)


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


def test_an_object_is_not_deleted_once_it_is_resurrected(alice, others, heard):
    run = make_run(alice)
    outdated = same(run)
    with transaction.atomic():
        run.transition_to(RunStatus.RUNNING)
        deletion = others.start_and_wait_for_its_lock(outdated.delete)
    refused = deletion.exception(PATIENCE)
    assert isinstance(refused, RunNotFinished)
    assert (refused.run_id, refused.status) == (run.pk, "RUNNING")
    assert_stays(run)
    heard()


def test_an_object_that_somebody_else_deletes_counts_as_nothing_deleted(alice, others, heard):
    run = make_run(alice)
    outdated, run_id = same(run), run.pk
    with transaction.atomic():
        run.delete()
        deletion = others.start_and_wait_for_its_lock(outdated.delete)
    assert deletion.result(PATIENCE) == (0, {})
    assert_gone(run_id)
    heard(run_id)


def test_delete_takes_nothing_when_one_run_is_resurrected(alice, others, heard, shape):
    runs = [make_run(alice) for _ in range(3)]
    run_ids = [run.pk for run in runs]
    with transaction.atomic():
        runs[1].transition_to(RunStatus.RUNNING)
        deletion = others.start_and_wait_for_its_lock(lambda: shape(run_ids).delete())
    refused = deletion.exception(PATIENCE)
    if refused is None:
        # A queryset of finished runs no longer has it.
        assert deletion.result()[1]["actor_runs.Run"] == 2
        assert_stays(runs[1])
        assert_gone(run_ids[0], run_ids[2])
        heard(run_ids[0], run_ids[2])
    else:
        assert isinstance(refused, RunNotFinished)
        assert (refused.run_id, refused.status) == (run_ids[1], "RUNNING")
        assert_stays(*runs)
        heard()


def test_delete_finished_leaves_a_run_that_is_resurrected(alice, others, heard, shape):
    runs = [make_run(alice) for _ in range(3)]
    run_ids = [run.pk for run in runs]
    with transaction.atomic():
        runs[1].transition_to(RunStatus.RUNNING)
        deletion = others.start_and_wait_for_its_lock(lambda: shape(run_ids).delete_finished())
    assert deletion.result(PATIENCE) == 2
    assert_stays(runs[1])
    assert_gone(run_ids[0], run_ids[2])
    heard(run_ids[0], run_ids[2])


@pytest.mark.parametrize("delete", ["delete", "delete_finished"])
def test_what_somebody_else_deletes_is_not_counted_twice(alice, others, heard, shape, delete):
    runs = [make_run(alice) for _ in range(3)]
    run_ids = [run.pk for run in runs]
    with transaction.atomic():
        runs[1].delete()
        deletion = others.start_and_wait_for_its_lock(lambda: getattr(shape(run_ids), delete)())
    deleted = deletion.result(PATIENCE)
    assert (deleted if delete == "delete_finished" else deleted[1]["actor_runs.Run"]) == 2
    assert_gone(*run_ids)
    heard(*run_ids)


@pytest.mark.parametrize("delete", ["delete", "delete_finished"])
def test_a_run_that_goes_to_another_owner_is_not_the_former_ones_to_delete(
    alice, bob, others, heard, delete
):
    run = make_run(alice)
    by_name = Run.objects.filter(user__username="alice")
    with transaction.atomic():
        Run.objects.filter(pk=run.pk).update(user=bob)
        deletion = others.start_and_wait_for_its_lock(lambda: getattr(by_name.all(), delete)())
    deleted = deletion.result(PATIENCE)
    assert (deleted if delete == "delete_finished" else deleted[0]) == 0
    assert Run.objects.get(pk=run.pk).user == bob
    heard()


def test_a_run_that_goes_to_an_organization_of_the_callers_is_deleted_there(
    api, alice, acme, others
):
    join(alice, acme)
    run = make_run(alice)
    token = token_of(alice)
    with transaction.atomic():
        Run.objects.filter(pk=run.pk).update(user=None, organization=acme)
        answer = others.start_and_wait_for_its_lock(
            lambda: api.delete(f"/{run.pk}", token=token).status_code
        )
    assert answer.result(PATIENCE) == 204
    assert_gone(run.pk)


def test_a_run_that_finishes_meanwhile_is_taken_or_left_but_counted_right(alice, others, shape):
    runs = [make_run(alice), make_run(alice, RunStatus.RUNNING)]
    run_ids = [run.pk for run in runs]
    with transaction.atomic():
        # Held as well, so that there is something to wait for on every database.
        Run.objects.filter(pk=run_ids[0]).update(status_message="at work")
        runs[1].transition_to(RunStatus.SUCCEEDED)
        deletion = others.start_and_wait_for_its_lock(lambda: shape(run_ids).delete_finished())
    deleted = deletion.result(PATIENCE)
    assert deleted in (1, 2)
    assert Run.objects.count() == 2 - deleted


def test_many_at_once_delete_each_run_once(alice, others, heard, shape):
    run_ids = [make_run(alice).pk for _ in range(20)]
    counts = others.all_at_once(*[lambda: shape(run_ids).delete_finished()] * 6)
    assert sum(counts) == 20
    assert_gone(*run_ids)
    heard(*run_ids)


def test_many_at_once_delete_all_or_nothing(alice, others, heard, shape):
    run_ids = [make_run(alice).pk for _ in range(20)]
    counts = others.all_at_once(*[lambda: shape(run_ids).delete()] * 6)
    assert sum(per_model.get("actor_runs.Run", 0) for _, per_model in counts) == 20
    assert_gone(*run_ids)
    heard(*run_ids)


# Transitions


def test_of_two_writers_the_second_is_told_who_won(alice, others):
    run = Run.objects.create(user=alice, status=RunStatus.RUNNING)
    second = same(run)
    with transaction.atomic():
        run.transition_to(RunStatus.SUCCEEDED, exit_code=0)
        step = others.start_and_wait_for_its_lock(
            lambda: second.transition_to(RunStatus.ABORTING, status_message="mine")
        )
    refused = step.exception(PATIENCE)
    assert isinstance(refused, InvalidTransition)
    assert (refused.run_id, refused.status) == (run.pk, "SUCCEEDED")
    assert (refused.known, refused.wanted) == ("RUNNING", "ABORTING")
    assert all(part in str(refused) for part in (run.pk, "SUCCEEDED", "ABORTING"))
    assert (second.status, second.status_message) == ("RUNNING", "")
    found = same(run)
    assert (found.status, found.exit_code, found.status_message) == ("SUCCEEDED", 0, "")


def test_a_writer_whose_rival_gives_up_wins(alice, others):
    run = Run.objects.create(user=alice, status=RunStatus.RUNNING)
    with rolled_back():
        same(run).transition_to(RunStatus.SUCCEEDED)
        step = others.start_and_wait_for_its_lock(lambda: run.transition_to(RunStatus.ABORTING))
    step.result(PATIENCE)
    assert run.status == same(run).status == "ABORTING"


def test_a_writer_that_waits_out_a_whole_life_of_the_run_is_outdated(alice, others):
    run = Run.objects.create(user=alice, status=RunStatus.FAILED)
    outdated = same(run)
    with transaction.atomic():
        run.transition_to(RunStatus.RUNNING)
        run.transition_to(RunStatus.FAILED)
        step = others.start_and_wait_for_its_lock(lambda: outdated.transition_to(RunStatus.READY))
    refused = step.exception(PATIENCE)
    assert isinstance(refused, InvalidTransition)
    assert (refused.run_id, refused.status, refused.wanted) == (run.pk, "FAILED", "READY")
    assert same(run).stats["resurrectCount"] == 1


def test_a_step_waits_for_a_deletion_and_does_not_bring_the_run_back(alice, others):
    run = make_run(alice)
    outdated, run_id = same(run), run.pk
    with transaction.atomic():
        run.delete()
        step = others.start_and_wait_for_its_lock(lambda: outdated.transition_to(RunStatus.READY))
    refused = step.exception(PATIENCE)
    assert isinstance(refused, InvalidTransition)
    assert (refused.run_id, refused.status, refused.wanted) == (run_id, None, "READY")
    assert_gone(run_id)


@pytest.mark.parametrize("wanted", [RunStatus.RUNNING, RunStatus.READY])
def test_a_finished_run_is_resurrected_by_one_of_many(alice, others, wanted):
    for _ in range(ROUNDS):
        run = Run.objects.create(user=alice, status=RunStatus.TIMED_OUT, exit_code=1)
        rivals = [same(run) for _ in range(CROWD)]
        outcomes = others.all_at_once(
            *[lambda rival=rival: rival.transition_to(wanted) for rival in rivals]
        )
        losers = [outcome for outcome in outcomes if outcome is not None]
        assert len(losers) == CROWD - 1
        for refused in losers:
            assert isinstance(refused, InvalidTransition)
            assert (refused.run_id, refused.status) == (run.pk, wanted)
            assert (refused.known, refused.wanted) == ("TIMED-OUT", wanted)
        found = same(run)
        assert (found.status, found.exit_code, found.finished_at) == (wanted, None, None)
        assert found.stats["resurrectCount"] == 1


def test_a_running_run_finishes_once(alice, others):
    ends = ["SUCCEEDED", "FAILED", "TIMED-OUT", "ABORTED"]
    for _ in range(ROUNDS):
        run = Run.objects.create(user=alice, status=RunStatus.RUNNING)
        rivals = [(same(run), code, end) for code, end in enumerate(ends * 2)]
        outcomes = others.all_at_once(
            *[
                lambda rival=rival, code=code, end=end: rival.transition_to(end, exit_code=code)
                for rival, code, end in rivals
            ]
        )
        (winner,) = (code for code, outcome in enumerate(outcomes) if outcome is None)
        found = same(run)
        assert (found.exit_code, found.status) == (winner, (ends * 2)[winner])
        for refused, (_, _, end) in zip(outcomes, rivals, strict=True):
            if refused is not None:
                assert isinstance(refused, InvalidTransition)
                assert (refused.run_id, refused.status) == (run.pk, found.status)
                assert refused.wanted == end


# Saving


def test_save_waits_for_a_step_and_does_not_turn_it_back(alice, others):
    run = Run.objects.create(user=alice, status=RunStatus.FAILED)
    outdated = same(run)
    outdated.status_message = "still failed"
    with transaction.atomic():
        run.transition_to(RunStatus.RUNNING)
        saving = others.start_and_wait_for_its_lock(outdated.save)
    refused = saving.exception(PATIENCE)
    assert isinstance(refused, InvalidTransition)
    assert (refused.run_id, refused.status) == (run.pk, "RUNNING")
    assert (same(run).status, same(run).status_message) == ("RUNNING", "")


def test_a_step_waits_for_a_save_and_keeps_it(alice, others):
    run = Run.objects.create(user=alice, status=RunStatus.RUNNING)
    other = same(run)
    with transaction.atomic():
        run.status_message = "nearly done"
        run.save()
        step = others.start_and_wait_for_its_lock(lambda: other.transition_to(RunStatus.SUCCEEDED))
    step.result(PATIENCE)
    assert (same(run).status, same(run).status_message) == ("SUCCEEDED", "nearly done")


@pytest.mark.parametrize("fields", [None, ["status_message"]])
def test_save_waits_for_a_deletion_and_does_not_bring_the_run_back(alice, others, fields):
    run = make_run(alice)
    outdated, run_id = same(run), run.pk
    with transaction.atomic():
        run.delete()
        saving = others.start_and_wait_for_its_lock(lambda: outdated.save(update_fields=fields))
    assert isinstance(saving.exception(PATIENCE), DatabaseError)
    assert_gone(run_id)


# A host's rows


@pytest.mark.host
def test_rows_that_a_host_inserts_ahead_of_the_request_go_with_their_run(
    alice, delete_over_http, others, heard
):
    run = make_run(alice)
    with transaction.atomic():
        run.notes.create()
        connection.check_constraints()  # PostgreSQL looks for the run at COMMIT otherwise
        answer = others.start_and_wait_for_its_lock(lambda: delete_over_http(run.pk))
    assert answer.result(PATIENCE) == DELETED
    assert_gone(run.pk)
    heard(run.pk)


@pytest.mark.host
@pytest.mark.parametrize("name", ["Invoice", "Archive"])
def test_rows_that_a_host_inserts_ahead_of_the_request_keep_their_run(
    alice, delete_over_http, others, heard, name
):
    run = make_run(alice)
    with transaction.atomic():
        apps.get_model("host", name).objects.create(run=run)
        connection.check_constraints()
        answer = others.start_and_wait_for_its_lock(lambda: delete_over_http(run.pk))
    message = f"Other records depend on this run (run ID: {run.pk})."
    assert answer.result(PATIENCE) == (400, ("operation-not-allowed", message))
    assert_stays(run)
    heard()


@pytest.mark.host
@pytest.mark.parametrize("name", ["Note", "Invoice", "Archive", "Bookmark", "Ledger"])
def test_rows_that_a_host_inserts_after_the_request_came_find_no_run(
    alice, delete_over_http, others, heard, name
):
    run = make_run(alice)
    run_id = run.pk
    deleting, go_on = threading.Event(), threading.Event()

    def pause(**kwargs: Any) -> None:
        deleting.set()
        assert go_on.wait(PATIENCE)

    pre_delete.connect(pause, sender=Run)
    try:
        answer = others.start(lambda: delete_over_http(run_id))
        assert deleting.wait(PATIENCE)
        model = apps.get_model("host", name)
        insertion = others.start_and_wait_for_its_lock(lambda: model.objects.create(run_id=run_id))
    finally:
        go_on.set()
        pre_delete.disconnect(pause, sender=Run)
    assert answer.result(PATIENCE) == DELETED
    assert isinstance(insertion.exception(PATIENCE), IntegrityError)
    assert_gone(run_id)
    assert not model.objects.exists()
    heard(run_id)


@pytest.mark.host
def test_rows_inserted_in_a_stampede_are_gone_with_the_run_or_were_refused(
    alice, delete_over_http, others, heard
):
    gone = []
    note = apps.get_model("host.Note").objects
    for _ in range(ROUNDS):
        run_id = make_run(alice).pk
        answer, *rows = others.all_at_once(
            lambda run_id=run_id: delete_over_http(run_id),
            *[lambda run_id=run_id: note.create(run_id=run_id)] * CROWD,
        )
        assert answer == DELETED
        assert_gone(run_id)
        gone.append(run_id)
        # MariaDB says "deadlock" to some of them, where the others find no run.
        assert all(isinstance(row, (note.model, DatabaseError)) for row in rows)
    heard(*gone)
