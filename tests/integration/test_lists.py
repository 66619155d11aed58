"""What a list reads: its owners' runs and nobody else's, wherever they lie, on every database.

The caller's runs are all older than everybody else's: a database that walks the runs of all owners
in the order of their start has to read the others' first.
"""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.utils import timezone

from actor_runs.models import Run, RunStatus
from tests.support.people import join, make_organization, make_user, token_of
from tests.support.reads import entries_read, start_counting

OWN, OTHERS, ORGANIZATIONS = 300, 4000, 20
LIMIT = 10
START = timezone.now().replace(microsecond=0) - datetime.timedelta(days=9)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.plain]


def fill(owner: dict[str, Any], first: int, count: int) -> None:
    """Make runs of one owner, one a second; every tenth FAILED."""
    runs = []
    for number in range(first, first + count):
        moment = START + datetime.timedelta(seconds=number)
        status = RunStatus.FAILED if number % 10 == 0 else RunStatus.SUCCEEDED
        runs.append(Run(**owner, status=status, started_at=moment, finished_at=moment))
    Run.objects.bulk_create(runs)


@pytest.fixture
def table(db: None) -> None:
    """Runs of alice, of 20 organizations that carol is in, and, all newer, of everybody else."""
    alice, carol, others = make_user("alice"), make_user("carol"), make_user("others")
    make_user("dave")
    fill({"user": alice}, 0, OWN)
    for number in range(ORGANIZATIONS):
        organization = make_organization(f"Organization{number}")
        join(carol, organization)
        fill({"organization": organization}, OWN + number * 10, 10)
    join(alice, make_organization("Empty"))
    fill({"user": others}, 1000, OTHERS)
    start_counting()


# Who asks for what, and how many entries of the owner's index the page and the total need.
REQUESTS = [
    ("alice", "desc=1", LIMIT, OWN),
    ("alice", "desc=0", LIMIT, OWN),
    ("alice", "desc=1&status=FAILED", LIMIT, OWN // 10),
    ("alice", "desc=1&status=READY,RUNNING", 0, 0),
    ("alice", f"desc=1&offset={OWN - 5}", OWN + 5, 0),
    ("alice", f"startedAfter={START:%Y-%m-%dT%H:%M:%SZ}", LIMIT, OWN),
    ("carol", "desc=1", LIMIT * ORGANIZATIONS, 10 * ORGANIZATIONS),
    ("carol", "desc=1&status=FAILED,ABORTED", 2 * ORGANIZATIONS, 10 * ORGANIZATIONS),
    ("dave", "desc=1", 0, 0),
]


def a_list_reads_the_entries_of_its_page_and_its_total(api, admin_client):
    for username, query, page, total in REQUESTS:
        token = token_of(get_user_model().objects.get(username=username))
        before = entries_read()
        response = api.get(token=token, query=f"limit={LIMIT}&{query}")
        read = entries_read() - before
        data = response.json()["data"]
        assert len(data["items"]) == min(LIMIT, data["total"] - data["offset"]), query
        # Rows of the page are read too, and MariaDB counts temporary ones.
        assert read <= 4 * page + 2 * total + 100 < OTHERS / 2, (username, query, read)


def a_prune_of_one_callers_runs_reads_only_these(api, admin_client):
    for username, count in [("alice", OWN), ("carol", 10 * ORGANIZATIONS), ("dave", 0)]:
        runs = Run.objects.owned_by(get_user_model().objects.get(username=username))
        before = entries_read()
        result = runs.prune(datetime.timedelta(hours=1), keep_last=2, dry_run=True)
        read = entries_read() - before
        # Each run twice, and its owner's newest; MariaDB reads through the owner's index too.
        assert read <= 6 * count + 100 < OTHERS, (username, read)
        owners = {"alice": 1, "carol": ORGANIZATIONS, "dave": 0}[username]
        assert result.deleted == count - 2 * owners


def an_ordinary_slice_of_a_callers_runs_reads_only_these(api, admin_client):
    for order in (["-started_at", "-id"], ["started_at", "-started_at", "pk"]):
        for username, count in [("alice", LIMIT), ("carol", LIMIT * ORGANIZATIONS), ("dave", 0)]:
            runs = Run.objects.owned_by(get_user_model().objects.get(username=username))
            before = entries_read()
            page = list(runs.order_by(*order).select_related("user", "organization")[:LIMIT])
            assert entries_read() - before <= 4 * count + 100 < OTHERS / 2, (username, order)
            expected = sorted(runs, key=lambda run: (run.started_at, run.pk))
            if order[0].startswith("-"):
                expected.reverse()
            assert page == expected[:LIMIT]


def a_search_for_owners_in_the_admin_reads_only_their_runs(api, admin_client):
    for term, count in [("alice", OWN), ("Organization1", 11 * 10), ("x", 0)]:
        before = entries_read()
        page = admin_client.get("/admin/actor_runs/run/", {"q": term})
        read = entries_read() - before
        assert page.context["cl"].result_count == count
        assert read <= 12 * count + 100 < OTHERS, (term, read)


CHECKS = [
    a_list_reads_the_entries_of_its_page_and_its_total,
    a_prune_of_one_callers_runs_reads_only_these,
    an_ordinary_slice_of_a_callers_runs_reads_only_these,
    a_search_for_owners_in_the_admin_reads_only_their_runs,
]


def test_a_query_for_the_runs_of_an_owner_reads_no_others(api, admin_client, table, subtests):
    # None of them writes: the table is filled once, which takes longer than all of them.
    for check in CHECKS:
        with subtests.test(check.__name__):
            check(api, admin_client)
