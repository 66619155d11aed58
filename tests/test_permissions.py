"""What a permission means: whose a run is, and what its general access opens.

That no caller, kind of run and method was forgotten is in test_authorization.
"""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission

from actor_runs.models import GeneralAccess, Run, RunStatus
from tests.conftest import join, leave, make_organization, make_user, token_of

TYPES = {
    401: "token-not-valid",
    403: "permission-denied",
}

CALLERS = (
    "alice",
    "member",
    "member of two",
    "stranger",
    "former member",
    "member of another",
    "staff",
    "superuser",
    "inactive",
    "wrong token",
    "no token",
)


@pytest.fixture
def tokens(alice: Any, acme: Any) -> dict[str, str | None]:
    """The tokens of all callers. Runs are alice's or acme's, and she is no member of acme."""
    other = make_organization("Other")
    users = {"alice": alice}
    for name in CALLERS[1:9]:
        users[name] = make_user(
            name.replace(" ", "-"),
            is_staff=name in ("staff", "superuser"),
            is_superuser=name == "superuser",
            is_active=name != "inactive",
        )
    for name in ("member", "member of two", "former member", "inactive"):
        join(users[name], acme)
    for name in ("member of two", "member of another", "staff"):
        join(users[name], other)
    leave(users["former member"], acme)
    tokens: dict[str, str | None] = {name: token_of(user) for name, user in users.items()}
    return {**tokens, "wrong token": "0" * 40, "no token": None}


def owns(caller: str, owner: str) -> bool:
    return caller == "alice" if owner == "alice" else caller in ("member", "member of two")


def expected_of_get(caller: str, owner: str, is_open: bool) -> int:
    if caller in ("inactive", "wrong token"):
        return 401
    if is_open or owns(caller, owner):
        return 200
    return 401 if caller == "no token" else 403


def expected_of_delete(caller: str, owner: str) -> int:
    if caller in ("inactive", "wrong token", "no token"):
        return 401
    return 204 if owns(caller, owner) else 403


@pytest.mark.parametrize("site", ["RESTRICTED", "ANYONE_WITH_ID_CAN_READ"])
@pytest.mark.parametrize("access", GeneralAccess.values)
@pytest.mark.parametrize("owner", ["alice", "acme"])
def test_owners_delete_and_owners_read_and_others_where_the_run_is_open(
    api, alice, acme, tokens, configure, owner, access, site
):
    configure(GENERAL_ACCESS=site)
    whose = {"user": alice} if owner == "alice" else {"organization": acme}
    is_open = access == "ANYONE_WITH_ID_CAN_READ" or (
        access == "FOLLOW_USER_SETTING" and site == "ANYONE_WITH_ID_CAN_READ"
    )
    for caller in CALLERS:
        run = Run.objects.create(
            status=RunStatus.SUCCEEDED,
            general_access=access,
            usage_total_usd=1.5,
            usage_usd={"PROXY_SERPS": 1.5},
            **whose,
        )
        before = Run.objects.values().get(pk=run.pk)
        for method in ("GET", "HEAD"):
            response = api(method, f"/{run.pk}", token=tokens[caller])
            assert response.status_code == expected_of_get(caller, owner, is_open), caller
            if method == "GET" and response.status_code == 200:
                data = response.json()["data"]
                for key in ("usageTotalUsd", "usageUsd"):
                    assert (key in data) == owns(caller, owner), caller
            elif method == "GET":
                assert response.json()["error"]["type"] == TYPES[response.status_code], caller
        assert Run.objects.values().get(pk=run.pk) == before

        response = api.delete(f"/{run.pk}", token=tokens[caller])
        assert response.status_code == expected_of_delete(caller, owner), caller
        if response.status_code == 204:
            assert not Run.objects.filter(pk=run.pk).exists()
        else:
            assert response.json()["error"]["type"] == TYPES[response.status_code], caller
            assert Run.objects.values().get(pk=run.pk) == before


@pytest.mark.parametrize("access", GeneralAccess.values)
def test_a_list_has_what_the_caller_owns_and_no_more(api, alice, acme, tokens, access):
    runs = {
        "alice": Run.objects.create(user=alice, general_access=access),
        "acme": Run.objects.create(organization=acme, general_access=access),
    }
    for caller in CALLERS:
        response = api.get(token=tokens[caller])
        if caller in ("inactive", "wrong token", "no token"):
            assert response.status_code == 401, caller
            continue
        items = response.json()["data"]["items"]
        owned = {run.pk for owner, run in runs.items() if owns(caller, owner)}
        assert {item["id"] for item in items} == owned, caller


def test_membership_counts_at_the_moment_of_the_request(api, alice, acme):
    run = Run.objects.create(organization=acme, status=RunStatus.SUCCEEDED)
    assert api.delete(f"/{run.pk}", user=alice).status_code == 403
    join(alice, acme)
    assert api.get(f"/{run.pk}", user=alice).status_code == 200
    leave(alice, acme)
    assert api.get(f"/{run.pk}", user=alice).status_code == 403
    assert api.delete(f"/{run.pk}", user=alice).status_code == 403
    join(alice, acme)
    assert api.delete(f"/{run.pk}", user=alice).status_code == 204


def test_a_user_and_an_organization_of_the_same_key_are_two_owners(api, acme):
    # Keys of text can be a user's UUID, and whole numbers are counted anew for each model.
    user = make_user("twin")
    model = type(acme)
    twin = model.objects.filter(pk=str(user.pk)).first() or model(pk=str(user.pk), name="Twin")
    twin.save()
    run = Run.objects.create(organization=twin, status=RunStatus.SUCCEEDED)
    assert str(run.organization_id) == str(user.pk)
    assert api.get(f"/{run.pk}", user=user).status_code == 403
    assert api.delete(f"/{run.pk}", user=user).status_code == 403
    assert api.get(user=user).json()["data"]["total"] == 0


def test_the_name_of_a_run_opens_nothing(api, alice, bob, configure):
    configure(GENERAL_ACCESS="ANYONE_WITH_NAME_CAN_READ")
    run = Run.objects.create(user=alice)
    assert api.get(f"/{run.pk}").status_code == 401
    assert api.get(f"/{run.pk}", user=bob).status_code == 403


def test_permissions_of_the_admin_open_nothing(api, bob, run):
    bob.is_staff = True
    bob.save()
    bob.user_permissions.set(Permission.objects.filter(content_type__app_label="actor_runs"))
    assert api.get(f"/{run.pk}", user=bob).status_code == 403
    assert api.delete(f"/{run.pk}", user=bob).status_code == 403
