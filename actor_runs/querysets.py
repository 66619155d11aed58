"""Runs in bulk: whose they are, which are finished, and the one way to delete them."""

from __future__ import annotations

import copy
from collections import namedtuple
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import cache, partial
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

from django.core.exceptions import EmptyResultSet
from django.db import connections, models, transaction
from django.db.models import Q
from django.db.models.deletion import Collector
from django.db.models.functions import Coalesce

from actor_runs import recording
from actor_runs.conf import conf
from actor_runs.db.orm import (
    can_delete_at_once,
    delete_locked,
    is_plain,
    is_single_table,
    lock_row,
    lock_rows,
    narrowable,
)
from actor_runs.db.statements import (
    Parameter,
    PreparedQuery,
    Repeated,
    WireTime,
    page_of_ids,
    prepared,
)
from actor_runs.db.transactions import on_primary
from actor_runs.enums import FINISHED, UNFINISHED
from actor_runs.exceptions import RunNotFinished
from actor_runs.logs import log_deletion
from actor_runs.overview import overview
from actor_runs.owners import can_own, organization_ids, raise_if_protected
from actor_runs.pruning import prune
from actor_runs.schemas import MAX_INTEGER

if TYPE_CHECKING:
    from typing_extensions import Self

    from actor_runs.models import Run

__all__ = ["RunQuerySet"]


@cache
def _row_class(columns: tuple[str, ...]) -> Any:  # pragma: no cover  (make test-services)
    return namedtuple("Row", columns)


class Parts(NamedTuple):
    """A queryset as the union of parts: those of ``rows`` with one of the owners and statuses.

    ``owners`` are primary keys, of "user" and of "organization". No ``statuses``: all.
    """

    rows: RunQuerySet
    owners: dict[str, Sequence[Any]]
    statuses: list[str]

    def of_any_owner(self) -> Any:
        """Return those of ``rows`` that have one of the statuses."""
        return self.rows.filter(status__in=self.statuses) if self.statuses else self.rows


class RunQuerySet(models.QuerySet["Run"]):
    """Runs in bulk."""

    # Set by of_owners() and with_status(), kept by order_by() and select_related(). Other methods
    # drop it, and then the query is Django's own.
    _parts: Any = None
    # Set by delete_finished_runs(): the deletion of an owner, which these runs are a part of.
    _collector: Collector | None = None
    # Set by slicing, dropped by all methods: another queryset of the same runs, to read them by.
    _page: Any = None

    def finished(self) -> Self:
        """Return only the runs that are over: SUCCEEDED, FAILED, TIMED-OUT or ABORTED."""
        return self.filter(status__in=FINISHED)

    def unfinished(self) -> Self:
        """Return only the runs that are not over yet."""
        return self.filter(status__in=UNFINISHED)

    def owned_by(self, user: Any) -> Self:
        """Return only the runs of ``user`` and of the organizations that ``user`` is in now.

        Reads those organizations at once: asynchronous code calls it by ``sync_to_async``. A user
        who is anonymous, not saved, or of another model than ``AUTH_USER_MODEL`` owns nothing.
        Raises TypeError for what is not a user.
        """
        if not hasattr(user, "is_authenticated"):
            raise TypeError(f"owned_by() takes a user, not {user!r}.")
        if not can_own(user):
            return self.none()
        # A join would double rows and could not be locked, and for a subquery PostgreSQL uses
        # none of the indexes that begin with an owner.
        return self.of_owners([user.pk], organization_ids(user, using=self.db))

    def of_owners(self, users: Sequence[Any], organizations: Sequence[Any]) -> Self:
        """Return only the runs of these users and organizations, given by their primary keys."""
        runs = self.filter(Q(user__in=users) | Q(organization__in=organizations))
        is_narrowed = self._parts is None or self._parts.owners
        parts = Parts(self, {}, []) if is_narrowed else self._parts
        runs._parts = parts._replace(owners={"user": users, "organization": organizations})
        return runs

    def with_status(self, statuses: Sequence[str]) -> Self:
        """Return only the runs that have one of these statuses."""
        runs = self.filter(status__in=statuses)
        if statuses:
            runs._parts = Parts(self, {}, list(dict.fromkeys(statuses)))
        return runs

    def page(
        self, *, desc: bool, offset: int, limit: int, columns: Sequence[str] = ()
    ) -> list[Any]:
        """Return a page of these runs in the order of their start, ties in that of their IDs.

        Runs that have another order keep that; ``desc`` reverses it. The runs are ``Run`` objects,
        or named tuples if ``columns`` are given. In those a time may be text already, in the API's
        form.
        """
        runs: Any = self.order_by(*(("-started_at", "-id") if desc else ("started_at", "id")))
        if self.ordered:
            runs = self.reverse() if desc else self
        page = runs._page_of_owners(offset, offset + limit)
        page = runs[offset : offset + limit] if page is None else page
        return list(self._tuples(page, columns) if columns else page)

    def _tuples(self, runs: Any, columns: Sequence[str]) -> Any:
        """Return the rows of ``runs`` as named tuples of ``columns``."""
        if connections[self.db].vendor == "postgresql":  # pragma: no cover  (make test-services)
            times = {f"{name}_text": WireTime(name) for name in ("started_at", "finished_at")}
            names = [f"{name}_text" if f"{name}_text" in times else name for name in columns]
            return map(_row_class(tuple(columns))._make, runs.annotate(**times).values_list(*names))
        return runs.values_list(*columns, named=True)

    def order_by(self, *field_names: Any) -> Self:
        """Return the same runs in another order, as Django does."""
        return self._keep_parts(super().order_by(*field_names))

    def select_related(self, *fields: Any) -> Self:
        """Return the same runs with their owners, as Django does."""
        return self._keep_parts(super().select_related(*fields))

    def _keep_parts(self, runs: Self) -> Self:
        runs._parts = self._parts
        return runs

    def __getitem__(self, key: Any) -> Any:
        """Return what Django returns. A page of the runs of some owners is read by faster means."""
        rows = super().__getitem__(key)
        if isinstance(rows, RunQuerySet):
            rows._page = self._page_of_owners(key.start or 0, key.stop or 0)
        return rows

    def _fetch_all(self) -> None:
        if self._result_cache is None and self._page is not None:
            self._result_cache = list(self._page)
        super()._fetch_all()

    def _page_of_owners(self, start: int, stop: int) -> Any:
        """Return these runs from ``start`` to ``stop``, found in the indexes of their owners.

        None if they are not the runs of some owners in the order of their start. For a condition
        on several owners or statuses a database uses none of these indexes: it walks everybody's
        runs until it has a page.
        """
        order = self._order_by_start if self._is_parted else []
        if not order or not 0 <= start < stop:
            return None
        try:
            return self.filter(pk__in=self._page_ids(order, start, stop - start))
        except EmptyResultSet:
            return self.none()

    @property
    def _order_by_start(self) -> list[str]:
        """The order by start and then ID, each once; nothing if the runs have another order."""
        order: dict[str, str] = {}
        for name in self.query.order_by if self.query.standard_ordering else ():
            column = str(name).replace("pk", "id")
            order.setdefault(column.removeprefix("-"), column)
        return list(order.values()) if list(order) == ["started_at", "id"] else []

    def _page_ids(self, order: Sequence[str], offset: int, limit: int) -> Any:
        """Return the IDs of a page, by SQL that reads each owner's runs in the owner's index."""
        rows, owners, statuses = self._parts
        keys = rows.order_by(*order).values_list("started_at", "id")
        repeats = []
        for kind, pks in owners.items():
            names = (kind, "status") if statuses else (kind,)

            def make(*values: Any, names: tuple[str, ...] = names) -> Any:
                owned = keys.filter(**dict(zip(names, values, strict=True)))
                return owned[: min(offset + limit, MAX_INTEGER)]

            fields = tuple(map(self.model._meta.get_field, names))
            values = list(product(*((pks, statuses) if statuses else (pks,))))
            repeats.append(Repeated(fields, make, values))
        return page_of_ids(repeats, self.db, order, offset, limit)

    def count(self) -> int:
        """Return the number of these runs."""
        if not self._is_parted:
            return super().count()
        rows = self._parts.of_any_owner()
        owners = self._parts.owners.items()
        return sum(rows.filter(**{f"{kind}__in": pks}).count() for kind, pks in owners)

    @property
    def _is_parted(self) -> bool:
        """Whether these are the runs of some owners, which can be read owner by owner."""
        parts = self._parts
        return (
            parts is not None
            and self._result_cache is None
            and any(parts.owners.values())
            and is_single_table(parts.rows)
        )

    def __getstate__(self) -> dict[str, Any]:
        # A pickled queryset is its result, and must not bring the rows of its parts.
        return super().__getstate__() | {"_parts": None, "_page": None}

    def by_owner(self) -> list[Self]:
        """Return these runs in one queryset for each owner, or in one if owners are not known."""
        if not self._is_parted:
            return [self]
        rows = self._parts.of_any_owner()
        return [rows.filter(**{kind: pk}) for kind, pks in self._parts.owners.items() for pk in pks]

    def get_run(self, run_id: str, *fields: str) -> Run:
        """Return the run with this ID, with ``fields`` only if any are given.

        Raises ``Run.DoesNotExist``.
        """

        def with_id(pk: Any) -> Any:
            return (self.only(*fields) if fields else self).filter(pk=pk)

        if is_plain(self):
            by_id = prepared(
                ("get_run", self.model, fields),
                self.db,
                lambda: PreparedQuery(with_id(Parameter(self.model._meta.pk))),
            )
            found = by_id.objects(run_id)
        else:
            found = list(with_id(run_id)[:1])
        if not found:
            raise self.model.DoesNotExist
        return found[0]

    # Functions of other modules that take a queryset, as prune and overview below.
    on_primary = on_primary
    lock_rows = lock_rows

    def delete(self) -> tuple[int, dict[str, int]]:
        """Delete these runs, all of them or none.

        Returns what Django returns: the number of deleted objects, and of those of each model.
        Raises RunNotFinished if one of the runs is unfinished at this moment, ProtectedError or
        RestrictedError if a host's foreign key protects one.
        """
        runs = self._for_deletion()
        with transaction.atomic(using=runs.db):
            locked = runs.lock_rows()
            for run in locked:
                if not run.is_finished:
                    raise RunNotFinished(run.pk, run.status)
            deleted = delete_locked(locked, using=runs.db, origin=self)
        self._result_cache = None
        return sum(deleted.values()), deleted

    delete.alters_data = True  # type: ignore[attr-defined]
    delete.queryset_only = True  # type: ignore[attr-defined]

    def delete_finished(self) -> int:
        """Delete those of these runs that are finished at this moment; return their number.

        Raises ProtectedError or RestrictedError if a host's foreign key protects one of them.
        """
        runs = self._for_deletion().finished()
        if runs.can_be_deleted_at_once and connections[runs.db].vendor != "mysql":
            # The database checks the conditions again for a row that it had to wait for.
            deleted = super(RunQuerySet, runs)._raw_delete(using=runs.db) or 0
        else:
            with transaction.atomic(using=runs.db):
                # Only receivers and dependent rows need to see a run.
                locked = runs.lock_rows(*(("pk",) if runs.can_be_deleted_at_once else ()))
                deleted = len(locked)
                delete_locked(locked, using=runs.db, origin=self)
        self._result_cache = None
        return deleted

    delete_finished.alters_data = True  # type: ignore[attr-defined]
    delete_finished.queryset_only = True  # type: ignore[attr-defined]

    def delete_checked(self, run: Run, check: Callable[[Run], None], owner: Any) -> Run:
        """Delete ``run``, one of these runs, which ``check`` allows; return it as it was.

        ``check`` takes the run as it is now and raises if it must not be deleted. ``owner`` is the
        user whom it allows everything, so that a run of this user needs no lock; None if it looks
        at anything else.

        Raises RunNotFinished, ``Run.DoesNotExist``, whatever ``check`` raises, and ProtectedError
        or another IntegrityError if dependent rows protect the run.
        """
        runs = self._for_deletion()
        if owner is not None:
            if not run.is_finished:
                raise RunNotFinished(run.pk, run.status)
            if run.user_id is not None and run.is_owned_by(owner) and runs._delete_unchanged(run):
                return run
        with transaction.atomic(using=runs.db):
            locked = lock_row(runs.filter(pk=run.pk))
            if locked is None:
                raise self.model.DoesNotExist
            check(locked)
            if not locked.is_finished:
                raise RunNotFinished(locked.pk, locked.status)
            deleted = copy.copy(locked)
            if self._has_own_delete:
                locked.delete(using=runs.db)
            else:
                delete_locked([locked], using=runs.db, origin=self)
        return deleted

    @property
    def _has_own_delete(self) -> bool:
        """Whether the runs are those of a proxy that does more when one of them is deleted."""
        concrete: Any = self.model._meta.concrete_model
        return self.model.delete is not concrete.delete

    def _delete_unchanged(self, run: Run) -> int:
        """Delete the run by one statement, if it can, and is finished and still the same user's."""
        if self._has_own_delete or not self.can_be_deleted_at_once:
            return 0
        if not is_plain(self):
            unchanged: Any = self._unchanged(run.pk, run.user_id)
            return super(RunQuerySet, unchanged)._raw_delete(using=self.db)
        pk, user = map(self.model._meta.get_field, ("id", "user"))
        deletion = prepared(
            ("delete_unchanged", self.model),
            self.db,
            lambda: PreparedQuery(self._unchanged(Parameter(pk), Parameter(user, 1)), delete=True),
        )
        return deletion.delete(run.pk, run.user_id)

    def _unchanged(self, pk: Any, user: Any) -> Self:
        # COALESCE keeps MariaDB from the owner's index: see lock_rows().
        return self.finished().alias(owner=Coalesce("user", "user")).filter(pk=pk, owner=user)

    can_be_deleted_at_once = property(can_delete_at_once)

    prune = prune
    overview = overview

    def time_out(self, older_than: timedelta) -> int:
        """End those of these runs that started more than ``older_than`` ago; return their number.

        See ``actor_runs.recording.time_out``, which has more options.
        """
        return recording.time_out(self, older_than).ended

    time_out.alters_data = True  # type: ignore[attr-defined]

    def _for_deletion(self) -> Self:
        """Return these runs with all fields, without order or joins, from the primary database.

        Raises TypeError for what Django cannot delete either: values() and distinct(*fields).
        """
        if is_plain(self):
            return self.on_primary()
        runs: Any = self.filter()
        if runs.query.distinct_fields or runs._fields is not None:
            raise TypeError("Runs cannot be deleted after distinct(*fields) or values().")
        runs = runs.order_by().select_related(None).prefetch_related(None).defer(None)
        # As Django's own delete(): not every condition can be combined with FOR UPDATE.
        runs.query.select_for_update = False
        return narrowable(runs.on_primary())

    def _raw_delete(self, using: str | None) -> int:
        """Delete the runs of an owner who is deleted; return their number.

        Django's ``Collector`` calls this inside of its transaction. Raises ProtectedError if a run
        protects the owner at this moment.
        """
        runs = self._for_deletion().using(using)
        with transaction.atomic(using=using):
            # What protects an owner and what is logged; receivers and dependent rows need more.
            names = ("user", "organization", "status") if runs.can_be_deleted_at_once else ()
            locked = runs.lock_rows(*names)
            protects_all = conf.on_owner_delete == "PROTECT"
            raise_if_protected(run for run in locked if protects_all or not run.is_finished)
            deleted = [copy.copy(run) for run in locked]
            delete_locked(locked, using=runs.db, origin=self, whole=self._collector)
        for run in deleted:
            transaction.on_commit(partial(log_deletion, run, None), using=using)
        return len(deleted)


if TYPE_CHECKING:

    class RunManager(RunQuerySet, models.Manager["Run"]):  # type: ignore[misc]
        """``Run.objects``: a manager with the methods of ``RunQuerySet``."""

        def get_queryset(self) -> RunQuerySet: ...
