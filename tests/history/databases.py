"""The databases that a history is made on, and how each of them can fail meanwhile."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.engines.mariadb import MariaDB, galera_cluster
from tests.engines.postgresql import PostgreSQL
from tests.engines.scenarios.replication import both

Fault = Callable[[], None]
AT_ONCE = 6  # connections that are ended at a time, at most


@dataclass
class Database:
    """Where clients and servers connect to, in turn, and what can be broken.

    ``frequent`` faults happen all the time; ``rare`` ones one after the other over the history,
    and each is repaired after a while.
    """

    connections: list[dict[str, Any]]
    frequent: dict[str, Fault] = field(default_factory=dict)
    rare: list[tuple[str, Fault, Fault]] = field(default_factory=list)


@contextlib.contextmanager
def postgresql(folder: Path) -> Iterator[Database]:
    """PostgreSQL with a synchronous standby, which is promoted; twice, with a new standby."""
    with contextlib.ExitStack() as stack:
        primary = stack.enter_context(PostgreSQL(folder, "primary").create())
        standby = primary.standby(folder, "standby", synchronous=True)
        servers = [primary, stack.enter_context(standby)]

        def end_connections() -> None:
            servers[0].terminate_connections(random.randint(1, AT_ONCE))

        def fail_over() -> None:
            old, new = servers
            old.kill()
            new.promote()
            servers[:] = [new, old]

        def make_standby() -> None:
            # Where clients look for the old one.
            name = f"standby{len(list(folder.iterdir()))}"
            new = servers[0].standby(folder, name, synchronous=True, port=servers[1].port)
            servers[1] = stack.enter_context(new)

        yield Database(
            [both(primary, standby)],
            {"connections ended": end_connections},
            [("primaries killed, standbys promoted", fail_over, make_standby)] * 2,
        )


@contextlib.contextmanager
def mariadb(folder: Path) -> Iterator[Database]:
    """MariaDB, which is killed and started again."""
    with MariaDB(folder, "mariadb").create() as server:

        def end_connections() -> None:
            server.terminate_connections(random.randint(1, AT_ONCE))

        yield Database(
            [server.settings()],
            {"connections ended": end_connections},
            [("servers killed and started", server.kill, server.up)] * 2,
        )


@contextlib.contextmanager
def sqlite(folder: Path) -> Iterator[Database]:
    """SQLite as docs/how-to/deployment.md says; clients wait for one another, however long."""
    yield Database(
        [
            {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": str(folder / "runs.sqlite3"),
                "OPTIONS": {
                    "transaction_mode": "IMMEDIATE",
                    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF",
                    "timeout": 20,
                },
            }
        ]
    )


@contextlib.contextmanager
def galera(folder: Path) -> Iterator[Database]:
    """Three nodes that all take writes; each is killed once, and comes back."""
    with galera_cluster(folder) as nodes:

        def end_connections() -> None:
            node = random.choice([node for node in nodes if node.is_running])
            node.terminate_connections(random.randint(1, AT_ONCE))

        yield Database(
            [node.settings() for node in nodes],
            {"connections ended": end_connections},
            [("nodes killed and started", node.kill, node.up) for node in nodes],
        )


DATABASES = {
    "postgresql": postgresql,
    "mariadb": mariadb,
    "sqlite": sqlite,
    "galera": galera,
}
