"""What it costs to record a run: create it, start it, and let it succeed.

    python -m benchmarks.bench_recording [--rounds N] [--runs N] [--only app,plain]
        [--rows N] [--sizes] [--profile] [--database postgresql|mariadb|sqlite]
        [--keep | --reuse NAME]

Beside plain SQL on the same table, and beside django-tasks-db and django-celery-results, which
record the same in tables of their own. All in one process, by turns, in tables that hold --rows
already (the peers' 100,000 at most). At the end the size of the table and of each index;
with --sizes nothing else. Ten million rows need 13 GB of disk.

--profile prints instead in which functions each spends its CPU time.
"""

from __future__ import annotations

import argparse
import contextlib
import platform
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.databases import own_database
from benchmarks.meter import set_up
from benchmarks.profiled import Sampler
from benchmarks.profiled import table as profile_table
from benchmarks.servers import TICKS

NAMES = ("plain", "app", "tasks_db", "celery_results")
UNIT = "plain"
PEER_ROWS = 100_000
SETTINGS = "benchmarks.settings_recording"


@dataclass
class Figures:
    """What was measured of one recorder, a value for each round; all for one run."""

    cpu: list[float] = field(default_factory=list)  # microseconds
    database_cpu: list[float] = field(default_factory=list)  # microseconds
    wal: list[float] = field(default_factory=list)  # bytes
    wal_after_checkpoint: list[float] = field(default_factory=list)  # bytes
    transitions: list[float] = field(default_factory=list)  # a second
    updates: int = 0
    hot_updates: int = 0
    statements: int = 0


class Server:
    """What PostgreSQL tells of itself; zeros on other databases."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.is_postgresql = connection.vendor == "postgresql"

    def ask(self, statement: str) -> Any:
        with self.connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchone() if cursor.description else None

    def spare_the_disk(self) -> None:
        """Let COMMIT not wait for the disk, whose time would hide all others."""
        if self.is_postgresql:
            self.ask("SET synchronous_commit = off")

    def checkpoint(self) -> None:
        if self.is_postgresql:
            self.ask("CHECKPOINT")

    def wal(self) -> int:
        """Return how many bytes of WAL the whole server has written so far."""
        if not self.is_postgresql:
            return 0
        return int(self.ask("SELECT pg_current_wal_insert_lsn() - '0/0'")[0])

    def updates(self, table: str) -> tuple[int, int]:
        """Return updates of a table so far, and how many of them were HOT."""
        if not self.is_postgresql:
            return 0, 0
        self.ask("SELECT pg_stat_force_next_flush()")
        self.ask("SELECT pg_stat_clear_snapshot()")
        return self.ask(
            f"SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = '{table}'"  # noqa: S608
        )

    def cpu(self) -> float:
        """Return the CPU seconds of this connection's process, if it is on this machine."""
        if not self.is_postgresql:
            return 0
        (pid,) = self.ask("SELECT pg_backend_pid()")
        with contextlib.suppress(OSError):
            name, _, rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")
            if "postgres" in name:
                return sum(map(int, rest.split()[11:13])) / TICKS
        return 0


def record(recorder: Any, runs: int, server: Server, figures: Figures) -> None:
    """Record ``runs`` runs right after a checkpoint and as many again; keep the second's times."""
    server.checkpoint()
    before = server.wal()
    batch(recorder, runs)
    figures.wal_after_checkpoint.append((server.wal() - before) / runs)

    before, updates, database_cpu = server.wal(), server.updates(recorder.table), server.cpu()
    cpu = time.process_time()
    seconds = batch(recorder, runs)
    cpu = time.process_time() - cpu
    figures.wal.append((server.wal() - before) / runs)
    figures.cpu.append(cpu / runs * 1e6)
    figures.database_cpu.append((server.cpu() - database_cpu) / runs * 1e6)
    figures.transitions.append(2 * runs / seconds)
    after = server.updates(recorder.table)
    figures.updates += after[0] - updates[0]
    figures.hot_updates += after[1] - updates[1]


def batch(recorder: Any, runs: int) -> float:
    """Record ``runs`` runs; return how many seconds their transitions took."""
    recorded = [recorder.create() for _ in range(runs)]
    begin = time.perf_counter()
    for run in recorded:
        recorder.start(run)
        recorder.succeed(run)
    return time.perf_counter() - begin


def count_statements(recorder: Any, connection: Any) -> int:
    """Return how many statements one run takes. Exits when it is not recorded."""
    from django.test.utils import CaptureQueriesContext

    recorder.create()  # connects, and reads what is read once
    with CaptureQueriesContext(connection) as sent:
        run = recorder.create()
        recorder.start(run)
        recorder.succeed(run)
    if recorder.status(run) != "SUCCEEDED":
        sys.exit(f"{recorder.words} has not recorded that a run succeeded.")
    return len(sent)


def profile(recorder: Any, runs: int) -> Iterator[str]:
    """Yield the functions in which a recorder spends its CPU time: creating, then transitions."""
    recorded: list[Any] = []

    def create() -> None:
        recorded.extend(recorder.create() for _ in range(runs))

    def transitions() -> None:
        for run in recorded:
            recorder.start(run)
            recorder.succeed(run)

    for title, call in (("create", create), ("two transitions", transitions)):
        sampler = Sampler(call.__code__, "elsewhere")
        sampler.start()
        call()
        sampler.stop()
        yield from profile_table(f"{recorder.words}, {title}", runs, sampler.functions())


def table(figures: dict[str, Figures], words: dict[str, str]) -> Iterator[str]:
    """Yield the table in Markdown."""
    yield (
        "| | CPU | ratio | database's CPU | statements | WAL | after a checkpoint "
        "| HOT updates | transitions/s |"
    )
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    units = figures[UNIT].cpu
    for name, of in figures.items():
        ratio = statistics.median(cpu / unit for cpu, unit in zip(of.cpu, units, strict=True))
        # Others' WAL can only add to it.
        wal = f"{min(of.wal):.0f} bytes" if of.wal[0] else ""
        after = f"{min(of.wal_after_checkpoint):.0f} bytes" if of.wal[0] else ""
        hot = f"{of.hot_updates / of.updates:.0%}" if of.updates else ""
        database_cpu = statistics.median(of.database_cpu)
        yield (
            f"| {words[name]} | {statistics.median(of.cpu):.0f} µs | **{ratio:.2f}** "
            f"| {f'{database_cpu:.0f} µs' if database_cpu else ''} | {of.statements} "
            f"| {wal} | {after} | {hot} | {statistics.median(of.transitions):.0f} |"
        )


def sizes(connection: Any, name: str) -> Iterator[str]:
    """Yield the size of a table and of each of its indexes, in Markdown."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(f"SELECT count(*), pg_table_size('{name}') FROM {name}")  # noqa: S608
            rows, size = cursor.fetchone()
            cursor.execute(
                "SELECT indexrelid::regclass::text, pg_relation_size(indexrelid) "
                "FROM pg_index WHERE indrelid = %s::regclass ORDER BY 2 DESC",
                [name],
            )
            indexes = cursor.fetchall()
        elif connection.vendor == "mysql":
            cursor.execute(f"SELECT count(*) FROM {name}")  # noqa: S608
            (rows,) = cursor.fetchone()
            cursor.execute(
                "SELECT index_name, stat_value * @@innodb_page_size "
                "FROM mysql.innodb_index_stats WHERE database_name = DATABASE() "
                "AND table_name = %s AND stat_name = 'size' ORDER BY 2 DESC",
                [name],
            )
            found = dict(cursor.fetchall())
            size = found.pop("PRIMARY")  # the table itself
            indexes = list(found.items())
        else:
            return  # SQLite's pages need a build with dbstat
    yield f"| {name} at {rows:,} rows | MB | bytes a row |"
    yield "| --- | --- | --- |"
    total = sum(value for _, value in indexes)
    for words, value in [("the table", size), *indexes, ("all indexes", total)]:
        yield f"| {words} | {value / 1e6:,.0f} | {value / rows:.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=300, help="recorded twice in each round")
    parser.add_argument("--rows", type=int, default=PEER_ROWS, help="that are there before")
    parser.add_argument("--sizes", action="store_true", help="print the sizes alone")
    parser.add_argument(
        "--profile", action="store_true", help="print where the time goes instead; more --runs"
    )
    parser.add_argument(
        "--only",
        type=lambda text: [name for name in NAMES if name in text.split(",")],
        default=list(NAMES),
        metavar="NAMES",
        help=f"separated by commas: {', '.join(NAMES)}",
    )
    parser.add_argument(
        "--database", choices=["postgresql", "mariadb", "sqlite"], default="postgresql"
    )
    parser.add_argument("--keep", action="store_true", help="do not drop the database")
    parser.add_argument("--reuse", metavar="NAME", help="a database that --keep has left")
    options = parser.parse_args()
    with own_database(
        "recording", options.database, settings=SETTINGS, keep=options.keep, reuse=options.reuse
    ) as url:
        connection = set_up(url, SETTINGS)
        from benchmarks.recorders import RECORDERS

        # Ratios need their unit.
        needed = {*options.only, *(() if options.profile else (UNIT,))}
        recorders = {name: RECORDERS[name]() for name in NAMES if name in needed}
        if not options.reuse:
            RECORDERS["app"]().prefill(options.rows)
        if options.profile:
            for recorder in recorders.values():
                print("\n".join(profile(recorder, options.runs)), flush=True)
        elif not options.sizes:
            for name, recorder in recorders.items():
                if name not in ("app", UNIT) and not options.reuse:
                    recorder.prefill(min(options.rows, PEER_ROWS))
            figures = {
                name: Figures(statements=count_statements(recorder, connection))
                for name, recorder in recorders.items()
            }
            server = Server(connection)
            server.spare_the_disk()
            for number in range(options.rounds):
                turn = number % len(recorders)
                for name in [*recorders][turn:] + [*recorders][:turn]:
                    record(recorders[name], options.runs, server, figures[name])
                print(f"Round {number + 1} of {options.rounds} is done.", file=sys.stderr)
            words = {name: recorder.words for name, recorder in recorders.items()}
            print("\n".join(table(figures, words)))
            packages = "django psycopg django-tasks-db django-celery-results celery"
            versions = ", ".join(f"{name} {version(name)}" for name in packages.split())
            print(
                f"\nFor one run; medians of {options.rounds} rounds of {options.runs} runs, of "
                f"WAL the least. Python {platform.python_version()}, {versions}.\n"
            )
        print("\n".join(sizes(connection, "actor_runs_run")))
        connection.close()


if __name__ == "__main__":
    main()
