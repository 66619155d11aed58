"""Runs of two people, spread evenly: 30,000 for GET and DELETE, 1000 for the list."""

from __future__ import annotations

import psycopg

TOKENS = {"get": "bench-token-many", "list": "bench-token-list", "delete": "bench-token-many"}
RUNS = 30_000

OWNERS = """
TRUNCATE actor_runs_run, authtoken_token, auth_user, auth_user_groups CASCADE;
INSERT INTO auth_user (id, username, password, is_superuser, is_staff, is_active, first_name,
                       last_name, email, date_joined)
    SELECT n, 'bench' || n, '', false, false, true, '', '', '', now()
    FROM generate_series(1, 2) n;
INSERT INTO authtoken_token (key, user_id, created)
    VALUES ('bench-token-many', 1, now()), ('bench-token-list', 2, now());
"""
FILL = """
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


def refill(connection: psycopg.Connection) -> None:
    """Insert those of the first person's runs that were deleted."""
    connection.execute(FILL, {"prefix": "bench", "user": 1, "count": RUNS})


def fill(url: str) -> None:
    """Insert the two people and their runs."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(OWNERS)
        connection.execute(FILL, {"prefix": "lists", "user": 2, "count": 1000})
        refill(connection)
        connection.execute("ANALYZE")
