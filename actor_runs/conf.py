"""The ``ACTOR_RUNS`` setting: one property for each key, read anew each time."""

from __future__ import annotations

from typing import Any

from django.conf import settings

DEFAULTS: dict[str, Any] = {
    "AUTHENTICATION_CLASSES": ["actor_runs.authentication.BearerTokenAuthentication"],
    "ORGANIZATION_MODEL": "auth.Group",
    "ORGANIZATION_MEMBERS": "user",
    "ON_OWNER_DELETE": "DELETE_FINISHED",
    "RATE_LIMIT": "250000/m",
    "RUN_RATE_LIMIT": "60/s",
    "GENERAL_ACCESS": "RESTRICTED",
    "MAX_WAITING": 4,
    "MAX_WAIT_FOR_FINISH": 5,
}


class Conf:
    """The host's choices. ``checks.py`` reports bad values."""

    def get(self, key: str) -> Any:
        """Return the host's choice, whether it is valid or not, or the default."""
        chosen = getattr(settings, "ACTOR_RUNS", {})
        # Models read this while they are imported, before any check can report a setting that is
        # not a dictionary.
        if not isinstance(chosen, dict):
            chosen = {}
        return chosen.get(key, DEFAULTS[key])

    @property
    def authentication_classes(self) -> list[str]:
        """Dotted paths of REST framework authentication classes, tried in this order."""
        return self.get("AUTHENTICATION_CLASSES")

    @property
    def organization_model(self) -> str:
        """``app_label.ModelName`` of what, besides users, can own runs."""
        chosen = self.get("ORGANIZATION_MODEL")
        well_formed = isinstance(chosen, str) and chosen.count(".") == 1
        return chosen if well_formed else DEFAULTS["ORGANIZATION_MODEL"]

    @property
    def organization_members(self) -> list[str]:
        """Query names from the organization model to its member users."""
        chosen = self.get("ORGANIZATION_MEMBERS")
        return [chosen] if isinstance(chosen, str) else list(chosen)

    @property
    def on_owner_delete(self) -> str:
        """``DELETE_FINISHED``, or ``PROTECT``: what becomes of the runs of a deleted owner."""
        return self.get("ON_OWNER_DELETE")

    @property
    def rate_limit(self) -> str | None:
        """Requests of each user, or of each IP address without a valid token; None: off."""
        return self.get("RATE_LIMIT")

    @property
    def run_rate_limit(self) -> str | None:
        """Requests of each caller for each run ID; None: off."""
        return self.get("RUN_RATE_LIMIT")

    @property
    def general_access(self) -> str:
        """What ``FOLLOW_USER_SETTING`` means here."""
        return self.get("GENERAL_ACCESS")

    @property
    def max_waiting(self) -> int:
        """How many requests of one process may wait for a run at a time."""
        return self.get("MAX_WAITING")

    @property
    def max_wait_for_finish(self) -> float:
        """How long ``waitForFinish`` may hold a request at most, in seconds."""
        return self.get("MAX_WAIT_FOR_FINISH")


conf = Conf()
