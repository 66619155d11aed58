from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from actor_runs.models import Run


@admin.register(Run)
class RunAdmin(admin.ModelAdmin):
    """Runs, newest first. Unfinished runs cannot be deleted here either."""

    list_display = ["id", "status", "started_at", "finished_at"]
    list_filter = ["status"]
    ordering = ["-started_at", "-id"]
    raw_id_fields = ["user", "organization"]
    readonly_fields = ["id", "status", "started_at", "finished_at"]
    search_fields = ["id", "act_id"]

    def has_delete_permission(self, request: HttpRequest, obj: Run | None = None) -> bool:
        may = super().has_delete_permission(request, obj)
        return may and (obj is None or obj.is_finished)

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        queryset.delete_finished()
