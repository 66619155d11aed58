"""System checks: every way of getting the settings wrong, and what to do about it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator
from typing import Any

from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.checks import CheckMessage, Error, Warning
from django.core.exceptions import FieldError
from django.utils.module_loading import import_string

from actor_runs.conf import DEFAULTS, conf

RATE = re.compile(r"[0-9]+/([1-9][0-9]*)?[smhd]", re.ASCII)
GENERAL_ACCESS = ("RESTRICTED", "ANYONE_WITH_ID_CAN_READ", "ANYONE_WITH_NAME_CAN_READ")
LONGEST_WAIT = 60
TOKEN_APP = "rest_framework.authtoken"

# What makes Django's own caches unfit to count for several processes.
UNFIT_CACHES = {
    "django.core.cache.backends.locmem.LocMemCache": "is not shared between processes",
    "django.core.cache.backends.dummy.DummyCache": "keeps nothing",
    "django.core.cache.backends.filebased.FileBasedCache": "cannot increment atomically",
    "django.core.cache.backends.db.DatabaseCache": "cannot increment atomically",
}

# Which take redis-py's time-outs, by their own names or in capitals.
REDIS_CACHES = (
    "django.core.cache.backends.redis.RedisCache",
    "django_redis.cache.RedisCache",
)


def error(number: int, message: str, hint: str) -> Error:
    return Error(message, hint=hint, id=f"actor_runs.E{number:03}")


def check_settings(**kwargs: Any) -> list[CheckMessage]:
    """Check ``ACTOR_RUNS``, and the settings of other apps that it leans on."""
    chosen = getattr(settings, "ACTOR_RUNS", {})
    if not isinstance(chosen, dict):
        return [
            error(
                1, "ACTOR_RUNS must be a dictionary.", "Write ACTOR_RUNS = {...}, or leave it out."
            )
        ]
    return [message for check in CHECKS for message in check(chosen)]


def check_keys(chosen: dict[Any, Any]) -> Iterator[Error]:
    for key in chosen:
        if key not in DEFAULTS:
            close = difflib.get_close_matches(str(key).upper(), DEFAULTS, n=1)
            known = close[0] if close else f"one of {', '.join(DEFAULTS)}"
            yield error(2, f"ACTOR_RUNS has an unknown key: {key!r}.", f"Did you mean {known}?")


def check_authentication_classes(chosen: dict[Any, Any]) -> Iterator[Error]:
    hint = "Name REST framework authentication classes by their dotted paths."
    paths = conf.authentication_classes
    if not isinstance(paths, (list, tuple)) or not paths:
        yield error(3, 'ACTOR_RUNS["AUTHENTICATION_CLASSES"] must be a list, not empty.', hint)
        return
    for path in paths:
        try:
            found = callable(getattr(import_string(path), "authenticate", None))
        except Exception:  # whatever the import of a host's module raises
            found = False
        if not found:
            yield error(
                4,
                f'ACTOR_RUNS["AUTHENTICATION_CLASSES"] has no authentication class at {path!r}.',
                hint,
            )
        elif str(path).startswith("actor_runs.") and not apps.is_installed(TOKEN_APP):
            yield error(
                5,
                f"{path} needs the tokens of {TOKEN_APP}, which is not installed.",
                f'Add "{TOKEN_APP}" to INSTALLED_APPS, or name other authentication classes.',
            )


def check_organization(chosen: dict[Any, Any]) -> Iterator[Error]:
    model = chosen.get("ORGANIZATION_MODEL", DEFAULTS["ORGANIZATION_MODEL"])
    try:
        organization = apps.get_model(model)
    except (LookupError, ValueError, AttributeError, TypeError):
        yield error(
            6,
            f'ACTOR_RUNS["ORGANIZATION_MODEL"] is no installed model: {model!r}.',
            "Write it as app_label.ModelName, of an app in INSTALLED_APPS.",
        )
        return
    members = conf.organization_members
    try:
        users = get_user_model()._default_manager.all()
        # Refused where the way leads elsewhere than to users, and where it is no relation.
        organization._default_manager.filter(**{f"{members}__in": users, f"{members}__pk__in": []})
    except (FieldError, TypeError, ValueError):
        yield error(
            7,
            f'ACTOR_RUNS["ORGANIZATION_MEMBERS"] does not lead from {model} to its users: '
            f"{members!r}.",
            "Name the field, or the reverse query name, that leads to the user model.",
        )


def check_rates(chosen: dict[Any, Any]) -> Iterator[Error]:
    for number, key in ((8, "RATE_LIMIT"), (9, "RUN_RATE_LIMIT")):
        rate = chosen.get(key, DEFAULTS[key])
        if rate is not None and not (isinstance(rate, str) and RATE.fullmatch(rate)):
            yield error(
                number,
                f'ACTOR_RUNS["{key}"] is no rate: {rate!r}.',
                'Write a count and a period, like "60/s", "1000/10m", "5/h" or "9/d"; '
                "None switches the limit off.",
            )


def check_general_access(chosen: dict[Any, Any]) -> Iterator[Error]:
    if conf.general_access not in GENERAL_ACCESS:
        yield error(
            10,
            f'ACTOR_RUNS["GENERAL_ACCESS"] is unknown: {conf.general_access!r}.',
            f"Choose one of {', '.join(GENERAL_ACCESS)}.",
        )


def check_max_wait(chosen: dict[Any, Any]) -> Iterator[Error]:
    wait = conf.max_wait_for_finish
    is_number = isinstance(wait, (int, float)) and not isinstance(wait, bool)
    if not is_number or not 0 <= wait <= LONGEST_WAIT:
        yield error(
            11,
            f'ACTOR_RUNS["MAX_WAIT_FOR_FINISH"] is out of range: {wait!r}.',
            f"Write a number of seconds from 0 to {LONGEST_WAIT}; 0 switches waiting off.",
        )


def check_cache_exists(chosen: dict[Any, Any]) -> Iterator[Error]:
    alias = getattr(settings, "RATELIMIT_USE_CACHE", "default")
    if alias not in settings.CACHES:
        yield error(
            12,
            f"RATELIMIT_USE_CACHE names a cache that CACHES does not have: {alias!r}.",
            "The rate limits count there. Add it to CACHES, or name another.",
        )


CHECKS: tuple[Callable[[dict[Any, Any]], Iterator[Error]], ...] = (
    check_keys,
    check_authentication_classes,
    check_organization,
    check_rates,
    check_general_access,
    check_max_wait,
    check_cache_exists,
)


def check_cache_is_shared(**kwargs: Any) -> list[CheckMessage]:
    """Warn, on deployment, of a cache in which the rate limits cannot count."""
    alias = getattr(settings, "RATELIMIT_USE_CACHE", "default")
    backend = settings.CACHES.get(alias, {}).get("BACKEND")
    if backend not in UNFIT_CACHES:
        return []
    return [
        Warning(
            f"The rate limits count in the cache {alias!r}, which {UNFIT_CACHES[backend]}.",
            hint="Use Redis or memcached, and name it in RATELIMIT_USE_CACHE.",
            id="actor_runs.W001",
        )
    ]


def check_cache_has_timeout(**kwargs: Any) -> list[CheckMessage]:
    """Warn, on deployment, of a Redis cache that could keep every request waiting."""
    alias = getattr(settings, "RATELIMIT_USE_CACHE", "default")
    cache = settings.CACHES.get(alias, {})
    options = {name.lower(): value for name, value in cache.get("OPTIONS", {}).items()}
    in_url = "socket_timeout=" in str(cache.get("LOCATION"))
    if cache.get("BACKEND") not in REDIS_CACHES or options.get("socket_timeout") or in_url:
        return []
    return [
        Warning(
            f"The rate limits count in the cache {alias!r}, which has no time-out: "
            "requests wait for it, some versions of redis-py forever.",
            hint='Set OPTIONS["socket_timeout"] to a second or less.',
            id="actor_runs.W002",
        )
    ]
