"""Recording: keep a run up to date while a function works, and end the runs of lost workers."""

from __future__ import annotations

import asyncio
import copy
import datetime
import functools
import inspect
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.core.exceptions import ValidationError
from django.db import connections, models, transaction
from django.utils import timezone

from actor_runs.batches import Work, check_options
from actor_runs.db.errors import retry
from actor_runs.db.orm import lock_row, narrowable, row_of
from actor_runs.enums import UNFINISHED, RunStatus
from actor_runs.exceptions import InvalidTransition, RunAlreadyStarted
from actor_runs.schemas import UNSTORABLE

if TYPE_CHECKING:
    from actor_runs.models import Run
    from actor_runs.querysets import RunQuerySet

__all__ = ["TimeOutResult", "recorded", "time_out"]

logger = logging.getLogger("actor_runs")

Function = TypeVar("Function", bound=Callable[..., Any])

# How a run ends that somebody stopped while it was at work, or that nobody works on any more.
ENDS = dict.fromkeys(UNFINISHED, RunStatus.TIMED_OUT) | {RunStatus.ABORTING: RunStatus.ABORTED}
STOPPED = (RunStatus.TIMING_OUT, RunStatus.ABORTING)
DURATIONS = ("durationMillis", "runTimeSecs")
MAX_TEXT_LENGTH = 2000
LOST = "The end of the run was not recorded in time."
BATCH_SIZE = 500


class recorded:  # noqa: N801  used as a function
    """Keep ``run`` RUNNING while the block or the function lasts, then record how it ended.

    A context manager (``with`` and ``async with``) and a decorator (of plain and of asynchronous
    functions). The run becomes

    - SUCCEEDED with exit code 0 at the end of the block;
    - FAILED with exit code 1 for an exception, of which ``status_message`` has the type, and with
      ``with_text`` (bool, False by default) the first 2000 characters of its text too;
    - ABORTED for ``KeyboardInterrupt``, ``SystemExit``, ``asyncio.CancelledError`` and the like;
    - ABORTED or TIMED-OUT if somebody made it ABORTING or TIMING-OUT meanwhile.

    Every exception goes on to the caller. ``stats["durationMillis"]`` and ``stats["runTimeSecs"]``
    are set, unless the work set them or ``stats`` are not valid. A run that somebody finished,
    resurrected or deleted meanwhile stays as it is. Afterwards the status, ``finished_at``,
    ``stats``, ``exit_code`` and ``status_message`` of ``run`` are those of its row, if it is still
    there.

    Raises RunAlreadyStarted, before any work, if the run was started or finished already: so a
    task that is delivered twice works once. Raises InvalidTransition if ``run`` is outdated, not
    saved or deleted; TypeError for what is not a run, and if it decorates a generator, or a plain
    function that returns a coroutine. Raises what the database raises if the end cannot be
    recorded, unless the work has raised an exception of its own: then that goes on, and the other
    is logged.

    Use it outside of a transaction: inside of one nobody else sees the run RUNNING before the
    COMMIT, and a rollback undoes the record.
    """

    def __init__(self, run: Run, *, with_text: bool = False) -> None:
        if not isinstance(run, models.Model):  # as if the decorator were written without a run
            raise TypeError(f"recorded() takes a run, not {run!r}: @recorded(run).")
        self.run = run
        self.with_text = with_text
        # That of the run while it is at work; None before its start and after its end.
        self._version: int | None = None

    def __enter__(self) -> Run:
        run = self.run
        self._row = row_of(run)
        self._load_deferred()
        stats = run.stats if isinstance(run.stats, dict) else {}
        self._durations = {name: stats.get(name) for name in DURATIONS}
        self._started = time.monotonic()
        version = None
        try:
            if run.status != RunStatus.READY and not run._state.adding:
                status = self._row.values_list("status", flat=True).first()
                raise InvalidTransition(run.pk, status, run.status, RunStatus.RUNNING)
            # In a transaction, since an interrupted statement may have been executed.
            with transaction.atomic(using=self._row.db):
                run.transition_to(RunStatus.RUNNING)
                version = run.version
        except InvalidTransition as exc:
            if exc.status in (None, RunStatus.READY):
                raise
            raise RunAlreadyStarted(run.pk, exc.status, exc.known, RunStatus.RUNNING) from exc
        except BaseException as exc:
            if version is not None:  # the COMMIT or a receiver was interrupted
                self._version = version
                self._close_connection()
                self.__exit__(type(exc), exc, exc.__traceback__)
            raise
        self._version = version
        return run

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._version is None:
            return
        try:
            self._record(*self._outcome(exc))
        except Exception:
            if exc is None:
                raise
            logger.exception("The end of run %s could not be recorded", self.run.pk)
        finally:
            self._version = None

    async def __aenter__(self) -> Run:
        # A task that is cancelled meanwhile does not leave the run RUNNING. The thread may still be
        # about to start the run: then it ends it next.
        try:
            return await _completed(sync_to_async(self.__enter__)())
        except asyncio.CancelledError as exc:
            await self.__aexit__(type(exc), exc, exc.__traceback__)
            raise

    async def __aexit__(self, *args: Any) -> None:
        is_recorded = False

        def record() -> None:
            nonlocal is_recorded
            try:
                self.__exit__(*args)
            finally:
                is_recorded = True

        # A task that is cancelled once more must still record its end. At its own end an event
        # loop cancels all tasks, that of sync_to_async() too.
        try:
            await _completed(sync_to_async(record)())
        except asyncio.CancelledError:
            if not is_recorded:
                await self.__aexit__(*args)
            raise

    def __call__(self, function: Function) -> Function:
        if not callable(function):
            raise TypeError(f"recorded() decorates a function, not {function!r}.")
        kinds = [function, getattr(function, "__call__", None)]  # noqa: B004  an object may be async
        if any(inspect.isgeneratorfunction(f) or inspect.isasyncgenfunction(f) for f in kinds):
            raise TypeError("recorded() cannot decorate a generator: use it as a context manager.")

        @functools.wraps(function)
        def plain(*args: Any, **kwargs: Any) -> Any:
            with copy.copy(self):  # calls at the same time are apart
                result = function(*args, **kwargs)
                if inspect.iscoroutine(result):
                    result.close()
                    raise TypeError(
                        "recorded() cannot decorate a plain function that returns a "
                        "coroutine: make it `async def`, and await the coroutine in it."
                    )
                return result

        @functools.wraps(function)
        async def asynchronous(*args: Any, **kwargs: Any) -> Any:
            async with copy.copy(self):
                return await function(*args, **kwargs)

        is_async = any(map(iscoroutinefunction, kinds))
        return asynchronous if is_async else plain  # type: ignore[return-value]

    def _load_deferred(self) -> None:
        """Read deferred fields that are needed. Raises InvalidTransition for a deleted run."""
        run = self.run
        if deferred := {"status", "stats"} & run.get_deferred_fields():
            try:
                run.refresh_from_db(using=self._row.db, fields=deferred)
            except type(run).DoesNotExist:
                raise InvalidTransition(run.pk, None, "", RunStatus.RUNNING) from None

    def _outcome(self, exc: BaseException | None) -> tuple[RunStatus, dict[str, Any]]:
        if exc is None:
            return RunStatus.SUCCEEDED, {"exit_code": 0}
        if not isinstance(exc, Exception):
            return RunStatus.ABORTED, {}
        message = type(exc).__name__
        if self.with_text:
            try:
                message = f"{message}: {exc}"[:MAX_TEXT_LENGTH]
            except BaseException:  # an exception whose text cannot be made is recorded all the same
                logger.exception("The text of %s could not be read", message)
        message = UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", message)
        return RunStatus.FAILED, {"exit_code": 1, "status_message": message}

    def _record(self, status: RunStatus, fields: dict[str, Any]) -> None:
        try:
            retry(lambda: self._finish(status, fields), self._row.db)
        except BaseException as exc:
            # Ctrl-C, or a time limit of the worker, does not leave the run RUNNING.
            self._close_connection()
            try:
                self._finish(status, fields)
            finally:
                raise exc

    def _close_connection(self) -> None:
        """Close what an interruption may have left in the middle of a transaction."""
        connection = connections[self._row.db]
        if not connection.in_atomic_block:
            connection.close()

    def _finish(self, status: RunStatus, fields: dict[str, Any]) -> None:
        with transaction.atomic(using=self._row.db):
            stored = lock_row(self._row)
            if stored is None:
                return
            transitions = stored.version - (self._version or 0)
            # A host's QuerySet.update() changes the status and not the version.
            if stored.status in STOPPED and transitions in (0, 1):
                stored.transition_to(ENDS[stored.status], **self._stats(stored))
            elif stored.status == RunStatus.RUNNING and transitions == 0:
                stored.transition_to(status, **self._stats(stored), **fields)
            # Otherwise it is finished, or resurrected: another worker's by now.
        for name in ("status", "version", "finished_at", "stats", "exit_code", "status_message"):
            setattr(self.run, name, getattr(stored, name))

    def _stats(self, stored: Run) -> dict[str, Any]:
        """Return ``stats`` with the durations of the work that it did not set itself.

        Returns nothing if they are not valid, as after a host's ``QuerySet.update()``.
        """
        try:
            stored.validate({"stats"})
        except ValidationError:
            return {}
        milliseconds = round((time.monotonic() - self._started) * 1000)
        measured = dict(zip(DURATIONS, (milliseconds, milliseconds / 1000), strict=True))
        old = self._durations
        unchanged = [name for name in DURATIONS if stored.stats.get(name) == old[name]]
        return {"stats": {**stored.stats, **{name: measured[name] for name in unchanged}}}


async def _completed(work: Coroutine[Any, Any, Any]) -> Any:
    """Return what ``work`` returns, and wait for its end also if this task is cancelled."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as exc:
            cancelled = exc
    if cancelled is not None and not task.cancelled() and task.exception() is None:
        raise cancelled
    return task.result()


@dataclass
class TimeOutResult:
    """What ``time_out`` did, or would do in a dry run.

    ``ended`` (int) is the number of runs that were ended; ``locked`` (int) runs stay as they are,
    since other transactions held them for too long. ``complete`` is False if the time was up
    before all were ended.
    """

    ended: int = 0
    locked: int = 0
    complete: bool = True


def time_out(
    runs: RunQuerySet,
    older_than: datetime.timedelta,
    *,
    batch_size: int = BATCH_SIZE,
    max_runtime: datetime.timedelta | None = None,
    dry_run: bool = False,
    on_batch: Callable[[TimeOutResult], None] | None = None,
) -> TimeOutResult:
    """End those of ``runs`` that started more than ``older_than`` ago and are unfinished.

    READY, RUNNING and TIMING-OUT become TIMED-OUT, and ABORTING becomes ABORTED, each by
    ``transition_to``: a worker that finishes late after all wins or loses, and nothing is done
    twice. A resurrected run keeps its ``started_at``. ``batch_size``: how many runs are in memory
    at a time, from 1 to 10000. ``max_runtime``: no batch begins after that time. ``dry_run``:
    nothing is changed. ``on_batch`` is called after each batch with the result so far.

    Raises TypeError for a time that is not a timedelta or a ``batch_size`` that is not an integer;
    ValueError for a time that is not from 0 to 700000 days, or a ``batch_size`` out of its range.
    """
    check_options(batch_size, older_than=older_than, max_runtime=max_runtime)
    result = TimeOutResult()
    due = unfinished_before(runs, older_than)
    work = Work(due.db, max_runtime)
    for status, end in ENDS.items():  # one at a time, for the index
        for batch in work.batches(due.filter(status=status), "started_at", batch_size):
            if work.is_over:
                result.complete = False
                return result
            if dry_run:
                result.ended += len(batch)
            else:
                for run in batch:
                    _end(run, end, work, result)
            if on_batch is not None:
                on_batch(result)
    return result


def unfinished_before(runs: RunQuerySet, age: datetime.timedelta) -> RunQuerySet:
    """Return those of ``runs`` that started longer ago and are unfinished, from the primary."""
    rows: Any = runs.order_by().select_related(None).defer(None)
    rows = narrowable(rows.on_primary())
    return rows.unfinished().filter(started_at__lt=timezone.now() - age)


def _end(run: Run, status: RunStatus, work: Work, result: TimeOutResult) -> None:
    # A worker's message stays. It is not saved again, since there may be a newer one.
    fields = {} if run.status_message else {"status_message": LOST}
    try:
        is_ended = work.attempt(lambda: run.transition_to(status, **fields))
    except InvalidTransition:
        return  # it went on by itself meanwhile
    if is_ended:
        result.ended += 1
    else:
        result.locked += 1
