"""The model of a run: its fields, its owner, its transitions and its deletion."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import DatabaseError, models, router, transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from actor_runs.conf import conf
from actor_runs.db.indexes import IndexOfValues
from actor_runs.db.orm import all_rows, lock_row, row_of
from actor_runs.enums import FINISHED, UNFINISHED, GeneralAccess, RunStatus
from actor_runs.exceptions import InvalidTransition, RunNotFinished
from actor_runs.fields import ExactCharField, MillisecondDateTimeField, RunIDField, generate_id
from actor_runs.owners import can_own, delete_finished_runs, is_member
from actor_runs.querysets import RunQuerySet
from actor_runs.schemas import (
    FIELD_CHECKS,
    STATS_AMOUNTS,
    STATS_COUNTS,
    format_owner,
    invalid,
    text,
)
from actor_runs.transitions import change_status, is_outdated

if TYPE_CHECKING:
    from actor_runs.querysets import RunManager

    # What the fields take and give, for type checkers without a plugin for Django.
    Text: TypeAlias = models.CharField[str, str]
    LongText: TypeAlias = models.TextField[str, str]
    Integer: TypeAlias = models.PositiveIntegerField[int, int]
    OptionalInteger: TypeAlias = models.IntegerField[int | None, int | None]
    OptionalFloat: TypeAlias = models.FloatField[float | None, float | None]
    OptionalBoolean: TypeAlias = models.BooleanField[bool | None, bool | None]
    Time: TypeAlias = models.DateTimeField[datetime.datetime | str, datetime.datetime]
    OptionalTime: TypeAlias = models.DateTimeField[
        datetime.datetime | str | None, datetime.datetime | None
    ]
    JSON: TypeAlias = models.JSONField[Any, Any]

__all__ = ["GeneralAccess", "Run", "RunStatus"]

ONE_OWNER = _("A run is owned by exactly one: a user or an organization.")
END_IF_FINISHED = _("A run has an end if and only if it is finished.")


def default_meta() -> dict[str, Any]:
    return {"origin": "API"}


def default_options() -> dict[str, Any]:
    return {"build": "latest", "timeoutSecs": 3600, "memoryMbytes": 1024, "diskMbytes": 2048}


def default_stats() -> dict[str, Any]:
    return dict.fromkeys(STATS_COUNTS + STATS_AMOUNTS, 0)


class Run(models.Model):
    """One run of an Actor, owned by exactly one user or one organization.

    Field names are the keys of the API in snake case. ``save()`` refuses what a client of the API
    could not read.
    """

    FINISHED = FINISHED
    UNFINISHED = UNFINISHED

    id: Text = RunIDField(
        _("run ID"),
        primary_key=True,
        default=generate_id,
        editable=False,
        help_text=_("Up to 32 letters, digits, hyphens and underscores."),
    )
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("user"),
        related_name="actor_runs",
        on_delete=delete_finished_runs,
        null=True,
        blank=True,
        db_index=False,  # the index of the list begins with it
        help_text=_("The person who initiated the run. Either a user or an organization."),
    )
    organization = models.ForeignKey(
        conf.organization_model,
        verbose_name=_("organization"),
        related_name="actor_runs",
        on_delete=delete_finished_runs,
        null=True,
        blank=True,
        db_index=False,  # the index of the list begins with it
        help_text=_("The organization that initiated the run. Either a user or an organization."),
    )
    status: Text = ExactCharField(
        _("status"), max_length=16, choices=RunStatus.choices, default=RunStatus.READY
    )
    started_at: Time = MillisecondDateTimeField(_("started at"), default=timezone.now)
    finished_at: OptionalTime = MillisecondDateTimeField(_("finished at"), null=True, blank=True)
    act_id: Text = models.CharField(_("Actor ID"), max_length=64, default=generate_id)
    actor_task_id: Text = models.CharField(
        _("Actor task ID"), max_length=64, default="", blank=True
    )
    build_id: Text = models.CharField(_("build ID"), max_length=64, default=generate_id)
    # The platform's command line reads the build number of every run, and fails without one.
    build_number: Text = models.CharField(
        _("build number"),
        max_length=16,
        default="0.0.1",
        blank=True,
        help_text=_("major.minor.build, like 0.1.2."),
    )
    exit_code: OptionalInteger = models.IntegerField(_("exit code"), null=True, blank=True)
    status_message: LongText = models.TextField(_("status message"), default="", blank=True)
    is_status_message_terminal: OptionalBoolean = models.BooleanField(
        _("status message is final"), null=True, blank=True
    )
    general_access: Text = models.CharField(
        _("general access"),
        max_length=32,
        choices=GeneralAccess.choices,
        default=GeneralAccess.FOLLOW_USER_SETTING,
        help_text=_("Who, besides the owner, can read the run."),
    )
    default_key_value_store_id: Text = models.CharField(
        _("default key-value store ID"), max_length=64, default=generate_id
    )
    default_dataset_id: Text = models.CharField(
        _("default dataset ID"), max_length=64, default=generate_id
    )
    default_request_queue_id: Text = models.CharField(
        _("default request queue ID"), max_length=64, default=generate_id
    )
    storage_ids: JSON = models.JSONField(_("storage IDs"), null=True, blank=True)
    container_url: Text = models.CharField(
        _("container URL"), max_length=2000, default="", blank=True
    )
    is_container_server_ready: OptionalBoolean = models.BooleanField(
        _("container server is ready"), null=True, blank=True
    )
    git_branch_name: Text = models.CharField(
        _("Git branch name"), max_length=255, default="", blank=True
    )
    meta: JSON = models.JSONField(_("origin"), default=default_meta)
    options: JSON = models.JSONField(_("options"), default=default_options)
    stats: JSON = models.JSONField(_("statistics"), default=default_stats, blank=True)
    usage: JSON = models.JSONField(_("usage"), null=True, blank=True)
    usage_usd: JSON = models.JSONField(
        _("usage in USD"),
        null=True,
        blank=True,
        help_text=_("In the API, only the owner can read it."),
    )
    usage_total_usd: OptionalFloat = models.FloatField(
        _("total usage in USD"),
        null=True,
        blank=True,
        help_text=_("In the API, only the owner can read it."),
    )
    charged_event_counts: JSON = models.JSONField(_("charged events"), null=True, blank=True)
    pricing_info: JSON = models.JSONField(_("pricing"), null=True, blank=True)
    platform_usage_billing_model: Text = models.CharField(
        _("platform usage billing model"), max_length=64, default="", blank=True
    )
    metamorphs: JSON = models.JSONField(_("metamorphs"), null=True, blank=True)
    # Optimistic lock: counts transitions, and so detects A to B to A. Not a key of the API.
    version: Integer = models.PositiveIntegerField(_("version"), default=0, editable=False)

    objects: ClassVar[RunManager] = RunQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        verbose_name = _("run")
        verbose_name_plural = _("runs")
        # Without it Django's own machinery would delete through a plain queryset.
        base_manager_name = "objects"
        get_latest_by = "started_at"
        constraints = [
            models.CheckConstraint(
                name="actor_runs_one_owner",
                condition=Q(user__isnull=False, organization__isnull=True)
                | Q(user__isnull=True, organization__isnull=False),
                violation_error_message=ONE_OWNER,
            ),
            models.CheckConstraint(
                name="actor_runs_status", condition=Q(status__in=RunStatus.values)
            ),
            models.CheckConstraint(
                name="actor_runs_finished_at",
                condition=Q(status__in=FINISHED, finished_at__isnull=False)
                | Q(~Q(status__in=FINISHED), finished_at__isnull=True),
                violation_error_message=END_IF_FINISHED,
            ),
        ]
        # Each transition writes all indexes, so there is none that no query needs.
        indexes = [
            # The list of a user and of an organization, with and without a status.
            IndexOfValues(fields=["user", "started_at", "id"], name="actor_runs_of_user"),
            IndexOfValues(
                fields=["user", "status", "started_at", "id"], name="actor_runs_of_user_status"
            ),
            IndexOfValues(fields=["organization", "started_at", "id"], name="actor_runs_of_org"),
            IndexOfValues(
                fields=["organization", "status", "started_at", "id"],
                name="actor_runs_of_org_status",
            ),
            # The admin's list, of everybody's runs.
            models.Index(fields=["started_at", "id"], name="actor_runs_started"),
            models.Index(fields=["status", "started_at", "id"], name="actor_runs_status_started"),
            # The admin's search for an Actor, and its filter.
            models.Index(fields=["act_id", "started_at"], name="actor_runs_of_actor"),
            # Pruning.
            IndexOfValues(fields=["finished_at", "id"], name="actor_runs_ended"),
        ]

    def __str__(self) -> str:
        return f"{self.pk} ({self.get_status_display()})"

    @property
    def is_finished(self) -> bool:
        """Whether the run is over, and so can be deleted."""
        return self.status in FINISHED

    @property
    def owner(self) -> models.Model:
        """The user or the organization that initiated the run."""
        owner: Any = self.user if self.user_id is not None else self.organization
        return owner

    @property
    def owner_key(self) -> str:
        """``userId`` of the API: a user's primary key, or ``org-`` and an organization's."""
        return format_owner(self.user_id, self.organization_id)

    def is_owned_by(self, user: Any) -> bool:
        """Return whether ``user`` initiated the run, or is now in the organization that did.

        "Only the person or organization that initiated the run can delete it" (API page).
        """
        if not can_own(user):
            return False
        if self.user_id is not None:
            return self.user_id == user.pk
        return is_member(user, self.organization_id, using=self._state.db)

    @property
    def is_public(self) -> bool:
        """Whether anyone who knows the ID can read the run, also without a token."""
        access = self.general_access
        if access == GeneralAccess.FOLLOW_USER_SETTING:
            access = conf.general_access
        return access == GeneralAccess.ANYONE_WITH_ID_CAN_READ

    def clean_fields(self, exclude: Any = None) -> None:
        """Check types, shapes and limits. Raises ValidationError with the fields' names."""
        exclude = set(exclude or ())
        errors: dict[str, Any] = {}
        for field in self._meta.concrete_fields:
            if field.name in exclude:
                continue
            try:
                self._clean_field(field)
            except ValidationError as error:
                errors[field.name] = error.error_list
        try:
            super().clean_fields(exclude=exclude | set(errors))
        except ValidationError as error:
            errors = error.update_error_dict(errors)
        if errors:
            raise ValidationError(errors)

    def clean(self) -> None:
        """Raise ValidationError for another status than the row has: a form shows that error."""
        super().clean()
        if self._state.adding or "status" not in self.__dict__:
            return
        stored = row_of(self, self._state.db).values_list("status", flat=True).first()
        if stored not in (None, self.status):
            raise ValidationError(
                _("The status changes by transitions alone. It is: %(status)s."),
                params={"status": RunStatus(stored).label},
            )

    def _clean_field(self, field: Any) -> None:
        """Check what Django's own field would convert, or not check."""
        value = getattr(self, field.attname)
        if value is None:
            if not field.null:
                raise invalid(field.name, _("cannot be null."))
        elif value == "" and (field.primary_key or isinstance(field, models.DateTimeField)):
            raise invalid(field.name, _("is required."))
        elif field.name in FIELD_CHECKS:
            setattr(self, field.attname, FIELD_CHECKS[field.name](value, field.name))
        elif isinstance(field, (models.CharField, models.TextField)):
            text(value, field.name)
        elif isinstance(field, models.DateTimeField) and not isinstance(
            value, (str, datetime.date)
        ):
            raise invalid(field.name, _("must be a time."))

    def save(
        self,
        *,
        force_insert: Any = False,
        force_update: bool = False,
        using: str | None = None,
        update_fields: Iterable[str] | None = None,
    ) -> None:
        """Validate and save. Takes what Django's ``save`` takes, as keywords.

        A new run that is finished gets ``finished_at`` now, unless it has one. An existing run
        keeps its status: use ``transition_to`` to change it.

        Raises ValidationError, which names the field; InvalidTransition if the status differs
        from the one in the database; DatabaseError if the run is deleted.
        """
        if self._state.adding:
            if self.pk is None:  # a copy of another run, made as Django documents it
                self.pk = self._meta.pk.get_default()
            if self.is_finished and self.finished_at is None:
                self.finished_at = timezone.now()
        using = using or router.db_for_write(type(self), instance=self)
        is_new = self._state.adding and update_fields is None and not force_update
        if is_new or force_insert:
            self.validate()
            super().save(
                force_insert=force_insert,
                force_update=force_update,
                using=using,
                update_fields=update_fields,
            )
            return
        written = self._written_fields(update_fields)
        if update_fields is None and self.get_deferred_fields():
            # An object of another database, maybe a replica, would read what it lacks there.
            update_fields = written - {self._meta.pk.name}
        self._validate_each(written)
        with transaction.atomic(using=using):
            if written & {"status", "finished_at", "version"}:
                self._check_stored_status(written, using)
            self._validate_together(written)
            # Never an INSERT, which would bring a deleted run back.
            super().save(
                force_update=force_update or update_fields is None,
                using=using,
                update_fields=update_fields,
            )

    def refresh_from_db(
        self,
        using: str | None = None,
        fields: Iterable[str] | None = None,
        from_queryset: models.QuerySet[Any] | None = None,
    ) -> None:
        """Read the run again, as Django does, also where a proxy's manager leaves it out."""
        if from_queryset is None:
            from_queryset = all_rows(type(self), using, instance=self)
        super().refresh_from_db(using, fields, from_queryset)

    def _written_fields(self, update_fields: Iterable[str] | None) -> set[str]:
        """Return the names of the fields that ``save(update_fields=...)`` writes."""
        fields = self._meta.concrete_fields
        if update_fields is None:
            deferred = self.get_deferred_fields()
            return {field.name for field in fields if field.attname not in deferred}
        names = set(update_fields)
        return {field.name for field in fields if names & {field.name, field.attname}}

    def validate(self, names: Iterable[str] | None = None) -> None:
        """Check what ``save()`` checks: of these fields, of all by default.

        Django's ``full_clean`` checks the same, and reads owners from the database too. Raises
        ValidationError with the fields' names.
        """
        every = (field.name for field in self._meta.concrete_fields)
        written = set(every if names is None else names)
        self._validate_each(written)
        self._validate_together(written)

    def _validate_each(self, written: set[str]) -> None:
        """Check each of these fields by itself."""
        unchecked = {field.name for field in self._meta.concrete_fields} - written
        # The database checks foreign keys.
        self.clean_fields(exclude=unchecked | {"user", "organization"})

    def _validate_together(self, written: set[str]) -> None:
        """Check what these fields must be together."""
        if written >= {"user", "organization"} and (
            (self.user_id is None) == (self.organization_id is None)
        ):
            raise ValidationError({"user": ONE_OWNER})
        if written >= {"status", "finished_at"} and (
            self.is_finished != (self.finished_at is not None)
        ):
            raise ValidationError({"finished_at": END_IF_FINISHED})

    def _check_stored_status(self, written: set[str], using: str) -> None:
        """Lock the row. Raises InvalidTransition unless this object has the row's status.

        Raises DatabaseError if there is no row.
        """
        stored = lock_row(row_of(self, using), "status", "version")
        if stored is None:
            if self._state.db not in (None, using):  # pragma: no cover  (make test-services)
                raise DatabaseError(
                    f"Run {self.pk} is not in the database {using!r}: pass force_insert=True to "
                    "copy it there."
                )
            raise DatabaseError(f"Run {self.pk} is deleted, and cannot be saved.")
        if written & {"status", "version"} and is_outdated(self, stored):
            known = self.__dict__.get("status", stored.status)
            raise InvalidTransition(self.pk, stored.status, known, None)
        if "finished_at" in written and stored.is_finished != (self.finished_at is not None):
            raise ValidationError({"finished_at": END_IF_FINISHED})

    def transition_to(self, status: str, **fields: Any) -> None:
        """Change the status to ``status``, and save ``fields`` (name: value) with it.

        Atomic against every other writer. A run that becomes finished gets ``finished_at`` now,
        unless ``fields`` has it. A finished run that becomes READY or RUNNING is resurrected:
        ``finished_at`` and ``exit_code`` are cleared, and ``stats["resurrectCount"]`` is one more.

        Raises InvalidTransition if the transition is illegal, or this object is outdated or not
        saved; ValidationError if a field is not valid; TypeError for a name that is not a field.
        Then nothing is changed, neither in the database nor on this object.
        """
        change_status(self, status, fields)

    transition_to.alters_data = True  # type: ignore[attr-defined]

    async def atransition_to(self, status: str, **fields: Any) -> None:
        """Do what ``transition_to`` does, in asynchronous code."""
        await sync_to_async(self.transition_to)(status, **fields)

    atransition_to.alters_data = True  # type: ignore[attr-defined]

    def is_being_stopped(self) -> bool:
        """Return whether the work on the run should stop: for a worker that asks now and then.

        That is so once the run is ABORTING or TIMING-OUT in the database, and also if it is
        finished or deleted there, or was RUNNING and is another worker's by now. Reads without a
        lock, and changes nothing on this object.
        """
        status, version = row_of(self).values_list("status", "version").first() or ("", 0)
        if self.__dict__.get("status") == RunStatus.RUNNING:
            return (status, version) != (RunStatus.RUNNING, self.version)
        return status not in (RunStatus.READY, RunStatus.RUNNING)

    async def ais_being_stopped(self) -> bool:
        """Return what ``is_being_stopped`` returns, in asynchronous code."""
        return await sync_to_async(self.is_being_stopped)()

    def delete(
        self, using: str | None = None, keep_parents: bool = False
    ) -> tuple[int, dict[str, int]]:
        """Delete the run, if it is finished at this moment. Returns what Django returns.

        Raises RunNotFinished if it is not finished, ProtectedError or RestrictedError if a host's
        foreign key protects it. If the run is already deleted, nothing is deleted and no signal
        is sent.
        """
        if self.pk is None:
            return super().delete(using=using, keep_parents=keep_parents)  # raises ValueError
        row = row_of(self, using)
        with transaction.atomic(using=row.db):
            stored = lock_row(row)
            if stored is None:
                return 0, {}
            if not stored.is_finished:
                raise RunNotFinished(self.pk, stored.status)
            # Receivers see the run as it is deleted, not as it was once read.
            for field in self._meta.concrete_fields:
                setattr(self, field.attname, getattr(stored, field.attname))
            return super().delete(using=row.db, keep_parents=keep_parents)

    delete.alters_data = True  # type: ignore[attr-defined]
