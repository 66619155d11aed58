"""Pruning: what finished long enough ago goes, batch by batch, beside everybody else."""

from __future__ import annotations

import datetime
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from django.db import IntegrityError, connections, transaction
from django.db.models import DateTimeField, Q, Value
from django.utils import timezone

from actor_runs.exceptions import is_foreign_key_violation
from actor_runs.models import RunStatus
from actor_runs.querysets import RunQuerySet
from actor_runs.transactions import persistently
from actor_runs.validators import format_time

logger = logging.getLogger("actor_runs")

# A batch costs a COMMIT, for which disks need longer than for the runs in it; whoever wants one
# of its rows waits for its end, and runs that have to be read are in memory until then.
BATCH_SIZE = 10_000
BATCH_SIZE_WHERE_READ = 1000
MOST_IN_BATCH = 10_000
OWNERS_REMEMBERED = 10_000
SQLITE_LOOKS_AGAIN = 0.1  # seconds after which a waiting writer does so, at the latest


@dataclass
class PruneResult:
    """What a prune deleted, or would delete in a dry run.

    ``deleted`` (int) runs went, which finished from ``oldest`` to ``newest`` (datetime, None
    where nothing went). ``protected`` (int) stay, since a host's foreign keys protect them.
    ``complete`` is False where the time was up before all was done.
    """

    deleted: int = 0
    protected: int = 0
    oldest: datetime.datetime | None = None
    newest: datetime.datetime | None = None
    complete: bool = True


class Candidate(NamedTuple):
    """What a prune knows of a run: when it finished, its ID, and its owner if that matters."""

    finished_at: datetime.datetime
    pk: str
    user_id: Any = None
    organization_id: Any = None


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

    ``failed_older_than`` is the age for FAILED runs, where theirs is to be another.
    ``keep_last``: that many finished runs of each owner stay, those that finished last, whatever
    else ``runs`` is limited to. ``batch_size`` runs go in one transaction: by default
    10000, and 1000 where somebody listens or something hangs on runs.
    ``max_runtime``: no batch is begun after that time. ``dry_run``: nothing is deleted, and the
    result says what would be. ``on_batch`` is called after each batch with the result so far.

    Safe beside the API and beside another prune: a run that is no longer finished, or finished
    again since, stays. Django's deletion signals fire where somebody listens; where nobody does
    and nothing hangs on runs, no run is loaded. Stopped at any point it has deleted whole
    batches. One INFO line for each batch is logged on ``actor_runs``.

    Raises ValueError for an age or a ``keep_last`` below 0, or a ``batch_size`` that is not from
    1 to 10000.
    """
    due = _on_primary(runs).filter(_is_due(older_than, failed_older_than))
    if batch_size is None:
        batch_size = BATCH_SIZE if due.can_be_deleted_at_once else BATCH_SIZE_WHERE_READ
    if not 1 <= batch_size <= MOST_IN_BATCH:
        raise ValueError(f"batch_size must be from 1 to {MOST_IN_BATCH}.")
    if keep_last < 0:
        raise ValueError("keep_last must be 0 or more.")
    if min(older_than, failed_older_than or older_than) < datetime.timedelta(0):
        raise ValueError("An age must be 0 or more.")
    deadline = None if max_runtime is None else time.monotonic() + max_runtime.total_seconds()
    # InnoDB locks the entry in the index of finished_at and then the row, where the API locks
    # the row and then changes the entry: a deadlock, unless the rows are locked first.
    by_id = bool(keep_last) or connections[due.db].vendor == "mysql"
    result = PruneResult()
    for batch in _batches(due, batch_size, keep_last, whole=by_id or dry_run):
        if deadline is not None and time.monotonic() >= deadline:
            result.complete = False
            break
        protected = 0
        deleted = len(batch)
        if not dry_run:
            deleted, protected = _delete(due, batch, by_id)
        result.protected += protected
        if deleted:
            result.deleted += deleted
            result.oldest = result.oldest or batch[0].finished_at
            result.newest = batch[-1].finished_at
            if not dry_run:
                _log(deleted, batch)
        if on_batch is not None:
            on_batch(result)
    return result


def count_due(
    runs: RunQuerySet,
    older_than: datetime.timedelta,
    failed_older_than: datetime.timedelta | None = None,
) -> int:
    """Return how many of ``runs`` are old enough to go, before ``keep_last`` is looked at."""
    return _on_primary(runs).filter(_is_due(older_than, failed_older_than)).count()


def _on_primary(runs: RunQuerySet) -> RunQuerySet:
    runs = runs.order_by()
    runs._for_write = True
    return runs.using(runs.db)


def _is_due(older_than: datetime.timedelta, failed_older_than: datetime.timedelta | None) -> Q:
    """Return the condition on a run's own row, as it holds at this moment."""
    now = timezone.now()
    due = Q(finished_at__lt=now - older_than)
    if failed_older_than is None:
        return due
    failed = Q(status=RunStatus.FAILED)
    failed_due = Q(finished_at__lt=now - failed_older_than)
    # The first condition is for the index.
    latest = Q(finished_at__lt=now - min(older_than, failed_older_than))
    return latest & (~failed & due | failed & failed_due)


def _batches(
    due: RunQuerySet, batch_size: int, keep_last: int, whole: bool
) -> Iterator[list[Candidate]]:
    """Yield what is due, the longest finished first. Each batch is read when it is asked for.

    Of each batch only the first and the last run, unless it is to be ``whole``.
    """
    owner = ("user_id", "organization_id") if keep_last else ()
    if keep_last:
        # They are deleted by ID, and a statement takes only so many parameters.
        most = connections[due.db].features.max_query_params
        batch_size = min(batch_size, most // 2) if most else batch_size
    ahead = due.order_by("finished_at", "pk")
    left = ahead
    while rows := _candidates(left[:batch_size] if whole else left[:1], *owner):
        if not whole:
            end = _candidates(left[batch_size - 1 : batch_size])
            rows += end or _candidates(left.reverse()[:1])
        # Asked anew for each batch: the API deletes and resurrects meanwhile.
        is_kept = _newest_of_owners(due, keep_last)
        if batch := [row for row in rows if not (keep_last and is_kept(row))]:
            yield batch
        # By key, not by offset: some of what is behind may have stayed.
        last = rows[-1]
        moment = _exactly(last.finished_at)
        left = ahead.filter(finished_at__gte=moment).exclude(finished_at=moment, pk__lte=last.pk)


def _candidates(runs: RunQuerySet, *more: str) -> list[Candidate]:
    # Without more it is all in one index.
    rows: Any = runs.values_list("finished_at", "pk", *more)
    return [Candidate(*row) for row in rows]


def _newest_of_owners(due: RunQuerySet, keep_last: int) -> Callable[[Candidate], bool]:
    """Return a function that says whether a run is among the last finished of its owner."""

    @lru_cache(maxsize=OWNERS_REMEMBERED)
    def oldest_kept(user_id: Any, organization_id: Any) -> tuple[Any, frozenset[str]] | None:
        owned: Any = due.model._base_manager.using(due.db)
        owned = owned.finished()
        newest = owned.filter(user=user_id, organization=organization_id).order_by(
            "-finished_at", "-pk"
        )
        rows = list(newest.values_list("finished_at", "pk")[:keep_last])
        if len(rows) < keep_last:
            return None
        moment = rows[-1][0]
        return moment, frozenset(pk for finished_at, pk in rows if finished_at == moment)

    def is_kept(run: Candidate) -> bool:
        kept = oldest_kept(run.user_id, run.organization_id)
        return kept is None or run.finished_at > kept[0] or run.pk in kept[1]

    return is_kept


def _delete(due: RunQuerySet, batch: list[Candidate], by_id: bool) -> tuple[int, int]:
    """Delete a batch in one transaction; return how many went, and how many are protected.

    Either what is due from the first to the last of ``batch``, or each by its ID. Where a run
    is protected, the others go in smaller transactions.
    """

    def delete() -> int:
        with transaction.atomic(using=due.db):
            runs = _held(due, batch) if by_id else _between(due, batch)
            return runs.delete_finished()

    begin = time.monotonic()
    try:
        deleted = persistently(delete, due.db)
        _make_way(due.db, time.monotonic() - begin)
        return deleted, 0
    except IntegrityError as exc:
        if not is_foreign_key_violation(exc):
            raise
    if by_id and len(batch) == 1:
        return 0, 1
    if not by_id:
        batch = _candidates(_between(due, batch).order_by("finished_at", "pk"))
    middle = len(batch) // 2
    halves = [_delete(due, half, True) for half in (batch[:middle], batch[middle:]) if half]
    return sum(half[0] for half in halves), sum(half[1] for half in halves)


def _make_way(using: str, seconds: float) -> None:
    """Let others write, who have waited for ``seconds``.

    SQLite has one lock and no queue: the longer somebody waits, the less often they look.
    """
    connection = connections[using]
    if connection.vendor == "sqlite" and not connection.in_atomic_block:
        time.sleep(min(seconds, SQLITE_LOOKS_AGAIN))


def _held(due: RunQuerySet, batch: list[Candidate]) -> RunQuerySet:
    """Return the runs of ``batch`` that are still due, locked by nothing but their IDs."""
    every: Any = due.model._base_manager.using(due.db)
    ids = [run.pk for run in batch]
    locked = every.filter(pk__in=ids).locked().order_by("pk")
    list(locked.values_list("pk"))
    return every.filter(pk__in=list(due.filter(pk__in=ids).values_list("pk", flat=True)))


def _between(due: RunQuerySet, batch: list[Candidate]) -> RunQuerySet:
    """Return what is due from the first to the last of ``batch``.

    Far faster than by ID where IDs are random and rows lie in the order of time.
    """
    first, last = batch[0], batch[-1]
    beginning, end = _exactly(first.finished_at), _exactly(last.finished_at)
    return (
        due.filter(finished_at__gte=beginning, finished_at__lte=end)
        .exclude(finished_at=beginning, pk__lt=first.pk)
        .exclude(finished_at=end, pk__gt=last.pk)
    )


def _exactly(moment: datetime.datetime) -> Value:
    """Return a moment of a row for a condition, which the field would cut to the millisecond.

    Rows that a host's SQL wrote may be finer: they would be found again and again.
    """
    return Value(moment, output_field=DateTimeField())


def _log(deleted: int, batch: list[Candidate]) -> None:
    oldest, newest = (format_time(run.finished_at) for run in (batch[0], batch[-1]))
    logger.info(
        "%d runs pruned that finished from %s to %s",
        deleted,
        oldest,
        newest,
        extra={"deleted": deleted, "oldest": oldest, "newest": newest},
    )
