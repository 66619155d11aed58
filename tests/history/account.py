"""Make the history of each run from the log of all clients, and check it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.engines.witness import CONNECTION
from tests.history.checker import check
from tests.history.model import Authority, Step
from tests.history.operations import Operation

FOREVER = float("inf")
DELETIONS = {"delete", "remove", "delete_finished", "prune", "admin"}
OF_SEVERAL = {"prune", "admin"}
# The app retries these when a connection is lost. Their answer may be that of a second attempt,
# although the first one was committed.
TRIED_AGAIN = {"prune", "admin", "import_run"}
# Answers that tell a reader of an anomaly little.
SILENT = {("absent",), ("forbidden",)}
READS = {"get", "read", "list"}

# What a witness heard, by operation and run, and when.
Heard = dict[tuple[str, str], list[float]]


@dataclass
class Account:
    """What came out of a history."""

    operations: int = 0
    runs: int = 0
    unanswered: int = 0
    undecided: int = 0
    anomalies: list[str] = field(default_factory=list)


class Memberships:
    """Who may have been a member of which organization at which time."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        # For each pair: the times from which on it may be something else, and what it may be.
        self._times: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0])
        self._values: dict[tuple[str, str], list[set[bool]]] = defaultdict(lambda: [{False}])
        for operation in sorted(operations, key=lambda one: one.begin):
            pair = (operation.arguments["user"], operation.arguments["organization"])
            value = operation.arguments["is_member"]
            times, values = self._times[pair], self._values[pair]
            times.append(operation.begin)
            values.append(values[-1] | {value})
            if operation.answer is not None:
                times.append(operation.end)
                values.append({value})

    def between(self, user: str, organization: str, begin: float, end: float) -> set[bool]:
        """Return whether the user may have been a member at some moment, and may not."""
        times = self._times[user, organization]
        values = self._values[user, organization]
        first = max(0, bisect_left(times, begin) - 1)
        return set().union(*values[first : bisect_right(times, end)])

    def authority(self, user: str, begin: float, end: float) -> Authority:
        known: dict[str, tuple[bool, bool]] = {}

        def authority(owner: str) -> tuple[bool, bool]:
            if not owner.startswith("org-"):
                return owner == user, owner != user
            if owner not in known:
                values = self.between(user, owner, begin, end)
                known[owner] = (True in values, False in values)
            return known[owner]

        return authority


def account_for(
    operations: list[Operation], heard: Heard, witnessed_ports: Iterable[int]
) -> Account:
    """Check everything. ``heard`` is what the witness wrote down, by operation and run."""
    reconnected = {name for name, run in heard if run == CONNECTION}
    signals = {pair: times for pair, times in heard.items() if pair[1] != CONNECTION}
    account = Account(len(operations))
    account.unanswered = sum(one.answer is None for one in operations)
    histories = steps_of_runs(operations, signals, reconnected)
    account.runs = len(histories)
    account.anomalies += wrong_signals(operations, signals, reconnected, set(witnessed_ports))
    for run, steps in histories.items():
        verdict = check(steps)
        account.undecided += verdict.is_undecided
        if not verdict.is_explained:
            lines = [f"run {run}: no order explains these answers, after {verdict.last_state}:"]
            told = [step for step in verdict.longest if step.answer not in SILENT]
            lines += [f"    done  {step}" for step in told[-6:]]
            lines += [f"    then? {step}" for step in verdict.stuck[:6]]
            account.anomalies.append("\n".join(lines))
    for one in operations:
        if one.answer and one.answer[0] == "error":
            account.anomalies.append(f"{one.kind} of {one.run or one.runs}: {one.answer[1]}")
    return account


def wrong_signals(
    operations: list[Operation],
    signals: Heard,
    reconnected: set[str],
    witnessed_ports: set[int],
) -> list[str]:
    """Return what is wrong with the signals: each deletion is heard once, and nothing else is."""
    wrong = []
    by_id = {operation.id: operation for operation in operations}
    heard_by: dict[str, int] = defaultdict(int)
    for (name, run), times in signals.items():
        heard_by[name] += len(times)
        operation = by_id.get(name)
        # A prune can delete a run, and once more after somebody has imported it again.
        if len(times) > 1 and (operation is None or operation.kind not in OF_SEVERAL):
            wrong.append(f"run {run}: the signal of one deletion was heard {len(times)} times")
        if operation is None or operation.kind not in DELETIONS:
            wrong.append(f"run {run}: a signal of {name}, which deletes nothing: {operation}")
        elif operation.kind not in OF_SEVERAL and operation.answer not in (None, ["deleted"]):
            wrong.append(f"run {run}: a signal, and the answer was {operation.answer}")
    for one in operations:
        if one.answer == ["deleted"] and (one.id, one.run) not in signals:
            port = one.arguments.get("port")
            if port is None or port in witnessed_ports:
                wrong.append(f"run {one.run}: {one.kind} answered as deleted, and no signal")
        if one.kind == "prune" and one.answer and one.id not in reconnected:
            counted, heard = one.answer[1], heard_by[one.id]
            if counted != heard:
                wrong.append(f"prune counted {counted} runs, and {heard} signals were heard")
    return wrong


def steps_of_runs(
    operations: list[Operation], signals: Heard, reconnected: set[str]
) -> dict[str, list[Step]]:
    """Return each run's history. What answers nothing about a run is no step of it.

    ``reconnected`` are the operations that opened a connection.
    """
    memberships = Memberships(one for one in operations if one.kind == "membership")
    used = {one.arguments.get("handle") for one in operations if one.kind != "read"}
    histories: dict[str, list[Step]] = defaultdict(list)
    lists = []

    def add(run: str, one: Operation, end: float, answer: Any) -> None:
        answer = None if answer is None else tuple(answer)
        histories[run].append(Step(one.id, one.kind, one.begin, end, answer, one.arguments))

    for one in operations:
        if user := one.arguments.get("user"):
            one.arguments["authority"] = memberships.authority(user, one.begin, one.end)
        if one.kind == "read":
            one.arguments["handle"] = one.id if one.id in used else ""
        if one.kind == "membership" or (one.answer and one.answer[0] == "error"):
            continue
        if one.kind == "list":
            lists.append(one)
            continue
        is_known = one.answer is not None and not (
            one.kind in TRIED_AGAIN and one.id in reconnected
        )
        for run in one.runs if one.kind in OF_SEVERAL else [one.run]:
            times = signals.get((one.id, run), ())
            for moment in times if one.kind in OF_SEVERAL else times[:1]:
                # It did happen, and it had when the witness heard of it.
                add(run, one, min(moment, one.end), ["deleted"])
            if times:
                continue
            if one.kind in OF_SEVERAL:
                # What was kept may have been so for any reason.
                if not is_known:
                    add(run, one, FOREVER, None)
            elif not is_known:
                if one.kind not in READS:
                    add(run, one, FOREVER, None)
            else:
                add(run, one, one.end, one.answer)
    add_lists(lists, histories, add)
    return histories


def add_lists(
    lists: list[Operation], histories: dict[str, list[Step]], add: Callable[..., None]
) -> None:
    """Add what each list showed of each run that lived at its time, or did not show."""
    times = {
        run: (min(step.begin for step in steps), max(step.begin for step in steps))
        for run, steps in histories.items()
    }
    for one in lists:
        if one.answer is None:
            continue
        for run, (first, last) in times.items():
            if run in one.runs:
                add(run, one, one.end, ["listed", *one.runs[run]])
            elif first <= one.end and one.begin <= last:
                add(run, one, one.end, ["absent"])
        for run in one.runs.keys() - times.keys():
            add(run, one, one.end, ["listed", *one.runs[run]])
