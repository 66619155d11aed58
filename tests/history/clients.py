"""The clients: threads that do everything at once, by every way in, and log what came of it."""

from __future__ import annotations

import itertools
import os
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.history.operations import Operation, OperationLog
from tests.history.world import Slots, World

PROCESSES = 2
THREADS = 10  # in each of them
MAX_HANDLES = 3  # objects that a thread keeps for later
FIRST_BACK_OFF, MAX_BACK_OFF = 0.02, 0.5  # seconds

# How often each kind of operation is done, by weight.
WEIGHTS = {
    "get": 20,
    "list": 1,
    "delete": 16,
    "transition": 22,
    "save": 4,
    "save_message": 4,
    "give": 7,
    "remove": 3,
    "delete_finished": 4,
    "prune": 2,
    "admin": 2,
    "import_run": 6,
    "membership": 30,
}


def run_process(
    number: int, count: int, seed: int, env: dict[str, str], folder: str, world: World, slots: Slots
) -> None:
    """Be one client process, until all of them have done ``count`` operations.

    Called in a new process.
    """
    os.environ.update(env)
    import django

    django.setup()
    log = OperationLog(Path(folder) / f"operations-{number}.jsonl")
    try:
        with ThreadPoolExecutor(THREADS) as threads:
            futures = []
            for thread in range(THREADS):
                name = f"{number}.{thread}"
                client = Client(name, random.Random(f"{seed}.{name}"), world, slots, log)
                first_slots = range(number, slots.count, PROCESSES)[thread::THREADS]
                # Memberships are changed by one thread alone, so that their order is known.
                changes_members = (number, thread) == (0, 0)
                futures.append(threads.submit(client.work, count, first_slots, changes_members))
            for future in futures:
                future.result()
    finally:
        log.close()


class Client:
    """One thread. Its operations follow one another."""

    def __init__(
        self, name: str, chance: random.Random, world: World, slots: Slots, log: OperationLog
    ) -> None:
        from tests.history.ways import Ways

        self.name = name
        self.random = chance
        self.world = world
        self.slots = slots
        self.log = log
        self.ways = Ways(world, chance)
        self._numbers = itertools.count()
        self._handles: list[dict[str, Any]] = []
        self._unanswered = 0  # operations in a row
        self._members: dict[tuple[str, str], bool] = {}

    def work(self, count: int, first_slots: range, changes_members: bool) -> None:
        """Make runs in some slots, then do this and that, until ``count`` is reached by all."""
        for slot in first_slots:
            self.create(slot)
        kinds = [kind for kind in WEIGHTS if kind != "membership" or changes_members]
        weights = [WEIGHTS[kind] for kind in kinds]
        while self.slots.done.value < count:
            (kind,) = self.random.choices(kinds, weights)
            getattr(self, f"do_{kind}", self.do_simple)(kind)

    def perform(
        self,
        kind: str,
        work: Callable[[str], Any],
        run: str = "",
        runs: Any = None,
        **arguments: Any,
    ) -> Operation:
        """Do one operation and log it. ``work`` gets its ID and returns the answer.

        The answer None says that nobody knows whether it happened; ``runs`` in an answer of the
        form (answer, runs) is what a list showed.
        """
        operation = Operation(
            f"{self.name}.{next(self._numbers)}", kind, 0, 0, arguments, run, runs
        )
        operation.begin = time.monotonic()
        answer = work(operation.id)
        operation.end = time.monotonic()
        if kind == "list" and isinstance(answer, tuple):
            answer, operation.runs = answer
        operation.answer = answer
        if self.ways.port is not None:
            operation.arguments["port"] = self.ways.port
        self.log.write(operation)
        with self.slots.done.get_lock():
            self.slots.done.value += 1
        self._back_off(answer is None)
        return operation

    def _back_off(self, is_unanswered: bool) -> None:
        """Wait, longer each time, while nobody answers: else an outage would be all there is."""
        self._unanswered = self._unanswered + 1 if is_unanswered else 0
        if self._unanswered > 1:
            time.sleep(min(MAX_BACK_OFF, FIRST_BACK_OFF * 2 ** min(self._unanswered, 9)))

    def choose(self) -> str:
        """Return the ID of a run to do something to."""
        return self.slots.run_id(self.slots.choose(self.random), self.random)

    def replace(self, operation: Operation) -> None:
        """Where a run is gone, make its successor."""
        if operation.answer in (["gone"], ["deleted"]):
            slot = int(operation.run.split("-")[1])
            self.create(slot, operation.run)

    def create(self, slot: int, after: str = "") -> None:
        if run := self.slots.next_run_id(slot, after):
            owner, status = self.random.choice(self.world.owners), self.new_status()
            message = self.message()
            arguments = {"owner": owner, "status": status, "message": message}
            self.perform(
                "create", lambda name: self.ways.create(name, run, **arguments), run, **arguments
            )

    def new_status(self) -> str:
        return self.random.choice(("READY", "RUNNING", "SUCCEEDED", "SUCCEEDED", "FAILED"))

    def message(self) -> str:
        return f"{self.name}.{next(self._numbers)}"

    def do_simple(self, kind: str) -> None:
        """An operation of one run that needs nothing but its ID, and perhaps one more thing."""
        run = self.choose()
        arguments: dict[str, Any] = {}
        if kind in ("get", "delete"):
            arguments["user"] = self.random.choice(list(self.world.tokens))
        elif kind == "give":
            arguments["owner"] = self.random.choice(self.world.owners)
        elif kind == "save_message":
            arguments["message"] = self.message()
        elif kind == "import_run":
            arguments |= {
                "owner": self.random.choice(self.world.owners),
                "status": self.new_status(),
                "message": self.message(),
                "resurrections": self.random.randrange(4),
            }
        way = getattr(self.ways, kind)
        self.replace(self.perform(kind, lambda name: way(name, run, **arguments), run, **arguments))

    def do_list(self, kind: str) -> None:
        user = self.random.choice(list(self.world.tokens))
        self.perform(kind, lambda name: self.ways.list(name, user), user=user)

    def do_transition(self, kind: str) -> None:
        """A transition or a save of an object that was read just now, or some time ago."""
        run = self.choose()
        objects: list[Any] = []
        read = self.perform("read", lambda name: self.ways.read(name, run, objects), run, handle="")
        if objects:
            handle = read.id
            self._handles.append({"handle": handle, "run": run, "read": read, "object": objects[0]})
            self.random.shuffle(self._handles)
        else:
            self.replace(read)
        if len(self._handles) > MAX_HANDLES or (objects and self.random.random() < 0.6):
            is_new = objects and self.random.random() < 0.7
            chosen = next(
                (h for h in self._handles if is_new and h["object"] is objects[0]), self._handles[0]
            )
            self._handles.remove(chosen)
            self.use(kind, chosen)

    do_save = do_transition

    def use(self, kind: str, chosen: dict[str, Any]) -> None:
        _, owner, status, _, resurrections = chosen["read"].answer
        handle, run, mine = chosen["handle"], chosen["run"], chosen["object"]
        arguments: dict[str, Any] = {"handle": handle, "message": self.message()}
        if kind == "transition":
            arguments["status"] = self.ways.next_status(status)
        else:
            arguments |= {"owner": owner, "status": status, "resurrections": resurrections}
        way = getattr(self.ways, kind)
        self.replace(self.perform(kind, lambda name: way(name, mine, arguments), run, **arguments))

    def do_several(self, kind: str) -> None:
        """An operation of several runs, of which the witness says which ones went."""
        runs = sorted({self.choose() for _ in range(self.random.randint(2, 8))})
        way = getattr(self.ways, kind)
        operation = self.perform(kind, lambda name: way(name, runs), runs=runs)
        if operation.answer and operation.answer[0] == "done":
            for run in runs:
                if self.random.random() < 0.5:
                    self.replace(
                        self.perform("read", lambda name, r=run: self.ways.read(name, r, []), run)
                    )

    do_prune = do_several
    do_admin = do_several

    def do_membership(self, kind: str) -> None:
        user = self.random.choice(list(self.world.tokens))
        organization = self.random.choice(self.world.organizations)
        is_member = not self._members.get((user, organization), False)
        self._members[user, organization] = is_member
        self.perform(
            kind,
            lambda name: self.ways.membership(name, user, organization, is_member),
            user=user,
            organization=organization,
            is_member=is_member,
        )
