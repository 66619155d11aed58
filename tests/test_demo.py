"""The demo: its data, and that every line it prints answers as it says."""

from __future__ import annotations

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
from tests.demo_server import ROOT, demo_environment, demo_server, free_port

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


def test_its_lines_answer_as_they_say_and_again_after_a_second_call(tmp_path):
    for _ in range(2):
        with demo_server(tmp_path) as server:
            examples = list(EXAMPLE.finditer(server.printed))
            assert server.printed.count("curl ") == len(examples)
            for line, status, body in (example.groups() for example in examples):
                answer = paste(line)
                assert answer[0] == status, (line, answer)
                assert as_pattern(body).fullmatch(answer[1]), (line, answer)
            statuses = {example["status"] for example in examples}
            assert statuses >= {"200", "204", "400", "401", "403", "404", "405"}


def test_it_prints_the_lines_that_the_readme_shows(server):
    shown = re.findall(r"^curl .*demo-token.*$", (ROOT / "README.md").read_text(), re.M)
    printed = server.printed.replace(server.site, "http://127.0.0.1:8000").splitlines()
    assert shown
    assert set(shown) <= set(printed)


def test_its_runs_have_every_status_and_are_the_same_each_time(server, tmp_path):
    runs = list(every_run(server))
    assert {run["status"] for run in runs} == set(RunStatus.values)
    known = {run["id"]: run["status"] for run in runs}
    assert known["3KH8gEpp4d8uQSe8T"] == "SUCCEEDED"
    assert known["55uatRrZib4xbZs"] == "FAILED"
    with demo_server(tmp_path) as other:
        assert list(every_run(other)) == runs


def test_its_runs_show_every_key_of_the_contract(server):
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


def test_its_admin_lets_the_printed_superuser_in(server):
    address, name, password = re.search(
        r"^Admin: +(\S+) \((\w+), password (\w+)\)$", server.printed, re.M
    ).groups()
    cookies = http.cookiejar.CookieJar()
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(cookies))
    login = browser.open(address).url
    form = {
        "csrfmiddlewaretoken": next(c.value for c in cookies if c.name == "csrftoken"),
        "username": name,
        "password": password,
    }
    page = browser.open(login, urllib.parse.urlencode(form).encode())
    assert page.url == address
    runs = browser.open(address + "actor_runs/run/").read().decode()
    assert "3KH8gEpp4d8uQSe8T" in runs


def test_it_leaves_a_database_alone_that_it_did_not_make(tmp_path):
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
