"""What can go wrong: the error vocabulary of the API, one table, and its one handler."""

from __future__ import annotations

import math
import re
from typing import Any

from django.core.exceptions import (
    BadRequest,
    PermissionDenied,
    SuspiciousOperation,
    TooManyFieldsSent,
)
from django.core.signals import got_request_exception
from django.db import IntegrityError, InterfaceError, OperationalError
from django.db.models import ProtectedError, RestrictedError
from django.http import Http404, UnreadablePostError
from django.utils.log import log_response
from django_ratelimit.exceptions import Ratelimited
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import set_rollback


class RunNotFinished(Exception):
    """An unfinished run was to be deleted: "Only finished runs can be deleted" (API page).

    ``run_id`` and ``status`` (str) say which run, and the status that it has.
    """

    def __init__(self, run_id: str, status: str) -> None:
        self.run_id = run_id
        self.status = str(status)
        super().__init__(run_id, self.status)

    def __str__(self) -> str:
        return f"Only finished runs can be deleted (run ID: {self.run_id}, status: {self.status})."


class InvalidTransition(Exception):
    """A run cannot go from the status that it has to the one asked for.

    Either no such step exists, or the object at hand is outdated: ``status`` (str) is what the
    database has, None where the run is gone, ``known`` what the object had.
    """

    def __init__(self, run_id: str, status: str | None, known: str, wanted: str) -> None:
        self.run_id = run_id
        self.status = None if status is None else str(status)
        self.known = str(known)
        self.wanted = str(wanted)
        super().__init__(run_id, self.status, self.known, self.wanted)

    def __str__(self) -> str:
        if self.status is None:
            return f"Run {self.run_id} is deleted, and cannot become {self.wanted}."
        if self.status != self.known:
            return (
                f"Run {self.run_id} is {self.status} by now, no longer {self.known}: "
                f"refresh it from the database before it can become {self.wanted}."
            )
        return (
            f"Run {self.run_id} cannot go from {self.status} to {self.wanted}, "
            "or was changed meanwhile."
        )


class InvalidInput(exceptions.APIException):
    """A parameter, an ID or a body that the API refuses: 400.

    ``detail`` says what is wrong and names the parameter, without repeating its value.
    """

    status_code = 400
    default_detail = "The request body contains invalid data."
    default_code = "invalid-input"


class OperationNotAllowed(exceptions.APIException):
    """A host's foreign key protects the run: 400."""

    status_code = 400
    default_code = "operation-not-allowed"

    def __init__(self, run_id: str) -> None:
        super().__init__(f"Other records depend on this run (run ID: {run_id}).")


# The one table: what each status is called, and what it says where the error itself has no
# better words. From the API page, but for the two of the server.
ERRORS: dict[int, tuple[str, str]] = {
    400: ("invalid-input", "Invalid input: The request body contains invalid data."),
    401: ("token-not-valid", "Authentication token is not valid."),
    403: ("permission-denied", "You do not have permission to perform this action."),
    404: ("record-not-found", "The requested resource was not found."),
    405: (
        "method-not-allowed",
        "This API end-point can only be accessed using the following HTTP methods: ",
    ),
    429: ("rate-limit-exceeded", "You have exceeded the rate limit. Please try again later."),
    500: ("internal-server-error", "The server met an unexpected error."),
    503: ("service-unavailable", "The service is not available now. Please try again later."),
}

# Exceptions that are not REST framework's own, first match counts.
STATUSES: tuple[tuple[type[Exception], int], ...] = (
    (Http404, 404),
    (Ratelimited, 429),  # itself a PermissionDenied
    (PermissionDenied, 403),
    (RunNotFinished, 400),
    (BadRequest, 400),
    (SuspiciousOperation, 400),
    (UnreadablePostError, 400),
)

# The databases' own words for "not now", where Django's OperationalError also means "never".
_SQLITE_BUSY = re.compile(
    r"database (table |schema )?is (locked|busy)|unable to open|disk I/O error|"
    r"database or disk is full|interrupted|locking protocol"
)
_MYSQL_UNKNOWN_COLUMN = 1054


def database_is_unavailable(exc: BaseException) -> bool:
    """Whether the database could not serve just now: refused, lost, locked, timed out."""
    if isinstance(exc, InterfaceError):
        return True
    if not isinstance(exc, OperationalError):
        return False
    module = type(exc.__cause__).__module__
    if module.startswith("sqlite3"):
        return bool(_SQLITE_BUSY.match(str(exc)))
    return not (module.startswith("MySQLdb") and exc.args[:1] == (_MYSQL_UNKNOWN_COLUMN,))


def is_foreign_key_violation(exc: IntegrityError) -> bool:
    """Whether dependent rows kept a row from going, in Django's words or the database's."""
    if isinstance(exc, (ProtectedError, RestrictedError)):
        return True
    # PostgreSQL's own code, since its messages may be translated; the others say it in words.
    violation = getattr(exc.__cause__, "sqlstate", None) == "23503"
    return violation or "foreign key" in str(exc).lower()


def exception_handler(exc: Exception, context: dict[str, Any]) -> Response:
    """Answer any exception in the envelope; REST framework's ``EXCEPTION_HANDLER``.

    The app's views use it by themselves. A host can name it in ``REST_FRAMEWORK`` to get the
    same envelope for its other views. An unexpected exception is logged with its traceback
    and sent to ``got_request_exception``; nothing of it is in the answer.
    """
    view = context.get("view")
    status = _status_of(exc)
    error_type, message = _words_for(exc, status, view)
    response = Response(
        {"error": {"type": error_type, "message": message}},
        status=status,
        headers=_headers_for(exc, status, view),
    )
    if not getattr(view, "opts_out_of_atomic_requests", False):
        set_rollback()
    if status >= 500 and (request := context.get("request")) is not None:
        _report(exc, response, getattr(request, "_request", request))
    return response


def _status_of(exc: Exception) -> int:
    if isinstance(exc, exceptions.APIException):
        return exc.status_code
    if database_is_unavailable(exc):
        return 503
    return next((status for kind, status in STATUSES if isinstance(exc, kind)), 500)


def _words_for(exc: Exception, status: int, view: Any) -> tuple[str, str]:
    """Return the type and the message. Only this app's own words, or a host's own view's."""
    error_type, message = ERRORS.get(status, ("", ""))
    if isinstance(exc, RunNotFinished):
        return "cannot-remove-running-run", str(exc)
    if isinstance(exc, OperationNotAllowed):
        return exc.default_code, str(exc.detail)
    if isinstance(exc, (InvalidInput, exceptions.ValidationError)):
        return error_type, f"Invalid input: {_flat(exc.detail)}"
    if isinstance(exc, TooManyFieldsSent):
        return error_type, "Invalid input: too many parameters."
    if status == 405 and view is not None:
        return error_type, message + ",".join(view.allowed_methods)
    if not error_type and isinstance(exc, exceptions.APIException):
        # A host's own exception, from a host's own view.
        return exc.default_code.replace("_", "-"), _flat(exc.detail)
    return error_type, message


def _flat(detail: Any) -> str:
    """Return REST framework's nested details as one line that names each field."""
    if isinstance(detail, dict):
        return " ".join(f"{field}: {_flat(errors)}" for field, errors in detail.items())
    if isinstance(detail, list):
        return " ".join(filter(None, map(_flat, detail)))
    return str(detail)


def _headers_for(exc: Exception, status: int, view: Any) -> dict[str, str]:
    headers = {}
    if status == 401:
        headers["WWW-Authenticate"] = getattr(exc, "auth_header", "Bearer")
    if status == 405 and view is not None:
        headers["Allow"] = ", ".join(view.allowed_methods)
    if status in (429, 503):
        wait = getattr(exc, "wait", None) or 0
        headers["Retry-After"] = str(max(1, math.ceil(wait)))
    return headers


def _report(exc: Exception, response: Response, request: Any) -> None:
    """Tell the logs, and error monitors, what the answer keeps to itself."""
    if response.status_code == 500:
        # Monitors read sys.exc_info(): REST framework calls the handler inside its `except`.
        got_request_exception.send(sender=None, request=request)
    # Django's own way to log a response, so that Django does not log it a second time.
    log_response(
        "%s: %s",
        response.reason_phrase,
        request.path,
        response=response,
        request=request,
        exception=exc,
    )
