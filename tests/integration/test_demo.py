"""The demo: its data, and that every line that it and the API's page print answers as they say."""

from __future__ import annotations

import html
import http.cookiejar
import json
import re
import sqlite3
import subprocess
import sys
import urllib.parse
import urllib.request
from contextlib import closing

import pytest

from actor_runs.models import RunStatus
from tests.support.api_page import ASKED_AND_ANSWERED, PAGE, answered
from tests.support.demo_server import ROOT, demo_environment, demo_server
from tests.support.ports import free_port

pytestmark = pytest.mark.demo

# A comment, a line to paste, and what it answers.
EXAMPLE = re.compile(r"^# .+\n(?P<line>curl .+)\n# (?P<status>[0-9]{3})(?: (?P<body>.+))?$", re.M)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with demo_server(tmp_path_factory.mktemp("demo")) as server:
        yield server


def read(url, token=None):
    request = urllib.request.Request(url)
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")
    with urllib.request.urlopen(request) as response:
        return json.load(response)["data"]


def every_run(server):
    """Return all runs of alice, bob and Acme as the API shows them."""
    for name in ("alice", "bob"):
        token = re.search(rf"^Token of {name}: +(\S+)$", server.printed, re.M)[1]
        for item in read(server.api, token)["items"]:
            yield read(f"{server.api}/{item['id']}", token)


def paste(line):
    """Run a line in a shell. Return the status and the body of the answer."""
    printed = subprocess.run(
        ["sh", "-c", line], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True
    ).stdout.decode()
    head, _, body = printed.partition("\r\n\r\n")
    return head.split()[1], body


def as_pattern(body):
    """Return what an answer must match: its text, with anything where it says ``...``."""
    return re.compile(".*".join(re.escape(part) for part in (body or "").split("...")), re.S)


def assert_lines_answer_as_printed(server):
    examples = list(EXAMPLE.finditer(server.printed))
    assert server.printed.count("curl ") == len(examples)
    for line, status, body in (example.groups() for example in examples):
        answer = paste(line)
        assert answer[0] == status, (line, answer)
        assert as_pattern(body).fullmatch(answer[1]), (line, answer)
    statuses = {example["status"] for example in examples}
    assert statuses >= {"200", "204", "400", "401", "403", "404", "405"}


def test_the_demos_curl_lines_answer_as_printed_also_after_a_second_start(server, tmp_path):
    runs = list(every_run(server))
    with server.as_it_was():
        assert_lines_answer_as_printed(server)
        with (
            server.database() as first,
            closing(sqlite3.connect(tmp_path / "demo.sqlite3")) as copy,
        ):
            first.backup(copy)
    with demo_server(tmp_path) as second:
        assert list(every_run(second)) == runs
        assert_lines_answer_as_printed(second)


def test_every_answer_of_the_api_page_is_the_servers(server):
    page = PAGE.read_text()
    assert len(ASKED_AND_ANSWERED.findall(page)) == 9
    with server.as_it_was():
        assert answered(page, server.site) == page, "Run: python -m tests.support.api_page"


def test_the_demo_prints_the_lines_that_the_readme_shows(server):
    shown = re.findall(r"^curl .*demo-token.*$", (ROOT / "README.md").read_text(), re.M)
    printed = server.printed.replace(server.site, "http://127.0.0.1:8000").splitlines()
    assert shown
    assert set(shown) <= set(printed)


def test_the_demos_runs_have_every_status(server):
    runs = list(every_run(server))
    assert {run["status"] for run in runs} == set(RunStatus.values)
    known = {run["id"]: run["status"] for run in runs}
    assert known["3KH8gEpp4d8uQSe8T"] == "SUCCEEDED"
    assert known["55uatRrZib4xbZs"] == "FAILED"


def test_the_demos_runs_have_every_key_of_the_contract(server):
    keys = set().union(*every_run(server))
    assert keys == set(
        "id actId userId buildId defaultKeyValueStoreId defaultDatasetId defaultRequestQueueId "
        "actorTaskId buildNumber statusMessage gitBranchName containerUrl "
        "platformUsageBillingModel startedAt finishedAt status isStatusMessageTerminal "
        "isContainerServerReady exitCode generalAccess meta options stats usageTotalUsd usage "
        "usageUsd storageIds chargedEventCounts pricingInfo metamorphs".split()
    )


def test_acmes_runs_are_shown_to_alice_alone(server):
    owners = [run["userId"] for run in every_run(server) if run["userId"].startswith("org-")]
    assert owners == ["org-1", "org-1"]


def printed_address(server, name):
    return re.search(rf"^{name}: +(\S+)", server.printed, re.M)[1]


def log_in(server):
    """Return a browser that the printed superuser is logged in with, and the page it got."""
    name, password = re.search(
        r"^Admin: +\S+ \((\w+), password (\w+)\)$", server.printed, re.M
    ).groups()
    cookies = http.cookiejar.CookieJar()
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(cookies))
    login = browser.open(printed_address(server, "Admin")).url
    form = {
        "csrfmiddlewaretoken": next(c.value for c in cookies if c.name == "csrftoken"),
        "username": name,
        "password": password,
    }
    return browser, browser.open(login, urllib.parse.urlencode(form).encode())


def test_the_demos_admin_lets_the_printed_superuser_in(server):
    browser, page = log_in(server)
    assert page.url == printed_address(server, "Admin")
    runs = browser.open(f"{page.url}actor_runs/run/?q=3KH8gEpp4d8uQSe8T").read().decode()
    assert "3KH8gEpp4d8uQSe8T" in runs


def test_the_demos_overview_and_filters_have_something_to_show(server):
    browser, _page = log_in(server)
    overview = browser.open(printed_address(server, "Overview")).read().decode()
    days = re.findall(
        r'(?s)<th scope="row">[^<]*</th>\s*<td class="run-number">(\d+)</td>', overview
    )
    assert len(days) > 30
    assert min(map(int, days)) >= 1
    for status in RunStatus:
        assert not re.search(rf'aria-label="{status.label}: 0"', overview)
    runs = printed_address(server, "Admin") + "actor_runs/run/"
    page = browser.open(runs).read().decode()
    choices = set(re.findall(r'<a href="(\?[a-z_]+=[^"]+)"', page))
    assert len(choices) > 15
    for choice in choices:
        listed = browser.open(runs + html.unescape(choice)).read().decode()
        assert 'class="field-run_id' in listed, choice


def test_the_demo_prints_the_address_of_the_schema(server):
    with urllib.request.urlopen(printed_address(server, "OpenAPI")) as page:
        assert page.status == 200


def test_the_demo_refuses_a_database_that_it_did_not_make(tmp_path):
    database = tmp_path / "demo.sqlite3"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE customers AS SELECT 'Eve' AS name")
        connection.commit()
    refused = subprocess.run(
        [sys.executable, "manage.py", "demo", "--port", str(free_port())],
        cwd=ROOT,
        env=demo_environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,  # not refused, it would serve
    )
    assert refused.returncode == 1
    assert "not the demo's data" in refused.stderr
    with closing(sqlite3.connect(database)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master").fetchall()
        assert tables == [("customers",)]
        assert connection.execute("SELECT name FROM customers").fetchall() == [("Eve",)]
