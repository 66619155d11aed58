"""What the commands on runs share: owners, durations, progress and exit statuses."""

from __future__ import annotations

import contextlib
import datetime
import re
import signal
import sys
import time
from argparse import _ActionsContainer
from collections.abc import Callable, Iterable
from io import StringIO
from typing import Any

from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.exceptions import ObjectDoesNotExist, ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.serializers.base import ProgressBar
from django.db import Error, OperationalError, ProgrammingError, reset_queries

from actor_runs.conf import conf
from actor_runs.db.errors import is_transient
from actor_runs.logs import counted, printable
from actor_runs.models import Run
from actor_runs.pruning import PruneResult
from actor_runs.querysets import RunQuerySet
from actor_runs.recording import TimeOutResult

SECONDS_BETWEEN_REPORTS = 10
USAGE = 2  # argparse's own exit status
SIGNALLED = 128  # and the signal's number, as shells have it: 130 for Ctrl-C, 143 for SIGTERM
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def usage_error(message: str) -> CommandError:
    """Return the error for options that are not valid: nothing was begun."""
    return CommandError(message, returncode=USAGE)


def integer(maximum: int) -> Callable[[str], int]:
    """Return what converts an option's value: an integer from 1 to ``maximum``."""

    def convert(value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", value, re.ASCII) or not 1 <= int(value) <= maximum:
            raise ValueError(f"must be a whole number from 1 to {maximum}.")
        return int(value)

    return convert


def age(value: str) -> datetime.timedelta:
    """Convert an option's value: an age like 12h, 30d or 8w."""
    # No minutes: 6m would be months to one, and minutes to the other.
    if not re.fullmatch(r"0*[1-9][0-9]{0,4}[hdw]", value, re.ASCII):
        raise ValueError(
            "must be a number of hours, days or weeks above zero, like 12h, 30d or 8w."
        )
    return datetime.timedelta(**{UNITS[value[-1]]: int(value[:-1])})


def duration(value: str) -> datetime.timedelta:
    """Convert an option's value: a duration like 90, 90s, 10m or 2h."""
    if not re.fullmatch(r"0*[1-9][0-9]{0,4}[smh]?", value, re.ASCII):
        raise ValueError("must be a time above zero, like 90s, 10m or 2h.")
    return datetime.timedelta(**{UNITS.get(value[-1], "seconds"): int(value.rstrip("smh"))})


class RunsCommand(BaseCommand):
    """A command that works through runs in batches, and may be stopped at any point.

    Shows a bar on a terminal, as Django's ``dumpdata`` does; else a line now and then, or for each
    batch at verbosity 2. Exit statuses: 0, it did what it was asked to; 1, not all
    of it; 2, an option is not valid, and nothing was begun; 130 and 143, stopped by Ctrl-C or by
    SIGTERM.
    """

    def __init__(self, stdout: Any = None, stderr: Any = None, **options: bool) -> None:
        # Python has None in the place of what the shell closes with `>&-`.
        super().__init__(
            stdout or sys.stdout or StringIO(), stderr or sys.stderr or StringIO(), **options
        )

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        # argparse takes "-1d" for an option. As a value it reaches the option that it is meant
        # for, whose message is clearer.
        parser._negative_number_matcher = re.compile(r"-\d")
        return parser

    def add_owner_arguments(self, parser: CommandParser, required: bool) -> None:
        owner = parser.add_mutually_exclusive_group(required=required)
        owner.add_argument("--user", metavar="USERNAME", help="The user who owns the runs.")
        owner.add_argument(
            "--organization", metavar="PK", help="Primary key of the organization that owns them."
        )

    def add_status_argument(
        self, parser: _ActionsContainer, allowed: Iterable[str], description: str
    ) -> None:
        self.allowed_statuses = list(map(str, allowed))
        parser.add_argument(
            "--status",
            action="append",
            choices=self.allowed_statuses,
            help=f"{description} Can be given several times.",
        )

    def add_batch_arguments(self, parser: CommandParser, batch_size: str, dry_run: str) -> None:
        parser.add_argument("--batch-size", metavar="N", help=batch_size)
        parser.add_argument(
            "--max-runtime", metavar="TIME", help="Begin no batch after this time: 90s, 10m, 2h."
        )
        parser.add_argument("--dry-run", action="store_true", help=dry_run)

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

    def selected_runs(self, options: dict[str, Any]) -> RunQuerySet:
        """Return the runs of the owner and of the statuses asked for, if any."""
        runs = Run.objects.filter(**self.owner(options))
        statuses = self.statuses(options)
        return runs.filter(status__in=statuses) if statuses else runs

    def statuses(self, options: dict[str, Any]) -> list[str]:
        """Return the statuses asked for, if any, which ``call_command`` does not check."""
        given = options["status"] or []
        statuses = [given] if isinstance(given, str) else list(given)
        if not set(statuses) <= set(self.allowed_statuses):
            raise usage_error(f"--status must be one of {', '.join(self.allowed_statuses)}.")
        return statuses

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

    def run_from_argv(self, argv: list[str]) -> None:
        # Service managers and schedulers stop a process by this signal.
        with contextlib.suppress(ValueError):  # only the main thread may
            signal.signal(signal.SIGTERM, _interrupt)
        super().run_from_argv(argv)

    def execute(self, *args: Any, **options: Any) -> Any:
        self.verbosity = options["verbosity"]
        self.started = self.last_report = time.monotonic()
        self.bar: ProgressBar | None = None
        try:
            return super().execute(*args, **options)
        except KeyboardInterrupt as exc:
            number = exc.args[0] if exc.args else signal.SIGINT
            raise CommandError(
                f"Interrupted. {self.resume_hint()}", returncode=SIGNALLED + number
            ) from None
        except Error as exc:
            reason = printable(str(exc).partition("\n")[0].rstrip("."))
            advice = self.resume_hint()
            # Such as a table or a column that is not there.
            if isinstance(exc, (OperationalError, ProgrammingError)) and not is_transient(exc):
                advice = f"Has migrate been run? {advice}"
            raise CommandError(f"The database failed: {reason}. {advice}") from exc

    def resume_hint(self) -> str:
        """Return what to do if the command ends before all is done."""
        return "What was done stays; run it again for the rest."

    def show_bar(self, count: Callable[[], int | None]) -> None:
        """On a terminal, show progress as a bar; ``count`` returns what ``advance`` ends at."""
        if self.verbosity == 1 and self.stdout.isatty() and (total := count()):
            self.stdout.ending = None  # type: ignore[assignment]  # as dumpdata does
            self.bar = ProgressBar(self.stdout, total)  # type: ignore[arg-type]

    def advance(self, done: int, line: str) -> None:
        """Show how far the work is: ``done`` of the bar, or ``line`` where there is none."""
        if settings.DEBUG:
            reset_queries()  # Django keeps them all
        if self.bar is not None:
            self.bar.update(min(done, self.bar.total_count))
        elif self.verbosity > 1 or (
            self.verbosity and time.monotonic() - self.last_report >= SECONDS_BETWEEN_REPORTS
        ):
            self.last_report = time.monotonic()
            self.stdout.write(line)
            self.stdout.flush()

    def write_error(self, line: str) -> None:
        """Write a line of what went wrong."""
        if self.bar is not None:
            self.stdout.write("\n")
        self.stderr.write(line)

    def finish(self, line: str, done: int) -> None:
        """Write the last line, with the figures, and how many were ``done`` in a second."""
        if self.bar is not None and self.bar.prev_done < self.bar.progress_width:
            self.stdout.write("\n")
        if self.verbosity:
            seconds = max(time.monotonic() - self.started, 0.001)
            speed = f"{seconds:.1f} s, {counted(round(done / seconds), 'run')} a second"
            self.stdout.write(f"{line} ({speed})", ending="\n")

    def finish_batches(self, line: str, done: int, result: PruneResult | TimeOutResult) -> None:
        """Write the last line of work in batches. Raises CommandError if runs stayed locked."""
        if not result.complete:
            line += " Stopped by --max-runtime: more runs are due."
        self.finish(line, done)
        if result.locked:
            raise CommandError(
                f"{counted(result.locked, 'run')} could not be locked. {self.resume_hint()}"
            )


def _interrupt(number: int, frame: Any) -> None:
    """Stop the command as Ctrl-C does: the transaction is rolled back, and the message written."""
    raise KeyboardInterrupt(number)
