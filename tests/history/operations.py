"""The log: what was asked, when it began and ended, and what was answered."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Operation:
    """One operation of a client.

    ``run`` is the run that it is about, ``runs`` several of them; for a list, ``runs`` is what
    it showed, by ID. Times are of the machine's monotonic clock. ``answer`` is a list of words,
    None where there was none; an answer that nothing allows begins with ``error``.
    """

    id: str
    kind: str
    begin: float
    end: float
    arguments: dict[str, Any] = field(default_factory=dict)
    run: str = ""
    runs: Any = None
    answer: list[Any] | None = None


class OperationLog:
    """A file of one process, one line for each operation."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w")
        self._lock = threading.Lock()  # a text file is not safe for threads

    def write(self, operation: Operation) -> None:
        line = json.dumps(asdict(operation))
        with self._lock:
            self._file.write(f"{line}\n")

    def close(self) -> None:
        self._file.close()


def read_log(path: Path) -> Iterator[Operation]:
    with path.open() as lines:
        for line in lines:
            yield Operation(**json.loads(line))
