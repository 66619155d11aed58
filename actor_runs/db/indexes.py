"""Indexes that not every database has."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import Q


class IndexOfValues(models.Index):
    """An index of the rows whose first column has a value, or of all rows on MariaDB and MySQL.

    An ``Index`` with that condition would be the same, but Django warns of it on each command
    there, since the condition is ignored.
    """

    def create_sql(self, model: Any, schema_editor: Any, *args: Any, **kwargs: Any) -> Any:
        condition = Q(**{f"{self.fields[0]}__isnull": False})
        partial = models.Index(fields=self.fields, name=self.name, condition=condition)
        return partial.create_sql(model, schema_editor, *args, **kwargs)
