"""The body of a DELETE: none, or a JSON object; whatever else comes, the run stays."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from asgiref.testing import ApplicationCommunicator
from django.core.handlers.asgi import ASGIHandler
from django.core.signals import request_finished
from django.db import connections

from actor_runs.models import Run, RunStatus
from tests.support.api import BAD_BODY, assert_error
from tests.support.people import token_of

OBJECTS = [
    b"",
    b"{}",
    b" \t\r\n{ } \n",
    b'{"a": 1}',
    b'{"a": {"b": [1, -2.5, 1e300, true, false, null, "x"]}}',
    b'{"a": 1, "a": 2}',
    b'{"": ""}',
    b'{"__proto__": {}, "method": "GET"}',
    '{"česky": "ž 😀"}'.encode(),
    rb'{"a": "\u0000 \ud83d\ude00 \ud800"}',
    b'{"a": ' + b"9" * 100_000 + b"}",
    b'{"a": -' + b"9" * 5000 + b"." + b"9" * 5000 + b"e" + b"9" * 5000 + b"}",
    b'{"a": 1e999, "b": -1e999}',
    b'{"a": "' + b"x" * 100_000 + b'"}',
    b'{"a": ' + b"[" * 50 + b"]" * 50 + b"}",
    b'{"a": "NaN", "NaN": "Infinity"}',
]

NOT_OBJECTS = [
    *(b"[]", b"[{}]", b"null", b"true", b"false", b"0", b"1", b"-1.5", b'""', b'"x"', b'"{}"'),
    *(b" ", b"\n", b"\x00", b"x", b"{", b"}", b"{]", b"{}{}", b"{} {}", b"{},", b"{}x", b"{}\x00"),
    *(b'{"a"}', b'{"a":}', b'{"a":1,}', b"{a:1}", b"{'a':1}", b'{"a":01}', b'{"a":+1}', b"{1:2}"),
    *(b'{"a":.5}', b'{"a":1.}', b'{"a":0x1}', b'{"a":1_000}', b'{"a":"\n"}', b'{"a":"\x00"}'),
    *(rb'{"a":"\x"}', rb'{"a":"\u12"}', b'{"a":"x}', b"{}//", b"{}/**/", b"#\n{}", b'{"a":True}'),
    *(b'{"a": NaN}', b'{"a": Infinity}', b'{"a": -Infinity}', b'{"a": [{"b": NaN}]}', b"NaN"),
    *(b"Infinity", b"-Infinity", b'{"a": nan}', b'{"a": undefined}'),
    b"\xef\xbb\xbf{}",
    "{}".encode("utf-16"),
    "{}".encode("utf-16-le"),
    "{}".encode("utf-16-be"),
    "{}".encode("utf-32"),
    "{}".encode("utf-32-le"),
    b"{}\xff",
    b'{"a":"\xff"}',
    b'{"a":"\xc3"}',
    b'{"a":"\xed\xa0\x80"}',
    b'{"a":"\xc0\x80"}',
    b'{"a":"\xf8\x88\x80\x80\x80"}',
    '{"a":"é"}'.encode("latin-1"),
    b"[" * 1000 + b"]" * 1000,
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    b"9" * 5000,
    b"a=1&b=2",
    b"--x\r\n\r\n--x--",
    b"<xml/>",
    b"\x1f\x8b\x08\x00",
]


def chunked(body: bytes, *, terminated: bool = True) -> dict[str, Any]:
    """What a WSGI server hands on of a body in chunks, which it has put together."""
    environ = {
        "wsgi.input": io.BytesIO(body),
        "HTTP_TRANSFER_ENCODING": "chunked",
        "CONTENT_LENGTH": "",
    }
    return {**environ, "wsgi.input_terminated": True} if terminated else environ


def assert_refused(response: Any, run: Run) -> None:
    assert_error(response, *BAD_BODY)
    assert Run.objects.filter(pk=run.pk).exists()


CONTENT_TYPES = [
    "application/json; charset=utf-16",
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "multipart/form-data",
    "nonsense",
]


@pytest.mark.parametrize("content_type", CONTENT_TYPES)
def test_the_content_type_does_not_matter(api, alice, run, content_type):
    other = '--x\r\nContent-Disposition: form-data; name="a"'
    for body in ("a=1", "[]", other):
        response = api.delete(f"/{run.pk}", user=alice, body=body, content_type=content_type)
        assert_refused(response, run)
    body = '{"a": "ž"}'.encode()
    response = api.delete(f"/{run.pk}", user=alice, body=body, content_type=content_type)
    assert response.status_code == 204
    assert not Run.objects.filter(pk=run.pk).exists()


@pytest.mark.parametrize("in_chunks", [False, True])
def test_an_empty_body_or_a_json_object_is_accepted(api, alice, subtests, in_chunks):
    for body in OBJECTS:
        with subtests.test(repr(body[:30])):
            run = Run.objects.create(user=alice, status=RunStatus.SUCCEEDED)
            options = chunked(body) if in_chunks else {"body": body}
            assert api.delete(f"/{run.pk}", user=alice, **options).status_code == 204
            assert not Run.objects.filter(pk=run.pk).exists()


@pytest.mark.parametrize("in_chunks", [False, True])
def test_any_other_body_is_refused_and_nothing_is_deleted(
    api, alice, configure, run, subtests, in_chunks
):
    configure(RUN_RATE_LIMIT=None)
    for body in NOT_OBJECTS:
        with subtests.test(repr(body[:30])):
            options = chunked(body) if in_chunks else {"body": body}
            assert_refused(api.delete(f"/{run.pk}", user=alice, **options), run)


@pytest.mark.parametrize("body", [b"[]", b"x", b"\xff", b'{"a": NaN}'])
def test_the_body_of_a_get_is_ignored(api, alice, run, body):
    assert api.get(f"/{run.pk}", user=alice, body=body).status_code == 200
    assert api.get(user=alice, body=body).status_code == 200


@pytest.mark.parametrize("length", ["3", "100", "999999"])
@pytest.mark.parametrize("body", [b"", b"{}"])
def test_a_body_that_was_cut_short_is_refused(api, alice, run, body, length):
    cut_short = {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": length}
    assert_refused(api.delete(f"/{run.pk}", user=alice, **cut_short), run)


@pytest.mark.parametrize(
    "length", ["x", "-1", "1.5", "+2", "2 2", "2, 2", "0x2", "1_0", "\xb2", "9" * 5000]
)
def test_a_content_length_that_is_not_a_number_is_refused(api, alice, run, length):
    unclear = {"wsgi.input": io.BytesIO(b""), "CONTENT_LENGTH": length}
    assert_refused(api.delete(f"/{run.pk}", user=alice, **unclear), run)


@pytest.mark.parametrize(("body", "length"), [(b"{}", "02"), (b"", "00"), (b"", "0"), (b"", "")])
def test_a_content_length_may_have_leading_zeros_or_be_empty(api, alice, run, body, length):
    clear = {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": length}
    assert api.delete(f"/{run.pk}", user=alice, **clear).status_code == 204


class Gone(io.RawIOBase):
    """The connection of a client that goes away, as servers show it."""

    def __init__(self, first: bytes, failure: Exception) -> None:
        self.first = first
        self.failure = failure

    def read(self, size: int = -1) -> bytes:
        first, self.first = self.first, b""
        if not first:
            raise self.failure
        return first


@pytest.mark.parametrize("failure", [ConnectionResetError(), TimeoutError(), OSError("gone")])
@pytest.mark.parametrize("first", [b"", b"{}"])
def test_a_client_that_goes_away_deletes_nothing(api, alice, run, first, failure):
    gone = {"wsgi.input": Gone(first, failure), "CONTENT_LENGTH": "10"}
    assert_refused(api.delete(f"/{run.pk}", user=alice, **gone), run)


class BrokenFraming(Exception):
    """A server's own exception, which is no OSError."""


@pytest.mark.parametrize("failure", [ConnectionResetError(), BrokenFraming(), ValueError()])
@pytest.mark.parametrize("first", [b"", b"{}"])
def test_broken_chunks_delete_nothing(api, alice, run, first, failure):
    broken = {**chunked(b""), "wsgi.input": Gone(first, failure)}
    assert_refused(api.delete(f"/{run.pk}", user=alice, **broken), run)


@pytest.mark.parametrize("coding", ["chunked", "Chunked", "gzip, chunked", "identity", "x", ""])
@pytest.mark.parametrize("body", [b"", b"{}", b"[]"])
def test_chunks_are_refused_where_the_server_does_not_say_where_they_end(
    api, alice, run, body, coding
):
    unclear = {**chunked(body, terminated=False), "HTTP_TRANSFER_ENCODING": coding}
    assert_refused(api.delete(f"/{run.pk}", user=alice, **unclear), run)


@pytest.mark.parametrize(("body", "status"), [(b"", 204), (b"{}", 204), (b"[]", 400)])
def test_chunks_count_and_not_the_length_beside_them(api, alice, run, body, status):
    both = {**chunked(body), "CONTENT_LENGTH": "0"}
    assert api.delete(f"/{run.pk}", user=alice, **both).status_code == status


@pytest.mark.parametrize(("body", "status"), [(b"", 204), (b"{}", 204), (b"[]", 400), (b"x", 400)])
def test_a_body_that_announces_neither_length_nor_chunks_is_read_where_the_server_ends_it(
    api, alice, run, body, status
):
    # HTTP/2 needs neither; its servers end the input by themselves.
    environ = chunked(body)
    del environ["HTTP_TRANSFER_ENCODING"]
    assert api.delete(f"/{run.pk}", user=alice, **environ).status_code == status
    assert Run.objects.filter(pk=run.pk).exists() == (status == 400)


@pytest.mark.parametrize("in_chunks", [False, True])
@pytest.mark.parametrize(("size", "status"), [(100, 204), (101, 400), (10_000, 400)])
def test_a_body_is_no_larger_than_the_host_allows(
    api, settings, alice, run, size, status, in_chunks
):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100
    body = b"{" + b" " * (size - 2) + b"}"
    options = chunked(body) if in_chunks else {"body": body}
    response = api.delete(f"/{run.pk}", user=alice, **options)
    assert response.status_code == status
    if status == 400:
        assert_refused(response, run)


@pytest.mark.parametrize("in_chunks", [False, True])
def test_the_host_may_allow_any_size(api, settings, alice, run, in_chunks):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = None
    body = b"{" + b" " * 3_000_000 + b"}"
    options = chunked(body) if in_chunks else {"body": body}
    assert api.delete(f"/{run.pk}", user=alice, **options).status_code == 204


class Endless(io.RawIOBase):
    """A body without end, which counts what was read of it."""

    taken = 0

    def read(self, size: int = -1) -> bytes:
        assert size > 0
        self.taken += size
        return b" " * size


def test_chunks_without_end_are_read_no_further_than_the_limit(api, settings, alice, run):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1_000_000
    stream = Endless()
    endless = {**chunked(b""), "wsgi.input": stream}
    assert_refused(api.delete(f"/{run.pk}", user=alice, **endless), run)
    assert stream.taken < 1_200_000


# The same under ASGI, where Django itself has read the body


@pytest.fixture
def connections_end_with_requests(settings: Any) -> Iterator[None]:
    """Under ASGI each request has a thread of its own, and leaves its connections behind."""
    settings.RATELIMIT_ENABLE = False  # which has one with the cache

    def close(**kwargs: Any) -> None:
        connections.close_all()

    request_finished.connect(close)
    yield
    request_finished.disconnect(close)


def delete_under_asgi(run: Run, token: str, headers: dict[str, str], *events: Any) -> int:
    """Send a DELETE to Django's ASGI application; return the status of the answer."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "DELETE",
        "scheme": "http",
        "path": f"/v2/actor-runs/{run.pk}",
        "raw_path": f"/v2/actor-runs/{run.pk}".encode(),
        "query_string": b"",
        "root_path": "",
        "client": ("127.0.0.1", 12345),
        "server": ("testserver", 80),
        "headers": [
            (name.encode(), value.encode())
            for name, value in {"authorization": f"Bearer {token}", **headers}.items()
        ],
    }

    async def talk() -> int:
        communicator = ApplicationCommunicator(ASGIHandler(), scope)
        for event in events:
            await communicator.send_input({"type": "http.request", **event})
        status = (await communicator.receive_output(60))["status"]
        await communicator.receive_output(60)
        await communicator.wait(60)
        return status

    return async_to_sync(talk)()


CHUNKS = {"transfer-encoding": "chunked"}


@pytest.mark.parametrize(
    ("headers", "parts", "status"),
    [
        ({}, [b""], 204),
        ({"content-length": "0"}, [b""], 204),
        ({"content-length": "2"}, [b"{}"], 204),
        ({"content-length": "2"}, [b"{", b"}"], 204),
        ({"content-length": "2"}, [b"[]"], 400),
        ({"content-length": "3"}, [b"{}"], 400),
        (CHUNKS, [b""], 204),
        (CHUNKS, [b"{", b"}"], 204),
        (CHUNKS, [b"[", b"]"], 400),
        (CHUNKS, [b"{", b""], 400),
        # Without either, as HTTP/2 may send it.
        ({}, [b"{", b"}"], 204),
        ({}, [b"[]"], 400),
    ],
)
@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("connections_end_with_requests")
def test_bodies_under_asgi(alice, run, headers, parts, status):
    events = [{"body": part, "more_body": part is not parts[-1]} for part in parts]
    assert delete_under_asgi(run, token_of(alice), headers, *events) == status
    assert Run.objects.filter(pk=run.pk).exists() == (status == 400)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("connections_end_with_requests")
def test_a_body_too_large_is_refused_under_asgi(settings, alice, run):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100
    body = {"body": b"{" + b" " * 100 + b"}"}
    assert delete_under_asgi(run, token_of(alice), CHUNKS, body) == 400
    assert Run.objects.filter(pk=run.pk).exists()
