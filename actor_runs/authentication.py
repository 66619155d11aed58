"""Who calls: REST framework's own tokens, as the platform's clients send them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl

from django.apps import apps
from django.core.exceptions import (
    BadRequest,
    ObjectDoesNotExist,
    PermissionDenied,
    SuspiciousOperation,
    ValidationError,
)
from django.db import router
from django.http import Http404
from django.utils.crypto import constant_time_compare
from django.utils.module_loading import import_string
from rest_framework.authentication import TokenAuthentication, get_authorization_header
from rest_framework.exceptions import APIException, AuthenticationFailed
from rest_framework.request import Request

from actor_runs.db.orm import is_plain
from actor_runs.db.statements import Parameter, PreparedQuery, prepared

__all__ = ["BearerTokenAuthentication", "QueryTokenAuthentication"]

REFUSALS = (
    *(BadRequest, Http404, ObjectDoesNotExist, PermissionDenied),
    *(SuspiciousOperation, ValidationError),
)


def authenticated_user(request: Request) -> Any:
    """Return the active user of the request's token, or an anonymous one if it has none.

    Raises AuthenticationFailed for a wrong token, whichever of Django's or REST framework's
    exceptions for a 4xx status but 429 the host's authentication class raises for it, and for a
    ``DoesNotExist``.
    """
    try:
        user = request.user
    except APIException as exc:
        # 429 and 5xx do not say that the token is wrong.
        if exc.status_code == 429 or exc.status_code >= 500:
            raise
        raise AuthenticationFailed from exc
    except REFUSALS as exc:
        raise AuthenticationFailed from exc
    if getattr(user, "is_authenticated", False):
        if not getattr(user, "is_active", True):
            raise AuthenticationFailed
        return user
    # A host's class may ignore a wrong token.
    if get_authorization_header(request)[:7].strip().lower() == b"bearer":
        raise AuthenticationFailed
    return anonymous_user()


def anonymous_user() -> Any:
    """Return Django's anonymous user, or its like in a host without ``django.contrib.auth``."""
    if apps.is_installed("django.contrib.auth"):
        return import_string("django.contrib.auth.models.AnonymousUser")()
    return SimpleNamespace(pk=None, is_authenticated=False, is_staff=False, is_superuser=False)


class BearerTokenAuthentication(TokenAuthentication):
    """``Authorization: Bearer <token>``, the token one of ``rest_framework.authtoken``."""

    keyword = "Bearer"

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        try:
            return super().authenticate(request)
        except UnicodeError:
            raise AuthenticationFailed from None

    def authenticate_credentials(self, key: str) -> tuple[Any, Any]:
        """Return the active user of the token ``key``, and the token itself.

        Raises AuthenticationFailed. Reads the primary database: a replica may still have a token
        that was revoked.
        """
        model: Any = self.get_model()
        if "\x00" in key:
            raise AuthenticationFailed  # PostgreSQL would refuse the query
        tokens = model.objects.using(router.db_for_write(model))

        def with_key(key: Any) -> Any:
            return tokens.select_related("user").filter(key=key)

        if is_plain(tokens):
            field = model._meta.get_field("key")
            by_key = prepared(
                ("token", model), tokens.db, lambda: PreparedQuery(with_key(Parameter(field)))
            )
            found = by_key.objects(key)
        else:
            found = with_key(key)
        for token in found:
            # MariaDB ignores the case of a key.
            if constant_time_compare(token.key, key) and token.user.is_active:
                return token.user, token
        raise AuthenticationFailed


class QueryTokenAuthentication(BearerTokenAuthentication):
    """``?token=<token>``, for a host that adds it after ``BearerTokenAuthentication``.

    Convenient in a browser, and then in every access log on the way: prefer the header.
    """

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        # Not query_params, which are decoded by the charset of a Content-Type.
        query = request.META.get("QUERY_STRING", "")
        token = dict(parse_qsl(query, keep_blank_values=True)).get("token")
        return self.authenticate_credentials(token) if token else None
