"""Server processes, other processes beside them, and the account of what was raced."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import pytest
from django.conf import settings
from django.db import connection

from actor_runs.models import Run, RunStatus
from tests.services import other_side
from tests.services.announcements import Announcements
from tests.services.servers import Server, environment, gunicorn
from tests.support.people import token_of

# These tests start server processes: they are run by `make test-services`, with settings of
# their own, and are no part of the suite that needs no server.
collect_ignore_glob = [] if settings.SETTINGS_MODULE.startswith("tests.services") else ["test_*"]

ROUNDS = int(os.environ.get("RACE_ROUNDS", "100"))
AT_ONCE = 8

# How many statements wait for somebody else's lock. SQLite, where they try again and again,
# keeps no such account.
LOCK_WAITS = {
    "postgresql": "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)"
    " WHERE NOT granted AND datname = current_database()",
    "mysql": "SELECT variable_value + 0 FROM information_schema.global_status"
    " WHERE variable_name = 'INNODB_ROW_LOCK_CURRENT_WAITS'",
}

ACCOUNT: dict[str, Counter[str]] = {}


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say how often each race was run, and how it went."""
    if ACCOUNT:
        terminalreporter.section("races")
    for name, outcomes in ACCOUNT.items():
        counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
        terminalreporter.write_line(f"{name}: {counts}")


@pytest.fixture
def account(request: pytest.FixtureRequest) -> Counter[str]:
    """What this test counts for the summary at the end."""
    return ACCOUNT.setdefault(request.node.name, Counter())


@pytest.fixture(scope="module")
def server(django_db_setup: None) -> Iterator[Server]:
    """gunicorn, four processes with four threads each."""
    with gunicorn(env=environment()) as server:
        yield server


@pytest.fixture(scope="module")
def announcements(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Announcements]:
    announcements = Announcements(tmp_path_factory.mktemp("announcements") / "socket")
    yield announcements
    announcements.close()


@pytest.fixture(scope="module")
def announcing_server(django_db_setup: None, announcements: Announcements) -> Iterator[Server]:
    """A server that tells when a request is about to write."""
    with gunicorn(workers=1, env=environment(ANNOUNCE=announcements.path)) as server:
        yield server


@pytest.fixture(scope="module")
def client_threads() -> Iterator[ThreadPoolExecutor]:
    """Threads for requests over HTTP. None of them touches the database."""
    with ThreadPoolExecutor(2 * AT_ONCE) as threads:
        yield threads


@pytest.fixture(scope="module")
def other_processes(django_db_setup: None) -> Iterator[ProcessPoolExecutor]:
    """Processes of a host beside the server, for the functions of ``other_side``."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        4, context, initializer=other_side.set_up, initargs=(environment(),)
    ) as processes:
        # All of them up before anything is raced.
        list(processes.map(other_side.nothing, range(8)))
        yield processes


@pytest.fixture
def race(client_threads: ThreadPoolExecutor) -> Callable[..., list[Any]]:
    """A function that calls all its arguments at once, and returns what they return."""

    def race(*calls: Callable[[], Any]) -> list[Any]:
        start = threading.Barrier(len(calls))

        def one(call: Callable[[], Any]) -> Any:
            start.wait()
            return call()

        futures: list[Future[Any]] = [client_threads.submit(one, call) for call in calls]
        return [future.result() for future in futures]

    return race


@pytest.fixture
def people(transactional_db: None, alice: Any, bob: Any) -> None:
    """Alice and Bob, where other processes see them too."""


@pytest.fixture
def token(people: None, alice: Any) -> str:
    return token_of(alice)


@pytest.fixture
def finished(people: None, alice: Any) -> Callable[..., Run]:
    """A function that makes a finished run of alice's."""

    def finished(**fields: Any) -> Run:
        return Run.objects.create(user=alice, status=RunStatus.SUCCEEDED, **fields)

    return finished


class Hold:
    """The other side's open transaction, and a DELETE that arrives while it is open."""

    def __init__(self, server: Any, announcements: Any, threads: Any, token: str) -> None:
        self.server = server
        self.announcements = announcements
        self.threads = threads
        self.token = token

    def delete_arrives(self, run: Run) -> Any:
        """Send a DELETE, and return once it has read the run and wants to write."""
        self.announcements.forget()
        answer = self.threads.submit(self.server.delete, run, self.token)
        self.announcements.wait_for("write")
        if connection.vendor in LOCK_WAITS:
            with connection.cursor() as cursor:
                waiting = 0
                while not waiting and not answer.done():
                    cursor.execute(LOCK_WAITS[connection.vendor])
                    (waiting,) = cursor.fetchone()
        return answer


@pytest.fixture
def hold(announcing_server, announcements, client_threads, token):
    return Hold(announcing_server, announcements, client_threads, token)
