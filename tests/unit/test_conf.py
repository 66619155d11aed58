"""The ``ACTOR_RUNS`` setting: its defaults, and what the host chose."""

from __future__ import annotations

from typing import Any

import pytest

from actor_runs.conf import DEFAULTS, conf

DOCUMENTED: dict[str, Any] = {
    "AUTHENTICATION_CLASSES": ["actor_runs.authentication.BearerTokenAuthentication"],
    "ORGANIZATION_MODEL": "auth.Group",
    "ORGANIZATION_MEMBERS": "user",
    "ON_OWNER_DELETE": "DELETE_FINISHED",
    "RATE_LIMIT": "250000/m",
    "RUN_RATE_LIMIT": "60/s",
    "GENERAL_ACCESS": "RESTRICTED",
    "MAX_WAITING": 4,
    "MAX_WAIT_FOR_FINISH": 5,
}
OTHERS: dict[str, Any] = {
    "AUTHENTICATION_CLASSES": ["rest_framework.authentication.BasicAuthentication"],
    "ORGANIZATION_MODEL": "host.Company",
    "ORGANIZATION_MEMBERS": "staff__person",
    "ON_OWNER_DELETE": "PROTECT",
    "RATE_LIMIT": None,
    "RUN_RATE_LIMIT": None,
    "GENERAL_ACCESS": "ANYONE_WITH_ID_CAN_READ",
    "MAX_WAITING": 0,
    "MAX_WAIT_FOR_FINISH": 0,
}


def as_property(key: str, value: Any) -> Any:
    return [value] if key == "ORGANIZATION_MEMBERS" else value


def test_the_defaults_are_the_documented_ones():
    assert DEFAULTS == DOCUMENTED


@pytest.mark.parametrize("chosen", ["nothing", {}, None, [], "RATE_LIMIT", 5])
def test_keys_that_were_not_chosen_have_their_defaults(settings, chosen):
    settings.ACTOR_RUNS = chosen
    if chosen == "nothing":
        del settings.ACTOR_RUNS
    for key, default in DOCUMENTED.items():
        assert getattr(conf, key.lower()) == as_property(key, default)


@pytest.mark.parametrize("key", OTHERS)
def test_a_key_that_was_chosen_counts_and_the_others_keep_their_defaults(settings, key):
    settings.ACTOR_RUNS = {key: OTHERS[key]}
    for each in DOCUMENTED:
        expected = OTHERS[each] if each == key else DOCUMENTED[each]
        assert getattr(conf, each.lower()) == as_property(each, expected)


def test_settings_are_read_anew_each_time(settings):
    for rate in ("1/s", "2/s", None):
        settings.ACTOR_RUNS = {"RATE_LIMIT": rate}
        assert conf.rate_limit == rate


def test_an_invalid_name_of_a_model_is_the_default_until_a_check_reports_it(settings):
    for model in (None, 5, "", "Group", "a.b.c", ["auth.Group"], ("auth", "Group")):
        settings.ACTOR_RUNS = {"ORGANIZATION_MODEL": model}
        assert conf.organization_model == "auth.Group"
