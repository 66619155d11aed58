"""Callers of a real server: where it listens, and who holds its threads."""

from __future__ import annotations

import contextlib
import http.client
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from actor_runs.models import Run, RunStatus
from tests.services.servers import TIMEOUT, environment, gunicorn

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def unfinished(people, alice):
    return Run.objects.create(
        user=alice, status=RunStatus.RUNNING, general_access="ANYONE_WITH_ID_CAN_READ"
    )


def test_who_has_no_token_holds_no_thread(unfinished, token, finished):
    run = finished()
    settings = {"ACTOR_RUNS": {"MAX_WAIT_FOR_FINISH": 60, "RUN_RATE_LIMIT": None}}
    with (
        gunicorn(workers=1, threads=6, env=environment(settings)) as server,
        ThreadPoolExecutor(12) as threads,
    ):
        query = "?waitForFinish=60"  # twice as long as any of these requests may take
        crowd = [threads.submit(server.get, unfinished, None, query) for _ in range(12)]
        assert server.get(run, token).status == 200
        assert [each.result().status for each in crowd] == [200] * 12


def test_owners_who_wait_leave_threads_for_others(unfinished, token, finished):
    run = finished()
    settings = {"ACTOR_RUNS": {"MAX_WAIT_FOR_FINISH": 60, "RUN_RATE_LIMIT": None}}
    with (
        gunicorn(workers=1, threads=6, env=environment(settings)) as server,
        ThreadPoolExecutor(12) as threads,
    ):
        query = "?waitForFinish=60"
        crowd = [threads.submit(server.get, unfinished, token, query) for _ in range(12)]
        assert server.get(run, token).status == 200
        unfinished.transition_to(RunStatus.SUCCEEDED)
        assert [each.result().status for each in crowd] == [200] * 12


class UnixConnection(http.client.HTTPConnection):
    """A connection to the unix socket at the path that is its host."""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.host)


def test_behind_a_unix_socket_a_request_without_a_token_is_401(token, tmp_path):
    path = str(tmp_path / "socket")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()

    def status(headers: dict[str, str]) -> int:
        with contextlib.closing(UnixConnection(path, timeout=TIMEOUT)) as connection:
            connection.request("GET", "/v2/actor-runs", headers={"Host": "localhost", **headers})
            return connection.getresponse().status

    with gunicorn(workers=1, listener=listener):
        assert status({}) == 401
        assert status({"Authorization": "Bearer wrong"}) == 401
        assert status({"Authorization": f"Bearer {token}"}) == 200


@pytest.mark.usefixtures("people")
def test_where_ipv4_arrives_inside_of_ipv6_each_address_has_its_own_limit():
    listener = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    settings = {"ACTOR_RUNS": {"RATE_LIMIT": "3/d"}}
    with gunicorn(workers=1, env=environment(settings), listener=listener) as server:
        for number in (11, 12, 13, 14):
            source = f"127.0.0.{number}"
            answers = [
                server.request("GET", "/v2/actor-runs", "wrong", source=source) for _ in range(4)
            ]
            assert [answer.status for answer in answers] == [401, 401, 401, 429]
