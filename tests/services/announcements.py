"""How a server process tells the test what it is about to do, so that the test can wait for it.

``ANNOUNCE`` in the process's environment is the path of the test's socket.
"""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path
from typing import Any

from django.db.backends.signals import connection_created

TIMEOUT = 30  # seconds, for an announcement that never comes


def announce(words: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(words.encode(), os.environ["ANNOUNCE"])


def announce_writes(**kwargs: Any) -> None:
    """Announce each statement that locks or changes runs, before the database gets it.

    Whatever the request read and checked ahead of its deletion, it has read by then.
    """
    wrappers = kwargs["connection"].execute_wrappers
    if _announce_write not in wrappers:
        wrappers.append(_announce_write)


def _announce_write(execute: Any, sql: str, *args: Any) -> Any:
    is_write = sql.startswith(("UPDATE", "DELETE")) or "FOR UPDATE" in sql
    # SQLite may take its one lock when the transaction begins.
    if (is_write and "actor_runs_run" in sql) or sql == "BEGIN IMMEDIATE":
        announce("write")
    return execute(sql, *args)


def announce_writes_if_asked() -> None:
    if "ANNOUNCE" in os.environ:
        connection_created.connect(announce_writes)


class Announcements:
    """The test's end."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._socket.settimeout(TIMEOUT)

    def wait_for(self, beginning: str) -> str:
        """Wait for an announcement that begins so, and return the rest of it."""
        while True:
            words = self._socket.recv(1024).decode()
            if words.startswith(beginning):
                return words[len(beginning) :]

    def forget(self) -> None:
        """Drop what was announced and not waited for."""
        self._socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                self._socket.recv(1024)
        self._socket.settimeout(TIMEOUT)

    def close(self) -> None:
        self._socket.close()
