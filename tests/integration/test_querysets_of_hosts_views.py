"""A host's subclass of the view: its scope, filters and pages count in every operation."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from django.db.models import Count, Exists, OuterRef, Window
from django.db.models.functions import RowNumber, Upper
from django.urls import path
from django.utils import timezone
from rest_framework import pagination, serializers
from rest_framework.filters import BaseFilterBackend, OrderingFilter, SearchFilter
from rest_framework.generics import ListAPIView

from actor_runs.authentication import BearerTokenAuthentication
from actor_runs.filters import RunFilter
from actor_runs.generics import EnvelopeView
from actor_runs.models import GeneralAccess, Run, RunStatus
from actor_runs.pagination import RunPagination
from actor_runs.permissions import RunPermission
from actor_runs.views import RunViewSet
from tests.support.api import NOT_FOUND, assert_error
from tests.support.people import token_of
from tests.support.policies import AppPolicies
from tests.support.runs import exists


def ids(response: Any) -> list[str]:
    return [run["id"] for run in response.json()["data"]["items"]]


# get_queryset

SCOPES = {
    "filter": lambda runs: runs.filter(act_id="mine"),
    "exclude": lambda runs: runs.exclude(act_id="other"),
    "only": lambda runs: runs.filter(act_id="mine").only("id"),
    "defer": lambda runs: runs.filter(act_id="mine").defer("status", "user"),
    "join": lambda runs: runs.filter(act_id="mine", user__username="alice"),
    "select_related": lambda runs: runs.filter(act_id="mine").select_related("user"),
    "prefetch_related": lambda runs: runs.filter(act_id="mine").prefetch_related("user"),
    "distinct": lambda runs: runs.filter(act_id="mine").distinct(),
    "annotate": lambda runs: runs.annotate(n=Count("user")).filter(n=1, act_id="mine"),
    "alias": lambda runs: runs.alias(mine=Upper("act_id")).filter(mine="MINE"),
    "extra": lambda runs: runs.extra(where=["act_id = 'mine'"]),
    "subquery": lambda runs: runs.filter(pk__in=Run.objects.filter(act_id="mine").values("pk")),
    "exists": lambda runs: runs.filter(
        Exists(Run.objects.filter(pk=OuterRef("pk"), act_id="mine"))
    ),
    "or": lambda runs: runs.filter(act_id="mine") | runs.filter(act_id="also mine"),
    "ordered": lambda runs: runs.filter(act_id="mine").order_by("-act_id"),
    "a manager's": lambda runs: Run.objects.filter(act_id="mine"),
}


@pytest.mark.parametrize("scope", SCOPES.values(), ids=SCOPES)
def test_a_scope_counts_in_every_operation(api, alice, serve, scope):
    class Scoped(RunViewSet):
        def get_queryset(self):
            return scope(super().get_queryset())

    serve(Scoped, detail=None)
    mine, other = (
        Run.objects.create(user=alice, act_id=act_id, status=RunStatus.SUCCEEDED)
        for act_id in ("mine", "other")
    )
    running = Run.objects.create(user=alice, act_id="mine", status=RunStatus.RUNNING)
    assert sorted(ids(api.get(user=alice))) == sorted([mine.pk, running.pk])
    assert ids(api.get(user=alice, query="status=SUCCEEDED,FAILED")) == [mine.pk]
    assert api.get(user=alice, query="limit=1&offset=1").json()["data"]["total"] == 2
    assert api.get(f"/{mine.pk}", user=alice).json()["data"]["status"] == "SUCCEEDED"
    assert api.get(f"/{running.pk}", user=alice, query="waitForFinish=0.01").status_code == 200
    for method in ("GET", "HEAD", "DELETE"):
        assert api(method, f"/{other.pk}", user=alice).status_code == 404
    assert api.get(f"/{other.pk}", user=alice, query="waitForFinish=0.01").status_code == 404
    assert api.delete(f"/{running.pk}", user=alice).status_code == 400
    assert api.delete(f"/{mine.pk}", user=alice).status_code == 204
    assert sorted(Run.objects.values_list("pk", flat=True)) == sorted([other.pk, running.pk])


@pytest.mark.parametrize(
    "scope",
    [
        lambda runs, bob: runs.none(),
        lambda runs, bob: runs.filter(act_id__in=[]),
        lambda runs, bob: runs.owned_by(bob),
    ],
)
def test_out_of_its_scope_a_view_shows_and_deletes_nothing(api, alice, bob, run, serve, scope):
    class Scoped(RunViewSet):
        def get_queryset(self):
            return scope(super().get_queryset(), bob)

    serve(Scoped)
    Run.objects.create(user=bob)
    listed = api.get(user=alice).json()["data"]
    assert (listed["items"], listed["total"]) == ([], 0)
    for method in ("GET", "DELETE"):
        assert_error(api(method, f"/{run.pk}", user=alice), *NOT_FOUND)
    assert exists(run)


def test_a_scope_can_depend_on_the_caller_and_the_path(api, alice, bob, settings):
    class Scoped(RunViewSet):
        def get_queryset(self):
            return (
                super().get_queryset().filter(act_id=self.kwargs["tenant"], user=self.request.user)
            )

    run = Run.objects.create(
        user=alice,
        act_id="acme",
        status=RunStatus.SUCCEEDED,
        general_access=GeneralAccess.ANYONE_WITH_ID_CAN_READ,
    )
    settings.ROOT_URLCONF = (
        path("v2/actor-runs/<tenant>/<runId>", Scoped.as_view({"get": "retrieve"})),
    )
    assert api.get(f"/acme/{run.pk}", user=alice).status_code == 200
    assert api.get(f"/acme/{run.pk}", user=bob).status_code == 404
    assert api.get(f"/other/{run.pk}", user=alice).status_code == 404


@pytest.mark.django_db(transaction=True)
def test_a_get_queryset_that_locks_needs_no_transaction(api, alice, run, serve):
    class Locking(RunViewSet):
        def get_queryset(self):
            return super().get_queryset().select_for_update(nowait=True)

    serve(Locking)
    running = Run.objects.create(user=alice, status=RunStatus.RUNNING)
    assert sorted(ids(api.get(user=alice))) == sorted([run.pk, running.pk])
    waiting = api.get(f"/{running.pk}", user=alice, query="waitForFinish=0.01")
    assert waiting.json()["data"]["status"] == "RUNNING"
    assert api.delete(f"/{running.pk}", user=alice).status_code == 400
    assert api.delete(f"/{run.pk}", user=alice).status_code == 204


def test_a_queryset_attribute_counts_as_get_queryset_does(api, alice, run, serve):
    class Scoped(RunViewSet):
        queryset = Run.objects.filter(act_id="mine")

    serve(Scoped)
    mine = Run.objects.create(user=alice, act_id="mine")
    for _ in range(2):
        assert ids(api.get(user=alice)) == [mine.pk]
        assert api.get(f"/{run.pk}", user=alice).status_code == 404


class NewestByNumber(RunViewSet):
    queryset = Run.objects.annotate(
        number=Window(RowNumber(), partition_by="act_id", order_by="-started_at")
    ).filter(number=1)


class NewestByDistinct(RunViewSet):
    queryset = Run.objects.order_by("act_id", "-started_at").distinct("act_id")


@pytest.mark.parametrize(
    "view", [NewestByNumber, pytest.param(NewestByDistinct, marks=pytest.mark.postgresql)]
)
def test_a_scope_to_the_newest_run_of_each_actor_counts_in_every_operation(api, alice, serve, view):
    serve(view)
    yesterday = timezone.now() - datetime.timedelta(days=1)
    old = Run.objects.create(user=alice, act_id="a", status="FAILED", started_at=yesterday)
    new = Run.objects.create(user=alice, act_id="a", status=RunStatus.SUCCEEDED)
    assert ids(api.get(user=alice)) == [new.pk]
    assert ids(api.get(user=alice, query="status=FAILED")) == []
    assert api.get(f"/{new.pk}", user=alice).status_code == 200
    for method in ("GET", "DELETE"):
        assert api(method, f"/{old.pk}", user=alice).status_code == 404
    assert api.delete(f"/{new.pk}", user=alice).status_code == 204
    assert Run.objects.get() == old


class OfAManager(RunViewSet):
    queryset = Run.objects


class OfARelatedManager(RunViewSet):
    def get_queryset(self):
        return self.request.user.actor_runs


@pytest.mark.parametrize("view", [OfAManager, OfARelatedManager])
def test_a_manager_counts_as_its_queryset(api, alice, bob, run, serve, view):
    # REST framework's own views take one too.
    serve(view)
    assert ids(api.get(user=alice)) == [run.pk]
    assert api.get(f"/{run.pk}", user=alice).status_code == 200
    assert api.delete(f"/{run.pk}", user=bob).status_code in (403, 404)
    assert api.delete(f"/{run.pk}", user=alice).status_code == 204


# Filters and pages


class OfOneActor(BaseFilterBackend):
    def filter_queryset(self, request: Any, queryset: Any, view: Any) -> Any:
        actor = request.query_params.get("actId")
        return queryset.filter(act_id=actor) if actor else queryset


def test_a_hosts_filter_works_beside_the_apps(api, alice, serve):
    class Own(RunViewSet):
        filter_backends = [OfOneActor, RunFilter, SearchFilter]
        search_fields = ["act_id", "user__username"]

    serve(Own)
    ready = Run.objects.create(user=alice, act_id="a")
    Run.objects.create(user=alice, act_id="a", status=RunStatus.RUNNING)
    Run.objects.create(user=alice, act_id="b")
    assert ids(api.get(user=alice, query="actId=a&status=READY&search=alice")) == [ready.pk]
    assert ids(api.get(user=alice, query="actId=a&search=bob")) == []
    # As in REST framework's own views, filters count for one run too.
    assert api.get(f"/{ready.pk}", user=alice, query="actId=b").status_code == 404


def test_a_view_without_filters_ignores_their_parameters(api, alice, run, serve):
    class Own(RunViewSet):
        filter_backends = []

    serve(Own)
    assert ids(api.get(user=alice, query="status=READY")) == [run.pk]


def test_an_order_of_the_hosts_is_kept(api, alice, serve):
    class Own(RunViewSet):
        filter_backends = [RunFilter, OrderingFilter]
        ordering_fields = ["act_id"]

    serve(Own)
    for day, act_id in enumerate(("b", "a", "c"), 1):
        start = f"2026-01-0{day}T00:00:00Z"
        Run.objects.create(id=f"run-{act_id}", user=alice, act_id=act_id, started_at=start)
    assert ids(api.get(user=alice, query="ordering=act_id")) == ["run-a", "run-b", "run-c"]
    assert ids(api.get(user=alice, query="ordering=-act_id")) == ["run-c", "run-b", "run-a"]
    assert ids(api.get(user=alice, query="ordering=act_id&desc=1&limit=2")) == ["run-c", "run-b"]
    assert ids(api.get(user=alice)) == ["run-b", "run-a", "run-c"]


def test_an_order_of_get_queryset_is_kept(api, alice, serve):
    class Own(RunViewSet):
        def get_queryset(self):
            return super().get_queryset().order_by("-act_id")

    serve(Own)
    for act_id in ("b", "a", "c"):
        Run.objects.create(user=alice, act_id=act_id)
    items = api.get(user=alice, query="limit=2").json()["data"]["items"]
    assert [item["actId"] for item in items] == ["c", "b"]


class Numbered(pagination.PageNumberPagination):
    page_size = 2


class ByCursor(pagination.CursorPagination):
    page_size = 2
    ordering = "-started_at"


class ByOffset(pagination.LimitOffsetPagination):
    default_limit = 2


@pytest.mark.parametrize("pages", [Numbered, ByCursor, ByOffset])
def test_a_hosts_pagination_answers_in_its_own_form(api, alice, bob, serve, pages):
    class Own(RunViewSet):
        pagination_class = pages

    serve(Own)
    starts = [f"2026-01-0{day}T00:00:00Z" for day in (1, 2, 3)]  # each another, for the cursor
    runs = [Run.objects.create(user=alice, started_at=start).pk for start in starts]
    Run.objects.create(user=bob)
    first = api.get(user=alice).json()
    second = api.client.get(first["next"], HTTP_AUTHORIZATION=f"Bearer {token_of(alice)}").json()
    found = [run["id"] for page in (first, second) for run in page["results"]]
    assert sorted(found) == sorted(runs)


class WithOwner(serializers.Serializer):
    id = serializers.CharField()
    owner = serializers.CharField(source="user.username")


class OwnList(RunViewSet):
    def list(self, request, *args, **kwargs):
        runs = self.filter_queryset(self.get_queryset()).owned_by(request.user)
        page = self.paginate_queryset(runs)
        return self.get_paginated_response(WithOwner(page, many=True).data)


class OwnPage(RunViewSet):
    def paginate_queryset(self, queryset):
        page = super().paginate_queryset(queryset)
        for run in page:
            run.meta = {"origin": run.user.username}
        return page


class OwnSerializer(RunViewSet):
    def get_serializer(self, *args, **kwargs):
        return WithOwner(*args, **kwargs)


class OwnerPagination(RunPagination):
    def paginate_queryset(self, queryset, request, view=None):
        page = super().paginate_queryset(queryset, request, view)
        for run in page:
            run.meta = {"origin": run.user.username}
        return page


class OwnPagination(RunViewSet):
    pagination_class = OwnerPagination


class PlainView(EnvelopeView):
    authentication_classes = [BearerTokenAuthentication]
    permission_classes = [RunPermission]

    def get(self, request):
        pages = RunPagination()
        page = pages.paginate_queryset(Run.objects.owned_by(request.user), request)
        return pages.get_paginated_response(WithOwner(page, many=True).data)


@pytest.mark.parametrize(
    "view",
    [view.as_view({"get": "list"}) for view in (OwnList, OwnPage, OwnSerializer, OwnPagination)]
    + [PlainView.as_view()],
)
def test_overrides_get_the_run_objects_of_a_page(api, alice, bob, run, settings, view):
    settings.ROOT_URLCONF = (path("v2/actor-runs", view),)
    Run.objects.create(user=bob)
    data = api.get(user=alice, query="limit=1").json()["data"]
    [item] = data["items"]
    assert (item["id"], data["total"]) == (run.pk, 1)
    assert "alice" in (item.get("owner"), item.get("meta", {}).get("origin"))


def test_a_list_below_another_objects_path_is_a_list(api, alice, run, settings):
    class RunsOfCrawl(AppPolicies, ListAPIView):
        queryset = Run.objects.all()
        serializer_class = WithOwner
        pagination_class = RunPagination

    settings.ROOT_URLCONF = (path("v2/actor-runs/<pk>", RunsOfCrawl.as_view()),)
    assert api.get("/a-crawl").status_code == 401
    assert ids(api.get("/a-crawl", user=alice)) == [run.pk]
    assert ids(api.get("/a-crawl", user=alice, query="status=READY")) == []


def test_a_view_without_pagination_answers_all(api, alice, serve):
    class Own(RunViewSet):
        pagination_class = None

    serve(Own)
    runs = sorted(Run.objects.create(user=alice).pk for _ in range(3))
    assert sorted(run["id"] for run in api.get(user=alice).json()["data"]) == runs
