"""Recording: how the run of a function ends, and how the runs of lost workers end."""

from __future__ import annotations

import asyncio
import datetime
import functools
import re
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import (
    DatabaseError,
    IntegrityError,
    OperationalError,
    connection,
    connections,
    transaction,
)
from django.db.models.signals import pre_save
from django.utils import timezone

from actor_runs import batches
from actor_runs.exceptions import InvalidTransition, RunAlreadyStarted
from actor_runs.models import Run, RunStatus
from actor_runs.recording import LOST, recorded, time_out
from actor_runs.signals import run_status_changed
from tests.support.people import join
from tests.support.signals import conflicts

HOUR = datetime.timedelta(hours=1)
DAY = 24 * HOUR


@pytest.fixture
def ready(alice) -> Run:
    return Run.objects.create(user=alice)


def end(run: Run) -> tuple[str, int | None, str]:
    stored = Run.objects.get(pk=run.pk)
    assert (run.status, run.finished_at) == (stored.status, stored.finished_at)
    return stored.status, stored.exit_code, stored.status_message


def by_another(run: Run, *statuses: str) -> None:
    for status in statuses:
        Run.objects.get(pk=run.pk).transition_to(status)


def run_in_a_loop(work: Coroutine[Any, Any, None]) -> None:
    """Run as a program does, where sync_to_async() has a thread, and close its connection."""
    asyncio.run(work)
    asyncio.run(sync_to_async(connections.close_all)())


# How the work ends


def test_a_run_is_running_during_the_work_and_succeeded_after_it(ready):
    with recorded(ready) as run:
        assert run is ready
        assert Run.objects.get(pk=run.pk).status == "RUNNING"
    assert end(ready) == ("SUCCEEDED", 0, "")


class TimeLimit(Exception):
    """As Celery's soft time limit, which a signal raises anywhere."""


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, TimeLimit])
def test_an_interruption_of_the_start_or_of_the_end_leaves_no_run_running(alice, kind):
    ends: list[str] = []
    left = 0
    while left <= 0:  # once for each statement
        run = Run.objects.create(user=alice)
        left = len(ends) + 1

        def interrupt(execute: Any, sql: str, *args: Any) -> Any:
            nonlocal left
            left -= not sql.startswith("BEGIN")
            if left or sql.startswith("BEGIN"):
                return execute(sql, *args)
            if sql.startswith("UPDATE"):
                execute(sql, *args)  # a signal is handled after it, when it is too late
            raise kind

        with suppress(kind), connection.execute_wrapper(interrupt), recorded(run):
            pass
        ends.append(end(run)[0])
    assert set(ends) == {"READY", "SUCCEEDED"}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("at", "ended"), [("RUNNING", "ABORTED"), ("SUCCEEDED", "SUCCEEDED")])
def test_a_receiver_that_exits_leaves_no_run_running(ready, at, ended):
    def leave(new_status: str, **kwargs: Any) -> None:
        if new_status == at:
            raise SystemExit

    run_status_changed.connect(leave)
    try:
        with pytest.raises(SystemExit), recorded(ready):
            assert at != "RUNNING"
    finally:
        run_status_changed.disconnect(leave)
    assert end(ready)[0] == ended


@pytest.mark.django_db(transaction=True)
def test_an_interruption_that_comes_twice_goes_on(ready):
    def interrupt(execute: Any, *args: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), recorded(ready):
        connection.execute_wrappers.append(interrupt)
    connection.execute_wrappers.remove(interrupt)
    assert Run.objects.get(pk=ready.pk).status == "RUNNING"


def test_a_failure_is_recorded_by_its_type_and_raised(ready):
    with pytest.raises(TimeoutError, match="secret"), recorded(ready):
        raise TimeoutError("secret")
    assert end(ready) == ("FAILED", 1, "TimeoutError")


@pytest.mark.parametrize(
    ("text", "stored"),
    [("too slow", "too slow"), ("a\0b", "a\ufffdb"), ("\ud800", "\ufffd")],
)
def test_the_text_of_a_failure_is_recorded_if_asked_for(ready, text, stored):
    with pytest.raises(ValueError, match=re.escape(text)), recorded(ready, with_text=True):
        raise ValueError(text)
    assert end(ready) == ("FAILED", 1, f"ValueError: {stored}")


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_an_interruption_is_recorded_as_aborted_and_raised(ready, kind):
    with pytest.raises(kind), recorded(ready):
        raise kind
    assert end(ready) == ("ABORTED", None, "")


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize(
    ("stopped", "ended"), [("ABORTING", "ABORTED"), ("TIMING-OUT", "TIMED-OUT")]
)
def test_a_run_that_was_stopped_ends_as_stopped(ready, stopped, ended, fails):
    try:
        with recorded(ready):
            by_another(ready, stopped)
            if fails:
                raise ZeroDivisionError
    except ZeroDivisionError:
        assert fails
    assert end(ready) == (ended, None, "")


@pytest.mark.parametrize("statuses", [["ABORTED"], ["TIMED-OUT"], ["ABORTING", "ABORTED"]])
def test_a_run_that_was_finished_meanwhile_stays_as_it_is(ready, statuses):
    with recorded(ready):
        by_another(ready, *statuses)
    assert Run.objects.get(pk=ready.pk).status == statuses[-1]


def test_a_run_that_another_worker_took_over_is_left_to_it(ready):
    with recorded(ready):
        by_another(ready, "ABORTED", "READY", "RUNNING")
    assert Run.objects.get(pk=ready.pk).status == "RUNNING"


def test_a_run_that_is_deleted_meanwhile_stays_deleted(ready):
    with recorded(ready):
        by_another(ready, "FAILED")
        Run.objects.get(pk=ready.pk).delete()
    assert not Run.objects.exists()


@pytest.mark.parametrize("stats", [[1], "bad", 7, {"runTimeSecs": "bad", "durationMillis": 0}])
def test_an_end_is_recorded_whatever_the_statistics_are(alice, stats):
    for moment in ("before", "meanwhile"):
        run = Run.objects.create(user=alice)
        spoiled = Run.objects.filter(pk=run.pk)
        if moment == "before":
            spoiled.update(stats=stats)
            run.refresh_from_db()
        with recorded(run):
            spoiled.update(stats=stats)
        assert end(run) == ("SUCCEEDED", 0, "")
        assert run.stats == stats


def test_a_status_that_an_update_of_a_host_has_set_is_kept_or_followed(alice):
    finished = {"status": "FAILED", "finished_at": timezone.now()}
    for values, ended in [
        ({"status": "ABORTING"}, "ABORTED"),
        ({"status": "TIMING-OUT"}, "TIMED-OUT"),
        (finished, "FAILED"),
    ]:
        run = Run.objects.create(user=alice)
        with recorded(run):
            Run.objects.filter(pk=run.pk).update(**values)
        assert end(run)[0] == ended


@pytest.mark.parametrize("work_fails", [True, False])
def test_the_works_own_exception_goes_on_if_the_database_is_lost_at_the_end(
    ready, caplog, work_fails
):
    def fail(*args: Any) -> None:
        raise DatabaseError("lost")

    @recorded(ready)
    def work() -> None:
        connection.execute_wrappers.append(fail)
        if work_fails:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError if work_fails else DatabaseError):
        work()
    connection.execute_wrappers.remove(fail)
    assert ("could not be recorded" in caplog.text) == work_fails
    assert Run.objects.get(pk=ready.pk).status == "RUNNING"


def test_the_works_own_exception_goes_on_in_a_transaction_that_is_broken(ready, caplog):
    with pytest.raises(IntegrityError), transaction.atomic(), recorded(ready):
        Run.objects.filter(pk=ready.pk).update(status="nothing")
    assert "could not be recorded" in caplog.text


class Unreadable(Exception):
    def __str__(self) -> str:
        raise self.args[0]


@pytest.mark.parametrize("kind", [TypeError, SystemExit, KeyboardInterrupt])
def test_a_failure_whose_text_cannot_be_read_is_recorded_by_its_type(ready, caplog, kind):
    with pytest.raises(Unreadable), recorded(ready, with_text=True):
        raise Unreadable(kind)
    assert end(ready) == ("FAILED", 1, "Unreadable")


def test_the_text_of_a_failure_is_bounded(ready):
    with pytest.raises(ValueError, match="xxx"), recorded(ready, with_text=True):
        raise ValueError("x" * 100_000)
    assert len(end(ready)[2]) == 2000


def test_a_generator_that_is_closed_is_recorded_as_aborted(ready):
    def work():
        with recorded(ready):
            yield

    generator = work()
    next(generator)
    generator.close()
    assert end(ready) == ("ABORTED", None, "")


def test_afterwards_the_object_shows_what_others_made_of_the_run(ready):
    with recorded(ready):
        Run.objects.get(pk=ready.pk).transition_to("FAILED", exit_code=7, status_message="Mine.")
    assert (ready.exit_code, ready.version) == (7, 2)
    assert end(ready) == ("FAILED", 7, "Mine.")


# What is recorded of the work


def test_the_duration_is_recorded(ready):
    with recorded(ready):
        pass
    stats = Run.objects.get(pk=ready.pk).stats
    assert stats["durationMillis"] >= 0
    assert stats["runTimeSecs"] == stats["durationMillis"] / 1000
    assert stats["computeUnits"] == 0


def test_a_duration_that_the_work_recorded_is_kept(ready):
    with recorded(ready) as run:
        run.stats |= {"durationMillis": 7, "runTimeSecs": 0.007, "computeUnits": 2}
        run.save(update_fields=["stats"])
    stats = Run.objects.get(pk=ready.pk).stats
    assert (stats["durationMillis"], stats["runTimeSecs"], stats["computeUnits"]) == (7, 0.007, 2)


def test_a_duration_that_the_work_recorded_in_part_is_completed(ready):
    with recorded(ready) as run:
        run.stats |= {"durationMillis": 7}
        run.save(update_fields=["stats"])
    stats = Run.objects.get(pk=ready.pk).stats
    assert stats["durationMillis"] == 7
    assert stats["runTimeSecs"] < 7


def test_the_duration_of_a_run_that_was_resurrected_is_that_of_its_last_work(alice):
    stats = {"durationMillis": 10**9, "runTimeSecs": 10**6}
    run = Run.objects.create(user=alice, status="FAILED", stats=stats)
    run.transition_to("READY")
    with recorded(run):
        pass
    stats = Run.objects.get(pk=run.pk).stats
    assert stats["durationMillis"] < 10**9
    assert (stats["runTimeSecs"], stats["resurrectCount"]) == (stats["durationMillis"] / 1000, 1)


# Deliveries


@pytest.mark.parametrize("status", ["RUNNING", "SUCCEEDED", "FAILED", "ABORTING"])
def test_a_second_delivery_raises_before_any_work(alice, status):
    run = Run.objects.create(user=alice, status=status)
    with pytest.raises(RunAlreadyStarted, match=status), recorded(run):
        pytest.fail("worked")
    assert Run.objects.get(pk=run.pk).status == status


def test_a_second_delivery_with_an_outdated_object_raises_too(ready):
    late = Run.objects.get(pk=ready.pk)
    with recorded(ready):
        pass
    with pytest.raises(RunAlreadyStarted, match="SUCCEEDED"), recorded(late):
        pytest.fail("worked")


def test_a_resurrected_run_can_be_recorded_again(ready):
    with recorded(ready):
        pass
    ready.transition_to(RunStatus.READY)
    with recorded(ready):
        pass
    assert end(ready) == ("SUCCEEDED", 0, "")


def test_recording_a_run_in_its_own_block_does_not_end_it(ready):
    recorder = recorded(ready)
    with recorder:
        with pytest.raises(RunAlreadyStarted, match="RUNNING"), recorder:
            pytest.fail("worked")
        assert Run.objects.get(pk=ready.pk).status == "RUNNING"
    assert end(ready) == ("SUCCEEDED", 0, "")


def test_a_copy_that_the_work_makes_of_its_run_is_not_ended_in_its_place(ready):
    original = ready.pk
    with recorded(ready) as run:
        run.pk, run._state.adding = None, True
        run.save()
    assert Run.objects.get(pk=original).status == "SUCCEEDED"


def test_a_run_that_is_not_saved_or_deleted_says_so(alice, ready):
    with pytest.raises(InvalidTransition, match="not saved"), recorded(Run(user=alice)):
        pytest.fail("worked")
    by_another(ready, "FAILED")
    Run.objects.get(pk=ready.pk).delete()
    with pytest.raises(InvalidTransition, match="deleted"), recorded(ready):
        pytest.fail("worked")


# Decorated and asynchronous functions


def test_a_decorated_function_is_recorded(ready):
    @recorded(ready)
    def work(left: int, right: int) -> int:
        """Add."""
        return left + right

    assert (work(1, right=2), work.__name__, work.__doc__) == (3, "work", "Add.")
    assert end(ready) == ("SUCCEEDED", 0, "")


def test_a_decorated_asynchronous_function_is_recorded(ready):
    @recorded(ready)
    async def work() -> str:
        return (await Run.objects.aget(pk=ready.pk)).status

    assert async_to_sync(work)() == "RUNNING"
    assert end(ready) == ("SUCCEEDED", 0, "")


def test_an_asynchronous_block_is_recorded(ready):
    async def work() -> None:
        async with recorded(ready):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        async_to_sync(work)()
    assert end(ready) == ("FAILED", 1, "ZeroDivisionError")


def test_an_object_that_says_another_status_than_the_run_has_is_outdated(ready):
    by_another(ready, "RUNNING")
    outdated = Run.objects.get(pk=ready.pk)
    by_another(ready, "ABORTED", "READY")
    for run in (outdated, ready):
        with pytest.raises(InvalidTransition, match="refresh_from_db") as error, recorded(run):
            pytest.fail("worked")
        assert not isinstance(error.value, RunAlreadyStarted)
    assert Run.objects.get(pk=ready.pk).status == "READY"


@pytest.mark.parametrize("status", ["READY", "SUCCEEDED"])
def test_a_run_that_is_deleted_cannot_be_recorded(alice, status):
    run = Run.objects.create(user=alice, status=status)
    Run.objects.filter(pk=run.pk).update(status="FAILED", finished_at=timezone.now())
    Run.objects.get(pk=run.pk).delete()
    with pytest.raises(InvalidTransition, match="is deleted"), recorded(run):
        pytest.fail("worked")


@pytest.mark.parametrize("field", ["status", "stats", "version"])
def test_recorded_refuses_a_deleted_run_with_a_deferred_field(alice, field):
    run = Run.objects.create(user=alice)
    unread = Run.objects.defer(field).get()
    by_another(run, "FAILED")
    run.delete()
    with pytest.raises(InvalidTransition, match="is deleted"), recorded(unread):
        pytest.fail("worked")


def test_a_run_that_is_not_saved_cannot_be_recorded(alice):
    with pytest.raises(InvalidTransition, match="is not saved"), recorded(Run(user=alice)):
        pytest.fail("worked")


class AsynchronousObject:
    async def __call__(self) -> str:
        return (await Run.objects.aget()).status


def test_a_decorated_object_that_is_asynchronous_is_recorded(ready):
    for work in (AsynchronousObject(), functools.partial(AsynchronousObject().__call__)):
        Run.objects.all().update(status="READY", finished_at=None)
        ready.refresh_from_db()
        assert async_to_sync(recorded(ready)(work))() == "RUNNING"
        assert end(ready)[0] == "SUCCEEDED"


def test_a_decorated_function_works_once(ready):
    work = recorded(ready)(lambda: "done")
    assert work() == "done"
    with pytest.raises(RunAlreadyStarted, match="SUCCEEDED"):
        work()
    with pytest.raises(RunAlreadyStarted, match="SUCCEEDED"):
        async_to_sync(recorded(ready)(AsynchronousObject()))()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("cancels", ["the task", "all tasks"])
def test_a_task_that_is_cancelled_while_its_run_is_started_is_recorded_as_aborted(ready, cancels):
    async def main() -> None:
        starting, go_on = threading.Event(), threading.Event()

        def wait(execute: Any, sql: str, *args: Any) -> Any:
            starting.set()
            assert go_on.wait(60)
            return execute(sql, *args)

        async def work() -> None:
            async with recorded(ready):
                pytest.fail("worked")

        await sync_to_async(lambda: connection.execute_wrappers.append(wait))()
        task = asyncio.create_task(work())
        await asyncio.to_thread(starting.wait, 60)
        for _ in range(2):
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for each in {task} if cancels == "the task" else others:
                each.cancel()
            await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        await sync_to_async(lambda: connection.execute_wrappers.remove(wait))()

    async_to_sync(main)()
    assert end(ready) == ("ABORTED", None, "")


@pytest.mark.django_db(transaction=True)
def test_a_task_that_is_cancelled_before_its_run_is_started_leaves_it_alone(ready, caplog):
    async def work() -> None:
        async with recorded(ready):
            pytest.fail("worked")

    async def main() -> None:
        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        # As asyncio.run() does at its end.
        for each in asyncio.all_tasks() - {asyncio.current_task()}:
            each.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    by_another(ready, "ABORTING")
    asyncio.run(main())
    assert Run.objects.get().status == "ABORTING"
    assert caplog.records == []


@pytest.mark.django_db(transaction=True)
def test_a_cancelled_task_is_recorded_as_aborted(ready):
    async def main() -> None:
        started = asyncio.Event()

        @recorded(ready)
        async def work() -> None:
            started.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(work())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async_to_sync(main)()
    assert end(ready) == ("ABORTED", None, "")


@pytest.mark.django_db(transaction=True)
def test_an_event_loop_that_is_left_ends_the_runs_of_its_tasks(alice):
    """asyncio.run() cancels every task at its end, as after Ctrl-C."""
    runs = [Run.objects.create(user=alice) for _ in range(4)]

    async def work(run: Run, finish: asyncio.Event, started: asyncio.Event) -> None:
        async with recorded(run):
            started.set()
            await finish.wait()

    async def main() -> None:
        finish = asyncio.Event()
        started = [asyncio.Event() for _ in runs]
        for run, event in zip(runs, started, strict=True):
            tasks.append(asyncio.create_task(work(run, finish, event)))
        for event in started:
            await event.wait()
        finish.set()
        for _ in range(3):  # now all of them want to record their end
            await asyncio.sleep(0)

    tasks: list[asyncio.Task[None]] = []
    run_in_a_loop(main())
    assert [end(run)[0] for run in runs] == ["SUCCEEDED"] * 4


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("cancels", ["the task", "all tasks"])
def test_a_task_that_is_cancelled_while_its_run_is_ended_is_recorded(ready, cancels):
    async def main() -> None:
        ending, go_on = threading.Event(), threading.Event()

        def wait(execute: Any, sql: str, *args: Any) -> Any:
            ending.set()
            assert go_on.wait(60)
            return execute(sql, *args)

        async def work() -> None:
            async with recorded(ready):
                await sync_to_async(lambda: connection.execute_wrappers.append(wait))()

        task = asyncio.create_task(work())
        await asyncio.to_thread(ending.wait, 60)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for each in {task} if cancels == "the task" else others:
            each.cancel()
        await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        await sync_to_async(lambda: connection.execute_wrappers.remove(wait))()

    run_in_a_loop(main())
    assert end(ready) == ("SUCCEEDED", 0, "")


@pytest.mark.django_db(transaction=True)
def test_a_second_call_that_is_cancelled_does_not_end_the_run_of_the_first(ready):
    async def main() -> None:
        started, finish = asyncio.Event(), asyncio.Event()

        @recorded(ready)
        async def work() -> None:
            started.set()
            await finish.wait()

        first = asyncio.create_task(work())
        await started.wait()
        second = asyncio.create_task(work())
        await asyncio.sleep(0)
        for each in asyncio.all_tasks() - {asyncio.current_task(), first}:
            each.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        finish.set()
        await first

    run_in_a_loop(main())
    assert end(ready) == ("SUCCEEDED", 0, "")


def test_a_plain_function_that_returns_a_coroutine_cannot_be_decorated(ready):
    async def work() -> None:
        pytest.fail("worked")

    with pytest.raises(TypeError, match="async def"):
        recorded(ready)(staticmethod(work))()
    assert end(ready) == ("FAILED", 1, "TypeError")


def test_a_generator_cannot_be_decorated(ready):
    with pytest.raises(TypeError, match="generator"):

        @recorded(ready)
        def work():
            yield


def test_a_decorator_without_a_run_says_so(ready):
    with pytest.raises(TypeError, match=r"@recorded\(run\)"):

        @recorded
        def work() -> None:
            pytest.fail("worked")

    for wrong in (None, ready.pk, Run):
        with pytest.raises(TypeError, match="takes a run"):
            recorded(wrong)


def test_what_cannot_be_called_cannot_be_decorated(ready):
    for wrong in (None, classmethod(print)):
        with pytest.raises(TypeError, match="a function, not"):
            recorded(ready)(wrong)


# A worker that asks whether to stop


@pytest.mark.parametrize("status", RunStatus.values)
def test_a_worker_learns_that_it_should_stop(alice, status):
    run = Run.objects.create(user=alice, status=status)
    should_stop = status not in ("READY", "RUNNING")
    partial = Run.objects.only("id").get(pk=run.pk)
    assert run.is_being_stopped() == partial.is_being_stopped() == should_stop
    assert async_to_sync(run.ais_being_stopped)() == should_stop


def test_a_worker_of_a_deleted_run_should_stop(run):
    found = Run.objects.get(pk=run.pk)
    run.delete()
    assert found.is_being_stopped()


def test_a_worker_whose_run_is_another_workers_by_now_should_stop(ready):
    with recorded(ready) as run:
        assert not run.is_being_stopped()
        by_another(run, "ABORTED", "READY", "RUNNING")
        assert run.is_being_stopped()


# The runs of lost workers


def test_lost_runs_end_each_as_is_legal(alice):
    old = timezone.now() - DAY
    runs = {
        status: Run.objects.create(user=alice, status=status, started_at=old)
        for status in Run.UNFINISHED
    }
    young = Run.objects.create(user=alice, status="RUNNING")
    finished = Run.objects.create(user=alice, status="FAILED", started_at=old)
    assert Run.objects.time_out(HOUR) == 4
    for status, run in runs.items():
        run.refresh_from_db()
        assert run.status == ("ABORTED" if status == "ABORTING" else "TIMED-OUT")
        assert (run.status_message, run.is_finished) == (LOST, True)
    assert Run.objects.get(pk=young.pk).status == "RUNNING"
    assert Run.objects.get(pk=finished.pk).status == "FAILED"
    assert Run.objects.time_out(HOUR) == 0


def test_lost_runs_end_in_batches_of_any_size_and_dry_runs_end_none(alice, bob):
    old = timezone.now() - DAY
    for number in range(7):
        moment = old + datetime.timedelta(seconds=number // 3)
        Run.objects.create(user=alice, status="RUNNING", started_at=moment)
    Run.objects.create(user=bob, status="RUNNING", started_at=old)
    sizes = []
    runs = Run.objects.filter(user=alice)
    options = {"batch_size": 3, "on_batch": lambda result: sizes.append(result.ended)}
    assert time_out(runs, HOUR, dry_run=True, **options).ended == 7
    assert not runs.finished().exists()
    result = time_out(runs, HOUR, **options)
    assert (result.ended, result.complete) == (7, True)
    assert sizes == [3, 6, 7] * 2
    assert Run.objects.unfinished().count() == 1
    result = time_out(Run.objects.all(), HOUR, max_runtime=datetime.timedelta(0))
    assert (result.ended, result.complete) == (0, False)


def test_a_late_worker_wins_or_loses(alice):
    old = timezone.now() - DAY
    run = Run.objects.create(user=alice, started_at=old)
    with recorded(run):
        assert Run.objects.time_out(HOUR) == 1
    assert Run.objects.get(pk=run.pk).status == "TIMED-OUT"


def test_a_late_worker_of_a_run_that_was_never_started_is_refused(alice):
    run = Run.objects.create(user=alice, started_at=timezone.now() - DAY)
    assert Run.objects.time_out(HOUR) == 1
    with pytest.raises(RunAlreadyStarted, match="TIMED-OUT"), recorded(run):
        pytest.fail("worked")


@pytest.mark.django_db(transaction=True)
def test_time_out_keeps_a_message_that_the_worker_wrote_meanwhile(alice):
    old = timezone.now() - DAY
    for _ in range(2):
        Run.objects.create(user=alice, status="RUNNING", started_at=old, status_message="Page 1.")

    def work_on(**kwargs: Any) -> None:
        Run.objects.unfinished().update(status_message="Page 2.")

    run_status_changed.connect(work_on)
    try:
        assert Run.objects.time_out(HOUR) == 2
    finally:
        run_status_changed.disconnect(work_on)
    assert sorted(run.status_message for run in Run.objects.all()) == ["Page 1.", "Page 2."]


def test_a_run_that_goes_on_by_itself_is_not_ended(alice):
    old = timezone.now() - DAY
    first, second = (Run.objects.create(user=alice, started_at=old, id=name) for name in "ab")

    def go_on(instance: Run, **kwargs: Any) -> None:
        if instance.pk == first.pk:
            Run.objects.filter(pk=second.pk).update(status="RUNNING", version=1)

    pre_save.connect(go_on, sender=Run)
    try:
        assert time_out(Run.objects.filter(status="READY"), HOUR).ended == 1
    finally:
        pre_save.disconnect(go_on, sender=Run)
    assert Run.objects.get(pk=second.pk).status == "RUNNING"


@pytest.fixture
def conflicting(no_pauses):
    """IDs of runs whose every change meets a conflict."""
    with conflicts(pre_save) as ids:
        yield ids


@pytest.mark.django_db(transaction=True)
def test_a_run_that_stays_locked_is_counted_and_the_others_end(alice, conflicting):
    for run_id in "abc":
        Run.objects.create(user=alice, started_at=timezone.now() - DAY, id=run_id)
    conflicting.add("b")
    result = time_out(Run.objects.all(), HOUR)
    assert (result.ended, result.locked) == (2, 1)
    assert [run.pk for run in Run.objects.unfinished()] == ["b"]


@pytest.mark.django_db(transaction=True)
def test_a_database_that_never_serves_ends_the_work(alice, conflicting, monkeypatch):
    monkeypatch.setattr(batches, "MAX_CONFLICTS_IN_A_ROW", 2)
    for run_id in "abcd":
        Run.objects.create(user=alice, started_at=timezone.now() - DAY, id=run_id)
    conflicting.update("bcd")
    with pytest.raises(OperationalError, match="deadlock"):
        time_out(Run.objects.all(), HOUR)
    conflicting.remove("d")
    assert time_out(Run.objects.all(), HOUR).locked == 2


def test_a_conflict_in_a_transaction_of_the_caller_is_the_callers(alice, conflicting):
    run = Run.objects.create(user=alice, started_at=timezone.now() - DAY)
    conflicting.add(run.pk)
    with transaction.atomic(), pytest.raises(OperationalError):
        time_out(Run.objects.all(), HOUR)


def test_any_queryset_of_runs_can_be_timed_out(alice, acme):
    join(alice, acme)
    old = timezone.now() - DAY
    Run.objects.create(organization=acme, started_at=old)
    Run.objects.create(user=alice, started_at=old)
    assert Run.objects.owned_by(alice).only("id").select_related("user").time_out(HOUR) == 2


@pytest.mark.parametrize("age", [30, "1h", None])
def test_an_age_must_be_a_timedelta(db, age):
    with pytest.raises(TypeError, match=r"older_than must be a timedelta"):
        Run.objects.time_out(age)


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"older_than": -DAY}, ValueError),
        ({"older_than": datetime.timedelta.max}, ValueError),
        ({"older_than": DAY, "batch_size": 0}, ValueError),
        ({"older_than": DAY, "batch_size": 10_001}, ValueError),
        ({"older_than": DAY, "batch_size": 1.5}, TypeError),
        ({"older_than": DAY, "max_runtime": 60}, TypeError),
        ({"older_than": DAY, "max_runtme": DAY}, TypeError),
    ],
)
def test_options_are_checked(db, options, kind):
    with pytest.raises(kind, match=[*options][-1]):
        time_out(Run.objects.all(), **options)
