"""Staff at work: the demo project's admin in a real Chromium, by mouse, by keyboard, on a phone."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Dialog, Locator, Page, Route, expect

from actor_runs.enums import RunStatus
from project.demo_data import FAILED_RUN, RUNNING_RUN, SUCCEEDED_RUN
from tests.support.desk import LIST

NARROW = {"width": 390, "height": 844}


def rows(page: Page) -> Locator:
    return page.locator("#result_list tbody tr")


def found(page: Page, term: str) -> Locator:
    """Search the list; return its rows."""
    page.goto(f"{LIST}?q={term}")
    return rows(page)


def run_page(page: Page, run_id: str) -> None:
    page.goto(f"{LIST}{run_id}/change/")
    expect(page.get_by_role("heading", name=run_id)).to_be_visible()


def transitions(page: Page) -> Locator:
    return page.get_by_role("group", name="Transitions").get_by_role("button")


def choose_action(page: Page, name: str) -> None:
    page.get_by_label("Action:").select_option(name)
    page.get_by_title("Run the selected action").click()


def said(page: Page) -> Locator:
    return page.locator(".messagelist li")


def test_the_list_can_be_read_at_a_glance(desk):
    page = desk()
    expect(rows(page)).to_have_count(100)
    page.locator("th.column-started").get_by_text("Started").click()
    expect(rows(page).first).to_contain_text(SUCCEEDED_RUN)
    expect(rows(page).first.locator(".field-started")).to_contain_text("30 Nov 2019")
    failed = found(page, FAILED_RUN)
    expect(failed.locator(".run-status")).to_have_text("Failed")
    expect(failed).to_contain_text("17 seconds")
    expect(failed.locator(".field-started")).to_contain_text("2 Mar 2025")
    expect(failed.get_by_role("link", name="alice")).to_have_attribute(
        "href", re.compile("/admin/auth/user/")
    )


def test_filters_and_search_narrow_the_list(desk):
    page = desk()
    filters = page.locator("#changelist-filter")
    filters.get_by_role("link", name="Not finished").click()
    page.wait_for_url("**/?status=unfinished")
    unfinished = rows(page).count()
    filters.get_by_role("link", name="An organization").click()
    page.wait_for_url("**/?owner=organization*")
    expect(rows(page).first.locator(".field-owner")).to_contain_text("organization")
    assert 0 < rows(page).count() < unfinished
    filters.get_by_role("link", name="Clear all filters").click()
    filters.get_by_label("From:").fill("2025-03-02")
    filters.get_by_label("To:").fill("2025-03-02")
    filters.get_by_label("To:").press("Enter")
    expect(rows(page)).to_have_count(1)
    expect(rows(page)).to_contain_text(FAILED_RUN)
    actor = rows(page).locator(".field-actor").inner_text()
    filters.get_by_label("Actor ID:").fill(actor)
    filters.get_by_label("Actor ID:").press("Enter")
    expect(rows(page)).to_have_count(1)
    filters.get_by_label("To:").fill("2025-03-01")
    filters.get_by_label("To:").press("Enter")
    expect(said(page)).to_have_text("The range ends before it begins.")


def test_filters_work_in_a_page_of_the_host_that_has_no_forms_for_them(desk):
    page = desk()

    def drop_forms(route: Route) -> None:
        response = route.fetch()
        body = re.sub(r'(?s)<form method="get" id="filter-.*?</form>', "", response.text())
        route.fulfill(response=response, body=body)

    page.route(re.compile(re.escape(LIST) + r"(\?.*)?$"), drop_forms)
    page.goto(f"{LIST}?status=FAILED&since=2025-03-01")
    assert page.locator("form[id^=filter-]").count() == 2
    filters = page.locator("#changelist-filter")
    filters.get_by_label("From:").fill("2025-03-02")
    filters.get_by_label("To:").fill("2025-03-02")
    filters.get_by_label("To:").press("Enter")
    page.wait_for_url("**/?since=2025-03-02&until=2025-03-02&status=FAILED")
    expect(rows(page)).to_have_count(1)
    expect(rows(page)).to_contain_text(FAILED_RUN)


def test_a_run_is_aborted_and_resurrected(desk):
    page = desk()
    run_page(page, RUNNING_RUN)
    expect(transitions(page)).to_have_text(
        [
            "Finish as succeeded",
            "Finish as failed",
            "Time out",
            "Finish as timed out",
            "Abort",
            "Finish as aborted",
        ]
    )
    page.get_by_role("button", name="Abort", exact=True).click()
    expect(said(page)).to_have_text("The run is now: Aborting.")
    expect(transitions(page)).to_have_text(["Finish as aborted", "Finish as failed"])
    page.get_by_role("button", name="Finish as aborted").click()
    expect(page.locator(".run-summary .run-status")).to_have_text("Aborted")
    page.get_by_role("button", name="Resurrect", exact=True).click()
    expect(page.locator("#content")).to_contain_text("If it is resurrected, it loses:")
    page.get_by_role("button", name="No, take me back").click()
    expect(page.locator(".run-summary .run-status")).to_have_text("Aborted")
    page.get_by_role("button", name="Resurrect", exact=True).click()
    page.get_by_role("button", name="Resurrect", exact=True).click()
    expect(said(page)).to_have_text("The run is now: Ready.")
    page.get_by_role("link", name="History").click()
    expect(page.locator("#change-history")).to_contain_text("RUNNING → ABORTING")


def test_unsaved_changes_are_not_lost_without_a_word(desk):
    page = desk()
    run_page(page, RUNNING_RUN)
    branch = page.get_by_label("Git branch name:")
    branch.fill("unsaved")
    asked = []

    def refuse(dialog: Dialog) -> None:
        asked.append(dialog.message)
        dialog.dismiss()

    page.once("dialog", refuse)
    page.get_by_role("button", name="Abort", exact=True).click()
    assert asked == ["Your changes on this page are not saved yet, and will be lost. Continue?"]
    expect(branch).to_have_value("unsaved")
    expect(page.locator(".run-summary .run-status")).to_have_text("Running")
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Abort", exact=True).click()
    expect(said(page)).to_have_text("The run is now: Aborting.")


def test_a_lost_race_is_a_message(desk):
    mine, theirs = desk(), desk()
    for page in (mine, theirs):
        run_page(page, RUNNING_RUN)
    theirs.get_by_role("button", name="Time out", exact=True).click()
    expect(said(theirs)).to_have_text("The run is now: Timing out.")
    # Still a legal transition, but not from what my page shows.
    mine.get_by_role("button", name="Finish as failed").click()
    expect(said(mine)).to_have_text(
        "The run was changed meanwhile, and is now: Timing out. Nothing was done."
    )
    expect(mine.locator(".run-summary .run-status")).to_have_text("Timing out")


def test_finished_runs_are_deleted_one_by_one_and_many_at_once(desk):
    page = desk()
    # A link or a button, as the version of Django has it.
    delete_link = page.locator(".submit-row .deletelink")
    run_page(page, RUNNING_RUN)
    expect(delete_link).to_have_count(0)
    run_page(page, FAILED_RUN)
    delete_link.click()
    page.get_by_role("button", name="Yes, I").click()
    expect(said(page)).to_contain_text("was deleted successfully")
    expect(found(page, FAILED_RUN)).to_have_count(0)
    page.goto(f"{LIST}?until=2019-12-31")
    everything = rows(page).count()
    page.get_by_role("checkbox", name="Select all objects on this page").check()
    choose_action(page, "Delete the selected runs, if finished")
    expect(page.locator("#content")).to_contain_text("will be deleted. This cannot be undone.")
    page.get_by_role("button", name="No, take me back").click()
    expect(rows(page)).to_have_count(everything)
    page.goto(f"{LIST}?until=2019-12-31")  # what was chosen may be chosen still, if one goes back
    rows(page).filter(has_text=SUCCEEDED_RUN).get_by_role("checkbox").check()
    choose_action(page, "Delete the selected runs, if finished")
    page.get_by_role("button", name="Yes, I").click()
    expect(said(page)).to_have_text("1 run was deleted.")
    expect(rows(page)).to_have_count(everything - 1)


def test_what_is_stuck_is_aborted(desk):
    page = desk()
    page.goto(f"{LIST}?status=unfinished")
    everything = rows(page).count()
    page.get_by_role("checkbox", name="Select all objects on this page").check()
    choose_action(page, "Abort the selected runs, if not finished")
    expect(said(page)).to_contain_text("runs were aborted.")
    assert rows(page).count() < everything


def test_a_run_is_added_for_an_owner_who_is_looked_up(desk):
    page = desk()
    page.get_by_role("link", name="Add run").click()
    page.locator(".field-user .select2-selection").click()
    page.locator(".select2-search__field").fill("ali")
    page.get_by_role("option", name="alice").click()
    page.get_by_role("button", name="Save", exact=True).click()
    expect(said(page)).to_contain_text("was added successfully")
    expect(rows(page).first).to_contain_text("alice")
    expect(rows(page).first).to_contain_text("Ready")


def test_an_owners_page_leads_to_the_owners_runs(desk):
    page = desk()
    found(page, FAILED_RUN).get_by_role("link", name="alice").click()
    page.locator(".object-tools").get_by_role("link", name="Runs").click()
    expect(page.locator("#changelist-filter .selected").get_by_text("alice")).to_be_visible()
    assert set(rows(page).locator(".field-owner").all_inner_texts()) == {"alice"}


def test_selected_runs_are_downloaded(desk):
    page = desk()
    expect(found(page, "bob")).to_have_count(3)
    page.get_by_role("checkbox", name="Select all objects on this page").check()
    with page.expect_download() as download:
        choose_action(page, "Export the selected runs as JSON Lines")
    assert download.value.suggested_filename.endswith(".jsonl")
    assert len(download.value.path().read_text().splitlines()) == 3


def test_the_overview_leads_to_another_range_and_to_what_is_unfinished(desk):
    page = desk()
    page.get_by_role("link", name="Overview").click()
    expect(page.get_by_role("img", name="Runs a day and their outcome")).to_be_visible()
    page.get_by_label("From:").fill("2025-03-01")
    page.get_by_label("To:").fill("2025-03-06")
    page.get_by_role("button", name="Show").click()
    page.get_by_text("The numbers of each day").click()
    expect(page.get_by_role("row", name="All days")).to_contain_text("12")
    page.get_by_role("link", name=RUNNING_RUN).click()
    expect(page.get_by_role("heading", name=RUNNING_RUN)).to_be_visible()


def test_the_keyboard_is_enough_from_the_login_to_an_aborted_run(desk):
    page = desk(log_in=False)

    def tab_to(target: Locator) -> None:
        for _ in range(200):
            page.keyboard.press("Tab")
            if target.evaluate("element => element === document.activeElement"):
                return
        raise AssertionError(f"The keyboard does not reach {target}")

    page.keyboard.type("admin")
    page.keyboard.press("Tab")
    page.keyboard.type("admin")
    page.keyboard.press("Enter")
    tab_to(page.locator("#searchbar"))
    page.keyboard.type(RUNNING_RUN)
    page.keyboard.press("Enter")
    expect(rows(page)).to_have_count(1)
    tab_to(page.get_by_role("link", name=RUNNING_RUN))
    page.keyboard.press("Enter")
    tab_to(page.get_by_role("button", name="Finish as aborted"))
    outline = transitions(page).last.evaluate(
        "button => getComputedStyle(button).outlineStyle + getComputedStyle(button).boxShadow"
    )
    assert outline != "nonenone"
    page.keyboard.press("Enter")
    expect(said(page)).to_have_text("The run is now: Aborted.")
    tab_to(page.get_by_role("group").filter(has_text="Details").locator("summary"))
    page.keyboard.press("Enter")
    expect(page.locator(".field-meta .run-json")).to_be_visible()


def luminance(colour: str) -> float:
    """As WCAG 2 defines it, of what a browser computed: rgb(0, 0, 0)."""
    channels = [int(each) / 255 for each in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_badges_can_be_read_in_both_themes(desk, theme):
    page = desk(theme)
    for status in RunStatus.values:
        page.goto(f"{LIST}?status={status}")
        badge = rows(page).locator(".run-status").first
        colours = badge.evaluate(
            "badge => [getComputedStyle(badge).color, getComputedStyle(badge).backgroundColor]"
        )
        darker, lighter = sorted(map(luminance, colours))
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, status
    ground = page.locator("body").evaluate("body => getComputedStyle(body).backgroundColor")
    assert (luminance(ground) > 0.5) == (theme == "light")
