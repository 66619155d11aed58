"""A host's subclass of the view: its authentication, permissions, throttles, serializers."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from rest_framework import (
    exceptions,
    permissions,
    serializers,
    throttling,
)
from rest_framework.authentication import BaseAuthentication, TokenAuthentication
from rest_framework.renderers import JSONRenderer

from actor_runs.models import GeneralAccess, Run, RunStatus
from actor_runs.permissions import RunPermission
from actor_runs.serializers import RunSerializer, RunShortSerializer
from actor_runs.views import RunViewSet
from tests.support.api import FORBIDDEN, assert_error
from tests.support.runs import exists

UNAUTHORIZED = (401, "token-not-valid", "Authentication token is not valid.")


# Authentication, permissions, throttles


class ByHeader(BaseAuthentication):
    def authenticate(self, request: Any) -> Any:
        name = request.headers.get("X-User")
        return None if name is None else (get_user_model().objects.get(username=name), None)


def test_authentication_classes_go_before_the_setting(api, alice, run, serve):
    class Own(RunViewSet):
        authentication_classes = [ByHeader]

    serve(Own)
    assert api.get(f"/{run.pk}", HTTP_X_USER="alice").status_code == 200
    assert_error(api.get(f"/{run.pk}", user=alice), *UNAUTHORIZED)
    response = api.get()
    assert_error(response, *UNAUTHORIZED)
    assert response["WWW-Authenticate"] == "Bearer"


class Service:
    is_authenticated = True


class Robot(Service):
    pk = "a robot's\x00 key \n" * 100


class Nameless:
    """A caller without ``pk`` and without ``is_authenticated``."""


@pytest.mark.parametrize(
    ("caller", "status"), [(Service(), 200), (Robot(), 200), (Nameless(), 401), ({"sub": 1}, 401)]
)
def test_a_caller_of_a_hosts_own_kind_owns_nothing(api, alice, run, serve, caller, status):
    class Known(BaseAuthentication):
        def authenticate(self, request: Any) -> Any:
            return caller, None

    class Own(RunViewSet):
        authentication_classes = [Known]

    class Open(Own):
        permission_classes = [permissions.AllowAny]

    serve(Own)
    public = Run.objects.create(user=alice, general_access=GeneralAccess.ANYONE_WITH_ID_CAN_READ)
    listed = api.get()
    assert listed.status_code == status
    assert listed.json().get("data", {}).get("total", 0) == 0
    assert api.get(f"/{public.pk}", query="waitForFinish=1").status_code == 200
    for method in ("GET", "DELETE"):
        assert api(method, f"/{run.pk}").status_code == (403 if status == 200 else 401)
    assert exists(run)
    serve(Open)
    assert api.delete(f"/{run.pk}").status_code == 204


def test_a_view_without_authentication_shows_what_is_open(api, run, serve):
    class Open(RunViewSet):
        authentication_classes = []

    serve(Open)
    assert_error(api.get(f"/{run.pk}"), *UNAUTHORIZED)
    Run.objects.update(general_access=GeneralAccess.ANYONE_WITH_ID_CAN_READ)
    assert api.get(f"/{run.pk}").status_code == 200


def test_the_header_of_a_hosts_authentication_goes_with_its_401(api, serve):
    class Token(RunViewSet):
        authentication_classes = [TokenAuthentication]

    serve(Token)
    assert api.get()["WWW-Authenticate"] == "Token"


class Paying(permissions.BasePermission):
    message = "Pay first."

    def has_permission(self, request: Any, view: Any) -> bool:
        return request.user.username != "alice"


class NotArchived(permissions.BasePermission):
    message = {"reason": ["It is archived."]}

    def has_object_permission(self, request: Any, view: Any, obj: Any) -> bool:
        return obj.act_id != "archived"


class Colleagues(permissions.BasePermission):
    """Whoever is of the same first name as the owner."""

    def has_permission(self, request: Any, view: Any) -> bool:
        return request.user.is_authenticated

    def has_object_permission(self, request: Any, view: Any, obj: Any) -> bool:
        return obj.user.first_name == request.user.first_name


def test_the_message_of_a_hosts_permission_is_told(api, alice, bob, run, serve):
    class Own(RunViewSet):
        permission_classes = [RunPermission, Paying, NotArchived]

    serve(Own)
    assert_error(api.get(user=alice), 403, "permission-denied", "Pay first.")
    assert_error(api.delete(f"/{run.pk}", user=alice), 403, "permission-denied", "Pay first.")
    assert_error(api.delete(f"/{run.pk}", user=bob), *FORBIDDEN)
    archived = Run.objects.create(user=bob, act_id="archived", status=RunStatus.SUCCEEDED)
    for method in ("GET", "DELETE"):
        response = api(method, f"/{archived.pk}", user=bob)
        assert_error(response, 403, "permission-denied", "reason: It is archived.")
    assert exists(archived)


def test_permissions_can_be_combined(api, alice, bob, run, serve):
    class Own(RunViewSet):
        permission_classes = [(RunPermission & NotArchived) | permissions.IsAdminUser]

    serve(Own)
    assert api.get(f"/{run.pk}", user=bob).status_code == 403
    assert_error(api.get(f"/{run.pk}"), *UNAUTHORIZED)
    assert api.get(f"/{run.pk}", user=alice).status_code == 200
    assert api.delete(f"/{run.pk}", user=bob).status_code == 403
    bob.is_staff = True
    bob.save()
    Run.objects.update(usage_total_usd=1)
    assert "usageTotalUsd" not in api.get(f"/{run.pk}", user=bob).json()["data"]
    assert api.delete(f"/{run.pk}", user=bob).status_code == 204


def test_whom_a_hosts_permission_lets_delete_deletes(
    api, alice, bob, run, serve, caplog, django_capture_on_commit_callbacks
):
    class Own(RunViewSet):
        permission_classes = [Colleagues]

    serve(Own)
    caplog.set_level("INFO", "actor_runs")
    running = Run.objects.create(user=alice, status=RunStatus.RUNNING)
    assert api.delete(f"/{running.pk}", user=bob).status_code == 400
    with django_capture_on_commit_callbacks(execute=True):
        assert api.delete(f"/{run.pk}", user=bob).status_code == 204
    assert not exists(run)
    [record] = [record for record in caplog.records if record.name == "actor_runs"]
    assert record.deleted_by == str(bob.pk)


def test_anybody_deletes_where_a_host_lets_everybody(api, run, serve):
    class Open(RunViewSet):
        permission_classes = [permissions.AllowAny]

    serve(Open)
    assert api.get(f"/{run.pk}").status_code == 200
    assert api.delete(f"/{run.pk}").status_code == 204
    assert_error(api.delete(f"/{run.pk}"), *UNAUTHORIZED)


@pytest.mark.parametrize(
    ("raised", "status"),
    [
        (exceptions.NotFound, 404),
        (exceptions.PermissionDenied, 403),
        (exceptions.NotAuthenticated, 401),
    ],
)
def test_what_a_hosts_permission_raises_is_the_answer(api, alice, run, serve, raised, status):
    class Raising(permissions.BasePermission):
        def has_object_permission(self, request: Any, view: Any, obj: Any) -> bool:
            raise raised

    class Own(RunViewSet):
        permission_classes = [RunPermission, Raising]

    serve(Own)
    for method in ("GET", "DELETE"):
        response = api(method, f"/{run.pk}", user=alice)
        assert (response.status_code, set(response.json()["error"])) == (
            status,
            {"type", "message"},
        )
    assert exists(run)


class OncePerUser(throttling.UserRateThrottle):
    rate = "1/day"


def test_a_hosts_throttle_counts_by_the_user(api, alice, bob, run, serve):
    class Own(RunViewSet):
        throttle_classes = [OncePerUser]

    serve(Own)
    assert api.get(user=alice).status_code == 200
    response = api.get(f"/{run.pk}", user=alice)
    assert_error(
        response,
        429,
        "rate-limit-exceeded",
        "You have exceeded the rate limit. Please try again later.",
    )
    assert int(response["Retry-After"]) > 80_000
    assert api.get(user=bob).status_code == 200
    assert api.get(token="wrong").status_code == 401
    assert api.get(token="wrong").status_code == 429


@pytest.mark.parametrize("seconds", [None, 0, 0.2, -3, float("inf"), float("nan")])
def test_a_hosts_throttle_may_return_any_wait(api, alice, run, serve, seconds):
    class Closed(throttling.BaseThrottle):
        def allow_request(self, request: Any, view: Any) -> bool:
            return False

        def wait(self) -> Any:
            return seconds

    class Own(RunViewSet):
        throttle_classes = [Closed]

    serve(Own)
    response = api.delete(f"/{run.pk}", user=alice)
    assert (response.status_code, response["Retry-After"]) == (429, "1")


def test_a_hosts_throttle_can_look_at_a_refused_authentication(api, serve):
    class Refusing(BaseAuthentication):
        def authenticate(self, request: Any) -> Any:
            raise PermissionDenied

    class Looking(throttling.BaseThrottle):
        def allow_request(self, request: Any, view: Any) -> bool:
            return request.auth is None and request.user.is_anonymous

    class Own(RunViewSet):
        authentication_classes = [Refusing]
        throttle_classes = [Looking]

    serve(Own)
    assert_error(api.get(), *UNAUTHORIZED)


def test_a_hosts_throttle_works_beside_the_apps(api, alice, serve, configure):
    class Own(RunViewSet):
        throttle_classes = [*RunViewSet.throttle_classes, OncePerUser]

    serve(Own)
    configure(RATE_LIMIT="1/m")
    assert api.get(user=alice).status_code == 200
    assert int(api.get(user=alice)["Retry-After"]) > 80_000  # the longer one


# Serializers


class Named(RunSerializer):
    name = serializers.CharField(source="user.username", default=None)


class Short(RunShortSerializer):
    name = serializers.CharField(source="user.username", default=None)


def test_a_serializer_with_more_fields_serves_both_operations(api, alice, run, serve):
    class Own(RunViewSet):
        serializer_class = Named

    serve(Own)
    assert api.get(f"/{run.pk}", user=alice).json()["data"]["name"] == "alice"
    [item] = api.get(user=alice).json()["data"]["items"]
    assert (item["name"], item["buildNumber"]) == ("alice", "0.0.1")


def test_each_action_has_the_serializer_that_the_view_says(api, alice, run, serve):
    class Own(RunViewSet):
        def get_serializer_class(self):
            return Short if self.action == "list" else Named

    serve(Own)
    [item] = api.get(user=alice).json()["data"]["items"]
    assert (item["name"], "stats" in item) == ("alice", False)
    assert api.get(f"/{run.pk}", user=alice).json()["data"]["name"] == "alice"


def test_a_serializer_of_the_model_works(api, alice, run, serve):
    class OfTheModel(serializers.ModelSerializer):
        class Meta:
            model = Run
            fields = ["id", "status", "user", "started_at"]

    class Own(RunViewSet):
        serializer_class = OfTheModel

    serve(Own)
    assert str(api.get(f"/{run.pk}", user=alice).json()["data"]["user"]) == str(alice.pk)
    [item] = api.get(user=alice).json()["data"]["items"]
    assert set(item) == {"id", "status", "user", "started_at"}


class Few(Named):
    class Meta:
        fields = ["id", "status", "exitCode", "name"]


class Fewer(Few):
    class Meta:
        exclude = ["status"]


class Anew(Fewer):
    class Meta(Fewer.Meta):
        fields = ["id", "status", "actId"]
        exclude = [*Fewer.Meta.exclude, "actId"]


class Again(Anew):
    class Meta:
        fields = ["id", "meta"]


class WithOneMore(Again):
    more = serializers.CharField(source="act_id")


class WithoutMeta(RunSerializer):
    class Meta:
        fields = "__all__"
        exclude = ("meta", "usageTotalUsd")


class Dynamic(RunSerializer):
    def get_fields(self):
        return {**super().get_fields(), "name": serializers.CharField(source="user.username")}


@pytest.mark.parametrize(
    ("serializer", "shown", "hidden"),
    [
        (Few, {"id", "status", "name"}, {"meta", "actId"}),
        (Fewer, {"id", "name"}, {"status", "meta"}),
        (Anew, {"id"}, {"status", "actId", "meta", "name"}),
        (Again, {"id", "meta"}, {"status", "name"}),
        (WithOneMore, {"id", "meta", "more"}, {"status", "name"}),
        (WithoutMeta, {"id", "status", "usageUsd"}, {"meta", "usageTotalUsd"}),
        (Dynamic, {"id", "meta", "name"}, set()),
    ],
)
def test_a_serializer_shows_the_keys_that_a_subclass_chooses(
    api, alice, bob, serve, serializer, shown, hidden
):
    class Own(RunViewSet):
        serializer_class = serializer

    serve(Own)
    run = private_run(alice)
    Run.objects.update(general_access=GeneralAccess.ANYONE_WITH_ID_CAN_READ)
    [item] = api.get(user=alice).json()["data"]["items"]
    for data in (item, api.get(f"/{run.pk}", user=alice).json()["data"]):
        assert shown <= data.keys()
        assert not hidden & data.keys()
    data = api.get(f"/{run.pk}", user=bob).json()["data"]
    assert shown - {"usageUsd"} <= data.keys()
    assert not hidden & data.keys()


@pytest.mark.parametrize("option", ["fields", "exclude"])
def test_a_serializer_refuses_unknown_keys_in_its_meta(option):
    with pytest.raises(
        ImproperlyConfigured, match=r"^Own\.Meta names what are not keys: act_id\.$"
    ):

        class Own(RunSerializer):
            Meta = type("Meta", (), {option: ["id", "act_id"]})


def test_a_hosts_context_reaches_the_serializer(api, alice, run, serve):
    class Greeting(RunSerializer):
        greeting = serializers.SerializerMethodField()

        def get_greeting(self, run: Any) -> str:
            return f"{self.context['word']} {self.context['request'].user.username}"

    class Own(RunViewSet):
        serializer_class = Greeting

        def get_serializer_context(self):
            return {**super().get_serializer_context(), "word": "Hello"}

    serve(Own)
    assert api.get(f"/{run.pk}", user=alice).json()["data"]["greeting"] == "Hello alice"
    assert api.get(user=alice).json()["data"]["items"][0]["greeting"] == "Hello alice"


def private_run(user: Any) -> Run:
    return Run.objects.create(
        user=user,
        usage_total_usd=98765.25,  # no time has this in it
        usage_usd={"X": 1},
        meta={"origin": "API", "clientIp": "192.0.2.1", "userAgent": "curl"},
    )


PRIVATE = ("98765.25", "usageUsd", "192.0.2.1", "curl")


class WithOtherContext(RunViewSet):
    def get_serializer_context(self):
        return {"request": self.request}


class WithOtherSerializers(RunViewSet):
    def get_serializer(self, *args, **kwargs):
        kwargs["context"] = self.get_serializer_context()
        return self.get_serializer_class()(*args, **kwargs)


@pytest.mark.parametrize("view", [WithOtherContext, WithOtherSerializers])
def test_the_owner_sees_all_of_a_run_whatever_context_a_host_makes(api, alice, bob, serve, view):
    serve(view)
    run = private_run(alice)
    Run.objects.update(general_access=GeneralAccess.ANYONE_WITH_ID_CAN_READ)
    assert api.get(user=alice).json()["data"]["items"][0]["usageTotalUsd"]
    assert "usageTotalUsd" in api.get(f"/{run.pk}", user=alice).json()["data"]
    assert "usageTotalUsd" not in api.get(f"/{run.pk}", user=bob).json()["data"]


@pytest.mark.parametrize("serializer", [RunSerializer, RunShortSerializer])
def test_inside_of_a_hosts_serializer_nothing_private_is_shown(alice, serializer):
    class Crawl(serializers.Serializer):
        run = serializer()
        runs = serializer(many=True)

    run = private_run(alice)
    shown = JSONRenderer().render(Crawl({"run": run, "runs": [run]}).data).decode()
    assert run.pk in shown
    assert not [value for value in PRIVATE if value in shown]
    shown = JSONRenderer().render(serializer(run, context={"is_owner": True}).data).decode()
    assert [value for value in PRIVATE if value in shown]
    assert Run.objects.get().meta["clientIp"] == run.meta["clientIp"] == "192.0.2.1"
