"""Where imported runs come from: files of JSON, and the platform's API.

A *record* is a run object as the API returns it, with the *place* that it came from. What should
have been one and cannot be read stands in its place as a ``ValidationError``.
"""

from __future__ import annotations

import datetime
import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, cast
from urllib.parse import quote

from django.core.exceptions import ValidationError
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _

from actor_runs.validators import text

Record = tuple[Any, Any]

# A page of the API, 1000 runs at most, fits in several times. Nothing larger is ever read.
MOST_MEBIBYTES = 32
MOST_BYTES = MOST_MEBIBYTES * 1024 * 1024
SKIPPED_AT_ONCE = 1024 * 1024

PLATFORM_URL = "https://api.apify.com"
PAGE = 1000
# Half a second, then twice as long each time: over a minute, which is a rate limit's window.
RETRIES = 7


class PlatformError(Exception):
    """The platform cannot be read, or not any further. The message says why."""


def read_export(stream: BinaryIO, name: str) -> Iterator[Record]:
    """Yield the records of a file: JSON Lines, one run, an array, or a page of the API's list.

    Each line may also be any of the others, and each of them may be spread over lines. Memory
    is bounded, and what is broken or too large is passed over. Places are ``name:line``, with
    ``[index]`` inside of an array or a page. A ``name`` that ends in ``.gz`` is decompressed.
    """
    if name.endswith(".gz"):
        stream = cast(BinaryIO, gzip.GzipFile(fileobj=stream))
    for line, document in _documents(stream):
        place = f"{name}:{line}"
        if isinstance(document, ValidationError):
            yield place, document
            continue
        try:
            value = _unwrapped(json.loads(document.decode(), parse_constant=_no_number))
        except json.JSONDecodeError as exc:
            where = f"{exc.msg} (line {line + exc.lineno - 1}, column {exc.colno})"
            yield place, ValidationError(_("This is not JSON: %s.") % where)
        except (ValueError, RecursionError) as exc:
            yield place, ValidationError(_("This is not JSON: %s.") % exc)
        else:
            if isinstance(value, list):
                yield from ((f"{place}[{index}]", record) for index, record in enumerate(value))
            else:
                yield place, value


def _documents(stream: BinaryIO) -> Iterator[tuple[int, bytes | ValidationError]]:
    """Yield each document, not parsed yet, with the number of its first line.

    A bracket or a brace that begins a line begins a document, unless an array is open.
    """
    lines: list[bytes] = []
    size = first = 0
    for number, line in _lines(stream):
        is_broken = isinstance(line, ValidationError)
        if is_broken or not lines or (line.startswith((b"{", b"[")) and not _is_open_array(lines)):
            # What broke off amid its lines is told once.
            if lines and size <= MOST_BYTES and not (is_broken and len(lines) > 1):
                yield first, b"".join(lines)
            lines, size, first = [], 0, number
            if is_broken:
                yield number, line
                continue
        if size + len(line) <= MOST_BYTES:
            lines.append(line)
        elif size <= MOST_BYTES:
            yield first, _too_large()
            del lines[1:]
        size += len(line)
    if lines and size <= MOST_BYTES:
        yield first, b"".join(lines)


def _is_open_array(lines: list[bytes]) -> bool:
    return lines[0].startswith(b"[") and not lines[-1].rstrip().endswith(b"]")


def _lines(stream: BinaryIO) -> Iterator[tuple[int, Any]]:
    """Yield the lines that are not blank, and their numbers, however long or broken they are."""
    number = 0
    while True:
        number += 1
        try:
            line: Any = stream.readline(MOST_BYTES + 1)
            if len(line) > MOST_BYTES:
                while line and not line.endswith(b"\n"):
                    line = stream.readline(SKIPPED_AT_ONCE)
                line = _too_large()
        except (OSError, EOFError, zlib.error) as exc:
            yield number, ValidationError(_("This cannot be read any further: %s.") % exc)
            return
        if not line:
            return
        if number == 1 and isinstance(line, bytes):
            line = line.removeprefix(b"\xef\xbb\xbf")  # as some editors begin UTF-8
        if isinstance(line, ValidationError) or line.strip():
            yield number, line


def _too_large() -> ValidationError:
    return ValidationError(
        _("This is larger than %s MiB: write one run on each line.") % MOST_MEBIBYTES
    )


def _no_number(name: str) -> None:
    raise ValueError(_("%s is no number there") % name)


def _unwrapped(value: Any) -> Any:
    """Return the run or the list of runs inside of ``{"data": ...}`` and ``{"items": ...}``."""
    for key in ("data", "items"):
        if isinstance(value, dict) and "id" not in value:
            value = value.get(key, value)
    return value


class Platform:
    """The runs of an account on the platform, or on another installation of this app.

    Iterating yields records, those that started first at first; places are run IDs. ``since``
    (datetime) is where the iteration has come to: another one that is given it goes on there.
    ``total`` is how many runs there were to read when it began, None before.

    Raises PlatformError when the official client is not installed, and while iterating.
    """

    def __init__(
        self,
        token: str,
        base_url: str = PLATFORM_URL,
        since: datetime.datetime | None = None,
        statuses: Sequence[str] = (),
    ) -> None:
        try:
            import apify_client
            import impit
        except ImportError:
            raise PlatformError(
                _("apify-client is not installed: pip install django-actor-runs[platform]")
            ) from None
        self.since = since
        self.total: int | None = None
        self._statuses = list(statuses)
        self._url = f"{base_url.rstrip('/').removesuffix('/v2')}/v2/actor-runs"
        # Its requests, with its patience. Its models would change what is mirrored: they write
        # URLs and numbers in their own way, and one run that they do not know spoils a list.
        self._http = apify_client.ApifyClient(token, max_retries=RETRIES).http_client
        self._not_found = apify_client.errors.NotFoundError
        self._failures = (apify_client.errors.ApifyClientError, impit.HTTPError, impit.InvalidURL)

    def __iter__(self) -> Iterator[Record]:
        # By time, not by offset, which would skip runs when others are deleted meanwhile. The
        # list is inclusive, so what started at the very same moment is met again.
        offset = 0
        met: set[str] = set()
        while items := self._page(offset):
            offset += len(items)
            for run_id, started_at in items:
                if run_id not in met:
                    yield from self._run(run_id)
                if self.since is None or started_at > self.since:
                    self.since, offset = started_at, 0
                    met.clear()
                met.add(run_id)

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
                self.total = int(page["total"])
            return [(text(item["id"], "id"), _moment(item["startedAt"])) for item in page["items"]]
        except (KeyError, OverflowError, TypeError, ValidationError, ValueError):
            raise PlatformError(_("The platform answered with what is no list of runs.")) from None

    def _run(self, run_id: str) -> Iterator[Record]:
        """Yield the run, whole: lists have only some of its keys. Nothing if it is gone."""
        try:
            run = self._get(f"{self._url}/{quote(run_id, safe='')}")
        except PlatformError as exc:
            if not isinstance(exc.__cause__, self._not_found):
                raise
        else:
            yield run_id, run

    def _get(self, url: str, **parameters: Any) -> Any:
        try:
            return self._http.call(method="GET", url=url, params=parameters).json()["data"]
        except self._failures as exc:
            # What follows the first line is of the client's own insides.
            why = str(exc).partition("\n")[0]
            raise PlatformError(_("The platform cannot be read: %s") % why) from exc
        except (KeyError, TypeError, ValueError):
            raise PlatformError(
                _("The platform answered with what is no JSON of its API.")
            ) from None


def _moment(value: str) -> datetime.datetime:
    """Return a time as the API writes it. Raises TypeError or ValueError."""
    moment = parse_datetime(value)
    if moment is None or moment.tzinfo is None:
        raise ValueError
    return moment
