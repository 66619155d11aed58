"""Rounds of races for one run each."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

from django.contrib.auth import get_user_model
from django.db import DatabaseError, InterfaceError, OperationalError, close_old_connections
from rest_framework.authtoken.models import Token

from actor_runs.exceptions import InvalidTransition, RunNotFinished
from actor_runs.models import Run, RunStatus
from tests.engines.judge import UNAVAILABLE, Attempt, judge
from tests.engines.operations import HEADER, current_operation
from tests.engines.processes import wait_until
from tests.engines.stage import Row
from tests.engines.witness import WitnessLog
from tests.services.servers import Answer, Server

LANES = 6  # rounds at a time
# What an answer of the API to a DELETE means. Every other answer is wrong.
OUTCOMES = {
    (204, None): "deleted",
    (400, "cannot-remove-running-run"): "unfinished",
    (403, "permission-denied"): "forbidden",
    (404, "record-not-found"): "gone",
    (503, "service-unavailable"): UNAVAILABLE,
}


class Party(NamedTuple):
    """A user and their token."""

    user: Any
    token: str


def make_party(name: str) -> Party:
    user = get_user_model().objects.create_user(username=name)
    return Party(user, Token.objects.create(user=user).key)


def persist(work: Callable[[], Any]) -> Any:
    """Return what ``work`` returns, called again while the database is not available."""

    def attempt() -> list[Any]:
        close_old_connections()
        try:
            return [work()]
        except (OperationalError, InterfaceError):
            return []

    return wait_until(attempt, "the database is not available")[0]


def meaning_of(answer: Answer) -> str:
    """Return the outcome that an answer to a DELETE stands for."""
    unexpected = f"{answer.status} {answer.body[:200]!r}"
    try:
        error = None if answer.status == 204 else answer.error
    except (AssertionError, ValueError):
        return f"{unexpected}, which is not in the envelope"
    return OUTCOMES.get((answer.status, error), unexpected)


class Races:
    """Races for runs of one owner, between clients of ``servers`` and the host's own code.

    The host's own code works on the databases ``aliases``, in threads of this process.
    """

    def __init__(
        self,
        engine: str,
        servers: Sequence[Server],
        log: Any,
        aliases: Sequence[str] = ("default",),
    ) -> None:
        self.engine = engine
        self.servers = servers
        self.witness = WitnessLog(log)
        self.aliases = aliases
        self.owner = make_party(f"owner-{engine}")
        self.stranger = make_party(f"stranger-{engine}")
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self.finished_rounds = 0

    def run(
        self,
        what: str,
        rounds: int,
        *,
        may_be_unavailable: bool = False,
        faults: Sequence[Callable[[], None]] = (),
        lanes: int = LANES,
    ) -> Row:
        """Run ``rounds`` rounds, ``lanes`` of them at a time; return their account.

        ``may_be_unavailable``: 503 is a right answer, and OperationalError a right end of the
        host's own code. It is so while something breaks, and where the engine ends one side
        of a conflict.

        ``faults`` are called one after the other, in this thread, spread over the rounds. The
        rounds go on until the last fault is over.
        """
        row = Row(self.engine, what)
        begin = time.monotonic()
        self.finished_rounds = 0
        faults_are_over = threading.Event()
        with ThreadPoolExecutor(lanes) as threads, ThreadPoolExecutor(lanes * 6) as clients:
            left = itertools.count()

            def lane() -> None:
                while next(left) < rounds or not faults_are_over.is_set():
                    self._round(row, clients, may_be_unavailable)
                    self.finished_rounds += 1

            futures = [threads.submit(lane) for _ in range(lanes)]
            try:
                for number, fault in enumerate(faults):
                    due = rounds * (number + 1) // (len(faults) + 1)
                    wait_until(
                        lambda due=due: (
                            self.finished_rounds >= due or any(future.done() for future in futures)
                        ),
                        "no round ends",
                        300,
                    )
                    fault()
            finally:
                faults_are_over.set()
            for future in futures:
                future.result()
        row.seconds = time.monotonic() - begin
        return row

    def _round(self, row: Row, clients: ThreadPoolExecutor, may_be_unavailable: bool) -> None:
        kind = random.choice(("deletes", "deletes", "resurrection", "unfinished", "everybody"))
        status = RunStatus.RUNNING if kind == "unfinished" else RunStatus.SUCCEEDED
        run = persist(lambda: Run.objects.create(user=self.owner.user, status=status))
        calls: list[Callable[[], Attempt]] = [
            partial(self._request, "owner", self.owner.token, run),
            partial(self._request, "owner", self.owner.token, run),
            partial(self._request, "stranger", self.stranger.token, run),
        ]
        if kind == "deletes":
            calls += [partial(self._request, "owner", self.owner.token, run)] * 2
        if kind == "resurrection":
            calls += [partial(self._transition, run)]
        if kind in ("everybody", "unfinished"):
            calls += [partial(self._object, run), partial(self._queryset, run)]
        random.shuffle(calls)
        attempts = [future.result() for future in [clients.submit(call) for call in calls]]
        left = persist(
            lambda: (
                Run.objects.using("default")
                .filter(pk=run.pk)
                .values_list("status", flat=True)
                .first()
            )
        )
        heard = {key: n for key, n in self.witness.heard().items() if key[1] == run.pk}
        wrong = judge(kind, attempts, left, heard, may_be_unavailable)
        with self._lock:
            row.requests += len(attempts)
            row.unavailable += sum(attempt.outcome == UNAVAILABLE for attempt in attempts)
            row.wrong += [f"{kind}: {each}; {attempts}, left {left}" for each in wrong]

    def _operation(self) -> str:
        return f"op{next(self._numbers)}"

    def _request(self, who: str, token: str, run: Run) -> Attempt:
        operation = self._operation()
        number = random.randrange(len(self.servers))
        is_witnessed = number % 2 == 0  # see Stage.servers
        try:
            answer = self.servers[number].delete(run, token, headers={HEADER: operation})
        except OSError as exc:
            return Attempt(who, operation, f"no answer: {exc!r}", is_witnessed)
        return Attempt(who, operation, meaning_of(answer), is_witnessed)

    def _direct(self, who: str, work: Callable[[str], str]) -> Attempt:
        """Do something in the host's own code, on one of the databases."""
        operation = self._operation()
        current_operation.set(operation)
        close_old_connections()
        try:
            return Attempt(who, operation, work(random.choice(self.aliases)))
        except (OperationalError, InterfaceError):
            return Attempt(who, operation, UNAVAILABLE)
        except DatabaseError as exc:
            return Attempt(who, operation, repr(exc))
        finally:
            close_old_connections()

    def _transition(self, run: Run) -> Attempt:
        def work(using: str) -> str:
            mine = Run.objects.using(using).filter(pk=run.pk).first()
            if mine is None:
                return "gone"
            try:
                mine.transition_to(RunStatus.RUNNING)
            except InvalidTransition as exc:
                return "gone" if exc.status is None else f"refused: {exc}"
            return "moved"

        return self._direct("transition", work)

    def _object(self, run: Run) -> Attempt:
        def work(using: str) -> str:
            mine = Run.objects.using(using).filter(pk=run.pk).first()
            try:
                return "deleted" if mine is not None and mine.delete()[0] else "gone"
            except RunNotFinished:
                return "unfinished"

        return self._direct("object", work)

    def _queryset(self, run: Run) -> Attempt:
        def work(using: str) -> str:
            # By a join, which is the harder way: the database asks it ahead of the lock.
            runs = Run.objects.using(using).filter(
                pk=run.pk, user__username=self.owner.user.username
            )
            return "deleted" if runs.delete_finished() else "gone"

        return self._direct("queryset", work)
