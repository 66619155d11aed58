"""System checks: every way of getting the settings wrong, and what to do about it."""

from __future__ import annotations

import decimal
import io
import math
import zoneinfo
from types import ModuleType
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core.checks import Error, Warning, run_checks
from django.core.management import CommandError, call_command
from django.db import connections
from django.http import HttpResponse
from django.test.utils import override_script_prefix
from django.urls import include, path

from actor_runs.conf import DEFAULTS
from tests.support.commands import python

BEARER = "actor_runs.authentication.BearerTokenAuthentication"
QUERY = "actor_runs.authentication.QueryTokenAuthentication"
BASIC = "rest_framework.authentication.BasicAuthentication"
NAME_CLASSES = "Name REST framework authentication classes by their dotted paths."
# Django's own checks ask the database what it can do.
pytestmark = pytest.mark.django_db

ON_HOST = getattr(django_settings, "ACTOR_RUNS", {}).get("ORGANIZATION_MODEL") == "host.Company"


def found(*, deploy: bool = False) -> list[Any]:
    messages = run_checks(include_deployment_checks=deploy)
    return [
        message
        for message in messages
        if message.id.startswith("actor_runs.") and not message.is_silenced()
    ]


def assert_error(number: int, message: str, hint: str) -> None:
    expected = Error(message, hint=hint, id=f"actor_runs.E{number:03}")
    assert found() == [expected]


# What is right


def test_the_configuration_of_the_tests_is_clean():
    assert found() == []
    call_command("check", fail_level="WARNING", stdout=io.StringIO())


def test_no_setting_at_all_is_clean(settings):
    settings.ACTOR_RUNS = {}
    del settings.ACTOR_RUNS
    assert found() == []


def test_every_default_may_be_written_out(settings):
    settings.ACTOR_RUNS = dict(DEFAULTS)
    assert found() == []


GOOD = [
    {"AUTHENTICATION_CLASSES": (BEARER, QUERY)},
    {"AUTHENTICATION_CLASSES": [BASIC]},
    *({"RATE_LIMIT": rate} for rate in ("1/s", "0/s", "1000/10m", "5/h", "9/d", None)),
    *({"RUN_RATE_LIMIT": rate} for rate in ("1/s", "0/s", "1000/10m", "5/h", "9/d", None)),
    *({"MAX_WAIT_FOR_FINISH": seconds} for seconds in (0, 0.5, 5, 60, 60.0)),
    {"GENERAL_ACCESS": "RESTRICTED"},
    {"GENERAL_ACCESS": "ANYONE_WITH_ID_CAN_READ"},
    {"GENERAL_ACCESS": "ANYONE_WITH_NAME_CAN_READ"},
    {"ON_OWNER_DELETE": "PROTECT"},
    {"MAX_WAITING": 0},
]


def test_good_values_are_clean(configure, subtests):
    for keys in GOOD:
        with subtests.test(str(keys)):
            configure(**keys)
            assert found() == []


@pytest.mark.parametrize("model", ["auth.Group", "auth.group"])
def test_the_name_of_a_model_ignores_case_as_djangos_own_do(settings, model):
    settings.ACTOR_RUNS = {"ORGANIZATION_MODEL": model}
    assert found() == []


# What is wrong


NOT_DICTIONARIES = [None, [], "RATE_LIMIT", 5, [("RATE_LIMIT", None)]]


def test_e001_the_setting_is_not_a_dictionary(settings, subtests):
    for chosen in NOT_DICTIONARIES:
        with subtests.test(str(chosen)):
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
def test_e002_an_unknown_key_gets_the_nearest_in_the_hint(configure, key, meant):
    configure(**{key: None})
    assert_error(2, f"ACTOR_RUNS has an unknown key: {key!r}.", f"Did you mean {meant}?")


def test_e002_an_unknown_key_that_is_like_no_other_gets_all_in_the_hint(settings, subtests):
    chosen = getattr(settings, "ACTOR_RUNS", {})
    for key in ["", "XYZ", 5, None, (1, 2)]:
        with subtests.test(str(key)):
            settings.ACTOR_RUNS = {**chosen, key: None}
            known = ", ".join(DEFAULTS)
            assert_error(
                2, f"ACTOR_RUNS has an unknown key: {key!r}.", f"Did you mean one of {known}?"
            )


NOT_LISTS = [None, [], (), "", BEARER, {}, {BEARER}, 5, True]


def test_e003_authentication_classes_are_not_a_list(configure, subtests):
    for classes in NOT_LISTS:
        with subtests.test(str(classes)):
            configure(AUTHENTICATION_CLASSES=classes)
            message = 'ACTOR_RUNS["AUTHENTICATION_CLASSES"] must be a list, not empty.'
            assert_error(3, message, NAME_CLASSES)


NOT_AUTHENTICATION_CLASSES = [
    "",
    "Bearer",
    ".",
    "nowhere.Authentication",
    "actor_runs.authentication",
    "actor_runs.authentication.Missing",
    "rest_framework.permissions.IsAuthenticated",
    "actor_runs.conf.conf",
    "django.contrib.auth",
    "django.contrib.auth.authenticate",
    "django.contrib.auth.backends.ModelBackend",
    5,
    None,
    [BEARER],
]


def test_e004_not_an_authentication_class(configure, subtests):
    for name in NOT_AUTHENTICATION_CLASSES:
        with subtests.test(str(name)):
            configure(AUTHENTICATION_CLASSES=[BASIC, name])
            message = (
                f'ACTOR_RUNS["AUTHENTICATION_CLASSES"] has no authentication class at {name!r}.'
            )
            assert_error(4, message, NAME_CLASSES)


def test_e004_is_reported_for_each_of_several_classes(configure):
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


NOT_MODELS = [
    *("", ".", "Group", "auth", "auth.", ".Group", "auth.Nope", "nowhere.Group", "a.b.c"),
    *(None, 5, True, [], ["auth.Group"], ("auth", "Group"), {}),
]


def test_e006_not_an_installed_model(configure, subtests):
    for model in NOT_MODELS:
        with subtests.test(str(model)):
            configure(ORGANIZATION_MODEL=model)
            assert_error(
                6,
                f'ACTOR_RUNS["ORGANIZATION_MODEL"] is not an installed model: {model!r}.',
                "Write it as app_label.ModelName, of an app in INSTALLED_APPS.",
            )


NOT_MEMBERS = [
    *("", "nope", "pk", "name", "__", "user__nope", "user__username", "permissions", "?"),
    *("user ", "user__in", "staff", "staff__company", "staff__person__username"),
    *("staff__person__in", None, 5, True, [], ["nope"], {}),
]


def test_e007_not_a_path_from_an_organization_to_its_members(configure, subtests):
    for members in NOT_MEMBERS:
        with subtests.test(str(members)):
            configure(ORGANIZATION_MEMBERS=members)
            model = "host.Company" if ON_HOST else "auth.Group"
            name = members[0] if isinstance(members, list) and members else members
            assert_error(
                7,
                f'ACTOR_RUNS["ORGANIZATION_MEMBERS"] does not lead from {model} to its users: '
                f"{name!r}.",
                "Name the field, or the reverse query name, that leads to the user model.",
            )


NOT_RATES = [
    *("", "x", "60", "60/", "/s", "60/x", "60/S", "60/second", "-1/s", "+1/s", "60/0s", "60/-1s"),
    *("60/00m", "60/s ", " 60/s", "60 /s", "60/s\n", "60/s\x00", "1.5/s", "60/1.5s", "1e3/s"),
    *("1_000/s", "٦٠/s", "60/٦s", "60//s", "60/ss", "tests.rate", 60, 0, True, False, 1.5),
    *(("60", "s"), (60, 1), [], {}),
]


@pytest.mark.parametrize(("number", "key"), [(8, "RATE_LIMIT"), (9, "RUN_RATE_LIMIT")])
def test_e008_and_e009_not_a_rate(configure, number, key, subtests):
    for rate in NOT_RATES:
        with subtests.test(str(rate)):
            configure(**{key: rate})
            assert_error(
                number,
                f'ACTOR_RUNS["{key}"] is not a valid rate: {rate!r}.',
                'Write a count and a period, like "60/s", "1000/10m", "5/h" or "9/d"; '
                "None switches the limit off.",
            )


NOT_ACCESS = ["", "restricted", "FOLLOW_USER_SETTING", "RESTRICTED ", "NOBODY", None, 5, [], {}]


def test_e010_unknown_general_access(configure, subtests):
    for access in NOT_ACCESS:
        with subtests.test(str(access)):
            configure(GENERAL_ACCESS=access)
            assert_error(
                10,
                f'ACTOR_RUNS["GENERAL_ACCESS"] is not valid: {access!r}.',
                "Choose one of RESTRICTED, ANYONE_WITH_ID_CAN_READ, ANYONE_WITH_NAME_CAN_READ.",
            )


NOT_SECONDS = [
    *(-1, -0.1, 60.01, 61, 10**400, math.inf, -math.inf, math.nan),
    *("5", "", None, True, False, [], decimal.Decimal(5)),
]


def test_e011_a_wait_out_of_range(configure, subtests):
    for seconds in NOT_SECONDS:
        with subtests.test(f"{seconds!r:.20}"):
            configure(MAX_WAIT_FOR_FINISH=seconds)
            assert_error(
                11,
                f'ACTOR_RUNS["MAX_WAIT_FOR_FINISH"] is out of range: {seconds!r}.',
                "Write a number of seconds from 0 to 60; 0 switches waiting off.",
            )


def test_e013_an_unknown_action_on_the_deletion_of_an_owner(configure, subtests):
    for action in ("", "CASCADE", "protect", None, True, []):
        with subtests.test(str(action)):
            configure(ON_OWNER_DELETE=action)
            assert_error(
                13,
                f'ACTOR_RUNS["ON_OWNER_DELETE"] is not valid: {action!r}.',
                "Choose one of DELETE_FINISHED, PROTECT.",
            )


def test_e014_a_number_of_waiting_requests_that_is_not_a_number(configure, subtests):
    for number in (-1, 1.0, "4", None, True, [], math.inf):
        with subtests.test(str(number)):
            configure(MAX_WAITING=number)
            assert_error(
                14,
                f'ACTOR_RUNS["MAX_WAITING"] is not valid: {number!r}.',
                "Write a whole number of requests, below the number of the server's threads.",
            )


INHERITING = """
from django.core.checks import run_checks
from django.db import models
from actor_runs.models import Run
from actor_runs.querysets import RunQuerySet

class Crawl(Run):
    class Meta:
        app_label = "contenttypes"

class Proxy(Run):
    class Meta:
        app_label = "contenttypes"
        proxy = True

class OwnRuns(RunQuerySet):
    pass

class Managed(Run):
    objects = models.Manager()
    own = OwnRuns.as_manager()

    class Meta:
        app_label = "contenttypes"
        proxy = True

for message in run_checks():
    if message.id.startswith("actor_runs.E"):
        print(message.id, message.msg, message.hint, sep="|")
"""


@pytest.mark.django_db(transaction=True)
def test_e015_and_e016_models_that_inherit_from_run():
    # In a process of its own, since a model cannot be taken back.
    found = python(INHERITING)
    assert found.returncode == 0, found.stderr
    table, manager = (line.split("|") for line in found.stdout.splitlines())
    assert table[0] == "actor_runs.E015"
    assert table[1].startswith("contenttypes.Crawl inherits from Run with a table of its own")
    assert "OneToOneField" in table[2]
    assert manager[:2] == [
        "actor_runs.E016",
        "The manager 'objects' of contenttypes.Managed can delete unfinished runs.",
    ]
    assert "RunQuerySet.as_manager()" in manager[2]


@pytest.mark.parametrize("deploy", [False, True])
def test_e012_a_cache_that_does_not_exist(settings, deploy):
    settings.RATELIMIT_USE_CACHE = "nowhere"
    [message] = [each for each in found(deploy=deploy) if each.id != "actor_runs.W001"]
    assert message == Error(
        "RATELIMIT_USE_CACHE names a cache that CACHES does not have: 'nowhere'.",
        hint="The rate limits count there. Add it to CACHES, or name another.",
        id="actor_runs.E012",
    )


def test_all_errors_are_reported_at_once(settings, configure):
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


# What is unwise


@pytest.mark.plain
def test_w003_a_database_whose_time_zone_has_summer_time(monkeypatch):
    database = connections["default"]
    monkeypatch.setattr(database.features, "supports_timezones", True)
    assert found() == []
    monkeypatch.setattr(database.features, "supports_timezones", False)
    for zone, warns in (("America/New_York", True), ("America/Bogota", False), ("UTC", False)):
        monkeypatch.setitem(database.__dict__, "timezone", zoneinfo.ZoneInfo(zone))
        expected = Warning(
            f"The database keeps times in {zone}: an hour is ambiguous when summer time ends.",
            hint='Set USE_TZ = True and a zone without summer time, like "UTC", '
            "as DATABASES['default'][\"TIME_ZONE\"].",
            id="actor_runs.W003",
        )
        assert found() == ([expected] if warns else [])


@pytest.mark.host
def test_w003_without_use_tz_goes_by_the_time_zone_of_django(settings):
    settings.SILENCED_SYSTEM_CHECKS = []
    [warning] = found()
    assert (warning.id, warning.hint.split()[-1]) == ("actor_runs.W003", "TIME_ZONE.")
    settings.TIME_ZONE = "America/Bogota"
    assert found() == []


def urlconf(*patterns: Any) -> ModuleType:
    module = ModuleType("urls")
    module.urlpatterns = list(patterns)  # type: ignore[attr-defined]
    return module


@pytest.mark.parametrize("pattern", ["<path:path>", "v2/actor-runs/<path:path>/"])
def test_w004_a_pattern_that_answers_for_the_app(settings, pattern):
    app, page = path("v2/", include("actor_runs.urls")), path(pattern, HttpResponse)
    settings.ROOT_URLCONF = urlconf(page, app)
    [warning] = found()
    assert warning.id == "actor_runs.W004"
    assert "above any catch-all" in warning.hint
    below_a_parameter = path("<slug:tenant>/v2/", include("actor_runs.urls"))
    for patterns in ([app, page], [page], [page, below_a_parameter]):
        settings.ROOT_URLCONF = urlconf(*patterns)
        assert found() == []
    del settings.ROOT_URLCONF
    assert found() == []


def test_w004_is_not_reported_below_a_script_name(settings):
    with override_script_prefix("/below/"):
        assert found() == []


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
