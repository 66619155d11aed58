"""What a request asks of the database and of the cache: exact, and the same on every database."""

from __future__ import annotations

import datetime
import re
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django.utils.module_loading import import_string
from rest_framework.authtoken.models import Token

from actor_runs.conf import conf
from actor_runs.models import Run, RunStatus
from tests.conftest import join, token_of

TABLE = re.compile(r'(?:FROM|INTO|UPDATE) ["`]?(\w+)')

TOKEN = f"SELECT {Token._meta.db_table}"
RUNS = f"SELECT {Run._meta.db_table}"
ORGANIZATIONS = f"SELECT {apps.get_model(conf.organization_model)._meta.db_table}"
DELETION = f"DELETE {Run._meta.db_table}"


def kinds(sent: CaptureQueriesContext) -> list[str]:
    """The statements as ``VERB table``, or ``VERB`` where there is no table."""
    kinds = []
    for statement in (query["sql"] for query in sent.captured_queries):
        table = TABLE.search(statement)
        kinds.append(statement.split()[0] + (f" {table[1]}" if table else ""))
    return kinds


@pytest.fixture
def token(alice: Any) -> str:
    return token_of(alice)


@pytest.fixture(params=["user", "organization"])
def owned(request: Any, alice: Any, acme: Any) -> tuple[Run, list[str]]:
    """A finished run of alice's or of her organization's, and what is asked for its owner."""
    join(alice, acme)
    if request.param == "user":
        return Run.objects.create(user=alice, status=RunStatus.SUCCEEDED), []
    return Run.objects.create(organization=acme, status=RunStatus.SUCCEEDED), [ORGANIZATIONS]


# The database


def test_a_get_reads_the_token_with_its_user_and_the_run(api, token, owned):
    run, membership = owned
    with CaptureQueriesContext(connection) as sent:
        assert api.get(f"/{run.pk}", token=token).status_code == 200
    assert kinds(sent) == [TOKEN, RUNS, *membership]


@pytest.mark.plain
def test_a_deletion_is_one_conditional_statement_more(api, token, owned):
    run, membership = owned
    with CaptureQueriesContext(connection) as sent:
        assert api.delete(f"/{run.pk}", token=token).status_code == 204
    assert kinds(sent) == [TOKEN, RUNS, *membership, DELETION]


@pytest.mark.host
def test_a_deletion_collects_under_a_lock_what_hangs_on_the_run(api, token, owned):
    run, membership = owned
    # SQLite has no lock for a row: its first write is one for all.
    lock = [] if connection.features.has_select_for_update else ["UPDATE actor_runs_run"]
    with CaptureQueriesContext(connection) as sent:
        assert api.delete(f"/{run.pk}", token=token).status_code == 204
    assert kinds(sent) == [
        *[TOKEN, RUNS, *membership],
        *["SAVEPOINT", *lock, RUNS],
        *["SELECT host_invoice", "SELECT host_archive"],
        *["DELETE host_note", "UPDATE host_bookmark", DELETION, "RELEASE"],
    ]


def test_a_list_reads_its_page_once_however_many_runs(api, alice, token, acme):
    join(alice, acme)
    for owner in ({"user": alice}, {"organization": acme}) * 3:
        Run.objects.create(**owner)
    with CaptureQueriesContext(connection) as sent:
        assert api.get(token=token).json()["data"]["total"] == 6
    assert kinds(sent) == [TOKEN, ORGANIZATIONS, RUNS]


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
    assert kinds(sent) == [TOKEN, ORGANIZATIONS, RUNS, *([RUNS] if counts else [])]


@pytest.mark.postgresql
@pytest.mark.parametrize(
    ("query", "index"),
    [("", "actor_runs_user"), ("&status=FAILED", "actor_runs_user_status")],
)
def test_the_newest_page_comes_from_its_index(api, alice, bob, token, query, index):
    start = timezone.now()
    runs = (
        Run(
            user=bob if number % 10 else alice,
            status=RunStatus.SUCCEEDED if number % 3 else RunStatus.FAILED,
            started_at=start + datetime.timedelta(seconds=number),
            finished_at=start + datetime.timedelta(seconds=number + 1),
        )
        for number in range(5000)
    )
    Run.objects.bulk_create(runs)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE actor_runs_run")
    with CaptureQueriesContext(connection) as sent:
        assert api.get(token=token, query=f"limit=100&desc=1{query}").status_code == 200
    page = next(sql["sql"] for sql in sent.captured_queries if "ORDER BY" in sql["sql"])
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {page}")
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert re.search(rf"Index Scan Backward using {index} ", plan), plan
    assert "Sort" not in plan


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


def asked(commands: list[str], api: Any, method: str, path: str, token: str) -> list[str]:
    commands.clear()
    api(method, path, token=token)
    return list(commands)


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_each_limit_is_counted_by_two_commands_and_begun_by_one(api, token, commands, method):
    assert asked(commands, api, method, "/one", token) == ["add", "add"]
    assert asked(commands, api, method, "/other", token) == ["add", "incr", "add"]


def test_a_list_is_counted_for_its_caller_alone(api, token, commands):
    assert asked(commands, api, "GET", "", token) == ["add"]
    assert asked(commands, api, "GET", "", token) == ["add", "incr"]


def test_a_run_asked_for_again_within_its_window(api, token, commands, configure):
    configure(RUN_RATE_LIMIT="60/d")
    api.get("/one", token=token)
    assert asked(commands, api, "GET", "/one", token) == ["add", "incr"] * 2


def test_no_limits_ask_nothing_of_the_cache(api, token, commands, configure):
    configure(RATE_LIMIT=None, RUN_RATE_LIMIT=None)
    assert asked(commands, api, "GET", "/one", token) == []
    assert asked(commands, api, "OPTIONS", "/one", token) == []
