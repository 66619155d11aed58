"""Checks of the fields of a run, so that every client can read what is stored.

``FIELD_CHECKS`` has a check for each field of ``Run`` whose Django field alone would let too much
pass. A check carries its JSON schema, so that what is refused and what is documented are one.

REST framework's nested serializers were tried in their place. For the objects of a full run they
take 159 microseconds, even if one serializer checks all runs; these checks take 29. An import of
2,000 runs took 1.35 times as much CPU (Python 3.11, REST framework 3.18).
"""

from __future__ import annotations

import datetime
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from django.core.exceptions import ValidationError
from django.core.validators import URLValidator
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _

Schema = dict[str, Any]

ORIGINS = "DEVELOPMENT WEB API SCHEDULER TEST WEBHOOK ACTOR CLI CI STANDBY MCP".split()

# PostgreSQL keeps neither NUL nor half a surrogate pair, and UTF-8 cannot carry the second.
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
# What every database takes as a number, a LIMIT and an OFFSET.
MAX_INTEGER = 2**63 - 1
# MariaDB keeps 31 levels of JSON, of which the contract's own shapes need six.
MAX_DEPTH = 25
BUILD_NUMBER = re.compile(r"([0-9]|[1-9][0-9])\.([0-9]|[1-9][0-9])\.([1-9][0-9]{0,4})", re.ASCII)


@dataclass(frozen=True)
class Check:
    """What a value must be, in Python and in JSON Schema.

    ``accept`` takes a value and the name to blame, returns the value as it is kept, and raises
    ValidationError. ``schema`` describes what it returns, except for an empty text, which is no
    value on the wire. Its patterns are of ECMA 262.
    """

    accept: Callable[[Any, str], Any]
    schema: Schema

    def __call__(self, value: Any, name: str) -> Any:
        return self.accept(value, name)


def check(**schema: Any) -> Callable[[Callable[[Any, str], Any]], Check]:
    """Make a check of the function below, which holds values to this schema."""
    return lambda accept: Check(accept, schema)


def object_of(properties: dict[str, Schema], **options: Any) -> Schema:
    """Return the schema of an object that has all of these keys."""
    return {"type": "object", "properties": properties, "required": list(properties), **options}


def invalid(name: str, message: Any) -> ValidationError:
    """Return the error that says of ``name``, a field or a place inside of it, what is wrong."""
    return ValidationError("%(name)s: %(message)s", params={"name": name, "message": message})


def to_camel_case(field_name: str) -> str:
    """Return the API's key for a field: fields are named after the keys, in snake case."""
    first, *others = field_name.split("_")
    return first + "".join(map(str.capitalize, others))


def format_owner(user_id: Any, organization_id: Any) -> str:
    """Return ``userId`` of the API: a user's primary key, or ``org-`` and an organization's."""
    return str(user_id) if user_id is not None else f"org-{organization_id}"


def format_time(moment: datetime.datetime | str) -> str:
    """Return ``moment`` as the contract writes times: UTC, milliseconds, ``Z``.

    A naive moment, as Django keeps it where ``USE_TZ`` is off, is in Django's time zone. Text is
    such a time already, which the database wrote.
    """
    if isinstance(moment, str):  # pragma: no cover  (make test-services)
        return moment
    if moment.tzinfo is None:
        moment = timezone.make_aware(moment, timezone.get_default_timezone())
    utc = moment.astimezone(datetime.timezone.utc)
    return utc.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@check(type="string")
def text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise invalid(name, _("must be a string."))
    if UNSTORABLE.search(value):
        raise invalid(name, _("holds a character that cannot be stored."))
    return str(value)


@check(type="boolean")
def boolean(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        raise invalid(name, _("must be true or false."))
    return value


def finite(value: Any, name: str) -> float:
    """JSON has neither NaN nor the infinities, and no client reads a number beyond them."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not -sys.float_info.max <= value <= sys.float_info.max:
        raise invalid(name, _("must be a number."))
    return value


@check(type="number", format="double", minimum=0)
def number(value: Any, name: str) -> float:
    if finite(value, name) < 0:
        raise invalid(name, _("must be at least %(minimum)s.") % {"minimum": 0})
    return value


def integer(minimum: int = 0, maximum: int = MAX_INTEGER, **annotations: str) -> Check:
    """A whole number within bounds. ``annotations`` are for the readers of its schema."""
    size = "int32" if maximum < 2**31 else "int64"

    @check(type="integer", format=size, minimum=minimum, maximum=maximum, **annotations)
    def whole_number(value: Any, name: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise invalid(name, _("must be a whole number."))
        if not minimum <= value <= maximum:
            raise invalid(
                name,
                _("must be from %(minimum)s to %(maximum)s.")
                % {"minimum": minimum, "maximum": maximum},
            )
        return value

    return whole_number


def choice(*allowed: str) -> Check:
    @check(type="string", enum=list(allowed))
    def one_of(value: Any, name: str) -> str:
        if value not in allowed:
            raise invalid(name, _("must be one of %(allowed)s.") % {"allowed": ", ".join(allowed)})
        return text(value, name)

    return one_of


@check(type="string", format="date-time", pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$")
def time(value: Any, name: str) -> str:
    """A moment inside of JSON: ISO 8601 with its offset, kept as the contract writes times."""
    try:
        moment = parse_datetime(text(value, name))
        if moment is None or timezone.is_naive(moment):
            raise ValueError
        return format_time(moment)
    except (ValueError, OverflowError):
        raise invalid(name, _("must be a time like 2019-11-30T07:34:24.202Z.")) from None


@check(type="string", pattern=f"^{BUILD_NUMBER.pattern}$", description="major.minor.build")
def build_number(value: Any, name: str) -> str:
    if text(value, name) and not BUILD_NUMBER.fullmatch(value):
        raise invalid(name, _("must be major.minor.build, like 0.1.2."))
    return value


@check(type="string", format="uri")
def absolute_url(value: Any, name: str) -> str:
    if text(value, name):
        try:
            URLValidator(schemes=["http", "https"])(value)
            urlsplit(value).port  # noqa: B018  raises for a port that cannot be
        except (ValidationError, ValueError):
            raise invalid(name, _("must be an absolute URL.")) from None
    return value


def storable(value: Any, name: str, levels: int = MAX_DEPTH) -> Any:
    """Any JSON, as long as every database can keep it and UTF-8 can carry it."""
    if levels == 0:
        raise invalid(name, _("is nested too deeply."))
    if isinstance(value, dict):
        return {
            text(key, name): storable(item, f"{name}.{key}", levels - 1)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [storable(item, f"{name}[{index}]", levels - 1) for index, item in enumerate(value)]
    if isinstance(value, str):
        return text(value, name)
    if value is None or isinstance(value, bool):
        return value
    return finite(value, name)


anything = Check(storable, {})


def mapping(
    required: dict[str, Check] | None = None,
    optional: dict[str, Check] | None = None,
    others: Check = anything,
) -> Check:
    """An object with these keys. Optional keys that are null are left out."""
    required, optional = required or {}, optional or {}
    checks = required | optional
    schema: Schema = {"type": "object"}
    if checks:
        schema["properties"] = {key: each.schema for key, each in checks.items()}
    if required:
        schema["required"] = list(required)
    if others is not anything:
        schema["additionalProperties"] = others.schema

    @check(**schema)
    def an_object(value: Any, name: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise invalid(name, _("must be an object."))
        missing = [key for key in required if value.get(key) is None]
        if missing:
            raise invalid(f"{name}.{missing[0]}", _("is required."))
        return {
            text(key, name): checks.get(key, others)(item, f"{name}.{key}")
            for key, item in value.items()
            if item is not None or key not in optional
        }

    return an_object


def array(of: Check) -> Check:
    @check(type="array", items=of.schema)
    def an_array(value: Any, name: str) -> list[Any]:
        if not isinstance(value, (list, tuple)):
            raise invalid(name, _("must be an array."))
        return [of(item, f"{name}[{index}]") for index, item in enumerate(value)]

    return an_array


_TIERS_PER_EVENT = mapping(others=mapping({"tieredEventPriceUsd": number}))
_TIERS_PER_ITEM = mapping(others=mapping({"tieredPricePerUnitUsd": number}))
_CHARGE_EVENT = mapping(
    {"eventTitle": text, "eventDescription": text},
    {
        "eventPriceUsd": number,
        "eventTieredPricingUsd": _TIERS_PER_EVENT,
        "isPrimaryEvent": boolean,
        "isOneTimeEvent": boolean,
    },
)


def pricing_of(model: str, required: dict[str, Check], optional: dict[str, Check]) -> Check:
    """Pricing of one model: what every model has, and these keys."""
    return mapping(
        {
            "pricingModel": choice(model),
            "apifyMarginPercentage": number,
            "createdAt": time,
            "startedAt": time,
        }
        | required,
        optional
        | {
            "notifiedAboutFutureChangeAt": time,
            "notifiedAboutChangeAt": time,
            "reasonForChange": text,
            "isPriceChangeNotificationSuppressed": boolean,
            "forceContainsSignificantPriceChange": boolean,
        },
    )


PRICING_MODELS = {
    "PAY_PER_EVENT": pricing_of(
        "PAY_PER_EVENT",
        {"pricingPerEvent": mapping(optional={"actorChargeEvents": mapping(others=_CHARGE_EVENT)})},
        {"minimalMaxTotalChargeUsd": number},
    ),
    "PRICE_PER_DATASET_ITEM": pricing_of(
        "PRICE_PER_DATASET_ITEM",
        {"unitName": text},
        {"pricePerUnitUsd": number, "tieredPricing": _TIERS_PER_ITEM},
    ),
    "FLAT_PRICE_PER_MONTH": pricing_of(
        "FLAT_PRICE_PER_MONTH", {"trialMinutes": integer(), "pricePerUnitUsd": number}, {}
    ),
    "FREE": pricing_of("FREE", {}, {}),
}


_ANY_PRICING = mapping({"pricingModel": choice(*PRICING_MODELS)})


@check(oneOf=[of_model.schema for of_model in PRICING_MODELS.values()])
def pricing(value: Any, name: str) -> Any:
    """Pricing: its model says which other keys there must be."""
    model = _ANY_PRICING(value, name)["pricingModel"]
    return PRICING_MODELS[model](value, name)


USAGE_AMOUNTS = [
    *("ACTOR_COMPUTE_UNITS", "DATA_TRANSFER_INTERNAL_GBYTES", "DATA_TRANSFER_EXTERNAL_GBYTES"),
    "PROXY_RESIDENTIAL_TRANSFER_GBYTES",
]
USAGE_COUNTS = [
    *("DATASET_READS", "DATASET_WRITES", "KEY_VALUE_STORE_READS", "KEY_VALUE_STORE_WRITES"),
    *("KEY_VALUE_STORE_LISTS", "REQUEST_QUEUE_READS", "REQUEST_QUEUE_WRITES", "PROXY_SERPS"),
]
STATS_COUNTS = [
    *("inputBodyLen", "migrationCount", "rebootCount", "restartCount", "resurrectCount"),
    *("memMaxBytes", "memCurrentBytes", "netRxBytes", "netTxBytes", "durationMillis", "metamorph"),
]
STATS_AMOUNTS = [
    *("memAvgBytes", "cpuAvgUsage", "cpuMaxUsage", "cpuCurrentUsage", "runTimeSecs"),
    "computeUnits",
]

FIELD_CHECKS: dict[str, Check] = {
    "build_number": build_number,
    "container_url": absolute_url,
    "usage_total_usd": number,
    "exit_code": integer(-(2**31), 2**31 - 1),
    "is_status_message_terminal": boolean,
    "is_container_server_ready": boolean,
    "meta": mapping(
        {"origin": choice(*ORIGINS)},
        {"clientIp": text, "userAgent": text, "scheduleId": text, "scheduledAt": time},
    ),
    "options": mapping(
        {
            "build": text,
            "timeoutSecs": integer(description="Seconds; 0 is no limit."),
            "memoryMbytes": integer(128, 32768),
            "diskMbytes": integer(),
        },
        {"maxItems": integer(), "maxTotalChargeUsd": number},
    ),
    "stats": mapping(
        optional=dict.fromkeys(STATS_COUNTS, integer()) | dict.fromkeys(STATS_AMOUNTS, number)
    ),
    "usage": mapping(
        optional=dict.fromkeys(USAGE_AMOUNTS, number) | dict.fromkeys(USAGE_COUNTS, integer())
    ),
    "usage_usd": mapping(optional=dict.fromkeys(USAGE_AMOUNTS + USAGE_COUNTS, number)),
    "storage_ids": mapping(
        optional=dict.fromkeys(
            ("datasets", "keyValueStores", "requestQueues"), mapping(others=text)
        )
    ),
    "charged_event_counts": mapping(others=integer()),
    "pricing_info": pricing,
    "metamorphs": array(
        mapping({"createdAt": time, "actorId": text, "buildId": text}, {"inputKey": text})
    ),
}
