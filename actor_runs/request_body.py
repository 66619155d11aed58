"""The body of a DELETE: none, or a JSON object that is ignored."""

from __future__ import annotations

import json
import re
from typing import Any

from django.conf import settings
from django.http import HttpRequest

from actor_runs.exceptions import InvalidInput

LENGTH = re.compile(r"[0-9]{1,18}", re.ASCII)


def check_body(request: HttpRequest) -> None:
    """Raise InvalidInput unless the body, of any type, is empty or a JSON object in UTF-8."""
    body = _read(request)
    if not body:
        return
    try:
        # Numbers stay text: Python refuses very long ones, which JSON knows no limit for.
        value = json.loads(
            body.decode(), parse_int=str, parse_float=str, parse_constant=_reject_constant
        )
    except (ValueError, RecursionError):
        raise InvalidInput from None
    if not isinstance(value, dict):
        raise InvalidInput


def _reject_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _read(request: HttpRequest) -> bytes:
    """Return the whole body. Raises InvalidInput when it was cut short or cannot be known."""
    length = request.META.get("CONTENT_LENGTH") or ""
    if length and "HTTP_TRANSFER_ENCODING" not in request.META:
        if not LENGTH.fullmatch(length):
            raise InvalidInput
        body = request.body
        if int(length) != len(body):
            raise InvalidInput
        return body
    # Without a Content-Length, Django takes every body under WSGI for empty.
    environ = getattr(request, "environ", None)
    if environ is None:
        return _read_to_end(request)  # ASGI: the server ends the body by itself
    if environ.get("wsgi.input_terminated"):
        return _read_to_end(environ["wsgi.input"])
    if "HTTP_TRANSFER_ENCODING" in environ:
        raise InvalidInput  # there is a body, and the server does not say where it ends
    return b""


def _read_to_end(stream: Any) -> bytes:
    limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    body = b""
    try:
        while limit is None or len(body) <= limit:
            chunk = stream.read(64 * 1024)
            if not chunk:
                return body
            body += chunk
    except Exception:
        # A client that went away or broke the framing: each server has exceptions of its own.
        raise InvalidInput from None
    raise InvalidInput
