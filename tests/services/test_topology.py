"""Two servers behind nginx with one database and one cache: nothing is kept in a process."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import os
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from actor_runs.models import Run
from tests.services.servers import Server, environment, running
from tests.support.people import token_of
from tests.support.ports import free_port

LIMIT = 30
TIMEOUT = 30


def gunicorn_on(port, env):
    command = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}"]
    command += ["--workers", "2", "--threads", "4", "--log-level", "error"]
    return running([*command, "tests.services.wsgi"], env)


def wait_until_it_serves(port):
    """As a balancer's health check does: a server may listen before it can answer."""
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if Server(port).request("OPTIONS", "/v2/actor-runs").status == 200:
                return
        time.sleep(0.02)
    raise TimeoutError(f"nothing serves on port {port}")


@pytest.fixture
def topology(transactional_db, tmp_path):
    """A function that starts it all, and returns nginx and a function that restarts a server."""
    with contextlib.ExitStack() as stack:

        def topology(settings, cache=""):
            env = environment(settings)
            ports = [free_port(), free_port()]
            machines = []
            for port in ports:
                machines.append(stack.enter_context(contextlib.ExitStack()))
                machines[-1].enter_context(gunicorn_on(port, env))
            front = free_port()
            config = Path(__file__).with_name("nginx.conf").read_text()
            for name, port in zip(("FIRST", "SECOND", "PORT"), (*ports, front), strict=True):
                config = config.replace(f"@{name}@", str(port))
            config = config.replace("@CACHE@", cache)
            (tmp_path / "nginx.conf").write_text(config)
            command = ["nginx", "-p", str(tmp_path), "-e", "error.log", "-c", "nginx.conf"]
            process = stack.enter_context(running(command, dict(os.environ)))
            for port in (*ports, front):
                wait_until_it_serves(port)

            def restart(number):
                machines[number].close()
                machines[number].enter_context(gunicorn_on(ports[number], env))
                wait_until_it_serves(ports[number])

            return Server(front, process), restart

        yield topology


def test_a_rolling_restart_under_load_fails_no_request_and_deletes_no_run_twice(
    topology, token, finished, alice, client_threads, account, tmp_path
):
    kept = finished()
    server, restart = topology({"ACTOR_RUNS": {"RUN_RATE_LIMIT": None}})
    restarted = threading.Event()
    outcomes: Counter[str] = Counter()
    lock = threading.Lock()
    run_ids = itertools.count()
    # Made ahead, since no thread but this one touches the database.
    runs = [Run(pk=f"rolling-{n}", user=alice, status="SUCCEEDED") for n in range(4000)]
    for run in runs:
        run.finished_at = run.started_at
    Run.objects.bulk_create(runs)

    def load():
        while not restarted.is_set():
            with lock:
                run = runs[next(run_ids)]
            asked = [
                ("GET", server.get(run, token).status),
                ("DELETE", server.delete(run, token).status),
                ("GET kept", server.get(kept, token).status),
            ]
            with lock:
                outcomes.update(f"{method} {status}" for method, status in asked)

    clients = [client_threads.submit(load) for _ in range(4)]
    for _ in range(2):
        for number in (0, 1):
            restart(number)
    restarted.set()
    for client in clients:
        client.result()
    sent = next(run_ids)
    account.update({"requests": 3 * sent, "failed": 0, "servers restarted": 4})
    assert outcomes == {"GET 200": sent, "DELETE 204": sent, "GET kept 200": sent}, (
        tmp_path / "error.log"
    ).read_text()
    assert Run.objects.count() == 1 + len(runs) - sent


def test_behind_a_proxy_each_address_has_its_own_count_and_none_can_be_forged(topology, finished):
    run = finished(general_access="ANYONE_WITH_ID_CAN_READ")
    server, _ = topology(
        {
            "RATELIMIT_IP_META_KEY": "HTTP_X_REAL_IP",
            "ACTOR_RUNS": {"RATE_LIMIT": f"{LIMIT}/d", "RUN_RATE_LIMIT": None},
        }
    )

    def statuses(source):
        answers = [
            server.get(run, source=source, headers={"X-Real-IP": f"203.0.113.{n}"})
            for n in range(LIMIT + 5)
        ]
        return Counter(answer.status for answer in answers)

    assert statuses("127.0.0.1") == {200: LIMIT, 429: 5}
    assert statuses("127.0.0.2") == {200: LIMIT, 429: 5}


def test_without_its_setting_everybody_behind_a_proxy_shares_one_count(topology, finished):
    run = finished(general_access="ANYONE_WITH_ID_CAN_READ")
    server, _ = topology({"ACTOR_RUNS": {"RATE_LIMIT": "1/d", "RUN_RATE_LIMIT": None}})
    assert server.get(run, source="127.0.0.1").status == 200
    assert server.get(run, source="127.0.0.2").status == 429


@pytest.mark.parametrize("kept", ["200 30s", "any 30s"])
def test_a_proxy_that_caches_shows_each_caller_what_is_theirs_now(
    topology, token, finished, bob, tmp_path, kept
):
    run, public = finished(), finished(general_access="ANYONE_WITH_ID_CAN_READ")
    others = token_of(bob)
    settings = {"ACTOR_RUNS": {"RUN_RATE_LIMIT": None}}
    server, _ = topology(settings, cache=f"proxy_cache answers; proxy_cache_valid {kept};")

    def statuses(method, path):
        path = f"/v2/actor-runs{path}"
        return [server.request(method, path, who).status for who in (token, others, None)] * 2

    for method in ("GET", "HEAD"):
        assert statuses(method, f"/{run.pk}") == [200, 403, 401] * 2
        assert statuses(method, f"/{public.pk}") == [200, 200, 200] * 2
        assert statuses(method, "") == [200, 200, 401] * 2
        assert statuses(method, "/unknown") == [404, 404, 401] * 2
    assert server.request("GET", "/v2/actor-runs", token).json["data"]["total"] == 2
    assert server.request("GET", "/v2/actor-runs", others).json["data"]["total"] == 0
    assert server.delete(run, token).status == 204
    Run.objects.filter(pk=public.pk).update(general_access="RESTRICTED")
    for method in ("GET", "HEAD"):
        assert statuses(method, f"/{run.pk}") == [404, 404, 401] * 2
        assert statuses(method, f"/{public.pk}") == [200, 403, 401] * 2
    assert server.request("GET", "/v2/actor-runs", token).json["data"]["total"] == 1
    assert not list((tmp_path / "cache").rglob("*"))
