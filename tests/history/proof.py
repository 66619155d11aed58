"""All histories one after the other: ``python -m tests.history.proof [--short]``.

100,000 operations on PostgreSQL and 20,000 on each of the others, while things are broken; then
each planted fault. Prints one table, and one line for each fault with what the checker said.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

from tests.history.databases import DATABASES
from tests.history.planted import FAULTS

OPERATIONS = {"postgresql": 100_000}
OTHERS = 20_000
SHORT = 3_000
# Few runs, so that operations meet.
PLANTED = ["--database", "postgresql", "--operations", "4000", "--slots", "24"]

# What the checker must say of each fault.
SAID = dict.fromkeys(FAULTS, "no order explains")
SAID["signal-twice"] = "was heard 2 times"
# Two collect the same run, and the one that finds it gone has sent its signals.
SAID["no-lock"] = "a signal, and the answer was"


def make_history(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.history", *options]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)


def anomalies(output: str) -> list[str]:
    """Return what the checker said, one line for each anomaly."""
    return [line.removeprefix("ANOMALY ") for line in output.splitlines() if "ANOMALY" in line]


def prove(short: bool) -> bool:
    """Make a history on each database; print their table. Return whether all are explained."""
    rows: list[str] = []
    is_explained = True
    for name in DATABASES:
        count = SHORT if short else OPERATIONS.get(name, OTHERS)
        history = make_history("--database", name, "--operations", str(count), "--faults")
        lines = history.stdout.splitlines()
        table = next((n for n, line in enumerate(lines) if line.startswith("| data")), len(lines))
        print("\n".join(lines[:table]), flush=True)
        # The head of the table once.
        rows += lines[table + 2 if rows else table :] or [f"| {name} | the history died |"]
        is_explained = is_explained and history.returncode == 0
    print("\n".join(rows), flush=True)
    return is_explained


def plant_all() -> bool:
    """Plant each fault, and print what the checker said. Return whether all are found."""
    print("\n| planted fault | found | what the checker said |\n| --- | --- | --- |")
    are_found = True
    for name in FAULTS:
        lines = anomalies(make_history(*PLANTED, "--planted", name).stdout)
        found = next((line for line in lines if SAID[name] in line), None)
        are_found = are_found and found is not None
        said = found or next(iter(lines), "nothing")
        print(f"| {name} | {'yes' if found else 'no'} | {said} |", flush=True)
    return are_found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help=f"{SHORT} operations on each, for CI")
    options = parser.parse_args()
    begin = time.monotonic()
    is_explained = prove(options.short)
    are_found = plant_all()
    print(f"{time.monotonic() - begin:.0f} s in all")
    sys.exit(not (is_explained and are_found))


if __name__ == "__main__":
    main()
