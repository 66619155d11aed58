"""Which errors of a database are transient, and how to try again."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from typing import Any, TypeVar

from django.db import (
    Error,
    IntegrityError,
    InterfaceError,
    InternalError,
    OperationalError,
    connections,
)
from django.db.models import ProtectedError, RestrictedError

Result = TypeVar("Result")
ATTEMPTS = 10
MAX_PAUSE = 5.0  # seconds before a new attempt; the first pauses are shorter
# Messages of transient failures; OperationalError also covers permanent ones, as a missing table.
TRANSIENT_ON_SQLITE = re.compile(
    r"database (table |schema )?is (locked|busy)|unable to open|disk I/O error|"
    r"database or disk is full|interrupted|locking protocol"
)
# The same for MySQL and MariaDB, by number. 2000 to 2999 are the client's: no connection.
TRANSIENT_ON_MYSQL = {
    *(1020, 1205, 1206, 1213, 1614, 3058, 3101, 3572),  # conflicts, locks, deadlocks
    *(1021, 1037, 1038, 1040, 1041, 1203, 1226, 1637),  # out of something
    *(1042, 1043, 1044, 1045, 1049, 1129, 1130, 3159),  # the connection is refused
    *(1047, 1053, 1077, 1078, 1079, 1080, 1927, 3032, 3168, 4031),  # shut down, killed, no quorum
    *(1152, 1153, 1154, 1155, 1156, 1157, 1158, 1159, 1160, 1161, 1184, 1189, 1190),  # network
    *(1180, 1181, 1290, 1317, 1792, 1836, 1969, 3024, 3100),  # no COMMIT, read-only, out of time
}
PROGRAM_LIMIT_EXCEEDED = "54"  # the class of PostgreSQL's errors; the statement itself is at fault
READ_ONLY_TRANSACTION = "25006"  # PostgreSQL's answer by a server that is no longer the primary
FOREIGN_KEY_VIOLATION = "23503"


def is_transient(exc: BaseException) -> bool:
    """Return whether the database cannot serve now: refused, lost, locked, deadlock, timed out."""
    if isinstance(exc, InterfaceError):
        return True
    sqlstate = getattr(exc.__cause__, "sqlstate", None) or ""
    if isinstance(exc, InternalError):  # pragma: no cover  (make test-services)
        return sqlstate == READ_ONLY_TRANSACTION
    if not isinstance(exc, OperationalError):
        return False
    code = exc.args[0] if exc.args else None
    if isinstance(code, int):  # pragma: no cover  (make test-services)
        return code in TRANSIENT_ON_MYSQL or 2000 <= code < 3000
    if type(exc.__cause__).__module__.startswith("sqlite3"):
        return bool(TRANSIENT_ON_SQLITE.match(str(exc)))
    return not sqlstate.startswith(PROGRAM_LIMIT_EXCEEDED)


def is_foreign_key_violation(exc: IntegrityError) -> bool:
    """Return whether dependent rows prevented a deletion, by Django's rule or the database's."""
    if isinstance(exc, (ProtectedError, RestrictedError)):
        return True
    # PostgreSQL translates its messages, so its code decides. The others have a word for it.
    sqlstate = getattr(exc.__cause__, "sqlstate", None)
    return sqlstate == FOREIGN_KEY_VIOLATION or "foreign key" in str(exc).lower()


def retry(work: Callable[[], Result], using: str, attempts: int = ATTEMPTS) -> Result:
    """Return what ``work`` returns, and call it again after a transient failure.

    ``work`` is one transaction on the database ``using`` that can be repeated. Inside of a
    transaction of the caller there is one attempt only, since that transaction is lost.
    """
    for attempt in range(attempts - 1):
        try:
            return work()
        except Error as exc:
            if connections[using].in_atomic_block or not is_transient(exc):
                raise
        connections[using].close_if_unusable_or_obsolete()
        # At random, so that two who met do not meet again.
        time.sleep(random.uniform(0.5, 1) * min(0.1 * 2**attempt, MAX_PAUSE))  # noqa: S311
    return work()


def bisect(
    batch: list[Result], work: Callable[[list[Result]], Any], failed: Callable[[Result], Any]
) -> None:
    """Call ``work`` with the batch, and with smaller ones where it returns False.

    ``failed`` is called with each single item for which ``work`` returns False.
    """
    if not batch or work(batch):
        return
    if len(batch) == 1:
        failed(batch[0])
        return
    middle = len(batch) // 2
    bisect(batch[:middle], work, failed)
    bisect(batch[middle:], work, failed)
