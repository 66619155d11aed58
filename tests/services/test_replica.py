"""Reads may go to a replica, which may be behind; what decides a deletion reads the primary.

Under ``tests.services.settings_replica``.
"""

from __future__ import annotations

import pytest
from django.contrib.auth import get_user_model
from rest_framework.authtoken.models import Token

from actor_runs.exceptions import InvalidTransition, RunNotFinished
from actor_runs.models import Run, RunStatus
from tests.conftest import assert_error, join, leave

pytestmark = pytest.mark.django_db(databases=["default", "replica"])


@pytest.fixture(autouse=True)
def _both_databases(db: None) -> None:
    """Alice, who is in both, comes after the databases that this file asks for."""


def copy_to_replica(*objects):
    for one in objects:
        one.save_base(using="replica", raw=True, force_insert=True)
        one._state.db = "default"


@pytest.fixture
def token(alice):
    token = Token.objects.using("default").create(user=alice)
    copy_to_replica(alice, token)
    return token.key


def test_reads_come_from_the_replica(api, alice, token):
    run = Run.objects.create(user=alice, status=RunStatus.RUNNING)
    copy_to_replica(run)
    run.transition_to(RunStatus.SUCCEEDED)
    assert api.get(f"/{run.pk}", token=token).json()["data"]["status"] == "RUNNING"
    (item,) = api.get(token=token).json()["data"]["items"]
    assert item["status"] == "RUNNING"


def test_a_run_that_the_replica_takes_for_finished_is_not_deleted(api, alice, token):
    run = Run.objects.create(user=alice, status=RunStatus.SUCCEEDED)
    copy_to_replica(run)
    run.transition_to(RunStatus.RUNNING)
    assert_error(
        api.delete(f"/{run.pk}", token=token),
        400,
        "cannot-remove-running-run",
        f"Only finished runs can be deleted (run ID: {run.pk}, status: RUNNING).",
    )
    assert Run.objects.using("default").filter(pk=run.pk).exists()


def test_a_run_that_the_replica_does_not_know_yet_is_deleted(api, alice, token):
    run = Run.objects.create(user=alice, status=RunStatus.SUCCEEDED)
    assert api.delete(f"/{run.pk}", token=token).status_code == 204
    assert not Run.objects.using("default").filter(pk=run.pk).exists()


def test_a_run_that_the_replica_still_has_is_404_to_a_second_delete(api, alice, token):
    run = Run.objects.create(user=alice, status=RunStatus.SUCCEEDED)
    copy_to_replica(run)
    assert api.delete(f"/{run.pk}", token=token).status_code == 204
    assert Run.objects.using("replica").filter(pk=run.pk).exists()
    assert api.delete(f"/{run.pk}", token=token).status_code == 404


def test_who_left_an_organization_cannot_delete_whatever_the_replica_says(api, alice, acme, token):
    run = Run.objects.create(organization=acme, status=RunStatus.SUCCEEDED)
    join(alice, acme)
    copy_to_replica(acme, run, *get_user_model().groups.through.objects.using("default").all())
    leave(alice, acme)
    assert api.delete(f"/{run.pk}", token=token).status_code == 403
    assert api.get(f"/{run.pk}", token=token).status_code == 200  # read from the replica
    join(alice, acme)
    assert api.delete(f"/{run.pk}", token=token).status_code == 204


def test_a_revoked_token_is_refused_whatever_the_replica_says(api, alice, token):
    run = Run.objects.create(user=alice, status=RunStatus.SUCCEEDED)
    copy_to_replica(run)
    Token.objects.using("default").all().delete()
    assert api.delete(f"/{run.pk}", token=token).status_code == 401
    assert api.get(f"/{run.pk}", token=token).status_code == 401


def test_objects_read_from_the_replica_are_moved_and_deleted_on_the_primary(alice, token):
    run = Run.objects.create(user=alice, status=RunStatus.SUCCEEDED)
    copy_to_replica(run)
    run.transition_to(RunStatus.RUNNING)
    behind = Run.objects.get(pk=run.pk)
    assert (behind._state.db, behind.status) == ("replica", RunStatus.SUCCEEDED)
    with pytest.raises(RunNotFinished):
        behind.delete()
    behind = Run.objects.get(pk=run.pk)
    with pytest.raises(InvalidTransition):
        behind.transition_to(RunStatus.READY)
    with pytest.raises(RunNotFinished):
        Run.objects.filter(pk=run.pk).delete()
    assert Run.objects.filter(pk=run.pk).delete_finished() == 0
    assert Run.objects.using("default").get(pk=run.pk).status == RunStatus.RUNNING
