"""The whole suite on every database and cache in turn: `make test-services`.

    python -m tests.services.run [--quick] [COMBINATION ...]

``--quick``, for CI: only those files of the suite that a database or a cache can decide.
Starts no server: start_servers.sh beside this file does. The environment says where they are:
POSTGRESQL_URL, MARIADB_URL, REDIS_URL (these without a database's name or number) and
MEMCACHED_URL. RACE_ROUNDS is how often each race is run.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parent.parent.parent
SERVICES = "tests/services/"

POSTGRESQL = os.environ.get("POSTGRESQL_URL", "postgres://postgres@127.0.0.1:5432")
MARIADB = os.environ.get("MARIADB_URL", "mysql://root@127.0.0.1:3306")
REDIS = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379").rstrip("/")
MEMCACHED = os.environ.get("MEMCACHED_URL", "pymemcache://127.0.0.1:11211")


@dataclass(frozen=True)
class Job:
    """One call of pytest: a settings module and what to run under it."""

    settings: str
    paths: tuple[str, ...]


def services(settings: str, *names: str) -> Job:
    return Job(f"tests.services.{settings}", tuple(f"{SERVICES}test_{name}.py" for name in names))


def suite(*names: str) -> tuple[str, ...]:
    """Return the paths of these modules of the suite, in whichever folder they are."""
    paths = [next(ROOT.glob(f"tests/*/test_{name}.py")) for name in names]
    return tuple(str(path.relative_to(ROOT)) for path in paths)


# These start a demo, a client or a build of their own, test no database, and `make test` runs them.
APART = suite("api_page", "clients", "demo", "npm_client", "openapi", "package")
WHOLE = ("tests/unit", "tests/integration", *(f"--ignore={path}" for path in APART))
PLAIN = Job("tests.settings", WHOLE)
HOST = Job("tests.settings_host", WHOLE)
# What differs between databases and caches.
QUICK = suite(
    *("authentication", "fields", "lists", "models", "owner_races", "owners", "pagination"),
    *("parameters", "prune_actor_runs", "querysets", "races", "recording", "schemas", "signals"),
    *("statements", "throttling"),
)
RACES = (services("settings", "race_processes"), services("settings_host", "race_processes"))
# What speaks HTTP, once more by ASGI.
ASGI = Job(
    "tests.services.settings_asgi",
    suite(
        *("authentication", "authorization", "pagination", "parameters", "permissions"),
        *("serializers", "throttling", "views"),
    ),
)
# Tables with a prefix, and views that fall back to the ORM.
SUBCLASSED = Job("tests.hosts.subclassed.settings", suite("owners", "querysets", "views"))
REPLICA = services("settings_replica", "replica")


@dataclass(frozen=True)
class Combination:
    """A database and a cache, and what is run on them."""

    name: str
    database: str
    cache: str
    database_url: str
    cache_url: str
    jobs: tuple[Job, ...]


# Each its own database and its own number in Redis, since two of them run side by side.
COMBINATIONS = (
    Combination(
        "postgresql",
        "PostgreSQL",
        "Redis",
        f"{POSTGRESQL}/actor_runs",
        f"{REDIS}/1",
        (
            PLAIN,
            HOST,
            SUBCLASSED,
            *RACES,
            services("settings", "rate_limits_across_processes", "topology", "callers", "asgi"),
            ASGI,
            services("settings_host", "faults"),
            REPLICA,
        ),
    ),
    Combination(
        "mariadb",
        "MariaDB",
        "Redis",
        f"{MARIADB}/actor_runs",
        f"{REDIS}/2",
        (PLAIN, HOST, SUBCLASSED, *RACES, services("settings_host", "faults"), REPLICA),
    ),
    Combination(
        "postgresql-pool",
        "PostgreSQL, pool",
        "Redis",
        f"{POSTGRESQL}/actor_runs_pool?pool=true",
        f"{REDIS}/3",
        (PLAIN, *RACES),
    ),
    Combination("sqlite", "SQLite", "Redis", "", f"{REDIS}/4", (PLAIN, *RACES, REPLICA)),
    Combination(
        "memcached",
        "PostgreSQL",
        "memcached",
        f"{POSTGRESQL}/actor_runs_memcached",
        MEMCACHED,
        (PLAIN, services("settings", "rate_limits_across_processes")),
    ),
)
AT_ONCE = 2


def what_is_missing(combinations: tuple[Combination, ...]) -> str | None:
    """Say in one line what keeps these combinations from being run; None where nothing does."""
    for program in ("nginx", "redis-server", "setpriv"):
        if shutil.which(program) is None:
            return f"{program} is not installed."
    for one in combinations:
        for name, url in ((one.database, one.database_url), (one.cache, one.cache_url)):
            where = urlsplit(url)
            if not where.hostname:
                continue
            try:
                socket.create_connection((where.hostname, where.port), timeout=5).close()
            except OSError:
                return f"{name} does not answer on {where.hostname}:{where.port}."
    return None


def run(combination: Combination, quick: bool) -> list[subprocess.CompletedProcess[str]]:
    """Run the jobs one after the other; they share a database."""
    env = {
        **os.environ,
        "REDIS_URL": combination.cache_url,
        "TEST_DB_SUFFIX": f"-{combination.name}",
    }
    env.pop("DATABASE_URL", None)
    if combination.database_url:
        env["DATABASE_URL"] = combination.database_url
    finished = []
    for job in combination.jobs:
        paths = QUICK if quick and job.paths == WHOLE else job.paths
        command = [sys.executable, "-m", "pytest", "--quiet", "--tb=short", "--color=no"]
        command += ["-p", "no:cacheprovider", "--ds", job.settings, *paths]
        finished.append(
            subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
        )
        print(f"{combination.name}: {job.settings} {' '.join(paths)}", flush=True)
        print(finished[-1].stdout, flush=True)
        if finished[-1].returncode:
            print(finished[-1].stderr, flush=True)
    return finished


def count(word: str, jobs: list[subprocess.CompletedProcess[str]]) -> int:
    """How many tests passed or failed, by pytest's own last lines."""
    lines = (job.stdout.rstrip().rpartition("\n")[2] for job in jobs)
    return sum(int(number) for line in lines for number in re.findall(rf"(\d+) {word}", line))


def main() -> None:
    names = [combination.name for combination in COMBINATIONS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("combinations", nargs="*", metavar="COMBINATION", help=", ".join(names))
    parser.add_argument("--quick", action="store_true", help="a part of the suite, for CI")
    options = parser.parse_args()
    chosen = options.combinations or names
    if unknown := set(chosen) - set(names):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    combinations = tuple(one for one in COMBINATIONS if one.name in chosen)
    if missing := what_is_missing(combinations):
        sys.exit(f"make test-services: {missing} tests/services/start_servers.sh starts it.")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        results = list(pool.map(run, combinations, repeat(options.quick)))
    print("| database | cache | passed | failed |")
    print("| --- | --- | --- | --- |")
    well = True
    for one, jobs in zip(combinations, results, strict=True):
        failed = count("failed", jobs) + count("error", jobs)
        well = well and all(job.returncode == 0 for job in jobs)
        print(f"| {one.database} | {one.cache} | {count('passed', jobs)} | {failed} |")
    passed = sum(count("passed", jobs) for jobs in results)
    failed = sum(count("failed", jobs) + count("error", jobs) for jobs in results)
    print(f"{passed} passed, {failed} failed")
    sys.exit(not well)


if __name__ == "__main__":
    main()
