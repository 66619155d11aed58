"""The statuses of a run, which of them are finished, and which may follow which."""

from django.db import models
from django.utils.translation import gettext_lazy as _

__all__ = ["FINISHED", "TRANSITIONS", "UNFINISHED", "GeneralAccess", "RunStatus"]


class RunStatus(models.TextChoices):
    """The eight statuses of a run, as the API spells them."""

    READY = "READY", _("Ready")
    """Created, but not started yet."""
    RUNNING = "RUNNING", _("Running")
    """At work."""
    SUCCEEDED = "SUCCEEDED", _("Succeeded")
    """Finished: the Actor did its work."""
    FAILED = "FAILED", _("Failed")
    """Finished: the Actor failed, or never started."""
    TIMING_OUT = "TIMING-OUT", _("Timing out")
    """Its time is up, and it is being stopped."""
    TIMED_OUT = "TIMED-OUT", _("Timed out")
    """Finished: it was stopped because its time was up."""
    ABORTING = "ABORTING", _("Aborting")
    """Somebody asked it to stop, and it is being stopped."""
    ABORTED = "ABORTED", _("Aborted")
    """Finished: it was stopped because somebody asked."""


class GeneralAccess(models.TextChoices):
    """Who, besides its owner, can read a run."""

    FOLLOW_USER_SETTING = "FOLLOW_USER_SETTING", _("As set for the whole site")
    """What ``ACTOR_RUNS["GENERAL_ACCESS"]`` says."""
    ANYONE_WITH_ID_CAN_READ = "ANYONE_WITH_ID_CAN_READ", _("Anyone with the ID can read")
    """Anyone who knows the ID, also without a token."""
    ANYONE_WITH_NAME_CAN_READ = "ANYONE_WITH_NAME_CAN_READ", _("Anyone with the name can read")
    """The same as RESTRICTED here, since runs have no names."""
    RESTRICTED = "RESTRICTED", _("Only the owner can read")
    """Nobody else."""


FINISHED = (RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.TIMED_OUT, RunStatus.ABORTED)
UNFINISHED = tuple(status for status in RunStatus if status not in FINISHED)

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
    **dict.fromkeys(FINISHED, (RunStatus.READY, RunStatus.RUNNING)),
}
