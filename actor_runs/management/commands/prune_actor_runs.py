from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from actor_runs.batches import MAX_BATCH_SIZE
from actor_runs.logs import counted
from actor_runs.management.base import RunsCommand, age, duration, integer
from actor_runs.models import Run
from actor_runs.pruning import BATCH_SIZE, BATCH_SIZE_IF_READ, PruneResult, due_for_deletion
from actor_runs.schemas import format_time

MAX_KEPT = 1_000_000


class Command(RunsCommand):
    help = "Delete old finished runs in batches. Safe while the API is running."

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
            help="The age for FAILED runs, if it is to differ.",
        )
        self.add_status_argument(parser, Run.FINISHED, "Delete runs of this status only.")
        parser.add_argument(
            "--keep-last",
            default=0,
            metavar="N",
            help="Keep the N runs of each owner that finished last.",
        )
        self.add_owner_arguments(parser, required=False)
        self.add_batch_arguments(
            parser,
            batch_size=f"The most runs to delete in one transaction: {BATCH_SIZE} by default, "
            f"{BATCH_SIZE_IF_READ} where they have to be read.",
            dry_run="Delete nothing, and say what would be deleted.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        self.convert(
            options,
            older_than=age,
            failed_older_than=age,
            keep_last=integer(MAX_KEPT),
            batch_size=integer(MAX_BATCH_SIZE),
            max_runtime=duration,
        )
        runs = self.selected_runs(options)
        ages = {name: options[name] for name in ("older_than", "failed_older_than")}
        self.show_bar(due_for_deletion(runs, **ages).count)
        self.verb = "Would delete" if options["dry_run"] else "Deleted"
        given = {
            name: options[name] for name in ("keep_last", "batch_size", "max_runtime", "dry_run")
        }
        result = runs.prune(**ages, **given, on_batch=self.on_batch)
        line = self.summary(result)
        if result.protected:
            verb, them = ("stays", "it") if result.protected == 1 else ("stay", "them")
            line += f" {result.protected} {verb}, since other records depend on {them}."
        self.finish_batches(line, result.deleted, result)

    def on_batch(self, result: PruneResult) -> None:
        done = result.deleted + result.protected + result.locked
        self.advance(done, self.summary(result))

    def summary(self, result: PruneResult) -> str:
        line = f"{self.verb} {counted(result.deleted, 'run')}"
        if result.oldest and result.newest:
            oldest, newest = format_time(result.oldest), format_time(result.newest)
            line += f" that finished from {oldest} to {newest}"
        return f"{line}."
