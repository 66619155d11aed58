"""How often: django-ratelimit behind REST framework's throttle hook."""

from __future__ import annotations

import logging
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django_ratelimit.core import get_usage, user_or_ip
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from actor_runs.conf import conf

logger = logging.getLogger("actor_runs")


def is_enabled() -> bool:
    """Whether django-ratelimit counts at all."""
    return getattr(settings, "RATELIMIT_ENABLE", True)


def announced_limit() -> str | None:
    """Return ``X-RateLimit-Limit``, the count of the per-run limit; None where that is off."""
    if conf.run_rate_limit is None or not is_enabled():
        return None
    return conf.run_rate_limit.partition("/")[0]


class RateLimitThrottle(BaseThrottle):
    """Both limits: ``RATE_LIMIT`` for the caller, then ``RUN_RATE_LIMIT`` for the run ID.

    One throttle for the two, so that a cache that does not answer is waited for once.
    """

    seconds_to_wait = 1

    def allow_request(self, request: Request, view: Any) -> bool:
        if not is_enabled():
            return True
        if conf.rate_limit is not None:
            kind = "user" if request.user.is_authenticated else "ip"
            # Outside of _count: an address that cannot be read is a misconfiguration to be
            # seen, no failure of the cache.
            caller = f"{kind}:{user_or_ip(request)}"
            decision = self._count(request, "actor_runs.caller", caller, conf.rate_limit)
            if decision is not None:
                return decision
        if conf.run_rate_limit is not None and "runId" in view.kwargs:
            run_id = view.kwargs["runId"]
            decision = self._count(request, "actor_runs.run", run_id, conf.run_rate_limit)
            if decision is not None:
                return decision
        return True

    def wait(self) -> int:
        """Return after how many seconds the request may be tried again, at least 1."""
        return self.seconds_to_wait

    def _count(self, request: Request, group: str, key: str, rate: str) -> bool | None:
        """Count this request. True or False: that is the decision; None: ask the next limit."""
        try:
            usage = get_usage(request, group=group, key=lambda *_: key, rate=rate, increment=True)
        except ImproperlyConfigured:
            raise
        except Exception:
            # django-ratelimit's RATELIMIT_FAIL_OPEN knows only caches that fail in silence.
            logger.exception("The rate limits' cache failed")
            return getattr(settings, "RATELIMIT_FAIL_OPEN", False)
        if usage is None or usage["count"] == 0:
            # A request that was counted counts at least 1: the cache kept nothing.
            logger.error("The rate limits' cache failed, and said nothing")
            return usage is None
        if usage["should_limit"]:
            # The window's last second is still inside of it.
            self.seconds_to_wait = max(1, usage["time_left"] + 1)
            return False
        return None
