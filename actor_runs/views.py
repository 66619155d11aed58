"""The API's views: list, get and delete runs, and the 404 of other paths."""

from __future__ import annotations

import math
import time
from functools import partial
from typing import Any, NoReturn

from django.db import IntegrityError
from django.db.models import Manager
from django.http import Http404
from django.utils.functional import cached_property
from django.utils.module_loading import import_string
from rest_framework import exceptions, status
from rest_framework.authentication import BaseAuthentication
from rest_framework.generics import get_object_or_404
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from actor_runs.authentication import anonymous_user, authenticated_user
from actor_runs.conf import conf
from actor_runs.db.errors import is_foreign_key_violation
from actor_runs.db.orm import narrowable
from actor_runs.db.transactions import lock_only_in_transaction, on_commit, release_connections
from actor_runs.exceptions import OperationNotAllowed
from actor_runs.filters import RunFilter
from actor_runs.generics import EnvelopeView
from actor_runs.logs import log_deletion
from actor_runs.models import Run
from actor_runs.overrides import is_inherited
from actor_runs.pagination import RunPagination
from actor_runs.parameters import QueryParameters, check_run_id, lookup_value
from actor_runs.permissions import RunPermission
from actor_runs.request_body import check_body
from actor_runs.serializers import RunSerializer, RunShortSerializer
from actor_runs.throttling import RateLimitThrottle, place_to_wait

__all__ = ["RunViewSet", "UnknownPathView"]

POLL_SECONDS = 0.25  # how often waitForFinish reads the run
# An override of one of these may let others than the owner pass, or read more fields of the run.
RUN_METHODS = (
    *("check_object_permissions", "permission_denied", "get_object"),
    *("destroy", "perform_destroy"),
)


class UnknownPathView(EnvelopeView):
    """Any other path below ``actor-runs/``: the 404 of an unknown run, whatever the method."""

    authentication_classes = []

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        raise exceptions.NotFound


class RunViewSet(EnvelopeView, GenericViewSet):
    """Actor runs: list, get and delete."""

    queryset = Run.objects.all()
    lookup_url_kwarg = "runId"  # the API page's name, which schemas show
    lookup_value_regex = "[^/]+"
    lookup_value_converter = "str"  # for a router with use_regex_path=False
    # None: those of ACTOR_RUNS["AUTHENTICATION_CLASSES"].
    authentication_classes = None  # type: ignore[assignment]
    throttle_classes = [RateLimitThrottle]
    permission_classes = [RunPermission]
    filter_backends = [RunFilter]
    pagination_class = RunPagination
    serializer_class = RunSerializer
    _shows_private = False  # whether serializers show what only the owner may see

    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Return a page of the caller's runs: own, and of own organizations."""
        runs = self._runs().owned_by(request.user)
        paginator: Any = self.paginator
        if self._reads_columns:
            paginator.columns = RunShortSerializer.columns
        # RunPagination sorts by itself, and pages what owned_by() has returned by faster means.
        if not isinstance(paginator, RunPagination) and not runs.ordered:
            runs = runs.order_by("started_at", "id")
        page = self.paginate_queryset(runs)
        serializer = self._serializer(runs if page is None else page, is_owner=True, many=True)
        if page is None:
            return Response({"data": serializer.data})
        return self.get_paginated_response(serializer.data)

    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Return the run. If its owner asks for that, wait first until it is finished.

        Anyone who has the ID can read a run whose general access is ``ANYONE_WITH_ID_CAN_READ``:
        without a token, and without ``usageUsd``, ``usageTotalUsd``, and ``clientIp`` and
        ``userAgent`` of ``meta``. Without a token, an unknown run is 401 like a closed one.
        """
        seconds = QueryParameters(request).seconds("waitForFinish") or 0
        run = self.get_object()
        if seconds and not run.is_finished and self._is_owner(run):
            run = self.wait_for_finish(run, min(seconds, conf.max_wait_for_finish))
        return Response({"data": self._serializer(run, is_owner=self._is_owner(run)).data})

    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Delete the run. Only finished runs can be deleted.

        Only the person or organization that initiated the run can delete it. The request takes no
        body; a JSON object is ignored. Of concurrent requests for one run, one is answered with
        204 and the others with 404. After a 503, a 404 means that the run is deleted.
        """
        check_body(request._request)
        run = self.get_object()
        try:
            self.perform_destroy(run)
        except IntegrityError as exc:
            if is_foreign_key_violation(exc):
                raise OperationNotAllowed(run.pk) from exc
            raise
        return Response(status=status.HTTP_204_NO_CONTENT)

    def perform_destroy(self, instance: Run) -> None:
        """Delete the run that ``get_object`` returned, if that is still allowed."""
        runs = self._runs()
        check = partial(self.check_object_permissions, self.request)
        owner = self.request.user if self._only_owner_counts else None
        try:
            deleted = runs.delete_checked(instance, check, owner)
        except Run.DoesNotExist:
            raise exceptions.NotFound from None
        # A host may have begun a transaction, which can still fail.
        on_commit(partial(log_deletion, deleted, self.request.user), runs.on_primary().db)

    def options(self, request: Any, *args: Any, **kwargs: Any) -> Response:
        response = super().options(request, *args, **kwargs)
        response["Allow"] = ", ".join(self.allowed_methods)
        return response

    @property
    def allowed_methods(self) -> list[str]:  # type: ignore[valid-type]  # `list` is the action
        """The methods of this path, as the API page lists them: HEAD is not named."""
        names = ("options", *(name for name in self.action_map if name != "head"))
        return [name.upper() for name in names if name in self.http_method_names]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Check method, rate limits, token and input, in the contract's order."""
        method = str(request.method).lower()
        if self.action is None or method not in self.http_method_names:
            self.http_method_not_allowed(request)
        # What REST framework's own method sets first.
        self.format_kwarg = self.get_format_suffix(**kwargs)
        request.accepted_renderer, request.accepted_media_type = self.perform_content_negotiation(
            request
        )
        request.version, request.versioning_scheme = self.determine_version(
            request, *args, **kwargs
        )
        if self.action == "metadata":
            return
        wrong_token = None
        try:
            self.perform_authentication(request)
        except exceptions.AuthenticationFailed as exc:
            request.user, request.auth = anonymous_user(), None
            wrong_token = exc  # raised after it is counted against the address
        self.check_throttles(request)
        if wrong_token is not None:
            raise wrong_token
        self.check_permissions(request)
        QueryParameters(request)
        if self._is_looked_up_by_id and (run_id := lookup_value(self)) is not None:
            check_run_id(run_id)

    def perform_authentication(self, request: Request) -> None:
        """Set the request's user. Raises AuthenticationFailed for a wrong token."""
        request.user = authenticated_user(request)

    def throttled(self, request: Request, wait: float | None) -> NoReturn:
        # A host's throttle may return infinity, which Retry-After cannot carry.
        raise exceptions.Throttled(wait if wait is None or math.isfinite(wait) else None)

    def get_authenticators(self) -> list[BaseAuthentication]:  # type: ignore[valid-type]
        if self.authentication_classes is not None:
            return super().get_authenticators()
        return [import_string(path)() for path in conf.authentication_classes]

    def get_authenticate_header(self, request: Request) -> str:
        # Without a header REST framework makes a 403 of every 401.
        return super().get_authenticate_header(request) or "Bearer"

    def permission_denied(
        self, request: Request, message: str | None = None, code: str | None = None
    ) -> NoReturn:
        if not request.user.is_authenticated:
            raise exceptions.NotAuthenticated
        raise exceptions.PermissionDenied(message, code)

    def get_serializer_class(self) -> Any:
        """Return ``RunShortSerializer`` for the list, unless a subclass has a serializer."""
        if self.action == "list" and self.serializer_class is RunSerializer:
            return RunShortSerializer
        return super().get_serializer_class()

    def _runs(self) -> Any:
        """Return the runs of this view, as ``get_queryset`` and the filters say."""
        runs: Any = self.get_queryset()
        if isinstance(runs, Manager):  # such as user.actor_runs
            runs = runs.all()
        return lock_only_in_transaction(narrowable(self.filter_queryset(narrowable(runs))))

    @property
    def _is_looked_up_by_id(self) -> bool:
        """Whether the path has the run's ID, and not a field that a subclass chose."""
        return self.lookup_field in ("pk", "id")

    @cached_property
    def _only_owner_counts(self) -> bool:
        """Whether the app's own permission is the only one, and nobody else looks at the run."""
        return is_inherited(type(self), RunViewSet, *RUN_METHODS) and (
            [type(each) for each in self.get_permissions()] == [RunPermission]
        )

    @property
    def _reads_columns(self) -> bool:
        """Whether nobody but the app's serializer sees the runs of a list."""
        return (
            self.get_serializer_class() is RunShortSerializer
            and self.pagination_class is RunPagination
            and is_inherited(type(self), RunViewSet, "get_serializer", "paginate_queryset")
        )

    def _is_owner(self, run: Run) -> bool:
        """Return whether the caller, who may read ``run``, owns it."""
        # RunPermission has just asked for the membership, and lets nobody else read a closed run.
        return (self._only_owner_counts and not run.is_public) or run.is_owned_by(self.request.user)

    def get_serializer_context(self) -> dict[str, Any]:
        return {**super().get_serializer_context(), "is_owner": self._shows_private}

    def _serializer(self, instance: Any, is_owner: bool, **options: Any) -> Any:
        self._shows_private = is_owner
        # A host may override get_serializer() with a context of its own, or the context.
        context = {**self.get_serializer_context(), "is_owner": is_owner}
        return self.get_serializer(instance, context=context, **options)

    def get_object(self) -> Run:
        """Return the run of the path. Raises NotFound, NotAuthenticated or PermissionDenied."""
        runs = self._runs()
        if self.request.method not in SAFE_METHODS:
            # A replica may be behind, and what is deferred would be read there.
            runs = runs.on_primary().defer(None)
        # What a deletion decides on, unless a host's permission may want to see more.
        needs_owner = self.action == "destroy" and self._only_owner_counts
        fields = ("user", "organization", "status") if needs_owner else ()
        value: Any = lookup_value(self)
        try:
            if self._is_looked_up_by_id:
                run = runs.get_run(value, *fields)
            else:
                run = get_object_or_404(runs, **{self.lookup_field: value})
        except (Run.DoesNotExist, Http404):
            if not self.request.user.is_authenticated:
                # Without a token, an unknown run must look like a closed one.
                raise exceptions.NotAuthenticated from None
            raise exceptions.NotFound from None
        self.check_object_permissions(self.request, run)
        return run

    def wait_for_finish(self, run: Run, seconds: float) -> Run:
        """Return the run once it is finished, or after so many seconds as it is then.

        If too many requests of this process wait already, it is read again once.
        """
        with place_to_wait() as has_place:
            deadline = time.monotonic() + (seconds if has_place else min(seconds, POLL_SECONDS))
            while not run.is_finished and (left := deadline - time.monotonic()) > 0:
                release_connections()  # others may need them meanwhile
                time.sleep(min(left, POLL_SECONDS))
                run = self.get_object()
        return run
