"""The whole contract in three hosts with the wheel: ``python -m tests.hosts.contract dist/*.whl``.

A plain one, one with models of its own, and one that subclasses everything. Each answers the
suite's own questions.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from tests.hosts.follow import ROOT

HOSTS = ("tests.settings", "tests.settings_host", "tests.hosts.subclassed.settings")
QUESTIONS = (
    *("unit/test_authentication", "unit/test_exceptions", "unit/test_pagination"),
    *("unit/test_parameters", "unit/test_permissions", "unit/test_request_body"),
    *("unit/test_serializers", "unit/test_throttling", "unit/test_views"),
    *("integration/test_authorization", "integration/test_caches", "integration/test_callers"),
    "integration/test_owners",
)


def main(wheel: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        zipfile.ZipFile(wheel).extractall(folder)
        for each in ("tests", "project", "pyproject.toml"):
            (folder / each).symlink_to(ROOT / each)
        command = [sys.executable, "-m", "pytest", "--quiet", "--numprocesses", "auto"]
        command += ["-p", "no:cacheprovider", "--dist", "loadfile"]
        files = [f"tests/{name}.py" for name in QUESTIONS]
        for host in HOSTS:
            print(host, flush=True)
            env = {**os.environ, "PYTHONPATH": name, "DJANGO_SETTINGS_MODULE": host}
            subprocess.run([*command, "--ds", host, *files], cwd=folder, env=env, check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
