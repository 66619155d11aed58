"""What becomes of runs when their owner is deleted, and whose they are by several paths."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.db import DEFAULT_DB_ALIAS, connection, transaction
from django.db.migrations.loader import MigrationLoader
from django.db.models import ProtectedError
from django.db.models.deletion import Collector
from django.db.models.signals import post_delete, pre_delete

from actor_runs.models import Run, RunStatus
from tests.support.people import join, leave, make_organization, make_user


def delete_object(owner: Any) -> Any:
    return owner.delete()


def delete_in_bulk(owner: Any) -> Any:
    return type(owner).objects.filter(pk=owner.pk).delete()


DELETIONS = pytest.mark.parametrize("delete", [delete_object, delete_in_bulk])


@pytest.fixture(params=["user", "organization"])
def owner(request, alice, acme):
    return alice if request.param == "user" else acme


@pytest.fixture
def make_run(owner) -> Callable[..., Run]:
    kind = "user" if isinstance(owner, get_user_model()) else "organization"

    def make_run(status: str = RunStatus.SUCCEEDED, **fields: Any) -> Run:
        return Run.objects.create(**{kind: owner}, status=status, **fields)

    return make_run


def exists(row: Any) -> bool:
    return type(row).objects.filter(pk=row.pk).exists()


@DELETIONS
def test_finished_runs_go_with_their_owner_and_nobody_elses(owner, bob, make_run, delete):
    for status in Run.FINISHED:
        make_run(status)
    other = Run.objects.create(user=bob, status=RunStatus.SUCCEEDED)
    deleted, of_each = delete(owner)
    assert of_each == {"actor_runs.Run": 4, type(owner)._meta.label: 1}
    assert deleted == 5
    assert list(Run.objects.all()) == [other]


@DELETIONS
@pytest.mark.parametrize("status", Run.UNFINISHED)
def test_an_unfinished_run_keeps_its_owner_and_all_other_runs(owner, make_run, delete, status):
    make_run()
    unfinished = make_run(status)
    with pytest.raises(ProtectedError) as refused:
        delete(owner)
    assert refused.value.protected_objects == {unfinished}
    kind = "user" if unfinished.user_id is not None else "organization"
    assert str(refused.value.args[0]) == (
        f"Cannot delete some instances of model {type(owner).__name__!r} because they are "
        f"referenced through protected foreign keys: 'Run.{kind}'."
    )
    assert exists(owner)
    assert Run.objects.count() == 2


@DELETIONS
def test_protect_keeps_an_owner_who_has_any_run(owner, make_run, delete, configure):
    configure(ON_OWNER_DELETE="PROTECT")
    run = make_run()
    with pytest.raises(ProtectedError) as refused:
        delete(owner)
    assert refused.value.protected_objects == {run}
    run.delete()
    delete(owner)
    assert not exists(owner)


def test_of_several_owners_one_unfinished_run_keeps_all(alice, bob):
    Run.objects.create(user=alice, status=RunStatus.SUCCEEDED)
    unfinished = Run.objects.create(user=bob)
    with pytest.raises(ProtectedError) as refused:
        get_user_model().objects.all().delete()
    assert refused.value.protected_objects == {unfinished}
    assert Run.objects.count() == get_user_model().objects.count() == 2


@DELETIONS
def test_signals_are_sent_once_for_each_run_that_goes_with_its_owner(
    owner, make_run, delete, signals
):
    runs = [make_run(status) for status in Run.FINISHED]
    sent = [(name, run.pk, run.status) for run in runs for name in ("pre_delete", "post_delete")]
    kept = make_run(RunStatus.RUNNING)
    with pytest.raises(ProtectedError):
        delete(owner)
    assert signals.sent == []
    other = make_organization("Other")
    Run.objects.filter(pk=kept.pk).update(user=None, organization=other)
    delete(owner)
    assert sorted(signals.sent) == sorted(sent)


def test_a_receiver_that_fails_keeps_the_owner_and_all_runs(owner, make_run):
    def fail(**kwargs: Any) -> None:
        raise RuntimeError("a mistake in the host's code")

    runs = [make_run(), make_run()]
    pre_delete.connect(fail, sender=Run)
    try:
        with pytest.raises(RuntimeError), transaction.atomic():
            owner.delete()
    finally:
        pre_delete.disconnect(fail, sender=Run)
    assert exists(owner)
    assert Run.objects.count() == len(runs)


def test_each_run_that_goes_with_its_owner_is_logged_once_it_is_gone(
    owner, make_run, caplog, django_capture_on_commit_callbacks
):
    caplog.set_level("INFO", "actor_runs")
    runs = [make_run(RunStatus.FAILED), make_run(RunStatus.ABORTED)]
    with django_capture_on_commit_callbacks() as callbacks, transaction.atomic():
        owner.delete()
    assert [record for record in caplog.records if record.name == "actor_runs"] == []
    for callback in callbacks:
        callback()
    logged = {
        (record.run_id, record.owner, record.deleted_by, record.run_status)
        for record in caplog.records
        if record.name == "actor_runs"
    }
    assert logged == {(run.pk, run.owner_key, None, run.status) for run in runs}
    assert {record.message for record in caplog.records if record.name == "actor_runs"} == {
        f"Run {run.pk} of {run.owner_key} deleted with its owner" for run in runs
    }


@pytest.mark.django_db(transaction=True)
def test_a_migration_of_a_host_can_delete_owners(owner, make_run):
    # Its models are historical, with Django's own querysets.
    state = MigrationLoader(connection).project_state()
    historical = state.apps.get_model(type(owner)._meta.label).objects.filter(pk=owner.pk)
    running = make_run(RunStatus.RUNNING)
    make_run(RunStatus.FAILED)
    with pytest.raises(ProtectedError):
        historical.delete()
    assert Run.objects.count() == 2
    running.transition_to(RunStatus.SUCCEEDED)
    historical.delete()
    assert not Run.objects.exists()
    assert not exists(owner)


def test_signals_are_sent_once_where_a_host_deletes_by_a_collector_of_its_own(
    owner, make_run, signals
):
    class Logging(Collector):
        """As NetBox has one."""

    run = make_run()
    collector = Logging(using=DEFAULT_DB_ALIAS)
    collector.collect([owner])
    collector.delete()
    signals.assert_sent_for(run.pk)


@pytest.mark.host
def test_signals_are_sent_once_for_what_goes_with_an_owner_and_with_a_run(alice):
    run = Run.objects.create(user=alice, status=RunStatus.SUCCEEDED)
    crawl = apps.get_model("host", "Crawl").objects.create(run=run, person=alice)
    page = crawl.pages.create()
    expected = {(type(row).__name__, row.pk) for row in (run, crawl, page, alice)}
    sent: list[Any] = []

    def receive(signal: Any, sender: Any, instance: Any, **kwargs: Any) -> None:
        sent.append((signal is pre_delete, (sender.__name__, instance.pk)))

    for signal in (pre_delete, post_delete):
        signal.connect(receive)
    try:
        alice.delete()
    finally:
        for signal in (pre_delete, post_delete):
            signal.disconnect(receive)
    assert sorted(row for is_before, row in sent if is_before) == sorted(expected)
    assert sorted(row for is_before, row in sent if not is_before) == sorted(expected)
    assert not any(map(exists, (run, crawl, page)))


def test_more_runs_than_fit_in_one_statement_go_with_their_owner(owner, make_run):
    run = make_run()
    one = {"user": run.user, "organization": run.organization, "finished_at": run.finished_at}
    Run.objects.bulk_create(Run(status=RunStatus.FAILED, **one) for _ in range(1200))
    owner.delete()
    assert not Run.objects.exists()


def test_runs_of_an_organization_outlive_a_member(alice, acme):
    join(alice, acme)
    run = Run.objects.create(organization=acme, status=RunStatus.RUNNING)
    alice.delete()
    assert exists(run)


@pytest.mark.host
def test_what_depends_on_a_run_goes_keeps_or_outlives_it_when_the_owner_goes(owner, make_run):
    bookmarks, invoices, notes = (
        apps.get_model("host", name) for name in ("Bookmark", "Invoice", "Note")
    )
    run = make_run()
    bookmark = bookmarks.objects.create(run=run)
    run.notes.create()
    invoice = invoices.objects.create(run=run)
    with pytest.raises(ProtectedError):
        owner.delete()
    assert exists(owner)
    assert exists(run)
    assert run.notes.count() == 1
    invoice.delete()
    owner.delete()
    assert not exists(run)
    assert not notes.objects.exists()
    bookmark.refresh_from_db()
    assert bookmark.run_id is None


# Whose a run is


@pytest.mark.plain
def test_members_by_any_of_several_paths_own_an_organizations_runs(
    api, alice, bob, acme, configure
):
    permission = Permission.objects.first()
    acme.permissions.add(permission)
    join(alice, acme)
    bob.user_permissions.add(permission)
    carol = make_user("carol")
    runs = [Run.objects.create(organization=acme, status=RunStatus.SUCCEEDED) for _ in range(2)]
    assert not runs[0].is_owned_by(bob)
    configure(ORGANIZATION_MEMBERS=["user", "permissions__user"])
    for member in (alice, bob):
        assert runs[0].is_owned_by(member)
        assert api.get(user=member).json()["data"]["total"] == 2
        assert api.get(f"/{runs[0].pk}", user=member).status_code == 200
    assert not runs[0].is_owned_by(carol)
    assert api.get(user=carol).json()["data"]["total"] == 0
    assert api.delete(f"/{runs[0].pk}", user=carol).status_code == 403
    for member, run in zip((alice, bob), runs, strict=True):
        assert api.delete(f"/{run.pk}", user=member).status_code == 204


@pytest.mark.plain
def test_who_leaves_by_one_path_is_a_member_by_the_other(alice, acme, configure):
    configure(ORGANIZATION_MEMBERS=("user", "permissions__user"))
    permission = Permission.objects.first()
    acme.permissions.add(permission)
    alice.user_permissions.add(permission)
    join(alice, acme)
    run = Run.objects.create(organization=acme)
    assert Run.objects.owned_by(alice).get() == run
    leave(alice, acme)
    assert Run.objects.owned_by(alice).get() == run
    alice.user_permissions.clear()
    assert not Run.objects.owned_by(alice).exists()
    assert not run.is_owned_by(alice)


def test_a_run_that_changes_hands_is_its_new_owners_alone(api, alice, bob, acme, run):
    join(bob, acme)
    Run.objects.filter(pk=run.pk).update(user=None, organization=acme)
    assert api.delete(f"/{run.pk}", user=alice).status_code == 403
    run.refresh_from_db()
    assert run.is_owned_by(bob)
    alice.delete()
    assert api.delete(f"/{run.pk}", user=bob).status_code == 204
