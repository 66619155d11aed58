"""Short transactions beside other writers, for work that can be begun again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from django.db import Error, connections

from actor_runs.exceptions import database_is_unavailable

Result = TypeVar("Result")

PAUSES = (0.1, 1.0, 5.0)  # seconds before each new attempt


def persistently(work: Callable[[], Result], using: str) -> Result:
    """Return what ``work`` returns, called again where the database could not serve just then.

    ``work`` is one transaction on the database ``using``, and may be begun again: a deadlock
    took it as its victim, a lock was not to be had in time, or the connection was lost. Inside
    of a transaction of the caller there is one attempt only, since that transaction is lost.
    """
    for pause in PAUSES:
        try:
            return work()
        except Error as exc:
            if connections[using].in_atomic_block or not database_is_unavailable(exc):
                raise
        connections[using].close_if_unusable_or_obsolete()
        time.sleep(pause)
    return work()  # pragma: no cover  after all pauses, six seconds
