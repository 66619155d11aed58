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
from tests.support.api import FORBIDDEN, LIMITED, NO_TOKEN, NOT_FOUND, assert_error
from tests.support.people import join, leave, make_organization, token_of
from tests.support.runs import exists, row_of

BAD_ID = (400, "invalid-input", "Invalid input: runId must be 1 to 64 visible ASCII characters.")


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


@pytest.mark.parametrize("status", Run.FINISHED)
def test_delete_of_a_finished_run_answers_204_with_an_empty_body(api, alice, status):
    run = Run.objects.create(user=alice, status=status)
    response = api.delete(f"/{run.pk}", user=alice)
    assert response.status_code == 204
    assert response.content == b""
    assert "Content-Type" not in response
    assert not exists(run)


@pytest.mark.parametrize("status", Run.UNFINISHED)
def test_delete_of_an_unfinished_run_is_refused_and_changes_nothing(api, alice, status):
    run = Run.objects.create(user=alice, status=status)
    before = row_of(run)
    message = f"Only finished runs can be deleted (run ID: {run.pk}, status: {status.value})."
    response = api.delete(f"/{run.pk}", user=alice)
    assert_error(response, 400, "cannot-remove-running-run", message)
    assert row_of(run) == before


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
    assert row_of(run)["status"] == RunStatus.RUNNING


def test_a_run_that_is_deleted_meanwhile_is_not_found(api, alice, run):
    with after_look(1, lambda: Run.objects.filter(pk=run.pk).delete()):
        response = api.delete(f"/{run.pk}", user=alice)
    assert_error(response, *NOT_FOUND)


def test_a_run_that_is_given_away_meanwhile_stays(api, alice, bob, run):
    with after_look(1, lambda: Run.objects.filter(pk=run.pk).update(user=bob)):
        response = api.delete(f"/{run.pk}", user=alice)
    assert_error(response, *FORBIDDEN)
    assert row_of(run)["user_id"] == bob.pk


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


def test_get_answers_the_run(api, alice, run):
    response = api.get(f"/{run.pk}", user=alice)
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


def test_list_answers_the_callers_runs_own_and_of_own_organizations(api, alice, bob, acme):
    join(alice, acme)
    other = make_organization("Other")
    join(bob, other)
    own = Run.objects.create(user=alice)
    shared = Run.objects.create(organization=acme)
    Run.objects.create(user=bob)
    Run.objects.create(organization=other)
    response = api.get(user=alice)
    assert response.status_code == 200
    assert response["Content-Type"] == "application/json"
    data = response.json()["data"]
    assert list(response.json()) == ["data"]
    assert list(data) == ["total", "offset", "limit", "count", "desc", "items"]
    assert {item["id"] for item in data["items"]} == {own.pk, shared.pk}
    assert (data["total"], data["count"]) == (2, 2)


def test_list_has_each_run_once_however_often_the_caller_is_a_member(api, alice, acme):
    run = Run.objects.create(organization=acme)
    join(alice, acme)
    join(alice, acme)
    data = api.get(user=alice).json()["data"]
    assert [item["id"] for item in data["items"]] == [run.pk]
    assert data["total"] == 1


# Methods


@pytest.mark.parametrize("path", ["", "/{id}"])
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
    ("path", "allow"), [("", "OPTIONS, GET"), ("/{id}", "OPTIONS, GET, DELETE")]
)
def test_options_answers_200_with_allow_to_anyone(api, run, path, allow):
    for authorization in (None, "Bearer wrong", "Bearer", "Basic eDp5", "\xff"):
        meta = {} if authorization is None else {"HTTP_AUTHORIZATION": authorization}
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


@pytest.mark.parametrize(
    ("path", "methods"), [("", "OPTIONS,GET"), ("/{id}", "OPTIONS,GET,DELETE")]
)
def test_any_other_method_is_405(api, alice, run, subtests, path, methods):
    wrong = "POST PUT PATCH TRACE CONNECT PROPFIND FOO LIST".split()
    message = f"This API end-point can only be accessed using the following HTTP methods: {methods}"
    for method in wrong if "DELETE" in methods else [*wrong, "DELETE"]:
        with subtests.test(method):
            response = api(method, path.format(id=run.pk), user=alice)
            assert_error(response, 405, "method-not-allowed", message)
            assert response["Allow"] == methods.replace(",", ", ")
            assert "X-RateLimit-Limit" not in response
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


@pytest.mark.parametrize(
    "path",
    [
        "//",
        "/{id}//",
        "/{id}/log",
        "/{id}/log/",
        "/{id}%2Flog",
        "/{id}%0a/log",
        "/{id}/%0a",
        "//{id}",
        "/{id}/%ff",
        "/x/y/z/" + "w" * 5000,
    ],
)
def test_any_other_path_is_the_json_404_of_an_unknown_run(api, alice, run, path):
    unknown = api.get("/unknown", user=alice)
    for method in ("GET", "DELETE", "POST", "OPTIONS"):
        response = api(method, path.format(id=run.pk), user=alice)
        assert response.status_code == 404
        assert response["Content-Type"] == "application/json"
        assert response.content == unknown.content
    assert exists(run)


@pytest.mark.parametrize("token", [None, "wrong"])
def test_any_other_path_is_404_whatever_the_token(api, token):
    assert_error(api.get("/x/log", token=token), *NOT_FOUND)


@pytest.mark.parametrize("append_slash", [True, False])
@pytest.mark.parametrize("path", ["", "/{id}", "/unknown", "/x/log"])
def test_a_path_answers_with_and_without_a_trailing_slash(
    api, settings, alice, run, path, append_slash
):
    settings.APPEND_SLASH = append_slash
    path = path.format(id=run.pk)
    for method in ("OPTIONS", "HEAD", "GET"):
        plain, slashed = api(method, path, user=alice), api(method, f"{path}/", user=alice)
        assert plain.status_code == slashed.status_code in (200, 404)
        assert plain.content == slashed.content


def test_a_run_is_deleted_by_a_path_with_a_trailing_slash(api, alice, run):
    assert api.delete(f"/{run.pk}/", user=alice).status_code == 204
    assert not exists(run)


def test_the_paths_have_names(api, alice, run):
    assert reverse("actor_runs:run-list") == "/v2/actor-runs"
    assert reverse("actor_runs:run-detail", args=[run.pk]) == f"/v2/actor-runs/{run.pk}"


# Run IDs


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
def test_an_id_that_cannot_exist_is_400(api, alice, run, run_id):
    for method in ("GET", "DELETE"):
        assert_error(api(method, "/" + run_id.format(id=run.pk), user=alice), *BAD_ID)
    assert exists(run)


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
def test_any_other_unknown_id_is_404(api, alice, run, run_id):
    for method in ("GET", "DELETE"):
        assert_error(api(method, "/" + run_id.format(id=run.pk), user=alice), *NOT_FOUND)
    assert exists(run)


def test_an_imported_id_of_32_characters_is_served(api, alice):
    run = Run.objects.create(id="_-" + "aZ9" * 10, user=alice, status=RunStatus.SUCCEEDED)
    assert api.get(f"/{run.pk}", user=alice).json()["data"]["id"] == run.pk
    assert api.delete(f"/{run.pk}", user=alice).status_code == 204


@pytest.mark.parametrize(
    ("path", "query", "name"),
    [
        ("/SENTINEL%20", "", "runId"),
        ("/" + "SENTINEL" * 9, "", "runId"),
        ("/x", "waitForFinish=SENTINEL", "waitForFinish"),
        ("", "limit=SENTINEL", "limit"),
        ("", "offset=SENTINEL", "offset"),
        ("", "desc=SENTINEL", "desc"),
        ("", "status=SENTINEL", "status"),
        ("", "status=FAILED,SENTINEL", "status"),
        ("", "startedAfter=SENTINEL", "startedAfter"),
        ("", "startedBefore=SENTINEL", "startedBefore"),
        ("", "SENTINEL=1&" * 1001, "more than 1000 parameters."),
    ],
)
def test_a_message_names_the_parameter_and_never_repeats_its_value(api, alice, path, query, name):
    response = api.get(path, user=alice, query=query)
    assert response.status_code == 400
    assert response.json()["error"]["message"].startswith(f"Invalid input: {name}")
    assert b"SENTINEL" not in response.content


# Accept


def test_answers_are_json_whatever_accept_says(api, alice, run):
    asked = [
        *("text/html", "application/xml", "application/json; indent=8", "image/png;q=0"),
        *("application/json; version=7", "application/json;charset=utf-16", "nonsense", ",;/", ""),
    ]
    for path in (f"/{run.pk}", "", "/unknown", "/x/log"):
        plain = api.get(path, user=alice)
        for options in [{"HTTP_ACCEPT": accept} for accept in asked] + [{"query": "format=api"}]:
            response = api.get(path, user=alice, **options)
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


@pytest.mark.parametrize(("method", "path", "caller", "body", "query", "status"), MATRIX)
def test_the_first_check_that_fails_answers_and_nothing_changes(
    api, alice, runs, method, path, caller, body, query, status
):
    before = list(Run.objects.order_by("pk").values())
    token = token_of(alice) if caller == "alice" else caller
    response = api(method, path.format(**runs), token=token, body=body, query=query)
    assert response.status_code == status
    assert response.json()["error"]["type"] == TYPES[status]
    assert list(Run.objects.order_by("pk").values()) == before


@pytest.mark.parametrize("limit", ["RATE_LIMIT", "RUN_RATE_LIMIT"])
def test_a_rate_limit_is_checked_before_all_but_the_method(api, alice, configure, runs, limit):
    configure(**{limit: "0/d"})
    for method, path, caller, body, query, status in MATRIX:
        is_limited = status != 405 and (path or limit == "RATE_LIMIT")
        token = token_of(alice) if caller == "alice" else caller
        response = api(method, path.format(**runs), token=token, body=body, query=query)
        assert response.status_code == (429 if is_limited else status)


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

NOT_SECONDS = [
    *("x", "-1", "-0", "%2B1", "+1", "1+", "%201", "1%20", "1%0A", "%001", "1_000", "1e3"),
    *("1E3", "1.5.5", "1..5", "1.", ".5", ".", "1,5", "0x10", "nan", "NaN", "inf", "Infinity"),
    *("true", "1s", "%C2%B2", "%D9%A1", "%EF%BC%91", "1.%D9%A1", "%E2%88%9E", "%FF", "1;2"),
]


class Meanwhile(threading.Thread):
    """Does ``action`` beside a request, once the request waits for the run."""

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
    # The first look is before the wait. From the second on, the request waits.
    with Meanwhile(action) as thread, after_look(2, thread.looked.set):
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
def test_waiting_ends_when_the_caller_leaves_the_organization(api, alice, acme, configure):
    configure(MAX_WAIT_FOR_FINISH=60)
    join(alice, acme)
    run = Run.objects.create(organization=acme, status=RunStatus.RUNNING)
    response = get_and_meanwhile(
        api, f"/{run.pk}", lambda: leave(alice, acme), user=alice, query="waitForFinish=60"
    )
    assert response.status_code == 403


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
def test_a_request_does_not_wait_for_a_finished_run(api, alice, configure, status):
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
def test_a_request_does_not_wait_longer_than_the_cap(api, alice, configure, seconds):
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
def test_a_request_does_not_wait_unless_it_asks_and_waiting_is_on(
    api, alice, configure, query, cap
):
    configure(MAX_WAIT_FOR_FINISH=cap)
    run = Run.objects.create(user=alice, status=RunStatus.RUNNING)

    def stop_waiting():
        Run.objects.get(pk=run.pk).transition_to(RunStatus.FAILED)

    with after_look(2, stop_waiting):
        response = api.get(f"/{run.pk}", user=alice, query=query)
    assert response.json()["data"]["status"] == "RUNNING"


def test_waitforfinish_takes_a_number_of_seconds(api, alice, run):
    for seconds in ("0", "1", "0.5", "1.25", "007", "1000000", "9" * 5000):
        response = api.get(f"/{run.pk}", user=alice, query=f"waitForFinish={seconds}")
        assert response.status_code == 200


def test_waitforfinish_takes_nothing_else(api, alice, run, subtests):
    message = "Invalid input: waitForFinish must be a number of seconds, 0 or more."
    for seconds in NOT_SECONDS:
        with subtests.test(seconds):
            response = api.get(f"/{run.pk}", user=alice, query=f"waitForFinish={seconds}")
            assert_error(response, 400, "invalid-input", message)


# Logging


@pytest.mark.parametrize("status", Run.FINISHED)
def test_a_deletion_is_logged_with_its_particulars(
    api, alice, caplog, status, django_capture_on_commit_callbacks
):
    run = Run.objects.create(user=alice, status=status)
    caplog.set_level(logging.INFO, "actor_runs")
    with django_capture_on_commit_callbacks(execute=True):
        api.delete(f"/{run.pk}", user=alice)
    [record] = [record for record in caplog.records if record.name == "actor_runs"]
    assert record.levelno == logging.INFO
    assert record.run_id == run.pk
    assert record.owner == str(alice.pk)
    assert record.deleted_by == str(alice.pk)
    assert record.run_status == status.value
    message = record.getMessage()
    assert message == f"Run {run.pk} of {alice.pk} deleted by user {alice.pk}"


def test_a_members_deletion_is_logged_with_the_organization(
    api, bob, acme, caplog, django_capture_on_commit_callbacks
):
    join(bob, acme)
    run = Run.objects.create(organization=acme, status=RunStatus.FAILED)
    caplog.set_level(logging.INFO, "actor_runs")
    with django_capture_on_commit_callbacks(execute=True):
        api.delete(f"/{run.pk}", user=bob)
    [record] = [record for record in caplog.records if record.name == "actor_runs"]
    assert record.owner == f"org-{acme.pk}"
    assert record.deleted_by == str(bob.pk)


def test_a_refused_deletion_is_not_logged(
    api, alice, bob, run, caplog, django_capture_on_commit_callbacks
):
    running = Run.objects.create(user=alice)
    caplog.set_level(logging.INFO, "actor_runs")
    with django_capture_on_commit_callbacks(execute=True):
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
