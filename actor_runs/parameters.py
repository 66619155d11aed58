"""The query parameters and the run ID: their rules, and the texts of their errors."""

from __future__ import annotations

import datetime
import re
from typing import Any
from urllib.parse import parse_qsl

from rest_framework.request import Request

from actor_runs.enums import RunStatus
from actor_runs.exceptions import InvalidInput
from actor_runs.schemas import MAX_INTEGER, Schema, choice

MAX_PARAMETERS = 1000

# Reject only what can never be an ID.
RUN_ID = re.compile(r"[!-~]{1,64}", re.ASCII)
INTEGER_RULE = "must be a whole number, 0 or more."
INTEGER = re.compile(r"[0-9]+", re.ASCII)
SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?", re.ASCII)
FLAGS = {"1": True, "true": True, "0": False, "false": False}
FLAG = re.compile("|".join(FLAGS))
# A space stands where a client forgot to escape a +.
TIME = re.compile(
    r"(?P<year>[0-9]{4})-(?P<month>[0-9]{2})-(?P<day>[0-9]{2})"
    r"(?:T(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2})"
    r"(?::(?P<second>[0-9]{2})(?:\.(?P<fraction>[0-9]+))?)?"
    r"(?:Z|(?P<sign>[+ -])(?P<hours>[0-9]{2})(?::?(?P<minutes>[0-5][0-9]))?)?)?",
    re.ASCII,
)

# What the methods of QueryParameters accept. An empty value, which counts as absent, is left out.
INTEGER_SCHEMA: Schema = {"type": "integer", "minimum": 0}
SECONDS_SCHEMA: Schema = {"type": "number", "minimum": 0}
BOOLEAN_SCHEMA: Schema = choice(*FLAGS).schema
STATUSES_SCHEMA: Schema = {"type": "array", "items": choice(*RunStatus.values).schema}
# With a type of its own, without which drf-yasg fails.
TIME_SCHEMA: Schema = {"type": "string", "anyOf": [{"format": "date-time"}, {"format": "date"}]}


def query_parameter(name: str, schema: Schema, description: str, **options: Any) -> Schema:
    """Return a parameter as REST framework's ``get_schema_operation_parameters`` returns it."""
    return {"name": name, "in": "query", "description": description, "schema": schema, **options}


def lookup_value(view: Any) -> str | None:
    """Return the value by which the path names a run, normally its ID; None for a list."""
    if _is_list(view):
        return None  # the path may have the ID of something else
    # As REST framework's GenericAPIView names it; plain views have neither.
    name = getattr(view, "lookup_url_kwarg", None) or getattr(view, "lookup_field", None)
    value = view.kwargs.get(name)
    return None if value is None else str(value)  # a host's path may convert it


def _is_list(view: Any) -> bool:
    action = getattr(view, "action", None)  # of a viewset
    if action is not None:
        return bool(action == "list")
    return hasattr(view, "list") and not hasattr(view, "retrieve")


def check_run_id(run_id: str) -> None:
    """Raise InvalidInput if no run can have this ID."""
    if not RUN_ID.fullmatch(run_id):
        raise InvalidInput("runId must be 1 to 64 visible ASCII characters.")


class QueryParameters:
    """The query parameters of one request.

    Raises InvalidInput if there are too many. Every method returns None for a parameter that is
    absent or empty, and raises InvalidInput, which names the parameter, for a value that is not
    valid.
    """

    def __init__(self, request: Request) -> None:
        # Not request.GET, which decodes by the charset of a Content-Type, and raises late.
        query = request.META.get("QUERY_STRING", "")
        try:
            pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=MAX_PARAMETERS)
        except ValueError:
            raise InvalidInput(f"more than {MAX_PARAMETERS} parameters.") from None
        self._last = dict(pairs)  # of a repeated parameter the last counts

    def integer(self, name: str) -> int | None:
        """Return a whole number from 0 to ``MAX_INTEGER``; a larger one is cut to that."""
        match = self._match(name, INTEGER, INTEGER_RULE)
        if match is None:
            return None
        # Python itself refuses numbers of more than 4300 digits.
        digits = match[0].lstrip("0")
        return min(int(digits[:20] or 0), MAX_INTEGER)

    def seconds(self, name: str) -> float | None:
        """Return a number of seconds from 0, with or without decimals."""
        match = self._match(name, SECONDS, "must be a number of seconds, 0 or more.")
        return None if match is None else float(match[0])

    def boolean(self, name: str) -> bool | None:
        """Return what ``1``, ``true``, ``0`` or ``false`` says."""
        match = self._match(name, FLAG, "must be 1, true, 0 or false.")
        return None if match is None else FLAGS[match[0]]

    def statuses(self, name: str) -> list[str] | None:
        """Return one status or several, which commas separate."""
        value = self._last.get(name)
        if not value:
            return None
        statuses = value.split(",")
        if not set(statuses) <= set(RunStatus.values):
            raise InvalidInput(f"{name} must be one or more of {','.join(RunStatus.values)}.")
        return statuses

    def time(self, name: str) -> datetime.datetime | None:
        """Return the moment in UTC, which is also meant where there is no offset."""
        match = self._match(name, TIME, "must be a time in ISO 8601, like 2019-11-30T07:34:24Z.")
        if match is None:
            return None
        names = ("year", "month", "day", "hour", "minute", "second", "hours", "minutes")
        *parts, hours, minutes = (int(digits or 0) for digits in match.group(*names))
        microsecond = int((match["fraction"] or "")[:6].ljust(6, "0"))
        offset = datetime.timedelta(hours=hours, minutes=minutes)
        try:
            zone = datetime.timezone(-offset if match["sign"] == "-" else offset)
            moment = datetime.datetime(*parts, microsecond, tzinfo=zone)  # type: ignore[misc, arg-type]
            return moment.astimezone(datetime.timezone.utc)
        except (ValueError, OverflowError):
            raise InvalidInput(f"{name} must be a time of the years 1 to 9999.") from None

    def _match(self, name: str, pattern: re.Pattern[str], rule: str) -> re.Match[str] | None:
        value = self._last.get(name)
        if not value:
            return None
        match = pattern.fullmatch(value)
        if match is None:
            raise InvalidInput(f"{name} {rule}")
        return match
