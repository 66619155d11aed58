"""The app on other engines: ``python -m tests.engines [--short] [NAME ...]``.

Starts every engine by itself, in temporary folders and on free loopback ports, and ends it.
Prints a table of what ran where, and how many outcomes were wrong. tests/engines/install.sh
installs what is needed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tests.engines.processes import GALERA_LIBRARY, MissingPackage, program
from tests.engines.scenario import SCENARIOS
from tests.engines.stage import Row

AT_ONCE = 2
TIMEOUT = {True: 600, False: 1800}  # seconds for one scenario, short or long
CLEANUP = 60  # seconds for a scenario that is stopped
ALWAYS = ("setpriv",)
POSTGRESQL = ("postgres", "initdb", "pg_basebackup")
MARIADB = ("mariadbd", "mariadb-install-db")
PROGRAMS = {
    "pgbouncer": (*POSTGRESQL, "pgbouncer"),
    "haproxy": (*POSTGRESQL, "haproxy"),
    "galera": (*MARIADB, "rsync"),
    "snapshot": MARIADB,
}


@dataclass
class Result:
    """What one scenario came to."""

    name: str
    rows: list[Row]
    seconds: float


def missing_packages(names: list[str]) -> list[str]:
    """Return one line for each program that the scenarios need and that is not installed."""
    lines = []
    for name in dict.fromkeys(p for n in names for p in (*ALWAYS, *PROGRAMS.get(n, POSTGRESQL))):
        try:
            program(name)
        except MissingPackage as exc:
            lines.append(str(exc))
    if "galera" in names and not GALERA_LIBRARY.exists():
        lines.append(str(MissingPackage("galera-4", str(GALERA_LIBRARY))))
    return lines


def run(name: str, short: bool) -> Result:
    """Run a scenario in a process of its own, and return its account."""
    # It cleans up when this command is killed.
    command = ["setpriv", "--pdeathsig", "TERM"]
    command += [sys.executable, "-m", "tests.engines.scenario", name]
    if short:
        command.append("--short")
    begin = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            output, _ = process.communicate(timeout=TIMEOUT[short])
        except subprocess.TimeoutExpired:
            process.terminate()
            try:
                output, _ = process.communicate(timeout=CLEANUP)
            except subprocess.TimeoutExpired:
                process.kill()
                output, _ = process.communicate()
    try:
        rows = [Row(**row) for row in json.loads(output)]
    except ValueError:
        rows = [Row(name, "the scenario itself", wrong=["it was stopped, or died"])]
    return Result(name, rows, time.monotonic() - begin)


def print_table(results: list[Result]) -> None:
    print("| engine | what ran | requests | 503 | wrong outcomes | s |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for result in results:
        for row in result.rows:
            print(
                f"| {row.engine} | {row.what} | {row.requests} | {row.unavailable} "
                f"| {len(row.wrong)} | {row.seconds:.0f} |"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(SCENARIOS))
    parser.add_argument("--short", action="store_true", help="an eighth of the rounds, for CI")
    options = parser.parse_args()
    names = options.names or list(SCENARIOS)
    if unknown := set(names) - set(SCENARIOS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}")
    if missing := missing_packages(names):
        sys.exit("\n".join(missing))
    begin = time.monotonic()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        results = list(pool.map(run, names, [options.short] * len(names)))
    print_table(results)
    rows = [row for result in results for row in result.rows]
    wrong = sum(len(row.wrong) for row in rows)
    times = ", ".join(f"{result.name} {result.seconds:.0f} s" for result in results)
    print(f"\n{times}; {time.monotonic() - begin:.0f} s in all")
    print(f"{sum(row.requests for row in rows)} requests, {wrong} wrong outcomes")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
