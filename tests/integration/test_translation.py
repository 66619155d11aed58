"""Every word that people read has a German one, in the compiled catalogue that is installed."""

from __future__ import annotations

import ast
import gettext
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.utils import translation
from django.utils.translation.template import templatize

import actor_runs
from actor_runs.models import Run, RunStatus
from tests.support.admin_site import EVERYTHING, LIST, page, staff, text

APP = Path(actor_runs.__file__).parent
MARKERS = {"_", "gettext", "gettext_lazy", "ngettext", "ngettext_lazy"}
PO = APP / "locale" / "de" / "LC_MESSAGES" / "django.po"


@pytest.fixture(autouse=True)
def other_tests_speak_english() -> Iterator[None]:
    """A request leaves its language to the thread."""
    yield
    translation.deactivate()


def german() -> gettext.NullTranslations:
    return gettext.translation("django", APP / "locale", ["de"])


def python_of(path: Path) -> str:
    """Return a file as Python; of a template, its words alone."""
    source = path.read_text()
    if path.suffix == ".py":
        return source
    calls = re.findall(r"n?gettext\((?:u?'(?:[^'\\]|\\.)*'(?:, )?)+", templatize(source))
    return "\n".join(f"{call.rstrip(', ')})" for call in calls)


def marked() -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Yield what is marked for translation in the app: one word, or a singular and a plural."""
    for path in sorted({*APP.rglob("*.py"), *APP.rglob("*.html")}):
        for node in ast.walk(ast.parse(python_of(path))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", None) in MARKERS:
                words = [each.value for each in node.args[:2] if isinstance(each, ast.Constant)]
                assert words, f"{path}:{node.lineno} marks what is no constant"
                yield path, tuple(words)


def written() -> dict[str, str]:
    """Return the catalogue's source: what each ``msgid`` (or its singular) says in German."""
    entries = {}
    for block in PO.read_text().split("\n\n"):
        lines = [line for line in block.splitlines() if not line.startswith("#")]
        values: dict[str, str] = {}
        key = ""
        for line in lines:
            if not line.startswith('"'):
                key, _, line = line.partition(" ")
            values[key] = values.get(key, "") + ast.literal_eval(line)
        entries[values["msgid"]] = values.get("msgstr", values.get("msgstr[0]", ""))
    return entries


def test_every_word_of_the_app_is_translated():
    words = list(marked())
    assert len(words) > 100
    catalogue = german()
    known = set(written())
    missing = {
        (path.name, each[0])
        for path, each in words
        if each[0] not in known
        or not (catalogue.ngettext(*each, 1) if len(each) == 2 else catalogue.gettext(each[0]))
    }
    assert missing == set()


def test_the_compiled_catalogue_is_the_written_one():
    catalogue = german()
    for word, translated in written().items():
        assert translated, word
        plural = catalogue.ngettext(word, "", 1) if catalogue.gettext(word) == word else None
        assert translated in (catalogue.gettext(word), plural)


def test_nothing_is_left_to_be_decided():
    source = PO.read_text()
    assert "#, fuzzy" not in source
    assert 'msgstr ""\n\n' not in source
    assert 'msgstr[0] ""\n' not in source
    assert "#~" not in source


def test_a_translation_takes_the_same_values():
    def places(words: str) -> set[str]:
        return set(re.findall(r"%\(\w+\)[sd]|%[sd]", words))

    for word, translated in written().items():
        assert places(translated) == places(word), word


def test_the_admin_speaks_german(alice):
    client = staff(*EVERYTHING)
    client.defaults["HTTP_ACCEPT_LANGUAGE"] = "de"
    run = Run.objects.create(user=alice, status=RunStatus.SUCCEEDED)
    running = Run.objects.create(user=alice, status=RunStatus.RUNNING)
    words = text(client.get(LIST))
    for shown in ("Läuft", "Erfolgreich", "Eigentümer", "Nicht beendet", "Actor-Läufe", "bisher"):
        assert shown in words
    assert "Nach Zugriff" in words
    words = text(client.get(page(running)))
    assert "RUNNING" not in words
    assert f"{running.pk} (Läuft)" in words
    for shown in ("Als fehlgeschlagen beenden", "Ergebnis", "Build-Nummer", "Lauf ändern"):
        assert shown in words
    data: dict[str, Any] = {
        "action": "delete_selected",
        "_selected_action": [run.pk, running.pk],
    }
    words = text(client.post(LIST, data))
    assert "1 Lauf wird endgültig gelöscht." in words
    assert "1 Lauf bleibt erhalten, da er nicht beendet ist." in words
