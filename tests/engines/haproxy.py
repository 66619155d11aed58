"""HAProxy in front of a primary and its standby: connections go to the one that takes writes."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from tests.engines.postgresql import USER, PostgreSQL, postgresql_settings
from tests.engines.processes import Process, program
from tests.support.ports import free_port

# The check logs in, and reads from the answer whether the server is a standby: PostgreSQL 14
# and later say so by themselves.
CONFIGURATION = """\
global
    maxconn 1000
    stats socket {control}
defaults
    mode tcp
    timeout connect 3s
    timeout client 5m
    timeout server 5m
    timeout check 2s
listen primary
    bind 127.0.0.1:{port}
    option tcp-check
    tcp-check connect
    tcp-check send-binary {login}
    tcp-check expect binary {is_primary}
    default-server inter 200ms fall 2 rise 1 on-marked-down shutdown-sessions
{servers}
"""


def login_packet(user: str, database: str) -> bytes:
    """Return the first packet of PostgreSQL's protocol 3."""
    words = b"".join(
        word.encode() + b"\0" for pair in (("user", user), ("database", database)) for word in pair
    )
    body = (196608).to_bytes(4, "big") + words + b"\0"
    return (len(body) + 4).to_bytes(4, "big") + body


class HAProxy(Process):
    """One address for whichever of the servers is the primary."""

    def __init__(self, folder: Path, *servers: PostgreSQL) -> None:
        super().__init__(folder, "haproxy", "haproxy")
        self.port = free_port()
        self.control = self.folder / "control"
        lines = [f"    server {s.name} 127.0.0.1:{s.port} check" for s in servers]
        self.configuration = self.write(
            "haproxy.cfg",
            CONFIGURATION.format(
                port=self.port,
                control=self.control,
                login=login_packet(USER, "postgres").hex(),
                is_primary=b"in_hot_standby\0off\0".hex(),
                servers="\n".join(lines),
            ),
        )

    def up(self) -> None:
        # -db: in the foreground.
        self.start(program("haproxy"), "-db", "-f", str(self.configuration))
        self.wait_until_ready(self.has_found_the_standby)

    def has_found_the_standby(self) -> bool:
        """Whether the standby has failed its first check: until then HAProxy takes it for up."""
        try:
            with socket.socket(socket.AF_UNIX) as control:
                control.connect(str(self.control))
                control.sendall(b"show stat\n")
                return b",DOWN," in control.makefile("rb").read()
        except OSError:
            return False

    def settings(self, **more: Any) -> dict[str, Any]:
        return postgresql_settings(self.port, **more)
