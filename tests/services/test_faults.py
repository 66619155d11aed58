"""Caches and databases that fail, processes that die: every answer in the envelope, nothing
half-deleted, and service again without a restart.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from urllib.parse import urlsplit

import pytest
from django.apps import apps
from django.db import connection, transaction

from actor_runs.models import Run, RunStatus
from tests.services.conftest import Hold
from tests.services.relay import Relay
from tests.services.servers import database_url, environment, gunicorn, running
from tests.support.ports import free_port

# What docs/how-to/deployment.md tells a host to set, in seconds.
REDIS_TIMEOUTS = "socket_timeout=1&socket_connect_timeout=1"

LOCK_TIMEOUTS = {
    "postgresql": "options=-c%20lock_timeout%3D1000",
    "mysql": "init_command=SET%20innodb_lock_wait_timeout%3D1",
}

# Ends every other connection to the test's database, as a restart would.
KILL = {
    "postgresql": "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()",
    "mysql": "SELECT id FROM information_schema.processlist"
    " WHERE db = DATABASE() AND id <> CONNECTION_ID()",
}


def kill_connections():
    with connection.cursor() as cursor:
        cursor.execute(KILL[connection.vendor])
        if connection.vendor == "mysql":
            for (number,) in cursor.fetchall():
                cursor.execute("KILL %s", [number])


@pytest.fixture
def relays():
    with contextlib.ExitStack() as stack:

        def relay(url, default_port):
            parts = urlsplit(url)
            relay = Relay(parts.hostname, parts.port or default_port)
            stack.callback(relay.refuse)
            return relay

        yield relay


@pytest.fixture
def cache_line(relays):
    return relays(os.environ["REDIS_URL"], 6379)


@pytest.fixture
def cache_url(cache_line):
    """The suite's cache through the relay, with the time-outs that a host must set."""
    parts = urlsplit(os.environ["REDIS_URL"])
    return f"redis://127.0.0.1:{cache_line.port}{parts.path}?{REDIS_TIMEOUTS}"


@pytest.fixture
def database_line(relays):
    return relays(database_url(), {"postgresql": 5432, "mysql": 3306}[connection.vendor])


@pytest.fixture
def server_on_a_line(transactional_db, database_line):
    url = database_url("127.0.0.1", database_line.port)
    with gunicorn(workers=2, env=environment(DATABASE_URL=url)) as server:
        yield server


def assert_kept(run):
    assert Run.objects.get(pk=run.pk).status == RunStatus.SUCCEEDED


def deleted_in_the_end(server, run, token):
    """Delete the run; connections that died before may cost one request each their 503."""
    statuses = [server.delete(run, token).status for _ in range(20)]
    statuses = statuses[: statuses.index(204) + 1]
    assert set(statuses) <= {204, 503}, statuses
    return True


@pytest.mark.parametrize("fault", ["refused", "silent"])
@pytest.mark.parametrize(("fail_open", "status"), [(False, 429), (True, 204)])
def test_a_cache_that_fails_costs_the_limits_or_the_requests_as_the_host_chose(
    fault, fail_open, status, token, finished, cache_line, cache_url
):
    run, later = finished(), finished()
    env = environment({"RATELIMIT_FAIL_OPEN": fail_open}, REDIS_URL=cache_url)
    with gunicorn(workers=2, env=env) as server:
        assert server.get(run, token).status == 200
        if fault == "refused":
            cache_line.refuse()
        else:
            cache_line.answers = False
        answer = server.delete(run, token)
        assert answer.status == status
        if status == 429:
            assert answer.error == "rate-limit-exceeded"
            assert int(answer.headers["Retry-After"]) >= 1
            assert_kept(run)
        # Back again: the next requests are counted as ever.
        if fault == "refused":
            cache_line.accept()
        else:
            cache_line.cut()
            cache_line.answers = True
        answers = [server.get(later, token) for _ in range(20)]
        assert answers[-1].status == 200
        assert server.delete(later, token).status == 204


def test_a_redis_that_restarts_is_used_again(token, finished):
    run = finished()
    port = free_port()
    redis = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    quiet = {"stdout": subprocess.DEVNULL}
    env = environment(REDIS_URL=f"redis://127.0.0.1:{port}/0?{REDIS_TIMEOUTS}")
    with gunicorn(workers=2, env=env) as server:
        with running(redis, dict(os.environ), **quiet):
            answer = server.get(run, token)
            while answer.status == 429:  # not up yet
                answer = server.get(run, token)
            assert answer.status == 200
        assert server.delete(run, token).error == "rate-limit-exceeded"
        assert_kept(run)
        with running(redis, dict(os.environ), **quiet):
            answer = server.delete(run, token)
            while answer.status == 429:
                answer = server.delete(run, token)
            assert answer.status == 204


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_database_that_refuses_is_a_503_until_it_is_back(
    method, server_on_a_line, token, finished, database_line
):
    run = finished()
    server = server_on_a_line
    assert server.get(run, token).status == 200
    database_line.refuse()
    for _ in range(4):
        answer = server.request(method, f"/v2/actor-runs/{run.pk}", token)
        assert answer.error == "service-unavailable"
        assert int(answer.headers["Retry-After"]) >= 1
    assert_kept(run)
    database_line.accept()
    assert deleted_in_the_end(server, run, token)


def test_connections_that_died_while_idle_cost_no_request(server_on_a_line, token, finished):
    runs = [finished() for _ in range(8)]
    for run in runs:
        assert server_on_a_line.get(run, token).status == 200
    kill_connections()
    assert [server_on_a_line.delete(run, token).status for run in runs] == [204] * 8


def test_a_connection_killed_in_the_middle_of_a_delete_is_a_503_and_the_run_is_whole(
    hold, finished, token
):
    run = finished()
    with transaction.atomic():
        Run.objects.select_for_update().get(pk=run.pk)
        answer = hold.delete_arrives(run)
        kill_connections()
        assert answer.result().error == "service-unavailable"
    assert_kept(run)
    assert deleted_in_the_end(hold.server, run, token)


def test_lines_cut_under_load_delete_nothing_twice_and_nothing_by_halves(
    server_on_a_line, token, finished, database_line, client_threads, account
):
    runs = [finished() for _ in range(60)]
    answers = []
    for number, run in enumerate(runs):
        answers.append(client_threads.submit(server_on_a_line.delete, run, token))
        if number % 20 == 10:
            answers[-1].result()
            database_line.cut()
    for run, answer in zip(runs, [answer.result() for answer in answers], strict=True):
        account.update(["requests", str(answer.status)])
        if answer.status == 204:
            assert not Run.objects.filter(pk=run.pk).exists()
            continue
        assert answer.error == "service-unavailable"
        # It may have happened, when the line was cut at COMMIT: then 404 means done.
        left = Run.objects.filter(pk=run.pk).exists()
        again = [server_on_a_line.delete(run, token).status for _ in range(20)]
        assert (204 in again) == left
        assert set(again) <= {204, 404, 503}


@pytest.mark.host
def test_a_worker_killed_in_the_middle_of_a_cascade_leaves_the_run_and_its_rows(
    announcing_server, announcements, client_threads, token, finished
):
    run = finished(status_message="hold")
    for _ in range(5):
        run.notes.create()
    answer = client_threads.submit(announcing_server.delete, run, token)
    worker = int(announcements.wait_for("held by "))
    os.kill(worker, signal.SIGKILL)
    assert answer.exception() is not None  # nobody is left to answer
    run.transition_to(RunStatus.RUNNING)  # as soon as the database let go of the row
    assert run.notes.count() == 5
    run.transition_to(RunStatus.SUCCEEDED, status_message="")
    assert announcing_server.delete(run, token).status == 204
    assert not apps.get_model("host", "Note").objects.exists()


@pytest.mark.host
def test_a_receiver_that_raises_is_a_500_and_the_run_stays_with_its_rows(
    server, token, finished, caplog
):
    run = finished(status_message="raise")
    run.notes.create()
    answer = server.delete(run, token)
    assert (answer.status, answer.error) == (500, "internal-server-error")
    assert b"receiver" not in answer.body
    assert_kept(run)
    assert run.notes.count() == 1
    assert not apps.get_model("witness", "Heard").objects.exists()


def test_a_lock_that_is_never_released_is_a_503_after_the_time_out(
    announcements, client_threads, token, finished
):
    run = finished()
    url = f"{database_url().partition('?')[0]}?{LOCK_TIMEOUTS[connection.vendor]}"
    env = environment(DATABASE_URL=url, ANNOUNCE=announcements.path)
    with gunicorn(workers=1, env=env) as server:
        with transaction.atomic():
            Run.objects.select_for_update().get(pk=run.pk)
            answer = Hold(server, announcements, client_threads, token).delete_arrives(run)
            assert answer.result().error == "service-unavailable"
        assert_kept(run)
        assert server.delete(run, token).status == 204
