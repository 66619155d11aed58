"""Every page of the app in the admin: for everybody, at each width, in each language."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from project.demo_data import FAILED_RUN, RUNNING_RUN
from tests.support.demo_server import ROOT, demo_environment, demo_server
from tests.support.desk import LIST, Desk

IMAGES = ROOT / "docs" / "images"
OVERVIEW = f"{LIST}overview/"
PAGES = {
    "the list": LIST,
    "a list that is filtered": f"{LIST}?status=FAILED&owner=user",
    "an empty list": f"{LIST}?q=nothing",
    "a run that is not finished": f"{LIST}{RUNNING_RUN}/change/",
    "a run that is finished": f"{LIST}{FAILED_RUN}/change/",
    "its history": f"{LIST}{FAILED_RUN}/history/",
    "adding a run": f"{LIST}add/",
    "deleting a run": f"{LIST}{FAILED_RUN}/delete/",
    "the overview": OVERVIEW,
    "a range that cannot be": f"{OVERVIEW}?since=2025-03-02&until=2025-03-01",
    "the page of the app": "/admin/actor_runs/",
}
# Django's own: a search_help_text, and fields with autocompletion, which none of these pages has.
DJANGOS = {
    ("label-title-only", "#searchbar"),
    ("aria-input-field-name", "#select2-id_user-container"),
    ("aria-input-field-name", "#select2-id_organization-container"),
    ("aria-input-field-name", "span > .selection > .select2-selection.select2-selection--single"),
    ("aria-input-field-name", "span"),
}
# Of the same kinds, without anything of the app.
DJANGOS_PAGES = [
    *("/admin/auth/group/", "/admin/auth/group/?q=nothing", "/admin/auth/group/add/"),
    *("/admin/auth/group/1/change/", "/admin/auth/group/1/history/", "/admin/auth/group/1/delete/"),
    *("/admin/auth/user/", "/admin/auth/user/?is_staff__exact=1", "/admin/auth/user/1/change/"),
    "/admin/auth/",
]


def open_everything(page: Page) -> None:
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")


def violations(page: Page) -> Iterator[tuple[str, str]]:
    """Yield what axe finds: the rule, and the element without its attributes."""
    for violation in Axe().run(page).response["violations"]:
        for node in violation["nodes"]:
            yield violation["id"], re.sub(r"\[[^]]*]", "", " ".join(map(str, node["target"])))


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("locale", ["en-GB", "de-DE"])
def test_axe_finds_nothing_that_is_not_djangos_own(shared_desk, theme, locale):
    page = shared_desk(theme, locale=locale)
    djangos = set(DJANGOS)
    for address in DJANGOS_PAGES:
        page.goto(address)
        djangos.update(violations(page))
    found: dict[str, list[tuple[str, str]]] = {}
    for name, address in PAGES.items():
        page.goto(address)
        open_everything(page)
        found[name] = [each for each in violations(page) if each not in djangos]
    questions = {
        "deleting several runs": (f"{LIST}?q=bob", "delete_selected"),
        "resurrecting a run": (f"{LIST}{FAILED_RUN}/change/", None),
    }
    for name, (address, action) in questions.items():
        page.goto(address)
        if action:
            page.locator("#action-toggle").check()
            page.locator(".actions select").select_option(action)
            page.locator(".actions button").click()
        else:
            page.locator(".run-transitions button").first.click()
        page.locator("#content input[type=submit]").wait_for()
        found[name] = [each for each in violations(page) if each not in djangos]
    assert {name: each for name, each in found.items() if each} == {}


# What fits


LONG_VALUES = """
from datetime import timedelta
from django.contrib.auth.models import Group, User
from django.utils import timezone
from actor_runs.models import Run
user = User.objects.create_user("somebody.with.a.long.name@a.subdomain.of.a.company.example.com")
group = Group.objects.create(name="Gesellschaft für Datenverarbeitung und Automatisierung mbH")
now = timezone.now()
Run.objects.create(
    id="x" * 32, user=user, act_id="y" * 64, status="FAILED", status_message="OutOfMemory" * 40,
    usage_total_usd=12345.6789, started_at=now - timedelta(hours=13, minutes=47), exit_code=137,
    git_branch_name="z" * 250, container_url="https://example.com/" + "c" * 500,
    meta={"origin": "API", "userAgent": "u" * 500},
)
for status in ("ABORTING", "TIMED-OUT", "TIMING-OUT", "ABORTED"):
    Run.objects.create(
        organization=group, status=status, status_message="It was stopped since its time was up.",
        started_at=now - timedelta(days=400, hours=11), usage_total_usd=123.4567,
    )
"""
# Elements of the page whose content is wider than they are, or that reach out of the window.
CUT_OFF = """
selector => [...document.querySelectorAll(selector)].filter(element => {
    const box = element.getBoundingClientRect();
    if (!box.width) return false;  // not shown
    return element.scrollWidth > element.clientWidth + 1 || box.left < 0
        || box.right > document.documentElement.clientWidth + 1;
}).map(element => element.className + ": " + element.textContent.trim())
"""


# What begins outside of the frame that is around it.
OUTSIDE_OF_PANEL = """
selector => [...document.querySelectorAll(selector)].filter(element => {
    const panel = element.closest(".run-panel").getBoundingClientRect();
    return element.getBoundingClientRect().left < panel.left;
}).map(element => element.textContent)
"""


@pytest.fixture(scope="module")
def long_values(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A function that opens a page of a demo with long values, in a window of this width."""
    folder = tmp_path_factory.mktemp("demo")
    with demo_server(folder) as demo:
        subprocess.run(
            [sys.executable, "manage.py", "shell", "-c", LONG_VALUES],
            cwd=ROOT,
            env=demo_environment(folder),
            check=True,
        )
        contexts: dict[Any, Page] = {}

        def open_page(path: str, width: int, language: str) -> Page:
            if language not in contexts:
                context = browser.new_context(base_url=demo.site, locale=language)
                page = contexts[language] = context.new_page()
                page.goto("/admin/login/")
                page.locator("#id_username").fill("admin")
                page.locator("#id_password").fill("admin")
                page.locator("[type=submit]").click()
            page = contexts[language]
            page.set_viewport_size({"width": width, "height": 900})
            page.goto(path)
            return page

        yield open_page
        for page in contexts.values():
            page.context.close()


@pytest.mark.parametrize("language", ["en-GB", "de-DE"])
@pytest.mark.parametrize("width", [1920, 1280, 1024, 390])
def test_no_cell_of_the_list_is_cut_off(long_values, width, language):
    page = long_values(LIST, width, language)
    if width > 390:
        expect(page.locator("#nav-sidebar")).to_be_visible()
    expect(page.locator("#result_list .field-run_id").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(CUT_OFF, ".results, #result_list :is(td, th, .run-status)") == []
    # Lines that do not fit end in an ellipsis. The whole is in the title.
    titles = page.locator("#result_list .run-short").evaluate_all(
        "cells => cells.map(cell => cell.title && cell.textContent.startsWith(cell.title))"
    )
    assert titles
    assert all(titles)


@pytest.mark.parametrize("language", ["en-GB", "de-DE"])
@pytest.mark.parametrize("width", [1920, 1280, 1024, 390])
def test_no_value_on_the_page_of_a_run_is_cut_off(long_values, width, language):
    page = long_values(f"{LIST}{'x' * 32}/change/", width, language)
    for summary in page.locator("summary").all():
        summary.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(CUT_OFF, ".run-summary, .run-summary *, .readonly, .run-json") == []
    for button in page.locator(".run-transitions button").all():
        box = button.bounding_box()
        assert box is not None
        assert box["height"] >= 24


@pytest.mark.parametrize("width", [1280, 390])
def test_the_question_before_a_resurrection_fits(long_values, width):
    page = long_values(f"{LIST}{'x' * 32}/change/", width, "de-DE")
    page.locator(".run-transitions button").first.click()
    expect(page.locator("#content")).to_contain_text("verliert er:")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("language", ["en-GB", "de-DE"])
@pytest.mark.parametrize("width", [1920, 1280, 1024, 390])
def test_nothing_of_the_overview_is_cut_off(long_values, width, language):
    page = long_values(OVERVIEW, width, language)
    open_everything(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(CUT_OFF, "#content :is(.run-tiles li, .run-cards :is(th, td))") == []
    assert page.evaluate(CUT_OFF, "#content :is(form, p, h2, .run-legend li)") == []
    assert page.evaluate(CUT_OFF, "#content .run-scroll:has(.run-ranking)") == []
    assert page.evaluate(OUTSIDE_OF_PANEL, "#content .run-chart text") == []


@pytest.mark.parametrize("language", ["en-GB", "he"])
def test_the_scale_of_a_chart_is_left_of_its_bars(long_values, language):
    page = long_values(OVERVIEW, 1280, language)
    for chart in page.locator(".run-chart").all():
        line = chart.locator("line").first.bounding_box()
        for label in chart.locator("text[text-anchor=end]").all():
            box = label.bounding_box()
            assert line is not None
            assert box is not None
            assert box["x"] + box["width"] <= line["x"]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_pictures_of_the_pages_as_they_open(shared_desk, theme, tmp_path):
    """Keeps those of the README in docs/images, and the others with the test's files."""
    pages = {"list": LIST, "run": f"{LIST}{RUNNING_RUN}/change/", "overview": OVERVIEW}
    kept = {("light", "list"): "admin-light", ("dark", "run"): "admin-dark"}
    kept |= {(theme, "overview"): f"overview-{theme}"}
    IMAGES.mkdir(parents=True, exist_ok=True)
    for width in (390, 1024, 1280, 1920):
        page: Any = shared_desk(theme, viewport={"width": width, "height": 760})
        for name, address in pages.items():
            page.goto(address)
            page.mouse.move(0, 0)
            picture = tmp_path / f"{name}-{width}.png"
            if width == 1280 and (theme, name) in kept:
                picture = IMAGES / f"{kept[theme, name]}.png"
            page.screenshot(path=picture, animations="disabled")
            assert 10_000 < picture.stat().st_size < 300_000
