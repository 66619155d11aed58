from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from actor_runs.batches import MAX_BATCH_SIZE
from actor_runs.logs import counted
from actor_runs.management.base import RunsCommand, age, duration, integer
from actor_runs.models import Run
from actor_runs.recording import BATCH_SIZE, TimeOutResult, time_out, unfinished_before


class Command(RunsCommand):
    help = "End unfinished runs whose workers are lost: to TIMED-OUT, or ABORTED if ABORTING."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--older-than",
            required=True,
            metavar="AGE",
            help="End runs that started longer ago than this: 12h, 30d, 8w.",
        )
        self.add_status_argument(parser, Run.UNFINISHED, "End runs of this status only.")
        self.add_owner_arguments(parser, required=False)
        self.add_batch_arguments(
            parser,
            batch_size=f"The most runs to read at a time: {BATCH_SIZE} by default.",
            dry_run="End nothing, and say what would be ended.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        self.convert(
            options, older_than=age, batch_size=integer(MAX_BATCH_SIZE), max_runtime=duration
        )
        runs = self.selected_runs(options)
        self.show_bar(unfinished_before(runs, options["older_than"]).count)
        self.verb = "Would end" if options["dry_run"] else "Ended"
        result = time_out(
            runs,
            options["older_than"],
            batch_size=BATCH_SIZE if options["batch_size"] is None else options["batch_size"],
            max_runtime=options["max_runtime"],
            dry_run=options["dry_run"],
            on_batch=self.on_batch,
        )
        self.finish_batches(self.summary(result), result.ended, result)

    def on_batch(self, result: TimeOutResult) -> None:
        self.advance(result.ended + result.locked, self.summary(result))

    def summary(self, result: TimeOutResult) -> str:
        return f"{self.verb} {counted(result.ended, 'run')}."
