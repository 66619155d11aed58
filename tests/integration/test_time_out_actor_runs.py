"""The command that ends the runs of lost workers, with the manners of ``prune_actor_runs``."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.core.management import CommandError
from django.db import OperationalError
from django.db.models.signals import pre_save
from django.utils import timezone

from actor_runs.models import Run
from actor_runs.signals import run_status_changed
from tests.support.commands import last_line


def unfinished(owner: Any, hours: float, status: str = "RUNNING", **fields: Any) -> Run:
    """A run of ``owner``, a user, that started so many hours ago."""
    start = timezone.now() - timedelta(hours=hours)
    return Run.objects.create(user=owner, status=status, started_at=start, **fields)


time_out = partial(last_line, "time_out_actor_runs")


def test_runs_that_started_longer_ago_end_each_to_its_legal_end(transactional_db, alice):
    ended = {status: unfinished(alice, 2, status) for status in Run.UNFINISHED}
    young = unfinished(alice, 0.5)
    finished = Run.objects.create(user=alice, status="FAILED", started_at=young.started_at)
    announced: list[tuple[str, str]] = []

    def listen(old_status: str, new_status: str, **kwargs: Any) -> None:
        announced.append((old_status, new_status))

    run_status_changed.connect(listen)
    try:
        assert time_out("--older-than", "1h", "--dry-run") == "Would end 4 runs."
        assert not announced
        assert time_out("--older-than", "1h") == "Ended 4 runs."
    finally:
        run_status_changed.disconnect(listen)
    ends = dict.fromkeys(map(str, ended), "TIMED-OUT") | {"ABORTING": "ABORTED"}
    assert sorted(announced) == sorted(ends.items())
    for status, run in ended.items():
        assert Run.objects.get(pk=run.pk).status == ends[status]
    assert Run.objects.get(pk=young.pk).status == "RUNNING"
    assert Run.objects.get(pk=finished.pk).status == "FAILED"


def test_only_the_runs_asked_for_end(alice, bob, acme):
    mine, ready = unfinished(alice, 2), unfinished(alice, 2, "READY")
    other, theirs = unfinished(bob, 2), unfinished(None, 2, organization=acme)

    assert time_out("--older-than=1h", "--user=alice", "--status=RUNNING") == "Ended 1 run."
    assert [run.pk for run in Run.objects.finished()] == [mine.pk]
    assert time_out("--older-than=1h", f"--organization={acme.pk}") == "Ended 1 run."
    assert {run.pk for run in Run.objects.unfinished()} == {ready.pk, other.pk}
    assert theirs.pk != mine.pk


def test_batches_and_time_are_limited(alice):
    for _ in range(3):
        unfinished(alice, 2)
    options = {"older_than": "1h", "batch_size": "2"}
    line = time_out(**options, max_runtime=timedelta(microseconds=1))
    assert line == "Ended 0 runs. Stopped by --max-runtime: more runs are due."
    assert time_out(**options, max_runtime="1h", verbosity=2) == "Ended 3 runs."


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: --older-than"),
        (["--older-than=0h"], "must be a number of hours, days or weeks above zero"),
        (["--older-than=30m"], "must be a number of hours, days or weeks above zero"),
        (["--older-than=1h", "--status=FAILED"], "invalid choice: 'FAILED'"),
        (["--older-than=1h", "--batch-size=10001"], "must be a whole number from 1 to 10000"),
        (["--older-than=1h", "--max-runtime=0"], "must be a time above zero"),
        (["--older-than=1h", "--user=nobody"], "There is no user 'nobody'."),
    ],
)
def test_bad_arguments_end_nothing(alice, arguments, message):
    unfinished(alice, 9999)
    with pytest.raises(CommandError, match=message.replace("(", r"\(")):
        time_out(*arguments)
    assert not Run.objects.finished().exists()


def test_a_status_given_as_a_python_keyword_may_be_one_text(alice):
    unfinished(alice, 2)
    assert time_out(older_than="1h", status="RUNNING") == "Ended 1 run."


@pytest.mark.parametrize(("number", "words"), [(1, "1 run could"), (2, "2 runs could")])
def test_time_out_reports_runs_that_stay_locked(transactional_db, no_pauses, alice, number, words):
    def conflict(**kwargs: Any) -> None:
        raise OperationalError("deadlock")

    for _ in range(number):
        unfinished(alice, 2)
    pre_save.connect(conflict, sender=Run)
    try:
        with pytest.raises(CommandError, match=f"{words} not be locked.") as error:
            time_out("--older-than=1h")
    finally:
        pre_save.disconnect(conflict, sender=Run)
    assert error.value.returncode == 1
