"""What is broken while the clients work."""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections import Counter
from collections.abc import Callable

import MySQLdb
import psycopg

from tests.history.databases import Database
from tests.services.servers import Server

PAUSES = (0.3, 1.5)  # seconds between two faults at least, from and to
OPERATIONS_BETWEEN = 100  # at least, so that a slow machine is not always broken


def kill_worker(servers: list[Server]) -> None:
    """Kill a worker of a server, whose own process starts another."""
    workers = random.choice(servers).workers()
    if workers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(random.choice(workers), signal.SIGKILL)


def break_things(
    database: Database,
    servers: list[Server],
    injected: Counter[str],
    done: Callable[[], int],
    operations: int,
    is_over: Callable[[float], bool],
) -> None:
    """Break one thing after the other until ``is_over``, which waits for so many seconds.

    ``done`` returns how many of the ``operations`` are done. The rare faults are spread over
    them; a frequent one follows whenever enough operations were done. ``injected`` counts all.
    """
    frequent = {**database.frequent, "workers killed": lambda: kill_worker(servers)}
    rare = list(database.rare)
    repairs: list[Callable[[], None]] = []
    last = 0
    while not is_over(random.uniform(*PAUSES)):
        due = operations * (1 - len(rare) / (len(database.rare) + 1))
        if repairs:
            repairs.pop()()
        elif done() < last + OPERATIONS_BETWEEN:
            continue
        elif rare and done() >= due:
            name, fault, repair = rare.pop(0)
            fault()
            injected[name] += 1
            repairs.append(repair)
        else:
            name = random.choice(list(frequent))
            # A server that starts just now has no connections to end.
            with contextlib.suppress(ConnectionError, MySQLdb.Error, psycopg.Error):
                frequent[name]()
                injected[name] += 1
        last = done()
    for repair in repairs:
        repair()
