"""PostgreSQL by itself: stricter isolation, and runs in hash partitions."""

from __future__ import annotations

import re

from tests.engines.postgresql import PostgreSQL
from tests.engines.stage import Row, Stage

# psycopg's numbers of the levels; READ COMMITTED, Django's default, is 2.
ISOLATION = {"REPEATABLE READ": 3, "SERIALIZABLE": 4}
PARTITIONS = 16


def isolation(stage: Stage) -> None:
    """REPEATABLE READ and SERIALIZABLE: a loser may see 503 in place of 404, and nothing else."""
    with PostgreSQL(stage.folder, "postgresql").create() as server:
        # One connection of the host's for each level, to the same database.
        databases = {
            name: server.settings(options={"isolation_level": number})
            for name, number in ISOLATION.items()
        }
        stage.set_up_django({"default": server.settings(), **databases})
        stage.migrate()
        from tests.engines.prunes import prune_beside_writers
        from tests.engines.races import Races

        for name, settings in databases.items():
            with stage.servers(*[{"default": settings}] * 2) as servers:
                races = Races(f"PostgreSQL, {name}", servers, stage.witness_log, aliases=[name])
                row = races.run("races", stage.rounds(2000), may_be_unavailable=True)
                stage.report(row)
                stage.report(prune_beside_writers(races.engine, [name], stage.rounds(24)))


def partitions(stage: Stage) -> None:
    """Hash partitions by ``id``, made by hand ahead of ``migrate --fake-initial``."""
    with PostgreSQL(stage.folder, "postgresql").create() as server:
        stage.set_up_django({"default": server.settings()})
        from django.core.management import call_command
        from django.db import connection

        for app in ("contenttypes", "auth"):
            call_command("migrate", app, verbosity=0)
        with connection.cursor() as cursor:
            cursor.execute(partitioned(sql_of_first_migration()))
        call_command("migrate", fake_initial=True, verbosity=0)
        from actor_runs.models import Run
        from tests.engines.races import Races

        settings = {"default": server.settings()}
        with stage.servers(settings, settings) as servers:
            races = Races("PostgreSQL, hash partitions", servers, stage.witness_log)
            row = races.run("races", stage.rounds(2000))
            stage.report(row)
            row = Row(races.engine, "lists and reads over all partitions")
            made = {Run.objects.create(user=races.owner.user).pk for _ in range(64)}
            used = server.query("SELECT count(DISTINCT tableoid) FROM actor_runs_run")[0][0]
            row.check(used > PARTITIONS // 2, f"{used} partitions hold runs")
            listed: set[str] = set()
            for offset in range(0, 1000, 10):
                path = f"/v2/actor-runs?limit=10&offset={offset}"
                page = servers[offset // 10 % 2].request("GET", path, races.owner.token)
                row.requests += 1
                items = page.json["data"]["items"]
                listed |= {item["id"] for item in items}
                if not items:
                    break
            row.check(made <= listed, f"not in the list: {made - listed}")
            for pk in made:
                answer = servers[0].get(Run(pk=pk), races.owner.token)
                row.requests += 1
                row.check(answer.status == 200, f"GET answered {answer.status}")
            stage.report(row)


def sql_of_first_migration() -> str:
    import io

    from django.core.management import call_command

    sql = io.StringIO()
    call_command("sqlmigrate", "actor_runs", "0001", stdout=sql, no_color=True)
    return sql.getvalue()


def partitioned(sql: str) -> str:
    """Return a migration's statements for a table in partitions, as docs/how-to/engines.md says."""
    create = re.compile(r'(CREATE TABLE "actor_runs_run" \(.*?\));', re.DOTALL)
    sql, count = create.subn(r"\1 PARTITION BY HASH (id);", sql, count=1)
    assert count == 1, sql
    parts = [
        f"CREATE TABLE actor_runs_run_{n} PARTITION OF actor_runs_run"
        f" FOR VALUES WITH (MODULUS {PARTITIONS}, REMAINDER {n});"
        for n in range(PARTITIONS)
    ]
    body = sql.replace("BEGIN;", "").replace("COMMIT;", "")
    return "\n".join(["BEGIN;", body, *parts, "COMMIT;"])
