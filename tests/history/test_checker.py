"""The checker, on small histories written by hand: what it must accept, and what it must find."""

from __future__ import annotations

import pytest

from tests.history.checker import check
from tests.history.model import Row, State, Step

FOREVER = float("inf")
FINISHED = State(Row("1", "SUCCEEDED", "", 0))
RUNNING = State(Row("1", "RUNNING", "", 0))


def is_owner(owner):
    return owner == "1", owner != "1"


def step(kind, begin, end, *answer, **arguments):
    """One operation of the user 1; without an answer, nobody knows whether it happened."""
    arguments.setdefault("authority", is_owner)
    return Step(f"{kind}@{begin}", kind, begin, end, answer or None, arguments)


def read(begin, end, status, name="a", owner="1", message="", resurrections=0):
    answer = ("read", owner, status, message, resurrections)
    return step("read", begin, end, *answer, handle=name)


def move(begin, end, status, *answer, name="a", message=""):
    return step("transition", begin, end, *answer, handle=name, status=status, message=message)


EXPLAINED = {
    "nothing happened": (FINISHED, []),
    "one deletes, the other comes too late": (
        FINISHED,
        [step("delete", 0, 5, "deleted"), step("delete", 0, 5, "gone")],
    ),
    "what is answered first may have happened last": (
        FINISHED,
        [step("delete", 0, 9, "deleted"), step("get", 1, 2, "read", "1", "SUCCEEDED", "", 0)],
    ),
    "no answer, and it happened": (
        FINISHED,
        [step("delete", 0, FOREVER), step("get", 5, 6, "gone")],
    ),
    "no answer, and it did not happen": (
        FINISHED,
        [step("delete", 0, FOREVER), step("delete", 5, 6, "deleted")],
    ),
    "no answer, and it happened later": (
        FINISHED,
        [
            step("delete", 0, FOREVER),
            step("get", 5, 6, "read", "1", "SUCCEEDED", "", 0),
            step("get", 7, 8, "gone"),
        ],
    ),
    "resurrected ahead of the deletion": (
        FINISHED,
        [
            read(0, 1, "SUCCEEDED"),
            move(2, 5, "RUNNING", "moved"),
            step("delete", 2, 5, "unfinished", "RUNNING"),
        ],
    ),
    "an outdated object is refused": (
        FINISHED,
        [
            read(0, 1, "SUCCEEDED", "a"),
            read(0, 1, "SUCCEEDED", "b"),
            move(2, 3, "RUNNING", "moved", name="a"),
            move(4, 5, "READY", "refused", "RUNNING", name="b"),
        ],
    ),
    "given away ahead of the deletion": (
        FINISHED,
        [step("give", 0, 5, "given", owner="2"), step("delete", 0, 5, "forbidden")],
    ),
    "deleted, and imported again": (
        FINISHED,
        [
            step("delete", 0, 1, "deleted"),
            step(
                "import_run",
                2,
                3,
                "created",
                owner="1",
                status="FAILED",
                message="",
                resurrections=0,
            ),
            step("delete", 4, 5, "deleted"),
        ],
    ),
    "what changes nothing at first may have to come later": (
        FINISHED,
        [
            step("give", 0, 9, "given", owner="1"),
            step("give", 0, 9, "given", owner="2"),
            step("get", 10, 11, "read", "1", "SUCCEEDED", "", 0),
        ],
    ),
    "a membership that changed meanwhile may be either": (
        State(Row("org-1", "SUCCEEDED", "", 0)),
        [
            step("get", 0, 1, "forbidden", authority=lambda owner: (True, True)),
            step("delete", 0, 1, "deleted", authority=lambda owner: (True, True)),
        ],
    ),
    "a list that has the run, and one that has not": (
        FINISHED,
        [
            step("list", 0, 1, "listed", "1", "SUCCEEDED"),
            step("give", 2, 3, "given", owner="2"),
            step("list", 4, 5, "absent"),
        ],
    ),
}

ANOMALIES = {
    "deleted twice": (
        FINISHED,
        [step("delete", 0, 5, "deleted"), step("delete", 0, 5, "deleted")],
    ),
    "an unfinished run was deleted": (RUNNING, [step("delete", 0, 1, "deleted")]),
    "gone, and nobody deleted it": (FINISHED, [step("get", 0, 1, "gone")]),
    "read after it was deleted": (
        FINISHED,
        [
            step("delete", 0, 1, "deleted"),
            step("get", 2, 3, "read", "1", "SUCCEEDED", "", 0),
        ],
    ),
    "resurrected under the deletion": (
        FINISHED,
        [
            read(0, 1, "SUCCEEDED"),
            move(2, 9, "RUNNING", "moved"),
            step("delete", 2, 9, "deleted"),
        ],
    ),
    "deleted by who was no longer its owner": (
        FINISHED,
        [step("give", 0, 1, "given", owner="2"), step("delete", 2, 3, "deleted")],
    ),
    "deleted, though given away, and the new owner saw it": (
        FINISHED,
        [
            step("give", 0, 5, "given", owner="2"),
            step(
                "get", 1, 4, "read", "2", "SUCCEEDED", "", 0, authority=lambda owner: (True, False)
            ),
            step("delete", 4.5, 9, "deleted"),
        ],
    ),
    "two objects took one step": (
        FINISHED,
        [
            read(0, 1, "SUCCEEDED", "a"),
            read(0, 1, "SUCCEEDED", "b"),
            move(2, 5, "RUNNING", "moved", name="a"),
            move(2, 5, "RUNNING", "moved", name="b"),
        ],
    ),
    "an object that is outdated, though the status is the same again": (
        FINISHED,
        [
            read(0, 1, "SUCCEEDED", "a"),
            read(0, 1, "SUCCEEDED", "b"),
            move(2, 3, "RUNNING", "moved", name="a"),
            read(4, 5, "RUNNING", "c", resurrections=1),
            move(6, 7, "SUCCEEDED", "moved", name="c"),
            move(8, 9, "READY", "moved", name="b"),
        ],
    ),
    "a lost update": (
        FINISHED,
        [
            step("save_message", 0, 1, "saved", message="one"),
            step("get", 2, 3, "read", "1", "SUCCEEDED", "", 0),
        ],
    ),
    "a member who surely is one was refused": (
        State(Row("org-1", "SUCCEEDED", "", 0)),
        [step("delete", 0, 1, "forbidden", authority=lambda owner: (True, False))],
    ),
    "a list without a run that was there all the time": (
        FINISHED,
        [step("list", 0, 1, "absent")],
    ),
    "an import took a run of somebody else": (
        FINISHED,
        [
            step(
                "import_run",
                0,
                1,
                "updated",
                owner="2",
                status="READY",
                message="",
                resurrections=0,
            )
        ],
    ),
}


@pytest.mark.parametrize("name", EXPLAINED)
def test_an_order_is_found(name):
    initial, steps = EXPLAINED[name]
    verdict = check(steps, initial)
    assert verdict.is_explained, verdict
    assert not verdict.is_undecided


@pytest.mark.parametrize("name", ANOMALIES)
def test_an_anomaly_is_found(name):
    initial, steps = ANOMALIES[name]
    assert not check(steps, initial).is_explained


def test_the_verdict_names_what_could_not_follow():
    deletions = [step("delete", 0, 1, "deleted"), step("delete", 2, 3, "deleted")]
    verdict = check(deletions, FINISHED)
    assert verdict.longest == deletions[:1]
    assert verdict.stuck == deletions[1:]
    assert verdict.last_state.row is None


def test_many_operations_at_once_are_decided():
    """Fifty reads and twenty unknown deletions beside one another, all of them at once."""
    steps = [step("get", 0, 9, "read", "1", "SUCCEEDED", "", 0) for _ in range(50)]
    steps += [step("delete", 0, FOREVER) for _ in range(20)]
    steps += [step("get", 10, 11, "gone")]
    assert check(steps, FINISHED).is_explained


def test_a_long_history_is_decided():
    steps = [step("create", 0, 1, "created", owner="1", status="READY", message="")]
    for number in range(2, 4000, 2):
        message = str(number)
        steps.append(step("save_message", number, number + 1, "saved", message=message))
    steps.append(step("get", 5000, 5001, "read", "1", "READY", message, 0))
    assert check(steps).is_explained
