"""The three operations: methods, paths, the order of checks, waiting, and what is logged."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection, transaction
from django.urls import reverse

from actor_runs.models import GeneralAccess, Run, RunStatus
from tests.conftest import assert_error, join, leave, make_organization, make_user, token_of

NOT_FOUND = (404, "record-not-found", "The requested resource was not found.")
NO_TOKEN = (401, "token-not-valid", "Authentication token is not valid.")
FORBIDDEN = (403, "permission-denied", "You do not have permission to perform this action.")
LIMITED = (
    429,
    "rate-limit-exceeded",
    "You have exceeded the rate limit. Please try again later.",
)
BAD_BODY = (
    400,
    "invalid-input",
    "Invalid input: The request body contains invalid data.",
)
BAD_ID = (400, "invalid-input", "Invalid input: runId must be 1 to 64 visible ASCII characters.")
WRONG_METHOD = (
    "This API end-point can only be accessed using the following HTTP methods: OPTIONS,GET"
)


def exists(run: Run) -> bool:
    return Run.objects.filter(pk=run.pk).exists()


def row(run: Run) -> dict[str, Any]:
    return Run.objects.filter(pk=run.pk).values().get()


@contextmanager
def after_look(number: int, action: Callable[[], Any]) -> Any:
    """Do ``action`` once, right after a request has read runs for the ``number``-th time."""
    looks = 0

    def watch(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        nonlocal looks
        result = execute(sql, params, many, context)
        if sql.startswith("SELECT") and Run._meta.db_table in sql:
            looks += 1
            if looks == number:
                action()
        return result

    with connection.execute_wrapper(watch):
        yield


# Delete


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("status", Run.FINISHED)
def test_delete_of_a_finished_run_answers_204_with_an_empty_body(api, alice, status, slash):
    run = Run.objects.create(user=alice, status=status)
    response = api.delete(f"/{run.pk}{slash}", user=alice)
    assert response.status_code == 204
    assert response.content == b""
    assert "Content-Type" not in response
    assert not exists(run)


@pytest.mark.parametrize("status", Run.UNFINISHED)
def test_delete_of_an_unfinished_run_is_refused_and_changes_nothing(api, alice, status):
    run = Run.objects.create(user=alice, status=status)
    before = row(run)
    message = f"Only finished runs can be deleted (run ID: {run.pk}, status: {status.value})."
    response = api.delete(f"/{run.pk}", user=alice)
    assert_error(response, 400, "cannot-remove-running-run", message)
    assert row(run) == before


def test_a_run_is_deleted_once(api, alice, run):
    assert api.delete(f"/{run.pk}", user=alice).status_code == 204
    assert_error(api.delete(f"/{run.pk}", user=alice), *NOT_FOUND)


def test_delete_takes_one_run_and_no_other(api, alice, run):
    other = Run.objects.create(user=alice, status=RunStatus.SUCCEEDED)
    assert api.delete(f"/{run.pk}", user=alice).status_code == 204
    assert list(Run.objects.all()) == [other]


def test_upper_and_lower_case_of_an_id_differ(api, alice):
    lower = Run.objects.create(id="abcdef", user=alice, status=RunStatus.SUCCEEDED)
    upper = Run.objects.create(id="ABCDEF", user=alice, status=RunStatus.SUCCEEDED)
    assert_error(api.delete("/Abcdef", user=alice), *NOT_FOUND)
    assert_error(api.get("/aBCDEF", user=alice), *NOT_FOUND)
    assert api.delete("/ABCDEF", user=alice).status_code == 204
    assert exists(lower)
    assert not exists(upper)


def test_a_run_that_is_resurrected_meanwhile_stays(api, alice, run):
    def resurrect():
        Run.objects.get(pk=run.pk).transition_to(RunStatus.RUNNING)

    with after_look(1, resurrect):
        response = api.delete(f"/{run.pk}", user=alice)
    message = f"Only finished runs can be deleted (run ID: {run.pk}, status: RUNNING)."
    assert_error(response, 400, "cannot-remove-running-run", message)
    assert row(run)["status"] == RunStatus.RUNNING


def test_a_run_that_is_deleted_meanwhile_is_not_found(api, alice, run):
    with after_look(1, lambda: Run.objects.filter(pk=run.pk).delete()):
        response = api.delete(f"/{run.pk}", user=alice)
    assert_error(response, *NOT_FOUND)


def test_a_run_that_is_given_away_meanwhile_stays(api, alice, bob, run):
    with after_look(1, lambda: Run.objects.filter(pk=run.pk).update(user=bob)):
        response = api.delete(f"/{run.pk}", user=alice)
    assert_error(response, *FORBIDDEN)
    assert row(run)["user_id"] == bob.pk


def test_a_run_that_is_given_to_the_callers_own_organization_meanwhile_goes(api, alice, acme, run):
    """Not 404, which says that there is no such run."""

    def give():
        Run.objects.filter(pk=run.pk).update(user=None, organization=acme)

    join(alice, acme)
    with after_look(1, give):
        response = api.delete(f"/{run.pk}", user=alice)
    assert response.status_code == 204
    assert not exists(run)


# Get


@pytest.mark.parametrize("slash", ["", "/"])
def test_get_answers_the_run(api, alice, run, slash):
    response = api.get(f"/{run.pk}{slash}", user=alice)
    assert response.status_code == 200
    assert response["Content-Type"] == "application/json"
    assert list(response.json()) == ["data"]
    assert response.json()["data"]["id"] == run.pk


def test_without_a_token_an_unknown_run_looks_like_a_closed_one(api, run):
    closed, unknown = api.get(f"/{run.pk}"), api.get("/3KH8gEpp4d8uQSe8T")
    assert_error(closed, *NO_TOKEN)
    assert closed.content == unknown.content
    assert closed.headers == unknown.headers


# List


@pytest.mark.parametrize("slash", ["", "/"])
def test_list_answers_the_callers_runs_own_and_of_own_organizations(api, alice, bob, acme, slash):
    join(alice, acme)
    other = make_organization("Other")
    join(bob, other)
    own = Run.objects.create(user=alice)
    shared = Run.objects.create(organization=acme)
    Run.objects.create(user=bob)
    Run.objects.create(organization=other)
    response = api.get(slash, user=alice)
    assert response.status_code == 200
    assert response["Content-Type"] == "application/json"
    data = response.json()["data"]
    assert list(response.json()) == ["data"]
    assert list(data) == ["total", "offset", "limit", "count", "desc", "items"]
    assert {item["id"] for item in data["items"]} == {own.pk, shared.pk}
    assert (data["total"], data["count"]) == (2, 2)


def test_list_leaves_out_what_is_merely_open_to_read(api, alice, bob):
    Run.objects.create(user=bob, general_access=GeneralAccess.ANYONE_WITH_ID_CAN_READ)
    assert api.get(user=alice).json()["data"]["items"] == []


def test_list_has_each_run_once_however_often_the_caller_is_a_member(api, alice, acme):
    run = Run.objects.create(organization=acme)
    join(alice, acme)
    join(alice, acme)
    data = api.get(user=alice).json()["data"]
    assert [item["id"] for item in data["items"]] == [run.pk]
    assert data["total"] == 1


def test_list_of_a_former_member_has_lost_the_organizations_runs(api, alice, acme):
    Run.objects.create(organization=acme)
    join(alice, acme)
    leave(alice, acme)
    assert api.get(user=alice).json()["data"]["total"] == 0


def test_list_of_staff_and_superusers_is_their_own(api, run):
    boss = make_user("boss", is_staff=True, is_superuser=True)
    assert api.get(user=boss).json()["data"]["total"] == 0


# Methods


@pytest.mark.parametrize("path", ["", "/", "/{id}", "/{id}/"])
def test_head_follows_get(api, alice, run, path):
    path = path.format(id=run.pk)
    got, head = api.get(path, user=alice), api("HEAD", path, user=alice)
    assert head.status_code == got.status_code == 200
    assert head.content == b""
    for name in ("Content-Type", "X-RateLimit-Limit"):
        assert head[name] == got[name]


@pytest.mark.parametrize(
    ("path", "query", "token", "status"),
    [
        ("/{id}", "", None, 401),
        ("/{id}", "", "wrong", 401),
        ("/{id}", "waitForFinish=x", None, 400),
        ("/no%20id", "", None, 400),
        ("", "", None, 401),
        ("/unknown", "", None, 401),
    ],
)
def test_head_fails_where_get_fails(api, run, path, query, token, status):
    path = path.format(id=run.pk)
    head = api("HEAD", path, query=query, token=token)
    assert head.status_code == api.get(path, query=query, token=token).status_code == status
    assert head.content == b""


def test_head_deletes_nothing(api, alice, run):
    api("HEAD", f"/{run.pk}", user=alice, query="method=DELETE")
    assert exists(run)


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("", "OPTIONS, GET"),
        ("/", "OPTIONS, GET"),
        ("/{id}", "OPTIONS, GET, DELETE"),
        ("/{id}/", "OPTIONS, GET, DELETE"),
        ("/unknown", "OPTIONS, GET, DELETE"),
        ("/no%20id", "OPTIONS, GET, DELETE"),
    ],
)
@pytest.mark.parametrize("authorization", [None, "Bearer wrong", "Bearer", "Basic eDp5", b"\xff"])
def test_options_answers_200_with_allow_to_anyone(api, run, path, allow, authorization):
    meta = {} if authorization is None else {"HTTP_AUTHORIZATION": authorization}
    if isinstance(authorization, bytes):
        meta["HTTP_AUTHORIZATION"] = authorization.decode("latin-1")
    response = api("OPTIONS", path.format(id=run.pk), **meta)
    assert response.status_code == 200
    assert response["Allow"] == allow
    assert response["Content-Type"] == "application/json"
    assert "X-RateLimit-Limit" not in response


def test_options_reveals_nothing_about_runs(api, alice, bob, run):
    answers = [
        api("OPTIONS", path, user=user, query=query)
        for path in (f"/{run.pk}", "/unknown", "/no%20id")
        for user in (alice, bob, None)
        for query in ("", "waitForFinish=x", "&".join(["a=1"] * 1001))
    ]
    assert {answer.content for answer in answers} == {b"{}"}
    assert len({str(sorted(answer.headers.items())) for answer in answers}) == 1


@pytest.mark.parametrize("method", "POST PUT PATCH TRACE CONNECT PROPFIND FOO LIST".split())
@pytest.mark.parametrize(
    ("path", "methods"),
    [("", "OPTIONS,GET"), ("/", "OPTIONS,GET"), ("/{id}", "OPTIONS,GET,DELETE")],
)
@pytest.mark.parametrize("token", [None, "wrong", "alice"])
def test_any_other_method_is_405(api, alice, run, method, path, methods, token):
    token = token_of(alice) if token == "alice" else token
    response = api(method, path.format(id=run.pk), token=token)
    message = f"This API end-point can only be accessed using the following HTTP methods: {methods}"
    assert_error(response, 405, "method-not-allowed", message)
    assert response["Allow"] == methods.replace(",", ", ")
    assert "X-RateLimit-Limit" not in response
    assert exists(run)


@pytest.mark.parametrize("path", ["", "/"])
def test_the_list_cannot_be_deleted(api, alice, run, path):
    assert_error(api.delete(path, user=alice), 405, "method-not-allowed", WRONG_METHOD)
    assert exists(run)


@pytest.mark.parametrize(
    ("method", "query", "meta"),
    [
        ("GET", "method=DELETE", {}),
        ("GET", "method=delete", {}),
        ("GET", "_method=DELETE", {}),
        ("GET", "", {"HTTP_X_HTTP_METHOD_OVERRIDE": "DELETE"}),
        ("POST", "method=DELETE", {}),
        ("POST", "", {"HTTP_X_HTTP_METHOD_OVERRIDE": "DELETE"}),
        ("POST", "", {"body": "_method=DELETE", "content_type": "x-www-form-urlencoded"}),
    ],
)
def test_no_method_but_delete_deletes(api, alice, run, method, query, meta):
    response = api(method, f"/{run.pk}", user=alice, query=query, **meta)
    assert response.status_code == {"GET": 200, "POST": 405}[method]
    assert exists(run)


# Paths


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "POST", "PATCH", "OPTIONS"])
@pytest.mark.parametrize(
    "path",
    [
        "//",
        "/{id}//",
        "/{id}/log",
        "/{id}/log/",
        "/{id}/abort",
        "/{id}%2Flog",
        "/{id}%0a/log",
        "/{id}/%0a",
        "//{id}",
        "/{id}/%ff",
        "/x/y/z/" + "w" * 5000,
    ],
)
def test_any_other_path_below_is_the_json_404_of_an_unknown_run(api, alice, run, method, path):
    response = api(method, path.format(id=run.pk), user=alice)
    assert response.status_code == 404
    assert response["Content-Type"] == "application/json"
    if method != "HEAD":
        assert response.content == api.get("/unknown", user=alice).content
    assert exists(run)


@pytest.mark.parametrize("token", [None, "wrong"])
def test_any_other_path_is_404_whatever_the_token(api, token):
    assert_error(api.get("/x/log", token=token), *NOT_FOUND)


@pytest.mark.parametrize("append_slash", [True, False])
@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "POST", "OPTIONS"])
@pytest.mark.parametrize(
    "path", ["", "/", "/{id}", "/{id}/", "/unknown", "/unknown/", "/x/log", "/x/log/", "/no%20id"]
)
def test_no_answer_is_a_redirect(api, settings, alice, run, method, path, append_slash):
    settings.APPEND_SLASH = append_slash
    response = api(method, path.format(id=run.pk), user=alice)
    assert response.status_code in (200, 204, 400, 404, 405)
    assert "Location" not in response


def test_the_paths_have_names(api, alice, run):
    assert reverse("actor_runs:run-list") == "/v2/actor-runs"
    assert reverse("actor_runs:run-detail", args=[run.pk]) == f"/v2/actor-runs/{run.pk}"


# Run IDs


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize(
    "run_id",
    [
        "x" * 65,
        "x" * 10_000,
        "%20",
        "a%20b",
        "{id}%20",
        "%20{id}",
        "{id}%0a",
        "{id}%0A/",
        "%0a",
        "%0d",
        "a%0d%0ab",
        "%00",
        "{id}%00",
        "%09",
        "%1f",
        "%7f",
        "%C2%85",
        "%C2%A0",
        "%E2%80%A8",
        "%C4%8D",
        "%EF%BC%91",
        "%F0%9F%98%80",
    ],
)
def test_an_id_that_cannot_exist_is_400(api, alice, run, method, run_id):
    assert_error(api(method, "/" + run_id.format(id=run.pk), user=alice), *BAD_ID)
    assert exists(run)


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize(
    "run_id",
    [
        "x" * 64,
        "x",
        # Django hides bytes that are no UTF-8, like half a surrogate pair.
        pytest.param("%FF", marks=pytest.mark.wsgi),
        pytest.param("%C3%28", marks=pytest.mark.wsgi),
        pytest.param("%ED%A0%80", marks=pytest.mark.wsgi),
        "..",
        ".",
        "{id}.json",
        "{id};",
        "{id}%3F",
        "{id}%23",
        "{id}%25",
        "-",
        "_",
        "*",
        "'",
        "%22+OR+1=1",
        "%5C",
        "<script>",
        "{{}}",
        "0",
        "null",
    ],
)
def test_any_other_unknown_id_is_404(api, alice, run, method, run_id):
    assert_error(api(method, "/" + run_id.format(id=run.pk), user=alice), *NOT_FOUND)
    assert exists(run)


def test_an_imported_id_of_32_characters_is_served(api, alice):
    run = Run.objects.create(id="_-" + "aZ9" * 10, user=alice, status=RunStatus.SUCCEEDED)
    assert api.get(f"/{run.pk}", user=alice).json()["data"]["id"] == run.pk
    assert api.delete(f"/{run.pk}", user=alice).status_code == 204


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/SENTINEL%20", ""),
        ("/" + "SENTINEL" * 9, ""),
        ("/x", "waitForFinish=SENTINEL"),
        ("", "limit=SENTINEL"),
        ("", "offset=SENTINEL"),
        ("", "desc=SENTINEL"),
        ("", "status=SENTINEL"),
        ("", "status=FAILED,SENTINEL"),
        ("", "startedAfter=SENTINEL"),
        ("", "startedBefore=SENTINEL"),
        ("", "SENTINEL=1&" * 1001),
    ],
)
def test_messages_never_repeat_what_the_client_sent(api, alice, path, query):
    response = api.get(path, user=alice, query=query)
    assert response.status_code == 400
    assert response.json()["error"]["message"].startswith("Invalid input: ")
    assert b"SENTINEL" not in response.content


@pytest.mark.parametrize(
    ("path", "query", "name"),
    [
        ("/a%20b", "", "runId"),
        ("/x", "waitForFinish=x", "waitForFinish"),
        ("", "limit=x", "limit"),
        ("", "offset=x", "offset"),
        ("", "desc=x", "desc"),
        ("", "status=x", "status"),
        ("", "startedAfter=x", "startedAfter"),
        ("", "startedBefore=x", "startedBefore"),
    ],
)
def test_an_invalid_parameter_is_named(api, alice, path, query, name):
    response = api.get(path, user=alice, query=query)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["type"] == "invalid-input"
    assert error["message"].startswith(f"Invalid input: {name} ")


# Accept


@pytest.mark.parametrize(
    "accept",
    [
        "text/html",
        "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        "application/xml",
        "application/json; indent=8",
        "application/json; version=7",
        "application/json;charset=utf-16",
        "application/vnd.api+json",
        "image/png;q=0",
        "*/*;q=0",
        "nonsense",
        "",
        ",;/",
    ],
)
def test_answers_are_json_whatever_accept_says(api, alice, run, accept):
    for path, query in (
        (f"/{run.pk}", ""),
        ("", ""),
        ("/unknown", ""),
        ("/x/log", ""),
        (f"/{run.pk}", "format=xml"),
        (f"/{run.pk}", "format=api"),
    ):
        plain = api.get(path, user=alice)
        response = api.get(path, user=alice, query=query, HTTP_ACCEPT=accept)
        assert response.status_code == plain.status_code
        assert response["Content-Type"] == "application/json"
        assert response.content == plain.content


# The order of checks

MATRIX = [
    # method, path, token of, body, query: everything from one check on is wrong
    ("POST", "/no%20id", "nobody", "[]", "waitForFinish=x", 405),
    ("POST", "", "nobody", "", "limit=x", 405),
    ("DELETE", "/", "nobody", "[]", "limit=x", 405),
    ("DELETE", "/no%20id", "nobody", "[]", "", 401),
    ("DELETE", "/no%20id", None, "[]", "", 401),
    ("DELETE", "/{unfinished_of_bob}", None, "[]", "", 401),
    ("GET", "/no%20id", "nobody", "", "waitForFinish=x", 401),
    ("GET", "/{public}", "nobody", "", "waitForFinish=x", 401),
    ("GET", "", "nobody", "", "limit=x", 401),
    ("GET", "", None, "", "limit=x", 401),
    ("GET", "", None, "", "a=1&" * 1001, 401),
    ("DELETE", "/unknown", None, "", "a=1&" * 1001, 401),
    ("GET", "/{public}", "nobody", "", "a=1&" * 1001, 401),
    ("DELETE", "/no%20id", "alice", "[]", "", 400),
    ("DELETE", "/{unfinished_of_bob}", "alice", "", "a=1&" * 1001, 400),
    ("GET", "/{public}", None, "", "a=1&" * 1001, 400),
    ("DELETE", "/unknown", "alice", "[]", "", 400),
    ("DELETE", "/{unfinished_of_bob}", "alice", "[]", "", 400),
    ("DELETE", "/{unfinished_of_alice}", "alice", "[]", "", 400),
    ("DELETE", "/{public}", "alice", "[]", "", 400),
    ("GET", "/unknown", "alice", "", "waitForFinish=x", 400),
    ("GET", "/{unfinished_of_bob}", "alice", "", "waitForFinish=x", 400),
    ("GET", "/no%20id", None, "", "", 400),
    ("GET", "/unknown", None, "", "waitForFinish=-1", 400),
    ("GET", "/{public}", None, "", "waitForFinish=x", 400),
    ("GET", "", "alice", "", "limit=-1", 400),
    ("DELETE", "/unknown", "alice", "", "", 404),
    ("GET", "/unknown", "alice", "", "", 404),
    ("DELETE", "/{unfinished_of_bob}", "alice", "", "", 403),
    ("GET", "/{unfinished_of_bob}", "alice", "", "", 403),
    ("GET", "/unknown", None, "", "", 401),
]
TYPES = {
    400: "invalid-input",
    401: "token-not-valid",
    403: "permission-denied",
    404: "record-not-found",
    405: "method-not-allowed",
    429: "rate-limit-exceeded",
}


@pytest.fixture
def runs(alice: Any, bob: Any) -> dict[str, str]:
    """The IDs of some runs that a request may fail on."""
    made = {
        "unfinished_of_alice": Run.objects.create(user=alice, status=RunStatus.RUNNING),
        "unfinished_of_bob": Run.objects.create(user=bob, status=RunStatus.RUNNING),
        "public": Run.objects.create(
            user=bob,
            status=RunStatus.SUCCEEDED,
            general_access=GeneralAccess.ANYONE_WITH_ID_CAN_READ,
        ),
    }
    return {name: run.pk for name, run in made.items()}


@pytest.mark.parametrize("limits", [{}, {"RATE_LIMIT": "0/d"}, {"RUN_RATE_LIMIT": "0/d"}])
@pytest.mark.parametrize(("method", "path", "caller", "body", "query", "status"), MATRIX)
def test_the_first_check_that_fails_answers_and_nothing_changes(
    api, alice, configure, runs, method, path, caller, body, query, status, limits
):
    configure(**limits)
    if status != 405 and ("RATE_LIMIT" in limits or ("RUN_RATE_LIMIT" in limits and path)):
        status = 429
    before = list(Run.objects.order_by("pk").values())
    token = token_of(alice) if caller == "alice" else caller
    response = api(method, path.format(**runs), token=token, body=body, query=query)
    assert response.status_code == status
    assert response.json()["error"]["type"] == TYPES[status]
    assert list(Run.objects.order_by("pk").values()) == before


def test_permission_comes_before_state(api, bob, alice):
    run = Run.objects.create(user=alice, status=RunStatus.RUNNING)
    assert_error(api.delete(f"/{run.pk}", user=bob), *FORBIDDEN)


# X-RateLimit-Limit


def test_every_answer_that_passed_the_rate_limiter_announces_the_limit_per_run(
    api, alice, bob, run
):
    running = Run.objects.create(user=alice)
    answers = [
        api.get(user=alice),
        api.get(user=alice, query="limit=x"),
        api.get(),
        api.get(token="wrong"),
        api("HEAD", user=alice),
        api.get(f"/{run.pk}", user=alice),
        api("HEAD", f"/{run.pk}", user=alice),
        api.get(f"/{run.pk}", user=alice, query="waitForFinish=x"),
        api.get(f"/{run.pk}", user=alice, query="a=1&" * 1001),
        api.get(f"/{run.pk}"),
        api.get(f"/{run.pk}", token="wrong"),
        api.get(f"/{run.pk}", user=bob),
        api.get("/unknown", user=alice),
        api.get("/no%20id", user=alice),
        api.delete(f"/{running.pk}", user=alice),
        api.delete(f"/{run.pk}", user=alice, body="[]"),
        api.delete(f"/{run.pk}", user=alice),
    ]
    assert [answer.status_code for answer in answers] == [
        *(200, 400, 401, 401, 200, 200, 200, 400, 400, 401, 401, 403, 404, 400, 400, 400, 204)
    ]
    assert {answer["X-RateLimit-Limit"] for answer in answers} == {"60"}


@pytest.mark.parametrize(
    ("rate", "announced"),
    [("60/s", "60"), ("7/10m", "7"), ("250000/h", "250000"), ("1/d", "1")],
)
def test_the_announced_limit_is_the_count_of_the_limit_per_run(
    api, alice, configure, run, rate, announced
):
    configure(RUN_RATE_LIMIT=rate)
    assert api.get(f"/{run.pk}", user=alice)["X-RateLimit-Limit"] == announced
    assert api.get(user=alice)["X-RateLimit-Limit"] == announced


def test_no_limit_is_announced_where_the_one_per_run_is_off(api, alice, configure, run):
    configure(RUN_RATE_LIMIT=None)
    assert "X-RateLimit-Limit" not in api.get(f"/{run.pk}", user=alice)
    assert "X-RateLimit-Limit" not in api.get(user=alice)
    configure(RUN_RATE_LIMIT="60/s", RATE_LIMIT=None)
    assert api.get(user=alice)["X-RateLimit-Limit"] == "60"


def test_no_limit_is_announced_where_rate_limits_are_off(api, settings, alice, run):
    settings.RATELIMIT_ENABLE = False
    assert "X-RateLimit-Limit" not in api.get(f"/{run.pk}", user=alice)


@pytest.mark.parametrize("limits", [{"RATE_LIMIT": "0/d"}, {"RUN_RATE_LIMIT": "0/d"}])
def test_no_limit_is_announced_to_whom_it_stopped(api, alice, configure, run, limits):
    configure(**limits)
    response = api.get(f"/{run.pk}", user=alice)
    assert_error(response, *LIMITED)
    assert "X-RateLimit-Limit" not in response


# waitForFinish


class Meanwhile(threading.Thread):
    """Does ``action`` beside a request, once the request has looked at the run."""

    def __init__(self, action: Callable[[], Any]) -> None:
        super().__init__()
        self.action = action
        self.looked = threading.Event()
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            assert self.looked.wait(60)
            self.action()
        except BaseException as failure:
            self.failure = failure
        finally:
            connection.close()

    def __enter__(self) -> Meanwhile:
        self.start()
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self.looked.set()
        self.join()
        assert self.failure is None, self.failure


def get_and_meanwhile(api: Any, path: str, action: Callable[[], Any], **options: Any) -> Any:
    with Meanwhile(action) as thread, after_look(1, thread.looked.set):
        return api.get(path, **options)


@pytest.mark.django_db(transaction=True)
def test_waiting_ends_when_the_run_is_finished_by_another_thread(api, alice, configure):
    configure(MAX_WAIT_FOR_FINISH=60)
    run = Run.objects.create(user=alice, status=RunStatus.RUNNING)
    token = token_of(alice)

    def finish():
        Run.objects.get(pk=run.pk).transition_to(RunStatus.SUCCEEDED, exit_code=0)

    response = get_and_meanwhile(api, f"/{run.pk}", finish, token=token, query="waitForFinish=60")
    data = response.json()["data"]
    assert (data["status"], data["exitCode"]) == ("SUCCEEDED", 0)
    assert data["finishedAt"] is not None


@pytest.mark.django_db(transaction=True)
def test_waiting_ends_when_the_run_is_deleted_by_another_thread(api, alice, configure):
    configure(MAX_WAIT_FOR_FINISH=60)
    run = Run.objects.create(user=alice, status=RunStatus.RUNNING)
    token = token_of(alice)

    def finish_and_delete():
        with transaction.atomic():
            stored = Run.objects.get(pk=run.pk)
            stored.transition_to(RunStatus.ABORTED)
            stored.delete()

    response = get_and_meanwhile(
        api, f"/{run.pk}", finish_and_delete, token=token, query="waitForFinish=60"
    )
    assert_error(response, *NOT_FOUND)


@pytest.mark.django_db(transaction=True)
def test_waiting_ends_when_the_run_is_closed_to_the_caller(api, alice, configure):
    configure(MAX_WAIT_FOR_FINISH=60)
    run = Run.objects.create(
        user=alice,
        status=RunStatus.RUNNING,
        general_access=GeneralAccess.ANYONE_WITH_ID_CAN_READ,
    )

    def close():
        Run.objects.filter(pk=run.pk).update(general_access=GeneralAccess.RESTRICTED)

    response = get_and_meanwhile(api, f"/{run.pk}", close, query="waitForFinish=60")
    assert_error(response, *NO_TOKEN)


@pytest.mark.django_db(transaction=True)
def test_no_transaction_is_open_while_a_request_waits(api, alice, configure):
    configure(MAX_WAIT_FOR_FINISH=60)
    run = Run.objects.create(user=alice, status=RunStatus.RUNNING)
    seen = []

    def look():
        seen.append(connection.in_atomic_block)
        Run.objects.get(pk=run.pk).transition_to(RunStatus.FAILED)

    with after_look(2, look):
        response = api.get(f"/{run.pk}", user=alice, query="waitForFinish=60")
    assert response.json()["data"]["status"] == "FAILED"
    assert seen == [False]


@pytest.mark.parametrize("status", Run.FINISHED)
def test_nobody_waits_for_a_run_that_is_finished(api, alice, configure, status):
    configure(MAX_WAIT_FOR_FINISH=60)
    run = Run.objects.create(user=alice, status=status)

    def fail():
        raise AssertionError("looked again")

    with after_look(2, fail):
        response = api.get(f"/{run.pk}", user=alice, query="waitForFinish=60")
    assert response.json()["data"]["status"] == status


@pytest.mark.parametrize("status", Run.UNFINISHED)
def test_a_run_that_does_not_finish_in_time_is_answered_as_it_is(api, alice, status):
    run = Run.objects.create(user=alice, status=status)
    response = api.get(f"/{run.pk}", user=alice, query="waitForFinish=0.01")
    assert response.json()["data"]["status"] == status
    assert response.json()["data"]["finishedAt"] is None


@pytest.mark.parametrize("seconds", ["1", "60", "61", "9" * 18, "9" * 400, "9" * 5000 + ".9"])
def test_nobody_waits_longer_than_the_cap(api, alice, configure, seconds):
    configure(MAX_WAIT_FOR_FINISH=0.01)
    run = Run.objects.create(user=alice, status=RunStatus.RUNNING)

    def stop_waiting():
        Run.objects.get(pk=run.pk).transition_to(RunStatus.FAILED)

    # Two looks fit into the cap, and surely no fifth.
    with after_look(5, stop_waiting):
        response = api.get(f"/{run.pk}", user=alice, query=f"waitForFinish={seconds}")
    assert response.json()["data"]["status"] == "RUNNING"


@pytest.mark.parametrize(
    ("query", "cap"),
    [
        ("", 60),
        ("waitForFinish=", 60),
        ("waitForFinish=0", 60),
        ("waitForFinish=0.0", 60),
        ("waitForFinish=00000", 60),
        ("waitForFinish=60&waitForFinish=0", 60),
        ("waitForFinish=60&waitForFinish=", 60),
        ("waitforfinish=60", 60),
        ("waitForFinish=60", 0),
    ],
)
def test_nobody_waits_who_did_not_ask_or_where_waiting_is_off(api, alice, configure, query, cap):
    configure(MAX_WAIT_FOR_FINISH=cap)
    run = Run.objects.create(user=alice, status=RunStatus.RUNNING)

    def stop_waiting():
        Run.objects.get(pk=run.pk).transition_to(RunStatus.FAILED)

    with after_look(2, stop_waiting):
        response = api.get(f"/{run.pk}", user=alice, query=query)
    assert response.json()["data"]["status"] == "RUNNING"


@pytest.mark.parametrize("seconds", ["0", "1", "0.5", "1.25", "007", "1000000", "9" * 5000])
def test_numbers_of_seconds_are_accepted(api, alice, run, seconds):
    response = api.get(f"/{run.pk}", user=alice, query=f"waitForFinish={seconds}")
    assert response.status_code == 200


@pytest.mark.parametrize(
    "seconds",
    [
        *("x", "-1", "-0", "%2B1", "+1", "1+", "%201", "1%20", "1%0A", "%001", "1_000", "1e3"),
        *("1E3", "1.5.5", "1..5", "1.", ".5", ".", "1,5", "0x10", "nan", "NaN", "inf", "Infinity"),
        *("true", "1s", "%C2%B2", "%D9%A1", "%EF%BC%91", "1.%D9%A1", "%E2%88%9E", "%FF", "1;2"),
    ],
)
def test_anything_else_is_no_number_of_seconds(api, alice, run, seconds):
    response = api.get(f"/{run.pk}", user=alice, query=f"waitForFinish={seconds}")
    message = "Invalid input: waitForFinish must be a number of seconds, 0 or more."
    assert_error(response, 400, "invalid-input", message)


# Logging


@pytest.mark.parametrize("status", Run.FINISHED)
def test_a_deletion_is_logged_with_its_particulars(api, alice, caplog, status):
    run = Run.objects.create(user=alice, status=status)
    with caplog.at_level(logging.INFO, "actor_runs"):
        api.delete(f"/{run.pk}", user=alice)
    [record] = [record for record in caplog.records if record.name == "actor_runs"]
    assert record.levelno == logging.INFO
    assert record.run_id == run.pk
    assert record.owner == str(alice.pk)
    assert record.deleted_by == str(alice.pk)
    assert record.run_status == status.value
    message = record.getMessage()
    assert message == f"Run {run.pk} of {alice.pk} deleted by user {alice.pk}"


def test_a_members_deletion_is_logged_with_the_organization(api, bob, acme, caplog):
    join(bob, acme)
    run = Run.objects.create(organization=acme, status=RunStatus.FAILED)
    with caplog.at_level(logging.INFO, "actor_runs"):
        api.delete(f"/{run.pk}", user=bob)
    [record] = [record for record in caplog.records if record.name == "actor_runs"]
    assert record.owner == f"org-{acme.pk}"
    assert record.deleted_by == str(bob.pk)


def test_what_is_not_deleted_is_not_logged_as_deleted(api, alice, bob, run, caplog):
    running = Run.objects.create(user=alice)
    with caplog.at_level(logging.INFO, "actor_runs"):
        api.delete(f"/{running.pk}", user=alice)
        api.delete(f"/{run.pk}", user=bob)
        api.delete(f"/{run.pk}")
        api.delete(f"/{run.pk}", user=alice, body="[]")
        api.delete("/unknown", user=alice)
        api.get(f"/{run.pk}", user=alice)
        api.get(user=alice)
    assert [record for record in caplog.records if record.name == "actor_runs"] == []


def test_no_token_is_ever_logged(api, alice, run, caplog):
    with caplog.at_level(logging.DEBUG):
        api.get(f"/{run.pk}", token="wrong-token-of-a-client")
        api.get("/unknown", user=alice)
        api.delete(f"/{run.pk}", user=alice, body="[]")
        api.delete(f"/{run.pk}", user=alice)
    assert caplog.records
    for record in caplog.records:
        told = record.getMessage() + json.dumps(record.__dict__, default=str)
        assert token_of(alice) not in told
        assert "wrong-token-of-a-client" not in told
