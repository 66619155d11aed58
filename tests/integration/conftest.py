"""Fixtures for what happens at the same time, and for views of hosts."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db.backends.signals import connection_created
from django.urls import path

from tests.support.concurrency import Concurrently


@pytest.fixture
def concurrently() -> Iterator[Concurrently]:
    with ThreadPoolExecutor(max_workers=32) as pool:
        concurrently = Concurrently(pool)
        connection_created.connect(concurrently.watch)
        yield concurrently
        connection_created.disconnect(concurrently.watch)


@pytest.fixture
def serve(settings: Any) -> Any:
    """A function that serves a host's view instead of the app's, as REST framework's docs do."""

    def serve(view: Any, **initkwargs: Any) -> None:
        settings.ROOT_URLCONF = (
            path("v2/actor-runs", view.as_view({"get": "list"}, **initkwargs)),
            path(
                f"v2/actor-runs/<str:{view.lookup_url_kwarg or view.lookup_field}>",
                view.as_view({"get": "retrieve", "delete": "destroy"}, **initkwargs),
            ),
        )

    return serve
