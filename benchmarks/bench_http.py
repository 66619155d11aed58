"""What a request costs, in CPU time of the server's process, beside what a team would write.

    python -m benchmarks.bench_http [--rounds N] [--seconds N] [--peers NAME ...] [--operations ...]

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
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import redis

from benchmarks.statements import StatementCounter

ROOT = Path(__file__).resolve().parent.parent
SERVER_URL = os.environ.get("DATABASE_URL", "postgres://postgres@127.0.0.1:5432/postgres")
DATABASE = "actor_runs_bench_http"
TOKENS = {"GET": "bench-token-many", "LIST": "bench-token-list", "DELETE": "bench-token-many"}
OPERATIONS = tuple(TOKENS)
RUNS = 30_000
COUNTED = 5  # requests of which the statements are counted
TICKS = os.sysconf("SC_CLK_TCK")

PLAIN, APP, APP_NO_LIMITS = "plain Django, SQL", "actor_runs", "actor_runs, no limits"
BY_HAND, NINJA = "REST framework by hand", "django-ninja"
# The environment of each. The first is the unit.
PEERS = {
    PLAIN: {"PEER": "plain_django"},
    APP: {"PEER": "actor_runs_app"},
    "actor_runs, Django's Redis cache": {
        "PEER": "actor_runs_app",
        "CACHE_BACKEND": "django.core.cache.backends.redis.RedisCache",
    },
    APP_NO_LIMITS: {"PEER": "actor_runs_app", "LIMITS": "0"},
    BY_HAND: {"PEER": "drf_modelviewset"},
    NINJA: {"PEER": "ninja"},
    "FastAPI, SQLAlchemy": {"PEER": "fastapi_sqlalchemy"},
}
# What the app may cost with both limits on, in requests of the first peer.
MOST = {"GET": 2.8, "LIST": 1.3, "DELETE": 4.0}
MUST_BE_BELOW = {APP: BY_HAND, APP_NO_LIMITS: NINJA}

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
    round_trips: list[float] = field(default_factory=list)  # to the cache, for a request
    statements: float = 0  # for a request


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
    }
    command = [
        "wrk",
        "-t1",
        "-c4",
        f"-d{seconds}s",
        "--timeout",
        "30s",
        "-s",
        str(ROOT / "benchmarks" / "load.lua"),
    ]
    command.append(f"http://127.0.0.1:{port}")
    output = subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout  # noqa: S603
    line = next(line for line in output.splitlines() if line.startswith("RESULT"))
    requests, duration, wrong, p50, p99 = map(int, line.split()[1:])
    if not requests:
        sys.exit(f"No {operation} was answered: {seconds} seconds are too few for this machine.")
    if wrong:
        sys.exit(f"{wrong} of {requests} answers to {operation} were not as expected.")
    return requests, requests / (duration / 1e6), p50 / 1000, p99 / 1000


def counted(url: str, peer_env: dict[str, str]) -> dict[str, float]:
    """Return how many SQL statements each operation takes, by a server of its own."""
    counts = {}
    target = urlsplit(url)
    with StatementCounter((target.hostname or "", target.port or 5432)) as counter:
        through = url.replace(f"@{target.netloc.rpartition('@')[2]}", f"@127.0.0.1:{counter.port}")
        port = free_port()
        env = peer_env | {"DATABASE_URL": through}
        with started(server_command(env["PEER"], port), port, env):
            for operation, token in TOKENS.items():
                for number in range(2 * COUNTED):
                    if number == COUNTED:  # what came before has opened the connections
                        before = counter.count
                    path = "?limit=1000" if operation == "LIST" else f"/bench{number:012d}"
                    request = urllib.request.Request(
                        f"http://127.0.0.1:{port}/v2/actor-runs{path}",
                        method="DELETE" if operation == "DELETE" else "GET",
                        headers={"Authorization": f"Bearer {token}"},
                    )
                    urllib.request.urlopen(request).read()  # noqa: S310
                counts[operation] = (counter.count - before) / COUNTED
        counter.shutdown()
    return counts


def measure(
    rounds: int, seconds: int, names: list[str], operations: list[str], url: str
) -> dict[str, dict[str, Figures]]:
    figures = {name: {operation: Figures() for operation in operations} for name in names}
    with contextlib.ExitStack() as stack:
        redis_port = free_port()
        command = ["redis-server", "--port", str(redis_port), "--save", "", "--bind", "127.0.0.1"]
        stack.enter_context(started(command, redis_port, dict(os.environ)))
        cache = redis.Redis(port=redis_port)
        env = os.environ | {"DATABASE_URL": url, "REDIS_URL": f"redis://127.0.0.1:{redis_port}/0"}
        database = stack.enter_context(psycopg.connect(url, autocommit=True))
        servers = {}
        for name in names:
            peer_env = env | PEERS[name]
            refill(database)
            for operation, count in counted(url, peer_env).items():
                if operation in operations:
                    figures[name][operation].statements = count
            port = free_port()
            server = started(server_command(peer_env["PEER"], port), port, peer_env)
            servers[name] = port, stack.enter_context(server)
        first = 0
        for number in range(-1, rounds):  # the first one warms up
            for operation in operations:
                for name in names:
                    port, process = servers[name]
                    if operation != "LIST":
                        refill(database)
                    # Elsewhere than the round before, whose last requests may still be at work.
                    first = (first + RUNS // 3 + 1) % RUNS
                    cpu, reads = cpu_seconds(process.pid), reads_of(cache)
                    requests, rate, p50, p99 = load(port, operation, first, seconds)
                    cpu, reads = cpu_seconds(process.pid) - cpu, reads_of(cache) - reads - 1
                    if number >= 0:
                        of = figures[name][operation]
                        of.cpu.append(cpu / requests * 1e6)
                        of.per_second.append(rate)
                        of.p50.append(p50)
                        of.p99.append(p99)
                        of.round_trips.append(reads / requests)
            print(f"Round {number + 1} of {rounds} is done.", file=sys.stderr)
    return figures


def reads_of(cache: redis.Redis) -> int:
    """Return how often Redis has read from its clients: once for each round trip."""
    return cache.info("stats")["total_reads_processed"]


def refill(database: psycopg.Connection) -> None:
    database.execute(FILL_RUNS, {"prefix": "bench", "user": 1, "count": RUNS})


def require_programs() -> None:
    """Exit with one line where a program is not installed."""
    for program in ("redis-server", "wrk"):
        if shutil.which(program) is None:
            sys.exit(f"{program} is not installed, and the benchmark needs it.")


def drop(name: str) -> None:
    with psycopg.connect(SERVER_URL, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def prepare(name: str) -> str:
    """Make the database ``name`` anew, with runs of two people; return its URL.

    Exits with one line where there is no PostgreSQL.
    """
    try:
        drop(name)
    except psycopg.OperationalError as error:
        sys.exit(f"PostgreSQL does not answer (DATABASE_URL names it): {error}".splitlines()[0])
    with psycopg.connect(SERVER_URL, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    url = f"{SERVER_URL.rpartition('/')[0]}/{name}"
    env = os.environ | {"DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": "benchmarks.settings"}
    command = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
    subprocess.run(command, cwd=ROOT, env=env, check=True)  # noqa: S603
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(FILL)
        connection.execute(FILL_RUNS, {"prefix": "lists", "user": 2, "count": 1000})
        refill(connection)
        connection.execute("ANALYZE")
    return url


def ratios(figures: dict[str, dict[str, Figures]], name: str, operation: str) -> list[float]:
    """Return what the peer cost in each round, in requests of the first peer."""
    unit = next(iter(figures.values()))[operation].cpu
    return [cpu / one for cpu, one in zip(figures[name][operation].cpu, unit, strict=True)]


def table(figures: dict[str, dict[str, Figures]], operations: list[str]) -> Iterator[str]:
    """The table, in Markdown: medians, and ratios to the first peer with their spread."""
    yield "| | | CPU | ratio | spread | requests/s | p50 | p99 | SQL | cache |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    for operation in operations:
        for name, of in ((name, figures[name][operation]) for name in figures):
            ratio = ratios(figures, name, operation)
            yield (
                f"| {operation} | {name} | {statistics.median(of.cpu):.0f} µs "
                f"| **{statistics.median(ratio):.2f}** | {min(ratio):.2f} to {max(ratio):.2f} "
                f"| {statistics.median(of.per_second):.0f} | {statistics.median(of.p50):.1f} ms "
                f"| {statistics.median(of.p99):.1f} ms | {of.statements:.0f} "
                f"| {statistics.median(of.round_trips):.1f} |"
            )


def verdicts(figures: dict[str, dict[str, Figures]], operations: list[str]) -> Iterator[str]:
    """One line for each limit: whether it is met."""
    for operation in operations:
        if APP in figures:
            ratio = statistics.median(ratios(figures, APP, operation))
            met = "met" if ratio <= MOST[operation] else "MISSED"
            yield f"{operation}: {ratio:.2f}, at most {MOST[operation]}: {met}"
        for name, other in MUST_BE_BELOW.items():
            if figures.keys() >= {name, other}:
                ours, theirs = (
                    statistics.median(ratios(figures, peer, operation)) for peer in (name, other)
                )
                met = "met" if ours < theirs else "MISSED"
                yield f"{operation}: {name} {ours:.2f}, below {other} {theirs:.2f}: {met}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=2, help="of load in each round")
    parser.add_argument("--peers", nargs="*", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--operations", nargs="*", choices=OPERATIONS, default=OPERATIONS)
    options = parser.parse_args()
    require_programs()
    url = prepare(DATABASE)
    figures = measure(options.rounds, options.seconds, options.peers, options.operations, url)
    packages = "django djangorestframework django-ratelimit psycopg django-redis redis hiredis"
    packages += " gunicorn django-ninja fastapi sqlalchemy asyncpg uvicorn"
    versions = ", ".join(f"{name} {version(name)}" for name in packages.split())
    with psycopg.connect(url) as connection:
        server = connection.info.server_version // 10000
    drop(DATABASE)
    print("\n".join(table(figures, options.operations)))
    print(
        f"\nMedians of {options.rounds} rounds of {options.seconds} seconds. "
        f"Python {platform.python_version()}, PostgreSQL {server}, {versions}."
    )
    print("\n" + "\n".join(verdicts(figures, options.operations)))


if __name__ == "__main__":
    main()
