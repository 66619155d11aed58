"""The pages of the list: ``limit``, ``offset`` and ``desc``."""

from __future__ import annotations

from typing import Any

from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response

MAX_LIMIT = 1000


class RunPagination(BasePagination):
    """Runs by ``startedAt``, ties by ID, both ascending unless ``desc``."""

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any]:
        parameters = view.parameters
        self.limit = min(parameters.whole_number("limit") or MAX_LIMIT, MAX_LIMIT)
        self.offset = parameters.whole_number("offset") or 0
        self.desc = parameters.flag("desc") or False
        order = ("-started_at", "-id") if self.desc else ("started_at", "id")
        # One row more than asked for: where it is not there, the total is known.
        rows = list(queryset.order_by(*order)[self.offset : self.offset + self.limit + 1])
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
