"""A host's app that writes down which runs were deleted, and by which operation.

It also writes down which operation opened a connection: where one is lost at the COMMIT and the
app tries again, the first attempt may have happened.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

from django.db import transaction

from tests.engines.operations import current_operation


def hear(instance: Any, using: str, **kwargs: Any) -> None:
    """Receive ``post_delete``. Galera can still refuse the COMMIT: wait until it is done."""
    write_once_committed = partial(_write, current_operation.get(), instance.pk)
    transaction.on_commit(write_once_committed, using=using)


def note_connection(**kwargs: Any) -> None:
    """Receive ``connection_created``."""
    _write(current_operation.get(), CONNECTION)


def _write(operation: str, run_id: str) -> None:
    # One short write to a file opened for appending: processes do not disturb one another.
    file = os.open(os.environ["WITNESS_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, f"{operation} {run_id} {time.monotonic()}\n".encode())
    finally:
        os.close(file)


# In the place of a run's ID: the operation opened a connection.
CONNECTION = "*"


class WitnessLog:
    """The reader's end: which deletions were heard so far, how often, and when."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def heard(self) -> Counter[tuple[str, str]]:
        """Count the pairs of an operation and a run's ID."""
        return Counter(
            {pair: len(times) for pair, times in self.times().items() if pair[1] != CONNECTION}
        )

    def times(self) -> dict[tuple[str, str], list[float]]:
        """Return when each pair of an operation and a run's ID was heard."""
        times: dict[tuple[str, str], list[float]] = {}
        for line in self.path.read_text().splitlines():
            operation, run_id, moment = line.split()
            times.setdefault((operation, run_id), []).append(float(moment))
        return times
