"""Who records a run: created, started, succeeded. Django must be set up before the import.

Each is a class whose ``create`` returns what ``start``, ``succeed`` and ``status`` take.
"""

from __future__ import annotations

import secrets
import string
import uuid
from functools import cached_property
from typing import Any

import celery
import django
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.utils import timezone
from django_celery_results.backends.database import DatabaseBackend
from django_celery_results.models import TaskResult
from django_tasks_db.models import DBTaskResult

from actor_runs.models import Run, RunStatus
from benchmarks import skewed

if django.VERSION >= (6, 0):
    from django.tasks import task
else:
    from django_tasks import task

ALPHABET = string.ascii_letters + string.digits
RESULT = {"items": 12}


class App:
    """``Run.objects.create`` and two ``transition_to``."""

    words = "actor_runs"
    table = Run._meta.db_table

    @cached_property
    def user(self) -> User:
        return User.objects.get(pk=skewed.OLD)

    def prefill(self, count: int) -> None:
        skewed.fill(connection, count)

    def create(self) -> Any:
        return Run.objects.create(user=self.user)

    def start(self, run: Any) -> None:
        run.transition_to(RunStatus.RUNNING)

    def succeed(self, run: Any) -> None:
        run.transition_to(RunStatus.SUCCEEDED, exit_code=0)

    def status(self, run: Any) -> str:
        return Run.objects.get(pk=run.pk).status


class PlainSQL:
    """Three statements by hand on the app's table: what Django's connection alone costs."""

    words = "plain SQL, the same table"
    table = Run._meta.db_table
    INSERT = """
        INSERT INTO actor_runs_run (
            id, user_id, status, started_at, act_id, actor_task_id, build_id, build_number,
            status_message, general_access, default_key_value_store_id, default_dataset_id,
            default_request_queue_id, container_url, git_branch_name, meta, options, stats,
            platform_usage_billing_model, version
        ) VALUES (
            %s, %s, 'READY', %s, %s, '', %s, '', '', 'FOLLOW_USER_SETTING', %s, %s, %s, '', '',
            '{"origin": "API"}',
            '{"build": "latest", "timeoutSecs": 3600, "memoryMbytes": 1024, "diskMbytes": 2048}',
            '{"inputBodyLen": 0, "migrationCount": 0, "rebootCount": 0, "restartCount": 0,
              "resurrectCount": 0, "memAvgBytes": 0, "memMaxBytes": 0, "memCurrentBytes": 0,
              "cpuAvgUsage": 0, "cpuMaxUsage": 0, "cpuCurrentUsage": 0, "netRxBytes": 0,
              "netTxBytes": 0, "durationMillis": 0, "runTimeSecs": 0, "metamorph": 0,
              "computeUnits": 0}',
            '', 0
        )
    """
    START = """
        UPDATE actor_runs_run SET status = 'RUNNING', version = version + 1
        WHERE id = %s AND status = 'READY'
    """
    SUCCEED = """
        UPDATE actor_runs_run
        SET status = 'SUCCEEDED', version = version + 1, finished_at = %s, exit_code = 0
        WHERE id = %s AND status = 'RUNNING'
    """

    def prefill(self, count: int) -> None:
        """The app has filled this table."""

    @staticmethod
    def new_id() -> str:
        return "".join(secrets.choice(ALPHABET) for _ in range(17))

    def create(self) -> Any:
        run_id = self.new_id()
        others = [self.new_id() for _ in range(5)]
        with connection.cursor() as cursor:
            cursor.execute(self.INSERT, [run_id, 1, timezone.now(), *others])
        return run_id

    def start(self, run: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute(self.START, [run])

    def succeed(self, run: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute(self.SUCCEED, [timezone.now(), run])

    def status(self, run: Any) -> str:
        with connection.cursor() as cursor:
            cursor.execute("SELECT status FROM actor_runs_run WHERE id = %s", [run])
            return cursor.fetchone()[0]


@task
def crawl(pages: int) -> dict[str, int]:
    return RESULT


class TasksDB:
    """What ``enqueue`` and the worker do, without the worker's search for the next task."""

    words = "django-tasks-db"
    table = DBTaskResult._meta.db_table

    def create(self) -> Any:
        return crawl.enqueue(pages=3).db_result

    def start(self, result: Any) -> None:
        with transaction.atomic():  # as its worker does
            locked = DBTaskResult.objects.filter(pk=result.pk).get_locked()
            locked.claim("worker-of-benchmarks")

    def succeed(self, result: Any) -> None:
        result.set_successful(RESULT)

    def status(self, result: Any) -> str:
        return {"SUCCESSFUL": "SUCCEEDED"}.get(DBTaskResult.objects.get(pk=result.pk).status, "")

    def prefill(self, count: int) -> None:
        now = timezone.now()
        results = (
            DBTaskResult(
                status="SUCCESSFUL",
                started_at=now,
                finished_at=now,
                args_kwargs={"args": [], "kwargs": {"pages": 3}},
                task_path=crawl.module_path,
                worker_ids=["worker-of-benchmarks"],
                backend_name="default",
                run_after=now,
                return_value=RESULT,
            )
            for _ in range(count)
        )
        DBTaskResult.objects.bulk_create(results, batch_size=1000)


class CeleryResults:
    """What Celery asks of its result backend: PENDING, STARTED, SUCCESS."""

    words = "django-celery-results"
    table = TaskResult._meta.db_table

    def __init__(self) -> None:
        self.backend = DatabaseBackend(celery.Celery("benchmarks"))

    def create(self) -> Any:
        task_id = str(uuid.uuid4())
        self.backend.store_result(task_id, None, "PENDING")
        return task_id

    def start(self, task_id: Any) -> None:
        self.backend.store_result(task_id, {"pid": 1}, "STARTED")

    def succeed(self, task_id: Any) -> None:
        self.backend.store_result(task_id, RESULT, "SUCCESS")

    def prefill(self, count: int) -> None:
        results = (
            TaskResult(
                task_id=str(uuid.uuid4()),
                status="SUCCESS",
                content_type="application/json",
                content_encoding="utf-8",
                result='{"items": 12}',
                meta='{"children": []}',
            )
            for _ in range(count)
        )
        TaskResult.objects.bulk_create(results, batch_size=1000)

    def status(self, task_id: Any) -> str:
        return {"SUCCESS": "SUCCEEDED"}.get(TaskResult.objects.get(task_id=task_id).status, "")


RECORDERS = {
    "plain": PlainSQL,
    "app": App,
    "tasks_db": TasksDB,
    "celery_results": CeleryResults,
}
