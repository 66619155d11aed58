"""The shapes of a run on the wire, out only: the API reads and deletes."""

from __future__ import annotations

from typing import Any

from rest_framework.serializers import BaseSerializer

from actor_runs.models import Run
from actor_runs.validators import BUILD_NUMBER, format_time


def owner_key(run: Run) -> str:
    """Return ``userId``: the owning user's primary key, or ``org-`` and the organization's."""
    return str(run.user_id) if run.user_id is not None else f"org-{run.organization_id}"


def build_number_int(build_number: str) -> int | None:
    """Return a build number as one integer: 0.1.2 is 0·10⁷ + 1·10⁵ + 2."""
    match = BUILD_NUMBER.fullmatch(build_number)
    if match is None:
        return None
    major, minor, build = map(int, match.groups())
    return major * 10**7 + minor * 10**5 + build


def with_values(shape: dict[str, Any]) -> dict[str, Any]:
    """Leave out what has no value. 0 and false are values."""
    return {key: value for key, value in shape.items() if value is not None and value != ""}


class RunSerializer(BaseSerializer[Run]):
    """``Run``. Context: ``is_owner``, whether the caller may see what the run cost."""

    def to_representation(self, run: Run) -> dict[str, Any]:
        optional = {
            "actorTaskId": run.actor_task_id,
            "statusMessage": run.status_message,
            "isStatusMessageTerminal": run.is_status_message_terminal,
            "pricingInfo": run.pricing_info,
            "chargedEventCounts": run.charged_event_counts,
            "exitCode": run.exit_code,
            "storageIds": run.storage_ids,
            "buildNumber": run.build_number,
            "containerUrl": run.container_url,
            "isContainerServerReady": run.is_container_server_ready,
            "gitBranchName": run.git_branch_name,
            "usage": run.usage,
            "metamorphs": run.metamorphs,
            "platformUsageBillingModel": run.platform_usage_billing_model,
        }
        if self.context["is_owner"]:
            optional["usageTotalUsd"] = run.usage_total_usd
            optional["usageUsd"] = run.usage_usd
        return {
            "id": run.pk,
            "actId": run.act_id,
            "userId": owner_key(run),
            "startedAt": format_time(run.started_at),
            "finishedAt": run.finished_at and format_time(run.finished_at),
            "status": run.status,
            "meta": run.meta,
            "stats": run.stats,
            "options": run.options,
            "buildId": run.build_id,
            "generalAccess": run.general_access,
            "defaultKeyValueStoreId": run.default_key_value_store_id,
            "defaultDatasetId": run.default_dataset_id,
            "defaultRequestQueueId": run.default_request_queue_id,
            **with_values(optional),
        }


class RunShortSerializer(BaseSerializer[Run]):
    """``RunShort``, for the caller's own list."""

    fields_read = (
        "id",
        "act_id",
        "user_id",
        "organization_id",
        "actor_task_id",
        "status",
        "started_at",
        "finished_at",
        "build_id",
        "build_number",
        "meta",
        "usage_total_usd",
        "default_key_value_store_id",
        "default_dataset_id",
        "default_request_queue_id",
    )

    def to_representation(self, run: Run) -> dict[str, Any]:
        optional = {
            "actorTaskId": run.actor_task_id,
            "buildNumber": run.build_number,
            "buildNumberInt": build_number_int(run.build_number),
        }
        return {
            "id": run.id,
            "actId": run.act_id,
            "userId": owner_key(run),
            "status": run.status,
            "startedAt": format_time(run.started_at),
            "finishedAt": run.finished_at and format_time(run.finished_at),
            "buildId": run.build_id,
            "meta": run.meta,
            "usageTotalUsd": run.usage_total_usd or 0,
            "defaultKeyValueStoreId": run.default_key_value_store_id,
            "defaultDatasetId": run.default_dataset_id,
            "defaultRequestQueueId": run.default_request_queue_id,
            **with_values(optional),
        }
