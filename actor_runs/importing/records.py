"""Records: run objects as the API returns them, checked and made into runs."""

from __future__ import annotations

import datetime
from typing import Any, NamedTuple

from django.core.exceptions import ValidationError
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _

from actor_runs.models import Run
from actor_runs.schemas import invalid, time, to_camel_case
from actor_runs.serializers import RunSerializer, RunShortSerializer

KEYS = {**RunSerializer.required_keys, **RunSerializer.optional_keys}
SHORT_KEYS = {**RunShortSerializer.required_keys, **RunShortSerializer.optional_keys}
FIELDS = {
    key: run_field.name
    for run_field in Run._meta.concrete_fields
    if (key := to_camel_case(run_field.name)) in KEYS
}
# What the API makes of other fields.
DERIVED = (KEYS.keys() | SHORT_KEYS.keys()) - FIELDS.keys()
REQUIRED = [
    key
    for key in RunShortSerializer.required_keys
    if key in FIELDS and not Run._meta.get_field(FIELDS[key]).null
]
# A run in a list lacks this key, and says nothing of the fields that lists do not have.
KEY_OUTSIDE_OF_LISTS = "options"
LISTED_FIELDS = [name for key, name in FIELDS.items() if key in SHORT_KEYS]


class Prepared(NamedTuple):
    """A record that was read and checked: the run, and the fields that it speaks of."""

    place: Any
    run: Run
    fields: list[str]
    size: int


def prepare(place: Any, record: dict[str, Any], owner: dict[str, Any]) -> Prepared:
    """Return a record as a run of ``owner``. Raises ValidationError with the fields' names."""
    values = {
        FIELDS[key]: value for key, value in record.items() if key in FIELDS and value is not None
    }
    run = _checked_run(values, owner)
    is_listed = record.get(KEY_OUTSIDE_OF_LISTS) is None
    fields = LISTED_FIELDS if is_listed else list(FIELDS.values())
    return Prepared(place, run, fields, len(repr(values)))


def unknown_keys(record: dict[str, Any]) -> set[Any]:
    """Return the keys of a record that the API does not have."""
    return record.keys() - FIELDS.keys() - DERIVED


def reason_of(error: ValidationError) -> str:
    """Return one line that names each key as the record has it, and what is wrong with it."""
    if not hasattr(error, "error_dict"):
        return " ".join(error.messages)
    reasons = []
    for name, errors in error.error_dict.items():
        for each in errors:
            # Checks of what is inside of a field name the place there.
            params = each.params or {}
            path = str(params.get("name", name)).removeprefix(name)
            message = params.get("message") or " ".join(each.messages)
            reasons.append(f"{to_camel_case(name)}{path}: {message}")
    return " ".join(reasons)


def _checked_run(values: dict[str, Any], owner: dict[str, Any]) -> Run:
    errors: dict[str, Any] = {
        FIELDS[key]: invalid(FIELDS[key], _("is required."))
        for key in REQUIRED
        if FIELDS[key] not in values
    }
    for name in ("started_at", "finished_at"):
        if name in values:
            try:
                values[name] = time(values[name], name)
            except ValidationError as exc:
                errors[name] = exc
    if errors:
        raise ValidationError(errors)
    if values["status"] in Run.FINISHED and "finished_at" not in values:
        values["finished_at"] = _end(values["started_at"], values.get("stats"))
    # The field's default build number is that of runs that are made here.
    run = Run(**owner, **{"build_number": "", **values})
    # The owner is not validated here: the foreign key checks it.
    run.validate()
    return run


def _end(started_at: str, stats: Any) -> datetime.datetime | None:
    """Return when a run finished that does not say so: after its duration, or at once."""
    start = parse_datetime(started_at)
    duration = stats.get("durationMillis") if isinstance(stats, dict) else None
    try:
        return start and start + datetime.timedelta(milliseconds=duration or 0)
    except (OverflowError, TypeError, ValueError):
        return start
