"""Fixtures: two people, an organization, a finished run, and a way to speak HTTP with the app."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from django.apps import apps
from django.core.cache import cache
from django.db import connection

from actor_runs.db import errors
from actor_runs.models import Run, RunStatus
from tests.support.api import API, BY_ASGI
from tests.support.people import make_organization, make_user
from tests.support.signals import DeletionSignals, deletion_signals


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
        LEFT_OUT[f"integration/test_{name}.py"] = "apify-client 3 needs Python 3.11"
if shutil.which("curl") is None:
    LEFT_OUT["integration/test_demo.py"] = "curl is not installed"
if shutil.which("npm") is None:
    LEFT_OUT["integration/test_npm_client.py"] = "npm is not installed"
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


@pytest.fixture
def signals() -> Iterator[DeletionSignals]:
    """What the signals of deletions are sent with."""
    with deletion_signals() as signals:
        yield signals


@pytest.fixture(params=[False, True], ids=["without receivers", "with receivers"])
def signals_or_none(request: pytest.FixtureRequest) -> Iterator[DeletionSignals]:
    """A test runs twice: where Django could delete by one statement, and where it collects."""
    with deletion_signals(is_connected=request.param) as signals:
        yield signals


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries after a conflict do not wait; their number stays as it is."""
    monkeypatch.setattr(errors, "MAX_PAUSE", 0)


@pytest.fixture
def api(db: None) -> API:
    return API()
