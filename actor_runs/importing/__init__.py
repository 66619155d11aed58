"""Import runs as the API returns them."""

from actor_runs.importing.runs import ImportResult, import_runs

__all__ = ["ImportResult", "import_runs"]
