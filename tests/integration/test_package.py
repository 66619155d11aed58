"""What the package says about itself, and that it agrees with the rest of the project."""

from __future__ import annotations

import configparser
import re
import subprocess
import sys
from importlib.metadata import metadata, version
from pathlib import Path

import actor_runs

ROOT = Path(__file__).resolve().parent.parent.parent


def classifiers(prefix):
    found = metadata("django-actor-runs").get_all("Classifier")
    return [name.removeprefix(prefix) for name in found if name.startswith(prefix)]


def environments():
    """Return the pairs of Python and Django in the matrix, as in ``("3.12", "6.0")``."""
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini")
    for line in tox["tox"]["env_list"].split():
        if match := re.fullmatch(r"py3(\d+)-django\{?([\d,]+)\}?", line):
            for django in match[2].split(","):
                yield f"3.{match[1]}", f"{django[0]}.{django[1]}"


def test_the_version_is_that_of_the_distribution():
    assert version("django-actor-runs") == actor_runs.__version__


def test_the_version_is_read_without_django():
    code = "import sys, actor_runs; sys.exit('django' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_the_changelog_knows_its_version():
    assert f"\n## {actor_runs.__version__} " in (ROOT / "CHANGELOG.md").read_text()


def test_the_package_is_typed():
    assert (Path(actor_runs.__file__).parent / "py.typed").is_file()
    assert classifiers("Typing :: ") == ["Typed"]


def test_each_python_and_django_it_claims_is_in_the_matrix():
    pythons, djangos = (sorted(set(side)) for side in zip(*environments(), strict=True))
    assert [name for name in classifiers("Programming Language :: Python :: ") if "." in name] == (
        sorted(pythons, key=lambda name: int(name[2:]))
    )
    assert classifiers("Framework :: Django :: ") == djangos


def test_the_package_requires_three_libraries():
    needed = [
        re.match(r"[\w-]+", requirement)[0].lower()
        for requirement in metadata("django-actor-runs").get_all("Requires-Dist")
        if "extra ==" not in requirement
    ]
    assert sorted(needed) == ["django", "django-ratelimit", "djangorestframework"]
