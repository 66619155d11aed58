"""What a process holds after many requests.

    python -m benchmarks.bench_memory [--requests N]

Needs what bench_http needs. Sends one list, thirteen GETs and six DELETEs of every twenty
requests to one server process, both limits on, four connections at a time, and prints after each
tenth part how much memory the process holds.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from pathlib import Path

import psycopg

from benchmarks.databases import own_database
from benchmarks.even import RUNS, fill, refill
from benchmarks.servers import (
    free_port,
    load,
    require_programs,
    server_command,
    started,
    started_redis,
)

SECONDS = 5


def resident(group: int) -> float:
    """MiB that the largest process of a process group holds in memory: the worker's."""
    sizes = [0.0]
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):
            lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
            if os.getpgid(int(lines["Pid"])) == group:
                sizes.append(int(lines["VmRSS"].split()[0]) / 1024)
    return max(sizes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=100_000)
    requests = parser.parse_args().requests
    require_programs()
    port = free_port()
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(own_database("memory"))
        fill(url)
        redis_port = stack.enter_context(started_redis())
        env = os.environ | {
            "DATABASE_URL": url,
            "REDIS_URL": f"redis://127.0.0.1:{redis_port}/0",
            "PEER": "actor_runs_app",
        }
        database = stack.enter_context(psycopg.connect(url, autocommit=True))
        server = stack.enter_context(started(server_command("actor_runs_app", port), port, env))
        done = first = printed = 0
        while done < requests:
            refill(database)
            first = (first + RUNS // 3 + 1) % RUNS
            done += load(port, "mixed", first, RUNS, SECONDS).sent
            if done >= printed:
                print(f"{done:7,} requests: {resident(server.pid):.1f} MiB", flush=True)
                printed += requests // 10


if __name__ == "__main__":
    main()
