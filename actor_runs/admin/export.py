"""The selected runs as a file: CSV for a spreadsheet, JSON Lines for ``import_actor_runs``."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import AsyncIterator, Iterator
from functools import partial
from itertools import chain
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib import admin
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, StreamingHttpResponse
from django.utils.translation import gettext_lazy

from actor_runs.admin.layout import OWNERS, shown_fields
from actor_runs.importing.records import FIELDS, REQUIRED
from actor_runs.models import Run
from actor_runs.overview import today
from actor_runs.schemas import format_time
from actor_runs.serializers import PRIVATE_META_KEYS

BATCH_SIZE = 500  # runs in memory at a time
# What a spreadsheet takes for the beginning of a formula, in full width too.
FORMULA_SIGNS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20", "\t", "\r", "\n")
# A formula inside of a text: a spreadsheet that separates cells by semicolons (as in German) or by
# tabs begins a cell there. The lookbehind keeps the time of a search linear in the blanks.
INNER_FORMULA = re.compile(r"(?<![;\s])[;\s]+(?=[=+@\uff1d\uff0b\uff0d\uff20-])")
SEPARATORS = frozenset(";\t\r\n")
# What is exported whatever the page shows, since without it no run can be imported.
ALWAYS = {*(FIELDS[key] for key in REQUIRED), "finished_at"}


@admin.action(permissions=["view"], description=gettext_lazy("Export the selected runs as CSV"))
def export_csv(modeladmin: Any, request: HttpRequest, queryset: Any) -> StreamingHttpResponse:
    """Answer with a table of the selected runs, in which a spreadsheet finds no formulas."""
    return _respond(request, _csv(_Export(modeladmin, request, queryset)), "text/csv", "csv")


@admin.action(
    permissions=["view"], description=gettext_lazy("Export the selected runs as JSON Lines")
)
def export_jsonl(modeladmin: Any, request: HttpRequest, queryset: Any) -> StreamingHttpResponse:
    """Answer with the selected runs, one a line, as ``import_actor_runs`` reads them."""
    export = _Export(modeladmin, request, queryset)
    return _respond(request, _jsonl(export), "application/jsonl", "jsonl")


class _Export:
    """The runs of a selection that the viewer may see, as records of the API's keys.

    A record has the fields that a run's page shows to this viewer, and those that an import needs.
    """

    def __init__(self, modeladmin: Any, request: HttpRequest, selected: Any) -> None:
        self._may_see = partial(modeladmin.has_view_permission, request)
        self._shown_of = partial(shown_fields, modeladmin, request)
        self._selected = selected.order_by("pk").select_related(None).prefetch_related(None)
        self.fields = FIELDS
        self._shown: set[str] | None = None  # a subclass may show other fields of other runs
        if modeladmin.shows_same_fields:
            first = self._selected.first()
            self._shown = self._shown_of(first) if first else set()
            self.fields = _exported(self._shown)

    def batches(self) -> Iterator[list[dict[str, Any]]]:
        """Yield the records a batch at a time, in the order of their IDs."""
        runs = list(self._selected[:BATCH_SIZE])
        while runs:
            # A host's join may double a run.
            found = {run.pk: run for run in runs}.values()
            yield [self._record(run) for run in found if self._may_see(run)]
            runs = list(self._selected.filter(pk__gt=runs[-1].pk)[:BATCH_SIZE])

    def _record(self, run: Run) -> dict[str, Any]:
        shown = self._shown_of(run) if self._shown is None else self._shown
        record = {key: getattr(run, name) for key, name in _exported(shown).items()}
        for key in ("startedAt", "finishedAt"):
            record[key] = record[key] and format_time(record[key])
        if "meta" not in shown:
            record["meta"] = {
                key: value for key, value in run.meta.items() if key not in PRIVATE_META_KEYS
            }
        if not shown.isdisjoint(OWNERS):
            record["userId"] = run.owner_key
        return record


def _exported(shown: set[str]) -> dict[str, str]:
    """Return the fields to export, by their keys, of a run whose page shows these."""
    return {key: name for key, name in FIELDS.items() if name in ALWAYS or name in shown}


def _jsonl(export: _Export) -> Iterator[str]:
    for records in export.batches():
        yield "".join(
            json.dumps({key: value for key, value in record.items() if value is not None}) + "\n"
            for record in records
        )


def _csv(export: _Export) -> Iterator[str]:
    writer = csv.writer(_Echo())
    keys = [*export.fields, "userId"]
    yield writer.writerow(keys)
    for records in export.batches():
        yield "".join(
            writer.writerow([_cell(record.get(key)) for key in keys]) for record in records
        )


class _Echo:
    """A file that gives back what is written, for ``csv.writer``."""

    def write(self, text: str) -> str:
        return text


def _cell(value: Any) -> Any:
    """Return a value for a cell: what begins like a formula has an apostrophe ahead of it."""
    if isinstance(value, (bool, dict, list)):
        value = json.dumps(value)
    if not isinstance(value, str):
        return value
    is_formula = value.startswith(FORMULA_SIGNS) or value.lstrip().startswith(FORMULA_SIGNS)
    text = INNER_FORMULA.sub(_mark, value)
    return f"'{text}" if is_formula else text


def _mark(blanks: re.Match[str]) -> str:
    """Return what is ahead of a sign, with an apostrophe if a cell may begin there."""
    is_begin = blanks.start() == 0 and blanks[0].isspace()
    return blanks[0] if is_begin or SEPARATORS.isdisjoint(blanks[0]) else f"{blanks[0]}'"


def _respond(
    request: HttpRequest, text: Iterator[str], content_type: str, extension: str
) -> StreamingHttpResponse:
    # What fails at once is an error's page, not a file that is cut off.
    chunks: Any = (chunk.encode(errors="replace") for chunk in chain([next(text, "")], text))
    if isinstance(request, ASGIRequest):  # which would read all of it first
        chunks = _asynchronous(chunks)
    return StreamingHttpResponse(
        chunks,
        content_type=f"{content_type}; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="runs-{today()}.{extension}"'},
    )


async def _asynchronous(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    def read() -> bytes | None:
        return next(chunks, None)

    while (chunk := await sync_to_async(read)()) is not None:
        yield chunk
