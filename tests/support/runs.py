"""Runs of every kind, made without much ado."""

from __future__ import annotations

import datetime
from typing import Any

from actor_runs.models import GeneralAccess, Run, RunStatus

UTC = datetime.timezone.utc

# A value for every field but the owner, each another.
FULL: dict[str, Any] = {
    "act_id": "HDSasDasz78YcAPEB",
    "actor_task_id": "KJHSKHausidyaJKHs",
    "build_id": "HG7ML7M8z78YcAPEB",
    "build_number": "0.1.2",
    "status": RunStatus.FAILED,
    "status_message": "It failed. \U0001f600",
    "is_status_message_terminal": True,
    "started_at": datetime.datetime(2019, 11, 30, 7, 34, 24, 202000, tzinfo=UTC),
    "finished_at": datetime.datetime(2019, 12, 12, 9, 30, 12, 202999, tzinfo=UTC),
    "exit_code": 91,
    "general_access": GeneralAccess.ANYONE_WITH_ID_CAN_READ,
    "default_key_value_store_id": "eJNzqsbPiopwJcgGQ",
    "default_dataset_id": "wmKPijuyDnPZAPRMk",
    "default_request_queue_id": "FL35cSF7jrxr3BY39",
    "storage_ids": {"datasets": {"default": "wmKPijuyDnPZAPRMk"}},
    "container_url": "https://g8kd8kbc5ge8.runs.apify.net",
    "is_container_server_ready": False,
    "git_branch_name": "master",
    "meta": {
        "origin": "WEB",
        "clientIp": "8.8.8.8",
        "userAgent": "Mozilla/5.0 čžš \u2028 </script>",
        "scheduleId": "sch",
        "scheduledAt": "2019-11-30T07:34:24.202Z",
    },
    "options": {
        "build": "latest",
        "timeoutSecs": 300,
        "memoryMbytes": 1024,
        "diskMbytes": 2048,
        "maxItems": 10,
        "maxTotalChargeUsd": 0.5,
    },
    "stats": {
        "inputBodyLen": 240,
        "migrationCount": 0,
        "rebootCount": 0,
        "restartCount": 0,
        "resurrectCount": 1,
        "memAvgBytes": 267874071.9,
        "memMaxBytes": 404713472,
        "memCurrentBytes": 0,
        "cpuAvgUsage": 33.7532101107538,
        "cpuMaxUsage": 169.650735534941,
        "cpuCurrentUsage": 0,
        "netRxBytes": 103508042,
        "netTxBytes": 4854600,
        "durationMillis": 248472,
        "runTimeSecs": 248.472,
        "metamorph": 0,
        "computeUnits": 0.13804,
    },
    "usage": {"ACTOR_COMPUTE_UNITS": 0.13804, "DATASET_READS": 0},
    "usage_usd": {"ACTOR_COMPUTE_UNITS": 0.0003},
    "usage_total_usd": 0.2654,
    "charged_event_counts": {"actor-start": 1},
    "pricing_info": {
        "pricingModel": "FREE",
        "apifyMarginPercentage": 0,
        "createdAt": "2019-11-30T07:34:24.202Z",
        "startedAt": "2019-11-30T07:34:24.202Z",
    },
    "platform_usage_billing_model": "USER",
    "metamorphs": [
        {
            "createdAt": "2019-11-30T07:39:24.202Z",
            "actorId": "nspoEjklmnsF2oosD",
            "buildId": "ME6oKecqy5kXDS4KQ",
        }
    ],
}


def run_object(**keys: Any) -> dict[str, Any]:
    """Return a run as the API shows it: ``FULL``, but for ``keys`` of another value."""
    found: dict[str, Any] = {"id": "3KH8gEpp4d8uQSe8T"}
    for name, value in FULL.items():
        first, *others = name.split("_")
        if isinstance(value, datetime.datetime):
            value = f"{value:%Y-%m-%dT%H:%M:%S}.{value.microsecond // 1000:03}Z"
        found["".join([first, *map(str.capitalize, others)])] = value
    return found | keys


def make_full_run(owner: Any, **fields: Any) -> Run:
    """Make a run of the user ``owner`` that has a value in every field."""
    return Run.objects.create(user=owner, **{**FULL, **fields})


def make_runs(owner: Any, *statuses: str) -> list[Run]:
    """Make a run of the user ``owner`` in each of the statuses."""
    return [Run.objects.create(user=owner, status=status) for status in statuses]


def make_many(owner: Any, count: int, prefix: str = "run") -> list[str]:
    """Make finished runs in bulk; return their IDs, in their order."""
    ids = [f"{prefix}-{number:04}" for number in range(count)]
    now = Run(user=owner).started_at
    Run.objects.bulk_create(
        Run(id=run_id, user=owner, status=RunStatus.FAILED, finished_at=now) for run_id in ids
    )
    return ids


def another(run: Run) -> Run:
    """Return another object for the same run, as it is now."""
    return Run.objects.get(pk=run.pk)


def exists(run: Run) -> bool:
    return Run.objects.filter(pk=run.pk).exists()


def row_of(run: Run) -> dict[str, Any] | None:
    """Return the run's row, as the database has it."""
    return Run.objects.filter(pk=run.pk).values().first()
