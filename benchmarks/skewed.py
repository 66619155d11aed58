"""Runs that lie where a list finds them least easily, in any number, on any database.

An even distribution hides what a list reads: the runs of every caller are then on every page.
Here one caller owns many runs, all older than everybody else's, one owns a few new ones, one is a
member of 150 organizations, and one owns nothing. IDs are random, as the app's own are.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Any

# The primary keys of the callers, their tokens, and those of organizations.
OLD, FEW, MEMBER, NONE, ADMIN = range(1, 6)
TOKENS = {OLD: "bench-old", FEW: "bench-few", MEMBER: "bench-member", NONE: "bench-none"}
CALLERS = {
    OLD: "many old runs",
    FEW: "few new runs",
    MEMBER: "150 organizations",
    NONE: "no runs",
}
OLD_ORGANIZATION, EMPTY_ORGANIZATION = 1, 2
ORGANIZATIONS = range(101, 251)  # those of MEMBER
OTHER_USERS, OTHER_ORGANIZATIONS = range(10, 1007), range(1001, 1992)

OLD_SHARE = 50  # one run in so many is OLD's
SECONDS = 3  # between one run and the next
BATCH = 500_000

SERIES = {
    "postgresql": ("", "generate_series({first}, {last}) AS series(n)"),
    "mysql": ("", "(SELECT seq AS n FROM seq_{first}_to_{last}) AS series"),
    "sqlite": (
        "WITH RECURSIVE series(n) AS "
        "(SELECT {first} UNION ALL SELECT n + 1 FROM series WHERE n < {last})",
        "series",
    ),
}
IDS = {
    "postgresql": "left(md5(n::text), 17)",
    "mysql": "left(md5(n), 17)",
    "sqlite": "substr(lower(hex(randomblob(9))), 1, 17)",
}
# A moment so many seconds after the start of 1970.
TIMES = {
    "postgresql": "to_timestamp({})",
    "mysql": "timestampadd(SECOND, {}, '1970-01-01')",
    "sqlite": "datetime({}, 'unixepoch')",
}
INSERT = """
INSERT INTO actor_runs_run (
    id, user_id, organization_id, status, started_at, finished_at, act_id, actor_task_id,
    build_id, build_number, exit_code, status_message, general_access,
    default_key_value_store_id, default_dataset_id, default_request_queue_id, container_url,
    git_branch_name, meta, options, stats, usage_total_usd, platform_usage_billing_model, version
)
{with_series}
SELECT
    {id},
    CASE
        WHEN n < {old} THEN CASE WHEN n % 100 = 1 THEN NULL ELSE 1 END
        WHEN n >= {newest} AND n % 100 = 3 THEN 2
        WHEN n % {hundredth} = 11 THEN 3
        WHEN n % 100 = 7 OR n % 10 = 9 THEN NULL
        ELSE 10 + n % 997
    END,
    CASE
        WHEN n < {old} THEN CASE WHEN n % 100 = 1 THEN 1 END
        WHEN n >= {newest} AND n % 100 = 3 THEN NULL
        WHEN n % {hundredth} = 11 THEN NULL
        WHEN n % 100 = 7 THEN 101 + ((n - n % 100) / 100) % 150
        WHEN n % 10 = 9 THEN 1001 + n % 991
    END,
    CASE
        WHEN n >= {count} - 100 THEN 'RUNNING'
        WHEN n % 10007 = 5 THEN 'ABORTED'
        WHEN n % 49 = 0 THEN 'FAILED'
        ELSE 'SUCCEEDED'
    END,
    {started_at},
    CASE WHEN n < {count} - 100 THEN {finished_at} END,
    'HDSasDasz78YcA' || (100 + n % 900), '', '7sT5jcggjjA9fNcxF', '0.1.2',
    CASE WHEN n < {count} - 100 THEN 0 END, 'Done.',
    CASE WHEN n % 100003 = 1 THEN 'ANYONE_WITH_ID_CAN_READ' ELSE 'FOLLOW_USER_SETTING' END,
    'eJNzqsbPiopwJcgGQ', 'wmKPijuyDnPZAPRMk', 'FL35cSF7jrxr3BY39', '', '',
    '{{"origin": "API"}}',
    '{{"build": "latest", "timeoutSecs": 300, "memoryMbytes": 1024, "diskMbytes": 2048}}',
    '{{"inputBodyLen": 240, "resurrectCount": 0, "durationMillis": 60000, "runTimeSecs": 60}}',
    0.2, '', 2
FROM {series}
"""


def fill(connection: Any, count: int) -> None:
    """Insert the callers, the others and ``count`` runs, through Django's ``connection``."""
    insert_owners()
    insert_runs(connection, count)


def insert_runs(connection: Any, count: int) -> None:
    """Insert ``count`` runs of owners that are there; the last one starts now."""
    begin = time.monotonic()
    start = int(time.time()) - count * SECONDS
    vendor = connection.vendor
    with connection.cursor() as cursor, without_indexes(connection):
        if vendor == "mysql":
            cursor.execute("SET sql_mode = CONCAT(@@sql_mode, ',PIPES_AS_CONCAT')")
        for first in range(0, count, BATCH):
            last = min(first + BATCH, count) - 1
            cursor.execute(insertion(vendor, first, last, count, start))
            print(f"{first + BATCH:,} runs, {time.monotonic() - begin:.0f} s", file=sys.stderr)
    with connection.cursor() as cursor:
        cursor.execute(
            {
                "postgresql": "VACUUM ANALYZE",
                "mysql": "ANALYZE TABLE actor_runs_run",
                "sqlite": "ANALYZE",
            }[vendor]
        )
    print(f"Loaded in {time.monotonic() - begin:.0f} s.", file=sys.stderr)


def insertion(vendor: str, first: int, last: int, count: int, start: int) -> str:
    """Return the statement that inserts the runs from ``first`` to ``last`` of ``count``.

    Run 0 starts at ``start``, in seconds since 1970.
    """
    with_series, series = (part.format(first=first, last=last) for part in SERIES[vendor])
    return INSERT.format(
        with_series=with_series,
        series=series,
        id=IDS[vendor],
        old=count // OLD_SHARE,
        newest=count - 3000,
        hundredth=max(count // 100, 100),
        count=count,
        started_at=TIMES[vendor].format(f"{start} + n * {SECONDS}"),
        finished_at=TIMES[vendor].format(f"{start} + n * {SECONDS} + 60"),
    )


def insert_owners() -> None:
    """Insert users, tokens, organizations and who is a member of which."""
    from django.contrib.auth.models import Group, User
    from rest_framework.authtoken.models import Token

    names = {key: name.replace(" ", "-") for key, name in CALLERS.items()} | {ADMIN: "admin"}
    names |= {key: f"user-{key}" for key in OTHER_USERS}
    User.objects.bulk_create(
        User(id=key, username=name, is_staff=key == ADMIN, is_superuser=key == ADMIN)
        for key, name in names.items()
    )
    Token.objects.bulk_create(Token(user_id=user, key=key) for user, key in TOKENS.items())
    organizations = [OLD_ORGANIZATION, EMPTY_ORGANIZATION, *ORGANIZATIONS, *OTHER_ORGANIZATIONS]
    Group.objects.bulk_create(Group(id=key, name=f"Organization {key}") for key in organizations)
    membership = User.groups.through
    members = [(OLD, OLD_ORGANIZATION), (NONE, EMPTY_ORGANIZATION)]
    members += [(MEMBER, key) for key in ORGANIZATIONS]
    # The others: each in two organizations.
    for key in OTHER_USERS:
        offset = key % len(OTHER_ORGANIZATIONS)
        members += [(key, OTHER_ORGANIZATIONS[offset]), (key, OTHER_ORGANIZATIONS[offset - 1])]
    membership.objects.bulk_create(
        membership(user_id=user, group_id=group) for user, group in members
    )


@contextlib.contextmanager
def without_indexes(connection: Any) -> Iterator[None]:
    """Drop the indexes of the runs' table and create them again at the end, on PostgreSQL.

    It is several times as fast as filling them row by row. Foreign keys are not checked meanwhile.
    """
    if connection.vendor != "postgresql":
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute("""
            SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint
            WHERE conrelid = 'actor_runs_run'::regclass AND contype IN ('p', 'u')
        """)
        constraints = cursor.fetchall()
        cursor.execute("""
            SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index
            WHERE indrelid = 'actor_runs_run'::regclass AND indexrelid NOT IN (
                SELECT conindid FROM pg_constraint WHERE contype IN ('p', 'u'))
        """)
        indexes = cursor.fetchall()
        for name, _definition in indexes:
            cursor.execute(f"DROP INDEX {name}")
        for name, _definition in constraints:
            cursor.execute(f'ALTER TABLE actor_runs_run DROP CONSTRAINT "{name}"')
        cursor.execute("SET session_replication_role = replica")
    yield
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = DEFAULT")
        cursor.execute("SET maintenance_work_mem = '512MB'")
        for name, definition in constraints:
            cursor.execute(f'ALTER TABLE actor_runs_run ADD CONSTRAINT "{name}" {definition}')
        for _name, definition in indexes:
            cursor.execute(definition)
        cursor.execute("RESET maintenance_work_mem")
