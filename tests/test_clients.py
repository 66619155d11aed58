"""The official Python client, sync and async, against the demo project as a real server."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

from project import demo_data
from project.demo_data import (
    ALICE_TOKEN,
    BOB_TOKEN,
    BOBS_RUN,
    BOBS_RUNNING_RUN,
    FAILED_RUN,
    PUBLIC_RUN,
    RUNNING_RUN,
    SUCCEEDED_RUN,
)
from tests.demo_server import ROOT, demo_server

pytestmark = pytest.mark.demo

ALICES_RUNS = [
    run for run in demo_data.runs("alice", "bob", "acme") if run.get("user") in (None, "alice")
]
ALICES_IDS = [run["id"] for run in ALICES_RUNS]

FINISH = f"""
from actor_runs.models import Run, RunStatus
Run.objects.get(pk="{BOBS_RUNNING_RUN}").transition_to(RunStatus.SUCCEEDED, exit_code=0)
"""


class Raised(Exception):
    """What the client raised: its class, and the status, type and message of the answer."""


class Client:
    """Calls of the official client, made in a child process."""

    def __init__(self, process, server):
        self.process = process
        self.server = server

    def __call__(self, method, run=None, token=ALICE_TOKEN, **arguments):
        self.send(method, run, token, **arguments)
        return self.receive()

    def send(self, method, run=None, token=ALICE_TOKEN, **arguments):
        call = {"method": method, "run": run, "token": token, "arguments": arguments}
        self.process.stdin.write(json.dumps(call) + "\n")
        self.process.stdin.flush()

    def receive(self):
        report = json.loads(self.process.stdout.readline())
        if "raised" in report:
            raise Raised(*report["raised"])
        return report["result"]

    def ids(self, **arguments):
        return [item["id"] for item in self("list", **arguments)["items"]]


@pytest.fixture(scope="module", params=["sync", "async"])
def client(request, tmp_path_factory):
    with (
        demo_server(tmp_path_factory.mktemp("clients")) as server,
        subprocess.Popen(
            [sys.executable, "-m", "tests.client_process", request.param, server.site],
            cwd=ROOT,
            # Some errors show only where local time is not UTC.
            env=os.environ | {"TZ": "Asia/Kolkata"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        yield Client(process, server)
        process.stdin.close()
        assert process.wait() == 0


def test_gets_a_run(client):
    run = client("get", FAILED_RUN)
    assert run["id"] == FAILED_RUN
    assert run["status"] == "FAILED"
    assert run["startedAt"] == "2025-03-02T22:05:11.870000Z"
    assert run["finishedAt"] == "2025-03-02T22:05:29.170000Z"
    assert run["exitCode"] == 91
    assert run["meta"]["origin"] == "SCHEDULER"
    assert run["options"]["memoryMbytes"] == 1024
    assert run["usageTotalUsd"] > 0


@pytest.mark.parametrize("run_id", ALICES_IDS)
def test_reads_every_run_of_the_demo(client, run_id):
    assert client("get", run_id)["id"] == run_id


def test_gets_none_for_an_unknown_run(client):
    assert client("get", "unknown") is None


def test_gets_a_public_run_without_a_token(client):
    run = client("get", PUBLIC_RUN, token=None)
    assert run["id"] == PUBLIC_RUN
    assert run["usageTotalUsd"] is None


def test_lists_runs(client):
    page = client("list")
    assert [item["id"] for item in page["items"]] == ALICES_IDS
    assert [item["status"] for item in page["items"]] == [run["status"] for run in ALICES_RUNS]
    assert {key: page[key] for key in ("total", "offset", "limit", "count", "desc")} == {
        "total": len(ALICES_IDS),
        "offset": 0,
        "limit": 1000,
        "count": len(ALICES_IDS),
        "desc": False,
    }


def test_lists_the_newest_first(client):
    assert client.ids(desc=True) == ALICES_IDS[::-1]


def test_lists_a_page(client):
    assert client.ids(limit=3, offset=2) == ALICES_IDS[2:5]


@pytest.mark.parametrize("status", ["FAILED", "TIMED-OUT", ["READY", "RUNNING"], []])
def test_lists_by_status(client, status):
    wanted = status if isinstance(status, list) else [status]
    assert client.ids(status=status) == [
        run["id"] for run in ALICES_RUNS if run["status"] in wanted or not wanted
    ]


@pytest.mark.parametrize(
    "as_argument",
    [
        pytest.param(str, id="text"),
        pytest.param(lambda moment: {"time": moment}, id="time"),
        pytest.param(lambda moment: {"time": moment.rstrip("Z")}, id="naive time"),
    ],
)
def test_lists_by_the_start_of_runs(client, as_argument):
    third, fifth = (
        as_argument(ALICES_RUNS[index]["started_at"].strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z")
        for index in (2, 4)
    )
    assert client.ids(started_after=third) == ALICES_IDS[2:]
    assert client.ids(started_before=fifth) == ALICES_IDS[:5]
    assert client.ids(started_after=third, started_before=fifth, desc=True) == ALICES_IDS[4:1:-1]


def test_iterates_over_pages(client):
    assert client("iterate", chunk_size=3) == ALICES_IDS
    assert client("iterate", chunk_size=2, limit=5, desc=True) == ALICES_IDS[::-1][:5]


def test_deletes_a_run_and_again(client):
    assert client("get", BOBS_RUN, BOB_TOKEN)["status"] == "SUCCEEDED"
    assert client("delete", BOBS_RUN, BOB_TOKEN) is None
    assert client("get", BOBS_RUN, BOB_TOKEN) is None
    assert client("delete", BOBS_RUN, BOB_TOKEN) is None


def test_does_not_delete_a_running_run(client):
    with pytest.raises(Raised) as raised:
        client("delete", RUNNING_RUN)
    assert raised.value.args == (
        "InvalidRequestError",
        400,
        "cannot-remove-running-run",
        f"Only finished runs can be deleted (run ID: {RUNNING_RUN}, status: RUNNING).",
    )
    assert client("get", RUNNING_RUN)["status"] == "RUNNING"


@pytest.mark.parametrize("method", ["get", "delete"])
def test_a_strangers_run_is_forbidden(client, method):
    with pytest.raises(Raised) as raised:
        client(method, FAILED_RUN, BOB_TOKEN)
    assert raised.value.args == (
        "ForbiddenError",
        403,
        "permission-denied",
        "You do not have permission to perform this action.",
    )
    assert client("get", FAILED_RUN)["status"] == "FAILED"


@pytest.mark.parametrize(("method", "run"), [("list", None), ("get", FAILED_RUN)])
@pytest.mark.parametrize("token", ["wrong", None])
def test_without_a_valid_token_nothing_is_read(client, method, run, token):
    assert_unauthorized(client, method, run, token)


@pytest.mark.parametrize("token", ["wrong", None])
def test_without_a_valid_token_nothing_is_deleted(client, token):
    assert_unauthorized(client, "delete", FAILED_RUN, token)
    assert client("get", FAILED_RUN)["status"] == "FAILED"


def assert_unauthorized(client, method, run, token):
    with pytest.raises(Raised) as raised:
        client(method, run, token)
    assert raised.value.args == (
        "UnauthorizedError",
        401,
        "token-not-valid",
        "Authentication token is not valid.",
    )


@pytest.mark.parametrize(
    ("method", "arguments", "error"),
    [
        ("abort", {}, ("NotFoundError", 404, "record-not-found")),
        ("update", {"status_message": "x"}, ("ApifyApiError", 405, "method-not-allowed")),
    ],
)
def test_what_the_app_does_not_offer_is_an_error(client, method, arguments, error):
    with pytest.raises(Raised) as raised:
        client(method, RUNNING_RUN, **arguments)
    assert raised.value.args[:3] == error
    assert client("get", RUNNING_RUN)["status"] == "RUNNING"


def test_waits_until_another_process_has_finished_the_run(client):
    assert client("get", BOBS_RUNNING_RUN, BOB_TOKEN)["status"] == "RUNNING"
    # Bounded: a run that never finishes must fail, not hang.
    client.send("wait_for_finish", BOBS_RUNNING_RUN, BOB_TOKEN, wait_duration=60)
    subprocess.run(
        [sys.executable, "manage.py", "shell", "-c", FINISH],
        cwd=ROOT,
        env=client.server.env,
        check=True,
    )
    run = client.receive()
    assert run["status"] == "SUCCEEDED"
    assert run["exitCode"] == 0
    assert run["finishedAt"] is not None


@pytest.mark.parametrize(
    ("page", "printed", "deleted"),
    [
        ("README.md", "FAILED\n", SUCCEEDED_RUN),
        ("docs/api.md", "", "yM6cPj2HuRfQa8SxE"),
    ],
)
def test_the_example_of_a_page_works(tmp_path, page, printed, deleted):
    [example] = re.findall(
        r"^```python\n(from apify_client .+?)^```$", (ROOT / page).read_text(), re.M | re.S
    )
    with demo_server(tmp_path) as server:
        code = example.replace("http://127.0.0.1:8000", server.site)
        code += f"assert client.run({deleted!r}).get() is None\n"
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True
        )
    assert done.stdout == printed


def test_waits_no_longer_than_it_was_asked_to(client):
    run = client("wait_for_finish", RUNNING_RUN, wait_duration=1)
    assert run["status"] == "RUNNING"
