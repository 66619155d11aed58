"""Plain Django views with hand-written SQL: no REST framework, no rate limit. The unit, 1.0."""

import json
from datetime import timezone

from django.db import connection
from django.http import HttpResponse, JsonResponse
from django.urls import re_path
from django.views.decorators.csrf import csrf_exempt

FINISHED = ("SUCCEEDED", "FAILED", "TIMED-OUT", "ABORTED")
MINE = (
    "(user_id = %s OR organization_id IN "
    "(SELECT group_id FROM auth_user_groups WHERE user_id = %s))"
)
SHORT = (
    "id, act_id, user_id, organization_id, actor_task_id, status, started_at, finished_at, "
    "build_id, build_number, meta, usage_total_usd, default_key_value_store_id, "
    "default_dataset_id, default_request_queue_id"
)
FULL = (
    "id, act_id, user_id, organization_id, actor_task_id, status, started_at, finished_at, "
    "build_id, build_number, meta, usage_total_usd, default_key_value_store_id, "
    "default_dataset_id, default_request_queue_id, status_message, "
    "is_status_message_terminal, pricing_info, stats, charged_event_counts, options, "
    "exit_code, general_access, storage_ids, container_url, is_container_server_ready, "
    "git_branch_name, usage, usage_usd, metamorphs, platform_usage_billing_model"
)
FULL_KEYS = (
    "id actId userId organizationId actorTaskId status startedAt finishedAt buildId "
    "buildNumber meta usageTotalUsd defaultKeyValueStoreId defaultDatasetId "
    "defaultRequestQueueId statusMessage isStatusMessageTerminal pricingInfo stats "
    "chargedEventCounts options exitCode generalAccess storageIds containerUrl "
    "isContainerServerReady gitBranchName usage usageUsd metamorphs platformUsageBillingModel"
).split()
SHORT_KEYS = FULL_KEYS[:15]
JSON_KEYS = {
    "meta", "pricingInfo", "stats", "chargedEventCounts", "options", "storageIds", "usage",
    "usageUsd", "metamorphs",
}  # fmt: skip


def error(status, kind, message):
    return JsonResponse({"error": {"type": kind, "message": message}}, status=status)


def user_of(request, cursor):
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        return None
    cursor.execute(
        "SELECT u.id FROM authtoken_token t JOIN auth_user u ON u.id = t.user_id "
        "WHERE t.key = %s AND u.is_active",
        [key],
    )
    row = cursor.fetchone()
    return row and row[0]


def shape(keys, row):
    run = dict(zip(keys, row, strict=True))
    organization = run.pop("organizationId")
    run["userId"] = str(run["userId"]) if organization is None else f"org-{organization}"
    for key in ("startedAt", "finishedAt"):
        if run[key] is not None:
            utc = run[key].astimezone(timezone.utc)
            run[key] = utc.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    for key in JSON_KEYS & run.keys():
        if isinstance(run[key], str):
            run[key] = json.loads(run[key])
    return {
        key: value
        for key, value in run.items()
        if (value is not None and value != "") or key == "finishedAt"
    }


def is_owner(cursor, user, user_id, organization_id):
    if organization_id is None:
        return user_id == user
    cursor.execute(
        "SELECT 1 FROM auth_user_groups WHERE user_id = %s AND group_id = %s",
        [user, organization_id],
    )
    return cursor.fetchone() is not None


def build_number_int(build_number):
    major, minor, build = map(int, build_number.split("."))
    return major * 10**7 + minor * 10**5 + build


def runs(request):
    with connection.cursor() as cursor:
        user = user_of(request, cursor)
        if user is None:
            return error(401, "token-not-valid", "Authentication token is not valid.")
        limit = min(int(request.GET.get("limit") or 1000), 1000)
        offset = int(request.GET.get("offset") or 0)
        cursor.execute(f"SELECT COUNT(*) FROM actor_runs_run WHERE {MINE}", [user, user])  # noqa: S608
        (total,) = cursor.fetchone()
        cursor.execute(
            f"SELECT {SHORT} FROM actor_runs_run WHERE {MINE} "  # noqa: S608
            "ORDER BY started_at, id LIMIT %s OFFSET %s",
            [user, user, limit, offset],
        )
        items = [shape(SHORT_KEYS, row) for row in cursor.fetchall()]
    for item in items:
        item.setdefault("usageTotalUsd", 0)
        if "buildNumber" in item:
            item["buildNumberInt"] = build_number_int(item["buildNumber"])
    page = {"total": total, "offset": offset, "limit": limit, "count": len(items)}
    return JsonResponse({"data": {**page, "desc": False, "items": items}})


@csrf_exempt
def run(request, run_id):
    with connection.cursor() as cursor:
        user = user_of(request, cursor)
        if user is None:
            return error(401, "token-not-valid", "Authentication token is not valid.")
        cursor.execute(f"SELECT {FULL} FROM actor_runs_run WHERE id = %s", [run_id])  # noqa: S608
        row = cursor.fetchone()
        if row is None:
            return error(404, "record-not-found", "The requested resource was not found.")
        if not is_owner(cursor, user, row[2], row[3]):
            return error(403, "permission-denied", "You do not have permission.")
        if request.method == "GET":
            return JsonResponse({"data": shape(FULL_KEYS, row)})
        if row[5] not in FINISHED:
            return error(400, "cannot-remove-running-run", "Only finished runs can be deleted.")
        cursor.execute(
            "DELETE FROM actor_runs_run WHERE id = %s AND status = ANY(%s)",
            [run_id, list(FINISHED)],
        )
        if not cursor.rowcount:
            return error(404, "record-not-found", "The requested resource was not found.")
    return HttpResponse(status=204)


urlpatterns = [
    re_path(r"^v2/actor-runs/?$", runs),
    re_path(r"^v2/actor-runs/([^/]+)/?$", run),
]
