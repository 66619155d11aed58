"""The errors of the app: its exceptions, one table of the API's answers, and their handler.

Models import this module, so it imports nothing that reads the host's ``REST_FRAMEWORK`` setting:
classes named there may import models.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from django.core.exceptions import (
    BadRequest,
    PermissionDenied,
    SuspiciousOperation,
    TooManyFieldsSent,
    ValidationError,
)
from django.core.signals import got_request_exception
from django.http import Http404, UnreadablePostError
from django.utils.log import log_response
from django_ratelimit.exceptions import Ratelimited
from rest_framework import exceptions
from rest_framework.response import Response

from actor_runs.db.errors import is_transient
from actor_runs.db.transactions import set_rollback
from actor_runs.enums import TRANSITIONS

__all__ = [
    "InvalidInput",
    "InvalidTransition",
    "OperationNotAllowed",
    "RunAlreadyStarted",
    "RunNotFinished",
    "exception_handler",
]


class RunNotFinished(Exception):
    """An unfinished run cannot be deleted: "Only finished runs can be deleted" (API page).

    ``run_id`` and ``status`` (str) are the run's ID and the status that it has.
    """

    default_code = "cannot-remove-running-run"

    def __init__(self, run_id: str, status: str) -> None:
        self.run_id = run_id
        self.status = str(status)
        super().__init__(run_id, self.status)

    def __str__(self) -> str:
        return f"Only finished runs can be deleted (run ID: {self.run_id}, status: {self.status})."


class InvalidTransition(Exception):
    """The run cannot go from its status to the one that was asked for.

    The transition is illegal, or the object is outdated or not saved.

    ``run_id`` (str) is the run's ID, ``status`` (str) its status in the database, None if it is
    not there; ``known`` (str) the status that the object had, and ``wanted`` (str) the one that
    was asked for, None if ``save()`` was called. ``saved`` (bool) is False for an object that was
    never saved.
    """

    def __init__(
        self, run_id: str, status: str | None, known: str, wanted: str | None, saved: bool = True
    ) -> None:
        self.run_id = run_id
        self.status = None if status is None else str(status)
        self.known = str(known)
        self.wanted = None if wanted is None else str(wanted)
        self.saved = saved
        super().__init__(run_id, self.status, self.known, self.wanted, saved)

    def __str__(self) -> str:
        if not self.saved:
            return f"Run {self.run_id} is not saved: save it before its status can change."
        if self.status is None:
            return f"Run {self.run_id} is deleted, and cannot become {self.wanted}."
        changed = f"Run {self.run_id} went through other statuses since this object was read"
        if self.wanted is None and self.known != self.status:
            return (
                f"Run {self.run_id} is {self.status} in the database, and save() does not change "
                f"a status: use transition_to({self.known!r}), or refresh_from_db() if this "
                "object is outdated."
            )
        if self.wanted is None:
            return f"{changed}: call refresh_from_db() before it can be saved."
        if self.known != self.status:
            return (
                f"Run {self.run_id} is now {self.status}, no longer {self.known}: "
                f"call refresh_from_db() before it can become {self.wanted}."
            )
        legal = TRANSITIONS.get(self.status, ())
        if self.wanted in legal:
            return f"{changed}: call refresh_from_db() before it can become {self.wanted}."
        return (
            f"Run {self.run_id} cannot go from {self.status} to {self.wanted}. "
            f"It can become {', '.join(legal)}."
        )


class RunAlreadyStarted(InvalidTransition):
    """The run was started or finished already, as when a task is delivered twice."""

    def __str__(self) -> str:
        return f"Run {self.run_id} is {self.status} already: only a READY run can be recorded."


class InvalidInput(exceptions.APIException):
    """400: a parameter, a run ID or a body is not valid.

    ``detail`` says what is wrong and names the parameter; the texts are in ``parameters.py`` and
    ``request_body.py``. They do not repeat the value.
    """

    status_code = 400
    default_detail = "The request body contains invalid data."
    default_code = "invalid-input"


class OperationNotAllowed(exceptions.APIException):
    """400: a host's foreign key protects the run."""

    status_code = 400
    default_code = "operation-not-allowed"

    def __init__(self, run_id: str) -> None:
        super().__init__(f"Other records depend on this run (run ID: {run_id}).")


# Type and message of each status, where the exception itself has no better message. From the API
# page, except for 500 and 503.
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

# Statuses of exceptions that are not REST framework's own. The first match counts.
STATUSES: tuple[tuple[type[Exception], int], ...] = (
    (Http404, 404),
    (Ratelimited, 429),  # a subclass of PermissionDenied
    (PermissionDenied, 403),
    (RunNotFinished, 400),
    (ValidationError, 400),  # of save(), in an action of a host
    (BadRequest, 400),
    (SuspiciousOperation, 400),
    (UnreadablePostError, 400),
)


def exception_handler(exc: Exception, context: dict[str, Any]) -> Response:
    """Return the answer to any exception, in the envelope: REST framework's handler.

    The app's own views always use it. A host can name it as ``EXCEPTION_HANDLER`` in
    ``REST_FRAMEWORK`` to have the same envelope in its other views. An unexpected exception is
    logged with its traceback and sent to ``got_request_exception``; the answer has nothing of it.
    """
    view = context.get("view")
    status = _status(exc)
    error_type, message = _type_and_message(exc, status, view)
    response = Response(
        {"error": {"type": error_type, "message": message}},
        status=status,
        headers=_headers(exc, status, view),
    )
    if not getattr(view, "opts_out_of_atomic_requests", False):
        set_rollback()
    if status >= 500 and (request := context.get("request")) is not None:
        _report(exc, response, getattr(request, "_request", request))
    return response


def _status(exc: Exception) -> int:
    if isinstance(exc, exceptions.APIException):
        return exc.status_code
    if is_transient(exc):
        return 503
    if isinstance(exc, InvalidTransition) and exc.wanted is None:
        return 400  # save() in a host's action, with another status than the row has
    return next((status for kind, status in STATUSES if isinstance(exc, kind)), 500)


def _type_and_message(exc: Exception, status: int, view: Any) -> tuple[str, str]:
    error_type, message = ERRORS.get(status, ("", ""))
    if isinstance(exc, (RunNotFinished, OperationNotAllowed)):
        return exc.default_code, str(exc)
    if isinstance(exc, InvalidTransition) and status == 400:
        # The exception's own words are for developers.
        run = f"run ID: {exc.run_id}, status: {exc.status}"
        return OperationNotAllowed.default_code, f"The status cannot be saved ({run})."
    if isinstance(exc, (InvalidInput, exceptions.ValidationError)):
        return error_type, f"Invalid input: {_flatten(exc.detail)}"
    if isinstance(exc, ValidationError):
        detail = exc.message_dict if hasattr(exc, "error_dict") else exc.messages
        return error_type, f"Invalid input: {_flatten(detail)}"
    if isinstance(exc, TooManyFieldsSent):
        return error_type, "Invalid input: too many parameters."
    if status == 405 and view is not None:
        return error_type, message + ",".join(view.allowed_methods)
    if isinstance(exc, exceptions.APIException) and (
        # A message of the host's own permission, or a status that the API page does not have.
        (status == 403 and exc.detail != exc.default_detail) or not error_type
    ):
        return error_type or exc.default_code.replace("_", "-"), _flatten(exc.detail)
    return error_type, message


def _flatten(detail: Any) -> str:
    """Return REST framework's nested details as one line that names each field."""
    if isinstance(detail, dict):
        texts = [(str(field), _flatten(errors)) for field, errors in detail.items()]
        # The app's own messages begin with the field.
        return " ".join(
            text if text.startswith(field) else f"{field}: {text}" for field, text in texts
        )
    if isinstance(detail, Sequence) and not isinstance(detail, str):
        return " ".join(filter(None, map(_flatten, detail)))
    # REST framework's messages repeat the input, which may hold half a surrogate pair.
    return str(detail).encode(errors="backslashreplace").decode()


def _headers(exc: Exception, status: int, view: Any) -> dict[str, str]:
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
    """Report to the logs and to error monitors what the answer does not tell."""
    if response.status_code == 500:
        # Monitors read sys.exc_info(): REST framework calls the handler inside its `except`.
        got_request_exception.send(sender=None, request=request)
    # Django's own function, so that Django does not log the response a second time.
    log_response(
        "%s: %s",
        response.reason_phrase,
        request.path,
        response=response,
        request=request,
        exception=exc,
    )
