"""How often a request asks the database and the cache, on every database."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext
from django.utils.module_loading import import_string

from actor_runs.models import Run, RunStatus
from tests.support.api import API
from tests.support.people import join, token_of


@pytest.fixture
def token(alice: Any) -> str:
    return token_of(alice)


@pytest.fixture(params=["user", "organization"])
def owned(request: Any, alice: Any, acme: Any) -> tuple[Run, int]:
    """A finished run of alice's or of her organization's, and 1 if a membership is asked for."""
    join(alice, acme)
    if request.param == "user":
        return Run.objects.create(user=alice, status=RunStatus.SUCCEEDED), 0
    return Run.objects.create(organization=acme, status=RunStatus.SUCCEEDED), 1


# The database


def test_a_get_reads_the_token_with_its_user_and_the_run(api, token, owned):
    run, membership = owned
    with CaptureQueriesContext(connection) as sent:
        assert api.get(f"/{run.pk}", token=token).status_code == 200
    assert len(sent) == 2 + membership


@pytest.mark.plain
def test_a_deletion_of_a_users_run_is_one_statement_more(api, alice, token):
    run = Run.objects.create(user=alice, status=RunStatus.SUCCEEDED)
    with CaptureQueriesContext(connection) as sent:
        assert api.delete(f"/{run.pk}", token=token).status_code == 204
    assert len(sent) == 3


def test_a_deletion_under_a_lock_takes_a_bounded_number_of_statements(api, token, owned):
    # In the host's configuration, five kinds of rows hang on a run.
    run, membership = owned
    with CaptureQueriesContext(connection) as sent:
        assert api.delete(f"/{run.pk}", token=token).status_code == 204
    dependent = 5 if apps.is_installed("tests.host") else 0
    assert len(sent) <= 7 + 2 * membership + dependent


def test_a_list_reads_its_page_once_however_many_runs(api, alice, token, acme):
    join(alice, acme)
    for owner in ({"user": alice}, {"organization": acme}) * 3:
        Run.objects.create(**owner)
    with CaptureQueriesContext(connection) as sent:
        assert api.get(token=token).json()["data"]["total"] == 6
    assert len(sent) == 3  # the token, the organizations and the page


@pytest.mark.parametrize(
    ("query", "counts"),
    [
        ("limit=2", True),
        ("limit=2&offset=2", True),
        ("limit=2&offset=3", False),  # the last page ends where the runs end
        ("limit=5", False),
        ("limit=5&offset=5", True),  # an empty page does not say how many came before
    ],
)
def test_a_list_counts_only_what_its_page_does_not_tell(api, alice, token, query, counts):
    for _ in range(5):
        Run.objects.create(user=alice)
    with CaptureQueriesContext(connection) as sent:
        assert api.get(token=token, query=query).json()["data"]["total"] == 5
    assert len(sent) == 3 + counts


# The cache


class CountedCache(import_string(settings.CACHES["default"]["BACKEND"])):  # type: ignore[misc]
    """This configuration's cache, and what was asked of it, in ``commands``."""

    commands: list[str] = []


def _counted(name: str) -> Any:
    def method(self: CountedCache, *args: Any, **kwargs: Any) -> Any:
        self.commands.append(name)
        return getattr(super(CountedCache, self), name)(*args, **kwargs)

    return method


for name in ("add", "get", "set", "incr", "get_or_set", "get_many", "set_many", "touch"):
    setattr(CountedCache, name, _counted(name))


@pytest.fixture
def commands(settings: Any) -> list[str]:
    backend = f"{CountedCache.__module__}.CountedCache"
    settings.CACHES = {"default": {**settings.CACHES["default"], "BACKEND": backend}}
    CountedCache.commands.clear()
    return CountedCache.commands


def asked(commands: list[str], api: Any, method: str, path: str, token: str) -> int:
    """Return how many commands a request sends to the cache."""
    commands.clear()
    api(method, path, token=token)
    return len(commands)


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_each_limit_is_counted_by_two_commands_and_begun_by_one(api, token, commands, method):
    assert asked(commands, api, method, "/one", token) == 2
    assert asked(commands, api, method, "/other", token) == 3


def test_a_list_is_counted_for_its_caller_alone(api, token, commands):
    assert asked(commands, api, "GET", "", token) == 1
    assert asked(commands, api, "GET", "", token) == 2


def test_a_run_asked_for_again_within_its_window(api, token, commands, configure):
    configure(RUN_RATE_LIMIT="60/d")
    api.get("/one", token=token)
    assert asked(commands, api, "GET", "/one", token) == 4


def test_no_limits_ask_nothing_of_the_cache(api, token, commands, configure):
    configure(RATE_LIMIT=None, RUN_RATE_LIMIT=None)
    assert asked(commands, api, "GET", "/one", token) == 0
    assert asked(commands, api, "OPTIONS", "/one", token) == 0


@pytest.mark.django_db(transaction=True)
def test_a_thread_that_ends_leaves_no_connection_behind(token, alice):
    run = Run.objects.create(user=alice)
    connections_of_thread = []

    def serve() -> None:
        assert API().get(f"/{run.pk}", token=token).status_code == 200
        connections_of_thread.append(weakref.ref(connections["default"]))
        connections.close_all()

    thread = threading.Thread(target=serve)
    thread.start()
    thread.join()
    gc.collect()
    assert connections_of_thread[0]() is None
