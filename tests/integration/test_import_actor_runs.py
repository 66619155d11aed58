"""What goes in comes back over the API; what must not go in is named, and harms nothing else."""

from __future__ import annotations

import gzip
import itertools
import json
import logging
import os
import signal
import subprocess
import sys
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection, transaction

from actor_runs.exceptions import InvalidTransition
from actor_runs.importing import import_runs
from actor_runs.logs import counted
from actor_runs.models import Run, RunStatus
from actor_runs.signals import run_status_changed
from tests.support import runs
from tests.support.api import API
from tests.support.commands import PRINT_MEMORY, ROOT, TIMEOUT, Outcome, environment, python
from tests.support.people import token_of

ROUNDS = 2

START = "2026-05-04T10:20:30.123Z"
END = "2026-05-04T10:24:38.595Z"

# Every key of the contract, with what the platform may put into it.
FULL_RUN = runs.run_object(
    userId="7sT5jcggjjA9fNcxF",
    startedAt=START,
    finishedAt=END,
    isStatusMessageTerminal=False,
    exitCode=0,
    isContainerServerReady=True,
    meta=runs.FULL["meta"] | {"unknown": {"deep": [1, None, True, 0.5]}},
    stats=runs.FULL["stats"] | {"unknown": "kept"},
    pricingInfo={
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
)
# The same run in a list.
SHORT_RUN = {
    key: FULL_RUN[key]
    for key in (
        "id actId userId actorTaskId status startedAt finishedAt buildId buildNumber meta "
        "usageTotalUsd defaultKeyValueStoreId defaultDatasetId defaultRequestQueueId"
    ).split()
} | {"buildNumberInt": 100002}


def run_object(number: int = 0, /, **changes: Any) -> dict[str, Any]:
    """A run object with an ID of its own; a key that is changed to ... is left out."""
    changed = FULL_RUN | {"id": f"imported{number:09}"} | changes
    return {key: value for key, value in changed.items() if value is not ...}


def short_object(number: int) -> dict[str, Any]:
    """A run as lists have it, with an ID of its own: its import takes half the time."""
    return SHORT_RUN | {"id": f"imported{number:09}"}


def lines(*records: Any) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def at(number: int, status: str) -> tuple[int, dict[str, Any]]:
    ends = dict.fromkeys(Run.FINISHED, END)
    return number, run_object(number, status=status, finishedAt=ends.get(status))


@pytest.fixture
def export(tmp_path: Path) -> Any:
    """A function that writes a file, ``runs.jsonl`` unless told, and returns its path."""

    def export(content: str | bytes, name: str = "runs.jsonl") -> str:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return export


import_files = partial(Outcome, "import_actor_runs")


def figures(**numbers: int) -> str:
    """The last line, with these figures and zeros."""
    n = dict.fromkeys(["created", "updated", "unchanged", "older", "refused"], 0) | numbers
    total = counted(sum(n.values()) - n["refused"], "run")
    return (
        f"Imported {total}: {n['created']} created, {n['updated']} updated, "
        f"{n['unchanged']} unchanged, {n['older']} older than what is here. "
        f"{n['refused']} refused."
    )


def shown(api: Any, user: Any, run_id: str = FULL_RUN["id"]) -> Any:
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
        ("lines.jsonl", lines(FULL_RUN)),
        ("page.json", json.dumps({"data": {"total": 1, "items": [FULL_RUN]}}, indent=2)),
        ("webhook.jsonl", lines({"eventType": "ACTOR.RUN.FAILED", "resource": FULL_RUN})),
        ("windows.jsonl.gz", gzip.compress(f"\ufeff{json.dumps(FULL_RUN)}\r\n\r\n".encode())),
    ],
)
def test_what_goes_in_comes_back_key_by_key(api, alice, export, name, content):
    outcome = import_files(export(content, name), "--user", "alice")

    assert outcome.figures == figures(created=1)
    assert (outcome.status, outcome.err) == (0, "")
    assert shown(api, alice) == without_owner(FULL_RUN)


def test_an_item_of_a_list_comes_back_in_the_list(api, alice, export):
    import_files(export(json.dumps({"data": {"items": [SHORT_RUN]}})), "--user", "alice")

    (item,) = api.get(user=alice).json()["data"]["items"]
    assert without_owner(item) == without_owner(SHORT_RUN)


def test_what_the_api_exports_here_can_be_imported_again(api, alice, export):
    run = Run.objects.create(user=alice, status=RunStatus.SUCCEEDED, exit_code=0)
    answer = api.get(f"/{run.pk}", user=alice)
    run_id = run.pk
    run.delete()

    assert import_files(export(answer.content), "--user", "alice").figures == figures(created=1)
    assert api.get(f"/{run_id}", user=alice).json() == answer.json()


def test_unfinished_runs_come_back_unfinished(api, alice, export):
    records = [
        run_object(number, status=status, finishedAt=None)
        for number, status in enumerate(map(str, Run.UNFINISHED))
    ]

    import_files(export(lines(*records)), "--user", "alice")

    for record in records:
        assert shown(api, alice, record["id"]) == without_owner(record)


def test_times_are_taken_with_any_offset_and_kept_to_the_millisecond(api, alice, export):
    record = run_object(startedAt="2026-05-04T12:20:30.123999+02:00", finishedAt=END)
    import_files(export(lines(record)), "--user", "alice")

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
        assert import_files(export(lines(record)), "--user", "alice").status == 0
    assert shown(api, alice, record["id"])["finishedAt"] == end


def test_runs_become_an_organizations(acme, export):
    import_files(export(lines(FULL_RUN)), "--organization", str(acme.pk))

    assert Run.objects.get().organization == acme


def test_standard_input_may_be_closed(transactional_db, alice):
    child = subprocess.run(
        ["sh", "-c", 'exec "$0" -m django import_actor_runs - --user alice <&-', sys.executable],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )

    assert (child.returncode, child.stderr) == (2, "CommandError: Standard input is closed.\n")


def test_files_may_be_given_to_call_command_as_it_suits(alice, export):
    path = export(lines(run_object()))
    for files in (str(path), [Path(path)], (str(path),)):
        call_command("import_actor_runs", files=files, user="alice", verbosity=0)
        assert Run.objects.count() == 1


def test_several_files_are_one_import(alice, export):
    one, two = export(lines(run_object(1)), "1.jsonl"), export(lines(run_object(2)), "2.jsonl")

    assert import_files(one, two, one, "--user", "alice").figures == figures(created=2, unchanged=1)


def test_a_record_without_a_build_number_has_none_afterwards(api, alice, export):
    for record in (run_object(buildNumber=...), {**SHORT_RUN, "id": "short", "buildNumber": None}):
        import_files(export(lines(record)), "--user", "alice")
        assert Run.objects.get(pk=record["id"]).build_number == ""
        assert "buildNumber" not in shown(api, alice, record["id"])


# The same run again


def test_a_run_that_is_the_same_again_is_counted_unchanged(alice, export):
    path = export(lines(FULL_RUN, run_object(1), FULL_RUN))

    assert import_files(path, "--user", "alice").figures == figures(created=2, unchanged=1)
    assert import_files(path, "--user", "alice").figures == figures(unchanged=3)


def test_each_key_that_changed_is_updated(api, alice, export):
    other = {
        "startedAt": "2026-05-04T10:20:31.000Z",
        "finishedAt": "2026-05-04T11:00:00.000Z",
        "meta": {"origin": "API"},
        "pricingInfo": ...,
        "options": FULL_RUN["options"] | {"timeoutSecs": 1},
        "stats": FULL_RUN["stats"] | {"netTxBytes": 1},
        "generalAccess": "RESTRICTED",
        "isStatusMessageTerminal": True,
        "isContainerServerReady": False,
        "exitCode": 1,
        "usageTotalUsd": 1.5,
        "buildNumber": "0.1.3",
        "metamorphs": [],
    }
    records = []
    for number, key in enumerate(sorted(FULL_RUN.keys() - {"id", "userId", "status"})):
        new = other.get(key, "https://example.com/changed" if key == "containerUrl" else "changed")
        is_object = isinstance(FULL_RUN[key], dict) and key not in other
        records.append(run_object(number, **{key: ... if is_object else new}))
    import_runs(enumerate(run_object(number) for number in range(len(records))), user=alice)

    outcome = import_files(export(lines(*records)), "--user", "alice")

    assert outcome.figures == figures(updated=len(records))
    for record in records:
        assert shown(api, alice, record["id"]) == without_owner(record)


def test_the_later_of_two_records_of_a_run_counts(api, alice, export):
    changed = FULL_RUN | {"statusMessage": "Later."}

    outcome = import_files(export(lines(FULL_RUN, changed)), "--user", "alice")

    assert outcome.figures == figures(created=1, updated=1)
    assert shown(api, alice)["statusMessage"] == "Later."


def test_a_full_run_takes_away_what_it_does_not_have(api, alice, export):
    left_out = ["exitCode", "statusMessage", "usage", "containerUrl", "actorTaskId"]
    changed = run_object(id=FULL_RUN["id"], **dict.fromkeys(left_out, ...))
    import_files(export(lines(FULL_RUN)), "--user", "alice")

    import_files(export(lines(changed)), "--user", "alice")

    assert shown(api, alice) == without_owner(changed)


def test_an_item_of_a_list_leaves_what_lists_do_not_have(api, alice, export):
    import_files(export(lines(FULL_RUN)), "--user", "alice")
    changed = SHORT_RUN | {"actorTaskId": None, "usageTotalUsd": 9}

    assert import_files(export(lines(changed)), "--user", "alice").figures == figures(updated=1)
    expected = without_owner(FULL_RUN) | {"usageTotalUsd": 9}
    del expected["actorTaskId"]
    assert shown(api, alice) == expected


def test_a_status_may_change_in_any_way_but_back_from_finished(alice, export):
    pairs = list(itertools.product(map(str, RunStatus), repeat=2))
    before, after = (
        [at(number, pair[side])[1] for number, pair in enumerate(pairs)] for side in (0, 1)
    )
    import_runs(enumerate(before), user=alice)

    outcome = import_files(export(lines(*after)), "--user", "alice")

    goes_back = [old in Run.FINISHED and new not in Run.FINISHED for old, new in pairs]
    changed = sum(old != new for old, new in pairs) - sum(goes_back)
    assert outcome.figures == figures(updated=changed, unchanged=8, older=sum(goes_back))
    assert statuses() == [
        old if back else new for (old, new), back in zip(pairs, goes_back, strict=True)
    ]
    import_files(export(lines(*after)), "--user", "alice", "--force")
    assert statuses() == [new for _, new in pairs]


def statuses() -> list[str]:
    """The statuses of all runs, in the order of their IDs."""
    return list(Run.objects.order_by("pk").values_list("status", flat=True))


def test_a_resurrected_run_is_newer_than_the_finished_one(alice, export):
    finished = run_object(stats={"resurrectCount": 0})
    resurrected = run_object(stats={"resurrectCount": 1}, status="RUNNING", finishedAt=None)
    import_files(export(lines(finished)), "--user", "alice")

    assert import_files(export(lines(resurrected)), "--user", "alice").figures == figures(updated=1)
    assert Run.objects.get().status == RunStatus.RUNNING
    assert import_files(export(lines(finished)), "--user", "alice").figures == figures(older=1)
    assert Run.objects.get().status == RunStatus.RUNNING


def test_an_object_that_was_read_before_the_import_is_outdated(alice, export):
    record = run_object(status="RUNNING", finishedAt=None)
    import_files(export(lines(record)), "--user", "alice")
    read_before = Run.objects.get()
    import_files(export(lines(run_object(status="FAILED"))), "--user", "alice")
    import_files(export(lines(record)), "--user", "alice", "--force")

    with pytest.raises(InvalidTransition):
        read_before.transition_to(RunStatus.SUCCEEDED)


@pytest.mark.parametrize("arguments", [[], ["--force"]])
def test_another_owners_run_is_refused(api, alice, bob, acme, export, arguments):
    path = export(lines(FULL_RUN, run_object(1)))
    import_files(path, "--user", "alice")
    changed = export(lines(FULL_RUN | {"statusMessage": "Taken."}, run_object(2)), "changed.jsonl")

    for owner in (["--user", "bob"], ["--organization", str(acme.pk)]):
        outcome = import_files(changed, *owner, *arguments)
        assert outcome.status == 1
        assert f"{changed}:1: id: A run with this ID belongs to another owner." in outcome.err
    assert shown(api, alice) == without_owner(FULL_RUN)
    assert Run.objects.get(pk=run_object(2)["id"]).user == bob


def test_a_dry_run_writes_nothing(alice, bob, export):
    import_files(export(lines(FULL_RUN, run_object(1))), "--user", "alice")
    path = export(lines(FULL_RUN, run_object(1, exitCode=9), run_object(2), {"id": 1}))
    before = list(Run.objects.order_by("pk").values())

    outcome = import_files(path, "--user", "alice", "--dry-run")

    expected = figures(created=1, updated=1, unchanged=1, refused=1)
    assert outcome.figures == expected.replace("Imported", "Would import")
    assert outcome.status == 1
    assert list(Run.objects.order_by("pk").values()) == before


def test_upper_and_lower_case_are_two_runs(alice, export):
    path = export(lines(run_object(id="abc"), run_object(id="ABC")))

    assert import_files(path, "--user", "alice").figures == figures(created=2)
    assert import_files(path, "--user", "alice").figures == figures(unchanged=2)


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
    ({"options": FULL_RUN["options"] | {"memoryMbytes": 1}}, "options.memoryMbytes: "),
    ({"stats": {"netRxBytes": -1}}, "stats.netRxBytes: "),
    ({"usageTotalUsd": "1"}, "usageTotalUsd: "),
    ({"usageUsd": {"DATASET_READS": True}}, "usageUsd.DATASET_READS: "),
    ({"chargedEventCounts": {"a": 0.5}}, "chargedEventCounts.a: "),
    ({"metamorphs": [{}]}, "metamorphs[0].createdAt: "),
    ({"containerUrl": "/run"}, "containerUrl: "),
    ({"statusMessage": "\x00"}, "statusMessage: "),
]


def test_each_bad_record_is_named_and_the_good_ones_go_in(alice, export):
    bad = [run_object(0, **changes) for changes, _ in BAD_RECORDS]
    path = export(lines(run_object(1), *bad, run_object(2)))

    outcome = import_files(path, "--user", "alice")

    refused = outcome.err.splitlines()[:-1]
    for number, (line, (_, reason)) in enumerate(zip(refused, BAD_RECORDS, strict=True), start=2):
        assert line.startswith(f"{path}:{number}: {reason}")
    assert outcome.figures == figures(created=2, refused=len(bad))
    assert outcome.status == 1
    assert Run.objects.count() == 2


def test_all_that_is_wrong_with_a_record_is_told(alice, export):
    path = export(lines(run_object(exitCode="0", buildNumber="1")))

    err = import_files(path, "--user", "alice").err

    assert "exitCode: " in err
    assert "buildNumber: " in err


BROKEN_LINES = [
    b"{",
    b'{"id": "truncated',
    b"{}{}",
    b'{"id": NaN}',
    b'{"id": "\xff"}',
    b'{"id": ' + b"9" * 5000 + b"}",
    b'{"id": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    b"[1]",
    b'{"data": null}',
    b'{"data": {"items": ["run"]}}',
]


def test_each_broken_line_is_named_and_the_others_go_in(alice, export):
    good = [json.dumps(run_object(number)).encode() for number in (1, 2)]
    path = export(b"\n".join([good[0], *BROKEN_LINES, good[1]]))

    outcome = import_files(path, "--user", "alice")

    refused = outcome.err.splitlines()[:-1]
    for number, line in enumerate(refused, start=2):
        assert line.startswith(f"{path}:{number}")
    assert outcome.figures == figures(created=2, refused=len(BROKEN_LINES))


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

    assert f"{path}{where}" in import_files(path, "--user", "alice").err
    assert Run.objects.count() == 2


@pytest.mark.parametrize(
    ("number", "ignored", "refused"),
    [
        (1, "Ignored the unknown key new of 1 run.", "1 record was refused."),
        (2, "Ignored the unknown key new of 2 runs.", "2 records were refused."),
    ],
)
def test_nouns_agree_with_their_numbers(alice, export, number, ignored, refused):
    path = export(lines(*({"new": 1} for _ in range(number))))

    outcome = import_files(path, "--user", "alice")

    assert outcome.out.splitlines()[0] == ignored
    assert outcome.err.splitlines()[-1] == refused


def test_an_empty_file_is_imported(alice, export):
    assert import_files(export("\n"), "--user", "alice").figures == figures()


def test_unknown_keys_are_ignored_and_counted_once_per_name(api, alice, export):
    path = export(lines(*(run_object(n, new=n, **{"line\nfeed": 1}) for n in range(3))))

    outcome = import_files(path, "--user", "alice")

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

    err = import_files(path, "--user", "alice").err

    err.encode()
    assert err.replace("\n", "").isprintable()
    assert len(err) < 1000 + len(path)


def test_a_truncated_gzip_is_named_after_its_whole_lines_are_in(alice, export):
    records = [run_object(n, statusMessage=os.urandom(500).hex()) for n in range(60)]
    path = export(gzip.compress(lines(*records).encode())[:-20_000], "runs.jsonl.gz")

    outcome = import_files(path, "--user", "alice")

    imported = Run.objects.count()
    assert 0 < imported < 60
    assert outcome.figures == figures(created=imported, refused=1)
    assert f"{path}:{imported + 1}: " in outcome.err
    assert outcome.status == 1


IMPORT = """
import sys
from django.core.management import CommandError, call_command
try:
    call_command("import_actor_runs", sys.argv[1], user="alice")
except CommandError:
    pass
"""


def test_a_line_of_300_mebibytes_is_refused_without_being_read_into_memory(
    transactional_db, alice, tmp_path
):
    path = tmp_path / "runs.jsonl"
    with path.open("wb") as file:
        file.write(lines(run_object(1)).encode() + b'{"id": "')
        file.seek(300 * 1024**2)  # a hole, which takes no room on the disk
        file.write(b"\n" + lines(run_object(2)).encode())

    child = python(IMPORT + PRINT_MEMORY, str(path))

    assert figures(created=2, refused=1) in child.stdout
    assert f"{path}:2: " in child.stderr
    assert "Traceback" not in child.stderr
    assert int(child.stdout.split()[-1]) < 250  # MiB


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
    path = export(lines(FULL_RUN))

    outcome = import_files(*(a.format(runs=path, folder=tmp_path) for a in arguments))

    assert message in outcome.err
    assert outcome.out == ""
    assert outcome.status != 0
    assert not Run.objects.exists()


def test_verbosity_0_says_nothing_but_what_is_wrong(alice, export):
    path = export(lines(FULL_RUN, {"id": "x"}, run_object(new=1)))

    outcome = import_files(path, "--user", "alice", "--verbosity", "0")

    assert outcome.out == ""
    assert f"{path}:2: " in outcome.err


def test_verbosity_2_tells_of_each_batch(alice, export):
    path = export(lines(*(short_object(n) for n in range(501))))

    out = import_files(path, "--user", "alice", "--verbosity", "2").out

    assert figures(created=500) in out.splitlines()


# As a function


def test_python_imports_run_objects_by_the_same_rules(api, alice):
    bad: list[tuple[Any, str]] = []

    result = import_runs(
        enumerate([FULL_RUN, run_object(1), {}]),
        user=alice,
        on_refused=lambda place, reason: bad.append((place, reason)),
    )

    assert (result.created, result.refused) == (2, 1)
    assert [place for place, reason in bad] == [2]
    assert shown(api, alice) == without_owner(FULL_RUN)


def test_a_host_imports_what_a_webhook_sends(alice):
    payload = {"eventType": "ACTOR.RUN.FAILED", "eventData": {}, "resource": FULL_RUN}
    assert import_runs([(0, payload)], user=alice).created == 1
    assert import_runs([(0, payload | {"resource": None})], user=alice).refused == 1


def test_python_is_told_of_bad_records_in_the_log(alice, caplog):
    with caplog.at_level(logging.WARNING, "actor_runs"):
        import_runs([("here", {})], user=alice)

    assert "here: id: " in caplog.text


@pytest.mark.parametrize("both", [True, False])
def test_python_must_name_exactly_one_owner(alice, acme, both):
    owner = {"user": alice, "organization": acme} if both else {}
    with pytest.raises(ValueError, match="exactly one owner"):
        import_runs([], **owner)


def test_python_must_name_the_place_of_each_run(alice):
    with pytest.raises(TypeError, match=r"enumerate\(objects\)"):
        import_runs([run_object()], user=alice)


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
        enumerate(short_object(n) for n in range(1001)),
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
    records = [short_object(n) for n in range(500)]
    changed = [short_object(n) | {"buildId": "changed"} for n in range(500)]

    for batch in (records, changed, changed):
        with django_assert_max_num_queries(30):  # SQLite inserts some dozens at once
            import_runs(enumerate(batch), user=alice)


# The signal of changed statuses


@pytest.fixture
def changes():
    """What ``run_status_changed`` was sent for: IDs, old and new statuses, in no order."""
    seen: set[tuple[str, str, str]] = set()

    def listen(run: Run, old_status: str, new_status: str, **kwargs: Any) -> None:
        assert not connection.in_atomic_block
        assert (run.pk, old_status, new_status) not in seen
        assert Run.objects.get(pk=run.pk).status == run.status == new_status
        seen.add((run.pk, old_status, new_status))

    run_status_changed.connect(listen)
    yield seen
    run_status_changed.disconnect(listen)


def test_each_run_whose_status_an_import_changes_is_announced_once(
    transactional_db, changes, alice, bob
):
    import_runs([at(n, "READY") for n in range(4)], user=alice)
    import_runs([at(9, "READY")], user=bob)
    assert not changes

    records = [
        *(at(0, "RUNNING"), at(0, "FAILED")),  # one change, in one transaction
        *(at(1, "RUNNING"), at(1, "READY")),  # as it was
        (2, at(2, "READY")[1] | {"exitCode": 7}),
        *(at(3, "ABORTING"), at(3, "READY")),
        (3, {"id": 5}),
        at(9, "RUNNING"),  # bob's
        *(at(4, "READY"), at(4, "RUNNING")),  # new
    ]
    import_runs(records, user=alice, force=True, dry_run=True)
    assert not changes
    import_runs(records, user=alice, force=True)

    assert changes == {(run_object(0)["id"], "READY", "FAILED")}


@pytest.mark.django_db(transaction=True)
def test_an_import_that_is_rolled_back_announces_nothing(changes, alice):
    import_runs([at(0, "READY")], user=alice)
    with transaction.atomic():
        import_runs([at(0, "RUNNING")], user=alice)
        transaction.set_rollback(True)
    assert not changes


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


def test_a_transition_at_the_same_time_is_not_lost(concurrently, running, alice):
    stopping = OLDER | {"status": "TIMING-OUT"}
    for _ in range(ROUNDS):
        import_runs([(0, OLDER)], user=alice, force=True)
        run = Run.objects.get()

        imported, moved = concurrently.all_at_once(
            lambda: import_runs([(0, stopping)], user=alice),
            lambda run=run: run.transition_to(RunStatus.SUCCEEDED),
        )

        # Either the import came first, and the object was outdated, or it came too late.
        status = Run.objects.get().status
        if isinstance(moved, InvalidTransition):
            assert (imported.updated, status) == (1, "TIMING-OUT")
        else:
            assert (imported.older, moved, status) == (1, None, "SUCCEEDED")


def test_two_imports_at_the_same_time_create_each_run_once(transactional_db, concurrently, alice):
    records = list(enumerate(short_object(n) for n in range(700)))

    results = concurrently.all_at_once(
        lambda: import_runs(records, user=alice),
        lambda: import_runs(records[::-1], user=alice),
        lambda: import_runs(records, user=alice),
    )

    assert sum(result.created for result in results) == 700
    assert sum(result.unchanged for result in results) == 1400
    assert Run.objects.count() == 700


def test_imports_prunes_and_deletions_at_the_same_time_do_not_hinder_each_other(
    transactional_db, concurrently, api, alice
):
    token = token_of(alice)
    records = list(enumerate(short_object(n) for n in range(300)))
    ids = [record["id"] for _, record in records]

    def delete_over_http():
        client = API()
        return {client.delete(f"/{run_id}", token=token).status_code for run_id in ids[::7]}

    for _ in range(ROUNDS):
        results = concurrently.all_at_once(
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
    records = [short_object(n) for n in range(600)]
    path = export(lines(*records))
    insertions = CaptureInsertions()
    with connection.execute_wrapper(insertions):
        import_runs(enumerate(records), user=alice)
    undisturbed = list(Run.objects.order_by("pk").values())
    Run.objects.all().delete()

    child = python(KILLED_IN_ITS_SECOND_BATCH, path, str(insertions.count))

    assert child.returncode == -signal.SIGKILL, child.stderr
    assert Run.objects.count() == 500  # the first batch, whole, and nothing of the second
    assert import_files(path, "--user", "alice").figures == figures(created=100, unchanged=500)
    assert list(Run.objects.order_by("pk").values()) == undisturbed


class CaptureInsertions:
    """Counts statements that insert: SQLite takes only so many rows in one."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, execute: Any, sql: str, *args: Any) -> Any:
        self.count += sql.startswith("INSERT")
        return execute(sql, *args)


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


@pytest.mark.parametrize("stats", [[], {"resurrectCount": "one"}], ids=str)
def test_statistics_that_are_not_valid_are_replaced(alice, stats):
    import_runs([(1, FULL_RUN)], user=alice)
    Run.objects.update(stats=stats)  # which validates nothing
    assert import_runs([(1, FULL_RUN)], user=alice).updated == 1
    assert Run.objects.get().stats == FULL_RUN["stats"]


def test_a_run_that_another_writer_creates_at_the_same_moment_is_updated(alice):
    def create(execute: Any, sql: str, *args: Any) -> Any:
        result = execute(sql, *args)
        if sql.startswith("INSERT"):
            return execute(sql, *args)  # it is there already
        if sql.startswith("ROLLBACK"):  # and there it stays
            connection.execute_wrappers.remove(create)
            Run.objects.create(id=FULL_RUN["id"], user=alice)
        return result

    connection.execute_wrappers.append(create)
    result = import_runs([(1, FULL_RUN)], user=alice)
    assert (result.created, result.updated, result.refused) == (0, 1, 0)
    assert Run.objects.get().act_id == FULL_RUN["actId"]


def test_files_can_be_given_to_call_command(alice, export):
    files = [export(lines(run_object()))]
    assert import_files(files=files, user="alice", verbosity=0).status == 0
    assert alice.actor_runs.count() == 1
