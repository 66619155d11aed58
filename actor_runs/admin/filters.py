"""What narrows the admin's list of runs: its filters and its paginator."""

from __future__ import annotations

import datetime
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.utils import get_fields_from_path
from django.contrib.admin.views.main import ERROR_FLAG, PAGE_VAR
from django.contrib.admin.widgets import url_params_from_lookup_dict
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db.models import Q
from django.http import HttpRequest
from django.utils import timezone
from django.utils.formats import number_format
from django.utils.functional import cached_property
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from actor_runs.admin.forms import ActorForm, RangeForm
from actor_runs.db.orm import has_all_rows
from actor_runs.models import GeneralAccess, Run, RunStatus

MAX_COUNTED = 10_000  # runs that the list counts and pages through


def is_limit_of_choices(opts: Any, lookup: str, value: str) -> bool:
    """Return whether a foreign key to runs limits its choices by this: its popup sends it."""
    limits: Any = (limit() if callable(limit) else limit for limit in opts.related_fkey_lookups)
    return any((lookup, value) in url_params_from_lookup_dict(limit).items() for limit in limits)


def is_lookup_of_filter(model_admin: Any, request: HttpRequest, lookup: str) -> bool:
    """Return whether ``list_filter`` or ``date_hierarchy`` makes links with such a lookup."""
    model = model_admin.model

    def is_on(path: str | None) -> bool:
        return lookup == path or lookup.startswith(f"{path}__")

    if is_on(model_admin.date_hierarchy):
        return True
    for item in model_admin.get_list_filter(request):
        if isinstance(item, type):
            spec: Any = item(request, {}, model, model_admin)
        else:
            is_pair = isinstance(item, (list, tuple))
            path, make = item if is_pair else (item, admin.FieldListFilter.create)
            if is_on(path):
                return True
            field = get_fields_from_path(model, path)[-1]
            spec = make(field, request, {}, model, model_admin, field_path=path)
        if lookup in spec.expected_parameters():
            return True
    return False


class ConditionFilter(admin.SimpleListFilter):
    """A few conditions to choose from. Any other value is refused, as Django refuses lookups."""

    def conditions(self) -> dict[str, tuple[Any, Q]]:
        """Return a label and a condition for each value of the parameter."""
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
    counted = ("unfinished", RunStatus.FAILED.value)

    def choices(self, changelist: Any) -> Any:
        """Yield the links, two of them with the number of runs that they lead to."""
        every, *others = super().choices(changelist)
        yield every
        # Among the runs of another filter, or of a subclass's own queryset, counting is not cheap.
        is_cheap = (
            changelist.get_filters_params().keys() <= {self.parameter_name}
            and not (changelist.query or changelist.add_facets)
            and has_all_rows(changelist.root_queryset)
        )
        conditions = self.conditions()
        for (value, _words), choice in zip(self.lookup_choices, others, strict=True):
            if is_cheap and value in self.counted:
                # A paginator wants an order, which a subclass may not have.
                runs = changelist.root_queryset.filter(conditions[value][1]).order_by("pk")
                found = BoundedPaginator(runs, per_page=1)
                more = "+" if found.has_more else ""
                number = f"{number_format(found.count, force_grouping=True)}{more}"
                choice["display"] = f"{choice['display']} ({number})"
            yield choice

    def conditions(self) -> dict[str, tuple[Any, Q]]:
        return {
            "unfinished": (_("Not finished"), Q(status__in=Run.UNFINISHED)),
            **self.each(Run.UNFINISHED),
            "finished": (_("Finished"), Q(status__in=Run.FINISHED)),
            **self.each(Run.FINISHED),
        }

    def each(self, statuses: tuple[RunStatus, ...]) -> dict[str, tuple[Any, Q]]:
        # Below the group that it belongs to. Not by markup: some themes put the text into a title.
        return {status.value: (f"\u2013 {status.label}", Q(status=status)) for status in statuses}


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
    """A kind of owner, or one owner, as the owner's page links to it: ``user:<key>``."""

    title = gettext_lazy("owner")
    parameter_name = "owner"

    @classmethod
    def query_of(cls, kind: str, key: Any) -> str:
        """Return the query of the runs of one owner. ``kind``: user or organization."""
        return urlencode({cls.parameter_name: f"{kind}:{key}"})

    def conditions(self) -> dict[str, tuple[Any, Q]]:
        return {
            "user": (_("A person"), Q(user__isnull=False)),
            "organization": (_("An organization"), Q(organization__isnull=False)),
        }

    def choices(self, changelist: Any) -> Any:
        yield from super().choices(changelist)
        if owner := self._chosen():
            field, key = owner
            # The name is for those who see it beside a run: any key can be put into the URL.
            runs = changelist.root_queryset.filter(**{field.name: key}).order_by()[:1]
            yield {
                "selected": True,
                "query_string": changelist.get_query_string({self.parameter_name: self.value()}),
                "display": str(runs[0].owner) if runs else key,
            }

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        if owner := self._chosen():
            field, key = owner
            return queryset.filter(**{field.name: key})
        return super().queryset(request, queryset)

    def _chosen(self) -> tuple[Any, Any] | None:
        """Return the field and the key of one owner, if one was chosen."""
        kind, separator, key = (self.value() or "").partition(":")
        if not separator or kind not in self.conditions():
            return None
        field: Any = Run._meta.get_field(kind)
        try:
            key = field.target_field.to_python(key)
            field.target_field.run_validators(key)
        except ValidationError as exc:
            raise IncorrectLookupParameters from exc
        return field, key


class GeneralAccessFilter(ConditionFilter):
    title = gettext_lazy("access")
    parameter_name = "general_access"

    def conditions(self) -> dict[str, tuple[Any, Q]]:
        return {access.value: (access.label, Q(general_access=access)) for access in GeneralAccess}


class FormFilter(admin.ListFilter):
    """Values that are typed into a form. What is wrong with them is a message."""

    template = "admin/actor_runs/run/form_filter.html"
    form_class: type[forms.Form]

    def __init__(self, request: HttpRequest, params: Any, model: Any, model_admin: Any) -> None:
        super().__init__(request, params, model, model_admin)
        for name in self.expected_parameters():
            if name in params:
                self.used_parameters[name] = params.pop(name)[-1]
        self.form = self.form_class(self.used_parameters or None, auto_id="filter_%s")
        self.form_id = f"filter-{self.form_class.__name__.lower()}"
        for field in self.form.fields.values():
            field.widget.attrs["form"] = self.form_id
        left_out = {*self.expected_parameters(), PAGE_VAR, ERROR_FLAG}
        self.other_parameters = [
            (name, value)
            for name, values in request.GET.lists()
            for value in values
            if name not in left_out
        ]

    def expected_parameters(self) -> Any:
        return list(self.form_class.base_fields)

    def has_output(self) -> bool:
        return True

    def choices(self, changelist: Any) -> Any:
        """Yield the link to the list without this filter."""
        yield {
            "selected": any(self.used_parameters.values()),
            "query_string": changelist.get_query_string(remove=self.expected_parameters()),
        }

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        if not self.used_parameters:
            return queryset
        try:
            if self.form.is_valid():
                return self.narrow(queryset, **self.form.cleaned_data)
        except (ValidationError, OverflowError):
            self.form.add_error(None, _("A range is inside of the years 1 to 9999."))
        for name, errors in self.form.errors.items():
            words = " ".join(map(str, errors))
            if name in self.form.fields:
                words = f"{self.form[name].label}: {words}"
            messages.error(request, words)
        raise IncorrectLookupParameters

    def narrow(self, queryset: Any, **values: Any) -> Any:
        """Return the runs that have these values."""
        raise NotImplementedError


class ActorFilter(FormFilter):
    title = gettext_lazy("Actor")
    form_class = ActorForm

    def narrow(self, queryset: Any, act_id: str) -> Any:  # type: ignore[override]
        return queryset.filter(act_id=act_id) if act_id else queryset


class RangeFilter(FormFilter):
    """A range of days, both of which belong to it."""

    title = gettext_lazy("day")
    form_class = RangeForm

    def narrow(  # type: ignore[override]
        self, queryset: Any, since: datetime.date | None, until: datetime.date | None
    ) -> Any:
        if since:
            queryset = queryset.filter(started_at__gte=_midnight(since))
        if until and until < datetime.date.max:
            end = _midnight(until + datetime.timedelta(days=1))
            queryset = queryset.filter(started_at__lt=end)
        return queryset


def _midnight(day: datetime.date) -> datetime.datetime:
    moment = datetime.datetime.combine(day, datetime.time())
    return timezone.make_aware(moment) if settings.USE_TZ else moment


class BoundedPaginator(Paginator):
    """Counts and pages no further than ``MAX_COUNTED``; ``has_more`` says that there are others.

    On a million rows a full count takes many times as long as all the rest of the list.
    """

    @cached_property
    def count(self) -> int:
        return min(self._counted, MAX_COUNTED)

    @property
    def has_more(self) -> bool:
        return self._counted > MAX_COUNTED

    @cached_property
    def _counted(self) -> int:
        runs: Any = self.object_list
        return runs.order_by()[: MAX_COUNTED + 1].count()
