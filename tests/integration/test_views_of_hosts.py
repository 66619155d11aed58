"""A host's subclass of the view: where it is mounted, and its attributes and methods."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from django.apps import apps
from django.db import transaction
from django.urls import include, path, re_path
from rest_framework import (
    exceptions,
    generics,
    mixins,
    serializers,
    versioning,
)
from rest_framework.decorators import action
from rest_framework.metadata import SimpleMetadata
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.parsers import JSONParser
from rest_framework.renderers import BaseRenderer, BrowsableAPIRenderer, JSONRenderer
from rest_framework.response import Response
from rest_framework.routers import DefaultRouter, SimpleRouter
from rest_framework.test import APIRequestFactory, force_authenticate

from actor_runs.exceptions import exception_handler
from actor_runs.models import GeneralAccess, Run, RunStatus
from actor_runs.pagination import RunPagination
from actor_runs.serializers import RunSerializer, RunShortSerializer
from actor_runs.views import RunViewSet
from tests.support.api import FORBIDDEN, NOT_FOUND, assert_error
from tests.support.people import join, make_user, token_of
from tests.support.policies import AppPolicies
from tests.support.runs import exists

UNAUTHORIZED = (401, "token-not-valid", "Authentication token is not valid.")


def ids(response: Any) -> list[str]:
    return [run["id"] for run in response.json()["data"]["items"]]


# Where the URLs are mounted


@pytest.mark.parametrize(
    ("mounted", "prefix"),
    [
        (re_path(r"^(?P<version>v2)/", include("actor_runs.urls")), "v2"),
        (path("<slug:tenant>/api/", include("actor_runs.urls")), "acme/api"),
        (path("<format>/<int:pk>/", include("actor_runs.urls")), "json/7"),
        (path("x/", include("actor_runs.urls"), {"tenant": 1, "is_owner": True}), "x"),
        (path("<slug:runId>/", include("actor_runs.urls")), "parent"),
        (path("", include("actor_runs.urls")), ""),
        (path("y/", include("actor_runs.urls", namespace="other")), "y"),
    ],
)
def test_the_urls_can_be_mounted_below_parameters(api, alice, run, settings, mounted, prefix):
    settings.ROOT_URLCONF = (mounted,)
    base = f"/{prefix}/actor-runs".replace("//", "/")
    headers = {"HTTP_AUTHORIZATION": f"Bearer {token_of(alice)}"}
    for slash in ("", "/"):
        listed = api.client.get(f"{base}{slash}", **headers)
        assert ids(listed) == [run.pk]
        assert ids(api.client.get(f"{base}{slash}?status=READY", **headers)) == []
        assert_error(api.client.get(f"{base}{slash}"), *UNAUTHORIZED)
        assert api.client.get(f"{base}/{run.pk}{slash}", **headers).status_code == 200
        assert_error(api.client.get(f"{base}/{run.pk}/log{slash}", **headers), *NOT_FOUND)
        assert api.client.options(f"{base}/{run.pk}{slash}").status_code == 200
    assert api.client.delete(f"{base}/{run.pk}/", **headers).status_code == 204
    assert_error(api.client.delete(f"{base}/{run.pk}", **headers), *NOT_FOUND)


@pytest.mark.parametrize(
    "router", [DefaultRouter, SimpleRouter, partial(SimpleRouter, use_regex_path=False)]
)
def test_a_router_serves_the_view(api, alice, run, settings, router):
    routes = router()
    routes.register("actor-runs", RunViewSet)
    settings.ROOT_URLCONF = (path("v2/", include(routes.urls)),)
    public = Run.objects.create(user=alice, general_access=GeneralAccess.ANYONE_WITH_ID_CAN_READ)
    assert sorted(ids(api.get("/", user=alice))) == sorted([run.pk, public.pk])
    assert api.get(f"/{run.pk}/", user=alice).json()["data"]["id"] == run.pk
    assert api.get(f"/{public.pk}/").status_code == 200
    assert_error(api.get(f"/{run.pk}/"), *UNAUTHORIZED)
    assert api.delete(f"/{run.pk}/", user=alice).status_code == 204
    assert_error(api.delete(f"/{run.pk}/", user=alice), *NOT_FOUND)


def test_a_view_needs_no_other_arguments_than_its_actions(api, alice, run, serve):
    serve(RunViewSet)
    public = Run.objects.create(user=alice, general_access=GeneralAccess.ANYONE_WITH_ID_CAN_READ)
    assert api.get(f"/{public.pk}").status_code == 200
    assert_error(api.get(), *UNAUTHORIZED)
    # Parameters of the list say nothing about a single run.
    assert api.get(f"/{run.pk}", user=alice, query="status=READY").status_code == 200
    assert api.delete(f"/{run.pk}", user=alice, query="startedAfter=x").status_code == 204


# The app's policies on a view that is the host's own


class Runs(AppPolicies, generics.ListAPIView):
    queryset = Run.objects.all()
    serializer_class = RunShortSerializer
    pagination_class = RunPagination

    def get_exception_handler(self) -> Any:
        return exception_handler


class OneRun(AppPolicies, generics.RetrieveDestroyAPIView):
    queryset = Run.objects.all()
    serializer_class = RunSerializer

    def get_exception_handler(self) -> Any:
        return exception_handler


def test_policies_work_on_a_view_that_is_not_the_apps(api, alice, bob, run, settings, configure):
    settings.ROOT_URLCONF = (
        path("v2/actor-runs", Runs.as_view()),
        path("v2/actor-runs/<pk>", OneRun.as_view()),
    )
    running = Run.objects.create(user=bob, status=RunStatus.RUNNING, general_access="RESTRICTED")
    assert sorted(ids(api.get(user=alice, query="desc=1"))) == sorted([running.pk, run.pk])
    assert ids(api.get(user=alice, query="status=SUCCEEDED,FAILED&limit=1")) == [run.pk]
    assert api.get().status_code == 401
    assert api.get(f"/{run.pk}", user=alice, query="status=READY").json()["id"] == run.pk
    for method in ("GET", "DELETE"):
        assert_error(api(method, f"/{run.pk}", user=bob), *FORBIDDEN)
    assert api.delete(f"/{running.pk}").status_code == 401
    assert api.delete(f"/{running.pk}", user=bob).status_code == 400
    assert api.delete(f"/{run.pk}", user=alice).status_code == 204
    configure(RUN_RATE_LIMIT="1/d")
    Run.objects.update(general_access=GeneralAccess.ANYONE_WITH_ID_CAN_READ)
    for user in (bob, None):
        statuses = [api.get(f"/{running.pk}", user=user).status_code for _ in range(2)]
        assert statuses == [200, 429]


# The rest of REST framework's attributes


def test_methods_that_a_host_takes_away_are_405(api, alice, run, serve):
    class ReadOnly(RunViewSet):
        http_method_names = ["get", "head", "options"]

    serve(ReadOnly)
    response = api.delete(f"/{run.pk}", user=alice)
    assert_error(
        response,
        405,
        "method-not-allowed",
        "This API end-point can only be accessed using the following HTTP methods: OPTIONS,GET",
    )
    assert response["Allow"] == api("OPTIONS", f"/{run.pk}")["Allow"] == "OPTIONS, GET"
    assert_error(
        api.delete(f"/{run.pk}", token="wrong"),
        405,
        "method-not-allowed",
        "This API end-point can only be accessed using the following HTTP methods: OPTIONS,GET",
    )
    assert api.get(f"/{run.pk}", user=alice).status_code == 200
    assert exists(run)


@pytest.mark.parametrize("kwarg", [None, "name"])
def test_a_run_is_looked_up_by_the_field_that_a_host_says(api, alice, bob, serve, configure, kwarg):
    configure(RUN_RATE_LIMIT="5/d", RATE_LIMIT=None)

    class ByTask(RunViewSet):
        lookup_field = "actor_task_id"
        lookup_url_kwarg = kwarg

    serve(ByTask)
    run = Run.objects.create(user=alice, actor_task_id="nightly", status=RunStatus.SUCCEEDED)
    assert api.get("/nightly", user=alice).json()["data"]["id"] == run.pk
    assert api.delete("/nightly", user=bob).status_code == 403
    assert_error(api.get(f"/{run.pk}", user=alice), *NOT_FOUND)
    assert_error(api.get("/b%C3%BCcher", user=alice), *NOT_FOUND)
    assert api.delete("/nightly", user=alice).status_code == 204
    assert [api.get("/nightly", user=alice).status_code for _ in range(4)] == [404] * 3 + [429]


def test_an_action_of_the_hosts_own_has_the_policies_of_the_view(api, alice, bob, acme, settings):
    class Own(RunViewSet):
        @action(detail=True, methods=["post"], parser_classes=[JSONParser])
        def abort(self, request: Any, **kwargs: Any) -> Response:
            run = self.get_object()
            run.transition_to(RunStatus.ABORTING, status_message=request.data["why"])
            return Response({"data": self.get_serializer(run).data})

        @action(detail=False)
        def newest(self, request: Any) -> Response:
            run = self.filter_queryset(self.get_queryset()).owned_by(request.user).latest()
            return Response({"data": self.get_serializer(run).data})

    routes = DefaultRouter(trailing_slash=False)
    routes.register("actor-runs", Own)
    settings.ROOT_URLCONF = (path("v2/", include(routes.urls)),)
    join(alice, acme)
    run = Run.objects.create(organization=acme, status=RunStatus.RUNNING, usage_total_usd=3)
    body = '{"why": "enough"}'
    assert_error(api("POST", f"/{run.pk}/abort", body=body), *UNAUTHORIZED)
    assert_error(api("POST", f"/{run.pk}/abort", body=body, user=bob), *FORBIDDEN)
    assert_error(api("POST", "/unknown/abort", body=body, user=alice), *NOT_FOUND)
    response = api("GET", f"/{run.pk}/abort", user=alice)
    assert response.status_code == 405
    assert response["Allow"] == "OPTIONS, POST"
    assert api("POST", f"/{run.pk}/abort", body="{", user=alice).status_code == 400
    response = api("POST", f"/{run.pk}/abort", body=body, user=alice)
    assert response.json()["data"]["status"] == "ABORTING"
    assert response["Cache-Control"] == "private, no-store"
    assert api.get("/newest", user=alice).json()["data"]["statusMessage"] == "enough"


class Writable(serializers.ModelSerializer):
    class Meta:
        model = Run
        fields = ["id", "act_id", "general_access", "options", "status"]


def test_runs_that_a_host_lets_clients_write_are_validated(api, alice, bob, settings):
    class Own(mixins.CreateModelMixin, mixins.UpdateModelMixin, RunViewSet):
        serializer_class = Writable
        parser_classes = [JSONParser]

        def perform_create(self, serializer):
            serializer.save(user=self.request.user)

    routes = DefaultRouter(trailing_slash=False)
    routes.register("actor-runs", Own)
    settings.ROOT_URLCONF = (path("v2/", include(routes.urls)),)
    run_id = api("POST", user=alice, body='{"act_id": "a"}').json()["id"]
    assert api("PATCH", f"/{run_id}", user=alice, body='{"act_id": "b"}').status_code == 200
    assert_error(api("PATCH", f"/{run_id}", user=bob, body='{"act_id": "c"}'), *FORBIDDEN)
    refused = api("PATCH", f"/{run_id}", user=alice, body='{"options": {"build": 1}}')
    assert refused.status_code == 400
    error = refused.json()["error"]
    assert error["type"] == "invalid-input"
    assert error["message"].startswith("Invalid input: options.timeoutSecs: ")
    assert_error(
        api("PATCH", f"/{run_id}", user=alice, body='{"status": "RUNNING"}'),
        400,
        "operation-not-allowed",
        f"The status cannot be saved (run ID: {run_id}, status: READY).",
    )
    # JSON can escape half a surrogate pair, which UTF-8 cannot carry.
    refused = api("PATCH", f"/{run_id}", user=alice, body=r'{"general_access": "\ud800"}')
    assert refused.status_code == 400
    assert r'"\ud800"' in refused.json()["error"]["message"]
    assert Run.objects.get().act_id == "b"


def test_an_id_that_a_hosts_path_converts_is_an_id(api, alice, settings):
    run = Run.objects.create(id="12", user=alice, status=RunStatus.SUCCEEDED)
    view = RunViewSet.as_view({"get": "retrieve", "delete": "destroy"})
    settings.ROOT_URLCONF = (path("v2/actor-runs/<int:runId>", view),)
    assert api.get(f"/{run.pk}", user=alice).json()["data"]["id"] == "12"
    assert api.delete(f"/{run.pk}", user=alice).status_code == 204


class Plain(BaseRenderer):
    media_type = "text/plain"
    format = "txt"

    def render(self, data: Any, accepted: Any = None, context: Any = None) -> bytes:
        return repr(data).encode()


def test_a_hosts_renderer_writes_every_answer(api, alice, run, serve):
    class Own(RunViewSet):
        renderer_classes = [Plain]

    serve(Own)
    response = api.get(f"/{run.pk}", user=alice)
    assert response["Content-Type"].startswith("text/plain")
    assert run.pk in response.content.decode()
    assert b"record-not-found" in api.get("/unknown", user=alice).content
    assert api.delete(f"/{run.pk}", user=alice).content == b""


def test_a_hosts_view_can_be_browsed(api, alice, run, serve):
    class Own(RunViewSet):
        renderer_classes = [BrowsableAPIRenderer, JSONRenderer]

    serve(Own)
    for path_, status in (("", 200), (f"/{run.pk}", 200), ("/unknown", 404)):
        response = api.get(path_, user=alice)
        assert (response.status_code, response["Content-Type"]) == (
            status,
            "text/html; charset=utf-8",
        )


def test_a_hosts_exception_handler_answers_and_is_asked_once(api, alice, serve):
    asked = []

    class Own(RunViewSet):
        def get_exception_handler(self):
            def handle(exc: Exception, context: Any) -> Response:
                asked.append(type(exc).__name__)
                return Response({"problem": str(exc)}, status=418)

            return handle

    serve(Own)
    response = api.get("/unknown", user=alice)
    assert (response.status_code, asked) == (418, ["NotFound"])
    assert response["Cache-Control"] == "private, no-store"


def test_a_host_can_do_more_at_a_deletion(api, alice, run, serve):
    deleted = []

    class Own(RunViewSet):
        def perform_destroy(self, instance: Run) -> None:
            super().perform_destroy(instance)
            deleted.append(instance.pk)

    serve(Own)
    running = Run.objects.create(user=alice, status=RunStatus.RUNNING)
    assert api.delete(f"/{running.pk}", user=alice).status_code == 400
    assert api.delete(f"/{run.pk}", user=alice).status_code == 204
    assert deleted == [run.pk]


def test_a_host_can_prevent_a_deletion(api, alice, run, serve):
    class Own(RunViewSet):
        def perform_destroy(self, instance: Run) -> None:
            raise exceptions.PermissionDenied("Not on a Sunday.")

    serve(Own)
    response = api.delete(f"/{run.pk}", user=alice)
    assert_error(response, 403, "permission-denied", "Not on a Sunday.")
    assert exists(run)


@pytest.mark.django_db(transaction=True)
def test_a_deletion_that_a_host_rolls_back_is_not_logged(api, alice, run, serve, caplog):
    class Own(RunViewSet):
        @transaction.atomic
        def destroy(self, request: Any, *args: Any, **kwargs: Any) -> Response:
            super().destroy(request, *args, **kwargs)
            raise exceptions.PermissionDenied

    serve(Own)
    caplog.set_level("INFO", "actor_runs")
    assert_error(api.delete(f"/{run.pk}", user=alice), *FORBIDDEN)
    assert exists(run)
    assert not [record for record in caplog.records if record.name == "actor_runs"]


def test_a_hosts_get_object_is_asked(api, alice, run, serve):
    class Own(RunViewSet):
        def get_object(self):
            run = super().get_object()
            if run.act_id == "hidden":
                raise exceptions.NotFound
            return run

    serve(Own)
    hidden = Run.objects.create(user=alice, act_id="hidden", status=RunStatus.SUCCEEDED)
    assert api.get(f"/{run.pk}", user=alice).status_code == 200
    for method in ("GET", "DELETE"):
        assert api(method, f"/{hidden.pk}", user=alice).status_code == 404
    assert exists(hidden)


def test_overrides_of_authentication_and_405_are_called(api, alice, run, serve):
    seen = []

    class Own(RunViewSet):
        def perform_authentication(self, request):
            super().perform_authentication(request)
            seen.append(request.user)

        def http_method_not_allowed(self, request, *args, **kwargs):
            raise exceptions.NotFound

    serve(Own)
    assert_error(api("POST", f"/{run.pk}", user=alice), *NOT_FOUND)
    assert seen == []
    assert_error(api.get(f"/{run.pk}", token="wrong"), *UNAUTHORIZED)
    assert seen == []
    assert api.get(f"/{run.pk}", user=alice).status_code == 200
    assert seen == [alice]


class WithoutCheck(RunViewSet):
    def get_object(self):
        return generics.get_object_or_404(self.get_queryset(), pk=self.kwargs["runId"])


class StaffReads(RunViewSet):
    def check_object_permissions(self, request, obj):
        if request.method != "GET" or not request.user.is_staff:
            super().check_object_permissions(request, obj)


class DenyingDeletionsAlone(RunViewSet):
    def permission_denied(self, request, message=None, code=None):
        if request.method != "GET":
            super().permission_denied(request, message, code)


@pytest.mark.parametrize("view", [WithoutCheck, StaffReads, DenyingDeletionsAlone])
def test_a_caller_whom_an_override_lets_read_is_not_treated_as_the_owner(
    api, alice, acme, serve, view
):
    serve(view)
    join(alice, acme)
    other = make_user("other", is_staff=True)
    for owner in ({"user": alice}, {"organization": acme}):
        run = Run.objects.create(**owner, status=RunStatus.SUCCEEDED, usage_total_usd=3)
        assert "usageTotalUsd" not in api.get(f"/{run.pk}", user=other).json()["data"]
        assert api.get(f"/{run.pk}", user=alice).json()["data"]["usageTotalUsd"] == 3
        assert_error(api.delete(f"/{run.pk}", user=other), *FORBIDDEN)
        assert api.delete(f"/{run.pk}", user=alice).status_code == 204


def test_perform_destroy_checks_the_owner_of_any_run(api, alice, bob, acme, settings):
    class Own(RunViewSet):
        @action(detail=False, methods=["post"])
        def purge(self, request: Any) -> Response:
            for run in self.get_queryset():
                self.perform_destroy(run)
            return Response()

    settings.ROOT_URLCONF = (path("v2/actor-runs/purge", Own.as_view({"post": "purge"})),)
    join(alice, acme)
    for owner in ({"user": alice}, {"organization": acme}):
        run = Run.objects.create(**owner, status=RunStatus.SUCCEEDED)
        assert_error(api("POST", "/purge", user=bob), *FORBIDDEN)
        assert exists(run)
        assert api("POST", "/purge", user=alice).status_code == 200
        assert not exists(run)


def test_a_deletion_goes_by_the_run_as_it_is_whatever_get_object_kept(api, alice, serve):
    kept: list[Run] = []

    class Own(RunViewSet):
        def get_object(self):
            kept.append(super().get_object())
            return kept[0]

    serve(Own)
    run = Run.objects.create(user=alice, status=RunStatus.RUNNING)
    assert api.delete(f"/{run.pk}", user=alice).status_code == 400
    run.transition_to(RunStatus.SUCCEEDED)
    assert api.delete(f"/{run.pk}", user=alice).status_code == 204


@pytest.mark.host
def test_the_delete_method_of_a_proxy_is_called(api, alice, bob, run, serve):
    class Own(RunViewSet):
        queryset = apps.get_model("host.AuditedRun").objects.all()

    serve(Own)
    running = Run.objects.create(user=alice, status=RunStatus.RUNNING)
    companies = apps.get_model("host.Company").objects
    assert_error(api.delete(f"/{run.pk}", user=bob), *FORBIDDEN)
    assert api.delete(f"/{running.pk}", user=alice).status_code == 400
    assert not companies.exists()
    assert api.delete(f"/{run.pk}", user=alice).status_code == 204
    assert companies.get().slug == f"deleted-{run.pk}"
    assert not exists(run)


class ReadsAfterDeletion(RunViewSet):
    def perform_destroy(self, instance):
        super().perform_destroy(instance)
        instance.act_id, instance.stats  # noqa: B018


class ReadsAfterAnswer(RunViewSet):
    def get_object(self):
        self.found = super().get_object()
        return self.found

    def destroy(self, request, *args, **kwargs):
        response = super().destroy(request, *args, **kwargs)
        self.get_serializer(self.found).data  # noqa: B018
        return response


class ReadsAtTheEnd(RunViewSet):
    def check_object_permissions(self, request, obj):
        super().check_object_permissions(request, obj)
        self.found = obj

    def finalize_response(self, request, response, *args, **kwargs):
        response["X-Actor"] = self.found.act_id
        return super().finalize_response(request, response, *args, **kwargs)


@pytest.mark.parametrize("view", [ReadsAfterDeletion, ReadsAfterAnswer, ReadsAtTheEnd])
def test_a_hosts_method_sees_the_whole_run_after_its_deletion(api, alice, run, serve, view):
    serve(view)
    assert api.delete(f"/{run.pk}", user=alice).status_code == 204


class ByPath(versioning.URLPathVersioning):
    allowed_versions = ["v2"]


def test_a_hosts_versions_formats_and_metadata_are_known_to_its_code(api, alice, run, settings):
    class Own(RunViewSet):
        versioning_class = ByPath
        content_negotiation_class = DefaultContentNegotiation
        renderer_classes = [JSONRenderer, Plain]
        metadata_class = SimpleMetadata

        def get_serializer_context(self):
            assert self.request.version == "v2"
            assert self.request.accepted_renderer.format in ("json", "txt")
            return super().get_serializer_context()

    routes = DefaultRouter(trailing_slash=False)
    routes.register("actor-runs", Own)
    settings.ROOT_URLCONF = (path("<version>/", include(routes.urls)),)
    for found in (
        api.get(f"/{run.pk}", user=alice, query="format=txt"),
        api.get(f"/{run.pk}", user=alice, HTTP_ACCEPT="text/plain"),
    ):
        assert found["Content-Type"].startswith("text/plain")
    assert api.get(f"/{run.pk}", user=alice)["Content-Type"] == "application/json"
    assert api.get(f"/{run.pk}", user=alice, HTTP_ACCEPT="image/png").status_code == 406
    assert api("OPTIONS", f"/{run.pk}").json()["renders"] == ["application/json", "text/plain"]
    headers = {"HTTP_AUTHORIZATION": f"Bearer {token_of(alice)}"}
    assert api.client.get("/v3/actor-runs", **headers).status_code == 404


def test_the_view_is_called_by_rest_frameworks_own_test_tools(alice, bob, run):
    factory = APIRequestFactory()
    view = RunViewSet.as_view({"get": "retrieve", "delete": "destroy"})

    def status(method: str, user: Any) -> int:
        request = factory.generic(method, "/")
        force_authenticate(request, user)
        return view(request, runId=run.pk).status_code

    assert [status("GET", user) for user in (alice, bob, None)] == [200, 403, 401]
    assert [status("DELETE", user) for user in (bob, alice, alice)] == [403, 204, 404]
