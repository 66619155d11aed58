"""How the admin shows pages of its own, and the values of a run."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.formats import date_format, number_format
from django.utils.html import format_html
from django.utils.text import Truncator
from django.utils.timesince import timesince
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from actor_runs.models import Run, RunStatus
from actor_runs.schemas import format_time

EMPTY = "-"  # as Django's admin has it
MAX_REASON = 1000  # characters of a status message in the list
NOT_SUCCEEDED = (RunStatus.FAILED, RunStatus.TIMED_OUT, RunStatus.ABORTED)
MIN_USD = 0.0001  # the smallest amount that is shown as a number
LARGE_USD = 100


def render_page(
    modeladmin: Any, request: HttpRequest, template: Any, context: dict[str, Any]
) -> TemplateResponse:
    """Return a page of the admin, with what every page needs beside this context."""
    request.current_app = modeladmin.admin_site.name
    common = {
        **modeladmin.admin_site.each_context(request),
        "subtitle": None,
        "opts": modeladmin.opts,
        "media": modeladmin.media,
    }
    return TemplateResponse(request, template, common | context)


def format_badge(status: str) -> str:
    return format_html(
        '<span class="run-status" data-status="{}">{}</span>', status, RunStatus(status).label
    )


def shorten(text: str, content: Any = None) -> str:
    """Return text for a column, which styles cut off where it does not fit; the title has all.

    ``content``: what is shown of it, by default the text.
    """
    return format_html(
        '<div class="run-short" title="{}">{}</div>', text, text if content is None else content
    )


def format_outcome(run: Run) -> str:
    """Return the status, and the reason if the run did not succeed."""
    badge = format_badge(run.status)
    if run.status not in NOT_SUCCEEDED or not run.status_message:
        return badge
    reason = Truncator(run.status_message).chars(MAX_REASON)
    return format_html(
        '{}<div class="run-short run-reason" title="{}">{}</div>', badge, reason, reason
    )


def in_zone(moment: datetime.datetime) -> datetime.datetime:
    """Return a time in the viewer's zone. Without ``USE_TZ`` there is one zone for all."""
    try:
        return timezone.localtime(moment) if timezone.is_aware(moment) else moment
    except OverflowError:  # at the calendar's ends
        return moment


def format_date_and_time(moment: datetime.datetime) -> str:
    """Return a time in the viewer's zone."""
    local = in_zone(moment)
    return f"{date_format(local, 'DATE_FORMAT')} {date_format(local, 'TIME_FORMAT')}"


def format_exact_time(moment: datetime.datetime | None) -> str:
    """Return a time in the viewer's zone, and as the API has it, to the millisecond."""
    if moment is None:
        return EMPTY
    local = in_zone(moment)
    return format_html(
        '<time datetime="{0}">{1} {2}</time> <span class="run-quiet">{0}</span>',
        format_time(moment),
        date_format(local, "DATETIME_FORMAT"),
        local.tzname() or "",
    )


def format_duration(run: Run) -> str:
    """Return in words how long the run took, or takes so far."""
    end = run.finished_at or timezone.now()
    seconds = max(0, int((end - run.started_at).total_seconds()))
    words = ngettext("%(count)d second", "%(count)d seconds", seconds) % {"count": seconds}
    if seconds >= 60:
        words = timesince(run.started_at, end)
    return words if run.is_finished else _("%(duration)s so far") % {"duration": words}


def format_cost(usd: float | None) -> str | None:
    """Return an amount with four decimals, or two if it is large."""
    if usd is None:
        return None
    if 0 < usd < MIN_USD:
        return f"< {format_usd(MIN_USD, 4)}"
    return format_usd(usd, 4 if usd < LARGE_USD else 2)


def format_usd(usd: float, decimals: int, force_grouping: bool = False) -> str:
    amount = number_format(round(usd, decimals), decimals, force_grouping=force_grouping)
    return _("$%(amount)s") % {"amount": amount}


def json_display(name: str) -> Callable[[Run], Any]:
    """Return a read-only admin field that shows the JSON field ``name`` over several lines."""
    model_field: Any = Run._meta.get_field(name)

    @admin.display(description=model_field.verbose_name)
    def show(run: Run) -> Any:
        value = getattr(run, name)
        if value is None:
            return EMPTY
        text = json.dumps(value, indent=2, ensure_ascii=False)
        return format_html('<pre class="run-json">{}</pre>', text)

    show.__name__ = name  # Django finds the help text by it
    return show
