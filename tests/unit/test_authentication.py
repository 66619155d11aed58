"""Who calls: tokens in the header, in the URL where a host wants it, and a host's own ways."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import PermissionDenied, SuspiciousOperation, ValidationError
from django.db.models import Manager
from django.http import Http404
from django.test import Client, RequestFactory
from django.test.utils import isolate_apps
from django.utils.module_loading import import_string
from rest_framework import exceptions
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.authtoken.models import Token
from rest_framework.request import Request

from actor_runs.authentication import BearerTokenAuthentication
from actor_runs.models import GeneralAccess, Run, RunStatus
from tests.support.api import LIMITED, NO_TOKEN, SERVER_ERROR, assert_error
from tests.support.people import token_of

NOBODY = "0123456789abcdef0123456789abcdef01234567"
BEARER = "actor_runs.authentication.BearerTokenAuthentication"
QUERY = "actor_runs.authentication.QueryTokenAuthentication"
BASIC = "rest_framework.authentication.BasicAuthentication"
SESSION = "rest_framework.authentication.SessionAuthentication"
REMOTE = "rest_framework.authentication.RemoteUserAuthentication"
DRF_TOKEN = "rest_framework.authentication.TokenAuthentication"
HERE = f"{__name__}."


@pytest.fixture
def public(alice: Any) -> Run:
    """A run that needs no token to be read."""
    return Run.objects.create(
        user=alice,
        status=RunStatus.SUCCEEDED,
        general_access=GeneralAccess.ANYONE_WITH_ID_CAN_READ,
    )


def assert_401(response: Any, authenticate: str = "Bearer") -> None:
    assert_error(response, *NO_TOKEN)
    assert response["WWW-Authenticate"] == authenticate


# Bearer tokens


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEARER"])
def test_the_scheme_is_case_insensitive(api, alice, run, scheme):
    authorization = f"{scheme} {token_of(alice)}"
    response = api.get(f"/{run.pk}", HTTP_AUTHORIZATION=authorization)
    assert response.status_code == 200


WRONG = [
    "Bearer",
    "Bearer ",
    "bearer",
    "BEARER\t",
    f"Bearer {NOBODY}",
    f"bearer {NOBODY}",
    "Bearer token",
    "Bearer x y",
    "Bearer  x  y  z",
    "Bearer null",
    "Bearer undefined",
    "Bearer *",
    "Bearer %",
    "Bearer '",
    "Bearer \x00",
    f"Bearer {NOBODY}\x00",
    "Bearer \xff",
    "Bearer \xc3\x28",
    "Bearer \xc4\x8d",
    "Bearer \xed\xa0\x80",
    "Bearer \u010d",  # no server's, but a middleware may have put it there
    "Bearer " + "x" * 100_000,
    f"Bearer {NOBODY},Bearer {NOBODY}",
]


def test_a_wrong_token_is_401(api, public, subtests):
    for authorization in WRONG:
        with subtests.test(authorization[:30]):
            assert_401(api.get(f"/{public.pk}", HTTP_AUTHORIZATION=authorization))
            assert_401(api.delete(f"/{public.pk}", HTTP_AUTHORIZATION=authorization))
    assert Run.objects.filter(pk=public.pk).exists()


@pytest.mark.parametrize("path", ["", "/{id}", "/unknown", "/no%20id"])
def test_a_wrong_token_is_401_on_every_path(api, public, path):
    response = api.get(path.format(id=public.pk), token=NOBODY)
    assert_401(response)
    head = api("HEAD", path.format(id=public.pk), token=NOBODY)
    assert (head.status_code, head["WWW-Authenticate"]) == (401, "Bearer")


def test_a_token_is_compared_exactly(api, alice, public, subtests):
    token = Token.objects.create(user=alice, key="a1b2c3d4e5" * 4).key
    assert api.get(f"/{public.pk}", token=token).status_code == 200
    wrong = [
        *(token.upper(), token[:-1], token[1:], token * 2, token[:20] + " " + token[20:]),
        *("\x00" + token, f'"{token}"', token[:-1] + "_", token[:-1] + "%"),
        *(token + end for end in ("0", "\x00", ",", "%20", "\xa0")),
    ]
    for changed in wrong:
        with subtests.test(changed):
            assert_401(api.get(f"/{public.pk}", token=changed))


@pytest.mark.parametrize("authorization", ["Bearer   {}", "Bearer\t{}", " Bearer {} "])
def test_blanks_around_a_token_are_ignored(api, alice, run, authorization):
    authorization = authorization.format(token_of(alice))
    assert api.get(f"/{run.pk}", HTTP_AUTHORIZATION=authorization).status_code == 200


def test_another_scheme_counts_as_no_token(api, alice, public, run, subtests):
    schemes = [
        *("", " ", "Token {}", "Basic {}", "Bearer{}", "Bearer:{}", "Bearer={}", "Bearers {}"),
        *("XBearer {}", "{}", "{} Bearer", "Negotiate x", "\xff", "\x00", "\xef\xbc\xa2earer {}"),
    ]
    for scheme in schemes:
        with subtests.test(scheme):
            header = {"HTTP_AUTHORIZATION": scheme.format(token_of(alice))}
            assert api.get(f"/{public.pk}", **header).status_code == 200
            assert_401(api.get(f"/{run.pk}", **header))
            assert_401(api.delete(f"/{run.pk}", **header))


def test_the_token_of_an_inactive_user_is_wrong(api, alice, public):
    token = token_of(alice)
    alice.is_active = False
    alice.save()
    assert_401(api.get(f"/{public.pk}", token=token))
    assert_401(api.delete(f"/{public.pk}", token=token))


def test_a_revoked_token_is_wrong_at_once(api, alice, public):
    token = token_of(alice)
    assert api.get(f"/{public.pk}", token=token).status_code == 200
    Token.objects.all().delete()
    assert_401(api.get(f"/{public.pk}", token=token))
    assert token_of(alice) != token
    assert api.get(f"/{public.pk}", user=alice).status_code == 200


@pytest.mark.parametrize(
    ("query", "meta"),
    [
        ("token={}", {}),
        ("access_token={}", {}),
        ("", {"HTTP_COOKIE": "token={}"}),
        ("", {"HTTP_X_API_TOKEN": "{}"}),
        ("", {"HTTP_PROXY_AUTHORIZATION": "Bearer {}"}),
    ],
)
def test_a_token_outside_of_the_header_counts_as_no_token(api, alice, run, query, meta):
    token = token_of(alice)
    meta = {name: value.format(token) for name, value in meta.items()}
    assert_401(api.get(f"/{run.pk}", query=query.format(token), **meta))
    assert_401(api.delete(f"/{run.pk}", query=query.format(token), **meta))
    assert Run.objects.filter(pk=run.pk).exists()


def test_a_session_of_the_admin_is_not_a_token(api, alice, run):
    api.client.force_login(alice)
    assert_401(api.get(f"/{run.pk}"))
    assert_401(api.delete(f"/{run.pk}"))


@pytest.mark.parametrize("name", [BEARER, QUERY])
def test_the_class_serves_a_hosts_own_views_as_well(alice, name):
    authentication = import_string(name)()

    def authenticate(token):
        meta = {"HTTP_AUTHORIZATION": f"Bearer {token}", "QUERY_STRING": f"token={token}"}
        return authentication.authenticate(Request(RequestFactory().get("/", **meta)))

    token = Token.objects.create(user=alice)
    assert authenticate(token.key) == (alice, token)
    for wrong in (token.key.upper() + "X", NOBODY, token.key + "\x00"):
        with pytest.raises(exceptions.AuthenticationFailed):
            authenticate(wrong)
    alice.is_active = False
    alice.save()
    with pytest.raises(exceptions.AuthenticationFailed):
        authenticate(token.key)


# Tokens in the URL


@pytest.fixture
def query_tokens(configure: Any) -> None:
    configure(AUTHENTICATION_CLASSES=[BEARER, QUERY])


@pytest.mark.usefixtures("query_tokens")
def test_a_token_in_the_url_works_where_the_host_adds_its_class(api, alice, run):
    query = f"token={token_of(alice)}"
    assert api.get(query=query).json()["data"]["total"] == 1
    assert api.get(f"/{run.pk}", query=query).status_code == 200
    assert api.get(f"/{run.pk}", user=alice).status_code == 200
    assert api.delete(f"/{run.pk}", query=query).status_code == 204


@pytest.mark.usefixtures("query_tokens")
def test_a_wrong_token_in_the_url_is_401(api, public, subtests):
    wrong = [
        *(NOBODY, "x", "%00", f"{NOBODY}%00", "%FF", "%ED%A0%80", "%20", "Bearer%20x", "%C4%8D"),
        *("x&token=y", "x" * 10_000),
    ]
    for token in wrong:
        with subtests.test(token[:30]):
            assert_401(api.get(f"/{public.pk}", query=f"token={token}"))
            assert_401(api.delete(f"/{public.pk}", query=f"token={token}"))
    assert Run.objects.filter(pk=public.pk).exists()


@pytest.mark.usefixtures("query_tokens")
def test_an_empty_token_in_the_url_counts_as_no_token(api, public):
    for query in ("", "token=", "token", "Token=x", "tokens=x", "token=x&token="):
        assert api.get(f"/{public.pk}", query=query).status_code == 200
        assert_401(api.delete(f"/{public.pk}", query=query))


@pytest.mark.usefixtures("query_tokens")
def test_of_repeated_tokens_in_the_url_the_last_counts(api, alice, run):
    token = token_of(alice)
    assert api.get(f"/{run.pk}", query=f"token=x&token={token}").status_code == 200
    assert_401(api.get(f"/{run.pk}", query=f"token={token}&token=x"))


@pytest.mark.usefixtures("query_tokens")
def test_a_token_in_the_header_goes_before_one_in_the_url(api, alice, bob, run):
    query = f"token={token_of(alice)}"
    assert api.get(f"/{run.pk}", user=bob, query=query).status_code == 403
    assert_401(api.get(f"/{run.pk}", token="wrong", query=query))


@pytest.mark.usefixtures("query_tokens")
def test_the_token_of_an_inactive_user_is_wrong_in_the_url_too(api, alice, public):
    query = f"token={token_of(alice)}"
    alice.is_active = False
    alice.save()
    assert_401(api.get(f"/{public.pk}", query=query))


@pytest.mark.usefixtures("query_tokens")
def test_a_content_type_changes_nothing_about_a_token_in_the_url(api, alice, run):
    response = api.get(
        f"/{run.pk}", query=f"token={token_of(alice)}", CONTENT_TYPE="text/x; charset=utf-16"
    )
    assert response.status_code == 200


@pytest.mark.usefixtures("query_tokens")
def test_too_many_parameters_are_counted_and_refused_where_one_of_them_is_a_token(
    api, alice, configure, public
):
    query = "a=1&" * 1000 + f"token={token_of(alice)}"
    message = "Invalid input: more than 1000 parameters."
    for method in ("GET", "DELETE"):
        response = api(method, f"/{public.pk}", query=query)
        assert_error(response, 400, "invalid-input", message)
        assert response["X-RateLimit-Limit"] == "60"
    assert_401(api.get(f"/{public.pk}", query="a=1&" * 1000 + "token=x"))
    configure(RATE_LIMIT="0/d")
    assert api.get(f"/{public.pk}", query=query).status_code == 429
    assert Run.objects.filter(pk=public.pk).exists()


# A host's own ways


def basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def test_basic_authentication(api, alice, run, public, configure):
    configure(AUTHENTICATION_CLASSES=[BASIC])
    right, wrong = basic("alice", "secret"), basic("alice", "wrong")
    assert api.get(f"/{run.pk}", HTTP_AUTHORIZATION=right).status_code == 200
    assert_401(api.get(f"/{run.pk}"), 'Basic realm="api"')
    for authorization in (wrong, "Basic", "Basic \xff", "Basic x y", basic("nobody", "x")):
        for method in ("GET", "DELETE"):
            response = api(method, f"/{public.pk}", HTTP_AUTHORIZATION=authorization)
            assert_401(response, 'Basic realm="api"')
    assert api.delete(f"/{run.pk}", HTTP_AUTHORIZATION=right).status_code == 204


def test_session_authentication_with_its_check_of_forged_requests(
    api, alice, run, public, configure
):
    configure(AUTHENTICATION_CLASSES=[SESSION])
    assert_401(api.get(f"/{run.pk}"))
    assert api.get(f"/{public.pk}").status_code == 200
    api.client = Client(enforce_csrf_checks=True, raise_request_exception=False)
    api.client.force_login(alice)
    assert api.get(f"/{run.pk}").status_code == 200
    assert_401(api.delete(f"/{run.pk}"))
    assert Run.objects.filter(pk=run.pk).exists()
    secret = "x" * 32
    api.client.cookies["csrftoken"] = secret
    assert api.delete(f"/{run.pk}", HTTP_X_CSRFTOKEN=secret).status_code == 204


def test_a_session_beside_tokens(api, alice, bob, run, configure):
    configure(AUTHENTICATION_CLASSES=[BEARER, SESSION])
    api.client.force_login(alice)
    assert api.get(f"/{run.pk}").status_code == 200
    assert_401(api.get(f"/{run.pk}", token="wrong"))
    assert api.get(f"/{run.pk}", user=bob).status_code == 403


@pytest.mark.wsgi
def test_remote_user_authentication(api, alice, run, configure, settings):
    settings.AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.RemoteUserBackend"]
    configure(AUTHENTICATION_CLASSES=[REMOTE])
    assert api.get(f"/{run.pk}", REMOTE_USER="alice").status_code == 200
    assert_401(api.get(f"/{run.pk}"))


def test_rest_frameworks_own_tokens(api, alice, run, public, configure):
    configure(AUTHENTICATION_CLASSES=[DRF_TOKEN])
    right = f"Token {token_of(alice)}"
    assert api.get(f"/{run.pk}", HTTP_AUTHORIZATION=right).status_code == 200
    assert_401(api.get(f"/{public.pk}", HTTP_AUTHORIZATION="Token x"), "Token")
    # Nobody asked what is behind this scheme: a token that nobody knows is wrong.
    assert_401(api.get(f"/{public.pk}", user=alice), "Token")


class WithoutHeader(BaseAuthentication):
    """Has no ``authenticate_header``, for which REST framework would answer 403."""

    def authenticate(self, request):
        if get_authorization_header(request):
            raise exceptions.AuthenticationFailed("a host's own words")


class NotAuthenticated(BaseAuthentication):
    def authenticate(self, request):
        raise exceptions.NotAuthenticated("a host's own words")


class Denied(BaseAuthentication):
    def authenticate(self, request):
        raise exceptions.PermissionDenied("a host's own words")


class DjangoDenied(BaseAuthentication):
    def authenticate(self, request):
        raise PermissionDenied("a host's own words")


class NotParsed(BaseAuthentication):
    def authenticate(self, request):
        raise exceptions.ParseError("a host's own words")


class NotValid(BaseAuthentication):
    def authenticate(self, request):
        raise exceptions.ValidationError({"token": ["a host's own words"]})


class NotValidForDjango(BaseAuthentication):
    def authenticate(self, request):
        raise ValidationError("a host's own words")


class NotFound(BaseAuthentication):
    def authenticate(self, request):
        raise Http404("a host's own words")


class Suspicious(BaseAuthentication):
    def authenticate(self, request):
        raise SuspiciousOperation("a host's own words")


class NotThere(BaseAuthentication):
    def authenticate(self, request):
        if get_authorization_header(request):
            Token.objects.get(key="no such key")


REFUSING = (
    *("WithoutHeader", "NotAuthenticated", "Denied", "DjangoDenied", "NotParsed", "NotValid"),
    *("NotValidForDjango", "NotFound", "Suspicious", "NotThere"),
)


class LetsPass(BaseAuthentication):
    """Lets a wrong token pass for none."""

    def authenticate(self, request):
        return None


class UserOfNone(BaseAuthentication):
    def authenticate(self, request):
        return None, "a token"


class Anonymous(BaseAuthentication):
    def authenticate(self, request):
        return AnonymousUser(), None


class Inactive(BaseAuthentication):
    """Does not look whether the user is still active."""

    def authenticate(self, request):
        return Token.objects.get().user, None


@pytest.mark.parametrize("name", REFUSING)
def test_whatever_way_a_hosts_class_refuses_the_answer_is_401(api, public, configure, name):
    configure(AUTHENTICATION_CLASSES=[HERE + name])
    assert_401(api.get(f"/{public.pk}", token="wrong"))
    assert_401(api.delete(f"/{public.pk}", token="wrong"))
    assert Run.objects.filter(pk=public.pk).exists()


class Throttles(BaseAuthentication):
    def authenticate(self, request):
        raise exceptions.Throttled(7)


class OutOfOrder(BaseAuthentication):
    def authenticate(self, request):
        raise exceptions.APIException


@pytest.mark.parametrize(("name", "error"), [("Throttles", LIMITED), ("OutOfOrder", SERVER_ERROR)])
def test_what_says_nothing_of_the_token_is_not_401(api, public, configure, name, error):
    configure(AUTHENTICATION_CLASSES=[HERE + name])
    assert_error(api.get(f"/{public.pk}"), *error)


@pytest.mark.parametrize("name", ["LetsPass", "UserOfNone", "Anonymous"])
def test_a_wrong_token_does_not_count_as_no_token(api, public, configure, name):
    configure(AUTHENTICATION_CLASSES=[HERE + name])
    for authorization in (f"Bearer {NOBODY}", "Bearer", "BEARER x y", "Bearer\tx", " Bearer x"):
        assert_401(api.get(f"/{public.pk}", HTTP_AUTHORIZATION=authorization))


@pytest.mark.parametrize("name", ["WithoutHeader", "LetsPass", "UserOfNone", "Anonymous"])
def test_a_hosts_anonymous_caller_reads_public_runs_alone(api, run, public, configure, name):
    configure(AUTHENTICATION_CLASSES=[HERE + name])
    others = [] if name == "WithoutHeader" else ["Basic x", "Bearers x"]
    for meta in [{}, *({"HTTP_AUTHORIZATION": other} for other in others)]:
        assert api.get(f"/{public.pk}", **meta).status_code == 200
        assert_401(api.get(f"/{run.pk}", **meta))
        assert_401(api.get("/unknown", **meta))
        assert_401(api.get(**meta))
        assert_401(api.delete(f"/{public.pk}", **meta))


@pytest.mark.parametrize("user", [None, AnonymousUser])
def test_unauthenticated_user_of_rest_framework_makes_no_difference(
    api, settings, run, public, user
):
    settings.REST_FRAMEWORK = {"UNAUTHENTICATED_USER": user}
    assert api.get(f"/{public.pk}").status_code == 200
    assert_401(api.get(f"/{run.pk}"))
    assert_401(api.get(f"/{public.pk}", token="wrong"))


def test_an_inactive_user_of_a_careless_class_is_refused(api, alice, public, configure):
    configure(AUTHENTICATION_CLASSES=[HERE + "Inactive"])
    token_of(alice)
    assert api.get(f"/{public.pk}").status_code == 200
    alice.is_active = False
    alice.save()
    assert_401(api.get(f"/{public.pk}"))
    assert_401(api.delete(f"/{public.pk}"))


class NoModel:
    """A user as some packages make them from a signed token, without a row."""

    pk = id = 12345
    is_authenticated = True
    is_active = True


class WithoutRow(BaseAuthentication):
    def authenticate(self, request):
        return NoModel(), None


def test_a_user_without_a_row_owns_nothing(api, run, public, configure):
    configure(AUTHENTICATION_CLASSES=[HERE + "WithoutRow"])
    assert api.get().json()["data"]["total"] == 0
    assert "usageTotalUsd" not in api.get(f"/{public.pk}").json()["data"]
    for method in ("GET", "DELETE"):
        assert api(method, f"/{run.pk}").status_code == 403


class Bare:
    """A user with no more than REST framework asks for."""

    pk = 12345
    is_authenticated = True


class WithBareUser(BaseAuthentication):
    def authenticate(self, request):
        return Bare(), None


def test_a_user_without_is_active_is_active(api, run, public, configure):
    configure(AUTHENTICATION_CLASSES=[HERE + "WithBareUser"])
    assert api.get(f"/{public.pk}").status_code == 200
    assert api.delete(f"/{run.pk}").status_code == 403


class OfCurrentTokens(BearerTokenAuthentication):
    """Of a host's model, which the test sets."""


@isolate_apps("rest_framework.authtoken")
def test_a_token_that_the_manager_of_its_model_leaves_out_is_wrong(
    api, alice, bob, public, configure, monkeypatch
):
    class CurrentManager(Manager):
        def get_queryset(self) -> Any:
            return super().get_queryset().exclude(user__username="bob")

    class Current(Token):
        objects = CurrentManager()

        class Meta:
            app_label = "authtoken"
            proxy = True

    monkeypatch.setattr(OfCurrentTokens, "model", Current)
    configure(AUTHENTICATION_CLASSES=[HERE + "OfCurrentTokens"])
    assert api.get(f"/{public.pk}", user=alice).status_code == 200
    assert_401(api.get(f"/{public.pk}", user=bob))


def test_the_classes_are_tried_in_their_order(api, alice, run, configure):
    configure(AUTHENTICATION_CLASSES=[BASIC, BEARER])
    assert api.get(f"/{run.pk}", user=alice).status_code == 200
    right = basic("alice", "secret")
    assert api.get(f"/{run.pk}", HTTP_AUTHORIZATION=right).status_code == 200
    assert_401(api.get(f"/{run.pk}"), 'Basic realm="api"')
    configure(AUTHENTICATION_CLASSES=(BEARER, BASIC))
    assert_401(api.get(f"/{run.pk}"))
