"""Runs in the Django admin."""

from actor_runs.admin.forms import RunInlineFormSet
from actor_runs.admin.options import RunAdmin

__all__ = ["RunAdmin", "RunInlineFormSet"]
