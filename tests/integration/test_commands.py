"""What the three commands share: exit statuses, verbosity, progress bars, signals."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection
from django.utils import timezone

from actor_runs.models import Run
from tests.support.commands import (
    ROOT,
    TIMEOUT,
    Outcome,
    environment,
    manage,
    python,
    shown_on_a_terminal,
)
from tests.support.runs import run_object

OLD = ["--older-than", "1d"]
# Each command, and how its last line begins if it works on two runs.
COMMANDS = [
    ("import_actor_runs", "Imported 2 runs: 2 created"),
    ("prune_actor_runs", "Deleted 2 runs"),
    ("time_out_actor_runs", "Ended 2 runs"),
]


def lines(*records: Any) -> str:
    return "".join(f"{json.dumps(record)}\n" for record in records)


def make_old_runs(owner: Any, count: int) -> None:
    """Make finished and unfinished runs, so many of each, for the commands to prune and to end."""
    moment = timezone.now() - timedelta(days=2)
    for _ in range(count):
        Run.objects.create(user=owner, status="FAILED", started_at=moment, finished_at=moment)
        Run.objects.create(user=owner, status="RUNNING", started_at=moment)


@pytest.fixture
def arguments(alice, tmp_path):
    """The arguments of each command, with two runs to work on."""
    make_old_runs(alice, 2)
    path = tmp_path / "runs.jsonl"
    path.write_text(lines(run_object(id="one"), run_object(id="two")))
    return {"prune_actor_runs": OLD, "time_out_actor_runs": OLD} | {
        "import_actor_runs": [str(path), "--user", "alice"]
    }


@pytest.mark.parametrize(
    ("command", "status", "out", "err"),
    [
        (["prune_actor_runs", *OLD, "--max-runtime", "90s"], 0, ["Deleted 2 runs"], []),
        (
            ["import_actor_runs", "-", "--user", "alice"],
            1,
            ["Imported 1 run: 1 created"],
            ["-:2: id: ", "CommandError: 1 record was refused."],
        ),
    ],
)
def test_a_command_in_cron_has_an_exit_status_and_quiet_output(
    transactional_db, alice, command, status, out, err
):
    make_old_runs(alice, 2)
    child = manage(*command, stdin=lines(run_object(), {}))
    assert child.returncode == status
    for written, expected in [(child.stdout, out), (child.stderr, err)]:
        for line, beginning in zip(written.splitlines(), expected, strict=True):
            assert line.startswith(beginning)


@pytest.mark.parametrize(("command", "done"), COMMANDS)
def test_each_command_prints_its_figures(arguments, command, done):
    outcome = Outcome(command, *arguments[command])
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.figures.startswith(done)


@pytest.mark.parametrize(("command", "done"), COMMANDS)
def test_a_command_at_verbosity_0_prints_nothing(arguments, command, done):
    outcome = Outcome(command, *arguments[command], "--verbosity", "0")
    assert (outcome.status, outcome.out, outcome.err) == (0, "", "")


@pytest.mark.parametrize(("command", "done"), COMMANDS)
def test_a_command_whose_output_is_closed_does_its_work(transactional_db, arguments, command, done):
    for older_than, status in [(arguments[command], 0), ([*arguments[command], "--user", "x"], 2)]:
        child = subprocess.run(
            ["sh", "-c", 'exec "$0" -m django "$@" >&- 2>&-', sys.executable, command, *older_than],
            cwd=ROOT,
            env=environment(),
            timeout=TIMEOUT,
        )
        assert child.returncode == status


@pytest.mark.parametrize(("command", "done"), COMMANDS)
def test_an_unknown_owner_is_a_usage_error(arguments, command, done):
    outcome = Outcome(command, *arguments[command], "--user", "nobody")
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err == "There is no user 'nobody'.\n"


@pytest.mark.parametrize("command", ["prune_actor_runs", "time_out_actor_runs"])
@pytest.mark.parametrize("status", ["FAILD", ["RUNNING", "FAILED"]])
def test_a_status_given_to_call_command_is_checked(alice, command, status):
    with pytest.raises(CommandError, match="--status must be one of") as error:
        call_command(command, older_than="1h", status=status)
    assert error.value.returncode == 2


@pytest.mark.parametrize("command", ["prune_actor_runs", "time_out_actor_runs"])
def test_a_batch_size_given_to_call_command_is_checked(db, command):
    with pytest.raises(ValueError, match="batch_size must be from 1 to 10000"):
        call_command(command, older_than="1h", batch_size=0)


@pytest.mark.parametrize(("command", "done"), COMMANDS)
def test_a_command_on_a_terminal_shows_a_progress_bar(arguments, command, done):
    status, shown = shown_on_a_terminal(command, *arguments[command])
    assert status == 0
    assert f"[{'.' * 75}]" in shown
    assert shown.splitlines()[-1].startswith(done)


def test_a_progress_bar_stays_short_if_runs_are_kept(arguments):
    status, shown = shown_on_a_terminal("prune_actor_runs", *OLD, "--keep-last", "1")
    assert status == 0
    assert f"[{'.' * 75}]" not in shown
    assert shown.splitlines()[-1].startswith("Deleted 1 run")


def test_a_progress_bar_goes_on_after_an_error(arguments):
    path, *owner = arguments["import_actor_runs"]
    with open(path, "a") as file:
        file.write("{\n")
    status, shown = shown_on_a_terminal("import_actor_runs", path, *owner)
    assert status == 1
    assert f"[{'.' * 75}]" in shown
    assert shown.splitlines()[-1].startswith("Imported 2 runs")


@pytest.mark.parametrize(("command", "done"), COMMANDS)
def test_a_command_reports_a_database_error_in_one_line(arguments, command, done):
    def fail(*args: Any) -> None:
        raise DatabaseError("out of order\nand more")

    with connection.execute_wrapper(fail):
        outcome = Outcome(command, *arguments[command])
    assert outcome.status == 1
    assert outcome.err == (
        "The database failed: out of order. What was done stays; run it again for the rest.\n"
    )


@pytest.mark.parametrize(("command", "done"), COMMANDS)
def test_a_command_without_its_table_asks_for_migrate(arguments, command, done):
    def read_another(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        return execute("SELECT 1 FROM not_there", (), many, context)

    with connection.execute_wrapper(read_another):
        outcome = Outcome(command, *arguments[command])
    assert outcome.status == 1
    assert outcome.err.startswith("The database failed: ")
    assert "not_there" in outcome.err
    assert outcome.err.endswith(
        " Has migrate been run? What was done stays; run it again for the rest.\n"
    )


STOPPED_AT_THE_THIRD_RUN = """
import os, signal, sys
from django.core.management import execute_from_command_line
from django.db.models.signals import post_delete
from actor_runs.models import Run
from actor_runs.signals import run_status_changed

done = []

def stop(**kwargs):
    done.append(1)
    if len(done) == 3:
        os.kill(os.getpid(), getattr(signal, sys.argv[1]))

# A shell's background jobs begin with this signal ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
post_delete.connect(stop, sender=Run)
run_status_changed.connect(stop)
execute_from_command_line(["manage.py", *sys.argv[2:]])
"""
INTERRUPTED = "CommandError: Interrupted. What was done stays; run it again for the rest.\n"


@pytest.mark.parametrize(
    ("name", "status", "command", "finished"),
    [
        ("SIGINT", 130, ["prune_actor_runs", *OLD, "--batch-size", "2"], 3),
        ("SIGTERM", 143, ["time_out_actor_runs", *OLD], 8),
    ],
)
def test_a_signal_ends_a_command_with_one_line_after_whole_transactions(
    transactional_db, alice, name, status, command, finished
):
    make_old_runs(alice, 5)
    child = python(STOPPED_AT_THE_THIRD_RUN, name, *command)
    assert child.returncode == status
    assert child.stderr == INTERRUPTED
    assert Run.objects.finished().count() == finished


def test_ctrl_c_ends_an_import_that_waits_for_its_input(transactional_db, alice):
    child = subprocess.Popen(
        [sys.executable, "-m", "django", "import_actor_runs", "-", "--user", "alice", "-v", "2"],
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background jobs begin with this signal ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    with child:
        # They are so large that three make a batch.
        records = [run_object(id=f"run{n}", statusMessage="x" * 1_000_000) for n in range(4)]
        child.stdin.write(lines(*records))
        child.stdin.flush()
        assert child.stdout.readline().startswith("Imported 3 runs: 3 created")

        child.send_signal(signal.SIGINT)
        err = child.communicate(timeout=TIMEOUT)[1]

    assert child.returncode == 130
    assert err == INTERRUPTED
    assert Run.objects.count() == 3
