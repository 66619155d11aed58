"""These tests need a browser: they are run by ``make test-browser``, with settings of their own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings

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
