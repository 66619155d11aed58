"""System checks of the admin: options of a host's classes that cannot be honoured."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.contrib.admin.checks import ModelAdminChecks
from django.core.checks import CheckMessage, Error, Warning

from actor_runs.admin.forms import RunInlineFormSet
from actor_runs.admin.layout import ALWAYS_READONLY, OWNER
from actor_runs.models import Run


class RunAdminChecks(ModelAdminChecks):
    """Django's checks of a ``ModelAdmin``, and those of this app."""

    def check(self, admin_obj: Any, **kwargs: Any) -> list[CheckMessage]:
        return [
            *super().check(admin_obj, **kwargs),
            *self._check_editable_columns(admin_obj),
            *self._check_inlines_of_runs(admin_obj),
        ]

    def _check_editable_columns(self, admin_obj: Any) -> Iterator[CheckMessage]:
        for name in admin_obj.list_editable:
            if name in OWNER:
                reason = "who may set the owner depends on the run"
            elif name in ALWAYS_READONLY:
                reason = "transitions alone change it"
            else:
                continue
            yield Error(
                f"The value of 'list_editable' refers to '{name}', which cannot be edited in the "
                f"list: {reason}.",
                hint=f"Remove '{name}' from 'list_editable'.",
                obj=admin_obj.__class__,
                id="actor_runs.E101",
            )

    def _check_inlines_of_runs(self, admin_obj: Any) -> Iterator[CheckMessage]:
        """Look at the inlines of the whole site, since those of runs are on other pages."""
        for other in admin_obj.admin_site._registry.values():
            for inline in other.inlines:
                if (
                    isinstance(inline, type)
                    and issubclass(getattr(inline, "model", None) or object, Run)
                    and getattr(inline, "can_delete", False)
                    and not issubclass(inline.formset, RunInlineFormSet)  # type: ignore[attr-defined]
                ):
                    yield Warning(
                        f"{inline.__name__} can delete runs, and fails with RunNotFinished for an "
                        "unfinished one.",
                        hint="Set formset = actor_runs.admin.RunInlineFormSet, or "
                        "can_delete = False.",
                        obj=other.__class__,
                        id="actor_runs.W101",
                    )
