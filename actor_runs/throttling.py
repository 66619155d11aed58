"""How often, and how many at a time: django-ratelimit behind REST framework's throttle hook."""

from __future__ import annotations

import ipaddress
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string
from django_ratelimit.core import get_usage
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from actor_runs.conf import conf
from actor_runs.parameters import lookup_value

__all__ = ["RateLimitThrottle"]

logger = logging.getLogger("actor_runs")

DEFAULT_MASKS = {4: 32, 6: 64}  # django-ratelimit's, in bits


def is_enabled() -> bool:
    """Return whether django-ratelimit counts at all."""
    return getattr(settings, "RATELIMIT_ENABLE", True)


def announced_limit() -> str | None:
    """Return ``X-RateLimit-Limit``, the count of the per-run limit; None if that is off."""
    if conf.run_rate_limit is None or not is_enabled():
        return None
    return conf.run_rate_limit.partition("/")[0]


class CacheFailure(Exception):
    """The cache of the rate limits did not keep a count, and raised nothing."""


class RateLimitThrottle(BaseThrottle):
    """Both limits: ``RATE_LIMIT`` for the caller, ``RUN_RATE_LIMIT`` for the caller and run ID.

    One throttle for both, so that a request waits once for a cache that does not answer.
    """

    seconds_to_wait = 1

    def allow_request(self, request: Request, view: Any) -> bool:
        if not is_enabled():
            return True
        caller = caller_key(request)
        limits = [("actor_runs.caller", caller, conf.rate_limit)]
        if run_id := lookup_value(view):
            limits.append(("actor_runs.run", f"{caller} {run_id}", conf.run_rate_limit))
        try:
            for group, key, rate in limits:
                if rate is not None and not self._is_within(request, group, key, rate):
                    return False
        except ImproperlyConfigured:
            raise
        except Exception:
            logger.exception("The cache of the rate limits failed")
            if not getattr(settings, "RATELIMIT_FAIL_OPEN", False):
                return False
        if (limit := announced_limit()) is not None:
            view.headers["X-RateLimit-Limit"] = limit
        return True

    def wait(self) -> int:
        """Return after how many seconds the request may be tried again, at least 1."""
        return self.seconds_to_wait

    def _is_within(self, request: Request, group: str, key: str, rate: str) -> bool:
        """Count this request; return whether it is within the limit. Raises CacheFailure."""
        for _attempt in range(2):  # the cache may be cleared between the two commands of a count
            usage = get_usage(request, group=group, key=lambda *_: key, rate=rate, increment=True)
            # A request that was counted counts at least 1.
            if usage is not None and usage["count"]:
                if usage["should_limit"]:
                    # The last second of the window still belongs to it.
                    self.seconds_to_wait = max(1, usage["time_left"] + 1)
                return not usage["should_limit"]
        raise CacheFailure("It kept no count.")


def caller_key(request: Request) -> str:
    """Return the key by which a caller is counted: the user, or without a token the address."""
    user: Any = request.user
    if user and user.is_authenticated and getattr(user, "pk", None) is not None:
        is_own = isinstance(user, get_user_model())
        # Another model's users may have the same primary keys.
        kind = "user" if is_own else f"{user.__module__}.{type(user).__qualname__}"
        return f"{kind}:{user.pk}"
    return f"ip:{client_address(request) or 'unknown'}"


def client_address(request: Request) -> str | None:
    """Return the client's address, masked as django-ratelimit masks it; None if it is not known.

    django-ratelimit's own function raises for an address that is not known, and takes all IPv4
    addresses inside of IPv6 for one network.
    """
    source = getattr(settings, "RATELIMIT_IP_META_KEY", None) or "REMOTE_ADDR"
    try:
        if isinstance(source, str) and "." in source:
            source = import_string(source)
        value = source(request) if callable(source) else request.META[source]
        address = ipaddress.ip_address(str(value).strip())
        address = getattr(address, "ipv4_mapped", None) or address
        mask = getattr(
            settings, f"RATELIMIT_IPV{address.version}_MASK", DEFAULT_MASKS[address.version]
        )
        return str(ipaddress.ip_network((int(address), mask), strict=False).network_address)
    except Exception:  # a host's function may raise anything
        report_unknown_address()
        return None


@cache
def report_unknown_address() -> None:
    """Log, once in a process, that the addresses of clients are not known."""
    logger.warning(
        "The address of a client is not known, so all such clients share one rate limit: set "
        "RATELIMIT_IP_META_KEY to a header with one address, which your proxy sets.",
        exc_info=True,
    )


_waiting = 0
_waiting_lock = threading.Lock()


@contextmanager
def place_to_wait() -> Iterator[bool]:
    """Take one of the process's ``MAX_WAITING`` places for requests that wait, if one is free.

    Yields whether there was one, and gives it back.
    """
    global _waiting
    with _waiting_lock:
        has_place = _waiting < conf.max_waiting
        _waiting += has_place
    try:
        yield has_place
    finally:
        with _waiting_lock:
            _waiting -= has_place
