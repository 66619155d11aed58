"""The demo project's page of the OpenAPI document: requests sent from it, in a real Chromium."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from project.demo_data import ALICE_TOKEN, FAILED_RUN
from tests.support.demo_server import demo_server


@pytest.fixture
def page(browser: Browser, tmp_path: Path) -> Iterator[Page]:
    """The page, open. In the end its console must be empty, and nobody else been asked."""
    said: list[str] = []
    asked: list[str] = []
    with demo_server(tmp_path) as demo:
        context = browser.new_context(base_url=demo.site, locale="en-GB")
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto("/schema/ui/")
        yield page
        context.close()
        assert len(asked) >= 6  # the page, its files, the document
        assert [url for url in asked if not url.startswith((f"{demo.site}/", "data:"))] == []
    assert said == []
    assert "Traceback" not in (tmp_path / "server.log").read_text()


def authorize(page: Page) -> None:
    page.get_by_role("button", name="Authorize").click()
    dialog = page.locator(".modal-ux")
    dialog.get_by_role("textbox").fill(ALICE_TOKEN)
    dialog.get_by_role("button", name="Apply credentials").click()
    dialog.get_by_role("button", name="Close").last.click()
    expect(dialog).to_have_count(0)


def send(page: Page, operation: str, run_id: str) -> Locator:
    """Try an operation out; return the part of the page that shows the answer."""
    block = page.locator(f"[id$={operation}]")
    block.get_by_role("button", expanded=False).first.click()
    block.get_by_role("button", name="Try it out").click()
    block.get_by_placeholder("runId").fill(run_id)
    block.get_by_role("button", name="Execute").click()
    return block.locator(".live-responses-table .response")


def test_the_page_shows_the_three_operations(page):
    expect(page.locator(".opblock-summary-description")).to_have_text(
        ["List runs", "Get run", "Delete run"]
    )


def test_a_run_is_read_and_deleted_from_the_page(page):
    authorize(page)
    answer = send(page, "v2_actor_runs_retrieve", FAILED_RUN)
    expect(answer.locator(".response-col_status")).to_have_text("200")
    run = json.loads(answer.locator(".highlight-code code").inner_text())["data"]
    assert (run["id"], run["status"]) == (FAILED_RUN, "FAILED")
    expect(answer).to_contain_text("x-ratelimit-limit: 60")
    answer = send(page, "v2_actor_runs_destroy", FAILED_RUN)
    expect(answer.locator(".response-col_status")).to_have_text("204")
    gone = page.request.get(
        f"/v2/actor-runs/{FAILED_RUN}", headers={"Authorization": f"Bearer {ALICE_TOKEN}"}
    )
    assert gone.status == 404
