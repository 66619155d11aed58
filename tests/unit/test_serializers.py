"""The shapes of Run and RunShort, key by key."""

from __future__ import annotations

import datetime
import json
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone

from actor_runs.models import Run, RunStatus
from tests.support.people import join
from tests.support.runs import FULL, make_full_run

UTC = datetime.timezone.utc
STARTED = datetime.datetime(2019, 11, 30, 7, 34, 24, 202000, tzinfo=UTC)
FINISHED = datetime.datetime(2019, 12, 12, 9, 30, 12, 202999, tzinfo=UTC)

META, STATS = FULL["meta"], FULL["stats"]


def get(api: Any, run: Run, **options: Any) -> dict[str, Any]:
    response = api.get(f"/{run.pk}", **options)
    assert response.status_code == 200, response.content
    return response.json()["data"]


def short(api: Any, user: Any) -> dict[str, Any]:
    [item] = api.get(user=user).json()["data"]["items"]
    return item


# Run


def test_a_run_with_everything(api, alice):
    run = make_full_run(alice, id="3KH8gEpp4d8uQSe8T")
    assert get(api, run, user=alice) == {
        "id": "3KH8gEpp4d8uQSe8T",
        "actId": "HDSasDasz78YcAPEB",
        "userId": str(alice.pk),
        "actorTaskId": "KJHSKHausidyaJKHs",
        "startedAt": "2019-11-30T07:34:24.202Z",
        "finishedAt": "2019-12-12T09:30:12.202Z",
        "status": "FAILED",
        "statusMessage": "It failed. \U0001f600",
        "isStatusMessageTerminal": True,
        "meta": META,
        "pricingInfo": FULL["pricing_info"],
        "stats": STATS,
        "chargedEventCounts": {"actor-start": 1},
        "options": FULL["options"],
        "buildId": "HG7ML7M8z78YcAPEB",
        "exitCode": 91,
        "generalAccess": "ANYONE_WITH_ID_CAN_READ",
        "defaultKeyValueStoreId": "eJNzqsbPiopwJcgGQ",
        "defaultDatasetId": "wmKPijuyDnPZAPRMk",
        "defaultRequestQueueId": "FL35cSF7jrxr3BY39",
        "storageIds": {"datasets": {"default": "wmKPijuyDnPZAPRMk"}},
        "buildNumber": "0.1.2",
        "containerUrl": "https://g8kd8kbc5ge8.runs.apify.net",
        "isContainerServerReady": False,
        "gitBranchName": "master",
        "usage": {"ACTOR_COMPUTE_UNITS": 0.13804, "DATASET_READS": 0},
        "usageTotalUsd": 0.2654,
        "usageUsd": {"ACTOR_COMPUTE_UNITS": 0.0003},
        "metamorphs": FULL["metamorphs"],
        "platformUsageBillingModel": "USER",
    }


def test_a_run_with_an_owner_alone(api, alice):
    run = Run.objects.create(user=alice)
    data = get(api, run, user=alice)
    assert list(data) == [
        "id",
        "actId",
        "userId",
        "startedAt",
        "finishedAt",
        "status",
        "meta",
        "stats",
        "options",
        "buildId",
        "generalAccess",
        "defaultKeyValueStoreId",
        "defaultDatasetId",
        "defaultRequestQueueId",
        "buildNumber",
    ]
    for key in data:
        if key.endswith("Id"):
            assert isinstance(data[key], str)
            assert data[key]
    assert data["id"] == run.pk
    assert data["finishedAt"] is None
    assert data["status"] == "READY"
    assert data["generalAccess"] == "FOLLOW_USER_SETTING"
    assert data["meta"] == {"origin": "API"}
    assert data["options"].keys() == {"build", "timeoutSecs", "memoryMbytes", "diskMbytes"}
    assert data["stats"] == dict.fromkeys(STATS, 0)


@pytest.mark.parametrize(
    "key",
    [
        *("actorTaskId", "statusMessage", "isStatusMessageTerminal", "pricingInfo", "exitCode"),
        *("chargedEventCounts", "storageIds", "buildNumber", "containerUrl", "gitBranchName"),
        *("isContainerServerReady", "usage", "usageTotalUsd", "usageUsd", "metamorphs"),
        "platformUsageBillingModel",
    ],
)
def test_a_key_without_a_value_is_left_out(api, alice, key):
    field = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in key)
    run = make_full_run(alice)
    assert key in get(api, run, user=alice)
    setattr(run, field, None if Run._meta.get_field(field).null else "")
    run.save()
    data = get(api, run, user=alice)
    assert key not in data
    assert len(data) == 29


@pytest.mark.parametrize(
    ("field", "value", "key"),
    [
        ("exit_code", 0, "exitCode"),
        ("is_status_message_terminal", False, "isStatusMessageTerminal"),
        ("is_container_server_ready", False, "isContainerServerReady"),
        ("usage_total_usd", 0, "usageTotalUsd"),
        ("usage", {}, "usage"),
        ("usage_usd", {}, "usageUsd"),
        ("storage_ids", {}, "storageIds"),
        ("charged_event_counts", {}, "chargedEventCounts"),
        ("metamorphs", [], "metamorphs"),
        ("stats", {}, "stats"),
        ("status_message", "0", "statusMessage"),
        ("status_message", " ", "statusMessage"),
    ],
)
def test_falsy_values_are_values(api, alice, field, value, key):
    run = Run.objects.create(user=alice, **{field: value})
    assert get(api, run, user=alice)[key] == value


@pytest.mark.parametrize("status", RunStatus)
def test_finished_at_is_null_until_the_run_is_finished(api, alice, status):
    run = Run.objects.create(user=alice, status=status)
    for data in (get(api, run, user=alice), short(api, alice)):
        assert "finishedAt" in data
        assert (data["finishedAt"] is None) == (status not in Run.FINISHED)


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (datetime.datetime(2019, 11, 30, 7, 34, 24, 202000), "2019-11-30T07:34:24.202Z"),
        (datetime.datetime(2019, 11, 30, 7, 34, 24, 202999), "2019-11-30T07:34:24.202Z"),
        (datetime.datetime(2019, 11, 30, 7, 34, 24, 999), "2019-11-30T07:34:24.000Z"),
        (datetime.datetime(2019, 11, 30), "2019-11-30T00:00:00.000Z"),
        (datetime.datetime(1970, 1, 1), "1970-01-01T00:00:00.000Z"),
        (datetime.datetime(1000, 1, 2, 3, 4, 5), "1000-01-02T03:04:05.000Z"),
        (datetime.datetime(9999, 12, 31, 0, 0), "9999-12-31T00:00:00.000Z"),
        # Skipped in New York, Django's zone in one configuration.
        (datetime.datetime(2019, 3, 10, 2, 30), "2019-03-10T02:30:00.000Z"),
    ],
)
def test_times_are_in_utc_with_milliseconds(api, alice, moment, text):
    moment = moment.replace(tzinfo=UTC)
    run = Run.objects.create(
        user=alice, status=RunStatus.FAILED, started_at=moment, finished_at=moment
    )
    for data in (get(api, run, user=alice), short(api, alice)):
        assert (data["startedAt"], data["finishedAt"]) == (text, text)


def test_times_with_an_offset_are_shown_in_utc(api, alice):
    zone = datetime.timezone(datetime.timedelta(hours=5, minutes=30))
    moment = datetime.datetime(2020, 1, 1, 1, 0, tzinfo=zone)
    run = Run.objects.create(user=alice, started_at=moment)
    assert get(api, run, user=alice)["startedAt"] == "2019-12-31T19:30:00.000Z"


@pytest.mark.host
def test_no_time_is_kept_that_lies_beyond_the_calendar_in_utc(api, alice, run):
    # Without USE_TZ a time without an offset is in Django's zone, here five hours behind.
    with pytest.raises(ValidationError, match="started_at"):
        Run.objects.create(user=alice, started_at=datetime.datetime(9999, 12, 31, 23, 30))
    assert [item["id"] for item in api.get(user=alice).json()["data"]["items"]] == [run.pk]


def test_the_time_zone_of_the_visitor_changes_no_time(api, alice):
    run = Run.objects.create(user=alice, started_at=STARTED)
    with timezone.override("Asia/Tokyo"):
        assert get(api, run, user=alice)["startedAt"] == "2019-11-30T07:34:24.202Z"


def test_the_owner_is_a_user_or_an_organization(api, alice, acme):
    join(alice, acme)
    own = Run.objects.create(user=alice, started_at=STARTED)
    shared = Run.objects.create(organization=acme, started_at=FINISHED)
    owners = [str(alice.pk), f"org-{acme.pk}"]
    assert [get(api, run, user=alice)["userId"] for run in (own, shared)] == owners
    items = api.get(user=alice).json()["data"]["items"]
    assert [item["userId"] for item in items] == owners


def test_only_the_owner_sees_what_a_run_cost_and_who_started_it(api, alice, bob, acme):
    run = make_full_run(alice)
    owners = get(api, run, user=alice)
    assert (owners["usageTotalUsd"], owners["usageUsd"]) == (
        0.2654,
        {"ACTOR_COMPUTE_UNITS": 0.0003},
    )
    for options in ({"user": bob}, {}):
        others = get(api, run, **options)
        assert owners.keys() - others.keys() == {"usageTotalUsd", "usageUsd"}
        assert owners["meta"].keys() - others["meta"].keys() == {"clientIp", "userAgent"}
        assert all(owners[key] == others[key] for key in others.keys() - {"meta"})
    run.user, run.organization = None, acme
    run.save()
    join(bob, acme)
    assert "usageTotalUsd" in get(api, run, user=bob)
    assert "usageTotalUsd" not in get(api, run, user=alice)


def test_numbers_are_numbers(api, alice, settings):
    settings.REST_FRAMEWORK = {"COERCE_DECIMAL_TO_STRING": True, "STRICT_JSON": False}
    run = Run.objects.create(user=alice, usage_total_usd=1e-7, usage_usd={"PROXY_SERPS": 1e20})
    data = get(api, run, user=alice)
    assert data["usageTotalUsd"] == 1e-7
    assert data["usageUsd"] == {"PROXY_SERPS": 1e20}
    assert data["options"]["memoryMbytes"] == 1024
    assert short(api, alice)["usageTotalUsd"] == 1e-7


def test_answers_are_compact_json_in_utf_8_whatever_the_hosts_own_views_write(api, alice):
    run = make_full_run(alice, id="run")
    content = api.get(f"/{run.pk}", user=alice).content
    plain = json.dumps(json.loads(content), ensure_ascii=False, separators=(",", ":"))
    assert content == plain.replace("\u2028", r"\u2028").encode()


def test_formats_of_the_visitors_language_change_no_value(api, alice, settings):
    settings.USE_THOUSAND_SEPARATOR = True
    run = make_full_run(alice, id="run")
    plain = api.get(f"/{run.pk}", user=alice).content
    for language in ("cs", "de", "ar", "hi"):
        response = api.get(f"/{run.pk}", user=alice, HTTP_ACCEPT_LANGUAGE=language)
        assert response.content == plain


# RunShort


def test_a_short_run_with_everything(api, alice):
    make_full_run(alice, id="3KH8gEpp4d8uQSe8T")
    assert short(api, alice) == {
        "id": "3KH8gEpp4d8uQSe8T",
        "actId": "HDSasDasz78YcAPEB",
        "userId": str(alice.pk),
        "actorTaskId": "KJHSKHausidyaJKHs",
        "status": "FAILED",
        "startedAt": "2019-11-30T07:34:24.202Z",
        "finishedAt": "2019-12-12T09:30:12.202Z",
        "buildId": "HG7ML7M8z78YcAPEB",
        "buildNumber": "0.1.2",
        "buildNumberInt": 100002,
        "meta": META,
        "usageTotalUsd": 0.2654,
        "defaultKeyValueStoreId": "eJNzqsbPiopwJcgGQ",
        "defaultDatasetId": "wmKPijuyDnPZAPRMk",
        "defaultRequestQueueId": "FL35cSF7jrxr3BY39",
    }


def test_a_short_run_with_an_owner_alone(api, alice):
    run = Run.objects.create(user=alice)
    item = short(api, alice)
    assert list(item) == [
        "id",
        "actId",
        "userId",
        "status",
        "startedAt",
        "finishedAt",
        "buildId",
        "meta",
        "usageTotalUsd",
        "defaultKeyValueStoreId",
        "defaultDatasetId",
        "defaultRequestQueueId",
        "buildNumber",
        "buildNumberInt",
    ]
    assert item["usageTotalUsd"] == 0
    assert item["finishedAt"] is None
    long = get(api, run, user=alice)
    only_short = {"usageTotalUsd", "buildNumberInt"}
    assert all(long[key] == item[key] for key in item.keys() - only_short)


@pytest.mark.parametrize(
    ("build_number", "as_integer"),
    [
        ("0.0.1", 1),
        ("0.1.2", 100_002),
        ("0.99.99999", 9_999_999),
        ("1.0.1", 10_000_001),
        ("1.2.345", 10_200_345),
        ("99.99.99999", 999_999_999),
    ],
)
def test_build_number_int_is_the_build_number_as_one_integer(api, alice, build_number, as_integer):
    Run.objects.create(user=alice, build_number=build_number)
    item = short(api, alice)
    assert (item["buildNumber"], item["buildNumberInt"]) == (build_number, as_integer)


def test_build_numbers_as_integers_are_in_the_order_of_builds(api, alice):
    numbers = ["0.0.1", "0.0.99999", "0.1.1", "0.99.99999", "1.0.1", "10.0.1", "99.0.1"]
    for number in numbers:
        Run.objects.create(user=alice, build_number=number)
    items = api.get(user=alice).json()["data"]["items"]
    items.sort(key=lambda item: item["buildNumberInt"])
    assert [item["buildNumber"] for item in items] == numbers


def test_a_build_number_that_came_past_save_does_not_break_the_list(api, alice, run):
    Run.objects.update(build_number="latest")
    item = short(api, alice)
    assert item["buildNumber"] == "latest"
    assert "buildNumberInt" not in item
