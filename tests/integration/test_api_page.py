"""docs/reference/api.md: its tables leave nothing out. ``test_demo.py`` has its answers."""

from __future__ import annotations

import re

from actor_runs.conf import DEFAULTS
from actor_runs.exceptions import ERRORS, OperationNotAllowed
from tests.support.api_page import PAGE


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
