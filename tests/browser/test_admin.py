"""Staff at work: the demo project's admin in a real Chromium, by mouse, by keyboard, on a phone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from project.demo_data import FAILED_RUN, RUNNING_RUN, SUCCEEDED_RUN
from tests.demo_server import ROOT, demo_server

IMAGES = ROOT / "docs" / "images"
LIST = "/admin/actor_runs/run/"
WIDE = {"width": 1440, "height": 900}
NARROW = {"width": 390, "height": 844}

Desk = Callable[..., Page]


@pytest.fixture
def desk(browser: Browser, tmp_path: Path) -> Iterator[Desk]:
    """A function that logs in to a fresh demo, as another person each time; returns a page.

    In the end the console must have had no errors, and the server neither.
    """
    faults: list[str] = []
    contexts = []

    with demo_server(tmp_path) as demo:

        def sit_down(theme: Any = "light", viewport: Any = WIDE) -> Page:
            context = browser.new_context(
                base_url=demo.site, color_scheme=theme, viewport=viewport, locale="en-GB"
            )
            contexts.append(context)
            # Browsers ask for it on their own, and the demo project has none.
            context.route("**/favicon.ico", lambda route: route.fulfill(status=204))
            page = context.new_page()
            page.on(
                "console",
                lambda message: (
                    faults.append(message.text) if message.type in ("error", "warning") else None
                ),
            )
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.goto(f"/admin/login/?next={LIST}")
            page.get_by_label("Username:").fill("admin")
            page.get_by_label("Password:").fill("admin")
            page.get_by_role("button", name="Log in").click()
            expect(page.locator("h1", has_text="Select run to change")).to_be_visible()
            return page

        yield sit_down
        for context in contexts:
            context.close()
    assert faults == []
    log = (tmp_path / "server.log").read_text()
    assert "Traceback" not in log
    # The icon is asked for past the route now and then.
    assert not re.findall(r'(?<!/favicon\.ico HTTP/1\.1)" (?:404|5\d\d) ', log)


def rows(page: Page) -> Locator:
    return page.locator("#result_list tbody tr")


def run_page(page: Page, run_id: str) -> None:
    page.goto(LIST)
    page.get_by_role("link", name=run_id).click()
    expect(page.get_by_role("heading", name=run_id)).to_be_visible()


def moves(page: Page) -> Locator:
    return page.get_by_role("group", name="Set to:").get_by_role("button")


def delete_link(page: Page) -> Locator:
    """A link or a button, as the version of Django has it."""
    return page.locator(".submit-row .deletelink")


def said(page: Page) -> Locator:
    return page.locator(".messagelist li")


def test_the_list_can_be_read_at_a_glance(desk):
    page = desk()
    expect(rows(page)).to_have_count(13)
    failed = rows(page).filter(has_text=FAILED_RUN)
    expect(failed.locator(".run-status")).to_have_text("Failed")
    expect(failed).to_contain_text("17 seconds")
    expect(failed).to_contain_text("2 Mar 2025")
    expect(failed.get_by_role("link", name="alice")).to_have_attribute(
        "href", re.compile("/admin/auth/user/")
    )
    started = rows(page).locator(".field-started").all_inner_texts()
    assert started[0].startswith("6 Mar 2025 8:30")
    assert started[-1].startswith("30 Nov 2019")
    page.locator("th.column-started").get_by_text("Started").click()
    expect(rows(page).first).to_contain_text(SUCCEEDED_RUN)


def test_filters_and_search_narrow_the_list(desk):
    page = desk()
    filters = page.locator("#changelist-filter")
    filters.get_by_role("link", name="Not finished").click()
    expect(rows(page)).to_have_count(6)
    filters.get_by_role("link", name="An organization").click()
    expect(rows(page)).to_have_count(1)
    expect(rows(page)).to_contain_text("Acme")
    filters.get_by_role("link", name="Clear all filters").click()
    expect(rows(page)).to_have_count(13)
    page.locator("#searchbar").fill(RUNNING_RUN)
    page.get_by_role("button", name="Search").click()
    expect(rows(page)).to_have_count(1)
    page.locator("#searchbar").fill("bob")
    page.get_by_role("button", name="Search").click()
    expect(rows(page)).to_have_count(3)


def test_a_legal_move_is_made_and_only_legal_ones_are_seen(desk):
    page = desk()
    run_page(page, RUNNING_RUN)
    expect(moves(page)).to_have_text(
        ["Succeeded", "Failed", "Timing out", "Timed out", "Aborting", "Aborted"]
    )
    page.get_by_role("button", name="Aborting").click()
    expect(said(page)).to_have_text("The run is now: Aborting.")
    expect(moves(page)).to_have_text(["Aborted", "Failed"])
    page.get_by_role("button", name="Aborted").click()
    expect(page.locator(".run-summary .run-status")).to_have_text("Aborted")
    expect(moves(page)).to_have_text(["Ready", "Running"])
    page.get_by_role("link", name="History").click()
    expect(page.locator("#change-history")).to_contain_text("RUNNING → ABORTING")


def test_a_lost_race_is_a_message(desk):
    mine, theirs = desk(), desk()
    for page in (mine, theirs):
        run_page(page, RUNNING_RUN)
    theirs.get_by_role("button", name="Timing out").click()
    expect(said(theirs)).to_have_text("The run is now: Timing out.")
    # Still a legal step, but not from what my page shows.
    mine.get_by_role("button", name="Failed").click()
    expect(said(mine)).to_have_text(
        "The run was changed meanwhile, and is now: Timing out. Nothing was done."
    )
    expect(mine.locator(".run-summary .run-status")).to_have_text("Timing out")


def test_one_finished_run_is_deleted(desk):
    page = desk()
    run_page(page, RUNNING_RUN)
    expect(delete_link(page)).to_have_count(0)
    run_page(page, FAILED_RUN)
    delete_link(page).click()
    page.get_by_role("button", name="Yes, I").click()
    expect(said(page)).to_contain_text("was deleted successfully")
    expect(rows(page)).to_have_count(12)
    expect(rows(page).filter(has_text=FAILED_RUN)).to_have_count(0)


def test_of_a_mixed_selection_the_finished_runs_are_deleted(desk):
    page = desk()
    for run_id in (SUCCEEDED_RUN, FAILED_RUN, RUNNING_RUN):
        rows(page).filter(has_text=run_id).get_by_role("checkbox").check()
    page.get_by_label("Action:").select_option("Delete the selected runs, if finished")
    page.locator(".actions").get_by_role("button").click()
    content = page.locator("#content")
    expect(content).to_contain_text("2 runs will be deleted, for good.")
    expect(content).to_contain_text("1 run is kept, since it is not finished.")
    page.get_by_role("button", name="Yes, I").click()
    expect(said(page)).to_have_text(
        ["2 runs were deleted.", "1 run was kept, since it is not finished."]
    )
    expect(rows(page)).to_have_count(11)
    expect(rows(page).filter(has_text=RUNNING_RUN)).to_have_count(1)


def test_the_question_can_be_refused(desk):
    page = desk()
    page.get_by_role("checkbox", name="Select all objects on this page").check()
    page.get_by_label("Action:").select_option("Delete the selected runs, if finished")
    page.locator(".actions").get_by_role("button").click()
    expect(page.locator("#content")).to_contain_text("7 runs will be deleted")
    page.get_by_role("button", name="No, take me back").click()
    expect(rows(page)).to_have_count(13)


def test_a_run_is_added_for_an_owner_who_is_looked_up(desk):
    page = desk()
    page.get_by_role("link", name="Add run").click()
    page.locator(".fieldBox.field-user .select2-selection").click()
    page.locator(".select2-search__field").fill("ali")
    page.get_by_role("option", name="alice").click()
    page.get_by_role("button", name="Save", exact=True).click()
    expect(said(page)).to_contain_text("was added successfully")
    expect(rows(page)).to_have_count(14)
    expect(rows(page).first).to_contain_text("alice")
    expect(rows(page).first).to_contain_text("Ready")


def test_the_keyboard_is_enough(desk):
    page = desk()

    def tab_to(target: Locator) -> None:
        for _ in range(200):
            page.keyboard.press("Tab")
            if target.evaluate("element => element === document.activeElement"):
                return
        raise AssertionError(f"The keyboard does not reach {target}")

    tab_to(page.locator("#changelist-filter").get_by_role("link", name="Running"))
    page.keyboard.press("Enter")
    expect(rows(page)).to_have_count(3)
    tab_to(page.get_by_role("link", name=RUNNING_RUN))
    page.keyboard.press("Enter")
    tab_to(page.get_by_role("button", name="Succeeded"))
    outline = moves(page).first.evaluate(
        "button => getComputedStyle(button).outlineStyle + getComputedStyle(button).boxShadow"
    )
    assert outline != "nonenone"
    page.keyboard.press("Enter")
    expect(said(page)).to_have_text("The run is now: Succeeded.")
    tab_to(page.get_by_role("group").filter(has_text="Details").locator("summary"))
    page.keyboard.press("Enter")
    expect(page.locator(".fieldBox.field-meta .run-json")).to_be_visible()


@pytest.mark.parametrize("run_id", [None, RUNNING_RUN])
def test_a_phone_is_enough(desk, run_id):
    page = desk(viewport=NARROW)
    if run_id is not None:
        run_page(page, run_id)
        for summary in page.locator("summary").all():
            summary.click()
    # What is wider than the page can be moved within its own frame, not the page with it.
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
    targets = moves(page) if run_id else page.locator("#changelist-search input[type=submit]")
    assert targets.count()
    for target in targets.all():
        box = target.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= NARROW["width"]
        assert box["height"] >= 24
    if run_id is None:
        page.get_by_role("link", name=RUNNING_RUN).click()
    page.get_by_role("button", name="Failed").click()
    expect(said(page)).to_have_text("The run is now: Failed.")


def luminance(colour: str) -> float:
    """As WCAG 2 defines it, of what a browser computed: rgb(0, 0, 0)."""
    channels = [int(each) / 255 for each in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_badges_can_be_read_in_both_themes(desk, theme):
    page = desk(theme)
    seen = page.locator(".run-status").evaluate_all(
        "badges => badges.map(badge => [badge.dataset.status, getComputedStyle(badge).color,"
        " getComputedStyle(badge).backgroundColor])"
    )
    assert len({status for status, _, _ in seen}) == 8
    for status, *colours in seen:
        darker, lighter = sorted(map(luminance, colours))
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, status
    ground = page.locator("body").evaluate("body => getComputedStyle(body).backgroundColor")
    assert (luminance(ground) > 0.5) == (theme == "light")


def test_the_screenshots_of_the_readme(desk):
    IMAGES.mkdir(parents=True, exist_ok=True)
    for theme in ("light", "dark"):
        page = desk(theme, {"width": 1280, "height": 760})
        page.get_by_role("button", name="Toggle navigation").click()
        if theme == "dark":
            run_page(page, RUNNING_RUN)
        page.evaluate("scrollTo(0, 0)")
        page.mouse.move(0, 0)
        page.screenshot(path=IMAGES / f"admin-{theme}.png", animations="disabled")
    for name in ("admin-light.png", "admin-dark.png"):
        assert 20_000 < (IMAGES / name).stat().st_size < 200_000
