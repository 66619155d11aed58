"""What schemathesis cannot know from the document: which runs there are, and how HTTP spells."""

from __future__ import annotations

import os
import re
from typing import Any

import schemathesis
from hypothesis import strategies as st

RUN_IDS = os.environ["FUZZ_RUN_IDS"].split(",")
POSSIBLE_ID = re.compile("[A-Za-z0-9_-]{1,32}")

KNOWN = set("limit offset desc status startedAfter startedBefore waitForFinish".split())
# Of the caller who sends it as ?token=.
TOKEN = os.environ.get("FUZZ_QUERY_TOKEN")


@schemathesis.hook
def flatmap_path_parameters(context: Any, path_parameters: Any) -> Any:
    """Ask for runs that exist, as well as for any ID. One that is wrong on purpose stays."""
    run_id = (path_parameters or {}).get("runId")
    if not isinstance(run_id, str) or not POSSIBLE_ID.fullmatch(run_id):
        return st.just(path_parameters)
    known = st.sampled_from(RUN_IDS).map(lambda run_id: {**path_parameters, "runId": run_id})
    return st.one_of(st.just(path_parameters), known)


@schemathesis.hook
def filter_path_parameters(context: Any, path_parameters: Any) -> bool:
    """A slash in an ID makes another path of it, and nothing the list's own."""
    run_id = (path_parameters or {}).get("runId")
    return not isinstance(run_id, str) or (run_id != "" and "/" not in run_id)


def is_empty(value: Any) -> bool:
    """Whether a value leaves nothing behind the ``=``."""
    if isinstance(value, (list, tuple, dict)):
        return not value or is_empty(list(value)[-1])  # of a repeated one the last counts
    return value in ("", None)


@schemathesis.hook
def filter_case(context: Any, case: Any) -> bool:
    """Unknown parameters are ignored, empty ones count as absent: OpenAPI has no word for it."""
    query = case.query or {}
    return all(
        value == TOKEN if name == "token" else name in KNOWN and not is_empty(value)
        for name, value in query.items()
    )


@schemathesis.hook
def map_query(context: Any, query: Any) -> Any:
    """Exponents are JSON's way to write a number, not the API's."""
    return query and {
        name: format(value, "f") if isinstance(value, float) else value
        for name, value in query.items()
    }


if TOKEN is not None:

    @schemathesis.auth()
    class QueryToken:
        """A caller whose token is not in a header."""

        def get(self, case: Any, context: Any) -> str:
            return str(TOKEN)

        def set(self, case: Any, data: str, context: Any) -> None:
            case.query = {**(case.query or {}), "token": data}
