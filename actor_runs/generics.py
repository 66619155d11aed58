"""The view that answers in JSON only, and every error in the envelope."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponseBase
from django.utils.cache import patch_vary_headers
from django.utils.decorators import classonlymethod
from rest_framework.metadata import BaseMetadata
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import JSONRenderer
from rest_framework.views import APIView

from actor_runs.db.transactions import outside_atomic_requests
from actor_runs.exceptions import exception_handler

__all__ = ["EnvelopeView"]

CACHE_CONTROL = "private, no-store"


class AlwaysJSON(DefaultContentNegotiation):
    """The view's first renderer, which is JSON by default, whatever ``Accept`` says."""

    def select_renderer(self, request: Any, renderers: Any, format_suffix: Any = None) -> Any:
        return renderers[0], renderers[0].media_type


class ContractJSONRenderer(JSONRenderer):
    """REST framework's JSON with its defaults, whatever the host's settings say."""

    compact = True
    ensure_ascii = False
    strict = True


class NoMetadata(BaseMetadata):
    """OPTIONS says nothing but which methods there are."""

    def determine_metadata(self, request: Any, view: Any) -> dict[str, Any]:
        return {}


class EnvelopeView(APIView):
    """A view that answers in JSON only, and every error, wherever it is raised, in the envelope.

    Reads nothing of the host's ``REST_FRAMEWORK`` setting for that.
    """

    renderer_classes = [ContractJSONRenderer]
    parser_classes = []
    content_negotiation_class = AlwaysJSON
    metadata_class = NoMetadata
    versioning_class = None
    format_kwarg: str | None = None
    opts_out_of_atomic_requests = True

    @classonlymethod
    def as_view(cls, *args: Any, **initkwargs: Any) -> Any:
        """Return the view, outside of ``ATOMIC_REQUESTS``.

        An error at COMMIT would not be in the envelope. And a request that waits for a run would
        hold a transaction open in which it does not see the run's end.
        """
        return outside_atomic_requests(super().as_view(*args, **initkwargs))

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Dispatch and render, so that an error of the rendering is in the envelope too."""
        self.headers: dict[str, str] = {}
        try:
            response: Any = super().dispatch(request, *args, **kwargs)
            return response.render() if hasattr(response, "render") else response
        except Exception as exc:
            response = self.handle_exception(exc)
            return self.finalize_response(self.request, response).render()

    def finalize_response(self, request: Any, response: Any, *args: Any, **kwargs: Any) -> Any:
        """Keep the answer out of caches, and keep LocaleMiddleware from redirecting a 404."""
        response = super().finalize_response(request, response, *args, **kwargs)
        response["Cache-Control"] = CACHE_CONTROL
        patch_vary_headers(response, ["Authorization"])
        if response.status_code == 404:
            # LocaleMiddleware redirects a 404 to a translated page, if the URLconf has any.
            getattr(request, "_request", request).urlconf = "actor_runs.urls"
        return response

    def get_exception_handler(self) -> Any:
        return exception_handler

    @property
    def default_response_headers(self) -> dict[str, str]:
        return {}  # Allow is for OPTIONS and 405 only
