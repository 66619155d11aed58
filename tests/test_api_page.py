"""docs/api.md: its answers are the server's own, and its tables leave nothing out."""

from __future__ import annotations

import re

import pytest

from actor_runs.conf import DEFAULTS
from actor_runs.exceptions import ERRORS, OperationNotAllowed
from tests.api_page import ASKED_AND_ANSWERED, PAGE, answered
from tests.demo_server import demo_server


@pytest.mark.demo
def test_every_answer_is_what_the_server_says(tmp_path):
    page = PAGE.read_text()
    assert len(ASKED_AND_ANSWERED.findall(page)) == 9
    with demo_server(tmp_path) as server:
        assert answered(page, server.site) == page, "Run: python -m tests.api_page"


def test_every_error_has_its_row():
    rows = re.findall(
        r"^\| (\d{3}) \| `([a-z-]+)` \| ([^|]+) \| ([^|]+) \|$", PAGE.read_text(), re.M
    )
    known = {(str(status), error_type) for status, (error_type, _) in ERRORS.items()}
    known |= {("400", OperationNotAllowed.default_code), ("400", "cannot-remove-running-run")}
    assert {(status, error_type) for status, error_type, *_ in rows} == known
    assert len(rows) == len(known)


def test_the_limits_are_the_defaults():
    page = PAGE.read_text()
    count, period = DEFAULTS["RATE_LIMIT"].split("/")
    assert period == "m"
    assert f"| {count} a minute | `RATE_LIMIT` |" in page
    count, period = DEFAULTS["RUN_RATE_LIMIT"].split("/")
    assert period == "s"
    assert f"| {count} a second | `RUN_RATE_LIMIT`," in page
    assert f"| {DEFAULTS['MAX_WAIT_FOR_FINISH']} | `MAX_WAIT_FOR_FINISH` |" in page
