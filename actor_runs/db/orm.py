"""How Django would read and delete the rows of a queryset, by its private API.

All of it was seen to work on Django 5.2, 6.0 and 6.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, TypeVar

from django.db import connections, models, router
from django.db.models import QuerySet, Subquery
from django.db.models.deletion import Collector
from django.db.models.expressions import Col, RawSQL
from django.db.models.lookups import Exact
from django.db.models.query import ModelIterable
from django.db.models.sql import Query
from django.db.models.sql.where import NothingNode

from actor_runs.db.transactions import begin_to_write, max_parameters

Row = TypeVar("Row", bound=models.Model)
Rows = TypeVar("Rows", bound=QuerySet[Any])

LOCKED_AT_ONCE = 1000  # keys in one statement


def all_rows(model: type[models.Model], using: str | None, **hints: Any) -> Any:
    """Return all rows of a model, also of a proxy whose manager leaves some out.

    ``base_manager_name`` is looked up on the proxy, whose manager of that name may filter.
    """
    base: Any = model._meta.concrete_model._base_manager.all()  # type: ignore[union-attr]
    return type(base)(model, using=using, hints=hints)


def row_of(instance: models.Model, using: str | None = None) -> Any:
    """Return the row of an object, as a queryset, on the database that writes go to."""
    model = type(instance)
    using = using or router.db_for_write(model, instance=instance)
    return all_rows(model, using).filter(pk=instance.pk)


def is_plain(rows: Any) -> bool:
    """Return whether this is ``Model.objects.all()``: all rows, all fields, and no order."""
    return (
        rows._iterable_class is ModelIterable
        and not rows._prefetch_related_lookups
        and vars(rows.query).items() <= _plain_attributes(rows.model).items()
    )


@cache
def _plain_attributes(model: type[models.Model]) -> dict[str, Any]:
    """Return the attributes of a query for all rows, those of its class and of a copy too.

    A method that changes nothing, such as ``defer(None)``, leaves a default of the class behind.
    """
    return {**vars(Query), **vars(Query(model).chain())}


def is_single_table(rows: QuerySet[Any]) -> bool:
    """Return whether all conditions are on the rows' own table, and each row is there once.

    Reads ``Query`` itself: Django has no public way to learn about joins and subqueries.
    """
    query = rows.query
    tables = sum(1 for references in query.alias_refcount.values() if references)
    return tables <= 1 and not (
        query.distinct
        or query.group_by
        or query.combinator
        or query.extra_tables
        or not can_be_narrowed(rows)
        or any(_reads_elsewhere(node) for node in _nodes(query.where))
    )


def has_all_rows(rows: QuerySet[Any]) -> bool:
    """Return whether these are all rows of one table, in whatever order."""
    return is_single_table(rows) and not rows.query.where and not rows.query.is_sliced


def can_be_narrowed(rows: QuerySet[Any]) -> bool:
    """Return whether ``filter()`` leaves only some of these rows, and none but these.

    A window function and DISTINCT ON see only what all conditions leave, the later ones too.
    """
    return not (rows.query.where.contains_over_clause or rows.query.distinct_fields)


def narrowable(rows: Rows) -> Rows:
    """Return the same rows, by a condition on their keys unless ``filter()`` narrows them."""
    if can_be_narrowed(rows):
        return rows
    every: Any = all_rows(rows.model, rows._db, **rows._hints)  # type: ignore[attr-defined]
    return every.filter(pk__in=rows.values("pk"))


def compared_columns(rows: QuerySet[Any]) -> set[str]:  # pragma: no cover  (make test-services)
    """Return the columns that the conditions compare."""
    return {node.target.attname for node in _nodes(rows.query.where) if isinstance(node, Col)}


def fixed_columns(rows: QuerySet[Any]) -> set[str]:
    """Return the columns of the rows' table that a condition fixes to one value.

    The rows are narrowed by ``filter()`` last, so that AND joins the conditions.
    """
    return {
        node.lhs.target.attname
        for node in rows.query.where.children
        if isinstance(node, Exact) and isinstance(node.lhs, Col)
    }


def _nodes(node: Any) -> Iterator[Any]:
    yield node
    if not isinstance(node, Query) and hasattr(node, "get_source_expressions"):
        for child in node.get_source_expressions():
            if child is not None:  # pragma: no branch  (make test-services)
                yield from _nodes(child)


def _reads_elsewhere(node: Any) -> bool:
    if isinstance(node, (Query, Subquery, RawSQL)):
        return True
    # extra(where=...) has no expressions to look into.
    return not hasattr(node, "get_source_expressions") and not isinstance(node, NothingNode)


def can_delete_at_once(rows: QuerySet[Any]) -> bool:
    """Return whether one statement can delete these rows, so that none has to be read.

    That is so if nothing depends on them, no receiver listens to their deletion, and all
    conditions are on their own table. ``Collector`` is how Django itself finds out.
    """
    return is_single_table(rows) and Collector(using=rows.db).can_fast_delete(rows)


def lock_rows(rows: QuerySet[Row], *fields: str) -> list[Row]:
    """Lock rows until the transaction ends, and return them as they are now.

    With ``fields`` only, if any are given. In the order of their primary keys, so that two who lock
    the same rows do not deadlock. Must be called inside of a transaction.
    """
    begin_to_write(rows.model, rows.db)
    rows = narrowable(rows)
    # MariaDB locks the entry of the index that it searches, and then the row. Other statements lock
    # the row first, so the two could deadlock.
    locks_rows_only = connections[rows.db].vendor != "mysql" or (
        compared_columns(rows) == {rows.model._meta.pk.attname}
    )
    if is_single_table(rows) and locks_rows_only:
        rows = rows.order_by("pk").select_for_update()
        return list(rows.only(*fields) if fields else rows)
    return _lock_by_key(rows, *fields)


def lock_row(row: QuerySet[Any], *fields: str) -> Any:
    """Lock one row, and return it as it is now, with ``fields`` only if any; None without a row."""
    return next(iter(lock_rows(row, *fields)), None)


def _lock_by_key(rows: QuerySet[Row], *fields: str) -> list[Row]:
    """Lock rows by their primary keys alone, if the conditions need other tables too.

    A locking read checks only conditions on the locked rows again. So all conditions are checked
    a second time under the lock, and count for a row that is as they saw it.
    """
    columns = (
        compared_columns(rows)
        if is_single_table(rows)
        else {field.attname for field in rows.model._meta.concrete_fields}
    )
    compared = sorted(columns)
    every = all_rows(rows.model, rows.db)
    rows = rows.order_by()
    keys = sorted(set(rows.values_list("pk", flat=True)))
    size = max_parameters(rows.db) or LOCKED_AT_ONCE
    locked: list[Row] = []
    for start in range(0, len(keys), size):
        batch = every.filter(pk__in=keys[start : start + size]).order_by("pk").select_for_update()
        batch = batch.only(*compared, *fields) if fields else batch
        matching = rows.filter(pk__in=[row.pk for row in batch])
        states = {pk: values for pk, *values in matching.values_list("pk", *compared)}
        locked += [
            row for row in batch if states.get(row.pk) == [getattr(row, name) for name in compared]
        ]
    return locked


class PartCollector(Collector):
    """Django's, which can do a part of what another collector is about to do."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._taken: set[models.Model] = set()

    def take_over(self, whole: Collector) -> None:
        """Take out of ``whole``, which has sent ``pre_delete``, the rows that both have collected.

        Otherwise the signals of these rows would be sent twice.
        """
        for model, rows in whole.data.items():
            taken = set(self.data.get(model, ())).intersection(rows)
            self._taken |= taken
            whole.data[model] = [row for row in rows if row not in taken]

    def instances_with_model(self) -> Iterator[tuple[type[models.Model], models.Model]]:
        """Yield the rows to send ``pre_delete`` for."""
        return (pair for pair in super().instances_with_model() if pair[1] not in self._taken)


def delete_locked(
    rows: Iterable[models.Model], using: str, origin: Any, whole: Collector | None = None
) -> dict[str, int]:
    """Delete rows that the caller has locked, with signals and cascades.

    Returns how many rows of each model were deleted, by its label. ``whole`` is the deletion that
    this one is a part of, if there is one. ``QuerySet.delete`` would
    read the rows a second time; ``Collector`` is what it is made of.
    """
    collector = PartCollector(using=using, origin=origin)
    collector.collect(list(rows))
    if whole is not None:
        collector.take_over(whole)
    return collector.delete()[1]
