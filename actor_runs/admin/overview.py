"""The admin's overview: how runs stand, as numbers and as charts without a script."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.utils.formats import date_format, number_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from actor_runs.admin.display import format_date_and_time, format_duration, format_usd, render_page
from actor_runs.admin.filters import StatusFilter
from actor_runs.admin.forms import RangeForm
from actor_runs.admin.owners import format_owner
from actor_runs.enums import FINISHED, UNFINISHED, RunStatus
from actor_runs.models import Run
from actor_runs.overview import MAX_COUNTED, MAX_READ, Day, Figures, Overview, today

# Of a chart, in units of its own: it is as wide as its place on the page.
WIDTH, HEIGHT = 400, 170
TOP, BOTTOM = 10, 24
CHARACTER = 6  # as wide as most digits and letters of a label
MAX_WIDTH = 24  # of a bar
LABELLED = 4  # days below a chart at most
RANGES = (7, 30, 90, 365)  # days, for one click
NOT_FINISHED = "UNFINISHED"  # one series for the four statuses


class Segment(NamedTuple):
    """A part of a bar: the series that it belongs to, and where it is drawn."""

    series: str
    x: float
    y: float
    width: float
    height: float


@dataclass
class Chart:
    """What the template draws: bars with their titles, and the lines and words around them."""

    bars: list[tuple[str, list[Segment]]]
    lines: list[tuple[float, str]]
    labels: list[tuple[float, str]]
    left: int


def overview_page(
    modeladmin: Any, request: HttpRequest, extra_context: dict[str, Any] | None = None
) -> HttpResponse:
    """Return the page for the runs of ``modeladmin.get_queryset(request)``.

    Raises PermissionDenied for who may not view runs.
    """
    if not modeladmin.has_view_permission(request):
        raise PermissionDenied
    form = RangeForm(request.GET or None)
    runs = modeladmin.get_queryset(request)
    overview = None
    if form.is_valid():
        try:
            overview = runs.overview(**form.cleaned_data)
        except ValueError as exc:
            form.add_error(None, str(exc))
    overview = overview or runs.overview()
    if not form.errors:
        form = RangeForm(initial={"since": overview.since, "until": overview.until})
    context = {
        "title": _("Overview"),
        "form": form,
        "overview": overview,
        "ranges": list(_ranges(overview)),
        "statuses": list(_statuses(modeladmin, request, overview)),
        "unfinished": list(_unfinished(modeladmin, request, overview)),
        "series": _series(),
        "runs_chart": _runs_chart(overview.days),
        "cost_chart": _cost_chart(overview.days),
        "days": [_figures_of_day(day) for day in overview.days],
        "total": _figures_of_day(_total(overview)),
        "rankings": [
            ("run-owners", _("Owners"), _("Owner"), list(_owners(modeladmin, request, overview))),
            ("run-actors", _("Actors"), _("Actor"), list(_actors(overview))),
        ],
        "read": grouped(MAX_READ),
        **(extra_context or {}),
    }
    opts = modeladmin.opts
    names = [f"admin/{opts.app_label}/{opts.model_name}/overview.html"]
    names.append("admin/actor_runs/run/overview.html")
    return render_page(modeladmin, request, names, context)


def grouped(number: int, is_estimate: bool = False) -> str:
    """Return a number with the language's separators, after ≈ if it is an estimate."""
    words = number_format(number, 0, force_grouping=True)
    return f"≈ {words}" if is_estimate else words


def usd(amount: float, is_estimate: bool = False) -> str:
    words = format_usd(amount, 2, force_grouping=True)
    return f"≈ {words}" if is_estimate else words


def _owners(modeladmin: Any, request: HttpRequest, overview: Overview) -> Iterator[tuple[str, ...]]:
    for owner, figures in overview.owners.items():
        name = format_owner(modeladmin.admin_site, request, _run_of(owner))
        yield name, *_figures(figures, overview.is_estimate)


def _actors(overview: Overview) -> Iterator[tuple[str, ...]]:
    for act_id, figures in overview.actors.items():
        yield act_id, *_figures(figures, overview.is_estimate)


def _figures(figures: Figures, is_estimate: bool) -> tuple[str, str, str]:
    return (
        grouped(figures.runs, is_estimate),
        grouped(figures.failed, is_estimate),
        usd(figures.cost, is_estimate),
    )


def _ranges(overview: Overview) -> Iterator[tuple[str, str, bool]]:
    """Yield links to ranges that end today: their words, their query, and whether it is this."""
    until = today()
    for number in RANGES:
        since = until - datetime.timedelta(days=number - 1)
        words = ngettext("%(count)d day", "%(count)d days", number) % {"count": number}
        is_this = (overview.since, overview.until) == (since, until)
        yield words, f"?since={since}&until={until}", is_this


def _statuses(
    modeladmin: Any, request: HttpRequest, overview: Overview
) -> Iterator[tuple[RunStatus, str, str]]:
    """Yield each status, how many runs have it now, and the list of them if there is a filter."""
    page = modeladmin.get_page_url("changelist")
    is_filter = StatusFilter in modeladmin.get_list_filter(request)
    for status in (*UNFINISHED, *FINISHED):
        number = overview.statuses[status]
        words = grouped(number)
        if number == MAX_COUNTED:
            words = _("%(count)s or more") % {"count": words}
        url = f"{page}?{StatusFilter.parameter_name}={status.value}" if is_filter else ""
        yield status, words, url


def _unfinished(
    modeladmin: Any, request: HttpRequest, overview: Overview
) -> Iterator[tuple[Run, str, str, str, str]]:
    """Yield what is shown of the runs that are unfinished for longest."""
    for run in overview.longest_unfinished:
        if modeladmin.has_view_permission(request, run):
            yield (
                run,
                modeladmin.get_page_url("change", run.pk),
                format_owner(modeladmin.admin_site, request, run),
                format_date_and_time(run.started_at),
                format_duration(run),
            )


def _run_of(owner: Any) -> Run:
    """Return a run that is not saved, to show its owner as the list does."""
    return Run(user=owner) if isinstance(owner, get_user_model()) else Run(organization=owner)


def _series() -> list[tuple[str, Any]]:
    """Return the outcomes that the chart tells apart, from the bottom to the top of a bar."""
    return [
        *((status.value, status.label) for status in FINISHED),
        (NOT_FINISHED, _("Not finished")),
    ]


def _counts(day: Day) -> dict[str, int]:
    """Return the runs of a day by series."""
    counts = {status.value: day.statuses[status] for status in FINISHED}
    return counts | {NOT_FINISHED: sum(day.statuses[status] for status in UNFINISHED)}


def _total(overview: Overview) -> Day:
    total = Day(overview.until, is_estimate=overview.is_estimate)
    for day in overview.days:
        total.statuses += day.statuses
        total.cost += day.cost
    return total


def _figures_of_day(day: Day) -> tuple[datetime.date, str, list[str], str]:
    counts = [grouped(number, day.is_estimate) for number in _counts(day).values()]
    return day.date, grouped(day.runs, day.is_estimate), counts, usd(day.cost, day.is_estimate)


def _runs_chart(days: list[Day]) -> Chart:
    counts = list(map(_counts, days))
    titles = []
    for day, each in zip(days, counts, strict=True):
        words = [
            f"{label}: {grouped(each[series], day.is_estimate)}"
            for series, label in _series()
            if each[series]
        ]
        titles.append(", ".join(words) or grouped(0))
    return _chart(days, titles, counts, 1, grouped)


def _cost_chart(days: list[Day]) -> Chart:
    titles = [usd(day.cost, day.is_estimate) for day in days]
    return _chart(days, titles, [{"cost": day.cost} for day in days], 0.01, usd)


def _chart(
    days: list[Day],
    titles: list[str],
    values: Sequence[dict[str, Any]],
    unit: float,
    words: Callable[[Any], str],
) -> Chart:
    """Return a chart with a bar for each day, whose parts are the values of its series.

    ``unit`` is the smallest difference between two values.
    """
    top = _round_up(max(sum(each.values()) for each in values), unit)
    base, scale = HEIGHT - BOTTOM, (HEIGHT - TOP - BOTTOM) / top
    lines = [(round(base - value * scale, 2), words(value)) for value in (0, top / 2, top)]
    left = CHARACTER * max(6, *(len(label) for _y, label in lines)) + 6
    step = (WIDTH - left) / len(days)
    width = min(step * 0.8, MAX_WIDTH)
    bars, labels = [], []
    for index, (day, title, each) in enumerate(zip(days, titles, values, strict=True)):
        x, y = left + index * step + (step - width) / 2, base
        segments = []
        for series, value in each.items():
            if value:
                y -= value * scale
                segments.append(
                    Segment(series, *(round(n, 2) for n in (x, y, width, value * scale)))
                )
        bars.append((f"{date_format(day.date)}: {title}", segments))
        if index % -(-len(days) // LABELLED) == 0:
            labels.append((round(x + width / 2, 2), date_format(day.date, "MONTH_DAY_FORMAT")))
    return Chart(bars, lines, labels, left)


def _round_up(value: float, unit: float) -> float:
    """Return 2, 4 or 10 times a power of ten of units, the least that is not below ``value``."""
    while unit * 10 < value:
        unit *= 10
    for factor in (2, 4):
        if unit * factor >= value:
            return unit * factor
    return unit * 10
