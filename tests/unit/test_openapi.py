"""The OpenAPI document: complete, not stale, and true of what the app takes and answers."""

from __future__ import annotations

import datetime
import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.contrib.staticfiles import finders
from django.db import OperationalError
from django.test import Client
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rest_framework.authentication import BaseAuthentication
from rest_framework.schemas.openapi import AutoSchema

from actor_runs.models import Run, RunStatus
from actor_runs.views import RunViewSet
from tests.support.api import API
from tests.support.openapi import assert_documented, generate, generate_text, validator
from tests.support.runs import make_full_run

ROOT = Path(__file__).resolve().parent.parent.parent
COMMITTED = ROOT / "docs" / "openapi.yaml"

LIST = ("/v2/actor-runs", "get")
GET = ("/v2/actor-runs/{runId}", "get")
DELETE = ("/v2/actor-runs/{runId}", "delete")


@pytest.fixture(scope="module")
def document() -> Any:
    return generate()


class Broken(BaseAuthentication):
    """A host's authentication with a bug."""

    def authenticate(self, request: Any) -> None:
        raise RuntimeError("a bug of the host")


class DatabaseGone(BaseAuthentication):
    """A host's authentication whose database is away."""

    def authenticate(self, request: Any) -> None:
        raise OperationalError("connection refused")


# The document itself


def test_the_committed_document_is_what_the_code_says():
    assert COMMITTED.read_text() == generate_text(validate=True, lang="en"), "Run: make schema"


def test_the_document_has_three_operations(document):
    operations = {
        (path, method): operation["operationId"]
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    assert operations == {
        LIST: "v2_actor_runs_list",
        GET: "v2_actor_runs_retrieve",
        DELETE: "v2_actor_runs_destroy",
    }
    assert document["openapi"] == "3.1.0"


def test_every_example_fits_its_schema(document):
    examples = 0
    for methods in document["paths"].values():
        for operation in methods.values():
            for answer in operation["responses"].values():
                for media in answer.get("content", {}).values():
                    for example in media["examples"].values():
                        validator(document, media["schema"]).validate(example["value"])
                        examples += 1
    assert examples == 26


def test_a_token_is_optional_for_one_run_alone(document):
    scheme = document["components"]["securitySchemes"]["actorRunsBearerToken"]
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    token = {"actorRunsBearerToken": []}
    for (path, method), security in {
        LIST: [token],
        GET: [token, {}],
        DELETE: [token],
    }.items():
        assert document["paths"][path][method]["security"] == security


def test_parameters_and_their_bounds(document):
    found = {
        name: {
            parameter["name"]: parameter["schema"]
            for parameter in document["paths"][path][method]["parameters"]
        }
        for name, (path, method) in {"list": LIST, "get": GET, "delete": DELETE}.items()
    }
    assert set(found["list"]) == {
        *("limit", "offset", "desc", "status", "startedAfter", "startedBefore"),
    }
    assert found["list"]["limit"] == {"type": "integer", "minimum": 0, "default": 1000}
    assert found["list"]["offset"] == {"type": "integer", "minimum": 0, "default": 0}
    assert found["list"]["status"]["items"]["enum"] == RunStatus.values
    assert set(found["get"]) == {"runId", "waitForFinish"}
    assert found["get"]["waitForFinish"] == {"type": "number", "minimum": 0}
    assert set(found["delete"]) == {"runId"}
    for parameters in found.values():  # drf-yasg fails without a type, in the whole document
        assert all("type" in schema for schema in parameters.values())


def test_the_document_follows_the_hosts_settings(configure):
    configure(
        RUN_RATE_LIMIT=None,
        MAX_WAIT_FOR_FINISH=12.5,
        MAX_WAITING=7,
        AUTHENTICATION_CLASSES=[
            "actor_runs.authentication.BearerTokenAuthentication",
            "actor_runs.authentication.QueryTokenAuthentication",
        ],
    )
    document = generate()
    text = json.dumps(document)
    assert "X-RateLimit-Limit" not in text
    assert "More than 12.5 means 12.5." in text
    assert "at most 7 at a time" in text
    assert document["components"]["securitySchemes"]["actorRunsQueryToken"]["in"] == "query"
    assert {"actorRunsQueryToken": []} in document["paths"][DELETE[0]]["delete"]["security"]


@pytest.mark.parametrize(
    ("action", "names"),
    [("list", ["status", "startedAfter", "startedBefore"]), ("retrieve", []), ("destroy", [])],
)
def test_rest_frameworks_own_schema_has_the_filters_of_the_list_alone(action, names):
    schema = AutoSchema()
    schema.view = RunViewSet(action=action, detail=action != "list")
    assert [each["name"] for each in schema.get_filter_parameters("", "GET")] == names


def test_the_document_is_valid_in_openapi_3_0():
    document = generate(validate=True, OAS_VERSION="3.0.3")
    assert document["openapi"] == "3.0.3"
    run = document["components"]["schemas"]["ActorRun"]
    assert run["properties"]["finishedAt"]["nullable"] is True


# The pages of the demo project


@pytest.mark.django_db
def test_the_document_is_served_to_anyone():
    response = Client().get("/schema/?lang=en")
    assert response.status_code == 200
    served, committed = (yaml.safe_load(text) for text in (response.content, COMMITTED.read_text()))
    for part in ("paths", "components"):
        assert served[part] == committed[part]


@pytest.mark.django_db
def test_the_page_takes_every_file_from_its_own_site():
    page = Client().get("/schema/ui/").content.decode()
    files = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(files) >= 4
    for file in files:
        assert file.startswith("/static/"), file
        assert finders.find(file.removeprefix("/static/")), file


WITHOUT_SPECTACULAR = """
import sys
sys.modules["drf_spectacular"] = None  # importing it fails from here on
import django
from django.conf import settings
settings.configure(
    INSTALLED_APPS=[
        "django.contrib.auth", "django.contrib.contenttypes", "rest_framework",
        "rest_framework.authtoken", "actor_runs",
    ],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    ROOT_URLCONF="actor_runs.urls",
    SECRET_KEY="x",
    ALLOWED_HOSTS=["*"],
)
django.setup()
from django.core.management import call_command
from django.test import Client
from django.utils import timezone
call_command("check", fail_level="WARNING")
call_command("migrate", verbosity=0)
print(Client().get("/actor-runs").status_code)
print(Client().post("/actor-runs/x").status_code)
"""


def test_without_drf_spectacular_the_app_works_the_same():
    child = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(WITHOUT_SPECTACULAR)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.stderr == ""
    assert child.stdout.split()[-2:] == ["401", "405"]


# The document and the app agree


def keys_of(document: Any, component: str) -> set[str]:
    return set(document["components"]["schemas"][component]["properties"])


def test_a_full_run_has_exactly_the_documented_keys(document, api, alice, bob):
    full_run = make_full_run(alice)
    mine = api.get(f"/{full_run.pk}", user=alice)
    assert set(mine.json()["data"]) == keys_of(document, "ActorRun")
    assert_documented(document, GET, mine)
    theirs = api.get(f"/{full_run.pk}", user=bob)
    assert set(theirs.json()["data"]) == keys_of(document, "ActorRun") - {
        "usageUsd",
        "usageTotalUsd",
    }
    assert_documented(document, GET, theirs)
    listed = api.get(user=alice)
    page = document["components"]["schemas"]["ActorRunShortPage"]["properties"]["data"]
    assert set(listed.json()["data"]) == set(page["properties"])
    assert set(listed.json()["data"]["items"][0]) == keys_of(document, "ActorRunShort")
    assert_documented(document, LIST, listed)


@pytest.mark.parametrize("status", RunStatus.values)
def test_a_bare_run_of_any_status_is_as_documented(document, api, alice, status):
    run = Run.objects.create(user=alice, status=status)
    assert_documented(document, GET, api.get(f"/{run.pk}", user=alice))
    assert_documented(document, LIST, api.get(user=alice, query=f"status={status}"))


def message_of(error: Any) -> str:
    """Return the message of an error, without the ID of a run."""
    return re.sub("run ID: [A-Za-z0-9]+", "run ID: ...", error["error"]["message"])


def examples_of_errors(document: Any) -> list[Any]:
    return [
        example["value"]
        for methods in document["paths"].values()
        for operation in methods.values()
        for status, answer in operation["responses"].items()
        if int(status) >= 400
        for example in answer["content"]["application/json"]["examples"].values()
    ]


def test_every_documented_status_is_answered_as_documented(
    document, configure, api, alice, bob, run
):
    """Each status of each operation, once: none is promised that cannot come."""
    running = Run.objects.create(user=alice, status=RunStatus.RUNNING)
    closed = Run.objects.create(user=bob, status=RunStatus.SUCCEEDED)
    doomed = Run.objects.create(user=alice, status=RunStatus.FAILED)
    answered = set()
    messages = set()

    def check(operation: tuple[str, str], response: Any) -> None:
        assert_documented(document, operation, response)
        answered.add((operation, str(response.status_code)))
        if response.status_code >= 400:
            messages.add(message_of(response.json()))

    check(LIST, api.get(user=alice))
    check(LIST, api.get(user=alice, query="limit=-1"))
    check(LIST, api.get())
    check(LIST, api("POST", user=alice))
    check(GET, api.get(f"/{run.pk}", user=alice, query="waitForFinish=-1"))
    for path in (GET, DELETE):
        method = path[1].upper()
        check(path, api(method, f"/{doomed.pk}", user=alice))
        check(path, api(method, "/a%20b", user=alice))
        check(path, api(method, f"/{run.pk}", token="wrong"))
        check(path, api(method, f"/{closed.pk}", user=alice))
        check(path, api(method, "/unknown", user=alice))
        check(path, api("PATCH", f"/{run.pk}", user=alice))
    check(DELETE, api.delete(f"/{running.pk}", user=alice))
    check(DELETE, api.delete(f"/{run.pk}", user=alice, body="[]"))
    for name in ("Broken", "DatabaseGone"):
        configure(AUTHENTICATION_CLASSES=[f"tests.unit.test_openapi.{name}"])
        check(LIST, api.get())
        check(GET, api.get(f"/{run.pk}"))
        check(DELETE, api.delete(f"/{run.pk}"))
    configure(
        AUTHENTICATION_CLASSES=["actor_runs.authentication.BearerTokenAuthentication"],
        RATE_LIMIT="0/d",
    )
    check(LIST, api.get(user=alice))
    check(GET, api.get(f"/{run.pk}", user=alice))
    check(DELETE, api.delete(f"/{run.pk}", user=alice))
    # Whether a run is protected depends on the host's models.
    assert set(map(message_of, examples_of_errors(document))) - messages == {
        "Other records depend on this run (run ID: ...)."
    }
    assert answered == {
        ((path, method), status)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        for status in operation["responses"]
    }
    assert set(Run.objects.values_list("pk", flat=True)) == {run.pk, running.pk, closed.pk}


TIMES = st.datetimes(datetime.datetime(1, 1, 2), datetime.datetime(9999, 12, 30)).map(
    lambda moment: moment.isoformat(timespec="milliseconds") + "Z"
)
URLS = st.sampled_from(["https://example.com", "http://[::1]:8080/a?b#c", "https://a.example/x"])
# JSON Schema has no word for what databases cannot keep: NUL, halves of surrogate pairs.
WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=9)
COMPONENTS = yaml.safe_load(COMMITTED.read_text())["components"]["schemas"]


def values_of(schema: Any) -> st.SearchStrategy[Any]:
    """What a schema of the document allows, as far as the document uses JSON Schema."""
    if "$ref" in schema:
        return values_of(COMPONENTS[schema["$ref"].rpartition("/")[2]])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "oneOf" in schema:
        return st.one_of([values_of(choice) for choice in schema["oneOf"]])
    kind = schema["type"]
    if kind == "object":
        return objects_of(schema)
    if isinstance(kind, list):
        return st.one_of(st.none(), values_of({**schema, "type": kind[0]}))
    bounds = {"min_value": schema.get("minimum"), "max_value": schema.get("maximum")}
    return {
        "array": lambda: st.lists(values_of(schema["items"]), max_size=3),
        "boolean": st.booleans,
        "integer": lambda: st.integers(**bounds),
        "number": lambda: st.floats(**bounds, allow_nan=False, allow_infinity=False),
        "string": lambda: texts_of(schema),
    }[kind]()


def texts_of(schema: Any) -> st.SearchStrategy[str]:
    if "format" in schema:
        return {"date-time": TIMES, "uri": URLS}[schema["format"]]
    if "pattern" in schema:
        return st.from_regex(
            schema["pattern"].replace("$", r"\Z"), alphabet=st.characters(codec="ascii")
        )
    return WORDS if not schema.get("minLength") else WORDS.filter(bool)


def objects_of(schema: Any) -> st.SearchStrategy[dict[str, Any]]:
    if "additionalProperties" in schema:
        return st.dictionaries(WORDS, values_of(schema["additionalProperties"]), max_size=3)
    required = set(schema.get("required", ()))
    properties = {name: values_of(of) for name, of in schema["properties"].items()}
    return st.fixed_dictionaries(
        {name: of for name, of in properties.items() if name in required},
        optional={name: of for name, of in properties.items() if name not in required},
    )


@pytest.mark.django_db
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(shape=values_of(COMPONENTS["ActorRun"]))
def test_every_run_of_the_schema_can_be_recorded_and_reads_the_same(alice, shape):
    shape["userId"] = str(alice.pk)
    finished = shape["status"] in Run.FINISHED
    if finished is (shape["finishedAt"] is None):
        shape["finishedAt"] = shape["startedAt"] if finished else None
    fields = {
        re.sub("[A-Z]", lambda letter: "_" + letter[0].lower(), key): value
        for key, value in shape.items()
        if key not in ("id", "userId")
    }
    Run.objects.filter(pk=shape["id"]).update(status="FAILED", finished_at=timezone.now())
    Run.objects.filter(pk=shape["id"]).delete_finished()
    Run.objects.create(id=shape["id"], user=alice, **{"build_number": "", **fields})
    answer = API().get(f"/{shape['id']}", user=alice).content
    # PostgreSQL writes 1e300 as an integer, which only as a float is the same number.
    expected = json.dumps({"data": shape})
    assert json.loads(answer, parse_int=float) == json.loads(expected, parse_int=float)
