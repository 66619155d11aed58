"""The log of deletions, and words for logs and terminals."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from actor_runs.models import Run

logger = logging.getLogger("actor_runs")


def counted(number: int, noun: str) -> str:
    """Return ``number`` with the noun that agrees with it: "1 run", "2 runs"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def printable(text: str) -> str:
    """Return ``text`` as one line that every terminal and every log can take."""
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)


def log_deletion(run: Run, user: Any) -> None:
    """Log that ``user`` deleted ``run``, in one INFO line and as structured ``extra``.

    ``run`` is as it was read last. ``user`` is None for a run that went with its owner.
    """
    deleted_by = None if user is None else str(getattr(user, "pk", None))
    logger.info(
        "Run %s of %s deleted %s",
        run.pk,
        run.owner_key,
        "with its owner" if user is None else f"by user {deleted_by}",
        extra={
            "run_id": run.pk,
            "owner": run.owner_key,
            "deleted_by": deleted_by,
            "run_status": run.status,
        },
    )
