"""Transitions in the admin: the buttons on the page of a run, and what they do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import router, transaction
from django.http import HttpRequest, HttpResponse
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from actor_runs.admin.display import format_exact_time, render_page
from actor_runs.admin.forms import with_labels
from actor_runs.enums import FINISHED, TRANSITIONS, RunStatus
from actor_runs.exceptions import InvalidTransition
from actor_runs.models import Run

if TYPE_CHECKING:
    from actor_runs.admin.options import RunAdmin

LABELS = {
    RunStatus.RUNNING: gettext_lazy("Start"),
    RunStatus.SUCCEEDED: gettext_lazy("Finish as succeeded"),
    RunStatus.FAILED: gettext_lazy("Finish as failed"),
    RunStatus.TIMING_OUT: gettext_lazy("Time out"),
    RunStatus.TIMED_OUT: gettext_lazy("Finish as timed out"),
    RunStatus.ABORTING: gettext_lazy("Abort"),
    RunStatus.ABORTED: gettext_lazy("Finish as aborted"),
}
RESURRECTIONS = {
    RunStatus.READY: gettext_lazy("Resurrect"),
    RunStatus.RUNNING: gettext_lazy("Resurrect and start"),
}


def transition_labels(status: str) -> list[tuple[RunStatus, Any]]:
    """Return the statuses that a run can take next, each with the name of the transition."""
    labels = RESURRECTIONS if status in FINISHED else LABELS
    return [(new_status, labels[new_status]) for new_status in TRANSITIONS[status]]


def format_version(run: Run) -> str:
    """Return a token that every transition changes, to detect an outdated page."""
    return f"{run.status} {run.version}"


def transition(modeladmin: RunAdmin, request: HttpRequest, object_id: str) -> HttpResponse:
    """Change the status of a run to that of the pressed button, unless its page is outdated.

    Asks first if the run loses something by it. Leads to the page of the run, or to the list if the
    run is gone.
    """
    run = modeladmin.get_object(request, unquote(object_id))
    if not modeladmin.has_change_permission(request, run):
        raise PermissionDenied
    new_status = request.POST.get("status", "")
    label = dict(transition_labels(run.status)).get(new_status) if run else None
    level = messages.ERROR
    if run is None:
        words = _("The run is deleted.")
    elif request.POST.get("version") != format_version(run):
        words = _changed_meanwhile(run.status)
    elif label is None:
        words = _("This transition is not possible now.")
    elif run.is_finished and "confirmed" not in request.POST:
        return _ask(modeladmin, request, run, new_status, label)
    else:
        try:
            change_status(modeladmin, request, run, new_status)
        except InvalidTransition as exc:
            words = _changed_meanwhile(exc.status) if exc.status else _("The run is deleted.")
            run = run if exc.status else None
        except ValidationError as exc:
            words = " ".join(with_labels(exc).messages)
        else:
            words = _("The run is now: %(status)s.") % {"status": RunStatus(new_status).label}
            level = messages.SUCCESS
    modeladmin.message_user(request, words, level)
    return modeladmin.redirect_to(request, *(("change", run.pk) if run else ("changelist",)))


def change_status(modeladmin: Any, request: HttpRequest, run: Run, status: str) -> None:
    """Change the status of a run, and log it in the admin, in one transaction."""
    message = f"{run.status} → {status}"
    with transaction.atomic(using=router.db_for_write(Run, instance=run)):
        run.transition_to(status)
        modeladmin.log_change(request, run, message)


def _ask(
    modeladmin: RunAdmin, request: HttpRequest, run: Run, new_status: str, label: str
) -> HttpResponse:
    """Return the page that says what a finished run loses when it is resurrected."""
    lost = [(capfirst(_("finished at")), format_exact_time(run.finished_at))]
    if run.exit_code is not None:
        lost.append((capfirst(_("exit code")), str(run.exit_code)))
    context = {
        "title": label,
        "original": run,
        "lost": lost,
        "status": new_status,
        "version": format_version(run),
        "preserved_filters": modeladmin.get_preserved_filters(request),
    }
    template = "admin/actor_runs/run/transition_confirmation.html"
    return render_page(modeladmin, request, template, context)


def _changed_meanwhile(status: str) -> str:
    words = _("The run was changed meanwhile, and is now: %(status)s. Nothing was done.")
    return words % {"status": RunStatus(status).label}
