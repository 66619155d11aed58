"""System checks: what is wrong with a host's settings, models or URLs, and what to do about it."""

from __future__ import annotations

import datetime
import difflib
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.checks import CheckMessage, Error, Warning
from django.core.exceptions import FieldError
from django.db import connections, router
from django.urls import NoReverseMatch, get_script_prefix, resolve, reverse
from django.utils import timezone
from django.utils.module_loading import import_string

from actor_runs.conf import DEFAULTS, conf
from actor_runs.querysets import RunQuerySet

EXAMPLE_RUN_ID = "3KH8gEpp4d8uQSe8T"
TOKEN_APP = "rest_framework.authtoken"

# What makes Django's own caches unfit to count for several processes.
UNFIT_CACHES = {
    "django.core.cache.backends.locmem.LocMemCache": "is not shared between processes",
    "django.core.cache.backends.dummy.DummyCache": "keeps nothing",
    "django.core.cache.backends.filebased.FileBasedCache": "cannot increment atomically",
    "django.core.cache.backends.db.DatabaseCache": "cannot increment atomically",
}

# Which take redis-py's time-outs, by their own names or in capitals.
REDIS_CACHES = ("django.core.cache.backends.redis.RedisCache", "django_redis.cache.RedisCache")


class Rule(NamedTuple):
    """What the value of a key must be, and what is said of one that is not valid."""

    number: int
    is_valid: Callable[[Any], bool]
    problem: str
    hint: str


def one_of(number: int, *allowed: str) -> Rule:
    hint = f"Choose one of {', '.join(allowed)}."
    return Rule(number, lambda value: value in allowed, "is not valid", hint)


def rate(number: int) -> Rule:
    hint = (
        'Write a count and a period, like "60/s", "1000/10m", "5/h" or "9/d"; '
        "None switches the limit off."
    )
    return Rule(number, is_rate, "is not a valid rate", hint)


def is_rate(value: Any) -> bool:
    if isinstance(value, str):
        return bool(re.fullmatch(r"[0-9]+/([1-9][0-9]*)?[smhd]", value, re.ASCII))
    return value is None


def is_number(value: Any, kinds: type | tuple[type, ...]) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)


RULES = {
    "ON_OWNER_DELETE": one_of(13, "DELETE_FINISHED", "PROTECT"),
    "RATE_LIMIT": rate(8),
    "RUN_RATE_LIMIT": rate(9),
    "GENERAL_ACCESS": one_of(
        10, "RESTRICTED", "ANYONE_WITH_ID_CAN_READ", "ANYONE_WITH_NAME_CAN_READ"
    ),
    "MAX_WAIT_FOR_FINISH": Rule(
        11,
        lambda value: is_number(value, (int, float)) and 0 <= value <= 60,
        "is out of range",
        "Write a number of seconds from 0 to 60; 0 switches waiting off.",
    ),
    "MAX_WAITING": Rule(
        14,
        lambda value: is_number(value, int) and value >= 0,
        "is not valid",
        "Write a whole number of requests, below the number of the server's threads.",
    ),
}


def error(number: int, message: str, hint: str) -> CheckMessage:
    return Error(message, hint=hint, id=f"actor_runs.E{number:03}")


def warning(number: int, message: str, hint: str) -> CheckMessage:
    return Warning(message, hint=hint, id=f"actor_runs.W{number:03}")


def check_settings(**kwargs: Any) -> list[CheckMessage]:
    """Check ``ACTOR_RUNS``, and the settings of other apps that it relies on."""
    chosen = getattr(settings, "ACTOR_RUNS", {})
    if not isinstance(chosen, dict):
        hint = "Write ACTOR_RUNS = {...}, or leave it out."
        return [error(1, "ACTOR_RUNS must be a dictionary.", hint)]
    return [
        *unknown_keys(chosen),
        *wrong_authentication_classes(),
        *wrong_organization(),
        *wrong_values(),
        *unknown_cache(),
    ]


def unknown_keys(chosen: dict[Any, Any]) -> Iterator[CheckMessage]:
    for key in chosen:
        if key not in DEFAULTS:
            close = difflib.get_close_matches(str(key).upper(), DEFAULTS, n=1)
            known = close[0] if close else f"one of {', '.join(DEFAULTS)}"
            yield error(2, f"ACTOR_RUNS has an unknown key: {key!r}.", f"Did you mean {known}?")


def wrong_authentication_classes() -> Iterator[CheckMessage]:
    hint = "Name REST framework authentication classes by their dotted paths."
    paths = conf.authentication_classes
    if not isinstance(paths, (list, tuple)) or not paths:
        yield error(3, 'ACTOR_RUNS["AUTHENTICATION_CLASSES"] must be a list, not empty.', hint)
        return
    for path in paths:
        try:
            named = import_string(path)
        except Exception:  # whatever the import of a host's module raises
            named = None
        # A backend of AUTHENTICATION_BACKENDS has the first of these methods only.
        methods = ("authenticate", "authenticate_header")
        if not inspect.isclass(named) or not all(hasattr(named, name) for name in methods):
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


def wrong_organization() -> Iterator[CheckMessage]:
    model = conf.get("ORGANIZATION_MODEL")
    try:
        organization = apps.get_model(model)
    except (LookupError, ValueError, AttributeError, TypeError):
        yield error(
            6,
            f'ACTOR_RUNS["ORGANIZATION_MODEL"] is not an installed model: {model!r}.',
            "Write it as app_label.ModelName, of an app in INSTALLED_APPS.",
        )
        return
    members = conf.get("ORGANIZATION_MEMBERS")
    paths = members if isinstance(members, (list, tuple)) and members else [members]
    users = get_user_model()._default_manager.all()
    for path in paths:
        try:
            # Refused if the path leads elsewhere than to users, or is not a relation.
            organization._default_manager.filter(**{f"{path}__in": users, f"{path}__pk__in": []})
        except (FieldError, TypeError, ValueError):
            yield error(
                7,
                f'ACTOR_RUNS["ORGANIZATION_MEMBERS"] does not lead from {model} to its users: '
                f"{path!r}.",
                "Name the field, or the reverse query name, that leads to the user model.",
            )


def wrong_values() -> Iterator[CheckMessage]:
    for key, rule in RULES.items():
        value = conf.get(key)
        if not rule.is_valid(value):
            yield error(rule.number, f'ACTOR_RUNS["{key}"] {rule.problem}: {value!r}.', rule.hint)


def unknown_cache() -> Iterator[CheckMessage]:
    alias = getattr(settings, "RATELIMIT_USE_CACHE", "default")
    if alias not in settings.CACHES:
        yield error(
            12,
            f"RATELIMIT_USE_CACHE names a cache that CACHES does not have: {alias!r}.",
            "The rate limits count there. Add it to CACHES, or name another.",
        )


def check_models(**kwargs: Any) -> list[CheckMessage]:
    """Check the models that inherit from ``Run``."""
    run = apps.get_model("actor_runs", "Run")
    messages = []
    for model in apps.get_models():
        if run in model._meta.all_parents and not model._meta.proxy:
            messages.append(
                error(
                    15,
                    f"{model._meta.label} inherits from Run with a table of its own: the deletion "
                    "of its row would delete the run, finished or not.",
                    "Use a OneToOneField to Run with on_delete=CASCADE, or a proxy model.",
                )
            )
        elif model._meta.proxy and model._meta.concrete_model is run:
            messages += [
                error(
                    16,
                    f"The manager {manager.name!r} of {model._meta.label} can delete unfinished "
                    "runs.",
                    "Make it of RunQuerySet, or of a subclass: RunQuerySet.as_manager().",
                )
                for manager in model._meta.managers
                if not isinstance(manager.all(), RunQuerySet)
            ]
    return messages


def check_times(**kwargs: Any) -> list[CheckMessage]:
    """Warn of a database whose times are ambiguous for an hour when summer time ends."""
    alias = router.db_for_write(apps.get_model("actor_runs", "Run"))
    connection = connections[alias]
    zone = connection.timezone or timezone.get_default_timezone()
    if settings.USE_TZ and connection.features.supports_timezones:
        return []
    year = timezone.now().year
    offsets = {zone.utcoffset(datetime.datetime(year, month, 1)) for month in range(1, 13)}
    if len(offsets) == 1:
        return []
    where = f'DATABASES[{alias!r}]["TIME_ZONE"]' if settings.USE_TZ else "TIME_ZONE"
    return [
        warning(
            3,
            f"The database keeps times in {zone}: an hour is ambiguous when summer time ends.",
            f'Set USE_TZ = True and a zone without summer time, like "UTC", as {where}.',
        )
    ]


def check_urls(**kwargs: Any) -> list[CheckMessage]:
    """Warn of URL patterns that take the app's URLs away."""
    if not getattr(settings, "ROOT_URLCONF", None):
        return []
    try:
        path = reverse("actor_runs:run-detail", kwargs={"runId": EXAMPLE_RUN_ID})
    except NoReverseMatch:  # not mounted, or below a path with parameters
        return []
    path = f"/{path.removeprefix(get_script_prefix())}"  # which resolve() does not know
    for each in (path, f"{path}/", f"{path}/log"):
        if "actor_runs" not in resolve(each).app_names:
            hint = 'Put include("actor_runs.urls") above any catch-all in the URLconf.'
            return [warning(4, f"Another URL pattern answers for {each}.", hint)]
    return []


def check_cache(**kwargs: Any) -> list[CheckMessage]:
    """Warn, on deployment, of a cache that cannot count, or could keep every request waiting."""
    alias = getattr(settings, "RATELIMIT_USE_CACHE", "default")
    cache = settings.CACHES.get(alias, {})
    backend = cache.get("BACKEND")
    where = f"The rate limits count in the cache {alias!r}, which"
    if backend in UNFIT_CACHES:
        hint = "Use Redis or memcached, and name it in RATELIMIT_USE_CACHE."
        return [warning(1, f"{where} {UNFIT_CACHES[backend]}.", hint)]
    options = {name.lower(): value for name, value in cache.get("OPTIONS", {}).items()}
    in_url = "socket_timeout=" in str(cache.get("LOCATION"))
    if backend not in REDIS_CACHES or options.get("socket_timeout") or in_url:
        return []
    problem = "has no time-out: requests wait for it, some versions of redis-py forever."
    return [warning(2, f"{where} {problem}", 'Set OPTIONS["socket_timeout"] to a second or less.')]
