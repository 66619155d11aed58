"""What a host may do with a subclass of RunAdmin, and with runs in its own admin and forms."""

from __future__ import annotations

import datetime
import io
from pathlib import Path
from typing import Any

import pytest
from django import forms
from django.apps import apps
from django.conf import settings
from django.contrib import admin
from django.contrib.admin.utils import flatten_fieldsets
from django.contrib.auth import get_user_model
from django.contrib.auth.admin import UserAdmin
from django.core.management import call_command
from django.db import models
from django.db.models import Count
from django.db.models.signals import post_save
from django.test import Client
from django.test.utils import isolate_apps
from django.urls import include, path
from django.utils import timezone

from actor_runs.admin import RunAdmin, RunInlineFormSet
from actor_runs.admin.filters import StatusFilter
from actor_runs.admin.forms import RunForm
from actor_runs.models import Run, RunStatus
from tests.support.admin_site import LIST, fill, history, listed, page, said, staff, text
from tests.support.people import make_organization, make_user

pytestmark = pytest.mark.django_db

STATIC = Path(apps.get_app_config("actor_runs").path) / "static" / "actor_runs"
EVERYTHING = ("add", "change", "delete", "view")


@pytest.fixture
def serve(settings: Any) -> Any:
    """A function that serves a site with this admin of runs; it returns the admin."""

    def serve(cls: type[RunAdmin], **others: type[admin.ModelAdmin]) -> RunAdmin:
        site = admin.AdminSite(name="admin")
        site.register(Run, cls)
        for label, other in others.items():
            site.register(apps.get_model(label.replace("__", ".")), other)
        settings.ROOT_URLCONF = (
            path("admin/", site.urls),
            path("v2/", include("actor_runs.urls")),
        )
        errors = [error for each in site._registry.values() for error in each.check()]
        assert errors == []
        return site._registry[Run]

    return serve


@pytest.fixture
def root(db: None) -> Client:
    user = make_user("root", is_staff=True, is_superuser=True)
    client = Client(headers={"accept-language": "en"})
    client.force_login(user)
    return client


def form_data(response: Any) -> dict[str, Any]:
    """Return what the forms of a page would send."""
    forms = [response.context["adminform"].form]
    for formset in response.context["inline_admin_formsets"]:
        forms += [formset.formset.management_form, *formset.formset.forms]
    return values_of(forms)


def values_of(forms: Any) -> dict[str, Any]:
    bound = [each for form in forms for each in form]
    values = {each.html_name: each.value() for each in bound}
    values |= {each.html_initial_name: each.value() for each in bound}
    return {name: "" if value is None else value for name, value in values.items()}


# Querysets


class Joined(RunAdmin):
    def get_queryset(self, request: Any) -> Any:
        return super().get_queryset(request).select_related("user", "organization")


class Annotated(RunAdmin):
    def get_queryset(self, request: Any) -> Any:
        return super().get_queryset(request).annotate(teams=Count("user__groups"))


class Distinct(RunAdmin):
    def get_queryset(self, request: Any) -> Any:
        return super().get_queryset(request).distinct()


class Doubled(RunAdmin):
    """Each run as often as its owner has permissions."""

    def get_queryset(self, request: Any) -> Any:
        return super().get_queryset(request).filter(user__user_permissions__isnull=False)


QUERYSETS = [Joined, Annotated, Distinct, Doubled]


@pytest.fixture
def permitted(alice: Any) -> Any:
    """alice, who has two permissions of her own."""
    permissions = apps.get_model("auth.Permission").objects.all()[:2]
    alice.user_permissions.set(permissions)
    return alice


@pytest.mark.parametrize("cls", [Annotated, Distinct, Doubled])
def test_runs_of_a_queryset_of_its_own_are_not_counted_by_status(serve, root, permitted, cls):
    serve(cls)
    Run.objects.create(user=permitted, status=RunStatus.RUNNING)
    assert "Not finished \u2013 Ready" in text(root.get(LIST))


@pytest.mark.parametrize("cls", QUERYSETS)
def test_any_queryset_lists_changes_and_deletes_runs(serve, root, permitted, cls):
    serve(cls)
    run = Run.objects.create(user=permitted, status=RunStatus.RUNNING)
    assert listed(root) == {run.pk}
    data = form_data(root.get(page(run))) | {"act_id": "changed"}
    assert root.post(page(run), data).status_code == 302
    seen = root.get(page(run))
    version = {"version": seen.context["version"], "status": "ABORTED"}
    root.post(page(run, "transition"), version)
    run.refresh_from_db()
    assert (run.act_id, run.status) == ("changed", "ABORTED")
    assert root.get(page(run, "delete")).status_code == 200
    assert root.post(page(run, "delete"), {"post": "yes"}).status_code == 302
    assert not Run.objects.exists()


@pytest.mark.parametrize("cls", QUERYSETS)
def test_a_bulk_deletion_of_any_queryset_counts_each_run_once(serve, root, permitted, cls):
    serve(cls)
    moment = timezone.now()
    for status in ("SUCCEEDED", "FAILED", "RUNNING"):
        finished_at = moment if status in Run.FINISHED else None
        Run.objects.create(user=permitted, status=status, finished_at=finished_at)
    chosen = list(Run.objects.values_list("pk", flat=True))
    data = {"action": "delete_selected", "_selected_action": chosen}
    asked = root.post(LIST, data)
    assert "2 runs will be deleted. This cannot be undone." in text(asked)
    assert "1 run is kept, since it is not finished." in text(asked)
    data |= {"until": asked.context["until"], "finished": asked.context["summary"].finished}
    assert said(root.post(LIST, data, follow=True)) == [
        "2 runs were deleted.",
        "1 run was kept, since it is not finished.",
    ]


def test_a_run_out_of_the_scope_of_get_queryset_is_not_there(serve, root, alice, bob):
    class Scoped(RunAdmin):
        def get_queryset(self, request: Any) -> Any:
            return super().get_queryset(request).filter(user__username="alice")

    serve(Scoped)
    hers, his = (Run.objects.create(user=u, status=RunStatus.FAILED) for u in (alice, bob))
    assert listed(root) == {hers.pk}
    for name in ("change", "delete", "history"):
        assert "Perhaps it was deleted?" in said(root.get(page(his, name), follow=True))[0]
    data = {"version": "FAILED 0", "status": "READY"}
    assert said(root.post(page(his, "transition"), data, follow=True)) == ["The run is deleted."]
    asked = root.post(LIST, {"action": "delete_selected", "_selected_action": [hers.pk, his.pk]})
    assert "1 run will be deleted. This cannot be undone." in text(asked)


# Filters and lookups


class ByActor(admin.SimpleListFilter):
    title = "initial of the Actor"
    parameter_name = "initial"

    def lookups(self, request: Any, model_admin: Any) -> Any:
        return [("a", "A"), ("b", "B")]

    def queryset(self, request: Any, queryset: Any) -> Any:
        return queryset.filter(act_id__startswith=self.value()) if self.value() else queryset


ZONE = "%2B00:00" if settings.USE_TZ else ""
MAY, JUNE = (f"2024-{month}-01+00:00:00{ZONE}" for month in ("05", "06"))
FILTERS = [
    ("act_id", "act_id=a1", {"a"}),
    ("act_id", "act_id__exact=a1", {"a"}),
    (("act_id", admin.AllValuesFieldListFilter), "act_id=b1", {"b"}),
    (("status_message", admin.EmptyFieldListFilter), "status_message__isempty=0", {"b"}),
    (("status", admin.ChoicesFieldListFilter), "status__exact=FAILED", {"b"}),
    (("user", admin.RelatedOnlyFieldListFilter), "user__isnull=True", set()),
    ("user__is_staff", "user__is_staff__exact=1", {"b"}),
    ("started_at", f"started_at__gte={MAY}&started_at__lt={JUNE}", {"a"}),
    ("is_status_message_terminal", "is_status_message_terminal__exact=1", {"b"}),
    (ByActor, "initial=b", {"b"}),
    (StatusFilter, "status=FAILED", {"b"}),
]


@pytest.mark.parametrize(
    ("item", "query", "found"), FILTERS, ids=[f"{index}" for index in range(len(FILTERS))]
)
def test_any_kind_of_filter_narrows_the_list(serve, root, alice, item, query, found):
    class Filtered(RunAdmin):
        list_filter = [*RunAdmin.list_filter, item] if item != StatusFilter else [item]

    serve(Filtered)
    zone = datetime.timezone.utc if settings.USE_TZ else None
    moment = datetime.datetime(2024, 5, 15, tzinfo=zone)
    Run.objects.create(id="a", user=alice, act_id="a1", started_at=moment)
    bob = make_user("bob", is_staff=True)
    Run.objects.create(
        id="b",
        user=bob,
        act_id="b1",
        status=RunStatus.FAILED,
        status_message="It broke.",
        is_status_message_terminal=True,
    )
    assert listed(root, query) == found
    assert listed(root) == {"a", "b"}


def test_every_link_of_every_filter_works(serve, root):
    class Filtered(RunAdmin):
        list_filter = [
            *RunAdmin.list_filter,
            "act_id",
            "user",
            "organization",
            "finished_at",
            "exit_code",
            ("build_id", admin.AllValuesFieldListFilter),
            ByActor,
        ]
        date_hierarchy = "started_at"

    serve(Filtered)
    fill(12)
    changelist = root.get(LIST).context["cl"]
    links = {
        choice["query_string"]
        for spec in changelist.filter_specs
        for choice in spec.choices(changelist)
        if "query_string" in choice
    }
    assert len(links) > 30
    assert [link for link in links if root.get(f"{LIST}{link}").status_code != 200] == []


def test_a_filter_with_parameters_of_its_own(serve, root, alice):
    class Between(admin.ListFilter):
        title = "build"

        def __init__(self, request: Any, params: Any, model: Any, model_admin: Any) -> None:
            super().__init__(request, params, model, model_admin)
            for name in self.expected_parameters():
                if name in params:
                    self.used_parameters[name] = params.pop(name)[-1]

        def expected_parameters(self) -> list[str]:
            return ["build_from", "build_to"]

        def has_output(self) -> bool:
            return True

        def choices(self, changelist: Any) -> Any:
            return []

        def queryset(self, request: Any, queryset: Any) -> Any:
            values = [self.used_parameters.get(name) for name in self.expected_parameters()]
            return queryset.filter(build_id__range=values) if all(values) else queryset

    class Filtered(RunAdmin):
        list_filter = [Between]

    serve(Filtered)
    for name in "abc":
        Run.objects.create(id=name, user=alice, build_id=name)
    assert listed(root, "build_from=b&build_to=c") == {"b", "c"}


class SinceYear(admin.FieldListFilter):
    """A filter of a field whose parameter does not begin as a lookup of the field does."""

    def expected_parameters(self) -> list[str]:
        return [f"{self.field_path}_since"]

    def choices(self, changelist: Any) -> Any:
        return []

    def queryset(self, request: Any, queryset: Any) -> Any:
        years = self.used_parameters.get(f"{self.field_path}_since", ["1"])
        return queryset.filter(**{f"{self.field_path}__year__gte": int(years[-1])})


def test_a_field_filter_of_a_subclass_can_have_its_own_parameters(serve, root, alice):
    class Filtered(RunAdmin):
        list_filter = [("started_at", SinceYear)]

    serve(Filtered)
    zone = datetime.timezone.utc if settings.USE_TZ else None
    for year in (2023, 2024):
        started_at = datetime.datetime(year, 6, 1, tzinfo=zone)
        Run.objects.create(id=f"of-{year}", user=alice, started_at=started_at)
    assert listed(root, "started_at_since=2024") == {"of-2024"}
    assert root.get(f"{LIST}?finished_at_since=2024").status_code == 400


def test_date_hierarchy_leads_to_days(serve, root, alice):
    class Dated(RunAdmin):
        date_hierarchy = "started_at"

    serve(Dated)
    run = Run.objects.create(user=alice)
    day = run.started_at if not timezone.is_aware(run.started_at) else timezone.localtime()
    query = f"started_at__year={day.year}&started_at__month={day.month}&started_at__day={day.day}"
    assert listed(root, query) == {run.pk}
    for query in (
        "started_at__year=99999999999999999999",
        "started_at__year=2024&started_at__month=13",
        "started_at__gte=x",
    ):
        response = root.get(f"{LIST}?{query}")
        assert (response.status_code, response["Location"]) == (302, f"{LIST}?e=1")


@pytest.mark.host
@pytest.mark.parametrize(
    ("limit", "query"),
    [
        ({"status__in": ["FAILED", "ABORTED"]}, "status__in=FAILED%2CABORTED"),
        (lambda: {"status__in": ["FAILED"], "act_id": "x"}, "status__in=FAILED&act_id=x"),
        ({"user__isnull": False, "status": "FAILED"}, "user__isnull=0&status=FAILED"),
    ],
)
def test_the_popup_of_a_foreign_key_with_limits(serve, root, alice, monkeypatch, limit, query):
    field = apps.get_model("host.Note")._meta.get_field("run")
    monkeypatch.setattr(field.remote_field, "limit_choices_to", limit)
    monkeypatch.setattr(Run._meta, "related_fkey_lookups", [limit])

    class NoteAdmin(admin.ModelAdmin):
        raw_id_fields = ["run"]

    serve(RunAdmin, host__Note=NoteAdmin)
    run = Run.objects.create(user=alice, status=RunStatus.FAILED, act_id="x")
    Run.objects.create(user=alice)
    body = root.get("/admin/host/note/add/").content.decode()
    assert "related-lookup" in body
    assert listed(root, f"{query}&_to_field=id&_popup=1") == {run.pk}


# The list


def test_columns_options_and_the_search_of_a_subclass(serve, root, alice, bob):
    class Columns(RunAdmin):
        list_display = ["id", "owner", "act_id", "message"]
        list_display_links = ["act_id"]
        list_per_page = 2
        sortable_by = ["message"]
        search_fields = ["status_message", "user__email"]
        ordering = ["act_id"]

        @admin.display(description="Message", ordering="status_message")
        def message(self, run: Run) -> str:
            return run.status_message.upper()

    serve(Columns)
    bob.email = "bob@example.org"
    bob.save()
    for name, owner in (("c", alice), ("b", bob), ("a", alice)):
        Run.objects.create(id=name, user=owner, act_id=f"act-{name}", status_message=f"msg {name}")
    response = root.get(LIST)
    assert [run.pk for run in response.context["cl"].result_list] == ["a", "b"]
    assert "MSG A" in text(response)
    assert f'<a href="{page("a")}">act-a</a>' in response.content.decode()
    assert listed(root, "o=-4") == {"c", "b"}
    assert listed(root, "q=example.org") == {"b"}
    assert listed(root, "q=msg+c") == {"c"}
    # Beside the search of the app.
    assert listed(root, "q=b") == {"b"}
    assert listed(root, "q=act-c") == {"c"}
    assert listed(root, "q=lice&p=1") == {"a", "c"}


def test_a_subclass_of_the_admin_can_override_columns(serve, root, run):
    class Own(RunAdmin):
        @admin.display(description="Initiator")
        def owner(self, run: Run) -> str:
            return f"Dear {run.owner}"

        def cost(self, run: Run) -> str:
            return "a farthing"

        def change_view(
            self, request: Any, object_id: str, form_url: str = "", extra_context: Any = None
        ) -> Any:
            return super().change_view(request, object_id, form_url, {"show_delete": False})

    serve(Own)
    for address in (LIST, page(run)):
        words = text(root.get(address))
        assert "Dear alice" in words
        assert "a farthing" in words
    assert "Initiator" in text(root.get(LIST))
    assert page(run, "delete") not in root.get(page(run)).content.decode()


@pytest.mark.parametrize(
    "options",
    [{"list_display_links": ["owner"]}, {"list_display": ["owner", "run_id"]}],
)
def test_a_subclass_of_the_admin_can_link_the_owner_column_to_the_run(serve, root, run, options):
    serve(type("Own", (RunAdmin,), options), **{USER: UserAdmin})
    assert f'<a href="{page(run)}">alice</a>' in root.get(LIST).content.decode()


def test_a_mixin_extends_the_page_of_the_list(serve, root, run, settings):
    class Extended(RunAdmin):
        """As django-import-export does it."""

        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self.extended = self.change_list_template
            self.change_list_template = "extended.html"

        def changelist_view(self, request: Any, extra_context: Any = None) -> Any:
            return super().changelist_view(request, {"extended": self.extended})

    own = {"extended.html": "{% extends extended %}{% block content_title %}Own{% endblock %}"}
    [engine] = settings.TEMPLATES
    loaders = [
        ("django.template.loaders.locmem.Loader", own),
        "django.template.loaders.app_directories.Loader",
    ]
    options = {**engine["OPTIONS"], "loaders": loaders}
    settings.TEMPLATES = [{**engine, "APP_DIRS": False, "OPTIONS": options}]
    serve(Extended)
    body = root.get(LIST).content.decode()
    assert "Own" in body
    assert '<form method="get" id="filter-actorform" hidden>' in body


def test_a_subclass_can_replace_the_page_that_confirms_a_bulk_deletion(serve, root, run):
    class Own(RunAdmin):
        delete_selected_confirmation_template = "admin/delete_selected_confirmation.html"

    serve(Own)
    data = {"action": "delete_selected", "_selected_action": [run.pk]}
    names = [template.name for template in root.post(LIST, data).templates]
    assert "admin/actor_runs/run/delete_selected_confirmation.html" not in names


@pytest.mark.parametrize("ordering", [None, (), ["id"]])
def test_a_list_in_another_order(serve, root, run, ordering):
    serve(type("Own", (RunAdmin,), {"ordering": ordering}))
    assert listed(root) == {run.pk}


def test_a_list_without_a_search(serve, root, run):
    class Searchless(RunAdmin):
        search_fields = ()

    serve(Searchless)
    assert listed(root, "q=nothing") == {run.pk}
    assert 'id="searchbar"' not in root.get(LIST).content.decode()


def test_rows_that_are_edited_in_the_list(serve, root, alice):
    class Editable(RunAdmin):
        list_display = ["id", "act_id", "general_access"]
        list_editable = ["act_id", "general_access"]

        def save_model(self, request: Any, obj: Run, form: Any, change: bool) -> None:
            obj.git_branch_name = "edited"
            super().save_model(request, obj, form, change)

    serve(Editable)
    first, second = (Run.objects.create(user=alice, act_id=name) for name in ("first", "second"))
    formset = root.get(LIST).context["cl"].formset
    data = values_of([formset.management_form, *formset.forms])
    name = next(n for n, v in data.items() if v == "first" and not n.startswith("initial"))
    response = root.post(LIST, data | {name: "changed", "_save": "Save"}, follow=True)
    assert said(response) == ["1 run was changed successfully."]
    first.refresh_from_db()
    second.refresh_from_db()
    assert (first.act_id, first.git_branch_name) == ("changed", "edited")
    assert (second.act_id, second.git_branch_name) == ("second", "")


@pytest.mark.host
def test_runs_are_looked_up_by_a_hosts_autocomplete(serve, root, run):
    class NoteAdmin(admin.ModelAdmin):
        autocomplete_fields = ["run"]

    serve(RunAdmin, host__Note=NoteAdmin)
    asked = {"app_label": "host", "model_name": "note", "field_name": "run"}
    for term, found in ((run.pk, [run.pk]), ("nothing", []), ("a\0b", [])):
        response = root.get("/admin/autocomplete/", {**asked, "term": term})
        assert [each["id"] for each in response.json()["results"]] == found


# The page of a run


def fields_of(client: Client, address: str) -> tuple[set[Any], set[str]]:
    """Return which fields a page shows, and which of them can be edited."""
    adminform = client.get(address).context["adminform"]
    return set(flatten_fieldsets(adminform.fieldsets)), set(adminform.form.fields)


@pytest.mark.parametrize("name", ["fields", "fieldsets"])
def test_a_layout_of_the_subclass(serve, root, run, name):
    names = ["act_id", "status_message", "user", "organization", "badge", "status"]
    readonly = ["badge", "git_branch_name"]
    layout = names if name == "fields" else [("All", {"fields": names})]
    serve(type("Own", (RunAdmin,), {name: layout, "readonly_fields": readonly}))
    shown, editable = fields_of(root, page(run))
    assert shown == set(names)
    assert editable == {"act_id", "status_message", "user", "organization"}
    data = form_data(root.get(page(run))) | {"status_message": "Looked at.", "status": "READY"}
    assert root.post(page(run), data).status_code == 302
    run.refresh_from_db()
    assert (run.status_message, run.status) == ("Looked at.", "SUCCEEDED")
    assert fields_of(root, f"{LIST}add/")[1] >= {"act_id", "user"}


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        (["act_id"], (False, False)),
        (["act_id", "owner"], (True, False)),
        ([("act_id", "usage_total_usd")], (False, True)),
        (None, (True, True)),
    ],
)
def test_the_line_above_the_form_shows_no_more_than_the_page(serve, root, run, fields, shown):
    serve(type("Own", (RunAdmin,), {"fields": fields}))
    Run.objects.filter(pk=run.pk).update(usage_total_usd=0.125)
    page_text = root.get(page(run)).content.decode()
    summary = page_text[page_text.index('class="run-summary"') : page_text.index("<fieldset")]
    assert ("<span>alice</span>" in summary, "<span>$0.1250</span>" in summary) == shown


def test_the_fields_of_the_request(serve, root, run):
    class Own(RunAdmin):
        def get_fields(self, request: Any, obj: Run | None = None) -> Any:
            return ["user", "organization", "act_id"] if obj is None else ["act_id"]

    serve(Own)
    assert fields_of(root, page(run)) == ({"act_id"}, {"act_id"})
    data = form_data(root.get(page(run))) | {"act_id": "changed"}
    assert root.post(page(run), data).status_code == 302
    assert Run.objects.get().act_id == "changed"


def test_more_readonly_fields(serve, root, run):
    class Own(RunAdmin):
        readonly_fields = [*RunAdmin.readonly_fields, "act_id", "notice"]

        def notice(self, run: Run) -> str:
            return f"Notice of {run.pk}"

    serve(Own)
    shown, editable = fields_of(root, page(run))
    assert {"act_id", "notice", "exact_start"} <= shown
    assert "act_id" not in editable
    assert f"Notice of {run.pk}" in text(root.get(page(run)))


def test_an_owner_that_nobody_edits_is_shown_once(serve, root, run):
    class Own(RunAdmin):
        readonly_fields = [*RunAdmin.readonly_fields, "user", "organization"]

    serve(Own)
    shown, editable = fields_of(root, page(run))
    assert "owner" in shown
    assert not {"user", "organization"} & (shown | editable)


def test_fewer_readonly_fields(serve, root, run):
    class Own(RunAdmin):
        readonly_fields = ["act_id"]

    serve(Own)
    editable = fields_of(root, page(run))[1]
    assert "status_message" in editable
    assert not {"act_id", "status", "finished_at", "id"} & editable
    data = form_data(root.get(page(run))) | {"status_message": "Seen."}
    assert root.post(page(run), data).status_code == 302
    assert Run.objects.get().status_message == "Seen."


class FewerFields(forms.ModelForm):
    class Meta:
        model = Run
        fields = ["act_id", "build_id"]


class DroppedField(RunForm):
    reason = forms.CharField(required=False)

    class Meta:
        model = Run
        exclude = ["organization"]


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        ({"exclude": ["git_branch_name"]}, {"git_branch_name"}),
        ({"form": FewerFields}, {"user", "organization", "build_number"}),
        ({"form": DroppedField}, {"organization"}),
    ],
)
def test_a_form_that_drops_fields(serve, root, run, options, missing):
    serve(type("Own", (RunAdmin,), options))
    shown, editable = fields_of(root, page(run))
    assert not missing & (shown | editable)
    data = form_data(root.get(page(run))) | {"act_id": "changed", "reason": "because"}
    assert root.post(page(run), data).status_code == 302
    assert Run.objects.get().act_id == "changed"
    assert root.get(f"{LIST}add/").status_code == 200


def test_fields_that_a_form_adds_are_shown(serve, root, run):
    serve(type("Own", (RunAdmin,), {"form": DroppedField}))
    assert "reason" in fields_of(root, page(run))[0]
    assert "reason" in fields_of(root, f"{LIST}add/")[0]


def test_a_form_that_is_made_for_the_request(serve, root, run):
    class Own(RunAdmin):
        prepopulated_fields = {"git_branch_name": ["act_id"]}
        formfield_overrides = {models.CharField: {"widget": forms.Textarea}}
        raw_id_fields = ()
        save_on_top = True

        def get_form(
            self, request: Any, obj: Any = None, change: bool = False, **kwargs: Any
        ) -> Any:
            form = super().get_form(request, obj, change=change, **kwargs)
            if "act_id" in form.base_fields:
                form.base_fields["act_id"].label = "The Actor"
            return form

    serve(Own)
    body = root.get(page(run)).content.decode()
    assert "The Actor" in body
    assert '<textarea name="act_id"' in body
    assert '<select name="user"' in body


def test_what_save_model_sets_is_saved(serve, root, run, alice):
    class Own(RunAdmin):
        def save_model(self, request: Any, obj: Run, form: Any, change: bool) -> None:
            obj.status_message = f"Saved by {request.user}."
            obj.meta["userAgent"] = "the admin"
            super().save_model(request, obj, form, change)

    serve(Own)
    data = form_data(root.get(page(run))) | {"act_id": "changed"}
    assert root.post(page(run), data).status_code == 302
    run.refresh_from_db()
    assert (run.act_id, run.status_message) == ("changed", "Saved by root.")
    assert run.meta["userAgent"] == "the admin"
    assert root.post(f"{LIST}add/", {"user": alice.pk}).status_code == 302
    assert Run.objects.exclude(pk=run.pk).get().status_message == "Saved by root."


def test_a_run_that_get_object_reads_in_its_own_way_is_saved(serve, root, run):
    class Own(RunAdmin):
        def get_object(self, request: Any, object_id: str, from_field: Any = None) -> Any:
            return Run.objects.get(pk=object_id)

    serve(Own)
    data = form_data(root.get(page(run))) | {"act_id": "changed"}
    assert root.post(page(run), data).status_code == 302
    assert Run.objects.get().act_id == "changed"


def test_an_owner_that_save_model_sets(serve, root):
    class Own(RunAdmin):
        exclude = ["user", "organization"]

        def save_model(self, request: Any, obj: Run, form: Any, change: bool) -> None:
            obj.user = request.user
            super().save_model(request, obj, form, change)

    serve(Own)
    assert root.post(f"{LIST}add/", {}).status_code == 302
    assert str(Run.objects.get().owner) == "root"


def test_an_error_without_a_form_field_is_a_message_in_the_admin(serve, root):
    class Own(RunAdmin):
        readonly_fields = [*RunAdmin.readonly_fields, "user", "organization"]

    serve(Own)
    data = form_data(root.get(f"{LIST}add/"))
    assert said(root.post(f"{LIST}add/", data, follow=True)) == [
        "A run is owned by exactly one: a user or an organization."
    ]
    assert not Run.objects.exists()


def test_one_save_writes_what_was_changed_and_nothing_else(root, run):
    written = []

    def note(sender: Any, update_fields: Any, **kwargs: Any) -> None:
        written.append(set(update_fields))

    data = form_data(root.get(page(run))) | {"act_id": "changed"}
    post_save.connect(note, sender=Run)
    try:
        root.post(page(run), data)
    finally:
        post_save.disconnect(note, sender=Run)
    assert written == [{"act_id"}]


# Permissions


def test_the_owner_is_for_staff_who_may_delete_the_run(run, bob):
    changer = staff("view", "change", username="changer")
    _shown, editable = fields_of(changer, page(run))
    assert not {"user", "organization"} & editable
    assert "act_id" in editable
    data = form_data(changer.get(page(run))) | {"user": bob.pk, "organization": ""}
    assert changer.post(page(run), data).status_code == 302
    assert Run.objects.get().user_id == run.user_id
    both = staff("view", "change", "delete", username="both")
    assert {"user", "organization"} <= fields_of(both, page(run))[1]


def test_permissions_for_one_run(serve, root, alice):
    class Careful(RunAdmin):
        def has_delete_permission(self, request: Any, obj: Run | None = None) -> bool:
            return obj is None or obj.act_id != "kept"

        def has_change_permission(self, request: Any, obj: Run | None = None) -> bool:
            return obj is None or obj.act_id != "kept"

    serve(Careful)
    kept = Run.objects.create(user=alice, act_id="kept", status=RunStatus.FAILED)
    gone = Run.objects.create(user=alice, status=RunStatus.FAILED)
    assert root.get(page(kept, "delete")).status_code == 403
    assert fields_of(root, page(kept))[1] == set()
    data = {"version": "FAILED 0", "status": "READY"}
    assert root.post(page(kept, "transition"), data).status_code == 403
    data = {"action": "delete_selected", "_selected_action": [kept.pk, gone.pk]}
    asked = root.post(LIST, data)
    words = text(asked)
    assert "1 run will be deleted. This cannot be undone." in words
    assert f"1 run is kept, since you do not have permission to delete it: {kept.pk}" in words
    data |= {"until": asked.context["until"], "finished": asked.context["summary"].finished}
    assert said(root.post(LIST, data, follow=True)) == [
        "1 run was deleted.",
        f"1 run was kept, since you do not have permission to delete it: {kept.pk}",
    ]
    assert list(Run.objects.all()) == [kept]
    assert [entry[0] for entry in history()] == [gone.pk]
    ready = Run.objects.create(user=alice, act_id="kept")
    data = {"action": "abort_selected", "_selected_action": ready.pk}
    assert said(root.post(LIST, data, follow=True)) == [
        "0 runs were aborted. 1 run could not be changed: "
        f"{ready.pk}: You do not have permission to change it."
    ]


def test_a_hosts_own_ways_of_deleting(serve, root, alice):
    called = []

    class Own(RunAdmin):
        def delete_model(self, request: Any, obj: Run) -> None:
            called.append(("one", obj.pk))
            super().delete_model(request, obj)

        def delete_queryset(self, request: Any, queryset: Any) -> None:
            called.append(("many", sorted(queryset.values_list("pk", flat=True))))
            super().delete_queryset(request, queryset)

    serve(Own)
    runs = [Run.objects.create(id=i, user=alice, status=RunStatus.FAILED) for i in "abc"]
    root.post(page(runs[0], "delete"), {"post": "yes"})
    data = {"action": "delete_selected", "_selected_action": ["b", "c"]}
    asked = root.post(LIST, data)
    root.post(LIST, data | {"until": asked.context["until"]})
    assert called == [("one", "a"), ("many", ["b", "c"])]
    assert not Run.objects.exists()


def test_an_action_of_the_host(serve, root, run):
    class Own(RunAdmin):
        actions = ["restrict"]

        @admin.action(description="Restrict")
        def restrict(self, request: Any, queryset: Any) -> None:
            queryset.update(general_access="RESTRICTED")
            self.message_user(request, "Restricted.")

    serve(Own)
    data = {"action": "restrict", "_selected_action": [run.pk]}
    assert said(root.post(LIST, data, follow=True)) == ["Restricted."]
    assert Run.objects.get().general_access == "RESTRICTED"


def test_a_site_without_bulk_deletion_has_none_of_runs(serve, root, run):
    site = serve(RunAdmin).admin_site
    assert '<option value="delete_selected">' in root.get(LIST).content.decode()
    site.disable_action("delete_selected")
    assert '<option value="delete_selected">' not in root.get(LIST).content.decode()
    data = {"action": "delete_selected", "_selected_action": [run.pk]}
    assert root.post(LIST, data).status_code == 302
    assert Run.objects.filter(pk=run.pk).exists()

    class Again(RunAdmin):
        actions = [*RunAdmin.actions, "delete_selected"]

    site = serve(Again).admin_site
    site.disable_action("delete_selected")
    assert root.post(LIST, data).context["until"]


def test_without_the_actions_of_the_app_an_unfinished_run_is_not_said_to_be_deleted(
    serve, root, alice
):
    class Own(RunAdmin):
        actions = ["restrict"]

        @admin.action(description="Restrict")
        def restrict(self, request: Any, queryset: Any) -> None:
            """Beside it the list offers the site's own deletion."""

    serve(Own)
    for status in ("FAILED", "RUNNING"):
        Run.objects.create(id=status, user=alice, status=status)
    data = {"action": "delete_selected", "_selected_action": ["FAILED", "RUNNING"]}
    until = root.post(LIST, data).context["until"]
    data |= {"post": "yes", "until": until, "finished": 1}
    assert said(root.post(LIST, data, follow=True)) == [
        "1 run was deleted.",
        "1 run was kept, since it is not finished.",
    ]
    assert [(entry[0], entry[1]) for entry in history()] == [("FAILED", 3)]
    assert Run.objects.get().pk == "RUNNING"


@isolate_apps("actor_runs")
def test_a_proxy_of_run_has_the_pages_of_the_app(settings, root, alice):
    class LostRun(Run):
        class Meta:
            app_label = "actor_runs"
            proxy = True

    site = admin.AdminSite(name="admin")
    site.register(LostRun, RunAdmin)
    settings.ROOT_URLCONF = (path("admin/", site.urls),)
    run = Run.objects.create(user=alice, status=RunStatus.RUNNING)
    address = "/admin/actor_runs/lostrun/"
    listed = root.get(address).content.decode()
    assert f'href="{address}overview/"' in listed
    assert '<form method="get" id="filter-actorform" hidden>' in listed
    change = root.get(f"{address}{run.pk}/change/")
    assert "Finish as aborted" in text(change)
    # Which the script finds, to ask if unsaved changes are to be lost.
    assert 'data-page="lostrun_form"' in change.content.decode()
    assert 'id="lostrun_form"' in change.content.decode()
    for name in ("admin.css", "admin.js"):  # nor are these for pages of one model
        assert "model-run" not in (STATIC / name).read_text()
    ours = {"admin/actor_runs/lostrun/change_form.html": "the host's own page"}
    loader = ("django.template.loaders.locmem.Loader", ours)
    [engine] = settings.TEMPLATES
    options = {**engine["OPTIONS"], "loaders": [loader]}
    settings.TEMPLATES = [{**engine, "APP_DIRS": False, "OPTIONS": options}]
    assert text(root.get(f"{address}{run.pk}/change/")) == "the host's own page"


# Inlines


@pytest.mark.host
def test_rows_of_the_host_beside_a_run(serve, root, run):
    class NoteInline(admin.TabularInline):
        model = apps.get_model("host.Note")
        extra = 0

    class Own(RunAdmin):
        inlines = [NoteInline]

    serve(Own)
    data = form_data(root.get(page(run)))
    data |= {"notes-TOTAL_FORMS": "1", "notes-0-run": run.pk, "notes-0-id": ""}
    assert root.post(page(run), data).status_code == 302
    assert root.post(page(run), form_data(root.get(page(run)))).status_code == 302


class RunInline(admin.TabularInline):
    model = Run
    formset = RunInlineFormSet
    fields = ["act_id", "general_access"]
    extra = 0


class OwnerAdmin(UserAdmin):
    inlines = [RunInline]
    # Django's are of no concern here.
    fieldsets = [(None, {"fields": ["username"]})]


USER = get_user_model()._meta.label.replace(".", "__")


def owner_page(user: Any) -> str:
    return f"/admin/{USER.lower().replace('__', '/')}/{user.pk}/change/"


def test_runs_beside_their_owner(serve, root, alice):
    serve(RunAdmin, **{USER: OwnerAdmin})
    run = Run.objects.create(user=alice, act_id="first")
    data = form_data(root.get(owner_page(alice))) | {
        "actor_runs-0-act_id": "changed",
        "actor_runs-TOTAL_FORMS": "2",
        "actor_runs-1-user": alice.pk,
        "actor_runs-1-act_id": "second",
        "actor_runs-1-general_access": "RESTRICTED",
    }
    assert root.post(owner_page(alice), data).status_code == 302
    assert set(alice.actor_runs.values_list("act_id", flat=True)) == {"changed", "second"}
    run.refresh_from_db()
    assert run.act_id == "changed"


def test_runs_are_deleted_beside_their_owner_if_they_are_finished(serve, root, alice):
    serve(RunAdmin, **{USER: OwnerAdmin})
    run = Run.objects.create(user=alice, status=RunStatus.RUNNING)
    data = form_data(root.get(owner_page(alice))) | {"actor_runs-0-DELETE": "on"}
    response = root.post(owner_page(alice), data)
    words = f"Only finished runs can be deleted. {run.pk} is: Running."
    assert words in text(response)
    assert Run.objects.exists()
    run.transition_to(RunStatus.FAILED)
    assert root.post(owner_page(alice), data).status_code == 302
    assert not Run.objects.exists()


# System checks


def checked(cls: type[RunAdmin], **others: type[admin.ModelAdmin]) -> list[tuple[str, str]]:
    """Return what the system check says about a site: IDs, and words."""
    site = admin.AdminSite(name="admin")
    site.register(Run, cls)
    for label, other in others.items():
        site.register(apps.get_model(label.replace("__", ".")), other)
    return [(error.id, error.msg) for error in site._registry[Run].check()]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("user", "who may set the owner depends on the run"),
        ("organization", "who may set the owner depends on the run"),
        ("status", "transitions alone change it"),
        ("finished_at", "transitions alone change it"),
    ],
)
def test_columns_that_cannot_be_edited_are_refused(name, reason):
    options = {"list_display": ["id", "act_id", name], "list_editable": ["act_id", name]}
    assert checked(type("Own", (RunAdmin,), options)) == [
        (
            "actor_runs.E101",
            f"The value of 'list_editable' refers to '{name}', which cannot be edited in the "
            f"list: {reason}.",
        )
    ]


def test_an_inline_that_fails_for_unfinished_runs_is_warned_about():
    class Plain(admin.StackedInline):
        model = Run

    class Kept(Plain):
        can_delete = False

    class OwnerAdmin(UserAdmin):
        inlines = [Plain, Kept, RunInline]

    assert checked(RunAdmin, **{USER: OwnerAdmin}) == [
        (
            "actor_runs.W101",
            "Plain can delete runs, and fails with RunNotFinished for an unfinished one.",
        )
    ]


# Forms, formsets, fixtures and factories of the host


def test_a_form_of_a_few_fields_whose_owner_is_set_later(alice):
    form = forms.modelform_factory(Run, fields=["act_id", "status_message"])(
        {"act_id": "x", "status_message": "y"}
    )
    assert form.is_valid(), form.errors
    run = form.save(commit=False)
    run.user = alice
    run.save()
    assert Run.objects.get().act_id == "x"


def test_what_a_form_refuses_is_an_error_of_its_field(alice):
    fields = ["user", "organization", "act_id", "build_number", "general_access"]
    form = forms.modelform_factory(Run, fields=fields)(
        {"act_id": "x", "build_number": "1", "general_access": "RESTRICTED"}
    )
    assert not form.is_valid()
    assert "build_number" in form.errors
    form = forms.modelform_factory(Run, fields=fields)(
        {"act_id": "x", "general_access": "RESTRICTED"}
    )
    assert not form.is_valid()


def test_a_status_in_a_form_is_an_error_and_not_a_change(alice):
    run = Run.objects.create(user=alice, status=RunStatus.FAILED)
    make = forms.modelform_factory(Run, fields=["act_id", "status"])
    form = make({"act_id": "x", "status": "ABORTED"}, instance=run)
    assert form.errors == {
        "__all__": ["The status changes by transitions alone. It is: Failed."],
    }
    assert make({"act_id": "x", "status": "FAILED"}, instance=Run.objects.get()).is_valid()
    assert make({"act_id": "x", "status": "ABORTED"}, instance=Run(user=alice)).is_valid()


def test_a_status_that_a_subclass_lets_staff_edit_is_an_error(serve, root, run):
    class Own(RunAdmin):
        fields = ["act_id", "status"]

        def get_readonly_fields(self, request: Any, obj: Run | None = None) -> Any:
            return ()

    serve(Own)
    response = root.post(page(run), form_data(root.get(page(run))) | {"status": "ABORTED"})
    assert "The status changes by transitions alone. It is: Succeeded." in text(response)
    assert Run.objects.get().status == "SUCCEEDED"


def test_a_formset_of_runs(alice):
    run = Run.objects.create(user=alice, act_id="x")
    formset_class = forms.modelformset_factory(Run, fields=["act_id"], extra=0)
    data = {
        "form-TOTAL_FORMS": "1",
        "form-INITIAL_FORMS": "1",
        "form-0-id": run.pk,
        "form-0-act_id": "changed",
    }
    formset = formset_class(data)
    assert formset.is_valid(), formset.errors
    formset.save()
    assert Run.objects.get().act_id == "changed"


def test_a_copy_of_a_run(run):
    first = run.pk
    run.pk = None
    run._state.adding = True
    run.save()
    assert run.pk != first
    assert Run.objects.count() == 2


@pytest.mark.parametrize("serializer", ["json", "jsonl", "xml"])
def test_runs_in_a_fixture(alice, tmp_path, serializer):
    finished = Run.objects.create(
        user=alice, status=RunStatus.FAILED, usage_total_usd=0.5, meta={"origin": "CLI"}
    )
    organization = make_organization("Acme")
    Run.objects.create(organization=organization)
    before = list(Run.objects.order_by("pk").values())
    file = tmp_path / f"runs.{serializer}"
    call_command("dumpdata", "actor_runs.Run", output=str(file), format=serializer)
    finished.delete()
    models.QuerySet(Run).all()._raw_delete("default")
    call_command("loaddata", str(file), stdout=io.StringIO())
    assert list(Run.objects.order_by("pk").values()) == before


def test_a_factory_that_saves_twice(alice):
    run = Run.objects.create(user=alice, status=RunStatus.SUCCEEDED)
    run.act_id = "after"
    run.save()
    again, created = Run.objects.get_or_create(id=run.pk, defaults={"user": alice})
    assert (again, created) == (run, False)
    assert Run.objects.update_or_create(id=run.pk, defaults={"act_id": "x"})[1] is False
    assert Run.objects.get().act_id == "x"
