"""Importing: runs as the API returns them become rows, or change rows that are here already."""

from __future__ import annotations

import copy
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from django.core.exceptions import ValidationError
from django.db import DataError, IntegrityError, connections, router, transaction

from actor_runs.db.errors import bisect, retry
from actor_runs.importing.records import Prepared, prepare, reason_of, unknown_keys
from actor_runs.importing.sources import MAX_REASON_LENGTH, Record, unwrap
from actor_runs.logs import printable
from actor_runs.models import Run
from actor_runs.signals import announce_status_change

logger = logging.getLogger("actor_runs")

BATCH_RUNS = 500
# MariaDB takes statements of 16 MiB, and characters can be four bytes.
BATCH_CHARACTERS = 3_000_000
MAX_IGNORED_KEYS = 100

# Changing these means that the status moved.
STATUS_FIELDS = {"status", "finished_at"}


@dataclass
class ImportResult:
    """What an import did, or would do in a dry run, in numbers of runs (int).

    ``older`` were left as they are, since they are newer here. ``refused`` is the
    number of records that are bad or belong to somebody else. ``ignored`` counts the unknown
    keys by name; beyond 100 names under the name ``...``.
    """

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    older: int = 0
    refused: int = 0
    ignored: Counter[str] = field(default_factory=Counter)

    @property
    def imported(self) -> int:
        """The number of records that were good, whatever became of them."""
        return self.created + self.updated + self.unchanged + self.older


def import_runs(
    records: Iterable[Record],
    *,
    user: Any = None,
    organization: Any = None,
    force: bool = False,
    dry_run: bool = False,
    on_refused: Callable[[Any, str], None] | None = None,
    on_batch: Callable[[ImportResult], None] | None = None,
) -> ImportResult:
    """Import runs for ``user`` or ``organization``, and return what became of them.

    ``records`` are pairs of a place, by which a bad record is named, and a run object as the API
    returns it or a webhook sends it: ``enumerate(objects)``, or what
    ``actor_runs.importing.sources`` reads. A run whose ID is here already gets what is new; it is
    refused if it belongs to another owner, and left alone if it is newer here than in the
    record, unless ``force``. ``userId`` is ignored.

    Writes in batches, each its own short transaction, safe beside the API; memory is bounded,
    and if the records end in an exception, those before it are in. Statuses may change in any
    way: the rules for transitions do not apply. ``run_status_changed`` is sent for each
    existing run whose status changed; ``save`` is not called and Django's signals are not sent:
    see ``bulk_create``. ``dry_run`` writes nothing, nor does it lock.

    ``on_refused`` is called with the place and the reason for each bad record, which is logged
    as a warning on ``actor_runs`` otherwise; ``on_batch`` after each batch with the result so
    far. Raises ValueError unless there is exactly one owner, TypeError for a run object without a
    place.
    """
    if (user is None) == (organization is None):
        raise ValueError("Runs are imported for exactly one owner: a user or an organization.")
    owner = {"user": user, "organization": organization}
    work = _Import(owner, force, dry_run, on_refused or _warn, router.db_for_write(Run))
    for batch in _batches(work.prepared(records)):
        bisect(batch, work.save, work.save_alone)
        if on_batch is not None:
            on_batch(work.result)
    return work.result


def _warn(place: Any, reason: str) -> None:
    logger.warning("A run was not imported: %s: %s", printable(str(place)), reason)


def _batches(prepared: Iterable[Prepared | None]) -> Iterator[list[Prepared]]:
    """Yield batches of what is not None, also when what follows is an exception."""
    batch: list[Prepared] = []
    size = 0
    try:
        for number, item in enumerate(prepared, 1):
            if item is not None:
                batch.append(item)
                size += item.size
            if number % BATCH_RUNS == 0 or size >= BATCH_CHARACTERS:
                yield batch
                batch, size = [], 0
    except Exception:
        yield batch
        raise
    yield batch


@dataclass
class _Import:
    """One import at work: what it was told, and its result so far."""

    owner: dict[str, Any]
    force: bool
    dry_run: bool
    on_refused: Callable[[Any, str], None]
    using: str
    result: ImportResult = field(default_factory=ImportResult)
    last_error: str = ""

    def prepared(self, records: Iterable[Record]) -> Iterator[Prepared | None]:
        """Yield what is good of ``records``, and None in the place of what is not."""
        for pair in records:
            if isinstance(pair, dict):
                raise TypeError(
                    "A record is a pair of a place and a run object: enumerate(objects)."
                )
            place, record = pair
            try:
                yield self._prepare(place, unwrap(record))
            except ValidationError as exc:
                self._refuse(place, reason_of(exc))
                yield None

    def save(self, batch: list[Prepared]) -> bool:
        """Write a batch; return False if the database refuses it for one of its runs."""
        try:
            outcomes, refused = retry(lambda: self._write(batch), self.using)
        except (DataError, IntegrityError) as exc:
            self.last_error = str(exc).partition("\n")[0]
            return False
        for outcome, number in outcomes.items():
            setattr(self.result, outcome, getattr(self.result, outcome) + number)
        for place in refused:
            self._refuse(place, "id: A run with this ID belongs to another owner.")
        return True

    def save_alone(self, item: Prepared) -> None:
        """Write a run that the database refused, or refuse its record."""
        # Another writer may have created it at the same time: then it is updated now.
        if not self.save([item]):
            self._refuse(item.place, self.last_error)

    def _write(self, batch: list[Prepared]) -> tuple[Counter[str], list[Any]]:
        """Create and update in one transaction.

        Returns the counts by outcome, and the places of the records that are refused.
        """
        outcomes: Counter[str] = Counter()
        refused = []
        created: dict[str, Run] = {}
        changed: dict[str, Run] = {}
        changed_fields: set[str] = set()
        with transaction.atomic(using=self.using):
            runs = Run.objects.using(self.using).filter(pk__in={item.run.pk for item in batch})
            stored = {run.pk: run for run in (runs if self.dry_run else runs.lock_rows())}
            old_statuses = {run.pk: run.status for run in stored.values()}
            for place, run, fields, _size in batch:
                here = stored.setdefault(run.pk, run)
                if here is run:
                    created[run.pk] = run
                    outcomes["created"] += 1
                elif (here.user_id, here.organization_id) != (run.user_id, run.organization_id):
                    refused.append(place)
                elif not self.force and _is_older(run, fields, here):
                    outcomes["older"] += 1
                elif news := [f for f in fields if getattr(run, f) != getattr(here, f)]:
                    if run.pk in created:  # a new attempt begins with the records as they were
                        here = created[run.pk] = stored[run.pk] = copy.copy(here)
                    else:
                        changed[run.pk] = here
                    for name in news:
                        setattr(here, name, getattr(run, name))
                    if not STATUS_FIELDS.isdisjoint(news):
                        # So that objects which others read before know that they are outdated.
                        here.version += 1
                        news.append("version")
                    changed_fields.update(news)
                    outcomes["updated"] += 1
                else:
                    outcomes["unchanged"] += 1
            if not self.dry_run:
                new = [created[pk] for pk in sorted(created)]
                Run.objects.using(self.using).bulk_create(new)
                self._update(changed, changed_fields)
                for pk, run in changed.items():
                    if run.status != old_statuses[pk]:
                        announce_status_change(run, old_statuses[pk], self.using)
        return outcomes, refused

    def _update(self, runs: dict[str, Run], fields: set[str]) -> None:
        """Update rows that are held locked. An upsert, many times faster than bulk_update."""
        features = connections[self.using].features
        if runs:
            Run.objects.using(self.using).bulk_create(
                [runs[pk] for pk in sorted(runs)],
                update_conflicts=True,
                update_fields=fields,
                unique_fields=["id"] if features.supports_update_conflicts_with_target else None,
            )

    def _prepare(self, place: Any, record: Any) -> Prepared:
        if isinstance(record, ValidationError):
            raise record
        if not isinstance(record, dict):
            raise ValidationError("A run must be an object.")
        ignored = self.result.ignored
        for key in unknown_keys(record):
            name = printable(str(key)[:MAX_REASON_LENGTH])
            ignored[name if name in ignored or len(ignored) < MAX_IGNORED_KEYS else "..."] += 1
        return prepare(place, record, self.owner)

    def _refuse(self, place: Any, reason: str) -> None:
        self.result.refused += 1
        self.on_refused(place, printable(reason[:MAX_REASON_LENGTH]))


def _is_older(run: Run, fields: list[str], here: Run) -> bool:
    """Whether a record is of an earlier time than the row: resurrected less, or not finished yet.

    A resurrection is the only way back from being finished, and those are counted.
    """
    resurrected = here.stats.get("resurrectCount", 0) if isinstance(here.stats, dict) else None
    if not isinstance(resurrected, int):  # QuerySet.update() validates nothing
        return False
    then = run.stats.get("resurrectCount", 0) if "stats" in fields else resurrected
    return (then, run.is_finished) < (resurrected, here.is_finished)
