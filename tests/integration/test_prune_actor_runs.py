"""What is finished and old goes, in batches; everything else stays, whoever is at work beside."""

from __future__ import annotations

import logging
import signal
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from io import StringIO
from typing import Any

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.db import IntegrityError, OperationalError, connection, connections, transaction
from django.db.models import DateTimeField, Exists, OuterRef, Value, Window
from django.db.models.functions import RowNumber
from django.db.models.signals import post_delete, pre_delete
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from actor_runs import batches
from actor_runs.exceptions import InvalidTransition
from actor_runs.models import Run, RunStatus
from actor_runs.schemas import format_time
from tests.support.api import API
from tests.support.commands import TIMEOUT, last_line, python
from tests.support.concurrency import Concurrently
from tests.support.people import join, token_of
from tests.support.signals import conflicts

ROUNDS = 2
DAY = timedelta(days=1)


def finished(
    owner: Any, days: float, status: RunStatus = RunStatus.SUCCEEDED, **fields: Any
) -> Run:
    """A run of ``owner``, a user, that finished so many days ago and started a week before."""
    end = timezone.now() - timedelta(days=days)
    return Run.objects.create(
        user=owner, status=status, started_at=end - 7 * DAY, finished_at=end, **fields
    )


def many(owner: Any, number: int, days: float = 40) -> list[str]:
    """IDs of ``number`` runs, each finished a second after the one before."""
    end = timezone.now() - timedelta(days=days)
    runs = [
        Run(user=owner, status=RunStatus.SUCCEEDED, finished_at=end + timedelta(seconds=n))
        for n in range(number)
    ]
    for run in runs:
        run.clean_fields(exclude={"user", "organization"})
    return [run.pk for run in Run.objects.bulk_create(runs)]


prune = partial(last_line, "prune_actor_runs")


def left() -> set[str]:
    return set(Run.objects.values_list("pk", flat=True))


# What goes and what stays


@pytest.mark.parametrize(
    ("age", "days"), [("12h", 0.5), ("1d", 1), ("30d", 30), ("8w", 56), ("008w", 56)]
)
def test_runs_go_that_finished_longer_ago(alice, age, days):
    older, younger = finished(alice, days + 0.01), finished(alice, days - 0.01)

    line = prune("--older-than", age)

    end = format_time(older.finished_at)
    assert line == f"Deleted 1 run that finished from {end} to {end}."
    assert left() == {younger.pk}


def test_runs_of_every_finished_status_go(alice):
    for status in Run.FINISHED:
        finished(alice, 40, status)

    prune("--older-than", "30d")

    assert not left()


def test_an_unfinished_run_stays_however_old_it_is(alice):
    for status in Run.UNFINISHED:
        Run.objects.create(user=alice, status=status, started_at=timezone.now() - 9999 * DAY)

    assert prune("--older-than", "1h") == "Deleted 0 runs."
    assert len(left()) == len(Run.UNFINISHED)


def test_only_the_statuses_asked_for_go(alice):
    runs = {status: finished(alice, 40, status) for status in Run.FINISHED}

    prune("--older-than", "30d", "--status", "ABORTED", "--status", "TIMED-OUT")

    assert left() == {runs[RunStatus.SUCCEEDED].pk, runs[RunStatus.FAILED].pk}


@pytest.mark.parametrize(
    ("failed_age", "stay"), [("90d", {"failed 40", "failed 2"}), ("1d", {"succeeded 2"})]
)
def test_failed_runs_can_have_an_age_of_their_own(alice, failed_age, stay):
    runs = {
        f"{status.lower()} {days}": finished(alice, days, status).pk
        for status in (RunStatus.SUCCEEDED, RunStatus.FAILED)
        for days in (2, 40, 100)
    }

    prune("--older-than", "30d", "--failed-older-than", failed_age)

    assert left() == {runs[name] for name in stay | {"succeeded 2"}}


def test_the_newest_of_each_owner_stay(alice, bob, acme):
    join(bob, acme)
    runs = {
        owner: [finished(None, days, organization=acme) for days in (50, 40, 60)]
        if owner is acme
        else [finished(owner, days) for days in (50, 40, 60)]
        for owner in (alice, acme)
    }
    bobs = finished(bob, 90)

    prune("--older-than", "30d", "--keep-last", "2")

    newest = {run.pk for owned in runs.values() for run in owned[:2]}
    assert left() == newest | {bobs.pk}


def test_the_newest_stay_whatever_else_limits_what_goes(alice):
    old_failed = finished(alice, 60, RunStatus.FAILED)
    newer_failed = finished(alice, 50, RunStatus.FAILED)
    succeeded = finished(alice, 1)

    prune("--older-than", "30d", "--status", "FAILED", "--keep-last", "2")

    assert left() == {newer_failed.pk, succeeded.pk}
    assert old_failed.pk not in left()


def test_exactly_so_many_stay_also_of_those_that_finished_at_the_same_moment(alice):
    end = timezone.now() - 40 * DAY
    for _ in range(7):
        Run.objects.create(user=alice, status=RunStatus.FAILED, finished_at=end)

    assert Run.objects.prune(DAY, keep_last=3, batch_size=2).deleted == 4
    assert len(left()) == 3


def test_only_the_runs_of_one_user_go(alice, bob, acme):
    join(alice, acme)
    finished(alice, 40)
    others = {finished(bob, 40).pk, finished(None, 40, organization=acme).pk}

    prune("--older-than", "30d", "--user", "alice")

    assert left() == others


def test_only_the_runs_of_one_organization_go(alice, acme):
    join(alice, acme)
    finished(None, 40, organization=acme)
    other = finished(alice, 40)

    prune("--older-than", "30d", "--organization", str(acme.pk))

    assert left() == {other.pk}


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 10_000])
def test_batches_of_any_size_take_all(alice, size):
    stays = finished(alice, 1)
    many(alice, 8)
    result_of_batches: list[int] = []

    result = Run.objects.prune(
        30 * DAY, batch_size=size, on_batch=lambda r: result_of_batches.append(r.deleted)
    )

    assert result.deleted == 8
    assert result_of_batches == [*range(size, 8, size), 8]
    assert left() == {stays.pk}


def test_the_last_are_those_that_are_the_last_at_that_moment(alice):
    newest = many(alice, 8)[-2:]

    def delete_the_newest(result: Any) -> None:
        Run.objects.filter(pk__in=newest).delete_finished()

    Run.objects.prune(30 * DAY, batch_size=1, keep_last=2, on_batch=delete_the_newest)
    assert Run.objects.count() == 2


@pytest.mark.parametrize("keep_last", [0, 1])
def test_runs_whose_end_is_finer_than_a_millisecond_go_too(alice, keep_last):
    # As a host's own SQL writes it.
    end = timezone.now().replace(microsecond=123_456) - 40 * DAY
    many(alice, 7)
    Run.objects.update(finished_at=Value(end, DateTimeField()))

    result = Run.objects.prune(
        30 * DAY, batch_size=2, keep_last=keep_last, max_runtime=timedelta(seconds=TIMEOUT)
    )

    assert result.complete
    assert result.deleted == 7 - keep_last


def test_what_stays_between_does_not_stop_it(alice):
    # Whole batches of runs that are not asked for, between those that are.
    for number in range(20):
        finished(alice, 40 + number / 100, Run.FINISHED[number // 5])

    prune("--older-than", "30d", "--status", "ABORTED", "--batch-size", "2")

    assert Counter(Run.objects.values_list("status", flat=True)) == {
        "SUCCEEDED": 5,
        "FAILED": 5,
        "TIMED-OUT": 5,
    }


def test_a_dry_run_says_what_would_go_and_deletes_nothing(alice):
    oldest, newest = finished(alice, 60), finished(alice, 40)
    finished(alice, 50)
    finished(alice, 1)
    before = left()

    line = prune("--older-than", "30d", "--dry-run", "--batch-size", "1")

    assert line == (
        f"Would delete 3 runs that finished from {format_time(oldest.finished_at)} "
        f"to {format_time(newest.finished_at)}."
    )
    assert left() == before


def test_a_dry_run_counts_what_the_prune_then_takes(alice, bob):
    for owner in (alice, bob):
        many(owner, 6)
    options = ["--older-than", "30d", "--keep-last", "2", "--batch-size", "5"]

    would = prune(*options, "--dry-run")

    assert would.startswith("Would delete 8 runs")
    assert prune(*options) == would.replace("Would delete", "Deleted")


def test_when_the_time_is_up_no_batch_is_begun(alice):
    many(alice, 5)

    def one_batch_takes_longer(result: Any) -> None:
        deadline.wait(0.01)  # longer than the time that there is

    deadline = threading.Event()
    result = Run.objects.prune(
        30 * DAY,
        batch_size=2,
        max_runtime=timedelta(microseconds=1),
        on_batch=one_batch_takes_longer,
    )

    assert not result.complete
    assert result.deleted < 5
    assert Run.objects.prune(30 * DAY, max_runtime=timedelta(hours=1)).complete
    assert not left()


@pytest.mark.host
def test_protected_runs_stay_and_the_others_go(transactional_db, alice):
    runs = many(alice, 12)
    for number, model in [(2, "Invoice"), (3, "Archive"), (8, "Ledger")]:
        apps.get_model("host", model).objects.create(run_id=runs[number])
    apps.get_model("host", "Note").objects.create(run_id=runs[4])

    line = prune("--older-than", "30d", "--batch-size", "10")

    assert line.startswith("Deleted 9 runs")
    assert line.endswith("3 stay, since other records depend on them.")
    assert left() == {runs[2], runs[3], runs[8]}
    apps.get_model("host", "Ledger").objects.all().delete()
    apps.get_model("host", "Archive").objects.all().delete()
    line = prune("--older-than", "30d")
    assert line.startswith("Deleted 2 runs that finished")
    assert line.endswith(" 1 stays, since other records depend on it.")


# Signals, queries, logs


def test_signals_fire_once_for_each_run_where_somebody_listens(alice):
    runs, stays = many(alice, 7), finished(alice, 1)
    heard: Counter[tuple[str, str]] = Counter()

    def before(instance: Run, **kwargs: Any) -> None:
        assert instance.act_id  # the run as it was
        heard["before", instance.pk] += 1

    def after(instance: Run, **kwargs: Any) -> None:
        heard["after", instance.pk] += 1

    pre_delete.connect(before, sender=Run)
    post_delete.connect(after, sender=Run)
    try:
        Run.objects.prune(30 * DAY, batch_size=3)
    finally:
        pre_delete.disconnect(before, sender=Run)
        post_delete.disconnect(after, sender=Run)

    assert heard == {(when, run): 1 for when in ("before", "after") for run in runs}
    assert left() == {stays.pk}


@pytest.mark.parametrize(
    ("listens", "batches"),
    [(True, [1000, 1001]), pytest.param(False, [1001], marks=pytest.mark.plain)],
)
def test_batches_are_smaller_where_runs_are_read(alice, listens, batches):
    many(alice, 1001)
    deleted: list[int] = []

    def listen(**kwargs: Any) -> None:
        pass

    if listens:
        post_delete.connect(listen, sender=Run)
    try:
        Run.objects.prune(30 * DAY, on_batch=lambda result: deleted.append(result.deleted))
    finally:
        post_delete.disconnect(listen, sender=Run)

    assert deleted == batches


@pytest.mark.plain
@pytest.mark.parametrize("keep_last", [0, 1])
def test_no_run_is_loaded_where_nobody_listens(alice, keep_last):
    many(alice, 7)

    with CaptureQueriesContext(
        connection,
    ) as queries:
        Run.objects.prune(30 * DAY, batch_size=3, keep_last=keep_last)

    assert not [query for query in queries.captured_queries if "act_id" in query["sql"]]


@pytest.mark.plain
def test_each_batch_is_a_few_statements_and_a_transaction_of_its_own(alice):
    many(alice, 7)
    # The fourth read finds nothing left. On MariaDB three more statements lock a batch by its IDs.
    reads = 3 * 4 + 1 if connection.vendor == "mysql" else 3 + 1

    with CaptureQueriesContext(connection) as queries:
        Run.objects.prune(30 * DAY, batch_size=3)

    statements = Counter(query["sql"].split()[0] for query in queries.captured_queries)
    assert statements["DELETE"] == 3
    assert statements["SELECT"] == reads


def test_each_batch_is_logged_and_no_run_by_itself(alice, caplog):
    many(alice, 7)

    with caplog.at_level(logging.INFO, "actor_runs"):
        Run.objects.prune(30 * DAY, batch_size=3)

    assert [record.deleted for record in caplog.records] == [3, 3, 1]
    assert all(record.levelname == "INFO" for record in caplog.records)


# As a function


def test_python_prunes_any_runs_by_the_same_rules(alice, bob):
    old = finished(alice, 40, act_id="mine")
    stay = {finished(alice, 40).pk, finished(bob, 1, act_id="mine").pk}

    result = Run.objects.filter(act_id="mine").prune(30 * DAY)

    assert (result.deleted, result.protected, result.complete) == (1, 0, True)
    assert result.oldest == result.newest == old.finished_at
    assert left() == stay


OTHERS = Run.objects.filter(act_id=OuterRef("act_id"))
RANK = Window(RowNumber(), partition_by="act_id", order_by="finished_at")


@pytest.mark.parametrize(
    ("runs", "batch_size", "stay"),
    [
        (Run.objects.annotate(rank=RANK).filter(rank=1), 1000, 2),
        (Run.objects.exclude(Exists(OTHERS.filter(finished_at__lt=OuterRef("finished_at")))), 1, 2),
        # Asked again for each batch: the last is alone by then.
        (Run.objects.filter(Exists(OTHERS.exclude(pk=OuterRef("pk")))), 1, 1),
        (Run.objects.filter(user__actor_runs__act_id="a"), 1000, 0),
    ],
    ids=["the first by number", "the first", "not alone", "joined"],
)
def test_a_prune_by_other_runs_takes_none_that_were_not_there(alice, runs, batch_size, stay):
    finished_runs = [finished(alice, days, act_id="a") for days in (5, 4, 3)]
    would = runs.prune(DAY, batch_size=batch_size, dry_run=True).deleted
    assert runs.prune(DAY, batch_size=batch_size).deleted == 3 - stay
    assert left() == {run.pk for run in finished_runs[3 - stay :]}
    assert would in (3, 3 - stay)


def test_python_prunes_the_runs_of_an_owner(alice, bob):
    finished(alice, 40)
    other = finished(bob, 40)

    assert alice.actor_runs.prune(30 * DAY).deleted == 1
    assert left() == {other.pk}
    kept = finished(bob, 40, RunStatus.FAILED)
    assert Run.objects.with_status(["SUCCEEDED"]).owned_by(bob).prune(30 * DAY).deleted == 1
    assert left() == {kept.pk}


@pytest.mark.parametrize(
    "options",
    [
        {"older_than": -DAY},
        {"older_than": timedelta.max},
        {"older_than": DAY, "failed_older_than": -DAY},
        {"older_than": DAY, "failed_older_than": timedelta.max},
        {"older_than": DAY, "keep_last": -1},
        {"older_than": DAY, "batch_size": 0},
        {"older_than": DAY, "batch_size": 10_001},
        {"older_than": DAY, "max_runtime": -DAY},
    ],
)
def test_python_refuses_values_out_of_range(alice, options):
    run = finished(alice, 40)
    with pytest.raises(ValueError, match=f"{[*options][-1]} must be"):
        Run.objects.prune(**options)
    assert left() == {run.pk}


@pytest.mark.parametrize(
    "options",
    [
        {"older_than": 30},
        {"older_than": "30d"},
        {"older_than": DAY, "failed_older_than": 30},
        {"older_than": DAY, "max_runtime": 60},
        {"older_than": DAY, "keep_last": 2.5},
        {"older_than": DAY, "keep_last": True},
        {"older_than": DAY, "batch_size": "7"},
        {"older_than": DAY, "keep_lats": 3},
        {},
    ],
)
def test_python_refuses_other_types_and_names(alice, options):
    run = finished(alice, 40)
    with pytest.raises(TypeError, match=[*options, "older_than"][min(len(options), 2) - 1]):
        Run.objects.prune(**options)
    assert left() == {run.pk}


def test_pruning_in_a_transaction_of_the_caller_is_undone_with_it(transactional_db, alice):
    many(alice, 5)
    with transaction.atomic():
        assert Run.objects.prune(30 * DAY, batch_size=2).deleted == 5
        transaction.set_rollback(True)
    assert len(left()) == 5


# Bad arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: --older-than"),
        (["--older-than=0d"], "must be a number of hours, days or weeks above zero"),
        (["--older-than=-1d"], "must be a number of hours, days or weeks above zero"),
        (["--older-than", "-1d"], "must be a number of hours, days or weeks above zero"),
        (["--older-than=soon"], "must be a number of hours, days or weeks above zero"),
        (["--older-than=30"], "must be a number of hours, days or weeks above zero"),
        (["--older-than=30m"], "must be a number of hours, days or weeks above zero"),
        (["--older-than=1_0d"], "must be a number of hours, days or weeks above zero"),
        (["--older-than=\u0661d"], "must be a number of hours, days or weeks above zero"),
        (["--older-than=1d\n"], "must be a number of hours, days or weeks above zero"),
        (["--older-than=999999d"], "must be a number of hours, days or weeks above zero"),
        (["--older-than=1d", "--failed-older-than=x"], "must be a number of hours"),
        (["--older-than=1d", "--status=RUNNING"], "invalid choice: 'RUNNING'"),
        (["--older-than=1d", "--keep-last=0"], "must be a whole number from 1"),
        (["--older-than=1d", "--batch-size=0"], "must be a whole number from 1 to 10000"),
        (["--older-than=1d", "--batch-size=10001"], "must be a whole number from 1 to 10000"),
        (["--older-than=1d", "--max-runtime=0"], "must be a time above zero"),
        (["--older-than=1d", "--max-runtime=1d"], "must be a time above zero"),
        (["--older-than=1d", "--user=nobody"], "There is no user 'nobody'."),
        (["--older-than=1d", "--organization=nothing"], "There is no organization 'nothing'."),
        (["--older-than=1d", "--user=alice", "--organization=1"], "not allowed with argument"),
    ],
)
def test_bad_arguments_are_told_in_one_message(alice, arguments, message):
    run = finished(alice, 9999)

    with pytest.raises(CommandError, match=message.replace("(", r"\(")):
        prune(*arguments)

    assert left() == {run.pk}


def test_options_can_be_given_as_python_keywords(alice, bob):
    finished(alice, 40)
    other = finished(bob, 40)

    call_command("prune_actor_runs", older_than="30d", user="alice", verbosity=0)

    assert left() == {other.pk}


def test_verbosity_2_tells_of_each_batch(alice):
    many(alice, 3)
    out = StringIO()

    call_command(
        "prune_actor_runs", "--older-than", "1d", "--batch-size", "2", verbosity=2, stdout=out
    )

    lines = out.getvalue().splitlines()
    assert [line.split(" that")[0] for line in lines] == [
        "Deleted 2 runs",
        "Deleted 3 runs",
        "Deleted 3 runs",
    ]


# Beside others


def in_another_thread(call: Any) -> Any:
    """Return what ``call`` returns, done with a database connection of its own."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        return Concurrently(pool).start(call).result(TIMEOUT)


def is_a_write(sql: str) -> bool:
    """Whether a statement takes locks, on whatever database."""
    return sql.startswith(("BEGIN IMMEDIATE", "UPDATE", "DELETE")) or "FOR UPDATE" in sql


class BeforeTheFirstWrite:
    """Calls something once, in another thread, when a prune has read and begins to delete."""

    def __init__(self, call: Any) -> None:
        self.call = call
        self.is_called = False

    def __call__(self, execute: Any, sql: str, *args: Any) -> Any:
        if is_a_write(sql) and not self.is_called:
            self.is_called = True
            in_another_thread(self.call)
        return execute(sql, *args)


def delete_over_http(run_id: str, token: str) -> int:
    return API().delete(f"/{run_id}", token=token).status_code


def resurrect(run_id: str) -> None:
    Run.objects.get(pk=run_id).transition_to(RunStatus.RUNNING)


def resurrect_and_finish(run_id: str) -> None:
    run = Run.objects.get(pk=run_id)
    run.transition_to(RunStatus.RUNNING)
    run.transition_to(RunStatus.SUCCEEDED)


@pytest.mark.parametrize("keep_last", [0, 1])
@pytest.mark.parametrize("change", [resurrect, resurrect_and_finish])
def test_a_run_that_is_no_longer_due_when_it_is_deleted_stays(
    transactional_db, alice, change, keep_last
):
    runs = many(alice, 5)

    with connection.execute_wrapper(BeforeTheFirstWrite(lambda: change(runs[1]))):
        result = Run.objects.prune(30 * DAY, keep_last=keep_last)

    stay = {runs[1]} | ({runs[4]} if keep_last else set())
    assert left() == stay
    assert result.deleted == 5 - len(stay)


def test_a_run_that_is_deleted_meanwhile_is_not_counted(transactional_db, alice):
    runs = many(alice, 5)
    token = token_of(alice)
    answers = []

    with connection.execute_wrapper(
        BeforeTheFirstWrite(lambda: answers.append(delete_over_http(runs[1], token)))
    ):
        result = Run.objects.prune(30 * DAY)

    assert answers == [204]
    assert result.deleted == 4
    assert not left()


def test_requests_are_answered_between_batches(transactional_db, alice):
    runs = many(alice, 6)
    own = finished(alice, 1)
    token = token_of(alice)
    answers = []

    def over_http() -> list[int]:
        api = API()
        return [
            api.get(token=token).status_code,
            api.get(f"/{own.pk}", token=token).status_code,
            api.delete(f"/{runs[len(answers) * 2 + 3]}", token=token).status_code,
        ]

    Run.objects.prune(
        30 * DAY, batch_size=2, on_batch=lambda _: answers.append(in_another_thread(over_http))
    )

    assert answers[0] == [200, 200, 204]
    assert all(answer[:2] == [200, 200] for answer in answers)
    assert left() == {own.pk}


@pytest.mark.django_db(transaction=True)
def test_requests_are_answered_while_a_batch_is_deleted(alice):
    runs = many(alice, 4)
    own = finished(alice, 1)
    token = token_of(alice)
    answers = []

    def over_http() -> list[int]:
        api = API()
        answers = [api.get(token=token).status_code, api.get(f"/{own.pk}", token=token).status_code]
        if connection.features.has_select_for_update:  # else one writer at a time
            answers.append(api.delete(f"/{runs[3]}", token=token).status_code)
        return answers

    def in_the_first_batch(instance: Run, **kwargs: Any) -> None:
        if instance.pk == runs[0]:
            answers.extend(in_another_thread(over_http))

    pre_delete.connect(in_the_first_batch, sender=Run)
    try:
        Run.objects.prune(30 * DAY, batch_size=2)
    finally:
        pre_delete.disconnect(in_the_first_batch, sender=Run)

    assert answers in ([200, 200], [200, 200, 204])
    assert left() == {own.pk}


def test_a_request_waits_for_one_batch_and_no_more(transactional_db, alice):
    runs = many(alice, 6)
    token = token_of(alice)
    arrived = threading.Event()

    def tell_of_the_write(execute: Any, sql: str, *args: Any) -> Any:
        if is_a_write(sql):
            arrived.set()
        return execute(sql, *args)

    def delete_a_run_of_the_batch() -> int:
        try:
            with connection.execute_wrapper(tell_of_the_write):
                return delete_over_http(runs[1], token)
        finally:
            connections.close_all()

    answers = []

    def once_its_rows_are_locked(execute: Any, sql: str, *args: Any) -> Any:
        result = execute(sql, *args)
        if sql.startswith("DELETE") and not answers:
            answers.append(pool.submit(delete_a_run_of_the_batch))
            assert arrived.wait(TIMEOUT)
        return result

    # The second batch is not begun before the answer is there.
    with (
        ThreadPoolExecutor(max_workers=1) as pool,
        connection.execute_wrapper(once_its_rows_are_locked),
    ):
        Run.objects.prune(30 * DAY, batch_size=2, on_batch=lambda _: answers[0].result(TIMEOUT))

    assert answers[0].result() == 404
    assert not left()


def test_two_prunes_at_the_same_time_share_the_work(transactional_db, concurrently, alice, bob):
    for _ in range(ROUNDS):
        many(alice, 200)
        many(bob, 100)

        results = concurrently.all_at_once(
            lambda: Run.objects.prune(30 * DAY, batch_size=20),
            lambda: Run.objects.prune(30 * DAY, batch_size=30),
            lambda: Run.objects.filter(user=bob).prune(30 * DAY, batch_size=10),
            lambda: Run.objects.filter(user=alice).prune(30 * DAY, batch_size=10, keep_last=1),
        )

        assert sum(result.deleted for result in results) == 300
        assert not left()


def delete_each(run_ids: list[str], token: str) -> Counter[int]:
    return Counter(delete_over_http(run_id, token) for run_id in run_ids)


def resurrect_each(run_ids: list[str], resurrected: list[str]) -> None:
    for run_id in run_ids:
        run = Run.objects.filter(pk=run_id).first()
        if run is not None:
            try:
                run.transition_to(RunStatus.RUNNING)
            except InvalidTransition:
                continue  # it is deleted by now
            resurrected.append(run_id)


def test_prunes_beside_deletions_and_resurrections_lose_nothing_unfinished(
    transactional_db, concurrently, alice
):
    token = token_of(alice)
    for _ in range(ROUNDS):
        runs = many(alice, 120)
        resurrected: list[str] = []

        first, second, answers, _ = concurrently.all_at_once(
            lambda: Run.objects.prune(30 * DAY, batch_size=20),
            lambda: Run.objects.prune(30 * DAY, batch_size=7),
            partial(delete_each, runs[::-3], token),
            partial(resurrect_each, runs[1::3][::-1], resurrected),
        )

        assert left() == set(resurrected)
        assert set(answers) <= {204, 404}
        assert first.deleted + second.deleted + answers[204] + len(resurrected) == 120
        Run.objects.update(status=RunStatus.SUCCEEDED, finished_at=timezone.now())
        Run.objects.all().delete()


KILLED_IN_A_BATCH = """
import datetime, os, signal, sys
from django.db import connection
from actor_runs.models import Run

def die(execute, sql, params, many, context):
    result = execute(sql, params, many, context)
    if "actor_runs_run" in sql and sql.startswith("DELETE") and batches == [3, 6]:
        os.kill(os.getpid(), signal.SIGKILL)
    return result

batches = []
with connection.execute_wrapper(die):
    Run.objects.prune(
        datetime.timedelta(days=30),
        batch_size=3,
        on_batch=lambda result: batches.append(result.deleted),
    )
"""


def test_killed_in_a_batch_and_run_again_it_ends_like_an_undisturbed_prune(transactional_db, alice):
    runs = many(alice, 20)
    stays = finished(alice, 1)

    child = python(KILLED_IN_A_BATCH)

    assert child.returncode == -signal.SIGKILL, child.stderr
    assert left() == {*runs[6:], stays.pk}  # whole batches, and nothing of the third
    assert Run.objects.prune(30 * DAY).deleted == 14
    assert left() == {stays.pk}


# From Python


def test_two_owners_are_refused_from_python_too(alice):
    with pytest.raises(CommandError, match="exclude each other"):
        call_command("prune_actor_runs", older_than="1d", user="alice", organization="1")


def test_a_time_that_is_up_is_told(alice, settings):
    settings.DEBUG = True  # where Django keeps all queries, unless told not to
    many(alice, 3)
    line = prune("--older-than=1d", "--batch-size=1")
    assert line.startswith("Deleted 3 runs")
    out = StringIO()
    many(alice, 3)
    call_command(
        "prune_actor_runs", older_than="1d", max_runtime=timedelta(microseconds=1), stdout=out
    )
    assert "Stopped by --max-runtime: more runs are due." in out.getvalue()


def test_a_database_that_could_not_serve_is_asked_again(transactional_db, alice):
    many(alice, 3)
    failures = [OperationalError("deadlock")]

    def fail_once(**kwargs: Any) -> None:
        if failures:
            raise failures.pop()

    pre_delete.connect(fail_once, sender=Run)
    try:
        assert Run.objects.prune(30 * DAY).deleted == 3
    finally:
        pre_delete.disconnect(fail_once, sender=Run)
    assert not failures


@pytest.fixture
def conflicting(transactional_db, no_pauses):
    """IDs of runs whose every deletion meets a conflict."""
    with conflicts(pre_delete) as ids:
        yield ids


def test_runs_that_stay_locked_are_told_and_the_others_go(alice, conflicting):
    runs = many(alice, 9)
    conflicting.update(runs[2:4])

    result = Run.objects.prune(30 * DAY, batch_size=5)

    assert (result.deleted, result.locked, result.complete) == (7, 2, True)
    assert left() == conflicting
    with pytest.raises(
        CommandError, match=r"2 runs could not be locked\. .* run it again"
    ) as error:
        prune("--older-than=30d")
    assert error.value.returncode == 1


def test_a_database_that_never_serves_ends_the_prune(alice, conflicting, monkeypatch):
    monkeypatch.setattr(batches, "MAX_CONFLICTS_IN_A_ROW", 2)
    conflicting.update(many(alice, 9))

    with pytest.raises(OperationalError, match="deadlock"):
        Run.objects.prune(30 * DAY)

    assert left() == conflicting


def test_an_error_of_the_hosts_own_ends_the_prune(alice):
    def refuse(**kwargs: Any) -> None:
        raise IntegrityError("a rule of the host's")

    many(alice, 3)
    pre_delete.connect(refuse, sender=Run)
    try:
        with pytest.raises(IntegrityError, match="a rule of the host's"):
            Run.objects.prune(30 * DAY)
    finally:
        pre_delete.disconnect(refuse, sender=Run)
    assert Run.objects.count() == 3
