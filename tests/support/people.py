"""Users and organizations, in whatever way this configuration has them."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from rest_framework.authtoken.models import Token

from actor_runs.conf import conf


def make_user(name: str, **fields: Any) -> Any:
    return get_user_model().objects.create_user(username=name, password="secret", **fields)


def make_organization(name: str) -> Any:
    model = apps.get_model(conf.organization_model)
    key = {"slug": name.lower()} if conf.organization_model == "host.Company" else {}
    return model.objects.create(name=name, **key)


def join(user: Any, organization: Any) -> None:
    """Make ``user`` a member, in whatever way this configuration's organizations have them."""
    if conf.organization_model == "host.Company":
        organization.staff.create(person=user)
    else:
        user.groups.add(organization)


def leave(user: Any, organization: Any) -> None:
    if conf.organization_model == "host.Company":
        organization.staff.filter(person=user).delete()
    else:
        user.groups.remove(organization)


def token_of(user: Any) -> str:
    return Token.objects.get_or_create(user=user)[0].key
