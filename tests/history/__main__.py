"""A proof by history: ``python -m tests.history [--database NAME] [--operations N] [--faults]``.

Many clients do everything at once to a few hundred runs, by every way in, against several server
processes. Each operation is logged with its begin, end and answer. Then the checker looks for one
order of each run's operations that explains every answer. A run that has none is an anomaly.

``--faults`` kills workers, connections and servers meanwhile. ``--planted FAULT`` plants a fault
into the app, to see that it is found. The databases are started by this command itself.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.engines.processes import temporary_folder
from tests.engines.stage import Stage
from tests.engines.witness import WitnessLog
from tests.history.account import Account, account_for
from tests.history.clients import PROCESSES, run_process
from tests.history.databases import DATABASES, Database
from tests.history.faults import break_things
from tests.history.operations import Operation, read_log
from tests.history.world import SLOTS, Slots, World, make_world, owner_of

SETTINGS = "tests.history.settings"
SHOWN = 5  # anomalies


def make_history(
    stage: Stage, database: Database, options: argparse.Namespace, faults: Counter[str] | None
) -> tuple[World, list[Operation]]:
    """Let the clients work, and return what they and a last look at the runs logged."""
    stage.set_up_django({"default": database.connections[0]})
    stage.migrate()
    # At least two servers, one on each node of a cluster.
    connections = (database.connections * 2)[: max(2, len(database.connections))]
    with stage.servers(*({"default": each} for each in connections)) as servers:
        ports = [server.port for server in servers]
        # Every second server runs without the witness: see Stage.servers.
        world = make_world(ports, ports[::2])
        slots = Slots(options.slots)
        spawn = multiprocessing.get_context("spawn")
        processes = []
        for number in range(PROCESSES):
            mine = database.connections[number % len(database.connections)]
            env = {**os.environ, "SETTINGS": json.dumps({"DATABASES": {"default": mine}})}
            arguments = (
                number,
                options.operations,
                options.seed,
                env,
                str(stage.folder),
                world,
                slots,
            )
            processes.append(spawn.Process(target=run_process, args=arguments))
        for process in processes:
            process.start()
        try:
            wait_for(processes, slots, options.operations, faults, database, servers)
        finally:
            for process in processes:
                process.kill()
        if any(process.exitcode for process in processes):
            sys.exit("A client process died.")
    logged = []
    for number in range(PROCESSES):
        logged += read_log(stage.folder / f"operations-{number}.jsonl")
    return world, logged + last_look(logged)


def wait_for(
    processes: list[Any],
    slots: Slots,
    operations: int,
    faults: Counter[str] | None,
    database: Database,
    servers: list[Any],
) -> None:
    def is_over(seconds: float) -> bool:
        working = [process for process in processes if process.is_alive()]
        if working:
            working[0].join(seconds)
        if any(process.exitcode for process in processes):
            sys.exit("A client process died.")
        return not working

    if faults is not None:
        break_things(database, servers, faults, lambda: slots.done.value, operations, is_over)
    while not is_over(10):
        print(f"{slots.done.value} operations", file=sys.stderr, flush=True)


def last_look(logged: list[Operation]) -> list[Operation]:
    """Read every run that ever existed, after all other operations."""
    from django.db import connections

    from actor_runs.models import Run

    connections.close_all()
    begin = time.monotonic()
    runs = {run.pk: run for run in Run.objects.all()}
    end = time.monotonic()
    looks = []
    for number, name in enumerate(sorted({one.run for one in logged if one.run} | runs.keys())):
        answer: list[Any] = ["gone"]
        if run := runs.get(name):
            resurrections = run.stats.get("resurrectCount", 0)
            answer = ["read", owner_of(run), str(run.status), run.status_message, resurrections]
        looks.append(
            Operation(f"last.{number}", "read", begin, end, {"handle": ""}, name, None, answer)
        )
    return looks


def print_account(
    database: str, account: Account, faults: Counter[str], times: tuple[float, float]
) -> None:
    for anomaly in account.anomalies[:SHOWN]:
        print(f"ANOMALY {anomaly}\n")
    if len(account.anomalies) > SHOWN:
        print(f"... and {len(account.anomalies) - SHOWN} other anomalies\n")
    broken = ", ".join(f"{count} {name}" for name, count in sorted(faults.items()))
    made, checked = times
    print("| database | operations | runs | no answer | faults | anomalies | undecided | s |")
    print("| --- | ---: | ---: | ---: | --- | ---: | ---: | ---: |")
    print(
        f"| {database} | {account.operations} | {account.runs} | {account.unanswered} "
        f"| {broken or 'none'} | {len(account.anomalies)} | {account.undecided} "
        f"| {made:.0f} + {checked:.0f} |"
    )


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    begin = time.monotonic()
    return work(), time.monotonic() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--database", choices=DATABASES, default="postgresql")
    parser.add_argument("--operations", type=int, default=20_000)
    parser.add_argument("--faults", action="store_true", help="break things meanwhile")
    parser.add_argument("--planted", metavar="FAULT", help="a fault of tests/history/planted")
    parser.add_argument("--slots", type=int, default=SLOTS, help="runs at a time")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="copy the logs there")
    options = parser.parse_args()
    # A history that is told to stop cleans up too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    if options.planted:
        os.environ["PLANTED_FAULT"] = options.planted
    print(f"seed {options.seed}", file=sys.stderr, flush=True)
    random.seed(options.seed)
    faults: Counter[str] = Counter()
    with temporary_folder() as folder:
        stage = Stage(folder, short=False, settings=SETTINGS)
        with DATABASES[options.database](folder) as database:
            (world, operations), made = timed(
                lambda: make_history(
                    stage,
                    database,
                    options,
                    faults if options.faults else None,
                )
            )
        if options.keep:
            options.keep.mkdir(parents=True, exist_ok=True)
            for log in (*folder.glob("*.jsonl"), stage.witness_log):
                shutil.copy(log, options.keep)
        heard = WitnessLog(stage.witness_log).times()
        account, checked = timed(lambda: account_for(operations, heard, world.witnessed_ports))
    print_account(options.database, account, faults, (made, checked))
    sys.exit(bool(account.anomalies or account.undecided))


if __name__ == "__main__":
    main()
