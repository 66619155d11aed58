"""The app's own signal."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from django.dispatch import Signal

from actor_runs.db.transactions import on_commit

if TYPE_CHECKING:
    from actor_runs.models import Run

__all__ = ["run_status_changed"]

run_status_changed = Signal()
"""Sent once after the commit of each transition, and of each change of a status by an import.

``sender`` is ``Run``. Receivers get ``run`` (Run), ``old_status`` and ``new_status`` (str). What a
receiver raises is logged, and stops neither the others nor the change, which is done. Neither the
creation of a run nor its deletion is a change: see Django's ``post_save`` and ``post_delete``.
"""


def announce_status_change(run: Run, old_status: str, using: str) -> None:
    """Send ``run_status_changed`` once the transaction on ``using`` is committed."""
    send = partial(
        run_status_changed.send_robust,
        sender=run._meta.concrete_model,
        run=run,
        old_status=old_status,
        new_status=run.status,
    )
    on_commit(send, using)
