"""The filters of the admin's list of runs."""

from __future__ import annotations

import datetime
from typing import Any

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.db.models import Q
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from actor_runs.models import GeneralAccess, Run, RunStatus


class ConditionFilter(admin.SimpleListFilter):
    """A few conditions to choose from. Any other value is refused, as Django refuses lookups."""

    def conditions(self) -> dict[str, tuple[Any, Q]]:
        """Return for each value of the parameter its words, and what holds for the runs."""
        raise NotImplementedError

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return [(value, words) for value, (words, _condition) in self.conditions().items()]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        value, conditions = self.value(), self.conditions()
        if value is None:
            return queryset
        if value not in conditions:
            raise IncorrectLookupParameters
        return queryset.filter(conditions[value][1])


class StatusFilter(ConditionFilter):
    title = gettext_lazy("status")
    parameter_name = "status"

    def conditions(self) -> dict[str, tuple[Any, Q]]:
        return {
            "unfinished": (_("Not finished"), Q(status__in=Run.UNFINISHED)),
            **self.each(Run.UNFINISHED),
            "finished": (_("Finished"), Q(status__in=Run.FINISHED)),
            **self.each(Run.FINISHED),
        }

    def each(self, statuses: tuple[RunStatus, ...]) -> dict[str, tuple[Any, Q]]:
        return {
            status.value: (
                format_html('<span class="run-member">{}</span>', status.label),
                Q(status=status),
            )
            for status in statuses
        }


class StartedFilter(ConditionFilter):
    """Rather than ``date_hierarchy``, which reads every run to find out which years there are."""

    title = gettext_lazy("started")
    parameter_name = "started"

    def conditions(self) -> dict[str, tuple[Any, Q]]:
        now = timezone.now()

        def past(days: float) -> Q:
            return Q(started_at__gte=now - datetime.timedelta(days=days))

        return {
            "hour": (_("In the past hour"), past(1 / 24)),
            "day": (_("In the past 24 hours"), past(1)),
            "week": (_("In the past 7 days"), past(7)),
            "month": (_("In the past 30 days"), past(30)),
            "before-day": (_("More than a day ago"), ~past(1)),
            "before-month": (_("More than 30 days ago"), ~past(30)),
            "before-year": (_("More than a year ago"), ~past(365)),
        }


class OwnerFilter(ConditionFilter):
    title = gettext_lazy("owner")
    parameter_name = "owner"

    def conditions(self) -> dict[str, tuple[Any, Q]]:
        return {
            "user": (_("A person"), Q(user__isnull=False)),
            "organization": (_("An organization"), Q(organization__isnull=False)),
        }


class GeneralAccessFilter(ConditionFilter):
    title = gettext_lazy("general access")
    parameter_name = "general_access"

    def conditions(self) -> dict[str, tuple[Any, Q]]:
        return {access.value: (access.label, Q(general_access=access)) for access in GeneralAccess}
