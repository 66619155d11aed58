"""Faults that a test plants into the app, to see that the checker finds them.

``PLANTED_FAULT`` in the environment names one. Nothing of this is in the app: classes of it, and
of Django, are changed while the process runs. A fault that is a race gets a window wide enough to
be met within few operations.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

from django.db import models, router, transaction
from django.db.backends.signals import connection_created
from django.db.models.signals import post_delete
from rest_framework.exceptions import NotFound
from rest_framework.response import Response

WINDOW = 0.1  # seconds between the look at a run and its deletion

_FOR_UPDATE = re.compile(r" FOR (NO KEY )?UPDATE( OF \S+)?")


def no_lock() -> None:
    """No statement locks a row: what was read may be outdated when something is done about it."""

    def without_lock(execute: Any, sql: str, *args: Any) -> Any:
        unlocked = _FOR_UPDATE.sub("", sql)
        result = execute(unlocked, *args)
        if unlocked != sql:
            time.sleep(WINDOW)
        return result

    def take_locks_away(connection: Any, **kwargs: Any) -> None:
        connection.execute_wrappers.append(without_lock)

    connection_created.connect(take_locks_away, weak=False)


def no_condition() -> None:
    """The API deletes whatever it finds, finished or not."""

    def destroy(view: Any, request: Any, **kwargs: Any) -> Response:
        return _delete(view.get_object())

    _view().destroy = destroy


def stale_owner() -> None:
    """The API asks who owns the run, and does not ask again when it deletes it."""

    def destroy(view: Any, request: Any, **kwargs: Any) -> Response:
        run = view.get_object()
        time.sleep(WINDOW)
        deleted, _ = type(run).objects.filter(pk=run.pk).delete()
        if not deleted:
            raise NotFound
        return Response(status=204)

    _view().destroy = destroy


def resurrected_under_deletion() -> None:
    """The API asks whether the run is finished, and does not ask again when it deletes it."""
    from actor_runs.exceptions import RunNotFinished

    def destroy(view: Any, request: Any, **kwargs: Any) -> Response:
        run = view.get_object()
        if not run.is_finished:
            raise RunNotFinished(run.pk, run.status)
        time.sleep(WINDOW)
        return _delete(run)

    _view().destroy = destroy


def signal_twice() -> None:
    """Receivers hear of one deletion in five twice."""
    destroy = _view().destroy
    answered = iter(range(10**9))

    def destroy_and_signal(view: Any, request: Any, **kwargs: Any) -> Response:
        response = destroy(view, request, **kwargs)
        if next(answered) % 5 == 0:
            run = view.queryset.model(pk=view.kwargs["runId"])
            post_delete.send(type(run), instance=run, using=router.db_for_write(type(run)))
        return response

    _view().destroy = destroy_and_signal


def _view() -> Any:
    from actor_runs.views import RunViewSet

    return RunViewSet


def _delete(run: Any) -> Response:
    """Delete a run by its ID alone, with its signals. Raises NotFound where it is gone."""
    using = router.db_for_write(type(run))
    with transaction.atomic(using=using):
        locked = models.QuerySet(type(run), using=using).select_for_update().filter(pk=run.pk)
        if not list(locked.values_list("pk")):
            raise NotFound
        models.Model.delete(run, using=using)
    return Response(status=204)


FAULTS: dict[str, Callable[[], None]] = {
    "no-lock": no_lock,
    "no-condition": no_condition,
    "stale-owner": stale_owner,
    "resurrected-under-deletion": resurrected_under_deletion,
    "signal-twice": signal_twice,
}
