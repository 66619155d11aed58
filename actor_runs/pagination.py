"""The pages of the list: ``limit``, ``offset`` and ``desc``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response

from actor_runs.parameters import BOOLEAN_SCHEMA, INTEGER_SCHEMA, QueryParameters, query_parameter
from actor_runs.schemas import Schema, object_of

__all__ = ["RunPagination"]

MAX_LIMIT = 1000


class RunPagination(BasePagination):
    """Runs by ``startedAt``, ties by ID, both ascending unless ``desc``."""

    # What is read of the runs, as tuples; nothing: the runs themselves, of which a thousand cost
    # more to make than to read and to write.
    columns: Sequence[str] = ()

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any]:
        parameters = QueryParameters(request)
        self.limit = min(parameters.integer("limit") or MAX_LIMIT, MAX_LIMIT)
        self.offset = parameters.integer("offset") or 0
        self.desc = parameters.boolean("desc") or False
        rows = queryset.page(
            desc=self.desc,
            offset=self.offset,
            # One more than asked for: if it is not there, the total is known.
            limit=self.limit + 1,
            columns=self.columns,
        )
        is_last = len(rows) <= self.limit and (rows or not self.offset)
        seen = self.offset + len(rows)
        # What was deleted since the rows were read still counts, as it is on the page.
        self.total = seen if is_last else max(queryset.count(), seen if rows else 0)
        return rows[: self.limit]

    def get_paginated_response(self, data: list[Any]) -> Response:
        page = {
            "total": self.total,
            "offset": self.offset,
            "limit": self.limit,
            "count": len(data),
            "desc": self.desc,
            "items": data,
        }
        return Response({"data": page})

    def get_paginated_response_schema(self, schema: Schema) -> Schema:
        at_most = {"maximum": MAX_LIMIT}
        page = {
            "total": {**INTEGER_SCHEMA, "description": "How many on all pages.", "example": 1},
            "offset": {**INTEGER_SCHEMA, "example": 0},
            "limit": {"type": "integer", "minimum": 1, **at_most, "example": MAX_LIMIT},
            "count": {
                **INTEGER_SCHEMA,
                **at_most,
                "description": "How many on this page.",
                "example": 1,
            },
            "desc": {"type": "boolean", "example": False},
            "items": schema,
        }
        return object_of({"data": object_of(page)})

    def get_schema_operation_parameters(self, view: Any) -> list[Schema]:
        return [
            query_parameter(
                "limit",
                {**INTEGER_SCHEMA, "default": MAX_LIMIT},
                f"How many runs at most. Over {MAX_LIMIT} means {MAX_LIMIT}, 0 means the default.",
            ),
            query_parameter(
                "offset", {**INTEGER_SCHEMA, "default": 0}, "How many runs to pass over."
            ),
            query_parameter(
                "desc",
                {**BOOLEAN_SCHEMA, "default": "0"},
                "Newest first: sorts by `startedAt`, ties by ID. Oldest first by default.",
            ),
        ]
