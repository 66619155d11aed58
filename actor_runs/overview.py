"""Overview: how runs stand now, and what a range of days had, from a bounded number of rows."""

from __future__ import annotations

import datetime
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext as _

from actor_runs.db.statements import Repeated, count_rows, read_rows
from actor_runs.enums import UNFINISHED, RunStatus

if TYPE_CHECKING:
    from actor_runs.models import Run
    from actor_runs.querysets import RunQuerySet

__all__ = ["Day", "Figures", "Overview", "overview"]

DEFAULT_DAYS = 30
MAX_DAYS = 366
MAX_COUNTED = 50_000  # runs of each status
MAX_READ = 20_000  # runs read for a range; a longer one is sampled down to this number
MAX_PARTS = 900  # slices into which such a range is cut
MAX_ENTRIES_COUNTED = 200_000  # entries of an index, in slices that have more runs than were read
MAX_WEIGHT = 100  # runs that one of the sample stands for at most, if a slice is too large to count
LISTED = 10
TOP = 5


@dataclass
class Figures:
    """Numbers of runs and of failed runs (int), and their cost in USD (float)."""

    runs: int = 0
    failed: int = 0
    cost: float = 0.0


@dataclass
class Day:
    """The runs that started on one day.

    ``statuses`` (int by status) counts them by their status now. ``cost`` (float) is in USD.
    ``is_estimate`` (bool): the figures are calculated from a part of the day's runs.
    """

    date: datetime.date
    statuses: Counter[str] = field(default_factory=Counter)
    cost: float = 0.0
    is_estimate: bool = False

    @property
    def runs(self) -> int:
        """How many runs started on this day."""
        return sum(self.statuses.values())


@dataclass
class Overview:
    """How runs stand.

    ``statuses`` (int by status): how many runs have each status now, whenever they started. Counted
    to ``MAX_COUNTED`` (50000), which means that many or more.
    ``longest_unfinished`` (Run): those of the unfinished runs that started first, 10 at most.
    ``days`` (Day): each day of the range from ``since`` to ``until`` (date).
    ``owners`` (Figures by user or organization) and ``actors`` (Figures by Actor ID): the 5 with
    the most runs in the range, the 5 with the most failed runs, and the 5 with the highest cost;
    ordered by the number of their runs.
    """

    since: datetime.date
    until: datetime.date
    statuses: dict[RunStatus, int]
    longest_unfinished: list[Run]
    days: list[Day]
    owners: dict[models.Model, Figures]
    actors: dict[str, Figures]

    @property
    def is_estimate(self) -> bool:
        """Whether some figures of the range are calculated from a part of its runs."""
        return any(day.is_estimate for day in self.days)


class Row(NamedTuple):
    """What is read of a run."""

    started_at: datetime.datetime
    status: str
    usage_total_usd: float | None
    user_id: Any
    organization_id: Any
    act_id: str
    pk: str  # so that a host's DISTINCT does not take two runs for one

    @property
    def owner(self) -> tuple[str, Any]:
        if self.user_id is not None:
            return "user", self.user_id
        return "organization", self.organization_id


# Of an owner or an Actor: runs, failed runs, cost.
_Sums = dict[Any, list[float]]


def overview(
    runs: RunQuerySet, since: datetime.date | None = None, until: datetime.date | None = None
) -> Overview:
    """Return how ``runs`` stand, and the figures of those that started in a range of days.

    ``since`` and ``until`` are the first and the last day, in the current time zone. ``until`` is
    today by default, or ``since`` if that is later. ``since`` makes a range of 30 days by default.

    The number of rows and index entries that are read is bounded. If more than 20000 runs started
    in the range, its figures are estimates: see ``is_estimate``.

    Raises TypeError for what is not a date; ValueError if the range ends before it begins, has
    more than 366 days, or is not inside of the years 1 to 9999.
    """
    for day in (since, until):
        if day is not None and (
            not isinstance(day, datetime.date) or isinstance(day, datetime.datetime)
        ):
            raise TypeError(f"A range is from one date to another, not {day!r}.")
    until = until or max(today(), since or datetime.date.min)
    try:
        since = since or until - datetime.timedelta(days=DEFAULT_DAYS - 1)
        number = (until - since).days + 1
        if number < 1:
            raise ValueError(_("The range ends before it begins."))
        if number > MAX_DAYS:
            raise ValueError(_("A range has at most %d days.") % MAX_DAYS)
        dates = [since + datetime.timedelta(days=index) for index in range(number + 1)]
        midnights = [datetime.datetime.combine(date, datetime.time(), _zone()) for date in dates]
        bounds = [runs.model._meta.get_field("started_at").to_python(each) for each in midnights]
    except (OverflowError, ValidationError):
        raise ValueError(_("A range is inside of the years 1 to 9999.")) from None

    statuses: list[dict[str, float]] = [defaultdict(float) for _date in dates[:-1]]
    days = [Day(date) for date in dates[:-1]]
    owners: _Sums = defaultdict(lambda: [0.0, 0.0, 0.0])
    actors: _Sums = defaultdict(lambda: [0.0, 0.0, 0.0])
    for row, weight in _rows(runs, bounds):
        index = bisect_right(bounds, row.started_at) - 1
        cost = weight * (row.usage_total_usd or 0)
        statuses[index][row.status] += weight
        days[index].cost += cost
        days[index].is_estimate |= weight != 1
        for sums in (owners[row.owner], actors[row.act_id]):
            sums[0] += weight
            sums[1] += weight if row.status == RunStatus.FAILED else 0
            sums[2] += cost
    for index, counts in enumerate(statuses):
        days[index].statuses.update({status: round(n) for status, n in counts.items()})
    return Overview(
        since,
        until,
        _count_statuses(runs),
        _longest_unfinished(runs),
        days,
        _with_owners(runs, _top(owners)),
        _top(actors),
    )


def today() -> datetime.date:
    """Return the current day in the current time zone."""
    return datetime.datetime.now(tz=_zone()).date()


def _zone() -> datetime.tzinfo:
    return timezone.get_current_timezone() if settings.USE_TZ else timezone.get_default_timezone()


def _rows(runs: RunQuerySet, bounds: list[datetime.datetime]) -> Iterator[tuple[Row, float]]:
    """Yield runs of a range of days, each with how many runs it stands for: 1 if all are read."""

    def started(since: Any, until: Any) -> Any:
        return runs.filter(started_at__gte=since, started_at__lt=until)

    chosen = started(bounds[0], bounds[-1])
    if chosen.order_by()[: MAX_READ + 1].count() <= MAX_READ:
        for values in chosen.order_by().values_list(*Row._fields)[:MAX_READ]:
            yield Row(*values), 1
        return

    time_field: Any = runs.model._meta.get_field("started_at")
    parts = list(_parts(bounds))
    size = MAX_READ // len(parts)

    def newest(since: Any, until: Any) -> Any:
        rows = started(since, until).order_by("-started_at", "-pk")
        return rows.values_list(*Row._fields)[: size + 1]

    edges = [since for since, _until in parts]
    rows: dict[int, list[Row]] = defaultdict(list)
    for values in read_rows(Repeated((time_field, time_field), newest, parts), runs.db):
        row = Row(*values)
        rows[bisect_right(edges, row.started_at) - 1].append(row)
    full = [place for place in rows if len(rows[place]) > size]
    limit = MAX_ENTRIES_COUNTED // (len(full) or 1)

    def counted(place: Any, since: Any, until: Any) -> Any:
        found = started(since, until).order_by().annotate(place=place)
        return found.values_list("place", "pk")[:limit]

    fields = (models.IntegerField(), time_field, time_field)
    values = [(place, *parts[place]) for place in full]
    counts = count_rows(Repeated(fields, counted, values), runs.db) if full else {}
    for place, found in rows.items():
        weight = max(counts.get(place, 0) / len(found), 1)
        if counts.get(place) == limit:
            # The count met its limit: take the rest of the slice for what was read of it.
            since, until = parts[place]
            read = until - min(row.started_at for row in found)
            weight = max(weight, min((until - since) / read, MAX_WEIGHT))
        yield from ((row, weight) for row in found)


def _parts(bounds: list[datetime.datetime]) -> Iterator[tuple[datetime.datetime, ...]]:
    """Yield the parts of the days of a range, as pairs of times.

    An odd number for each day: schedules start runs at full hours, and these must not have the
    same place in each part.
    """
    number = MAX_PARTS // (len(bounds) - 1) | 1
    second = datetime.timedelta(seconds=1)
    for start, end in pairwise(bounds):
        lengths = [(end - start) * index // number // second * second for index in range(number)]
        edges = [start + length for length in lengths]
        yield from zip(edges, [*edges[1:], end], strict=True)


def _count_statuses(runs: RunQuerySet) -> dict[RunStatus, int]:
    def counted(place: Any, status: Any) -> Any:
        found = runs.filter(status=status).order_by().annotate(place=place)
        return found.values_list("place", "pk")[:MAX_COUNTED]

    fields = (models.IntegerField(), runs.model._meta.get_field("status"))
    counts = count_rows(Repeated(fields, counted, list(enumerate(RunStatus))), runs.db)
    return {status: counts.get(place, 0) for place, status in enumerate(RunStatus)}


def _longest_unfinished(runs: RunQuerySet) -> list[Run]:
    # Status by status: for several, a database walks everybody's runs in the order of their start.
    found = [
        run
        for status in UNFINISHED
        for run in runs.filter(status=status)
        .select_related("user", "organization")
        .order_by("started_at", "pk")[:LISTED]
    ]
    return sorted(found, key=attrgetter("started_at", "pk"))[:LISTED]


def _top(sums: _Sums) -> dict[Any, Figures]:
    """Return those with the most runs, the most failed runs and the highest cost."""
    chosen = {
        key
        for index in range(3)
        for key in sorted(sums, key=lambda key: sums[key][index], reverse=True)[:TOP]
        if sums[key][index]
    }
    ordered = sorted(chosen, key=lambda key: sums[key], reverse=True)
    return {
        key: Figures(round(runs), round(failed), cost)
        for key in ordered
        for runs, failed, cost in [sums[key]]
    }


def _with_owners(
    runs: RunQuerySet, figures: dict[tuple[str, Any], Figures]
) -> dict[models.Model, Figures]:
    """Return the figures by the owners themselves, without those that were deleted meanwhile."""
    owners: dict[tuple[str, Any], models.Model] = {}
    for name in ("user", "organization"):
        model: Any = runs.model._meta.get_field(name).related_model
        keys = [pk for kind, pk in figures if kind == name]
        found = model._base_manager.using(runs.db).in_bulk(keys) if keys else {}
        owners |= {(name, pk): owner for pk, owner in found.items()}
    return {owners[key]: figures[key] for key in figures if key in owners}
