"""PostgreSQL: a primary, and standbys made from it."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import psycopg

from tests.engines.processes import Process, program, wait_until
from tests.support.ports import free_port

USER = "postgres"
DATABASE = "eng_runs"


class PostgreSQL(Process):
    """A PostgreSQL cluster of Debian's newest installed version, without any password.

    ``options`` are settings of the server. Data survive ``kill``, which ends processes and not
    the machine, so nothing waits for a disk.
    """

    stop_signal = signal.SIGINT  # "fast": open transactions are rolled back

    def __init__(self, folder: Path, name: str, **options: str) -> None:
        super().__init__(folder, name, USER)
        self.port = free_port()
        self.options = {"fsync": "off", "max_connections": "200", **options}
        self.data = self.folder / "data"

    def create(self) -> PostgreSQL:
        """Initialize the cluster, start it, and make the database of the tests."""
        initdb = [program("initdb"), "--auth=trust", "--no-sync", f"--username={USER}"]
        self.run(*initdb, "--encoding=UTF8", "--locale=C", "-D", str(self.data))
        self.up()
        self.query(f"CREATE DATABASE {DATABASE}", database="postgres")
        return self

    def up(self) -> None:
        """Start the server, and wait until it answers."""
        options = [f"-c{name}={value}" for name, value in self.options.items()]
        where = ["-D", str(self.data), "-p", str(self.port), "-k", str(self.folder)]
        self.start(program("postgres"), *where, "-clisten_addresses=127.0.0.1", *options)
        self.wait_until_ready(self.answers)

    def answers(self) -> bool:
        try:
            return bool(self.query("SELECT 1", database="postgres"))
        except psycopg.OperationalError:
            return False

    def connect(self, database: str = DATABASE) -> psycopg.Connection[Any]:
        """Return a connection past any pooler or proxy."""
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=USER,
            dbname=database,
            autocommit=True,
            connect_timeout=5,
        )

    def query(self, sql: str, *parameters: Any, database: str = DATABASE) -> list[Any]:
        """Run one statement, and return its rows."""
        with self.connect(database) as connection:
            cursor = connection.execute(sql, parameters or None)
            return cursor.fetchall() if cursor.description else []

    def standby(
        self, folder: Path, name: str, *, synchronous: bool, port: int | None = None
    ) -> PostgreSQL:
        """Make a standby, start it, and return it.

        A synchronous one has every commit before its client is told: then a standby that is
        promoted lacks nothing that was answered. ``port`` is that of a server that is gone.
        """
        standby = PostgreSQL(folder, name, **self.options)
        standby.port = port or standby.port
        source = f"host=127.0.0.1 port={self.port} user={USER} application_name={name}"
        copy = [program("pg_basebackup"), "--write-recovery-conf", "--checkpoint=fast"]
        standby.run(*copy, "--no-sync", "-d", source, "-D", str(standby.data))
        standby.up()
        if synchronous:
            self.query(f"ALTER SYSTEM SET synchronous_standby_names = '{name}'")
            self.query("SELECT pg_reload_conf()")
        state = "sync" if synchronous else "async"
        replication = "SELECT 1 FROM pg_stat_replication WHERE state = 'streaming'"
        wait_until(
            lambda: self.query(f"{replication} AND sync_state = '{state}'"),
            f"{name} does not follow {self.name}",
        )
        return standby

    def promote(self) -> None:
        """Make a standby the primary, and wait until it takes writes."""
        self.query("SELECT pg_promote()")
        wait_until(
            lambda: not self.query("SELECT pg_is_in_recovery()")[0][0],
            f"{self.name} is not promoted",
        )

    def has_replayed(self, position: str) -> bool:
        """Whether a standby has applied the log up to ``position`` of its primary."""
        return self.query("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", position)[0][0]

    def position(self) -> str:
        return self.query("SELECT pg_current_wal_lsn()::text")[0][0]

    def terminate_connections(self, limit: int = 1000) -> int:
        """End up to ``limit`` connections of clients, as an administrator would."""
        return len(
            self.query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
                " AND datname = current_database() ORDER BY random() LIMIT %s",
                limit,
            )
        )

    def settings(self, **more: Any) -> dict[str, Any]:
        """Return what Django's ``DATABASES`` needs for a connection to this server."""
        return postgresql_settings(self.port, **more)


def postgresql_settings(
    port: int | str, host: str = "127.0.0.1", options: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    """Return settings for ``DATABASES`` as docs/how-to/engines.md says."""
    return {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": host,
        "PORT": str(port),
        "NAME": DATABASE,
        "USER": USER,
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {"connect_timeout": 3, **(options or {})},
        **more,
    }
