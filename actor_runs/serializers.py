"""Serializers of a run: with all keys, and as it is in a list."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import cache
from operator import attrgetter
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from rest_framework.serializers import Serializer

from actor_runs.models import Run
from actor_runs.schemas import BUILD_NUMBER, format_owner, format_time, to_camel_case

__all__ = ["RunSerializer", "RunShortSerializer"]

PRIVATE_KEYS = ("usageUsd", "usageTotalUsd")
PRIVATE_META_KEYS = ("clientIp", "userAgent")

_LISTED = ("id", "act_id", "user_id", "status", "started_at", "finished_at", "build_id", "meta")
_STORAGES = ("default_key_value_store_id", "default_dataset_id", "default_request_queue_id")


def build_number_int(build_number: str) -> int | None:
    """Return a build number as one integer: 0.1.2 is 0·10⁷ + 1·10⁵ + 2."""
    match = BUILD_NUMBER.fullmatch(build_number)
    if match is None:
        return None
    major, minor, build = map(int, match.groups())
    return major * 10**7 + minor * 10**5 + build


# Computed keys, and how each is read from a run.
READERS: dict[str, Callable[[Any], Any]] = {
    "user_id": lambda run: format_owner(run.user_id, run.organization_id),
    "started_at": lambda run: format_time(run.started_at),
    "finished_at": lambda run: run.finished_at and format_time(run.finished_at),
    "build_number_int": lambda run: build_number_int(run.build_number),
}


def _keys(*names: str) -> dict[str, Callable[[Any], Any]]:
    return {to_camel_case(name): READERS.get(name) or attrgetter(name) for name in names}


# Keys are named by their fields: status_message is the key statusMessage. A new one also needs a
# line in admin/layout.py, in FIELD_CHECKS of schemas.py for JSON, and in ANNOTATIONS of openapi.py
# if it has no field. The docstrings are descriptions in a host's OpenAPI document.
class RunSerializer(Serializer[Run]):
    """A run with all of its keys."""

    required_keys = _keys(
        *("id", "act_id", "user_id", "started_at", "finished_at", "status", "meta", "stats"),
        *("options", "build_id", "general_access", *_STORAGES),
    )
    optional_keys = _keys(
        *("actor_task_id", "status_message", "is_status_message_terminal", "pricing_info"),
        *("charged_event_counts", "exit_code", "storage_ids", "build_number", "container_url"),
        *("is_container_server_ready", "git_branch_name", "usage", "metamorphs"),
        *("platform_usage_billing_model", "usage_total_usd", "usage_usd"),
    )

    hidden_keys: Collection[str] = ()  # by Meta of a subclass

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        meta = getattr(cls, "Meta", None)
        bases = [base for base in cls.__bases__ if issubclass(base, RunSerializer)]
        if any(getattr(base, "Meta", None) is meta for base in bases):
            return  # it has hidden what it hides
        every = {*cls.required_keys, *cls.optional_keys, *cls._declared_fields}
        shown = getattr(meta, "fields", every.difference(cls.hidden_keys))
        shown = every if shown == "__all__" else {*shown}
        left_out = {*getattr(meta, "exclude", ())}
        if unknown := (shown | left_out) - every:
            raise ImproperlyConfigured(
                f"{cls.__name__}.Meta names what are not keys: {', '.join(sorted(unknown))}."
            )
        cls.hidden_keys = every - shown | left_out

    def get_fields(self) -> dict[str, Any]:
        fields = super().get_fields()
        return {name: field for name, field in fields.items() if name not in self.hidden_keys}

    @classmethod
    @cache
    def shown_keys(cls) -> list[dict[str, Callable[[Any], Any]]]:
        """Return the required and the optional keys that ``Meta`` does not hide."""
        return [
            {key: read for key, read in keys.items() if key not in cls.hidden_keys}
            for keys in (cls.required_keys, cls.optional_keys)
        ]

    def to_representation(self, instance: Any) -> dict[str, Any]:
        """Return the keys of the run, without those that have no value.

        The context's ``is_owner`` (bool, False by default) says whether to show what only the
        owner sees. A subclass adds keys by fields of its own; its ``Meta.fields`` names the keys to
        show, or its ``Meta.exclude`` those to leave out.
        """
        required_keys, optional_keys = self.shown_keys()
        shape = {key: read(instance) for key, read in required_keys.items()}
        for key, read in optional_keys.items():
            value = read(instance)
            if value is not None and value != "":  # 0 and false are values
                shape[key] = value
        if not self.context.get("is_owner", False):
            for key in PRIVATE_KEYS:
                shape.pop(key, None)
            if "meta" in shape:
                meta = shape["meta"].items()
                shape["meta"] = {key: value for key, value in meta if key not in PRIVATE_META_KEYS}
        if self.fields:
            shape |= super().to_representation(instance)
        return shape


class RunShortSerializer(RunSerializer):
    """A run with the keys that it has in a list."""

    required_keys = {
        **_keys(*_LISTED),
        "usageTotalUsd": lambda run: run.usage_total_usd or 0,
        **_keys(*_STORAGES),
    }
    optional_keys = _keys("actor_task_id", "build_number", "build_number_int")

    # What is read from the database for a list.
    columns = (
        *(*_LISTED, "organization_id", "actor_task_id", "build_number", "usage_total_usd"),
        *_STORAGES,
    )
