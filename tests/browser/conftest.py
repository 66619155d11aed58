"""These tests need a browser: they are run by ``make test-browser``, with settings of their own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from tests.support.desk import Desk, desk_at_a_fresh_demo

collect_ignore_glob = [] if settings.SETTINGS_MODULE == "tests.browser.settings" else ["test_*"]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    # Not above: this file is read by `make test` too, which does without.
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    assert chromium, "Debian's chromium is not installed: apt-get install chromium"
    with sync_playwright() as playwright:
        # Without the sandbox, since containers have none and root may not use it.
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def desk(browser: Any, tmp_path: Path) -> Iterator[Desk]:
    with desk_at_a_fresh_demo(browser, tmp_path) as desk:
        yield desk


@pytest.fixture(scope="module")
def shared_desk(browser: Any, tmp_path_factory: Any) -> Iterator[Desk]:
    """A desk for tests that change nothing."""
    with desk_at_a_fresh_demo(browser, tmp_path_factory.mktemp("demo")) as desk:
        yield desk
