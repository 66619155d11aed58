"""Pruning: delete the runs that finished long enough ago, in batches, beside other writers."""

from __future__ import annotations

import datetime
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from django.db import IntegrityError, connections, transaction
from django.db.models import Q
from django.db.models.functions import Coalesce
from django.utils import timezone

from actor_runs.batches import Work, check_integer, check_options, exact
from actor_runs.db.errors import bisect, is_foreign_key_violation, retry
from actor_runs.db.orm import fixed_columns, narrowable
from actor_runs.db.transactions import max_parameters
from actor_runs.enums import RunStatus
from actor_runs.logs import counted
from actor_runs.schemas import format_time

if TYPE_CHECKING:
    from actor_runs.querysets import RunQuerySet

__all__ = ["PruneResult", "prune"]

logger = logging.getLogger("actor_runs")

# Large batches need few COMMITs. Small ones hold locks for less time, and fewer runs in memory.
BATCH_SIZE = 10_000
BATCH_SIZE_IF_READ = 1000
MAX_OWNERS_REMEMBERED = 10_000
SQLITE_POLL_SECONDS = 0.1  # how long a waiting writer sleeps at most before it tries again
# What a prune reads of a run.
COLUMNS = ("started_at", "finished_at", "pk", "user_id", "organization_id")


@dataclass
class PruneResult:
    """What a prune deleted, or would delete in a dry run.

    ``deleted`` (int) is the number of deleted runs, which finished from ``oldest`` to ``newest``
    (datetime, None if nothing was deleted). ``protected`` (int) runs stay, since a host's foreign
    keys protect them; ``locked`` (int) runs stay, since other transactions held them for too
    long. ``complete`` is False if the time was up before all were deleted.
    """

    deleted: int = 0
    protected: int = 0
    locked: int = 0
    oldest: datetime.datetime | None = None
    newest: datetime.datetime | None = None
    complete: bool = True

    def add(self, deleted: int, batch: list[Any]) -> None:
        """Count ``deleted`` runs of a batch."""
        self.deleted += deleted
        ends = [run.finished_at for run in batch]
        self.oldest = min(self.oldest or ends[0], *ends)
        self.newest = max(self.newest or ends[0], *ends)


def prune(
    runs: RunQuerySet,
    older_than: datetime.timedelta,
    *,
    failed_older_than: datetime.timedelta | None = None,
    keep_last: int = 0,
    batch_size: int | None = None,
    max_runtime: datetime.timedelta | None = None,
    dry_run: bool = False,
    on_batch: Callable[[PruneResult], None] | None = None,
) -> PruneResult:
    """Delete those of ``runs`` that finished more than ``older_than`` ago.

    ``failed_older_than``: the age for FAILED runs, if it differs. ``keep_last``: so many finished
    runs of each owner stay, those that finished last, whatever else ``runs`` is limited to.
    ``batch_size``: how many runs one transaction deletes; by default 10000, or 1000 if runs have
    to be read, because receivers listen or other records depend on runs. ``max_runtime``: no
    batch begins after that time. ``dry_run``: nothing is deleted, and the result says what would
    be. ``on_batch`` is called after each batch with the result so far.

    Safe beside the API and beside another prune: a run that is no longer finished, or finished
    again since, stays. Django's deletion signals are sent if receivers listen; if none do and
    nothing depends on runs, no ``Run`` is loaded. A batch that meets a conflict again and again is
    deleted in smaller ones; a run that stays locked is counted, and the others go. Stopped at any
    point, it has deleted whole batches. One INFO line for each transaction is logged on
    ``actor_runs``.

    Raises TypeError for a time that is not a timedelta or a number that is not an integer;
    ValueError for a time that is not from 0 to 700000 days, a ``keep_last`` below 0, or a
    ``batch_size`` that is not from 1 to 10000.
    """
    check_options(
        BATCH_SIZE if batch_size is None else batch_size,
        older_than=older_than,
        failed_older_than=failed_older_than,
        max_runtime=max_runtime,
    )
    check_integer("keep_last", keep_last)
    if keep_last < 0:
        raise ValueError("keep_last must be 0 or more.")
    if batch_size is None:
        batch_size = BATCH_SIZE if runs.can_be_deleted_at_once else BATCH_SIZE_IF_READ
    work = Work(runs.on_primary().db, max_runtime)
    result = PruneResult()
    parts = [due_for_deletion(part, older_than, failed_older_than) for part in runs.by_owner()]
    batches = (
        (due, batch) for due in parts for batch in _batches(due, batch_size, keep_last, work)
    )
    for due, batch in batches:
        if work.is_over:
            result.complete = False
            break
        if dry_run:
            result.add(len(batch), batch)
        else:
            _delete(due, batch, work, result, by_id=bool(keep_last))
        if on_batch is not None:
            on_batch(result)
    return result


prune.alters_data = True  # type: ignore[attr-defined]  # for templates: see RunQuerySet.prune


def due_for_deletion(
    runs: RunQuerySet, older_than: datetime.timedelta, failed_older_than: datetime.timedelta | None
) -> RunQuerySet:
    """Return those of ``runs`` that are old enough now, on the primary database.

    Without regard to ``keep_last``.
    """
    now = timezone.now()
    due = Q(finished_at__lt=now - older_than)
    if failed_older_than is not None:
        failed = Q(status=RunStatus.FAILED)
        failed_due = Q(finished_at__lt=now - failed_older_than)
        # The first condition is for the index.
        latest = Q(finished_at__lt=now - min(older_than, failed_older_than))
        due = latest & (~failed & due | failed & failed_due)
    return narrowable(runs.order_by().on_primary()).filter(due)


def _time_field(due: RunQuerySet) -> str:
    """Return the time by which to delete: the end of the runs, or for one owner their start.

    By their start they are in the owner's index. By their end a database would read everybody's.
    """
    is_of_one_owner = {"user_id", "organization_id"} & fixed_columns(due)
    return "started_at" if is_of_one_owner else "finished_at"


def _batches(due: RunQuerySet, batch_size: int, keep_last: int, work: Work) -> Iterator[list[Any]]:
    """Yield batches of what is due, each read when it is asked for."""
    for rows in work.batches(due, _time_field(due), batch_size, COLUMNS):
        # Asked for each batch: the API deletes and resurrects meanwhile.
        is_kept = _newest_of_owners(due, keep_last)
        if batch := [row for row in rows if not (keep_last and is_kept(row))]:
            yield batch


def _newest_of_owners(due: RunQuerySet, keep_last: int) -> Callable[[Any], bool]:
    """Return a function that says whether a run is among the last finished of its owner."""

    @lru_cache(maxsize=MAX_OWNERS_REMEMBERED)
    def oldest_kept(user_id: Any, organization_id: Any) -> tuple[Any, frozenset[str]] | None:
        owned: Any = due.model._base_manager.using(due.db)
        owned = owned.finished()
        # COALESCE keeps the database from the index of the ends of everybody's runs.
        newest = owned.filter(user=user_id, organization=organization_id).order_by(
            Coalesce("finished_at", "finished_at").desc(), "-pk"
        )
        newest = newest.values_list("finished_at", "pk")[:keep_last]
        rows: list[tuple[datetime.datetime, str]] = retry(partial(list, newest), due.db)
        if len(rows) < keep_last:
            return None
        moment = rows[-1][0]
        return moment, frozenset(pk for finished_at, pk in rows if finished_at == moment)

    def is_kept(run: Any) -> bool:
        kept = oldest_kept(run.user_id, run.organization_id)
        return kept is None or run.finished_at > kept[0] or run.pk in kept[1]

    return is_kept


def _delete(
    due: RunQuerySet, batch: list[Any], work: Work, result: PruneResult, by_id: bool
) -> None:
    """Delete a batch in one transaction, or in smaller ones if one of its runs has to stay.

    ``by_id``: not everything that is due between the first and the last run may be deleted.
    """
    reason = ""
    # A range was seven times faster than as many IDs. MariaDB would lock the range's entries ahead
    # of the rows, which others lock first: a deadlock. Runs that are read are read by their IDs.
    is_range = not (
        by_id or connections[due.db].vendor == "mysql" or not due.can_be_deleted_at_once
    )

    def delete(part: list[Any]) -> int:
        ids = [run.pk for run in part]
        size = max_parameters(due.db) or len(ids)
        with transaction.atomic(using=due.db):
            if is_range:
                return _between(due, part[0], part[-1]).delete_finished()
            return sum(
                due.filter(pk__in=ids[start : start + size]).delete_finished()
                for start in range(0, len(ids), size)
            )

    def attempt(part: list[Any]) -> bool:
        nonlocal reason
        deleted: list[int] = []
        started = time.monotonic()
        try:
            if not work.attempt(lambda: deleted.append(delete(part))):
                reason = "locked"
                return False
        except IntegrityError as exc:
            if not is_foreign_key_violation(exc):
                raise
            reason = "protected"
            return False
        if deleted[0]:
            result.add(deleted[0], part)
            _log(deleted[0], part)
        _let_others_write(due.db, time.monotonic() - started)
        return True

    def keep(run: Any) -> None:
        setattr(result, reason, getattr(result, reason) + 1)

    bisect(batch, attempt, keep)


def _between(due: RunQuerySet, first: Any, last: Any) -> RunQuerySet:
    """Return what is due from one run of a batch to another, both included."""
    name = _time_field(due)
    begin, end = exact(getattr(first, name)), exact(getattr(last, name))
    return (
        due.filter(**{f"{name}__gte": begin, f"{name}__lte": end})
        .exclude(**{name: begin, "pk__lt": first.pk})
        .exclude(**{name: end, "pk__gt": last.pk})
    )


def _let_others_write(using: str, seconds: float) -> None:
    """Pause for other writers, who have waited for ``seconds``.

    SQLite has one lock and no queue: the longer a writer waits, the less often it tries.
    """
    connection = connections[using]
    if connection.vendor == "sqlite" and not connection.in_atomic_block:
        time.sleep(min(seconds, SQLITE_POLL_SECONDS))


def _log(deleted: int, batch: list[Any]) -> None:
    ends = [run.finished_at for run in batch]
    oldest, newest = format_time(min(ends)), format_time(max(ends))
    logger.info(
        "%s pruned, finished from %s to %s",
        counted(deleted, "run"),
        oldest,
        newest,
        extra={"deleted": deleted, "oldest": oldest, "newest": newest},
    )
