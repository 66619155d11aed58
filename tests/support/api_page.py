"""The answers in docs/reference/api.md: ``python -m tests.support.api_page`` writes them anew.

Below each ``sh`` block with a curl line is an ``http`` block with what the server answered.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import tempfile
from pathlib import Path

from tests.support.demo_server import ROOT, demo_server

PAGE = ROOT / "docs" / "reference" / "api.md"
SITE = "http://127.0.0.1:8000"
ASKED_AND_ANSWERED = re.compile(r"^```sh\n(curl [^\n]*)\n```\n\n```http\n.*?^```$", re.M | re.S)
# Of the server and its middleware, the same for every page of a site.
NOT_THE_APPS = {
    *("date", "server", "content-length", "x-frame-options", "x-content-type-options"),
    *("referrer-policy", "cross-origin-opener-policy", "vary", "content-language", "connection"),
}


def answered(page: str, site: str) -> str:
    """Return ``page`` with every answer as the server at ``site`` gives it now."""

    def ask(block: re.Match[str]) -> str:
        command = shlex.split(block[1].replace(SITE, site))
        output = subprocess.run([*command, "-s"], check=True, capture_output=True, text=True)
        return f"```sh\n{block[1]}\n```\n\n```http\n{shown(output.stdout)}```"

    return ASKED_AND_ANSWERED.sub(ask, page)


def shown(answer: str) -> str:
    """Return an answer as the page shows it: without the server's headers, its JSON indented."""
    head, _, body = answer.replace("\r\n", "\n").partition("\n\n")
    lines = [
        line for line in head.split("\n") if line.partition(":")[0].lower() not in NOT_THE_APPS
    ]
    text = "\n".join(lines) + "\n"
    if body:
        text += "\n" + json.dumps(json.loads(body), indent=2, ensure_ascii=False) + "\n"
    return text


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, demo_server(Path(folder)) as server:
        PAGE.write_text(answered(PAGE.read_text(), server.site))


if __name__ == "__main__":
    main()
