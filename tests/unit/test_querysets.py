"""Runs in bulk: which they are, and that no path deletes an unfinished one."""

from __future__ import annotations

import contextlib
import copy
import datetime
import pickle
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.db import IntegrityError, NotSupportedError, connection, transaction
from django.db.models import (
    Count,
    Exists,
    F,
    OuterRef,
    Prefetch,
    ProtectedError,
    Q,
    RestrictedError,
    Window,
)
from django.db.models.functions import RowNumber
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django.utils.functional import SimpleLazyObject

from actor_runs.exceptions import RunNotFinished
from actor_runs.models import Run, RunStatus
from tests.support.people import join, leave, make_organization, make_user
from tests.support.runs import make_many, make_runs

FINISHED = {"SUCCEEDED", "FAILED", "TIMED-OUT", "ABORTED"}
UNFINISHED = {"READY", "RUNNING", "TIMING-OUT", "ABORTING"}


def left() -> set[str]:
    return set(Run.objects.values_list("pk", flat=True))


def ids_of(*runs: Run) -> set[str]:
    return {run.pk for run in runs}


# Which they are


def test_every_status_is_either_finished_or_not(alice):
    make_runs(alice, *FINISHED, *UNFINISHED)
    assert set(Run.objects.finished().values_list("status", flat=True)) == FINISHED
    assert set(Run.objects.unfinished().values_list("status", flat=True)) == UNFINISHED
    assert Run.objects.finished().count() == Run.objects.unfinished().count() == 4


def test_a_users_runs_are_the_users_own_and_those_of_the_users_organizations(alice, bob, acme):
    other = make_organization("Other")
    join(alice, acme)
    join(bob, other)
    own = Run.objects.create(user=alice)
    shared = Run.objects.create(organization=acme)
    bobs = Run.objects.create(user=bob)
    others = Run.objects.create(organization=other)
    assert ids_of(*Run.objects.owned_by(alice)) == ids_of(own, shared)
    assert ids_of(*Run.objects.owned_by(bob)) == ids_of(bobs, others)
    leave(alice, acme)
    assert ids_of(*Run.objects.owned_by(alice)) == ids_of(own)


def test_each_run_is_there_once_however_many_memberships_there_are(alice, bob, acme):
    organizations = [acme, make_organization("Second"), make_organization("Third")]
    for organization in organizations:
        join(alice, organization)
        join(bob, organization)
        Run.objects.create(organization=organization)
    Run.objects.create(user=alice)
    assert Run.objects.owned_by(alice).count() == len(Run.objects.owned_by(alice)) == 4


@pytest.mark.host
def test_each_run_is_there_once_for_who_is_a_member_twice(alice, acme):
    join(alice, acme)
    join(alice, acme)
    Run.objects.create(organization=acme)
    assert len(Run.objects.owned_by(alice)) == 1
    assert Run.objects.owned_by(alice).finished().count() == 0


def test_an_anonymous_or_unsaved_user_owns_no_runs(run):
    for other in (AnonymousUser(), get_user_model()(username="new")):
        assert not Run.objects.owned_by(other).exists()


def test_owned_by_refuses_what_is_not_a_user(alice, acme, run):
    for other in (None, acme, run, alice.pk, alice.username):
        with pytest.raises(TypeError, match="takes a user"):
            Run.objects.owned_by(other)


def test_a_user_that_is_loaded_late_is_a_user(alice, run):
    assert Run.objects.owned_by(SimpleLazyObject(lambda: alice)).get() == run


def page(runs: Any) -> list[Run]:
    return runs.page(desc=False, offset=0, limit=10)


def test_runs_of_two_callers_are_those_that_both_own(alice, bob, acme):
    for member in (alice, bob):
        join(member, acme)
        Run.objects.create(user=member)
    shared = Run.objects.create(organization=acme)
    for runs in (
        Run.objects.owned_by(alice).owned_by(bob),
        Run.objects.with_status(["READY"]).owned_by(alice).owned_by(bob),
        Run.objects.owned_by(alice).with_status(["READY"]).owned_by(bob),
        Run.objects.owned_by(alice) & Run.objects.owned_by(bob),
    ):
        assert page(runs) == list(runs) == [shared]
        assert runs.count() == 1
    either = Run.objects.owned_by(alice) | Run.objects.owned_by(bob)
    assert (len(page(either)), either.count()) == (3, 3)


def test_conditions_that_no_run_can_meet_find_none(alice, run):
    for runs in (
        Run.objects.none().owned_by(alice),
        Run.objects.filter(act_id__in=[]).owned_by(alice),
        Run.objects.with_status([]).owned_by(alice),
        Run.objects.owned_by(alice).with_status([]),
        Run.objects.with_status(["FAILED"]).with_status(["READY"]).owned_by(alice),
    ):
        assert page(runs) == list(runs) == []
        assert runs.count() == 0
        assert runs.delete_finished() == 0
    every = Run.objects.exclude(act_id__in=[]).owned_by(alice)
    assert page(every) == list(every) == [run]


def test_a_copied_queryset_pages_and_counts_the_same_runs(alice, bob, run):
    make_runs(bob, RunStatus.FAILED)
    copied = copy.deepcopy(Run.objects.owned_by(alice))
    assert (page(copied), copied.count()) == ([run], 1)


def test_a_window_is_over_all_runs_also_under_the_lock(alice, bob, signals_or_none):
    newest = [make_runs(owner, *FINISHED)[-1] for owner in (alice, bob) for _ in range(2)]
    older = Run.objects.annotate(
        number=Window(RowNumber(), partition_by="user", order_by=("-started_at", "-pk"))
    ).filter(number__gt=1)
    count = older.count()
    assert (count, older.delete_finished()) == (14, 14)
    assert older.count() == 0
    assert Run.objects.count() == len(newest) - 2


@pytest.mark.parametrize(
    ("work", "taken"),
    [
        (lambda runs: runs.delete_finished(), "b1"),
        (lambda runs: runs.prune(datetime.timedelta(0)).deleted, "b1"),
        (lambda runs: runs.time_out(datetime.timedelta(0)), "a1"),
    ],
    ids=["delete_finished", "prune", "time_out"],
)
def test_what_is_done_to_the_first_of_each_actor_is_done_to_no_other(alice, work, taken):
    statuses = {"a1": "RUNNING", "a2": "FAILED", "b1": "FAILED", "b2": "RUNNING"}
    yesterday = timezone.now() - datetime.timedelta(days=1)
    for name, status in statuses.items():
        finished_at = yesterday if status == "FAILED" else None
        times = {"started_at": yesterday, "finished_at": finished_at}
        Run.objects.create(id=name, user=alice, act_id=name[0], status=status, **times)
    first = Run.objects.annotate(
        number=Window(RowNumber(), partition_by="act_id", order_by="pk")
    ).filter(number=1)
    assert work(first) == 1
    now = dict(Run.objects.values_list("pk", "status"))
    assert statuses.items() - now.items() == {(taken, statuses[taken])}


def test_the_vocabulary_can_be_put_together(alice, bob, run):
    make_runs(alice, RunStatus.READY)
    make_runs(bob, RunStatus.SUCCEEDED)
    assert alice.actor_runs.finished().get() == run
    assert Run.objects.finished().owned_by(alice).get() == run
    assert (
        Run.objects.filter(started_at__lte=run.started_at).owned_by(alice).finished().get() == run
    )
    assert not Run.objects.finished().unfinished().exists()


# Deleting: all or nothing


def test_delete_takes_all_finished_runs(alice, bob, signals_or_none):
    make_runs(alice, *FINISHED)
    (kept,) = make_runs(bob, RunStatus.SUCCEEDED)
    assert Run.objects.filter(user=alice).delete() == (4, {"actor_runs.Run": 4})
    assert left() == ids_of(kept)


@pytest.mark.parametrize("status", sorted(UNFINISHED))
def test_delete_takes_nothing_where_one_run_is_unfinished(alice, signals, status):
    runs = make_runs(alice, *FINISHED)
    (unfinished,) = make_runs(alice, status)
    with pytest.raises(RunNotFinished) as caught:
        Run.objects.all().delete()
    assert (caught.value.run_id, caught.value.status) == (unfinished.pk, status)
    assert left() == ids_of(*runs, unfinished)
    assert not signals.sent


def test_an_empty_queryset_deletes_nothing(alice, signals_or_none):
    run, *_ = make_runs(alice, RunStatus.SUCCEEDED)
    for nothing in (
        Run.objects.none(),
        Run.objects.filter(pk__in=[]),
        Run.objects.filter(pk="no-such-run"),
        Run.objects.owned_by(AnonymousUser()),
    ):
        assert nothing.delete() == (0, {})
        assert nothing.delete_finished() == 0
    assert left() == ids_of(run)


def test_delete_finished_takes_the_finished_ones_and_says_how_many(alice, bob, signals_or_none):
    make_runs(alice, *FINISHED)
    kept = make_runs(alice, *UNFINISHED) + make_runs(bob, *FINISHED, *UNFINISHED)
    assert Run.objects.filter(user=alice).delete_finished() == 4
    assert left() == ids_of(*kept)
    assert Run.objects.filter(user=alice).delete_finished() == 0
    assert Run.objects.owned_by(bob).delete_finished() == 4


def test_signals_fire_once_for_what_is_deleted_and_for_nothing_else(alice, signals):
    runs = make_runs(alice, *FINISHED)
    make_runs(alice, *UNFINISHED)
    Run.objects.all().delete_finished()
    signals.assert_sent_for(*ids_of(*runs))
    assert {status for _, _, status in signals.sent} == FINISHED

    signals.sent.clear()
    more = make_runs(alice, *FINISHED)
    Run.objects.finished().delete()
    signals.assert_sent_for(*ids_of(*more))


def test_more_runs_than_fit_in_one_statement(alice, signals):
    ids = make_many(alice, 1001)
    assert Run.objects.all().delete() == (1001, {"actor_runs.Run": 1001})
    signals.assert_sent_for(*ids)
    signals.sent.clear()
    ids = make_many(alice, 1001)
    make_runs(alice, *UNFINISHED)
    assert Run.objects.all().delete_finished() == 1001
    signals.assert_sent_for(*ids)
    assert len(left()) == 4


def test_one_unfinished_run_keeps_more_than_fit_in_one_statement(alice, signals):
    make_many(alice, 1001)
    Run.objects.create(id="zzz", user=alice)
    with pytest.raises(RunNotFinished) as caught:
        Run.objects.all().delete()
    assert caught.value.run_id == "zzz"
    assert len(left()) == 1002
    assert not signals.sent


def test_asynchronous_deletion_has_the_same_rule(alice, run):
    make_runs(alice, RunStatus.READY)
    with pytest.raises(RunNotFinished):
        async_to_sync(Run.objects.all().adelete)()
    assert len(left()) == 2
    assert async_to_sync(Run.objects.finished().adelete)() == (1, {"actor_runs.Run": 1})


def test_a_queryset_that_was_read_is_read_again_after_its_deletion(alice, signals_or_none):
    make_runs(alice, *FINISHED)
    runs, finished = Run.objects.all(), Run.objects.all()
    assert len(runs) == len(finished) == 4
    runs.delete()
    assert list(runs) == []
    make_runs(alice, RunStatus.FAILED)
    finished.delete_finished()
    assert list(finished) == []


# Whatever the queryset looks like


def joined(runs: Any) -> Any:
    return runs.filter(user__username="alice")


SHAPES = {
    "plain": lambda runs: runs.all(),
    "by owner": lambda runs: runs.owned_by(joined(Run.objects).first().user),
    "joined": joined,
    "joined to itself": lambda runs: runs.filter(user__actor_runs__isnull=False),
    "joined, distinct": lambda runs: joined(runs).distinct(),
    "distinct": lambda runs: runs.distinct(),
    "either of two": lambda runs: joined(runs) | runs.filter(organization__isnull=False),
    "both of two": lambda runs: joined(runs) & runs.filter(organization__isnull=True),
    "by a subquery on itself": lambda runs: runs.filter(pk__in=joined(Run.objects).values("pk")),
    "by a subquery on owners": lambda runs: runs.exclude(user__username="bob"),
    "by existence": lambda runs: runs.filter(
        Exists(Run.objects.filter(user=OuterRef("user"), pk=OuterRef("pk")))
    ),
    "annotated": lambda runs: runs.annotate(name=F("user__username")).filter(name="alice"),
    "counted": lambda runs: runs.annotate(n=Count("user__actor_runs")).filter(n__gt=0),
    "ordered": lambda runs: runs.order_by("-user__username", "started_at").reverse(),
    "related": lambda runs: runs.select_related("user", "organization"),
    "prefetched": lambda runs: runs.prefetch_related("user"),
    "narrowed": lambda runs: runs.only("pk"),
    "deferred": lambda runs: runs.defer("status"),
    "locked": lambda runs: runs.select_for_update(),
    "locked, either of two": lambda runs: runs.select_for_update().filter(
        Q(user__username="alice") | Q(organization__name="Acme")
    ),
    "locked, distinct": lambda runs: joined(runs).distinct().select_for_update(),
    "numbered": lambda runs: runs.annotate(
        number=Window(RowNumber(), partition_by="user", order_by="pk")
    ).filter(number__gt=0),
    "by a key of JSON": lambda runs: runs.filter(meta__origin="API"),
    "on a database": lambda runs: runs.using("default"),
    "with words of its own": lambda runs: runs.extra(where=["1 = 1"]),
}


@pytest.fixture(params=SHAPES.values(), ids=SHAPES)
def shape(request: Any) -> Any:
    return request.param


def test_delete_is_all_or_nothing_in_any_shape(alice, bob, shape, signals_or_none):
    runs = make_runs(alice, *FINISHED)
    (unfinished,) = make_runs(alice, RunStatus.RUNNING)
    with pytest.raises(RunNotFinished):
        shape(Run.objects).delete()
    assert left() == ids_of(*runs, unfinished)
    unfinished.transition_to(RunStatus.FAILED)
    assert shape(Run.objects).delete() == (5, {"actor_runs.Run": 5})
    assert left() == set()


def test_delete_finished_takes_the_finished_ones_in_any_shape(alice, shape, signals_or_none):
    make_runs(alice, *FINISHED)
    kept = make_runs(alice, *UNFINISHED)
    assert shape(Run.objects).delete_finished() == 4
    assert left() == ids_of(*kept)


REFUSED = {
    "sliced": lambda runs: runs.order_by("pk")[:2],
    "combined": lambda runs: runs.filter(status="FAILED").union(runs.filter(status="SUCCEEDED")),
    "intersected": lambda runs: runs.intersection(runs.filter(status="SUCCEEDED")),
    "values": lambda runs: runs.values("pk"),
    "lists": lambda runs: runs.values_list("pk", flat=True),
    "grouped": lambda runs: runs.values("user").annotate(n=Count("pk")),
    "one of each": lambda runs: runs.distinct("user"),
}


@pytest.mark.parametrize("delete", ["delete", "delete_finished"])
@pytest.mark.parametrize("shape", REFUSED.values(), ids=REFUSED)
def test_querysets_that_django_cannot_delete_are_refused(alice, shape, delete, signals_or_none):
    runs = make_runs(alice, *FINISHED)
    with pytest.raises((TypeError, NotSupportedError)), transaction.atomic():
        getattr(shape(Run.objects), delete)()
    assert left() == ids_of(*runs)


def test_the_runs_of_an_owner(alice, acme, bob, signals_or_none):
    make_runs(alice, *FINISHED)
    (kept,) = make_runs(bob, RunStatus.SUCCEEDED)
    unfinished = Run.objects.create(organization=acme)
    assert alice.actor_runs.all().delete() == (4, {"actor_runs.Run": 4})
    for runs in (acme.actor_runs.all(), acme.actor_runs.filter(pk=unfinished.pk)):
        with pytest.raises(RunNotFinished):
            runs.delete()
        assert runs.delete_finished() == 0
    assert left() == ids_of(kept, unfinished)


def test_no_manager_deletes_an_unfinished_run(alice, run, signals_or_none):
    (unfinished,) = make_runs(alice, RunStatus.RUNNING)
    for manager in (Run.objects, Run._default_manager, Run._base_manager, alice.actor_runs):
        with pytest.raises(RunNotFinished):
            manager.all().delete()
        with pytest.raises(RunNotFinished):
            manager.filter(pk=unfinished.pk).delete()
        with pytest.raises(RunNotFinished):
            manager.get(pk=unfinished.pk).delete()
    assert left() == ids_of(run, unfinished)


def test_managers_delete_nothing_themselves(alice):
    for manager in (Run.objects, Run._base_manager, alice.actor_runs):
        for name in ("delete", "adelete", "delete_finished"):
            assert not hasattr(manager, name)


def test_a_template_cannot_delete():
    assert Run.objects.all().delete.alters_data
    assert Run.objects.all().delete_finished.alters_data


def test_owners_cannot_let_go_of_their_runs(alice, run):
    (unfinished,) = make_runs(alice, RunStatus.RUNNING)
    with pytest.raises(IntegrityError), transaction.atomic():
        alice.actor_runs.clear()
    with pytest.raises(IntegrityError), transaction.atomic():
        alice.actor_runs.remove(unfinished)
    assert ids_of(*alice.actor_runs.all()) == ids_of(run, unfinished)


# What it costs


@pytest.mark.plain
def test_finished_runs_go_by_one_statement_where_nothing_hangs_on_them(
    alice, django_assert_num_queries
):
    make_runs(alice, *FINISHED, *UNFINISHED)
    # MariaDB locks them by their IDs first.
    statements = 6 if connection.vendor == "mysql" else 1
    with django_assert_num_queries(statements):
        assert Run.objects.filter(user=alice).delete_finished() == 4
    make_runs(alice, *FINISHED)
    with django_assert_num_queries(1 + statements):
        assert Run.objects.owned_by(alice).delete_finished() == 4


def test_the_number_of_statements_does_not_grow_with_the_runs(alice, signals):
    def cost(count: int) -> int:
        make_many(alice, count)
        with CaptureQueriesContext(connection) as queries:
            assert Run.objects.all().delete_finished() == count
        return len(queries)

    assert cost(2) == cost(100)


# What a host hangs on runs


def host_model(name: str) -> Any:
    from django.apps import apps

    return apps.get_model("host", name)


WAYS = {
    "run.delete": lambda run: run.delete(),
    "queryset.delete": lambda run: Run.objects.filter(pk=run.pk).delete(),
    "joined.delete": lambda run: Run.objects.filter(user__actor_runs=run).delete(),
    "queryset.delete_finished": lambda run: Run.objects.filter(pk=run.pk).delete_finished(),
    "joined.delete_finished": lambda run: Run.objects.filter(
        user__actor_runs=run
    ).delete_finished(),
}


@pytest.fixture(params=WAYS.values(), ids=WAYS)
def delete(request: Any) -> Any:
    """Each way to delete one run."""
    return request.param


@pytest.mark.host
def test_rows_go_with_their_run(run, bob, delete):
    note = host_model("Note").objects
    (kept,) = make_runs(bob, RunStatus.RUNNING)
    for of in (run, run, kept):
        note.create(run=of)
    assert delete(run) in [(3, {"actor_runs.Run": 1, "host.Note": 2}), 1]
    assert left() == ids_of(kept)
    assert note.get().run == kept


@pytest.mark.host
def test_rows_stay_with_a_run_that_stays(alice, delete):
    (run,) = make_runs(alice, RunStatus.RUNNING)
    run.notes.create()
    with contextlib.suppress(RunNotFinished):
        assert delete(run) == 0
    assert run.notes.count() == 1
    assert left() == ids_of(run)


@pytest.mark.host
@pytest.mark.parametrize(
    ("name", "error"), [("Invoice", ProtectedError), ("Archive", RestrictedError)]
)
def test_rows_that_protect_a_run_keep_it(run, delete, signals, name, error):
    run.notes.create()
    host_model(name).objects.create(run=run)
    with pytest.raises(error):
        delete(run)
    assert left() == ids_of(run)
    assert run.notes.count() == 1
    assert not signals.sent


@pytest.mark.host
def test_rows_that_set_null_outlive_their_run(run, delete):
    bookmark = host_model("Bookmark").objects.create(run=run)
    delete(run)
    bookmark.refresh_from_db()
    assert bookmark.run is None
    assert left() == set()


@pytest.mark.host
@pytest.mark.django_db(transaction=True)
def test_rows_that_only_the_database_knows_of_keep_their_run(run, delete):
    run.notes.create()
    ledger = host_model("Ledger").objects.create(run=run)
    with pytest.raises(IntegrityError):
        delete(run)
    assert left() == {ledger.run_id}
    assert host_model("Note").objects.count() == 1


@pytest.mark.host
def test_runs_that_are_found_by_several_rows_are_deleted_once(alice, run, signals):
    for of in (run, run, *make_runs(alice, RunStatus.READY)):
        of.notes.create()
    assert Run.objects.filter(notes__isnull=False).delete_finished() == 1
    signals.assert_sent_for(run.pk)
    assert host_model("Note").objects.count() == 1


@pytest.mark.host
@pytest.mark.parametrize("name", ["Invoice", "Archive"])
@pytest.mark.parametrize("delete", ["delete", "delete_finished"])
def test_one_row_that_keeps_its_run_keeps_all_the_others_and_no_signal_fires(
    alice, signals, name, delete
):
    ids = make_many(alice, 1001)
    host_model(name).objects.create(run_id=ids[-1])
    with pytest.raises((ProtectedError, RestrictedError)):
        getattr(Run.objects.all(), delete)()
    assert left() == set(ids)
    assert not signals.sent


@pytest.mark.host
def test_the_number_of_statements_does_not_grow_with_what_hangs_on_a_run(alice):
    def cost(notes: int) -> int:
        (run,) = make_runs(alice, RunStatus.FAILED)
        host_model("Note").objects.bulk_create(host_model("Note")(run=run) for _ in range(notes))
        with CaptureQueriesContext(connection) as queries:
            run.delete()
        return len(queries)

    assert cost(1) == cost(50)


def test_a_stranger_owns_nothing_to_delete(run):
    stranger = make_user("stranger")
    assert Run.objects.owned_by(stranger).delete() == (0, {})
    assert left() == ids_of(run)


def test_a_page_of_no_runs_is_empty(alice, run):
    for runs in (Run.objects.none(), Run.objects.filter(pk__in=[]), Run.objects.filter(pk="x")):
        owned = runs.owned_by(alice).order_by("started_at", "id")
        assert list(owned[:5]) == owned.page(desc=True, offset=0, limit=5) == []
        assert owned.count() == 0


def test_slices_of_a_callers_runs_are_djangos(alice, run):
    runs = Run.objects.owned_by(alice).order_by("-started_at", "-id")
    assert runs[0] == run
    assert list(runs[:0]) == list(runs[1:]) == list(runs[5:2]) == []
    assert list(runs[:]) == runs[:3:2] == [run]
    with pytest.raises(ValueError, match="Negative indexing"):
        runs[-1:]
    with pytest.raises(TypeError):
        runs["first"]
    for refused in (runs[:3].delete, runs[:3].reverse, lambda: runs[:3].filter(pk=run.pk)):
        with pytest.raises(TypeError):
            refused()
    assert list(runs[:3][:1]) == [run]
    assert runs[:3].count() == 1


def test_a_slice_can_be_prefetched_for_each_owner(alice, acme):
    other = make_organization("Other")
    for organization in (acme, other):
        join(alice, organization)
        for _ in range(3):
            Run.objects.create(organization=organization)
    newest = Run.objects.owned_by(alice).order_by("-started_at", "-id")[:2]
    organizations = type(acme).objects.prefetch_related(
        Prefetch("actor_runs", queryset=newest, to_attr="newest")
    )
    assert [len(organization.newest) for organization in organizations] == [2, 2]
    assert len(newest) == 2


def test_a_pickled_queryset_is_its_own_result(alice, bob, run):
    Run.objects.create(user=bob)
    runs = Run.objects.owned_by(alice)
    assert len(pickle.dumps(runs)) < 2 * len(pickle.dumps(Run.objects.filter(user=alice)))
    copied = pickle.loads(pickle.dumps(runs))  # noqa: S301  our own bytes
    assert list(copied) == [run]
    page = Run.objects.owned_by(alice).order_by("started_at", "id")[:1]
    assert list(pickle.loads(pickle.dumps(page))) == [run]  # noqa: S301
