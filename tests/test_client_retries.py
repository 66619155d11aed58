"""The official Python client, sync and async, where the answer is to try again later."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from actor_runs.models import Run
from tests.conftest import token_of

pytestmark = pytest.mark.once

# In a process of its own, as in client_process.py, and with short waits between its tries.
ASK = """
import asyncio, datetime, inspect, os, sys
from apify_client import ApifyClient, ApifyClientAsync
from apify_client.errors import ApifyApiError

async def main(form, url, token, run):
    client = {"sync": ApifyClient, "async": ApifyClientAsync}[form](
        token, api_url=url, max_retries=2,
        min_delay_between_retries=datetime.timedelta(milliseconds=1),
    )
    try:
        result = client.run(run).delete()
        if inspect.isawaitable(result):
            await result
        print("deleted")
    except ApifyApiError as error:
        print(type(error).__name__, error.status_code, error.type)

asyncio.run(main(*sys.argv[1:]))
sys.stdout.flush()
os._exit(0)
"""


@pytest.fixture(params=["sync", "async"])
def delete(request: Any, live_server: Any, alice: Any) -> Any:
    def delete(run: Run) -> str:
        return subprocess.run(
            [sys.executable, "-c", ASK, request.param, live_server.url, token_of(alice), run.pk],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout.strip()

    return delete


@pytest.mark.parametrize(
    ("host", "report"),
    [
        ({"RATE_LIMIT": "0/d"}, "RateLimitError 429 rate-limit-exceeded"),
        (
            {"AUTHENTICATION_CLASSES": ["tests.test_openapi.Broken"]},
            "ServerError 500 internal-server-error",
        ),
        (
            {"AUTHENTICATION_CLASSES": ["tests.test_openapi.DatabaseGone"]},
            "ServerError 503 service-unavailable",
        ),
    ],
)
def test_a_refusal_that_may_pass_is_raised_in_the_end_and_nothing_is_deleted(
    delete, run, settings, host, report
):
    chosen = getattr(settings, "ACTOR_RUNS", {})
    settings.ACTOR_RUNS = {**chosen, **host}
    assert delete(run) == report
    assert Run.objects.filter(pk=run.pk).exists()
    settings.ACTOR_RUNS = chosen
    assert delete(run) == "deleted"
    assert not Run.objects.filter(pk=run.pk).exists()
