"""Which operation of a test this thread carries out, so that its deletions can be told apart."""

from __future__ import annotations

from contextvars import ContextVar

HEADER = "X-Operation"

current_operation: ContextVar[str] = ContextVar("current_operation", default="-")
