"""The site: ``make docs`` builds it with warnings as errors, and asks no other host."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

import django  # noqa: E402

django.setup()

import actor_runs  # noqa: E402

project = "django-actor-runs"
author = copyright = "The actor_runs maintainers"  # noqa: A001  Sphinx's name for it
release = version = actor_runs.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "extensions"]
exclude_patterns = ["_build", "requirements.txt"]
myst_heading_anchors = 3
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"

html_theme = "furo"
html_title = f"django-actor-runs {release}"
html_show_sourcelink = False
