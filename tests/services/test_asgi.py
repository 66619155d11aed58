"""The HTTP contract under an ASGI server: uvicorn, two processes."""

from __future__ import annotations

import contextlib
import json
import socket
from collections import Counter
from functools import partial

import pytest

from actor_runs.models import Run, RunStatus
from tests.services.servers import environment, uvicorn

ABSENT = "3KH8gEpp4d8uQSe8T"


@pytest.fixture(scope="module")
def server(django_db_setup):
    with uvicorn(workers=2, env=environment()) as server:
        yield server


def test_a_run_is_read_listed_and_deleted(server, token, finished):
    run = finished()
    assert server.get(run, token).json["data"]["id"] == run.pk
    listed = server.request("GET", "/v2/actor-runs?status=SUCCEEDED", token).json["data"]
    assert [item["id"] for item in listed["items"]] == [run.pk]
    answer = server.delete(run, token)
    assert (answer.status, answer.body) == (204, b"")
    assert server.delete(run, token).error == "record-not-found"


@pytest.mark.parametrize(
    ("method", "path", "sent", "status", "error"),
    [
        ("DELETE", "/{run}", None, 401, "token-not-valid"),
        ("DELETE", "/{run}", "wrong", 401, "token-not-valid"),
        ("DELETE", "/{foreign}", "token", 403, "permission-denied"),
        ("DELETE", f"/{ABSENT}", "token", 404, "record-not-found"),
        ("DELETE", "/{running}", "token", 400, "cannot-remove-running-run"),
        ("DELETE", "/a%0a", "token", 400, "invalid-input"),
        ("DELETE", "/{run}/log", "token", 404, "record-not-found"),
        ("DELETE", "", "token", 405, "method-not-allowed"),
        ("PUT", "/{run}", "token", 405, "method-not-allowed"),
        ("GET", "/{run}?waitForFinish=nan", "token", 400, "invalid-input"),
        ("GET", "?limit=-1", "token", 400, "invalid-input"),
    ],
)
def test_every_error_is_in_the_envelope_and_changes_nothing(
    method, path, sent, status, error, server, token, finished, alice, bob
):
    runs = {
        "run": finished(),
        "running": Run.objects.create(user=alice, status=RunStatus.RUNNING),
        "foreign": Run.objects.create(user=bob, status=RunStatus.SUCCEEDED),
    }
    path = path.format(**{name: run.pk for name, run in runs.items()})
    sent = token if sent == "token" else sent
    answer = server.request(method, f"/v2/actor-runs{path}", sent)
    assert (answer.status, answer.error) == (status, error)
    assert Run.objects.count() == len(runs)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(
    ("body", "status"),
    [(b"{}", 204), (b'{"a": [1]}', 204), (b"[]", 400), (b"{", 400), (b'{"a": NaN}', 400)],
)
def test_a_body_is_none_or_a_json_object(server, token, finished, body, status, chunked):
    run = finished()
    sent = iter([body[:1], body[1:]]) if chunked else body
    answer = server.delete(run, token, body=sent, encode_chunked=chunked)
    assert answer.status == status
    assert Run.objects.filter(pk=run.pk).exists() == (status == 400)


def test_a_body_over_djangos_limit_deletes_nothing(server, token, finished):
    run = finished()
    answer = server.delete(run, token, body=json.dumps({"a": "x" * 3_000_000}))
    assert (answer.status, answer.error) == (400, "invalid-input")
    assert Run.objects.filter(pk=run.pk).exists()


def test_a_client_that_goes_away_in_the_middle_of_its_body_deletes_nothing(server, token, finished):
    run = finished()
    request = (
        f"DELETE /v2/actor-runs/{run.pk} HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {token}\r\nContent-Length: 100\r\n\r\n{{}}"
    )
    with contextlib.closing(socket.create_connection(("127.0.0.1", server.port))) as client:
        client.sendall(request.encode())
    assert server.get(run, token).status == 200
    assert server.delete(run, token).status == 204


def test_head_and_options_answer_as_the_contract_says(server, token, finished):
    run = finished()
    head = server.request("HEAD", f"/v2/actor-runs/{run.pk}", token)
    assert (head.status, head.body) == (200, b"")
    options = server.request("OPTIONS", f"/v2/actor-runs/{run.pk}", "wrong")
    assert (options.status, options.headers["Allow"]) == (200, "OPTIONS, GET, DELETE")


def test_waiting_ends_when_another_process_finishes_the_run(
    server, token, finished, client_threads
):
    run = finished()
    run.transition_to(RunStatus.RUNNING)
    answer = client_threads.submit(server.get, run, token, "?waitForFinish=5")
    run.transition_to(RunStatus.FAILED)
    assert answer.result().json["data"]["status"] == "FAILED"


def test_of_many_deletes_of_one_run_one_is_answered_204(server, token, finished, race):
    for _ in range(10):
        run = finished()
        statuses = Counter(
            answer.status for answer in race(*[partial(server.delete, run, token)] * 8)
        )
        assert statuses == {204: 1, 404: 7}
