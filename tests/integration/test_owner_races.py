"""An owner's deletion beside everybody else: no unfinished run goes, and no run is left behind."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from django.apps import apps
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError

from actor_runs.exceptions import InvalidTransition
from actor_runs.models import Run, RunStatus
from tests.support.api import API
from tests.support.concurrency import rolled_back
from tests.support.people import join, make_organization, make_user, token_of

pytestmark = pytest.mark.django_db(transaction=True)

ROUNDS = 3


@pytest.fixture(params=["user", "organization"])
def make_owner(request) -> Callable[[], tuple[Any, dict[str, Any]]]:
    """A function that makes an owner, and the field that names the owner."""
    made = iter(range(100))

    def make_owner() -> tuple[Any, dict[str, Any]]:
        name = f"owner-{next(made)}"
        make = make_user if request.param == "user" else make_organization
        owner = make(name)
        return owner, {request.param: owner}

    return make_owner


def make_run(status: str = RunStatus.SUCCEEDED, **owner: Any) -> Run:
    run = Run.objects.create(status=status, **owner)
    if apps.is_installed("tests.host"):
        run.notes.create()
    return run


def same(row: Any) -> Any:
    """Another object for the same row, as it is now."""
    return type(row).objects.get(pk=row.pk)


def exists(row: Any) -> bool:
    return type(row).objects.filter(pk=row.pk).exists()


def test_an_owner_whose_run_is_resurrected_meanwhile_stays(make_owner, concurrently, signals):
    owner, field = make_owner()
    runs = [make_run(**field) for _ in range(2)]
    with transaction.atomic():
        same(runs[0]).transition_to(RunStatus.RUNNING)
        deletion = concurrently.start_and_wait_for_its_lock(same(owner).delete)
    with pytest.raises(ProtectedError):
        deletion.result()
    assert exists(owner)
    assert same(runs[0]).status == RunStatus.RUNNING
    assert same(runs[1]).status == RunStatus.SUCCEEDED
    assert signals.sent == []


def test_an_owner_whose_runs_resurrection_comes_to_nothing_goes(make_owner, concurrently, signals):
    owner, field = make_owner()
    run = make_run(**field)
    with rolled_back():
        same(run).transition_to(RunStatus.RUNNING)
        deletion = concurrently.start_and_wait_for_its_lock(same(owner).delete)
    deletion.result()
    assert not exists(owner)
    assert not exists(run)
    signals.assert_sent_for(run.pk)


def test_a_run_that_goes_to_another_owner_meanwhile_stays(make_owner, concurrently, signals, bob):
    owner, field = make_owner()
    run = make_run(**field)
    with transaction.atomic():
        Run.objects.filter(pk=run.pk).update(organization=None, user=bob)
        deletion = concurrently.start_and_wait_for_its_lock(same(owner).delete)
    deletion.result()
    assert not exists(owner)
    assert same(run).owner == bob
    assert signals.sent == []


def test_a_run_that_is_deleted_meanwhile_is_deleted_once(make_owner, concurrently, signals):
    owner, field = make_owner()
    run = make_run(**field)
    with transaction.atomic():
        same(run).delete()
        deletion = concurrently.start_and_wait_for_its_lock(same(owner).delete)
    _, of_each = deletion.result()
    assert of_each.get("actor_runs.Run", 0) == 0
    assert not exists(owner)
    assert len(signals.sent) in (0, 2)


@pytest.mark.parametrize("on_owner_delete", ["DELETE_FINISHED", "PROTECT"])
def test_a_run_that_is_given_to_an_owner_who_goes_is_never_without_one(
    make_owner, concurrently, signals, bob, configure, on_owner_delete
):
    configure(ON_OWNER_DELETE=on_owner_delete)
    owner, field = make_owner()
    run = make_run(RunStatus.RUNNING, user=bob)
    try:
        with transaction.atomic():
            Run.objects.filter(pk=run.pk).update(**{"user": None, "organization": None} | field)
            deletion = concurrently.start(same(owner).delete)
            concurrently.wait_until_blocked(deletion)
    except IntegrityError:  # PostgreSQL checks at the COMMIT that the owner is there
        deletion.result()
        assert not exists(owner)
        assert same(run).owner == bob
    else:
        with pytest.raises((ProtectedError, IntegrityError)):
            deletion.result()
        assert same(run).owner == owner
    assert signals.sent == []


def test_owners_and_transitions_at_once_lose_no_unfinished_run(
    make_owner, concurrently, signals_or_none
):
    for _ in range(ROUNDS):
        owner, field = make_owner()
        runs = [make_run(**field) for _ in range(3)]
        objects = [same(run) for run in runs]
        results = concurrently.all_at_once(
            same(owner).delete,
            type(owner).objects.filter(pk=owner.pk).delete,
            *[lambda run=run: run.transition_to(RunStatus.RUNNING) for run in objects],
        )
        deletions, transitions = results[:2], results[2:]
        if exists(owner):
            assert all(isinstance(deletion, ProtectedError) for deletion in deletions)
            assert None in transitions
            for run, transition in zip(runs, transitions, strict=True):
                assert (same(run).status == RunStatus.RUNNING) == (transition is None)
        else:
            assert all(isinstance(each, InvalidTransition) for each in transitions)
            assert not any(map(exists, runs))
        assert not [
            each
            for each in signals_or_none.sent
            if each[1] in {run.pk for run in runs if exists(run)}
        ]


def test_owners_and_requests_at_once_delete_each_run_once(concurrently, signals_or_none):
    for number in range(ROUNDS):
        user = make_user(f"user-{number}")
        group = make_organization(f"group-{number}")
        join(user, group)
        runs = [make_run(organization=group) for _ in range(4)]
        deletes = [partial(API().delete, f"/{run.pk}", token=token_of(user)) for run in runs]
        deletion, *answers = concurrently.all_at_once(same(group).delete, *deletes)
        statuses = [answer.status_code for answer in answers]
        assert set(statuses) <= {204, 403, 404}, statuses
        assert not exists(group)
        assert not Run.objects.exists()
        of_each = deletion[1]
        assert of_each.get("actor_runs.Run", 0) + statuses.count(204) == len(runs)
    expected = 0 if not signals_or_none.sent else ROUNDS * 4 * 2
    assert len(signals_or_none.sent) == len(set(signals_or_none.sent)) == expected


def test_a_run_that_is_made_at_the_same_time_goes_or_keeps_its_owner(
    make_owner, concurrently, signals_or_none
):
    for _ in range(ROUNDS):
        owner, field = make_owner()
        make_run(**field)
        create = partial(make_run, RunStatus.RUNNING, **field)
        deletion, *created = concurrently.all_at_once(same(owner).delete, create, create)
        assert all(isinstance(each, (Run, IntegrityError)) for each in created)
        unfinished = [each for each in created if isinstance(each, Run)]
        assert exists(owner) == bool(unfinished)
        assert all(exists(run) for run in unfinished)
        if unfinished:
            assert isinstance(deletion, (ProtectedError, IntegrityError))
