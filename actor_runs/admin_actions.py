"""The admin's bulk deletion: of any selection the finished runs, in bounded memory, and logged."""

from __future__ import annotations

import datetime
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db import IntegrityError, router, transaction
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.html import format_html, format_html_join
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from actor_runs.exceptions import is_foreign_key_violation
from actor_runs.logs import log_deletion
from actor_runs.models import Run
from actor_runs.querysets import RunQuerySet
from actor_runs.transactions import persistently

BATCH_SIZE = 500  # runs in one transaction
NAMED = 20  # runs, and records that keep runs, that one page or message names at most


class Confirmation(forms.Form):
    """``until``: when the page was made, in milliseconds since 1970. What finished later stays."""

    until = forms.IntegerField(min_value=0)


@dataclass
class Tally:
    """What becomes of a selection of runs: the ``finished`` ones are ``deleted`` or ``kept``.

    ``along`` counts what goes with them, by the plural of its name. ``reasons`` names what keeps
    the others.
    """

    selected: int
    finished: int
    deleted: int = 0
    kept: int = 0
    along: Counter[Any] = field(default_factory=Counter)
    reasons: list[str] = field(default_factory=list)

    @property
    def unfinished(self) -> int:
        return self.selected - self.finished

    def keep(self, reasons: list[str]) -> None:
        self.kept += 1
        self.reasons = [*self.reasons, *reasons][:NAMED]


@admin.action(
    permissions=["delete"], description=gettext_lazy("Delete the selected runs, if finished")
)
def delete_selected(
    modeladmin: admin.ModelAdmin, request: HttpRequest, queryset: Any
) -> HttpResponse | None:
    """Delete the finished ones of the selection, after a page that counts them."""
    confirmation = Confirmation(request.POST)
    confirmed = confirmation.is_valid()
    now = int(time.time() * 1000)
    until = min(confirmation.cleaned_data["until"], now) if confirmed else now
    moment = datetime.datetime.fromtimestamp(until / 1000, tz=datetime.timezone.utc)
    selected = queryset.using(router.db_for_write(Run))
    finished = selected.finished().filter(finished_at__lte=moment)
    tally = Tally(selected=selected.count(), finished=finished.count())
    if not confirmed:
        return ask(modeladmin, request, finished, tally, until)
    for ids in deletable(modeladmin, request, finished, tally):
        delete(modeladmin, request, ids, moment, tally)
    report(modeladmin, request, tally)
    return None


def ask(
    modeladmin: admin.ModelAdmin,
    request: HttpRequest,
    finished: RunQuerySet,
    tally: Tally,
    until: int,
) -> HttpResponse:
    """Return the page that says what would become of the selection."""
    if finished.can_be_deleted_at_once:
        tally.deleted = tally.finished
        named = next(in_batches(finished), [])[:NAMED]
    else:
        named = []
        for ids in deletable(modeladmin, request, finished, tally):
            tally.deleted += len(ids)
            named = [*named, *ids][:NAMED]
    runs = modeladmin.opts.verbose_name_plural
    context = {
        **modeladmin.admin_site.each_context(request),
        "title": _("Delete multiple objects"),
        "subtitle": None,
        "opts": modeladmin.opts,
        "media": modeladmin.media,
        "tally": tally,
        "named": named,
        "unnamed": tally.deleted - len(named),
        "along": {name: n for name, n in tally.along.items() if name != runs},
        "until": until,
        "action_checkbox_name": ACTION_CHECKBOX_NAME,
        "chosen": request.POST.getlist(ACTION_CHECKBOX_NAME),
        "select_across": request.POST.get("select_across", "0"),
    }
    request.current_app = modeladmin.admin_site.name
    template = "admin/actor_runs/run/delete_selected_confirmation.html"
    return TemplateResponse(request, template, context)


def deletable(
    modeladmin: admin.ModelAdmin, request: HttpRequest, finished: RunQuerySet, tally: Tally
) -> Iterator[list[str]]:
    """Yield, a batch at a time, the IDs of what Django's admin would let go; tally the others."""
    for ids in in_batches(finished):
        if finished.can_be_deleted_at_once:
            yield ids
        else:
            runs = finished.filter(pk__in=ids).select_related(None)
            yield from parted(modeladmin, request, list(runs), tally)


def in_batches(runs: RunQuerySet) -> Iterator[list[str]]:
    """Yield the IDs of ``runs`` in their order. Runs that go meanwhile do not disturb it."""
    ids = runs.order_by("pk").values_list("pk", flat=True)
    batch = list(ids[:BATCH_SIZE])
    while batch:
        yield batch
        batch = list(ids.filter(pk__gt=batch[-1])[:BATCH_SIZE])


def parted(
    modeladmin: admin.ModelAdmin, request: HttpRequest, runs: list[Run], tally: Tally
) -> Iterator[list[str]]:
    """Yield the IDs of those of a batch that can go, together where all of them can."""
    if not runs:  # all of them went meanwhile
        return  # pragma: no cover
    _names, along, lacking, protected = modeladmin.get_deleted_objects(runs, request)
    if not lacking and not protected:
        tally.along.update(along)
        yield [run.pk for run in runs]
    elif len(runs) == 1:
        tally.keep(protected or [str(name) for name in lacking])
    else:
        for half in halves(runs):
            yield from parted(modeladmin, request, half, tally)


def delete(
    modeladmin: admin.ModelAdmin,
    request: HttpRequest,
    ids: list[str],
    moment: datetime.datetime,
    tally: Tally,
) -> None:
    """Delete and log these runs, if they finished by then; where one must stay, the others."""
    using = router.db_for_write(Run)

    def attempt() -> Any:
        chosen = Run.objects.using(using).filter(pk__in=ids, finished_at__lte=moment)
        with transaction.atomic(using=using):
            held: Any = list(chosen.finished().locked().order_by("pk"))
            chosen.filter(pk__in=[run.pk for run in held]).delete_finished()
            modeladmin.log_deletions(request, held)
        return held

    try:
        gone = persistently(attempt, using)
    except IntegrityError as exc:
        if not is_foreign_key_violation(exc):
            raise
        if len(ids) == 1:
            tally.keep(protectors(exc))
            return
        for half in halves(ids):
            delete(modeladmin, request, half, moment, tally)
        return
    for run in gone:
        log_deletion(run, request.user)
    tally.deleted += len(gone)


def halves(batch: list[Any]) -> tuple[list[Any], list[Any]]:
    """Part a batch of which one must stay: the others are found in few steps."""
    middle = len(batch) // 2
    return batch[:middle], batch[middle:]


def protectors(exc: IntegrityError) -> list[str]:
    """Return what keeps a run, as Django's pages name it: nothing, if only the database knows."""
    found: Any = getattr(exc, "protected_objects", getattr(exc, "restricted_objects", ()))
    return [f"{capfirst(record._meta.verbose_name)}: {record}" for record in found]


def report(modeladmin: admin.ModelAdmin, request: HttpRequest, tally: Tally) -> None:
    """Say what became of the selection."""
    words = ngettext("%(count)d run was deleted.", "%(count)d runs were deleted.", tally.deleted)
    level = messages.SUCCESS if tally.deleted else messages.WARNING
    modeladmin.message_user(request, words % {"count": tally.deleted}, level)
    if tally.unfinished:
        words = ngettext(
            "%(count)d run was kept, since it is not finished.",
            "%(count)d runs were kept, since they are not finished.",
            tally.unfinished,
        )
        modeladmin.message_user(request, words % {"count": tally.unfinished}, messages.WARNING)
    if tally.kept:
        words = ngettext(
            "%(count)d run was kept, since other records depend on it.",
            "%(count)d runs were kept, since other records depend on them.",
            tally.kept,
        )
        reasons = format_html_join(", ", "{}", ((reason,) for reason in tally.reasons))
        text = format_html("{} {}", words % {"count": tally.kept}, reasons)
        modeladmin.message_user(request, text, messages.WARNING)
