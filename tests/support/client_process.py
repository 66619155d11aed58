"""The official client in a process of its own: ``python -m tests.support.client_process URL``.

Reads calls from standard input, one JSON object a line, and prints what each returned or raised, as
one JSON object a line. A call's ``form`` is sync or async. A process of its own since the
asynchronous form can abort the process that it ran in, at exit.
"""

from __future__ import annotations

import asyncio
import datetime
import inspect
import json
import os
import sys
from typing import Any

from apify_client import ApifyClient, ApifyClientAsync
from apify_client.errors import ApifyApiError


def target_of(client: Any, run: str | None) -> Any:
    return client.runs() if run is None else client.run(run)


def argument(value: Any) -> Any:
    """Return a value of a call. JSON has no times: they come as ``{"time": "..."}``."""
    if isinstance(value, dict):
        return datetime.datetime.fromisoformat(value["time"])
    return value


async def perform(client: Any, call: dict[str, Any]) -> Any:
    method = getattr(target_of(client, call["run"]), call["method"])
    arguments = {name: argument(value) for name, value in call["arguments"].items()}
    if "wait_duration" in arguments:
        arguments["wait_duration"] = datetime.timedelta(seconds=arguments["wait_duration"])
    result = method(**arguments)
    if inspect.isawaitable(result):
        result = await result
    if call["method"] == "iterate":
        if hasattr(result, "__aiter__"):
            return [item.id async for item in result]
        return [item.id for item in result]
    return None if result is None else result.model_dump(mode="json", by_alias=True)


async def main(url: str) -> None:
    for line in sys.stdin:
        call = json.loads(line)
        make_client = {"sync": ApifyClient, "async": ApifyClientAsync}[call["form"]]
        try:
            client = make_client(
                call["token"],
                api_url=url,
                max_retries=call["retries"],
                min_delay_between_retries=datetime.timedelta(milliseconds=1),
            )
            report = {"result": await perform(client, call)}
        except ApifyApiError as error:
            raised = [type(error).__name__, error.status_code, error.type, error.message]
            report = {"raised": raised}
        print(json.dumps(report), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
    os._exit(0)
