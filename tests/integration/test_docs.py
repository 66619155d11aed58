"""The pages agree with the code and with each other."""

from __future__ import annotations

import ast
import importlib
import re
from importlib.metadata import metadata

import pytest
from django.core.management import get_commands
from django.db import IntegrityError, connection, transaction
from django.db.migrations.loader import MigrationLoader

from actor_runs.conf import DEFAULTS
from actor_runs.models import Run, RunStatus
from tests.hosts.follow import ROOT

DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"
# Sphinx checks the links of the site itself.
OUTSIDE = [*ROOT.glob("*.md"), ROOT / "benchmarks" / "README.md"]
PAGES = [*OUTSIDE, *DOCS.rglob("*.md")]
CHECKS = ("checks.py", "admin/checks.py")
LINK = re.compile(r"\]\(([^)]+)\)")


def relative_links(text: str) -> list[str]:
    return [link for link in LINK.findall(text) if not re.match(r"[a-z]+:|#", link)]


def anchors(page: str) -> set[str]:
    """Return the anchors that GitHub and MyST give to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page, re.M)
    return {
        re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings
    }


@pytest.mark.parametrize("page", OUTSIDE, ids=lambda page: page.parent.name + "/" + page.name)
def test_each_relative_link_leads_somewhere(page):
    for link in relative_links(page.read_text()):
        path, _, anchor = link.partition("#")
        target = page.parent / path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text()), link


def test_the_readme_is_one_screen():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 90


def test_the_address_of_the_repository_stands_in_setup_cfg_alone():
    [address] = re.findall(r"^url = (.+)$", (ROOT / "setup.cfg").read_text(), re.M)
    for page in PAGES:
        assert address not in page.read_text(), page
        assert "github.com/actor-runs" not in page.read_text(), page


def test_the_description_on_pypi_has_no_relative_link():
    description = metadata("django-actor-runs").json["description"]
    assert LINK.search(description)
    assert relative_links(description) == []


def test_the_reference_has_each_setting_and_its_default():
    rows = re.findall(
        r"^\| `([A-Z_]+)` \| `(.+?)` \|", (REFERENCE / "settings.md").read_text(), re.M
    )
    assert {key: ast.literal_eval(default) for key, default in rows} == DEFAULTS


def test_the_reference_has_each_check():
    code = "".join((ROOT / "actor_runs" / name).read_text() for name in CHECKS)
    ids = set(re.findall(r"actor_runs\.[EW]\d{3}", code))
    # Elsewhere the number is the first argument of what makes a message, or of a rule.
    for level, makers in {"E": "error|Rule|one_of|rate", "W": "warning"}.items():
        numbers = re.findall(rf"\b(?:{makers})\(\s*(\d+)[,)]", code)
        ids |= {f"actor_runs.{level}{int(number):03}" for number in numbers}
    rows = re.findall(
        r"^\| `(actor_runs\.[EW]\d{3})` \|", (REFERENCE / "checks.md").read_text(), re.M
    )
    assert len(rows) == len(set(rows))
    assert set(rows) == ids


def test_the_reference_has_each_command():
    ours = {name for name, app in get_commands().items() if app == "actor_runs"}
    page = (REFERENCE / "commands.md").read_text()
    assert set(re.findall(r"^```\{command\} (\w+)$", page, re.M)) == ours


def test_each_module_of_public_names_says_which_they_are():
    names = re.findall(r"actor_runs\.([\w.]+)\.(\w+)$", (REFERENCE / "python.md").read_text(), re.M)
    assert names
    for module, name in names:
        assert name in importlib.import_module(f"actor_runs.{module}").__all__


# docs/how-to/recording.md and docs/explanation/deletion.md: what goes past the model's rules.


@pytest.mark.parametrize(
    "change",
    [
        {"status": "RUNNING"},
        {"status": "SLEEPING"},
        {"finished_at": None},
        {"user": None},
    ],
)
def test_the_database_refuses_what_update_would_break(run, change):
    with pytest.raises(IntegrityError), transaction.atomic():
        Run.objects.filter(pk=run.pk).update(**change)


def test_update_goes_past_transitions(run):
    Run.objects.filter(pk=run.pk).update(status=RunStatus.FAILED)
    run.refresh_from_db()
    assert run.status == "FAILED"


def test_the_models_of_a_migration_delete_an_unfinished_run(alice):
    running = Run.objects.create(user=alice, status=RunStatus.RUNNING)
    apps = MigrationLoader(connection).project_state().apps
    apps.get_model("actor_runs", "Run").objects.filter(pk=running.pk).delete()
    assert not Run.objects.filter(pk=running.pk).exists()
