"""What the admin's pages cost when there are many runs, on PostgreSQL.

    python -m benchmarks.bench_admin [--sizes 1000000 10000000] [--plans slow|all|none]
        [--repeat N] [--keep]

Fills a database of its own (see ``skewed``) and asks for each page through Django's own test
client, in this process, as a superuser. Prints the median time of each page, its statements, and
how many index entries, rows and blocks PostgreSQL read for it. Ten million runs need 13 GB of
disk.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from benchmarks import skewed
from benchmarks.databases import own_database
from benchmarks.meter import PLANS, Measured, Meter, report_plans, set_up, table

SETTINGS = "project.settings"
LIST = "/admin/actor_runs/run/"


def pages(run_id: str) -> Iterator[tuple[str, str]]:
    """Yield a name and a URL of each page."""
    yield "the list", LIST
    yield "its 10th page", f"{LIST}?p=10"
    yield "oldest first", f"{LIST}?o=5"
    for name, values in {
        "status": ("finished", "unfinished", "FAILED", "ABORTED", "RUNNING", "READY"),
        "started": ("hour", "month", "before-month", "before-year"),
        "owner": ("user", "organization"),
        "general_access": ("FOLLOW_USER_SETTING", "ANYONE_WITH_ID_CAN_READ"),
    }.items():
        for value in values:
            yield f"{name}: {value}", f"{LIST}?{name}={value}"
    yield "FAILED, of organizations", f"{LIST}?status=FAILED&owner=organization"
    for name, term in {
        "a run ID": run_id,
        "an Actor ID": "HDSasDasz78YcA123",
        "a username, its runs old": "many-old-runs",
        "a username, its runs new": "few-new-runs",
        "a username without runs": "no-runs",
        "part of many usernames": "user-",
        "an organization": "Organization 150",
        "part of many organizations": "Organization",
        "nothing like it": "nothing-like-it",
    }.items():
        yield f"search: {name}", f"{LIST}?q={term}"
    yield "search and filter", f"{LIST}?q=many-old-runs&status=FAILED"
    yield "the page of a run", f"{LIST}{run_id}/change/"
    yield "deleting a run: the question", f"{LIST}{run_id}/delete/"
    yield "the overview", f"{LIST}overview/"


def measure_pages(meter: Meter, size: int, repeat: int) -> dict[tuple[str, str], Measured]:
    """Ask for each page; leave out the overview where there is none."""
    from django.contrib.auth.models import User
    from django.test import Client

    from actor_runs.models import Run

    client = Client()
    client.force_login(User.objects.get(pk=skewed.ADMIN))
    run = Run.objects.filter(user_id=skewed.OLD).earliest()
    measured = {}
    for name, page in pages(run.pk):

        def send(page: str = page) -> None:
            response = client.get(page)
            if response.status_code != 200:
                raise SystemExit(f"{page} was answered with {response.status_code}.")

        if name == "the overview" and client.get(page).status_code != 200:
            continue
        measured[name, f"{size:,} runs"] = meter.measure(send, repeat)
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="*", default=[1_000_000, 10_000_000])
    parser.add_argument("--repeat", type=int, default=5, help="requests of which the median is")
    parser.add_argument("--plans", choices=PLANS, default="slow")
    parser.add_argument("--keep", action="store_true", help="do not drop the database")
    parser.add_argument("--reuse", metavar="NAME", help="a database of skewed runs that was kept")
    options = parser.parse_args()
    with own_database("admin", settings=SETTINGS, keep=options.keep, reuse=options.reuse) as url:
        connection = set_up(url, SETTINGS)
        from django.conf import settings

        from actor_runs.models import Run

        settings.DEBUG = False
        settings.ALLOWED_HOSTS = ["testserver"]
        sizes = [Run.objects.count()] if options.reuse else sorted(options.sizes)
        if not options.reuse:
            skewed.insert_owners()
        meter = Meter(connection)
        for size in sizes:
            if not options.reuse:
                with connection.cursor() as cursor:
                    cursor.execute("TRUNCATE actor_runs_run CASCADE")
                skewed.insert_runs(connection, size)
            measured = measure_pages(meter, size, options.repeat)
            print("\n" + "\n".join(table(measured)), flush=True)
            print("\n".join(report_plans(meter, measured, options.plans)), flush=True)
        connection.close()


if __name__ == "__main__":
    main()
