"""What a host's own processes do to runs meanwhile. Each function says how it ended."""

from __future__ import annotations

import datetime
import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from actor_runs.models import Run


def set_up(env: dict[str, str]) -> None:
    """Make this process one of the host's, on the test's database."""
    os.environ.update(env)
    import django

    django.setup()


def nothing(number: int) -> None:
    """Take part in nothing."""


def move(run: Run, status: str, after: float = 0) -> str:
    """Move the run, which this process knows as it was when ``run`` was read.

    ``after`` so many seconds, which a request takes to arrive: so that either side wins races.
    """
    from actor_runs.exceptions import InvalidTransition

    time.sleep(after)
    try:
        run.transition_to(status)
    except InvalidTransition as refusal:
        return "gone" if refusal.status is None else "outdated"
    return "moved"


def save(run: Run, after: float) -> str:
    """Save an object that may be outdated, ``after`` so many seconds."""
    from django.db import DatabaseError

    from actor_runs.exceptions import InvalidTransition

    time.sleep(after)
    run.status_message = "saved"
    try:
        run.save()
    except InvalidTransition:
        return "outdated"
    except DatabaseError:
        return "gone"
    return "saved"


def delete(run: Run) -> str:
    """Delete the run by the object."""
    from actor_runs.exceptions import RunNotFinished

    try:
        deleted, _ = run.delete()
    except RunNotFinished:
        return "unfinished"
    return "deleted" if deleted else "gone"


def delete_finished(run_ids: list[str]) -> int:
    """Delete those of the runs that are finished, in one go; return how many."""
    from django.db import OperationalError

    from actor_runs.models import Run

    while True:
        try:
            return Run.objects.filter(pk__in=run_ids).delete_finished()
        except OperationalError as error:
            # MariaDB ends one side of a deadlock, and tells it to try again.
            if "deadlock" not in str(error).lower():
                raise


def prune() -> int:
    """Delete whatever is finished by now, as the command does; return how many."""
    from actor_runs.models import Run

    return Run.objects.prune(datetime.timedelta(0)).deleted


def add_note(run: Run) -> str:
    """Insert a row that refers to the run."""
    from django.db import IntegrityError, OperationalError

    from tests.host.models import Note

    try:
        Note.objects.create(run_id=run.pk)
    except IntegrityError:
        return "refused"
    except OperationalError as error:
        if "deadlock" not in str(error).lower():
            raise
        return "deadlock"
    return "added"
