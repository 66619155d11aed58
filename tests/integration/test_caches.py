"""No cache in front of the app may keep an answer, whatever the answer is."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import InterfaceError
from django.urls import path
from django.views.decorators.cache import cache_page
from rest_framework.authentication import BaseAuthentication

from actor_runs.models import GeneralAccess, Run, RunStatus
from actor_runs.views import RunViewSet


class Unreachable(BaseAuthentication):
    """Where the tokens are cannot be reached now."""

    def authenticate(self, request: Any) -> Any:
        raise InterfaceError("connection already closed")


class Broken(BaseAuthentication):
    def authenticate(self, request: Any) -> Any:
        raise RuntimeError("a mistake in the host's code")


def raising(cls: type) -> dict[str, Any]:
    return {"AUTHENTICATION_CLASSES": [f"{__name__}.{cls.__name__}"]}


# What the host sets, the request as alice or without a token, and the status of its answer.
ANSWERS = [
    ({}, "alice", "GET", "", {}, 200),
    ({}, "alice", "HEAD", "", {}, 200),
    ({}, None, "OPTIONS", "", {}, 200),
    ({}, "alice", "GET", "/finished", {}, 200),
    ({}, "alice", "HEAD", "/finished/", {}, 200),
    ({}, None, "GET", "/public", {}, 200),
    ({}, None, "OPTIONS", "/finished", {}, 200),
    ({}, "alice", "DELETE", "/finished", {}, 204),
    ({}, "alice", "DELETE", "/running", {}, 400),
    ({}, "alice", "DELETE", "/finished", {"body": "[]"}, 400),
    ({}, "alice", "GET", "", {"query": "limit=x"}, 400),
    ({}, None, "GET", "", {}, 401),
    ({}, None, "HEAD", "/finished", {}, 401),
    ({}, "alice", "GET", "/foreign", {}, 403),
    ({}, "alice", "GET", "/unknown", {}, 404),
    ({}, "alice", "GET", "/finished/log", {}, 404),
    ({}, None, "POST", "/finished/log/", {}, 404),
    ({}, None, "POST", "", {}, 405),
    ({}, None, "PUT", "/finished", {}, 405),
    ({"RATE_LIMIT": "0/s"}, "alice", "GET", "/finished", {}, 429),
    (raising(Broken), "alice", "GET", "/finished", {}, 500),
    (raising(Unreachable), "alice", "DELETE", "/finished", {}, 503),
]


@pytest.fixture
def runs(alice, bob):
    """Runs whose IDs say what they are; all but one are alice's."""
    Run.objects.create(id="finished", user=alice, status=RunStatus.SUCCEEDED)
    Run.objects.create(id="running", user=alice, status=RunStatus.RUNNING)
    Run.objects.create(id="foreign", user=bob, status=RunStatus.SUCCEEDED)
    Run.objects.create(
        id="public",
        user=alice,
        status=RunStatus.SUCCEEDED,
        general_access=GeneralAccess.ANYONE_WITH_ID_CAN_READ,
    )


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize(
    ("setting", "caller", "method", "path", "options", "status"),
    ANSWERS,
    ids=[f"{status} {method} {path}" for _, _, method, path, _, status in ANSWERS],
)
def test_every_answer_forbids_caches_to_keep_it(
    api, alice, configure, setting, caller, method, path, options, status
):
    configure(**setting)
    response = api(method, path, user=alice if caller else None, **options)
    assert response.status_code == status
    assert response["Cache-Control"] == "private, no-store"
    assert "Authorization" in response["Vary"].split(", ")


@pytest.fixture(params=["per site", "per view"])
def cached(request, settings):
    """Django's own cache in front of the API."""
    if request.param == "per site":
        settings.MIDDLEWARE = [
            "django.middleware.cache.UpdateCacheMiddleware",
            *settings.MIDDLEWARE,
            "django.middleware.cache.FetchFromCacheMiddleware",
        ]
    else:
        runs = RunViewSet.as_view({"get": "list"}, detail=False)
        run = RunViewSet.as_view({"get": "retrieve", "delete": "destroy"}, detail=True)
        settings.ROOT_URLCONF = (
            path("v2/actor-runs", cache_page(600)(runs)),
            path("v2/actor-runs/<runId>", cache_page(600)(run)),
        )


@pytest.mark.usefixtures("cached", "runs")
def test_behind_djangos_cache_a_run_is_shown_to_its_owner_alone(api, alice, bob):
    for _ in range(2):
        assert api.get("/finished", user=alice).status_code == 200
        assert api.get("/finished", user=bob).status_code == 403
        assert api.get("/finished").status_code == 401


@pytest.mark.usefixtures("cached", "runs")
def test_behind_djangos_cache_each_caller_has_a_list_of_their_own(api, alice, bob):
    for _ in range(2):
        assert api.get(user=alice).json()["data"]["total"] == 3
        assert api.get(user=bob).json()["data"]["total"] == 1
        assert api.get().status_code == 401


@pytest.mark.usefixtures("cached", "runs")
def test_behind_djangos_cache_a_deleted_run_is_gone_at_once(api, alice):
    assert api.get("/finished", user=alice).status_code == 200
    assert api.get("/unknown", user=alice).status_code == 404
    assert api.delete("/finished", user=alice).status_code == 204
    assert api.get("/finished", user=alice).status_code == 404
    assert "finished" not in [run["id"] for run in api.get(user=alice).json()["data"]["items"]]
    Run.objects.create(id="unknown", user=alice)
    assert api.get("/unknown", user=alice).status_code == 200


@pytest.mark.usefixtures("cached", "runs")
def test_behind_djangos_cache_a_closed_run_is_closed_at_once(api):
    assert api.get("/public").status_code == 200
    Run.objects.filter(pk="public").update(general_access=GeneralAccess.RESTRICTED)
    assert api.get("/public").status_code == 401


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize(
    "condition",
    [{"HTTP_IF_NONE_MATCH": "*"}, {"HTTP_IF_MODIFIED_SINCE": "Fri, 01 Jan 2100 00:00:00 GMT"}],
)
@pytest.mark.parametrize("at", [0, -1])
def test_a_conditional_request_is_answered_in_full(api, alice, settings, condition, at):
    settings.MIDDLEWARE = list(settings.MIDDLEWARE)
    settings.MIDDLEWARE.insert(at, "django.middleware.http.ConditionalGetMiddleware")
    response = api.get("/finished", user=alice, **condition)
    assert response.status_code == 200
    assert "ETag" not in response
    assert response["Cache-Control"] == "private, no-store"


@pytest.mark.usefixtures("runs")
def test_a_compressed_answer_varies_by_the_token_too(api, alice, settings):
    settings.MIDDLEWARE = ["django.middleware.gzip.GZipMiddleware", *settings.MIDDLEWARE]
    response = api.get(user=alice, HTTP_ACCEPT_ENCODING="gzip")
    assert response["Content-Encoding"] == "gzip"
    assert {"Authorization", "Accept-Encoding"} <= set(response["Vary"].split(", "))
    assert response["Cache-Control"] == "private, no-store"
