"""Transactions and connections: what Django does by default, and this app must not."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, TypeVar

from django.db import connections, models, router, transaction
from django.db.models import QuerySet

Rows = TypeVar("Rows", bound=QuerySet)


def set_rollback() -> None:
    """Roll back every transaction of ``ATOMIC_REQUESTS``, as REST framework's views do.

    Theirs cannot be imported: see the first lines of ``exceptions.py``.
    """
    for connection in connections.all(initialized_only=True):
        if connection.settings_dict["ATOMIC_REQUESTS"] and connection.in_atomic_block:
            connection.set_rollback(True)


def outside_atomic_requests(view: Callable[..., Any]) -> Callable[..., Any]:
    """Opt a view out of ``ATOMIC_REQUESTS`` on every database.

    The BEGIN and COMMIT of that setting are outside of the view, which cannot catch their errors.
    """
    for alias in connections:
        view = transaction.non_atomic_requests(using=alias)(view)
    return view


def release_connections() -> None:
    """Give the thread's connections back to their pools, or close those that are not kept open."""
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close_if_unusable_or_obsolete()


def begin_to_write(model: type[models.Model], using: str) -> None:
    """Take SQLite's only lock, if the database is SQLite: it has no locks of rows.

    The lock comes with the first write, and a write after a read fails at once if somebody else
    wrote in between. So a transaction that is going to write writes first.
    """
    connection = connections[using]
    if not connection.features.has_select_for_update:  # pragma: no branch  (make test-services)
        table = connection.ops.quote_name(model._meta.db_table)
        key = connection.ops.quote_name(model._meta.pk.attname)
        with connection.cursor() as cursor:
            cursor.execute(f"UPDATE {table} SET {key} = {key} WHERE 1 = 0")


def on_commit(work: Callable[[], Any], using: str) -> None:
    """Call ``work`` once the transaction on ``using`` is committed, now if there is none.

    After ``set_autocommit(False)`` that is when the host sets autocommit back, as Django has it.
    """
    connection = connections[using]
    is_manual = not connection.in_atomic_block and not connection.get_autocommit()
    # Without autocommit, Django's on_commit() raises outside of an atomic block.
    with transaction.atomic(using=using) if is_manual else nullcontext():
        transaction.on_commit(work, using=using)


def on_primary(rows: Rows) -> Rows:
    """Return the same rows, read from the database that writes go to."""
    # What ``rows.db`` is for a queryset that Django is going to write with.
    using = rows._db or router.db_for_write(rows.model, **rows._hints)  # type: ignore[attr-defined]
    return rows.using(using)


def lock_only_in_transaction(rows: Rows) -> Rows:
    """Return the same rows, without ``select_for_update()`` where there is no transaction.

    A host's ``get_queryset`` may lock and lean on ``ATOMIC_REQUESTS``, which the views opt out of.
    """
    if rows.query.select_for_update and not connections[rows.db].in_atomic_block:
        rows = rows.all()
        rows.query.select_for_update = False
    return rows


def max_parameters(using: str) -> int | None:
    """Return how many values of a list one statement may have, None if there is no limit.

    Half of the database's own limit, since a statement has other values too.
    """
    limit = connections[using].features.max_query_params
    return limit // 2 if limit else None
