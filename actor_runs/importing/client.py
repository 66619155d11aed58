"""The official client's HTTP client, with answers of a bounded size."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from apify_client.errors import ApifyClientError, NotFoundError
from apify_client.http_clients import ImpitHttpClient
from impit import HTTPError, InvalidURL

__all__ = ["FAILURES", "BoundedHttpClient", "NotFoundError"]

# A server that answers slowly gets half a minute, then a minute for each retry.
MAX_TIMEOUT = timedelta(minutes=1)


class AnswerTooLargeError(ApifyClientError):
    """The answer is larger than what the client was told to read."""


# What ``BoundedHttpClient.call`` raises.
FAILURES = (ApifyClientError, HTTPError, InvalidURL)


@dataclass
class Answer:
    """An answer that was read, as the official client wants it."""

    status_code: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def text(self) -> str:
        return self.content.decode(errors="replace")

    def json(self) -> Any:
        try:
            return json.loads(self.content)
        except RecursionError:
            raise ValueError("The answer is nested too deeply.") from None

    def read(self) -> bytes:
        return self.content


class BoundedHttpClient(ImpitHttpClient):
    """Sends requests with the official client's retries, and reads ``max_bytes`` of an answer.

    Its models would change what is mirrored: they write URLs and numbers in their own way, and
    one run that they do not know spoils a list.
    """

    def __init__(self, token: str, *, max_retries: int, max_bytes: int) -> None:
        super().__init__(token=token, max_retries=max_retries, timeout_max=MAX_TIMEOUT)
        self.max_bytes = max_bytes

    def send_request(self, **request: Any) -> Any:
        response = super().send_request(**request | {"stream": True})
        content = bytearray()
        for chunk in response.iter_bytes():
            content += chunk
            if len(content) > self.max_bytes:
                response.close()
                raise AnswerTooLargeError("The answer is too large.")
        return Answer(response.status_code, response.headers, bytes(content))
