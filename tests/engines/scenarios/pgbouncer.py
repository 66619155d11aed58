"""PgBouncer in transaction mode with four server connections, as docs/how-to/engines.md sets it."""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg

from tests.engines.pgbouncer import SERVER_CONNECTIONS, PgBouncer
from tests.engines.postgresql import DATABASE, USER, PostgreSQL
from tests.engines.stage import Row, Stage

ENGINE = "PgBouncer, transaction mode"
LOCK_TIMEOUT = 2  # seconds


def pgbouncer(stage: Stage) -> None:
    """Races through PgBouncer; restarted under load; exhausted; and its documented settings."""
    with (
        PostgreSQL(stage.folder, "postgresql").create() as server,
        PgBouncer(stage.folder, server) as pool,
    ):
        server.query(f"ALTER DATABASE {DATABASE} SET lock_timeout = '{LOCK_TIMEOUT}s'")
        server.query(f"ALTER DATABASE {DATABASE} SET statement_timeout = '30s'")
        pool.up()
        databases = {"default": pool.settings()}
        stage.set_up_django(databases)
        stage.migrate()
        from tests.engines.races import Races

        with stage.servers(*[databases] * 3) as servers:
            races = Races(ENGINE, servers, stage.witness_log)
            stage.report(races.run("races", stage.rounds(2000)))

            def restart() -> None:
                pool.kill()
                pool.up()

            def restart_server() -> None:
                server.kill()
                server.up()

            faults = [restart] * (2 if stage.short else 10) + [restart_server]
            what = f"PgBouncer killed {len(faults) - 1} times, PostgreSQL once"
            stage.report(
                races.run(what, stage.rounds(2000), may_be_unavailable=True, faults=faults)
            )
            stage.report(exhausted(races, pool))
            stage.report(lock_timeout(races, server))
        stage.report(startup_options(stage, races, pool))
        stage.report(ignored_options(stage, server))


def connect(pool: PgBouncer) -> psycopg.Connection:
    return psycopg.connect(host="127.0.0.1", port=pool.port, user=USER, dbname=DATABASE)


def new_run(races: Any) -> Any:
    """Make a finished run. This process's own connection may have died meanwhile."""
    from actor_runs.models import Run, RunStatus
    from tests.engines.races import persist

    return persist(lambda: Run.objects.create(user=races.owner.user, status=RunStatus.SUCCEEDED))


def exhausted(races: Any, pool: PgBouncer) -> Row:
    """All server connections are lent: 503 after ``query_wait_timeout``, and nothing happened."""
    from django.db import connections

    from actor_runs.models import Run
    from tests.engines.races import meaning_of

    row = Row(ENGINE, "exhausted, and free again")
    begin = time.monotonic()
    runs = [new_run(races) for _ in range(12)]
    connections.close_all()

    def delete(run: Run) -> str:
        row.requests += 1
        server = races.servers[row.requests % len(races.servers)]
        return meaning_of(server.delete(run, races.owner.token))

    with ThreadPoolExecutor(len(runs)) as clients:
        with contextlib.ExitStack() as stack:
            for _ in range(SERVER_CONNECTIONS):
                lent = stack.enter_context(connect(pool))
                lent.execute("SELECT 1")  # a transaction that stays open
            outcomes = list(clients.map(delete, runs))
            row.unavailable = outcomes.count("unavailable")
            row.check(set(outcomes) == {"unavailable"}, f"while exhausted: {outcomes}")
        row.check(all(Run.objects.filter(pk=run.pk).exists() for run in runs), "a run is gone")
        outcomes = list(clients.map(delete, runs))
        row.check(set(outcomes) == {"deleted"}, f"once free again: {outcomes}")
    row.seconds = time.monotonic() - begin
    return row


def lock_timeout(races: Any, server: PostgreSQL) -> Row:
    """``ALTER DATABASE ... SET lock_timeout`` counts for connections through PgBouncer."""
    from actor_runs.models import Run
    from tests.engines.races import meaning_of

    row = Row(ENGINE, "lock_timeout set by ALTER DATABASE")
    begin = time.monotonic()
    for each in races.servers:
        run = new_run(races)
        with server.connect() as holder, holder.transaction():
            holder.execute("SELECT 1 FROM actor_runs_run WHERE id = %s FOR UPDATE", [run.pk])
            # It ends while the row is still held: by the time-out and by nothing else.
            outcome = meaning_of(each.delete(run, races.owner.token))
        row.requests += 1
        row.unavailable += outcome == "unavailable"
        row.check(outcome == "unavailable", f"a DELETE that waits for a lock got {outcome}")
        row.check(Run.objects.filter(pk=run.pk).exists(), "the run is gone")
    row.seconds = time.monotonic() - begin
    return row


def startup_options(stage: Stage, races: Any, pool: PgBouncer) -> Row:
    """The startup parameter ``options`` is refused: the reason why ALTER DATABASE is needed."""
    row = Row(ENGINE, "the startup parameter options is refused")
    settings = pool.settings(options={"options": "-c lock_timeout=5s"})
    with stage.servers({"default": settings}, workers=1) as (server,):
        answer = server.request("GET", "/v2/actor-runs", races.owner.token)
    row.requests += 1
    row.unavailable += 1
    row.check(answer.status == 503, f"{answer.status}: PgBouncer takes options by now")
    return row


def ignored_options(stage: Stage, server: PostgreSQL) -> Row:
    """With ``ignore_startup_parameters = options`` what ``options`` set is silently gone."""
    row = Row(ENGINE, "ignore_startup_parameters = options loses time-outs")
    with PgBouncer(stage.folder, server, "ignoring", ignored="options") as ignoring:
        ignoring.up()
        with psycopg.connect(
            host="127.0.0.1",
            port=ignoring.port,
            user=USER,
            dbname=DATABASE,
            options="-c lock_timeout=7s",
        ) as connection:
            (timeout,) = connection.execute("SHOW lock_timeout").fetchone() or ("",)
    row.requests += 1
    row.check(timeout == f"{LOCK_TIMEOUT}s", f"lock_timeout is {timeout}, not ALTER DATABASE's")
    return row
