"""What a permission means: who is an owner, and what opens nothing.

That no caller, kind of run and method was forgotten is in integration/test_authorization.
"""

from __future__ import annotations

from django.contrib.auth.models import Permission

from actor_runs.models import Run, RunStatus
from tests.support.people import join, leave, make_user


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


def test_permissions_of_the_admin_open_nothing(api, bob, run):
    bob.is_staff = True
    bob.save()
    bob.user_permissions.set(Permission.objects.filter(content_type__app_label="actor_runs"))
    assert api.get(f"/{run.pk}", user=bob).status_code == 403
    assert api.delete(f"/{run.pk}", user=bob).status_code == 403
