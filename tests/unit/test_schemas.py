"""What a run may hold: each key of the contract's table, and the names of what is refused."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import connection, models
from jsonschema import Draft202012Validator

from actor_runs.models import Run
from actor_runs.schemas import FIELD_CHECKS

MOMENT = "2019-11-30T07:34:24.202Z"
HUGE = 10**400  # more than a float can be
BILLIONS = 2**63 - 1

# No client could read it, or no database keep it.
UNSTORABLE = ["\x00", "a\x00b", "\ud800", "half \udfff a pair"]
NOT_TEXTS = [0, 1, True, 1.5, b"bytes", [], {}, ["a"], *UNSTORABLE]
NOT_BOOLEANS = [0, 1, "true", "", "1", [], {}, 1.0]
NOT_INTEGERS = [True, False, "1", "", 1.0, 1.5, [], {}, Decimal(1), float("nan")]
NOT_NUMBERS = [
    True,
    "1",
    "",
    [],
    {},
    Decimal(1),
    1j,
    -0.001,
    -1,
    HUGE,
    float("nan"),
    float("inf"),
    float("-inf"),
]
NOT_TIMES = [
    "",
    "soon",
    0,
    1575099264.202,
    True,
    [],
    "2019-11-30",
    "2019-11-30T07:34:24.202",
    "07:34:24Z",
    "2019-13-30T07:34:24Z",
    "2019-11-30T25:34:24Z",
    "0001-01-01T00:00:00+02:00",
    "9999-12-31T23:59:59-02:00",
    "2019-11-30T07:34:24Z\x00",
]
NOT_OBJECTS = [[], "", "{}", 0, True, [["a", "b"]]]


def save(owner: Any, **fields: Any) -> Run:
    """Save a new run; return it as the database has it."""
    return Run.objects.get(pk=Run.objects.create(user=owner, **fields).pk)


def refusal_of(owner: Any, field: str, value: Any) -> list[str]:
    """Try to save a run with the value; return what is said against it, of that field alone."""
    try:
        Run.objects.create(user=owner, **{field: value})
    except ValidationError as refused:
        return refused.message_dict.get(field, []) if len(refused.message_dict) == 1 else []
    return []


def label(value: Any) -> str:
    return f"{value!r:.30}"


# Columns

REQUIRED_IDS = [
    "act_id",
    "build_id",
    "default_key_value_store_id",
    "default_dataset_id",
    "default_request_queue_id",
]
LENGTHS = {
    **dict.fromkeys([*REQUIRED_IDS, "actor_task_id", "platform_usage_billing_model"], 64),
    "git_branch_name": 255,
}
TEXTS = ["a", "with blanks", "příliš žluťoučký", "\u2028", "🙂", "\n", "<b>", "'; --"]


KEPT: dict[str, list[Any]] = {
    **{field: [*TEXTS, "x" * length] for field, length in LENGTHS.items()},
    "actor_task_id": ["", "KJHSKHausidyaJKHs"],
    "platform_usage_billing_model": ["", "USER"],
    "git_branch_name": ["", "feature/one"],
    "status_message": ["", *TEXTS, "x" * 100_000],
    "build_number": ["", "0.0.1", "0.1.2", "99.99.99999", "10.0.10"],
    "container_url": [
        "",
        "https://g8kd8kbc5ge8.runs.apify.net",
        "http://localhost:8080/path?query=1#part",
        "http://127.0.0.1:3000",
        "http://[::1]:80/",
        "https://user:secret@example.com",
        "https://example.com:65535/",
    ],
    "exit_code": [None, 0, 1, -1, 255, -(2**31), 2**31 - 1],
    "is_status_message_terminal": [None, True, False],
    "is_container_server_ready": [None, True, False],
    "usage_total_usd": [None, 0, 0.0, 0.2654, 5, 1e300, 5e-324],
    "status": ["READY", "RUNNING", "TIMING-OUT", "ABORTING"],
    "general_access": [
        "FOLLOW_USER_SETTING",
        "ANYONE_WITH_ID_CAN_READ",
        "ANYONE_WITH_NAME_CAN_READ",
        "RESTRICTED",
    ],
}


@pytest.mark.parametrize("field", KEPT)
def test_a_column_keeps_its_values(alice, subtests, field):
    for value in KEPT[field]:
        with subtests.test(label(value)):
            assert getattr(save(alice, **{field: value}), field) == value


WRONG: dict[str, list[Any]] = {
    **{name: [None, "", "x" * 65, *NOT_TEXTS] for name in REQUIRED_IDS},
    "actor_task_id": [None, "x" * 65, *NOT_TEXTS],
    "platform_usage_billing_model": [None, "x" * 65, *NOT_TEXTS],
    "git_branch_name": [None, "x" * 256, *NOT_TEXTS],
    "status_message": [None, *NOT_TEXTS],
    "build_number": [
        None,
        "1",
        "0.1",
        "0.1.0",
        "0.1.2.3",
        "0.1.100000",
        "100.0.1",
        "0.100.1",
        "00.1.2",
        "0.01.2",
        "0.1.02",
        "0.1.2\n",
        " 0.1.2",
        "-1.0.1",
        "a.b.c",
        "\u0660.\u0661.\u0662",
        *NOT_TEXTS,
    ],
    "container_url": [
        None,
        "/relative",
        "//example.com",
        "example.com",
        "ftp://example.com",
        "javascript:alert(1)",
        "https://",
        "https:///path",
        "http://two words.example",
        "https://example.com/two words",
        "https://example.com:99999",
        "https://example.com:port",
        "https://example.com\n",
        "https://example.com/" + "x" * 2000,
        *NOT_TEXTS,
    ],
    "exit_code": [*NOT_INTEGERS, 2**31, -(2**31) - 1],
    "is_status_message_terminal": NOT_BOOLEANS,
    "is_container_server_ready": NOT_BOOLEANS,
    "usage_total_usd": NOT_NUMBERS,
    "status": [None, "", "DONE", "ready", " READY", *NOT_TEXTS],
    "general_access": [None, "", "ANYONE", "restricted", *NOT_TEXTS],
    "started_at": [None, "", "soon", 0, True, [], 1575099264.2, "2019-13-30T07:34:24Z"],
}


@pytest.mark.parametrize("field", WRONG)
def test_a_column_refuses_other_values_by_name(alice, subtests, field):
    for value in WRONG[field]:
        with subtests.test(label(value)):
            assert refusal_of(alice, field, value)
    assert not Run.objects.exists()


def test_finished_at_must_be_a_time(alice, subtests):
    for value in ["", "soon", 0, True, [], "2019-02-30T07:34:24Z"]:
        with subtests.test(label(value)):
            with pytest.raises(ValidationError) as caught:
                Run.objects.create(user=alice, status="FAILED", finished_at=value)
            assert list(caught.value.message_dict) == ["finished_at"]


def test_a_column_that_is_not_null_refuses_none(alice):
    for field in Run._meta.concrete_fields:
        if not field.null and not field.primary_key:
            assert refusal_of(alice, field.name, None)


def test_every_field_that_is_wrong_is_named(alice):
    wrong = {"act_id": "", "exit_code": "0", "meta": {}, "build_number": "1", "started_at": "soon"}
    with pytest.raises(ValidationError) as caught:
        Run.objects.create(user=alice, **wrong)
    assert caught.value.message_dict.keys() == wrong.keys()


def test_forms_and_the_admin_refuse_the_same(alice):
    Run(user=alice).full_clean()
    wrong = {"act_id": "", "exit_code": "0", "meta": {}, "stats": {"metamorph": -1}}
    with pytest.raises(ValidationError) as caught:
        Run(user=alice, **wrong).full_clean()
    assert caught.value.message_dict.keys() == wrong.keys()


# Objects

META = {"origin": "API"}
OPTIONS = {"build": "latest", "timeoutSecs": 300, "memoryMbytes": 1024, "diskMbytes": 2048}
STATS_COUNTS = """
    inputBodyLen migrationCount rebootCount restartCount resurrectCount memMaxBytes
    memCurrentBytes netRxBytes netTxBytes durationMillis metamorph
""".split()
STATS_AMOUNTS = """
    memAvgBytes cpuAvgUsage cpuMaxUsage cpuCurrentUsage runTimeSecs computeUnits
""".split()
USAGE_COUNTS = """
    DATASET_READS DATASET_WRITES KEY_VALUE_STORE_READS KEY_VALUE_STORE_WRITES
    KEY_VALUE_STORE_LISTS REQUEST_QUEUE_READS REQUEST_QUEUE_WRITES PROXY_SERPS
""".split()
USAGE_AMOUNTS = """
    ACTOR_COMPUTE_UNITS DATA_TRANSFER_INTERNAL_GBYTES DATA_TRANSFER_EXTERNAL_GBYTES
    PROXY_RESIDENTIAL_TRANSFER_GBYTES
""".split()
PRICING = {"apifyMarginPercentage": 0.2, "createdAt": MOMENT, "startedAt": MOMENT}
EVENT = {"eventTitle": "Page", "eventDescription": "A page is crawled", "eventPriceUsd": 0.01}
TIERED_EVENT = {
    "eventTitle": "Page",
    "eventDescription": "A page is crawled",
    "eventTieredPricingUsd": {"FREE": {"tieredEventPriceUsd": 0}},
    "isPrimaryEvent": True,
    "isOneTimeEvent": False,
}
PER_EVENT = {
    "pricingModel": "PAY_PER_EVENT",
    **PRICING,
    "pricingPerEvent": {"actorChargeEvents": {"page": EVENT}},
}
PER_ITEM = {"pricingModel": "PRICE_PER_DATASET_ITEM", **PRICING, "unitName": "place"}
FLAT = {
    "pricingModel": "FLAT_PRICE_PER_MONTH",
    **PRICING,
    "trialMinutes": 60,
    "pricePerUnitUsd": 9.9,
}
FREE = {"pricingModel": "FREE", **PRICING}
NOTICES = {
    "notifiedAboutFutureChangeAt": MOMENT,
    "notifiedAboutChangeAt": MOMENT,
    "reasonForChange": "Costs",
    "isPriceChangeNotificationSuppressed": False,
    "forceContainsSignificantPriceChange": True,
}
METAMORPH = {"createdAt": MOMENT, "actorId": "nspoEjklmnsF2oosD", "buildId": "ME6oKecqy5kXDS4KQ"}
ORIGINS = "DEVELOPMENT WEB API SCHEDULER TEST WEBHOOK ACTOR CLI CI STANDBY MCP".split()


KEPT_OBJECTS: dict[str, list[Any]] = {
    "meta": [
        *({"origin": origin} for origin in ORIGINS),
        {
            "origin": "SCHEDULER",
            "clientIp": "127.0.0.1",
            "userAgent": "🙂 curl",
            "scheduleId": "",
            "scheduledAt": MOMENT,
            "of our own": [1, {"a": None}, 2.5, "b", True],
        },
    ],
    "options": [
        OPTIONS,
        {**OPTIONS, "timeoutSecs": 0, "memoryMbytes": 128, "diskMbytes": 0, "build": ""},
        {**OPTIONS, "memoryMbytes": 32768, "maxItems": 0, "maxTotalChargeUsd": 0.5},
        {**OPTIONS, "timeoutSecs": BILLIONS, "maxItems": BILLIONS, "restartOnError": True},
    ],
    "stats": [
        {},
        dict.fromkeys(STATS_COUNTS, 0) | dict.fromkeys(STATS_AMOUNTS, 0),
        dict.fromkeys(STATS_COUNTS, BILLIONS) | dict.fromkeys(STATS_AMOUNTS, 0.5),
        {"of our own": "anything"},
    ],
    "usage": [
        None,
        {},
        dict.fromkeys(USAGE_COUNTS, 3) | dict.fromkeys(USAGE_AMOUNTS, 0.25),
        {"OF_OUR_OWN": 1},
    ],
    "usage_usd": [None, {}, dict.fromkeys(USAGE_COUNTS + USAGE_AMOUNTS, 0.00005)],
    "storage_ids": [
        None,
        {},
        {
            "datasets": {"default": "a"},
            "keyValueStores": {"default": "b", "other": "c"},
            "requestQueues": {},
        },
    ],
    "charged_event_counts": [None, {}, {"page": 0, "actor-start": BILLIONS}],
    "pricing_info": [
        None,
        PER_EVENT,
        {**PER_EVENT, **NOTICES, "minimalMaxTotalChargeUsd": 0.5},
        {**PER_EVENT, "pricingPerEvent": {}},
        {**PER_EVENT, "pricingPerEvent": {"actorChargeEvents": {"page": TIERED_EVENT}}},
        {**PER_ITEM, **NOTICES, "pricePerUnitUsd": 0},
        {**PER_ITEM, "tieredPricing": {"GOLD": {"tieredPricePerUnitUsd": 0.1}}},
        FLAT,
        {**FREE, "of our own": True},
    ],
    "metamorphs": [
        None,
        [],
        [METAMORPH],
        [METAMORPH, {**METAMORPH, "inputKey": "INPUT-1"}],
    ],
}


@pytest.mark.parametrize("field", KEPT_OBJECTS)
def test_a_json_field_keeps_its_values(alice, subtests, field):
    for value in KEPT_OBJECTS[field]:
        with subtests.test(label(value)):
            assert getattr(save(alice, **{field: value}), field) == value
            schema = Draft202012Validator(FIELD_CHECKS[field].schema)
            assert value is None or schema.is_valid(value)


def inside(field: str, base: Any, **wrong: list[Any]) -> list[tuple[str, Any, str]]:
    """Values of ``field`` that are wrong at one key, and the path that must be named."""
    return [
        (field, {**base, key: value}, f"{field}.{key}")
        for key, values in wrong.items()
        for value in values
    ]


def without(field: str, base: dict[str, Any], *keys: str) -> list[tuple[str, Any, str]]:
    """Values of ``field`` that lack one key, or have null there."""
    return [
        (field, value, f"{field}.{key}")
        for key in keys
        for value in (
            {name: item for name, item in base.items() if name != key},
            {**base, key: None},
        )
    ]


def priced(event: Any) -> dict[str, Any]:
    return {**PER_EVENT, "pricingPerEvent": {"actorChargeEvents": {"page": event}}}


COUNTS = [-1, BILLIONS + 1, HUGE, *NOT_INTEGERS]
PAGE = "pricing_info.pricingPerEvent.actorChargeEvents.page"
REFUSED: list[tuple[str, Any, str]] = [
    *((field, value, field) for field in ("meta", "options", "stats") for value in NOT_OBJECTS),
    *(
        (field, value, field)
        for field in ("usage", "usage_usd", "storage_ids", "charged_event_counts", "pricing_info")
        for value in NOT_OBJECTS
    ),
    *((field, {1: "a"}, field) for field in ("stats", "usage", "charged_event_counts")),
    *((field, {"\x00": 0}, field) for field in ("stats", "charged_event_counts", "storage_ids")),
    # meta
    *without("meta", META, "origin"),
    *inside(
        "meta",
        META,
        origin=["", "api", "API ", "OTHER", *NOT_TEXTS],
        clientIp=NOT_TEXTS,
        userAgent=NOT_TEXTS,
        scheduleId=NOT_TEXTS,
        scheduledAt=NOT_TIMES,
        ours=[float("nan"), float("inf"), Decimal(1), b"bytes", object(), {1}, *UNSTORABLE],
    ),
    ("meta", {**META, "ours": {"deep": [0, "\ud800"]}}, "meta.ours.deep[1]"),
    # options
    *without("options", OPTIONS, *OPTIONS),
    *inside(
        "options",
        OPTIONS,
        build=NOT_TEXTS,
        timeoutSecs=COUNTS,
        memoryMbytes=[127, 32769, 0, *COUNTS],
        diskMbytes=COUNTS,
        maxItems=COUNTS,
        maxTotalChargeUsd=NOT_NUMBERS,
    ),
    # stats, usage
    *(case for key in STATS_COUNTS for case in inside("stats", {}, **{key: COUNTS})),
    *(case for key in STATS_AMOUNTS for case in inside("stats", {}, **{key: NOT_NUMBERS})),
    *(case for key in USAGE_COUNTS for case in inside("usage", {}, **{key: COUNTS})),
    *(case for key in USAGE_AMOUNTS for case in inside("usage", {}, **{key: NOT_NUMBERS})),
    *(
        case
        for key in USAGE_COUNTS + USAGE_AMOUNTS
        for case in inside("usage_usd", {}, **{key: NOT_NUMBERS})
    ),
    *inside("charged_event_counts", {}, page=[None, *COUNTS]),
    # storage_ids
    *inside("storage_ids", {}, datasets=NOT_OBJECTS, keyValueStores=[1], requestQueues=["a"]),
    ("storage_ids", {"datasets": {"default": 1}}, "storage_ids.datasets.default"),
    ("storage_ids", {"datasets": {"default": None}}, "storage_ids.datasets.default"),
    # pricing_info
    *without("pricing_info", FREE, "pricingModel", *PRICING),
    *without("pricing_info", PER_EVENT, "pricingPerEvent"),
    *without("pricing_info", PER_ITEM, "unitName"),
    *without("pricing_info", FLAT, "trialMinutes", "pricePerUnitUsd"),
    *inside(
        "pricing_info",
        FREE,
        pricingModel=["", "free", "RENT", *NOT_TEXTS],
        apifyMarginPercentage=NOT_NUMBERS,
        createdAt=NOT_TIMES,
        startedAt=NOT_TIMES,
        notifiedAboutChangeAt=NOT_TIMES,
        notifiedAboutFutureChangeAt=NOT_TIMES,
        reasonForChange=NOT_TEXTS,
        isPriceChangeNotificationSuppressed=NOT_BOOLEANS,
        forceContainsSignificantPriceChange=NOT_BOOLEANS,
    ),
    *inside(
        "pricing_info", PER_EVENT, pricingPerEvent=NOT_OBJECTS, minimalMaxTotalChargeUsd=NOT_NUMBERS
    ),
    *inside(
        "pricing_info",
        PER_ITEM,
        unitName=NOT_TEXTS,
        pricePerUnitUsd=NOT_NUMBERS,
        tieredPricing=["a"],
    ),
    *inside("pricing_info", FLAT, trialMinutes=COUNTS, pricePerUnitUsd=NOT_NUMBERS),
    ("pricing_info", priced("a"), PAGE),
    ("pricing_info", priced({**EVENT, "eventTitle": None}), f"{PAGE}.eventTitle"),
    ("pricing_info", priced({**EVENT, "eventDescription": 1}), f"{PAGE}.eventDescription"),
    ("pricing_info", priced({**EVENT, "eventPriceUsd": -1}), f"{PAGE}.eventPriceUsd"),
    ("pricing_info", priced({**EVENT, "isPrimaryEvent": 1}), f"{PAGE}.isPrimaryEvent"),
    ("pricing_info", priced({**EVENT, "isOneTimeEvent": "no"}), f"{PAGE}.isOneTimeEvent"),
    (
        "pricing_info",
        priced({**EVENT, "eventTieredPricingUsd": {"FREE": {}}}),
        f"{PAGE}.eventTieredPricingUsd.FREE.tieredEventPriceUsd",
    ),
    (
        "pricing_info",
        {**PER_ITEM, "tieredPricing": {"GOLD": {"tieredPricePerUnitUsd": "1"}}},
        "pricing_info.tieredPricing.GOLD.tieredPricePerUnitUsd",
    ),
    # metamorphs
    *(("metamorphs", value, "metamorphs") for value in ({}, "", "[]", 0, True)),
    *(("metamorphs", [METAMORPH, value], "metamorphs[1]") for value in (None, "", [], 1)),
    *(
        ("metamorphs", [value], path.replace("metamorphs", "metamorphs[0]"))
        for _, value, path in [
            *without("metamorphs", METAMORPH, *METAMORPH),
            *inside(
                "metamorphs",
                METAMORPH,
                createdAt=NOT_TIMES,
                actorId=NOT_TEXTS,
                buildId=NOT_TEXTS,
                inputKey=NOT_TEXTS,
            ),
        ]
    ),
]


@pytest.mark.parametrize("field", sorted({field for field, _, _ in REFUSED}))
def test_a_json_field_refuses_other_values_and_names_the_key(alice, field):
    passed = [
        (path, value)
        for name, value, path in REFUSED
        if name == field
        and not any(f"{path}: " in message for message in refusal_of(alice, field, value))
    ]
    assert passed == []
    assert not Run.objects.exists()


def is_json(value: Any) -> bool:
    try:
        return bool(json.loads(json.dumps(value, allow_nan=False)) == value)
    except (TypeError, ValueError):
        return False


# What JSON Schema cannot tell: characters that no database keeps, 1.0 from 1, a float's size.
UNTOLD = ("\\u0000", "\\ud800", "\\udfff", "1.0", str(HUGE))


@pytest.mark.parametrize("field", sorted({field for field, _, _ in REFUSED}))
def test_the_schema_of_a_json_field_refuses_the_same(field):
    schema = Draft202012Validator(FIELD_CHECKS[field].schema)
    told = [
        value
        for name, value, _ in REFUSED
        if name == field
        and is_json(value)
        and not any(untold in json.dumps(value) for untold in UNTOLD)
    ]
    assert len(told) >= 5
    assert [value for value in told if schema.is_valid(value)] == []


@pytest.mark.parametrize(
    ("field", "value", "kept"),
    [
        ("meta", {"origin": "API", "clientIp": None}, {"origin": "API"}),
        ("meta", {"origin": "API", "ours": None}, {"origin": "API", "ours": None}),
        ("stats", {"computeUnits": None}, {}),
        ("usage", {"DATASET_READS": None}, {}),
        ("options", {**OPTIONS, "maxItems": None}, OPTIONS),
        ("storage_ids", {"datasets": None}, {}),
        ("pricing_info", {**FREE, "reasonForChange": None}, FREE),
    ],
)
def test_an_optional_key_that_is_null_is_left_out(alice, field, value, kept):
    assert getattr(save(alice, **{field: value}), field) == kept


@pytest.mark.parametrize(
    "written",
    [
        MOMENT,
        "2019-11-30T07:34:24.202999Z",
        "2019-11-30T09:34:24.202+02:00",
        "2019-11-30 02:34:24.202-05:00",
        "2019-11-30T13:04:24.202+05:30",
    ],
)
def test_times_inside_of_objects_are_kept_as_the_api_writes_them(alice, written):
    run = save(
        alice,
        meta={"origin": "API", "scheduledAt": written},
        pricing_info={**FREE, "createdAt": written},
        metamorphs=[{**METAMORPH, "createdAt": written}],
    )
    assert run.meta["scheduledAt"] == MOMENT
    assert run.pricing_info["createdAt"] == MOMENT
    assert run.metamorphs[0]["createdAt"] == MOMENT


def test_a_refused_object_is_not_changed(alice):
    meta = {"origin": "API", "clientIp": None, "scheduledAt": "soon"}
    with pytest.raises(ValidationError):
        Run.objects.create(user=alice, meta=meta)
    assert meta == {"origin": "API", "clientIp": None, "scheduledAt": "soon"}


@pytest.mark.parametrize(
    ("field", "depth"),
    [
        *(("meta", depth) for depth in (20, 31, 32, 40, 1000, 100_000)),
        ("stats", 32),
        ("options", 32),
    ],
)
def test_nested_values_are_kept_on_every_database_or_refused_by_name(alice, api, field, depth):
    nested: Any = "core"
    for level in range(depth):
        nested = [nested] if level % 2 else {"in": nested}
    base = Run._meta.get_field(field).get_default()
    try:
        run = save(alice, **{field: {**base, "ours": nested}})
    except ValidationError as refused:
        assert depth > 20
        assert list(refused.message_dict) == [field]  # noqa: PT017
        return
    data = api.get(f"/{run.pk}", user=alice).json()["data"]
    for value in (getattr(run, field)["ours"], data[field]["ours"]):
        for level in reversed(range(depth)):
            value = value[0] if level % 2 else value["in"]
        assert value == "core"


@pytest.mark.parametrize("exponent", [18, 19, 40, 308, 309, 400, 4300, 5000])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_number_is_kept_on_every_database_or_refused_by_name(alice, api, exponent, sign):
    value = sign * 10**exponent
    try:
        run = save(alice, meta={**META, "ours": value})
    except ValidationError as refused:
        assert exponent > 18
        assert list(refused.message_dict) == ["meta"]  # noqa: PT017
        return
    if connection.vendor == "mysql" and not connection.mysql_is_mariadb:
        value = float(value)  # MySQL keeps integers of more than 64 bits as floats
    assert run.meta["ours"] == value
    body = api.get(f"/{run.pk}", user=alice).content
    assert json.loads(body)["data"]["meta"]["ours"] == value


def test_a_list_of_the_hosts_may_be_a_tuple(alice):
    run = Run.objects.create(user=alice, metamorphs=(METAMORPH,), meta={**META, "ours": (1, 2)})
    assert run.metamorphs == [METAMORPH]
    assert run.meta["ours"] == [1, 2]


def test_every_field_of_the_contract_is_checked():
    unchecked = {
        field.name
        for field in Run._meta.concrete_fields
        if isinstance(field, models.JSONField)
        and not any(field.name == name for name, _, _ in REFUSED)
    }
    assert unchecked == set()
