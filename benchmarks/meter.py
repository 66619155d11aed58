"""Counts what the database reads for a request, and shows its plans."""

from __future__ import annotations

import os
import re
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

TABLE = "actor_runs_run"
SLOW_MS = 50
PLANS = ["slow", "all", "none"]
LIST_OF_COLUMNS = re.compile(r"SELECT (?!COUNT)[^()]{80,}? FROM", re.DOTALL | re.IGNORECASE)
LIST_OF_KEYS = re.compile(r"([0-9]+)(?:, ?[0-9]+){5,}, ?([0-9]+)")
INDEX_IN_PLAN = re.compile(
    r"(?:Index Scan on |Scan (?:Backward )?using |USING (?:COVERING )?INDEX |\bkey=)([\w,]+)"
)
STEPS = 100  # after so many SQLite says that it has taken them
MAX_SECONDS = 5  # after which a request is not sent again

# What each vendor reads, added up since the connection or the table began.
POSTGRESQL_READS = f"""
SELECT
    (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = '{TABLE}')
        + t.seq_tup_read,
    t.seq_tup_read + t.idx_tup_fetch,
    io.heap_blks_hit + io.heap_blks_read + io.idx_blks_hit + io.idx_blks_read
FROM pg_stat_user_tables t JOIN pg_statio_user_tables io USING (relid)
WHERE t.relname = '{TABLE}'
"""  # noqa: S608


@dataclass
class Measured:
    """One request of one caller."""

    milliseconds: float
    statements: list[str]
    reads: list[int | None]  # index entries, rows, blocks; None where the server does not count


class Meter:
    """Counts what the server reads for the runs' table."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.steps = 0
        if connection.vendor == "sqlite":
            connection.ensure_connection()
            connection.connection.set_progress_handler(self.step, STEPS)

    def step(self) -> None:
        self.steps += STEPS

    def reads(self) -> list[int | None]:
        """Return index entries, rows and blocks read so far.

        On MariaDB entries and rows are one number. On SQLite it is the steps of its virtual
        machine: several for each entry and row, always the same for the same statement.
        """
        with self.connection.cursor() as cursor:
            if self.connection.vendor == "postgresql":
                cursor.execute("SELECT pg_stat_force_next_flush()")
                cursor.execute("SELECT pg_stat_clear_snapshot()")
                cursor.execute(POSTGRESQL_READS)
                return [int(value or 0) for value in cursor.fetchone()]
            if self.connection.vendor == "mysql":
                cursor.execute("SHOW SESSION STATUS LIKE 'Handler_read%'")
                read = sum(int(value) for name, value in cursor if "retry" not in name.lower())
                return [read, None, None]
        return [self.steps, None, None]

    def indexes(self) -> set[str]:
        """Return the names of the table's indexes."""
        with self.connection.cursor() as cursor:
            constraints = self.connection.introspection.get_constraints(cursor, TABLE)
        return {
            name for name, about in constraints.items() if about["index"] or about["primary_key"]
        }

    def measure(self, send: Callable[[], None], repeat: int) -> Measured:
        """Call ``send`` once and count what it reads, and up to ``repeat`` times for the time."""
        from django.test.utils import CaptureQueriesContext

        before = self.reads()
        begin = time.perf_counter()
        with CaptureQueriesContext(self.connection) as sent:
            send()
        taken = [(time.perf_counter() - begin) * 1000]
        statements = [query["sql"] for query in sent.captured_queries]
        after = self.reads()
        while len(taken) <= repeat and sum(taken) < MAX_SECONDS * 1000:
            begin = time.perf_counter()
            send()
            taken.append((time.perf_counter() - begin) * 1000)
        reads = [
            None if one is None or other is None else other - one
            for one, other in zip(before, after, strict=True)
        ]
        # The first time may have filled caches, unless there was no other.
        return Measured(statistics.median(taken[1:] or taken), statements, reads)

    def plan(self, statement: str) -> tuple[float, list[str]]:
        """Run a statement; return how many milliseconds it took, and its plan."""
        explain = {
            "postgresql": "EXPLAIN (ANALYZE, BUFFERS, COSTS OFF)",
            "mysql": "ANALYZE",
            "sqlite": "EXPLAIN QUERY PLAN",
        }[self.connection.vendor]
        with self.connection.cursor() as cursor:
            begin = time.perf_counter()
            if self.connection.vendor == "sqlite":  # which only says what it would do
                cursor.execute(statement)
                cursor.fetchall()
            else:
                cursor.execute(f"{explain} {statement}")
                names = [column[0] for column in cursor.description]
                rows = cursor.fetchall()
            milliseconds = (time.perf_counter() - begin) * 1000
            if self.connection.vendor == "sqlite":
                rows = cursor.execute(f"{explain} {statement}").fetchall()
        if self.connection.vendor == "postgresql":
            return milliseconds, [str(row[0]) for row in rows]
        if self.connection.vendor == "mysql":
            return milliseconds, [
                ", ".join(f"{name}={value}" for name, value in zip(names, row, strict=True))
                for row in rows
            ]
        return milliseconds, [str(row[-1]) for row in rows]


def table(measured: dict[tuple[str, str], Measured]) -> Iterator[str]:
    """Yield the measured requests in Markdown."""
    yield "| request | caller | time | statements | index entries | rows | blocks |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for (name, caller), one in measured.items():
        reads = " | ".join("" if value is None else f"{value:,}" for value in one.reads)
        yield (
            f"| {name} | {caller} | {one.milliseconds:.1f} ms | {len(one.statements)} | {reads} |"
        )


def shortened(line: str) -> str:
    """Return a line of SQL or of a plan without its long lists of columns and of keys."""
    line = LIST_OF_COLUMNS.sub("SELECT ... FROM", line)
    return LIST_OF_KEYS.sub(lambda found: f"{found[1]}, ... {found[2]}", line)


def shape(statement: str) -> str:
    """Return a statement without its values: those of one shape are planned alike."""
    return re.sub(r"'[^']*'|\b[0-9]+\b", "?", shortened(statement))


def report_plans(
    meter: Meter, measured: dict[tuple[str, str], Measured], which: str
) -> Iterator[str]:
    """Run every SELECT on runs again; yield which indexes they use, and the plans.

    ``which`` is one of PLANS: those of the slow ones, of all, or of none. Of several statements
    of one shape in one request the slowest is shown.
    """
    used: dict[str, dict[str, list[str]]] = {name: {} for name in meter.indexes()}
    shown: dict[tuple[str, str, str], tuple[float, list[str]]] = {}
    for (name, caller), one in measured.items():
        for statement in one.statements:
            if TABLE not in statement or not statement.lstrip("( ").startswith(("SELECT", "WITH")):
                continue
            milliseconds, plan = meter.plan(statement)
            found = ",".join(INDEX_IN_PLAN.findall("\n".join(plan)))
            for index in used.keys() & set(found.split(",")):
                callers = used[index].setdefault(name, [])
                if caller not in callers:
                    callers.append(caller)
            key = name, caller, shape(statement)
            if milliseconds > shown.get(key, (0, []))[0]:
                shown[key] = milliseconds, [statement, *plan]
    yield "\n| index | used by |"
    yield "| --- | --- |"
    for index, requests in sorted(used.items()):
        users = (f"{name} ({', '.join(callers)})" for name, callers in requests.items())
        yield f"| {index} | {'; '.join(users) or 'nothing'} |"
    for (name, caller, _), (milliseconds, lines) in shown.items():
        if which == "all" or (which == "slow" and milliseconds >= SLOW_MS):
            yield f"\n-- {name}, {caller}: {milliseconds:.1f} ms"
            yield from map(shortened, lines)


def set_up(url: str, settings: str) -> Any:
    """Set Django up for this process; return its connection, whose statements have no limit."""
    os.environ |= {
        "DATABASE_URL": url,
        "DJANGO_SETTINGS_MODULE": settings,
        "LIMITS": "0",
    }
    import django

    django.setup()
    from django.db import connection

    if connection.vendor == "postgresql":
        connection.settings_dict["OPTIONS"].pop("options", None)
    return connection
