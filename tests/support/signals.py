"""The signals that are sent when runs are deleted, in whatever thread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import OperationalError
from django.db.models.signals import ModelSignal, post_delete, pre_delete

from actor_runs.models import Run


class DeletionSignals:
    """What ``pre_delete`` and ``post_delete`` were sent with, while it is connected."""

    def __init__(self, *, is_connected: bool = True) -> None:
        self.is_connected = is_connected
        self.sent: list[tuple[str, str, str]] = []  # name of the signal, ID and status of the run
        self.instances: list[Run] = []

    def receive(self, signal: ModelSignal, instance: Run, **kwargs: object) -> None:
        assert instance.is_finished
        name = "pre_delete" if signal is pre_delete else "post_delete"
        self.sent.append((name, instance.pk, instance.status))
        self.instances.append(instance)

    def assert_sent_for(self, *run_ids: str) -> None:
        """Each signal was sent once for each of the runs, and for no other run."""
        expected = [(name, run_id) for name in ("pre_delete", "post_delete") for run_id in run_ids]
        sent = sorted((name, run_id) for name, run_id, _ in self.sent)
        assert sent == (sorted(expected) if self.is_connected else [])


@contextmanager
def deletion_signals(*, is_connected: bool = True) -> Iterator[DeletionSignals]:
    """Record the signals while the block lasts; without receivers, see that nothing is sent."""
    signals = DeletionSignals(is_connected=is_connected)
    if is_connected:
        for signal in (pre_delete, post_delete):
            signal.connect(signals.receive, sender=Run)
    try:
        yield signals
    finally:
        for signal in (pre_delete, post_delete):
            signal.disconnect(signals.receive, sender=Run)


@contextmanager
def conflicts(signal: ModelSignal) -> Iterator[set[str]]:
    """Let what sends ``signal`` meet a conflict each time, for runs whose IDs are in the set."""
    ids: set[str] = set()

    def conflict(instance: Run, **kwargs: object) -> None:
        if instance.pk in ids:
            raise OperationalError("deadlock")

    signal.connect(conflict, sender=Run)
    try:
        yield ids
    finally:
        signal.disconnect(conflict, sender=Run)
