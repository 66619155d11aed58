"""Who calls, and what runs there are, while the API is fuzzed."""

from __future__ import annotations

import datetime
from typing import Any

from django.contrib.auth.models import Group, User
from rest_framework.authtoken.models import Token

from actor_runs.models import GeneralAccess, Run, RunStatus

CALLERS = ("alice", "bob", "nobody", "wrong")
TOKENS = {"alice": "fuzz-token-of-alice", "bob": "Fuzz-Token-Of-Bob", "wrong": "fuzz-token-of-none"}
START = datetime.datetime(2025, 3, 4, 9, 0, 0, 118000, datetime.timezone.utc)

# ID: (owner, status, whether anyone can read it). Two differ in the case of letters alone.
RUNS = {
    "Alice-finished": ("alice", RunStatus.SUCCEEDED, False),
    "Alice-open": ("alice", RunStatus.TIMED_OUT, True),
    "Alice-running": ("alice", RunStatus.RUNNING, False),
    "Alice-stopping": ("alice", RunStatus.ABORTING, True),
    "alice-FINISHED": ("bob", RunStatus.FAILED, False),
    "Bob-open": ("bob", RunStatus.ABORTED, True),
    "Bob-ready": ("bob", RunStatus.READY, False),
    "acme_1": ("acme", RunStatus.SUCCEEDED, False),
}
OWNERS = {"alice": {"alice"}, "bob": {"bob"}, "acme": {"alice"}}


def owns(caller: str, run_id: str) -> bool:
    return caller in OWNERS[RUNS[run_id][0]]


def is_finished(run_id: str) -> bool:
    return RUNS[run_id][1] in Run.FINISHED


def may_read(caller: str, run_id: str) -> bool:
    return caller != "wrong" and (owns(caller, run_id) or RUNS[run_id][2])


def create() -> None:
    """Fill an empty database."""
    users = {name: User.objects.create_user(name) for name in ("alice", "bob")}
    for name, user in users.items():
        Token.objects.create(user=user, key=TOKENS[name])
    Group.objects.create(name="acme").user_set.add(users["alice"])
    for run_id in RUNS:
        create_run(run_id)


def create_run(run_id: str) -> None:
    owner, status, is_open = RUNS[run_id]
    whose: dict[str, Any] = (
        {"organization": Group.objects.get(name=owner)}
        if owner == "acme"
        else {"user": User.objects.get(username=owner)}
    )
    Run.objects.create(
        id=run_id,
        status=status,
        started_at=START,
        finished_at=START if status in Run.FINISHED else None,
        general_access=GeneralAccess.ANYONE_WITH_ID_CAN_READ
        if is_open
        else GeneralAccess.RESTRICTED,
        usage_total_usd=1.5,
        build_number="0.1.2",
        **whose,
    )


def rows() -> dict[str, Any]:
    """Every run as the database has it."""
    return {run["id"]: run for run in Run.objects.order_by("id").values()}
