"""Importing: runs as the API returns them become rows, or change rows that are here already."""

from __future__ import annotations

import datetime
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any, NamedTuple

from django.core.exceptions import ValidationError
from django.db import DataError, IntegrityError, connections, router, transaction
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _

from actor_runs.models import Run
from actor_runs.serializers import RunShortSerializer
from actor_runs.sources import Record
from actor_runs.transactions import persistently
from actor_runs.validators import key_of, refuse, time

logger = logging.getLogger("actor_runs")

BATCH_RUNS = 500
# MariaDB takes statements of 16 MiB, and characters can be four bytes.
BATCH_CHARACTERS = 3_000_000
MOST_IGNORED_KEYS = 100
LONGEST_REASON = 500


FIELDS = {
    key_of(f.name): f.name
    for f in Run._meta.concrete_fields
    if not f.is_relation and f.name != "version"  # which is not of the API
}
# What the API makes of other fields.
DERIVED = {"userId", "buildNumberInt"}
REQUIRED = (
    "id",
    "actId",
    "status",
    "startedAt",
    "meta",
    "buildId",
    "defaultKeyValueStoreId",
    "defaultDatasetId",
    "defaultRequestQueueId",
)
# What a run cannot go through other statuses and back without changing.
MOVES = {"status", "finished_at"}
# A run in a list has some of the keys, without these: it says nothing of the others.
WHOLE = "options"
IN_LISTS = set(FIELDS.values()) & set(RunShortSerializer.fields_read)


@dataclass
class ImportResult:
    """What an import did, or would do in a dry run, in numbers of runs (int).

    ``older`` were left as they are here, since what is here is further on. ``refused`` is the
    number of records that are bad or belong to somebody else. ``ignored`` counts the unknown
    keys by name; beyond 100 names under the name ``...``.
    """

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    older: int = 0
    refused: int = 0
    ignored: Counter[str] = field(default_factory=Counter)


class Prepared(NamedTuple):
    """A record that was read and checked: the run, and the fields that it speaks of."""

    place: Any
    run: Run
    fields: list[str]
    size: int


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
    returns it: ``enumerate(objects)``, or what ``actor_runs.sources`` reads. A run whose ID is
    here already gets what is new; it is refused if it belongs to another owner, and left alone
    if it is further on here than in the record, unless ``force``. ``userId`` is ignored.

    Writes in batches, each its own short transaction, safe beside the API; memory is bounded,
    and if the records end in an exception, those before it are in. Statuses may change in any
    way: an import copies, and does not take steps. No ``save`` and no signals: see
    ``bulk_create``. ``dry_run`` writes nothing, nor does it lock.

    ``on_refused`` is called with the place and the reason for each bad record, which is logged
    as a warning on ``actor_runs`` otherwise; ``on_batch`` after each batch with the result so
    far. Raises ValueError unless there is exactly one owner.
    """
    if (user is None) == (organization is None):
        raise ValueError("Runs are imported for exactly one owner: a user or an organization.")
    owner = {"user": user, "organization": organization}
    work = _Import(owner, force, dry_run, on_refused or _warn)
    for batch in _batches(work.prepared(records)):
        work.save(batch)
        if on_batch is not None:
            on_batch(work.result)
    return work.result


def _warn(place: Any, reason: str) -> None:
    logger.warning("A run was not imported: %s: %s", place, reason)


def _batches(prepared: Iterable[Prepared | None]) -> Iterator[list[Prepared]]:
    """Yield batches of what is not None, also when what follows is an exception."""
    batch: list[Prepared] = []
    size = 0
    try:
        for number, item in zip(count(1), prepared, strict=False):
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


class _Import:
    """One import at work: what it was told, and its result so far."""

    def __init__(
        self,
        owner: dict[str, Any],
        force: bool,
        dry_run: bool,
        on_refused: Callable[[Any, str], None],
    ) -> None:
        self.owner = owner
        self.force = force
        self.dry_run = dry_run
        self.on_refused = on_refused
        self.result = ImportResult()
        self.using = router.db_for_write(Run)

    def prepared(self, records: Iterable[Record]) -> Iterator[Prepared | None]:
        """Yield what is good of ``records``, and None in the place of what is not."""
        for place, record in records:
            try:
                if isinstance(record, ValidationError):
                    raise record
                if not isinstance(record, dict):
                    raise ValidationError(_("A run must be an object."))
                self._count_ignored(record)
                run = self._checked_run(record)
            except ValidationError as exc:
                self._refuse(place, _reason(exc))
                yield None
            else:
                fields = FIELDS.values() if record.get(WHOLE) is not None else IN_LISTS
                yield Prepared(place, run, list(fields), len(repr(record)))

    def save(self, batch: list[Prepared], again: bool = True) -> None:
        """Write a batch; where the database refuses it, find out which run it is about."""
        try:
            outcomes, refused = persistently(lambda: self._write(batch), self.using)
        except (DataError, IntegrityError) as exc:
            if len(batch) > 1:
                middle = len(batch) // 2
                self.save(batch[:middle])
                self.save(batch[middle:])
            elif again:
                # Perhaps somebody else created it at the same time: then it is there now.
                self.save(batch, again=False)
            else:
                self._refuse(batch[0].place, str(exc).partition("\n")[0])
            return
        for outcome, number in outcomes.items():
            setattr(self.result, outcome, getattr(self.result, outcome) + number)
        for place in refused:
            self._refuse(place, _("id: A run with this ID belongs to another owner."))

    def _write(self, batch: list[Prepared]) -> tuple[Counter[str], list[Any]]:
        """Create and update in one transaction; return the outcomes, and the places of others'."""
        outcomes: Counter[str] = Counter()
        refused = []
        created: dict[str, Run] = {}
        changed: dict[str, Run] = {}
        changed_fields: set[str] = set()
        with transaction.atomic(using=self.using):
            runs = Run.objects.using(self.using).filter(pk__in={item.run.pk for item in batch})
            if not self.dry_run:
                # In the order in which runs are locked everywhere, against deadlocks.
                runs = runs.locked().order_by("pk")
            stored = {run.pk: run for run in runs}
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
                    for name in news:
                        setattr(here, name, getattr(run, name))
                    if not MOVES.isdisjoint(news):
                        # So that objects which others read before know that they are outdated.
                        here.version += 1
                        news.append("version")
                    if run.pk not in created:
                        changed[run.pk] = here
                        changed_fields.update(news)
                    outcomes["updated"] += 1
                else:
                    outcomes["unchanged"] += 1
            if not self.dry_run:
                self._create(created)
                self._update(changed, changed_fields)
        return outcomes, refused

    def _create(self, runs: dict[str, Run]) -> None:
        Run.objects.using(self.using).bulk_create([runs[pk] for pk in sorted(runs)])

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

    def _checked_run(self, record: dict[str, Any]) -> Run:
        """Return the run that a record is. Raises ValidationError with the fields' names."""
        values = {
            FIELDS[key]: value
            for key, value in record.items()
            if key in FIELDS and value is not None
        }
        errors: dict[str, Any] = {
            FIELDS[key]: refuse(FIELDS[key], _("is required."))
            for key in REQUIRED
            if FIELDS[key] not in values
        }
        for name in ("started_at", "finished_at"):
            if name in values:
                try:
                    values[name] = time(values[name], name)
                except ValidationError as exc:
                    errors[name] = exc
        if errors:
            raise ValidationError(errors)
        if values["status"] in Run.FINISHED and "finished_at" not in values:
            values["finished_at"] = _end(values["started_at"], values.get("stats"))
        run = Run(**self.owner, **values)
        # Its owner is the caller's word, and the database answers for it.
        run.clean_fields(exclude={"user", "organization"})
        run.clean()
        return run

    def _count_ignored(self, record: dict[str, Any]) -> None:
        ignored = self.result.ignored
        for key in record.keys() - FIELDS.keys() - DERIVED:
            name = printable(str(key))
            ignored[name if name in ignored or len(ignored) < MOST_IGNORED_KEYS else "..."] += 1

    def _refuse(self, place: Any, reason: str) -> None:
        self.result.refused += 1
        self.on_refused(place, printable(reason))


def _is_older(run: Run, fields: list[str], here: Run) -> bool:
    """Whether a record is of an earlier time than the row: resurrected less, or not finished yet.

    A resurrection is the only way back from being finished, and those are counted.
    """
    resurrected = here.stats.get("resurrectCount", 0)
    then = run.stats.get("resurrectCount", 0) if "stats" in fields else resurrected
    return (then, run.is_finished) < (resurrected, here.is_finished)


def _end(started_at: str, stats: Any) -> datetime.datetime | None:
    """Return when a run finished that does not say so: after its duration, or at once."""
    start = parse_datetime(started_at)
    duration = stats.get("durationMillis") if isinstance(stats, dict) else None
    try:
        return start and start + datetime.timedelta(milliseconds=duration or 0)
    except (OverflowError, TypeError, ValueError):
        return start


def _reason(error: ValidationError) -> str:
    """Return one line that names each key as the record has it, and what is wrong with it."""
    if not hasattr(error, "error_dict"):
        return " ".join(error.messages)
    reasons = []
    for name, errors in error.error_dict.items():
        for each in errors:
            # Checks of what is inside of a field name the place there.
            params = each.params or {}
            path = str(params.get("name", name)).removeprefix(name)
            message = params.get("message") or " ".join(each.messages)
            reasons.append(f"{key_of(name)}{path}: {message}")
    return " ".join(reasons)


def printable(text: str) -> str:
    """Return ``text`` as one line that every terminal and every log can take."""
    shown = text[:LONGEST_REASON]
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in shown)
