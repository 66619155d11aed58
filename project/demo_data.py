"""What the demo shows: people, organizations, and runs in every status, old and new."""

from __future__ import annotations

import datetime
import random
from collections.abc import Iterator
from typing import Any

from django.contrib.auth.models import Group, User
from django.utils import timezone
from rest_framework.authtoken.models import Token

from actor_runs.fields import ALPHABET
from actor_runs.models import GeneralAccess, Run, RunStatus

# Fixed, so that what the README says can be pasted.
ALICE_TOKEN = "demo-token-of-alice"
BOB_TOKEN = "demo-token-of-bob"

SUCCEEDED_RUN = "3KH8gEpp4d8uQSe8T"
FAILED_RUN = "55uatRrZib4xbZs"
RUNNING_RUN = "dQ7mWx2TzPvK9cRfN"
BOBS_RUN = "hVb4LkJ8sYnGqE6pU"
BOBS_RUNNING_RUN = "vN6eTzQ2cXwLg9HkB"
PUBLIC_RUN = "Wc3RtZx7AmDfH5jyK"

SCRAPER = "HDSasDasz78YcAPEB"
CRAWLER = "mZq7RtXw3KpVf9SdN"
MAILER = "Ue5YbHc8TjLg4MnPx"

# What the platform charges for, in USD.
PRICES = {
    "ACTOR_COMPUTE_UNITS": 0.25,
    "DATASET_READS": 0.0000004,
    "DATASET_WRITES": 0.000005,
    "KEY_VALUE_STORE_READS": 0.000005,
    "KEY_VALUE_STORE_WRITES": 0.00005,
    "KEY_VALUE_STORE_LISTS": 0.00005,
    "REQUEST_QUEUE_READS": 0.000004,
    "REQUEST_QUEUE_WRITES": 0.00002,
    "DATA_TRANSFER_INTERNAL_GBYTES": 0.05,
    "DATA_TRANSFER_EXTERNAL_GBYTES": 0.2,
    "PROXY_RESIDENTIAL_TRANSFER_GBYTES": 8.0,
    "PROXY_SERPS": 0.0025,
}

PER_EVENT = {
    "pricingModel": "PAY_PER_EVENT",
    "apifyMarginPercentage": 0.2,
    "createdAt": "2024-11-04T10:00:00.000Z",
    "startedAt": "2024-11-18T10:00:00.000Z",
    "pricingPerEvent": {
        "actorChargeEvents": {
            "actor-start": {
                "eventTitle": "Start",
                "eventDescription": "Charged once for each run.",
                "eventPriceUsd": 0.01,
                "isOneTimeEvent": True,
            },
            "page": {
                "eventTitle": "Page",
                "eventDescription": "Charged for each page that was stored.",
                "eventPriceUsd": 0.002,
                "isPrimaryEvent": True,
            },
        }
    },
}
PER_ITEM = {
    "pricingModel": "PRICE_PER_DATASET_ITEM",
    "apifyMarginPercentage": 0.2,
    "createdAt": "2024-02-01T00:00:00.000Z",
    "startedAt": "2024-02-15T00:00:00.000Z",
    "unitName": "page",
    "pricePerUnitUsd": 0.0015,
}
FREE = {
    "pricingModel": "FREE",
    "apifyMarginPercentage": 0,
    "createdAt": "2023-05-01T00:00:00.000Z",
    "startedAt": "2023-05-01T00:00:00.000Z",
}


DAYS = 45
BAD_DAYS = (9, 10)
OUTCOMES = [
    (RunStatus.SUCCEEDED, "Finished! {pages} pages stored."),
    (
        RunStatus.FAILED,
        "The site answered 503 to 20 requests in a row, the last one of page {pages}.",
    ),
    (RunStatus.FAILED, "The input is not valid: startUrls is empty."),
    (RunStatus.TIMED_OUT, "The run timed out after 3600 seconds."),
    (RunStatus.ABORTED, "The run was aborted by the user."),
]
# The newest ones.
RUNNING = [
    (RunStatus.READY, ""),
    (RunStatus.RUNNING, "Crawled {pages} of 20000 pages."),
    (RunStatus.RUNNING, "Crawled {pages} pages so far."),
    (RunStatus.ABORTING, "Stopping..."),
]


def create() -> None:
    """Fill an empty database."""
    alice = User.objects.create_user("alice", "alice@example.com")
    bob = User.objects.create_user("bob", "bob@example.com")
    User.objects.create_superuser("admin", "admin@example.com", "admin")
    acme = Group.objects.create(name="Acme")
    acme.user_set.add(alice)
    Token.objects.create(user=alice, key=ALICE_TOKEN)
    Token.objects.create(user=bob, key=BOB_TOKEN)
    for fields in runs(alice, bob, acme):
        Run.objects.create(**fields)
    owners = [
        {"user": User.objects.create_user("carol", "carol@example.com")},
        {"user": User.objects.create_user("dave", "dave@example.com")},
        {"organization": Group.objects.create(name="Globex")},
    ]
    Run.objects.bulk_create(Run(**fields) for fields in recent_runs(owners, timezone.now()))


def runs(alice: User, bob: User, acme: Group) -> list[dict[str, Any]]:
    """Return the fields of every run, oldest first."""
    return [
        run(
            SUCCEEDED_RUN,
            RunStatus.SUCCEEDED,
            "2019-11-30T07:34:24.202Z",
            seconds=263.4,
            user=alice,
            origin="WEB",
            status_message="Finished! 412 pages stored.",
            pages=412,
            pricing_info=PER_EVENT,
            charged_event_counts={"actor-start": 1, "page": 412},
            git_branch_name="main",
        ),
        run(
            FAILED_RUN,
            RunStatus.FAILED,
            "2025-03-02T22:05:11.870Z",
            seconds=17.3,
            user=alice,
            origin="SCHEDULER",
            exit_code=91,
            status_message="The input is not valid: startUrls is empty.",
        ),
        run(
            "Kp8TfWq3xZsVn6YhB",
            RunStatus.TIMED_OUT,
            "2025-03-03T22:05:12.004Z",
            seconds=3601.2,
            user=alice,
            origin="SCHEDULER",
            actor_task_id="tSk8NfWq3xZsVn6Yh",
            status_message="The run timed out after 3600 seconds.",
            pages=5210,
            memory=4096,
        ),
        run(
            BOBS_RUN,
            RunStatus.SUCCEEDED,
            "2025-03-04T08:12:45.331Z",
            seconds=94.6,
            user=bob,
            origin="CLI",
            status_message="118 messages sent.",
            act_id=MAILER,
            memory=256,
            pricing_info=FREE,
        ),
        run(
            PUBLIC_RUN,
            RunStatus.SUCCEEDED,
            "2025-03-04T09:00:00.118Z",
            seconds=1250.0,
            user=bob,
            origin="API",
            status_message="Finished! 2048 pages stored.",
            pages=2048,
            general_access=GeneralAccess.ANYONE_WITH_ID_CAN_READ,
            pricing_info=PER_ITEM,
        ),
        run(
            "Zg5NwD9rKbXe4MvTs",
            RunStatus.SUCCEEDED,
            "2025-03-05T03:30:00.501Z",
            seconds=842.9,
            organization=acme,
            origin="WEBHOOK",
            act_id=CRAWLER,
            status_message="Finished! 1377 pages stored.",
            pages=1377,
            metamorphs=[
                {
                    "createdAt": "2025-03-05T03:30:41.020Z",
                    "actorId": SCRAPER,
                    "buildId": build_id(SCRAPER),
                    "inputKey": "INPUT-METAMORPH-1",
                }
            ],
        ),
        run(
            "yM6cPj2HuRfQa8SxE",
            RunStatus.ABORTED,
            "2025-03-05T11:47:30.250Z",
            seconds=58.1,
            user=alice,
            origin="DEVELOPMENT",
            status_message="The run was aborted by the user.",
            pages=35,
        ),
        run(
            "tB9vXnK4mLzJg7WdR",
            RunStatus.RUNNING,
            "2025-03-06T06:00:00.090Z",
            seconds=5400.0,
            organization=acme,
            origin="SCHEDULER",
            act_id=CRAWLER,
            status_message="Crawled 6211 of 20000 pages.",
            pages=6211,
            memory=8192,
        ),
        run(
            "FqS3hYw8eNcTk5UxP",
            RunStatus.ABORTING,
            "2025-03-06T07:01:10.635Z",
            seconds=1730.0,
            user=alice,
            origin="WEB",
            status_message="Stopping...",
            pages=1204,
        ),
        run(
            "rE7dGz5ViJmBp9HnC",
            RunStatus.TIMING_OUT,
            "2025-03-06T07:29:59.999Z",
            seconds=3600.0,
            user=alice,
            origin="ACTOR",
            status_message="Out of time, saving the state.",
            pages=3998,
        ),
        run(
            RUNNING_RUN,
            RunStatus.RUNNING,
            "2025-03-06T08:15:03.412Z",
            seconds=905.0,
            user=alice,
            origin="API",
            status_message="Crawled 780 of 1000 pages.",
            pages=780,
            pricing_info=PER_EVENT,
            charged_event_counts={"actor-start": 1, "page": 780},
        ),
        run(
            BOBS_RUNNING_RUN,
            RunStatus.RUNNING,
            "2025-03-06T08:20:41.779Z",
            seconds=61.0,
            user=bob,
            origin="CLI",
            act_id=MAILER,
            status_message="Sent 20 of 118 messages.",
            memory=256,
            pricing_info=FREE,
        ),
        run(
            "uX4kQs6ZaWyRf2TbM",
            RunStatus.READY,
            "2025-03-06T08:30:00.007Z",
            seconds=0,
            user=alice,
            origin="MCP",
        ),
    ]


def recent_runs(owners: list[dict[str, Any]], now: datetime.datetime) -> Iterator[dict[str, Any]]:
    """Yield the fields of some hundreds of runs of the last six weeks, for the admin's pages.

    What they did is the same each time; when it was is counted back from ``now``.
    """
    chance = random.Random(15)  # noqa: S311  no secret
    for days in range(DAYS):
        is_bad = days in BAD_DAYS
        for number in range(chance.randint(6, 14)):
            # Those of today began in the last hours, some of them a few minutes ago.
            ago = days * 86400 + (number + 0.5) * (86400 / 15 if days else 1500)
            outcome, message = chance.choices(OUTCOMES, [20, 12 if is_bad else 1, 1, 1, 1])[0]
            seconds = min(chance.lognormvariate(5.5, 1), ago / 2)
            if days == 0 and number < len(RUNNING):
                outcome, message = RUNNING[number]
                seconds = 0 if outcome == RunStatus.READY else ago
            pages = int(seconds * chance.uniform(0.5, 3))
            yield run(
                "".join(chance.choices(ALPHABET, k=17)),
                outcome,
                (now - datetime.timedelta(seconds=ago)).isoformat(),
                seconds=round(seconds, 3),
                origin=chance.choice(["API", "SCHEDULER", "SCHEDULER", "WEB", "CLI", "WEBHOOK"]),
                act_id=chance.choice([SCRAPER, SCRAPER, CRAWLER, MAILER]),
                pages=pages,
                memory=chance.choice([512, 1024, 4096, 8192]),
                status_message=message.format(pages=pages),
                general_access=chance.choices(list(GeneralAccess), [20, 2, 1, 4])[0],
                **chance.choices(owners, [5, 2, 4])[0],
            )


def run(
    run_id: str,
    status: RunStatus,
    started_at: str,
    *,
    seconds: float,
    origin: str,
    act_id: str = SCRAPER,
    pages: int = 0,
    memory: int = 1024,
    **fields: Any,
) -> dict[str, Any]:
    """Return the fields of one run: as full as the platform keeps it, the figures in proportion.

    ``seconds`` is how long it has run, ``memory`` is in MiB, ``pages`` is what it stored.
    """
    start = datetime.datetime.fromisoformat(started_at.replace("Z", "+00:00"))
    is_finished = status in Run.FINISHED
    common = {
        "id": run_id,
        "status": status,
        "started_at": start,
        "finished_at": start + datetime.timedelta(seconds=seconds) if is_finished else None,
        "act_id": act_id,
        "build_id": build_id(act_id),
        "build_number": {SCRAPER: "0.1.2", CRAWLER: "3.0.17", MAILER: "1.4.108"}[act_id],
        "default_key_value_store_id": storage_id("k", run_id),
        "default_dataset_id": storage_id("d", run_id),
        "default_request_queue_id": storage_id("q", run_id),
        "storage_ids": {
            "datasets": {"default": storage_id("d", run_id)},
            "keyValueStores": {"default": storage_id("k", run_id)},
            "requestQueues": {"default": storage_id("q", run_id)},
        },
        "container_url": f"https://{run_id.lower()}.runs.example.com",
        "meta": meta(origin, started_at),
        "options": {
            "build": "latest",
            "timeoutSecs": 3600 if act_id != CRAWLER else 86400,
            "memoryMbytes": memory,
            "diskMbytes": 2 * memory,
        },
        "platform_usage_billing_model": "USER",
    }
    if is_finished:
        common["exit_code"] = 0 if status == RunStatus.SUCCEEDED else 143
        common["is_status_message_terminal"] = True
    if status == RunStatus.RUNNING:
        common["is_container_server_ready"] = True
    if seconds:
        common |= cost(seconds, pages, memory)
    return common | fields


def meta(origin: str, started_at: str) -> dict[str, str]:
    if origin == "SCHEDULER":
        return {"origin": origin, "scheduleId": "sCh3dUxE7rNfW2kPq", "scheduledAt": started_at}
    return {"origin": origin, "clientIp": "192.0.2.17", "userAgent": "ApifyClient/3.4.0"}


def cost(seconds: float, pages: int, memory: int) -> dict[str, Any]:
    """Return ``stats`` and the usage, in units and in USD."""
    compute_units = round(memory / 1024 * seconds / 3600, 6)
    usage = {
        "ACTOR_COMPUTE_UNITS": compute_units,
        "DATASET_READS": 0,
        "DATASET_WRITES": pages,
        "KEY_VALUE_STORE_READS": 1,
        "KEY_VALUE_STORE_WRITES": 2,
        "KEY_VALUE_STORE_LISTS": 0,
        "REQUEST_QUEUE_READS": 3 * pages,
        "REQUEST_QUEUE_WRITES": 2 * pages,
        "DATA_TRANSFER_INTERNAL_GBYTES": round(pages * 4e-6, 6),
        "DATA_TRANSFER_EXTERNAL_GBYTES": round(pages * 6e-5, 6),
        "PROXY_RESIDENTIAL_TRANSFER_GBYTES": 0,
        "PROXY_SERPS": 0,
    }
    usage_usd = {name: round(amount * PRICES[name], 6) for name, amount in usage.items()}
    stats = {
        "inputBodyLen": 312,
        "migrationCount": 0,
        "rebootCount": 0,
        "restartCount": 0,
        "resurrectCount": 0,
        "memAvgBytes": memory * 2**20 * 0.41,
        "memMaxBytes": memory * 2**20 // 2,
        "memCurrentBytes": 0,
        "cpuAvgUsage": 23.7,
        "cpuMaxUsage": 96.2,
        "cpuCurrentUsage": 0,
        "netRxBytes": pages * 61_440,
        "netTxBytes": pages * 2_048,
        "durationMillis": round(seconds * 1000),
        "runTimeSecs": seconds,
        "metamorph": 0,
        "computeUnits": compute_units,
    }
    return {
        "stats": stats,
        "usage": usage,
        "usage_usd": usage_usd,
        "usage_total_usd": round(sum(usage_usd.values()), 6),
    }


def build_id(act_id: str) -> str:
    return f"bu{act_id[2:]}"


def storage_id(kind: str, run_id: str) -> str:
    return f"{kind}{run_id[1:]}"
