"""The types and shapes of the contract: what a value must be so that every client can read it.

A *check* takes a value and the name to blame, returns the value as it is kept, and raises
``ValidationError``. ``FIELD_CHECKS`` has one for each field of ``Run`` whose Django field
alone would let too much pass.
"""

from __future__ import annotations

import datetime
import math
import re
import sys
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from django.core.exceptions import ValidationError
from django.core.validators import URLValidator
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _

Check = Callable[[Any, str], Any]

ORIGINS = (
    "DEVELOPMENT",
    "WEB",
    "API",
    "SCHEDULER",
    "TEST",
    "WEBHOOK",
    "ACTOR",
    "CLI",
    "CI",
    "STANDBY",
    "MCP",
)

# PostgreSQL keeps neither NUL nor half a surrogate pair, and UTF-8 cannot carry the second.
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
BUILD_NUMBER = re.compile(r"([0-9]|[1-9][0-9])\.([0-9]|[1-9][0-9])\.([1-9][0-9]{0,4})", re.ASCII)


def refuse(name: str, message: Any) -> ValidationError:
    return ValidationError("%(name)s: %(message)s", params={"name": name, "message": message})


def format_time(moment: datetime.datetime) -> str:
    """Return ``moment`` as the contract writes times: UTC, milliseconds, ``Z``.

    A naive moment, as Django keeps it where ``USE_TZ`` is off, is in Django's time zone.
    """
    if timezone.is_naive(moment):
        moment = timezone.make_aware(moment, timezone.get_default_timezone())
    utc = moment.astimezone(datetime.timezone.utc)
    return utc.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise refuse(name, _("must be a string."))
    if UNSTORABLE.search(value):
        raise refuse(name, _("holds a character that cannot be stored."))
    return str(value)


def boolean(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        raise refuse(name, _("must be true or false."))
    return value


def number(value: Any, name: str, minimum: float = 0) -> float:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    # JSON has neither NaN nor the infinities, and no client reads a number beyond them.
    if not is_number or not -sys.float_info.max <= value <= sys.float_info.max:
        raise refuse(name, _("must be a number."))
    if value < minimum:
        raise refuse(name, _("must be at least %(minimum)s.") % {"minimum": minimum})
    return value


def whole(minimum: float = 0, maximum: float = 2**63 - 1) -> Check:
    def check(value: Any, name: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise refuse(name, _("must be a whole number."))
        if not minimum <= value <= maximum:
            raise refuse(
                name,
                _("must be from %(minimum)s to %(maximum)s.")
                % {"minimum": minimum, "maximum": maximum},
            )
        return value

    return check


def choice(*allowed: str) -> Check:
    def check(value: Any, name: str) -> str:
        if value not in allowed:
            raise refuse(name, _("must be one of %(allowed)s.") % {"allowed": ", ".join(allowed)})
        return text(value, name)

    return check


def time(value: Any, name: str) -> str:
    """A moment inside of JSON: ISO 8601 with its offset, kept as the contract writes times."""
    try:
        moment = parse_datetime(text(value, name))
        if moment is None or timezone.is_naive(moment):
            raise ValueError
        return format_time(moment)
    except (ValueError, OverflowError):
        raise refuse(name, _("must be a time like 2019-11-30T07:34:24.202Z.")) from None


def build_number(value: Any, name: str) -> str:
    if text(value, name) and not BUILD_NUMBER.fullmatch(value):
        raise refuse(name, _("must be major.minor.build, like 0.1.2."))
    return value


def absolute_url(value: Any, name: str) -> str:
    if text(value, name):
        try:
            URLValidator(schemes=["http", "https"])(value)
            urlsplit(value).port  # noqa: B018  raises for a port that cannot be
        except (ValidationError, ValueError):
            raise refuse(name, _("must be an absolute URL.")) from None
    return value


def anything(value: Any, name: str) -> Any:
    """Any JSON, as long as every database can keep it and UTF-8 can carry it."""
    if isinstance(value, dict):
        return {text(key, name): anything(item, f"{name}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [anything(item, f"{name}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, str):
        return text(value, name)
    if value is None or isinstance(value, bool):
        return value
    return number(value, name, minimum=-math.inf)


def mapping(
    required: dict[str, Check] | None = None,
    optional: dict[str, Check] | None = None,
    others: Check = anything,
) -> Check:
    """An object with these keys. Optional keys that are null are left out."""
    required, optional = required or {}, optional or {}

    def check(value: Any, name: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise refuse(name, _("must be an object."))
        missing = [key for key in required if value.get(key) is None]
        if missing:
            raise refuse(f"{name}.{missing[0]}", _("is required."))
        checks = required | optional
        return {
            text(key, name): checks.get(key, others)(item, f"{name}.{key}")
            for key, item in value.items()
            if item is not None or key not in optional
        }

    return check


def array(of: Check) -> Check:
    def check(value: Any, name: str) -> list[Any]:
        if not isinstance(value, (list, tuple)):
            raise refuse(name, _("must be an array."))
        return [of(item, f"{name}[{index}]") for index, item in enumerate(value)]

    return check


_PRICING: dict[str, Check] = {"apifyMarginPercentage": number, "createdAt": time, "startedAt": time}
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
_PRICING_NOTICES: dict[str, Check] = {
    "notifiedAboutFutureChangeAt": time,
    "notifiedAboutChangeAt": time,
    "reasonForChange": text,
    "isPriceChangeNotificationSuppressed": boolean,
    "forceContainsSignificantPriceChange": boolean,
}
PRICING_MODELS: dict[str, Check] = {
    "PAY_PER_EVENT": mapping(
        _PRICING
        | {
            "pricingPerEvent": mapping(
                optional={"actorChargeEvents": mapping(others=_CHARGE_EVENT)}
            )
        },
        _PRICING_NOTICES | {"minimalMaxTotalChargeUsd": number},
    ),
    "PRICE_PER_DATASET_ITEM": mapping(
        _PRICING | {"unitName": text},
        _PRICING_NOTICES | {"pricePerUnitUsd": number, "tieredPricing": _TIERS_PER_ITEM},
    ),
    "FLAT_PRICE_PER_MONTH": mapping(
        _PRICING | {"trialMinutes": whole(), "pricePerUnitUsd": number}, _PRICING_NOTICES
    ),
    "FREE": mapping(_PRICING, _PRICING_NOTICES),
}


def pricing(value: Any, name: str) -> Any:
    """Pricing: its model says which other keys there must be."""
    model = mapping({"pricingModel": choice(*PRICING_MODELS)})(value, name)["pricingModel"]
    return PRICING_MODELS[model](value, name)


USAGE_AMOUNTS = (
    "ACTOR_COMPUTE_UNITS",
    "DATA_TRANSFER_INTERNAL_GBYTES",
    "DATA_TRANSFER_EXTERNAL_GBYTES",
    "PROXY_RESIDENTIAL_TRANSFER_GBYTES",
)
USAGE_COUNTS = (
    "DATASET_READS",
    "DATASET_WRITES",
    "KEY_VALUE_STORE_READS",
    "KEY_VALUE_STORE_WRITES",
    "KEY_VALUE_STORE_LISTS",
    "REQUEST_QUEUE_READS",
    "REQUEST_QUEUE_WRITES",
    "PROXY_SERPS",
)
STATS_COUNTS = (
    "inputBodyLen",
    "migrationCount",
    "rebootCount",
    "restartCount",
    "resurrectCount",
    "memMaxBytes",
    "memCurrentBytes",
    "netRxBytes",
    "netTxBytes",
    "durationMillis",
    "metamorph",
)
STATS_AMOUNTS = (
    "memAvgBytes",
    "cpuAvgUsage",
    "cpuMaxUsage",
    "cpuCurrentUsage",
    "runTimeSecs",
    "computeUnits",
)

FIELD_CHECKS: dict[str, Check] = {
    "build_number": build_number,
    "container_url": absolute_url,
    "usage_total_usd": number,
    "exit_code": whole(-(2**31), 2**31 - 1),
    "is_status_message_terminal": boolean,
    "is_container_server_ready": boolean,
    "meta": mapping(
        {"origin": choice(*ORIGINS)},
        {"clientIp": text, "userAgent": text, "scheduleId": text, "scheduledAt": time},
    ),
    "options": mapping(
        {
            "build": text,
            "timeoutSecs": whole(),
            "memoryMbytes": whole(128, 32768),
            "diskMbytes": whole(),
        },
        {"maxItems": whole(), "maxTotalChargeUsd": number},
    ),
    "stats": mapping(
        optional=dict.fromkeys(STATS_COUNTS, whole()) | dict.fromkeys(STATS_AMOUNTS, number)
    ),
    "usage": mapping(
        optional=dict.fromkeys(USAGE_AMOUNTS, number) | dict.fromkeys(USAGE_COUNTS, whole())
    ),
    "usage_usd": mapping(optional=dict.fromkeys(USAGE_AMOUNTS + USAGE_COUNTS, number)),
    "storage_ids": mapping(
        optional=dict.fromkeys(
            ("datasets", "keyValueStores", "requestQueues"), mapping(others=text)
        )
    ),
    "charged_event_counts": mapping(others=whole()),
    "pricing_info": pricing,
    "metamorphs": array(
        mapping({"createdAt": time, "actorId": text, "buildId": text}, {"inputKey": text})
    ),
}
