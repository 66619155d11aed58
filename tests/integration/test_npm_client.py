"""The official npm client, in a process of its own, against a real server over loopback."""

from __future__ import annotations

import datetime
import json
import re
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from django.core.signals import request_started

from actor_runs.models import GeneralAccess, Run, RunStatus
from tests.support.clients import Raised, piped
from tests.support.people import join, make_organization, make_user, token_of

CLIENTS = Path(__file__).resolve().parent / "clients"
pytestmark = pytest.mark.once

FIRST = datetime.datetime(2025, 3, 2, 22, 5, 11, 870000, datetime.timezone.utc)
STATUSES = ("SUCCEEDED", "FAILED", "TIMED-OUT", "ABORTED", "RUNNING", "READY")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: Any) -> Path:
    """Where the client is installed: not in the clone, where two runs of the suite could meet."""
    folder: Path = tmp_path_factory.mktemp("clients")
    for name in ("package.json", "package-lock.json", "client.mjs"):
        shutil.copy(CLIENTS / name, folder)
    subprocess.run(
        ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return folder


@pytest.fixture(scope="module")
def process(live_server: Any, folder: Path) -> Any:
    with piped(["node", "client.mjs", live_server.url], folder) as process:
        yield process


@pytest.fixture
def client(process: Any, live_server: Any, alice: Any) -> Any:
    return Client(process, alice)


class Client:
    """Calls of the client, alice's unless another user or token is named."""

    def __init__(self, process: Any, user: Any) -> None:
        self.process = process
        self.user = user

    def send(
        self,
        method: str,
        run: Any = None,
        options: Any = None,
        *,
        user: Any = None,
        iterate: bool = False,
        retries: int = 0,
        **token: Any,
    ) -> None:
        call = {
            "method": method,
            "run": run.pk if isinstance(run, Run) else run,
            "options": options,
            "iterate": iterate,
            "retries": retries,
            "token": token.get("token", token_of(user or self.user)),
        }
        self.process.stdin.write(json.dumps(call) + "\n")
        self.process.stdin.flush()

    def receive(self) -> Any:
        report = json.loads(self.process.stdout.readline())
        if "raised" in report:
            error = report["raised"]
            raise Raised(error["name"], error["statusCode"], error["type"], error["message"])
        return report["result"]

    def __call__(self, *args: Any, **options: Any) -> Any:
        self.send(*args, **options)
        return self.receive()

    def ids(self, **options: Any) -> list[str]:
        return [item["id"] for item in self("list", None, options)["items"]]


@pytest.fixture
def runs(alice: Any) -> list[Run]:
    """One run of alice's in each of six statuses, a day apart."""
    return [
        Run.objects.create(
            user=alice, status=status, started_at=FIRST + datetime.timedelta(days=number)
        )
        for number, status in enumerate(STATUSES)
    ]


def ids_of(runs: Any) -> list[str]:
    return [run.pk for run in runs]


def at(moment: datetime.datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def test_the_client_gets_a_run(client, runs):
    run = client("get", runs[1])
    assert run["id"] == runs[1].pk
    assert run["status"] == "FAILED"
    assert run["startedAt"] == at(FIRST + datetime.timedelta(days=1))
    assert run["userId"] == str(client.user.pk)
    assert run["options"]["memoryMbytes"] == 1024


def test_the_client_gets_undefined_for_an_unknown_run(client):
    assert client("get", "unknown") is None


def test_the_client_gets_a_public_run_without_a_token(client):
    run = Run.objects.create(
        user=make_user("bob"),
        status=RunStatus.SUCCEEDED,
        general_access=GeneralAccess.ANYONE_WITH_ID_CAN_READ,
        usage_total_usd=1.5,
    )
    answer = client("get", run, token=None)
    assert answer["id"] == run.pk
    assert "usageTotalUsd" not in answer


def test_the_client_lists_runs(client, runs):
    page = client("list")
    assert ids_of(runs) == [item["id"] for item in page["items"]]
    del page["items"]
    assert page == {"total": 6, "offset": 0, "limit": 1000, "count": 6, "desc": False}


def test_the_client_lists_runs_of_the_own_organization(client, alice):
    acme = make_organization("Acme")
    run = Run.objects.create(organization=acme, status=RunStatus.SUCCEEDED)
    assert client.ids() == []
    join(alice, acme)
    assert client.ids() == [run.pk]


@pytest.mark.parametrize("desc", [True, False])
def test_the_client_lists_in_both_directions(client, runs, desc):
    assert client.ids(desc=desc) == ids_of(runs[::-1] if desc else runs)


def test_the_client_lists_a_page(client, runs):
    assert client.ids(limit=2, offset=3) == ids_of(runs[3:5])


@pytest.mark.parametrize("status", ["FAILED", ["READY", "RUNNING"], []])
def test_the_client_lists_by_status(client, runs, status):
    wanted = status if isinstance(status, list) else [status]
    assert client.ids(status=status) == [
        run.pk for run in runs if run.status in wanted or not wanted
    ]


@pytest.mark.parametrize(
    "as_argument", [pytest.param(at, id="text"), pytest.param(lambda m: {"time": at(m)}, id="Date")]
)
def test_the_client_lists_by_the_start_of_runs(client, runs, as_argument):
    second, fourth = (FIRST + datetime.timedelta(days=days) for days in (1, 3))
    assert client.ids(startedAfter=as_argument(second)) == ids_of(runs[1:])
    assert client.ids(startedBefore=as_argument(fourth)) == ids_of(runs[:4])
    assert client.ids(
        startedAfter=as_argument(second), startedBefore=as_argument(fourth)
    ) == ids_of(runs[1:4])


def test_the_client_iterates_over_runs(client, runs):
    found = client("list", None, {"limit": 5, "desc": True}, iterate=True)
    assert [item["id"] for item in found] == ids_of(runs[:0:-1])


def test_the_client_iterates_beyond_a_page(client, alice):
    Run.objects.bulk_create(Run(user=alice, id=f"run-{number:04}") for number in range(1001))
    found = client("list", None, {}, iterate=True)
    assert len({item["id"] for item in found}) == len(found) == 1001


def test_the_client_deletes_a_run_and_again(client, runs):
    assert client("delete", runs[0]) is None
    assert not Run.objects.filter(pk=runs[0].pk).exists()
    assert client("get", runs[0]) is None
    assert client("delete", runs[0]) is None
    assert set(Run.objects.values_list("pk", flat=True)) == set(ids_of(runs[1:]))


def test_the_client_waits_until_a_run_is_finished(client, runs, configure):
    running = runs[4]
    # Long enough that only the end of the run can end the wait.
    configure(MAX_WAIT_FOR_FINISH=60)
    asked = threading.Event()

    def hear(**kwargs: Any) -> None:
        asked.set()

    request_started.connect(hear)
    client.send("waitForFinish", running, {"waitSecs": 600})
    asked.wait()
    request_started.disconnect(hear)
    running.transition_to(RunStatus.SUCCEEDED)
    assert client.receive()["status"] == "SUCCEEDED"


def test_the_client_waits_no_longer_than_it_was_asked_to(client, runs):
    assert client("waitForFinish", runs[4], {"waitSecs": 1})["status"] == "RUNNING"


def test_the_example_of_the_page_works(folder, live_server, alice):
    page = (CLIENTS.parent.parent.parent / "docs" / "reference" / "api.md").read_text()
    [example] = re.findall(r"^```js\n(.+?)^```$", page, re.M | re.S)
    [run_id] = re.findall(r"run\('(\w+)'\)", example)
    run = Run.objects.create(id=run_id, user=alice, status=RunStatus.FAILED)
    code = example.replace("http://127.0.0.1:8000", live_server.url)
    (folder / "example.mjs").write_text(code.replace("demo-token-of-alice", token_of(alice)))
    subprocess.run(["node", "example.mjs"], cwd=folder, check=True)
    assert not Run.objects.filter(pk=run.pk).exists()


# Errors


def assert_refused(
    client: Client, status: int, error_type: str, message: str, *call: Any, **options: Any
) -> None:
    with pytest.raises(Raised) as raised:
        client(*call, **options)
    assert raised.value.args == ("ApifyApiError", status, error_type, message)


@pytest.mark.parametrize("index", [4, 5])
def test_400_an_unfinished_run_is_kept(client, runs, index):
    run = runs[index]
    words = f"Only finished runs can be deleted (run ID: {run.pk}, status: {run.status})."
    assert_refused(client, 400, "cannot-remove-running-run", words, "delete", run)
    assert Run.objects.filter(pk=run.pk).exists()


@pytest.mark.parametrize("token", ["wrong", None])
@pytest.mark.parametrize("method", ["get", "delete", "list"])
def test_401_without_a_valid_token(client, runs, method, token):
    run = None if method == "list" else runs[0]
    words = "Authentication token is not valid."
    assert_refused(client, 401, "token-not-valid", words, method, run, token=token)
    assert Run.objects.filter(pk=runs[0].pk).exists()


@pytest.mark.parametrize("method", ["get", "delete"])
def test_403_a_strangers_run(client, runs, method):
    words = "You do not have permission to perform this action."
    stranger = make_user("bob")
    assert_refused(client, 403, "permission-denied", words, method, runs[0], user=stranger)
    assert Run.objects.filter(pk=runs[0].pk).exists()


def test_404_a_path_that_the_app_does_not_offer(client, runs):
    words = "The requested resource was not found."
    assert_refused(client, 404, "record-not-found", words, "abort", runs[4])


def test_405_a_method_that_the_app_does_not_offer(client, runs):
    words = "This API end-point can only be accessed using the following HTTP methods: "
    assert_refused(
        client,
        405,
        "method-not-allowed",
        f"{words}OPTIONS,GET,DELETE",
        "update",
        runs[0],
        {"statusMessage": "x"},
    )


def test_429_is_tried_again_and_then_raised(client, runs, configure):
    configure(RUN_RATE_LIMIT="1/d")
    assert client("get", runs[0])["id"] == runs[0].pk
    words = "You have exceeded the rate limit. Please try again later."
    assert_refused(client, 429, "rate-limit-exceeded", words, "get", runs[0], retries=2)


@pytest.mark.parametrize(
    ("host", "status", "error_type", "words"),
    [
        ("Broken", 500, "internal-server-error", "The server met an unexpected error."),
        (
            "DatabaseGone",
            503,
            "service-unavailable",
            "The service is not available now. Please try again later.",
        ),
    ],
)
def test_5xx_is_tried_again_and_then_raised(
    client, runs, configure, host, status, error_type, words
):
    configure(AUTHENTICATION_CLASSES=[f"tests.unit.test_openapi.{host}"])
    assert_refused(client, status, error_type, words, "delete", runs[0], retries=2)
    configure(AUTHENTICATION_CLASSES=["actor_runs.authentication.BearerTokenAuthentication"])
    assert client("delete", runs[0]) is None
    assert not Run.objects.filter(pk=runs[0].pk).exists()
