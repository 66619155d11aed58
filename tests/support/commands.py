"""The app's commands: in this process, or in processes of their own on the test's database."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

from django.core.management import CommandError, call_command

from tests.hosts.follow import read
from tests.services.servers import database_url

ROOT = Path(__file__).resolve().parent.parent.parent
TIMEOUT = 60  # seconds, for what never comes

# Prints the most memory that the process had so far, in MiB. Not ru_maxrss, which begins with what
# the process had that started this one.
PRINT_MEMORY = """
import pathlib, re
status = pathlib.Path("/proc/self/status").read_text()
print(int(re.search(r"VmHWM:\\s+(\\d+)", status)[1]) // 1024)
"""


def without_time(lines: str) -> str:
    """Return the last of the lines that a command wrote, but for the time that the work took."""
    return lines.splitlines()[-1].rpartition(" (")[0]


class Outcome:
    """What a command writes in this process, and the exit status of a process that it ends."""

    def __init__(self, command: str, *arguments: str, **options: Any) -> None:
        out, err = StringIO(), StringIO()
        self.status = 0
        try:
            call_command(command, *arguments, **{"stdout": out, "stderr": err, **options})
        except CommandError as exc:
            self.status = exc.returncode
            err.write(f"{exc}\n")
        self.out, self.err = out.getvalue(), err.getvalue()

    @property
    def figures(self) -> str:
        return without_time(self.out)


def last_line(command: str, *arguments: str, **options: Any) -> str:
    """Run a command in this process; return its last line, but for the time that it took."""
    out = StringIO()
    call_command(command, *arguments, stdout=out, **options)
    return without_time(out.getvalue())


def shown_on_a_terminal(command: str, *arguments: str) -> tuple[int, str]:
    """Run a command in this process; return its exit status, and what a terminal shows of it."""
    primary, secondary = pty.openpty()
    with open(secondary, "w") as terminal:
        status = Outcome(command, *arguments, stdout=terminal).status
    shown = ""
    while chunk := read(primary):
        shown += chunk
    os.close(primary)
    return status, shown


def environment(**variables: str) -> dict[str, str]:
    """The environment of a process on the test's database, in this configuration."""
    return {
        **os.environ,
        "DATABASE_URL": database_url(),
        "PYTHONUNBUFFERED": "1",
        "PYTHONWARNINGS": "error",
        **variables,
    }


def manage(*arguments: str, stdin: str | None = None, **variables: str) -> Any:
    """Run a management command; return its ``returncode``, ``stdout`` and ``stderr``."""
    command = [sys.executable, "-m", "django", *arguments]
    return _run(command, stdin, variables)


def python(code: str, *arguments: str, **variables: str) -> Any:
    """Run ``code`` once Django is set up; return the same as ``manage``."""
    code = f"import django; django.setup()\n{code}"
    return _run([sys.executable, "-c", code, *arguments], None, variables)


def _run(command: list[str], stdin: str | None, variables: dict[str, str]) -> Any:
    return subprocess.run(
        command,
        cwd=ROOT,
        env=environment(**variables),
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        timeout=300,
    )
