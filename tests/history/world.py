"""The people of the history, and its runs: a few hundred slots, each with one run at a time."""

from __future__ import annotations

import json
import multiprocessing
import time
from dataclasses import asdict, dataclass
from multiprocessing.sharedctypes import Synchronized
from typing import Any

USERS = 4
ORGANIZATIONS = 2
SLOTS = 200
HOT = 0.03  # the part of the slots that most operations are about
HOT_SECONDS = 2.0


@dataclass(frozen=True)
class World:
    """What clients need to know of the people. Owners are spelled as the API's ``userId``."""

    tokens: dict[str, str]
    organizations: list[str]
    cookies: str
    csrf_token: str
    ports: list[int]
    witnessed_ports: list[int]

    @property
    def owners(self) -> list[str]:
        return [*self.tokens, *self.organizations]

    def as_json(self) -> str:
        return json.dumps(asdict(self))


def make_world(ports: list[int], witnessed_ports: list[int]) -> World:
    """Make users, organizations, and one of the staff, in the database. No memberships yet."""
    from django.contrib.auth import get_user_model
    from django.contrib.auth.models import Group
    from django.test import Client
    from rest_framework.authtoken.models import Token

    users = get_user_model().objects
    tokens = {}
    for number in range(USERS):
        user = users.create_user(username=f"user{number}")
        tokens[str(user.pk)] = Token.objects.create(user=user).key
    organizations = [
        f"org-{Group.objects.create(name=f'Organization {number}').pk}"
        for number in range(ORGANIZATIONS)
    ]
    browser = Client()
    browser.force_login(users.create_superuser(username="staff"))
    secret = "s" * 32
    cookies = f"sessionid={browser.cookies['sessionid'].value}; csrftoken={secret}"
    return World(tokens, organizations, cookies, secret, ports, witnessed_ports)


def owner_fields(owner: str) -> dict[str, Any]:
    """Return the fields of a run for an owner."""
    if owner.startswith("org-"):
        return {"user_id": None, "organization_id": int(owner.removeprefix("org-"))}
    return {"user_id": int(owner), "organization_id": None}


def owner_of(run: Any) -> str:
    return f"org-{run.organization_id}" if run.user_id is None else str(run.user_id)


class Slots:
    """Which run is in each slot, shared by all client processes.

    A run that is deleted gets a successor with another ID. Most operations are about a few hot
    slots, so that operations on one run overlap. The hot slots change every two seconds.
    """

    def __init__(self, count: int = SLOTS) -> None:
        self.count = count
        self._hot = max(2, int(count * HOT))
        context = multiprocessing.get_context("spawn")
        self._generations = context.Array("i", count)
        self.done: Synchronized[int] = context.Value("i", 0)

    def choose(self, random: Any) -> int:
        if random.random() < 0.7:
            first = int(time.monotonic() / HOT_SECONDS) * self._hot
            return (first + random.randrange(self._hot)) % self.count
        return random.randrange(self.count)

    def run_id(self, slot: int, random: Any) -> str:
        """Return the run of a slot; now and then an earlier one, which is deleted by now."""
        generation = self._generations[slot]
        if generation > 1 and random.random() < 0.03:
            generation -= 1
        return name_of(slot, generation)

    def next_run_id(self, slot: int, after: str = "") -> str | None:
        """Return the ID for the successor of ``after``; None where another client makes it."""
        with self._generations.get_lock():
            if after and name_of(slot, self._generations[slot]) != after:
                return None
            self._generations[slot] += 1
            return name_of(slot, self._generations[slot])


def name_of(slot: int, generation: int) -> str:
    return f"run-{slot}-{generation}"
