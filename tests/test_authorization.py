"""Authorization as one table: every caller, every kind of run, every method.

What a permission means is in test_permissions; here is that no cell was forgotten.
"""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone

from actor_runs.models import GeneralAccess, Run, RunStatus
from tests.conftest import join, leave, make_user, token_of

pytestmark = pytest.mark.once

# What each caller is to a run of alice's, and to one of acme's.
CALLERS = {
    "no token": ("nobody", "nobody"),
    "another scheme": ("nobody", "nobody"),
    "wrong token": ("wrong", "wrong"),
    "empty token": ("wrong", "wrong"),
    "inactive owner": ("wrong", "wrong"),
    "inactive member": ("wrong", "wrong"),
    "owner": ("owner", "other"),
    "member": ("other", "owner"),
    "former member": ("other", "other"),
    "stranger": ("other", "other"),
    "staff": ("other", "other"),
    "superuser": ("other", "other"),
}

KINDS = ("closed finished", "closed unfinished", "open finished", "open unfinished")

# Of each kind of run, of an unknown run, and of an ID that cannot be.
TABLE = {
    ("GET", "owner"): (200, 200, 200, 200, 404, 400),
    ("GET", "other"): (403, 403, 200, 200, 404, 400),
    ("GET", "nobody"): (401, 401, 200, 200, 401, 400),
    ("GET", "wrong"): (401, 401, 401, 401, 401, 401),
    ("DELETE", "owner"): (204, "running", 204, "running", 404, 400),
    ("DELETE", "other"): (403, 403, 403, 403, 404, 400),
    ("DELETE", "nobody"): (401, 401, 401, 401, 401, 401),
    ("DELETE", "wrong"): (401, 401, 401, 401, 401, 401),
}
OF_THE_LIST = {"owner": 200, "other": 200, "nobody": 401, "wrong": 401}
# What needs no look at the caller or the run.
OF_OTHER_METHODS = {"OPTIONS": 200} | dict.fromkeys(("POST", "PUT", "PATCH", "TRACE", "PURGE"), 405)

TYPES = {
    200: None,
    204: None,
    400: "invalid-input",
    "running": "cannot-remove-running-run",
    401: "token-not-valid",
    403: "permission-denied",
    404: "record-not-found",
    405: "method-not-allowed",
}
UNKNOWN, IMPOSSIBLE = "unknown", "a%20b"


@pytest.fixture
def users(alice: Any, acme: Any) -> dict[str, Any]:
    """Every caller who is somebody; the runs are alice's and acme's."""
    names = [name for name in CALLERS if " token" not in name and name != "another scheme"]
    users = {
        name: alice
        if name == "owner"
        else make_user(
            name,
            is_staff=name in ("staff", "superuser"),
            is_superuser=name == "superuser",
            is_active=not name.startswith("inactive"),
        )
        for name in names
    }
    for name in ("member", "former member", "inactive member"):
        join(users[name], acme)
    leave(users["former member"], acme)
    return users


@pytest.fixture
def headers(users: dict[str, Any]) -> dict[str, str | None]:
    """The ``Authorization`` of every caller."""
    return {
        **{name: f"Bearer {token_of(user)}" for name, user in users.items()},
        "no token": None,
        "another scheme": "Basic YWxpY2U6c2VjcmV0",
        "wrong token": "Bearer " + "0" * 40,
        "empty token": "Bearer",
    }


class Cells:
    """Asks, compares status, type and what became of the runs, and counts."""

    def __init__(self, api: Any, headers: dict[str, str | None]) -> None:
        self.api = api
        self.headers = headers
        self.checked = 0
        self.wrong: list[Any] = []

    def check(self, method: str, path: str, caller: str, expected: int | str) -> None:
        header = self.headers[caller]
        meta = {} if header is None else {"HTTP_AUTHORIZATION": header}
        before = list(Run.objects.values())
        response = self.api(method, path, **meta)
        after = list(Run.objects.values())
        if expected == 204:
            before = []
        status = 400 if expected == "running" else expected
        has_body = method != "HEAD" and response.content
        found = response.json().get("error", {}).get("type") if has_body else None
        known = TYPES[expected] if method != "HEAD" else None
        self.checked += 1
        if (response.status_code, found, after) != (status, known, before):
            self.wrong.append((method, path, caller, expected, response.status_code, found))


@pytest.mark.parametrize("access", GeneralAccess.values)
@pytest.mark.parametrize("status", RunStatus.values)
@pytest.mark.parametrize("owner", ["a person", "an organization"])
def test_every_cell_of_a_run(api, users, acme, headers, owner, status, access):
    is_open = access == GeneralAccess.ANYONE_WITH_ID_CAN_READ
    finished = status in ("SUCCEEDED", "FAILED", "TIMED-OUT", "ABORTED")
    kind = KINDS.index(
        f"{'open' if is_open else 'closed'} {'finished' if finished else 'unfinished'}"
    )
    cells = Cells(api, headers)
    for caller, relations in CALLERS.items():
        if owner == "a person":
            relation = relations[0]
            whose = {"user": users["inactive owner" if caller == "inactive owner" else "owner"]}
        else:
            relation = relations[1]
            whose = {"organization": acme}
        Run.objects.update(status="FAILED", finished_at=timezone.now())
        Run.objects.all().delete()
        run = Run.objects.create(status=status, general_access=access, **whose)
        path = f"/{run.pk}"
        if access == GeneralAccess.RESTRICTED:
            for method, expected in OF_OTHER_METHODS.items():
                cells.check(method, path, caller, expected)
        cells.check("GET", path, caller, TABLE["GET", relation][kind])
        cells.check("HEAD", path, caller, TABLE["GET", relation][kind])
        cells.check("DELETE", path, caller, TABLE["DELETE", relation][kind])
    assert cells.wrong == []
    assert cells.checked == len(CALLERS) * (9 if access == GeneralAccess.RESTRICTED else 3)


@pytest.mark.parametrize(("path", "column"), [(UNKNOWN, 4), (IMPOSSIBLE, 5)])
def test_every_cell_of_no_run(api, headers, path, column):
    cells = Cells(api, headers)
    for caller, (relation, _) in CALLERS.items():
        for method, expected in OF_OTHER_METHODS.items():
            cells.check(method, f"/{path}", caller, expected)
        cells.check("GET", f"/{path}", caller, TABLE["GET", relation][column])
        cells.check("HEAD", f"/{path}", caller, TABLE["GET", relation][column])
        cells.check("DELETE", f"/{path}", caller, TABLE["DELETE", relation][column])
    assert cells.wrong == []
    assert cells.checked == len(CALLERS) * 9


def test_every_cell_of_the_list(api, run, headers):
    cells = Cells(api, headers)
    for caller, (relation, _) in CALLERS.items():
        for method, expected in {**OF_OTHER_METHODS, "DELETE": 405}.items():
            cells.check(method, "", caller, expected)
        cells.check("GET", "", caller, OF_THE_LIST[relation])
        cells.check("HEAD", "", caller, OF_THE_LIST[relation])
    assert cells.wrong == []
    assert cells.checked == len(CALLERS) * 9
