"""PgBouncer in front of a PostgreSQL server, set as docs/how-to/engines.md says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.engines.postgresql import USER, PostgreSQL, postgresql_settings
from tests.engines.processes import Process, accepts_connections, program
from tests.support.ports import free_port

SERVER_CONNECTIONS = 4
QUERY_WAIT_TIMEOUT = 4  # seconds that a request waits for one of the connections

CONFIGURATION = """\
[databases]
* = host=127.0.0.1 port={server.port}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {users}
pool_mode = transaction
default_pool_size = {size}
max_client_conn = 500
query_wait_timeout = {query_wait_timeout}
server_login_retry = 1
server_connect_timeout = 3
ignore_startup_parameters = {ignored}
"""


class PgBouncer(Process):
    """A pool of four server connections, each lent for one transaction."""

    def __init__(
        self, folder: Path, server: PostgreSQL, name: str = "pgbouncer", ignored: str = ""
    ) -> None:
        """``ignored`` are startup parameters that it drops without a word."""
        super().__init__(folder, name, USER)
        self.port = free_port()
        users = self.write("users", f'"{USER}" ""\n')
        self.configuration = self.write(
            "pgbouncer.ini",
            CONFIGURATION.format(
                server=server,
                port=self.port,
                users=users,
                size=SERVER_CONNECTIONS,
                query_wait_timeout=QUERY_WAIT_TIMEOUT,
                ignored=ignored,
            ),
        )

    def up(self) -> None:
        self.start(program("pgbouncer"), str(self.configuration))
        self.wait_until_ready(lambda: accepts_connections(self.port))

    def settings(self, **more: Any) -> dict[str, Any]:
        return postgresql_settings(self.port, DISABLE_SERVER_SIDE_CURSORS=True, **more)
