"""What a caller may do: "Only the person or organization that initiated the run can delete it"."""

from __future__ import annotations

from typing import Any

from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from actor_runs.models import Run


class RunPermission(BasePermission):
    """Owners delete; owners, and anyone where the run's general access says so, read.

    Being staff or superuser opens nothing.
    """

    def has_permission(self, request: Request, view: Any) -> bool:
        # A single run may be open to anyone: that is decided when it is known.
        return request.user.is_authenticated or (view.detail and request.method in SAFE_METHODS)

    def has_object_permission(self, request: Request, view: Any, obj: Run) -> bool:
        if request.method in SAFE_METHODS and obj.is_public:
            return True
        return obj.is_owned_by(request.user)
