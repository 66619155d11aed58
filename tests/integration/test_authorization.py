"""Authorization as one matrix: every caller, every kind of run, every method.

What membership, organizations of the same key and the admin's permissions mean is in
test_permissions; here is that no cell was forgotten.
"""

from __future__ import annotations

from typing import Any

import pytest

from actor_runs.models import GeneralAccess, Run
from tests.support.people import join, leave, make_organization, make_user, token_of

# What each caller is to a run of alice's, and to one of acme's.
CALLERS = {
    "no token": ("nobody", "nobody"),
    "another scheme": ("nobody", "nobody"),
    "wrong token": ("wrong", "wrong"),
    "empty token": ("wrong", "wrong"),
    "inactive member": ("wrong", "wrong"),
    "alice": ("owner", "other"),
    "member": ("other", "owner"),
    "member of two": ("other", "owner"),
    "member of another": ("other", "other"),
    "former member": ("other", "other"),
    "stranger": ("other", "other"),
    "staff": ("other", "other"),
    "superuser": ("other", "other"),
}

# The answer for a closed run and for one that anyone may read, both finished; for the same two
# unfinished; for an unknown run; and for an ID that cannot be.
MATRIX = {
    ("GET", "owner"): (200, 200, 200, 200, 404, 400),
    ("GET", "other"): (403, 200, 403, 200, 404, 400),
    ("GET", "nobody"): (401, 200, 401, 200, 401, 400),
    ("GET", "wrong"): (401, 401, 401, 401, 401, 401),
    ("DELETE", "owner"): (204, 204, "running", "running", 404, 400),
    ("DELETE", "other"): (403, 403, 403, 403, 404, 400),
    ("DELETE", "nobody"): (401, 401, 401, 401, 401, 401),
    ("DELETE", "wrong"): (401, 401, 401, 401, 401, 401),
}
TYPES = {
    200: None,
    204: None,
    400: "invalid-input",
    "running": "cannot-remove-running-run",
    401: "token-not-valid",
    403: "permission-denied",
    404: "record-not-found",
}
OPEN = GeneralAccess.ANYONE_WITH_ID_CAN_READ
# The status and access of a run, the access of the site, and whether anyone may read the run.
KINDS = [
    *(("SUCCEEDED", access, "RESTRICTED", access == OPEN) for access in GeneralAccess),
    ("SUCCEEDED", "FOLLOW_USER_SETTING", OPEN, True),
    ("SUCCEEDED", "RESTRICTED", OPEN, False),
    ("SUCCEEDED", "FOLLOW_USER_SETTING", "ANYONE_WITH_NAME_CAN_READ", False),
    ("RUNNING", "RESTRICTED", "RESTRICTED", False),
    ("RUNNING", OPEN, "RESTRICTED", True),
]


@pytest.fixture
def headers(alice: Any, acme: Any) -> dict[str, dict[str, str]]:
    """The ``Authorization`` of every caller. Runs are alice's or acme's."""
    other = make_organization("Other")
    users = {"alice": alice}
    for name in [*list(CALLERS)[6:], "inactive member"]:
        users[name] = make_user(
            name.replace(" ", "-"),
            is_staff=name in ("staff", "superuser"),
            is_superuser=name == "superuser",
            is_active=name != "inactive member",
        )
    for name in ("member", "member of two", "former member", "inactive member"):
        join(users[name], acme)
    for name in ("member of two", "member of another", "staff"):
        join(users[name], other)
    leave(users["former member"], acme)
    headers = {
        **{name: f"Bearer {token_of(user)}" for name, user in users.items()},
        "another scheme": "Basic YWxpY2U6c2VjcmV0",
        "wrong token": "Bearer " + "0" * 40,
        "empty token": "Bearer",
    }
    return {
        name: {"HTTP_AUTHORIZATION": headers[name]} if name in headers else {} for name in CALLERS
    }


def rows_of(run: Run) -> list[Any]:
    return list(Run.objects.filter(pk=run.pk).values())


def expect(response: Any, expected: int | str) -> None:
    assert response.status_code == (400 if expected == "running" else expected)
    error = response.json().get("error", {}) if response.content else {}
    assert error.get("type") == TYPES[expected]


@pytest.mark.parametrize(("status", "access", "site", "is_open"), KINDS)
@pytest.mark.parametrize("owner", ["alice", "acme"])
def test_who_may_read_and_delete_a_run(
    api, alice, acme, headers, configure, subtests, owner, status, access, site, is_open
):
    configure(GENERAL_ACCESS=site)
    column = (0 if status in Run.FINISHED else 2) + is_open
    whose = {"user": alice} if owner == "alice" else {"organization": acme}
    for caller, relations in CALLERS.items():
        relation = relations[owner == "acme"]
        run = Run.objects.create(status=status, general_access=access, usage_total_usd=1.5, **whose)
        before = rows_of(run)
        with subtests.test(caller):
            response = api.get(f"/{run.pk}", **headers[caller])
            expect(response, MATRIX["GET", relation][column])
            if response.status_code == 200:
                shows_cost = "usageTotalUsd" in response.json()["data"]
                assert shows_cost == (relation == "owner")
            assert rows_of(run) == before
            expected = MATRIX["DELETE", relation][column]
            expect(api.delete(f"/{run.pk}", **headers[caller]), expected)
            assert rows_of(run) == ([] if expected == 204 else before)


@pytest.mark.parametrize(("path", "column"), [("unknown", 4), ("a%20b", 5)])
def test_who_is_told_that_a_run_does_not_exist(api, headers, subtests, path, column):
    for caller, (relation, _) in CALLERS.items():
        for method in ("GET", "DELETE"):
            with subtests.test(f"{method}, {caller}"):
                response = api(method, f"/{path}", **headers[caller])
                expect(response, MATRIX[method, relation][column])


@pytest.mark.parametrize("access", ["RESTRICTED", OPEN])
def test_a_list_has_what_the_caller_owns_and_no_more(api, alice, acme, headers, subtests, access):
    runs = (
        Run.objects.create(user=alice, general_access=access),
        Run.objects.create(organization=acme, general_access=access),
    )
    for caller, relations in CALLERS.items():
        with subtests.test(caller):
            response = api.get(**headers[caller])
            if relations[0] in ("wrong", "nobody"):
                expect(response, 401)
            else:
                expect(response, 200)
                owned = {
                    run.pk
                    for run, relation in zip(runs, relations, strict=True)
                    if relation == "owner"
                }
                assert {item["id"] for item in response.json()["data"]["items"]} == owned
