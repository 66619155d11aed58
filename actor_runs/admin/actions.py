"""What staff can do with a selection of runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from actor_runs.admin.deletion import BulkDeletion
from actor_runs.admin.forms import with_labels
from actor_runs.admin.selection import id_batches, select_runs
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
    aborted, words = _finish(modeladmin, request, queryset, RunStatus.ABORTED)
    done = ngettext("%(count)d run was aborted.", "%(count)d runs were aborted.", aborted)
    _report(modeladmin, request, done % {"count": aborted}, aborted, words)


@admin.action(
    permissions=["change"], description=gettext_lazy("Time out the selected runs, if not finished")
)
def time_out_selected(modeladmin: admin.ModelAdmin, request: HttpRequest, queryset: Any) -> None:
    """Take the unfinished ones of the selection to TIMED-OUT."""
    timed_out, words = _finish(modeladmin, request, queryset, RunStatus.TIMED_OUT)
    done = ngettext("%(count)d run was timed out.", "%(count)d runs were timed out.", timed_out)
    _report(modeladmin, request, done % {"count": timed_out}, timed_out, words)


def _finish(
    modeladmin: admin.ModelAdmin, request: HttpRequest, queryset: Any, status: RunStatus
) -> tuple[int, list[str]]:
    """Finish the unfinished runs. Returns how many were, and messages about the others."""
    runs = select_runs(queryset)
    finished = runs.finished().count()
    changed = 0
    failed: list[tuple[str, str]] = []
    for run in _unfinished(runs):
        reason = _transition(modeladmin, request, run, status)
        if reason is None:
            changed += 1
        else:
            failed.append((run.pk, reason))
    words = []
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
    return changed, words


def _unfinished(runs: Any) -> Iterator[Run]:
    """Yield the unfinished runs, as they are when their batch is read."""
    for ids in id_batches(runs.unfinished(), BATCH_SIZE):
        yield from Run.objects.using(runs.db).unfinished().filter(pk__in=ids).order_by("pk")


def _transition(
    modeladmin: admin.ModelAdmin, request: HttpRequest, run: Run, status: RunStatus
) -> str | None:
    """Change the status of a run and log it, or return the reason why it cannot change."""
    if not modeladmin.has_change_permission(request, run):
        return _("You do not have permission to change it.")
    using, old_status = run._state.db or "default", run.status

    def attempt() -> None:
        with transaction.atomic(using=using):
            run.transition_to(status)
            modeladmin.log_change(request, run, f"{old_status} → {status}")

    try:
        retry(attempt, using)
    except InvalidTransition as exc:
        if exc.status is None:
            return _("The run is deleted.")
        words = _("It is: %(status)s, and cannot become: %(wanted)s.")
        return words % {"status": RunStatus(exc.status).label, "wanted": status.label}
    except ValidationError as exc:
        return " ".join(with_labels(exc).messages)
    return None


def _report(
    modeladmin: admin.ModelAdmin, request: HttpRequest, done: str, count: int, words: list[str]
) -> None:
    """Say in one message what was done, and what was not."""
    level = messages.SUCCESS if count and not words else messages.WARNING
    modeladmin.message_user(
        request, format_html_join(" ", "{}", ((each,) for each in (done, *words))), level
    )
