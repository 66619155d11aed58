"""What every scenario needs: a folder, Django on an engine, servers of the app, and its rows."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.services.servers import Server, serving

SETTINGS = "tests.engines.settings"
WORKERS = 2
THREADS = 4


@dataclass
class Row:
    """One line of the table: an engine, what ran on it, and what came out."""

    engine: str
    what: str
    requests: int = 0
    unavailable: int = 0
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def check(self, is_right: bool, what: str) -> None:
        """Count a wrong outcome unless ``is_right``."""
        if not is_right:
            self.wrong.append(what)


class Stage:
    """One scenario at work."""

    def __init__(self, folder: Path, *, short: bool, settings: str = SETTINGS) -> None:
        self.folder = folder
        self.settings = settings
        self.short = short
        self.rows: list[Row] = []
        self.witness_log = folder / "witness.log"

    def rounds(self, number: int) -> int:
        """Return how many rounds to run, where the long form runs ``number``."""
        return max(3, number // 8) if self.short else number

    def report(self, row: Row) -> None:
        """Add a row to the table, and print it with what was wrong."""
        self.rows.append(row)
        print(
            f"{row.engine}: {row.what}: {row.requests} requests, {row.unavailable} unavailable, "
            f"{len(row.wrong)} wrong, {row.seconds:.1f} s",
            file=sys.stderr,
            flush=True,
        )
        for wrong in row.wrong[:10]:
            print(f"    wrong: {wrong}", file=sys.stderr, flush=True)

    def set_up_django(self, databases: dict[str, Any], **settings: Any) -> None:
        """Set Django up in this process, on these databases. Works once in a process."""
        os.environ["DJANGO_SETTINGS_MODULE"] = self.settings
        os.environ["SETTINGS"] = json.dumps({"DATABASES": databases, **settings})
        os.environ["WITNESS_LOG"] = str(self.witness_log)
        import django

        django.setup()

    def migrate(self, using: str = "default") -> None:
        from django.core.management import call_command

        call_command("migrate", verbosity=0, database=using)

    @contextlib.contextmanager
    def servers(
        self, *databases: dict[str, Any], workers: int = WORKERS, **settings: Any
    ) -> Iterator[list[Server]]:
        """Start a server on each of ``databases``; every second one runs without the witness.

        Where the witness listens the app deletes under a lock, elsewhere by one conditional
        statement. Both ways are raced with one another.
        """
        command = [
            sys.executable,
            "-m",
            "gunicorn",
            "--bind",
            "fd://{fd}",
            "--log-level",
            "critical",
        ]
        command += ["--workers", str(workers), "--threads", str(THREADS)]
        command += ["--graceful-timeout", "5", "tests.engines.wsgi"]
        with contextlib.ExitStack() as stack:
            servers = []
            for number, each in enumerate(databases):
                env = {
                    **os.environ,
                    "DJANGO_SETTINGS_MODULE": self.settings,
                    "SETTINGS": json.dumps({"DATABASES": each, **settings}),
                    "WITNESS_LOG": str(self.witness_log),
                }
                if number % 2:
                    del env["WITNESS_LOG"]
                servers.append(stack.enter_context(serving(command, env)))
            for server in servers:
                # It listens before its workers can answer.
                server.request("OPTIONS", "/v2/actor-runs")
            yield servers

    def as_json(self) -> str:
        return json.dumps([asdict(row) for row in self.rows])
