"""Runs: what they start with, whose they are, which state may follow which, when they may go."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.apps import apps
from django.core.exceptions import ValidationError
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.db.models import ProtectedError
from django.db.models.signals import post_delete, pre_delete
from django.utils import timezone

from actor_runs.exceptions import InvalidTransition, RunAlreadyStarted, RunNotFinished
from actor_runs.models import GeneralAccess, Run, RunStatus
from actor_runs.recording import recorded
from tests.support.people import join, leave, make_user
from tests.support.runs import another, row_of

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


def fields_of(run: Run) -> dict[str, Any]:
    """What the object has for each column."""
    return {field.attname: getattr(run, field.attname) for field in Run._meta.concrete_fields}


def resurrect_and_finish(run: Run, status: str) -> None:
    """Let somebody else, with an object of their own, bring the run back to where it was."""
    other = another(run)
    other.transition_to(RunStatus.RUNNING)
    other.transition_to(status, exit_code=7)


def assert_unchanged(run: Run, change: Callable[[], Any], exception: type[Exception]) -> Any:
    """Make ``change``, and see it refused, and neither the row nor the object changed."""
    before = row_of(run), fields_of(run)
    with pytest.raises(exception) as caught, transaction.atomic():
        change()
    assert (row_of(run), fields_of(run)) == before
    return caught.value


# What a run starts with


def test_a_run_needs_nothing_but_an_owner(alice):
    run = Run.objects.create(user=alice)
    assert run.status == RunStatus.READY
    assert not run.is_finished
    assert run.finished_at is None
    assert run.general_access == GeneralAccess.FOLLOW_USER_SETTING
    assert fields_of(run) == fields_of(another(run)) == row_of(run)


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
    assert str(run) == f"{run.pk} ({RunStatus(status).label})"
    assert row_of(run)["status"] == status


def test_a_run_that_is_recorded_when_it_is_over_keeps_its_end(alice):
    end = timezone.now().replace(year=2019, day=1, microsecond=0)
    run = Run.objects.create(user=alice, status=RunStatus.FAILED, finished_at=end)
    assert run.finished_at == end == row_of(run)["finished_at"]


def test_an_unfinished_run_has_no_end(alice):
    with pytest.raises(ValidationError) as caught:
        Run.objects.create(user=alice, finished_at=timezone.now())
    assert list(caught.value.message_dict) == ["finished_at"]


def test_an_id_that_is_taken_is_refused(alice, bob, run):
    taken = Run(id=run.pk, user=bob)
    before = row_of(run)
    with pytest.raises(IntegrityError), transaction.atomic():
        taken.save()
    assert row_of(run) == before


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


def test_a_run_is_not_owned_by_anything_but_a_user(alice, acme, run):
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


def test_an_owner_of_an_unfinished_run_cannot_be_deleted(alice, acme):
    run = Run.objects.create(user=alice)
    of_acme = Run.objects.create(organization=acme, status=RunStatus.RUNNING)
    for delete in (
        alice.delete,
        acme.delete,
        type(alice).objects.filter(pk=alice.pk).delete,
        type(acme).objects.filter(pk=acme.pk).delete,
    ):
        with pytest.raises(ProtectedError), transaction.atomic():
            delete()
    assert (another(run).owner, another(of_acme).owner) == (alice, acme)
    run.transition_to(RunStatus.FAILED)
    alice.delete()
    assert list(Run.objects.all()) == [of_acme]


@pytest.mark.parametrize("setting", GeneralAccess.values[1:])
@pytest.mark.parametrize("access", GeneralAccess.values)
def test_only_general_access_to_anyone_with_the_id_makes_a_run_public(configure, setting, access):
    configure(GENERAL_ACCESS=setting)
    effective = setting if access == "FOLLOW_USER_SETTING" else access
    assert Run(general_access=access).is_public == (effective == "ANYONE_WITH_ID_CAN_READ")


# Which state may follow which


@pytest.mark.parametrize("status", ALL)
def test_a_legal_transition_is_made(alice, subtests, status):
    for wanted in sorted(LEGAL[status]):
        with subtests.test(wanted):
            run = Run.objects.create(user=alice, status=status)
            run.transition_to(wanted)
            assert run.status == wanted
            assert fields_of(run) == row_of(run)
            assert run.is_finished == (wanted in FINISHED) == (run.finished_at is not None)


@pytest.mark.parametrize("status", ALL)
def test_an_illegal_transition_raises_and_changes_nothing(alice, subtests, status):
    run = Run.objects.create(user=alice, status=status)
    for wanted in sorted(LEGAL.keys() - LEGAL[status]):
        with subtests.test(wanted):
            refused = assert_unchanged(
                run, lambda to=wanted: run.transition_to(to), InvalidTransition
            )
            assert (refused.run_id, refused.status) == (run.pk, status)
            assert (refused.known, refused.wanted) == (status, wanted)
            assert all(part in str(refused) for part in (run.pk, status, wanted))


@pytest.mark.parametrize("wanted", ["DONE", "ready", "", "READY ", 1, None])
def test_a_transition_to_an_unknown_status_is_refused(alice, wanted):
    run = Run.objects.create(user=alice)
    refused = assert_unchanged(run, lambda: run.transition_to(wanted), InvalidTransition)
    assert (refused.run_id, refused.status, refused.wanted) == (run.pk, "READY", str(wanted))
    assert f"cannot go from READY to {wanted}. It can become RUNNING," in str(refused)


def test_a_run_that_finishes_gets_its_end(alice):
    run = Run.objects.create(user=alice, status=RunStatus.RUNNING)
    run.transition_to(RunStatus.SUCCEEDED, exit_code=0)
    assert run.started_at <= run.finished_at <= timezone.now()
    assert row_of(run)["finished_at"] == run.finished_at
    assert (run.exit_code, row_of(run)["exit_code"]) == (0, 0)


def test_finished_at_can_be_given(alice):
    end = timezone.now().replace(year=2019, day=1, microsecond=123_999)
    run = Run.objects.create(user=alice, status=RunStatus.RUNNING)
    run.transition_to(RunStatus.FAILED, finished_at=end)
    assert run.finished_at == end.replace(microsecond=123_000) == row_of(run)["finished_at"]


@pytest.mark.parametrize("wanted", sorted(RESURRECTED))
@pytest.mark.parametrize("status", sorted(FINISHED))
def test_a_resurrected_run_has_no_end_and_no_exit_code_and_is_counted(alice, status, wanted):
    run = Run.objects.create(user=alice, status=status, exit_code=1)
    run.stats["computeUnits"] = 1.5
    run.save()
    run.transition_to(wanted)
    assert (run.finished_at, run.exit_code) == (None, None)
    assert (run.stats["resurrectCount"], run.stats["computeUnits"]) == (1, 1.5)
    assert fields_of(run) == row_of(run)
    run.transition_to(RunStatus.FAILED)
    run.transition_to(wanted)
    assert row_of(run)["stats"]["resurrectCount"] == 2


def test_a_resurrection_is_counted_where_nothing_was_counted_before(alice):
    run = Run.objects.create(user=alice, status=RunStatus.FAILED, stats={})
    run.transition_to(RunStatus.RUNNING)
    assert row_of(run)["stats"] == {"resurrectCount": 1}


def test_a_resurrection_is_counted_also_with_statistics_of_the_callers(alice):
    run = Run.objects.create(user=alice, status=RunStatus.FAILED)
    run.transition_to(RunStatus.RUNNING, stats={"inputBodyLen": 7})
    stats = row_of(run)["stats"]
    assert (stats["inputBodyLen"], stats["resurrectCount"]) == (7, 1)


def test_a_transition_saves_the_given_fields(alice):
    run = Run.objects.create(user=alice, status=RunStatus.RUNNING)
    run.transition_to(
        RunStatus.SUCCEEDED,
        exit_code=0,
        status_message="Done",
        usage_total_usd=0.5,
        stats={"computeUnits": 2},
    )
    found = row_of(run)
    assert fields_of(run) == found
    assert (found["exit_code"], found["status_message"]) == (0, "Done")
    assert (found["usage_total_usd"], found["stats"]["computeUnits"]) == (0.5, 2)


def test_a_transition_saves_only_the_given_fields(alice):
    run = Run.objects.create(user=alice)
    Run.objects.filter(pk=run.pk).update(status_message="somebody else's")
    run.status_message = "not saved yet"
    run.build_number = "0.0.2"
    run.transition_to(RunStatus.RUNNING)
    assert (row_of(run)["status_message"], row_of(run)["build_number"]) == (
        "somebody else's",
        "0.0.1",
    )
    assert (run.status_message, run.build_number) == ("not saved yet", "0.0.2")


@pytest.mark.parametrize(
    "name",
    ["id", "pk", "status", "user", "user_id", "organization", "organization_id", "runs", "actId"],
)
def test_a_transition_refuses_the_owner_and_unknown_fields(alice, name):
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
def test_a_transition_with_a_wrong_value_changes_nothing(alice, fields, name):
    run = Run.objects.create(user=alice, status=RunStatus.RUNNING)
    refused = assert_unchanged(
        run, lambda: run.transition_to(RunStatus.SUCCEEDED, **fields), ValidationError
    )
    assert list(refused.message_dict) == [name]


def test_a_transition_to_an_unfinished_status_refuses_finished_at(alice):
    run = Run.objects.create(user=alice)
    refused = assert_unchanged(
        run,
        lambda: run.transition_to(RunStatus.RUNNING, finished_at=timezone.now()),
        ValidationError,
    )
    assert list(refused.message_dict) == ["finished_at"]


# Outdated objects


def test_a_transition_of_an_outdated_object_is_refused(alice):
    run = Run.objects.create(user=alice)
    another(run).transition_to(RunStatus.RUNNING)
    refused = assert_unchanged(run, lambda: run.transition_to(RunStatus.ABORTED), InvalidTransition)
    assert (refused.run_id, refused.status) == (run.pk, "RUNNING")
    assert (refused.known, refused.wanted) == ("READY", "ABORTED")
    assert all(part in str(refused) for part in (run.pk, "RUNNING", "READY", "ABORTED"))
    run.refresh_from_db()
    run.transition_to(RunStatus.ABORTED)


def test_the_same_transition_is_not_made_twice(alice):
    first = Run.objects.create(user=alice)
    second = another(first)
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


def test_an_object_from_before_a_resurrection_is_outdated_also_with_other_statistics(alice):
    run = Run.objects.create(user=alice, status=RunStatus.FAILED)
    other = another(run)
    other.transition_to(RunStatus.RUNNING, stats={"inputBodyLen": 7})
    other.transition_to(RunStatus.FAILED)
    assert_unchanged(run, lambda: run.transition_to(RunStatus.READY), InvalidTransition)


def test_an_object_with_new_statistics_of_its_own_is_not_outdated(alice):
    run = Run.objects.create(user=alice, status=RunStatus.RUNNING)
    run.stats = {"computeUnits": 1}
    run.transition_to(RunStatus.SUCCEEDED)
    assert row_of(run)["stats"]["computeUnits"] == 0


def test_a_deleted_run_makes_no_transition(run):
    outdated = another(run)
    run.delete()
    with pytest.raises(InvalidTransition) as caught:
        outdated.transition_to(RunStatus.READY)
    refused = caught.value
    assert (refused.run_id, refused.status) == (outdated.pk, None)
    assert (refused.known, refused.wanted) == ("SUCCEEDED", "READY")
    assert all(part in str(refused) for part in (outdated.pk, "READY"))
    assert not Run.objects.exists()


def test_refusals_can_be_pickled(alice):
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


def test_a_run_with_deferred_fields_makes_a_transition(alice):
    run = Run.objects.create(user=alice)
    Run.objects.only("pk").get().transition_to(RunStatus.RUNNING)
    assert row_of(run)["status"] == "RUNNING"


# Saving


def test_save_keeps_what_was_changed(run):
    run.status_message = "All done"
    run.save()
    assert row_of(run)["status_message"] == "All done"
    run.exit_code = 3
    run.status_message = "not this one"
    run.save(update_fields=["exit_code"])
    assert (row_of(run)["exit_code"], row_of(run)["status_message"]) == (3, "All done")


def test_update_fields_takes_names_of_columns(run, bob):
    run.user = bob
    run.save(update_fields=["user_id"])
    assert another(run).owner == bob


@pytest.mark.parametrize("other", [{"force_update": True}, {"update_fields": ["act_id"]}])
def test_save_refuses_options_that_exclude_each_other(run, other):
    with pytest.raises(ValueError, match="Cannot force both"):
        run.save(force_insert=True, **other)


def test_save_checks_what_it_saves(run):
    before = row_of(run)
    run.exit_code = "nothing"
    for saved in (None, ["exit_code"], ["exit_code", "act_id"]):
        with pytest.raises(ValidationError) as caught:
            run.save(update_fields=saved)
        assert list(caught.value.message_dict) == ["exit_code"]
    assert row_of(run) == before
    run.act_id = "another"
    run.save(update_fields=["act_id"])
    assert row_of(run) == {**before, "act_id": "another"}


def test_save_of_a_run_whose_fields_are_deferred_leaves_those_alone(run):
    for runs in (Run.objects.only("status_message"), Run.objects.defer("status", "stats")):
        found = runs.get()
        found.status_message += "+"
        found.save()
    assert row_of(run) == {**fields_of(run), "status_message": "++"}


def test_save_changes_no_status(alice):
    run = Run.objects.create(user=alice, status=RunStatus.RUNNING)
    before = row_of(run)
    run.status, run.finished_at = RunStatus.SUCCEEDED, timezone.now()
    for saved in (None, ["status"], ["status", "finished_at"]):
        with pytest.raises(InvalidTransition) as caught:
            run.save(update_fields=saved)
        assert (caught.value.run_id, caught.value.status) == (run.pk, "RUNNING")
        assert "transition_to('SUCCEEDED')" in str(caught.value)
    assert row_of(run) == before


@pytest.mark.parametrize("status", [RunStatus.RUNNING, RunStatus.SUCCEEDED])
def test_save_of_a_new_status_alone_says_how_to_change_it(alice, status):
    run = Run.objects.create(user=alice)
    run.status = status
    with pytest.raises(InvalidTransition, match=rf"use transition_to\('{status}'\)"):
        run.save()
    assert another(run).status == RunStatus.READY


@pytest.mark.parametrize("options", [{"update_fields": ["status"]}, {"force_update": True}])
def test_a_new_object_with_the_id_of_a_run_changes_no_status(alice, options):
    run = Run.objects.create(user=alice, status=RunStatus.SUCCEEDED)
    before = row_of(run)
    impostor = Run(id=run.pk, user=alice, status=RunStatus.FAILED)
    with pytest.raises((InvalidTransition, DatabaseError)), transaction.atomic():
        impostor.save(**options)
    assert row_of(run) == before


def test_save_of_an_outdated_object_does_not_turn_the_state_back(run):
    outdated = another(run)
    run.transition_to(RunStatus.RUNNING)
    outdated.status_message = "still here"
    refused = assert_unchanged(outdated, outdated.save, InvalidTransition)
    assert (refused.run_id, refused.status) == (run.pk, "RUNNING")


def test_save_does_not_take_the_end_of_a_finished_run(run):
    run.finished_at = None
    with pytest.raises(ValidationError, match="if and only if it is finished"):
        run.save(update_fields=["finished_at"])
    assert another(run).is_finished


def test_refresh_from_db_takes_a_queryset(run):
    run.act_id = "changed"
    with pytest.raises(Run.DoesNotExist):
        run.refresh_from_db(from_queryset=Run.objects.none())
    run.refresh_from_db(from_queryset=Run.objects.finished())
    assert run.act_id == another(run).act_id


def test_save_of_an_object_from_before_a_resurrection_does_not_uncount_it(run):
    outdated = another(run)
    resurrect_and_finish(run, RunStatus.SUCCEEDED)
    outdated.status_message = "still here"
    assert_unchanged(outdated, outdated.save, InvalidTransition)
    assert row_of(run)["stats"]["resurrectCount"] == 1


@pytest.mark.parametrize("deferred", [["status"], ["status", "finished_at"]])
def test_save_with_a_deferred_status_does_not_set_the_version_back(run, deferred):
    outdated = Run.objects.defer(*deferred).get()
    resurrect_and_finish(run, run.status)
    for options in ({}, {"update_fields": ["version"]}):
        assert_unchanged(
            outdated, lambda options=options: outdated.save(**options), InvalidTransition
        )


@pytest.mark.parametrize(
    "options", [{}, {"update_fields": ["status_message"]}, {"force_update": True}]
)
def test_save_of_a_deleted_run_does_not_bring_it_back(run, options):
    outdated = another(run)
    run.delete()
    with pytest.raises(DatabaseError), transaction.atomic():
        outdated.save(**options)
    assert not Run.objects.exists()


def test_save_does_not_overwrite_a_run_that_was_deleted_and_imported_anew(alice, run):
    outdated = another(run)
    run_id = run.pk
    run.delete()

    is_done = False

    def import_it_anew(execute, sql, params, many, context):
        nonlocal is_done
        result = execute(sql, params, many, context)
        if sql.startswith("SELECT") and not is_done:
            is_done = True
            Run.objects.create(pk=run_id, user=alice)
        return result

    with connection.execute_wrapper(import_it_anew), pytest.raises(DatabaseError, match="deleted"):
        outdated.save()
    assert is_done


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
    assert fields_of(run) == row_of(run)


def test_the_database_refuses_two_owners(alice, acme):
    run = Run.objects.create(user=alice)
    for write in (
        lambda: Run.objects.bulk_create([Run(user=alice, organization=acme)]),
        lambda: Run.objects.update(organization=acme),
    ):
        with pytest.raises(IntegrityError), transaction.atomic():
            write()
    assert another(run).owner == alice


# When it may go


@pytest.mark.parametrize("status", sorted(FINISHED))
def test_a_finished_run_is_deleted(alice, status):
    run = Run.objects.create(user=alice, status=status)
    other = Run.objects.create(user=alice, status=status)
    assert run.delete() == (1, {"actor_runs.Run": 1})
    assert list(Run.objects.all()) == [other]


@pytest.mark.parametrize("status", UNFINISHED)
def test_an_unfinished_run_is_not_deleted(alice, status, signals):
    run = Run.objects.create(user=alice, status=status)
    for delete in (run.delete, async_to_sync(run.adelete)):
        refused = assert_unchanged(run, delete, RunNotFinished)
        assert (refused.run_id, refused.status) == (run.pk, status)
        assert str(refused) == (
            f"Only finished runs can be deleted (run ID: {run.pk}, status: {status})."
        )
    assert not signals.sent


def test_a_deletion_goes_by_the_stored_status_and_not_by_the_objects(run, signals):
    outdated = another(run)
    run.transition_to(RunStatus.RUNNING)
    with pytest.raises(RunNotFinished) as caught:
        outdated.delete()
    assert (caught.value.run_id, caught.value.status) == (run.pk, "RUNNING")
    assert row_of(run)["status"] == "RUNNING"
    assert not signals.sent

    outdated = another(run)
    run.transition_to(RunStatus.FAILED)
    assert outdated.delete() == (1, {"actor_runs.Run": 1})
    assert not Run.objects.exists()


def test_an_object_that_says_finished_by_itself_deletes_nothing(alice):
    run = Run.objects.create(user=alice)
    run.status, run.finished_at = RunStatus.SUCCEEDED, timezone.now()
    with pytest.raises(RunNotFinished):
        run.delete()
    assert row_of(run)["status"] == "READY"


def test_signals_fire_once_with_the_object_as_it_is_deleted(run, signals):
    outdated = another(run)
    resurrect_and_finish(run, RunStatus.ABORTED)
    outdated.delete()
    assert [(name, status) for name, _, status in signals.sent] == [
        ("pre_delete", "ABORTED"),
        ("post_delete", "ABORTED"),
    ]
    assert all(instance is outdated for instance in signals.instances)
    assert outdated.exit_code == 7


def test_a_run_that_is_gone_counts_as_nothing_deleted(run, signals):
    outdated = another(run)
    run.delete()
    signals.sent.clear()
    assert outdated.delete() == (0, {})
    assert not signals.sent


def test_an_object_is_deleted_once(run):
    run.delete()
    with pytest.raises(ValueError, match="can't be deleted"):
        run.delete()


def test_a_run_that_was_never_saved_counts_as_nothing_deleted(alice, signals):
    assert Run(user=alice, status=RunStatus.SUCCEEDED).delete() == (0, {})
    assert not signals.sent


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
    assert inspect.iscoroutinefunction(Run.adelete)
    run = Run.objects.create(user=alice, status=RunStatus.RUNNING)
    run.status = RunStatus.SUCCEEDED
    with pytest.raises((InvalidTransition, ValidationError)):
        async_to_sync(run.asave)()
    assert row_of(run)["status"] == "RUNNING"
    run = another(run)
    async_to_sync(run.atransition_to)("FAILED", exit_code=7)
    assert (row_of(run)["status"], row_of(run)["exit_code"]) == ("FAILED", 7)
    with pytest.raises(InvalidTransition):
        async_to_sync(run.atransition_to)("ABORTED")


def test_a_resurrection_with_statistics_that_are_not_an_object_is_refused(alice):
    run = Run.objects.create(user=alice, status=RunStatus.FAILED)
    with pytest.raises(ValidationError, match="must be an object"):
        run.transition_to(RunStatus.READY, stats=[])
    Run.objects.update(stats=[])
    for fields in ({}, {"stats": {}}):
        with pytest.raises(ValidationError, match="must be an object"):
            run.transition_to(RunStatus.READY, **fields)
    assert Run.objects.get().status == RunStatus.FAILED


# Proxies


@pytest.mark.host
def test_a_run_that_the_manager_of_its_proxy_leaves_out_works(alice):
    waiting = apps.get_model("host.WaitingRun").objects
    created = Run.objects.create(user=alice)
    run, late, partial = (
        waiting.get(),
        waiting.get(),
        waiting.only("id", "status", "version").get(),
    )
    with recorded(run):
        assert not run.is_being_stopped()
        with pytest.raises(RunAlreadyStarted), recorded(late):
            pass
    assert another(created).status == run.status == "SUCCEEDED"
    run.save()
    run.refresh_from_db()
    late.refresh_from_db(fields=["status"])
    assert late.status == "SUCCEEDED"
    late.status = "FAILED"
    with pytest.raises(ValidationError, match="by transitions alone"):
        late.clean()
    assert partial.stats["resurrectCount"] == 0
    run.transition_to(RunStatus.RUNNING)
    with pytest.raises(RunNotFinished):
        run.delete()
    run.transition_to(RunStatus.FAILED)
    assert run.delete()[0] == 1
