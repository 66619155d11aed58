"""Follow the README with the built wheel: ``python tests/blank_project.py dist/*.whl``.

Checks what is in the wheel, makes a virtual environment and a blank project in a temporary folder,
and does there what the README says under Install, Record runs and Upgrade, block by block:

- ``sh`` is run as it stands, but pip takes the package from the wheel, and the server a free port;
- ``python`` goes to the end of the file that its first line names, or into a shell that it names.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import venv
import zipfile
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.M | re.S)
START_SERVER = "python manage.py runserver\n"
SHELL = "# python manage.py shell\n"


def main(wheel: Path) -> None:
    check_contents(wheel)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        venv.create(folder / "venv", with_pip=True)
        constraints = folder / "constraints.txt"
        constraints.write_text(f"django-actor-runs @ {wheel.resolve().as_uri()}\n")
        env = os.environ | {
            "PATH": f"{folder / 'venv' / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PIP_CONSTRAINT": str(constraints),
        }
        subprocess.run(["pip", "install", "--quiet", "django"], env=env, check=True)
        project = folder / "project"
        project.mkdir()
        subprocess.run(["django-admin", "startproject", "mysite", project], env=env, check=True)
        follow(project, env)


def check_contents(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    outside = [name for name in names if not re.match(r"(actor_runs|django_actor_runs-.+)/", name)]
    assert not outside, outside
    for name in ("py.typed", "migrations/0001_initial.py"):
        assert f"actor_runs/{name}" in names, name
    here = README.parent / "actor_runs"
    for path in here.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            assert path.relative_to(here.parent).as_posix() in names, path


def follow(project: Path, env: dict[str, str]) -> None:
    server = None
    port = free_port()
    try:
        for language, code in blocks("Install", "Record runs", "Upgrade"):
            print(code)
            if code == START_SERVER:
                command = [*code.split(), "--noreload", str(port)]
                server = subprocess.Popen(command, cwd=project, env=env)
                wait_for(port)
            elif language == "sh":
                for line in code.replace("127.0.0.1:8000", f"127.0.0.1:{port}").splitlines():
                    run(line, project, env)
            elif code.startswith(SHELL):
                subprocess.run(
                    ["python", "manage.py", "shell", "-c", code], cwd=project, env=env, check=True
                )
            else:
                with (project / code.split()[1]).open("a") as file:
                    file.write(code)
    finally:
        if server is not None:
            server.terminate()
            server.wait()
    run("python manage.py makemigrations --check", project, env)


def run(line: str, project: Path, env: dict[str, str]) -> None:
    """Run a line. One that sends a DELETE is sent twice: there is one run to delete."""
    if line.startswith("python"):
        env = env | {"PYTHONWARNINGS": "error"}
    answers = ["204", "404"] if "-X DELETE" in line else [None]
    for answer in answers:
        command = ["sh", "-euc", line]
        output = subprocess.run(
            command, cwd=project, env=env, check=True, stdout=subprocess.PIPE, text=True
        ).stdout
        print(output)
        assert answer is None or output.split()[1] == answer, output


def blocks(*sections: str) -> list[tuple[str, str]]:
    """Return language and code of all blocks below these headings."""
    parts = re.split(r"^## (.+)$", README.read_text(), flags=re.M)
    texts = dict(zip(parts[1::2], parts[2::2], strict=True))
    return [found for section in sections for found in BLOCK.findall(texts[section])]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int) -> None:
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError("The server does not start.")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
