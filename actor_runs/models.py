"""What a run is, who owns it, which state may follow which, and when it may be deleted."""

from __future__ import annotations

import datetime
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db import models, router, transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from actor_runs.conf import conf
from actor_runs.exceptions import InvalidTransition, RunNotFinished
from actor_runs.fields import ExactCharField, MillisecondDateTimeField, RunIDField, generate_id
from actor_runs.querysets import RunQuerySet, organizations_of
from actor_runs.validators import FIELD_CHECKS, STATS_AMOUNTS, STATS_COUNTS, refuse, text


class RunStatus(models.TextChoices):
    """The eight statuses of a run, as the API spells them."""

    READY = "READY", _("Ready")
    """Made, but not started yet."""
    RUNNING = "RUNNING", _("Running")
    """At work."""
    SUCCEEDED = "SUCCEEDED", _("Succeeded")
    """Finished: the Actor did its work."""
    FAILED = "FAILED", _("Failed")
    """Finished: the Actor gave up, or never started."""
    TIMING_OUT = "TIMING-OUT", _("Timing out")
    """Out of time, and being stopped."""
    TIMED_OUT = "TIMED-OUT", _("Timed out")
    """Finished: stopped because its time was up."""
    ABORTING = "ABORTING", _("Aborting")
    """Somebody asked for its end, and it is being stopped."""
    ABORTED = "ABORTED", _("Aborted")
    """Finished: stopped because somebody asked for it."""


class GeneralAccess(models.TextChoices):
    """Who, besides its owner, can read a run."""

    FOLLOW_USER_SETTING = "FOLLOW_USER_SETTING", _("As set for the whole site")
    """What ``ACTOR_RUNS["GENERAL_ACCESS"]`` says."""
    ANYONE_WITH_ID_CAN_READ = "ANYONE_WITH_ID_CAN_READ", _("Anyone with the ID can read")
    """Anyone who knows the ID, also without a token."""
    ANYONE_WITH_NAME_CAN_READ = "ANYONE_WITH_NAME_CAN_READ", _("Anyone with the name can read")
    """Means nothing more than RESTRICTED here, since runs have no names."""
    RESTRICTED = "RESTRICTED", _("Only the owner can read")
    """Nobody else."""


_FINISHED = (RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.TIMED_OUT, RunStatus.ABORTED)

# Which status may follow which.
TRANSITIONS: dict[str, tuple[RunStatus, ...]] = {
    RunStatus.READY: (
        RunStatus.RUNNING,
        RunStatus.ABORTING,
        RunStatus.ABORTED,
        RunStatus.FAILED,
        RunStatus.TIMED_OUT,
    ),
    RunStatus.RUNNING: (
        RunStatus.SUCCEEDED,
        RunStatus.FAILED,
        RunStatus.TIMING_OUT,
        RunStatus.TIMED_OUT,
        RunStatus.ABORTING,
        RunStatus.ABORTED,
    ),
    RunStatus.TIMING_OUT: (RunStatus.TIMED_OUT, RunStatus.FAILED),
    RunStatus.ABORTING: (RunStatus.ABORTED, RunStatus.FAILED),
    # A finished run can be resurrected.
    **dict.fromkeys(_FINISHED, (RunStatus.READY, RunStatus.RUNNING)),
}

# What no transition may change along the way.
_FIXED_BY_TRANSITIONS = {"id", "status", "user", "organization", "version"}


def default_meta() -> dict[str, Any]:
    return {"origin": "API"}


def default_options() -> dict[str, Any]:
    return {"build": "latest", "timeoutSecs": 3600, "memoryMbytes": 1024, "diskMbytes": 2048}


def default_stats() -> dict[str, Any]:
    return dict.fromkeys(STATS_COUNTS + STATS_AMOUNTS, 0)


class Run(models.Model):
    """One run of an Actor.

    Owned by exactly one user or one organization. Field names are the keys of the API in snake
    case; ``save()`` refuses what a client of the API could not read.
    """

    FINISHED = _FINISHED
    UNFINISHED = tuple(status for status in RunStatus if status not in _FINISHED)

    id = RunIDField(
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
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        db_index=False,  # the index of the list begins with it
        help_text=_("The person who initiated the run. Either a user or an organization."),
    )
    organization = models.ForeignKey(
        conf.organization_model,
        verbose_name=_("organization"),
        related_name="actor_runs",
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        db_index=False,  # the index of the list begins with it
        help_text=_("The organization that initiated the run. Either a user or an organization."),
    )
    status = ExactCharField(
        _("status"), max_length=16, choices=RunStatus.choices, default=RunStatus.READY
    )
    started_at = MillisecondDateTimeField(_("started at"), default=timezone.now)
    finished_at = MillisecondDateTimeField(_("finished at"), null=True, blank=True)
    act_id = models.CharField(_("Actor ID"), max_length=64, default=generate_id)
    actor_task_id = models.CharField(_("Actor task ID"), max_length=64, default="", blank=True)
    build_id = models.CharField(_("build ID"), max_length=64, default=generate_id)
    build_number = models.CharField(
        _("build number"),
        max_length=16,
        default="",
        blank=True,
        help_text=_("major.minor.build, like 0.1.2."),
    )
    exit_code = models.IntegerField(_("exit code"), null=True, blank=True)
    status_message = models.TextField(_("status message"), default="", blank=True)
    is_status_message_terminal = models.BooleanField(
        _("status message is final"), null=True, blank=True
    )
    general_access = models.CharField(
        _("general access"),
        max_length=32,
        choices=GeneralAccess.choices,
        default=GeneralAccess.FOLLOW_USER_SETTING,
        help_text=_("Who, besides the owner, can read the run."),
    )
    default_key_value_store_id = models.CharField(
        _("default key-value store ID"), max_length=64, default=generate_id
    )
    default_dataset_id = models.CharField(
        _("default dataset ID"), max_length=64, default=generate_id
    )
    default_request_queue_id = models.CharField(
        _("default request queue ID"), max_length=64, default=generate_id
    )
    storage_ids = models.JSONField(_("storage IDs"), null=True, blank=True)
    container_url = models.CharField(_("container URL"), max_length=2000, default="", blank=True)
    is_container_server_ready = models.BooleanField(
        _("container server is ready"), null=True, blank=True
    )
    git_branch_name = models.CharField(_("Git branch name"), max_length=255, default="", blank=True)
    meta = models.JSONField(_("origin"), default=default_meta)
    options = models.JSONField(_("options"), default=default_options)
    stats = models.JSONField(_("statistics"), default=default_stats, blank=True)
    usage = models.JSONField(_("usage"), null=True, blank=True)
    usage_usd = models.JSONField(
        _("usage in USD"), null=True, blank=True, help_text=_("Only the owner can read it.")
    )
    usage_total_usd = models.FloatField(
        _("total usage in USD"), null=True, blank=True, help_text=_("Only the owner can read it.")
    )
    charged_event_counts = models.JSONField(_("charged events"), null=True, blank=True)
    pricing_info = models.JSONField(_("pricing"), null=True, blank=True)
    platform_usage_billing_model = models.CharField(
        _("platform usage billing model"), max_length=64, default="", blank=True
    )
    metamorphs = models.JSONField(_("metamorphs"), null=True, blank=True)
    # Not of the API: tells an object that is up to date from one that was read before a run
    # went through other statuses and back.
    version = models.PositiveIntegerField(_("version"), default=0, editable=False)

    objects = RunQuerySet.as_manager()

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
            ),
            models.CheckConstraint(
                name="actor_runs_status", condition=Q(status__in=RunStatus.values)
            ),
            models.CheckConstraint(
                name="actor_runs_finished_at",
                condition=Q(status__in=_FINISHED, finished_at__isnull=False)
                | Q(~Q(status__in=_FINISHED), finished_at__isnull=True),
            ),
        ]
        indexes = [
            # The list of a user and of an organization, with and without a status.
            models.Index(fields=["user", "started_at", "id"], name="actor_runs_user"),
            models.Index(fields=["organization", "started_at", "id"], name="actor_runs_org"),
            models.Index(
                fields=["user", "status", "started_at", "id"], name="actor_runs_user_status"
            ),
            models.Index(
                fields=["organization", "status", "started_at", "id"],
                name="actor_runs_org_status",
            ),
            # Staff, who look at everybody's runs.
            models.Index(fields=["started_at", "id"], name="actor_runs_started"),
            models.Index(fields=["status", "started_at", "id"], name="actor_runs_status_started"),
            # Pruning.
            models.Index(fields=["finished_at", "id"], name="actor_runs_finished"),
        ]

    def __str__(self) -> str:
        return f"{self.pk} ({self.status})"

    @property
    def is_finished(self) -> bool:
        """Whether the run is over, and so may be deleted."""
        return self.status in self.FINISHED

    @property
    def owner(self) -> Any:
        """The user or the organization that initiated the run."""
        return self.user if self.user_id is not None else self.organization

    def is_owned_by(self, user: Any) -> bool:
        """Whether ``user`` initiated the run, or is now a member of the organization that did.

        "Only the person or organization that initiated the run can delete it" (API page).
        """
        if not isinstance(user, get_user_model()):
            return False
        if self.user_id is not None:
            return self.user_id == user.pk
        return organizations_of(user).using(self._state.db).filter(pk=self.organization_id).exists()

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

    def _clean_field(self, field: Any) -> None:
        """Check what Django's own field would convert, or let pass."""
        value = getattr(self, field.attname)
        if value is None:
            if not field.null:
                raise refuse(field.name, _("cannot be null."))
        elif value == "" and (field.primary_key or isinstance(field, models.DateTimeField)):
            raise refuse(field.name, _("is required."))
        elif field.name in FIELD_CHECKS:
            setattr(self, field.attname, FIELD_CHECKS[field.name](value, field.name))
        elif isinstance(field, (models.CharField, models.TextField)):
            text(value, field.name)
        elif isinstance(field, models.DateTimeField) and not isinstance(
            value, (str, datetime.date)
        ):
            raise refuse(field.name, _("must be a time."))

    def clean(self) -> None:
        """Check what no field knows alone: the owner, and that finished runs have an end."""
        if (self.user_id is None) == (self.organization_id is None):
            raise ValidationError(
                {"user": _("A run is owned by exactly one: a user or an organization.")}
            )
        if self.is_finished != (self.finished_at is not None):
            raise ValidationError(
                {"finished_at": _("A run has an end if and only if it is finished.")}
            )

    def save(self, **kwargs: Any) -> None:
        """Validate and save.

        A new run that is finished gets ``finished_at`` now, unless it has one. An existing
        run keeps its status: that is for ``transition_to``. Takes what Django's ``save`` takes,
        as keywords. Raises ValidationError, which names the field; InvalidTransition when the
        status differs from the one in the database; DatabaseError when the run is deleted.
        """
        update_fields = kwargs.get("update_fields")
        if self._state.adding and self.is_finished and self.finished_at is None:
            self.finished_at = timezone.now()
        if self._state.adding and update_fields is None and not kwargs.get("force_update"):
            self._validate(None)
            super().save(**kwargs)
            return
        self._validate(update_fields)
        using = kwargs["using"] = kwargs.get("using") or router.db_for_write(Run, instance=self)
        with transaction.atomic(using=using):
            if update_fields is None:
                # Never an INSERT, which would bring a deleted run back.
                kwargs["force_update"] = True
            written = {"status"} if update_fields is None else set(update_fields)
            if "status" in written - self.get_deferred_fields():
                stored = Run.objects.using(using).filter(pk=self.pk).locked().first()
                if stored is not None and stored._state_of_run != self._state_of_run:
                    raise InvalidTransition(self.pk, stored.status, self.status, self.status)
            super().save(**kwargs)

    def _validate(self, update_fields: Any) -> None:
        deferred = self.get_deferred_fields()
        unchecked = {
            field.name
            for field in self._meta.concrete_fields
            if field.attname in deferred
            or (update_fields is not None and not {field.name, field.attname} & set(update_fields))
        }
        # The database answers for foreign keys and the primary key, without a query ahead.
        self.clean_fields(exclude=unchecked | {"user", "organization"})
        if not unchecked:
            self.clean()

    def transition_to(self, status: str, **fields: Any) -> None:
        """Move the run to ``status``, and save ``fields`` (name: value) with it.

        Atomic against every other writer. A run that becomes finished gets ``finished_at`` now,
        unless ``fields`` has it; a finished run that goes back to READY or RUNNING loses
        ``finished_at`` and ``exit_code``, and counts one more in ``stats["resurrectCount"]``.

        Raises InvalidTransition when no such step exists or this object is outdated,
        ValidationError when a field is refused, TypeError for a name that is no field. Then
        nothing is changed, neither in the database nor on this object.
        """
        names = {field.name for field in self._meta.concrete_fields} - _FIXED_BY_TRANSITIONS
        if unknown := fields.keys() - names:
            raise TypeError(f"A transition cannot change: {', '.join(sorted(unknown))}")
        using = router.db_for_write(Run, instance=self)
        with transaction.atomic(using=using):
            run = Run.objects.using(using).filter(pk=self.pk).locked().first()
            if run is None or run._state_of_run != self._state_of_run:
                stored = run.status if run else None
                raise InvalidTransition(self.pk, stored, self.status, status)
            if status not in TRANSITIONS[run.status]:
                raise InvalidTransition(self.pk, run.status, run.status, status)
            changes: dict[str, Any] = {"status": RunStatus(status), "version": run.version + 1}
            if status in self.FINISHED:
                changes["finished_at"] = timezone.now()
            changes |= fields
            if run.is_finished:
                changes["finished_at"] = changes["exit_code"] = None
                stats = changes.get("stats", run.stats)
                if isinstance(stats, dict):  # what else it is, validation refuses
                    count = run.stats.get("resurrectCount", 0) + 1
                    changes["stats"] = {**stats, "resurrectCount": count}
            for name, value in changes.items():
                setattr(run, name, value)
            run._validate(changes)
            run.clean()
            super(Run, run).save(using=using, update_fields=list(changes))
        for name in changes:
            setattr(self, name, getattr(run, name))

    transition_to.alters_data = True  # type: ignore[attr-defined]

    @property
    def _state_of_run(self) -> tuple[str, int]:
        """What every transition changes."""
        return self.status, self.version

    def delete(self, using: str | None = None, keep_parents: bool = False) -> Any:
        """Delete the run, if it is finished at this moment. Returns what Django returns.

        Raises RunNotFinished otherwise. A run that is already gone counts as nothing deleted,
        and no signal fires.
        """
        if self.pk is None:
            return super().delete(using=using, keep_parents=keep_parents)  # Django's own refusal
        using = using or router.db_for_write(Run, instance=self)
        with transaction.atomic(using=using):
            try:
                # Receivers of signals see the run as it is deleted, not as it once was read.
                self.refresh_from_db(using=using, from_queryset=Run.objects.using(using).locked())
            except Run.DoesNotExist:
                return 0, {}
            if not self.is_finished:
                raise RunNotFinished(self.pk, self.status)
            return super().delete(using=using, keep_parents=keep_parents)

    delete.alters_data = True  # type: ignore[attr-defined]
