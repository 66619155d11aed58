"""Query parameters: what each may be, and the filters of the list."""

from __future__ import annotations

import datetime
import re
from typing import Any
from urllib.parse import parse_qsl

from django.db import connections
from django.utils import timezone
from rest_framework.filters import BaseFilterBackend
from rest_framework.request import Request

from actor_runs.exceptions import InvalidInput
from actor_runs.models import RunStatus

MAX_PARAMETERS = 1000
LARGEST_WHOLE_NUMBER = 2**63 - 1  # what every database takes as an OFFSET

WHOLE_NUMBER = re.compile(r"[0-9]+", re.ASCII)
SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?", re.ASCII)
FLAGS = {"1": True, "true": True, "0": False, "false": False}
# A space stands where a client forgot to escape a +.
TIME = re.compile(
    r"(?P<year>[0-9]{4})-(?P<month>[0-9]{2})-(?P<day>[0-9]{2})"
    r"(?:T(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2})"
    r"(?::(?P<second>[0-9]{2})(?:\.(?P<fraction>[0-9]+))?)?"
    r"(?:Z|(?P<sign>[+ -])(?P<hours>[0-9]{2})(?::?(?P<minutes>[0-5][0-9]))?)?)?",
    re.ASCII,
)


class QueryParameters:
    """The parameters of one request, each read under its own rule.

    Every method returns None for a parameter that is absent or empty, and raises InvalidInput,
    which names the parameter, for a value that its rule does not know.
    """

    def __init__(self, request: Request) -> None:
        # Not request.GET, which decodes by the charset of a Content-Type, and raises late.
        query = request.META.get("QUERY_STRING", "")
        try:
            pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=MAX_PARAMETERS)
        except ValueError:
            raise InvalidInput(f"more than {MAX_PARAMETERS} parameters.") from None
        self._last = dict(pairs)

    def whole_number(self, name: str) -> int | None:
        value = self._matched(name, WHOLE_NUMBER, "must be a whole number, 0 or more.")
        if value is None:
            return None
        # Python itself refuses numbers of more than 4300 digits.
        digits = value[0].lstrip("0")
        return min(int(digits[:20] or 0), LARGEST_WHOLE_NUMBER)

    def seconds(self, name: str) -> float | None:
        value = self._matched(name, SECONDS, "must be a number of seconds, 0 or more.")
        return None if value is None else float(value[0])

    def flag(self, name: str) -> bool | None:
        value = self._last.get(name)
        if not value:
            return None
        if value not in FLAGS:
            raise InvalidInput(f"{name} must be 1, true, 0 or false.")
        return FLAGS[value]

    def statuses(self, name: str) -> list[str] | None:
        value = self._last.get(name)
        if not value:
            return None
        statuses = value.split(",")
        if not set(statuses) <= set(RunStatus.values):
            raise InvalidInput(f"{name} must be one or more of {','.join(RunStatus.values)}.")
        return statuses

    def time(self, name: str) -> datetime.datetime | None:
        """Return the moment in UTC; without an offset it is meant in UTC."""
        value = self._matched(name, TIME, "must be a time in ISO 8601, like 2019-11-30T07:34:24Z.")
        if value is None:
            return None
        year, month, day, hour, minute, second, hours, minutes = (
            int(digits or 0)
            for digits in value.group(
                "year", "month", "day", "hour", "minute", "second", "hours", "minutes"
            )
        )
        microsecond = int((value["fraction"] or "")[:6].ljust(6, "0"))
        offset = datetime.timedelta(hours=hours, minutes=minutes)
        try:
            zone = datetime.timezone(-offset if value["sign"] == "-" else offset)
            moment = datetime.datetime(
                year, month, day, hour, minute, second, microsecond, tzinfo=zone
            )
            return moment.astimezone(datetime.timezone.utc)
        except (ValueError, OverflowError):
            raise InvalidInput(f"{name} must be a time of the years 1 to 9999.") from None

    def _matched(self, name: str, pattern: re.Pattern[str], rule: str) -> re.Match[str] | None:
        value = self._last.get(name)
        if not value:
            return None
        match = pattern.fullmatch(value)
        if match is None:
            raise InvalidInput(f"{name} {rule}")
        return match


def as_stored(moment: datetime.datetime, using: str) -> datetime.datetime:
    """Return a moment in UTC as the database ``using`` compares it: naive without ``USE_TZ``."""
    # None without USE_TZ; UTC with it, unless the host has set another for the database.
    zone = connections[using].timezone
    try:
        local = moment.astimezone(zone or timezone.get_default_timezone())
    except OverflowError:
        # Within a day of the calendar's ends: no run lies beyond them.
        if zone is not None:
            day = datetime.timedelta(days=1)
            return moment + day if moment.year == datetime.MINYEAR else moment - day
        earliest = moment.year == datetime.MINYEAR
        return datetime.datetime.min if earliest else datetime.datetime.max
    return local if zone is not None else local.replace(tzinfo=None)


class RunFilter(BaseFilterBackend):
    """The list's ``status``, ``startedAfter`` and ``startedBefore``."""

    def filter_queryset(self, request: Request, queryset: Any, view: Any) -> Any:
        parameters = view.parameters
        statuses = parameters.statuses("status")
        after = parameters.time("startedAfter")
        before = parameters.time("startedBefore")
        if statuses is not None:
            queryset = queryset.filter(status__in=statuses)
        if after is not None:
            queryset = queryset.filter(started_at__gte=as_stored(after, queryset.db))
        if before is not None:
            queryset = queryset.filter(started_at__lte=as_stored(before, queryset.db))
        return queryset
