"""Runs: what they start with, whose they are, which state may follow which, when they may go."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.exceptions import ValidationError
from django.db import DatabaseError, IntegrityError, transaction
from django.db.models import ProtectedError
from django.db.models.signals import post_delete, pre_delete
from django.utils import timezone

from actor_runs.exceptions import InvalidTransition, RunNotFinished
from actor_runs.models import GeneralAccess, Run, RunStatus
from tests.conftest import join, leave, make_user

FINISHED = {"SUCCEEDED", "FAILED", "TIMED-OUT", "ABORTED"}
RESURRECTED = {"READY", "RUNNING"}
LEGAL = {
    "READY": {"RUNNING", "ABORTING", "ABORTED", "FAILED", "TIMED-OUT"},
    "RUNNING": {"SUCCEEDED", "FAILED", "TIMING-OUT", "TIMED-OUT", "ABORTING", "ABORTED"},
    "TIMING-OUT": {"TIMED-OUT", "FAILED"},
    "ABORTING": {"ABORTED", "FAILED"},
    **dict.fromkeys(FINISHED, RESURRECTED),
}
ALL = sorted(LEGAL)
UNFINISHED = sorted(LEGAL.keys() - FINISHED)
STEPS = [(status, wanted) for status in ALL for wanted in ALL]


def row(run: Run) -> dict[str, Any] | None:
    """The run's row, as the database has it."""
    return Run.objects.filter(pk=run.pk).values().first()


def fields_of(run: Run) -> dict[str, Any]:
    """What the object has for each column."""
    return {field.attname: getattr(run, field.attname) for field in Run._meta.concrete_fields}


def same(run: Run) -> Run:
    """Another object for the same run."""
    return Run.objects.get(pk=run.pk)


def resurrect_and_finish(run: Run, status: str) -> None:
    """Let somebody else, with an object of their own, bring the run back to where it was."""
    other = same(run)
    other.transition_to(RunStatus.RUNNING)
    other.transition_to(status, exit_code=7)


def assert_unchanged(run: Run, change: Callable[[], Any], exception: type[Exception]) -> Any:
    """Make ``change``, and see it refused, and neither the row nor the object changed."""
    before = row(run), fields_of(run)
    with pytest.raises(exception) as caught, transaction.atomic():
        change()
    assert (row(run), fields_of(run)) == before
    return caught.value


class Listener:
    """What the signals of deletion were sent with."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, Any]] = []
        self.statuses: list[str] = []

    def before(self, instance: Run, **kwargs: Any) -> None:
        self.heard.append(("pre_delete", instance))
        self.statuses.append(instance.status)

    def after(self, instance: Run, **kwargs: Any) -> None:
        self.heard.append(("post_delete", instance))


@pytest.fixture
def listener():
    listener = Listener()
    pre_delete.connect(listener.before, sender=Run)
    post_delete.connect(listener.after, sender=Run)
    yield listener
    pre_delete.disconnect(listener.before, sender=Run)
    post_delete.disconnect(listener.after, sender=Run)


# What a run starts with


def test_a_run_needs_nothing_but_an_owner(alice):
    run = Run.objects.create(user=alice)
    assert run.status == RunStatus.READY
    assert not run.is_finished
    assert run.finished_at is None
    assert run.general_access == GeneralAccess.FOLLOW_USER_SETTING
    assert fields_of(run) == fields_of(same(run)) == row(run)


def test_every_key_that_is_always_there_can_be_read_of_it(alice, api):
    run = Run.objects.create(user=alice)
    data = api.get(f"/{run.pk}", user=alice).json()["data"]
    assert data["id"] == run.pk
    assert data["userId"] == str(alice.pk)
    assert (data["status"], data["finishedAt"]) == ("READY", None)
    assert data["generalAccess"] == "FOLLOW_USER_SETTING"
    assert data["meta"]["origin"] == "API"
    for key in ("actId", "buildId", "startedAt", "defaultKeyValueStoreId", "defaultDatasetId"):
        assert isinstance(data[key], str)
        assert data[key]
    assert isinstance(data["defaultRequestQueueId"], str)
    assert isinstance(data["options"]["build"], str)
    assert data["options"]["memoryMbytes"] in range(128, 32769)
    assert data["options"]["timeoutSecs"] >= 0
    assert data["options"]["diskMbytes"] >= 0
    (item,) = api.get(user=alice).json()["data"]["items"]
    assert item["id"] == run.pk


def test_all_its_statistics_start_with_0(alice):
    names = """
        inputBodyLen migrationCount rebootCount restartCount resurrectCount memAvgBytes
        memMaxBytes memCurrentBytes cpuAvgUsage cpuMaxUsage cpuCurrentUsage netRxBytes netTxBytes
        durationMillis runTimeSecs metamorph computeUnits
    """.split()
    assert Run.objects.create(user=alice).stats == dict.fromkeys(names, 0)


def test_runs_do_not_share_what_they_start_with(alice):
    first, second = Run(user=alice), Run(user=alice)
    first.stats["resurrectCount"] = first.meta["origin"] = first.options["build"] = "changed"
    assert second.stats["resurrectCount"] == 0
    assert second.meta["origin"] == "API"
    assert second.options["build"] == "latest"


@pytest.mark.parametrize("status", ALL)
def test_a_run_can_be_recorded_in_any_status(alice, status):
    run = Run.objects.create(user=alice, status=status)
    assert run.is_finished == (status in FINISHED)
    assert (run.finished_at is not None) == (status in FINISHED)
    assert str(run) == f"{run.pk} ({status})"
    assert row(run)["status"] == status


def test_a_run_that_is_recorded_when_it_is_over_keeps_its_end(alice):
    end = timezone.now().replace(year=2019, day=1, microsecond=0)
    run = Run.objects.create(user=alice, status=RunStatus.FAILED, finished_at=end)
    assert run.finished_at == end == row(run)["finished_at"]


def test_an_unfinished_run_has_no_end(alice):
    with pytest.raises(ValidationError) as caught:
        Run.objects.create(user=alice, finished_at=timezone.now())
    assert list(caught.value.message_dict) == ["finished_at"]


def test_an_id_that_is_taken_is_refused(alice, bob, run):
    taken = Run(id=run.pk, user=bob)
    before = row(run)
    with pytest.raises(IntegrityError), transaction.atomic():
        taken.save()
    assert row(run) == before


# Whose it is


def test_the_owner_is_a_user_or_an_organization(alice, acme):
    assert Run.objects.create(user=alice).owner == alice
    assert Run.objects.create(organization=acme).owner == acme


def test_a_run_has_exactly_one_owner(alice, acme):
    for owners in ({}, {"user": alice, "organization": acme}):
        with pytest.raises(ValidationError) as caught:
            Run.objects.create(**owners)
        assert list(caught.value.message_dict) == ["user"]
    assert not Run.objects.exists()


def test_a_users_run_is_owned_by_that_user_alone(alice, bob, acme, run):
    join(bob, acme)
    join(alice, acme)
    assert run.is_owned_by(alice)
    assert not run.is_owned_by(bob)


def test_an_organizations_run_is_owned_by_whoever_is_a_member_now(alice, bob, acme):
    run = Run.objects.create(organization=acme)
    assert not run.is_owned_by(alice)
    join(alice, acme)
    assert run.is_owned_by(alice)
    assert not run.is_owned_by(bob)
    leave(alice, acme)
    assert not run.is_owned_by(alice)


def test_nobody_and_nothing_else_owns_a_run(alice, acme, run):
    from django.contrib.auth.models import AnonymousUser

    of_acme = Run.objects.create(organization=acme)
    for other in (AnonymousUser(), None, acme, run, alice.pk, str(alice.pk), "alice"):
        assert not run.is_owned_by(other)
        assert not of_acme.is_owned_by(other)


def test_a_user_who_is_not_saved_owns_nothing(db, acme):
    from django.contrib.auth import get_user_model

    run = Run.objects.create(organization=acme)
    nobody = get_user_model()(username="nobody")
    assert not Run(user=make_user("carol")).is_owned_by(nobody)
    assert Run.objects.get(pk=run.pk).owner == acme


def test_staff_and_superusers_own_what_is_theirs_and_no_more(run):
    root = make_user("root", is_staff=True, is_superuser=True)
    assert not run.is_owned_by(root)


def test_whoever_owns_runs_cannot_be_deleted(alice, acme, run):
    of_acme = Run.objects.create(organization=acme)
    for delete in (
        alice.delete,
        acme.delete,
        type(alice).objects.filter(pk=alice.pk).delete,
        type(acme).objects.filter(pk=acme.pk).delete,
    ):
        with pytest.raises(ProtectedError), transaction.atomic():
            delete()
    assert (same(run).owner, same(of_acme).owner) == (alice, acme)
    Run.objects.filter(pk=run.pk).delete()
    alice.delete()


@pytest.mark.parametrize("setting", GeneralAccess.values[1:])
@pytest.mark.parametrize("access", GeneralAccess.values)
def test_only_general_access_to_anyone_with_the_id_makes_a_run_public(configure, setting, access):
    configure(GENERAL_ACCESS=setting)
    effective = setting if access == "FOLLOW_USER_SETTING" else access
    assert Run(general_access=access).is_public == (effective == "ANYONE_WITH_ID_CAN_READ")


# Which state may follow which


@pytest.mark.parametrize(("status", "wanted"), [s for s in STEPS if s[1] in LEGAL[s[0]]])
def test_a_legal_step_is_taken(alice, status, wanted):
    run = Run.objects.create(user=alice, status=status)
    run.transition_to(wanted)
    assert run.status == wanted
    assert fields_of(run) == row(run)
    assert run.is_finished == (wanted in FINISHED) == (run.finished_at is not None)


@pytest.mark.parametrize(("status", "wanted"), [s for s in STEPS if s[1] not in LEGAL[s[0]]])
def test_an_illegal_step_raises_and_changes_nothing(alice, status, wanted):
    run = Run.objects.create(user=alice, status=status)
    refused = assert_unchanged(run, lambda: run.transition_to(wanted), InvalidTransition)
    assert (refused.run_id, refused.status) == (run.pk, status)
    assert (refused.known, refused.wanted) == (status, wanted)
    assert all(part in str(refused) for part in (run.pk, status, wanted))


@pytest.mark.parametrize("wanted", ["DONE", "ready", "", "READY ", None, 1])
def test_no_step_leads_to_what_is_no_status(alice, wanted):
    run = Run.objects.create(user=alice)
    refused = assert_unchanged(run, lambda: run.transition_to(wanted), InvalidTransition)
    assert (refused.run_id, refused.status, refused.wanted) == (run.pk, "READY", str(wanted))


def test_a_run_that_finishes_gets_its_end(alice):
    run = Run.objects.create(user=alice, status=RunStatus.RUNNING)
    run.transition_to(RunStatus.SUCCEEDED, exit_code=0)
    assert run.started_at <= run.finished_at <= timezone.now()
    assert row(run)["finished_at"] == run.finished_at
    assert (run.exit_code, row(run)["exit_code"]) == (0, 0)


def test_the_end_can_be_told(alice):
    end = timezone.now().replace(year=2019, day=1, microsecond=123_999)
    run = Run.objects.create(user=alice, status=RunStatus.RUNNING)
    run.transition_to(RunStatus.FAILED, finished_at=end)
    assert run.finished_at == end.replace(microsecond=123_000) == row(run)["finished_at"]


@pytest.mark.parametrize("wanted", sorted(RESURRECTED))
@pytest.mark.parametrize("status", sorted(FINISHED))
def test_a_resurrected_run_has_no_end_and_no_exit_code_and_is_counted(alice, status, wanted):
    run = Run.objects.create(user=alice, status=status, exit_code=1)
    run.stats["computeUnits"] = 1.5
    run.save()
    run.transition_to(wanted)
    assert (run.finished_at, run.exit_code) == (None, None)
    assert (run.stats["resurrectCount"], run.stats["computeUnits"]) == (1, 1.5)
    assert fields_of(run) == row(run)
    run.transition_to(RunStatus.FAILED)
    run.transition_to(wanted)
    assert row(run)["stats"]["resurrectCount"] == 2


def test_a_resurrection_is_counted_where_nothing_was_counted_before(alice):
    run = Run.objects.create(user=alice, status=RunStatus.FAILED, stats={})
    run.transition_to(RunStatus.RUNNING)
    assert row(run)["stats"] == {"resurrectCount": 1}


def test_a_resurrection_is_counted_also_with_statistics_of_the_callers(alice):
    run = Run.objects.create(user=alice, status=RunStatus.FAILED)
    run.transition_to(RunStatus.RUNNING, stats={"inputBodyLen": 7})
    stats = row(run)["stats"]
    assert (stats["inputBodyLen"], stats["resurrectCount"]) == (7, 1)


def test_a_step_saves_other_fields_with_it(alice):
    run = Run.objects.create(user=alice, status=RunStatus.RUNNING)
    run.transition_to(
        RunStatus.SUCCEEDED,
        exit_code=0,
        status_message="Done",
        usage_total_usd=0.5,
        stats={"computeUnits": 2},
    )
    found = row(run)
    assert fields_of(run) == found
    assert (found["exit_code"], found["status_message"]) == (0, "Done")
    assert (found["usage_total_usd"], found["stats"]["computeUnits"]) == (0.5, 2)


def test_a_step_saves_no_other_field(alice):
    run = Run.objects.create(user=alice)
    Run.objects.filter(pk=run.pk).update(status_message="somebody else's")
    run.status_message = "not saved yet"
    run.build_number = "0.0.1"
    run.transition_to(RunStatus.RUNNING)
    assert (row(run)["status_message"], row(run)["build_number"]) == ("somebody else's", "")
    assert (run.status_message, run.build_number) == ("not saved yet", "0.0.1")


@pytest.mark.parametrize(
    "name",
    ["id", "pk", "status", "user", "user_id", "organization", "organization_id", "runs", "actId"],
)
def test_a_step_cannot_change_who_owns_the_run_nor_what_is_no_field(alice, name):
    run = Run.objects.create(user=alice)
    if name == "status":
        with pytest.raises(TypeError):
            run.transition_to(RunStatus.RUNNING, **{name: "FAILED"})
        return
    refused = assert_unchanged(
        run, lambda: run.transition_to(RunStatus.RUNNING, **{name: None}), TypeError
    )
    assert name in str(refused)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"exit_code": "0"}, "exit_code"),
        ({"exit_code": 2**31}, "exit_code"),
        ({"status_message": None}, "status_message"),
        ({"stats": {"memMaxBytes": -1}}, "stats"),
        ({"stats": []}, "stats"),
        ({"meta": {}}, "meta"),
        ({"finished_at": None}, "finished_at"),
        ({"finished_at": "soon"}, "finished_at"),
        ({"started_at": None}, "started_at"),
        ({"usage_total_usd": float("nan")}, "usage_total_usd"),
        ({"build_number": "1"}, "build_number"),
    ],
)
def test_a_step_with_a_value_that_is_refused_changes_nothing(alice, fields, name):
    run = Run.objects.create(user=alice, status=RunStatus.RUNNING)
    refused = assert_unchanged(
        run, lambda: run.transition_to(RunStatus.SUCCEEDED, **fields), ValidationError
    )
    assert list(refused.message_dict) == [name]


def test_a_step_to_an_unfinished_status_cannot_bring_an_end(alice):
    run = Run.objects.create(user=alice)
    refused = assert_unchanged(
        run,
        lambda: run.transition_to(RunStatus.RUNNING, finished_at=timezone.now()),
        ValidationError,
    )
    assert list(refused.message_dict) == ["finished_at"]


# Outdated objects


def test_an_outdated_object_takes_no_step(alice):
    run = Run.objects.create(user=alice)
    same(run).transition_to(RunStatus.RUNNING)
    refused = assert_unchanged(run, lambda: run.transition_to(RunStatus.ABORTED), InvalidTransition)
    assert (refused.run_id, refused.status) == (run.pk, "RUNNING")
    assert (refused.known, refused.wanted) == ("READY", "ABORTED")
    assert all(part in str(refused) for part in (run.pk, "RUNNING", "READY", "ABORTED"))
    run.refresh_from_db()
    run.transition_to(RunStatus.ABORTED)


def test_nor_does_it_take_the_step_that_was_taken(alice):
    first = Run.objects.create(user=alice)
    second = same(first)
    first.transition_to(RunStatus.RUNNING)
    refused = assert_unchanged(
        second, lambda: second.transition_to(RunStatus.RUNNING), InvalidTransition
    )
    assert (refused.status, refused.wanted) == ("RUNNING", "RUNNING")


@pytest.mark.parametrize("stats", [{"resurrectCount": 0}, {"resurrectCount": 3}, {}])
def test_an_object_from_before_a_resurrection_is_outdated(alice, stats):
    run = Run.objects.create(user=alice, status=RunStatus.FAILED, stats=stats)
    resurrect_and_finish(run, RunStatus.FAILED)
    refused = assert_unchanged(run, lambda: run.transition_to(RunStatus.READY), InvalidTransition)
    assert (refused.run_id, refused.status, refused.wanted) == (run.pk, "FAILED", "READY")
    assert run.pk in str(refused)


def test_an_object_from_before_the_step_is_outdated_whoever_wrote_the_statistics(alice):
    run = Run.objects.create(user=alice, status=RunStatus.FAILED)
    other = same(run)
    other.transition_to(RunStatus.RUNNING, stats={"inputBodyLen": 7})
    other.transition_to(RunStatus.FAILED)
    assert_unchanged(run, lambda: run.transition_to(RunStatus.READY), InvalidTransition)


def test_an_object_with_new_statistics_of_its_own_is_not_outdated(alice):
    run = Run.objects.create(user=alice, status=RunStatus.RUNNING)
    run.stats = {"computeUnits": 1}
    run.transition_to(RunStatus.SUCCEEDED)
    assert row(run)["stats"]["computeUnits"] == 0


def test_a_deleted_run_takes_no_step(run):
    outdated = same(run)
    run.delete()
    with pytest.raises(InvalidTransition) as caught:
        outdated.transition_to(RunStatus.READY)
    refused = caught.value
    assert (refused.run_id, refused.status) == (outdated.pk, None)
    assert (refused.known, refused.wanted) == ("SUCCEEDED", "READY")
    assert all(part in str(refused) for part in (outdated.pk, "READY"))
    assert not Run.objects.exists()


def test_the_refusals_survive_a_task_queue(alice):
    run = Run.objects.create(user=alice)
    with pytest.raises(InvalidTransition) as transition:
        run.transition_to(RunStatus.READY)
    with pytest.raises(RunNotFinished) as deletion:
        run.delete()
    for refused in (transition.value, deletion.value):
        again = pickle.loads(pickle.dumps(refused))  # noqa: S301  our own bytes
        assert (type(again), str(again), vars(again)) == (
            type(refused),
            str(refused),
            vars(refused),
        )


def test_a_run_whose_fields_are_deferred_takes_a_step(alice):
    run = Run.objects.create(user=alice)
    Run.objects.only("pk").get().transition_to(RunStatus.RUNNING)
    assert row(run)["status"] == "RUNNING"


# Saving


def test_save_keeps_what_was_changed(run):
    run.status_message = "All done"
    run.save()
    assert row(run)["status_message"] == "All done"
    run.exit_code = 3
    run.status_message = "not this one"
    run.save(update_fields=["exit_code"])
    assert (row(run)["exit_code"], row(run)["status_message"]) == (3, "All done")


def test_save_with_update_fields_takes_columns_names_too(run, bob):
    run.user = bob
    run.save(update_fields=["user_id"])
    assert same(run).owner == bob


def test_save_checks_what_it_saves(run):
    before = row(run)
    run.exit_code = "nothing"
    for saved in (None, ["exit_code"], ["exit_code", "act_id"]):
        with pytest.raises(ValidationError) as caught:
            run.save(update_fields=saved)
        assert list(caught.value.message_dict) == ["exit_code"]
    assert row(run) == before
    run.act_id = "another"
    run.save(update_fields=["act_id"])
    assert row(run) == {**before, "act_id": "another"}


def test_save_of_a_run_whose_fields_are_deferred_leaves_those_alone(run):
    for runs in (Run.objects.only("status_message"), Run.objects.defer("status", "stats")):
        found = runs.get()
        found.status_message += "+"
        found.save()
    assert row(run) == {**fields_of(run), "status_message": "++"}


def test_save_changes_no_status(alice):
    run = Run.objects.create(user=alice, status=RunStatus.RUNNING)
    before = row(run)
    run.status, run.finished_at = RunStatus.SUCCEEDED, timezone.now()
    for saved in (None, ["status"], ["status", "finished_at"]):
        with pytest.raises(InvalidTransition) as caught:
            run.save(update_fields=saved)
        assert (caught.value.run_id, caught.value.status) == (run.pk, "RUNNING")
        assert caught.value.wanted == "SUCCEEDED"
    assert row(run) == before


@pytest.mark.parametrize("options", [{"update_fields": ["status"]}, {"force_update": True}])
def test_a_new_object_for_an_old_run_changes_no_status_either(alice, options):
    run = Run.objects.create(user=alice, status=RunStatus.SUCCEEDED)
    before = row(run)
    impostor = Run(id=run.pk, user=alice, status=RunStatus.FAILED)
    with pytest.raises((InvalidTransition, DatabaseError)), transaction.atomic():
        impostor.save(**options)
    assert row(run) == before


def test_save_of_an_outdated_object_does_not_turn_the_state_back(run):
    outdated = same(run)
    run.transition_to(RunStatus.RUNNING)
    outdated.status_message = "still here"
    refused = assert_unchanged(outdated, outdated.save, InvalidTransition)
    assert (refused.run_id, refused.status) == (run.pk, "RUNNING")


def test_save_of_an_object_from_before_a_resurrection_does_not_uncount_it(run):
    outdated = same(run)
    resurrect_and_finish(run, RunStatus.SUCCEEDED)
    outdated.status_message = "still here"
    assert_unchanged(outdated, outdated.save, InvalidTransition)
    assert row(run)["stats"]["resurrectCount"] == 1


@pytest.mark.parametrize(
    "options", [{}, {"update_fields": ["status_message"]}, {"force_update": True}]
)
def test_save_of_a_deleted_run_does_not_bring_it_back(run, options):
    outdated = same(run)
    run.delete()
    with pytest.raises(DatabaseError), transaction.atomic():
        outdated.save(**options)
    assert not Run.objects.exists()


def test_save_of_the_object_that_was_deleted_does_not_bring_it_back(run):
    run.delete()
    with pytest.raises((ValidationError, DatabaseError)):
        run.save()
    assert not Run.objects.exists()


# What the database itself refuses


@pytest.mark.parametrize(
    "wrong",
    [
        {"user": None},
        {"status": "DONE"},
        {"status": "running"},
        {"status": "READY "},
        {"status": ""},
        {"status": "SUCCEEDED"},
        {"status": "SUCCEEDED", "finished_at": None},
        {"status": "ready"},
        {"status": "READY", "finished_at": "2019-11-30T07:34:24.202Z"},
        {"status": "TIMING-OUT", "finished_at": "2019-11-30T07:34:24.202Z"},
    ],
    ids=str,
)
def test_the_database_refuses_what_cannot_be(alice, wrong):
    run = Run.objects.create(user=alice)
    fields = {"user": alice, **wrong}
    for write in (
        lambda: Run.objects.bulk_create([Run(**fields)]),
        lambda: Run.objects.filter(pk=run.pk).update(**wrong),
    ):
        with pytest.raises(IntegrityError), transaction.atomic():
            write()
    assert fields_of(run) == row(run)


def test_the_database_refuses_two_owners(alice, acme):
    run = Run.objects.create(user=alice)
    for write in (
        lambda: Run.objects.bulk_create([Run(user=alice, organization=acme)]),
        lambda: Run.objects.update(organization=acme),
    ):
        with pytest.raises(IntegrityError), transaction.atomic():
            write()
    assert same(run).owner == alice


# When it may go


@pytest.mark.parametrize("status", sorted(FINISHED))
def test_a_finished_run_is_deleted(alice, status):
    run = Run.objects.create(user=alice, status=status)
    other = Run.objects.create(user=alice, status=status)
    assert run.delete() == (1, {"actor_runs.Run": 1})
    assert list(Run.objects.all()) == [other]


@pytest.mark.parametrize("status", UNFINISHED)
def test_an_unfinished_run_is_not(alice, status, listener):
    run = Run.objects.create(user=alice, status=status)
    for delete in (run.delete, async_to_sync(run.adelete)):
        refused = assert_unchanged(run, delete, RunNotFinished)
        assert (refused.run_id, refused.status) == (run.pk, status)
        assert str(refused) == (
            f"Only finished runs can be deleted (run ID: {run.pk}, status: {status})."
        )
    assert not listener.heard


def test_what_counts_is_the_state_at_that_moment_not_the_objects(run, listener):
    outdated = same(run)
    run.transition_to(RunStatus.RUNNING)
    with pytest.raises(RunNotFinished) as caught:
        outdated.delete()
    assert (caught.value.run_id, caught.value.status) == (run.pk, "RUNNING")
    assert row(run)["status"] == "RUNNING"
    assert not listener.heard

    outdated = same(run)
    run.transition_to(RunStatus.FAILED)
    assert outdated.delete() == (1, {"actor_runs.Run": 1})
    assert not Run.objects.exists()


def test_an_object_that_says_finished_by_itself_deletes_nothing(alice):
    run = Run.objects.create(user=alice)
    run.status, run.finished_at = RunStatus.SUCCEEDED, timezone.now()
    with pytest.raises(RunNotFinished):
        run.delete()
    assert row(run)["status"] == "READY"


def test_signals_fire_once_with_the_object_as_it_is_deleted(run, listener):
    outdated = same(run)
    resurrect_and_finish(run, RunStatus.ABORTED)
    outdated.delete()
    assert [name for name, _ in listener.heard] == ["pre_delete", "post_delete"]
    assert all(instance is outdated for _, instance in listener.heard)
    assert listener.statuses == ["ABORTED"]
    assert outdated.exit_code == 7


def test_a_run_that_is_gone_counts_as_nothing_deleted(run, listener):
    outdated = same(run)
    run.delete()
    listener.heard.clear()
    assert outdated.delete() == (0, {})
    assert not listener.heard


def test_an_object_is_deleted_once(run):
    run.delete()
    with pytest.raises(ValueError, match="can't be deleted"):
        run.delete()


def test_a_run_that_was_never_saved_counts_as_nothing_deleted(alice, listener):
    assert Run(user=alice, status=RunStatus.SUCCEEDED).delete() == (0, {})
    assert not listener.heard


def test_a_run_whose_fields_are_deferred_is_deleted_when_finished(alice, run):
    unfinished = Run.objects.create(user=alice)
    with pytest.raises(RunNotFinished):
        Run.objects.only("pk").get(pk=unfinished.pk).delete()
    assert Run.objects.only("pk").get(pk=run.pk).delete() == (1, {"actor_runs.Run": 1})
    assert list(Run.objects.all()) == [unfinished]


@pytest.mark.parametrize("signal", [pre_delete, post_delete])
def test_a_receiver_that_fails_keeps_the_run(run, signal):
    def fail(**kwargs: Any) -> None:
        raise RuntimeError("The storages cannot be cleaned up.")

    signal.connect(fail, sender=Run)
    try:
        with pytest.raises(RuntimeError), transaction.atomic():
            run.delete()
    finally:
        signal.disconnect(fail, sender=Run)
    assert Run.objects.exists()


def test_a_template_cannot_change_runs():
    for method in (Run.delete, Run.transition_to, Run.save):
        assert method.alters_data


def test_asynchronous_code_has_the_same_rules(alice):
    assert asyncio.iscoroutinefunction(Run.adelete)
    run = Run.objects.create(user=alice, status=RunStatus.RUNNING)
    run.status = RunStatus.SUCCEEDED
    with pytest.raises((InvalidTransition, ValidationError)):
        async_to_sync(run.asave)()
    assert row(run)["status"] == "RUNNING"


def test_statistics_that_are_no_object_are_refused_on_the_way_back(alice):
    run = Run.objects.create(user=alice, status=RunStatus.FAILED)
    with pytest.raises(ValidationError, match="must be an object"):
        run.transition_to(RunStatus.READY, stats=[])
    assert Run.objects.get().status == RunStatus.FAILED
