"""What the admin's pages cost when there are many runs, on PostgreSQL.

    python -m benchmarks.bench_admin [--sizes 1000 1000000]

Asks Django's own test client, in this process, as a superuser: each page several times, and
prints the median time and how many statements a page needed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Iterator

from benchmarks.bench_growth import fill
from benchmarks.bench_http import drop, prepare

DATABASE = "actor_runs_bench_admin"
REPEAT = 7
LIST = "/admin/actor_runs/run/"


def pages(size: int) -> Iterator[tuple[str, str]]:
    """Yield a name and a URL of each page; the runs are those of ``bench_growth``."""
    yield "the list", LIST
    yield "its 10th page", f"{LIST}?p=10"
    for name, values in {
        "status": ("finished", "unfinished", "FAILED", "RUNNING"),
        "started": ("hour", "month", "before-year"),
        "owner": ("user", "organization"),
        "general_access": ("RESTRICTED", "ANYONE_WITH_ID_CAN_READ"),
    }.items():
        for value in values:
            yield f"{name}: {value}", f"{LIST}?{name}={value}"
    yield "search: run ID", f"{LIST}?q=grow{size // 2:012d}"
    yield "search: Actor ID", f"{LIST}?q=HDSasDasz78YcAPEB"
    yield "search: username", f"{LIST}?q=bench1"
    yield "search: organization", f"{LIST}?q=Acme"
    yield "search: nothing like it", f"{LIST}?q=nothing-like-it"
    yield "a run", f"{LIST}grow{size // 2:012d}/change/"
    yield "deleting a run: the question", f"{LIST}grow{size // 2:012d}/delete/"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="*", default=[1000, 1_000_000])
    sizes = sorted(parser.parse_args().sizes)
    url = prepare(DATABASE)
    os.environ |= {"DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": "project.settings"}

    import django

    django.setup()
    from django.conf import settings
    from django.contrib.auth.models import Group, User
    from django.core.management import call_command
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    settings.DEBUG = False
    settings.ALLOWED_HOSTS = ["testserver"]
    call_command("migrate", verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE actor_runs_run CASCADE")
    Group.objects.create(id=1, name="Acme")
    client = Client()
    client.force_login(User.objects.create_superuser("admin", id=3))

    figures: dict[str, list[str]] = {}
    filled = 0
    for size in sizes:
        with connection.cursor() as cursor:
            fill(cursor, filled + 1, size)
        filled = size
        for name, page in pages(size):
            taken = []
            for _ in range(REPEAT):
                with CaptureQueriesContext(connection) as queries:
                    begin = time.perf_counter()
                    response = client.get(page)
                    taken.append((time.perf_counter() - begin) * 1000)
                if response.status_code != 200:
                    sys.exit(f"{page} answered {response.status_code}.")
            figures.setdefault(name, []).append(f"{statistics.median(taken):.0f} ms")
            figures[name].append(str(len(queries)))
    connection.close()
    drop(DATABASE)
    print("| page |" + "".join(f" {size:,} runs | statements |" for size in sizes))
    print("| --- |" + " --- | --- |" * len(sizes))
    for name, row in figures.items():
        print(f"| {name} | {' | '.join(row)} |")


if __name__ == "__main__":
    main()
