"""What the two commands cost: memory, time beside one raw DELETE, and other people's waits.

    python -m benchmarks.bench_commands [postgresql] [sqlite] [--runs N] [--lines N]

Needs gunicorn, and for PostgreSQL a server where a database may be made (DATABASE_URL). Both
commands run in processes of their own, whose peak memory is the operating system's account.
First half of all runs is pruned, beside nobody; then a part of the other half, while one more
process sends requests to a server. Its waits are held beside those without a prune, and beside
the longest batch. Ends with an error where a limit is broken.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import http.client
import itertools
import json
import multiprocessing
import operator
import os
import platform
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import django
import psycopg

from actor_runs.fields import ALPHABET
from benchmarks.databases import ROOT, unique_name
from benchmarks.servers import free_port, server_command, started

DATABASE = unique_name("commands")
TOKEN = "bench-token"  # noqa: S105
MOST_TIMES_RAW = 4.0
MOST_MIB = {"prune": 120.0, "import": 150.0}
SECONDS_ALONE = 10
NOW = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)

SEED = f"""
from django.contrib.auth.models import User
from rest_framework.authtoken.models import Token
alice, bob = (User.objects.create(username=name) for name in ("alice", "bob"))
Token.objects.create(user=alice, key="{TOKEN}")
"""
RUN: dict[str, Any] = {
    "actId": "HDSasDasz78YcAPEB",
    "status": "SUCCEEDED",
    "statusMessage": "Finished! Total 12 requests: 12 succeeded, 0 failed.",
    "isStatusMessageTerminal": True,
    "meta": {"origin": "API", "clientIp": "198.51.100.7", "userAgent": "ApifyClient"},
    "stats": {
        "inputBodyLen": 240,
        "migrationCount": 0,
        "rebootCount": 0,
        "restartCount": 0,
        "resurrectCount": 0,
        "memAvgBytes": 267874071.9,
        "memMaxBytes": 404713472,
        "memCurrentBytes": 0,
        "cpuAvgUsage": 33.7532101107538,
        "cpuMaxUsage": 169.650735534941,
        "cpuCurrentUsage": 0,
        "netRxBytes": 103508042,
        "netTxBytes": 4854600,
        "durationMillis": 60000,
        "runTimeSecs": 60,
        "metamorph": 0,
        "computeUnits": 0.13804,
    },
    "options": {"build": "latest", "timeoutSecs": 300, "memoryMbytes": 1024, "diskMbytes": 2048},
    "buildId": "7sT5jcggjjA9fNcxA",
    "buildNumber": "0.1.2",
    "exitCode": 0,
    "generalAccess": "RESTRICTED",
    "defaultKeyValueStoreId": "eJNzqsbPiopwJcgGQ",
    "defaultDatasetId": "wmKPijuyDnPZAPRMk",
    "defaultRequestQueueId": "FL35cSF7jrxr3BY39",
    "containerUrl": "https://g8kd8kbc5ge8.runs.apify.net",
    "gitBranchName": "master",
    "usage": {"ACTOR_COMPUTE_UNITS": 3, "DATASET_WRITES": 4},
    "usageTotalUsd": 0.2654,
    "usageUsd": {"ACTOR_COMPUTE_UNITS": 0.0003, "DATASET_WRITES": 0.0001},
    "platformUsageBillingModel": "USER",
}
# The table's columns, which are called after the keys.
COLUMNS = {
    "".join(f"_{c.lower()}" if c.isupper() else c for c in key): (
        json.dumps(value) if isinstance(value, dict) else value
    )
    for key, value in RUN.items()
} | {"actor_task_id": "", "version": 0}
NAMES = ["id", "user_id", "started_at", "finished_at", *COLUMNS]


def ids(seed: int) -> Iterator[str]:
    """Yield IDs in the app's way, always the same ones for a seed."""
    source = random.Random(seed)  # noqa: S311
    while True:
        yield "".join(source.choices(ALPHABET, k=17))


def age(number: int, count: int) -> datetime.timedelta:
    """How long ago run ``number`` finished: half of all 60 to 31 days, the others up to 29."""
    days = 60 - 29 * number / (count / 2)
    # To the millisecond, as the app keeps times.
    return datetime.timedelta(
        milliseconds=int((days if number < count // 2 else days - 2) * 86_400_000)
    )


def rows(count: int) -> Iterator[tuple[Any, ...]]:
    """Yield rows in the order of time, every other one alice's."""
    for number, run_id in zip(range(count), ids(1), strict=False):
        end = NOW - age(number, count)
        yield run_id, number % 2 + 1, end - datetime.timedelta(minutes=1), end, *COLUMNS.values()


def alices(count: int, youngest: float, oldest: float) -> list[str]:
    """IDs of alice's runs that finished so many days ago."""
    return [
        run_id
        for number, run_id in zip(range(count), ids(1), strict=False)
        if number % 2 == 0 and youngest <= age(number, count).total_seconds() / 86400 <= oldest
    ]


def write_lines(path: Path, count: int) -> None:
    """Write run objects as the API returns them, as JSON Lines."""
    with path.open("w") as file:
        for number, run_id in zip(range(count), ids(2), strict=False):
            end = NOW - datetime.timedelta(seconds=number)
            times = {"startedAt": end - datetime.timedelta(minutes=1), "finishedAt": end}
            shown = {key: f"{value:%FT%T}.{number % 1000:03}Z" for key, value in times.items()}
            file.write(json.dumps({"id": run_id, **shown, **RUN}) + "\n")


# The same rows, in a table that nobody else uses.
RAW_DELETE = (
    "DELETE FROM {table} WHERE finished_at < {moment} "
    "AND status IN ('SUCCEEDED', 'FAILED', 'TIMED-OUT', 'ABORTED')"
)


class PostgreSQL:
    """A database of its own on the server that DATABASE_URL names."""

    title = "PostgreSQL"

    def __init__(self, folder: Path) -> None:
        url = os.environ.get("DATABASE_URL", "postgres://postgres@127.0.0.1:5432/postgres")
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
            connection.execute(f"CREATE DATABASE {DATABASE}")
        self.url = f"{url.rpartition('/')[0]}/{DATABASE}"

    def fill(self, count: int) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            with connection.cursor().copy(
                f"COPY actor_runs_run ({', '.join(NAMES)}) FROM STDIN"
            ) as copy:
                for row in rows(count):
                    copy.write_row(row)
            connection.execute("CREATE TABLE raw (LIKE actor_runs_run INCLUDING ALL)")
            connection.execute("INSERT INTO raw SELECT * FROM actor_runs_run ORDER BY finished_at")
            connection.execute("VACUUM ANALYZE")

    def raw_delete(self, moment: datetime.datetime) -> tuple[float, int]:
        """Return the seconds that it took, and how many rows it deleted."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("CHECKPOINT")
            begin = time.perf_counter()
            statement = RAW_DELETE.format(table="raw", moment="%s")
            deleted = connection.execute(statement, [moment]).rowcount
            seconds = time.perf_counter() - begin
            connection.execute("DROP TABLE raw")
            connection.execute("CHECKPOINT")
        return seconds, deleted

    def version(self) -> str:
        with psycopg.connect(self.url) as connection:
            return f"PostgreSQL {connection.info.server_version // 10000}"


class SQLite:
    """A file."""

    title = "SQLite"

    def __init__(self, folder: Path) -> None:
        self.path = folder / "bench.sqlite3"
        self.url = f"sqlite:///{self.path}"

    def fill(self, count: int) -> None:
        places = ", ".join("?" * len(NAMES))
        insert = f"INSERT INTO actor_runs_run ({', '.join(NAMES)}) VALUES ({places})"  # noqa: S608
        with contextlib.closing(sqlite3.connect(self.path)) as connection, connection:
            connection.executemany(
                insert,
                ((row[0], row[1], *map(self.text, row[2:4]), *row[4:]) for row in rows(count)),
            )
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            connection.execute("ANALYZE")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.copy = shutil.copy(self.path, self.path.with_name("raw.sqlite3"))

    def raw_delete(self, moment: datetime.datetime) -> tuple[float, int]:
        """Return the seconds that it took, and how many rows it deleted."""
        statement = RAW_DELETE.format(table="actor_runs_run", moment="?")
        with contextlib.closing(sqlite3.connect(self.copy, isolation_level=None)) as connection:
            begin = time.perf_counter()
            deleted = connection.execute(statement, [self.text(moment)]).rowcount
            return time.perf_counter() - begin, deleted

    @staticmethod
    def text(moment: datetime.datetime) -> str:
        """A moment as Django writes it into SQLite."""
        return str(moment.replace(tzinfo=None))

    def version(self) -> str:
        return f"SQLite {sqlite3.sqlite_version}"


@dataclass
class Command:
    """What a run of a command took."""

    seconds: float = 0
    mib: float = 0  # peak memory
    longest_batch: float = 0  # seconds
    last_line: str = ""

    @classmethod
    def run(cls, env: dict[str, str], *arguments: str) -> Command:
        """Run it to its end, in a process of its own."""
        command = [sys.executable, "manage.py", *arguments, "--verbosity", "2"]
        it = cls()
        begin = time.perf_counter()
        with subprocess.Popen(  # noqa: S603
            command, env=env, cwd=ROOT, stdout=subprocess.PIPE, text=True
        ) as process:
            told = []
            for line in process.stdout:  # one for each batch, and the last one
                told.append(time.perf_counter())
                it.mib = max(it.mib, peak_mib(process.pid))
                it.last_line = line
        it.seconds = time.perf_counter() - begin
        # Not the first one, which began with Python.
        it.longest_batch = max(map(operator.sub, told[1:], told), default=0)
        if process.returncode:
            sys.exit(f"{' '.join(arguments)} ended with {process.returncode}.")
        return it


def peak_mib(pid: int) -> float:
    """The most memory that a process has had so far: its resident set; 0 if it has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    return 0


@dataclass
class Requests:
    """What a client met."""

    answers: dict[str, int] = field(default_factory=lambda: {"GET": 0, "DELETE": 0})
    longest: dict[str, float] = field(default_factory=lambda: {"GET": 0.0, "DELETE": 0.0})
    failures: int = 0


def send(port: int, reads: list[str], deletions: list[str], ending: Any) -> None:
    """Read and delete in turn, one request after the other, until told; tell what was met."""
    met = Requests()
    connection = http.client.HTTPConnection("127.0.0.1", port)
    for read, delete in zip(itertools.cycle(reads), deletions, strict=False):
        # A run may have been pruned when its DELETE arrives.
        for method, run_id, expected in (("GET", read, {200}), ("DELETE", delete, {204, 404})):
            begin = time.perf_counter()
            connection.request(
                method, f"/v2/actor-runs/{run_id}", headers={"Authorization": f"Bearer {TOKEN}"}
            )
            response = connection.getresponse()
            response.read()
            met.longest[method] = max(met.longest[method], time.perf_counter() - begin)
            met.answers[method] += 1
            met.failures += response.status not in expected
        if ending.poll():
            break
    ending.send(met)


@contextlib.contextmanager
def requests(port: int, reads: list[str], deletions: list[str]) -> Iterator[Requests]:
    """Let another process send requests while the block lasts; what it met is there after it."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.Process(target=send, args=(port, reads, deletions, there))
    process.start()
    met = Requests()
    yield met
    here.send("enough")
    vars(met).update(vars(here.recv()))
    process.join()


class Bench:
    """One database's figures: ``rows`` to print, and what is ``broken``."""

    def __init__(self, database: PostgreSQL | SQLite, folder: Path) -> None:
        self.database = database
        self.folder = folder
        self.rows: dict[str, str] = {}
        self.broken: list[str] = []
        self.env = os.environ | {
            "DATABASE_URL": database.url,
            "DJANGO_SETTINGS_MODULE": "benchmarks.settings",
            "PYTHONUNBUFFERED": "1",
        }
        for arguments in (["migrate"], ["shell", "--command", SEED]):
            command = [sys.executable, "manage.py", *arguments, "--verbosity", "0"]
            subprocess.run(command, cwd=ROOT, env=self.env, check=True)  # noqa: S603

    def limit(self, name: str, value: float, most: float, unit: str) -> None:
        self.rows[f"{name} (at most {most:.0f}{unit})"] = f"{round(value, 1):g}{unit}"
        if value > most:
            self.broken.append(f"{self.database.title}: {name}: {value:.1f}, not {most:.1f}{unit}")

    def prune(self, runs: int) -> None:
        """Prune half of all runs, beside nobody, and delete the same in one statement."""
        self.database.fill(runs)
        raw, deleted = self.database.raw_delete(NOW - datetime.timedelta(days=30))
        prune = Command.run(self.env, "prune_actor_runs", "--older-than", "30d")
        if not prune.last_line.startswith(f"Deleted {deleted} runs"):
            sys.exit(f"Not the {deleted} runs of the raw DELETE: {prune.last_line}")
        speed = f"{prune.seconds:.1f} s, {deleted / prune.seconds:,.0f} runs a second"
        self.rows["runs; pruned"] = f"{runs:,}; {deleted:,}"
        self.rows["prune"] = speed
        self.rows["one raw `DELETE` of the same, on a copy"] = f"{raw:.1f} s"
        self.limit("times the raw `DELETE`", prune.seconds / raw, MOST_TIMES_RAW, "")
        self.limit("peak memory of prune", prune.mib, MOST_MIB["prune"], " MiB")
        self.rows["its longest batch"] = milliseconds(prune.longest_batch)

    def prune_beside_requests(self, runs: int) -> None:
        """Prune a part of the other half while another process reads and deletes."""
        reads, stay, due = alices(runs, 0, 5), alices(runs, 5, 14), alices(runs, 15, 30)
        random.Random(3).shuffle(stay)  # noqa: S311
        port = free_port()
        command = server_command("actor_runs_app", port)
        # Its log is full of runs that were pruned ahead of their DELETE.
        command = ["sh", "-c", f'exec "$@" 2>{self.folder}/log', "sh", *command]
        with started(command, port, self.env):
            with requests(port, reads, stay[:20]):
                time.sleep(2)  # warm
            with requests(port, reads, stay[20::2]) as alone:
                time.sleep(SECONDS_ALONE)
            # Runs that are due, in the order of the prune, and in between runs that stay.
            sample = due[:: max(1, len(due) // len(stay))]
            mixed = [run for pair in zip(sample, stay[21::2], strict=False) for run in pair]
            with requests(port, reads, mixed) as beside:
                prune = Command.run(self.env, "prune_actor_runs", "--older-than", "15d")
        self.rows["prune beside requests: its longest batch"] = milliseconds(prune.longest_batch)
        self.rows["GET and DELETE requests"] = "{GET:,} and {DELETE:,}".format(**beside.answers)
        self.limit("failed", beside.failures, 0, "")
        for method, longest in beside.longest.items():
            # What a request waits for on its own account, it may wait for beside a batch too.
            most = prune.longest_batch + alone.longest[method]
            self.rows[f"longest {method}; without a prune"] = (
                f"{milliseconds(longest)}; {milliseconds(alone.longest[method])}"
            )
            if longest > most:
                self.broken.append(f"{self.database.title}: a {method} took {longest:.3f} s")

    def import_twice(self, lines: int) -> None:
        path = self.folder / "runs.jsonl"
        write_lines(path, lines)
        self.rows["lines to import"] = f"{lines:,}, {path.stat().st_size / 2**20:.0f} MiB"
        for name in ("import", "import of the same again"):
            it = Command.run(self.env, "import_actor_runs", str(path), "--user", "alice")
            self.rows[name] = f"{it.seconds:.1f} s, {lines / it.seconds:,.0f} runs a second"
            self.limit(f"peak memory of {name}", it.mib, MOST_MIB["import"], " MiB")


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


ENGINES = {"postgresql": (PostgreSQL, 1_000_000), "sqlite": (SQLite, 200_000)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("engines", nargs="*", metavar="ENGINE", help=", ".join(ENGINES))
    parser.add_argument("--runs", type=int, help="1000000 on PostgreSQL and 200000 on SQLite")
    parser.add_argument("--lines", type=int, default=100_000)
    options = parser.parse_args()
    if unknown := set(options.engines) - set(ENGINES):
        parser.error(f"unknown: {', '.join(unknown)}")
    benches, versions = [], [f"Python {platform.python_version()}, Django {django.__version__}"]
    for name in options.engines or ENGINES:
        engine, default = ENGINES[name]
        runs = options.runs or default
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(engine(Path(folder)), Path(folder))
            bench.prune(runs)
            bench.prune_beside_requests(runs)
            bench.import_twice(options.lines)
        benches.append(bench)
        versions.append(bench.database.version())
    print(f"| | {' | '.join(bench.database.title for bench in benches)} |")
    print("| --- |" + " --- |" * len(benches))
    for name in benches[0].rows:
        print(f"| {name} | {' | '.join(bench.rows[name] for bench in benches)} |")
    print(f"\n{', '.join(versions)}.")
    if broken := [line for bench in benches for line in bench.broken]:
        sys.exit("\n".join(broken))


if __name__ == "__main__":
    main()
