"""Requests byte by byte, where a client library would refuse: what may come back, and what stays.

The oracle is the contract's table, written once more and simpler: it knows for each caller and
run what may be answered, and that nothing but an answered deletion changes the database.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote, unquote_to_bytes

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.fuzz import world

TYPES = {
    400: {"invalid-input", "cannot-remove-running-run"},
    401: {"token-not-valid"},
    403: {"permission-denied"},
    404: {"record-not-found"},
    405: {"method-not-allowed"},
}
POSSIBLE_ID = re.compile(rb"[!-~]{1,64}")


@dataclass
class Request:
    """``caller``: whose token it bears. ``body_is_fit``: None where nobody can say."""

    method: bytes
    target: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes
    caller: str
    run_id: bytes | None
    body_is_fit: bool | None
    is_cut: bool

    def to_bytes(self) -> bytes:
        lines = [b"%s %s HTTP/1.1" % (self.method, self.target)]
        lines += [name + b": " + value for name, value in self.headers]
        return b"\r\n".join(lines) + b"\r\n\r\n" + self.body


# Run IDs: what follows actor-runs/, still encoded.

known_ids = st.sampled_from(sorted(world.RUNS)).map(str.encode)
near_ids = st.builds(
    lambda run_id, change: change(run_id),
    known_ids,
    st.sampled_from(
        [
            bytes.swapcase,
            lambda run_id: run_id + b"%0a",
            lambda run_id: run_id + b"%0A/",
            lambda run_id: run_id + b"%20",
            lambda run_id: b"%20" + run_id,
            lambda run_id: run_id + b"%00",
            lambda run_id: run_id + b"%2F",
            lambda run_id: run_id + b"//",
            lambda run_id: run_id + b"/log",
            lambda run_id: run_id + b";x",
            lambda run_id: run_id[:-1],
            lambda run_id: run_id * 5,
            lambda run_id: b"./" + run_id,
            lambda run_id: b"%2e%2e/actor-runs/" + run_id,
            lambda run_id: run_id + b"%C2%A0",
            lambda run_id: run_id + b"%FF",
            lambda run_id: run_id + b"%",
        ]
    ),
)
encoded_ids = st.binary(min_size=1, max_size=80).map(lambda raw: quote(raw).encode())
any_ids = st.one_of(
    known_ids,
    known_ids,
    # Every character written as its code is the same ID.
    known_ids.map(lambda run_id: b"".join(b"%%%02X" % byte for byte in run_id)),
    known_ids.map(lambda run_id: run_id + b"/"),
    near_ids,
    encoded_ids,
)


# Authorization, and whose it is.


def header_of(caller: str) -> st.SearchStrategy[tuple[bytes | None, str]]:
    token = world.TOKENS.get(caller, "").encode()
    if caller == "nobody":
        return st.sampled_from([None, b"", b"Basic YTpi", b"Token " + b"x", b"Digest x=y"]).map(
            lambda header: (header, "nobody")
        )
    if caller == "wrong":
        alices = world.TOKENS["alice"].encode()
        return st.one_of(
            st.sampled_from(
                [
                    b"Bearer",
                    b"Bearer " + token,
                    b"Bearer " + alices.upper(),
                    b"Bearer " + alices + b" x",
                    b"Bearer " + alices[:-1],
                    b"Bearer " + alices + b"\xff",
                    b"Bearer \xe2\x82\xac",
                    b'Bearer "' + alices + b'"',
                    b"Bearer " + alices + b"," + alices,
                ]
            ),
            st.binary(min_size=1, max_size=60)
            .filter(lambda raw: not re.search(rb"[\x00-\x20\x7f]", raw))
            .map(lambda raw: b"Bearer " + raw),
        ).map(lambda header: (header, "wrong"))
    schemes = st.sampled_from([b"Bearer ", b"bearer ", b"BEARER ", b"bEaReR ", b"Bearer   "])
    return schemes.map(lambda scheme: (scheme + token, caller))


authorizations = st.sampled_from(world.CALLERS).flatmap(header_of)


# Query strings.

words = st.sampled_from(
    "0 1 -1 +1 1000 1001 99999999999999999999999 1e3 1_0 0x1 \u00b2 \u0661 nan inf true false TRUE "
    "SUCCEEDED READY,RUNNING READY,,RUNNING succeeded 2025-03-04 2025-03-04T09:00 "
    "2025-03-04T09:00:00.118Z 2025-03-04T09:00:00+01:00 0001-01-01T00:00:00+14:00 "
    "9999-12-31T23:59:59-14:00 2025-02-30 2025-W10-2 0.01 .5 5. , %".split()
)
values = st.one_of(words, words, st.text(max_size=12), st.just("")).map(
    lambda text: quote(text.encode("utf-8", "surrogatepass"), safe="+,:").encode()
)
names = st.one_of(
    st.sampled_from(
        [
            *(b"limit", b"offset", b"desc", b"status", b"startedAfter", b"startedBefore"),
            *(b"waitForFinish", b"token", b"method", b"format", b"x"),
        ]
    ),
    st.binary(max_size=5).map(lambda raw: quote(raw).encode()),
)
tokens = st.sampled_from([token.encode() for token in world.TOKENS.values()])
pairs = st.one_of(
    st.tuples(names, values), st.tuples(names, values), st.tuples(st.just(b"token"), tokens)
)
queries = st.one_of(
    st.just(b""),
    st.lists(pairs, max_size=5).map(
        lambda pairs: b"?" + b"&".join(name + b"=" + value for name, value in pairs)
    ),
    st.binary(max_size=20).map(lambda raw: b"?" + quote(raw, safe="&=%+;").encode()),
    st.integers(1001, 1200).map(lambda count: b"?" + b"x&" * count),
)


def who_counts(caller: str, query: bytes) -> str:
    """Whose token a request bears: the header's, or the query's where the header has none."""
    if caller != "nobody":
        return caller
    token = dict(parse_qsl(query[1:].decode("latin-1"), keep_blank_values=True)).get("token")
    owners = {token: owner for owner, token in world.TOKENS.items()}
    return owners.get(token, "wrong") if token else "nobody"


# Bodies, whether they are fit for a DELETE, and how they are sent.

json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)
objects = st.dictionaries(st.text(max_size=4), json_values, max_size=3)


def in_utf_8(value: Any) -> bytes:
    return json.dumps(value).encode()


bodies: st.SearchStrategy[tuple[bytes, bool | None]] = st.one_of(
    st.just((b"", True)),
    st.just((b"", True)),
    objects.map(lambda value: (in_utf_8(value), True)),
    objects.map(lambda value: (b" \r\n\t" + in_utf_8(value) + b"\n", True)),
    st.just((b'{"x": ' + b"9" * 5000 + b"}", True)),
    json_values.filter(lambda value: not isinstance(value, dict)).map(
        lambda value: (in_utf_8(value), False)
    ),
    objects.map(lambda value: (json.dumps(value).encode("utf-16"), False)),
    objects.map(lambda value: (b"\xef\xbb\xbf" + in_utf_8(value), False)),
    objects.map(lambda value: (in_utf_8(value)[:-1], False)),
    objects.map(lambda value: (in_utf_8(value) + b"{}", False)),
    st.sampled_from([b'{"x": NaN}', b'{"x": -Infinity}', b"{'x': 1}", b"x=1", b" ", b"\x00"]).map(
        lambda body: (body, False)
    ),
    st.just((b'{"x": "' + b"a" * 3_000_000 + b'"}', False)),
    st.just((b'{"x":' * 20_000 + b"1" + b"}" * 20_000, None)),
    st.binary(max_size=20).map(lambda body: (body, None)),
)
content_types = st.sampled_from(
    [
        None,
        b"application/json",
        b"application/json; charset=utf-16",
        b"application/x-www-form-urlencoded",
        b"multipart/form-data; boundary=x",
        b"text/plain",
        b"x",
    ]
)
methods = st.sampled_from(
    [b"DELETE"] * 6
    + [b"GET"] * 4
    + [b"HEAD", b"OPTIONS", b"POST", b"PUT", b"PATCH", b"TRACE", b"PURGE"]
)


@st.composite
def requests(draw: Any) -> Request:
    method = draw(methods)
    run_id = draw(st.one_of(any_ids, any_ids, any_ids, st.none()))
    target = b"/v2/actor-runs" if run_id is None else b"/v2/actor-runs/" + run_id
    if run_id is None and draw(st.booleans()):
        target += b"/"
    authorization, caller = draw(authorizations)
    headers = [(b"Host", b"127.0.0.1"), (b"Connection", b"close")]
    if authorization is not None:
        headers.append((b"Authorization", authorization))
    accept = draw(st.sampled_from([None, b"text/html", b"*/*;q=0", b"x", b"application/json"]))
    if accept is not None:
        headers += [(b"Accept", accept), (b"Accept-Language", b"de")]
    if (content_type := draw(content_types)) is not None:
        headers.append((b"Content-Type", content_type))
    body, is_fit = draw(bodies)
    is_cut = False
    framing = draw(st.sampled_from(["length", "length", "chunked", "cut length", "cut chunks"]))
    if not body and framing != "chunked":
        framing = draw(st.sampled_from(["none", "length"]))
    if "length" in framing:
        is_cut = framing == "cut length"
        announced = len(body) + (draw(st.integers(1, 50)) if is_cut else 0)
        headers.append((b"Content-Length", b"%d" % announced))
    elif "chunk" in framing:
        is_cut = framing == "cut chunks"
        headers.append((b"Transfer-Encoding", b"chunked"))
        size = draw(st.integers(1, 64)) if len(body) < 1000 else 65536
        parts = [body[start : start + size] for start in range(0, len(body), size)]
        body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
        body += b"" if is_cut else b"0\r\n\r\n"
    query = draw(queries)
    caller = who_counts(caller, query)
    return Request(method, target + query, headers, body, caller, run_id, is_fit, is_cut)


# Asking and judging.


def ask(port: int, request: Request) -> tuple[int, Any, bytes] | None:
    """Return status, headers and body; None where the connection ended without an answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        try:
            connection.sendall(request.to_bytes())
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # refused before the end was sent: the answer is there to be read
        try:
            response = http.client.HTTPResponse(connection, method=request.method.decode())
            response.begin()
            return response.status, response.headers, response.read()
        except (http.client.HTTPException, ConnectionError):
            return None


def meant(run_id: bytes | None) -> tuple[str, bytes]:
    """What a path names: the "list", a "run", or "other" below it; and the ID, decoded."""
    if run_id is None:
        return "list", b""
    raw = unquote_to_bytes(run_id)
    raw = raw[:-1] if raw.endswith(b"/") else raw
    if b"/" in raw or not raw:
        return "other", raw
    return "run", raw


def expected(request: Request) -> set[int]:
    """Every status that the contract leaves for this request."""
    kind, raw = meant(request.run_id)
    if kind == "other":
        return {404}
    offered = {b"GET", b"HEAD", b"OPTIONS"} | ({b"DELETE"} if kind == "run" else set())
    if request.method not in offered:
        return {405}
    if request.method == b"OPTIONS":
        return {200}
    caller = request.caller
    if caller == "wrong":
        return {401}
    may_be_refused = {400} if b"?" in request.target else set()
    if kind == "list":
        return {401} if caller == "nobody" else {200} | may_be_refused
    if request.method == b"DELETE" and caller == "nobody":
        return {401}
    try:
        raw.decode()
        possible = POSSIBLE_ID.fullmatch(raw) is not None
    except UnicodeDecodeError:
        possible = None  # Django hides bytes that are not UTF-8
    if possible is False:
        return {400}
    run_id = raw.decode("ascii", "replace")
    if request.method == b"DELETE":
        found = _of_delete(request, run_id)
    elif run_id not in world.RUNS:
        found = {401 if caller == "nobody" else 404}
    elif world.may_read(caller, run_id):
        found = {200}
    else:
        found = {401 if caller == "nobody" else 403}
    return found | may_be_refused | ({400} if possible is None else set())


def _of_delete(request: Request, run_id: str) -> set[int]:
    unfit = request.is_cut or request.body_is_fit is False
    if unfit:
        return {400}
    may_be_unfit = {400} if request.body_is_fit is None else set()
    if run_id not in world.RUNS:
        return {404} | may_be_unfit
    if not world.owns(request.caller, run_id):
        return {403} | may_be_unfit
    return ({204} if world.is_finished(run_id) else {400}) | may_be_unfit


def judge(request: Request, answer: Any, before: dict[str, Any], after: dict[str, Any]) -> None:
    status, headers, body = answer
    assert status in expected(request), (status, body, expected(request))
    gone = before.keys() - after.keys()
    if status == 204:
        run_id = meant(request.run_id)[1].decode()
        assert request.method == b"DELETE"
        assert gone == {run_id}
        assert world.owns(request.caller, run_id)
        assert world.is_finished(run_id)
        assert body == b""
    assert after == {
        run_id: run for run_id, run in before.items() if status != 204 or run_id not in gone
    }
    if status != 204:
        assert headers["Content-Type"] == "application/json"
    if status >= 400 and request.method != b"HEAD":
        error = json.loads(body)
        assert error.keys() == {"error"}
        assert error["error"].keys() == {"type", "message"}
        assert error["error"]["type"] in TYPES[status]
    limited = (
        status not in (405,)
        and request.method != b"OPTIONS"
        and meant(request.run_id)[0] != "other"
    )
    assert (headers["X-RateLimit-Limit"] == "1000000") == limited
    assert (headers["WWW-Authenticate"] is not None) == (status == 401)
    offered = status == 405 or (request.method == b"OPTIONS" and status == 200)
    assert (headers["Allow"] is not None) == offered
    if status == 200 and request.method == b"GET":
        data = json.loads(body)["data"]
        if request.run_id is None:
            assert data["count"] == len(data["items"]) <= data["limit"] <= 1000
            assert all(world.owns(request.caller, item["id"]) for item in data["items"])
        else:
            assert data["id"] == meant(request.run_id)[1].decode()
            assert ("usageTotalUsd" in data) == world.owns(request.caller, data["id"])


def fuzz(port: int, seconds: float) -> Counter[Any]:
    """Send requests until the time is up; return how many of each answer came."""
    deadline = time.monotonic() + seconds
    answers: Counter[Any] = Counter()

    @settings(
        max_examples=300,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    @given(request=requests())
    def every_answer_is_in_the_contract(request: Request) -> None:
        before = world.rows()
        answer = ask(port, request)
        after = world.rows()
        for run_id in before.keys() - after.keys():
            world.create_run(run_id)
        answers[answer[0] if answer else "none"] += 1
        if answer is None:
            assert request.is_cut or len(request.body) > 100_000, "no answer"
            assert after == before
        else:
            judge(request, answer, before, after)

    number = 0
    while time.monotonic() < deadline:
        seed(time.time_ns() + number)(every_answer_is_in_the_contract)()
        number += 1
    return answers
