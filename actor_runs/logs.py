"""What is said of a deletion on the logger ``actor_runs``, by the API and the admin alike."""

from __future__ import annotations

import logging
from typing import Any

from actor_runs.models import Run
from actor_runs.serializers import owner_key

logger = logging.getLogger("actor_runs")


def log_deletion(run: Run, user: Any) -> None:
    """Log which run is gone, whose it was, who deleted it and the status that it had when it was
    read: one INFO line, with the same as structured ``extra``.
    """
    logger.info(
        "Run %s of %s deleted by user %s",
        run.pk,
        owner_key(run),
        user.pk,
        extra={
            "run_id": run.pk,
            "owner": owner_key(run),
            "deleted_by": str(user.pk),
            "run_status": run.status,
        },
    )
