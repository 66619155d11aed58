"""The project under WSGI; a request says in a header which operation of the test it is."""

from __future__ import annotations

from typing import Any

from project.wsgi import application as project
from tests.engines.operations import HEADER, current_operation

KEY = f"HTTP_{HEADER.upper().replace('-', '_')}"


def application(environ: dict[str, Any], start_response: Any) -> Any:
    current_operation.set(environ.get(KEY, "-"))
    return project(environ, start_response)
