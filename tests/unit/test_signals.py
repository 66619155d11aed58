"""``run_status_changed``: once after the commit, whoever made the change."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models.signals import post_save

from actor_runs.models import Run, RunStatus
from actor_runs.signals import run_status_changed

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def changes():
    seen: list[tuple[Any, ...]] = []

    def listen(sender: Any, run: Run, old_status: str, new_status: str, **kwargs: Any) -> None:
        assert not connection.in_atomic_block
        seen.append((sender, run.pk, old_status, new_status, run.status))

    run_status_changed.connect(listen)
    yield seen
    run_status_changed.disconnect(listen)


@pytest.fixture(params=["nobody listens to saves", "somebody listens to saves"])
def _saves(request):
    def listen(**kwargs: Any) -> None:
        pass

    if request.param.startswith("somebody"):
        post_save.connect(listen, sender=Run)
    yield
    post_save.disconnect(listen, sender=Run)


@pytest.mark.usefixtures("_saves")
def test_a_transition_is_announced_after_its_commit(alice, changes):
    run = Run.objects.create(user=alice)
    assert changes == []
    with transaction.atomic():
        run.transition_to(RunStatus.RUNNING)
        assert changes == []
    assert changes == [(Run, run.pk, "READY", "RUNNING", "RUNNING")]
    run.transition_to(RunStatus.FAILED)
    run.transition_to(RunStatus.READY)
    assert [change[2:4] for change in changes] == [
        ("READY", "RUNNING"),
        ("RUNNING", "FAILED"),
        ("FAILED", "READY"),
    ]


@pytest.mark.usefixtures("_saves")
def test_a_transition_that_is_rolled_back_or_refused_is_not_announced(alice, changes):
    run = Run.objects.create(user=alice)
    with transaction.atomic():
        run.transition_to(RunStatus.RUNNING)
        transaction.set_rollback(True)
    run.refresh_from_db()
    with pytest.raises(Exception, match="cannot go"):
        run.transition_to(RunStatus.SUCCEEDED)
    run.status_message = "saved"
    run.save()
    assert changes == []


def test_a_receiver_that_fails_stops_neither_the_change_nor_the_others(alice, changes, caplog):
    def fail(**kwargs: Any) -> None:
        raise ZeroDivisionError

    run_status_changed.connect(fail)
    try:
        run = Run.objects.create(user=alice)
        run.transition_to(RunStatus.RUNNING)
    finally:
        run_status_changed.disconnect(fail)
    assert len(changes) == 1
    assert Run.objects.get(pk=run.pk).status == "RUNNING"
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.usefixtures("_saves")
@pytest.mark.parametrize("is_committed", [True, False])
def test_run_status_changed_is_sent_after_a_commit_without_autocommit(alice, changes, is_committed):
    run = Run.objects.create(user=alice)
    transaction.set_autocommit(False)
    try:
        run.transition_to(RunStatus.RUNNING)
        transaction.commit() if is_committed else transaction.rollback()
        assert changes == []
    finally:
        transaction.set_autocommit(True)
    assert [change[2:4] for change in changes] == [("READY", "RUNNING")] * is_committed
