from __future__ import annotations

import datetime
import re
from typing import Any

from django.core.management.base import CommandParser

from actor_runs.management.base import RunsCommand, whole_number
from actor_runs.models import Run
from actor_runs.pruning import (
    BATCH_SIZE,
    BATCH_SIZE_WHERE_READ,
    MOST_IN_BATCH,
    PruneResult,
    count_due,
)
from actor_runs.validators import format_time

MOST_KEPT = 1_000_000
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def age(value: str) -> datetime.timedelta:
    """The age that an option says: 12h, 30d or 8w."""
    # No minutes: 6m would be months to one, and minutes to the other.
    if not re.fullmatch(r"0*[1-9][0-9]{0,4}[hdw]", value, re.ASCII):
        raise ValueError(
            "must be a number of hours, days or weeks above zero, like 12h, 30d or 8w."
        )
    return datetime.timedelta(**{UNITS[value[-1]]: int(value[:-1])})


def runtime(value: str) -> datetime.timedelta:
    """The time that an option says: 90, 90s, 10m or 2h."""
    if not re.fullmatch(r"0*[1-9][0-9]{0,4}[smh]?", value, re.ASCII):
        raise ValueError("must be a time above zero, like 90s, 10m or 2h.")
    return datetime.timedelta(**{UNITS.get(value[-1], "seconds"): int(value.rstrip("smh"))})


class Command(RunsCommand):
    help = "Delete finished runs that are old, in small batches, beside a running API."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--older-than",
            required=True,
            metavar="AGE",
            help="Delete runs that finished longer ago than this: 12h, 30d, 8w.",
        )
        parser.add_argument(
            "--failed-older-than",
            metavar="AGE",
            help="The age for runs that FAILED, if theirs is to be another.",
        )
        parser.add_argument(
            "--status",
            action="append",
            choices=[str(status) for status in Run.FINISHED],
            help="Delete runs of this status only. Can be given several times.",
        )
        parser.add_argument(
            "--keep-last",
            default=0,
            metavar="N",
            help="Of each owner's finished runs, let those N stay that finished last.",
        )
        self.add_owner_arguments(parser, required=False)
        parser.add_argument(
            "--batch-size",
            metavar="N",
            help=f"The most runs to delete in one transaction: {BATCH_SIZE} by default, "
            f"{BATCH_SIZE_WHERE_READ} where they have to be read.",
        )
        parser.add_argument(
            "--max-runtime",
            metavar="TIME",
            help="Begin no batch after this time: 90s, 10m, 2h.",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="Delete nothing, and say what would go."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        self.convert(
            options,
            older_than=age,
            failed_older_than=age,
            keep_last=whole_number(MOST_KEPT),
            batch_size=whole_number(MOST_IN_BATCH),
            max_runtime=runtime,
        )
        runs = Run.objects.filter(**self.owner(options))
        if options["status"]:
            runs = runs.filter(status__in=options["status"])
        ages = {name: options[name] for name in ("older_than", "failed_older_than")}
        if self.may_show_bar and (total := count_due(runs, **ages)):
            self.show_bar(total)
        self.verb = "Would delete" if options["dry_run"] else "Deleted"
        result = runs.prune(
            **ages,
            keep_last=options["keep_last"],
            batch_size=options["batch_size"],
            max_runtime=options["max_runtime"],
            dry_run=options["dry_run"],
            on_batch=self.on_batch,
        )
        words = self.words(result)
        if result.protected:
            words += f" {result.protected} stay, since other records depend on them."
        if not result.complete:
            words += " The time is up, and more are due."
        self.finish(words, result.deleted)

    def on_batch(self, result: PruneResult) -> None:
        self.advance(result.deleted + result.protected, self.words(result))

    def words(self, result: PruneResult) -> str:
        words = f"{self.verb} {result.deleted} runs"
        if result.oldest and result.newest:
            oldest, newest = format_time(result.oldest), format_time(result.newest)
            words += f" that finished from {oldest} to {newest}"
        return f"{words}."
