"""The app in the OpenAPI document of a host with drf-spectacular: its extensions.

``AppConfig.ready`` registers them by importing this module. Parameters and pages come from REST
framework's own hooks, keys and shapes from the serializers and the checks. Every component is
named ``ActorRun...``: a name that the host has too would change the host's own component.
"""

from __future__ import annotations

import datetime
from copy import deepcopy
from functools import cache
from http import HTTPStatus
from typing import Any

from django.db.models import DateTimeField
from drf_spectacular.drainage import get_override, get_view_method_names, isolate_view_method
from drf_spectacular.extensions import (
    OpenApiAuthenticationExtension,
    OpenApiSerializerExtension,
    OpenApiViewExtension,
)
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import (
    ResolvedComponent,
    append_meta,
    build_choice_field,
    get_class,
    is_basic_serializer,
)
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse
from rest_framework.exceptions import APIException
from rest_framework.fields import ChoiceField
from rest_framework.pagination import BasePagination
from rest_framework.permissions import SAFE_METHODS
from rest_framework.settings import api_settings

from actor_runs.authentication import BearerTokenAuthentication, QueryTokenAuthentication
from actor_runs.conf import conf
from actor_runs.enums import RunStatus
from actor_runs.exceptions import (
    ERRORS,
    InvalidInput,
    OperationNotAllowed,
    RunNotFinished,
    exception_handler,
)
from actor_runs.fields import ID_CHARACTERS
from actor_runs.generics import CACHE_CONTROL
from actor_runs.models import Run
from actor_runs.pagination import RunPagination
from actor_runs.parameters import INTEGER_RULE, INTEGER_SCHEMA, SECONDS_SCHEMA
from actor_runs.permissions import RunPermission
from actor_runs.schemas import FIELD_CHECKS, Schema, choice, object_of, text, time, to_camel_case
from actor_runs.serializers import (
    PRIVATE_KEYS,
    PRIVATE_META_KEYS,
    RunSerializer,
    RunShortSerializer,
)
from actor_runs.throttling import RateLimitThrottle, announced_limit
from actor_runs.views import POLL_SECONDS, RunViewSet

__all__ = ["RunComponents"]

RUN_ID = "3KH8gEpp4d8uQSe8T"
RUN_ID_SCHEMA: Schema = {
    "type": "string",
    "pattern": f"^{ID_CHARACTERS}{{1,{Run._meta.pk.max_length}}}$",
}
FILLED_TEXT: Schema = {**text.schema, "minLength": 1}
FIELDS = {to_camel_case(field.name): field for field in Run._meta.concrete_fields}
ONLY_OWNER: Schema = {"description": "Only the owner can read it."}
# What a key's field does not say.
ANNOTATIONS: dict[str, Schema] = {
    "id": {"description": "Opaque. Upper and lower case differ."},
    "userId": {
        **FILLED_TEXT,
        "description": "The owner: a user's primary key, or `org-` and an organization's.",
    },
    "finishedAt": {"nullable": True, "description": "Null until the run is finished."},
    "buildNumberInt": {
        **INTEGER_SCHEMA,
        "description": "The build number as one integer: 0.1.2 is 100002.",
    },
    **dict.fromkeys(PRIVATE_KEYS, ONLY_OWNER),
}

SUMMARIES = {"list": "List runs", "retrieve": "Get run", "destroy": "Delete run"}
BAD_REQUESTS: dict[str, dict[str, Exception]] = {
    "list": {"Parameter": InvalidInput(f"limit {INTEGER_RULE}")},
    "retrieve": {
        "Parameter": InvalidInput("waitForFinish must be a number of seconds, 0 or more.")
    },
    "destroy": {
        "Body": InvalidInput(),
        "UnfinishedRun": RunNotFinished(RUN_ID, RunStatus.RUNNING),
        "ProtectedRun": OperationNotAllowed(RUN_ID),
    },
}
# Name, schema, description, and the statuses that have it: all of them if there are none.
HEADERS: tuple[tuple[str, Schema, str, set[str]], ...] = (
    ("Cache-Control", choice(CACHE_CONTROL).schema, "No cache may keep the answer.", set()),
    ("Vary", FILLED_TEXT, "The headers that the answer depends on: `Authorization`.", set()),
    ("WWW-Authenticate", FILLED_TEXT, "The scheme to authenticate with.", {"401"}),
    ("Allow", FILLED_TEXT, "The methods of the path.", {"405"}),
    (
        "Retry-After",
        {"type": "integer", "minimum": 1},
        "Whole seconds after which to try again.",
        {"429", "503"},
    ),
)


ERROR_TYPES = (
    *(error_type for error_type, _message in ERRORS.values()),
    *(RunNotFinished.default_code, OperationNotAllowed.default_code),
)
ERROR = object_of(
    {"type": choice(*ERROR_TYPES).schema, "message": FILLED_TEXT}, additionalProperties=False
)


def register(auto_schema: AutoSchema, name: str, schema: Schema) -> Schema:
    """Make a component of ``schema``, and return the reference to it."""
    component = ResolvedComponent(name, ResolvedComponent.SCHEMA, deepcopy(schema), object=name)
    auto_schema.registry.register_on_missing(component)
    return component.ref


class RunComponents(OpenApiSerializerExtension):
    """``RunSerializer`` and its subclasses.

    A host renames the app's components by a subclass with another ``prefix`` and a ``priority``
    of 0 or more.
    """

    target_class = RunSerializer
    match_subclasses = True
    priority = -1
    prefix = "ActorRun"
    suffixes = {RunSerializer: "", RunShortSerializer: "Short"}

    def get_name(self, auto_schema: Any, direction: Any) -> str | None:
        # None: a host's subclass is named as any other serializer.
        suffix = self.suffixes.get(type(self.target))
        return None if suffix is None else self.prefix + suffix

    def map_serializer(self, auto_schema: Any, direction: Any) -> Schema:
        """Return the schema of the keys, and of the fields that a subclass has declared."""
        serializer = self.target
        declared = auto_schema._map_serializer(serializer, direction, bypass_extensions=True)
        fields = declared.get("properties", {})
        others = {*fields, *get_override(serializer, "exclude_fields", [])}
        required, optional = (
            [key for key in keys if key not in others] for keys in serializer.shown_keys()
        )
        keys = {key: self.map_key(auto_schema, key) for key in (*required, *optional)}
        for key in keys.keys() & get_override(serializer, "deprecate_fields", []):
            keys[key] = append_meta(keys[key], {"deprecated": True})
        return {
            **declared,
            "properties": keys | fields,
            "required": [*required, *declared.get("required", [])],
        }

    def map_key(self, auto_schema: Any, key: str) -> Schema:
        """Return the schema of a key: that of its field's check, or of its kind of field."""
        field = FIELDS.get(key)
        if field is None:
            schema: Schema = {}  # a host's own key can be anything
        elif field.choices:
            # A component: drf-spectacular's hook would name an enum here, and rename the host's.
            enum = build_choice_field(ChoiceField(field.choices))
            return register(auto_schema, self.prefix + key[0].upper() + key[1:], enum)
        elif field.name in FIELD_CHECKS:
            schema = deepcopy(FIELD_CHECKS[field.name].schema)
        elif isinstance(field, DateTimeField):
            schema = time.schema
        else:
            schema = RUN_ID_SCHEMA if field.primary_key else FILLED_TEXT
        if key == "meta":
            for private in PRIVATE_META_KEYS:
                schema["properties"][private] |= ONLY_OWNER
        return append_meta(schema, ANNOTATIONS.get(key, {}))


class TokenScheme(OpenApiAuthenticationExtension):
    """The app's authentication classes and their subclasses, each a scheme of its own."""

    target_class = BearerTokenAuthentication
    match_subclasses = True

    def __init__(self, target: Any) -> None:
        super().__init__(target)
        self.name = "actorRuns" + type(target).__name__.removesuffix("Authentication")

    def get_security_definition(self, auto_schema: Any) -> Schema:
        if isinstance(self.target, QueryTokenAuthentication):
            warning = "Ends up in access logs: prefer the header."
            return {"type": "apiKey", "in": "query", "name": "token", "description": warning}
        rule = "`Authorization: Bearer <token>`. A wrong token is always 401."
        return {"type": "http", "scheme": "bearer", "description": rule}


def example_run() -> Run:
    started = datetime.datetime(2019, 11, 30, 7, 34, 24, 202000, datetime.timezone.utc)
    return Run(
        id=RUN_ID,
        user_id=7,
        act_id="HDSasDasz78YcAPEB",
        build_id="HG7ML7M8z78YcAPEB",
        build_number="0.1.2",
        status=RunStatus.SUCCEEDED,
        status_message="Finished. 42 pages were read.",
        started_at=started,
        finished_at=started + datetime.timedelta(minutes=7),
        exit_code=0,
        default_key_value_store_id="eJNzqsbPiopwJcgGQ",
        default_dataset_id="wmKPijuyDnPZAPRMk",
        default_request_queue_id="FL35cSF7jrxr3BY39",
        usage={"ACTOR_COMPUTE_UNITS": 0.1129, "DATASET_WRITES": 42},
        usage_usd={"ACTOR_COMPUTE_UNITS": 0.0452, "DATASET_WRITES": 0.2202},
        usage_total_usd=0.2654,
    )


class Envelope(BasePagination):
    """A list that is not in pages: ``{"data": [...]}``."""

    def get_paginated_response_schema(self, schema: Schema) -> Schema:
        return object_of({"data": schema})


class RunSchema(AutoSchema):
    """What the views of runs answer: the envelope, every error, the headers."""

    view: Any

    def get_operation(self, *args: Any, **kwargs: Any) -> Schema | None:
        operation = super().get_operation(*args, **kwargs)
        if operation is None:
            return None
        responses = operation["responses"]
        for status in ERRORS:
            if self.view.detail or status not in (403, 404):
                responses.setdefault(str(status), self.get_error_response(status))
        for status, response in responses.items():
            response["headers"] = self.get_response_headers(status) | response.get("headers", {})
        return deepcopy(operation)

    def get_tags(self) -> list[str]:
        return ["Actor runs"]

    def get_summary(self) -> str | None:
        return SUMMARIES.get(self.view.action) or super().get_summary()

    def get_auth(self) -> list[Schema]:
        auth = super().get_auth()
        permissions = [type(each) for each in self.view.get_permissions()]
        if self.view.detail and self.method in SAFE_METHODS and permissions == [RunPermission]:
            auth = [*auth, {}]  # a run may be open to anyone
        return auth

    def get_override_parameters(self) -> list[Any]:
        parameters = super().get_override_parameters()
        if f"{{{self.view.lookup_url_kwarg}}}" in self.path:
            run_id = OpenApiParameter(
                self.view.lookup_url_kwarg,
                RUN_ID_SCHEMA,
                OpenApiParameter.PATH,
                description="Actor run ID. Opaque; upper and lower case differ.",
                examples=[OpenApiExample("A run", RUN_ID)],
            )
            parameters = [run_id, *parameters]
        if self.view.action == "retrieve":
            cap = f"{conf.max_wait_for_finish:g}"
            rule = (
                "Seconds to wait until the run is finished. Decimals are allowed, exponents are "
                f"not. More than {cap} means {cap}. Only the owner's requests wait, at most "
                f"{conf.max_waiting} at a time in one process: one more is answered after "
                f"{POLL_SECONDS:g} seconds with the run as it is then."
            )
            parameters = [
                OpenApiParameter("waitForFinish", SECONDS_SCHEMA, description=rule),
                *parameters,
            ]
        return parameters

    def get_response_serializers(self) -> Any:
        serializer = super().get_response_serializers()
        if not is_basic_serializer(serializer):
            return serializer
        kind: Any = type(serializer)
        examples = []
        if kind in RunComponents.suffixes:
            run = kind(example_run(), context={"is_owner": True})
            examples = [OpenApiExample("A run", run.data)]
        if self.view.action == "list":
            return {200: OpenApiResponse(serializer, "The caller's runs.", examples)}
        if self.view.action == "retrieve":
            examples = deepcopy(get_override(serializer, "examples", examples))
            for example in examples:
                example.value = {"data": example.value}
            component = self.resolve_serializer(serializer, "response")
            envelope = object_of({"data": component.ref if component else {}})
            return {200: OpenApiResponse(envelope, "The run.", examples)}
        return serializer

    def get_paginated_name(self, serializer_name: str) -> str:
        names = {RunPagination: "Page", Envelope: "List"}
        name = names.get(self.view.pagination_class)
        return serializer_name + name if name else super().get_paginated_name(serializer_name)

    def get_error_response(self, status: int) -> Schema:
        """Return the answer of an error, with examples that the app's own handler has made."""
        exc = APIException()
        exc.status_code = status
        examples: dict[str, Exception] = {"Error": exc}
        if status == 400:
            examples = BAD_REQUESTS.get(self.view.action, {"Error": InvalidInput()})
        components = OpenApiSerializerExtension.get_match(RunSerializer)
        name = getattr(components, "prefix", RunComponents.prefix) + "Error"
        reference = register(self, name, object_of({"error": ERROR}, additionalProperties=False))
        content = {
            "schema": reference,
            "examples": {
                name: {"value": exception_handler(example, {"view": self.view}).data}
                for name, example in examples.items()
            },
        }
        return {
            "content": dict.fromkeys(self.map_renderers("media_type"), content),
            "description": HTTPStatus(status).phrase,
        }

    def get_response_headers(self, status: str) -> Schema:
        """Return the headers of the answers of this status."""
        headers = {
            name: {"schema": schema, "description": description, "required": True}
            for name, schema, description, statuses in HEADERS
            if not statuses or status in statuses
        }
        is_limited = any(issubclass(each, RateLimitThrottle) for each in self.view.throttle_classes)
        if is_limited and announced_limit() is not None and status not in ("405", "429"):
            headers["X-RateLimit-Limit"] = {
                "schema": INTEGER_SCHEMA,
                "description": "How many requests the limit for each caller and run ID allows.",
                # An error of these may come before the limit is asked.
                "required": status not in ("500", "503"),
            }
        return headers


@cache
def document_view(view_class: Any, default: Any) -> Any:
    """Return a subclass of a view whose actions have ``RunSchema``.

    What the host has said of the action and the view comes before it, and the host's
    ``DEFAULT_SCHEMA_CLASS`` behind it. The same class each time: drf-spectacular guesses the
    prefix of all paths as soon as there are two.
    """
    attributes = {"pagination_class": view_class.pagination_class or Envelope}
    view = type(view_class.__name__, (view_class,), attributes)
    known = {*RunSchema.__mro__, *default.__mro__}
    for name in get_view_method_names(view, default):
        method = isolate_view_method(view, name)
        options = getattr(method, "kwargs", {})
        said = dict.fromkeys(map(get_class, (options.get("schema"), view_class.schema)))
        host = [each for each in said if issubclass(each, AutoSchema) and each not in known]
        method.kwargs = {**options, "schema": type("RunSchema", (*host, RunSchema, default), {})}
    return view


class RunViews(OpenApiViewExtension):
    """``RunViewSet`` and its subclasses."""

    target_class = RunViewSet
    match_subclasses = True
    priority = -1

    def view_replacement(self) -> Any:
        return document_view(self.target, api_settings.DEFAULT_SCHEMA_CLASS)
