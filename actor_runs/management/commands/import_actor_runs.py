from __future__ import annotations

import datetime
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError, CommandParser
from django.utils.dateparse import parse_datetime

from actor_runs.importing.runs import ImportResult, import_runs
from actor_runs.importing.sources import PLATFORM_URL, Platform, PlatformError, Record, read_export
from actor_runs.logs import counted, printable
from actor_runs.management.base import RunsCommand, usage_error
from actor_runs.models import RunStatus
from actor_runs.schemas import format_time

VARIABLE = "APIFY_TOKEN"
STANDARD_INPUT = "-"


def moment(value: str) -> datetime.datetime:
    """Convert an option's value: a date or a time in ISO 8601, in UTC unless it has an offset."""
    try:
        found = parse_datetime(value)
        if found is None:
            raise ValueError
        if found.tzinfo is None:
            found = found.replace(tzinfo=datetime.timezone.utc)
        return found.astimezone(datetime.timezone.utc)
    except (ValueError, OverflowError):
        raise ValueError("must be a time like 2019-11-30T07:34:24Z.") from None


def site(value: str) -> str:
    """Convert an option's value: an absolute URL."""
    try:
        parts = urlsplit(value)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return value
    except ValueError:
        pass
    raise ValueError("must be a URL like https://api.apify.com.")


class Command(RunsCommand):
    help = "Import runs as the platform's API returns them, from files or from the platform."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "files",
            nargs="*",
            default=[],  # without it, call_command(files=...) fails inside of Django
            metavar="FILE",
            help="JSON Lines, a run, an array, a page of the API's list, or what a webhook sends; "
            ".gz is decompressed, and - is standard input.",
        )
        self.add_owner_arguments(parser, required=True)
        parser.add_argument(
            "--force",
            action="store_true",
            help="Overwrite a run even if it is newer here than in the record.",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="Write nothing, and say what would be done."
        )
        platform = parser.add_argument_group(
            "from the platform", f"The API token is read from the variable {VARIABLE}."
        )
        platform.add_argument(
            "--from-platform", action="store_true", help="Read from the platform, not from files."
        )
        platform.add_argument(
            "--base-url",
            metavar="URL",
            help=f"The API's URL, {PLATFORM_URL} by default; or another installation's.",
        )
        platform.add_argument(
            "--since", metavar="TIME", help="Only runs that started then or later."
        )
        self.add_status_argument(platform, RunStatus.values, "Only runs of this status.")

    def handle(self, *args: Any, **options: Any) -> None:
        self.platform: Platform | None = None
        self.resume: datetime.datetime | None = None
        self.file: BinaryIO | None = None
        self.bytes_read = 0
        self.verb = "Would import" if options["dry_run"] else "Imported"
        self.convert(options, since=moment, base_url=site)
        owner = self.owner(options)
        if options["from_platform"]:
            records: Iterable[Record] = self.from_platform(options)
        else:
            records = self.from_files(options)
        try:
            result = import_runs(
                records,
                **owner,
                force=options["force"],
                dry_run=options["dry_run"],
                on_refused=self.on_refused,
                on_batch=self.on_batch,
            )
        except PlatformError as exc:
            raise CommandError(f"{exc} {self.resume_hint()}") from exc
        for name, number in sorted(result.ignored.items()):
            if self.verbosity:
                line = f"Ignored the unknown key {name} of {counted(number, 'run')}."
                self.stdout.write(line, ending="\n")
        self.finish(self.summary(result), result.imported + result.refused)
        if result.refused:
            verb = "was" if result.refused == 1 else "were"
            raise CommandError(f"{counted(result.refused, 'record')} {verb} refused.")

    def from_files(self, options: dict[str, Any]) -> Iterator[Record]:
        """Return the records of the files. Raises CommandError for one that cannot be read."""
        files = options["files"] or []
        paths = [os.fspath(path) for path in ([files] if isinstance(files, str) else files)]
        if not paths:
            raise usage_error("Name a file to import, or - for standard input.")
        for name in ("base_url", "since", "status"):
            if options[name]:
                raise usage_error(f"--{name.replace('_', '-')} goes with --from-platform.")
        if STANDARD_INPUT in paths and sys.stdin is None:
            raise usage_error("Standard input is closed.")
        total = sum(_size(path) for path in paths if path != STANDARD_INPUT)
        if STANDARD_INPUT not in paths:
            self.show_bar(lambda: total)
        return self.records(paths)

    def from_platform(self, options: dict[str, Any]) -> Iterable[Record]:
        if options["files"]:
            raise usage_error("Name files, or say --from-platform: not both.")
        if not (token := os.environ.get(VARIABLE)):
            raise usage_error(f"Set the variable {VARIABLE} to the token of the API.")
        try:
            self.platform = Platform(
                token,
                base_url=options["base_url"] or PLATFORM_URL,
                since=options["since"],
                statuses=self.statuses(options),
            )
        except PlatformError as exc:
            raise usage_error(str(exc)) from exc
        return self.platform

    def records(self, paths: list[str]) -> Iterator[Record]:
        for path in paths:
            if path == STANDARD_INPUT:
                yield from read_export(sys.stdin.buffer, path)
                continue
            try:
                with open(path, "rb") as self.file:
                    yield from read_export(self.file, path)
                    self.bytes_read += self.file.tell()
            except OSError as exc:  # pragma: no cover  gone since its size was asked for
                yield path, ValidationError(f"{exc.strerror}.")
            self.file = None

    def on_refused(self, place: Any, reason: str) -> None:
        self.write_error(f"{printable(str(place))}: {reason}")

    def on_batch(self, result: ImportResult) -> None:
        if self.platform is not None:
            self.resume = self.platform.since
            done = result.imported + result.refused
            if self.bar is None:  # pragma: no branch  (no test reads the platform on a terminal)
                total = self.platform.total
                self.show_bar(lambda: total)
            line = f"{self.summary(result)} {self.resume_hint()}"
        else:
            done = self.bytes_read + (self.file.tell() if self.file else 0)
            line = self.summary(result)
        self.advance(done, line)

    def summary(self, result: ImportResult) -> str:
        return (
            f"{self.verb} {counted(result.imported, 'run')}: {result.created} created, "
            f"{result.updated} updated, {result.unchanged} unchanged, {result.older} older than "
            f"what is here. {result.refused} refused."
        )

    def resume_hint(self) -> str:
        if self.resume is None:
            return super().resume_hint()
        return f"What was done stays; --since {format_time(self.resume)} goes on from here."


def _size(path: str) -> int:
    """Return a file's size. Raises CommandError if it is not a file that can be read."""
    name = printable(path)
    try:
        status = os.stat(path)
    except (OSError, ValueError) as exc:
        raise usage_error(f"{name}: {getattr(exc, 'strerror', exc)}.") from None
    if stat.S_ISDIR(status.st_mode):
        raise usage_error(f"{name}: This is a directory.")
    if not os.access(path, os.R_OK):
        raise usage_error(f"{name}: Permission denied.")  # pragma: no cover  not to root
    return status.st_size
