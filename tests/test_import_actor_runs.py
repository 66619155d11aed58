"""What goes in comes back over the API; what must not go in is named, and harms nothing else."""

from __future__ import annotations

import gzip
import io
import json
import logging
import os
import pty
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, connections

from actor_runs import sources
from actor_runs.exceptions import InvalidTransition
from actor_runs.importing import import_runs
from actor_runs.models import Run, RunStatus
from tests.commands import ROOT, environment, manage, python
from tests.conftest import API, token_of

PATIENCE = 60  # seconds, for what never comes
ROUNDS = 5

START = "2026-05-04T10:20:30.123Z"
END = "2026-05-04T10:24:38.595Z"

# Every key of the contract, with what the platform may put into it.
WHOLE: dict[str, Any] = {
    "id": "3KH8gEpp4d8uQSe8T",
    "actId": "HDSasDasz78YcAPEB",
    "userId": "7sT5jcggjjA9fNcxF",
    "actorTaskId": "KJHSKHausidyaJKHs",
    "startedAt": START,
    "finishedAt": END,
    "status": "FAILED",
    "statusMessage": "Žádná stránka: 404 \U0001f40d",
    "isStatusMessageTerminal": False,
    "meta": {
        "origin": "SCHEDULER",
        "clientIp": "198.51.100.7",
        "userAgent": "ApifyClient",
        "scheduleId": "7sT5jcggjjA9fNcxF",
        "scheduledAt": "2026-05-04T10:20:00.000Z",
        "unknown": {"deep": [1, None, True, 0.5]},
    },
    "pricingInfo": {
        "pricingModel": "PAY_PER_EVENT",
        "apifyMarginPercentage": 0.2,
        "createdAt": "2025-01-01T00:00:00.000Z",
        "startedAt": "2025-01-02T00:00:00.000Z",
        "minimalMaxTotalChargeUsd": 0.5,
        "pricingPerEvent": {
            "actorChargeEvents": {
                "result": {
                    "eventTitle": "Result",
                    "eventDescription": "One result",
                    "eventPriceUsd": 0.001,
                    "isPrimaryEvent": True,
                }
            }
        },
    },
    "stats": {
        "inputBodyLen": 240,
        "migrationCount": 0,
        "rebootCount": 0,
        "restartCount": 0,
        "resurrectCount": 1,
        "memAvgBytes": 267874071.9,
        "memMaxBytes": 404713472,
        "memCurrentBytes": 0,
        "cpuAvgUsage": 33.7532101107538,
        "cpuMaxUsage": 169.650735534941,
        "cpuCurrentUsage": 0,
        "netRxBytes": 103508042,
        "netTxBytes": 4854600,
        "durationMillis": 248472,
        "runTimeSecs": 248.472,
        "metamorph": 0,
        "computeUnits": 0.13804,
        "unknown": "kept",
    },
    "chargedEventCounts": {"result": 12},
    "options": {
        "build": "latest",
        "timeoutSecs": 300,
        "memoryMbytes": 1024,
        "diskMbytes": 2048,
        "maxItems": 10,
        "maxTotalChargeUsd": 5.5,
    },
    "buildId": "7sT5jcggjjA9fNcxA",
    "exitCode": 0,
    "generalAccess": "ANYONE_WITH_ID_CAN_READ",
    "defaultKeyValueStoreId": "eJNzqsbPiopwJcgGQ",
    "defaultDatasetId": "wmKPijuyDnPZAPRMk",
    "defaultRequestQueueId": "FL35cSF7jrxr3BY39",
    "storageIds": {"datasets": {"default": "wmKPijuyDnPZAPRMk"}},
    "buildNumber": "0.1.2",
    "containerUrl": "https://g8kd8kbc5ge8.runs.apify.net",
    "isContainerServerReady": True,
    "gitBranchName": "master",
    "usage": {"ACTOR_COMPUTE_UNITS": 3, "DATASET_WRITES": 4},
    "usageTotalUsd": 0.2654,
    "usageUsd": {"ACTOR_COMPUTE_UNITS": 0.0003, "DATASET_WRITES": 0.0001},
    "metamorphs": [
        {"createdAt": START, "actorId": "nspoEjklmnsF2oosD", "buildId": "ME6oKecqy5kXDS4KQ"}
    ],
    "platformUsageBillingModel": "USER",
}
# The same run in a list.
SHORT = {
    key: WHOLE[key]
    for key in (
        "id actId userId actorTaskId status startedAt finishedAt buildId buildNumber meta "
        "usageTotalUsd defaultKeyValueStoreId defaultDatasetId defaultRequestQueueId"
    ).split()
} | {"buildNumberInt": 100002}


def run_object(number: int = 0, /, **changes: Any) -> dict[str, Any]:
    """A run object with an ID of its own; a key that is changed to ... is left out."""
    changed = WHOLE | {"id": f"imported{number:09}"} | changes
    return {key: value for key, value in changed.items() if value is not ...}


def lines(*records: Any) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


@pytest.fixture
def export(tmp_path: Path) -> Any:
    """A function that writes a file, ``runs.jsonl`` unless told, and returns its path."""

    def export(content: str | bytes, name: str = "runs.jsonl") -> str:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return export


class Outcome:
    """What the command wrote, and its exit status."""

    def __init__(self, *arguments: str) -> None:
        out, err = StringIO(), StringIO()
        self.status = 0
        try:
            call_command("import_actor_runs", *arguments, stdout=out, stderr=err)
        except CommandError as exc:
            self.status = exc.returncode
            err.write(f"{exc}\n")
        self.out, self.err = out.getvalue(), err.getvalue()

    @property
    def figures(self) -> str:
        return self.out.splitlines()[-1].partition(" (")[0]


def figures(**numbers: int) -> str:
    """The last line, with these figures and zeros."""
    n = dict.fromkeys(["created", "updated", "unchanged", "older", "refused"], 0) | numbers
    total = sum(n.values()) - n["refused"]
    return (
        f"Imported {total} runs: {n['created']} created, {n['updated']} updated, "
        f"{n['unchanged']} unchanged, {n['older']} older than what is here. "
        f"{n['refused']} refused."
    )


def shown(api: Any, user: Any, run_id: str = WHOLE["id"]) -> Any:
    """The run as the API shows it to its owner, but for whose it is."""
    answer = api.get(f"/{run_id}", user=user)
    assert answer.status_code == 200, answer.content
    run = answer.json()["data"]
    del run["userId"]
    return run


def without_owner(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key != "userId"}


# What comes back


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("one.json", json.dumps(WHOLE)),
        ("answer.json", json.dumps({"data": WHOLE})),
        ("pretty.json", json.dumps({"data": WHOLE}, indent=2)),
        ("array.json", json.dumps([WHOLE])),
        ("pretty-array.json", json.dumps([WHOLE], indent=2)),
        ("array-of-lines.json", f"[\n{json.dumps(WHOLE)}\n]\n"),
        ("page.json", json.dumps({"data": {"total": 1, "items": [WHOLE]}})),
        ("lines.jsonl", lines(WHOLE)),
        ("windows.jsonl", "\ufeff" + lines(WHOLE).replace("\n", "\r\n\r\n")),
        ("lines.jsonl.gz", gzip.compress(lines(WHOLE).encode())),
    ],
)
def test_what_goes_in_comes_back_key_by_key(api, alice, export, name, content):
    outcome = Outcome(export(content, name), "--user", "alice")

    assert outcome.figures == figures(created=1)
    assert (outcome.status, outcome.err) == (0, "")
    assert shown(api, alice) == without_owner(WHOLE)


def test_a_line_of_a_list_comes_back_in_the_list(api, alice, export):
    Outcome(export(json.dumps({"data": {"items": [SHORT]}})), "--user", "alice")

    (item,) = api.get(user=alice).json()["data"]["items"]
    assert without_owner(item) == without_owner(SHORT)


def test_what_the_api_exports_here_can_be_imported_again(api, alice, export):
    run = Run.objects.create(user=alice, status=RunStatus.SUCCEEDED, exit_code=0)
    answer = api.get(f"/{run.pk}", user=alice)
    run_id = run.pk
    run.delete()

    assert Outcome(export(answer.content), "--user", "alice").figures == figures(created=1)
    assert api.get(f"/{run_id}", user=alice).json() == answer.json()


@pytest.mark.parametrize("status", [str(s) for s in Run.UNFINISHED])
def test_unfinished_runs_come_back_unfinished(api, alice, export, status):
    record = run_object(status=status, finishedAt=None)

    assert Outcome(export(lines(record)), "--user", "alice").figures == figures(created=1)
    assert shown(api, alice, record["id"]) == without_owner(record)


def test_times_are_taken_with_any_offset_and_kept_to_the_millisecond(api, alice, export):
    record = run_object(startedAt="2026-05-04T12:20:30.123999+02:00", finishedAt=END)
    Outcome(export(lines(record)), "--user", "alice")

    assert shown(api, alice, record["id"])["startedAt"] == START


@pytest.mark.parametrize(
    ("stats", "end"),
    [
        ({"durationMillis": 248472}, END),
        ({"durationMillis": 0}, START),
        ({}, START),
        ({"durationMillis": 2**62}, START),
    ],
)
def test_a_finished_run_without_an_end_ends_after_its_duration(api, alice, export, stats, end):
    for finished_at in (..., None):
        record = run_object(stats=stats, finishedAt=finished_at)
        assert Outcome(export(lines(record)), "--user", "alice").status == 0
    assert shown(api, alice, record["id"])["finishedAt"] == end


def test_runs_become_an_organizations(acme, export):
    Outcome(export(lines(WHOLE)), "--organization", str(acme.pk))

    assert Run.objects.get().organization == acme


def test_standard_input_is_a_file_too(transactional_db, alice):
    child = manage("import_actor_runs", "-", "--user", "alice", stdin=lines(WHOLE, run_object(1)))

    assert child.returncode == 0, child.stderr
    assert figures(created=2) in child.stdout
    assert Run.objects.filter(user=alice).count() == 2


def test_standard_input_may_be_closed(transactional_db, alice):
    child = subprocess.run(
        ["sh", "-c", 'exec "$0" -m django import_actor_runs - --user alice <&-', sys.executable],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )

    assert (child.returncode, child.stderr) == (2, "CommandError: Standard input is closed.\n")


def test_several_files_are_one_import(alice, export):
    one, two = export(lines(run_object(1)), "1.jsonl"), export(lines(run_object(2)), "2.jsonl")

    assert Outcome(one, two, one, "--user", "alice").figures == figures(created=2, unchanged=1)


# The same run again


def test_a_run_that_is_the_same_again_is_counted_unchanged(alice, export):
    path = export(lines(WHOLE, run_object(1), WHOLE))

    assert Outcome(path, "--user", "alice").figures == figures(created=2, unchanged=1)
    assert Outcome(path, "--user", "alice").figures == figures(unchanged=3)


@pytest.mark.parametrize("key", sorted(WHOLE.keys() - {"id", "userId", "status"}))
def test_each_key_that_changed_is_updated(api, alice, export, key):
    other = {
        "startedAt": "2026-05-04T10:20:31.000Z",
        "finishedAt": "2026-05-04T11:00:00.000Z",
        "meta": {"origin": "API"},
        "pricingInfo": ...,
        "options": WHOLE["options"] | {"timeoutSecs": 1},
        "stats": WHOLE["stats"] | {"netTxBytes": 1},
        "generalAccess": "RESTRICTED",
        "isStatusMessageTerminal": True,
        "isContainerServerReady": False,
        "exitCode": 1,
        "usageTotalUsd": 1.5,
        "buildNumber": "0.1.3",
        "metamorphs": [],
    }
    new = other.get(key, "https://example.com/changed" if key == "containerUrl" else "changed")
    if isinstance(WHOLE[key], dict) and key not in other:
        new = ...
    changed = run_object(id=WHOLE["id"], **{key: new})
    Outcome(export(lines(WHOLE)), "--user", "alice")

    outcome = Outcome(export(lines(changed)), "--user", "alice")

    assert outcome.figures == figures(updated=1)
    assert shown(api, alice) == without_owner(changed)


def test_the_later_of_two_records_of_a_run_counts(api, alice, export):
    changed = WHOLE | {"statusMessage": "Later."}

    outcome = Outcome(export(lines(WHOLE, changed)), "--user", "alice")

    assert outcome.figures == figures(created=1, updated=1)
    assert shown(api, alice)["statusMessage"] == "Later."


def test_a_whole_run_takes_away_what_it_does_not_have(api, alice, export):
    left_out = ["exitCode", "statusMessage", "usage", "containerUrl", "actorTaskId"]
    changed = run_object(id=WHOLE["id"], **dict.fromkeys(left_out, ...))
    Outcome(export(lines(WHOLE)), "--user", "alice")

    Outcome(export(lines(changed)), "--user", "alice")

    assert shown(api, alice) == without_owner(changed)


def test_a_line_of_a_list_leaves_what_lists_do_not_have(api, alice, export):
    Outcome(export(lines(WHOLE)), "--user", "alice")
    changed = SHORT | {"actorTaskId": None, "usageTotalUsd": 9}

    assert Outcome(export(lines(changed)), "--user", "alice").figures == figures(updated=1)
    expected = without_owner(WHOLE) | {"usageTotalUsd": 9}
    del expected["actorTaskId"]
    assert shown(api, alice) == expected


@pytest.mark.parametrize("before", [str(s) for s in RunStatus])
@pytest.mark.parametrize("after", [str(s) for s in RunStatus])
def test_a_status_may_change_in_any_way_but_back_from_finished(alice, export, before, after):
    ends = dict.fromkeys(Run.FINISHED, END)
    first, second = (run_object(status=s, finishedAt=ends.get(s)) for s in (before, after))
    Outcome(export(lines(first)), "--user", "alice")

    outcome = Outcome(export(lines(second)), "--user", "alice")

    goes_back = before in Run.FINISHED and after not in Run.FINISHED
    assert outcome.status == 0
    assert Run.objects.get().status == (before if goes_back else after)
    if goes_back:
        assert outcome.figures == figures(older=1)
        forced = Outcome(export(lines(second)), "--user", "alice", "--force")
        assert forced.figures == figures(updated=1)
        assert Run.objects.get().status == after
        assert Run.objects.get().finished_at is None


def test_a_resurrected_run_is_newer_than_the_finished_one(alice, export):
    finished = run_object(stats={"resurrectCount": 0})
    resurrected = run_object(stats={"resurrectCount": 1}, status="RUNNING", finishedAt=None)
    Outcome(export(lines(finished)), "--user", "alice")

    assert Outcome(export(lines(resurrected)), "--user", "alice").figures == figures(updated=1)
    assert Run.objects.get().status == RunStatus.RUNNING
    assert Outcome(export(lines(finished)), "--user", "alice").figures == figures(older=1)
    assert Run.objects.get().status == RunStatus.RUNNING


def test_an_object_that_was_read_before_the_import_is_outdated(alice, export):
    record = run_object(status="RUNNING", finishedAt=None)
    Outcome(export(lines(record)), "--user", "alice")
    read_before = Run.objects.get()
    Outcome(export(lines(run_object(status="FAILED"))), "--user", "alice")
    Outcome(export(lines(record)), "--user", "alice", "--force")

    with pytest.raises(InvalidTransition):
        read_before.transition_to(RunStatus.SUCCEEDED)


@pytest.mark.parametrize("arguments", [[], ["--force"]])
def test_another_owners_run_is_refused(api, alice, bob, acme, export, arguments):
    path = export(lines(WHOLE, run_object(1)))
    Outcome(path, "--user", "alice")
    changed = export(lines(WHOLE | {"statusMessage": "Taken."}, run_object(2)), "changed.jsonl")

    for owner in (["--user", "bob"], ["--organization", str(acme.pk)]):
        outcome = Outcome(changed, *owner, *arguments)
        assert outcome.status == 1
        assert f"{changed}:1: id: A run with this ID belongs to another owner." in outcome.err
    assert shown(api, alice) == without_owner(WHOLE)
    assert Run.objects.get(pk=run_object(2)["id"]).user == bob


def test_a_dry_run_writes_nothing(alice, bob, export):
    Outcome(export(lines(WHOLE, run_object(1))), "--user", "alice")
    path = export(lines(WHOLE, run_object(1, exitCode=9), run_object(2), {"id": 1}))
    before = list(Run.objects.order_by("pk").values())

    outcome = Outcome(path, "--user", "alice", "--dry-run")

    expected = figures(created=1, updated=1, unchanged=1, refused=1)
    assert outcome.figures == expected.replace("Imported", "Would import")
    assert outcome.status == 1
    assert list(Run.objects.order_by("pk").values()) == before


def test_upper_and_lower_case_are_two_runs(alice, export):
    path = export(lines(run_object(id="abc"), run_object(id="ABC")))

    assert Outcome(path, "--user", "alice").figures == figures(created=2)
    assert Outcome(path, "--user", "alice").figures == figures(unchanged=2)


# Bad records


BAD_RECORDS = [
    ({"id": ...}, "id: "),
    ({"id": None}, "id: "),
    ({"id": 5}, "id: "),
    ({"id": "x" * 33}, "id: "),
    ({"id": "a/b"}, "id: "),
    ({"actId": ...}, "actId: "),
    ({"status": ...}, "status: "),
    ({"status": "DONE"}, "status: "),
    ({"status": ["FAILED"]}, "status: "),
    ({"startedAt": ...}, "startedAt: "),
    ({"startedAt": "yesterday"}, "startedAt: "),
    ({"startedAt": "2026-05-04T10:20:30"}, "startedAt: "),
    ({"startedAt": 1777890030}, "startedAt: "),
    ({"finishedAt": "0001-01-01T00:00:00+02:00"}, "finishedAt: "),
    ({"status": "RUNNING"}, "finishedAt: "),
    ({"buildId": ...}, "buildId: "),
    ({"buildNumber": "1"}, "buildNumber: "),
    ({"defaultDatasetId": ...}, "defaultDatasetId: "),
    ({"exitCode": "0"}, "exitCode: "),
    ({"exitCode": 2**31}, "exitCode: "),
    ({"generalAccess": "ALL"}, "generalAccess: "),
    ({"meta": ...}, "meta: "),
    ({"meta": {}}, "meta.origin: "),
    ({"meta": {"origin": "API", "x": "\ud800"}}, "meta.x: "),
    ({"options": {}}, "options.build: "),
    ({"options": WHOLE["options"] | {"memoryMbytes": 1}}, "options.memoryMbytes: "),
    ({"stats": {"netRxBytes": -1}}, "stats.netRxBytes: "),
    ({"usageTotalUsd": "1"}, "usageTotalUsd: "),
    ({"usageUsd": {"DATASET_READS": True}}, "usageUsd.DATASET_READS: "),
    ({"chargedEventCounts": {"a": 0.5}}, "chargedEventCounts.a: "),
    ({"metamorphs": [{}]}, "metamorphs[0].createdAt: "),
    ({"containerUrl": "/run"}, "containerUrl: "),
    ({"statusMessage": "\x00"}, "statusMessage: "),
]


@pytest.mark.parametrize(("changes", "reason"), BAD_RECORDS)
def test_a_bad_record_is_named_and_the_good_ones_go_in(alice, export, changes, reason):
    path = export(lines(run_object(1), run_object(0, **changes), run_object(2)))

    outcome = Outcome(path, "--user", "alice")

    assert f"{path}:2: {reason}" in outcome.err
    assert outcome.err.count(path) == 1
    assert outcome.figures == figures(created=2, refused=1)
    assert outcome.status == 1
    assert Run.objects.count() == 2


def test_all_that_is_wrong_with_a_record_is_told(alice, export):
    path = export(lines(run_object(exitCode="0", buildNumber="1")))

    err = Outcome(path, "--user", "alice").err

    assert "exitCode: " in err
    assert "buildNumber: " in err


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b'{"id": "truncated',
        b'{"id": }',
        b"{}{}",
        b'{"id": NaN}',
        b'{"id": "\xff"}',
        b'{"id": ' + b"9" * 5000 + b"}",
        b'{"id": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b"[1]",
        b'{"data": null}',
        b'{"data": {"items": ["run"]}}',
    ],
)
def test_a_broken_line_is_named_and_the_others_go_in(alice, export, line):
    content = lines(run_object(1)).encode() + line + b"\n" + lines(run_object(2)).encode()
    path = export(content)

    outcome = Outcome(path, "--user", "alice")

    assert outcome.figures == figures(created=2, refused=1), outcome.err
    assert outcome.err.count(f"{path}:2") == 1
    assert outcome.status == 1


@pytest.mark.parametrize(
    ("content", "where"),
    [
        (json.dumps([run_object(1), {"id": 2}, run_object(3)]), ":1[1]: actId: "),
        (json.dumps({"data": {"items": [run_object(1), 2, run_object(3)]}}), ":1[1]: "),
        ("\n\n" + lines(run_object(1), {"id": 2}, run_object(3)), ":4: actId: "),
    ],
)
def test_a_bad_record_is_named_by_its_line_or_its_index(alice, export, content, where):
    path = export(content)

    assert f"{path}{where}" in Outcome(path, "--user", "alice").err
    assert Run.objects.count() == 2


@pytest.mark.parametrize(
    "content",
    [
        "id,status\n1,SUCCEEDED\n2,FAILED\n",
        json.dumps([WHOLE, run_object(1)], indent=1)[:-20],
        json.dumps({"data": WHOLE}, indent=1).replace('"FAILED"', "FAILED"),
    ],
)
def test_a_document_that_is_broken_is_told_once(alice, export, content):
    path = export(content)

    outcome = Outcome(path, "--user", "alice")

    assert outcome.err.count(path) == 1
    assert outcome.figures == figures(refused=1)
    assert outcome.status == 1


def test_an_empty_file_is_no_error(alice, export):
    assert Outcome(export("\n"), "--user", "alice").figures == figures()


def test_unknown_keys_are_ignored_and_counted_once_per_name(api, alice, export):
    path = export(lines(*(run_object(n, new=n, **{"line\nfeed": 1}) for n in range(3))))

    outcome = Outcome(path, "--user", "alice")

    assert outcome.out.count("the unknown key new of 3 runs") == 1
    assert outcome.out.count(r"the unknown key line\u000afeed of 3 runs") == 1
    assert outcome.status == 0
    assert "new" not in shown(api, alice, run_object(0)["id"])


def test_any_number_of_unknown_keys_is_counted_in_bounded_memory(alice):
    records = enumerate(run_object(n, **{f"unknown{n}": n}) for n in range(150))

    result = import_runs(records, user=alice)

    assert result.created == 150
    assert len(result.ignored) == 101
    assert result.ignored["..."] == 50


def test_what_a_record_holds_cannot_disturb_the_terminal(alice, export):
    key = "\x1b[2J\ud800\n" + "x" * 5000
    path = export(lines(run_object(meta={"origin": "API", key: "\ud800"})))

    err = Outcome(path, "--user", "alice").err

    err.encode()
    assert err.replace("\n", "").isprintable()
    assert len(err) < 1000 + len(path)


def test_a_truncated_gzip_is_named_after_its_whole_lines_are_in(alice, export):
    records = [run_object(n, statusMessage=os.urandom(500).hex()) for n in range(60)]
    path = export(gzip.compress(lines(*records).encode())[:-20_000], "runs.jsonl.gz")

    outcome = Outcome(path, "--user", "alice")

    imported = Run.objects.count()
    assert 0 < imported < 60
    assert outcome.figures == figures(created=imported, refused=1)
    assert f"{path}:{imported + 1}: " in outcome.err
    assert outcome.status == 1


@pytest.mark.parametrize("content", [b"\x1f\x8b no gzip", b"plain\n"])
def test_what_is_no_gzip_is_named(alice, export, content):
    path = export(content, "runs.jsonl.gz")

    outcome = Outcome(path, "--user", "alice")

    assert outcome.err.count(path) == 1
    assert outcome.status == 1


IMPORT_AND_TELL_MEMORY = """
import resource, sys
from django.core.management import CommandError, call_command
try:
    call_command("import_actor_runs", sys.argv[1], user="alice")
except CommandError:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def test_a_line_of_two_gigabytes_is_refused_without_being_read_into_memory(
    transactional_db, alice, tmp_path
):
    path = tmp_path / "runs.jsonl"
    with path.open("wb") as file:
        file.write(lines(run_object(1)).encode() + b'{"id": "')
        file.seek(2 * 1024**3)  # a hole, which takes no room on the disk
        file.write(b"\n" + lines(run_object(2)).encode())

    child = python(IMPORT_AND_TELL_MEMORY, str(path))

    assert figures(created=2, refused=1) in child.stdout
    assert f"{path}:2: " in child.stderr
    assert "Traceback" not in child.stderr
    assert int(child.stdout.split()[-1]) < 400 * 1024**2


# Bad arguments: one message, nothing done


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{runs}", "--user", "nobody"], "There is no user 'nobody'."),
        (["{runs}", "--organization", "nothing"], "There is no organization 'nothing'."),
        (["{runs}", "--organization", "9" * 30], "There is no organization '999"),
        (["{runs}"], "one of the arguments --user --organization is required"),
        (["{runs}", "--user", "alice", "--organization", "1"], "not allowed with argument"),
        (["--user", "alice"], "Name a file to import"),
        (["{runs}", "{folder}/missing.jsonl", "--user", "alice"], "missing.jsonl: No such file"),
        (["{runs}", "{folder}", "--user", "alice"], "This is a directory."),
        (["{runs}", "--user", "alice", "--since", "2026-01-01"], "--since goes with"),
        (["{runs}", "--user", "alice", "--status", "FAILED"], "--status goes with"),
        (["{runs}", "--user", "alice", "--base-url", "http://localhost"], "--base-url goes with"),
        (["{runs}", "--user", "alice", "--from-platform"], "not both"),
        (["--user", "alice", "--from-platform"], "Set the variable APIFY_TOKEN"),
        (["--user", "alice", "--from-platform", "--since", "soon"], "must be a time like"),
        (["--user", "alice", "--from-platform", "--since", "2026-13-01"], "must be a time like"),
        (["--user", "alice", "--from-platform", "--status", "DONE"], "invalid choice"),
        (["--user", "alice", "--from-platform", "--base-url", "apify"], "must be a URL like"),
        (["--user", "alice", "--from-platform", "--base-url", "http://:x"], "must be a URL like"),
        (["--user", "alice", "--from-platform", "--base-url", "http://["], "must be a URL like"),
    ],
)
def test_bad_arguments_are_told_in_one_message(
    alice, export, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.delenv("APIFY_TOKEN", raising=False)
    runs = export(lines(WHOLE))

    outcome = Outcome(*(a.format(runs=runs, folder=tmp_path) for a in arguments))

    assert message in outcome.err
    assert outcome.out == ""
    assert outcome.status != 0
    assert not Run.objects.exists()


def test_cron_is_told_by_the_exit_status(transactional_db, alice, export):
    good = export(lines(WHOLE))
    bad = export(lines(WHOLE, {}), "bad.jsonl")

    assert manage("import_actor_runs", good, "--user", "alice").returncode == 0
    assert manage("import_actor_runs", bad, "--user", "alice").returncode == 1
    for arguments in (["missing", "--user", "alice"], [good, "--user", "nobody"], [good]):
        child = manage("import_actor_runs", *arguments)
        assert child.returncode == 2
        assert child.stderr.splitlines()[-1:], child.stderr
        assert "Traceback" not in child.stderr


def test_verbosity_0_says_nothing_but_what_is_wrong(alice, export):
    path = export(lines(WHOLE, {"id": "x"}, run_object(new=1)))

    outcome = Outcome(path, "--user", "alice", "--verbosity", "0")

    assert outcome.out == ""
    assert f"{path}:2: " in outcome.err


def test_verbosity_2_tells_of_each_batch(alice, export):
    path = export(lines(*(run_object(n) for n in range(501))))

    out = Outcome(path, "--user", "alice", "--verbosity", "2").out

    assert figures(created=500) in out.splitlines()


# As a function


def test_python_imports_run_objects_by_the_same_rules(api, alice):
    bad: list[tuple[Any, str]] = []

    result = import_runs(
        enumerate([WHOLE, run_object(1), {}]),
        user=alice,
        on_refused=lambda place, reason: bad.append((place, reason)),
    )

    assert (result.created, result.refused) == (2, 1)
    assert [place for place, reason in bad] == [2]
    assert shown(api, alice) == without_owner(WHOLE)


def test_python_is_told_of_bad_records_in_the_log(alice, caplog):
    with caplog.at_level(logging.WARNING, "actor_runs"):
        import_runs([("here", {})], user=alice)

    assert "here: id: " in caplog.text


@pytest.mark.parametrize("both", [True, False])
def test_python_must_name_exactly_one_owner(alice, acme, both):
    owner = {"user": alice, "organization": acme} if both else {}
    with pytest.raises(ValueError, match="exactly one owner"):
        import_runs([], **owner)


def test_what_came_before_an_exception_of_the_source_is_in(alice):
    def records():
        yield 0, run_object(0)
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        import_runs(records(), user=alice)

    assert Run.objects.count() == 1


def test_progress_is_told_after_each_batch(alice):
    numbers: list[int] = []

    import_runs(
        enumerate(run_object(n) for n in range(1001)),
        user=alice,
        on_batch=lambda result: numbers.append(result.created),
    )

    assert numbers == [500, 1000, 1001]


def test_batches_are_small_where_runs_are_large(alice):
    numbers: list[int] = []

    import_runs(
        enumerate(run_object(n, statusMessage="x" * 1_000_000) for n in range(4)),
        user=alice,
        on_batch=lambda result: numbers.append(result.created),
    )

    assert numbers == [3, 4]


def test_an_import_takes_few_queries_however_many_runs(alice, django_assert_max_num_queries):
    records = [run_object(n) for n in range(500)]
    changed = [run_object(n, exitCode=7) for n in range(500)]

    for batch in (records, changed, changed):
        with django_assert_max_num_queries(30):  # SQLite inserts some dozens at once
            import_runs(enumerate(batch), user=alice)


# Beside others


OLDER = run_object(status="RUNNING", finishedAt=None)


@pytest.fixture
def running(transactional_db, alice):
    """The run that the records of these tests are about, at work."""
    import_runs([(0, OLDER)], user=alice)
    return Run.objects.get()


def test_what_happens_to_a_run_while_its_record_is_read_is_not_undone(running, alice):
    def records():
        yield 0, OLDER | {"statusMessage": "Older."}
        Run.objects.get().transition_to(RunStatus.SUCCEEDED, exit_code=0)

    result = import_runs(records(), user=alice)

    running.refresh_from_db()
    assert result.older == 1
    assert running.status == RunStatus.SUCCEEDED
    assert running.status_message != "Older."


@pytest.fixture
def at_once(transactional_db):
    """A function that calls functions at the same time; it returns what each returned or raised."""
    with ThreadPoolExecutor(max_workers=8) as pool:

        def at_once(*calls):
            barrier = threading.Barrier(len(calls))

            def call_with_a_connection_of_its_own(call):
                barrier.wait(PATIENCE)
                try:
                    return call()
                except Exception as exc:
                    return exc
                finally:
                    connections.close_all()

            futures = [pool.submit(call_with_a_connection_of_its_own, call) for call in calls]
            return [future.result(PATIENCE) for future in futures]

        yield at_once


def test_a_transition_at_the_same_time_is_not_lost(at_once, running, alice):
    stopping = OLDER | {"status": "TIMING-OUT"}
    for _ in range(ROUNDS):
        import_runs([(0, OLDER)], user=alice, force=True)
        run = Run.objects.get()

        imported, moved = at_once(
            lambda: import_runs([(0, stopping)], user=alice),
            lambda run=run: run.transition_to(RunStatus.SUCCEEDED),
        )

        # Either the import came first, and the object was outdated, or it came too late.
        status = Run.objects.get().status
        if isinstance(moved, InvalidTransition):
            assert (imported.updated, status) == (1, "TIMING-OUT")
        else:
            assert (imported.older, moved, status) == (1, None, "SUCCEEDED")


def test_two_imports_at_the_same_time_create_each_run_once(at_once, alice):
    records = list(enumerate(run_object(n) for n in range(700)))

    results = at_once(
        lambda: import_runs(records, user=alice),
        lambda: import_runs(records[::-1], user=alice),
        lambda: import_runs(records, user=alice),
    )

    assert sum(result.created for result in results) == 700
    assert sum(result.unchanged for result in results) == 1400
    assert Run.objects.count() == 700


def test_imports_prunes_and_deletions_at_the_same_time_do_not_hinder_each_other(
    at_once, api, alice
):
    token = token_of(alice)
    records = list(enumerate(run_object(n) for n in range(300)))
    ids = [record["id"] for _, record in records]

    def delete_over_http():
        client = API()
        return {client.delete(f"/{run_id}", token=token).status_code for run_id in ids[::7]}

    for _ in range(ROUNDS):
        results = at_once(
            lambda: import_runs(records, user=alice),
            lambda: Run.objects.prune(timedelta(0), batch_size=50),
            lambda: import_runs(records[::-1], user=alice),
            lambda: Run.objects.filter(pk__in=ids).delete_finished(),
            delete_over_http,
        )
        assert not [result for result in results if isinstance(result, Exception)]
        assert results[-1] <= {204, 404}


KILLED_IN_ITS_SECOND_BATCH = """
import json, os, signal, sys
from django.contrib.auth import get_user_model
from django.db import connection
from actor_runs.importing import import_runs

inserted = 0

def die(execute, sql, params, many, context):
    global inserted
    result = execute(sql, params, many, context)
    if sql.startswith("INSERT"):
        inserted += 1
        if inserted == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
    return result

records = [json.loads(line) for line in open(sys.argv[1])]
with connection.execute_wrapper(die):
    import_runs(enumerate(records), user=get_user_model().objects.get())
"""


def test_killed_and_run_again_it_ends_like_an_undisturbed_import(transactional_db, alice, export):
    records = [run_object(n) for n in range(1200)]
    path = export(lines(*records))
    insertions = CaptureInsertions()
    with connection.execute_wrapper(insertions):
        import_runs(enumerate(records), user=alice)
    undisturbed = list(Run.objects.order_by("pk").values())
    Run.objects.all().delete()

    child = python(KILLED_IN_ITS_SECOND_BATCH, path, str(insertions.count // 2 + 1))

    assert child.returncode == -signal.SIGKILL, child.stderr
    assert Run.objects.count() == 500  # the first batch, whole, and nothing of the second
    assert Outcome(path, "--user", "alice").figures == figures(created=700, unchanged=500)
    assert list(Run.objects.order_by("pk").values()) == undisturbed


class CaptureInsertions:
    """Counts statements that insert: SQLite takes only so many rows in one."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, execute: Any, sql: str, *args: Any) -> Any:
        self.count += sql.startswith("INSERT")
        return execute(sql, *args)


def test_ctrl_c_ends_it_with_one_line(transactional_db, alice, export):
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
        child.stdin.write(lines(*(run_object(n) for n in range(600))))
        child.stdin.flush()
        assert figures(created=500) in child.stdout.readline()

        child.send_signal(signal.SIGINT)
        err = child.communicate(timeout=PATIENCE)[1]

    assert child.returncode == 130
    assert "Interrupted. What was done stays" in err
    assert "Traceback" not in err
    assert Run.objects.count() == 500


@pytest.mark.parametrize("refused", [0, 1])
def test_a_terminal_gets_a_bar(transactional_db, alice, export, refused):
    path = export(lines(*(run_object(n) for n in range(600))) + "{\n" * refused)
    primary, secondary = pty.openpty()

    child = subprocess.run(
        [sys.executable, "-m", "django", "import_actor_runs", path, "--user", "alice"],
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=secondary,
        timeout=PATIENCE,
    )
    os.close(secondary)
    shown = os.read(primary, 100_000).decode()
    os.close(primary)

    assert child.returncode == refused
    assert f"[{'.' * 75}]" in shown
    assert shown.splitlines()[-1].startswith(figures(created=600, refused=refused))


def test_an_owner_who_is_gone_is_told_for_each_run(transactional_db, alice):
    alice.actor_runs.all().delete()
    type(alice).objects.filter(pk=alice.pk).delete()
    refused: list[tuple[Any, str]] = []
    records = enumerate([run_object(0), run_object(1)])
    result = import_runs(
        records, user=alice, on_refused=lambda place, reason: refused.append((place, reason))
    )
    assert (result.created, result.refused) == (0, 2)
    assert [place for place, _ in refused] == [0, 1]
    assert not Run.objects.exists()


def test_a_document_over_many_lines_is_bounded_too(transactional_db, alice, monkeypatch):
    monkeypatch.setattr(sources, "MOST_BYTES", 60)
    stream = io.BytesIO(b'{"id":\n' + b'"x",\n' * 20 + b'{"id": "next"}\n')
    (place, refused), (_, record) = sources.read_export(stream, "runs.json")
    assert place == "runs.json:1"
    assert "larger than" in str(refused)
    assert record == {"id": "next"}
