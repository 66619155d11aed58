"""Which fields of a run its pages in the admin show, and in which order."""

from __future__ import annotations

from typing import Any

from django.contrib.admin.utils import flatten_fieldsets
from django.db.models import JSONField
from django.http import HttpRequest
from django.utils.translation import gettext as _

from actor_runs.admin.display import json_display
from actor_runs.models import Run

OWNER = ("user", "organization")
# What shows the owner of a run, and what it cost.
OWNERS = frozenset({"owner", *OWNER})
COSTS = frozenset({"cost", "usage_total_usd"})
BUILD = ("build_id", "build_number", "git_branch_name")
STORAGE_IDS = ("default_dataset_id", "default_key_value_store_id", "default_request_queue_id")
# The JSON fields over several lines.
JSON = {
    field.name: json_display(field.name)
    for field in Run._meta.concrete_fields
    if isinstance(field, JSONField)
}

# Written by the host's code and by imports.
READONLY = [
    *("id", "started_at", "exit_code", "status_message", "is_status_message_terminal"),
    *STORAGE_IDS,
    *("container_url", "is_container_server_ready"),
    *JSON,
    *("usage_total_usd", "platform_usage_billing_model"),
]
# What transitions alone change, and the key.
ALWAYS_READONLY = ["id", "status", "finished_at"]
# Methods of RunAdmin, and the JSON fields.
DISPLAYS: list[Any] = [
    *("run_id", "outcome", "badge", "owner", "actor", "started", "api", "exact_start"),
    *("exact_end", "duration", "cost"),
    *JSON.values(),
]


def shown_fields(modeladmin: Any, request: HttpRequest, run: Run) -> set[str]:
    """Return the names of what the page of a run shows to this viewer."""
    names = flatten_fieldsets(modeladmin.get_fieldsets(request, run))
    return {getattr(name, "__name__", name) for name in names}


def get_fieldsets(
    run: Run | None, *, form_fields: Any, readonly_fields: Any, added: list[Any]
) -> list[Any]:
    """Return the app's fieldsets, without fields that the form of a subclass drops.

    What a subclass adds comes last: fields of its form, and the read-only ones in ``added``.
    """
    owner = ["owner"] if {*OWNER} <= {*readonly_fields} else [*OWNER]
    layout: Any = _layout(run, owner)
    fieldsets = _keep_available(layout, {*form_fields, *readonly_fields})
    columns = {field.name for field in Run._meta.get_fields()}
    shown = {*flatten_fieldsets(layout), *OWNER}
    others = [*(name for name in form_fields if name not in columns), *added]
    if others := [name for name in others if name not in shown]:
        fieldsets.append((None, {"fields": others}))
    return fieldsets


def _layout(run: Run | None, owner: list[str]) -> list[tuple[Any, dict[str, Any]]]:
    """Return the fieldsets of the page of a run, or of the page that adds one.

    One field a row: what themes make of several is too narrow for IDs, times and JSON.
    """
    actor = ["act_id", "actor_task_id", *BUILD]
    access = [*owner, "general_access"]
    if run is None:
        return [
            (_("Owner and access"), {"fields": access}),
            (_("Actor and build"), {"fields": actor}),
        ]
    outcome = [
        "badge",
        "exit_code",
        "status_message",
        "is_status_message_terminal",
        "usage_total_usd",
        JSON["charged_event_counts"],
        JSON["usage_usd"],
    ]
    details = [
        JSON["options"],
        JSON["meta"],
        JSON["stats"],
        JSON["usage"],
        JSON["pricing_info"],
        JSON["metamorphs"],
        "container_url",
        "is_container_server_ready",
        "platform_usage_billing_model",
    ]
    return [
        (_("Actor and build"), {"fields": ["id", "api", *actor]}),
        (_("Owner and access"), {"fields": access}),
        (_("Times"), {"fields": ["exact_start", "exact_end", "duration"]}),
        (_("Outcome"), {"fields": outcome}),
        (_("Storages"), {"fields": [*STORAGE_IDS, JSON["storage_ids"]], "classes": ["collapse"]}),
        (_("Details"), {"fields": details, "classes": ["collapse"]}),
    ]


def _keep_available(layout: list[tuple[Any, dict[str, Any]]], available: set[Any]) -> list[Any]:
    """Return the layout without fields that are not ``available``."""
    kept = []
    for title, options in layout:
        if fields := [name for name in options["fields"] if name in available]:
            kept.append((title, {**options, "fields": fields}))
    return kept
