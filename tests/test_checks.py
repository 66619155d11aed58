"""System checks: every way of getting the settings wrong, and what to do about it."""

from __future__ import annotations

import decimal
import io
import math
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core.checks import Error, Warning, run_checks
from django.core.management import CommandError, call_command

from actor_runs.conf import DEFAULTS

BEARER = "actor_runs.authentication.BearerTokenAuthentication"
QUERY = "actor_runs.authentication.QueryTokenAuthentication"
BASIC = "rest_framework.authentication.BasicAuthentication"
NAME_CLASSES = "Name REST framework authentication classes by their dotted paths."
# Django's own checks ask the database what it can do.
pytestmark = pytest.mark.django_db

ON_HOST = getattr(django_settings, "ACTOR_RUNS", {}).get("ORGANIZATION_MODEL") == "host.Company"


def found(*, deploy: bool = False) -> list[Any]:
    messages = run_checks(include_deployment_checks=deploy)
    return [message for message in messages if message.id.startswith("actor_runs.")]


def assert_error(number: int, message: str, hint: str) -> None:
    expected = Error(message, hint=hint, id=f"actor_runs.E{number:03}")
    assert found() == [expected]


# What is right


def test_this_configuration_is_clean():
    assert found() == []
    call_command("check", fail_level="WARNING", stdout=io.StringIO())


def test_no_setting_at_all_is_clean(settings):
    settings.ACTOR_RUNS = {}
    del settings.ACTOR_RUNS
    assert found() == []


def test_every_default_may_be_written_out(settings):
    settings.ACTOR_RUNS = dict(DEFAULTS)
    assert found() == []


@pytest.mark.parametrize(
    "keys",
    [
        {"AUTHENTICATION_CLASSES": (BEARER, QUERY)},
        {"AUTHENTICATION_CLASSES": [BASIC]},
        *({"RATE_LIMIT": rate} for rate in ("1/s", "0/s", "1000/10m", "5/h", "9/d", None)),
        *({"RUN_RATE_LIMIT": rate} for rate in ("1/s", "0/s", "1000/10m", "5/h", "9/d", None)),
        *({"MAX_WAIT_FOR_FINISH": seconds} for seconds in (0, 0.5, 5, 60, 60.0)),
        {"GENERAL_ACCESS": "RESTRICTED"},
        {"GENERAL_ACCESS": "ANYONE_WITH_ID_CAN_READ"},
        {"GENERAL_ACCESS": "ANYONE_WITH_NAME_CAN_READ"},
    ],
)
def test_good_values_are_clean(configure, keys):
    configure(**keys)
    assert found() == []


@pytest.mark.parametrize("model", ["auth.Group", "auth.group"])
def test_the_name_of_a_model_ignores_case_as_djangos_own_do(settings, model):
    settings.ACTOR_RUNS = {"ORGANIZATION_MODEL": model}
    assert found() == []


# What is wrong


@pytest.mark.parametrize("chosen", [None, [], "RATE_LIMIT", 5, [("RATE_LIMIT", None)]])
def test_e001_the_setting_is_no_dictionary(settings, chosen):
    settings.ACTOR_RUNS = chosen
    assert_error(
        1, "ACTOR_RUNS must be a dictionary.", "Write ACTOR_RUNS = {...}, or leave it out."
    )


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("RATE_LIMITS", "RATE_LIMIT"),
        ("rate_limit", "RATE_LIMIT"),
        ("RUN_RATELIMIT", "RUN_RATE_LIMIT"),
        ("MAX_WAIT_TO_FINISH", "MAX_WAIT_FOR_FINISH"),
        ("Organization_Model", "ORGANIZATION_MODEL"),
    ],
)
def test_e002_an_unknown_key_and_what_was_meant(configure, key, meant):
    configure(**{key: None})
    assert_error(2, f"ACTOR_RUNS has an unknown key: {key!r}.", f"Did you mean {meant}?")


@pytest.mark.parametrize("key", ["", "XYZ", 5, None, (1, 2)])
def test_e002_an_unknown_key_and_the_known_ones(settings, key):
    settings.ACTOR_RUNS = {**getattr(settings, "ACTOR_RUNS", {}), key: None}
    known = ", ".join(DEFAULTS)
    assert_error(2, f"ACTOR_RUNS has an unknown key: {key!r}.", f"Did you mean one of {known}?")


@pytest.mark.parametrize("classes", [None, [], (), "", BEARER, {}, {BEARER}, 5, True])
def test_e003_no_list_of_authentication_classes(configure, classes):
    configure(AUTHENTICATION_CLASSES=classes)
    message = 'ACTOR_RUNS["AUTHENTICATION_CLASSES"] must be a list, not empty.'
    assert_error(3, message, NAME_CLASSES)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "Bearer",
        ".",
        "nowhere.Authentication",
        "actor_runs.authentication",
        "actor_runs.authentication.Missing",
        "rest_framework.permissions.IsAuthenticated",
        "actor_runs.conf.conf",
        5,
        None,
        [BEARER],
    ],
)
def test_e004_no_authentication_class(configure, path):
    configure(AUTHENTICATION_CLASSES=[BASIC, path])
    message = f'ACTOR_RUNS["AUTHENTICATION_CLASSES"] has no authentication class at {path!r}.'
    assert_error(4, message, NAME_CLASSES)


def test_e004_each_of_several(configure):
    configure(AUTHENTICATION_CLASSES=["nowhere.A", BEARER, "nowhere.B"])
    assert [message.id for message in found()] == ["actor_runs.E004", "actor_runs.E004"]


@pytest.mark.parametrize("path", [BEARER, QUERY])
def test_e005_tokens_without_their_app(settings, configure, path):
    settings.INSTALLED_APPS = [
        app for app in settings.INSTALLED_APPS if app != "rest_framework.authtoken"
    ]
    configure(AUTHENTICATION_CLASSES=[path, BASIC])
    assert_error(
        5,
        f"{path} needs the tokens of rest_framework.authtoken, which is not installed.",
        'Add "rest_framework.authtoken" to INSTALLED_APPS, or name other authentication classes.',
    )


def test_tokens_need_not_be_installed_where_nobody_uses_them(settings, configure):
    settings.INSTALLED_APPS = [
        app for app in settings.INSTALLED_APPS if app != "rest_framework.authtoken"
    ]
    configure(AUTHENTICATION_CLASSES=[BASIC])
    assert found() == []


@pytest.mark.parametrize(
    "model",
    [
        *("", ".", "Group", "auth", "auth.", ".Group", "auth.Nope", "nowhere.Group", "a.b.c"),
        *(None, 5, True, [], ["auth.Group"], ("auth", "Group"), {}),
    ],
)
def test_e006_no_model_of_organizations(configure, model):
    configure(ORGANIZATION_MODEL=model)
    assert_error(
        6,
        f'ACTOR_RUNS["ORGANIZATION_MODEL"] is no installed model: {model!r}.',
        "Write it as app_label.ModelName, of an app in INSTALLED_APPS.",
    )


@pytest.mark.parametrize(
    "members",
    [
        *("", "nope", "pk", "name", "__", "user__nope", "user__username", "permissions", "?"),
        *("user ", "user__in", "staff", "staff__company", "staff__person__username"),
        *("staff__person__in", None, 5, True, [], ["user"], {}),
    ],
)
def test_e007_no_way_from_an_organization_to_its_members(configure, members):
    configure(ORGANIZATION_MEMBERS=members)
    model = "host.Company" if ON_HOST else "auth.Group"
    assert_error(
        7,
        f'ACTOR_RUNS["ORGANIZATION_MEMBERS"] does not lead from {model} to its users: {members!r}.',
        "Name the field, or the reverse query name, that leads to the user model.",
    )


RATES = [
    *("", "x", "60", "60/", "/s", "60/x", "60/S", "60/second", "-1/s", "+1/s", "60/0s", "60/-1s"),
    *("60/00m", "60/s ", " 60/s", "60 /s", "60/s\n", "60/s\x00", "1.5/s", "60/1.5s", "1e3/s"),
    *("1_000/s", "٦٠/s", "60/٦s", "60//s", "60/ss", "tests.rate", 60, 0, True, False, 1.5),
    *(("60", "s"), (60, 1), [], {}),
]


@pytest.mark.parametrize(("number", "key"), [(8, "RATE_LIMIT"), (9, "RUN_RATE_LIMIT")])
@pytest.mark.parametrize("rate", RATES)
def test_e008_and_e009_no_rate(configure, number, key, rate):
    configure(**{key: rate})
    assert_error(
        number,
        f'ACTOR_RUNS["{key}"] is no rate: {rate!r}.',
        'Write a count and a period, like "60/s", "1000/10m", "5/h" or "9/d"; '
        "None switches the limit off.",
    )


@pytest.mark.parametrize(
    "access", ["", "restricted", "FOLLOW_USER_SETTING", "RESTRICTED ", "NOBODY", None, 5, [], {}]
)
def test_e010_unknown_general_access(configure, access):
    configure(GENERAL_ACCESS=access)
    assert_error(
        10,
        f'ACTOR_RUNS["GENERAL_ACCESS"] is unknown: {access!r}.',
        "Choose one of RESTRICTED, ANYONE_WITH_ID_CAN_READ, ANYONE_WITH_NAME_CAN_READ.",
    )


@pytest.mark.parametrize(
    "seconds",
    [
        *(-1, -0.1, 60.01, 61, 10**400, math.inf, -math.inf, math.nan),
        *("5", "", None, True, False, [], decimal.Decimal(5)),
    ],
    ids=lambda seconds: repr(seconds)[:20],
)
def test_e011_a_wait_out_of_range(configure, seconds):
    configure(MAX_WAIT_FOR_FINISH=seconds)
    assert_error(
        11,
        f'ACTOR_RUNS["MAX_WAIT_FOR_FINISH"] is out of range: {seconds!r}.',
        "Write a number of seconds from 0 to 60; 0 switches waiting off.",
    )


@pytest.mark.parametrize("deploy", [False, True])
def test_e012_a_cache_that_does_not_exist(settings, deploy):
    settings.RATELIMIT_USE_CACHE = "nowhere"
    [message] = [each for each in found(deploy=deploy) if each.id != "actor_runs.W001"]
    assert message == Error(
        "RATELIMIT_USE_CACHE names a cache that CACHES does not have: 'nowhere'.",
        hint="The rate limits count there. Add it to CACHES, or name another.",
        id="actor_runs.E012",
    )


def test_all_errors_are_told_at_once(settings, configure):
    settings.RATELIMIT_USE_CACHE = "nowhere"
    configure(
        NOPE=1,
        AUTHENTICATION_CLASSES=["nowhere.A"],
        ORGANIZATION_MODEL="nope",
        RATE_LIMIT="x",
        RUN_RATE_LIMIT="x",
        GENERAL_ACCESS="x",
        MAX_WAIT_FOR_FINISH=99,
    )
    numbers = (2, 4, 6, 8, 9, 10, 11, 12)
    assert [message.id for message in found()] == [f"actor_runs.E{n:03}" for n in numbers]
    assert all(message.hint for message in found())
    with pytest.raises(CommandError) as caught:
        call_command("check")
    for number in numbers:
        assert f"actor_runs.E{number:03}" in str(caught.value)


# What is unwise in production

CACHES = "django.core.cache.backends."
UNFIT = [
    ("locmem.LocMemCache", "is not shared between processes"),
    ("dummy.DummyCache", "keeps nothing"),
    ("filebased.FileBasedCache", "cannot increment atomically"),
    ("db.DatabaseCache", "cannot increment atomically"),
]


@pytest.mark.parametrize("alias", ["default", "limits"])
@pytest.mark.parametrize(("backend", "fault"), UNFIT)
def test_w001_a_cache_that_cannot_count_for_several_processes(
    settings, tmp_path, alias, backend, fault
):
    fit = {"BACKEND": CACHES + "memcached.PyMemcacheCache", "LOCATION": "127.0.0.1:1"}
    unfit = {"BACKEND": CACHES + backend, "LOCATION": str(tmp_path)}
    settings.CACHES = {"default": fit, alias: unfit}
    if alias != "default":
        settings.RATELIMIT_USE_CACHE = alias
    expected = Warning(
        f"The rate limits count in the cache {alias!r}, which {fault}.",
        hint="Use Redis or memcached, and name it in RATELIMIT_USE_CACHE.",
        id="actor_runs.W001",
    )
    assert found(deploy=True) == [expected]
    assert found() == []
    output = io.StringIO()
    call_command("check", deploy=True, stderr=output)
    assert "actor_runs.W001" in output.getvalue()


REDIS = {"BACKEND": CACHES + "redis.RedisCache", "LOCATION": "redis://127.0.0.1:1/0"}


@pytest.mark.parametrize("alias", ["default", "limits"])
@pytest.mark.parametrize(
    "without",
    [
        REDIS,
        {**REDIS, "BACKEND": "django_redis.cache.RedisCache"},
        {**REDIS, "LOCATION": ["redis://127.0.0.1:1", "redis://127.0.0.1:2"]},
        {**REDIS, "OPTIONS": {"socket_timeout": None}},
        {**REDIS, "OPTIONS": {"socket_connect_timeout": 1}},
    ],
)
def test_w002_a_redis_that_could_keep_requests_waiting(settings, alias, without):
    settings.CACHES = {"default": CLEAN_CACHES[0], alias: without}
    settings.RATELIMIT_USE_CACHE = alias
    expected = Warning(
        f"The rate limits count in the cache {alias!r}, which has no time-out: "
        "requests wait for it, some versions of redis-py forever.",
        hint='Set OPTIONS["socket_timeout"] to a second or less.',
        id="actor_runs.W002",
    )
    assert found(deploy=True) == [expected]
    assert found() == []


CLEAN_CACHES = [
    {**REDIS, "OPTIONS": {"socket_timeout": 1}},
    {**REDIS, "LOCATION": "redis://127.0.0.1:1/0?socket_timeout=1"},
    {**REDIS, "BACKEND": "django_redis.cache.RedisCache", "OPTIONS": {"SOCKET_TIMEOUT": 1}},
    {"BACKEND": CACHES + "memcached.PyMemcacheCache", "LOCATION": "127.0.0.1:1"},
]


@pytest.mark.parametrize("cache", CLEAN_CACHES)
def test_a_cache_that_counts_for_several_processes_in_time_is_clean(settings, cache):
    unfit = {"BACKEND": CACHES + "locmem.LocMemCache"}
    settings.CACHES = {"default": unfit, "limits": cache}
    settings.RATELIMIT_USE_CACHE = "limits"
    assert [message.id for message in found(deploy=True)] == []
