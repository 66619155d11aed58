"""``python -m tests.fuzz``: hold a real server to the document and to the contract.

First schemathesis, with the document and every kind of caller, then requests byte by byte over
sockets. Exits with 1 at the first thing that is wrong, having said which request shows it.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SOCKETS_SHARE = 0.4  # of the time


@contextmanager
def serve(folder: Path) -> Iterator[int]:
    """Serve the project on a free port, by a server that reads chunked bodies."""
    log = folder / "server.log"
    with (
        log.open("wb") as stream,
        subprocess.Popen(
            [
                *(sys.executable, "-m", "gunicorn", "project.wsgi", "--bind", "127.0.0.1:0"),
                *("--threads", "4", "--graceful-timeout", "1"),
                *("--limit-request-line", "0"),  # or its own 414 answers the longest of them
            ],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            stdout=stream,
            text=True,
        ) as process,
    ):
        try:
            assert process.stderr is not None
            for line in process.stderr:
                if found := re.search(r"Listening at: http://127.0.0.1:(\d+)", line):
                    break
            else:
                raise RuntimeError("The server did not start.")
            yield int(found[1])
        finally:
            process.terminate()
            process.stderr.close()


def run_schemathesis(
    port: int, caller: str, token: str | None, seconds: float, by_query: bool = False
) -> bool:
    print(f"\nschemathesis as {caller}{' by ?token=' if by_query else ''}", flush=True)
    command = [
        *(str(Path(sys.executable).with_name("schemathesis")), "--config-file"),
        *("tests/fuzz/schemathesis.toml", "run"),
        *(f"http://127.0.0.1:{port}/schema/", "--checks", "all", "--no-color"),
        *("--max-time", str(max(1, round(seconds))), "--generation-database", "none"),
        "--continue-on-failure",
    ]
    env = os.environ.copy()
    if token is not None and by_query:
        env["FUZZ_QUERY_TOKEN"] = token
    elif token is not None:
        command += ["--header", f"Authorization: Bearer {token}"]
    return subprocess.run(command, cwd=ROOT, env=env, check=False).returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120, help="for all of it (120)")
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ |= {
            "DATABASE_URL": f"sqlite:///{folder / 'fuzz.sqlite3'}",
            "DJANGO_SETTINGS_MODULE": "tests.fuzz.settings",
            "SECRET_KEY": "fuzz",
        }
        import django

        django.setup()
        from django.core.management import call_command

        from tests.fuzz import sockets, world

        call_command("migrate", verbosity=0)
        world.create()
        os.environ["FUZZ_RUN_IDS"] = ",".join(world.RUNS)
        os.environ["SCHEMATHESIS_HOOKS"] = "tests.fuzz.hooks"
        with serve(folder) as port:
            share = seconds * (1 - SOCKETS_SHARE) / (len(world.CALLERS) + 1)
            passed = [
                run_schemathesis(port, caller, world.TOKENS.get(caller), share)
                for caller in world.CALLERS
            ]
            passed.append(run_schemathesis(port, "bob", world.TOKENS["bob"], share, by_query=True))
            for run_id in world.RUNS.keys() - world.rows().keys():
                world.create_run(run_id)
            answers = sockets.fuzz(port, seconds * SOCKETS_SHARE)
    print(f"\nsockets: {answers.total()} requests, answered {dict(answers.most_common())}")
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
