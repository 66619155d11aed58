"""What a request costs, in CPU time of the server's process, beside what a team would write.

    python -m benchmarks.bench_http [--rounds N] [--seconds N]
        [--only app_limits,plain] [--operations get,list] [--profile [calls|samples]]

Needs PostgreSQL (DATABASE_URL names a server where a database may be made), redis-server and wrk.
Starts one server process for each subject, in the configuration of
docs/how-to/deployment.md, warms it up, and lets the subjects take turns, so that other work on the
machine meets all of them. CPU time is the operating system's account of the process, user and
system together: unlike wall time, it hardly depends on who else is at work. Every answer is
checked.

Ends with status 1 when the app costs more than it may: REACH, below.

--profile prints instead in which functions each subject spends its time: by ``samples`` of CPU
time, or by ``calls``, with Python's own profiler, which makes calls dearer and counts waits.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from urllib.parse import urlsplit

import psycopg
import redis

from benchmarks.databases import own_database
from benchmarks.even import RUNS, TOKENS, fill, refill
from benchmarks.profiled import Function
from benchmarks.profiled import table as profile_table
from benchmarks.servers import (
    cpu_seconds,
    free_port,
    load,
    require_programs,
    server_command,
    settled_cpu_seconds,
    started,
    started_redis,
)
from benchmarks.statements import StatementCounter

OPERATIONS = tuple(TOKENS)
COUNTED = 5  # requests whose statements are counted

# Each subject's words in the table, and its environment. The first is the unit.
SUBJECTS = {
    "plain": ("plain Django, SQL", {"PEER": "plain_django"}),
    "app_limits": ("actor_runs, both limits", {"PEER": "actor_runs_app"}),
    "app": ("actor_runs, no limits", {"PEER": "actor_runs_app", "LIMITS": "0"}),
    "app_django_cache": (
        "actor_runs, both limits, Django's Redis cache",
        {"PEER": "actor_runs_app", "CACHE": "django"},
    ),
    "drf": ("REST framework by hand, one limit", {"PEER": "drf_modelviewset"}),
    "ninja": ("django-ninja, no limits", {"PEER": "ninja"}),
    "fastapi": ("FastAPI, SQLAlchemy, asyncpg, no limits", {"PEER": "fastapi_sqlalchemy"}),
    "fastapi_autocommit": (
        "FastAPI, SQLAlchemy, asyncpg, AUTOCOMMIT, no limits",
        {"PEER": "fastapi_sqlalchemy", "AUTOCOMMIT": "1"},
    ),
}
UNIT = "plain"
UNUSUAL = {"fastapi_autocommit"}  # measured only when --only names it
# The first may cost no more than the second.
REACH = {"app_limits": "ninja", "app": "fastapi"}
# What the app with both limits should cost one day, in requests of the unit.
GOALS = {"get": 1.6, "list": 1.0, "delete": 2.8}


@dataclass
class Figures:
    """What was measured of one subject at one operation, a value for each round."""

    cpu: list[float] = field(default_factory=list)  # microseconds for a request
    per_second: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)  # milliseconds
    p99: list[float] = field(default_factory=list)
    round_trips: list[float] = field(default_factory=list)  # to the cache, for a request
    statements: float = 0  # for a request


Measured = dict[str, dict[str, Figures]]


def send(port: int, operation: str, number: int) -> None:
    path = "?limit=1000" if operation == "list" else f"/bench{number:012d}"
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v2/actor-runs{path}",
        method="DELETE" if operation == "delete" else "GET",
        headers={"Authorization": f"Bearer {TOKENS[operation]}"},
    )
    urllib.request.urlopen(request).read()  # noqa: S310


def count_statements(url: str, subject_env: dict[str, str]) -> dict[str, float]:
    """Return how many SQL statements each operation takes, with a server of its own."""
    counts = {}
    target = urlsplit(url)
    with StatementCounter((target.hostname or "", target.port or 5432)) as counter:
        through = url.replace(f"@{target.netloc.rpartition('@')[2]}", f"@127.0.0.1:{counter.port}")
        port = free_port()
        env = subject_env | {"DATABASE_URL": through}
        with started(server_command(env["PEER"], port), port, env):
            for operation in OPERATIONS:
                before = 0
                for number in range(2 * COUNTED):
                    if number == COUNTED:  # what came before has opened the connections
                        before = counter.count
                    send(port, operation, number)
                counts[operation] = (counter.count - before) / COUNTED
        counter.shutdown()
    return counts


def count_reads(cache: redis.Redis) -> int:
    """Return how often Redis has read from its clients: once for each round trip."""
    return cache.info("stats")["total_reads_processed"]


def measure(
    rounds: int, seconds: int, subjects: list[str], operations: list[str], url: str
) -> Measured:
    figures = {name: {operation: Figures() for operation in operations} for name in subjects}
    with contextlib.ExitStack() as stack:
        redis_port = stack.enter_context(started_redis())
        cache = redis.Redis(port=redis_port)
        env = os.environ | {"DATABASE_URL": url, "REDIS_URL": f"redis://127.0.0.1:{redis_port}/0"}
        database = stack.enter_context(psycopg.connect(url, autocommit=True))
        servers = {}
        for name in subjects:
            subject_env = env | SUBJECTS[name][1]
            refill(database)
            for operation, count in count_statements(url, subject_env).items():
                if operation in operations:
                    figures[name][operation].statements = count
            port = free_port()
            server = started(server_command(subject_env["PEER"], port), port, subject_env)
            servers[name] = port, stack.enter_context(server)
            send(port, "list", 0)  # it listens before it has loaded the application
        first = 0
        for number in range(-1, rounds):  # the first one warms up
            # Another order in each round: nobody always follows the same one.
            turn = number % len(subjects)
            for operation in operations:
                for name in subjects[turn:] + subjects[:turn]:
                    port, process = servers[name]
                    if operation != "list":
                        refill(database)
                    # Elsewhere than the round before: other runs, other pages.
                    first = (first + RUNS // 3 + 1) % RUNS
                    cpu, reads = cpu_seconds(process.pid), count_reads(cache)
                    done = load(port, operation, first, RUNS, seconds)
                    # The last requests count too, whose answers wrk did not wait for.
                    cpu = settled_cpu_seconds(process.pid) - cpu
                    reads = count_reads(cache) - reads - 1
                    if number >= 0:
                        of = figures[name][operation]
                        of.cpu.append(cpu / done.sent * 1e6)
                        of.per_second.append(done.per_second)
                        of.p50.append(done.p50)
                        of.p99.append(done.p99)
                        of.round_trips.append(reads / done.sent)
            print(f"Round {number + 1} of {rounds} is done.", file=sys.stderr)
    return figures


def ratios(figures: Measured, name: str, operation: str) -> list[float]:
    """Return what the subject cost in each round, in requests of the unit in that round."""
    units = figures[UNIT][operation].cpu
    return [cpu / unit for cpu, unit in zip(figures[name][operation].cpu, units, strict=True)]


def table(figures: Measured, operations: list[str]) -> Iterator[str]:
    """Yield the table in Markdown: medians, and ratios to the unit with their spread."""
    yield "| | | CPU | ratio | spread | requests/s | p50 | p99 | SQL | cache |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    for operation in operations:
        for name, of in ((name, figures[name][operation]) for name in figures):
            ratio = ratios(figures, name, operation)
            yield (
                f"| {operation.upper()} | {SUBJECTS[name][0]} | {statistics.median(of.cpu):.0f} µs "
                f"| **{statistics.median(ratio):.2f}** | {min(ratio):.2f} to {max(ratio):.2f} "
                f"| {statistics.median(of.per_second):.0f} | {statistics.median(of.p50):.1f} ms "
                f"| {statistics.median(of.p99):.1f} ms | {of.statements:.0f} "
                f"| {statistics.median(of.round_trips):.1f} |"
            )


def summary(figures: Measured, operations: list[str]) -> Iterator[str]:
    """Yield the short table of the README: the ratios alone."""
    yield "| | " + " | ".join(operation.upper() for operation in operations) + " |"
    yield "| --- |" + " --- |" * len(operations)
    for name in figures:
        medians = (statistics.median(ratios(figures, name, each)) for each in operations)
        yield f"| {SUBJECTS[name][0]} | " + " | ".join(f"{each:.2f}" for each in medians) + " |"


def verdicts(figures: Measured, operations: list[str]) -> Iterator[tuple[str, bool]]:
    """Yield a line for each limit, and whether the app keeps to it."""
    for name, other in REACH.items():
        if not {name, other} <= figures.keys():
            continue
        for operation in operations:
            ours, theirs = (
                statistics.median(ratios(figures, each, operation)) for each in (name, other)
            )
            reached = ours <= theirs
            yield (
                f"{operation.upper()}: {SUBJECTS[name][0]} {ours:.2f}, "
                f"{SUBJECTS[other][0]} {theirs:.2f}: {'reached' if reached else 'NOT REACHED'}",
                reached,
            )


def goals(figures: Measured, operations: list[str]) -> Iterator[str]:
    if "app_limits" in figures:
        for operation in operations:
            ours = statistics.median(ratios(figures, "app_limits", operation))
            goal = GOALS[operation]
            met = "met" if ours <= goal else "not met"
            yield f"{operation.upper()}: {ours:.2f}, goal {goal}: {met}"


def profile(kind: str, seconds: int, subjects: list[str], operations: list[str], url: str) -> None:
    """Print the functions in which each subject spends most time."""
    with contextlib.ExitStack() as stack:
        redis_port = stack.enter_context(started_redis())
        env = os.environ | {"DATABASE_URL": url, "REDIS_URL": f"redis://127.0.0.1:{redis_port}/0"}
        env["PROFILE"] = kind
        database = stack.enter_context(psycopg.connect(url, autocommit=True))
        for name in subjects:
            words, subject_env = SUBJECTS[name]
            if subject_env["PEER"] == "fastapi_sqlalchemy":
                print(f"{words}: is no WSGI application, and is not profiled.", file=sys.stderr)
                continue
            port = free_port()
            command = server_command(subject_env["PEER"], port, threads=0)
            with started(command, port, env | subject_env):
                send(port, "list", 0)  # it listens before it has loaded the application
                address = f"http://127.0.0.1:{port}/profile"
                for operation in operations:
                    for warm_up in (True, False):
                        refill(database)
                        first = 0 if warm_up else RUNS // 2
                        load(port, operation, first, RUNS, 1 if warm_up else seconds, clients=1)
                        with urllib.request.urlopen(address) as answer:
                            profiled = json.load(answer)
                    functions = [Function(*each) for each in profiled["functions"]]
                    title = f"{operation.upper()}, {words}"
                    for line in profile_table(title, profiled["requests"], functions):
                        print(line, flush=True)


def chosen(text: str, known: tuple[str, ...]) -> list[str]:
    """Return the names in ``text``, which are separated by commas, in the order of ``known``."""
    names = set(text.lower().split(","))
    if unknown := names - set(known):
        raise argparse.ArgumentTypeError(
            f"{', '.join(sorted(unknown))} is not one of {', '.join(known)}"
        )
    return [name for name in known if name in names]


def main() -> None:
    usual = [name for name in SUBJECTS if name not in UNUSUAL]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=2, help="of load in each round")
    parser.add_argument(
        "--only",
        type=lambda text: chosen(text, tuple(SUBJECTS)),
        default=usual,
        metavar="NAMES",
        help=f"separated by commas: {', '.join(SUBJECTS)}",
    )
    parser.add_argument(
        "--operations",
        type=lambda text: chosen(text, OPERATIONS),
        default=list(OPERATIONS),
        metavar="NAMES",
        help=f"separated by commas: {', '.join(OPERATIONS)}",
    )
    parser.add_argument(
        "--profile",
        nargs="?",
        choices=["calls", "samples"],
        const="samples",
        help="print where the time goes instead; use more --seconds",
    )
    options = parser.parse_args()
    require_programs()
    with own_database("http") as url:
        fill(url)
        if options.profile:
            profile(options.profile, options.seconds, options.only, options.operations, url)
            return
        # Ratios need their unit.
        subjects = [name for name in SUBJECTS if name == UNIT or name in options.only]
        figures = measure(options.rounds, options.seconds, subjects, options.operations, url)
        with psycopg.connect(url) as connection:
            server = connection.info.server_version // 10000
    packages = "django djangorestframework django-ratelimit psycopg django-redis redis hiredis"
    packages += " gunicorn django-ninja fastapi sqlalchemy asyncpg uvicorn"
    versions = ", ".join(f"{name} {version(name)}" for name in packages.split())
    print("\n".join(table(figures, options.operations)))
    print("\n" + "\n".join(summary(figures, options.operations)))
    print(
        f"\nMedians of {options.rounds} rounds of {options.seconds} seconds. "
        f"Python {platform.python_version()}, PostgreSQL {server}, {versions}.\n"
    )
    results = list(verdicts(figures, options.operations))
    for line in [line for line, _ in results] + list(goals(figures, options.operations)):
        print(line)
    sys.exit(not all(reached for _, reached in results))


if __name__ == "__main__":
    main()
