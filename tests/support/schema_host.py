"""A host with drf-spectacular: views of its own whose names are the app's, and subclasses."""

from __future__ import annotations

from functools import cache
from typing import Any

from django.db import models
from django.urls import include, path, re_path
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.utils import (
    OpenApiExample,
    OpenApiResponse,
    extend_schema,
    extend_schema_serializer,
    extend_schema_view,
)
from rest_framework import authentication, serializers, viewsets
from rest_framework.decorators import action
from rest_framework.mixins import (
    CreateModelMixin,
    DestroyModelMixin,
    ListModelMixin,
    RetrieveModelMixin,
)
from rest_framework.pagination import PageNumberPagination
from rest_framework.permissions import IsAuthenticated
from rest_framework.response import Response
from rest_framework.routers import DefaultRouter, SimpleRouter

from actor_runs.authentication import BearerTokenAuthentication
from actor_runs.models import GeneralAccess, Run, RunStatus
from actor_runs.permissions import RunPermission
from actor_runs.schemas import ORIGINS, PRICING_MODELS
from actor_runs.serializers import RunSerializer, RunShortSerializer
from actor_runs.views import RunViewSet

# The host's own


class Job(models.Model):
    status = models.CharField(max_length=9, choices=[("open", "Open"), ("done", "Done")])
    generalAccess = models.CharField(max_length=9, choices=[("all", "All")])  # noqa: N815
    origin = models.CharField(max_length=9, choices=[("web", "Web")])
    pricingModel = models.CharField(max_length=9, choices=[("free", "Free")])  # noqa: N815

    class Meta:
        app_label = "schema_host"
        managed = False


class SameChoices(models.Model):
    """The choices of the app's own fields."""

    status = models.CharField(max_length=9, choices=RunStatus.choices)
    generalAccess = models.CharField(max_length=30, choices=GeneralAccess.choices)  # noqa: N815
    origin = models.CharField(max_length=9, choices=[(each, each) for each in ORIGINS])
    pricingModel = models.CharField(  # noqa: N815
        max_length=30, choices=[(each, each) for each in PRICING_MODELS]
    )

    class Meta:
        app_label = "schema_host"
        managed = False


class HostAuthentication(authentication.BaseAuthentication):
    def authenticate(self, request: Any) -> None:
        return None


class HostQueryAuthentication(HostAuthentication):
    pass


class HostScheme(OpenApiAuthenticationExtension):
    target_class = HostAuthentication
    name = "bearerAuth"

    def get_security_definition(self, auto_schema: Any) -> Any:
        return {"type": "http", "scheme": "bearer", "bearerFormat": "the host's"}


class HostQueryScheme(OpenApiAuthenticationExtension):
    target_class = HostQueryAuthentication
    name = "queryToken"

    def get_security_definition(self, auto_schema: Any) -> Any:
        return {"type": "apiKey", "in": "query", "name": "key"}


@cache
def host_urls(model: type[models.Model]) -> list[Any]:
    """Return URLs of views of ``model``, with the app's names wherever there are names."""
    fields = "__all__"

    def serializer(name: str) -> Any:
        meta = type("Meta", (), {"model": model, "fields": fields})
        return type(name, (serializers.ModelSerializer,), {"Meta": meta})

    @extend_schema(tags=["Actor runs"])
    class Views(CreateModelMixin, ListModelMixin, viewsets.GenericViewSet):
        queryset = model._default_manager.all()
        authentication_classes = [
            HostAuthentication,
            HostQueryAuthentication,
            authentication.TokenAuthentication,
        ]

    @extend_schema_view(
        list=extend_schema(operation_id="listRuns"),
        retrieve=extend_schema(operation_id="getRun"),
        destroy=extend_schema(operation_id="deleteRun"),
    )
    class Runs(RetrieveModelMixin, DestroyModelMixin, Views):
        serializer_class = serializer("RunSerializer")

    router = SimpleRouter()
    router.register("runs", Runs)
    for name in ("RunShort", "RunList", "RunPage", "RunAnswer", "Error"):
        attributes = {"serializer_class": serializer(f"{name}Serializer")}
        router.register(name, type(name, (Views,), attributes), basename=name)
    return [path("api/", include(router.urls))]


# Subclasses of the app's


class TenantRunSerializer(RunSerializer):
    """A run of a tenant."""

    tenant = serializers.SerializerMethodField()
    actor = serializers.CharField(source="act_id", help_text="The Actor.")

    def get_tenant(self, run: Run) -> str:
        return str(self.context["view"].kwargs["tenant"])


@extend_schema_serializer(
    component_name="TenantRunInList",
    exclude_fields=["buildNumberInt"],
    deprecate_fields=["buildNumber"],
)
class TenantRunShortSerializer(RunShortSerializer):
    actor = serializers.CharField(source="act_id")


class NoteSerializer(serializers.Serializer[Any]):
    text = serializers.CharField()
    run = RunSerializer(read_only=True)


class TenantRuns(RunViewSet):
    def get_serializer_class(self) -> Any:
        return TenantRunShortSerializer if self.action == "list" else TenantRunSerializer

    @action(detail=True)
    def log(self, request: Any, **kwargs: Any) -> Response:
        """Return the run, and its log with it."""
        return Response(self.get_serializer(self.get_object()).data)

    @extend_schema(request=NoteSerializer, responses={201: NoteSerializer})
    @action(detail=True, methods=["post"])
    def note(self, request: Any, **kwargs: Any) -> Response:
        return Response({"text": "a note", "run": RunSerializer(self.get_object()).data}, 201)

    @extend_schema(exclude=True)
    @action(detail=True)
    def secret(self, request: Any, **kwargs: Any) -> Response:
        return Response()


class UnpagedRuns(RunViewSet):
    pagination_class = None


class Pages(PageNumberPagination):
    page_size = 2

    def get_paginated_response(self, data: Any) -> Response:
        return Response({"results": data})

    def get_paginated_response_schema(self, schema: Any) -> Any:
        return {"type": "object", "properties": {"results": schema}, "required": ["results"]}


class PagedRuns(RunViewSet):
    pagination_class = Pages


class CompanyTokenAuthentication(BearerTokenAuthentication):
    pass


@extend_schema_serializer(examples=[OpenApiExample("Mine", {"id": "mine"})])
class ClosedRunSerializer(RunSerializer):
    pass


class ClosedRuns(RunViewSet):
    serializer_class = ClosedRunSerializer
    authentication_classes = [CompanyTokenAuthentication]
    permission_classes = [IsAuthenticated, RunPermission]
    throttle_classes = []


@extend_schema_view(destroy=extend_schema(description="Forget the crawl."))
@extend_schema(tags=["Crawls"])
@extend_schema_view(list=extend_schema(description="Every crawl."))
class DescribedRuns(RunViewSet):
    @extend_schema(
        summary="Get a crawl",
        responses={200: OpenApiResponse({"type": "object"}, description="What there is.")},
    )
    def retrieve(self, *args: Any, **kwargs: Any) -> Response:
        return super().retrieve(*args, **kwargs)


router = SimpleRouter()
router.register("unpaged-runs", UnpagedRuns, basename="unpaged-run")
router.register("paged-runs", PagedRuns, basename="paged-run")
router.register("closed-runs", ClosedRuns, basename="closed-run")
router.register("described-runs", DescribedRuns, basename="described-run")
tenant_router = DefaultRouter()  # has every path with a suffix for the format, too
tenant_router.register("tenant-runs", TenantRuns, basename="tenant-run")

urlpatterns = [
    path("v2/", include("actor_runs.urls")),
    re_path("^api/(?P<version>v2)/", include("actor_runs.urls")),
    path("of/<slug:tenant>/", include(router.urls), {"extra": 1}),
    path("of/<slug:tenant>/", include(tenant_router.urls)),
]
