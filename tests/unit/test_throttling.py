"""Both rate limits: whom they count, what they answer, and what they do without their cache."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.cache import caches

from actor_runs.models import GeneralAccess, Run, RunStatus
from actor_runs.throttling import report_unknown_address
from tests.support.api import LIMITED, SERVER_ERROR, assert_error
from tests.support.people import token_of


def statuses(*responses: Any) -> list[int]:
    return [response.status_code for response in responses]


# Counting


def test_requests_are_counted_for_each_user(api, alice, bob, configure):
    configure(RATE_LIMIT="2/d")
    assert statuses(*(api.get(user=alice) for _ in range(4))) == [200, 200, 429, 429]
    # Wherever they come from.
    assert statuses(api.get(user=alice, REMOTE_ADDR="10.9.9.9")) == [429]
    # Others, and those without a token at the same address, are counted for themselves.
    assert statuses(api.get(user=bob), api.get(user=bob), api.get(user=bob)) == [200, 200, 429]
    assert statuses(api.get(), api.get(), api.get()) == [401, 401, 429]


def test_all_requests_of_a_user_are_counted_together(api, alice, run, configure):
    configure(RATE_LIMIT="6/d")
    answers = [
        api.get(user=alice),
        api("HEAD", user=alice),
        api.get(f"/{run.pk}", user=alice),
        api.get("/unknown", user=alice),
        api.delete(f"/{run.pk}", user=alice, body="[]"),
        api.get(user=alice, query="limit=x"),
        api.delete(f"/{run.pk}", user=alice),
    ]
    assert statuses(*answers) == [200, 200, 200, 404, 400, 400, 429]
    assert Run.objects.filter(pk=run.pk).exists()


def test_requests_without_a_token_are_counted_for_each_address(api, alice, configure):
    configure(RATE_LIMIT="2/d")
    run = Run.objects.create(user=alice, general_access=GeneralAccess.ANYONE_WITH_ID_CAN_READ)
    here = [api.get(f"/{run.pk}", REMOTE_ADDR="10.0.0.1") for _ in range(3)]
    there = [api.get(f"/{run.pk}", REMOTE_ADDR="10.0.0.2") for _ in range(3)]
    assert statuses(*here) == statuses(*there) == [200, 200, 429]
    assert api.get(f"/{run.pk}", user=alice, REMOTE_ADDR="10.0.0.1").status_code == 200


def test_failed_tokens_are_counted_for_the_address(api, alice, run, configure):
    configure(RATE_LIMIT="3/d")
    alice.is_active = False
    alice.save()
    answers = [
        api.get(token="one"),
        api.delete(f"/{run.pk}", token="another"),
        api.get(f"/{run.pk}", user=alice),
        api.get(token="a third"),
        api.delete(f"/{run.pk}"),
    ]
    assert statuses(*answers) == [401, 401, 401, 429, 429]
    assert api.get(token="one", REMOTE_ADDR="10.0.0.2").status_code == 401


def test_failed_tokens_do_not_count_against_users_at_the_same_address(api, alice, configure):
    configure(RATE_LIMIT="1/d")
    assert statuses(api.get(token="x"), api.get(token="x")) == [401, 429]
    assert statuses(api.get(user=alice), api.get(user=alice)) == [200, 429]


@pytest.mark.parametrize("user_and_password", [None, "x:y"])
def test_refusals_of_a_hosts_class_are_counted_for_the_address(
    api, alice, configure, user_and_password
):
    configure(
        RATE_LIMIT="2/d",
        AUTHENTICATION_CLASSES=["rest_framework.authentication.BasicAuthentication"],
    )
    meta = {"HTTP_AUTHORIZATION": "Basic eDp5"} if user_and_password else {}
    assert statuses(*(api.get(**meta) for _ in range(3))) == [401, 401, 429]


def test_requests_are_counted_for_each_caller_and_run(api, alice, bob, run, configure):
    configure(RUN_RATE_LIMIT="3/d")
    other = Run.objects.create(user=alice, status=RunStatus.SUCCEEDED)
    answers = [api.get(f"/{run.pk}", user=alice) for _ in range(4)]
    assert statuses(*answers) == [200, 200, 200, 429]
    others = [
        api.get(f"/{run.pk}/", user=bob),
        api.get(f"/{run.pk}", token="wrong", REMOTE_ADDR="10.0.0.2"),
        api.get(f"/{run.pk}"),
    ]
    assert statuses(*others) == [403, 401, 401]
    assert api.get(f"/{other.pk}", user=alice).status_code == 200
    assert statuses(*(api.get(user=alice) for _ in range(5))) == [200] * 5
    assert Run.objects.count() == 2


@pytest.mark.parametrize(
    ("run_id", "status"),
    [
        ("unknown", 404),
        ("no%20id", 400),
        ("%0a", 400),
        ("x" * 10_000, 400),
        ("%C4%8D", 400),
        pytest.param("%FF", 404, marks=pytest.mark.wsgi),
        ("%00", 400),
    ],
)
def test_ids_of_runs_that_do_not_exist_are_counted_too(api, alice, configure, run_id, status):
    configure(RUN_RATE_LIMIT="1/d")
    assert statuses(*(api.get(f"/{run_id}", user=alice) for _ in range(2))) == [status, 429]


def test_ids_that_differ_in_case_are_two(api, alice, configure):
    configure(RUN_RATE_LIMIT="1/d")
    assert statuses(api.get("/run", user=alice), api.get("/RUN", user=alice)) == [404, 404]


@pytest.mark.parametrize("limit", ["RATE_LIMIT", "RUN_RATE_LIMIT"])
def test_options_and_wrong_methods_are_not_counted(api, alice, run, configure, limit):
    configure(**{limit: "1/d"})
    for method, status in (("OPTIONS", 200), ("POST", 405), ("PUT", 405)):
        for _ in range(3):
            assert api(method, f"/{run.pk}", user=alice).status_code == status
    assert statuses(*(api.get(f"/{run.pk}", user=alice) for _ in range(2))) == [200, 429]
    assert api("OPTIONS", f"/{run.pk}", user=alice).status_code == 200
    assert api("POST", f"/{run.pk}", user=alice).status_code == 405
    assert api("OPTIONS", token="wrong").status_code == 200


def test_unknown_paths_are_not_counted(api, configure):
    configure(RATE_LIMIT="0/d")
    assert api.get("/x/log").status_code == 404


def test_a_request_over_the_first_limit_is_not_counted_by_the_second(
    api, alice, bob, run, configure
):
    configure(RATE_LIMIT="1/d", RUN_RATE_LIMIT="2/d")
    assert statuses(*(api.get(f"/{run.pk}", user=bob) for _ in range(5))) == [403] + [429] * 4
    assert api.get(f"/{run.pk}", user=alice).status_code == 200


def test_the_limit_of_one_run_stops_nothing_else_of_the_caller(api, alice, run, configure):
    configure(RUN_RATE_LIMIT="0/d")
    assert_error(api.get(f"/{run.pk}", user=alice), *LIMITED)
    assert api.get(user=alice).status_code == 200


# Switches


def test_none_switches_the_limit_of_the_caller_off(api, alice, run, configure):
    configure(RATE_LIMIT=None, RUN_RATE_LIMIT="1/d")
    assert statuses(*(api.get(user=alice) for _ in range(5))) == [200] * 5
    assert statuses(*(api.get(f"/{run.pk}", user=alice) for _ in range(2))) == [200, 429]


def test_none_switches_the_limit_of_a_run_off(api, alice, run, configure):
    configure(RATE_LIMIT="3/d", RUN_RATE_LIMIT=None)
    answers = [api.get(f"/{run.pk}", user=alice) for _ in range(4)]
    assert statuses(*answers) == [200, 200, 200, 429]


def test_the_defaults_let_ordinary_use_pass(api, alice, run):
    assert statuses(*(api.get(f"/{run.pk}", user=alice) for _ in range(30))) == [200] * 30


@pytest.mark.parametrize("limit", ["RATE_LIMIT", "RUN_RATE_LIMIT"])
def test_ratelimit_enable_switches_both_off(api, settings, alice, run, configure, limit):
    configure(**{limit: "0/d"})
    assert api.get(f"/{run.pk}", user=alice).status_code == 429
    settings.RATELIMIT_ENABLE = False
    assert statuses(*(api.get(f"/{run.pk}", user=alice) for _ in range(3))) == [200] * 3


def test_without_limits_no_address_is_needed(api, alice, configure):
    configure(RATE_LIMIT=None, RUN_RATE_LIMIT=None)
    assert api.get(REMOTE_ADDR="").status_code == 401


# django-ratelimit's own settings


def test_the_address_is_where_ratelimit_ip_meta_key_says(api, settings, configure):
    settings.RATELIMIT_IP_META_KEY = "HTTP_X_REAL_IP"
    configure(RATE_LIMIT="1/d")
    here = [api.get(HTTP_X_REAL_IP="10.0.0.1", REMOTE_ADDR="") for _ in range(2)]
    assert statuses(*here) == [401, 429]
    assert api.get(HTTP_X_REAL_IP="10.0.0.2", REMOTE_ADDR="").status_code == 401


def test_addresses_are_cut_to_their_network(api, settings, configure):
    configure(RATE_LIMIT="1/d")
    assert api.get(REMOTE_ADDR="2001:db8::1").status_code == 401
    assert api.get(REMOTE_ADDR="2001:db8::2").status_code == 429
    assert api.get(REMOTE_ADDR="2001:db8:1::1").status_code == 401
    settings.RATELIMIT_IPV4_MASK = 16
    assert api.get(REMOTE_ADDR="10.1.0.1").status_code == 401
    assert api.get(REMOTE_ADDR="10.1.99.99").status_code == 429


def test_requests_are_counted_in_the_cache_that_ratelimit_use_cache_names(
    api, settings, alice, configure
):
    settings.CACHES = {
        **settings.CACHES,
        "limits": {
            "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
            "LOCATION": "limits",
        },
    }
    settings.RATELIMIT_USE_CACHE = "limits"
    caches["limits"].clear()
    configure(RATE_LIMIT="1/d")
    assert statuses(api.get(user=alice), api.get(user=alice)) == [200, 429]
    caches["default"].clear()
    assert api.get(user=alice).status_code == 429
    caches["limits"].clear()
    assert api.get(user=alice).status_code == 200


# Answers


@pytest.mark.parametrize("limit", ["RATE_LIMIT", "RUN_RATE_LIMIT"])
@pytest.mark.parametrize(
    ("rate", "longest"),
    [("0/s", 2), ("0/10s", 11), ("0/m", 61), ("0/h", 3601), ("0/d", 86_401)],
)
def test_retry_after_is_in_whole_seconds_and_at_least_1(
    api, alice, run, configure, limit, rate, longest
):
    configure(**{limit: rate})
    for method in ("GET", "HEAD", "DELETE"):
        response = api(method, f"/{run.pk}", user=alice)
        assert response.status_code == 429
        assert response["Retry-After"].isascii()
        assert response["Retry-After"].isdigit()
        assert 1 <= int(response["Retry-After"]) <= longest
    assert Run.objects.filter(pk=run.pk).exists()


def test_an_exceeded_limit_is_answered_in_the_envelope(api, alice, configure):
    configure(RATE_LIMIT="0/d")
    for options in ({"user": alice}, {"token": "wrong"}, {}):
        response = api.get(HTTP_ACCEPT_LANGUAGE="cs", **options)
        assert_error(response, *LIMITED)
        assert "WWW-Authenticate" not in response


# A cache that fails


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port at which nobody listens, and nobody else can while it is taken."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.fixture(params=["raises", "says nothing"])
def failing_cache(request: Any, settings: Any, closed_port: int) -> str:
    """Redis, which raises, or memcached, told not to, behind a port at which nobody listens."""
    backends = {
        "raises": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": f"redis://127.0.0.1:{closed_port}",
        },
        "says nothing": {
            "BACKEND": "django.core.cache.backends.memcached.PyMemcacheCache",
            "LOCATION": f"127.0.0.1:{closed_port}",
            "OPTIONS": {"ignore_exc": True},
        },
    }
    settings.CACHES = {**settings.CACHES, "limits": backends[request.param]}
    settings.RATELIMIT_USE_CACHE = "limits"
    return request.param


LIMITS = [
    {},
    {"RATE_LIMIT": None},
    {"RUN_RATE_LIMIT": None},
]


@pytest.mark.usefixtures("failing_cache")
@pytest.mark.parametrize("limits", LIMITS)
@pytest.mark.parametrize("fail_open", [None, False, True])
def test_where_the_cache_fails_ratelimit_fail_open_decides(
    api, settings, alice, run, configure, caplog, limits, fail_open
):
    configure(**limits)
    if fail_open is not None:
        settings.RATELIMIT_FAIL_OPEN = fail_open
    for options, status in (({"user": alice}, 200), ({"token": "wrong"}, 401), ({}, 401)):
        caplog.clear()
        response = api.get(f"/{run.pk}", **options)
        # One error for each request, however many limits it meets.
        [record] = [record for record in caplog.records if record.name == "actor_runs"]
        assert record.levelno == logging.ERROR
        assert "cache" in record.getMessage()
        if fail_open:
            assert response.status_code == status
            assert response.has_header("X-RateLimit-Limit") == ("RUN_RATE_LIMIT" not in limits)
        else:
            assert_error(response, *LIMITED)
            assert int(response["Retry-After"]) >= 1
            assert "X-RateLimit-Limit" not in response


@pytest.mark.usefixtures("failing_cache")
def test_requests_that_are_not_counted_do_not_need_the_cache(api, alice, run, configure, caplog):
    assert api("OPTIONS", f"/{run.pk}", user=alice).status_code == 200
    assert api("POST", f"/{run.pk}", user=alice).status_code == 405
    assert api.get("/x/log", user=alice).status_code == 404
    configure(RATE_LIMIT=None)
    assert api.get(user=alice).status_code == 200
    configure(RATE_LIMIT=None, RUN_RATE_LIMIT=None)
    assert api.get(f"/{run.pk}", user=alice).status_code == 200
    assert [record for record in caplog.records if record.name == "actor_runs"] == []


@pytest.mark.usefixtures("failing_cache")
@pytest.mark.parametrize("fail_open", [False, True])
def test_a_failing_cache_changes_nothing_about_a_deletion(
    api, settings, alice, run, fail_open, caplog
):
    settings.RATELIMIT_FAIL_OPEN = fail_open
    status = api.delete(f"/{run.pk}", user=alice).status_code
    assert status == (204 if fail_open else 429)
    assert Run.objects.filter(pk=run.pk).exists() != fail_open


def test_the_caches_exception_is_logged_without_the_token(api, alice, failing_cache, caplog):
    token = token_of(alice)
    api.get(token=token)
    [record] = [record for record in caplog.records if record.name == "actor_runs"]
    assert token not in caplog.text
    assert record.exc_info is not None


# A host that cannot tell where its clients are


@pytest.fixture
def unknown_address_reported_anew():
    report_unknown_address.cache_clear()


@pytest.mark.usefixtures("unknown_address_reported_anew")
@pytest.mark.parametrize(
    ("key", "meta"),
    [
        (None, {"REMOTE_ADDR": ""}),  # a unix socket
        ("HTTP_X_REAL_IP", {}),
        ("HTTP_X_REAL_IP", {"HTTP_X_REAL_IP": ""}),
        ("HTTP_X_REAL_IP", {"HTTP_X_REAL_IP": "192.0.2.1, 10.0.0.1"}),
        ("HTTP_X_REAL_IP", {"HTTP_X_REAL_IP": "localhost"}),
        (lambda request: None, {}),
        (lambda request: request.META["HTTP_MISSING"], {}),
        ("tests.unit.test_throttling.nowhere", {}),
    ],
)
def test_clients_of_unknown_addresses_share_one_limit_and_the_log_says_so_once(
    api, settings, configure, caplog, key, meta
):
    configure(RATE_LIMIT="3/d")
    settings.RATELIMIT_IP_META_KEY = key
    assert statuses(*(api.get(**meta) for _ in range(4))) == [401, 401, 401, 429]
    [record] = [record for record in caplog.records if record.name == "actor_runs"]
    assert record.levelno == logging.WARNING
    assert "RATELIMIT_IP_META_KEY" in record.message


def test_a_caller_with_a_token_needs_no_address(api, alice):
    assert api.get(user=alice, REMOTE_ADDR="").status_code == 200


def test_a_period_of_no_time_is_a_misconfiguration_to_be_seen(api, alice, configure, caplog):
    configure(RATE_LIMIT="5/0m")
    assert_error(api.get(user=alice), *SERVER_ERROR)
    [record] = [record for record in caplog.records if record.name == "django.request"]
    assert "period" in str(record.exc_info[1])
