"""Runs of real workers, by the guide's own tasks: ``python -m tests.hosts.workers dist/*.whl``.

In a blank project with the wheel, the tasks of docs/how-to/recording.md are worked off by a Celery
worker with Redis (REDIS_URL), and by the worker of django-tasks-db where Django has tasks. The
work succeeds, fails, is aborted, delivered twice, killed, told to exit. Prints how each run ends,
and ends with an error if one ends otherwise. Redis must be there.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.hosts.follow import SHELL, blocks

ROOT = Path(__file__).resolve().parent.parent.parent
GUIDE = ROOT / "docs" / "how-to" / "recording.md"
REDIS_URL = os.environ.get("REDIS_URL") or "redis://127.0.0.1:6379"
TIMEOUT = 60  # seconds, for what never comes
VISIBILITY_TIMEOUT = 2  # seconds after which Redis delivers again what a worker has not finished

SETTINGS = f"""
INSTALLED_APPS += ["rest_framework", "rest_framework.authtoken", "actor_runs", "crawls"]
DATABASES["default"]["OPTIONS"] = {{"timeout": 20, "transaction_mode": "IMMEDIATE"}}
CELERY_BROKER_URL = "{REDIS_URL}"
CELERY_BROKER_TRANSPORT_OPTIONS = {{
    "global_keyprefix": "{uuid.uuid4()}:",
    "visibility_timeout": {VISIBILITY_TIMEOUT},
    "unacked_restore_interval": 1,  # seconds between looks; by default it may take 100
    "unacked_restore_throttle": 1,
}}
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_TASK_IGNORE_RESULT = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
"""
DATABASE_TASKS = """
INSTALLED_APPS += ["django_tasks_db"]
TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}
"""
# As Celery's "First steps with Django" has it.
CELERY = """
import os
from celery import Celery
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")
app = Celery("mysite")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(related_name="celery_tasks")
"""
# What happens in the tasks of the guide, once they have saved the usage: as the run's act_id says.
WORK = """
import os, time
from pathlib import Path
from django.db import transaction
from django.db.models.signals import post_save
from django.dispatch import receiver
from actor_runs.models import Run

def work(run):
    with open(f"{run.pk}.worked", "a") as file:
        file.write(f"{os.getpid()}\\n")
    if run.act_id == "fails":
        raise TimeoutError
    while run.act_id == "waits" and not Path("go-on").exists() and not run.is_being_stopped():
        time.sleep(0.05)

@receiver(post_save, sender=Run)
def work_in_the_task(instance, update_fields, **kwargs):
    if set(update_fields or ()) == {"usage"}:
        transaction.on_commit(lambda: work(instance))
"""
ORDER = """
import sys
from django.contrib.auth.models import User
from actor_runs.models import Run
{imports}
alice, _ = User.objects.get_or_create(username="alice")
for name, act_id, times in {orders}:
    run = Run.objects.create(id=name, user=alice, act_id=act_id)
    for _ in range(times):
        {order}
"""


class Host:
    """A blank project with the app and the tasks of the guide, on SQLite."""

    def __init__(self, folder: Path, python: Path) -> None:
        self.folder = folder
        self.python = python
        self.env = {name: value for name, value in os.environ.items() if "PYTHON" not in name}
        self.env.pop("DJANGO_SETTINGS_MODULE", None)
        self.env["PYTHONUNBUFFERED"] = "1"  # logs are waited for
        self.run("-m", "django", "startproject", "mysite", str(folder))
        self.manage("startapp", "crawls")
        self.has_tasks = self.run("-c", "import django; print(django.VERSION >= (6,))") == "True\n"
        self.add("mysite/settings.py", SETTINGS + (DATABASE_TASKS if self.has_tasks else ""))
        self.add("mysite/celery.py", CELERY)
        self.add("mysite/__init__.py", "from .celery import app as celery_app\n")
        self.add("crawls/models.py", WORK)
        for section in ("Celery", "Django tasks") if self.has_tasks else ("Celery",):
            for language, code in blocks(GUIDE, section):
                if language == "python" and not code.startswith(SHELL):
                    self.add(code.split()[1], code)
        self.manage("migrate", "--verbosity", "0")

    def add(self, file: str, code: str) -> None:
        with (self.folder / file).open("a") as stream:
            stream.write(code)

    def run(self, *arguments: str) -> str:
        command = [str(self.python), *arguments]
        return subprocess.run(
            command, cwd=self.folder, env=self.env, check=True, stdout=subprocess.PIPE, text=True
        ).stdout

    def manage(self, *arguments: str) -> str:
        return self.run("manage.py", *arguments)

    def shell(self, code: str) -> str:
        return self.manage("shell", "--verbosity", "0", "--command", code)

    def change(self, name: str, status: str) -> None:
        self.shell(
            f"from actor_runs.models import Run; "
            f"Run.objects.get(pk={name!r}).transition_to({status!r})"
        )

    def state(self, name: str) -> tuple[Any, ...]:
        """Return status, exit code, status message and whether durations are recorded."""
        with closing(sqlite3.connect(self.folder / "db.sqlite3", timeout=20)) as database:
            return database.execute(
                "SELECT status, exit_code, status_message, "
                "json_extract(stats, '$.runTimeSecs') = json_extract(stats, '$.durationMillis') "
                "/ 1000.0 AND json_extract(stats, '$.runTimeSecs') > 0 "
                "FROM actor_runs_run WHERE id = ?",
                [name],
            ).fetchone()

    def workers_of(self, name: str) -> list[int]:
        """Return the processes that began to work on a run, in their order."""
        file = self.folder / f"{name}.worked"
        return [int(line) for line in file.read_text().split()] if file.exists() else []

    def go_on(self) -> None:
        (self.folder / "go-on").touch()

    @contextmanager
    def worker(self, *command: str) -> Iterator[subprocess.Popen[bytes]]:
        """Start a worker in a group of processes of its own, and end all of them."""
        (self.folder / "go-on").unlink(missing_ok=True)
        log = (self.folder / "worker.log").open("wb")
        with (
            log,
            subprocess.Popen(
                [str(self.python), *command],
                cwd=self.folder,
                env=self.env,
                stdout=log,
                stderr=log,
                start_new_session=True,
            ) as process,
        ):
            try:
                yield process
            except BaseException:
                print((self.folder / "worker.log").read_text())
                raise
            finally:
                kill_all(process)

    def wait_for(self, what: str, condition: Callable[[], Any]) -> None:
        deadline = time.monotonic() + TIMEOUT
        while not condition():
            assert time.monotonic() < deadline, f"{what}: not within {TIMEOUT} s"
            time.sleep(0.05)

    def wait_for_log(self, text: str) -> None:
        log = self.folder / "worker.log"
        self.wait_for(text, lambda: text in log.read_text())

    def wait_for_work(self, name: str) -> int:
        """Wait until the work on a run began; return the process that works on it."""
        self.wait_for(f"work on {name}", lambda: self.workers_of(name))
        return self.workers_of(name)[0]

    def expect(self, name: str, *state: Any) -> None:
        """Check the end of a run: status, exit code and status message."""
        self.wait_for(f"the end of {name}", lambda: self.state(name)[0] == state[0])
        found, is_timed = self.state(name)[:3], bool(self.state(name)[3])
        assert found == state, f"{name} is {found}, not {state}"
        # A run that nobody finished has no duration.
        assert is_timed == (state[0] not in ("RUNNING", "TIMED-OUT")), f"{name}: {is_timed}"
        assert len(self.workers_of(name)) == 1, f"{name} was worked on {self.workers_of(name)}"
        print(f"{name}: {state[0]}", flush=True)


def kill_all(process: subprocess.Popen[bytes]) -> None:
    """Kill a worker and the processes that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(TIMEOUT)


SUCCEEDED = "SUCCEEDED", 0, ""
FAILED = "FAILED", 1, "TimeoutError"
ABORTED = "ABORTED", None, ""
RUNNING = "RUNNING", None, ""
LOST = "TIMED-OUT", None, "The end of the run was not recorded in time."


def check(
    host: Host,
    kind: str,
    command: list[str],
    order: tuple[str, str],
    exit_log: str,
    tell_to_exit: dict[str, Callable[[subprocess.Popen[bytes], int], None]],
) -> None:
    """Let workers of one ``kind``, started by ``command``, end runs in every way.

    ``order`` is the import and the statement that order the work on ``run``. ``exit_log`` is what
    the worker logs when it is told to exit after its work; ``tell_to_exit`` are ways to tell it,
    or the process that works, to exit at once.
    """

    def place(*orders: tuple[str, str, int]) -> None:
        named = [(f"{kind}-{name}", act_id, times) for name, act_id, times in orders]
        host.shell(ORDER.format(imports=order[0], order=order[1], orders=named))

    def expect(name: str, *state: Any) -> None:
        host.expect(f"{kind}-{name}", *state)

    with host.worker(*command) as worker:
        place(("done", "works", 1), ("failed", "fails", 1), ("twice", "works", 2))
        expect("done", *SUCCEEDED)
        expect("failed", *FAILED)
        host.wait_for_log("RunAlreadyStarted")
        expect("twice", *SUCCEEDED)
        place(("aborted", "waits", 1))
        host.wait_for_work(f"{kind}-aborted")
        host.change(f"{kind}-aborted", "ABORTING")
        expect("aborted", *ABORTED)
        place(("told-to-exit-after-work", "waits", 1))
        host.wait_for_work(f"{kind}-told-to-exit-after-work")
        worker.send_signal(signal.SIGTERM)
        host.wait_for_log(exit_log)
        host.go_on()
        worker.wait(TIMEOUT)
        expect("told-to-exit-after-work", *SUCCEEDED)

    for name, tell in tell_to_exit.items():
        with host.worker(*command) as worker:
            place((name, "waits", 1))
            tell(worker, host.wait_for_work(f"{kind}-{name}"))
            expect(name, *ABORTED)

    with host.worker(*command) as worker:
        place(("killed", "waits", 1))
        host.wait_for_work(f"{kind}-killed")
        kill_all(worker)
    expect("killed", *RUNNING)


def check_celery(host: Host) -> None:
    options = ["--concurrency=2", "--without-gossip", "--without-mingle", "--loglevel=INFO"]
    command = ["-m", "celery", "--app=mysite", "worker", *options]

    def tell_to_exit(worker: subprocess.Popen[bytes], process: int) -> None:
        worker.send_signal(signal.SIGQUIT)

    def terminate_the_task(worker: subprocess.Popen[bytes], process: int) -> None:
        os.kill(process, signal.SIGTERM)  # as revoke(terminate=True) does

    check(
        host,
        "celery",
        command,
        ("from crawls.celery_tasks import crawl", 'crawl.delay(run.pk, "https://example.com")'),
        "Warm shutdown",
        {"told-to-exit-at-once": tell_to_exit, "revoked": terminate_the_task},
    )
    # Redis delivers the killed worker's task to the next one.
    with host.worker(*command):
        host.wait_for_log("RunAlreadyStarted")
    host.expect("celery-killed", *RUNNING)


def check_django_tasks(host: Host) -> None:
    def tell_to_exit(worker: subprocess.Popen[bytes], process: int) -> None:
        worker.send_signal(signal.SIGTERM)
        host.wait_for_log("shutting down gracefully")
        worker.send_signal(signal.SIGTERM)

    check(
        host,
        "tasks",
        ["manage.py", "db_worker", "--no-reload", "--interval=0.1", "--no-startup-delay"],
        ("from crawls.tasks import crawl", 'crawl.enqueue(run.pk, "https://example.com")'),
        "shutting down gracefully",
        {"told-to-exit-at-once": tell_to_exit},
    )


def check_redis() -> None:
    parts = urlsplit(REDIS_URL)
    try:
        socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 6379), 5).close()
    except OSError as exc:
        sys.exit(f"Redis does not answer at {REDIS_URL} ({exc}): start it, or set REDIS_URL.")


def newest_python() -> str:
    """Return a Python that Django 6.0 supports, on the PATH or of pyenv, or else this one."""
    root = Path(os.environ.get("PYENV_ROOT") or "~/.pyenv").expanduser()
    for minor in (14, 13, 12):
        installed = sorted(root.glob(f"versions/3.{minor}.*/bin/python"))
        for python in (shutil.which(f"python3.{minor}"), *installed):
            probe = [str(python), "-c", "import ensurepip, sqlite3, ssl"]
            if python and not subprocess.run(probe, capture_output=True, check=False).returncode:
                return str(python)
    return sys.executable


def main(wheel: Path) -> None:
    check_redis()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run([newest_python(), "-m", "venv", folder / "venv"], check=True)
        python = folder / "venv" / "bin" / "python"
        requirements = ROOT / "tests" / "hosts" / "workers.txt"
        pip = [str(python), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, wheel, "--requirement", requirements], check=True)
        (folder / "host").mkdir()
        host = Host(folder / "host", python)
        check_celery(host)
        if host.has_tasks:
            check_django_tasks(host)
        else:
            print("left out: Django tasks, which need Django 6.0", flush=True)
        ended = host.shell(
            "import datetime; from actor_runs.models import Run; "
            "print(Run.objects.time_out(datetime.timedelta(0)))"
        )
        kinds = ("celery", "tasks") if host.has_tasks else ("celery",)
        assert int(ended.split()[-1]) == len(kinds), ended
        for kind in kinds:
            host.expect(f"{kind}-killed", *LOST)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
