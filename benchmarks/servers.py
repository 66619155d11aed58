"""The server processes of the benchmarks: start, stop, send load, and read their CPU time."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.databases import ROOT

TICKS = os.sysconf("SC_CLK_TCK")
THREADS = 8  # of a process, as docs/how-to/deployment.md has it
CLIENTS = 4


class Load(NamedTuple):
    """What one run of wrk did."""

    sent: int  # with those whose answers it did not wait for, at the end
    per_second: float
    p50: float  # milliseconds
    p99: float


def require_programs() -> None:
    """Exit with one line if a program is not installed."""
    for program in ("redis-server", "wrk"):
        if shutil.which(program) is None:
            sys.exit(f"{program} is not installed, and the benchmark needs it.")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port: int) -> None:
    for _ in range(300):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    sys.exit(f"Nothing listens on port {port}.")


@contextlib.contextmanager
def started(command: list[str], port: int, env: dict[str, str]) -> Iterator[subprocess.Popen]:
    """Start a server in a process group of its own, and stop it at the end."""
    process = subprocess.Popen(  # noqa: S603
        command, env=env, cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL
    )
    try:
        wait_for(port)
        yield process
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


@contextlib.contextmanager
def started_redis() -> Iterator[int]:
    """Start a Redis server that keeps nothing on disk; yield its port."""
    port = free_port()
    command = ["redis-server", "--port", str(port), "--save", "", "--bind", "127.0.0.1"]
    with started(command, port, dict(os.environ)):
        yield port


def server_command(module: str, port: int, threads: int = THREADS) -> list[str]:
    """Return the command that serves a module of ``benchmarks.peers`` with one process.

    Without ``threads`` it answers one request at a time, in its main thread.
    """
    if module == "fastapi_sqlalchemy":
        target = f"benchmarks.peers.{module}:application"
        options = ["--host", "127.0.0.1", "--port", str(port), "--no-access-log"]
        return [sys.executable, "-m", "uvicorn", target, "--log-level", "warning", *options]
    options = ["--bind", f"127.0.0.1:{port}", "--workers", "1", "--log-level", "warning"]
    if threads:
        options += ["--worker-class", "gthread", "--threads", str(threads), "--keep-alive", "60"]
    return [sys.executable, "-m", "gunicorn", *options, "benchmarks.wsgi"]


def cpu_seconds(group: int) -> float:
    """Return the user and system time of all processes of a process group, in seconds."""
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[2]) == group:
                total += int(fields[11]) + int(fields[12])
    return total / TICKS


def settled_cpu_seconds(group: int) -> float:
    """Return the same once the processes have nothing left to do."""
    before, now = -1.0, cpu_seconds(group)
    while now > before:
        time.sleep(0.15)
        before, now = now, cpu_seconds(group)
    return now


def load(
    port: int, operation: str, first: int, runs: int, seconds: int, clients: int = CLIENTS
) -> Load:
    """Send requests with wrk. Exits when an answer is not as expected.

    ``operation`` is one of those that load.lua knows; ``first`` is the number of the first run,
    out of ``runs``.
    """
    env = os.environ | {"OPERATION": operation.upper(), "FIRST": str(first), "RUNS": str(runs)}
    script = str(ROOT / "benchmarks" / "load.lua")
    command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "30s", "-s", script]
    command.append(f"http://127.0.0.1:{port}")
    output = subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout  # noqa: S603
    line = next(line for line in output.splitlines() if line.startswith("RESULT"))
    sent, requests, duration, wrong, p50, p99 = map(int, line.split()[1:])
    if not requests:
        sys.exit(f"No {operation} was answered: {seconds} seconds are too few for this machine.")
    if wrong:
        sys.exit(f"{wrong} of {requests} answers to {operation} were not as expected.")
    return Load(sent, requests / (duration / 1e6), p50 / 1000, p99 / 1000)
