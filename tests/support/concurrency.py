"""Other threads that do something at the same time, or wait for a lock of the test's own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from django.db import connection, connections, transaction

TIMEOUT = 30  # seconds, for what never comes

# Sessions of this database that wait for somebody's lock. SQLite does not tell. MariaDB does, but
# not to whoever asks again within a tenth of a second: there, statements that do not end.
WAITING = {
    "postgresql": """
        SELECT COUNT(*) FROM pg_stat_activity, pg_stat_clear_snapshot()
        WHERE datname = current_database() AND wait_event_type = 'Lock'
    """,
    "mariadb": """
        SELECT COUNT(*) FROM information_schema.processlist
        WHERE db = DATABASE() AND id <> CONNECTION_ID() AND command = 'Query' AND time_ms > 100
    """,
    "mysql": "SELECT COUNT(*) FROM performance_schema.data_lock_waits",
}


class Concurrently:
    """What goes on in other threads, each with a database connection of its own."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self.pool = pool
        self.about_to_write = threading.Event()
        self._here = threading.get_ident()

    def watch(self, connection: Any, **kwargs: Any) -> None:
        if threading.get_ident() != self._here:
            connection.execute_wrappers.append(self._announce)

    def _announce(self, execute: Any, sql: str, *args: Any) -> Any:
        if not sql.lstrip().startswith("SELECT") or "FOR UPDATE" in sql:
            self.about_to_write.set()
        return execute(sql, *args)

    def start(self, call: Callable[[], Any]) -> Future[Any]:
        def with_a_connection_of_its_own() -> Any:
            try:
                return call()
            finally:
                connections.close_all()

        return self.pool.submit(with_a_connection_of_its_own)

    def start_and_wait_for_its_lock(self, call: Callable[[], Any]) -> Future[Any]:
        """Start ``call``; return once it waits for what this thread's transaction holds."""
        self.about_to_write.clear()
        future = self.start(call)
        assert self.about_to_write.wait(TIMEOUT)
        self.wait_until_blocked(future)
        return future

    def wait_until_blocked(self, future: Future[Any]) -> None:
        """Wait until the database says that somebody waits for a lock, or ``future`` is done."""
        is_mariadb = connection.vendor == "mysql" and connection.mysql_is_mariadb
        vendor = "mariadb" if is_mariadb else connection.vendor
        if vendor not in WAITING:
            return
        deadline = time.monotonic() + TIMEOUT
        with connection.cursor() as cursor:
            while not future.done():
                cursor.execute(WAITING[vendor])
                if cursor.fetchone()[0]:
                    return
                assert time.monotonic() < deadline
                time.sleep(0.01)  # the databases offer nothing to wait for

    def all_at_once(self, *calls: Callable[[], Any]) -> list[Any]:
        """Return what each call returned or raised."""
        barrier = threading.Barrier(len(calls))

        def at_the_same_time(call: Callable[[], Any]) -> Any:
            barrier.wait(TIMEOUT)
            try:
                return call()
            except Exception as exc:
                return exc

        futures = [self.start(lambda call=call: at_the_same_time(call)) for call in calls]
        return [future.result(TIMEOUT) for future in futures]


@contextmanager
def rolled_back() -> Iterator[None]:
    """Roll back what is done in the block."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)
