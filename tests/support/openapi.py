"""The OpenAPI document that drf-spectacular makes, and answers that are held to it."""

from __future__ import annotations

import io
import json
from types import SimpleNamespace
from typing import Any

from django.core.management import call_command
from drf_spectacular.plumbing import _load_enum_name_overrides
from drf_spectacular.settings import patched_settings
from jsonschema import Draft202012Validator

# The headers that only some answers have.
HEADERS = {"X-RateLimit-Limit", "Retry-After", "Allow", "WWW-Authenticate"}


def generate_text(urlpatterns: list[Any] | None = None, **options: Any) -> str:
    """Return what ``spectacular --fail-on-warn`` prints for these URLs, or for the project's."""
    out = io.StringIO()
    urlconf = None if urlpatterns is None else SimpleNamespace(urlpatterns=urlpatterns)
    call_command("spectacular", "--fail-on-warn", urlconf=urlconf, stdout=out, **options)
    return out.getvalue()


def generate(
    urlpatterns: list[Any] | None = None, *, validate: bool = False, **settings: Any
) -> Any:
    """Return the document of these URLs under these settings of drf-spectacular.

    ``validate`` takes seconds for a long document.
    """
    _load_enum_name_overrides.cache_clear()
    try:
        with patched_settings(settings):
            text = generate_text(urlpatterns, validate=validate, format="openapi-json")
            return json.loads(text)
    finally:
        _load_enum_name_overrides.cache_clear()


def validator(document: Any, schema: Any) -> Draft202012Validator:
    return Draft202012Validator(
        {**schema, "components": document["components"]},
        format_checker=Draft202012Validator.FORMAT_CHECKER,
    )


def assert_documented(document: Any, operation: tuple[str, str], response: Any) -> None:
    """Status, media type, body and headers are as the document says, and nothing is missing."""
    path, method = operation
    answer = document["paths"][path][method]["responses"][str(response.status_code)]
    content = answer.get("content")
    if content is None:
        assert response.content == b""
    else:
        assert list(content) == [response["Content-Type"]]
        media = content["application/json"]
        body = json.loads(response.content)
        validator(document, media["schema"]).validate(body)
        if response.status_code >= 400:
            types = {example["value"]["error"]["type"] for example in media["examples"].values()}
            assert body["error"]["type"] in types
    headers = answer["headers"]
    assert not [name for name in HEADERS - set(headers) if name in response]
    for name, header in headers.items():
        if name in response:
            is_integer = header["schema"]["type"] == "integer"
            value = int(response[name]) if is_integer else response[name]
            validator(document, header["schema"]).validate(value)
        else:
            assert not header["required"], name
