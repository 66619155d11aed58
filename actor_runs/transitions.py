"""How the status of a run changes: by one statement, or under a lock."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from django.db import models, transaction
from django.db.models.signals import post_save, pre_save
from django.utils import timezone

from actor_runs.db.orm import lock_row, row_of
from actor_runs.enums import FINISHED, TRANSITIONS, RunStatus
from actor_runs.exceptions import InvalidTransition
from actor_runs.signals import announce_status_change

if TYPE_CHECKING:
    from actor_runs.models import Run

NOT_SETTABLE = {"id", "status", "user", "organization", "version"}  # by callers


def change_status(run: Run, status: str, fields: dict[str, Any]) -> None:
    """Do what ``Run.transition_to`` says."""
    names = {field.name for field in run._meta.concrete_fields} - NOT_SETTABLE
    if unknown := fields.keys() - names:
        raise TypeError(f"A transition cannot change: {', '.join(sorted(unknown))}.")
    if run._state.adding:
        raise InvalidTransition(run.pk, None, run.status, status, saved=False)
    status = str(status)  # None stands for save() in the exceptions
    row = row_of(run)
    old_status, changes = _change_at_once(run, row, status, fields) or _change_locked(
        run, row, status, fields
    )
    for name, value in changes.items():
        setattr(run, name, value)
    announce_status_change(run, old_status, row.db)


def is_outdated(run: Run, stored: Run) -> bool:
    """Return whether the row, ``stored``, went through a transition since ``run`` was read.

    A deferred field is not compared: to load it would be an unlocked read.
    """
    return any(
        run.__dict__.get(name, getattr(stored, name)) != getattr(stored, name)
        for name in ("status", "version")
    )


def _change_at_once(
    run: Run, row: Any, status: str, fields: dict[str, Any]
) -> tuple[str, dict[str, Any]] | None:
    """Change the row by one conditional statement; return the old status and what changed.

    Returns None, and changes nothing, if receivers want to see the row, a resurrection needs to
    read it, or ``run`` does not say which transition is legal.
    """
    known: Any = {name: run.__dict__.get(name) for name in ("status", "version")}
    if (
        pre_save.has_listeners(type(run))
        or post_save.has_listeners(type(run))
        or None in known.values()
        or known["status"] in FINISHED
        or status not in TRANSITIONS.get(known["status"], ())
    ):
        return None
    changes = _set_status(copy.copy(run), status, fields)
    is_changed = row.filter(**known).update(**changes)
    return (known["status"], changes) if is_changed else None


def _change_locked(
    run: Run, row: Any, status: str, fields: dict[str, Any]
) -> tuple[str, dict[str, Any]]:
    """Lock the row, check it, and save what changes, with Django's signals.

    Returns the old status and what changed.
    """
    known = run.__dict__.get("status", "")  # "" if it is deferred
    with transaction.atomic(using=row.db):
        stored = lock_row(row)
        if stored is None:
            raise InvalidTransition(run.pk, None, known, status)
        if is_outdated(run, stored):
            raise InvalidTransition(run.pk, stored.status, known, status)
        if status not in TRANSITIONS[stored.status]:
            raise InvalidTransition(run.pk, stored.status, stored.status, status)
        old_status = stored.status
        changes = _set_status(stored, status, fields)
        models.Model.save(stored, using=row.db, update_fields=list(changes))
    return old_status, changes


def _set_status(run: Run, status: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Set on ``run`` what a legal transition changes, validate it, and return it."""
    changes: dict[str, Any] = {"status": RunStatus(status), "version": run.version + 1}
    if status in FINISHED:
        changes["finished_at"] = timezone.now()
    changes |= fields
    if run.is_finished:
        changes["finished_at"] = changes["exit_code"] = None
        run.validate({"stats"})  # QuerySet.update() validates nothing
        stats = changes.get("stats", run.stats)
        if isinstance(stats, dict):  # validation refuses anything else
            count = run.stats.get("resurrectCount", 0) + 1
            changes["stats"] = {**stats, "resurrectCount": count}
    for name, value in changes.items():
        setattr(run, name, value)
    run.validate(changes)
    return {name: getattr(run, name) for name in changes}
