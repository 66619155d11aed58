"""Runs in the Django admin: staff look after a million of them, and cannot do harm."""

from __future__ import annotations

import copy
import datetime
import json
from collections.abc import Callable
from typing import Any

from django import forms
from django.apps import apps
from django.contrib import admin, messages
from django.contrib.admin.utils import flatten_fieldsets, quote, unquote
from django.contrib.admin.widgets import AdminTextInputWidget, AutocompleteSelect
from django.contrib.auth import get_user_model
from django.core.exceptions import (
    BadRequest,
    FieldDoesNotExist,
    PermissionDenied,
    ValidationError,
)
from django.core.paginator import Paginator
from django.db import IntegrityError, connections, models, router, transaction
from django.db.models import Q
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import NoReverseMatch, path, reverse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.formats import date_format, number_format
from django.utils.functional import cached_property
from django.utils.html import format_html, format_html_join
from django.utils.timesince import timesince
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_POST

from actor_runs.admin_actions import delete_selected
from actor_runs.admin_filters import (
    GeneralAccessFilter,
    OwnerFilter,
    StartedFilter,
    StatusFilter,
)
from actor_runs.conf import conf
from actor_runs.exceptions import InvalidTransition, RunNotFinished, is_foreign_key_violation
from actor_runs.logs import log_deletion
from actor_runs.models import TRANSITIONS, Run, RunStatus
from actor_runs.validators import format_time

EMPTY = "-"  # as Django's admin has it
COUNTED = 10_000  # runs that the list counts and pages through, at most
OWNERS_LISTED = 200  # owners that a search hands to the database one by one, at most


def outside_atomic_requests(view: Callable[..., Any]) -> Callable[..., Any]:
    """Opt a view out of ``ATOMIC_REQUESTS``: what a COMMIT refuses must be caught inside of it."""
    for alias in connections:
        view = transaction.non_atomic_requests(using=alias)(view)
    return view


def refuse_nul(request: HttpRequest) -> None:
    """Raise BadRequest for a NUL in any parameter: PostgreSQL raises in whatever query has one."""
    for parameters in (request.GET, request.POST):
        if any("\0" in value for _name, values in parameters.lists() for value in values):
            raise BadRequest("A parameter holds a NUL.")


def version(run: Run) -> str:
    """Return what any transition changes: a page that showed another version is outdated."""
    return f"{run.status} {run.version}"


def badge(status: str) -> str:
    return format_html(
        '<span class="run-status" data-status="{}">{}</span>', status, RunStatus(status).label
    )


def in_zone(moment: datetime.datetime) -> datetime.datetime:
    """Return a time in the viewer's zone. Without ``USE_TZ`` there is one zone for all."""
    try:
        return timezone.localtime(moment) if timezone.is_aware(moment) else moment
    except OverflowError:  # at the calendar's ends
        return moment


def exactly(moment: datetime.datetime | None) -> str:
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


def changed_meanwhile(status: str) -> str:
    words = _("The run was changed meanwhile, and is now: %(status)s. Nothing was done.")
    return words % {"status": RunStatus(status).label}


def pretty(name: str) -> Callable[[Run], Any]:
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


def owners(model: type[models.Model], term: str) -> Any:
    """Return the keys of users, or of organizations, whose name contains ``term``."""
    username = getattr(model, "USERNAME_FIELD", None)
    for name in [username] if username else ["name", "title", "slug", model._meta.pk.name]:
        try:
            is_text = isinstance(model._meta.get_field(name), (models.CharField, models.TextField))
        except FieldDoesNotExist:
            continue
        if is_text:
            found = model._default_manager.filter(**{f"{name}__icontains": term})
            keys = found.order_by().values_list("pk", flat=True)
            listed = list(keys[: OWNERS_LISTED + 1])
            # Given a list, databases use the indexes that begin with an owner; given a
            # subquery, they read runs until they have a page full, which is soon with many.
            return listed if len(listed) <= OWNERS_LISTED else keys
    return []


class OwnerSelect(AutocompleteSelect):
    """Django's, which asks the database for what was sent even where it can be no key."""

    def optgroups(self, name: str, value: Any, attrs: Any = None) -> Any:
        return super().optgroups(name, [each for each in value if self._can_be_key(each)], attrs)

    def _can_be_key(self, value: str) -> bool:
        key = self.field.target_field
        try:
            key.run_validators(key.to_python(value))
        except ValidationError:
            return False
        return True


class BoundedPaginator(Paginator):
    """Counts and pages no further than ``COUNTED``; ``has_more`` says that there are others.

    On a million rows a full count takes many times as long as all the rest of the list.
    """

    @cached_property
    def count(self) -> int:
        return min(self._counted, COUNTED)

    @property
    def has_more(self) -> bool:
        return self._counted > COUNTED

    @cached_property
    def _counted(self) -> int:
        runs: Any = self.object_list
        return runs.order_by()[: COUNTED + 1].count()


class RunForm(forms.ModelForm):
    """What staff may say of a run. Of a new one, nothing but its owner is needed."""

    DEFAULTED = ("act_id", "build_id", "general_access")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in self._defaulted:
            self.fields[name].required = False
            if name != "general_access":
                self.fields[name].initial = None
                self.fields[name].show_hidden_initial = False
                self.fields[name].help_text = _("A new one, if left empty.")

    def clean(self) -> None:
        for name in self._defaulted:
            if not self.cleaned_data.get(name) and name not in self.errors:
                self.cleaned_data[name] = getattr(Run(), name)

    @property
    def _defaulted(self) -> list[str]:
        is_new = self.instance._state.adding
        return [name for name in self.DEFAULTED if is_new and name in self.fields]


META, OPTIONS, STATS, USAGE, USAGE_USD, EVENTS, PRICING, METAMORPHS, STORAGES = map(
    pretty,
    (
        "meta",
        "options",
        "stats",
        "usage",
        "usage_usd",
        "charged_event_counts",
        "pricing_info",
        "metamorphs",
        "storage_ids",
    ),
)


@admin.register(Run)
class RunAdmin(admin.ModelAdmin):
    """Runs, newest first."""

    form = RunForm
    ordering = ["-started_at", "-id"]
    sortable_by = ["started"]  # the only column with an index of its own
    list_filter = [StatusFilter, StartedFilter, OwnerFilter, GeneralAccessFilter]
    list_select_related = ["user", "organization"]
    paginator = BoundedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER  # each would be counted over all runs
    search_fields = ["id", "act_id"]  # shows the field; get_search_results searches
    search_help_text = gettext_lazy(
        "A run ID, an Actor ID, or a part of a username or of an organization's name."
    )
    raw_id_fields = ["user", "organization"]
    actions = [delete_selected]

    # The rest is what the host's code, or an API client, says of a run.
    EDITABLE = (
        "user",
        "organization",
        "general_access",
        "act_id",
        "actor_task_id",
        "build_id",
        "build_number",
        "git_branch_name",
    )

    class Media:
        css = {"all": ["actor_runs/admin.css"]}

    # The list

    def get_list_display(self, request: HttpRequest) -> Any:
        @admin.display(description=gettext_lazy("owner"))
        def owner(run: Run) -> str:
            return self._owner(request, run)

        return ["id", "badge", owner, "act_id", "started", "duration", "cost"]

    @admin.display(description=gettext_lazy("status"))
    def badge(self, run: Run) -> str:
        return badge(run.status)

    @admin.display(description=gettext_lazy("started"), ordering="started_at")
    def started(self, run: Run) -> str:
        local = in_zone(run.started_at)
        # Between them, a narrow column may break.
        parts = date_format(local, "DATE_FORMAT"), date_format(local, "TIME_FORMAT")
        return format_html_join(" ", '<span class="run-whole">{}</span>', ((p,) for p in parts))

    @admin.display(description=gettext_lazy("duration"))
    def duration(self, run: Run) -> str:
        end = run.finished_at or timezone.now()
        seconds = max(0, int((end - run.started_at).total_seconds()))
        words = ngettext("%(count)d second", "%(count)d seconds", seconds) % {"count": seconds}
        if seconds >= 60:
            words = timesince(run.started_at, end)
        return words if run.is_finished else _("%(duration)s so far") % {"duration": words}

    @admin.display(description=gettext_lazy("cost"))
    def cost(self, run: Run) -> str | None:
        usd = run.usage_total_usd
        if usd is None:
            return None
        smallest = 0.0001
        if 0 < usd < smallest:
            return f"< ${number_format(smallest, 4)}"
        return f"${number_format(round(usd, 4), 4)}"

    def _owner(self, request: HttpRequest, run: Run) -> str:
        """Return the owner's name: a link where the viewer may see the owner's page."""
        owner = run.owner
        name = format_html("{}", owner)
        if self._is_visible(request, type(owner)):
            opts = owner._meta
            page = f"{self.admin_site.name}:{opts.app_label}_{opts.model_name}_change"
            url = reverse(page, args=[quote(owner.pk)], current_app=self.admin_site.name)
            name = format_html('<a href="{}">{}</a>', url, owner)
        if run.organization_id is None:
            return name
        return format_html('{} <span class="run-quiet">{}</span>', name, _("organization"))

    def _is_visible(self, request: HttpRequest, model: type[models.Model]) -> bool:
        return self.admin_site.is_registered(model) and self.admin_site.get_model_admin(
            model
        ).has_view_permission(request)

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Allow the filters and nothing else: free lookups reach the database unchecked."""
        filters: Any = self.list_filter
        return lookup in {chosen.parameter_name for chosen in filters}

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[Any, bool]:
        """Take the term as a whole: the ID of a run, else of an Actor, or of an owner's name."""
        term = search_term.strip()
        if not term:
            return queryset, False
        same_id = queryset.filter(pk=term)
        if same_id.exists():
            return same_id, False
        return queryset.filter(
            Q(act_id=term)
            | Q(user__in=owners(get_user_model(), term))
            | Q(organization__in=owners(apps.get_model(conf.organization_model), term))
        ), False

    # The page of a run

    def get_fieldsets(self, request: HttpRequest, obj: Run | None = None) -> Any:
        owner: Any = ("user", "organization")
        build = ("build_id", "build_number", "git_branch_name")
        if obj is None:
            return [
                (_("Owner and access"), {"fields": [owner, "general_access"]}),
                (_("Actor and build"), {"fields": [("act_id", "actor_task_id"), build]}),
            ]
        if not self.has_change_permission(request, obj):
            owner = "owner"
        outcome = [
            ("badge", "exit_code"),
            ("status_message", "is_status_message_terminal"),
            ("usage_total_usd", EVENTS),
            USAGE_USD,
        ]
        stores = ("default_dataset_id", "default_key_value_store_id", "default_request_queue_id")
        details = [
            (OPTIONS, META),
            (STATS, USAGE),
            (PRICING, METAMORPHS),
            ("container_url", "is_container_server_ready", "platform_usage_billing_model"),
        ]
        return [
            (
                _("Actor and build"),
                {"fields": [("id", "api"), ("act_id", "actor_task_id"), build]},
            ),
            (_("Owner and access"), {"fields": [owner, "general_access"]}),
            (_("Times"), {"fields": [("started_exactly", "finished_exactly", "duration")]}),
            (_("Outcome"), {"fields": outcome}),
            (_("Storages"), {"fields": [stores, STORAGES], "classes": ["collapse"]}),
            (_("Details"), {"fields": details, "classes": ["collapse"]}),
        ]

    def get_readonly_fields(self, request: HttpRequest, obj: Run | None = None) -> Any:
        fields = flatten_fieldsets(self.get_fieldsets(request, obj))
        return [field for field in fields if field not in self.EDITABLE]

    @admin.display(description=gettext_lazy("owner"))
    def owner(self, run: Run) -> str:
        return str(run.owner)

    @admin.display(description=gettext_lazy("API"))
    def api(self, run: Run) -> str:
        try:
            url = reverse("actor_runs:run-detail", args=[run.pk])
        except NoReverseMatch:  # served elsewhere
            return EMPTY
        return format_html('<a href="{0}">{0}</a>', url)

    @admin.display(description=gettext_lazy("started at"))
    def started_exactly(self, run: Run) -> str:
        return exactly(run.started_at)

    @admin.display(description=gettext_lazy("finished at"))
    def finished_exactly(self, run: Run) -> str:
        return exactly(run.finished_at)

    def get_autocomplete_fields(self, request: HttpRequest) -> list[str]:
        """Look owners up where the host's admin can search them for this viewer."""
        fields: list[Any] = [Run._meta.get_field(name) for name in self.raw_id_fields]
        return [
            field.name
            for field in fields
            if self._is_visible(request, field.related_model)
            and self.admin_site.get_model_admin(field.related_model).get_search_fields(request)
        ]

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if self.admin_site.is_registered(db_field.related_model) and not self._is_visible(
            request, db_field.related_model
        ):
            # The widget for raw IDs links to pages that this viewer may not see.
            kwargs.setdefault("widget", AdminTextInputWidget())
        elif db_field.name in self.get_autocomplete_fields(request):
            kwargs.setdefault("widget", OwnerSelect(db_field, self.admin_site))
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Run | None:
        """Return the run; held against other writers while a POST about it is answered."""
        try:
            self.opts.pk.run_validators(object_id)
        except ValidationError:  # no run has such an ID, and some databases refuse to look
            return None
        runs: Any = self.get_queryset(request).filter(pk=object_id)
        if request.method == "POST":
            runs = runs.using(router.db_for_write(Run))
            if connections[runs.db].in_atomic_block:  # pragma: no branch  (so are tests)
                runs = runs.locked()
        return runs.first()

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, *args: Any, **kwargs: Any
    ) -> HttpResponse:
        refuse_nul(request)
        return super().changeform_view(request, object_id, *args, **kwargs)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        if (run := context["original"]) is not None:
            moves = TRANSITIONS[run.status] if self.has_change_permission(request, run) else ()
            context |= {
                "badge": badge(run.status),
                "owner": self._owner(request, run),
                "duration": self.duration(run),
                "cost": self.cost(run),
                "moves": moves,
                "version": version(run),
                "show_delete": run.is_finished,
            }
        return super().render_change_form(request, context, *args, **kwargs)

    def save_model(self, request: HttpRequest, obj: Run, form: Any, change: bool) -> None:
        # Only what was changed here: the host's code goes on writing the rest.
        obj.save(update_fields=form.changed_data) if change else obj.save()

    # Transitions

    def get_urls(self) -> Any:
        move = path(
            "<path:object_id>/move/",
            self.admin_site.admin_view(self.move_view),
            name=f"{self.opts.app_label}_{self.opts.model_name}_move",
        )
        return [move, *super().get_urls()]  # the last of Django's takes every path

    @method_decorator(require_POST)
    def move_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Take a run from the status that its page showed to the one of the button pressed."""
        run = self.get_object(request, unquote(object_id))
        if not self.has_change_permission(request, run):
            raise PermissionDenied
        if run is None:
            return self._refused(request, None, _("The run is deleted."))
        if request.POST.get("version") != version(run):
            return self._refused(request, run, changed_meanwhile(run.status))
        known = run.status
        try:
            with transaction.atomic(using=router.db_for_write(Run, instance=run)):
                run.transition_to(request.POST.get("status", ""))
                self.log_change(request, run, f"{known} → {run.status}")
        except InvalidTransition as exc:
            if exc.status is None:
                return self._refused(request, None, _("The run is deleted."))
            if exc.status == exc.known:
                return self._refused(request, run, _("The run cannot take this step now."))
            return self._refused(request, run, changed_meanwhile(exc.status))
        except ValidationError as exc:
            return self._refused(request, run, " ".join(exc.messages))
        words = _("The run is now: %(status)s.") % {"status": RunStatus(run.status).label}
        self.message_user(request, words, messages.SUCCESS)
        return HttpResponseRedirect(self._url("change", quote(run.pk)))

    def _refused(self, request: HttpRequest, run: Run | None, words: str) -> HttpResponse:
        """Say why nothing was done, on the page of the run, or the list where it is gone."""
        self.message_user(request, words, messages.ERROR)
        page = self._url("change", quote(run.pk)) if run else self._url("changelist")
        return HttpResponseRedirect(page)

    def _url(self, page: str, *args: str) -> str:
        name = f"{self.admin_site.name}:{self.opts.app_label}_{self.opts.model_name}_{page}"
        return reverse(name, args=args, current_app=self.admin_site.name)

    # Deleting one

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """As Django's, but raises RunNotFinished where there is nothing to ask about."""
        for run in objs:
            if not run.is_finished:
                raise RunNotFinished(run.pk, run.status)
        return super().get_deleted_objects(objs, request)

    def delete_model(self, request: HttpRequest, obj: Run) -> None:
        # For the log, once it is committed: Django takes the ID from the object.
        request.deleted_run = copy.copy(obj)  # type: ignore[attr-defined]
        obj.delete()

    @outside_atomic_requests
    def delete_view(self, request: HttpRequest, object_id: str, *args: Any, **kwargs: Any) -> Any:
        """As Django's, but a run that must stay is a message."""
        try:
            response = super().delete_view(request, object_id, *args, **kwargs)
        except RunNotFinished as exc:
            words = _("Only finished runs can be deleted. This one is: %(status)s.")
            words %= {"status": RunStatus(exc.status).label}
        except IntegrityError as exc:
            if not is_foreign_key_violation(exc):
                raise
            list(messages.get_messages(request))  # forgets what was said ahead of the COMMIT
            words = _("Other records depend on the run. It was kept.")
        else:
            if (run := getattr(request, "deleted_run", None)) is not None:
                log_deletion(run, request.user)
            return response
        self.message_user(request, words, messages.ERROR)
        return HttpResponseRedirect(self._url("change", object_id))

    # Deleting many

    @outside_atomic_requests
    def changelist_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        refuse_nul(request)
        return super().changelist_view(request, *args, **kwargs)
