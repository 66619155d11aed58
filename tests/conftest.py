"""Two people, an organization, their tokens, and a way to speak HTTP with the app."""

from __future__ import annotations

import json
import shutil
import sys
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from asgiref.sync import async_to_sync
from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.cache import cache
from django.db import connection
from django.test import AsyncClient, Client
from django.test.client import FakePayload
from rest_framework.authtoken.models import Token

from actor_runs.conf import conf
from actor_runs.models import Run, RunStatus

BY_ASGI = settings.SETTINGS_MODULE == "tests.services.settings_asgi"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "host: needs the models and settings of settings_host")
    config.addinivalue_line("markers", "plain: needs that no model refers to runs")
    config.addinivalue_line("markers", "wsgi: needs what ASGI does not have")
    config.addinivalue_line("markers", "postgresql: needs PostgreSQL's own words")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave to other configurations what this one cannot run."""
    elsewhere = {"plain" if apps.is_installed("tests.host") else "host"}
    if connection.vendor != "postgresql":
        elsewhere.add("postgresql")
    if BY_ASGI:
        elsewhere.add("wsgi")
    left_out = [item for item in items if any(map(item.get_closest_marker, elsewhere))]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


# What cannot run everywhere is left out of the suite there, and its last lines say so.
LEFT_OUT = {}
if sys.version_info < (3, 11):
    for name in ("clients", "client_models", "client_retries", "import_from_platform"):
        LEFT_OUT[f"test_{name}.py"] = "apify-client 3 needs Python 3.11"
if shutil.which("curl") is None:
    LEFT_OUT["test_demo.py"] = LEFT_OUT["test_api_page.py"] = "curl is not installed"
if shutil.which("npm") is None:
    LEFT_OUT["test_npm_client.py"] = "npm is not installed"
collect_ignore = list(LEFT_OUT)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for file, reason in LEFT_OUT.items():
        terminalreporter.write_line(f"Left out: {file}, since {reason}.")


def pytest_make_parametrize_id(val: Any) -> str | None:
    """Name a long value by its beginning and its length; leave others to pytest."""
    is_long = isinstance(val, str) and len(val) > 60
    return f"{val[:20]!a}...{len(val)}" if is_long else None


@pytest.fixture(autouse=True)
def no_requests_counted():
    cache.clear()


@pytest.fixture
def configure(settings: Any) -> Any:
    """A function that sets keys of ``ACTOR_RUNS``, and leaves this configuration's others."""

    def configure(**keys: Any) -> None:
        settings.ACTOR_RUNS = {**getattr(settings, "ACTOR_RUNS", {}), **keys}

    return configure


def make_user(name: str, **fields: Any) -> Any:
    return get_user_model().objects.create_user(username=name, password="secret", **fields)


def make_organization(name: str) -> Any:
    model = apps.get_model(conf.organization_model)
    key = {"slug": name.lower()} if conf.organization_model == "host.Company" else {}
    return model.objects.create(name=name, **key)


def join(user: Any, organization: Any) -> None:
    """Make ``user`` a member, in whatever way this configuration's organizations have them."""
    if conf.organization_model == "host.Company":
        organization.staff.create(person=user)
    else:
        user.groups.add(organization)


def leave(user: Any, organization: Any) -> None:
    if conf.organization_model == "host.Company":
        organization.staff.filter(person=user).delete()
    else:
        user.groups.remove(organization)


def token_of(user: Any) -> str:
    return Token.objects.get_or_create(user=user)[0].key


@pytest.fixture
def alice(db: None) -> Any:
    return make_user("alice")


@pytest.fixture
def bob(db: None) -> Any:
    return make_user("bob")


@pytest.fixture
def acme(db: None) -> Any:
    """An organization without members."""
    return make_organization("Acme")


@pytest.fixture
def run(alice: Any) -> Run:
    """A finished run of alice's."""
    return Run.objects.create(user=alice, status=RunStatus.SUCCEEDED)


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


@pytest.fixture
def api(db: None) -> API:
    return API()


def assert_error(response: Any, status: int, error_type: str, message: str) -> None:
    """The envelope, to the byte: these two keys and no more."""
    assert response.status_code == status, response.content
    assert response["Content-Type"] == "application/json"
    assert json.loads(response.content) == {"error": {"type": error_type, "message": message}}
