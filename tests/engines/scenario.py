"""Run one scenario in a process of its own: ``python -m tests.engines.scenario NAME [--short]``.

The account is written to standard output as JSON, what happens meanwhile to standard error.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Callable

from tests.engines.processes import temporary_folder
from tests.engines.scenarios import mariadb, pgbouncer, postgresql, replication
from tests.engines.stage import Row, Stage

SCENARIOS: dict[str, Callable[[Stage], None]] = {
    "pgbouncer": pgbouncer.pgbouncer,
    "standby": replication.standby,
    "haproxy": replication.haproxy,
    "replica": replication.replica,
    "galera": mariadb.galera,
    "partitions": postgresql.partitions,
    "isolation": postgresql.isolation,
    "snapshot": mariadb.snapshot,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=SCENARIOS)
    parser.add_argument("--short", action="store_true")
    options = parser.parse_args()
    # A scenario that is told to stop cleans up too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    with temporary_folder() as folder:
        stage = Stage(folder, short=options.short)
        try:
            SCENARIOS[options.name](stage)
        except Exception as exc:
            traceback.print_exc()
            stage.report(Row(options.name, "the scenario itself", wrong=[repr(exc)]))
        sys.stdout.write(stage.as_json())
        sys.stdout.flush()
    # Threads that still wait for an engine must not keep the process.
    os._exit(0)


if __name__ == "__main__":
    main()
