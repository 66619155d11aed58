"""The filters of the list: ``status``, ``startedAfter`` and ``startedBefore``."""

from __future__ import annotations

from typing import Any

from rest_framework.filters import BaseFilterBackend
from rest_framework.request import Request

from actor_runs.fields import as_stored
from actor_runs.parameters import (
    STATUSES_SCHEMA,
    TIME_SCHEMA,
    QueryParameters,
    lookup_value,
    query_parameter,
)
from actor_runs.schemas import Schema

__all__ = ["RunFilter"]

TIME_RULE = (
    "ISO 8601, inclusive to the millisecond. A time without an offset is UTC, seconds and their "
    "fraction can be left out, and a date alone is its first moment."
)


class RunFilter(BaseFilterBackend):
    """Filters a list of runs, and leaves a request for one run alone."""

    def filter_queryset(self, request: Request, queryset: Any, view: Any) -> Any:
        if lookup_value(view) is not None:
            return queryset
        parameters = QueryParameters(request)
        if (after := parameters.time("startedAfter")) is not None:
            queryset = queryset.filter(started_at__gte=as_stored(after, queryset.db))
        if (before := parameters.time("startedBefore")) is not None:
            queryset = queryset.filter(started_at__lte=as_stored(before, queryset.db))
        if (statuses := parameters.statuses("status")) is not None:
            queryset = queryset.with_status(statuses)
        return queryset

    def get_schema_operation_parameters(self, view: Any) -> list[Schema]:
        if getattr(view, "detail", False):
            return []
        return [
            query_parameter(
                "status",
                STATUSES_SCHEMA,
                "One status, or several with commas. Empty means any.",
                explode=False,
                style="form",
            ),
            query_parameter(
                "startedAfter", TIME_SCHEMA, f"Only runs started then or later. {TIME_RULE}"
            ),
            query_parameter(
                "startedBefore", TIME_SCHEMA, f"Only runs started then or earlier. {TIME_RULE}"
            ),
        ]
