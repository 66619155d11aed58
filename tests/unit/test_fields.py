"""IDs and moments: what every database must keep in the same way."""

from __future__ import annotations

import datetime
import re
from typing import Any

import pytest
from django.conf import settings
from django.core.exceptions import ValidationError
from django.utils import timezone

from actor_runs.fields import generate_id
from actor_runs.models import Run, RunStatus

UTC = datetime.timezone.utc
PRAGUE_SUMMER = datetime.timezone(datetime.timedelta(hours=2))


def here(*parts: int) -> Any:
    """A moment of UTC as this configuration keeps it: aware, or naive in Django's time zone."""
    moment = datetime.datetime(*parts, tzinfo=UTC)
    return moment if settings.USE_TZ else timezone.make_naive(moment)


def stored(run: Run) -> Any:
    return Run.objects.values_list("started_at", flat=True).get(pk=run.pk)


def test_a_time_that_may_be_missing_may_be_missing():
    assert Run._meta.get_field("finished_at").clean(None, None) is None


def test_generated_ids_are_17_characters_that_are_not_mistaken_for_one_another():
    for _ in range(1000):
        assert re.fullmatch(r"[2-9A-HJ-NP-Za-km-z]{17}", generate_id())


def test_generated_ids_use_their_whole_alphabet():
    characters = set("".join(generate_id() for _ in range(1000)))
    assert len(characters) == 8 + 24 + 25  # digits, upper case, lower case


def test_generated_ids_differ():
    assert len({generate_id() for _ in range(10_000)}) == 10_000


def test_a_run_gets_an_id_of_its_own_and_others_for_what_belongs_to_it(alice):
    runs = [Run.objects.create(user=alice) for _ in range(3)]
    ids = [
        getattr(run, name)
        for run in runs
        for name in (
            "id",
            "act_id",
            "build_id",
            "default_key_value_store_id",
            "default_dataset_id",
            "default_request_queue_id",
        )
    ]
    assert len(set(ids)) == len(ids) == 18


@pytest.mark.parametrize("run_id", ["a", "-", "_", "0", "x" * 32, "3KH8gEpp4d8uQSe8T", "A-b_9"])
def test_a_run_can_bring_its_id(alice, run_id):
    assert Run.objects.create(id=run_id, user=alice).pk == run_id
    assert Run.objects.get(pk=run_id).pk == run_id


@pytest.mark.parametrize(
    "run_id",
    [
        "",
        "x" * 33,
        "a b",
        " a",
        "a ",
        "a\n",
        "\na",
        "a\x00",
        "a.b",
        "a/b",
        "é",
        "a\u0661",
        17,
        b"a",
    ],
)
def test_other_ids_are_refused(alice, run_id):
    with pytest.raises(ValidationError) as caught:
        Run.objects.create(id=run_id, user=alice)
    assert list(caught.value.message_dict) == ["id"]
    assert not Run.objects.exists()


def test_ids_differ_in_case(alice):
    for run_id in ("abc", "ABC", "Abc"):
        Run.objects.create(id=run_id, user=alice, status=RunStatus.SUCCEEDED)
    assert Run.objects.get(pk="ABC").pk == "ABC"
    assert not Run.objects.filter(pk="aBC").exists()
    Run.objects.filter(pk="ABC").delete()
    assert set(Run.objects.values_list("pk", flat=True)) == {"abc", "Abc"}


@pytest.mark.host
def test_what_refers_to_a_run_tells_upper_from_lower_case(alice):
    from tests.host.models import Note

    lower, upper = (Run.objects.create(id=run_id, user=alice) for run_id in ("abc", "ABC"))
    Note.objects.create(run=upper)
    assert (lower.notes.count(), upper.notes.count()) == (0, 1)


def test_a_moment_is_cut_to_the_millisecond_in_the_object_and_in_the_row(alice):
    run = Run.objects.create(user=alice, started_at=here(2019, 11, 30, 7, 34, 24, 202_999))
    assert run.started_at == here(2019, 11, 30, 7, 34, 24, 202_000) == stored(run)


def test_a_time_is_cut_to_the_millisecond_without_validation(alice):
    moment = here(2019, 11, 30, 7, 34, 24, 202_999)
    cut = here(2019, 11, 30, 7, 34, 24, 202_000)
    run = Run(user=alice, started_at=moment)
    Run.objects.bulk_create([run])
    assert stored(run) == cut
    Run.objects.update(started_at=here(2020, 1, 1, 0, 0, 0, 999))
    assert stored(run) == here(2020, 1, 1)
    run.started_at = moment
    Run.objects.bulk_update([run], ["started_at"])
    assert stored(run) == cut


def test_a_time_is_cut_to_the_millisecond_in_lookups(alice):
    run = Run.objects.create(user=alice, started_at=here(2019, 11, 30, 7, 34, 24, 202_000))
    found = Run.objects.filter
    later_in_that_millisecond = here(2019, 11, 30, 7, 34, 24, 202_999)
    assert found(started_at=later_in_that_millisecond).get() == run
    assert found(started_at__gte=later_in_that_millisecond).get() == run
    assert found(started_at__in=[later_in_that_millisecond]).get() == run
    assert found(started_at__range=(later_in_that_millisecond,) * 2).get() == run
    assert not found(started_at__gt=here(2019, 11, 30, 7, 34, 24, 202_000)).exists()
    assert not found(started_at__lt=later_in_that_millisecond).exists()
    assert not found(started_at__gte=here(2019, 11, 30, 7, 34, 24, 203_000)).exists()


@pytest.mark.parametrize(
    "value",
    [
        datetime.datetime(2019, 11, 30, 9, 34, 24, 202_000, tzinfo=PRAGUE_SUMMER),
        "2019-11-30T07:34:24.202Z",
        "2019-11-30T07:34:24.202999Z",
        "2019-11-30 09:34:24.202+02:00",
    ],
)
def test_a_moment_with_an_offset_is_that_moment_in_rows_and_lookups(alice, value):
    run = Run.objects.create(user=alice, started_at=value)
    moment = here(2019, 11, 30, 7, 34, 24, 202_000)
    assert (run.started_at, stored(run)) == (moment, moment)
    assert Run.objects.filter(started_at=value).get() == run


@pytest.mark.parametrize(
    "moment", [here(1, 1, 2), here(9999, 12, 31, 23, 59, 59, 999_000)], ids=["first", "last"]
)
def test_the_first_and_the_last_days_of_the_calendar_are_kept(alice, api, moment):
    run = Run.objects.create(user=alice, started_at=moment)
    assert stored(run) == moment
    assert api.get(f"/{run.pk}", user=alice).status_code == 200


BEYOND = [
    datetime.datetime(1, 1, 1, tzinfo=PRAGUE_SUMMER),
    datetime.datetime(9999, 12, 31, 23, tzinfo=datetime.timezone(datetime.timedelta(hours=-2))),
]


@pytest.mark.parametrize("moment", BEYOND)
def test_moments_beyond_the_calendar_are_refused(alice, moment):
    with pytest.raises(ValidationError) as caught:
        Run.objects.create(user=alice, started_at=moment)
    assert list(caught.value.message_dict) == ["started_at"]
    with pytest.raises(ValidationError):
        Run.objects.filter(started_at__gte=moment).exists()


@pytest.mark.host
@pytest.mark.parametrize(
    "moment", [datetime.datetime(9999, 12, 31, 23, 59), datetime.datetime(9999, 12, 31, 19)]
)
def test_a_moment_without_an_offset_that_is_beyond_the_calendar_in_utc_is_refused(alice, moment):
    with pytest.raises(ValidationError) as caught:
        Run.objects.create(user=alice, started_at=moment)
    assert list(caught.value.message_dict) == ["started_at"]


@pytest.mark.host
def test_a_moment_without_an_offset_is_kept_where_time_zones_are_off(alice):
    moment = datetime.datetime(2019, 11, 30, 7, 34, 24, 202_999)
    run = Run.objects.create(user=alice, started_at=moment)
    assert stored(run) == moment.replace(microsecond=202_000)


def test_a_blank_at_the_end_makes_another_id(run):
    assert not Run.objects.filter(pk=f"{run.pk} ").exists()
