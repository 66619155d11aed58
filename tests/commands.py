"""The app's commands and other work on runs, in processes of their own on the test's database."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.services.servers import database_url

ROOT = Path(__file__).resolve().parent.parent


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
