"""Exporting the admin's selection: CSV for spreadsheets, JSON Lines that are imported again."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.admin import AdminSite
from django.core.management import call_command
from django.db import connection, connections
from django.forms.models import model_to_dict
from django.test import AsyncClient
from django.test.utils import CaptureQueriesContext
from django.urls import include, path
from django.utils import timezone

from actor_runs.admin import RunAdmin, export
from actor_runs.models import Run, RunStatus
from tests.support.admin_site import EVERYTHING, LIST, fill, staff, text
from tests.support.admin_site import site as admin_site
from tests.support.people import make_user

pytestmark = pytest.mark.django_db


def send(client: Any, action: str, *ids: str, address: str = LIST, **data: Any) -> Any:
    data = {"action": action, "_selected_action": ids, **data}
    return client.post(address, data)


def content(response: Any) -> str:
    assert response.status_code == 200
    assert response.streaming
    return b"".join(response.streaming_content).decode()


def records(response: Any) -> dict[str, dict[str, Any]]:
    """Return the runs of a file of JSON Lines, by their IDs."""
    lines = content(response).splitlines()
    return {record["id"]: record for record in map(json.loads, lines)}


def table(response: Any) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content(response), newline="")))


@pytest.fixture
def viewer(db: None) -> Any:
    return staff("view")


@pytest.fixture
def full_run(alice: Any) -> Run:
    """A run that has a value in every field."""
    return Run.objects.create(
        id="full_run-1",
        user=alice,
        status=RunStatus.FAILED,
        started_at=timezone.now(),
        finished_at=timezone.now(),
        exit_code=-1,
        actor_task_id="task",
        build_number="1.2.3",
        status_message='Two\nlines, "quotes" and Ümläute 💩',
        is_status_message_terminal=False,
        general_access="RESTRICTED",
        storage_ids={"datasets": {"default": "d"}},
        container_url="https://example.com/",
        is_container_server_ready=True,
        git_branch_name="main",
        meta={"origin": "WEB", "clientIp": "192.0.2.1", "userAgent": "a browser"},
        usage={"ACTOR_COMPUTE_UNITS": 0.5},
        usage_usd={"ACTOR_COMPUTE_UNITS": 0.125},
        usage_total_usd=0.125,
        charged_event_counts={"page": 3},
        pricing_info={
            "pricingModel": "FREE",
            "apifyMarginPercentage": 0,
            "createdAt": "2023-05-01T00:00:00.000Z",
            "startedAt": "2023-05-01T00:00:00.000Z",
        },
        platform_usage_billing_model="USER",
        metamorphs=[
            {"createdAt": "2023-05-01T00:00:00.000Z", "actorId": "a", "buildId": "b"},
        ],
    )


def test_exported_runs_are_the_same_after_they_are_deleted_and_imported(alice, full_run, tmp_path):
    empty = {"actor_task_id": "", "build_number": "", "status_message": "", "git_branch_name": ""}
    Run.objects.create(user=alice, status=RunStatus.RUNNING, exit_code=None, **empty)
    before = {run.pk: model_to_dict(run) for run in Run.objects.all()}
    response = send(staff(*EVERYTHING), "export_jsonl", *before)
    file = tmp_path / "runs.jsonl"
    file.write_text(content(response))
    Run.objects.unfinished().update(status=RunStatus.ABORTED, finished_at=timezone.now())
    Run.objects.all().delete()
    call_command("import_actor_runs", str(file), user="alice", verbosity=0)
    assert {run.pk: model_to_dict(run) for run in Run.objects.all()} == before


def test_a_record_has_every_key_that_has_a_value(viewer, full_run):
    record = records(send(viewer, "export_jsonl", full_run.pk))[full_run.pk]
    assert record["userId"] == str(full_run.user_id)
    assert record["meta"]["clientIp"] == "192.0.2.1"
    assert record["startedAt"].endswith("Z")
    assert {*record} == {*export.FIELDS, "userId"}


def test_a_table_has_a_column_for_each_key(viewer, full_run, acme):
    other = Run.objects.create(id="ready", organization=acme)
    rows = {row["id"]: row for row in table(send(viewer, "export_csv", full_run.pk, other.pk))}
    row = rows[full_run.pk]
    assert {*row} == {*export.FIELDS, "userId"}
    assert row["statusMessage"] == full_run.status_message
    assert (row["exitCode"], row["isContainerServerReady"]) == ("-1", "true")
    assert json.loads(row["meta"]) == full_run.meta
    assert rows["ready"]["userId"] == f"org-{acme.pk}"
    assert rows["ready"]["finishedAt"] == ""


@pytest.mark.parametrize(
    "message",
    [
        "=1+1",
        "+1",
        "-1",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "\n=1",
        "  =1",
        "\uff1d1",
        "=cmd|' /C calc'!A0",
        '=HYPERLINK("http://example.com")',
    ],
)
def test_a_cell_that_a_spreadsheet_would_run_begins_with_an_apostrophe(viewer, alice, message):
    Run.objects.bulk_create([Run(user=alice, status_message=message, act_id=message)])
    (row,) = table(send(viewer, "export_csv", Run.objects.get().pk))
    assert row["statusMessage"] == row["actId"] == f"'{message}"


@pytest.mark.parametrize(
    ("message", "cell"),
    [
        ("x;=1+1;", "x;'=1+1;"),
        (";=1", ";'=1"),
        ("x; ;\uff1d1", "x; ;'\uff1d1"),
        ("x\n=1", "x\n'=1"),
        ("x\t @A", "x\t '@A"),
        ("=1;-1", "'=1;'-1"),
        ("\n=1;\n =2", "'\n=1;\n '=2"),
    ],
)
def test_a_formula_inside_of_a_text_has_an_apostrophe_too(viewer, alice, message, cell):
    # Spreadsheets in German separate cells by semicolons, whatever quotes there are.
    meta = {"origin": "API", "userAgent": message}
    Run.objects.bulk_create([Run(user=alice, status_message=message, meta=meta)])
    (row,) = table(send(viewer, "export_csv", Run.objects.get().pk))
    assert row["statusMessage"] == cell
    assert ";=" not in row["meta"]


@pytest.mark.parametrize(
    "message",
    [
        *["'quoted'", "a=b", "1-1", "", "me@example.com", "a; b", "a\nb", "a, -b", "a - b"],
        "a" + "\n" * 100_000 + "b",  # no search that grows with its square
    ],
)
def test_other_cells_are_as_they_are(viewer, alice, message):
    Run.objects.bulk_create([Run(user=alice, status_message=message)])
    (row,) = table(send(viewer, "export_csv", Run.objects.get().pk))
    assert row["statusMessage"] == message


@pytest.mark.parametrize(("action", "ending"), [("export_csv", "csv"), ("export_jsonl", "jsonl")])
def test_the_answer_is_a_file_that_nobody_keeps(viewer, run, action, ending):
    response = send(viewer, action, run.pk)
    assert response.headers["Content-Disposition"].startswith('attachment; filename="runs-')
    assert response.headers["Content-Disposition"].endswith(f'.{ending}"')
    assert "no-store" in response.headers["Cache-Control"]


def test_only_the_selected_runs_are_exported(viewer):
    fill(8)
    assert [*records(send(viewer, "export_jsonl", "run00003", "run00001", "gone"))] == [
        "run00001",
        "run00003",
    ]


def test_all_runs_that_match_are_exported_batch_by_batch(viewer, monkeypatch):
    fill(120)
    monkeypatch.setattr(export, "BATCH_SIZE", 7)
    response = send(
        viewer,
        "export_jsonl",
        "run00000",
        address=f"{LIST}?status=FAILED&owner=user",
        select_across="1",
        index="0",
    )
    expected = Run.objects.filter(status=RunStatus.FAILED, user__isnull=False).order_by("pk")
    assert [*records(response)] == list(expected.values_list("pk", flat=True))


def test_a_batch_is_read_when_it_is_sent(viewer, monkeypatch):
    fill(50)
    monkeypatch.setattr(export, "BATCH_SIZE", 10)
    response = send(viewer, "export_jsonl", "run00000", select_across="1", index="0")
    chunks = iter(response.streaming_content)
    with CaptureQueriesContext(connection) as asked:
        first = [next(chunks), next(chunks)]
    assert [chunk.count(b"\n") for chunk in first] == [10, 10]
    assert len(asked.captured_queries) == 1
    Run.objects.all().delete_finished()  # what goes meanwhile does not disturb it
    left = Run.objects.filter(pk__gte="run00020").count()
    assert sum(chunk.count(b"\n") for chunk in chunks) == left


def test_it_needs_the_permission_to_view_runs(run):
    for action in ("export_csv", "export_jsonl"):
        name = f"adder-{action}"
        assert send(staff("add", username=name), action, run.pk).status_code == 403
    words = text(staff("view").get(LIST))
    assert "Export the selected runs as CSV" in words
    assert "Export the selected runs as JSON Lines" in words


class ScopedAdmin(RunAdmin):
    def get_queryset(self, request: Any) -> Any:
        return super().get_queryset(request).filter(user__username="alice").distinct()

    def has_view_permission(self, request: Any, obj: Any = None) -> bool:
        return super().has_view_permission(request, obj) and (obj is None or obj.pk != "secret")


class BriefAdmin(RunAdmin):
    fields = ["id", "badge", "status_message"]


class PersonalAdmin(RunAdmin):
    def has_delete_permission(self, request: Any, obj: Any = None) -> bool:
        return obj is None or obj.owner.pk == request.user.pk

    def get_exclude(self, request: Any, obj: Any = None) -> Any:
        return ["build_id", *([] if obj is None or obj.pk == "open" else ["git_branch_name"])]


scoped, brief, personal = map(AdminSite, ("scoped", "brief", "personal"))
scoped.register(Run, ScopedAdmin)
brief.register(Run, BriefAdmin)
personal.register(Run, PersonalAdmin)
urlpatterns = [
    path("admin/", admin_site.urls),
    path("scoped/", scoped.urls),
    path("brief/", brief.urls),
    path("personal/", personal.urls),
    path("v2/", include("actor_runs.urls")),
]


@pytest.mark.urls(__name__)
def test_only_what_a_subclass_lets_the_viewer_see_is_exported(viewer, alice, bob):
    for name, owner in {"hers": alice, "secret": alice, "his": bob}.items():
        Run.objects.create(id=name, user=owner)
    for selected in ({}, {"select_across": "1", "index": "0"}):
        response = send(
            viewer,
            "export_jsonl",
            *("hers", "secret", "his"),
            address="/scoped/actor_runs/run/",
            **selected,
        )
        assert [*records(response)] == ["hers"]


@pytest.mark.urls(__name__)
def test_fields_that_a_subclass_does_not_show_are_not_exported(viewer, alice, full_run, tmp_path):
    response = send(viewer, "export_jsonl", full_run.pk, address="/brief/actor_runs/run/")
    lines = content(response)
    record = json.loads(lines)
    assert {"usageUsd", "usageTotalUsd", "exitCode", "userId"}.isdisjoint(record)
    assert record["meta"] == {"origin": "WEB"}
    assert record["statusMessage"] == full_run.status_message
    # It can be imported all the same.
    file = tmp_path / "runs.jsonl"
    file.write_text(lines)
    full_run.delete()
    call_command("import_actor_runs", str(file), user="alice", verbosity=0)
    assert Run.objects.get().status_message == full_run.status_message


@pytest.mark.django_db(transaction=True)
def test_by_asgi_it_is_streamed_too(alice, monkeypatch):
    monkeypatch.setattr(export, "BATCH_SIZE", 10)
    fill(30)
    client = AsyncClient()
    client.force_login(make_user("root", is_staff=True, is_superuser=True))

    async def chunks() -> list[bytes]:
        data = {"action": "export_jsonl", "_selected_action": "run00000", "select_across": "1"}
        response = await client.post(LIST, data)
        assert response.is_async
        sent = [chunk async for chunk in response.streaming_content]
        await sync_to_async(connections.close_all)()
        return sent

    assert [chunk.count(b"\n") for chunk in asyncio.run(chunks())] == [10, 10, 10]


@pytest.mark.urls(__name__)
@pytest.mark.parametrize("action", ["export_csv", "export_jsonl"])
def test_an_export_leaves_out_runs_that_were_deleted_meanwhile(viewer, action):
    # And a subclass that decides by the run is not asked about one that is not there.
    response = send(viewer, action, "deleted", address="/personal/actor_runs/run/")
    assert response.status_code == 200
    assert len(content(response).splitlines()) == (action == "export_csv")


def test_a_table_of_no_runs_has_the_columns_that_an_import_needs(viewer):
    header = content(send(viewer, "export_csv", "deleted")).strip().split(",")
    assert {export.FIELDS.get(key, key) for key in header} == {*export.ALWAYS, "userId"}


@pytest.mark.urls(__name__)
def test_fields_that_a_subclass_shows_for_some_runs_are_exported_for_those_only(viewer, alice):
    for name in ("closed", "open"):
        Run.objects.create(id=name, user=alice, git_branch_name=f"of-{name}", meta={"origin": "CI"})
    selected = {"address": "/personal/actor_runs/run/"}
    found = records(send(viewer, "export_jsonl", "closed", "open", **selected))
    assert "gitBranchName" not in found["closed"]
    assert found["open"]["gitBranchName"] == "of-open"
    rows = {
        row["id"]: row for row in table(send(viewer, "export_csv", "closed", "open", **selected))
    }
    assert [rows[name]["gitBranchName"] for name in ("closed", "open")] == ["", "of-open"]
