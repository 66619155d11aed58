"""Staff, and a site where owners have pages too: also a urlconf (``pytest.mark.urls``)."""

from __future__ import annotations

import datetime
import html
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.apps import apps
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.admin.utils import quote
from django.contrib.auth import get_user_model
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import include, path, reverse
from django.utils import timezone

from actor_runs.admin import RunAdmin
from actor_runs.conf import conf
from actor_runs.models import Run, RunStatus
from tests.support.people import make_organization, make_user

EVERYTHING = ("add", "change", "delete", "view")
LIST = "/admin/actor_runs/run/"


class OrganizationAdmin(admin.ModelAdmin):
    search_fields = ["name"]


site = admin.AdminSite(name="admin")
site.register(Run, RunAdmin)
site.register(get_user_model(), UserAdmin)
site.register(apps.get_model(conf.organization_model), OrganizationAdmin)
if apps.is_installed("tests.host"):
    site.register(apps.get_model("host.Note"))

urlpatterns = [path("admin/", site.urls), path("v2/", include("actor_runs.urls"))]


def staff(*permissions: str, username: str = "staff", **options: Any) -> Client:
    """Return a client, logged in and speaking English, of staff who may do that with runs.

    ``permissions`` are ``add``, ``change``, ``delete``, ``view``, or names like ``auth.view_user``.
    """
    user = make_user(username, is_staff=True)
    for name in permissions:
        app, _, codename = (name if "." in name else f"actor_runs.{name}_run").rpartition(".")
        user.user_permissions.add(
            Permission.objects.get(content_type__app_label=app, codename=codename)
        )
    client = Client(headers={"accept-language": "en"}, **options)
    client.force_login(user)
    return client


def page(run: Run | str, name: str = "change") -> str:
    """Return the path of a run's page."""
    run_id = run if isinstance(run, str) else run.pk
    return reverse(f"admin:actor_runs_run_{name}", args=[quote(run_id)])


def text(response: Any) -> str:
    """Return what people read on a page, its blanks made single."""
    body = re.sub(r"(?s)<(script|style).*?</\1>", " ", response.content.decode())
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", body)))


def said(response: Any) -> list[str]:
    """Return the messages of a page, or of the page that a POST led to."""
    return [str(message) for message in response.context["messages"]]


def listed(client: Client, query: str = "") -> set[str]:
    """Return the IDs of the runs on a page of the list."""
    response = client.get(f"{LIST}?{query}")
    assert response.status_code == 200
    return {run.pk for run in response.context["cl"].result_list}


def history() -> list[tuple[str, int, str]]:
    """Return the admin's history: object ID, 1 to 3 for added, changed, deleted, and words."""
    entries = LogEntry.objects.order_by("pk")
    return list(entries.values_list("object_id", "action_flag", "change_message"))


def fill(count: int) -> None:
    """Make runs until there are so many, of several owners of both kinds, in every status."""
    users = get_user_model().objects
    if not users.filter(username="person0").exists():
        for number in range(5):
            make_user(f"person{number}")
            make_organization(f"Group{number}")
    people = list(users.filter(username__startswith="person"))
    groups = list(apps.get_model(conf.organization_model).objects.all())
    start = timezone.now() - datetime.timedelta(days=2)
    runs = []
    for number in range(Run.objects.count(), count):
        status = RunStatus.values[number % 8]
        moment = start + datetime.timedelta(seconds=number)
        runs.append(
            Run(
                id=f"run{number:05}",
                status=status,
                user=people[number % 5] if number % 3 else None,
                organization=None if number % 3 else groups[number % 5],
                started_at=moment,
                finished_at=moment if status in Run.FINISHED else None,
                usage_total_usd=number / 100,
            )
        )
    Run.objects.bulk_create(runs)


def queries(client: Client, url: str) -> list[str]:
    """Return what a page asks the database."""
    with CaptureQueriesContext(connection) as asked:
        response = client.get(url)
    assert response.status_code == 200
    return [query["sql"] for query in asked.captured_queries]


@contextmanager
def after_reading(action: Callable[[], Any], sql: str = "") -> Iterator[None]:
    """Do ``action`` once, right after runs were read first, by a statement that holds ``sql``."""
    is_done = False

    def watch(execute: Any, statement: str, params: Any, many: bool, context: Any) -> Any:
        nonlocal is_done
        result = execute(statement, params, many, context)
        reads = statement.startswith("SELECT") and Run._meta.db_table in statement
        if reads and sql in statement and not is_done:
            is_done = True
            action()
        return result

    with connection.execute_wrapper(watch):
        yield
    assert is_done
