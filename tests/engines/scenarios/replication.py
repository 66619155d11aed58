"""PostgreSQL with a standby: promoted under load, or behind in its replay."""

from __future__ import annotations

import time
from typing import Any

from tests.engines.haproxy import HAProxy
from tests.engines.postgresql import PostgreSQL, postgresql_settings
from tests.engines.processes import wait_until
from tests.engines.stage import Row, Stage

ROUTER = "tests.services.routers.ReadFromReplica"


def both(*servers: PostgreSQL) -> dict[str, Any]:
    """Return settings with both addresses: libpq takes the one that accepts writes."""
    return postgresql_settings(
        ",".join(str(server.port) for server in servers),
        host=",".join("127.0.0.1" for _ in servers),
        options={"target_session_attrs": "read-write"},
    )


def standby(stage: Stage) -> None:
    """A synchronous standby, promoted when the primary is killed under load."""
    with PostgreSQL(stage.folder, "primary").create() as primary:
        stage.set_up_django({"default": primary.settings()})
        stage.migrate()
        with primary.standby(stage.folder, "standby", synchronous=True) as second:
            promote_under_load(
                stage,
                "PostgreSQL, synchronous standby, two hosts",
                both(primary, second),
                primary,
                second,
            )


def haproxy(stage: Stage) -> None:
    """The same through HAProxy, which finds the primary by itself."""
    with PostgreSQL(stage.folder, "primary").create() as primary:
        stage.set_up_django({"default": primary.settings()})
        stage.migrate()
        with (
            primary.standby(stage.folder, "standby", synchronous=True) as second,
            HAProxy(stage.folder, primary, second) as proxy,
        ):
            proxy.up()
            promote_under_load(
                stage, "PostgreSQL, synchronous standby, HAProxy", proxy.settings(), primary, second
            )


def promote_under_load(
    stage: Stage,
    engine: str,
    settings: dict[str, Any],
    primary: PostgreSQL,
    second: PostgreSQL,
) -> None:
    from django.db import connections

    # From here on the host's own code takes the way that its servers take.
    connections.close_all()
    connections.settings["default"].update(settings)
    from tests.engines.races import Races, persist

    with stage.servers(*[{"default": settings}] * 3) as servers:
        races = persist(lambda: Races(engine, servers, stage.witness_log))
        stage.report(races.run("races", stage.rounds(1200)))

        def fail_over() -> None:
            primary.kill()
            second.promote()

        what = "primary killed, standby promoted"
        row = races.run(
            what, stage.rounds(2000), may_be_unavailable=True, faults=[fail_over], lanes=8
        )
        stage.report(row)
        stage.report(races.run("races after it", stage.rounds(400)))


def replica(stage: Stage) -> None:
    """An asynchronous replica whose replay is paused, behind a router that sends reads to it."""
    with PostgreSQL(stage.folder, "primary").create() as primary:
        databases = {"default": primary.settings()}
        with primary.standby(stage.folder, "replica", synchronous=False) as second:
            databases["replica"] = second.settings()
            stage.set_up_django(databases, DATABASE_ROUTERS=[ROUTER])
            stage.migrate()
            wait_until(lambda: second.has_replayed(primary.position()), "the replica is behind")
            with stage.servers(databases, databases, DATABASE_ROUTERS=[ROUTER]) as servers:
                decide_on_the_primary(stage, servers, primary, second)


def decide_on_the_primary(
    stage: Stage, servers: Any, primary: PostgreSQL, second: PostgreSQL
) -> None:
    from django.contrib.auth.models import Group

    from actor_runs.models import Run, RunStatus
    from tests.engines.races import Races, make_party, meaning_of

    engine = "PostgreSQL, replica with replay paused"
    races = Races(engine, servers, stage.witness_log)
    owner, stranger = races.owner, races.stranger
    row = Row(engine, "what changed at the primary decides")
    begin = time.monotonic()

    def finished(**fields: Any) -> Run:
        fields = fields or {"user": owner.user}
        return Run.objects.create(status=RunStatus.SUCCEEDED, **fields)

    def expect(outcome: str, run: Run, token: str) -> None:
        for server in servers:
            got = meaning_of(server.delete(run, token))
            row.requests += 1
            row.check(got == outcome, f"a DELETE got {got}, not {outcome}")

    for number in range(stage.rounds(160)):
        acme = Group.objects.create(name=f"Acme {number}")
        former = make_party(f"former-{number}")
        former.user.groups.add(acme)
        resurrected, given_away, of_acme, deleted = (
            *(finished() for _ in range(2)),
            finished(organization=acme),
            finished(),
        )
        position = primary.position()
        wait_until(lambda position=position: second.has_replayed(position), "the replica is behind")
        second.query("SELECT pg_wal_replay_pause()")
        resurrected.transition_to(RunStatus.RUNNING)
        Run.objects.filter(pk=given_away.pk).update(user=stranger.user)
        former.user.groups.remove(acme)
        revoked = make_party(f"revoked-{number}")
        new = finished()
        deleted.delete()
        expect("unfinished", resurrected, owner.token)
        expect("forbidden", given_away, owner.token)
        expect("forbidden", of_acme, former.token)
        expect("gone", deleted, owner.token)
        got = meaning_of(servers[number % 2].delete(new, owner.token))
        row.requests += 1
        row.check(got == "deleted", f"a DELETE of a new run got {got}")
        # A token that the replica still has, and the primary has not.
        second.query("SELECT pg_wal_replay_resume()")
        position = primary.position()
        wait_until(lambda position=position: second.has_replayed(position), "the replica is behind")
        second.query("SELECT pg_wal_replay_pause()")
        revoked.user.auth_token.delete()
        answer = servers[number % 2].delete(of_acme, revoked.token)
        row.requests += 1
        row.check(answer.status == 401, f"a revoked token got {answer.status}")
        second.query("SELECT pg_wal_replay_resume()")
        kept = {resurrected.pk, given_away.pk, of_acme.pk}
        here = set(Run.objects.using("default").filter(pk__in=kept).values_list("pk", flat=True))
        row.check(here == kept, f"gone: {kept - here}")
    row.seconds = time.monotonic() - begin
    stage.report(row)

    second.query("SELECT pg_wal_replay_pause()")
    stage.report(races.run("races, while replay is paused", stage.rounds(1200)))
    second.query("SELECT pg_wal_replay_resume()")
