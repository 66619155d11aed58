"""The app in the OpenAPI document of a host that has views and names of its own."""

from __future__ import annotations

import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.urls import include, path
from drf_spectacular.extensions import OpenApiSerializerExtension
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from rest_framework.routers import SimpleRouter
from rest_framework.schemas.openapi import AutoSchema as RestFrameworkSchema
from rest_framework.settings import api_settings

from actor_runs.models import GeneralAccess, Run, RunStatus
from actor_runs.serializers import RunSerializer
from actor_runs.views import RunViewSet
from tests.support.openapi import assert_documented, generate
from tests.support.people import token_of
from tests.support.schema_host import Job, SameChoices, host_urls, tenant_router, urlpatterns

ROOT = Path(__file__).resolve().parent.parent.parent
APP = [path("v2/", include("actor_runs.urls"))]
COMPONENTS = {
    "ActorRun",
    "ActorRunError",
    "ActorRunGeneralAccess",
    "ActorRunShort",
    "ActorRunShortPage",
    "ActorRunStatus",
}
# drf-spectacular guesses the prefix of all paths, which another app's URLs change.
PREFIX = {"SCHEMA_PATH_PREFIX": "/api"}
OVERRIDES = {
    "StatusEnum": RunStatus,
    "GeneralAccessEnum": GeneralAccess,
    "OriginEnum": [("web", "Web")],
}
SETTINGS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "OpenAPI 3.0": {"OAS_VERSION": "3.0.3"},
    "OpenAPI 3.1": {"OAS_VERSION": "3.1.0"},
    "components for requests": {"COMPONENT_SPLIT_REQUEST": True},
    "no hooks": {"POSTPROCESSING_HOOKS": []},
    "names of enums": {"ENUM_NAME_OVERRIDES": OVERRIDES},
    "the app's name of an enum": {"ENUM_NAME_OVERRIDES": {"ActorRunStatus": RunStatus}},
    "no suffix of enums": {"ENUM_SUFFIX": ""},
    "lists of errors": {"ENABLE_LIST_MECHANICS_ON_NON_2XX": True},
    "all of them": {
        "OAS_VERSION": "3.1.0",
        "COMPONENT_SPLIT_REQUEST": True,
        "ENUM_NAME_OVERRIDES": OVERRIDES,
        "ENABLE_LIST_MECHANICS_ON_NON_2XX": True,
    },
}


@pytest.mark.parametrize("model", [Job, SameChoices])
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_the_app_changes_nothing_of_a_hosts_document(model, settings):
    alone = generate(host_urls(model), **PREFIX, **settings)
    both = generate(host_urls(model) + APP, **PREFIX, **settings)
    for path_, operations in alone["paths"].items():
        assert both["paths"][path_] == operations
    for kind, components in alone["components"].items():
        kept = {name: both["components"][kind].get(name) for name in components}
        assert kept == components
    added = both["components"]["schemas"].keys() - alone["components"]["schemas"]
    assert added == COMPONENTS - alone["components"]["schemas"].keys()
    schemes = both["components"]["securitySchemes"].keys()
    assert schemes - alone["components"]["securitySchemes"] == {"actorRunsBearerToken"}


@pytest.mark.parametrize("version", ["3.0.3", "3.1.0"])
def test_the_document_of_host_and_app_is_valid(version):
    subclasses = [path("of/<slug:tenant>/", include(tenant_router.urls))]
    assert generate(host_urls(Job) + APP + subclasses, validate=True, OAS_VERSION=version)


@pytest.fixture(scope="module")
def document() -> Any:
    return generate(urlpatterns)


def schema_of(document: Any, path: str, method: str = "get", status: str = "200") -> Any:
    answer = document["paths"][path][method]["responses"][status]
    return answer["content"]["application/json"]["schema"]


def test_subclasses_have_components_of_their_own(document):
    schemas = document["components"]["schemas"]
    assert {name for name in schemas if "Run" in name} == COMPONENTS | {
        *("TenantRun", "TenantRunInList", "TenantRunInListPage"),
        *("ClosedRun", "ClosedRunPage"),
        *("ActorRunShortList", "PaginatedActorRunShortList"),
    }
    own = schemas["TenantRun"]
    inherited = schemas["ActorRun"]
    assert own["properties"] == inherited["properties"] | {
        "tenant": {"type": "string", "readOnly": True},
        "actor": {"type": "string", "description": "The Actor."},
    }
    assert set(own["required"]) == {*inherited["required"], "tenant", "actor"}
    assert own["description"] == "A run of a tenant."


def test_a_view_of_a_subclass_keeps_what_its_host_says_of_it(document):
    described = document["paths"]["/of/{tenant}/described-runs/{runId}/"]["get"]
    assert described["tags"] == ["Crawls"]
    assert described["summary"] == "Get a crawl"
    assert described["responses"]["200"]["description"] == "What there is."
    assert "Cache-Control" in described["responses"]["200"]["headers"]
    assert described["responses"]["404"]["description"] == "Not Found"
    assert {each["name"] for each in described["parameters"]} == {
        *("runId", "tenant", "waitForFinish"),
    }
    listed = document["paths"]["/of/{tenant}/described-runs/"]["get"]
    assert listed["description"] == "Every crawl."
    assert listed["tags"] == ["Crawls"]
    deleted = document["paths"]["/of/{tenant}/described-runs/{runId}/"]["delete"]
    assert deleted["description"] == "Forget the crawl."
    assert deleted["tags"] == ["Crawls"]
    assert "404" in deleted["responses"]


def test_other_policies_of_a_subclass_are_documented(document):
    closed = document["paths"]["/of/{tenant}/closed-runs/{runId}/"]["get"]
    assert closed["security"] == [{"actorRunsCompanyToken": []}]
    assert "X-RateLimit-Limit" not in closed["responses"]["200"]["headers"]
    paged = document["paths"]["/of/{tenant}/paged-runs/"]["get"]
    assert "page" in {each["name"] for each in paged["parameters"]}
    assert "limit" not in {each["name"] for each in paged["parameters"]}


@pytest.mark.django_db
def test_answers_of_subclasses_are_as_documented(document, settings, api, alice, bob):
    settings.ROOT_URLCONF = "tests.support.schema_host"
    runs = [Run.objects.create(user=alice, status=RunStatus.SUCCEEDED) for _ in range(3)]

    def check(status: int, method: str, path: str, run_id: str = "", user: Any = alice) -> None:
        url = path.format(tenant="acme", version="v2", runId=run_id)
        token = {} if user is None else {"HTTP_AUTHORIZATION": f"Bearer {token_of(user)}"}
        response = api.client.generic(method, url, b"", "application/json", **token)
        assert response.status_code == status, response.content
        assert_documented(document, (path, method.lower()), response)

    run_id = runs[0].pk
    for name in ("tenant", "unpaged", "paged", "closed"):
        collection = f"/of/{{tenant}}/{name}-runs/"
        check(200, "GET", collection)
        check(401, "GET", collection, user=None)
        check(200, "GET", f"{collection}{{runId}}/", run_id)
        check(403, "GET", f"{collection}{{runId}}/", run_id, user=bob)
        check(404, "DELETE", f"{collection}{{runId}}/", "unknown")
    check(200, "GET", "/of/{tenant}/tenant-runs/{runId}/log/", run_id)
    check(404, "GET", "/of/{tenant}/tenant-runs/{runId}/log/", "unknown")
    check(201, "POST", "/of/{tenant}/tenant-runs/{runId}/note/", run_id)
    check(204, "DELETE", "/of/{tenant}/tenant-runs/{runId}/", run_id)
    check(200, "GET", "/api/{version}/actor-runs")


def test_an_action_that_a_host_excludes_is_not_in_the_document(document):
    assert "/of/{tenant}/tenant-runs/{runId}/log/" in document["paths"]
    assert "/of/{tenant}/tenant-runs/{runId}/secret/" not in document["paths"]


def test_a_serializer_that_drf_spectacular_cannot_get_does_not_stop_the_document():
    class Runs(RunViewSet):
        def get_serializer_class(self) -> Any:
            raise RuntimeError("There is no user.")

    router = SimpleRouter()
    router.register("runs", Runs)
    document = SchemaGenerator(patterns=router.urls).get_schema(public=True)
    assert "404" in document["paths"]["/runs/{runId}/"]["get"]["responses"]


def test_a_host_can_have_a_schema_class_of_its_own(monkeypatch):
    class HostSchema(AutoSchema):
        def get_tags(self) -> list[str]:
            return ["of the host"]

        def get_operation_id(self) -> str:
            return f"host_{super().get_operation_id()}"

    monkeypatch.setattr(api_settings, "DEFAULT_SCHEMA_CLASS", HostSchema)
    operation = generate(APP)["paths"]["/v2/actor-runs"]["get"]
    assert operation["operationId"] == "host_v2_actor_runs_list"
    assert operation["responses"]["200"]["headers"]


def test_drf_spectaculars_schema_class_can_be_on_the_hosts_views_alone(monkeypatch):
    monkeypatch.setattr(api_settings, "DEFAULT_SCHEMA_CLASS", RestFrameworkSchema)
    assert set(generate(APP)["components"]["schemas"]) == COMPONENTS


@pytest.fixture
def registered() -> Iterator[list[type]]:
    """Put away the extensions that a test has registered with drf-spectacular."""
    registry = OpenApiSerializerExtension._registry
    before = list(registry)
    yield registry
    registry[:] = before


def test_the_page_customizing_says_how_components_are_renamed(registered, tmp_path):
    page = (ROOT / "docs" / "how-to" / "customizing.md").read_text()
    blocks = re.findall(r"^```python\n# crawls/([^\n]+)\n(.*?)^```$", page, re.M | re.S)
    modules = {}
    for name, code in blocks:
        if name in ("schema.py", "serializers.py"):
            (tmp_path / name).write_text(code)
            modules[name] = runpy.run_path(str(tmp_path / name))

    class Crawls(RunViewSet):
        serializer_class = modules["serializers.py"]["CrawlSerializer"]

    router = SimpleRouter()
    router.register("crawls", Crawls)
    schemas = generate(APP)["components"]["schemas"]
    assert set(schemas) == {name.replace("ActorRun", "Crawl") for name in COMPONENTS}
    crawl = generate(router.urls)["components"]["schemas"]["Crawl"]
    assert crawl["properties"]["site"] == {"type": "string"}
    assert crawl["description"] == "A run, and the site that it read."


def test_a_hosts_own_extension_of_a_serializer_comes_first(registered):
    class OfTheHost(OpenApiSerializerExtension):
        target_class = RunSerializer

        def map_serializer(self, auto_schema: Any, direction: Any) -> Any:
            return {"type": "object", "properties": {"id": {"type": "string"}}}

    schemas = generate(APP)["components"]["schemas"]
    assert schemas["Run"] == {"type": "object", "properties": {"id": {"type": "string"}}}
    assert set(schemas) == COMPONENTS - {"ActorRun", "ActorRunGeneralAccess"} | {"Run"}


def test_decorators_of_a_subclass_are_honoured(document):
    component = document["components"]["schemas"]["TenantRunInList"]
    assert "buildNumberInt" not in component["properties"]
    assert component["properties"]["buildNumber"]["deprecated"] is True
    operation = document["paths"]["/of/{tenant}/closed-runs/{runId}/"]["get"]
    media = operation["responses"]["200"]["content"]["application/json"]
    assert media["examples"]["Mine"]["value"] == {"data": {"id": "mine"}}
