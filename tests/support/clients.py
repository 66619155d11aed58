"""Calls of the official clients, made in a child process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from tests.support.demo_server import ROOT


class Raised(Exception):
    """What the client raised: its name, and the status, type and message of the answer."""


class Client:
    """The Python client in one ``form``, sync or async, with ``token`` unless another is named.

    ``retries`` are how often it tries again where an answer says that a later one may be another.
    """

    def __init__(self, process: Any, form: str, token: str, retries: int = 8) -> None:
        self.process = process
        self.options = {"form": form, "token": token, "retries": retries}

    def __call__(self, method: str, run: str | None = None, **options: Any) -> Any:
        self.send(method, run, **options)
        return self.receive()

    def send(self, method: str, run: str | None = None, **arguments: Any) -> None:
        options = {name: arguments.pop(name, value) for name, value in self.options.items()}
        call = {"method": method, "run": run, **options, "arguments": arguments}
        self.process.stdin.write(json.dumps(call) + "\n")
        self.process.stdin.flush()

    def receive(self) -> Any:
        report = json.loads(self.process.stdout.readline())
        if "raised" in report:
            raise Raised(*report["raised"])
        return report["result"]

    def ids(self, **arguments: Any) -> list[str]:
        return [item["id"] for item in self("list", **arguments)["items"]]


def client_process(url: str) -> AbstractContextManager[Any]:
    """Run a process in which the Python client makes calls to ``url`` while the block lasts."""
    return piped([sys.executable, "-m", "tests.support.client_process", url], ROOT)


@contextmanager
def piped(command: list[str], folder: Path) -> Iterator[Any]:
    """Run a process that reads calls and writes reports, a line each, while the block lasts."""
    with subprocess.Popen(
        command,
        cwd=folder,
        # Some errors show only where local time is not UTC.
        env=os.environ | {"TZ": "Asia/Kolkata"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.stdin.close()
        assert process.wait() == 0
