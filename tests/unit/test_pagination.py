"""The pages of the list: ``limit``, ``offset``, ``desc``, and their order."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from actor_runs.models import Run
from tests.support.api import assert_error
from tests.support.people import join, token_of

UTC = datetime.timezone.utc
START = datetime.datetime(2020, 1, 1, tzinfo=UTC)

# None of these is an integer from 0.
NOT_INTEGERS = [
    *("x", "-1", "-0", "%2B1", "+1", "%201", "1%20", "1%09", "1%0A", "1%00", "%001", "1_000"),
    *("1.0", "1.", ".1", "1e3", "1E3", "0x10", "0b1", "0o7", "1,000", "1%C2%A0", "nan", "inf"),
    *("Infinity", "true", "null", "None", "[]", "%C2%B2", "%C2%BD", "%D9%A1", "%EF%BC%91"),
    *("%E0%A5%A7", "%F0%9D%9F%8F", "%E2%85%A0", "%E4%B8%80", "1%D9%A1", "%FF", "1;2", "--1"),
    "9" * 5000 + "x",
]
GIANTS = [2**31, 2**32, 2**63 - 1, 2**63, 2**64, 10**19, 10**20, 10**100, "9" * 5000]


def page(api: Any, user: Any, query: str = "") -> dict[str, Any]:
    response = api.get(user=user, query=query)
    assert response.status_code == 200, response.content
    return response.json()["data"]


def ids(api: Any, user: Any, query: str = "") -> list[str]:
    return [item["id"] for item in page(api, user, query)["items"]]


@pytest.fixture
def five(alice: Any) -> list[str]:
    """The IDs of five runs of alice's, the oldest first."""
    names = ["e", "d", "c", "b", "a"]
    for number, name in enumerate(names):
        started_at = START + datetime.timedelta(seconds=number)
        Run.objects.create(id=name, user=alice, started_at=started_at)
    return names


def test_a_page_without_runs(api, alice):
    assert page(api, alice) == {
        "total": 0,
        "offset": 0,
        "limit": 1000,
        "count": 0,
        "desc": False,
        "items": [],
    }


def test_a_page_has_a_thousand_runs_at_most(api, alice):
    Run.objects.bulk_create(
        Run(id=f"{number:04}", user=alice, started_at=START) for number in range(1001)
    )
    names = [f"{number:04}" for number in range(1001)]
    for query in ("", "limit=0", "limit=1001"):
        data = page(api, alice, query)
        assert (data["total"], data["count"], data["limit"]) == (1001, 1000, 1000)
        assert [item["id"] for item in data["items"]] == names[:1000]
    rest = page(api, alice, "offset=1000")
    assert (rest["total"], rest["count"], rest["offset"]) == (1001, 1, 1000)
    assert [item["id"] for item in rest["items"]] == names[1000:]


LIMITS = [
    *(("", 1000), ("0", 1000), ("00", 1000), ("0" * 5000, 1000), ("1", 1), ("2", 2), ("5", 5)),
    *(("6", 6), ("0002", 2), ("0" * 5000 + "2", 2), ("%32", 2), ("999", 999), ("1000", 1000)),
    ("1001", 1000),
    *((str(giant), 1000) for giant in GIANTS),
]


def test_limit_is_an_integer_cut_to_1000(api, alice, five, subtests):
    for value, limit in LIMITS:
        with subtests.test(value[:30]):
            data = page(api, alice, f"limit={value}")
            assert data["limit"] == limit
            assert [item["id"] for item in data["items"]] == five[:limit]
            assert data["count"] == min(limit, 5)
            assert data["total"] == 5


OFFSETS = [
    *(("", 0), ("0", 0), ("0" * 5000, 0), ("1", 1), ("0004", 4), ("%34", 4)),
    *(("0" * 5000 + "3", 3), ("5", 5), ("6", 6), ("1000000", 1_000_000)),
]


def test_offset_is_an_integer(api, alice, five, subtests):
    for value, offset in OFFSETS:
        with subtests.test(value[:30]):
            data = page(api, alice, f"offset={value}")
            assert data["offset"] == offset
            assert [item["id"] for item in data["items"]] == five[offset:]
            assert data["count"] == len(five[offset:])
            assert data["total"] == 5


def test_an_offset_too_large_for_the_database_is_an_empty_page(api, alice, five, subtests):
    for giant in GIANTS:
        with subtests.test(str(giant)[:30]):
            for query in (f"offset={giant}", f"offset={giant}&limit={giant}&desc=1"):
                data = page(api, alice, query)
                assert (data["total"], data["count"], data["items"]) == (5, 0, [])


@pytest.mark.parametrize("name", ["limit", "offset"])
def test_anything_else_is_refused_as_an_integer(api, alice, name, subtests):
    for value in NOT_INTEGERS:
        with subtests.test(value[:30]):
            message = f"Invalid input: {name} must be a whole number, 0 or more."
            response = api.get(user=alice, query=f"{name}={value}")
            assert_error(response, 400, "invalid-input", message)


@pytest.mark.parametrize(
    ("value", "desc"),
    [("1", True), ("true", True), ("0", False), ("false", False), ("", False), ("%31", True)],
)
def test_desc_turns_the_order_round(api, alice, five, value, desc):
    data = page(api, alice, f"desc={value}")
    assert data["desc"] is desc
    assert [item["id"] for item in data["items"]] == (five[::-1] if desc else five)


NOT_DIRECTIONS = [
    *("x", "TRUE", "True", "FALSE", "False", "yes", "no", "on", "off", "t", "f", "2", "-1"),
    *("00", "01", "1.0", "%201", "1%20", "true%0A", "1%00", "null", "desc", "%C2%B9"),
    *("%EF%BC%91", "%FF", "1,0"),
]


def test_anything_else_is_refused_as_desc(api, alice, subtests):
    for value in NOT_DIRECTIONS:
        with subtests.test(value):
            message = "Invalid input: desc must be 1, true, 0 or false."
            response = api.get(user=alice, query=f"desc={value}")
            assert_error(response, 400, "invalid-input", message)


def test_runs_come_by_started_at_whoever_of_the_callers_owns_them(api, alice, acme):
    join(alice, acme)
    for number, owner in enumerate([{"user": alice}, {"organization": acme}] * 3):
        started_at = START - datetime.timedelta(days=number)
        Run.objects.create(id=f"run{number}", started_at=started_at, **owner)
    assert ids(api, alice) == ["run5", "run4", "run3", "run2", "run1", "run0"]
    assert ids(api, alice, "desc=1") == ["run0", "run1", "run2", "run3", "run4", "run5"]


def test_ties_go_by_id_in_the_direction_of_desc(api, alice, acme):
    # Of two owners, so that no index gives this order by itself.
    join(alice, acme)
    for name, owner in zip("cadb", [{"user": alice}, {"organization": acme}] * 2, strict=True):
        Run.objects.create(id=name, started_at=START, **owner)
    assert ids(api, alice) == ["a", "b", "c", "d"]
    assert ids(api, alice, "desc=1") == ["d", "c", "b", "a"]


def test_runs_of_the_same_millisecond_are_a_tie(api, alice):
    for name, microsecond in (("c", 202100), ("a", 202999), ("b", 202000)):
        started_at = START.replace(microsecond=microsecond)
        Run.objects.create(id=name, user=alice, started_at=started_at)
    assert ids(api, alice) == ["a", "b", "c"]
    assert ids(api, alice, "desc=true") == ["c", "b", "a"]


@pytest.mark.parametrize("desc", ["0", "1"])
@pytest.mark.parametrize("limit", [1, 3])
def test_pages_have_every_run_once_and_in_order(api, alice, desc, limit):
    names = [f"{number:02}" for number in range(20)]
    for number, name in enumerate(names):
        # Two runs share each second.
        started_at = START + datetime.timedelta(seconds=number // 2)
        Run.objects.create(id=name, user=alice, started_at=started_at)
    seen = []
    for offset in range(0, 20, limit):
        seen += ids(api, alice, f"desc={desc}&limit={limit}&offset={offset}")
    assert seen == (names[::-1] if desc == "1" else names)


def test_the_total_is_of_what_the_filters_leave(api, alice, five):
    data = page(api, alice, "startedAfter=2020-01-01T00:00:02Z&limit=1&offset=1")
    assert (data["total"], data["count"], data["offset"], data["limit"]) == (3, 1, 1, 1)
    assert [item["id"] for item in data["items"]] == ["b"]


@pytest.mark.parametrize("name", ["unpaged", "paged"])
def test_a_list_without_the_apps_pagination_is_sorted(settings, api, alice, name):
    settings.ROOT_URLCONF = "tests.support.schema_host"
    ids = [
        Run.objects.create(user=alice, started_at=START + datetime.timedelta(hours=hours)).pk
        for hours in (3, 1, 2)
    ]
    key, pages = {"unpaged": ("data", [1]), "paged": ("results", [1, 2])}[name]
    found = []
    for page in pages:
        path = f"/of/acme/{name}-runs/?page={page}"
        token = {"HTTP_AUTHORIZATION": f"Bearer {token_of(alice)}"}
        response = api.client.generic("GET", path, b"", "application/json", **token)
        found += [run["id"] for run in response.json()[key]]
    assert found == [ids[1], ids[2], ids[0]]
