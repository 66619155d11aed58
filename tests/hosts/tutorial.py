"""Follow the tutorial in an empty folder: ``python -m tests.hosts.tutorial``.

What its reader does in a browser is done by HTTP, with the buttons that the pages have.
"""

from __future__ import annotations

import html
import re
import tempfile
import time
import urllib.parse
import urllib.request
from pathlib import Path

from tests.hosts.follow import ROOT, blocks, reader

PAGE = ROOT / "docs" / "tutorial" / "index.md"
FORM = re.compile(r"<form\b(.*?)>(.*?)</form>", re.S)
INPUT = re.compile(r"<input\b(.*?)>", re.S)
BUTTON = re.compile(r"<button\b(.*?)>(.*?)</button>", re.S)
ATTRIBUTE = re.compile(r'([\w-]+)="(.*?)"', re.S)


class Browser:
    """Somebody who presses the buttons of pages, and stays logged in."""

    def __init__(self, site: str) -> None:
        self.url = site
        self.page = ""
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())

    def open(self, path: str, data: dict[str, str] | None = None) -> str:
        self.url = urllib.parse.urljoin(self.url, path)
        body = None if data is None else urllib.parse.urlencode(data).encode()
        request = urllib.request.Request(self.url, body, {"Referer": self.url})
        with self.opener.open(request) as response:
            self.url = response.url
            self.page = response.read().decode()
        return self.page

    def press(self, button: str, **typed: str) -> str:
        """Send the form that a button belongs to, as it is filled in, with what is typed."""
        inputs = [(found, attributes_of(found).get("value")) for found in INPUT.findall(self.page)]
        buttons = [(found, text.strip()) for found, text in BUTTON.findall(self.page)]
        pressed = next(found for found, text in buttons + inputs if text == button)
        own = attributes_of(pressed)
        form, controls = next(
            (attributes, content)
            for attributes, content in FORM.findall(self.page)
            if (f'id="{own["form"]}"' in attributes if "form" in own else pressed in content)
        )
        hidden = [attributes_of(found) for found in INPUT.findall(controls) if "hidden" in found]
        fields = {each["name"]: each["value"] for each in hidden}
        if "name" in own:
            fields[own["name"]] = own["value"]
        action = own.get("formaction") or attributes_of(form).get("action", self.url)
        return self.open(action, fields | typed)


def attributes_of(tag: str) -> dict[str, str]:
    return {name: html.unescape(value) for name, value in ATTRIBUTE.findall(tag)}


def look_after_runs(site: str) -> None:
    browser = Browser(site)
    browser.open("/admin/actor_runs/run/")
    browser.press("Log in", username="admin", password="secret")
    assert "2 runs" in browser.page
    browser.open("/admin/actor_runs/run/at-work/change/")
    browser.press("Finish as aborted")
    assert "/admin/actor_runs/run/at-work/delete/" in browser.page
    browser.open("/admin/actor_runs/run/")
    ids = re.findall(r'name="_selected_action" value="([\w-]+)"', browser.page)
    assert len(ids) == 2
    assert "Delete the selected runs, if finished" in browser.page


def main() -> None:
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as name, reader(Path(name)) as someone:
        someone.replaced["/path/to/django-actor-runs"] = str(ROOT)
        someone.follow(blocks(PAGE))
        look_after_runs(someone.site)
    print(f"followed the tutorial in {time.monotonic() - begin:.0f} s")


if __name__ == "__main__":
    main()
