"""The runs that staff selected for an action: each once, and in batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.db import router

from actor_runs.db.orm import is_single_table
from actor_runs.models import Run
from actor_runs.querysets import RunQuerySet


def select_runs(queryset: Any) -> RunQuerySet:
    """Return the runs of an action's queryset, on the database that is written to, each once."""
    selected = queryset.using(router.db_for_write(Run))
    if is_single_table(selected):
        return selected
    # What a subclass of the admin joins can have a run in several rows.
    return Run.objects.using(selected.db).filter(pk__in=selected.order_by().values("pk"))


def id_batches(runs: RunQuerySet, size: int) -> Iterator[list[str]]:
    """Yield the IDs of runs in their order. Runs deleted meanwhile do not disturb it."""
    ids = runs.order_by("pk").values_list("pk", flat=True)
    batch = list(ids[:size])
    while batch:
        yield batch
        batch = list(ids.filter(pk__gt=batch[-1])[:size])
