"""Two prunes beside writers that never rest: they come to an end, and delete what they may."""

from __future__ import annotations

import datetime
import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.db import OperationalError, close_old_connections
from django.utils import timezone

from actor_runs.exceptions import InvalidTransition
from actor_runs.models import Run, RunStatus
from tests.engines.races import make_party, persist
from tests.engines.stage import Row

RUNS = 200  # one batch: each writer disturbs each attempt
WRITERS = 3
PRUNES = 2


def prune_beside_writers(engine: str, aliases: Sequence[str], rounds: int) -> Row:
    """Return the account of ``rounds`` rounds, each on new runs and on all of ``aliases``."""
    row = Row(engine, "two prunes beside steady writers")
    begin = time.monotonic()
    owner = persist(lambda: make_party(f"pruned-{engine}")).user
    for _ in range(rounds):
        _round(row, owner, aliases)
    row.seconds = time.monotonic() - begin
    return row


def _round(row: Row, owner: Any, aliases: Sequence[str]) -> None:
    now = timezone.now()
    persist(
        lambda: Run.objects.bulk_create(
            Run(user=owner, status=RunStatus.FAILED, finished_at=now) for _ in range(RUNS)
        )
    )
    runs = list(Run.objects.filter(user=owner).finished().values_list("pk", flat=True))
    prunes_are_over = threading.Event()
    resurrected: set[str] = set()
    deleted: list[int] = []
    uncertain = threading.Event()

    def prune(number: int) -> int:
        mine = Run.objects.using(aliases[number % len(aliases)]).filter(user=owner)
        try:
            return mine.prune(datetime.timedelta(0)).deleted
        except OperationalError as exc:
            row.wrong.append(f"prune gave up: {exc}")
            uncertain.set()
            return 0
        finally:
            close_old_connections()

    def write(number: int) -> None:
        """Resurrect, delete and change runs, the last ones first, until the prunes are over."""
        chance = random.Random(number)
        while not prunes_are_over.is_set():
            pk = runs[-1 - int(chance.random() ** 2 * len(runs))]
            using = chance.choice(aliases)
            try:
                _write(chance, pk, using, resurrected, deleted)
            except OperationalError:
                uncertain.set()  # one side of a conflict: a host tries again
            finally:
                close_old_connections()

    with ThreadPoolExecutor(PRUNES + WRITERS) as threads:
        writers = [threads.submit(write, number) for number in range(WRITERS)]
        prunes = [threads.submit(prune, number) for number in range(PRUNES)]
        try:
            pruned = sum(future.result() for future in prunes)
        finally:
            prunes_are_over.set()
        for writer in writers:
            writer.result()
    row.requests += PRUNES
    left = dict(Run.objects.filter(pk__in=runs).values_list("pk", "status"))
    row.check(resurrected <= left.keys(), f"resurrected, and gone: {resurrected - left.keys()}")
    if not uncertain.is_set():
        finished = [pk for pk, status in left.items() if status in Run.FINISHED]
        row.check(not finished, f"finished, and left by both prunes: {finished}")
        gone = len(runs) - len(left)
        row.check(
            pruned + sum(deleted) == gone,
            f"{pruned} pruned and {sum(deleted)} deleted, {gone} gone",
        )
    _clear(owner)


def _write(
    chance: random.Random, pk: str, using: str, resurrected: set[str], deleted: list[int]
) -> None:
    run = Run.objects.using(using).filter(pk=pk)
    choice = chance.random()
    if choice < 0.1:
        deleted.append(run.delete_finished())
    elif choice < 0.9:
        run.update(status_message="changed")
    elif (mine := run.first()) is not None:
        try:
            mine.transition_to(RunStatus.READY)
        except InvalidTransition:
            return
        resurrected.add(pk)


def _clear(owner: Any) -> None:
    for run in Run.objects.filter(user=owner).unfinished():
        persist(lambda run=run: run.transition_to(RunStatus.FAILED))
    persist(lambda: Run.objects.filter(user=owner).delete_finished())
