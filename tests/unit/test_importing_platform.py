"""Whatever a platform answers, reading it ends, in bounded memory, with a message of one line."""

from __future__ import annotations

import contextlib
import datetime
import gzip
import http.server
import itertools
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from actor_runs.importing import sources
from actor_runs.importing.sources import Platform, PlatformError

pytest.importorskip("apify_client", reason="apify-client 3 needs Python 3.11")

START = datetime.datetime(2026, 5, 4, 10, tzinfo=datetime.timezone.utc)
Answer = tuple[int, dict[str, str], bytes]


def moment(seconds: float) -> str:
    return (START + datetime.timedelta(seconds=seconds)).isoformat()


def page(*runs: tuple[str, float], total: Any = 2) -> Answer:
    items = [{"id": run_id, "startedAt": moment(seconds)} for run_id, seconds in runs]
    return 200, {}, json.dumps({"data": {"total": total, "items": items}}).encode()


@pytest.fixture
def serve(monkeypatch) -> Iterator[Callable[..., list[str]]]:
    """A function that starts a platform: it answers what ``answer`` returns for a list.

    It returns the IDs that are read from there.
    """
    monkeypatch.setattr(sources, "RETRIES", 0)
    servers = []

    def read_from(answer: Callable[[int], Answer], limit: int | None = None) -> list[str]:
        pages = itertools.count()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                is_list = self.path.startswith("/v2/actor-runs?")
                run = 200, {}, json.dumps({"data": {"id": "x"}}).encode()
                status, headers, body = answer(next(pages)) if is_list else run
                self.send_response(status)
                for name, value in ({"Content-Length": str(len(body))} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                with contextlib.suppress(OSError):  # the client may have read enough
                    self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        platform = Platform("token", f"http://127.0.0.1:{server.server_port}")
        return [run_id for run_id, _ in itertools.islice(platform, limit)]

    yield read_from
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("seconds", [0, 1, -1])
def test_a_platform_that_repeats_its_pages_is_refused(serve, seconds):
    with pytest.raises(PlatformError, match=r"The platform's list .*repeats itself"):
        serve(lambda number: page(("a", 0), ("b", seconds)))


def test_a_platform_that_invents_runs_of_one_moment_is_refused(serve, monkeypatch):
    monkeypatch.setattr(sources, "MAX_RUNS_AT_ONE_MOMENT", 10)
    with pytest.raises(PlatformError, match="repeats itself"):
        serve(lambda number: page((f"run{number}", 0)))


@pytest.mark.parametrize("total", [-1, 0, 10**30])
def test_a_total_that_lies_changes_nothing(serve, total):
    pages = {0: page(("a", 0), ("b", 1), total=total), 1: page(("b", 1), total=total)}
    assert serve(lambda number: pages.get(number, page())) == ["a", "b"]


HTML = b"<html>" + b"x" * 1000
NOT_JSON = "The platform's answer is not JSON of its API"
NOT_A_LIST = "The platform's answer is not a list of runs"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((200, {}, HTML), NOT_JSON),
        ((200, {}, b""), NOT_JSON),
        ((200, {}, b"[]"), NOT_JSON),
        ((200, {}, b"[" * 100_000), NOT_JSON),
        ((200, {}, b'{"data": [' + b"0," * 300_000 + b"0]}"), NOT_JSON),
        ((200, {}, json.dumps({"data": {}}).encode("utf-16")), NOT_JSON),
        ((200, {"Content-Encoding": "gzip"}, gzip.compress(b" " * 40_000_000)), "too large"),
        ((500, {"Content-Encoding": "gzip"}, gzip.compress(b" " * 40_000_000)), "too large"),
        ((200, {"Content-Length": "100"}, b"{"), "cannot be read"),
        ((302, {"Location": "/v2/actor-runs?again"}, b""), "Too many redirects"),
        ((302, {"Location": "ftp://127.0.0.1/"}, b""), "cannot be read"),
        ((404, {}, HTML), "cannot be read: Unexpected error: <html>"),
        ((500, {}, b"[" * 100_000), "cannot be read"),
        ((503, {}, b'{"error": {"message": ["not", "text"]}}'), "cannot be read"),
        ((200, {}, b'{"data": {}}'), NOT_A_LIST),
        ((200, {}, b'{"data": {"total": 1}}'), NOT_A_LIST),
        ((200, {}, b'{"data": {"total": 1, "items": [{"id": 5}]}}'), NOT_A_LIST),
        ((200, {}, b'{"data": {"total": 1e999, "items": []}}'), NOT_A_LIST),
        (page(("\ud800", 0)), NOT_A_LIST),
    ],
)
def test_an_answer_that_is_not_the_apis_ends_the_import_with_one_line(serve, answer, message):
    with pytest.raises(PlatformError, match=message) as error:
        serve(lambda number: answer)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 600


@pytest.mark.parametrize("started_at", ["soon", "2026-01-01", "0001-01-01T00:00:00+02:00", 5])
def test_a_time_that_is_not_the_apis_is_refused(serve, started_at):
    items = [{"id": "x", "startedAt": started_at}]
    body = json.dumps({"data": {"total": 1, "items": items}}).encode()
    with pytest.raises(PlatformError, match=NOT_A_LIST):
        serve(lambda number: (200, {}, body))


def test_an_error_message_cannot_disturb_the_terminal(serve):
    body = json.dumps({"error": {"type": "x", "message": "\x1b[2J\x07\u202e\ud800 no\nmore"}})
    with pytest.raises(PlatformError) as error:
        serve(lambda number: (403, {}, body.encode()))
    assert str(error.value) == (r"The platform cannot be read: \u001b[2J\u0007\u202e\ud800 no")


@pytest.mark.parametrize("token", ["secret\n", "s\x1bcret", "sécret"])
def test_a_token_that_no_header_can_carry_is_refused_and_not_repeated(token):
    with pytest.raises(PlatformError) as error:
        Platform(token)
    assert str(error.value) == "The token holds a character that no token has."
