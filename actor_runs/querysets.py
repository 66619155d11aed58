"""The vocabulary of runs in bulk, and the one place where rows of runs are deleted."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.db import connections, models, transaction
from django.db.models import F, Q
from django.db.models.deletion import Collector

from actor_runs.conf import conf
from actor_runs.exceptions import RunNotFinished

if TYPE_CHECKING:
    from typing_extensions import Self

    from actor_runs.models import Run  # noqa: F401  the type of the rows
    from actor_runs.pruning import PruneResult


def organizations_of(user: Any) -> models.QuerySet[Any]:
    """Return the organizations that ``user`` is a member of, at this moment."""
    organization = apps.get_model(conf.organization_model)
    return organization._default_manager.filter(**{conf.organization_members: user})


class RunQuerySet(models.QuerySet["Run"]):
    """Runs in bulk."""

    def finished(self) -> Self:
        """Only runs that are over: SUCCEEDED, FAILED, TIMED-OUT or ABORTED."""
        return self.filter(status__in=self.model.FINISHED)

    def unfinished(self) -> Self:
        """Only runs that are not over yet."""
        return self.filter(status__in=self.model.UNFINISHED)

    def owned_by(self, user: Any) -> Self:
        """Only runs of ``user`` and of the organizations that ``user`` is a member of now.

        Asks for those organizations at once. Nobody's runs, for an anonymous user or an object
        of another model.
        """
        if not isinstance(user, get_user_model()):
            return self.none()
        # Not a join, which would double rows and could not be locked; and not a subquery, for
        # which PostgreSQL would use none of the indexes that begin with an owner.
        organizations = organizations_of(user).using(self.db).values_list("pk", flat=True)
        return self.filter(Q(user=user) | Q(organization__in=list(organizations)))

    def locked(self) -> Self:
        """These runs, held against every other writer until the transaction ends.

        Must be evaluated inside of a transaction. What it returns is what others have
        committed, not what this transaction saw before.
        """
        self._for_write = True
        runs = self.using(self.db)
        if connections[runs.db].features.has_select_for_update:
            return runs.select_for_update()  # pragma: no cover  (make test-services)
        # SQLite has no row locks. Its one lock comes with the first write, and a write after
        # a read fails at once where somebody else wrote in between: so write before reading.
        self.model._base_manager.using(runs.db).filter(pk="").update(status=F("status"))
        return runs

    def delete(self) -> tuple[int, dict[str, int]]:
        """Delete these runs, all of them or none.

        Returns what Django returns: how many objects went, and how many of each model.
        Raises RunNotFinished when one of them is unfinished at this moment, ProtectedError or
        RestrictedError when a host's foreign key forbids it.
        """
        runs = self._for_deletion()
        with transaction.atomic(using=runs.db):
            held = runs._held()
            for run in held:
                if not run.is_finished:
                    raise RunNotFinished(run.pk, run.status)
            deleted = self._collect_and_delete(held, using=runs.db)
        self._result_cache = None
        return deleted

    delete.alters_data = True  # type: ignore[attr-defined]
    delete.queryset_only = True  # type: ignore[attr-defined]

    def delete_finished(self) -> int:
        """Delete those of these runs that are finished at this moment; return how many."""
        runs = self._for_deletion().finished()
        if runs.can_be_deleted_at_once:
            # One conditional statement, which the database checks again for a row that it had
            # to wait for.
            deleted = runs._raw_delete(using=runs.db) or 0  # None, where nothing could match
            self._result_cache = None
            return deleted
        with transaction.atomic(using=runs.db):
            held = runs._held()
            self._collect_and_delete(held, using=runs.db)
        self._result_cache = None
        return len(held)

    delete_finished.alters_data = True  # type: ignore[attr-defined]
    delete_finished.queryset_only = True  # type: ignore[attr-defined]

    @property
    def can_be_deleted_at_once(self) -> bool:
        """Whether one statement deletes these runs, so that none has to be read: nothing hangs
        on them, nobody listens, and all conditions are on their own rows.
        """
        return self._stand_alone and Collector(using=self.db).can_fast_delete(self)

    def prune(self, older_than: timedelta, **options: Any) -> PruneResult:
        """Delete those of these runs that finished more than ``older_than`` ago, in batches.

        Takes the options of ``actor_runs.pruning.prune``, which says the rest.
        """
        from actor_runs.pruning import prune  # it needs the model, which needs this module

        return prune(self, older_than, **options)

    prune.alters_data = True  # type: ignore[attr-defined]

    def _for_deletion(self) -> Self:
        """The same runs on the primary database. Raises TypeError for what is no set of runs."""
        runs: Any = self.filter()
        if runs.query.distinct_fields or runs._fields is not None:
            raise TypeError("Runs cannot be deleted after distinct(*fields) or values().")
        runs = runs.order_by().select_related(None)
        runs._for_write = True
        return runs.using(runs.db)

    @property
    def _stand_alone(self) -> bool:
        """Whether all conditions are on the runs' own table, and each run is there once."""
        tables = sum(1 for uses in self.query.alias_refcount.values() if uses)
        return tables <= 1 and not self.query.distinct and not self.query.group_by

    def _held(self) -> list[Any]:
        """Lock these runs, in the order of their IDs, and return them as they are now.

        Having waited for a row, a database checks the conditions on that row again, but not
        those that it already answered in a subquery or a join: these are asked again.
        """
        if self._stand_alone:
            return list(self.locked().order_by("pk"))
        every: Any = self.model._base_manager.using(self.db)
        held = list(every.filter(pk__in=self.values("pk")).locked().order_by("pk"))
        still = set(self.values_list("pk", flat=True))
        return [run for run in held if run.pk in still]

    def _collect_and_delete(self, held: list[Any], using: str) -> tuple[int, dict[str, int]]:
        """Delete runs that the caller holds locked, in Django's own way: signals, cascades."""
        collector = Collector(using=using, origin=self)
        collector.collect(held)
        return collector.delete()
