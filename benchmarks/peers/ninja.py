"""django-ninja with the ORM, without a rate limit."""

from datetime import datetime
from typing import Any

from django.db.models import Q
from django.shortcuts import get_object_or_404
from django.urls import path
from ninja import NinjaAPI, Schema, Status
from ninja.errors import HttpError
from ninja.security import HttpBearer
from rest_framework.authtoken.models import Token

from benchmarks.peers.models import PeerRun


class Bearer(HttpBearer):
    def authenticate(self, request, token):
        try:
            user = Token.objects.select_related("user").get(key=token).user
        except Token.DoesNotExist:
            return None
        return user if user.is_active else None


class RunShort(Schema):
    id: str
    act_id: str
    user_id: int | None
    organization_id: int | None
    actor_task_id: str
    status: str
    started_at: datetime
    finished_at: datetime | None
    build_id: str
    build_number: str
    meta: dict[str, Any]
    usage_total_usd: float | None
    default_key_value_store_id: str
    default_dataset_id: str
    default_request_queue_id: str


class RunFull(RunShort):
    status_message: str
    is_status_message_terminal: bool | None
    pricing_info: dict[str, Any] | None
    stats: dict[str, Any]
    charged_event_counts: dict[str, int] | None
    options: dict[str, Any]
    exit_code: int | None
    general_access: str
    storage_ids: dict[str, Any] | None
    container_url: str
    is_container_server_ready: bool | None
    git_branch_name: str
    usage: dict[str, Any] | None
    usage_usd: dict[str, Any] | None
    metamorphs: list[Any] | None
    platform_usage_billing_model: str


class Single(Schema):
    data: RunFull


class Page(Schema):
    total: int
    offset: int
    limit: int
    count: int
    desc: bool
    items: list[RunShort]


class Listing(Schema):
    data: Page


api = NinjaAPI(auth=Bearer(), docs_url=None, openapi_url=None)


def mine(user):
    return PeerRun.objects.filter(Q(user=user) | Q(organization__in=user.groups.all()))


@api.get("/actor-runs", response=Listing)
def list_runs(request, limit: int = 1000, offset: int = 0):
    runs = mine(request.auth)
    # Rows, not objects, as in the other peers that are quick at lists.
    items = list(
        runs.values(*RunShort.model_fields).order_by("started_at", "id")[offset : offset + limit]
    )
    return {
        "data": {
            "total": runs.count(), "offset": offset, "limit": limit, "count": len(items),
            "desc": False, "items": items,
        }
    }  # fmt: skip


@api.get("/actor-runs/{run_id}", response=Single)
def get_run(request, run_id: str):
    return {"data": get_object_or_404(mine(request.auth), pk=run_id)}


@api.delete("/actor-runs/{run_id}", response={204: None})
def delete_run(request, run_id: str):
    run = get_object_or_404(mine(request.auth), pk=run_id)
    if not run.is_finished:
        raise HttpError(400, "Only finished runs can be deleted.")
    run.delete()
    return Status(204, None)


urlpatterns = [path("v2/", api.urls)]
