"""Who calls: REST framework's own tokens, as the platform's clients send them."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

from django.db import router
from django.utils.crypto import constant_time_compare
from rest_framework.authentication import TokenAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request


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

        Raises AuthenticationFailed. Asks the primary database: a token that was revoked there
        must not live on in a replica.
        """
        model: Any = self.get_model()
        if "\x00" in key:
            raise AuthenticationFailed  # PostgreSQL would refuse the query
        tokens = model.objects.using(router.db_for_write(model)).select_related("user")
        for token in tokens.filter(key=key):
            # MariaDB finds a key in other letters' case.
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
