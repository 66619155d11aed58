"""The demo project as a real server: a process of its own, a free port, its own database file."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.ports import free_port

ROOT = Path(__file__).resolve().parent.parent.parent
LAST_LINE_BEFORE_SERVING = "Quit the server with "


@dataclass
class DemoServer:
    """The demo, served in a process. ``printed`` is its output, ``folder`` has its database."""

    site: str
    printed: str
    folder: Path

    @property
    def api(self) -> str:
        return f"{self.site}/v2/actor-runs"

    @contextmanager
    def database(self) -> Iterator[sqlite3.Connection]:
        """A connection to its database, beside the server's own."""
        file = self.folder / "demo.sqlite3"
        with closing(sqlite3.connect(file, timeout=20)) as connection, connection:
            yield connection

    @contextmanager
    def as_it_was(self) -> Iterator[None]:
        """Restore its data at the end of the block."""
        with closing(sqlite3.connect(":memory:")) as copy:
            with self.database() as database:
                database.backup(copy)
            yield
            with self.database() as database:
                copy.backup(database)


def demo_environment(folder: Path) -> dict[str, str]:
    """Return the environment of the demo project with its database in ``folder``."""
    return os.environ | {
        "DATABASE_URL": f"sqlite:///{folder / 'demo.sqlite3'}",
        "DJANGO_SETTINGS_MODULE": "project.settings",
        "PYTHONUNBUFFERED": "1",
        "PYTHONWARNINGS": "error",
    }


@contextmanager
def demo_server(folder: Path) -> Iterator[DemoServer]:
    """Run ``manage.py demo`` while the block lasts. Its log is ``server.log`` in ``folder``."""
    port = free_port()
    with (
        (folder / "server.log").open("ab") as log,
        subprocess.Popen(
            [sys.executable, "manage.py", "demo", "--port", str(port)],
            cwd=ROOT,
            env=demo_environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as process,
    ):
        try:
            printed = ""
            assert process.stdout is not None
            # It is bound when it says so: requests wait for it from then on.
            for line in process.stdout:
                printed += line
                if line.startswith(LAST_LINE_BEFORE_SERVING):
                    break
            else:
                raise RuntimeError(printed + (folder / "server.log").read_text())
            yield DemoServer(f"http://127.0.0.1:{port}", printed, folder)
        finally:
            process.terminate()
