"""The view, with each of its policies subclassed, and each method overridden."""

from __future__ import annotations

from typing import Any

from django.db.models import Count
from rest_framework.permissions import BasePermission

from actor_runs.filters import RunFilter
from actor_runs.models import Run
from actor_runs.pagination import RunPagination
from actor_runs.permissions import RunPermission
from actor_runs.serializers import RunSerializer, RunShortSerializer
from actor_runs.throttling import RateLimitThrottle
from actor_runs.views import RunViewSet


class Everybody(BasePermission):
    """Refuses nobody, and asks for the run each time."""

    def has_object_permission(self, request: Any, view: Any, obj: Run) -> bool:
        return bool(obj.pk)


class OwnPermission(RunPermission):
    pass


class OwnThrottle(RateLimitThrottle):
    pass


class OwnFilter(RunFilter):
    pass


class OwnPagination(RunPagination):
    pass


class OwnSerializer(RunSerializer):
    pass


class OwnShortSerializer(RunShortSerializer):
    pass


class Runs(RunViewSet):
    permission_classes = [OwnPermission & Everybody]
    throttle_classes = [OwnThrottle]
    filter_backends = [OwnFilter]
    pagination_class = OwnPagination

    def get_queryset(self) -> Any:
        runs = super().get_queryset().select_related("user", "organization")
        return runs.annotate(number_of_notes=Count("notes")).filter(number_of_notes__gte=0)

    def get_serializer_class(self) -> Any:
        return OwnShortSerializer if self.action == "list" else OwnSerializer

    def get_object(self) -> Run:
        return super().get_object()

    def perform_destroy(self, instance: Run) -> None:
        super().perform_destroy(instance)
