"""Follow the README with what was built: ``python -m tests.hosts.readme dist/*.whl dist/*.tar.gz``.

Checks what is in the wheel. Then, for the wheel and for the source distribution, makes an empty
environment and a blank project, and does there what the README says under Install.
"""

from __future__ import annotations

import re
import sys
import tempfile
import zipfile
from pathlib import Path

from tests.hosts.follow import ROOT, blocks, reader


def check_contents(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    outside = [name for name in names if not re.match(r"(actor_runs|django_actor_runs-.+)/", name)]
    assert not outside, outside
    for path in (ROOT / "actor_runs").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            assert path.relative_to(ROOT).as_posix() in names, path


def install(distribution: Path) -> None:
    """Do what the README says, in an empty environment."""
    with tempfile.TemporaryDirectory() as name, reader(Path(name)) as someone:
        someone.run("python3 -m venv .venv\n. .venv/bin/activate\npip install --quiet django")
        someone.run("django-admin startproject mysite .")
        someone.replaced["/path/to/django-actor-runs"] = str(distribution.resolve())
        someone.follow(blocks(ROOT / "README.md", "Install"))
        assert "The work of" in someone.printed
        someone.run("python manage.py makemigrations --check")


if __name__ == "__main__":
    wheel, source = map(Path, sys.argv[1:])
    check_contents(wheel)
    for distribution in (wheel, source):
        install(distribution)
