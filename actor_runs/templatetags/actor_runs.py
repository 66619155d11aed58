"""``{% load actor_runs %}``: for the admin pages of the owners of runs."""

from __future__ import annotations

from typing import Any

from django import template
from django.apps import apps

from actor_runs.models import Run

# Django imports this module in every project that has templates, also in one without the admin.
if apps.is_installed("django.contrib.admin"):
    from actor_runs.admin.filters import OwnerFilter

register = template.Library()


@register.simple_tag(takes_context=True)
def runs_of_owner_url(context: Any) -> str:
    """Return the URL of the list of the runs of ``original``, the owner whose page this is.

    Empty if ``original`` cannot own runs, or the viewer may not see them on this site.
    """
    owner, request = context.get("original"), context.request
    kinds = {
        field.related_model: field.name
        for field in map(Run._meta.get_field, ("user", "organization"))
    }
    # Not by request.current_app: several sites may have one name.
    site = getattr(getattr(context.get("adminform"), "model_admin", None), "admin_site", None)
    if type(owner) not in kinds or site is None or not site.is_registered(Run):
        return ""
    runs: Any = site.get_model_admin(Run)
    if not runs.has_view_permission(request) or OwnerFilter not in runs.get_list_filter(request):
        return ""
    query = OwnerFilter.query_of(kinds[type(owner)], owner.pk)
    return f"{runs.get_page_url('changelist')}?{query}"
