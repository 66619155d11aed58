"""What a request costs, in CPU time of the server's processes, beside what a team would write.

    python -m benchmarks.bench_http [--rounds 5] [--seconds 3] [--peers NAME ...]

Needs PostgreSQL (DATABASE_URL of a server where a database may be made), redis-server and wrk.
Starts one server process for each peer, warms it up, and lets the peers take turns, so that
whatever else the machine does meets all of them. CPU time is the operating system's account of
the processes, user and system together: unlike wall time, it does not mind who else is at work.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import psycopg
import redis

ROOT = Path(__file__).resolve().parent.parent
DATABASE = "actor_runs_bench"
TOKENS = {"get": "bench-token-many", "delete": "bench-token-many", "list": "bench-token-list"}
RUNS = 30_000
OPERATIONS = ("get", "list", "delete")
TICKS = os.sysconf("SC_CLK_TCK")

PEERS = {
    # name: (module, rate limits on)
    "plain Django, SQL": ("plain_django", False),
    "actor_runs": ("actor_runs_app", True),
    "actor_runs, no limits": ("actor_runs_app", False),
    "REST framework by hand": ("drf_modelviewset", True),
    "django-ninja": ("ninja", False),
    "FastAPI, SQLAlchemy": ("fastapi_sqlalchemy", False),
}

FILL = """
TRUNCATE actor_runs_run, authtoken_token, auth_user, auth_user_groups CASCADE;
INSERT INTO auth_user (id, username, password, is_superuser, is_staff, is_active, first_name,
                       last_name, email, date_joined)
    SELECT n, 'bench' || n, '', false, false, true, '', '', '', now()
    FROM generate_series(1, 2) n;
INSERT INTO authtoken_token (key, user_id, created)
    VALUES ('bench-token-many', 1, now()), ('bench-token-list', 2, now());
"""
FILL_RUNS = """
INSERT INTO actor_runs_run (
    id, user_id, status, started_at, finished_at, act_id, actor_task_id, build_id, build_number,
    exit_code, status_message, general_access, default_key_value_store_id, default_dataset_id,
    default_request_queue_id, container_url, git_branch_name, meta, options, stats, usage,
    usage_usd, usage_total_usd, platform_usage_billing_model, version
) SELECT
    %(prefix)s || lpad(n::text, 12, '0'), %(user)s, 'SUCCEEDED',
    '2026-01-01Z'::timestamptz + n * interval '1 second',
    '2026-01-01Z'::timestamptz + n * interval '2 seconds',
    'HDSasDasz78YcAPEB', '', '7sT5jcggjjA9fNcxF', '0.1.2', 0, 'Done.', 'RESTRICTED',
    'eJNzqsbPiopwJcgGQ', 'wmKPijuyDnPZAPRMk', 'FL35cSF7jrxr3BY39', '', 'master',
    '{"origin": "API", "clientIp": "198.51.100.7", "userAgent": "ApifyClient"}',
    '{"build": "latest", "timeoutSecs": 300, "memoryMbytes": 1024, "diskMbytes": 2048}',
    '{"inputBodyLen": 240, "restartCount": 0, "resurrectCount": 0, "memAvgBytes": 267874071.9,
      "memMaxBytes": 404713472, "cpuAvgUsage": 33.7532101107538, "netRxBytes": 103508042,
      "netTxBytes": 4854600, "durationMillis": 248472, "runTimeSecs": 248.472, "metamorph": 0,
      "computeUnits": 0.13804}',
    '{"ACTOR_COMPUTE_UNITS": 3, "DATASET_WRITES": 4}', '{"ACTOR_COMPUTE_UNITS": 0.0003}', 0.2654,
    'USER', 2
FROM generate_series(0, %(count)s - 1) n ON CONFLICT DO NOTHING;
"""


@dataclass
class Figures:
    """What was measured of one peer at one operation, a value for each round."""

    cpu: list[float] = field(default_factory=list)  # microseconds for a request
    per_second: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)  # milliseconds
    p99: list[float] = field(default_factory=list)
    commands: list[float] = field(default_factory=list)  # cache commands for a request


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
    """A server of its own process group, stopped at the end."""
    process = subprocess.Popen(  # noqa: S603
        command, env=env, cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL
    )
    try:
        wait_for(port)
        yield process
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def server_command(module: str, port: int) -> list[str]:
    if module == "fastapi_sqlalchemy":
        target = f"benchmarks.peers.{module}:application"
        options = ["--host", "127.0.0.1", "--port", str(port), "--no-access-log"]
        return [sys.executable, "-m", "uvicorn", target, "--log-level", "warning", *options]
    options = ["--bind", f"127.0.0.1:{port}", "--workers", "1", "--threads", "4"]
    options += ["--worker-class", "gthread", "--keep-alive", "60", "--log-level", "warning"]
    return [sys.executable, "-m", "gunicorn", *options, "benchmarks.wsgi"]


def cpu_seconds(group: int) -> float:
    """User and system time of all processes of a process group, in seconds."""
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[2]) == group:
                total += int(fields[11]) + int(fields[12])
    return total / TICKS


def load(port: int, operation: str, first: int, seconds: int) -> tuple[int, float, float, float]:
    """Run wrk; return requests, requests a second, p50 and p99 in milliseconds."""
    env = os.environ | {
        "OPERATION": operation,
        "FIRST": str(first),
        "RUNS": str(RUNS),
        "TOKEN": TOKENS[operation],
    }
    command = ["wrk", "-t1", "-c4", f"-d{seconds}s", "-s", str(ROOT / "benchmarks" / "load.lua")]
    command.append(f"http://127.0.0.1:{port}")
    output = subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout  # noqa: S603
    line = next(line for line in output.splitlines() if line.startswith("RESULT"))
    requests, duration, wrong, p50, p99 = map(int, line.split()[1:])
    if wrong:
        sys.exit(f"{wrong} of {requests} answers to {operation} were not as expected.")
    return requests, requests / (duration / 1e6), p50 / 1000, p99 / 1000


def measure(rounds: int, seconds: int, names: list[str], url: str) -> dict[str, dict]:
    figures = {name: {operation: Figures() for operation in OPERATIONS} for name in names}
    with contextlib.ExitStack() as stack:
        redis_port = free_port()
        command = ["redis-server", "--port", str(redis_port), "--save", "", "--bind", "127.0.0.1"]
        stack.enter_context(started(command, redis_port, dict(os.environ)))
        counter = redis.Redis(port=redis_port)
        env = os.environ | {"DATABASE_URL": url, "REDIS_URL": f"redis://127.0.0.1:{redis_port}/0"}
        database = stack.enter_context(psycopg.connect(url, autocommit=True))
        servers = {}
        for name in names:
            module, limits = PEERS[name]
            port = free_port()
            peer_env = env | {"PEER": module, "LIMITS": str(int(limits))}
            server = started(server_command(module, port), port, peer_env)
            servers[name] = port, stack.enter_context(server)
        first = 0
        for number in range(-1, rounds):  # the first one warms up
            for operation in OPERATIONS:
                for name in names:
                    port, process = servers[name]
                    refill(database)
                    # Elsewhere than the round before, whose last requests may still be at work.
                    first = (first + RUNS // 3 + 1) % RUNS
                    before = cpu_seconds(process.pid)
                    commands = counter.info("stats")["total_commands_processed"]
                    requests, rate, p50, p99 = load(port, operation, first, seconds)
                    commands = counter.info("stats")["total_commands_processed"] - commands - 1
                    if number >= 0:
                        of = figures[name][operation]
                        of.cpu.append((cpu_seconds(process.pid) - before) / requests * 1e6)
                        of.per_second.append(rate)
                        of.p50.append(p50)
                        of.p99.append(p99)
                        of.commands.append(commands / requests)
    return figures


def refill(database: psycopg.Connection) -> None:
    database.execute(FILL_RUNS, {"prefix": "bench", "user": 1, "count": RUNS})


def prepare(server_url: str) -> str:
    """Make the database anew; return its URL."""
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
        connection.execute(f"CREATE DATABASE {DATABASE}")
    url = f"{server_url.rpartition('/')[0]}/{DATABASE}"
    env = os.environ | {"DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": "benchmarks.settings"}
    command = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
    subprocess.run(command, cwd=ROOT, env=env, check=True)  # noqa: S603
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(FILL)
        connection.execute(FILL_RUNS, {"prefix": "lists", "user": 2, "count": 1000})
        refill(connection)
        connection.execute("ANALYZE")
    return url


def table(figures: dict[str, dict], names: list[str]) -> Iterator[str]:
    """The table, in Markdown: medians, and ratios to the first peer with their spread."""
    yield "| | operation | CPU/request | ratio | spread | requests/s | p50 | p99 | cache commands |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    for operation in OPERATIONS:
        unit = figures[names[0]][operation].cpu
        for name in names:
            of = figures[name][operation]
            ratios = [cpu / one for cpu, one in zip(of.cpu, unit, strict=True)]
            yield (
                f"| {name} | {operation.upper()} | {statistics.median(of.cpu):.0f} µs "
                f"| **{statistics.median(ratios):.2f}** | {min(ratios):.2f} to {max(ratios):.2f} "
                f"| {statistics.median(of.per_second):.0f} | {statistics.median(of.p50):.1f} ms "
                f"| {statistics.median(of.p99):.1f} ms | {statistics.median(of.commands):.1f} |"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="of load in each round")
    parser.add_argument("--peers", nargs="*", choices=list(PEERS), default=list(PEERS))
    options = parser.parse_args()
    server_url = os.environ.get("DATABASE_URL", "postgres://postgres@127.0.0.1:5432/postgres")
    url = prepare(server_url)
    with tempfile.TemporaryDirectory():
        figures = measure(options.rounds, options.seconds, options.peers, url)
    packages = "django djangorestframework django-ratelimit psycopg redis gunicorn django-ninja"
    packages += " fastapi sqlalchemy asyncpg uvicorn"
    versions = ", ".join(f"{name} {version(name)}" for name in packages.split())
    print("\n".join(table(figures, options.peers)))
    print(f"\nPython {platform.python_version()}, {versions}; {options.rounds} rounds.")


if __name__ == "__main__":
    main()
