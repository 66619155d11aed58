"""Servers in processes of their own, on the test's database, and requests to them."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.db import connection

ROOT = Path(__file__).resolve().parent.parent.parent
TIMEOUT = 30  # seconds, for an answer that never comes


def database_url(host: str = "", port: int = 0) -> str:
    """The URL of the test's database; of a relay to it, where ``host`` and ``port`` are given."""
    settings = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{settings['NAME']}"
    scheme = {"postgresql": "postgres", "mysql": "mysql"}[connection.vendor]
    who = f"{settings['USER']}:{settings['PASSWORD']}".rstrip(":")
    where = f"{host or settings['HOST']}:{port or settings['PORT']}"
    pool = "?pool=true" if settings["OPTIONS"].get("pool") else ""
    return f"{scheme}://{who}@{where}/{settings['NAME']}{pool}"


def environment(settings: dict[str, Any] | None = None, **variables: str) -> dict[str, str]:
    """The environment of a process on the test's database, with ``settings`` overridden."""
    return {
        **os.environ,
        "DATABASE_URL": database_url(),
        "SETTINGS": json.dumps(settings or {}),
        **variables,
    }


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The error's type, from an answer that is the envelope to the byte."""
        assert self.headers["Content-Type"] == "application/json", self
        (key, error), *rest = self.json.items()
        assert (key, set(error), rest) == ("error", {"type", "message"}, []), self
        return error["type"]


@dataclass
class Server:
    """A server that listens on ``port``."""

    port: int
    process: Any = None

    def request(
        self,
        method: str,
        path: str,
        token: str | None = None,
        body: Any = None,
        source: str = "127.0.0.1",
        **options: Any,
    ) -> Answer:
        """Send one request on a connection of its own; ``source`` is the client's address."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        headers |= options.pop("headers", {})
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.port, timeout=TIMEOUT, source_address=(source, 0)
        )
        with contextlib.closing(connection):
            connection.request(method, path, body, headers, **options)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())

    def get(self, run: Any, token: str | None = None, query: str = "", **options: Any) -> Answer:
        return self.request("GET", f"/v2/actor-runs/{run.pk}{query}", token, **options)

    def delete(self, run: Any, token: str | None, **options: Any) -> Answer:
        return self.request("DELETE", f"/v2/actor-runs/{run.pk}", token, **options)

    def workers(self) -> list[int]:
        """Process IDs of the server's workers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in children.read_text().split()]


@contextlib.contextmanager
def running(command: list[str], env: dict[str, str], **options: Any) -> Iterator[Any]:
    """A process group of its own, ended when the test is through with it."""
    # A test run that is killed must leave no servers behind.
    command = ["setpriv", "--pdeathsig", "TERM", *command]
    process = subprocess.Popen(command, cwd=ROOT, env=env, start_new_session=True, **options)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextlib.contextmanager
def serving(
    command: list[str], env: dict[str, str], listener: socket.socket | None = None
) -> Iterator[Server]:
    """A web server on a socket that listens already: requests wait for it, tests need not.

    ``{fd}`` in the command stands for the socket, by default one of IPv4.
    """
    with listener or socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        command = [word.format(fd=listener.fileno()) for word in command]
        with running(command, env, pass_fds=[listener.fileno()]) as process:
            yield Server(listener.getsockname()[1], process)


def gunicorn(
    workers: int = 4,
    threads: int = 4,
    env: dict[str, str] | None = None,
    listener: socket.socket | None = None,
) -> contextlib.AbstractContextManager[Server]:
    command = [sys.executable, "-m", "gunicorn", "--bind", "fd://{fd}", "--log-level", "error"]
    command += ["--workers", str(workers), "--threads", str(threads), "--graceful-timeout", "5"]
    return serving([*command, "tests.services.wsgi"], env or environment(), listener)


def uvicorn(
    workers: int = 1, env: dict[str, str] | None = None
) -> contextlib.AbstractContextManager[Server]:
    command = [sys.executable, "-m", "uvicorn", "--fd", "{fd}", "--log-level", "error"]
    command += ["--workers", str(workers), "--lifespan", "off"]
    return serving([*command, "project.asgi:application"], env or environment())
