"""Follow a page of the docs in a folder, block by block, as a reader would.

- ``sh`` blocks are run as they stand, one after the other in one environment. A line that starts
  the server leaves it running on a free port.
- ``python`` blocks go to the end of the file that their first line names. If it names
  ``python manage.py shell``, they are pasted there as a terminal pastes them.
- ``text`` blocks are what the block before them prints.
"""

from __future__ import annotations

import os
import pty
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.ports import free_port

ROOT = Path(__file__).resolve().parent.parent.parent
BLOCK = re.compile(r"^```(sh|python|text)\n(.*?)^```$", re.M | re.S)
SHELL = "# python manage.py shell\n"
START_SERVER = "python manage.py runserver"
SITE = "127.0.0.1:8000"
FAILURES = re.compile(r"Traceback \(most recent call last\)|^\s*\w*(Syntax|Indentation)Error", re.M)


def blocks(page: Path, *sections: str) -> list[tuple[str, str]]:
    """Return language and code of a page's blocks: of all, or of those below these headings."""
    text = page.read_text()
    if not sections:
        return BLOCK.findall(text)
    parts = re.split(r"^##+ (.+)$", text, flags=re.M)
    texts = dict(zip(parts[1::2], parts[2::2], strict=True))
    return [found for section in sections for found in BLOCK.findall(texts[section])]


class Reader:
    """Somebody who follows pages in ``folder``.

    ``replaced`` says what stands for what in the pages, as in a path that each reader has another
    for. ``env`` is the environment after the blocks that were run so far.
    """

    def __init__(self, folder: Path, **replaced: str) -> None:
        self.folder = folder
        self.replaced = {SITE: f"127.0.0.1:{free_port()}", **replaced}
        self.site = f"http://{self.replaced[SITE]}"
        self.printed = ""
        self.server: subprocess.Popen[bytes] | None = None
        # The folder's own packages only: neither the clone's nor what this process was told.
        self.env = {name: value for name, value in os.environ.items() if "PYTHON" not in name}
        self.env.pop("DJANGO_SETTINGS_MODULE", None)

    def follow(self, found: list[tuple[str, str]]) -> None:
        assert found
        for language, code in found:
            for there, here in self.replaced.items():
                code = code.replace(there, here)
            print(code, flush=True)
            if language == "text":
                assert self.printed.split() == code.split(), self.printed
            elif language == "sh":
                self.run(code)
            elif code.startswith(SHELL):
                self.paste(code)
            else:
                assert re.match(r"# [\w/]+\.py\n", code), f"Which file does this go into? {code}"
                file = self.folder / code.split()[1]
                with file.open("a") as stream:
                    stream.write(code)

    def run(self, code: str) -> str:
        """Run lines of a shell, and keep their environment; return what they print."""
        if code.startswith(START_SERVER):
            self.start_server()
            return ""
        after = self.folder / ".environment"
        done = subprocess.run(
            ["bash", "-euc", f'{code}\nenv --null > "{after}"'],
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        print(done.stdout, flush=True)
        assert done.returncode == 0, f"exit status {done.returncode}: {code}"
        lines = after.read_text().rstrip("\0").split("\0")
        self.env = dict(line.split("=", 1) for line in lines)
        after.unlink()
        self.printed = done.stdout
        return done.stdout

    def paste(self, code: str) -> str:
        """Paste code into ``manage.py shell`` on a terminal; return what appears there."""
        command = ["python", "manage.py", "shell", "--interface", "python"]
        terminal, end = pty.openpty()
        with subprocess.Popen(
            command, cwd=self.folder, env=self.env, stdin=end, stdout=end, stderr=end
        ) as process:
            os.close(end)
            seen = ""
            # Before the prompt, the terminal would echo what is pasted.
            while ">>> " not in seen and (chunk := read(terminal)):
                seen += chunk
            os.write(terminal, code.encode() + b"\nexit()\n")
            while chunk := read(terminal):
                seen += chunk
        os.close(terminal)
        print(seen, flush=True)
        assert process.returncode == 0, seen
        assert not FAILURES.search(seen), seen
        self.printed = seen
        return seen

    def start_server(self) -> None:
        """Start the server, anew if it runs already."""
        self.stop_server()
        command = [*START_SERVER.split(), "--noreload", self.replaced[SITE]]
        program = ["bash", "-c", 'exec "$@"', "bash", *command]  # finds python in this PATH
        self.server = subprocess.Popen(program, cwd=self.folder, env=self.env)
        port = int(self.replaced[SITE].rpartition(":")[2])
        deadline = time.monotonic() + 60
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            assert self.server.poll() is None, "the server has ended"
            assert time.monotonic() < deadline, "the server does not start"
            time.sleep(0.1)

    def stop_server(self) -> None:
        if self.server is not None:
            self.server.terminate()
            self.server.wait()


@contextmanager
def reader(folder: Path, **replaced: str) -> Iterator[Reader]:
    """Yield a reader whose server is ended at the end."""
    found = Reader(folder, **replaced)
    try:
        yield found
    finally:
        found.stop_server()


def read(terminal: int) -> str:
    """Return what a terminal shows next, "" at its end."""
    try:
        return os.read(terminal, 4096).decode(errors="replace")
    except OSError:  # Linux says so that the other side is closed
        return ""
