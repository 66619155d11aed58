"""What a caller may do: "Only the person or organization that initiated the run can delete it"."""

from __future__ import annotations

from typing import Any

from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from actor_runs.models import Run
from actor_runs.parameters import lookup_value

__all__ = ["RunPermission"]


class RunPermission(BasePermission):
    """The owner can delete and read a run; anyone can read it if its general access says so.

    Staff and superusers can do no more than others. If this is a view's only permission,
    ``RunViewSet`` treats a caller who passes it as the owner, unless the run is open to anyone:
    see its ``_is_owner``.
    """

    def has_permission(self, request: Request, view: Any) -> bool:
        # A single run may be open to anyone, which depends on the run.
        is_of_one_run = lookup_value(view) is not None
        return bool(request.user and request.user.is_authenticated) or (
            is_of_one_run and request.method in SAFE_METHODS
        )

    def has_object_permission(self, request: Request, view: Any, obj: Run) -> bool:
        if request.method in SAFE_METHODS and obj.is_public:
            return True
        return obj.is_owned_by(request.user)
