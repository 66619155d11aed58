"""What a list reads, for callers whose runs lie where a list finds them least easily.

    python -m benchmarks.bench_lists [--database postgresql|mariadb|sqlite] [--rows N]
        [--plans slow|all|none] [--repeat N] [--keep | --reuse NAME]

Fills a database of its own (see ``skewed``), sends each list request through the app's own view,
and prints its time, its statements, and how many index entries, rows and blocks the server read
for it. Then the plans of the statements that the app sent, and which request used which index.
Three million runs on PostgreSQL need 4 GB of disk, ten million 13 GB.
"""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Iterator

from benchmarks import skewed
from benchmarks.databases import own_database
from benchmarks.meter import PLANS, Measured, Meter, report_plans, set_up, table

ROWS = {"postgresql": 3_000_000, "mariadb": 300_000, "sqlite": 300_000}
LIST = "/v2/actor-runs"


def requests(rows: int, start: datetime.datetime) -> Iterator[tuple[str, dict[int, str]]]:
    """Yield the name of each request, and its query string for each caller.

    ``start`` is when the oldest of ``rows`` runs started.
    """

    def moment(number: int) -> str:
        after = datetime.timedelta(seconds=number * skewed.SECONDS)
        return (start + after).strftime("%Y-%m-%dT%H:%M:%SZ")

    everyone = dict.fromkeys(skewed.CALLERS, "")
    old = rows // skewed.OLD_SHARE
    # The half of the time in which a caller has runs, and how many runs a caller has.
    half = dict.fromkeys(everyone, (rows // 4, rows // 4 * 3)) | {
        skewed.OLD: (old // 4, old // 4 * 3)
    }
    half[skewed.FEW] = (rows - 2000, rows - 1000)
    owned = {skewed.OLD: old, skewed.FEW: 30, skewed.MEMBER: rows // 100, skewed.NONE: 0}
    for name, query in {
        "newest page": "limit=100&desc=1",
        "oldest page": "limit=100",
        "newest page, FAILED": "limit=100&desc=1&status=FAILED",
        "newest page, ABORTED": "limit=100&desc=1&status=ABORTED",
        "newest page, RUNNING or READY": "limit=100&desc=1&status=RUNNING,READY",
        "newest page, all finished": ("limit=100&desc=1&status=SUCCEEDED,FAILED,TIMED-OUT,ABORTED"),
        "page of 1000": "limit=1000&desc=1",
    }.items():
        yield name, dict.fromkeys(everyone, query)
    times = {
        caller: f"startedAfter={moment(begin)}&startedBefore={moment(end)}"
        for caller, (begin, end) in half.items()
    }
    yield "by time", {caller: f"limit=100&{query}" for caller, query in times.items()}
    yield (
        "by time, newest, FAILED",
        {caller: f"limit=100&desc=1&status=FAILED&{query}" for caller, query in times.items()},
    )
    yield (
        "in the middle",
        {caller: f"limit=100&offset={count // 2}" for caller, count in owned.items()},
    )
    yield (
        "in the middle, newest first",
        {caller: f"limit=100&desc=1&offset={count // 2}" for caller, count in owned.items()},
    )
    yield (
        "total alone",
        {caller: f"limit=1&offset={max(count - 10, 0)}&desc=1" for caller, count in owned.items()},
    )


def measure_lists(meter: Meter, rows: int, repeat: int) -> dict[tuple[str, str], Measured]:
    """Send each request of each caller."""
    from django.test import Client

    from actor_runs.models import Run

    measured = {}
    for name, queries in requests(rows, Run.objects.earliest().started_at):
        for caller, query in queries.items():
            client = Client(headers={"Authorization": f"Bearer {skewed.TOKENS[caller]}"})

            def send(client: Client = client, query: str = query) -> None:
                response = client.get(f"{LIST}?{query}")
                if response.status_code != 200:
                    raise SystemExit(f"{query} was answered with {response.status_code}.")

            measured[name, skewed.CALLERS[caller]] = meter.measure(send, repeat)
    return measured


def measure_bulk(meter: Meter) -> dict[tuple[str, str], Measured]:
    """Measure what staff and the host's code ask of one owner: pruning, and the public methods."""
    from django.contrib.auth.models import User

    from actor_runs.models import Run

    age = datetime.timedelta(days=1)
    measured = {}
    for key, caller in skewed.CALLERS.items():
        user = User.objects.get(pk=key)
        for name, call in {
            "owned_by().count()": lambda user=user: Run.objects.owned_by(user).count(),
            "owned_by() newest 10": lambda user=user: list(
                Run.objects.owned_by(user).order_by("-started_at", "-id")[:10]
            ),
            "prune of one owner, dry run": lambda user=user: Run.objects.owned_by(user).prune(
                age, dry_run=True
            ),
            "prune of one owner, keep_last=100, dry run": lambda user=user: Run.objects.owned_by(
                user
            ).prune(age, keep_last=100, dry_run=True),
        }.items():
            measured[name, caller] = meter.measure(call, 1)
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--database", choices=list(ROWS), default="postgresql")
    parser.add_argument("--rows", type=int, help="3,000,000 on PostgreSQL, 300,000 elsewhere")
    parser.add_argument("--repeat", type=int, default=5, help="requests of which the median is")
    parser.add_argument("--plans", choices=PLANS, default="slow")
    parser.add_argument("--keep", action="store_true", help="do not drop the database")
    parser.add_argument("--reuse", metavar="NAME", help="a database that --keep has left")
    options = parser.parse_args()
    rows = options.rows or ROWS[options.database]
    with own_database("lists", options.database, keep=options.keep, reuse=options.reuse) as url:
        connection = set_up(url, "benchmarks.settings")
        from actor_runs.models import Run

        if not options.reuse:
            skewed.fill(connection, rows)
        rows = Run.objects.count()
        meter = Meter(connection)
        measured = measure_lists(meter, rows, options.repeat)
        print(f"\n{rows:,} runs on {options.database}.\n")
        print("\n".join(table(measured)), flush=True)
        bulk = measure_bulk(meter)
        print("\n" + "\n".join(table(bulk)), flush=True)
        print("\n".join(report_plans(meter, measured | bulk, options.plans)), flush=True)
        connection.close()


if __name__ == "__main__":
    main()
