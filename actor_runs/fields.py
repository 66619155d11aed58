"""Columns that every database must keep in the same way."""

from __future__ import annotations

import datetime
import secrets
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import connections, models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

# Letters and digits that are not mistaken for one another: no 0 O 1 I l.
ALPHABET = "23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
GENERATED_LENGTH = 17
# What an ID may hold: a set in a regular expression.
ID_CHARACTERS = "[A-Za-z0-9_-]"


def generate_id() -> str:
    """Return a new ID: 17 characters from ``ALPHABET``, 99 bits from a cryptographic source."""
    number = secrets.randbelow(len(ALPHABET) ** GENERATED_LENGTH)
    letters: list[str] = []
    while len(letters) < GENERATED_LENGTH:
        number, index = divmod(number, len(ALPHABET))
        letters.append(ALPHABET[index])
    return "".join(letters)


class ExactCharField(models.CharField):
    """Text that every database compares exactly: case and trailing spaces count."""

    def db_type(self, connection: Any) -> str | None:
        db_type = super().db_type(connection)
        if connection.vendor == "postgresql" and db_type:
            # The same type by its full name, for which Django adds no second index for LIKE.
            return db_type.replace("varchar", "character varying")  # pragma: no cover
        return db_type

    def db_parameters(self, connection: Any) -> dict[str, Any]:
        parameters = super().db_parameters(connection)
        if connection.vendor == "mysql":  # pragma: no cover  (make test-services)
            # The default collations there take "run", "RUN" and "run " for one and the same.
            is_mariadb = connection.mysql_is_mariadb
            parameters["collation"] = "utf8mb4_nopad_bin" if is_mariadb else "utf8mb4_0900_bin"
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


def in_zone(moment: datetime.datetime, zone: datetime.tzinfo) -> datetime.datetime:
    """Return ``moment`` in ``zone``; a naive one is in Django's default time zone.

    Raises ValidationError outside of the years 1 to 9999, where Python has no such moment.
    """
    try:
        if timezone.is_naive(moment):
            moment = timezone.make_aware(moment, timezone.get_default_timezone())
        return moment.astimezone(zone)
    except OverflowError:
        raise ValidationError(
            _("This moment is outside of the years 1 to 9999."), code="invalid"
        ) from None


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
        utc = in_zone(moment, datetime.timezone.utc)
        if settings.USE_TZ:
            return utc  # PostgreSQL takes no offset of 16 hours or more
        # Without USE_TZ no database takes a moment with an offset.
        return in_zone(utc, timezone.get_default_timezone()).replace(tzinfo=None)

    def validate(self, value: Any, model_instance: Any) -> None:
        super().validate(value, model_instance)
        if value is not None:
            in_zone(value, datetime.timezone.utc)


def as_stored(moment: datetime.datetime, using: str) -> datetime.datetime:
    """Return a moment in UTC as the database ``using`` compares it: naive without ``USE_TZ``.

    A moment that is outside of the calendar in the database's time zone becomes the calendar's
    end: no run lies beyond it.
    """
    # None without USE_TZ; UTC with it, unless the host has set another for the database.
    zone = connections[using].timezone
    try:
        local = moment.astimezone(zone or timezone.get_default_timezone())
    except OverflowError:
        is_first = moment.year == datetime.MINYEAR
        if zone is not None:
            day = datetime.timedelta(days=1)
            return moment + day if is_first else moment - day
        return datetime.datetime.min if is_first else datetime.datetime.max
    return local if zone is not None else local.replace(tzinfo=None)
