"""The judge of the races: what the contract allows, and what it must call wrong."""

from __future__ import annotations

import pytest

from tests.engines.judge import Attempt, judge


def attempts(*pairs, is_witnessed=False):
    return [
        Attempt(who, f"op{number}", outcome, is_witnessed)
        for number, (who, outcome) in enumerate(pairs)
    ]


DELETED_ONCE = [("owner", "deleted"), ("owner", "gone"), ("stranger", "forbidden")]

RIGHT = {
    "one deletes": ("deletes", DELETED_ONCE, None),
    "a stranger who comes later": (
        "deletes",
        [("owner", "deleted"), ("stranger", "gone")],
        None,
    ),
    "resurrected": (
        "resurrection",
        [("owner", "unfinished"), ("owner", "unfinished"), ("transition", "moved")],
        "RUNNING",
    ),
    "not resurrected": ("resurrection", [("owner", "deleted"), ("transition", "gone")], None),
    "unfinished": (
        "unfinished",
        [("owner", "unfinished"), ("object", "unfinished"), ("queryset", "gone")],
        "RUNNING",
    ),
    "by a queryset": ("everybody", [("owner", "gone"), ("queryset", "deleted")], None),
}

WRONG = {
    "deleted 2 times": ("deletes", [("owner", "deleted"), ("owner", "deleted")], None),
    "answered as deleted, and still there": ("deletes", DELETED_ONCE, "SUCCEEDED"),
    "gone, and nobody deleted it": ("deletes", [("owner", "gone")], None),
    "an unfinished run is gone": ("unfinished", [("owner", "deleted")], None),
    "resurrected, and gone": (
        "resurrection",
        [("owner", "deleted"), ("transition", "moved")],
        None,
    ),
    "not found, and still there": ("deletes", [("owner", "gone")], "SUCCEEDED"),
    "nobody deleted it": ("deletes", [("stranger", "forbidden")], "SUCCEEDED"),
    "stranger got deleted": ("deletes", [("stranger", "deleted")], None),
    "owner got 500 b''": ("deletes", [("owner", "500 b''")], "SUCCEEDED"),
    "owner got unavailable": ("deletes", [("owner", "unavailable")], "SUCCEEDED"),
}


@pytest.mark.parametrize("name", RIGHT)
def test_what_the_contract_allows_is_right(name):
    kind, pairs, left = RIGHT[name]
    assert judge(kind, attempts(*pairs), left, {}, may_be_unavailable=False) == []


@pytest.mark.parametrize("name", WRONG)
def test_what_the_contract_forbids_is_wrong(name):
    kind, pairs, left = WRONG[name]
    assert name in judge(kind, attempts(*pairs), left, {}, may_be_unavailable=False)


@pytest.mark.parametrize("left", [None, "SUCCEEDED"])
def test_what_was_unavailable_may_have_happened_or_not(left):
    tried = attempts(("owner", "unavailable"), ("stranger", "forbidden"))
    assert judge("deletes", tried, left, {}, may_be_unavailable=True) == []


def test_a_deletion_is_heard_once():
    tried = attempts(*DELETED_ONCE)
    once = {("op0", "run"): 1}
    assert judge("deletes", tried, None, once, may_be_unavailable=False) == []
    twice = {("op0", "run"): 2}
    assert judge("deletes", tried, None, twice, may_be_unavailable=False) == [
        "2 signals of 1 deletion"
    ]


def test_a_deletion_where_the_witness_listens_is_heard():
    tried = attempts(*DELETED_ONCE, is_witnessed=True)
    wrong = judge("deletes", tried, None, {}, may_be_unavailable=False)
    assert wrong == ["deleted, and nobody heard of it"]


def test_nothing_is_heard_of_a_run_that_stays():
    tried = attempts(("owner", "unfinished"))
    heard = {("op0", "run"): 1}
    assert judge("unfinished", tried, "RUNNING", heard, may_be_unavailable=False) == [
        "1 signals of 0 deletion"
    ]


def test_a_signal_belongs_to_the_operation_that_answered():
    heard = {("op1", "run"): 1}
    wrong = judge("deletes", attempts(*DELETED_ONCE), None, heard, may_be_unavailable=False)
    assert wrong == [f"another operation than op0 was heard: {heard}"]
