"""The contract in OpenAPI, for hosts with drf-spectacular: its extensions, and nothing to call.

Registered by being imported. The same in OpenAPI 3.0 and 3.1, whichever the host has chosen.
"""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import (
    OpenApiAuthenticationExtension,
    OpenApiSerializerExtension,
    OpenApiViewExtension,
)
from drf_spectacular.plumbing import append_meta
from drf_spectacular.utils import (
    OpenApiExample,
    OpenApiParameter,
    OpenApiResponse,
    extend_schema,
    extend_schema_serializer,
    extend_schema_view,
    inline_serializer,
)
from rest_framework import permissions, serializers

from actor_runs.conf import conf
from actor_runs.exceptions import ERRORS, OperationNotAllowed, RunNotFinished
from actor_runs.fields import ID_CHARACTERS
from actor_runs.filters import FLAGS
from actor_runs.models import GeneralAccess, Run, RunStatus, default_options, default_stats
from actor_runs.pagination import MAX_LIMIT
from actor_runs.serializers import RunSerializer, RunShortSerializer
from actor_runs.throttling import announced_limit
from actor_runs.validators import FIELD_CHECKS, Schema, choice, key_of, text, time

RUN_ID = "3KH8gEpp4d8uQSe8T"
OTHER_RUN_ID = "55uatRrZib4xbZs"

# The keys of a run that are always there, and those that are left out where they have no value.
RUN_KEYS = (
    *("id", "actId", "userId", "startedAt", "finishedAt", "status", "meta", "stats", "options"),
    *("buildId", "generalAccess"),
    *("defaultKeyValueStoreId", "defaultDatasetId", "defaultRequestQueueId"),
)
RUN_OPTIONAL_KEYS = (
    *("actorTaskId", "statusMessage", "isStatusMessageTerminal", "pricingInfo"),
    *("chargedEventCounts", "exitCode", "storageIds", "buildNumber", "containerUrl"),
    *("isContainerServerReady", "gitBranchName", "usage", "usageUsd", "usageTotalUsd"),
    *("metamorphs", "platformUsageBillingModel"),
)
RUN_SHORT_KEYS = (
    *("id", "actId", "userId", "status", "startedAt", "finishedAt", "buildId", "meta"),
    *("usageTotalUsd", "defaultKeyValueStoreId", "defaultDatasetId", "defaultRequestQueueId"),
)
RUN_SHORT_OPTIONAL_KEYS = ("actorTaskId", "buildNumber", "buildNumberInt")

FILLED_TEXT = {**text.schema, "minLength": 1}
RUN_ID_SCHEMA = {**text.schema, "pattern": f"^{ID_CHARACTERS}{{1,{Run._meta.pk.max_length}}}$"}
STATUS = choice(*RunStatus.values).schema


def run_object(keys: tuple[str, ...], optional: tuple[str, ...]) -> Schema:
    """The schema of a run with these keys. What is no field of its own kind is text."""
    checked = {key_of(name): check.schema for name, check in FIELD_CHECKS.items()}
    known = checked | {
        "id": {**RUN_ID_SCHEMA, "description": "Opaque. Upper and lower case differ."},
        "userId": {
            **FILLED_TEXT,
            "description": "The owner: a user's primary key, or `org-` and an organization's.",
        },
        "status": STATUS,
        "generalAccess": choice(*GeneralAccess.values).schema,
        "startedAt": time.schema,
        # The one key that can be null, which 3.0 and 3.1 write in different ways.
        "finishedAt": append_meta(
            dict(time.schema), {"nullable": True, "description": "Null until finished."}
        ),
        "buildNumberInt": {
            "type": "integer",
            "minimum": 1,
            "description": "The build number as one integer: 0.1.2 is 100002.",
        },
        "containerUrl": {**FILLED_TEXT, **checked["containerUrl"]},
        "usageUsd": {**checked["usageUsd"], "description": "For the owner only."},
        "usageTotalUsd": {
            **checked["usageTotalUsd"],
            "description": "For the owner only. In lists, 0 where unknown.",
        },
    }
    return {
        "type": "object",
        "properties": {key: known.get(key, FILLED_TEXT) for key in (*keys, *optional)},
        "required": list(keys),
    }


RUN_SHORT_EXAMPLE: Schema = {
    "id": RUN_ID,
    "actId": "HDSasDasz78YcAPEB",
    "userId": "7",
    "status": "SUCCEEDED",
    "startedAt": "2019-11-30T07:34:24.202Z",
    "finishedAt": "2019-11-30T07:41:10.875Z",
    "buildId": "HG7ML7M8z78YcAPEB",
    "buildNumber": "0.1.2",
    "buildNumberInt": 100002,
    "meta": {"origin": "API"},
    "usageTotalUsd": 0.2654,
    "defaultKeyValueStoreId": "eJNzqsbPiopwJcgGQ",
    "defaultDatasetId": "wmKPijuyDnPZAPRMk",
    "defaultRequestQueueId": "FL35cSF7jrxr3BY39",
}
RUN_EXAMPLE: Schema = {
    **{key: value for key, value in RUN_SHORT_EXAMPLE.items() if key != "buildNumberInt"},
    "statusMessage": "Finished. 42 pages were read.",
    "isStatusMessageTerminal": True,
    "meta": {"origin": "API", "userAgent": "curl/8.5.0"},
    "stats": {**default_stats(), "runTimeSecs": 406.673},
    "options": default_options(),
    "exitCode": 0,
    "generalAccess": "FOLLOW_USER_SETTING",
    "usage": {"ACTOR_COMPUTE_UNITS": 0.1129, "DATASET_WRITES": 42},
    "usageUsd": {"ACTOR_COMPUTE_UNITS": 0.0452, "DATASET_WRITES": 0.2202},
}


class RunComponent(OpenApiSerializerExtension):
    target_class = "actor_runs.serializers.RunSerializer"

    def get_name(self, auto_schema: Any, direction: Any) -> str:
        return "Run"

    def map_serializer(self, auto_schema: Any, direction: Any) -> Schema:
        return run_object(RUN_KEYS, RUN_OPTIONAL_KEYS)


class RunShortComponent(OpenApiSerializerExtension):
    target_class = "actor_runs.serializers.RunShortSerializer"

    def get_name(self, auto_schema: Any, direction: Any) -> str:
        return "RunShort"

    def map_serializer(self, auto_schema: Any, direction: Any) -> Schema:
        return run_object(RUN_SHORT_KEYS, RUN_SHORT_OPTIONAL_KEYS)


class BearerScheme(OpenApiAuthenticationExtension):
    target_class = "actor_runs.authentication.BearerTokenAuthentication"
    name = "bearerAuth"

    def get_security_definition(self, auto_schema: Any) -> Schema:
        return {
            "type": "http",
            "scheme": "bearer",
            "description": "`Authorization: Bearer <token>`. A wrong token is always 401.",
        }


class QueryTokenScheme(OpenApiAuthenticationExtension):
    target_class = "actor_runs.authentication.QueryTokenAuthentication"
    name = "queryToken"

    def get_security_definition(self, auto_schema: Any) -> Schema:
        return {
            "type": "apiKey",
            "in": "query",
            "name": "token",
            "description": "Ends up in access logs: prefer the header.",
        }


def query(name: str, schema: Schema, description: str, **options: Any) -> OpenApiParameter:
    return OpenApiParameter(name, schema, description=description, **options)


def run_id() -> OpenApiParameter:
    return OpenApiParameter(
        "runId",
        RUN_ID_SCHEMA,
        OpenApiParameter.PATH,
        description="Actor run ID. Opaque; upper and lower case differ.",
        examples=[OpenApiExample("A run", RUN_ID)],
    )


def list_parameters() -> list[OpenApiParameter]:
    # An empty parameter counts as absent, here and below.
    moment: Schema = {
        "anyOf": [
            {"type": "string", "format": "date-time"},
            {"type": "string", "format": "date"},
        ]
    }
    moment_rule = (
        "ISO 8601, inclusive to the millisecond. A time without an offset is UTC, seconds and "
        "their fraction can be left out, and a date alone is its first moment."
    )
    return [
        query(
            "limit",
            {"type": "integer", "minimum": 0, "default": MAX_LIMIT},
            f"How many runs at most. Over {MAX_LIMIT} means {MAX_LIMIT}, 0 means the default.",
        ),
        query(
            "offset",
            {"type": "integer", "minimum": 0, "default": 0},
            "How many runs to pass over.",
        ),
        query(
            "desc",
            {**choice(*FLAGS).schema, "default": "0"},
            "Newest first: sorts by `startedAt`, ties by ID. Oldest first by default.",
        ),
        query(
            "status",
            {"type": "array", "items": STATUS},
            "One status, or several with commas. Empty means any.",
            explode=False,
            style="form",
        ),
        query("startedAfter", moment, f"Only runs started then or later. {moment_rule}"),
        query("startedBefore", moment, f"Only runs started then or earlier. {moment_rule}"),
    ]


def wait_for_finish() -> OpenApiParameter:
    return query(
        "waitForFinish",
        {"type": "number", "minimum": 0},
        "Seconds to wait until the run is finished, "
        f"cut to {conf.max_wait_for_finish:g} where it is more. "
        "Decimals are allowed, exponents are not.",
    )


def response_headers() -> list[OpenApiParameter]:
    def header(name: str, schema: Schema, statuses: list[int], words: str) -> OpenApiParameter:
        return OpenApiParameter(
            name,
            schema,
            OpenApiParameter.HEADER,
            required=True,
            description=words,
            response=statuses,
        )

    headers = [
        header("WWW-Authenticate", FILLED_TEXT, [401], "The scheme to authenticate with."),
        header("Allow", FILLED_TEXT, [405], "The methods that there are."),
        header(
            "Retry-After",
            {"type": "integer", "minimum": 1},
            [429, 503],
            "Whole seconds after which to try again.",
        ),
    ]
    if announced_limit() is not None:
        headers.append(
            header(
                "X-RateLimit-Limit",
                {"type": "integer", "minimum": 0},
                [200, 204, 400, 401, 403, 404],
                "How many requests the limit for each run ID allows.",
            )
        )
    return headers


def error(status: int, description: str, examples: dict[str, tuple[str, str]]) -> OpenApiResponse:
    """An error's envelope: ``examples`` has title: (type, message)."""
    types = dict.fromkeys(error_type for error_type, _ in examples.values())
    return OpenApiResponse(
        {
            "type": "object",
            "required": ["error"],
            "additionalProperties": False,
            "properties": {
                "error": {
                    "type": "object",
                    "required": ["type", "message"],
                    "additionalProperties": False,
                    "properties": {"type": choice(*types).schema, "message": FILLED_TEXT},
                }
            },
        },
        description=description,
        examples=[
            OpenApiExample(
                title,
                {"error": {"type": error_type, "message": message}},
                response_only=True,
                status_codes=[str(status)],
            )
            for title, (error_type, message) in examples.items()
        ],
    )


def errors(
    methods: str,
    bad_requests: dict[str, tuple[str, str]],
    without: tuple[int, ...] = (),
) -> dict[int, OpenApiResponse]:
    """Every error of an operation. ``methods``: the path's; ``without``: what it never says."""
    descriptions = {
        400: "Bad request: invalid input parameters or request body, or a run in no fit state.",
        401: "Unauthorized: authentication required or invalid token.",
        403: "Forbidden: insufficient permissions to perform this action.",
        404: "Not found: the requested resource does not exist.",
        405: "Method not allowed.",
        429: "Too many requests: rate limit exceeded.",
        500: "The server met an unexpected error.",
        503: "The database cannot serve now. The request may be sent again.",
    }
    answers = {}
    for status, description in descriptions.items():
        error_type, message = ERRORS[status]
        examples = {"Error": (error_type, message)}
        if status == 400:
            examples = bad_requests
        elif status == 405:
            examples = {"Error": (error_type, message + methods)}
        if status not in without:
            answers[status] = error(status, description, examples)
    return answers


def invalid(words: str) -> tuple[str, str]:
    return ERRORS[400][0], f"Invalid input: {words}"


class RunViews(OpenApiViewExtension):
    target_class = "actor_runs.views.RunViewSet"

    def view_replacement(self) -> Any:
        # Made anew for each schema: bounds and headers follow the host's setting.
        malformed_id = {"Run ID": invalid("runId must be 1 to 64 visible ASCII characters.")}
        page = inline_serializer(
            "RunPage",
            {
                "total": serializers.IntegerField(min_value=0, help_text="On all pages."),
                "offset": serializers.IntegerField(min_value=0),
                "limit": serializers.IntegerField(min_value=1, max_value=MAX_LIMIT),
                "count": serializers.IntegerField(
                    min_value=0, max_value=MAX_LIMIT, help_text="On this page."
                ),
                "desc": serializers.BooleanField(),
                "items": RunShortSerializer(many=True),
            },
        )
        run_list = inline_serializer("RunList", {"data": page})
        one_run = inline_serializer("RunAnswer", {"data": RunSerializer()})
        example_page = {
            "total": 1,
            "offset": 0,
            "limit": MAX_LIMIT,
            "count": 1,
            "desc": False,
            "items": [RUN_SHORT_EXAMPLE],
        }

        @extend_schema(tags=["Actor runs"], filters=False, parameters=response_headers())
        @extend_schema_view(
            list=extend_schema(
                operation_id="listRuns",
                summary="List runs",
                description="The caller's runs: own, and of own organizations.",
                parameters=list_parameters(),
                responses={
                    200: OpenApiResponse(
                        # spectacular would take any answer of `list` for one item of many.
                        extend_schema_serializer(many=False)(type(run_list)),
                        "A page of runs.",
                        [OpenApiExample("A page", {"data": example_page})],
                    ),
                    **errors(
                        "OPTIONS,GET",
                        {"Parameter": invalid("limit must be a whole number, 0 or more.")},
                        without=(403, 404),
                    ),
                },
            ),
            retrieve=extend_schema(
                operation_id="getRun",
                summary="Get run",
                description=(
                    "The run. Its owner can read it, and so can anyone who has its ID where its "
                    "general access is `ANYONE_WITH_ID_CAN_READ`: without a token, and without "
                    "`usageUsd` and `usageTotalUsd`. Without a token, an unknown run is 401 like "
                    "a closed one."
                ),
                parameters=[run_id(), wait_for_finish()],
                responses={
                    200: OpenApiResponse(
                        type(one_run),
                        "The run.",
                        [OpenApiExample("A run", {"data": RUN_EXAMPLE})],
                    ),
                    **errors(
                        "OPTIONS,GET,DELETE",
                        {
                            "Parameter": invalid(
                                "waitForFinish must be a number of seconds, 0 or more."
                            ),
                            **malformed_id,
                        },
                    ),
                },
            ),
            destroy=extend_schema(
                operation_id="deleteRun",
                summary="Delete run",
                description=(
                    "Delete the run. Only finished runs can be deleted. Only the person or "
                    "organization that initiated the run can delete it. Takes no body; a JSON "
                    "object is ignored. Of concurrent requests for one run, one answers 204 and "
                    "the others 404. After a 503, a 404 means done."
                ),
                parameters=[run_id()],
                responses={
                    204: OpenApiResponse(description="The run is deleted."),
                    **errors(
                        "OPTIONS,GET,DELETE",
                        {
                            "Body": ERRORS[400],
                            **malformed_id,
                            "Unfinished run": (
                                "cannot-remove-running-run",
                                str(RunNotFinished(OTHER_RUN_ID, RunStatus.RUNNING)),
                            ),
                            "Protected run": (
                                OperationNotAllowed.default_code,
                                str(OperationNotAllowed(OTHER_RUN_ID).detail),
                            ),
                        },
                    ),
                },
            ),
        )
        class DocumentedRunViewSet(self.target):  # type: ignore[misc, name-defined]
            pagination_class = None

            def get_permissions(self) -> list[Any]:
                # A single run may be open to anyone: its token is optional.
                if self.action == "retrieve":
                    return [permissions.AllowAny()]
                return super().get_permissions()

        return DocumentedRunViewSet
