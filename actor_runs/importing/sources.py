"""Where imported runs come from: files of JSON, and the platform's API.

A *record* is a run object as the API returns it, with the *place* that it came from. A record
that cannot be read is a ``ValidationError`` in its place.
"""

from __future__ import annotations

import datetime
import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Any, BinaryIO, cast
from urllib.parse import quote

from django.core.exceptions import ValidationError
from django.utils.dateparse import parse_datetime

from actor_runs.fields import in_zone
from actor_runs.logs import printable
from actor_runs.schemas import text, time

__all__ = ["Platform", "PlatformError", "read_export"]

Record = tuple[Any, Any]

# The limits of a line, a document and an answer. What 200,000 values take in memory is several
# times what they take in JSON. A page of the API, 1000 runs at most, fits in several times.
MAX_MEBIBYTES = 16
MAX_BYTES = MAX_MEBIBYTES * 1024 * 1024
MAX_VALUES = 200_000
SKIPPED_AT_ONCE = 1024 * 1024
MAX_REASON_LENGTH = 500
UNREADABLE = (OSError, EOFError, zlib.error)

PLATFORM_URL = "https://api.apify.com"
PAGE = 1000
# Half a second, then twice as long each time: over a minute, which is a rate limit's window.
RETRIES = 7
# Runs that come and go meanwhile may shift a page; a server that answers so again and again is
# broken.
MAX_REPEATED_PAGES = 10
MAX_RUNS_AT_ONE_MOMENT = 100_000


class PlatformError(Exception):
    """The platform cannot be read, or not any further. The message says why."""


def read_export(stream: BinaryIO, name: str) -> Iterator[Record]:
    """Yield the records of a file: JSON Lines, or one JSON document.

    Each line of JSON Lines, and the document, is a run, an array, a page of the API's list, or an
    answer of the API. A file is JSON Lines if its first line is JSON by itself. A line or a
    document may have up to 16 MiB and 200,000 values; what is larger or broken is passed over.
    Places are ``name:line``, with ``[index]`` inside of an array or a page. A ``name`` that ends
    in ``.gz`` is decompressed.
    """
    if name.endswith(".gz"):
        stream = cast(BinaryIO, gzip.GzipFile(fileobj=stream))
    lines = _lines(stream)
    ahead = list(islice(lines, 1))
    if ahead and not _is_json(ahead[0][1]):
        ahead += islice(lines, 1)
        if not _is_broken_first_line(ahead):
            ahead, lines = [(ahead[0][0], _document(ahead, stream))], iter(())
    for number, line in chain(ahead, lines):
        yield from _records(f"{name}:{number}", line, number)


def parse(document: bytes | ValidationError, first_line: int = 1) -> Any:
    """Return the value of a JSON document.

    Raises ValidationError if it is too large or not JSON; the message counts from ``first_line``.
    """
    if isinstance(document, ValidationError):
        raise document
    if len(document) > MAX_BYTES or sum(map(document.count, (b"{", b"[", b","))) > MAX_VALUES:
        raise _too_large()
    try:
        return json.loads(document.decode(), parse_constant=_refuse_constant)
    except json.JSONDecodeError as exc:
        reason = f"{exc.msg} (line {first_line + exc.lineno - 1}, column {exc.colno})"
    except (ValueError, RecursionError) as exc:
        reason = str(exc)
    raise ValidationError(f"This is not JSON: {reason}.")


def unwrap(value: Any) -> Any:
    """Return the run, or the list of runs, inside of what the API or a webhook sends.

    That is ``{"data": ...}``, ``{"items": [...]}``, and ``{"eventType": ..., "resource": ...}``.
    """
    for key in ("data", "resource", "items"):
        if isinstance(value, dict) and ("id" not in value or "eventType" in value):
            value = value.get(key, value)
    return value


def _records(place: str, document: bytes | ValidationError, number: int) -> Iterator[Record]:
    try:
        value = unwrap(parse(document, number))
    except ValidationError as exc:
        yield place, exc
        return
    if isinstance(value, list):
        yield from ((f"{place}[{index}]", record) for index, record in enumerate(value))
    else:
        yield place, value


def _lines(stream: BinaryIO) -> Iterator[tuple[int, Any]]:
    """Yield the numbers of the lines that are not blank, and each line or what is wrong with it."""
    number = 0
    while True:
        number += 1
        try:
            line: Any = stream.readline(MAX_BYTES + 1)
            if len(line) > MAX_BYTES:
                while line and not line.endswith(b"\n"):
                    line = stream.readline(SKIPPED_AT_ONCE)
                line = _too_large()
        except UNREADABLE as exc:
            yield number, _unreadable(exc)
            return
        if not line:
            return
        if number == 1 and isinstance(line, bytes):
            line = line.removeprefix(b"\xef\xbb\xbf")  # as some editors begin UTF-8
        if isinstance(line, ValidationError) or line.strip():
            yield number, line


def _is_json(line: Any) -> bool:
    """Whether a line is JSON by itself, or is known to be broken by itself."""
    try:
        parse(line)
    except ValidationError:
        return isinstance(line, ValidationError)
    return True


def _is_broken_first_line(lines: list[tuple[int, Any]]) -> bool:
    """Whether the file is JSON Lines, of which the first alone is broken.

    Then the second line is an object, and the first does not begin an array around it.
    """
    first, second = [line for _, line in [*lines, (0, None)][:2]]
    return (
        isinstance(second, bytes)
        and second.lstrip().startswith(b"{")
        and _is_json(second)
        and not first.rstrip().endswith((b"[", b",", b":"))
    )


def _document(lines: list[tuple[int, Any]], stream: BinaryIO) -> bytes | ValidationError:
    """Return the document that begins with ``lines``, which are read already."""
    document = b""
    for number, line in lines:
        if isinstance(line, ValidationError):
            return line
        blank_lines = number - lines[0][0] - document.count(b"\n")
        document += b"\n" * blank_lines + line
    try:
        return document + stream.read(max(MAX_BYTES + 1 - len(document), 0))
    except UNREADABLE as exc:
        return _unreadable(exc)


def _too_large() -> ValidationError:
    return ValidationError(
        f"This is larger than {MAX_MEBIBYTES} MiB, or has more than {MAX_VALUES:,} values: "
        "write one run on each line."
    )


def _unreadable(exc: Exception) -> ValidationError:
    return ValidationError(f"This cannot be read any further: {exc}.")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


class Platform:
    """The runs of an account on the platform, or on another installation of this app.

    Iterating yields records in the order of their start; places are run IDs. ``since``
    (datetime) is where the iteration has come to: another one that is given it goes on there. A
    naive one is in the default time zone.
    ``total`` is how many runs there were to read when it began, None before.

    Raises PlatformError if the official client is not installed or ``token`` cannot be one, and
    while iterating.
    """

    def __init__(
        self,
        token: str,
        base_url: str = PLATFORM_URL,
        since: datetime.datetime | None = None,
        statuses: Sequence[str] = (),
    ) -> None:
        try:
            from actor_runs.importing import client
        except ImportError:
            raise PlatformError(
                "apify-client is not installed: pip install django-actor-runs[platform]"
            ) from None
        if not (token.isascii() and token.isprintable()):
            raise PlatformError("The token holds a character that no token has.")
        since = since and in_zone(since, datetime.timezone.utc)
        self.since = since and since.replace(microsecond=since.microsecond // 1000 * 1000)
        self.total: int | None = None
        self._statuses = list(statuses)
        self._url = f"{base_url.rstrip('/').removesuffix('/v2')}/v2/actor-runs"
        self._http = client.BoundedHttpClient(token, max_retries=RETRIES, max_bytes=MAX_BYTES)
        self._client = client

    def __iter__(self) -> Iterator[Record]:
        # By time, not by offset, which would skip runs when others are deleted meanwhile. The
        # list is inclusive, so runs that started at the very same moment are listed again.
        offset = repeated = 0
        seen: set[str] = set()
        while items := self._page(offset):
            offset += len(items)
            repeated += 1
            for run_id, started_at in items:
                if self.since is not None and started_at < self.since:
                    raise PlatformError(
                        "The platform's list is not in the order of startedAt, or repeats itself."
                    )
                if run_id not in seen:
                    yield from self._run(run_id)
                    repeated = 0
                if self.since is None or started_at > self.since:
                    self.since, offset = started_at, 0
                    seen.clear()
                seen.add(run_id)
            if repeated >= MAX_REPEATED_PAGES or len(seen) > MAX_RUNS_AT_ONE_MOMENT:
                raise PlatformError("The platform's list repeats itself.")

    def _page(self, offset: int) -> list[tuple[str, datetime.datetime]]:
        """Return IDs of runs and when they started, from ``since`` on."""
        page = self._get(
            self._url,
            limit=PAGE,
            offset=offset,
            desc=False,
            status=self._statuses,
            startedAfter=self.since,
        )
        try:
            if self.total is None:
                self.total = max(int(page["total"]), 0)
            return [(text(item["id"], "id"), _moment(item["startedAt"])) for item in page["items"]]
        except (KeyError, OverflowError, TypeError, ValidationError, ValueError):
            raise PlatformError("The platform's answer is not a list of runs.") from None

    def _run(self, run_id: str) -> Iterator[Record]:
        """Yield the run with all of its keys: lists have only some. Nothing if it is deleted."""
        try:
            run = self._get(f"{self._url}/{quote(run_id, safe='')}")
        except PlatformError as exc:
            if not isinstance(exc.__cause__, self._client.NotFoundError):
                raise
        else:
            yield run_id, run

    def _get(self, url: str, **parameters: Any) -> Any:
        try:
            return parse(self._http.call(method="GET", url=url, params=parameters).content)["data"]
        except self._client.FAILURES as exc:
            # The following lines are about the client itself.
            reason = printable(str(exc).partition("\n")[0][:MAX_REASON_LENGTH])
            raise PlatformError(f"The platform cannot be read: {reason}") from exc
        except (KeyError, TypeError, ValidationError):
            raise PlatformError(
                "The platform's answer is not JSON of its API: check the address."
            ) from None


def _moment(value: Any) -> datetime.datetime:
    """Return a time in UTC, to the millisecond. Raises ValidationError."""
    return cast(datetime.datetime, parse_datetime(time(value, "startedAt")))
