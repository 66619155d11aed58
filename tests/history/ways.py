"""The ways in: how each operation is done, by HTTP or in a host's own code, and its answer."""

from __future__ import annotations

import contextlib
import datetime
import http.client
import random
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlencode

from asgiref.sync import async_to_sync
from django.contrib.auth.models import Group, User
from django.db import (
    DatabaseError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    close_old_connections,
)
from django.utils import timezone

from actor_runs.exceptions import InvalidTransition, RunNotFinished
from actor_runs.importing import import_runs
from actor_runs.models import Run
from tests.engines.operations import HEADER, current_operation
from tests.history.model import TRANSITIONS
from tests.history.world import World, owner_fields, owner_of
from tests.services.servers import Answer, Server

ADMIN = "/admin/actor_runs/run/"
Words = list[Any] | None
REFUSALS = {
    (403, "permission-denied"): "forbidden",
    (404, "record-not-found"): "gone",
}


class Unknown(Exception):
    """Nobody knows whether an operation happened."""


def words(work: Callable[..., Words]) -> Callable[..., Words]:
    """Give a way in its beginning and its end, as a request has them, and name its errors."""

    def way(self: Ways, operation: str, *args: Any, **kwargs: Any) -> Words:
        current_operation.set(operation)
        self.port = None
        try:
            close_old_connections()
            return work(self, operation, *args, **kwargs)
        except (Unknown, OperationalError, InterfaceError):
            return None
        except (OSError, http.client.HTTPException):
            return None  # whoever would have answered is dead
        except Exception as exc:
            return ["error", f"{type(exc).__name__}: {exc}"[:300]]
        finally:
            with contextlib.suppress(DatabaseError):
                close_old_connections()

    return way


class HiddenInputs(HTMLParser):
    """The hidden inputs of a page's forms, in the order in which a browser sends them."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.values: list[tuple[str, str]] = []
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if tag == "input" and attributes.get("type") == "hidden" and attributes.get("name"):
            self.values.append((attributes["name"] or "", attributes.get("value") or ""))


class Ways:
    """What one thread does; each method returns the answer in words."""

    def __init__(self, world: World, chance: random.Random) -> None:
        self.world = world
        self.random = chance
        self.servers = [Server(port) for port in world.ports]
        self.port: int | None = None  # of the server that answered the last operation
        self.witnessed = [Server(port) for port in world.witnessed_ports]

    # By HTTP

    def _request(self, operation: str, method: str, path: str, user: str) -> Answer:
        server = self.random.choice(self.servers)
        self.port = server.port
        token = self.world.tokens[user]
        answer = server.request(method, path, token, headers={HEADER: operation})
        if answer.status == 503 and answer.error == "service-unavailable":
            raise Unknown
        return answer

    @words
    def get(self, operation: str, run: str, user: str) -> Words:
        answer = self._request(operation, "GET", f"/v2/actor-runs/{run}", user)
        if answer.status != 200:
            return refusal(answer)
        data = answer.json["data"]
        if (data["finishedAt"] is None) == (data["status"] in Run.FINISHED):
            return ["error", f"finishedAt {data['finishedAt']} of a run that is {data['status']}"]
        message = data.get("statusMessage", "")
        resurrections = data["stats"].get("resurrectCount", 0)
        return ["read", data["userId"], data["status"], message, resurrections]

    @words
    def list(self, operation: str, user: str) -> Any:
        answer = self._request(operation, "GET", "/v2/actor-runs", user)
        if answer.status != 200:
            return refusal(answer)
        items = answer.json["data"]["items"]
        return ["done"], {item["id"]: [item["userId"], item["status"]] for item in items}

    @words
    def delete(self, operation: str, run: str, user: str) -> Words:
        answer = self._request(operation, "DELETE", f"/v2/actor-runs/{run}", user)
        if answer.status == 204:
            return ["deleted"]
        if answer.status == 400 and answer.error == "cannot-remove-running-run":
            status = answer.json["error"]["message"].rpartition("status: ")[2].removesuffix(").")
            return ["unfinished", status]
        return refusal(answer)

    @words
    def admin(self, operation: str, runs: Any) -> Words:
        """Select runs in the admin, choose to delete them, and confirm what its page asks."""
        form = [("action", "delete_selected"), *(("_selected_action", run) for run in runs)]
        form += [("csrfmiddlewaretoken", self.world.csrf_token)]
        server = self.random.choice(self.witnessed)
        headers = {
            HEADER: operation,
            "Cookie": self.world.cookies,
            "Content-Type": "application/x-www-form-urlencoded",
        }
        for _ in range(4):
            answer = server.request("POST", ADMIN, body=urlencode(form), headers=headers)
            if answer.status != 200:
                break
            form = HiddenInputs(answer.body).values
            if not any(name == "_selected_action" for name, _ in form):
                return ["done"]  # nothing of it can be deleted
        if answer.status == 302 and "login" not in answer.headers["Location"]:
            return ["done"]
        if answer.status in (200, 302) or answer.status >= 500:
            raise Unknown  # a page of the host's, not of the API
        return ["error", f"the admin answered {answer.status}"]

    # In a host's own code

    @words
    def create(self, operation: str, run: str, owner: str, status: str, message: str) -> Words:
        try:
            Run.objects.create(pk=run, status=status, status_message=message, **owner_fields(owner))
        except IntegrityError:
            return ["exists"]
        return ["created"]

    @words
    def read(self, operation: str, run: str, objects: Any) -> Words:
        """Read an object, and put it into ``objects``."""
        mine = Run.objects.filter(pk=run).first()
        if mine is None:
            return ["gone"]
        objects.append(mine)
        resurrections = mine.stats.get("resurrectCount", 0)
        return ["read", owner_of(mine), str(mine.status), mine.status_message, resurrections]

    def next_status(self, status: str) -> str:
        """Return where a run may go from ``status``; sometimes where it may not."""
        legal = sorted(TRANSITIONS[status])
        return self.random.choice(sorted(TRANSITIONS) if self.random.random() < 0.1 else legal)

    @words
    def transition(self, operation: str, run: Run, arguments: dict[str, Any]) -> Words:
        move = run.transition_to
        if hasattr(run, "atransition_to") and self.random.random() < 0.2:
            move = async_to_sync(run.atransition_to)
        try:
            move(arguments["status"], status_message=arguments["message"])
        except InvalidTransition as exc:
            return ["gone"] if exc.status is None else ["refused", exc.status]
        return ["moved"]

    @words
    def save(self, operation: str, run: Run, arguments: dict[str, Any]) -> Words:
        run.status_message = arguments["message"]
        try:
            run.save()
        except InvalidTransition as exc:
            return ["gone"] if exc.status is None else ["refused", exc.status]
        except DatabaseError as exc:
            return gone_or_raise(exc)
        return ["saved"]

    @words
    def save_message(self, operation: str, run: str, message: str) -> Words:
        mine = Run(pk=run, status_message=message)
        mine._state.adding = False
        try:
            mine.save(update_fields=["status_message"])
        except DatabaseError as exc:
            return gone_or_raise(exc)
        return ["saved"]

    @words
    def give(self, operation: str, run: str, owner: str) -> Words:
        changed = Run.objects.filter(pk=run).update(**owner_fields(owner))
        return ["given"] if changed else ["gone"]

    @words
    def remove(self, operation: str, run: str) -> Words:
        """Delete by an object or by a queryset, which must be finished either way."""
        try:
            if self.random.random() < 0.5:
                mine = Run.objects.filter(pk=run).first()
                deleted = mine.delete()[0] if mine else 0
            else:
                deleted = Run.objects.filter(pk=run).delete()[0]
        except RunNotFinished as exc:
            return ["unfinished", exc.status]
        return ["deleted"] if deleted else ["gone"]

    @words
    def delete_finished(self, operation: str, run: str) -> Words:
        deleted = Run.objects.filter(pk=run).delete_finished()
        return ["deleted"] if deleted else ["kept"]

    @words
    def prune(self, operation: str, runs: Any) -> Words:
        result = Run.objects.filter(pk__in=runs).prune(datetime.timedelta(0))
        return ["done", result.deleted]

    @words
    def membership(self, operation: str, user: str, organization: str, is_member: bool) -> Words:
        group = Group(pk=int(organization.removeprefix("org-")))
        groups = User(pk=int(user)).groups
        (groups.add if is_member else groups.remove)(group)
        return ["done"]

    @words
    def import_run(
        self, operation: str, run: str, owner: str, status: str, message: str, resurrections: int
    ) -> Words:
        fields = owner_fields(owner)
        people: dict[str, Any] = {}
        if fields["user_id"] is not None:
            people["user"] = User.objects.get(pk=fields["user_id"])
        else:
            people["organization"] = Group.objects.get(pk=fields["organization_id"])
        now = timezone.now().isoformat()
        record = {
            **dict.fromkeys(STORAGES, "imported"),
            "id": run,
            "status": status,
            "statusMessage": message,
            "startedAt": now,
            "finishedAt": now if status in Run.FINISHED else None,
            "meta": {"origin": "API"},
            "options": {"build": "latest", "timeoutSecs": 1, "memoryMbytes": 128, "diskMbytes": 1},
            "stats": {"resurrectCount": resurrections},
        }
        reasons: list[str] = []
        result = import_runs(
            [(1, record)], on_refused=lambda place, reason: reasons.append(reason), **people
        )
        if reasons and "another owner" not in reasons[0]:
            return ["error", reasons[0]]
        for answer in ("created", "updated", "unchanged", "older", "refused"):
            if getattr(result, answer):
                return [answer]
        return ["error", f"an import of one record came to {result}"]


STORAGES = (
    "actId",
    "buildId",
    "defaultKeyValueStoreId",
    "defaultDatasetId",
    "defaultRequestQueueId",
)


def refusal(answer: Answer) -> Words:
    error = answer.error if answer.status >= 400 else ""
    if name := REFUSALS.get((answer.status, error)):
        return [name]
    return ["error", f"{answer.status} {answer.body[:200]!r}"]


def gone_or_raise(exc: DatabaseError) -> Words:
    """Django's own error where an UPDATE finds no row is a plain one; others are not."""
    if exc.__cause__ is None and not isinstance(exc, (OperationalError, InterfaceError)):
        return ["gone"]
    raise exc
