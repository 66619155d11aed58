"""The types that a host's own module sees, by mypy with django-stubs and by pyright without."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

HOST = Path(__file__).with_name("typed.py")
MISTAKES = {
    number
    for number, line in enumerate(HOST.read_text().splitlines(), start=1)
    if line.endswith("# mistake")
}


def errors(*command: str) -> set[int]:
    """Return the numbers of the lines of the host's module that have an error."""
    done = subprocess.run(
        [sys.executable, "-m", *command, str(HOST)], capture_output=True, text=True, check=False
    )
    found = re.findall(rf"{HOST.name}:(\d+).*error", done.stdout)
    assert found, done.stdout + done.stderr
    return {int(number) for number in found}


def test_mypy_finds_the_mistakes_of_a_host_and_nothing_else():
    assert errors("mypy", "--strict", "--no-incremental") == MISTAKES


def test_pyright_finds_the_mistakes_of_a_host_and_nothing_else():
    assert errors("pyright", "--pythonpath", sys.executable) == MISTAKES
