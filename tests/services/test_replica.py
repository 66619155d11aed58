"""Reads may go to a replica, which may be behind; what decides a deletion reads the primary.

Under ``tests.services.settings_replica``.
"""

from __future__ import annotations

from contextlib import suppress

import pytest
from django.contrib.auth import get_user_model
from django.db import DatabaseError
from django.db.models import ProtectedError
from django.urls import path
from rest_framework.authtoken.models import Token
from rest_framework.permissions import BasePermission

from actor_runs.exceptions import InvalidTransition, RunNotFinished
from actor_runs.models import Run, RunStatus
from actor_runs.permissions import RunPermission
from actor_runs.views import RunViewSet
from tests.support.api import assert_error
from tests.support.people import join, leave

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


NARROWED = {
    "only its ID": lambda runs: runs.only("id"),
    "without its status": lambda runs: runs.defer("status"),
    "without its version": lambda runs: runs.defer("version"),
    "without its owner": lambda runs: runs.defer("user", "organization"),
}


@pytest.fixture
def ahead(alice, token):
    """A run that is unfinished on the primary, and finished on the replica, which is behind."""
    run = Run.objects.create(user=alice, status=RunStatus.SUCCEEDED)
    copy_to_replica(run)
    run.transition_to(RunStatus.RUNNING)
    return run


@pytest.mark.parametrize("narrow", NARROWED.values(), ids=NARROWED)
def test_no_decision_reads_a_deferred_field_from_a_replica(ahead, narrow):
    narrowed = narrow(Run.objects)
    assert narrowed.get(pk=ahead.pk)._state.db == "replica"
    for delete in (
        narrowed.get(pk=ahead.pk).delete,
        narrowed.filter(pk=ahead.pk).delete,
        narrowed.in_bulk([ahead.pk])[ahead.pk].delete,
    ):
        with pytest.raises(RunNotFinished):
            delete()
    assert narrowed.filter(pk=ahead.pk).delete_finished() == 0
    with pytest.raises(InvalidTransition):
        narrowed.get(pk=ahead.pk).transition_to(RunStatus.READY)
    assert Run.objects.using("default").get(pk=ahead.pk).status == RunStatus.RUNNING


@pytest.mark.parametrize("narrow", NARROWED.values(), ids=NARROWED)
def test_save_reads_no_deferred_field_from_a_replica(ahead, narrow):
    primary = Run.objects.using("default")
    run = narrow(Run.objects).get(pk=ahead.pk)
    run.act_id = "changed"
    with suppress(InvalidTransition):  # what was read of its status is outdated
        run.save()
    assert primary.values_list("status", "version").get() == (RunStatus.RUNNING, 1)
    run.save(update_fields=["act_id"])
    saved = primary.values_list("status", "version", "act_id").get()
    assert saved == (RunStatus.RUNNING, 1, "changed")


@pytest.mark.parametrize("narrow", NARROWED.values(), ids=NARROWED)
def test_a_run_that_is_finished_by_now_is_deleted_whatever_was_read_of_it(alice, token, narrow):
    run = Run.objects.create(user=alice, status=RunStatus.RUNNING)
    copy_to_replica(run)
    run.transition_to(RunStatus.SUCCEEDED)
    assert narrow(Run.objects).get(pk=run.pk).delete() == (1, {"actor_runs.Run": 1})


class Anybody(BasePermission):
    def has_object_permission(self, request, view, obj):
        return obj.status in RunStatus.values and obj.user_id is not None


@pytest.mark.parametrize("narrow", NARROWED.values(), ids=NARROWED)
def test_a_hosts_narrow_queryset_decides_nothing_by_the_replica(
    api, alice, token, ahead, settings, narrow
):
    class Narrow(RunViewSet):
        permission_classes = [RunPermission, Anybody]

        def get_queryset(self):
            return narrow(super().get_queryset())

    settings.ROOT_URLCONF = (
        path("v2/actor-runs/<runId>", Narrow.as_view({"get": "retrieve", "delete": "destroy"})),
    )
    assert api.delete(f"/{ahead.pk}", token=token).status_code == 400
    run = Run.objects.create(user=alice, status=RunStatus.RUNNING)
    copy_to_replica(run)
    run.transition_to(RunStatus.SUCCEEDED)
    assert api.delete(f"/{run.pk}", token=token).status_code == 204


def test_an_owner_is_deleted_by_what_the_primary_says(alice, token, ahead):
    with pytest.raises(ProtectedError):
        alice.delete(using="default")
    ahead.transition_to(RunStatus.FAILED)
    alice.delete(using="default")
    assert not Run.objects.using("default").exists()


def test_a_run_is_copied_to_another_database_only_if_that_is_said(alice, token):
    run = Run.objects.create(user=alice, status=RunStatus.SUCCEEDED)
    with pytest.raises(DatabaseError, match="pass force_insert=True"):
        run.save(using="replica")
    run.save(using="replica", force_insert=True)
    assert Run.objects.using("replica").get(pk=run.pk).status == RunStatus.SUCCEEDED
