"""The admin of runs: the list, the page of a run, transitions and deletion."""

from __future__ import annotations

import copy
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin import actions as actions_of_site
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.templatetags.admin_urls import add_preserved_filters
from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import BadRequest, ValidationError
from django.db import DataError, IntegrityError, connections, router
from django.db.models import Q
from django.forms.widgets import Script
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.loader import select_template
from django.urls import NoReverseMatch, path, reverse
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST, require_safe

from actor_runs.admin import display, owners, transitions
from actor_runs.admin.actions import abort_selected, delete_selected, time_out_selected
from actor_runs.admin.checks import RunAdminChecks
from actor_runs.admin.export import export_csv, export_jsonl
from actor_runs.admin.filters import (
    ActorFilter,
    BoundedPaginator,
    GeneralAccessFilter,
    OwnerFilter,
    RangeFilter,
    StartedFilter,
    StatusFilter,
    is_limit_of_choices,
    is_lookup_of_filter,
)
from actor_runs.admin.forms import (
    ChangelistForm,
    RunForm,
    changed_fields,
    owner_widget,
    remember_values,
    with_labels,
)
from actor_runs.admin.layout import (
    ALWAYS_READONLY,
    COSTS,
    DISPLAYS,
    OWNER,
    OWNERS,
    READONLY,
    get_fieldsets,
    shown_fields,
)
from actor_runs.admin.overview import overview_page
from actor_runs.db.errors import is_foreign_key_violation
from actor_runs.db.transactions import outside_atomic_requests
from actor_runs.exceptions import RunNotFinished
from actor_runs.logs import log_deletion
from actor_runs.models import Run, RunStatus
from actor_runs.overrides import is_inherited


def refuse_nul(request: HttpRequest) -> None:
    """Raise BadRequest for a NUL in any parameter: PostgreSQL raises in whatever query has one."""
    for parameters in (request.GET, request.POST):
        if any("\0" in value for _name, values in parameters.lists() for value in values):
            raise BadRequest("A parameter holds a NUL.")


class RunTemplate:
    """The name of a template where Django looks for it, and then of that of ``Run``.

    So a proxy of ``Run`` has the app's pages, unless the host has others for it. It is one name
    that can be set, since mixins of other packages extend and replace it.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, modeladmin: Any, owner: Any = None) -> str:
        default = f"admin/actor_runs/run/{self.name}"
        if modeladmin is None or modeladmin.model is Run:
            return default
        opts = modeladmin.opts
        places = (f"{opts.app_label}/{opts.model_name}", opts.app_label)
        names = [f"admin/{place}/{self.name}" for place in places]
        found: Any = select_template([*names, default])
        return found.template.name


@admin.register(Run)
class RunAdmin(admin.ModelAdmin):
    """Runs, newest first.

    Subclass it as any ``ModelAdmin``. ``fieldsets`` and ``fields`` replace the app's layout of
    both pages. The status and the end of an existing run are read-only: they change by
    transitions. Its owner is read-only for staff who may not delete it. To keep that, an override
    of ``get_readonly_fields`` calls ``super()``.
    """

    checks_class = RunAdminChecks
    form = RunForm
    ordering = ["-started_at", "-id"]
    list_display = ["run_id", "outcome", "owner", "actor", "started", "duration", "cost"]
    list_filter = [
        *(StatusFilter, ActorFilter, RangeFilter, StartedFilter, OwnerFilter),
        GeneralAccessFilter,
    ]
    list_select_related = ["user", "organization"]
    paginator = BoundedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER  # each would be counted over all runs
    search_fields = ["id", "act_id"]  # of others, get_search_results searches too
    search_help_text = gettext_lazy(
        "A run ID, an Actor ID, or a part of a username or of an organization's name."
    )
    raw_id_fields = ["user", "organization"]
    actions = [abort_selected, time_out_selected, export_csv, export_jsonl]
    readonly_fields = READONLY

    class Media:
        css = {"all": ["actor_runs/admin.css"]}
        js = [Script("actor_runs/admin.js", defer=True)]

    change_form_template: Any = RunTemplate("change_form.html")  # type: ignore[misc]
    change_list_template: Any = RunTemplate("change_list.html")  # type: ignore[misc]

    # The list

    def get_list_display(self, request: HttpRequest) -> Any:
        """Return the columns. The owner is a link if the viewer may see the owner's page.

        It is not if a subclass has an ``owner`` of its own, or links that column to the run.
        """

        @admin.display(description=gettext_lazy("owner"))
        def owner(run: Run) -> str:
            return display.shorten(str(run.owner), self._format_owner(request, run))

        columns = super().get_list_display(request)
        links = self.get_list_display_links(request, columns) or ()
        if not self._shows_owner or "owner" in links:
            return columns
        return [owner if column == "owner" else column for column in columns]

    @property
    def _shows_owner(self) -> bool:
        """Whether no subclass shows the owner in a way of its own."""
        return is_inherited(type(self), RunAdmin, "owner")

    def _format_owner(self, request: HttpRequest, run: Run) -> str:
        """Return the owner, as a link if the viewer may see the owner's page."""
        if not self._shows_owner:
            return self.owner(run)
        return owners.format_owner(self.admin_site, request, run)

    # Only "started" can be sorted by: the others have no index in their own order.

    @admin.display(description=gettext_lazy("run ID"))
    def run_id(self, run: Run) -> str:
        return display.shorten(run.pk)

    @admin.display(description=gettext_lazy("status"))
    def outcome(self, run: Run) -> str:
        return display.format_outcome(run)

    @admin.display(description=gettext_lazy("status"))
    def badge(self, run: Run) -> str:
        return display.format_badge(run.status)

    @admin.display(description=gettext_lazy("Actor ID"))
    def actor(self, run: Run) -> str:
        return display.shorten(run.act_id)

    @admin.display(description=gettext_lazy("started"), ordering="started_at")
    def started(self, run: Run) -> str:
        return display.format_date_and_time(run.started_at)

    @admin.display(description=gettext_lazy("duration"))
    def duration(self, run: Run) -> str:
        return display.format_duration(run)

    @admin.display(description=gettext_lazy("cost"))
    def cost(self, run: Run) -> str | None:
        return display.format_cost(run.usage_total_usd)

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Allow what the filters and a host's ``limit_choices_to`` use, and no free lookups.

        Django would allow any lookup on a run's own fields, which reach the database unchecked.
        """
        return is_limit_of_choices(self.opts, lookup, value) or (
            super().lookup_allowed(lookup, value, request)
            and is_lookup_of_filter(self, request, lookup)
        )

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """As Django's; values that a database cannot compare lead back to the whole list."""
        try:
            return super().get_changelist_instance(request)
        except (DataError, OverflowError) as exc:
            raise IncorrectLookupParameters from exc

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[Any, bool]:
        """Take the term as a whole: the ID of a run, else of an Actor, or of an owner's name.

        A subclass's ``search_fields`` are searched as well, as Django does it.
        """
        term = search_term.strip()
        fields = list(self.get_search_fields(request))
        if not term or not fields:
            return queryset, False
        if "\0" in term:  # PostgreSQL raises
            return queryset.none(), False
        # One by one, each in its own index: for a condition with OR a database reads all runs.
        for same in (queryset.filter(pk=term), queryset.filter(act_id=term)):
            if same.exists():
                return same, False
        owned = owners.owned_by_name(self.admin_site, request, queryset, term)
        if fields == RunAdmin.search_fields:
            return owned, False
        matches, _has_duplicates = super().get_search_results(request, queryset, term)
        keys = (found.order_by().values("pk") for found in (owned, matches))
        return queryset.filter(Q(pk__in=next(keys)) | Q(pk__in=next(keys))), False

    def get_actions(self, request: HttpRequest, action_location: Any = None) -> Any:
        """As Django's, with the app's bulk deletion, which says which runs stay, for the site's.

        A site that disables ``delete_selected`` has neither.
        """
        where = () if action_location is None else (action_location,)  # new in Django 6.1
        actions: Any = super().get_actions(request, *where)
        found = actions.get("delete_selected", (None,))
        func = found.func if hasattr(found, "func") else found[0]  # a tuple before Django 6.1
        if func is actions_of_site.delete_selected:
            del actions["delete_selected"]  # the app's is the last of all
            actions["delete_selected"] = self.get_action(delete_selected, *where)
        return actions

    def get_changelist_form(self, request: HttpRequest, **kwargs: Any) -> Any:
        return super().get_changelist_form(request, **{"form": ChangelistForm, **kwargs})

    # The page of a run

    @property
    def shows_same_fields(self) -> bool:
        """Whether the page of each run shows the same fields: no override decides by the run."""
        names = ("get_fieldsets", "get_fields", "get_exclude", "get_form", "get_readonly_fields")
        return is_inherited(type(self), RunAdmin, *names)

    def get_fieldsets(self, request: HttpRequest, obj: Run | None = None) -> Any:
        """Return the fieldsets or fields of a subclass; else the app's, of what the form has."""
        has_fields = self.fieldsets or self.fields
        if has_fields or not is_inherited(type(self), admin.ModelAdmin, "get_fields"):
            return super().get_fieldsets(request, obj)
        return get_fieldsets(
            obj,
            form_fields=self.get_form(request, obj, fields=None).base_fields,
            readonly_fields=self.get_readonly_fields(request, obj),
            added=[name for name in self.readonly_fields if name not in READONLY],
        )

    def get_readonly_fields(self, request: HttpRequest, obj: Run | None = None) -> Any:
        fields = [*super().get_readonly_fields(request, obj), *DISPLAYS]
        if obj is not None:
            fields += ALWAYS_READONLY
            if not self.has_delete_permission(request, obj):
                fields += OWNER  # a new owner can delete the run over the API
        return fields

    @admin.display(description=gettext_lazy("owner"))
    def owner(self, run: Run) -> str:
        return str(run.owner)

    @admin.display(description=gettext_lazy("API"))
    def api(self, run: Run) -> str:
        try:
            url = reverse("actor_runs:run-detail", args=[run.pk])
        except NoReverseMatch:  # served elsewhere
            return display.EMPTY
        return format_html('<a href="{0}">{0}</a>', url)

    @admin.display(description=gettext_lazy("started at"))
    def exact_start(self, run: Run) -> str:
        return display.format_exact_time(run.started_at)

    @admin.display(description=gettext_lazy("finished at"))
    def exact_end(self, run: Run) -> str:
        return display.format_exact_time(run.finished_at)

    def get_autocomplete_fields(self, request: HttpRequest) -> Any:
        """Look owners up where the host's admin can search them for this viewer."""
        fields: list[Any] = [Run._meta.get_field(name) for name in self.raw_id_fields]
        return [
            *super().get_autocomplete_fields(request),
            *(
                field.name
                for field in fields
                if owners.can_see(self.admin_site, request, field.related_model)
                and self.admin_site.get_model_admin(field.related_model).get_search_fields(request)
            ),
        ]

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name in self.raw_id_fields:
            is_searched = db_field.name in self.get_autocomplete_fields(request)
            if widget := owner_widget(self.admin_site, request, db_field, is_searched):
                kwargs.setdefault("widget", widget)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Run | None:
        """Return the run, locked while a POST is handled."""
        field: Any = self.opts.get_field(from_field) if from_field else self.opts.pk
        runs = self.get_queryset(request)
        try:
            field.run_validators(object_id)
            key = {field.name: field.to_python(object_id)}
        except (ValidationError, ValueError):  # no run has it, and some databases refuse to look
            return None
        if request.method == "POST":
            runs = runs.using(router.db_for_write(Run))
            if connections[runs.db].in_atomic_block:  # pragma: no branch  (so are tests)
                # Of the run alone: what a subclass joins or groups cannot be locked.
                Run.objects.using(runs.db).filter(**key).lock_rows("pk")
        run = runs.filter(**key).first()
        if run is not None:
            remember_values(run)
        return run

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """As Django's. What ``save()`` refuses and the form has no field for is a message."""
        refuse_nul(request)
        try:
            return super().changeform_view(request, object_id, *args, **kwargs)
        except ValidationError as exc:
            self.message_user(request, " ".join(with_labels(exc).messages), messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        if (run := context["original"]) is not None:
            can_change = self.has_change_permission(request, run)
            shown = shown_fields(self, request, run)
            context |= {
                "badge": self.badge(run),
                "owner": "" if shown.isdisjoint(OWNERS) else self._format_owner(request, run),
                "duration": self.duration(run),
                "cost": "" if shown.isdisjoint(COSTS) else self.cost(run),
                "transitions": transitions.transition_labels(run.status) if can_change else (),
                "version": transitions.format_version(run),
                "show_delete": run.is_finished and context.get("show_delete", True),
            }
        return super().render_change_form(request, context, *args, **kwargs)

    def save_model(self, request: HttpRequest, obj: Run, form: Any, change: bool) -> None:
        """Save a new run, or what the form or a subclass changed of a run.

        The host's code goes on writing the rest.
        """
        if change:
            obj.save(update_fields=changed_fields(obj))
        else:
            obj.save()

    # Transitions

    def get_urls(self) -> Any:
        transition = self.admin_site.admin_view(self.transition_view)
        overview = self.admin_site.admin_view(self.overview_view)
        model = f"{self.opts.app_label}_{self.opts.model_name}"
        return [
            path("<path:object_id>/transition/", transition, name=f"{model}_transition"),
            path("overview/", overview, name=f"{model}_overview"),
            *super().get_urls(),  # the last of these takes every path
        ]

    @method_decorator(require_safe)
    def overview_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show how runs stand, and the figures of a range of days."""
        refuse_nul(request)
        return overview_page(self, request, extra_context)

    @method_decorator(require_POST)
    def transition_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Change the status of a run to that of the pressed button, unless its page is outdated."""
        return transitions.transition(self, request, object_id)

    def get_page_url(self, page: str, *args: str) -> str:
        """Return the path of ``changelist``, or of a page of the run whose ID ``args`` has."""
        name = f"{self.admin_site.name}:{self.opts.app_label}_{self.opts.model_name}_{page}"
        return reverse(name, args=list(map(quote, args)), current_app=self.admin_site.name)

    def redirect_to(self, request: HttpRequest, page: str, *args: str) -> HttpResponseRedirect:
        """Redirect to such a page. It keeps the filters of the list that the viewer came from."""
        context: Any = {
            "opts": self.opts,
            "preserved_filters": self.get_preserved_filters(request),
        }
        return HttpResponseRedirect(add_preserved_filters(context, self.get_page_url(page, *args)))

    # Deleting

    def render_delete_form(self, request: HttpRequest, context: dict[str, Any]) -> Any:
        """As Django's, but raises RunNotFinished where there is nothing to ask about."""
        run = context["object"]
        if not run.is_finished:
            raise RunNotFinished(run.pk, run.status)
        return super().render_delete_form(request, context)

    def delete_model(self, request: HttpRequest, obj: Run) -> None:
        # For the log, once it is committed: Django takes the ID from the object.
        request.deleted_run = copy.copy(obj)  # type: ignore[attr-defined]
        obj.delete()

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        """Delete a batch of the bulk deletion: finished runs, which are locked."""
        queryset.delete_finished()

    @outside_atomic_requests
    def delete_view(self, request: HttpRequest, object_id: str, *args: Any, **kwargs: Any) -> Any:
        """Delete as Django does. A run that must stay is a message, not an error."""
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
        return self.redirect_to(request, "change", unquote(object_id))

    @outside_atomic_requests
    def changelist_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        refuse_nul(request)
        return super().changelist_view(request, *args, **kwargs)
