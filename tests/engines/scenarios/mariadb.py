"""MariaDB with snapshot isolation, and Galera."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.engines.mariadb import MariaDB, galera_cluster
from tests.engines.stage import Row, Stage


def snapshot(stage: Stage) -> None:
    """MariaDB with ``innodb_snapshot_isolation``, the default from 11.6.2 on."""
    with MariaDB(stage.folder, "mariadb", "--innodb-snapshot-isolation=ON").create() as server:
        databases = {"default": server.settings()}
        stage.set_up_django(databases)
        stage.migrate()
        from tests.engines.prunes import prune_beside_writers
        from tests.engines.races import Races

        with stage.servers(databases, databases) as servers:
            races = Races("MariaDB, snapshot isolation", servers, stage.witness_log)
            stage.report(races.run("races", stage.rounds(2000)))
            stage.report(joins_beside_resurrections(races, stage.rounds(400)))
            stage.report(prune_beside_writers(races.engine, ["default"], stage.rounds(24)))


def joins_beside_resurrections(races: Any, rounds: int) -> Row:
    """``filter(user__username=...).delete_finished()`` while one of the runs is resurrected."""
    from django.db import OperationalError, close_old_connections

    from actor_runs.exceptions import InvalidTransition
    from actor_runs.models import Run, RunStatus

    row = Row(races.engine, "delete_finished by a join beside resurrections")
    begin = time.monotonic()
    user = races.owner.user

    def delete(_number: int) -> int | str:
        try:
            return Run.objects.filter(user__username=user.username).delete_finished()
        except OperationalError as exc:
            return f"delete_finished raised {exc}"
        finally:
            close_old_connections()

    def resurrect(run: Run) -> str | None:
        try:
            run.transition_to(RunStatus.RUNNING)
        except InvalidTransition:
            return None
        finally:
            close_old_connections()
        return run.pk

    with ThreadPoolExecutor(4) as threads:
        for _ in range(rounds):
            Run.objects.filter(user=user).delete_finished()
            runs = [Run.objects.create(user=user, status=RunStatus.FAILED) for _ in range(8)]
            deletions = [threads.submit(delete, number) for number in range(2)]
            kept = {pk for pk in threads.map(resurrect, runs[::2]) if pk}
            deleted = [future.result() for future in deletions]
            row.requests += len(deleted) + len(runs[::2])
            failed = [result for result in deleted if not isinstance(result, int)]
            row.wrong += failed
            made = [run.pk for run in runs]
            left = set(Run.objects.filter(pk__in=made).values_list("pk", flat=True))
            row.check(kept <= left, f"resurrected and gone: {kept - left}")
            if not failed:
                gone = len(runs) - len(left)
                row.check(sum(deleted) == gone, f"{deleted} counted, {gone} gone")
    row.seconds = time.monotonic() - begin
    return row


def galera(stage: Stage) -> None:
    """Three nodes that all take writes: races across them, a node killed and back."""
    with galera_cluster(stage.folder) as nodes:
        aliases = ["default", "second", "third"]
        settings = [node.settings() for node in nodes]
        stage.set_up_django(dict(zip(aliases, settings, strict=True)))
        stage.migrate()
        from tests.engines.prunes import prune_beside_writers
        from tests.engines.races import Races

        with stage.servers(*({"default": each} for each in settings)) as servers:
            races = Races("Galera, three nodes", servers, stage.witness_log, aliases)
            stage.report(read_at_another_node(races, stage.rounds(800)))
            what = "races across nodes"
            stage.report(races.run(what, stage.rounds(2000), may_be_unavailable=True))
            stage.report(prune_beside_writers(races.engine, aliases, stage.rounds(24)))

            # Clients of the node that is killed get 503: it is one of three servers.
            def kill() -> None:
                nodes[2].kill()

            def bring_back() -> None:
                nodes[2].up()

            row = races.run(
                "a node killed, and back",
                stage.rounds(2000),
                may_be_unavailable=True,
                faults=[kill, bring_back],
            )
            stage.report(row)
            row = races.run("races after it", stage.rounds(400), may_be_unavailable=True)
            stage.report(row)


def read_at_another_node(races: Any, rounds: int) -> Row:
    """What one node has committed, every node reads at once: ``wsrep_sync_wait=7``."""
    from actor_runs.models import Run, RunStatus
    from tests.engines.races import meaning_of

    row = Row(races.engine, "a new run, and its end, at another node")
    begin = time.monotonic()
    for number in range(rounds):
        run = Run.objects.using(races.aliases[number % 3]).create(user=races.owner.user)
        server = races.servers[(number + 1) % 3]
        answer = server.get(run, races.owner.token)
        row.check(answer.status == 200, f"GET of a new run got {answer.status}")
        run.transition_to(RunStatus.RUNNING)
        run.transition_to(RunStatus.SUCCEEDED)
        got = meaning_of(races.servers[(number + 2) % 3].delete(run, races.owner.token))
        row.check(got == "deleted", f"a DELETE of a run that just finished got {got}")
        row.requests += 2
    row.seconds = time.monotonic() - begin
    return row
