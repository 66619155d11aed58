"""MariaDB: one server, or the three nodes of a Galera cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import MySQLdb

from tests.engines.processes import Process, galera_library, program, wait_until
from tests.support.ports import free_port

USER = "mysql"
DATABASE = "eng_runs"
NODES = 3


class MariaDB(Process):
    """A MariaDB server without any password. ``options`` are the server's."""

    def __init__(self, folder: Path, name: str, *options: str) -> None:
        super().__init__(folder, name, USER)
        self.port = free_port()
        self.options = options
        self.data = self.folder / "data"

    def initialize(self) -> None:
        """Make the data of a new server."""
        words = [program("mariadb-install-db"), "--no-defaults", f"--datadir={self.data}"]
        words += ["--auth-root-authentication-method=normal", "--skip-test-db"]
        # Waits for no disk.
        self.run(*words, "--innodb-flush-method=nosync", "--innodb-log-file-size=16M")

    def create(self) -> MariaDB:
        """Initialize the server, start it, and make the database of the tests."""
        self.initialize()
        self.up()
        self.query(f"CREATE DATABASE {DATABASE} CHARACTER SET utf8mb4", database="")
        return self

    def up(self, *options: str) -> None:
        """Start the server, and wait until it answers."""
        words = [program("mariadbd"), "--no-defaults", f"--datadir={self.data}"]
        words += [f"--port={self.port}", "--bind-address=127.0.0.1", "--skip-name-resolve"]
        words += [f"--socket={self.folder / 'socket'}", f"--pid-file={self.folder / 'pid'}"]
        words += ["--innodb-flush-log-at-trx-commit=2", "--innodb-log-file-size=16M"]
        words += ["--innodb-buffer-pool-size=32M", "--max-connections=300"]
        self.start(*words, *self.options, *options)
        self.wait_until_ready(self.answers)

    def answers(self) -> bool:
        try:
            return bool(self.query("SELECT 1", database=""))
        except MySQLdb.OperationalError:
            return False

    def connect(self, database: str = DATABASE) -> Any:
        return MySQLdb.connect(
            host="127.0.0.1",
            port=self.port,
            user="root",
            database=database,
            connect_timeout=5,
            autocommit=True,
        )

    def query(self, sql: str, *parameters: Any, database: str = DATABASE) -> tuple[Any, ...]:
        """Run one statement, and return its rows."""
        with contextlib.closing(self.connect(database)) as connection:
            cursor = connection.cursor()
            cursor.execute(sql, parameters or None)
            return cursor.fetchall() if cursor.description else ()

    def terminate_connections(self, limit: int = 1000) -> int:
        """End up to ``limit`` connections of clients, as an administrator would."""
        with contextlib.closing(self.connect()) as connection:
            cursor = connection.cursor()
            cursor.execute(
                "SELECT id FROM information_schema.processlist WHERE db = DATABASE()"
                " AND id <> CONNECTION_ID() ORDER BY RAND() LIMIT %s",
                [limit],
            )
            numbers = [number for (number,) in cursor.fetchall()]
            for number in numbers:
                with contextlib.suppress(MySQLdb.Error):  # it ended by itself
                    cursor.execute("KILL %s", [number])
            return len(numbers)

    def settings(self, *variables: str, **more: Any) -> dict[str, Any]:
        """Return settings for ``DATABASES`` as docs/how-to/engines.md says."""
        variables = ("innodb_lock_wait_timeout=5", *variables)
        return {
            "ENGINE": "django.db.backends.mysql",
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "NAME": DATABASE,
            "USER": "root",
            "CONN_MAX_AGE": 60,
            "CONN_HEALTH_CHECKS": True,
            "OPTIONS": {"connect_timeout": 3, "init_command": f"SET {', '.join(variables)}"},
            **more,
        }


class GaleraNode(MariaDB):
    """One node of a cluster: every node takes writes."""

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__(folder, name)
        self.cluster_port = free_port()
        self.transfer_port = free_port()
        self.incremental_port = free_port()

    def configure(self, nodes: list[GaleraNode]) -> None:
        """Tell the node where the others are."""
        addresses = ",".join(f"127.0.0.1:{node.cluster_port}" for node in nodes)
        provider = [
            f"base_port={self.cluster_port}",
            f"gmcast.listen_addr=tcp://127.0.0.1:{self.cluster_port}",
            f"ist.recv_addr=127.0.0.1:{self.incremental_port}",
            "gcache.size=32M",
            # A node that is killed is out of the cluster after three seconds, not five.
            "evs.keepalive_period=PT0.5S",
            "evs.suspect_timeout=PT3S",
            "evs.inactive_timeout=PT5S",
        ]
        self.options = (
            "--binlog-format=ROW",
            "--innodb-autoinc-lock-mode=2",
            "--wsrep-on=ON",
            f"--wsrep-provider={galera_library()}",
            f"--wsrep-provider-options={';'.join(provider)}",
            "--wsrep-cluster-name=eng_runs",
            f"--wsrep-cluster-address=gcomm://{addresses}",
            f"--wsrep-node-address=127.0.0.1:{self.cluster_port}",
            f"--wsrep-node-name={self.name}",
            "--wsrep-sst-method=rsync",
            f"--wsrep-sst-receive-address=127.0.0.1:{self.transfer_port}",
        )

    def status(self, name: str) -> str:
        rows = self.query(f"SHOW STATUS LIKE 'wsrep_{name}'", database="")
        return rows[0][1] if rows else ""

    def answers(self) -> bool:
        """Whether the node is one of the cluster, and has all its data."""
        try:
            return self.status("local_state_comment") == "Synced"
        except MySQLdb.Error:
            return False

    def settings(self, *variables: str, **more: Any) -> dict[str, Any]:
        """As docs/how-to/engines.md says: what one node has committed, every node reads."""
        return super().settings("wsrep_sync_wait=7", *variables, **more)


@contextlib.contextmanager
def galera_cluster(folder: Path) -> Iterator[list[GaleraNode]]:
    """Three nodes that have the tests' database, and are ended at the end."""
    program("rsync")
    galera_library()
    with contextlib.ExitStack() as stack:
        nodes = [stack.enter_context(GaleraNode(folder, f"node{n + 1}")) for n in range(NODES)]
        for node in nodes:
            node.configure(nodes)
        first, *others = nodes
        first.initialize()
        first.up("--wsrep-new-cluster")
        first.query(f"CREATE DATABASE {DATABASE} CHARACTER SET utf8mb4", database="")
        for node in others:
            node.data.mkdir()
            node.own(node.data)
            node.up()
        wait_until(
            lambda: all(node.status("cluster_size") == str(NODES) for node in nodes),
            "the nodes do not find one another",
        )
        yield nodes
