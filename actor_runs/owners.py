"""Who owns runs, and what becomes of the runs of an owner who is deleted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.db import models
from django.db.models import ProtectedError
from django.db.models.deletion import Collector

from actor_runs.conf import conf
from actor_runs.enums import FINISHED, UNFINISHED

if TYPE_CHECKING:
    from actor_runs.models import Run
    from actor_runs.querysets import RunQuerySet


def organization_ids(user: Any, using: str) -> list[Any]:
    """Return the primary keys of the organizations that ``user`` is a member of now."""
    first, *others = (
        organizations.values_list("pk", flat=True) for organizations in _organizations(user, using)
    )
    return list(first.union(*others) if others else first.distinct())


def is_member(user: Any, organization_id: Any, using: str | None) -> bool:
    """Return whether ``user`` is a member of the organization now."""
    return any(
        organizations.filter(pk=organization_id).exists()
        for organizations in _organizations(user, using)
    )


def _organizations(user: Any, using: str | None) -> list[models.QuerySet[Any]]:
    """Return the organizations of ``user``, for each path from the model to its members.

    One queryset for each path: a condition with OR over several joins would use no index.
    """
    organizations = apps.get_model(conf.organization_model)._default_manager.using(using)
    return [organizations.filter(**{path: user}).order_by() for path in conf.organization_members]


def can_own(user: Any) -> bool:
    """Return whether ``user`` can own runs: a saved user of the user model."""
    return isinstance(user, get_user_model()) and user.pk is not None


def delete_finished_runs(
    collector: Collector, field: Any, sub_objs: RunQuerySet, using: str
) -> None:
    """Delete the runs of an owner who is deleted, or protect the owner: an ``on_delete``.

    ``ACTOR_RUNS["ON_OWNER_DELETE"]`` says which runs protect the owner: the unfinished ones, or
    all. ``Collector`` calls this before its transaction begins. So the runs are looked at here
    for an early answer, and once more under a lock in ``RunQuerySet._raw_delete``.
    """
    runs = sub_objs.defer(None)
    unfinished = runs.filter(status__in=UNFINISHED)
    raise_if_protected(runs if conf.on_owner_delete == "PROTECT" else unfinished)
    source = {"source": field.remote_field.model, "source_attr": field.name}
    if not hasattr(runs, "delete_finished"):
        # The querysets of a migration's historical models are Django's own. A run that goes on
        # meanwhile stays, and so the database keeps its owner.
        collector.collect(runs.filter(status__in=FINISHED), **source, fail_on_restricted=False)
        return
    if hasattr(collector, "nested"):
        # The admin's collector, which shows what it collects and deletes nothing.
        collector.collect(runs, **source, nullable=field.null)
    elif not runs.can_be_deleted_at_once:
        # Raises ProtectedError before the transaction begins, so that a host that catches it can
        # go on with a transaction of its own.
        Collector(using=using).collect(runs)
    runs._collector = collector
    collector.fast_deletes.append(runs)


delete_finished_runs.lazy_sub_objs = True  # type: ignore[attr-defined]  # called without runs too


def raise_if_protected(protecting: Iterable[Run]) -> None:
    """Raise ProtectedError, as Django words it, if there are runs that protect their owner."""
    protected: Any = set(protecting)
    if protected:
        run = next(iter(protected))
        name = "user" if run.user_id is not None else "organization"
        owner = run._meta.get_field(name).related_model.__name__
        raise ProtectedError(
            f"Cannot delete some instances of model {owner!r} because they are referenced "
            f"through protected foreign keys: 'Run.{name}'.",
            protected,
        )
