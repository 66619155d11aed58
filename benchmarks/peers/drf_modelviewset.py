"""What a team writes by hand on REST framework: a ModelViewSet, and one limit of its own."""

import time

from django.core.cache import cache
from django.db.models import Q
from django.urls import include, path
from rest_framework import exceptions, mixins, pagination, serializers, viewsets
from rest_framework.authentication import TokenAuthentication
from rest_framework.permissions import IsAuthenticated
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter
from rest_framework.throttling import UserRateThrottle

from benchmarks.peers.models import SHORT, PeerRun


class BearerAuthentication(TokenAuthentication):
    keyword = "Bearer"


class RunThrottle(UserRateThrottle):
    """A count for each minute: REST framework's own throttle keeps a list of all requests."""

    rate = "250000/min"

    def allow_request(self, request, view):
        window = int(time.time() // self.duration)
        key = f"{self.get_cache_key(request, view)}:{window}"
        if cache.add(key, 1, self.duration):
            return True
        return cache.incr(key) <= self.num_requests

    def wait(self):
        return self.duration - time.time() % self.duration


class RunSerializer(serializers.ModelSerializer):
    class Meta:
        model = PeerRun
        fields = "__all__"


class RunShortSerializer(serializers.ModelSerializer):
    class Meta:
        model = PeerRun
        fields = SHORT


class RunPagination(pagination.LimitOffsetPagination):
    default_limit = max_limit = 1000

    def get_paginated_response(self, data):
        return Response(
            {"data": {"total": self.count, "offset": self.offset, "limit": self.limit,
                      "count": len(data), "desc": False, "items": data}}
        )  # fmt: skip


class RunViewSet(
    mixins.ListModelMixin,
    mixins.RetrieveModelMixin,
    mixins.DestroyModelMixin,
    viewsets.GenericViewSet,
):
    authentication_classes = [BearerAuthentication]
    permission_classes = [IsAuthenticated]
    throttle_classes = [RunThrottle]
    renderer_classes = [JSONRenderer]
    pagination_class = RunPagination

    def get_serializer_class(self):
        return RunShortSerializer if self.action == "list" else RunSerializer

    def get_queryset(self):
        user = self.request.user
        runs = PeerRun.objects.filter(Q(user=user) | Q(organization__in=user.groups.all()))
        return runs.only(*SHORT).order_by("started_at", "id") if self.action == "list" else runs

    def perform_destroy(self, instance):
        if not instance.is_finished:
            raise exceptions.ValidationError("Only finished runs can be deleted.")
        instance.delete()


router = SimpleRouter(trailing_slash=False)
router.register("actor-runs", RunViewSet, basename="run")
urlpatterns = [path("v2/", include(router.urls))]
