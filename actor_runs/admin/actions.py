"""What staff can do with a selection of runs."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db import router
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext, ngettext_lazy

from actor_runs.admin.deletion import BulkDeletion
from actor_runs.admin.forms import with_labels
from actor_runs.admin.selection import id_batches, select_runs
from actor_runs.admin.transitions import change_status
from actor_runs.db.errors import retry
from actor_runs.enums import RunStatus
from actor_runs.exceptions import InvalidTransition
from actor_runs.models import Run

BATCH_SIZE = 500  # runs in memory
MAX_NAMED = 20  # runs that were not changed, with the reasons


@admin.action(
    permissions=["delete"], description=gettext_lazy("Delete the selected runs, if finished")
)
def delete_selected(
    modeladmin: admin.ModelAdmin, request: HttpRequest, queryset: Any
) -> HttpResponse | None:
    """Delete the finished ones of the selection, after a page that counts them."""
    return BulkDeletion(modeladmin, request, queryset).answer()


@admin.action(
    permissions=["change"], description=gettext_lazy("Abort the selected runs, if not finished")
)
def abort_selected(modeladmin: admin.ModelAdmin, request: HttpRequest, queryset: Any) -> None:
    """Take the unfinished ones of the selection to ABORTED."""
    done = ngettext_lazy("%(count)d run was aborted.", "%(count)d runs were aborted.", "count")
    _finish(modeladmin, request, queryset, RunStatus.ABORTED, done)


@admin.action(
    permissions=["change"], description=gettext_lazy("Time out the selected runs, if not finished")
)
def time_out_selected(modeladmin: admin.ModelAdmin, request: HttpRequest, queryset: Any) -> None:
    """Take the unfinished ones of the selection to TIMED-OUT."""
    done = ngettext_lazy("%(count)d run was timed out.", "%(count)d runs were timed out.", "count")
    _finish(modeladmin, request, queryset, RunStatus.TIMED_OUT, done)


def _finish(
    modeladmin: admin.ModelAdmin, request: HttpRequest, queryset: Any, status: RunStatus, done: Any
) -> None:
    """Finish the unfinished runs. Say in one message how many were, and why others were not."""
    runs = select_runs(queryset)
    finished = runs.finished().count()
    changed = 0
    failed: list[tuple[str, str]] = []
    for ids in id_batches(runs.unfinished(), BATCH_SIZE):
        # As they are when their batch is read.
        for run in Run.objects.using(runs.db).unfinished().filter(pk__in=ids).order_by("pk"):
            reason = _transition(modeladmin, request, run, status)
            if reason is None:
                changed += 1
            else:
                failed.append((run.pk, reason))
    words = [done % {"count": changed}]
    if finished:
        said = ngettext(
            "%(count)d run was left as it is, since it is finished.",
            "%(count)d runs were left as they are, since they are finished.",
            finished,
        )
        words.append(said % {"count": finished})
    if failed:
        said = ngettext(
            "%(count)d run could not be changed:",
            "%(count)d runs could not be changed:",
            len(failed),
        )
        named = format_html_join(" ", "{}: {}", failed[:MAX_NAMED])
        words.append(format_html("{} {}", said % {"count": len(failed)}, named))
    level = messages.SUCCESS if changed and len(words) == 1 else messages.WARNING
    modeladmin.message_user(request, format_html_join(" ", "{}", zip(words)), level)


def _transition(
    modeladmin: admin.ModelAdmin, request: HttpRequest, run: Run, status: RunStatus
) -> str | None:
    """Change the status of a run and log it, or return the reason why it cannot change."""
    if not modeladmin.has_change_permission(request, run):
        return _("You do not have permission to change it.")
    try:
        retry(
            lambda: change_status(modeladmin, request, run, status),
            router.db_for_write(Run, instance=run),
        )
    except InvalidTransition as exc:
        if exc.status is None:
            return _("The run is deleted.")
        words = _("It is: %(status)s, and cannot become: %(wanted)s.")
        return words % {"status": RunStatus(exc.status).label, "wanted": status.label}
    except ValidationError as exc:
        return " ".join(with_labels(exc).messages)
    return None
