"""The three operations on runs, as lists of policies and a few lines each."""

from __future__ import annotations

import re
import time
from typing import Any, NoReturn

from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import PermissionDenied
from django.db import IntegrityError, connections, router, transaction
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponseBase
from django.utils.decorators import classonlymethod
from django.utils.module_loading import import_string
from rest_framework import exceptions, status
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework.viewsets import GenericViewSet

from actor_runs.conf import conf
from actor_runs.exceptions import (
    InvalidInput,
    OperationNotAllowed,
    RunNotFinished,
    exception_handler,
    is_foreign_key_violation,
)
from actor_runs.filters import QueryParameters, RunFilter
from actor_runs.logs import log_deletion
from actor_runs.models import Run
from actor_runs.pagination import RunPagination
from actor_runs.parsers import check_body
from actor_runs.permissions import RunPermission
from actor_runs.querysets import RunQuerySet
from actor_runs.serializers import RunSerializer, RunShortSerializer
from actor_runs.throttling import RateLimitThrottle, announced_limit

POLL_SECONDS = 0.25  # how often waitForFinish looks

# What get(pk=...) sends. To have Django put it together anew for each request, column by column,
# is a tenth of what a request costs.
_TABLE = Run._meta.db_table
_COLUMNS = ", ".join(f"{_TABLE}.{field.column}" for field in Run._meta.concrete_fields)
RUN_BY_ID = f"SELECT {_COLUMNS} FROM {_TABLE} WHERE {_TABLE}.id = %s"  # noqa: S608

# Any other ID could have been sent by mistake; these cannot be IDs at all.
POSSIBLE_RUN_ID = re.compile(r"[!-~]{1,64}", re.ASCII)

# The ways in which authentication classes say no.
REFUSALS = (
    exceptions.AuthenticationFailed,
    exceptions.NotAuthenticated,
    exceptions.PermissionDenied,
    PermissionDenied,
)


class AlwaysJSON(BaseContentNegotiation):
    """JSON, whatever ``Accept`` says."""

    def select_renderer(self, request: Any, renderers: Any, format_suffix: Any = None) -> Any:
        return renderers[0], renderers[0].media_type


class ContractJSONRenderer(JSONRenderer):
    """REST framework's JSON as it is by default, whatever the host's settings made of it."""

    compact = True
    ensure_ascii = False
    strict = True


class EnvelopeView(APIView):
    """Answers in JSON only, and every error, wherever it comes from, in the envelope.

    Takes nothing from the host's ``REST_FRAMEWORK`` setting.
    """

    renderer_classes = [ContractJSONRenderer]
    parser_classes = []
    content_negotiation_class = AlwaysJSON
    versioning_class = None
    format_kwarg = None
    opts_out_of_atomic_requests = True

    @classonlymethod
    def as_view(cls, *args: Any, **initkwargs: Any) -> Any:
        """Opt out of ``ATOMIC_REQUESTS`` on every database.

        Its BEGIN and COMMIT are outside of the view, where their errors become HTML, and a
        transaction would be held, and see nothing new, while a request waits for a run.
        """
        view = super().as_view(*args, **initkwargs)
        for alias in connections:
            view = transaction.non_atomic_requests(using=alias)(view)
        return view

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Dispatch, and render: what fails there must be in the envelope too."""
        self.headers: dict[str, str] = {}
        try:
            response: Any = super().dispatch(request, *args, **kwargs)
            return response.render()
        except Exception as exc:
            response = self.handle_exception(exc)
            return self.finalize_response(self.request, response).render()

    def get_exception_handler(self) -> Any:
        return exception_handler

    @property
    def default_response_headers(self) -> dict[str, str]:
        return {}  # Allow belongs to OPTIONS and to 405


class UnknownPathView(EnvelopeView):
    """Any other path below ``actor-runs/``: the 404 of an unknown run, whatever the method."""

    authentication_classes = []

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        raise exceptions.NotFound


class RunViewSet(EnvelopeView, GenericViewSet):
    """Actor runs: list, get and delete."""

    queryset = Run.objects.all()
    throttle_classes = [RateLimitThrottle]
    permission_classes = [RunPermission]
    filter_backends = [RunFilter]
    pagination_class = RunPagination
    serializer_class = RunSerializer

    def list(self, request: Request) -> Response:
        runs = self.filter_queryset(self.get_queryset().owned_by(request.user))
        # Rows, not objects: a thousand objects cost more to build than to read and to write.
        rows = runs.values_list(*RunShortSerializer.fields_read, named=True)
        page: Any = self.paginate_queryset(rows)
        return self.get_paginated_response(RunShortSerializer(page, many=True).data)

    def retrieve(self, request: Request, **kwargs: str) -> Response:
        seconds = min(self.parameters.seconds("waitForFinish") or 0, conf.max_wait_for_finish)
        deadline = time.monotonic() + seconds
        run = self.get_object()
        while not run.is_finished and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, POLL_SECONDS))
            run = self.get_object()
        # Who may read a run that is not public is its owner: no need to ask again.
        is_owner = not run.is_public or run.is_owned_by(request.user)
        return Response({"data": RunSerializer(run, context={"is_owner": is_owner}).data})

    def destroy(self, request: Request, **kwargs: str) -> Response:
        """ "Delete the run. Only finished runs can be deleted." (API page)"""
        check_body(request._request)
        run = self.get_object()
        if not run.is_finished:
            raise RunNotFinished(run.pk, run.status)
        # The run as it was checked: its owner must not have changed either. By COALESCE, so that no
        # index serves: MariaDB would lock the owner's entry ahead of the run, where everybody
        # else locks the run first, and so meet them in a deadlock.
        owner = "organization" if run.user_id is None else "user"
        checked = (
            self.get_queryset()
            .alias(checked=Coalesce(owner, owner))
            .filter(pk=run.pk, checked=getattr(run, f"{owner}_id"))
        )
        try:
            deleted = checked.delete_finished()
            if not deleted:
                # Changed since it was read. Under a lock it is known how: unfinished raises.
                deleted, _ = checked.delete()
        except IntegrityError as exc:
            if is_foreign_key_violation(exc):
                raise OperationNotAllowed(run.pk) from exc
            raise
        if not deleted:
            # Gone, or another's by now: begun again, that is found out and said.
            return self.destroy(request, **kwargs)
        log_deletion(run, request.user)
        return Response(status=status.HTTP_204_NO_CONTENT)

    def options(self, request: Any, *args: Any, **kwargs: Any) -> Response:
        return Response({}, headers={"Allow": ", ".join(self.allowed_methods)})

    @property
    def allowed_methods(self) -> list[str]:  # type: ignore[valid-type]  # `list` is the action
        """As the API page lists them; HEAD goes without saying."""
        return ["OPTIONS", *(name.upper() for name in self.action_map if name != "head")]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Check method, rate limits, token and input, in the contract's order."""
        if self.action is None:
            raise exceptions.MethodNotAllowed(str(request.method))
        if self.action == "metadata":
            return
        refused = None
        try:
            self.perform_authentication(request)
        except exceptions.AuthenticationFailed as exc:
            refused = exc  # only once it is counted, against the address
        self.check_throttles(request)
        if (limit := announced_limit()) is not None:
            self.headers["X-RateLimit-Limit"] = limit
        if refused is not None:
            raise refused
        self.check_permissions(request)
        self.parameters = QueryParameters(request)
        if not POSSIBLE_RUN_ID.fullmatch(kwargs.get("runId", "-")):
            raise InvalidInput("runId must be 1 to 64 visible ASCII characters.")

    def get_authenticators(self) -> list[BaseAuthentication]:  # type: ignore[valid-type]
        return [import_string(path)() for path in conf.authentication_classes]

    def get_authenticate_header(self, request: Request) -> str:
        # Without a header REST framework would make a 403 of every 401.
        return super().get_authenticate_header(request) or "Bearer"

    def perform_authentication(self, request: Request) -> None:
        """Set ``request.user``: an active user, or an anonymous one where no token was sent.

        Raises AuthenticationFailed for a wrong token, in whatever way the host's
        authentication class says that it is wrong.
        """
        try:
            user = request.user
        except REFUSALS as exc:
            request.user = AnonymousUser()
            raise exceptions.AuthenticationFailed from exc
        if user is None or not user.is_authenticated:
            # A host's class may let a wrong token pass for none.
            scheme = get_authorization_header(request)[:7].strip().lower()
            refused = scheme == b"bearer"
        else:
            refused = not getattr(user, "is_active", True)
            if not refused:
                return
        request.user = AnonymousUser()
        if refused:
            raise exceptions.AuthenticationFailed

    def permission_denied(
        self, request: Request, message: str | None = None, code: str | None = None
    ) -> NoReturn:
        # A host's class may succeed with nobody: that is no token either.
        if not request.user.is_authenticated:
            raise exceptions.NotAuthenticated
        raise exceptions.PermissionDenied

    def get_queryset(self) -> RunQuerySet:
        runs = Run.objects.all()
        if self.action == "destroy":
            # What decides a deletion is not asked of a replica.
            runs = runs.using(router.db_for_write(Run))
        return runs

    def get_object(self) -> Run:
        """Return the run of the path. Raises NotFound, NotAuthenticated or PermissionDenied."""
        run = next(iter(self.get_queryset().raw(RUN_BY_ID, [self.kwargs["runId"]])), None)
        if run is None:
            if not self.request.user.is_authenticated:
                # Without a token, an unknown run must look like a closed one.
                raise exceptions.NotAuthenticated
            raise exceptions.NotFound
        self.check_object_permissions(self.request, run)
        return run
