"""Columns that every database must keep in the same way."""

from __future__ import annotations

import datetime
import secrets
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

# Letters and digits that are not mistaken for one another: no 0 O 1 I l.
ALPHABET = "23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
GENERATED_LENGTH = 17
# What an ID may hold: a set in a regular expression.
ID_CHARACTERS = "[A-Za-z0-9_-]"


def generate_id() -> str:
    """Return a new ID: 17 characters from ``ALPHABET``, 99 bits from a cryptographic source."""
    return "".join(secrets.choice(ALPHABET) for _ in range(GENERATED_LENGTH))


class ExactCharField(models.CharField):
    """Text that is equal only to itself, on every database."""

    def db_parameters(self, connection: Any) -> dict[str, Any]:
        parameters = super().db_parameters(connection)
        if connection.vendor == "mysql":
            # The default collation there takes "run", "RUN" and "run " for one and the same.
            parameters["collation"] = "utf8mb4_nopad_bin"  # pragma: no cover  (make test-services)
        return parameters


class RunIDField(ExactCharField):
    """The ID of a run: up to 32 letters, digits, ``_`` and ``-``; upper and lower case differ."""

    default_validators = [
        RegexValidator(
            rf"\A{ID_CHARACTERS}+\Z", _("Enter letters, digits, hyphens and underscores only.")
        )
    ]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("max_length", 32)
        super().__init__(*args, **kwargs)


class MillisecondDateTimeField(models.DateTimeField):
    """A moment, cut to the millisecond in rows and in lookups alike.

    So what the API shows is exactly what is compared and sorted by.
    """

    def to_python(self, value: Any) -> datetime.datetime | None:
        moment = super().to_python(value)
        if moment is None:
            return None
        moment = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
        if timezone.is_naive(moment):
            return moment
        try:
            utc = moment.astimezone(datetime.timezone.utc)
            if settings.USE_TZ:
                return utc  # PostgreSQL takes no offset of 16 hours or more
            # Without USE_TZ no database takes a moment with an offset.
            return timezone.make_naive(utc, timezone.get_default_timezone())
        except OverflowError:
            raise ValidationError(
                _("This moment is outside of the years 1 to 9999."), code="invalid"
            ) from None

    def validate(self, value: Any, model_instance: Any) -> None:
        super().validate(value, model_instance)
        if value is not None and timezone.is_naive(value):
            try:
                aware = timezone.make_aware(value, timezone.get_default_timezone())
                aware.astimezone(datetime.timezone.utc)
            except OverflowError:
                raise ValidationError(
                    _("This moment is outside of the years 1 to 9999."), code="invalid"
                ) from None
