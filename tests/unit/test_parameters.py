"""Query parameters: how they are read, and the filters of the list."""

from __future__ import annotations

import datetime
import zoneinfo
from typing import Any

import pytest
from django.db import connections

from actor_runs.models import Run, RunStatus
from tests.support.api import assert_error
from tests.support.people import join

UTC = datetime.timezone.utc
MILLISECOND = datetime.timedelta(milliseconds=1)
BOUNDS = ("startedAfter", "startedBefore")


def found(api: Any, user: Any, query: str, **options: Any) -> list[str]:
    response = api.get(user=user, query=query, **options)
    assert response.status_code == 200, response.content
    data = response.json()["data"]
    assert data["total"] == data["count"] == len(data["items"])
    return [item["id"] for item in data["items"]]


# Parameters in general


IGNORED = [
    "unknown=1",
    "LIMIT=x",
    "Status=x",
    "waitForFinish=x",
    "limit[]=x",
    "%00=%00",
    "%FF=%FF",
    "=",
    "&&&",
    "limit",
    "limit=",
    "offset=",
    "desc=",
    "status=",
    "startedAfter=",
    "startedBefore=",
    "limit=&offset=&desc=&status=&startedAfter=&startedBefore=",
    "x=%ED%A0%80",
    "%zz=%",
    "_=1574987464202",
]


def test_unknown_parameters_are_ignored_and_empty_ones_absent(api, alice, run, subtests):
    for query in IGNORED:
        with subtests.test(query):
            assert api.get(user=alice, query=query).content == api.get(user=alice).content


def test_unknown_parameters_are_ignored_by_get_and_delete(api, alice, run):
    query = "limit=x&status=x&a=b"
    assert api.get(f"/{run.pk}", user=alice, query=query).status_code == 200
    query += "&waitForFinish=x"
    assert api.delete(f"/{run.pk}", user=alice, query=query).status_code == 204


@pytest.mark.parametrize(
    ("query", "key", "value"),
    [
        ("limit=1&limit=2", "limit", 2),
        ("limit=x&limit=2", "limit", 2),
        ("limit=2&limit=", "limit", 1000),
        ("limit=2&limit", "limit", 1000),
        ("offset=5&a=b&offset=1", "offset", 1),
        ("desc=x&desc=1", "desc", True),
        ("desc=1&desc=0", "desc", False),
    ],
)
def test_of_a_repeated_parameter_the_last_counts(api, alice, query, key, value):
    assert api.get(user=alice, query=query).json()["data"][key] == value


@pytest.mark.parametrize("query", ["limit=2&limit=x", "desc=1&desc=x", "status=FAILED&status=x"])
def test_of_a_repeated_parameter_the_last_is_refused_too(api, alice, query):
    assert api.get(user=alice, query=query).status_code == 400


def test_filters_take_the_last_of_repeated_parameters(api, alice, run):
    assert found(api, alice, "status=FAILED&status=SUCCEEDED") == [run.pk]
    assert found(api, alice, "status=SUCCEEDED&status=FAILED") == []
    assert found(api, alice, "startedAfter=9999-01-01&startedAfter=2000-01-01") == [run.pk]
    assert found(api, alice, "startedBefore=2000-01-01&startedBefore=") == [run.pk]


def test_a_percent_sign_hides_no_parameter(api, alice):
    data = api.get(user=alice, query="%6c%69mit=%37").json()["data"]
    assert data["limit"] == 7


@pytest.mark.parametrize("query", ["limit=1;offset=2", "status=FAILED;limit=1"])
def test_only_an_ampersand_separates_parameters(api, alice, query):
    assert api.get(user=alice, query=query).status_code == 400


def test_a_content_type_changes_nothing_about_parameters(api, alice):
    for charset in ("utf-16", "utf-7", "x"):
        content_type = f"application/json; charset={charset}"
        response = api.get(user=alice, query="limit=7", CONTENT_TYPE=content_type)
        assert response.json()["data"]["limit"] == 7


@pytest.mark.parametrize("names", ["a={}", "a{}=1", "limit={}&b"])
def test_a_thousand_parameters_are_accepted(api, alice, run, names):
    query = "&".join(names.format(number) for number in range(1000))
    query = "&".join(query.split("&")[-999:]) + "&limit=7"
    assert api.get(user=alice, query=query).json()["data"]["limit"] == 7
    assert api.get(f"/{run.pk}", user=alice, query=query).status_code == 200
    assert api.delete(f"/{run.pk}", user=alice, query=query).status_code == 204


@pytest.mark.parametrize(("number", "host_limit"), [(1001, None), (1001, 10), (100_000, 10**9)])
def test_more_than_a_thousand_parameters_are_refused(api, settings, alice, run, number, host_limit):
    settings.DATA_UPLOAD_MAX_NUMBER_FIELDS = host_limit
    query = "&".join(f"a={index}" for index in range(number))
    for method, path in (("GET", ""), ("GET", f"/{run.pk}"), ("DELETE", f"/{run.pk}")):
        response = api(method, path, user=alice, query=query)
        message = "Invalid input: more than 1000 parameters."
        assert_error(response, 400, "invalid-input", message)
    assert Run.objects.filter(pk=run.pk).exists()


# status


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        *[(status.value, {status}) for status in RunStatus],
        ("SUCCEEDED,FAILED", {"SUCCEEDED", "FAILED"}),
        ("TIMED-OUT,TIMING-OUT,READY", {"TIMED-OUT", "TIMING-OUT", "READY"}),
        ("FAILED,FAILED", {"FAILED"}),
        ("FAILED%2CABORTED", {"FAILED", "ABORTED"}),
        (",".join(RunStatus.values), set(RunStatus.values)),
        (",".join(["READY"] * 5000), {"READY"}),
        ("", set(RunStatus.values)),
    ],
)
def test_status_is_one_or_several_with_commas(api, alice, value, wanted):
    for status in RunStatus:
        Run.objects.create(user=alice, status=status)
    items = api.get(user=alice, query=f"status={value}").json()["data"]["items"]
    assert {item["status"] for item in items} == wanted
    assert len(items) == len(wanted)


UNKNOWN_STATUSES = [
    *("x", "succeeded", "Succeeded", "TIMED_OUT", "TIMED OUT", "SUCCEEDED ", "%20SUCCEEDED"),
    *("SUCCEEDED,", ",SUCCEEDED", ",", "SUCCEEDED,,FAILED", "SUCCEEDED,%20FAILED"),
    *("SUCCEEDED,x", "SUCCEEDED%0A", "SUCCEEDED%00", "SUCCEEDED;FAILED", "SUCCEEDED|FAILED"),
    *("[]", "*", "null", "%FF", "SUCCEEDED'--", "%EF%BC%A6AILED"),
]


def test_an_unknown_status_is_refused(api, alice, subtests):
    for value in UNKNOWN_STATUSES:
        with subtests.test(value):
            message = (
                "Invalid input: status must be one or more of "
                "READY,RUNNING,SUCCEEDED,FAILED,TIMING-OUT,TIMED-OUT,ABORTING,ABORTED."
            )
            response = api.get(user=alice, query=f"status={value}")
            assert_error(response, 400, "invalid-input", message)


# startedAfter and startedBefore

MOMENTS = {
    "2019-11-30T07:34:24.202Z": [
        "2019-11-30T07:34:24.202Z",
        "2019-11-30T07:34:24.202",
        "2019-11-30T07:34:24.202000Z",
        "2019-11-30T07:34:24.20200000000000000000Z",
        "2019-11-30T07:34:24.202999Z",
        "2019-11-30T07:34:24.2029999999999",
        "2019-11-30T07:34:24.202%2B00:00",
        "2019-11-30T07:34:24.202-00:00",
        "2019-11-30T07:34:24.202+00:00",
        "2019-11-30T07:34:24.202%2000:00",
        "2019-11-30T08:34:24.202%2B01:00",
        "2019-11-30T08:34:24.202+01:00",
        "2019-11-30T08:34:24.202+0100",
        "2019-11-30T08:34:24.202+01",
        "2019-11-30T02:04:24.202-05:30",
        "2019-11-30T02:04:24.202-0530",
        "2019-11-29T21:34:24.202-10",
        "2019-12-01T07:33:24.202%2B23:59",
        "2019-11-29T07:35:24.202-23:59",
        "2019%2D11%2D30T07%3A34%3A24%2E202Z",
    ],
    "2019-11-30T07:34:24.200Z": [
        "2019-11-30T07:34:24.2Z",
        "2019-11-30T07:34:24.20%2B00:00",
    ],
    "2019-11-30T07:34:00.000Z": [
        "2019-11-30T07:34",
        "2019-11-30T07:34Z",
        "2019-11-30T07:34:00",
        "2019-11-30T07:34:00Z",
        "2019-11-30T07:34%2B00",
        "2019-11-30T09:34%2B02:00",
        "2019-11-30T09:34+02:00",
        "2019-11-30T09:34+02",
    ],
    "2019-11-30T00:00:00.000Z": [
        "2019-11-30",
        "2019-11-30T00:00",
        "2019-11-29T23:00-01:00",
    ],
    # Hours that are skipped or come twice in New York, Django's zone in one configuration.
    "2019-03-10T02:30:00.000Z": [
        "2019-03-10T02:30",
    ],
    "2019-11-03T01:30:00.000Z": [
        "2019-11-03T01:30",
    ],
    "2020-02-29T23:59:59.999Z": [
        "2020-02-29T23:59:59.999",
    ],
    "1000-01-01T00:00:00.000Z": [
        "1000-01-01",
    ],
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_times_are_inclusive_to_the_millisecond_and_without_an_offset_in_utc(
    api, alice, subtests, moment
):
    at = datetime.datetime.strptime(moment, "%Y-%m-%dT%H:%M:%S.%f%z")
    for name, started_at in (("before", at - MILLISECOND), ("at", at), ("after", at + MILLISECOND)):
        Run.objects.create(id=name, user=alice, started_at=started_at)
    for text in MOMENTS[moment]:
        with subtests.test(text):
            assert found(api, alice, f"startedAfter={text}") == ["at", "after"]
            assert found(api, alice, f"startedBefore={text}") == ["before", "at"]
            assert found(api, alice, f"startedAfter={text}&startedBefore={text}") == ["at"]


def test_a_runs_own_started_at_finds_it(api, alice, run):
    started_at = api.get(f"/{run.pk}", user=alice).json()["data"]["startedAt"]
    assert found(api, alice, f"startedAfter={started_at}&startedBefore={started_at}") == [run.pk]


NOT_TIMES = [
    *("x", "0", "1575099264202", "2019", "2019-11", "2019-W48-6", "2019-334", "20191130"),
    *("19-11-30", "2019-1-30", "2019-11-3", "2019/11/30", "30.11.2019", "today", "now"),
    *("2019-11-30T", "2019-11-30T07", "2019-11-30T0734", "2019-11-30T7:34", "2019-11-30T07:3"),
    *("2019-11-30 07:34:24", "2019-11-30%2007:34:24Z", "2019-11-30t07:34:24Z"),
    *("2019-11-30T07:34:24z", "2019-11-30x07:34:24Z", "2019-11-30T07:34:24 Z"),
    *("2019-11-30T07:34:24.", "2019-11-30T07:34:24.Z", "2019-11-30T07:34.5"),
    *("2019-11-30T07:34:24,202Z", "2019-11-30T07:34:4Z", "2019-11-30T07:34:24.-1Z"),
    *("2019-11-30Z", "2019-11-30+01:00", "2019-11-30T07:34:24+1", "2019-11-30T07:34:24+1:00"),
    *("2019-11-30T07:34:24%2B01:", "2019-11-30T07:34:24+01:", "2019-11-30T07:34:24-05:"),
    *("2019-11-30T07:34:24%2B", "2019-11-30T07:34:24-", "2019-11-30T07:34:24%20"),
    *("2019-11-30T07:34:24%2B01:0", "2019-11-30T07:34:24%2B010", "2019-11-30T07:34:24Z0"),
    *("2019-11-30T07:34:24%2B01:60", "2019-11-30T07:34:24%2B24:00", "2019-11-30T07:34-24"),
    *("2019-11-30T07:34:24%2B01:00:30", "2019-11-30T07:34:24%2B99:00", "2019-11-30T07:34ZZ"),
    *("2019-11-30T07:34:24%2B%2B01:00", "2019-11-30T07:34:24Z%2B01:00"),
    *("%202019-11-30", "2019-11-30%20", "2019-11-30%0A", "2019-11-30T07:34:24Z%0A"),
    *("2019-11-30T07:34:24Z%00", "2019-11-30%00", "%002019-11-30", "2019-11-30T07:34:24%00Z"),
    *("2019-00-30", "2019-13-01", "2019-11-00", "2019-11-31", "2019-02-29", "2100-02-29"),
    *("2019-11-30T24:00:00Z", "2019-11-30T07:60:00Z", "2019-11-30T07:34:60Z", "-2019-11-30"),
    *("%2B2019-11-30", "+2019-11-30", "%D9%A2%D9%A0%D9%A1%D9%A9-11-30", "2019-11-3%D9%A0"),
    *("%EF%BC%92019-11-30", "2019%E2%80%9311%E2%80%9330", "2019-11-30T07:34:24.%D9%A2Z"),
    *("2019-11-30T07:34:24%E2%88%9205:00", "20191-11-30", "2019-11-30T07:34:24[UTC]"),
    *("%FF", "NaN", "null", "2019-11-30T07:34:24.202Z,2019-11-30", "P1D", "9" * 5000),
    "2019-11-30T07:34:24." + "9" * 5000 + "x",
]


@pytest.mark.parametrize("name", ["startedAfter", "startedBefore"])
def test_anything_else_is_refused_as_a_time(api, alice, name, subtests):
    for text in NOT_TIMES:
        with subtests.test(text[:40]):
            response = api.get(user=alice, query=f"{name}={text}")
            assert response.status_code == 400
            error = response.json()["error"]
            assert error["type"] == "invalid-input"
            assert error["message"] in (
                f"Invalid input: {name} must be a time in ISO 8601, like 2019-11-30T07:34:24Z.",
                f"Invalid input: {name} must be a time of the years 1 to 9999.",
            )


def test_a_fraction_may_be_long(api, alice, run):
    assert found(api, alice, "startedAfter=2019-11-30T07:34:24." + "9" * 4000) == [run.pk]


EARLIEST = [
    *("0001-01-01", "0001-01-01T00:00:00.000Z", "0001-01-01T00:00-00:01"),
    *("0001-01-01T00:00-12", "0001-01-01T01:00%2B01:00", "0001-01-01T05:00"),
    "0001-01-01T23:59%2B23:59",
]


def test_the_first_moment_of_the_calendar_is_a_bound(api, alice, run, subtests):
    for text in EARLIEST:
        with subtests.test(text):
            assert found(api, alice, f"startedAfter={text}") == [run.pk]
            assert found(api, alice, f"startedBefore={text}") == []


LATEST = [
    *("9999-12-31", "9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999999999"),
    *("9999-12-31T23:59%2B00:01", "9999-12-31T23:59%2B12", "9999-12-31T22:59-01:00"),
    "9999-12-31T00:00-23:59",
]


def test_the_last_moment_of_the_calendar_is_a_bound(api, alice, run, subtests):
    for text in LATEST:
        with subtests.test(text):
            assert found(api, alice, f"startedAfter={text}") == []
            assert found(api, alice, f"startedBefore={text}") == [run.pk]


ENDS = {"startedAfter=0001-01-01": True, "startedBefore=0001-01-01": False}
ENDS |= {f"{name}=9999-12-31T23:59:59.999Z": name == "startedBefore" for name in BOUNDS}


@pytest.mark.parametrize("zone", ["America/New_York", "Pacific/Kiritimati"])
def test_the_ends_of_the_calendar_are_found_in_any_time_zone_of_the_host(
    api, settings, alice, run, zone
):
    settings.TIME_ZONE = zone
    for query, finds in ENDS.items():
        assert found(api, alice, query) == ([run.pk] if finds else [])


OUTSIDE_OF_THE_CALENDAR = [
    *("0000-01-01", "0000-12-31T23:59-23:59", "0001-01-01T00:00%2B00:01"),
    *("0001-01-01T00:59%2B01:00", "0001-01-01T00:59+01:00", "0001-01-01T23:58%2B23:59"),
    *("9999-12-31T23:59-00:01", "9999-12-31T23:00-01:00", "9999-12-31T00:01-23:59"),
]


@pytest.mark.parametrize("name", ["startedAfter", "startedBefore"])
def test_a_moment_outside_of_the_years_1_to_9999_in_utc_is_refused(api, alice, name, subtests):
    for text in OUTSIDE_OF_THE_CALENDAR:
        with subtests.test(text):
            message = f"Invalid input: {name} must be a time of the years 1 to 9999."
            response = api.get(user=alice, query=f"{name}={text}")
            assert_error(response, 400, "invalid-input", message)


def test_parameters_of_the_list_are_combined(api, alice, acme):
    join(alice, acme)
    day = datetime.datetime(2020, 1, 1, tzinfo=UTC)
    owners = [{"user": alice}, {"organization": acme}]
    for number, status in enumerate(["FAILED", "SUCCEEDED", "FAILED", "FAILED"]):
        Run.objects.create(
            id=f"run{number}",
            status=status,
            started_at=day + datetime.timedelta(days=number),
            **owners[number % 2],
        )
    query = "status=FAILED&startedAfter=2020-01-02&startedBefore=2020-01-04T00:00:00Z"
    assert found(api, alice, query) == ["run2", "run3"]


def test_filters_open_nothing(api, alice, bob, run):
    query = "status=SUCCEEDED&startedAfter=0001-01-01&startedBefore=9999-12-31"
    assert found(api, bob, query) == []


@pytest.mark.plain  # without USE_TZ Django lets no database have a zone of its own
@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York"])
def test_the_ends_of_the_calendar_are_found_in_any_time_zone_of_the_database(
    api, alice, run, monkeypatch, zone
):
    database = connections["default"]
    monkeypatch.setitem(database.__dict__, "timezone", zoneinfo.ZoneInfo(zone))
    for query, finds in ENDS.items():
        assert found(api, alice, query) == ([run.pk] if finds else [])
