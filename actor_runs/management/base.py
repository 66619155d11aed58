"""What the commands on runs share: an owner, progress, and an end that cron understands."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.exceptions import ObjectDoesNotExist, ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.serializers.base import ProgressBar
from django.db import Error, reset_queries

from actor_runs.conf import conf

SECONDS_BETWEEN_LINES = 10
USAGE = 2  # argparse's own exit status
INTERRUPTED = 130  # a shell's for Ctrl-C


def usage_error(message: str) -> CommandError:
    """Return the exception for what was asked for and cannot be, so that nothing was begun."""
    return CommandError(message, returncode=USAGE)


def whole_number(most: int) -> Callable[[str], int]:
    """Return what converts an option's value: a whole number from 1 to ``most``."""

    def number(value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", value, re.ASCII) or not 1 <= int(value) <= most:
            raise ValueError(f"must be a whole number from 1 to {most}.")
        return int(value)

    return number


class RunsCommand(BaseCommand):
    """A command that works through runs in batches, and may be stopped at any point.

    A bar on a terminal, in the way of Django's own ``dumpdata``; in a log a line now and then,
    and for each batch at verbosity 2. Exit statuses: 0, it did what it was asked to; 1, not all
    of it; 2, it began nothing, since it was asked for what cannot be; 130, interrupted.
    """

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        # For argparse "-1d" were an option: let it reach the one that it is meant for, whose
        # words on it are clearer.
        parser._negative_number_matcher = re.compile(r"-\d")
        return parser

    def add_owner_arguments(self, parser: CommandParser, required: bool) -> None:
        owner = parser.add_mutually_exclusive_group(required=required)
        owner.add_argument("--user", metavar="USERNAME", help="The user who owns the runs.")
        owner.add_argument(
            "--organization", metavar="PK", help="Primary key of the organization that owns them."
        )

    def owner(self, options: dict[str, Any]) -> dict[str, Any]:
        """Return ``user`` or ``organization``, as asked for, if any. Raises CommandError."""
        if options["user"] is not None and options["organization"] is not None:
            raise usage_error("--user and --organization exclude each other.")
        try:
            if options["user"] is not None:
                users = get_user_model()._default_manager
                return {"user": users.get_by_natural_key(options["user"])}
            if options["organization"] is not None:
                organizations = apps.get_model(conf.organization_model)._default_manager
                return {"organization": organizations.get(pk=options["organization"])}
        except (ObjectDoesNotExist, ValidationError, ValueError, OverflowError):
            name = "user" if options["user"] is not None else "organization"
            raise usage_error(f"There is no {name} {options[name]!r}.") from None
        return {}

    def convert(self, options: dict[str, Any], **types: Callable[[str], Any]) -> None:
        """Convert what is still text, in ``options`` itself. Raises CommandError.

        Not argparse's part, since ``call_command`` hands keywords on as they are.
        """
        for name, convert in types.items():
            if isinstance(options[name], str):
                try:
                    options[name] = convert(options[name])
                except ValueError as exc:
                    raise usage_error(f"--{name.replace('_', '-')} {exc}") from None

    def execute(self, *args: Any, **options: Any) -> Any:
        self.verbosity = options["verbosity"]
        self.began = self.told = time.monotonic()
        self.bar: ProgressBar | None = None
        try:
            return super().execute(*args, **options)
        except KeyboardInterrupt:
            raise CommandError(
                f"Interrupted. {self.words_for_later()}", returncode=INTERRUPTED
            ) from None
        except Error as exc:
            why = str(exc).partition("\n")[0].rstrip(".")
            raise CommandError(f"The database failed: {why}. {self.words_for_later()}") from exc

    def words_for_later(self) -> str:
        """What to tell whoever meets the command's end before all was done."""
        return "What was done stays; run it again for the rest."

    @property
    def may_show_bar(self) -> bool:
        return self.verbosity == 1 and self.stdout.isatty()

    def show_bar(self, total: int) -> None:
        """Show progress as a bar; ``total`` (above 0) is what ``advance`` ends at."""
        self.stdout.ending = None  # type: ignore[assignment]  # as dumpdata does
        self.bar = ProgressBar(self.stdout, total)  # type: ignore[arg-type]

    def advance(self, done: int, line: str) -> None:
        """Show how far the work is: ``done`` of the bar, or ``line`` where there is none."""
        if settings.DEBUG:
            reset_queries()  # Django keeps them all
        if self.bar is not None:
            self.bar.update(min(done, self.bar.total_count))
        elif self.verbosity > 1 or (
            self.verbosity and time.monotonic() - self.told >= SECONDS_BETWEEN_LINES
        ):
            self.told = time.monotonic()
            self.stdout.write(line)
            self.stdout.flush()

    def complain(self, line: str) -> None:
        """Write a line of what went wrong."""
        if self.bar is not None:
            self.stdout.write("\n")
        self.stderr.write(line)

    def finish(self, line: str, done: int) -> None:
        """Write the last line, with the figures, and how many were ``done`` in a second."""
        if self.bar is not None and self.bar.prev_done < self.bar.progress_width:
            self.stdout.write("\n")
        if self.verbosity:
            seconds = max(time.monotonic() - self.began, 0.001)
            speed = f"{seconds:.1f} s, {done / seconds:.0f} runs a second"
            self.stdout.write(f"{line} ({speed})", ending="\n")
