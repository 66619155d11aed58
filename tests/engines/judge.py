"""What the contract says about how a race for one run may end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

UNAVAILABLE = "unavailable"
# Who may get which outcome, for a run that is, or was, finished. "unfinished" is added where
# somebody resurrects it.
ALLOWED = {
    "owner": {"deleted", "gone"},
    "stranger": {"forbidden", "gone"},
    "object": {"deleted", "gone"},
    "queryset": {"deleted", "gone"},
    "transition": {"moved", "gone"},
}
ALLOWED_UNFINISHED = {
    "owner": {"unfinished"},
    "stranger": {"forbidden"},
    "object": {"unfinished"},
    "queryset": {"gone"},
}


class Attempt(NamedTuple):
    """What one party of a race did, and how it ended for them.

    ``is_witnessed``: the witness listens where it was done, so that a deletion is heard.
    """

    who: str
    operation: str
    outcome: str
    is_witnessed: bool = True


def judge(
    kind: str,
    attempts: Sequence[Attempt],
    left: str | None,
    heard: dict[tuple[str, str], int],
    may_be_unavailable: bool,
) -> list[str]:
    """Return what of a round breaks the contract, given how it ended for each.

    ``left`` is the status of the run afterwards, None where it is gone; ``heard`` counts the
    signals by operation and run.
    """
    wrong = []
    allowed = ALLOWED_UNFINISHED if kind == "unfinished" else ALLOWED
    for attempt in attempts:
        right = set(allowed.get(attempt.who, ()))
        if kind == "resurrection" and attempt.who == "owner":
            right.add("unfinished")
        if may_be_unavailable:
            right.add(UNAVAILABLE)
        if attempt.outcome not in right:
            wrong.append(f"{attempt.who} got {attempt.outcome}")
    outcomes = [attempt.outcome for attempt in attempts]
    deleted = [attempt for attempt in attempts if attempt.outcome == "deleted"]
    uncertain = UNAVAILABLE in outcomes
    if len(deleted) > 1:
        wrong.append(f"deleted {len(deleted)} times")
    if deleted and left is not None:
        wrong.append("answered as deleted, and still there")
    if left is None and not deleted and not uncertain:
        wrong.append("gone, and nobody deleted it")
    if left is None and kind == "unfinished":
        wrong.append("an unfinished run is gone")
    if left is None and "moved" in outcomes:
        wrong.append("resurrected, and gone")
    if left is not None and "gone" in outcomes and kind != "unfinished":
        wrong.append("not found, and still there")
    if left is not None and kind in ("deletes", "everybody") and not uncertain:
        wrong.append("nobody deleted it")
    if sum(heard.values()) > (left is None):
        wrong.append(f"{sum(heard.values())} signals of {int(left is None)} deletion")
    if deleted and deleted[0].is_witnessed and not heard:
        wrong.append("deleted, and nobody heard of it")
    if deleted and any(operation != deleted[0].operation for operation, _ in heard):
        wrong.append(f"another operation than {deleted[0].operation} was heard: {heard}")
    return wrong
