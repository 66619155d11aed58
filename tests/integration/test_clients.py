"""The official Python client, sync and async, against the demo project as a real server."""

from __future__ import annotations

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
from tests.support.clients import Client, Raised, client_process
from tests.support.demo_server import ROOT, demo_server

pytestmark = pytest.mark.demo

ALICES_RUNS = [
    run for run in demo_data.runs("alice", "bob", "acme") if run.get("user") in (None, "alice")
]
ALICES_IDS = [run["id"] for run in ALICES_RUNS]

# What another process does.
FINISH = """
    UPDATE actor_runs_run SET status = 'SUCCEEDED', exit_code = 0, finished_at = started_at,
    version = version + 1 WHERE id = ?
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with demo_server(tmp_path_factory.mktemp("clients")) as server:
        yield server


@pytest.fixture(scope="module")
def process(server):
    with client_process(server.site) as process:
        yield process


@pytest.fixture(scope="module", params=["sync", "async"])
def client(request, server, process):
    with server.as_it_was():
        yield Client(process, request.param, ALICE_TOKEN)


def test_the_client_gets_a_run(client):
    run = client("get", FAILED_RUN)
    assert run["id"] == FAILED_RUN
    assert run["status"] == "FAILED"
    assert run["startedAt"] == "2025-03-02T22:05:11.870000Z"
    assert run["finishedAt"] == "2025-03-02T22:05:29.170000Z"
    assert run["exitCode"] == 91
    assert run["meta"]["origin"] == "SCHEDULER"
    assert run["options"]["memoryMbytes"] == 1024
    assert run["usageTotalUsd"] > 0


def test_the_client_reads_every_run_of_the_demo(client):
    assert [client("get", run_id)["id"] for run_id in ALICES_IDS] == ALICES_IDS


def test_the_client_gets_none_for_an_unknown_run(client):
    assert client("get", "unknown") is None


def test_the_client_gets_a_public_run_without_a_token(client):
    run = client("get", PUBLIC_RUN, token=None)
    assert run["id"] == PUBLIC_RUN
    assert run["usageTotalUsd"] is None


def test_the_client_lists_runs(client):
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


def test_the_client_lists_the_newest_first(client):
    assert client.ids(desc=True) == ALICES_IDS[::-1]


def test_the_client_lists_a_page(client):
    assert client.ids(limit=3, offset=2) == ALICES_IDS[2:5]


@pytest.mark.parametrize("status", ["FAILED", "TIMED-OUT", ["READY", "RUNNING"], []])
def test_the_client_lists_by_status(client, status):
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
def test_the_client_lists_by_the_start_of_runs(client, as_argument):
    third, fifth = (
        as_argument(ALICES_RUNS[index]["started_at"].strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z")
        for index in (2, 4)
    )
    assert client.ids(started_after=third) == ALICES_IDS[2:]
    assert client.ids(started_before=fifth) == ALICES_IDS[:5]
    assert client.ids(started_after=third, started_before=fifth, desc=True) == ALICES_IDS[4:1:-1]


def test_the_client_iterates_over_pages(client):
    assert client("iterate", chunk_size=3) == ALICES_IDS
    assert client("iterate", chunk_size=2, limit=5, desc=True) == ALICES_IDS[::-1][:5]


def test_the_client_deletes_a_run_and_again(client):
    assert client("get", BOBS_RUN, token=BOB_TOKEN)["status"] == "SUCCEEDED"
    assert client("delete", BOBS_RUN, token=BOB_TOKEN) is None
    assert client("get", BOBS_RUN, token=BOB_TOKEN) is None
    assert client("delete", BOBS_RUN, token=BOB_TOKEN) is None


def test_the_client_does_not_delete_a_running_run(client):
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
        client(method, FAILED_RUN, token=BOB_TOKEN)
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
        client(method, run, token=token)
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
def test_an_operation_that_is_not_served_is_an_error(client, method, arguments, error):
    with pytest.raises(Raised) as raised:
        client(method, RUNNING_RUN, **arguments)
    assert raised.value.args[:3] == error
    assert client("get", RUNNING_RUN)["status"] == "RUNNING"


def test_the_client_waits_until_another_process_has_finished_the_run(client, server):
    assert client("get", BOBS_RUNNING_RUN, token=BOB_TOKEN)["status"] == "RUNNING"
    # Bounded: a run that never finishes must fail, not hang.
    client.send("wait_for_finish", BOBS_RUNNING_RUN, token=BOB_TOKEN, wait_duration=60)
    with server.database() as database:
        database.execute(FINISH, [BOBS_RUNNING_RUN])
    run = client.receive()
    assert run["status"] == "SUCCEEDED"
    assert run["exitCode"] == 0
    assert run["finishedAt"] is not None


@pytest.mark.parametrize(
    ("method", "arguments", "error_type"),
    [
        ("abort", {}, "record-not-found"),
        ("resurrect", {}, "record-not-found"),
        ("reboot", {}, "record-not-found"),
        ("metamorph", {"target_actor_id": "another"}, "record-not-found"),
        ("charge", {"event_name": "page"}, "record-not-found"),
        ("update", {"status_message": "Done."}, "method-not-allowed"),
    ],
)
def test_what_is_not_served_raises_the_error_that_the_readme_names(
    client, method, arguments, error_type
):
    with pytest.raises(Raised) as raised:
        client(method, FAILED_RUN, **arguments)
    assert raised.value.args[2] == error_type
    assert f"`{error_type}`" in (ROOT / "README.md").read_text()


# A page, what its example prints, and a run that is deleted then.
EXAMPLES = [
    ("README.md", "FAILED\n", SUCCEEDED_RUN),
    ("docs/reference/api.md", "", "yM6cPj2HuRfQa8SxE"),
]


def test_the_examples_of_the_pages_work(server, subtests):
    for page, printed, deleted in EXAMPLES:
        text = (ROOT / page).read_text()
        [example] = re.findall(r"^```python\n(from apify_client .+?)^```$", text, re.M | re.S)
        code = example.replace("http://127.0.0.1:8000", server.site)
        code += f"assert client.run({deleted!r}).get() is None\n"
        with subtests.test(page), server.as_it_was():
            done = subprocess.run(
                [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True
            )
            assert done.stdout == printed


def test_the_client_waits_no_longer_than_it_was_asked_to(client):
    run = client("wait_for_finish", RUNNING_RUN, wait_duration=1)
    assert run["status"] == "RUNNING"
