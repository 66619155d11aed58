"""Work on many runs in batches, beside other writers: what pruning and timing out share."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from django.db import Error, connections
from django.db.models import DateTimeField, Value

from actor_runs.db.errors import is_transient, retry
from actor_runs.db.orm import is_single_table
from actor_runs.db.transactions import max_parameters

if TYPE_CHECKING:
    from actor_runs.querysets import RunQuerySet

MAX_BATCH_SIZE = 10_000
MAX_AGE = datetime.timedelta(weeks=100_000)  # before now, and still after year 1
# After so many conflicts a batch is tried in halves, which is better than a long wait.
ATTEMPTS = 4
# More than there are halvings of a batch, so that one locked run does not end the work.
MAX_CONFLICTS_IN_A_ROW = 20


def check_options(
    batch_size: int, older_than: datetime.timedelta, **optional: datetime.timedelta | None
) -> None:
    """Raise TypeError or ValueError that names the option, if one is not valid."""
    given = {name: value for name, value in optional.items() if value is not None}
    for name, value in {"older_than": older_than, **given}.items():
        if not isinstance(value, datetime.timedelta):
            raise TypeError(f"{name} must be a timedelta, not {value!r}: timedelta(days=30).")
        if value < datetime.timedelta(0):
            raise ValueError(f"{name} must be 0 or more.")
        if value > MAX_AGE:
            raise ValueError(f"{name} must be at most {MAX_AGE.days} days.")
    check_integer("batch_size", batch_size)
    if not 1 <= batch_size <= MAX_BATCH_SIZE:
        raise ValueError(f"batch_size must be from 1 to {MAX_BATCH_SIZE}.")


def check_integer(name: str, value: Any) -> None:
    """Raise TypeError unless the option ``name`` is an integer."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, not {value!r}.")


def exact(moment: datetime.datetime) -> Value:
    """Return a time of a row for a condition, past the field, which would cut it to milliseconds.

    Rows that a host's SQL wrote may be finer.
    """
    return Value(moment, output_field=DateTimeField())


class Work:
    """Work on the database ``using`` that ends after ``max_runtime``, if that is not None."""

    def __init__(self, using: str, max_runtime: datetime.timedelta | None) -> None:
        self.using = using
        self._deadline = (
            None if max_runtime is None else time.monotonic() + max_runtime.total_seconds()
        )
        self._conflicts_in_a_row = 0

    @property
    def is_over(self) -> bool:
        """Whether the time is up, so that no batch may begin."""
        return self._deadline is not None and time.monotonic() >= self._deadline

    def batches(
        self, runs: RunQuerySet, time_field: str, size: int, columns: tuple[str, ...] = ()
    ) -> Iterator[list[Any]]:
        """Yield the runs in batches along ``time_field``, each read when it is asked for.

        As ``Run`` objects, or as named tuples of ``columns``.
        """
        ahead: Any = runs.order_by(time_field, "pk")
        if columns:
            ahead = ahead.values_list(*columns, named=True)
        if not is_single_table(runs):
            yield from self._batches_by_key(ahead, size)
            return
        left = ahead
        while batch := self._read(left[:size]):
            yield batch
            # By key, not by offset: some of the runs behind may have stayed.
            last = batch[-1]
            moment = exact(getattr(last, time_field))
            left = ahead.filter(**{f"{time_field}__gte": moment}).exclude(
                **{time_field: moment, "pk__lte": last.pk}
            )

    def _batches_by_key(self, ahead: Any, size: int) -> Iterator[list[Any]]:
        """Yield in batches the rows that ``ahead`` has now, as long as it has them.

        Other rows decide which these are. Once some of those are gone, it would have more.
        """
        keys = list(dict.fromkeys(self._read(ahead.values_list("pk", flat=True))))
        size = min(size, max_parameters(self.using) or size)
        for start in range(0, len(keys), size):
            rows = self._read(ahead.filter(pk__in=keys[start : start + size]))
            if batch := list({row.pk: row for row in rows}.values()):  # a join doubles rows
                yield batch

    def _read(self, rows: Any) -> list[Any]:
        return retry(partial(list, rows), self.using)

    def attempt(self, transaction: Callable[[], Any]) -> bool:
        """Call ``transaction``, again after a conflict; return whether it succeeded.

        Raises what is not a conflict, and a conflict if the last 20 calls failed too: then the
        database does not serve at all.
        """
        try:
            retry(transaction, self.using, attempts=ATTEMPTS)
        except Error as exc:
            if not is_transient(exc) or connections[self.using].in_atomic_block:
                raise
            self._conflicts_in_a_row += 1
            if self._conflicts_in_a_row > MAX_CONFLICTS_IN_A_ROW:
                raise
            return False
        self._conflicts_in_a_row = 0
        return True
