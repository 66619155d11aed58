"""Every error in its envelope, to the byte; what logs and monitors see; the handler on its own."""

from __future__ import annotations

import json
import logging
import pickle
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth import get_user_model
from django.core.exceptions import (
    BadRequest,
    PermissionDenied,
    SuspiciousOperation,
    TooManyFieldsSent,
)
from django.core.signals import got_request_exception
from django.db import (
    IntegrityError,
    InterfaceError,
    OperationalError,
    ProgrammingError,
    connection,
    models,
)
from django.db.models.expressions import RawSQL
from django.db.models.signals import post_delete, pre_delete
from django.http import Http404, UnreadablePostError
from django.urls import include, path
from django_ratelimit.exceptions import Ratelimited
from rest_framework import exceptions
from rest_framework.authentication import BaseAuthentication, BasicAuthentication
from rest_framework.authtoken.models import Token
from rest_framework.parsers import JSONParser
from rest_framework.permissions import IsAuthenticated
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response
from rest_framework.throttling import AnonRateThrottle
from rest_framework.views import APIView

from actor_runs.exceptions import InvalidTransition, RunNotFinished, exception_handler
from actor_runs.models import Run, RunStatus
from tests.support.api import (
    BAD_BODY,
    FORBIDDEN,
    LIMITED,
    NO_TOKEN,
    NOT_FOUND,
    SERVER_ERROR,
    UNAVAILABLE,
)
from tests.support.people import make_organization, make_user, token_of

METHODS = "This API end-point can only be accessed using the following HTTP methods: "
SECRET = "what nobody outside may read"


def envelope(error_type: str, message: str) -> bytes:
    """Every byte of an error's answer."""
    return json.dumps(
        {"error": {"type": error_type, "message": message}}, separators=(",", ":")
    ).encode()


def assert_bytes(response: Any, status: int, error_type: str, message: str) -> None:
    assert response.status_code == status, response.content
    assert response["Content-Type"] == "application/json"
    assert response.content == envelope(error_type, message)


def assert_server_error(response: Any) -> None:
    assert_bytes(response, *SERVER_ERROR)


def assert_unavailable(response: Any) -> None:
    assert_bytes(response, *UNAVAILABLE)
    assert int(response["Retry-After"]) >= 1


@pytest.fixture
def monitored() -> Iterator[list[BaseException | None]]:
    """The exceptions that an error monitor, which asks Python for the current one, has seen."""
    seen: list[BaseException | None] = []

    def monitor(**kwargs: Any) -> None:
        assert kwargs["request"].path
        seen.append(sys.exc_info()[1])

    got_request_exception.connect(monitor)
    yield seen
    got_request_exception.disconnect(monitor)


def logged(caplog: Any) -> logging.LogRecord:
    """The one record of a request that failed."""
    [record] = [
        record
        for record in caplog.records
        if record.name in ("django.request", "actor_runs") and record.levelno >= logging.ERROR
    ]
    return record


# The table of errors


ERRORS = {
    "invalid parameter": (
        400,
        "invalid-input",
        "Invalid input: limit must be a whole number, 0 or more.",
    ),
    "invalid body": BAD_BODY,
    "unfinished": (
        400,
        "cannot-remove-running-run",
        "Only finished runs can be deleted (run ID: 55uatRrZib4xbZs, status: TIMING-OUT).",
    ),
    "no token": NO_TOKEN,
    "wrong token": NO_TOKEN,
    "stranger": FORBIDDEN,
    "unknown run": NOT_FOUND,
    "unknown path": NOT_FOUND,
    "method of a run": (405, "method-not-allowed", METHODS + "OPTIONS,GET,DELETE"),
    "method of the list": (405, "method-not-allowed", METHODS + "OPTIONS,GET"),
    "limited": LIMITED,
    "unexpected": SERVER_ERROR,
}
HEADERS = {
    401: {"WWW-Authenticate"},
    405: {"Allow"},
    429: {"Retry-After"},
    503: {"Retry-After"},
}


class Broken(BaseAuthentication):
    """A host's class with a bug in it."""

    def authenticate(self, request):
        raise RuntimeError(SECRET)


def fail(name: str, api: Any, alice: Any, bob: Any, configure: Any, **meta: Any) -> Any:
    """Send a request that fails as ``name`` says."""
    run_id = "55uatRrZib4xbZs"
    Run.objects.create(id=run_id, user=alice, status=RunStatus.TIMING_OUT)
    if name == "limited":
        configure(RATE_LIMIT="0/d")
    if name == "unexpected":
        configure(AUTHENTICATION_CLASSES=[f"{__name__}.Broken"])
    method, below, options = {
        "invalid parameter": ("GET", "", {"user": alice, "query": "limit=x"}),
        "invalid body": ("DELETE", f"/{run_id}", {"user": alice, "body": "[]"}),
        "unfinished": ("DELETE", f"/{run_id}", {"user": alice}),
        "no token": ("GET", f"/{run_id}", {}),
        "wrong token": ("GET", f"/{run_id}", {"token": "x"}),
        "stranger": ("DELETE", f"/{run_id}", {"user": bob}),
        "unknown run": ("GET", "/unknown", {"user": alice}),
        "unknown path": ("GET", "/x/log", {}),
        "method of a run": ("PATCH", f"/{run_id}", {}),
        "method of the list": ("POST", "", {}),
        "limited": ("GET", "", {"user": alice}),
        "unexpected": ("GET", "", {"user": alice}),
    }[name]
    return api(method, below, **options, **meta)


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("name", ERRORS)
def test_every_error_is_the_envelope_and_no_more(api, settings, alice, bob, configure, name, debug):
    settings.DEBUG = debug
    response = fail(name, api, alice, bob, configure)
    assert_bytes(response, *ERRORS[name])
    sent = {name for name in ("Allow", "WWW-Authenticate", "Retry-After") if name in response}
    assert sent == HEADERS.get(response.status_code, set())


@pytest.mark.parametrize("name", ERRORS)
def test_messages_are_not_translated(api, settings, alice, bob, configure, name):
    settings.LANGUAGE_CODE = "cs"
    response = fail(name, api, alice, bob, configure, HTTP_ACCEPT_LANGUAGE="de,ja;q=0.5")
    assert_bytes(response, *ERRORS[name])


# Dependent rows in the host's own tables


@pytest.mark.host
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("model", ["Invoice", "Archive", "Ledger"])
def test_a_run_that_a_hosts_foreign_key_protects_stays(api, alice, run, model):
    # PROTECT, RESTRICT, and a constraint that only the database knows of, at COMMIT.
    child = apps.get_model("host", model).objects.create(run=run)
    response = api.delete(f"/{run.pk}", user=alice)
    message = f"Other records depend on this run (run ID: {run.pk})."
    assert_bytes(response, 400, "operation-not-allowed", message)
    assert response["X-RateLimit-Limit"] == "60"
    child.refresh_from_db()
    assert child.run == run
    child.delete()
    assert api.delete(f"/{run.pk}", user=alice).status_code == 204


@pytest.mark.host
@pytest.mark.django_db(transaction=True)
def test_rows_that_do_not_protect_a_run_go_or_stay_as_the_host_said(api, alice, run):
    note = apps.get_model("host", "Note").objects.create(run=run)
    bookmark = apps.get_model("host", "Bookmark").objects.create(run=run)
    assert api.delete(f"/{run.pk}", user=alice).status_code == 204
    assert not type(note).objects.exists()
    bookmark.refresh_from_db()
    assert bookmark.run is None


@pytest.mark.host
def test_a_protected_run_is_reported_after_owner_and_state(api, alice, bob, run):
    running = Run.objects.create(user=alice, status=RunStatus.RUNNING)
    for protected in (run, running):
        apps.get_model("host", "Invoice").objects.create(run=protected)
    assert_bytes(api.delete(f"/{run.pk}", user=bob), *FORBIDDEN)
    message = f"Only finished runs can be deleted (run ID: {running.pk}, status: RUNNING)."
    response = api.delete(f"/{running.pk}", user=alice)
    assert_bytes(response, 400, "cannot-remove-running-run", message)


# What nobody expected


@contextmanager
def receiver(signal: models.signals.ModelSignal, receive: Any) -> Iterator[None]:
    signal.connect(receive, sender=Run)
    try:
        yield
    finally:
        signal.disconnect(receive, sender=Run)


def a_bug(**kwargs: Any) -> None:
    raise RuntimeError(SECRET)


def a_name_twice(**kwargs: Any) -> None:
    get_user_model().objects.create(username="alice")


@pytest.mark.parametrize("signal", [pre_delete, post_delete])
@pytest.mark.parametrize(
    ("receive", "kind"), [(a_bug, RuntimeError), (a_name_twice, IntegrityError)]
)
def test_an_exception_in_a_hosts_receiver_deletes_nothing(
    api, alice, run, monitored, caplog, signal, receive, kind
):
    with receiver(signal, receive):
        response = api.delete(f"/{run.pk}", user=alice)
    assert_server_error(response)
    [seen] = monitored
    assert type(seen) is kind
    assert logged(caplog).exc_info[1] is seen
    assert Run.objects.filter(pk=run.pk).exists()
    assert api.delete(f"/{run.pk}", user=alice).status_code == 204


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize(("method", "below"), [("GET", ""), ("DELETE", "/x")])
def test_an_unexpected_exception_is_logged_and_reported_once_and_not_told(
    api, settings, monitored, caplog, configure, method, below, debug
):
    settings.DEBUG = debug
    configure(AUTHENTICATION_CLASSES=[f"{__name__}.Broken"])
    response = api(method, below)
    assert_server_error(response)
    [seen] = monitored
    assert isinstance(seen, RuntimeError)
    record = logged(caplog)
    assert record.name == "django.request"
    assert record.status_code == 500
    assert record.exc_info[1] is seen
    assert record.request.method == method
    assert caplog.text.count(f"RuntimeError: {SECRET}") == 1


def test_an_authentication_class_that_cannot_be_imported_is_a_server_error(
    api, alice, monitored, caplog, configure
):
    configure(AUTHENTICATION_CLASSES=["nowhere.Authentication"])
    assert_server_error(api.get(user=alice))
    [seen] = monitored
    assert isinstance(seen, ModuleNotFoundError)
    assert logged(caplog).exc_info[1] is seen


@pytest.fixture
def unspeakable(alice: Any) -> Run:
    """A run with a value that JSON cannot carry, put past ``save()``."""
    run = Run.objects.create(user=alice, status=RunStatus.SUCCEEDED)
    # Each database keeps something else that it should not.
    if connection.vendor == "postgresql":
        Run.objects.update(usage_total_usd=float("nan"))
    elif connection.vendor == "mysql":
        if not connection.mysql_is_mariadb:
            pytest.skip("MySQL keeps no value that JSON cannot carry.")
        Run.objects.update(meta=RawSQL("%s", [f'{{"userAgent": "{SECRET}", "infinite": 1e999}}']))
    else:
        Run.objects.update(meta={"origin": "API", "userAgent": f"{SECRET} \ud800"})
    return run


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("below", ["", "/{id}"])
def test_an_answer_that_cannot_be_rendered_is_a_server_error(
    api, settings, alice, unspeakable, monitored, caplog, below, debug
):
    settings.DEBUG = debug
    response = api.get(below.format(id=unspeakable.pk), user=alice)
    assert_server_error(response)
    assert response["X-RateLimit-Limit"] == "60"
    [seen] = monitored
    assert isinstance(seen, ValueError)
    assert logged(caplog).exc_info[1] is seen


def test_a_run_that_cannot_be_rendered_can_be_deleted(api, alice, unspeakable):
    assert api.delete(f"/{unspeakable.pk}", user=alice).status_code == 204


# The database


@contextmanager
def missing(model: type[models.Model]) -> Iterator[None]:
    table = model._meta.db_table

    def rename(old: str, new: str) -> None:
        with connection.cursor() as cursor:
            old, new = (connection.ops.quote_name(name) for name in (old, new))
            cursor.execute(f"ALTER TABLE {old} RENAME TO {new}")

    rename(table, f"{table}_elsewhere")
    try:
        yield
    finally:
        rename(f"{table}_elsewhere", table)


def disconnect() -> None:
    """Close the connection, and those that a pool keeps for others."""
    connection.close()
    if connection.vendor == "postgresql":
        connection.close_pool()


@contextmanager
def locked(run: Run) -> Iterator[None]:
    """Another connection has written to the run and is not done, and nobody waits for long."""
    impatience = {
        "sqlite": "PRAGMA busy_timeout = 20",
        "postgresql": "SET lock_timeout = '20ms'",
        "mysql": "SET SESSION innodb_lock_wait_timeout = 1",
    }
    with connection.cursor() as cursor:
        cursor.execute(impatience[connection.vendor])
    other = connection.copy()
    try:
        other.set_autocommit(False)
        with other.cursor() as cursor:
            table = connection.ops.quote_name(Run._meta.db_table)
            cursor.execute(f"UPDATE {table} SET exit_code = 1 WHERE id = %s", [run.pk])  # noqa: S608
        yield
    finally:
        other.rollback()
        other.close()
        disconnect()


@contextmanager
def unreachable(directory: Path) -> Iterator[None]:
    """The database is where nobody answers."""
    elsewhere: dict[str, Any] = {"NAME": str(directory / "missing" / "db.sqlite3")}
    if connection.vendor != "sqlite":
        elsewhere = {"HOST": "127.0.0.1", "PORT": "1"}
    settings = connection.settings_dict
    if settings["OPTIONS"].get("pool"):
        elsewhere["OPTIONS"] = {**settings["OPTIONS"], "pool": {"timeout": 0.1}}
    before = {key: settings[key] for key in elsewhere}
    disconnect()
    settings.update(elsewhere)
    try:
        yield
    finally:
        disconnect()
        settings.update(before)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("model", [Run, Token])
def test_a_missing_table_is_a_server_error(api, alice, run, monitored, caplog, model):
    token = token_of(alice)
    with missing(model):
        for method, below in (("GET", ""), ("GET", f"/{run.pk}"), ("DELETE", f"/{run.pk}")):
            caplog.clear()
            response = api(method, below, token=token)
            assert_server_error(response)
            assert logged(caplog).exc_info[1] is monitored[-1]
    assert len(monitored) == 3
    assert api.delete(f"/{run.pk}", token=token).status_code == 204


@pytest.mark.django_db(transaction=True)
def test_a_locked_database_is_unavailable_and_nothing_is_deleted(api, alice, run, caplog):
    token = token_of(alice)
    with locked(run):
        response = api.delete(f"/{run.pk}", token=token)
        assert_unavailable(response)
        assert response["X-RateLimit-Limit"] == "60"
        record = logged(caplog)
        assert record.name == "django.request"
        assert isinstance(record.exc_info[1], OperationalError)
        # Who only reads does not wait for who writes.
        assert api.get(f"/{run.pk}", token=token).status_code == 200
        assert api.get(token=token).status_code == 200
    assert Run.objects.filter(pk=run.pk).exists()
    assert api.delete(f"/{run.pk}", token=token).status_code == 204


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_a_server_that_is_no_longer_the_primary_is_unavailable(api, alice, run):
    token = token_of(alice)
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = on")
    try:
        assert_unavailable(api.delete(f"/{run.pk}", token=token))
        assert api.get(f"/{run.pk}", token=token).status_code == 200
    finally:
        disconnect()
    assert api.delete(f"/{run.pk}", token=token).status_code == 204


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("method", "with_token"), [("GET", True), ("GET", False), ("DELETE", True)]
)
def test_a_database_out_of_reach_is_unavailable_and_service_recovers(
    api, alice, run, caplog, tmp_path, method, with_token
):
    token = token_of(alice)
    with unreachable(tmp_path):
        response = api(method, f"/{run.pk}", token=token if with_token else None)
        assert_unavailable(response)
        assert isinstance(logged(caplog).exc_info[1], OperationalError)
        # What needs no database is answered as ever.
        assert api("OPTIONS", f"/{run.pk}", token=token).status_code == 200
        assert api("POST", f"/{run.pk}", token=token).status_code == 405
        assert api.get("/x/log").status_code == 404
        assert api.delete(f"/{run.pk}").status_code == 401
    assert api.get(f"/{run.pk}", token=token).status_code == 200
    assert api.delete(f"/{run.pk}", token=token).status_code == 204


# The handler, named by a host for its own views


class Unnamed(exceptions.APIException):
    """A host's own error, with a status that this app has no word for."""

    status_code = 409
    default_code = "already_there"
    default_detail = "It is already there."


class OutOfMoney(exceptions.APIException):
    status_code = 402
    default_code = "payment-required"


def select(sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)


def delete_unfinished() -> None:
    Run.objects.create(id="unfinished", user=make_user("carol")).delete()


def throw(exc: Exception) -> Any:
    def raises() -> None:
        raise exc

    return raises


HOSTS_ERRORS: dict[str, tuple[Any, tuple[int, str, str]]] = {
    "Http404": (throw(Http404(SECRET)), NOT_FOUND),
    "NotFound": (throw(exceptions.NotFound(SECRET)), NOT_FOUND),
    "django PermissionDenied": (
        throw(PermissionDenied(SECRET)),
        FORBIDDEN,
    ),
    "PermissionDenied": (
        throw(exceptions.PermissionDenied(SECRET)),
        (403, "permission-denied", SECRET),
    ),
    "Ratelimited": (throw(Ratelimited(SECRET)), LIMITED),
    "Throttled": (throw(exceptions.Throttled()), LIMITED),
    "BadRequest": (throw(BadRequest(SECRET)), BAD_BODY),
    "TooManyFieldsSent": (
        throw(TooManyFieldsSent(SECRET)),
        (400, "invalid-input", "Invalid input: too many parameters."),
    ),
    "SuspiciousOperation": (throw(SuspiciousOperation(SECRET)), BAD_BODY),
    "UnreadablePostError": (throw(UnreadablePostError(SECRET)), BAD_BODY),
    "ParseError": (throw(exceptions.ParseError(SECRET)), BAD_BODY),
    "ValidationError": (
        throw(exceptions.ValidationError("Too short.")),
        (400, "invalid-input", "Invalid input: Too short."),
    ),
    "ValidationError of fields": (
        throw(
            exceptions.ValidationError(
                {"name": ["Too short.", "Not new."], "items": [{}, {"price": ["Too low."]}, {}]}
            )
        ),
        (
            400,
            "invalid-input",
            "Invalid input: name: Too short. Not new. items: price: Too low.",
        ),
    ),
    "MethodNotAllowed": (
        throw(exceptions.MethodNotAllowed("GET")),
        (405, "method-not-allowed", METHODS + "GET,POST,HEAD,OPTIONS"),
    ),
    "unnamed": (throw(Unnamed()), (409, "already-there", "It is already there.")),
    "with details": (
        throw(OutOfMoney({"missing": ["3 EUR"]})),
        (402, "payment-required", "missing: 3 EUR"),
    ),
    "APIException": (throw(exceptions.APIException(SECRET)), SERVER_ERROR),
    "RuntimeError": (throw(RuntimeError(SECRET)), SERVER_ERROR),
    "AssertionError": (throw(AssertionError(SECRET)), SERVER_ERROR),
    "RecursionError": (throw(RecursionError(SECRET)), SERVER_ERROR),
    "DoesNotExist": (lambda: Run.objects.get(pk=SECRET), SERVER_ERROR),
    "InvalidTransition": (throw(InvalidTransition("a", "READY", "READY", SECRET)), SERVER_ERROR),
    "ProgrammingError": (throw(ProgrammingError(SECRET)), SERVER_ERROR),
    "a missing table": (lambda: select("SELECT 1 FROM nowhere"), SERVER_ERROR),
    "a missing table called disk": (lambda: select("SELECT 1 FROM disk"), SERVER_ERROR),
    "a missing table of locks": (lambda: select("SELECT 1 FROM locked_runs"), SERVER_ERROR),
    "a missing column": (
        lambda: select("SELECT no_such FROM actor_runs_run"),
        SERVER_ERROR,
    ),
    "a missing column called busy": (
        lambda: select("SELECT busy FROM actor_runs_run"),
        SERVER_ERROR,
    ),
    "RunNotFinished": (
        delete_unfinished,
        (
            400,
            "cannot-remove-running-run",
            "Only finished runs can be deleted (run ID: unfinished, status: READY).",
        ),
    ),
    "InterfaceError": (
        throw(InterfaceError("connection already closed")),
        UNAVAILABLE,
    ),
    "OperationalError": (
        throw(OperationalError("server closed the connection unexpectedly")),
        UNAVAILABLE,
    ),
}


class HostsView(APIView):
    """A host's own view, which takes nothing from the configuration but the handler."""

    authentication_classes: list[Any] = []
    permission_classes: list[Any] = []
    throttle_classes: list[Any] = []
    renderer_classes = [JSONRenderer]
    parser_classes = [JSONParser]
    versioning_class = None

    def get(self, request, name):
        HOSTS_ERRORS[name][0]()

    def post(self, request, name):
        return Response(request.data)


class Closed(HostsView):
    authentication_classes = [BasicAuthentication]
    permission_classes = [IsAuthenticated]


class Once(HostsView):
    class Throttle(AnonRateThrottle):
        rate = "1/day"

    throttle_classes = [Throttle]


class Writing(HostsView):
    def get(self, request, name):
        make_organization("Written")
        raise Unnamed


class Silent(Closed):
    """As REST framework would have it: without a header to send, 401 becomes 403."""

    class NoHeader(BaseAuthentication):
        def authenticate(self, request):
            return None

    authentication_classes = [NoHeader]


class Waiting(HostsView):
    def get(self, request, name):
        raise exceptions.Throttled(None if name == "None" else float(name))


urlpatterns = [
    path("host/closed/<name>", Closed.as_view()),
    path("host/silent/<name>", Silent.as_view()),
    path("host/waiting/<name>", Waiting.as_view()),
    path("host/once/<name>", Once.as_view()),
    path("host/writing/<name>", Writing.as_view()),
    path("host/<name>", HostsView.as_view()),
    path("v2/", include("actor_runs.urls")),
]


@pytest.fixture
def host(api: Any, settings: Any) -> Any:
    """Requests to the views of a host that names the handler."""
    settings.REST_FRAMEWORK = {"EXCEPTION_HANDLER": "actor_runs.exceptions.exception_handler"}
    settings.ROOT_URLCONF = __name__
    return api.client


@pytest.mark.parametrize("name", HOSTS_ERRORS)
def test_a_hosts_own_views_answer_in_the_envelope(host, monitored, caplog, name):
    status, *words = HOSTS_ERRORS[name][1]
    response = host.get(f"/host/{name}")
    assert_bytes(response, status, *words)
    if status >= 500:
        assert logged(caplog).exc_info[1] is not None
    assert len(monitored) == (status == 500)
    assert response.has_header("Retry-After") == (status in (429, 503))


@pytest.mark.parametrize(
    ("wait", "seconds"),
    [(None, "1"), (0, "1"), (-5, "1"), (0.1, "1"), (1, "1"), (1.01, "2"), (59.5, "60")],
)
def test_retry_after_is_rounded_up_to_whole_seconds(host, wait, seconds):
    assert host.get(f"/host/waiting/{wait}")["Retry-After"] == seconds


def test_a_hosts_own_authentication(host, alice):
    response = host.get("/host/closed/RuntimeError")
    assert_bytes(response, *NO_TOKEN)
    assert response["WWW-Authenticate"] == 'Basic realm="api"'
    response = host.get("/host/closed/RuntimeError", HTTP_AUTHORIZATION="Basic eDp5")
    assert_bytes(response, *NO_TOKEN)


def test_a_hosts_own_authentication_without_a_header_is_403(host):
    response = host.get("/host/silent/RuntimeError")
    assert_bytes(response, *FORBIDDEN)
    assert "WWW-Authenticate" not in response


def test_a_hosts_own_throttle(host):
    assert host.post("/host/once/x", "{}", "application/json").status_code == 200
    response = host.post("/host/once/x", "{}", "application/json")
    assert_bytes(response, *LIMITED)
    assert 1 <= int(response["Retry-After"]) <= 86_400


def test_a_hosts_own_methods(host):
    response = host.delete("/host/x")
    assert_bytes(response, 405, "method-not-allowed", METHODS + "GET,POST,HEAD,OPTIONS")
    assert response["Allow"] == "GET, POST, HEAD, OPTIONS"


def test_unsupported_media_types_of_a_hosts_view_are_in_the_envelope(host):
    response = host.post("/host/x", "<x/>", "text/xml")
    assert response.status_code == 415
    assert response.json()["error"]["type"] == "unsupported-media-type"
    assert "text/xml" in response.json()["error"]["message"]
    response = host.get("/host/x", HTTP_ACCEPT="text/xml")
    assert response.status_code == 406
    assert response.json()["error"]["type"] == "not-acceptable"
    assert_bytes(host.post("/host/x", "{", "application/json"), *BAD_BODY)


def test_a_hosts_own_answers_are_left_alone(host):
    response = host.post("/host/x", '{"error": 1}', "application/json")
    assert (response.status_code, response.content) == (200, b'{"error":1}')


@pytest.mark.django_db(transaction=True)
def test_a_hosts_own_transaction_is_rolled_back_where_there_is_one(host, acme):
    assert_bytes(host.get("/host/writing/x"), 409, "already-there", "It is already there.")
    written = type(acme).objects.filter(name="Written").exists()
    assert written != connection.settings_dict["ATOMIC_REQUESTS"]


def test_a_host_that_does_not_name_the_handler_keeps_its_own(api, settings):
    settings.ROOT_URLCONF = __name__
    settings.LANGUAGE_CODE = "en"
    response = api.client.get("/host/NotFound")
    assert (response.status_code, response.json()) == (404, {"detail": SECRET})
    response = api.client.get("/host/RuntimeError")
    assert (response.status_code, response["Content-Type"]) == (500, "text/html; charset=utf-8")


def test_a_hosts_own_handler_does_not_reach_this_api(api, settings, alice):
    settings.REST_FRAMEWORK = {"EXCEPTION_HANDLER": f"{__name__}.a_hosts_own_handler"}
    response = api.get("/unknown", user=alice)
    assert_bytes(response, *NOT_FOUND)


def a_hosts_own_handler(exc: Exception, context: Any) -> Response:
    return Response({"detail": SECRET}, status=418)


def test_the_handler_needs_no_view_and_no_request(caplog):
    response = exception_handler(RuntimeError(SECRET), {})
    assert response.status_code == 500
    assert response.data == {"error": {"type": "internal-server-error", "message": SERVER_ERROR[2]}}
    response = exception_handler(exceptions.AuthenticationFailed(), {"view": None})
    assert response.status_code == 401
    assert response["WWW-Authenticate"] == "Bearer"


# The app's own exceptions


def test_run_not_finished_names_the_run_and_its_state():
    exc = RunNotFinished("55uatRrZib4xbZs", RunStatus.RUNNING)
    assert (exc.run_id, exc.status) == ("55uatRrZib4xbZs", "RUNNING")
    assert str(exc) == (
        "Only finished runs can be deleted (run ID: 55uatRrZib4xbZs, status: RUNNING)."
    )


@pytest.mark.parametrize(
    ("status", "known", "words"),
    [
        ("READY", "READY", "cannot go from READY to SUCCEEDED"),
        ("FAILED", "RUNNING", "is now FAILED, no longer RUNNING"),
        (None, "RUNNING", "is deleted, and cannot become SUCCEEDED"),
    ],
)
def test_invalid_transition_names_the_run_and_the_states(status, known, words):
    exc = InvalidTransition("55uatRrZib4xbZs", status, known, RunStatus.SUCCEEDED)
    assert (exc.run_id, exc.status, exc.known, exc.wanted) == (
        "55uatRrZib4xbZs",
        status,
        known,
        "SUCCEEDED",
    )
    assert f"Run 55uatRrZib4xbZs {words}" in str(exc)


@pytest.mark.parametrize(
    ("wanted", "words"),
    [(None, "before it can be saved"), ("FAILED", "before it can become FAILED")],
)
def test_invalid_transition_says_that_an_object_of_the_same_status_is_outdated(wanted, words):
    exc = InvalidTransition("a", "RUNNING", "RUNNING", wanted)
    assert str(exc) == (
        "Run a went through other statuses since this object was read: "
        f"call refresh_from_db() {words}."
    )


@pytest.mark.parametrize(
    "exc",
    [RunNotFinished("a", RunStatus.READY), InvalidTransition("a", None, "READY", "FAILED")],
)
def test_exceptions_travel_between_processes(exc):
    # As a task queue sends them.
    copy = pickle.loads(pickle.dumps(exc))  # noqa: S301
    assert (type(copy), vars(copy), str(copy)) == (type(exc), vars(exc), str(exc))
