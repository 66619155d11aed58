"""The ``ACTOR_RUNS`` setting: one property for each key, read anew each time."""

from __future__ import annotations

from typing import Any

from django.conf import settings

DEFAULTS: dict[str, Any] = {
    "AUTHENTICATION_CLASSES": ["actor_runs.authentication.BearerTokenAuthentication"],
    "ORGANIZATION_MODEL": "auth.Group",
    "ORGANIZATION_MEMBERS": "user",
    "RATE_LIMIT": "250000/m",
    "RUN_RATE_LIMIT": "60/s",
    "GENERAL_ACCESS": "RESTRICTED",
    "MAX_WAIT_FOR_FINISH": 5,
}


class Conf:
    """What the host chose. ``checks.py`` says what is wrong with a bad value."""

    def _get(self, key: str) -> Any:
        chosen = getattr(settings, "ACTOR_RUNS", {})
        # Models read this while they are imported, before any check could speak:
        # a setting that is no dictionary must become a check's error, not a traceback.
        if not isinstance(chosen, dict):
            chosen = {}
        return chosen.get(key, DEFAULTS[key])

    @property
    def authentication_classes(self) -> list[str]:
        """Dotted paths of REST framework authentication classes, tried in this order."""
        return self._get("AUTHENTICATION_CLASSES")

    @property
    def organization_model(self) -> str:
        """``app_label.ModelName`` of what, besides users, can own runs."""
        chosen = self._get("ORGANIZATION_MODEL")
        well_formed = isinstance(chosen, str) and chosen.count(".") == 1
        return chosen if well_formed else DEFAULTS["ORGANIZATION_MODEL"]

    @property
    def organization_members(self) -> str:
        """Query name from the organization model to its member users."""
        return self._get("ORGANIZATION_MEMBERS")

    @property
    def rate_limit(self) -> str | None:
        """Requests for each user, or each IP address without a valid token; None: off."""
        return self._get("RATE_LIMIT")

    @property
    def run_rate_limit(self) -> str | None:
        """Requests for each run ID; None: off."""
        return self._get("RUN_RATE_LIMIT")

    @property
    def general_access(self) -> str:
        """What ``FOLLOW_USER_SETTING`` means here."""
        return self._get("GENERAL_ACCESS")

    @property
    def max_wait_for_finish(self) -> float:
        """The longest that ``waitForFinish`` may hold a request, in seconds."""
        return self._get("MAX_WAIT_FOR_FINISH")


conf = Conf()
