"""Look for one order of a run's operations that explains every answer (linearizability).

Wing and Gong's search, with Lowe's memory of what was tried: from the operations that could
have been the next, take one whose answer is possible now, and go on; go back where none is.
What was reached before, the same operations done and the same state, is not searched again.
An operation whose answer nobody knows is tried last, and may be left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.history.model import State, Step, outcomes

MAX_TRIED = 2_000_000


@dataclass
class Verdict:
    """Whether an order exists; if not, the longest one, and what could not follow it."""

    is_explained: bool
    tried: int
    is_undecided: bool = False
    longest: Sequence[Step] = ()
    last_state: State | None = None
    stuck: Sequence[Step] = ()


@dataclass(frozen=True)
class _Node:
    """A point of the search: what is done (as bits), the state, and how it came to be."""

    done: int
    state: State
    first: int  # every step ahead of this one is done, or optional
    step: int | None = None
    parent: _Node | None = None


def check(steps: Sequence[Step], initial: State = State()) -> Verdict:  # noqa: B008  immutable
    """Return whether one order of ``steps`` explains all their answers."""
    steps = sorted(steps, key=lambda step: (step.begin, step.end))
    required = [number for number, step in enumerate(steps) if not step.is_optional]
    wanted = sum(1 << number for number in required)
    seen: set[tuple[int, State]] = set()
    root = _Node(0, initial, 0)
    stack = [root]
    longest, most = root, -1
    while stack:
        node = stack.pop()
        if node.done & wanted == wanted:
            return Verdict(True, len(seen))
        key = (node.done, node.state)
        if key in seen:
            continue
        seen.add(key)
        if len(seen) > MAX_TRIED:
            return Verdict(True, len(seen), is_undecided=True)
        if (count := (node.done & wanted).bit_count()) > most:
            longest, most = node, count
        stack += _next_nodes(steps, node)
    return Verdict(
        False,
        len(seen),
        longest=_order(steps, longest),
        last_state=longest.state,
        stuck=[steps[number] for number in _candidates(steps, longest)],
    )


def _candidates(steps: Sequence[Step], node: _Node) -> list[int]:
    """Return what could be next: all that began before the first end of what is not done."""
    bound = float("inf")
    found = []
    for number in range(node.first, len(steps)):
        step = steps[number]
        if step.begin > bound:
            break
        if not node.done >> number & 1:
            found.append(number)
            if not step.is_optional:
                bound = min(bound, step.end)
    optional = [n for n in range(node.first) if steps[n].is_optional and not node.done >> n & 1]
    return optional + [n for n in found if steps[n].begin <= bound]


def _next_nodes(steps: Sequence[Step], node: _Node) -> list[_Node]:
    """Return what follows a node; the last is to be tried first."""
    following = []
    for number in _candidates(steps, node):
        step = steps[number]
        for after in outcomes(step, node.state):
            done = node.done | 1 << number
            first = node.first
            while first < len(steps) and (steps[first].is_optional or done >> first & 1):
                first += 1
            reached = _Node(done, after, first, number, node)
            if step.changes_nothing:
                # Its answer is right now, and nobody can tell: no order needs it later.
                return [reached]
            following.append((step.is_optional, step.end, reached))
    following.sort(key=lambda each: each[:2], reverse=True)
    return [reached for _, _, reached in following]


def _order(steps: Sequence[Step], node: _Node | None) -> list[Step]:
    order = []
    while node is not None and node.step is not None:
        order.append(steps[node.step])
        node = node.parent
    return order[::-1]
