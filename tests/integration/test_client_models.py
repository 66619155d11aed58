"""What ``save()`` accepts, the platform's own client must be able to read: its models say no else.

"One value that a client cannot read breaks its whole list" (the contract). Values are drawn near
the limits, on both sides of them: what is refused must be refused with the field's name.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from apify_client._models import Run as ClientRun
from apify_client._models import RunListItem as ClientRunListItem
from django.conf import settings
from django.core.exceptions import ValidationError
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from actor_runs.models import GeneralAccess, Run
from tests.support.people import token_of
from tests.support.runs import FULL, make_full_run

# The examples share the one transaction of the test, and its run.
many_examples = hypothesis_settings(
    max_examples=50,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def near(*limits: float) -> st.SearchStrategy[Any]:
    return st.sampled_from([limit + step for limit in limits for step in (-1, 0, 1)])


AMOUNTS = st.one_of(
    near(0, 2**31, 2**53, 2**63, 2**64),
    st.integers(),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([0.0, -0.0, 5e-324, 1.7976931348623157e308, 10**308, 10**309, 10**400]),
)
NUMBERS = st.one_of(AMOUNTS, st.booleans(), st.none(), st.decimals(), st.sampled_from(["1", ""]))
TEXTS = st.one_of(st.text(), st.text(min_size=60, max_size=70), st.none(), st.integers(0, 1))
BUILD_NUMBERS = st.one_of(
    st.from_regex(r"[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,6}\n?"),
    st.sampled_from(["", "0.0.1", "0.0.0", "99.99.99999", 0, False, None, [], 0.1]),
)
URLS = st.one_of(
    st.builds(
        "{}://{}{}{}".format,
        st.sampled_from(["http", "https", "HTTPS", "ftp", ""]),
        st.one_of(
            st.from_regex(r"\A[a-z0-9.-]{1,70}\Z"),
            st.from_regex(r"\A[0-9]{1,4}(\.[0-9]{1,4}){3}\Z"),
            st.from_regex(r"\A\[[0-9a-f:.]{1,20}\]\Z"),
            st.sampled_from(
                ["localhost", "xn--a", "xn--", "ä.example", "a" * 63 + ".example", "1"]
            ),
            st.text(max_size=10),
        ),
        st.sampled_from(["", ":0", ":80", ":65535", ":65536", ":", ":x"]),
        st.one_of(st.just(""), st.text(max_size=10).map("/{}".format)),
    ),
    st.text(max_size=20),
    st.sampled_from([0, None]),
)
MOMENTS = st.one_of(
    st.datetimes(timezones=st.sampled_from([timezone(timedelta(hours=h)) for h in (-23, 0, 23)])),
    st.sampled_from([datetime.min, datetime.max]).map(lambda m: m.replace(tzinfo=timezone.utc)),
)
TIMES = st.one_of(
    MOMENTS.map(datetime.isoformat),
    st.from_regex(r"\A[0-9]{4}-[01][0-9]-[0-3][0-9][T ][0-9:.,]{2,15}(Z|[+-][0-9:]{2,8})\Z"),
    st.sampled_from(["", "2019-11-30", "2019-W48-6T07:34Z", "20191130T073424Z", 0, None]),
)
ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), AMOUNTS, st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


def an_object(
    required: dict[str, Any], optional: dict[str, Any] | None = None
) -> st.SearchStrategy[Any]:
    """An object near the given shape: with values that may be wrong, and keys of its own."""
    shape = st.fixed_dictionaries(required, optional=optional or {})
    more = st.dictionaries(st.text(max_size=5), ANYTHING, max_size=1)
    return st.builds(lambda known, others: {**others, **known}, shape, more)


def all_of(names: str, values: Any) -> dict[str, Any]:
    return dict.fromkeys(names.split(), values)


PRICING = {"apifyMarginPercentage": NUMBERS, "createdAt": TIMES, "startedAt": TIMES}
NOTICES = {
    "notifiedAboutFutureChangeAt": TIMES,
    "notifiedAboutChangeAt": TIMES,
    "reasonForChange": TEXTS,
    "isPriceChangeNotificationSuppressed": NUMBERS,
    "forceContainsSignificantPriceChange": st.booleans(),
}
TIERS = st.dictionaries(st.text(max_size=4), an_object({"tieredEventPriceUsd": NUMBERS}))
EVENTS = st.dictionaries(
    st.text(max_size=4),
    an_object(
        {"eventTitle": st.text(), "eventDescription": TEXTS},
        {
            "eventPriceUsd": NUMBERS,
            "eventTieredPricingUsd": TIERS,
            "isPrimaryEvent": st.one_of(st.booleans(), NUMBERS),
            "isOneTimeEvent": st.booleans(),
        },
    ),
    max_size=2,
)
PRICING_INFO = st.one_of(
    an_object({"pricingModel": st.sampled_from(["FREE", "free", None]), **PRICING}, NOTICES),
    an_object(
        {
            "pricingModel": st.just("PAY_PER_EVENT"),
            **PRICING,
            "pricingPerEvent": an_object({}, {"actorChargeEvents": EVENTS}),
        },
        {"minimalMaxTotalChargeUsd": NUMBERS},
    ),
    an_object(
        {"pricingModel": st.just("PRICE_PER_DATASET_ITEM"), **PRICING, "unitName": TEXTS},
        {
            "pricePerUnitUsd": NUMBERS,
            "tieredPricing": st.dictionaries(
                st.text(max_size=4), an_object({"tieredPricePerUnitUsd": NUMBERS})
            ),
        },
    ),
    an_object(
        {
            "pricingModel": st.just("FLAT_PRICE_PER_MONTH"),
            **PRICING,
            "trialMinutes": NUMBERS,
            "pricePerUnitUsd": NUMBERS,
        },
    ),
)

# A right value now and then, so that one wrong value does not hide the others.
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "act_id": TEXTS,
    "actor_task_id": TEXTS,
    "build_number": BUILD_NUMBERS,
    "exit_code": NUMBERS,
    "status_message": TEXTS,
    "is_status_message_terminal": NUMBERS,
    "is_container_server_ready": NUMBERS,
    "general_access": st.one_of(st.sampled_from(GeneralAccess.values), TEXTS),
    "container_url": URLS,
    "git_branch_name": TEXTS,
    "platform_usage_billing_model": TEXTS,
    "started_at": MOMENTS if settings.USE_TZ else st.one_of(MOMENTS, st.datetimes()),
    "storage_ids": an_object(
        {},
        all_of(
            "datasets keyValueStores requestQueues",
            st.dictionaries(st.text(max_size=4), TEXTS, max_size=2),
        ),
    ),
    "meta": an_object(
        {"origin": st.sampled_from(["API", "MCP", "TEST", "api", None, 0])},
        {**all_of("clientIp userAgent scheduleId", TEXTS), "scheduledAt": TIMES},
    ),
    "options": an_object(
        {
            "build": st.text(max_size=5),
            "timeoutSecs": near(0, 2**63),
            "memoryMbytes": near(128, 32768),
            "diskMbytes": near(0, 2**31),
        },
        {"maxItems": NUMBERS, "maxTotalChargeUsd": NUMBERS},
    ),
    "stats": an_object(
        {},
        all_of("inputBodyLen resurrectCount memMaxBytes netRxBytes durationMillis", NUMBERS)
        | all_of("memAvgBytes cpuMaxUsage runTimeSecs computeUnits", NUMBERS),
    ),
    "usage": an_object({}, all_of("ACTOR_COMPUTE_UNITS DATASET_READS PROXY_SERPS", NUMBERS)),
    "usage_usd": an_object({}, all_of("ACTOR_COMPUTE_UNITS DATASET_READS PROXY_SERPS", NUMBERS)),
    "usage_total_usd": NUMBERS,
    "charged_event_counts": st.dictionaries(st.text(max_size=4), NUMBERS, max_size=2),
    "pricing_info": PRICING_INFO,
    "metamorphs": st.lists(
        an_object({"createdAt": TIMES, "actorId": TEXTS, "buildId": TEXTS}, {"inputKey": TEXTS}),
        max_size=2,
    ),
}


@pytest.fixture
def read(alice: Any, api: Any) -> Callable[[Run], None]:
    """Read a run as the client does: over the API, and then by the client's models."""

    token = token_of(alice)

    def data_of(path: str) -> Any:
        response = api.get(path, token=token)
        assert response.status_code == 200, response.content
        return json.loads(response.content, parse_constant=pytest.fail)["data"]

    def read(run: Run) -> None:
        data = data_of(f"/{run.pk}")
        found = ClientRun.model_validate(data)
        assert (found.id, found.started_at) == (run.pk, datetime.fromisoformat(data["startedAt"]))
        (item,) = data_of("")["items"]
        assert ClientRunListItem.model_validate(item).id == run.pk

    return read


@pytest.mark.parametrize("field", FIELDS)
def test_what_can_be_saved_can_be_read(alice, configure, read, field):
    configure(RATE_LIMIT=None, RUN_RATE_LIMIT=None)
    run = Run.objects.create(user=alice)
    accepted = 0

    @many_examples
    @example(FULL[field])
    @given(FIELDS[field])
    def save_and_read(value: Any) -> None:
        nonlocal accepted
        setattr(run, field, value)
        try:
            run.save()
        except ValidationError as refused:
            assert list(refused.message_dict) == [field]  # noqa: PT017
        else:
            accepted += 1
            read(run)

    save_and_read()
    assert accepted


def test_a_run_with_everything_can_be_read(alice, read):
    read(make_full_run(alice))
