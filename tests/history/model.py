"""What the contract promises of one run: each operation's possible answers, and what it changes.

The model is sequential: operations on a run happen one at a time. ``checker`` looks for an order
in which every answer that was given is one of those that are possible here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

FINISHED = frozenset({"SUCCEEDED", "FAILED", "TIMED-OUT", "ABORTED"})
RESURRECTED = frozenset({"READY", "RUNNING"})
# Which status may follow which, as the design says: written down here once more, since the
# app's own table is among what is tested.
TRANSITIONS: dict[str, frozenset[str]] = {
    "READY": frozenset({"RUNNING", "ABORTING", "ABORTED", "FAILED", "TIMED-OUT"}),
    "RUNNING": frozenset({"SUCCEEDED", "FAILED", "TIMING-OUT", "TIMED-OUT", "ABORTING", "ABORTED"}),
    "TIMING-OUT": frozenset({"TIMED-OUT", "FAILED"}),
    "ABORTING": frozenset({"ABORTED", "FAILED"}),
    **dict.fromkeys(FINISHED, RESURRECTED),
}

# The answers after which a run is what it was.
UNCHANGED = frozenset(
    {
        *("absent", "exists", "forbidden", "gone", "kept", "listed"),
        *("older", "read", "refused", "unfinished"),
    }
)

Answer = tuple[Any, ...]
# Whether a user may act for an owner: whether it can be, and whether it can not be, at some
# moment between the begin and the end of an operation.
Authority = Callable[[str], tuple[bool, bool]]


class Row(NamedTuple):
    """A run in the database. ``owner`` is spelled as the API's ``userId``.

    ``version`` counts what makes an object outdated that was read before.
    """

    owner: str
    status: str
    message: str
    resurrections: int
    version: int = 0


class Handle(NamedTuple):
    """What an object knew of its run when it was read."""

    name: str
    life: int
    version: int


class State(NamedTuple):
    """A run, or None where there is none; which life of it; and the objects that were read."""

    row: Row | None = None
    life: int = 0
    handles: tuple[Handle, ...] = ()


class Step(NamedTuple):
    """One operation on one run, as a client saw it.

    ``answer`` is None where the client does not know: it may or may not have happened, at any
    moment after its begin.
    """

    operation: str
    kind: str
    begin: float
    end: float
    answer: Answer | None
    arguments: dict[str, Any]

    @property
    def is_optional(self) -> bool:
        return self.answer is None

    @property
    def changes_nothing(self) -> bool:
        """Whether, with this answer, it never changes anything that others can see."""
        if self.answer is None or (self.kind == "read" and self.arguments.get("handle")):
            return False
        return self.answer[0] in UNCHANGED

    def __str__(self) -> str:
        shown = {key: value for key, value in self.arguments.items() if not callable(value)}
        answer = "no answer" if self.answer is None else " ".join(map(str, self.answer))
        end = "..." if self.end == float("inf") else f"{self.end:.4f}"
        return f"{self.begin:.4f} to {end} {self.operation} {self.kind} {shown}: {answer}"


Outcome = tuple[Answer, State]


def outcomes(step: Step, state: State) -> list[State]:
    """Return the states that can follow where ``step`` happens now, given its answer."""
    possible = _KINDS[step.kind](state, step.arguments)
    if step.answer is None:
        return [after for _, after in possible if after.row != state.row]
    return [after for answer, after in possible if answer == step.answer]


def _gone(state: State) -> State:
    return state._replace(row=None)


def _changed(state: State, **fields: Any) -> State:
    assert state.row is not None
    return state._replace(row=state.row._replace(**fields))


def _create(state: State, arguments: dict[str, Any]) -> Iterator[Outcome]:
    if state.row is None:
        row = Row(arguments["owner"], arguments["status"], arguments["message"], 0)
        yield ("created",), state._replace(row=row, life=state.life + 1)
    else:
        yield ("exists",), state  # an import came first


def _get(state: State, arguments: dict[str, Any]) -> Iterator[Outcome]:
    if (row := state.row) is None:
        yield ("gone",), state
        return
    can, cannot = arguments["authority"](row.owner)
    if can:
        yield ("read", row.owner, row.status, row.message, row.resurrections), state
    if cannot:
        yield ("forbidden",), state


def _list(state: State, arguments: dict[str, Any]) -> Iterator[Outcome]:
    if (row := state.row) is None:
        yield ("absent",), state
        return
    can, cannot = arguments["authority"](row.owner)
    if can:
        yield ("listed", row.owner, row.status), state
    if cannot:
        yield ("absent",), state


def _delete(state: State, arguments: dict[str, Any]) -> Iterator[Outcome]:
    """DELETE of the API: existence, then permission, then the status."""
    if (row := state.row) is None:
        yield ("gone",), state
        return
    can, cannot = arguments["authority"](row.owner)
    if cannot:
        yield ("forbidden",), state
    if can and row.status in FINISHED:
        yield ("deleted",), _gone(state)
    elif can:
        yield ("unfinished", row.status), state


def _remove(state: State, arguments: dict[str, Any]) -> Iterator[Outcome]:
    """``run.delete()``, and a queryset's ``delete()``."""
    if (row := state.row) is None:
        yield ("gone",), state
    elif row.status in FINISHED:
        yield ("deleted",), _gone(state)
    else:
        yield ("unfinished", row.status), state


def _delete_finished(state: State, arguments: dict[str, Any]) -> Iterator[Outcome]:
    """``delete_finished()``, prune, and the admin's bulk deletion, for one of their runs."""
    if state.row is not None and state.row.status in FINISHED:
        yield ("deleted",), _gone(state)
    else:
        yield ("kept",), state


def _read(state: State, arguments: dict[str, Any]) -> Iterator[Outcome]:
    """Read an object, which knows from now on what the run was like."""
    if (row := state.row) is None:
        yield ("gone",), state
        return
    handles = state.handles
    if name := arguments.get("handle"):
        handles = tuple(sorted((*handles, Handle(name, state.life, row.version))))
    answer = ("read", row.owner, row.status, row.message, row.resurrections)
    yield answer, state._replace(handles=handles)


def _let_go(state: State, name: str) -> tuple[Handle | None, State]:
    """Return a handle, and the state without it."""
    handle = next((handle for handle in state.handles if handle.name == name), None)
    return handle, state._replace(handles=tuple(h for h in state.handles if h.name != name))


def _matches(state: State, handle: Handle | None) -> tuple[bool, bool]:
    """Return whether an object can be, and whether it can not be, up to date.

    Of a run that was deleted and imported again, an older object may be either.
    """
    assert state.row is not None
    if handle is None or handle.life != state.life:
        return True, True
    is_up_to_date = handle.version == state.row.version
    return is_up_to_date, not is_up_to_date


def _transition(state: State, arguments: dict[str, Any]) -> Iterator[Outcome]:
    handle, state = _let_go(state, arguments["handle"])
    if (row := state.row) is None:
        yield ("gone",), state
        return
    can, cannot = _matches(state, handle)
    target = arguments["status"]
    is_legal = target in TRANSITIONS[row.status]
    if can and is_legal:
        resurrections = row.resurrections + (row.status in FINISHED)
        after = _changed(
            state,
            status=target,
            message=arguments["message"],
            resurrections=resurrections,
            version=row.version + 1,
        )
        yield ("moved",), after
    if cannot or not is_legal:
        yield ("refused", row.status), state


def _save(state: State, arguments: dict[str, Any]) -> Iterator[Outcome]:
    """``run.save()``: all fields as the object knows them, and a new message."""
    handle, state = _let_go(state, arguments["handle"])
    if (row := state.row) is None:
        yield ("gone",), state
        return
    can, cannot = _matches(state, handle)
    if can and arguments["status"] == row.status:
        after = _changed(
            state,
            owner=arguments["owner"],
            message=arguments["message"],
            resurrections=arguments["resurrections"],
        )
        yield ("saved",), after
    if cannot or arguments["status"] != row.status:
        yield ("refused", row.status), state


def _save_message(state: State, arguments: dict[str, Any]) -> Iterator[Outcome]:
    """``run.save(update_fields=["status_message"])``: whatever the status is by now."""
    if state.row is None:
        yield ("gone",), state
    else:
        yield ("saved",), _changed(state, message=arguments["message"])


def _give(state: State, arguments: dict[str, Any]) -> Iterator[Outcome]:
    """An update of the owner by a queryset."""
    if state.row is None:
        yield ("gone",), state
    else:
        yield ("given",), _changed(state, owner=arguments["owner"])


def _import_run(state: State, arguments: dict[str, Any]) -> Iterator[Outcome]:
    owner, status = arguments["owner"], arguments["status"]
    message, resurrections = arguments["message"], arguments["resurrections"]
    if (row := state.row) is None:
        created = Row(owner, status, message, resurrections)
        yield ("created",), state._replace(row=created, life=state.life + 1)
    elif row.owner != owner:
        yield ("refused",), state
    elif (resurrections, status in FINISHED) < (row.resurrections, row.status in FINISHED):
        yield ("older",), state
    else:
        after = _changed(state, status=status, message=message, resurrections=resurrections)
        if status == row.status:
            # Whether an object that was read before is outdated now is not promised.
            yield ("updated",), after
        assert after.row is not None
        yield ("updated",), after._replace(row=after.row._replace(version=row.version + 1))


_KINDS: dict[str, Callable[[State, dict[str, Any]], Iterator[Outcome]]] = {
    "create": _create,
    "get": _get,
    "list": _list,
    "delete": _delete,
    "remove": _remove,
    "delete_finished": _delete_finished,
    "prune": _delete_finished,
    "admin": _delete_finished,
    "read": _read,
    "transition": _transition,
    "save": _save,
    "save_message": _save_message,
    "give": _give,
    "import_run": _import_run,
}
