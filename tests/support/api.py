"""A way to speak HTTP with the app, by WSGI or ASGI as the settings say."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote, urlsplit

from asgiref.sync import async_to_sync
from django.conf import settings
from django.test import AsyncClient, Client
from django.test.client import FakePayload

from tests.support.people import token_of

BY_ASGI = settings.SETTINGS_MODULE == "tests.services.settings_asgi"


class ASGIClient(AsyncClient):
    """Django's client for ASGI, called as the one for WSGI is."""

    def generic(  # type: ignore[override]
        self, method: str, path: str, body: bytes | str, content_type: str, **meta: Any
    ) -> Any:
        url = urlsplit(path)
        body = body.encode() if isinstance(body, str) else body
        address = meta.pop("REMOTE_ADDR", "127.0.0.1")
        named = {"host": "testserver"}
        if body:
            named |= {"content-length": str(len(body)), "content-type": content_type}
        if "CONTENT_TYPE" in meta:
            named["content-type"] = meta.pop("CONTENT_TYPE")
        assert all(name.startswith("HTTP_") for name in meta), f"needs the mark wsgi: {meta}"
        named |= {name[5:].replace("_", "-").lower(): value for name, value in meta.items()}
        return async_to_sync(self.request)(
            method=method,
            path=unquote(url.path),
            query_string=url.query,
            client=[address, 0] if address else None,
            headers=[
                (name.encode(), value.encode("latin-1", "replace")) for name, value in named.items()
            ],
            _body_file=FakePayload(body),
        )


class API:
    """Requests to the app, through Django's own client and middleware."""

    def __init__(self) -> None:
        self.client: Any = (ASGIClient if BY_ASGI else Client)(raise_request_exception=False)

    def __call__(
        self,
        method: str,
        path: str = "",
        *,
        user: Any = None,
        token: str | None = None,
        body: bytes | str = b"",
        content_type: str = "application/json",
        query: str = "",
        **meta: Any,
    ) -> Any:
        """Send ``method`` to ``/v2/actor-runs`` + path; as ``user``, or with ``token``."""
        if user is not None:
            token = token_of(user)
        if token is not None:
            meta.setdefault("HTTP_AUTHORIZATION", f"Bearer {token}")
        path = f"/v2/actor-runs{path}" + (f"?{query}" if query else "")
        return self.client.generic(method, path, body, content_type, **meta)

    def get(self, path: str = "", **options: Any) -> Any:
        return self("GET", path, **options)

    def delete(self, path: str, **options: Any) -> Any:
        return self("DELETE", path, **options)


# Status, type and message of errors.
BAD_BODY = (400, "invalid-input", "Invalid input: The request body contains invalid data.")
NO_TOKEN = (401, "token-not-valid", "Authentication token is not valid.")
FORBIDDEN = (403, "permission-denied", "You do not have permission to perform this action.")
NOT_FOUND = (404, "record-not-found", "The requested resource was not found.")
LIMITED = (
    429,
    "rate-limit-exceeded",
    "You have exceeded the rate limit. Please try again later.",
)
SERVER_ERROR = (500, "internal-server-error", "The server met an unexpected error.")
UNAVAILABLE = (
    503,
    "service-unavailable",
    "The service is not available now. Please try again later.",
)


def assert_error(response: Any, status: int, error_type: str, message: str) -> None:
    """The envelope, to the byte: these two keys and no more."""
    assert response.status_code == status, response.content
    assert response["Content-Type"] == "application/json"
    assert json.loads(response.content) == {"error": {"type": error_type, "message": message}}
