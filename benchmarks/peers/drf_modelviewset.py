"""What a team writes by hand on REST framework: a ModelViewSet, and its own throttle."""

from django.db.models import Q
from django.urls import include, path
from rest_framework import mixins, pagination, serializers, viewsets
from rest_framework.authentication import TokenAuthentication
from rest_framework.permissions import IsAuthenticated
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter
from rest_framework.throttling import UserRateThrottle

from actor_runs.models import Run


class BearerAuthentication(TokenAuthentication):
    keyword = "Bearer"


class RunThrottle(UserRateThrottle):
    rate = "250000/min"


class RunSerializer(serializers.ModelSerializer):
    class Meta:
        model = Run
        fields = "__all__"


class RunShortSerializer(serializers.ModelSerializer):
    class Meta:
        model = Run
        fields = (
            "id", "act_id", "user", "organization", "actor_task_id", "status", "started_at",
            "finished_at", "build_id", "build_number", "meta", "usage_total_usd",
            "default_key_value_store_id", "default_dataset_id", "default_request_queue_id",
        )  # fmt: skip


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
        runs = Run.objects.filter(Q(user=user) | Q(organization__in=user.groups.all()))
        return runs.order_by("started_at", "id")

    def perform_destroy(self, instance):
        if instance.is_finished:
            instance.delete()


router = SimpleRouter(trailing_slash=False)
router.register("actor-runs", RunViewSet, basename="run")
urlpatterns = [path("v2/", include(router.urls))]
