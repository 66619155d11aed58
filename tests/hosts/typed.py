"""What a host could write, for type checkers. A line with a mistake ends in ``# mistake``."""

import datetime

from django.contrib.auth.models import User

from actor_runs.exceptions import InvalidTransition, RunNotFinished
from actor_runs.models import Run, RunStatus
from actor_runs.pruning import PruneResult


def record(user: User) -> Run:
    run = Run.objects.create(user=user, act_id="HDSasDasz78YcAPEB")
    run.transition_to(RunStatus.RUNNING)
    try:
        run.transition_to("SUCCEEDED", exit_code=0)
    except InvalidTransition as exc:
        print(exc.run_id.upper(), exc.status)
    return run


async def record_asynchronously(run: Run) -> None:
    await run.atransition_to(RunStatus.RUNNING)


def report(run: Run) -> str:
    seconds: float | None = None
    if run.finished_at is not None:
        seconds = (run.finished_at - run.started_at).total_seconds()
    owner: object = run.owner.pk
    return f"{run.status.lower()} {run.started_at.isoformat()} {seconds} {owner}"


def clean_up(user: User, run: Run) -> tuple[int, PruneResult]:
    month = datetime.timedelta(days=30)
    finished = Run.objects.owned_by(user).filter(act_id="x").exclude(exit_code=0).finished()
    pruned: PruneResult = finished.prune(month, keep_last=3, dry_run=True)
    ids: list[str] = [each.pk for each in Run.objects.unfinished() if not each.is_finished]
    deleted, by_model = run.delete()
    total: int = deleted + by_model["actor_runs.Run"] + finished.delete_finished() + len(ids)
    try:
        finished.delete()
    except RunNotFinished as exc:
        print(exc.run_id, exc.status)
    first = Run.objects.using("default").order_by("-started_at").first()
    return total + (0 if first is None else 1), pruned


def costs(user: User, day: datetime.date) -> float:
    overview = Run.objects.owned_by(user).overview(since=day)
    failed: int = overview.statuses[RunStatus.FAILED] + overview.days[0].statuses["FAILED"]
    stuck: list[Run] = overview.longest_unfinished
    by_actor = {act_id: figures.runs for act_id, figures in overview.actors.items()}
    return overview.days[0].cost + failed + len(stuck) + by_actor["x"]


def mistakes(user: User, run: Run) -> None:
    Run.objects.prune(datetime.timedelta(days=30), keep_lats=3)  # mistake
    run.started_at.isofromat()  # mistake
    run.finished_at.isoformat()  # mistake
    Run.objects.owned_by(user).finishd()  # mistake
    run.is_owned_by()  # mistake
