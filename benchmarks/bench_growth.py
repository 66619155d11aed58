"""What grows with the table: the same requests at more and more runs, on PostgreSQL.

    python -m benchmarks.bench_growth [--sizes 1000 100000 10000000]

Needs what bench_http needs, without wrk. One caller owns a tenth of all runs, and is a member of
an organization that owns a hundredth; the others belong to other people. Prints the median time
of each request, and how PostgreSQL answered each query. Ten million runs need 15 GB of disk.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import statistics
import sys
import time
from collections.abc import Iterator

import psycopg

from benchmarks import even
from benchmarks.databases import own_database
from benchmarks.servers import free_port, server_command, started

TOKEN = "bench-token-many"  # noqa: S105
REPEAT = 50
REQUESTS = {
    "GET of a run": ("GET", "/{run}"),
    "DELETE of a run": ("DELETE", "/{run}"),
    "newest page of 100": ("GET", "?limit=100&desc=1"),
    "newest page of 100, FAILED": ("GET", "?limit=100&desc=1&status=FAILED"),
    "page of 100 of one day": (
        "GET",
        "?limit=100&startedAfter=2026-01-01&startedBefore=2026-01-02",
    ),
    "page of 100 in the middle": ("GET", "?limit=100&offset={middle}"),
}
# The app's own statements, but for the columns of a page.
MINE = "(user_id = 1 OR organization_id IN (1))"
PAGE = f"SELECT * FROM actor_runs_run WHERE {MINE}"  # noqa: S608
NEWEST = "ORDER BY started_at DESC, id DESC LIMIT 101"
QUERIES = {
    "token and user": "SELECT * FROM authtoken_token t JOIN auth_user u ON u.id = t.user_id "
    "WHERE t.key = 'bench-token-many'",
    "run": "SELECT * FROM actor_runs_run WHERE id = '{run}'",
    "membership": "SELECT 1 FROM auth_group g JOIN auth_user_groups m ON m.group_id = g.id "
    "WHERE m.user_id = 1 AND g.id = 1 LIMIT 1",
    "deletion": "DELETE FROM actor_runs_run WHERE id = '{run}' AND user_id = 1 "
    "AND organization_id IS NULL AND status IN ('SUCCEEDED', 'FAILED', 'TIMED-OUT', 'ABORTED')",
    "organizations": "SELECT g.id FROM auth_group g JOIN auth_user_groups m ON m.group_id = g.id "
    "WHERE m.user_id = 1",
    "newest page": f"{PAGE} {NEWEST}",
    "newest page, FAILED": f"{PAGE} AND status IN ('FAILED') {NEWEST}",
    "page of one day": f"{PAGE} AND started_at >= '2026-01-01Z' AND started_at <= '2026-01-02Z' "
    "ORDER BY started_at, id LIMIT 101",
    "page in the middle": f"{PAGE} ORDER BY started_at, id LIMIT 101 OFFSET {{middle}}",
    "total": f"SELECT COUNT(*) FROM actor_runs_run WHERE {MINE}",  # noqa: S608
}
# Ten thousand people with a token, each in an organization of ten.
FILL_OTHERS = """
INSERT INTO auth_user (id, username, password, is_superuser, is_staff, is_active, first_name,
                       last_name, email, date_joined)
    SELECT n, 'person' || n, '', false, false, true, '', '', '', now()
    FROM generate_series(3, 10000) n;
INSERT INTO authtoken_token (key, user_id, created)
    SELECT 'token' || n, n, now() FROM generate_series(3, 10000) n;
INSERT INTO auth_group (id, name) SELECT n, 'Organization ' || n FROM generate_series(1, 1000) n;
INSERT INTO auth_user_groups (user_id, group_id)
    SELECT n, (n - 1) / 10 + 1 FROM generate_series(1, 10000) n;
ANALYZE;
"""
FILL = """
INSERT INTO actor_runs_run (
    id, user_id, organization_id, status, started_at, finished_at, act_id, actor_task_id,
    build_id, build_number, exit_code, status_message, general_access,
    default_key_value_store_id, default_dataset_id, default_request_queue_id, container_url,
    git_branch_name, meta, options, stats, usage_total_usd, platform_usage_billing_model,
    version
) SELECT
    'grow' || lpad(n::text, 12, '0'),
    CASE WHEN n %% 10 = 0 THEN 1 WHEN n %% 100 = 1 THEN NULL ELSE 2 END,
    CASE WHEN n %% 100 = 1 THEN 1 END,
    CASE WHEN n %% 50 = 0 THEN 'FAILED' ELSE 'SUCCEEDED' END,
    '2026-11-01Z'::timestamptz - (%(count)s::int - n) * interval '3 seconds',
    '2026-11-01Z'::timestamptz - (%(count)s::int - n) * interval '3 seconds' + interval '1 minute',
    'HDSasDasz78YcAPEB', '', '7sT5jcggjjA9fNcxF', '0.1.2', 0, 'Done.', 'RESTRICTED',
    'eJNzqsbPiopwJcgGQ', 'wmKPijuyDnPZAPRMk', 'FL35cSF7jrxr3BY39', '', '',
    '{"origin": "API"}', '{"build": "latest", "timeoutSecs": 300, "memoryMbytes": 1024,
    "diskMbytes": 2048}', '{"resurrectCount": 0, "durationMillis": 60000}', 0.2, '', 2
FROM generate_series(%(first)s::int, %(last)s::int) n;
"""


def fill(database: psycopg.Connection, first: int, count: int) -> None:
    step = 500_000
    for start in range(first, count + 1, step):
        last = min(start + step - 1, count)
        database.execute(FILL, {"first": start, "last": last, "count": count})
    database.execute("VACUUM ANALYZE actor_runs_run")


def timed(port: int, method: str, paths: Iterator[str]) -> float:
    """Return the median time of the requests, in milliseconds."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    taken = []
    for path in paths:
        begin = time.perf_counter()
        connection.request(
            method, f"/v2/actor-runs{path}", headers={"Authorization": f"Bearer {TOKEN}"}
        )
        response = connection.getresponse()
        response.read()
        taken.append((time.perf_counter() - begin) * 1000)
        if response.status not in (200, 204):
            sys.exit(f"{method} {path} answered {response.status}.")
    return statistics.median(taken)


def paths(path: str, first: int, size: int, delete: bool) -> Iterator[str]:
    """Paths of the caller's own runs, every tenth, spread over those from ``first`` on."""
    for number in range(REPEAT if "{run}" in path else 7):
        run = first + number * (size - first) // REPEAT // 20 * 20 + (10 if delete else 20)
        yield path.format(run=f"grow{run:012d}", middle=size // 20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="*", default=[1000, 100_000, 10_000_000])
    sizes = sorted(parser.parse_args().sizes)
    port = free_port()
    results: dict[str, list[str]] = {name: [] for name in REQUESTS}
    plans: list[str] = []
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(own_database("growth"))
        even.fill(url)
        env = os.environ | {"DATABASE_URL": url, "PEER": "actor_runs_app", "LIMITS": "0"}
        database = stack.enter_context(psycopg.connect(url, autocommit=True))
        database.execute("TRUNCATE actor_runs_run CASCADE")
        database.execute(FILL_OTHERS)
        stack.enter_context(started(server_command("actor_runs_app", port), port, env))
        filled = 0
        for size in sizes:
            fill(database, filled + 1, size)
            timed(port, "GET", iter(["?limit=1"] * 20))  # warm
            for name, (method, path) in REQUESTS.items():
                requests = paths(path, filled, size, method == "DELETE")
                results[name].append(f"{timed(port, method, requests):.1f} ms")
            filled = size
        for name, query in QUERIES.items():
            text = query.format(run=f"grow{20:012d}", middle=sizes[-1] // 20)
            with database.transaction(force_rollback=True):
                explain = f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {text}"
                rows = database.execute(explain).fetchall()
            plans += [f"\n-- {name}\n{text}", *(row[0] for row in rows)]
        (disk,) = database.execute("""
            SELECT pg_size_pretty(pg_relation_size('actor_runs_run')) || ' and '
                || pg_size_pretty(pg_indexes_size('actor_runs_run')) || ' of indexes'
        """).fetchone() or ("",)
    print("| request | " + " | ".join(f"{size:,} runs" for size in sizes) + " |")
    print("| --- |" + " --- |" * len(sizes))
    for name, row in results.items():
        print(f"| {name} | " + " | ".join(row) + " |")
    print(f"\n{sizes[-1]:,} runs: {disk}.")
    print("\n".join(plans))


if __name__ == "__main__":
    main()
