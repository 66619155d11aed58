"""From the log to histories: memberships, signals, and operations that nobody answered."""

from __future__ import annotations

import pytest

from tests.engines.witness import CONNECTION
from tests.history.account import Memberships, account_for, steps_of_runs
from tests.history.operations import Operation

PORT, UNWITNESSED = 1, 2
CREATED = {"owner": "1", "status": "SUCCEEDED", "message": ""}
ROW = ["read", "1", "SUCCEEDED", "", 0]


def membership(begin, end, is_member, answer=("done",)):
    arguments = {"user": "1", "organization": "org-1", "is_member": is_member}
    known = None if answer is None else list(answer)
    return Operation(f"m{begin}", "membership", begin, end, arguments, answer=known)


def operation(kind, begin, end, *answer, run="r", runs=None, port=PORT, **arguments):
    if kind in ("get", "delete", "list"):
        arguments |= {"user": "1", "port": port}
    run = "" if runs is not None and kind != "list" else run
    known = list(answer) if answer else None
    return Operation(f"{kind}{begin}", kind, begin, end, arguments, run, runs, known)


def created():
    return operation("create", 0, 1, "created", **CREATED)


def account(*operations, **heard):
    times = {(name, "r"): moments for name, moments in heard.items()}
    return account_for(list(operations), times, [PORT])


@pytest.mark.parametrize(
    ("begin", "end", "possible"),
    [
        (1, 2, {False}),
        (9, 11, {True, False}),
        (10.2, 10.4, {True, False}),
        (12, 13, {True}),
        (12, 21, {True, False}),
        (22, 23, {False}),
        (30, 40, {True, False}),
    ],
)
def test_a_membership_is_unknown_only_while_it_changes(begin, end, possible):
    memberships = Memberships(
        [membership(10, 11, True), membership(20, 21, False), membership(29, 29.5, True, None)]
    )
    assert memberships.between("1", "org-1", begin, end) == possible


def test_an_unknown_change_is_settled_by_the_next():
    memberships = Memberships([membership(1, 2, True, None), membership(3, 4, False)])
    assert memberships.between("1", "org-1", 2.1, 2.2) == {True, False}
    assert memberships.between("1", "org-1", 5, 6) == {False}


def test_nobody_is_a_member_at_first():
    assert Memberships([]).between("1", "org-1", 1, 2) == {False}


def test_a_history_that_is_right_has_no_anomaly():
    result = account(created(), operation("delete", 2, 3, "deleted"), delete2=[2.5])
    assert (result.anomalies, result.operations, result.runs) == ([], 2, 1)


def test_a_signal_that_is_heard_twice_is_an_anomaly():
    result = account(created(), operation("delete", 2, 3, "deleted"), delete2=[2.5, 2.6])
    assert result.anomalies == ["run r: the signal of one deletion was heard 2 times"]


def test_a_deletion_without_a_signal_is_an_anomaly():
    result = account(created(), operation("delete", 2, 3, "deleted"))
    assert result.anomalies == ["run r: delete answered as deleted, and no signal"]


def test_a_deletion_without_receivers_sends_no_signal():
    deleted = operation("delete", 2, 3, "deleted", port=UNWITNESSED)
    assert account(created(), deleted).anomalies == []


def test_a_signal_of_a_refusal_is_an_anomaly():
    refused = operation("delete", 2, 3, "forbidden")
    anomalies = account(created(), refused, delete2=[2.5]).anomalies
    assert "run r: a signal, and the answer was ['forbidden']" in anomalies


def test_a_deletion_without_an_answer_that_was_heard_did_happen():
    unknown, later = operation("delete", 2, 3), operation("get", 4, 5, *ROW)
    assert account(created(), unknown, later).anomalies == []
    (anomaly,) = account(created(), unknown, later, delete2=[2.5]).anomalies
    assert anomaly.startswith("run r: no order explains these answers")


def test_prune_says_which_runs_went_by_its_signals():
    pruned = operation("prune", 2, 3, "done", 1, runs=["r", "other"])
    gone = operation("get", 4, 5, "gone")
    assert account(created(), pruned, gone, prune2=[2.5]).anomalies == []
    counted, unexplained = sorted(account(created(), pruned, gone).anomalies)
    assert counted == "prune counted 1 runs, and 0 signals were heard"
    assert unexplained.startswith("run r: no order explains")


def test_a_prune_may_delete_a_run_once_more_that_was_imported_meanwhile():
    pruned = operation("prune", 2, 5, "done", 2, runs=["r"])
    imported = operation(
        "import_run", 3, 4, "created", owner="1", status="FAILED", message="", resurrections=0
    )
    assert account(created(), pruned, imported, prune2=[2.5, 4.5]).anomalies == []
    (anomaly,) = account(created(), pruned, prune2=[2.5, 4.5]).anomalies
    assert anomaly.startswith("run r: no order explains")


def test_a_prune_that_lost_its_connection_may_have_deleted_unheard():
    pruned = operation("prune", 2, 3, "done", 0, runs=["r"])
    gone = operation("get", 4, 5, "gone")
    heard = {("prune2", CONNECTION): [2.5]}
    assert account_for([created(), pruned, gone], heard, [PORT]).anomalies == []


def test_an_answer_that_nothing_allows_is_an_anomaly():
    failed = operation("get", 2, 3, "error", "500 b''")
    assert account(created(), failed).anomalies == ["get of r: 500 b''"]


def test_a_list_is_an_observation_of_each_run_of_its_time():
    shown = operation("list", 2, 3, "done", runs={"r": ["1", "SUCCEEDED"]}, run="")
    empty = operation("list", 4, 5, "done", runs={}, run="")
    later = operation("get", 6, 7, *ROW)
    assert account(created(), shown, later).anomalies == []
    (anomaly,) = account(created(), empty, later).anomalies
    assert anomaly.startswith("run r: no order explains")


def test_an_object_that_is_never_used_is_remembered_by_nobody():
    read = operation("read", 2, 3, *ROW, handle="")
    read.id = "a"
    move = operation("transition", 4, 5, "moved", handle="a", status="READY", message="m")
    assert steps_of_runs([read, move], {}, set())["r"][0].arguments["handle"] == "a"
    assert steps_of_runs([read], {}, set())["r"][0].arguments["handle"] == ""
