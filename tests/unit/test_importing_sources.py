"""Whatever a file holds, reading it ends, in bounded memory, and names what is broken."""

from __future__ import annotations

import gzip
import io
import json
from typing import Any

import pytest
from django.core.exceptions import ValidationError

from actor_runs.importing import sources
from actor_runs.importing.sources import read_export
from tests.support.commands import PRINT_MEMORY, python

RUN = {"id": "x", "actId": "y"}
LINE = json.dumps(RUN)


def read(content: bytes | str, name: str = "runs.json") -> list[tuple[str, Any]]:
    """Return the records of a file: places, and run objects or messages."""
    stream = io.BytesIO(content if isinstance(content, bytes) else content.encode())
    return [
        (place, record.messages[0] if isinstance(record, ValidationError) else record)
        for place, record in read_export(stream, name)
    ]


# Files


def test_a_document_may_be_spread_over_lines_and_begin_with_blank_ones():
    for value, places in [(RUN, [""]), ([RUN, RUN], ["[0]", "[1]"]), ({"data": RUN}, [""])]:
        content = "\n\n" + json.dumps(value, indent=1)
        assert read(content) == [(f"runs.json:3{place}", RUN) for place in places]


def test_each_line_of_json_lines_is_a_run_an_array_or_a_page():
    page = {"data": {"total": 1, "items": [RUN]}}
    content = "\n".join([LINE, "", json.dumps([RUN, RUN]), json.dumps(page)])
    assert [place for place, _ in read(content)] == [
        *("runs.json:1", "runs.json:3[0]", "runs.json:3[1]", "runs.json:4[0]")
    ]


def test_a_webhook_payload_holds_the_run_as_its_resource():
    payload = {"eventType": "ACTOR.RUN.SUCCEEDED", "eventData": {"actorRunId": "x"}}
    for extra in ({}, {"id": "of the dispatch"}, {"userId": "u", "createdAt": "t"}):
        assert read(json.dumps(payload | extra | {"resource": RUN})) == [("runs.json:1", RUN)]


@pytest.mark.parametrize(
    "first", ['{"id": "cut', "{", '{"id": NaN}', "id,status", b"\xff\xfe".decode("latin-1")]
)
def test_a_broken_first_line_is_named_and_the_other_lines_are_read(first):
    (place, message), *others = read(f"{first}\n{LINE}\n{LINE}\n")
    assert (place, message.startswith("This is not JSON: ")) == ("runs.json:1", True)
    assert others == [("runs.json:2", RUN), ("runs.json:3", RUN)]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ('[\n{"id": "x"}\n,\n{"id": }\n]', 4),
        ('{"data":\n{"id": "x"}', 2),
        ('[{"id": "x"},\n\n\n{"id": "x"}', 4),
        ("id,status\n1,SUCCEEDED\n2,FAILED\n", 1),
    ],
)
def test_a_broken_document_is_named_once_with_the_line_of_the_error(content, line):
    ((place, message),) = read(content)
    assert place == "runs.json:1"
    assert f"(line {line}, column" in message


def test_the_last_of_repeated_keys_counts():
    assert read('{"id": "a", "actId": "y", "id": "x"}') == [("runs.json:1", RUN)]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "latin-1"])
def test_another_encoding_than_utf_8_is_refused_once(encoding):
    ((_, message),) = read(json.dumps(RUN | {"name": "\xe9"}, ensure_ascii=False).encode(encoding))
    assert message.startswith("This is not JSON: ")


def test_the_mark_that_some_editors_begin_utf_8_with_is_ignored():
    assert read(f"\ufeff{LINE}\n{LINE}") == [("runs.json:1", RUN), ("runs.json:2", RUN)]


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000,
        b'{"":' * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b"9" * 5000,
        b"\0" * 1000,
        b"\x1f\x8b",
        gzip.compress(gzip.compress(LINE.encode())),
    ],
    ids=["arrays", "objects", "closed", "digits", "nul", "gzip", "gzip in gzip"],
)
def test_what_cannot_be_parsed_is_refused_once(content):
    name = "runs.json.gz" if content.startswith(b"\x1f\x8b\x08") else "runs.json"
    ((_, message),) = read(content, name)
    assert message.startswith("This is not JSON: ")


@pytest.mark.parametrize("length", [1, 20, 60])
def test_a_file_that_cannot_be_read_to_its_end_is_named_after_its_lines(length):
    content = gzip.compress(f"{LINE}\n{LINE}\n".encode())
    ((_, message),) = read(content[: -len(content) + length], "runs.json.gz")[-1:]
    assert message.startswith("This cannot be read any further: ")


@pytest.mark.parametrize(("indent", "end"), [(1, -8), (100_000, 60)])  # 60: in its second line
def test_a_document_that_cannot_be_read_to_its_end_is_refused(indent, end):
    content = gzip.compress(json.dumps([RUN] * 3, indent=indent).encode())
    ((place, message),) = read(content[:end], "runs.json.gz")
    assert (place, message[:16]) == ("runs.json.gz:1", "This cannot be r")


def test_a_line_that_is_too_large_is_passed_over(monkeypatch):
    monkeypatch.setattr(sources, "MAX_BYTES", 60)
    monkeypatch.setattr(sources, "SKIPPED_AT_ONCE", 7)
    too_large = json.dumps(RUN | {"long": "x" * 100})
    for content in ([LINE, too_large, LINE], [too_large, LINE], [LINE, too_large]):
        records = read("\n".join(content))
        assert [record == RUN for _, record in records] == [line == LINE for line in content]
        assert all("larger than" in record for _, record in records if record != RUN)


DENSE = {
    "objects": ("[", '{"":{}},', 4_000_000),
    "arrays": ("[", "[[]],", 3_000_000),
    "lines of an array": ("[\n", "0,\n", 11_000_000),
    "lines of nothing": ("", "0,\n", 11_000_000),
    "a run": ('{"id":"x","meta":{"origin":"API","a":[', '{"":{}},', 1_900_000),
}
READ = """
import sys
from actor_runs.importing.sources import read_export
for path in sys.argv[1:]:
    (record,) = read_export(open(path, "rb"), path)
    assert "larger than" in str(record), record
"""


def test_what_is_small_as_json_and_large_in_memory_is_refused(tmp_path):
    paths = [str(tmp_path / f"{kind}.json.gz") for kind in DENSE]
    for path, (begin, repeated, number) in zip(paths, DENSE.values(), strict=True):
        with gzip.open(path, "wb", 1) as file:
            file.write(begin.encode() + repeated.encode() * number)

    child = python(READ + PRINT_MEMORY, *paths)

    assert child.returncode == 0, child.stderr
    assert int(child.stdout) < 250  # MiB
