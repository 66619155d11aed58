"""Which migration makes a model that a setting names."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from django.db.migrations import CreateModel, RenameModel, SeparateDatabaseAndState
from django.db.migrations.loader import MigrationLoader


def migration_of(label: str) -> tuple[str, str]:
    """Return the migration that makes the model ``label``, as a dependency of another migration.

    A ``swappable_dependency`` is on the first migration of the model's app, which need not be
    the one that makes the model.
    """
    app_label, name = label.split(".")
    found = "__first__"
    try:
        module, _is_explicit = MigrationLoader.migrations_module(app_label)
        package = import_module(module or "")
    except (ImportError, LookupError, ValueError):  # no migrations, or not installed: see checks
        return app_label, found
    for info in sorted(iter_modules(package.__path__), key=lambda info: info.name):
        migration = getattr(import_module(f"{module}.{info.name}"), "Migration", None)
        if migration and any(_makes(operation, name.lower()) for operation in migration.operations):
            found = info.name
    return app_label, found


def _makes(operation: Any, name: str) -> bool:
    """Return whether a migration's operation creates a model, or renames one, to ``name``."""
    if isinstance(operation, SeparateDatabaseAndState):
        return any(_makes(each, name) for each in operation.state_operations)
    if isinstance(operation, RenameModel):
        return operation.new_name_lower == name
    return isinstance(operation, CreateModel) and operation.name_lower == name
