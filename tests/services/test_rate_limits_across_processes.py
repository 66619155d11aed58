"""The limits are one count for all processes, in whatever cache they share."""

from __future__ import annotations

from collections import Counter
from functools import partial

import pytest

from tests.services.servers import environment, gunicorn

LIMIT = 40  # a day: a window that no test outlasts


@pytest.fixture
def limited(transactional_db):
    """Four processes that let each caller send 40 requests, and each run get 40."""

    def limited(**limits):
        return gunicorn(env=environment({"ACTOR_RUNS": {"RUN_RATE_LIMIT": None, **limits}}))

    return limited


def send(client_threads, calls):
    return Counter(answer.status for answer in client_threads.map(lambda call: call(), calls))


def test_exactly_the_limit_of_one_caller_gets_through(limited, token, finished, client_threads):
    run = finished()
    with limited(RATE_LIMIT=f"{LIMIT}/d") as server:
        calls = [partial(server.get, run, token)] * (3 * LIMIT)
        assert send(client_threads, calls) == {200: LIMIT, 429: 2 * LIMIT}


def test_exactly_the_limit_of_one_run_gets_through(limited, token, finished, client_threads):
    run, other = finished(), finished()
    with limited(RATE_LIMIT=None, RUN_RATE_LIMIT=f"{LIMIT}/d") as server:
        calls = [partial(server.get, run, token)] * (3 * LIMIT)
        assert send(client_threads, calls) == {200: LIMIT, 429: 2 * LIMIT}
        assert server.get(other, token).status == 200


def test_exactly_the_limit_of_wrong_tokens_is_answered_401(
    limited, token, finished, client_threads
):
    run = finished()
    with limited(RATE_LIMIT=f"{LIMIT}/d") as server:
        calls = [partial(server.delete, run, "wrong")] * (2 * LIMIT)
        assert send(client_threads, calls) == {401: LIMIT, 429: LIMIT}
        # Nobody else pays for it.
        assert server.delete(run, token).status == 204


def test_a_refused_request_says_when_to_come_back(limited, token, finished):
    run = finished()
    with limited(RATE_LIMIT="1/d") as server:
        server.get(run, token)
        answer = server.delete(run, token)
    assert answer.error == "rate-limit-exceeded"
    assert 1 <= int(answer.headers["Retry-After"]) <= 24 * 60 * 60
