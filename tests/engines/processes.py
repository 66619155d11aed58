"""Processes of engines: in a temporary folder, on free loopback ports, ended with the test."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

TIMEOUT = 60  # seconds, for an engine that never starts or never stops
POLL = 0.05  # seconds between two looks at what sends no event

# Where Debian puts the programs that are not on everybody's PATH.
PROGRAM_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/sbin")

# The Debian package of each program.
PACKAGES = {
    "debootstrap": "debootstrap",
    "haproxy": "haproxy",
    "mariadb-install-db": "mariadb-server",
    "mariadbd": "mariadb-server",
    "pgbouncer": "pgbouncer",
    "postgres": "postgresql",
    "initdb": "postgresql",
    "pg_basebackup": "postgresql",
    "rsync": "rsync",
    "setpriv": "util-linux",
    "wsrep_sst_rsync": "mariadb-server",
}
GALERA_LIBRARY = Path("/usr/lib/galera/libgalera_smm.so")


class MissingPackage(Exception):
    """A Debian package that a test needs is not installed."""

    def __init__(self, package: str, what: str) -> None:
        super().__init__(
            f"{what} is not installed: it is in Debian's package {package}. "
            "Run tests/engines/install.sh as root."
        )


def program(name: str) -> str:
    """Return the path of a program. Raises MissingPackage, which names its Debian package."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version, reverse=True)
    folders = [*map(str, versions), os.environ.get("PATH", ""), *PROGRAM_FOLDERS]
    path = shutil.which(name, path=os.pathsep.join(folders))
    if path is None:
        raise MissingPackage(PACKAGES.get(name, name), name)
    return path


def galera_library() -> str:
    """Return the path of Galera's library. Raises MissingPackage."""
    if not GALERA_LIBRARY.exists():
        raise MissingPackage("galera-4", str(GALERA_LIBRARY))
    return str(GALERA_LIBRARY)


def _version(folder: Path) -> float:
    with contextlib.suppress(ValueError):
        return float(folder.parent.name)
    return 0.0


def wait_until(condition: Callable[[], Any], what: str, timeout: float = TIMEOUT) -> Any:
    """Wait until ``condition`` returns something true, and return it. Raises TimeoutError."""
    deadline = time.monotonic() + timeout
    while True:
        if result := condition():
            return result
        if time.monotonic() > deadline:
            raise TimeoutError(f"Waited {timeout:g} s: {what}.")
        time.sleep(POLL)


def accepts_connections(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


def descendants(pid: int) -> list[int]:
    """Return the process IDs of the children of ``pid``, of their children, and so on."""
    children = []
    with contextlib.suppress(OSError):
        children = [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [one for child in children for one in (child, *descendants(child))]


def is_alive(pid: int) -> bool:
    """Whether a process runs: not ended, and no zombie either."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that servers of other users can enter, and that is removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="eng_"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Process:
    """A program that runs until ``stop`` or ``kill``, also as another user, with a log file.

    It is killed with this process, however this process ends. Start it from the main thread:
    the kernel would kill it with the thread that started it.
    """

    stop_signal = signal.SIGTERM

    def __init__(self, folder: Path, name: str, user: str | None = None) -> None:
        self.name = name
        self.folder = folder / name
        self.folder.mkdir()
        # Only root can become another user, and only root has to: servers refuse to be root.
        self.user = user if os.geteuid() == 0 else None
        self.log = self.folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self.own(self.folder)

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} was never started."
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def own(self, path: Path) -> None:
        """Give a file or folder to the user of this program."""
        if self.user is not None:
            shutil.chown(path, self.user, pwd.getpwnam(self.user).pw_gid)

    def write(self, name: str, text: str) -> Path:
        """Write a file into the program's folder, and return its path."""
        path = self.folder / name
        path.write_text(text)
        self.own(path)
        return path

    def command(self, *words: str) -> list[str]:
        """Return a command as the program's user, which ends with this process."""
        command = ["setpriv", "--pdeathsig", "KILL"]
        if self.user is not None:
            command += ["--reuid", self.user, "--regid", str(pwd.getpwnam(self.user).pw_gid)]
            command += ["--init-groups"]
        return [*command, *words]

    def run(self, *words: str) -> None:
        """Run a command to its end as the program's user. Raises RuntimeError with its output."""
        done = subprocess.run(
            self.command(*words), cwd=self.folder, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)}\n{done.stdout}{done.stderr}")

    def start(self, *words: str) -> None:
        """Start the program; ``wait_until_ready`` says when it serves."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(*words),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait_until_ready(self, is_ready: Callable[[], Any]) -> None:
        """Wait until the program serves. Raises RuntimeError with the end of its log."""

        def ready_or_dead() -> bool:
            return not self.is_running or bool(is_ready())

        try:
            wait_until(ready_or_dead, f"{self.name} does not start")
        except TimeoutError as exc:
            raise RuntimeError(f"{exc}\n{self.end_of_log()}") from exc
        if not self.is_running:
            raise RuntimeError(f"{self.name} ended at its start.\n{self.end_of_log()}")

    def end_of_log(self, lines: int = 30) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def stop(self) -> None:
        """End the program as its administrator would."""
        if not self.is_running:
            return
        assert self._process is not None
        self._process.send_signal(self.stop_signal)
        try:
            self._process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End the program and all its children at once, as a machine that fails."""
        if self._process is None:
            return
        processes = []
        if self.is_running:
            # Stopped, it starts no more children while they are listed.
            self._process.send_signal(signal.SIGSTOP)
            processes = [self._process.pid, *descendants(self._process.pid)]
            for pid in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        # What they held, memory and ports, is free only once they are gone.
        wait_until(lambda: not any(map(is_alive, processes)), f"{self.name} does not die")

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.kill()
