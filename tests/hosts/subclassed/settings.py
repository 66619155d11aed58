"""The host's own models, its views, and a prefix of its own for the app's tables."""

from typing import Any

from django.db.models.signals import class_prepared

from tests.settings_host import *  # noqa: F403

ROOT_URLCONF = "tests.hosts.subclassed.urls"


def add_prefix(sender: Any, **kwargs: Any) -> None:
    if sender._meta.app_label in ("actor_runs", "authtoken") and not sender._meta.proxy:
        sender._meta.db_table = f"ACME-{sender._meta.db_table}"


class_prepared.connect(add_prefix)
