"""One caller cannot use up what is another's: neither a limit nor the server's threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection

from actor_runs.models import GeneralAccess, Run, RunStatus
from actor_runs.throttling import place_to_wait
from tests.support.people import join


def statuses(*responses: Any) -> list[int]:
    return [response.status_code for response in responses]


@pytest.fixture
def running(alice):
    """A run of alice's that is not finished, and that anybody may read."""
    return Run.objects.create(
        user=alice,
        status=RunStatus.RUNNING,
        general_access=GeneralAccess.ANYONE_WITH_ID_CAN_READ,
    )


@contextmanager
def at_read(number: int, action: Callable[[], Any]) -> Iterator[list[str]]:
    """Do ``action`` once runs were read for the ``number``-th time; yield the reads until now."""
    reads: list[str] = []

    def watch(execute: Any, sql: str, *args: Any) -> Any:
        result = execute(sql, *args)
        if sql.startswith("SELECT") and Run._meta.db_table in sql:
            reads.append(sql)
            if len(reads) == number:
                action()
        return result

    with connection.execute_wrapper(watch):
        yield reads


# Limits


def test_requests_of_others_for_a_run_do_not_count_against_its_owner(
    api, alice, bob, run, configure
):
    configure(RUN_RATE_LIMIT="5/m")
    assert statuses(*(api.get(f"/{run.pk}") for _ in range(12))) == [401] * 5 + [429] * 7
    assert statuses(*(api.get(f"/{run.pk}", user=bob) for _ in range(6))) == [403] * 5 + [429]
    answers = [api.get(f"/{run.pk}", user=alice) for _ in range(4)]
    answers += [api.delete(f"/{run.pk}", user=alice), api.get(f"/{run.pk}", user=alice)]
    assert statuses(*answers) == [200, 200, 200, 200, 204, 429]


def test_members_of_an_organization_have_a_limit_each(api, alice, bob, acme, configure):
    configure(RUN_RATE_LIMIT="1/m")
    run = Run.objects.create(organization=acme)
    for member in (alice, bob):
        join(member, acme)
        answers = [api.get(f"/{run.pk}", user=member) for _ in range(2)]
        assert statuses(*answers) == [200, 429]


@pytest.mark.parametrize("limit", ["RATE_LIMIT", "RUN_RATE_LIMIT"])
def test_ipv4_addresses_inside_of_ipv6_have_a_limit_each(api, configure, limit):
    configure(**{limit: "3/d"})
    for number in (11, 12, 13, 14):
        mapped = [
            api.get("/x", token="wrong", REMOTE_ADDR=f"::ffff:127.0.0.{number}") for _ in range(3)
        ]
        assert statuses(*mapped) == [401, 401, 401]
        # It is the same address, however it is written.
        assert api.get("/x", REMOTE_ADDR=f"127.0.0.{number}").status_code == 429


def test_an_ipv4_address_inside_of_ipv6_is_cut_as_ipv4(api, configure, settings):
    configure(RATE_LIMIT="1/d")
    settings.RATELIMIT_IPV4_MASK = 24
    answers = [api.get(REMOTE_ADDR=f"::ffff:192.0.2.{number}") for number in (1, 2)]
    assert statuses(*answers) == [401, 429]
    assert api.get(REMOTE_ADDR="::ffff:192.0.3.1").status_code == 401


def test_who_has_a_token_has_one_limit_at_all_addresses(api, alice, configure):
    configure(RATE_LIMIT="1/d")
    answers = [api.get(user=alice, REMOTE_ADDR=f"192.0.2.{number}") for number in (1, 2)]
    assert statuses(*answers) == [200, 429]


# Waiting


@pytest.fixture
def wait(api, running, configure):
    """A function that asks for the running run, and to wait a minute for its end."""
    configure(MAX_WAIT_FOR_FINISH=60, MAX_WAITING=1)

    def wait(user: Any) -> Any:
        return api.get(f"/{running.pk}", user=user, query="waitForFinish=60")

    return wait


def finish() -> None:
    Run.objects.get().transition_to(RunStatus.SUCCEEDED)


@pytest.mark.parametrize("caller", ["bob", None])
def test_others_than_the_owner_are_answered_at_once(wait, bob, caller):
    with at_read(2, finish) as reads:
        response = wait(bob if caller else None)
    assert (response.json()["data"]["status"], len(reads)) == ("RUNNING", 1)


def test_with_all_places_to_wait_taken_the_owner_is_answered_soon(wait, alice):
    with place_to_wait() as has_place, at_read(3, finish) as reads:
        assert has_place
        response = wait(alice)
    assert (response.json()["data"]["status"], len(reads)) == ("RUNNING", 2)


def test_where_there_are_no_places_to_wait_nobody_waits(wait, alice, configure):
    configure(MAX_WAITING=0)
    with at_read(3, finish) as reads:
        response = wait(alice)
    assert (response.json()["data"]["status"], len(reads)) == ("RUNNING", 2)


def fail() -> None:
    raise RuntimeError("a mistake in the host's code")


@pytest.mark.parametrize(("end", "status"), [(finish, 200), (fail, 500)])
def test_who_waited_makes_room_for_others_however_it_ended(wait, alice, end, status):
    with at_read(2, end):
        assert wait(alice).status_code == status
    with place_to_wait() as has_place:
        assert has_place
