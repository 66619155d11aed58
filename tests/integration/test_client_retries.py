"""The official Python client, sync and async, where the answer is to try again later."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.clients import Client, Raised, client_process
from tests.support.people import token_of
from tests.support.runs import exists

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def process(live_server: Any) -> Any:
    with client_process(live_server.url) as process:
        yield process


@pytest.mark.parametrize(
    ("form", "host", "report"),
    [
        ("sync", {"RATE_LIMIT": "0/d"}, ("RateLimitError", 429, "rate-limit-exceeded")),
        (
            "sync",
            {"AUTHENTICATION_CLASSES": ["tests.unit.test_openapi.Broken"]},
            ("ServerError", 500, "internal-server-error"),
        ),
        (
            "async",
            {"AUTHENTICATION_CLASSES": ["tests.unit.test_openapi.DatabaseGone"]},
            ("ServerError", 503, "service-unavailable"),
        ),
    ],
)
def test_an_error_that_may_pass_is_raised_after_the_last_try_and_nothing_is_deleted(
    live_server, process, run, settings, form, host, report
):
    client = Client(process, form, token_of(run.user), retries=2)
    chosen = getattr(settings, "ACTOR_RUNS", {})
    settings.ACTOR_RUNS = {**chosen, **host}
    with pytest.raises(Raised) as raised:
        client("delete", run.pk)
    assert raised.value.args[:3] == report
    assert exists(run)
    settings.ACTOR_RUNS = chosen
    assert client("delete", run.pk) is None
    assert not exists(run)
