"""The owners of runs in the admin: they are searched for, linked to and chosen."""

from __future__ import annotations

from itertools import chain
from typing import Any

from django.apps import apps
from django.contrib.admin import AdminSite
from django.contrib.admin.utils import quote
from django.contrib.auth import get_user_model
from django.core.exceptions import FieldDoesNotExist
from django.db import models
from django.db.models import Q
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext as _

from actor_runs.conf import conf
from actor_runs.models import Run

MAX_LISTED = 200  # owners that a search hands to the database one by one


def can_see(site: AdminSite, request: HttpRequest, model: type[models.Model]) -> bool:
    """Return whether the viewer may see pages of ``model`` on this site."""
    return site.is_registered(model) and site.get_model_admin(model).has_view_permission(request)


def format_owner(site: AdminSite, request: HttpRequest, run: Run) -> str:
    """Return the owner's name: a link where the viewer may see the owner's page."""
    owner = run.owner
    name = format_html("{}", owner)
    if can_see(site, request, type(owner)):
        opts = owner._meta
        page = f"{site.name}:{opts.app_label}_{opts.model_name}_change"
        url = reverse(page, args=[quote(owner.pk)], current_app=site.name)
        name = format_html('<a href="{}">{}</a>', url, owner)
    if run.organization_id is None:
        return name
    # Isolated, so that a name which is written from the right turns no other words.
    words = _("organization")
    return format_html('<bdi>{}</bdi> <span class="run-quiet">{}</span>', name, words)


def owned_by_name(site: AdminSite, request: HttpRequest, runs: Any, term: str) -> Any:
    """Return those of ``runs`` whose owner matches ``term``.

    By a part of the owner's name, and as the admin of the owner's model searches, if the viewer may
    see it.
    """
    owner_models = {
        "user": get_user_model(),
        "organization": apps.get_model(conf.organization_model),
    }
    found = {name: _find(site, request, model, term) for name, model in owner_models.items()}
    if all(isinstance(keys, list) for keys in chain(*found.values())):
        users, organizations = (list({*chain(*keys)}) for keys in found.values())
        return runs.of_owners(users, organizations)
    condition = Q()
    for name, several in found.items():
        for keys in several:
            condition |= Q(**{f"{name}__in": keys})
    return runs.filter(condition)


def _find(site: AdminSite, request: HttpRequest, model: Any, term: str) -> list[Any]:
    """Return the keys that each way to search for owners finds."""
    ways = (_search_names(model, term), _search_admin(site, request, model, term))
    return [_keys(owners) for owners in ways if owners is not None]


def _search_names(model: type[models.Model], term: str) -> Any:
    """Return the users, or the organizations, whose name contains ``term``; None without a name."""
    username = getattr(model, "USERNAME_FIELD", None)
    for name in [username] if username else ["name", "title", "slug", model._meta.pk.name]:
        try:
            is_text = isinstance(model._meta.get_field(name), (models.CharField, models.TextField))
        except FieldDoesNotExist:
            continue
        if is_text:
            return model._default_manager.filter(**{f"{name}__icontains": term})
    return None


def _search_admin(
    site: AdminSite, request: HttpRequest, model: type[models.Model], term: str
) -> Any:
    """Return the owners that the admin of their model finds; None if it cannot search."""
    if not can_see(site, request, model):
        return None
    modeladmin = site.get_model_admin(model)
    if not modeladmin.get_search_fields(request):
        return None
    return modeladmin.get_search_results(request, modeladmin.get_queryset(request), term)[0]


def _keys(owners: Any) -> Any:
    """Return the primary keys of owners, as a list if they are not too many.

    Given a list, databases use the indexes that begin with an owner; given a subquery, they read
    runs until they have a page full, which is soon with many.
    """
    keys = owners.order_by().values_list("pk", flat=True)
    listed = list(keys[: MAX_LISTED + 1])
    return listed if len(listed) <= MAX_LISTED else keys
