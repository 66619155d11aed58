"""The admin's bulk deletion of finished runs: in batches, with log entries."""

from __future__ import annotations

import datetime
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db import IntegrityError, transaction
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html, format_html_join
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import ngettext_lazy

from actor_runs.admin.display import render_page
from actor_runs.admin.selection import id_batches, select_runs
from actor_runs.db.errors import bisect, is_foreign_key_violation, retry
from actor_runs.logs import log_deletion
from actor_runs.models import Run
from actor_runs.overrides import is_inherited
from actor_runs.querysets import RunQuerySet

BATCH_SIZE = 500  # runs in one transaction
MAX_NAMED = 20  # runs, and records that protect runs, that one page or message names


class Confirmation(forms.Form):
    """``until``: when the page was made, in milliseconds since 1970. What finished later stays.

    ``finished``: how many finished runs were selected then. If there are more, the page asks again.
    """

    until = forms.IntegerField(min_value=0)
    finished = forms.IntegerField(min_value=0, required=False)


@dataclass
class DeletionSummary:
    """What becomes of a selection of runs: the ``finished`` ones are ``deleted`` or stay.

    ``cascaded`` counts what is deleted with them, by the plural of its name. ``protected`` runs
    have records that depend on them, which ``reasons`` names. ``forbidden`` are the IDs of those
    that the viewer may not delete.
    """

    selected: int
    finished: int
    deleted: int = 0
    protected: int = 0
    cascaded: Counter[Any] = field(default_factory=Counter)
    reasons: list[str] = field(default_factory=list)
    forbidden: list[str] = field(default_factory=list)

    @property
    def unfinished(self) -> int:
        return self.selected - self.finished


class BulkDeletion:
    """The deletion of the finished runs of a selection, after a page that counts them."""

    def __init__(self, modeladmin: admin.ModelAdmin, request: HttpRequest, selected: Any) -> None:
        self.modeladmin = modeladmin
        self.request = request
        self.selected = select_runs(selected)
        self.using = self.selected.db

    def answer(self) -> HttpResponse | None:
        """Return the page that asks, or delete what was confirmed."""
        confirmation = Confirmation(self.request.POST)
        now = int(time.time() * 1000)
        if confirmation.is_valid():
            self._count(min(confirmation.cleaned_data["until"], now))
            confirmed = confirmation.cleaned_data["finished"]
            if confirmed is None or self.summary.finished <= confirmed:
                for ids in self._deletable():
                    bisect(ids, self._delete, self._protect)
                self._report()
                return None
            words = _("The selection has changed since you were asked.")
            self.modeladmin.message_user(self.request, words, messages.WARNING)
        self._count(now)
        return self._ask()

    def _count(self, until: int) -> None:
        self.until = until
        self.moment = datetime.datetime.fromtimestamp(until / 1000, tz=datetime.timezone.utc)
        self.finished: RunQuerySet = self.selected.finished().filter(finished_at__lte=self.moment)
        self.summary = DeletionSummary(
            selected=self.selected.count(), finished=self.finished.count()
        )

    def _ask(self) -> HttpResponse:
        """Return the page that says what would become of the selection."""
        summary = self.summary
        if self._all_can_go:
            summary.deleted = summary.finished
            named = next(id_batches(self.finished, MAX_NAMED), [])
        else:
            named = []
            for ids in self._deletable():
                summary.deleted += len(ids)
                named = [*named, *ids][:MAX_NAMED]
        context = {
            "title": _("Delete multiple objects"),
            "summary": summary,
            "named": named,
            "unnamed": summary.deleted - len(named),
            "cascaded": {
                name: count
                for name, count in summary.cascaded.items()
                if name != self.modeladmin.opts.verbose_name_plural
            },
            "until": self.until,
            "action_checkbox_name": ACTION_CHECKBOX_NAME,
            "chosen": self.request.POST.getlist(ACTION_CHECKBOX_NAME),
            "select_across": self.request.POST.get("select_across", "0"),
        }
        template = (
            self.modeladmin.delete_selected_confirmation_template
            or "admin/actor_runs/run/delete_selected_confirmation.html"
        )
        return render_page(self.modeladmin, self.request, template, context)

    @property
    def _all_can_go(self) -> bool:
        """Whether neither dependent rows nor a subclass of the admin can keep one of the runs."""
        names = ("has_delete_permission", "get_deleted_objects")
        return self.finished.can_be_deleted_at_once and is_inherited(
            type(self.modeladmin), admin.ModelAdmin, *names
        )

    def _deletable(self) -> Iterator[list[str]]:
        """Yield, a batch at a time, the IDs of runs that can go. Note why others cannot."""
        for ids in id_batches(self.finished, BATCH_SIZE):
            if self._all_can_go:
                yield ids
            else:
                yield from self._allowed(self.finished.filter(pk__in=ids).select_related(None))

    def _allowed(self, runs: RunQuerySet) -> list[list[str]]:
        """Return the IDs of runs that Django's admin would delete: in one batch if all can go."""
        allowed = []
        for run in runs:
            if self.modeladmin.has_delete_permission(self.request, run):
                allowed.append(run)
            else:
                self.summary.forbidden.append(run.pk)
        batches = []

        def collect(batch: list[Run]) -> bool:
            found = self.modeladmin.get_deleted_objects(batch, self.request)
            _names, cascaded, lacking, protected = found
            self._reasons = protected or [str(name) for name in lacking]
            if self._reasons:
                return False
            self.summary.cascaded.update(cascaded)
            batches.append([run.pk for run in batch])
            return True

        bisect(allowed, collect, self._protect)
        return batches

    def _protect(self, _run: Any) -> None:
        """Count a run that cannot go, for the reasons that were found last."""
        self.summary.protected += 1
        self.summary.reasons = [*self.summary.reasons, *self._reasons][:MAX_NAMED]

    def _delete(self, ids: list[str]) -> bool:
        """Delete and log these runs, if they finished by then; return False if one must stay."""

        def attempt() -> Any:
            runs = Run.objects.using(self.using).filter(pk__in=ids)
            with transaction.atomic(using=self.using):
                locked: Any = runs.finished().filter(finished_at__lte=self.moment).lock_rows()
                self.modeladmin.delete_queryset(
                    self.request, runs.filter(pk__in=[run.pk for run in locked])
                )
                self.modeladmin.log_deletions(self.request, locked)
            return locked

        try:
            deleted = retry(attempt, self.using)
        except IntegrityError as exc:
            if not is_foreign_key_violation(exc):
                raise
            # Nothing, if only the database knows what depends on the run.
            records: Any = getattr(exc, "protected_objects", getattr(exc, "restricted_objects", ()))
            self._reasons = [f"{capfirst(each._meta.verbose_name)}: {each}" for each in records]
            return False
        for run in deleted:
            log_deletion(run, self.request.user)
        self.summary.deleted += len(deleted)
        return True

    def _report(self) -> None:
        """Say what became of the selection."""
        summary = self.summary
        self._say(
            ngettext_lazy("%(count)d run was deleted.", "%(count)d runs were deleted.", "count"),
            summary.deleted,
            level=messages.SUCCESS if summary.deleted else messages.WARNING,
        )
        if summary.unfinished:
            words = ngettext_lazy(
                "%(count)d run was kept, since it is not finished.",
                "%(count)d runs were kept, since they are not finished.",
                "count",
            )
            self._say(words, summary.unfinished)
        if summary.protected:
            words = ngettext_lazy(
                "%(count)d run was kept, since other records depend on it.",
                "%(count)d runs were kept, since other records depend on them.",
                "count",
            )
            self._say(words, summary.protected, summary.reasons)
        if summary.forbidden:
            words = ngettext_lazy(
                "%(count)d run was kept, since you do not have permission to delete it:",
                "%(count)d runs were kept, since you do not have permission to delete them:",
                "count",
            )
            self._say(words, len(summary.forbidden), summary.forbidden[:MAX_NAMED])

    def _say(
        self,
        words: Any,
        count: int,
        names: Sequence[str] = (),
        level: int = messages.WARNING,
    ) -> None:
        text = words % {"count": count}
        if names:
            text = format_html("{} {}", text, format_html_join(", ", "{}", zip(names)))
        self.modeladmin.message_user(self.request, text, level)
