"""A database of a benchmark's own, on PostgreSQL, MariaDB or SQLite."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

ROOT = Path(__file__).resolve().parent.parent
# Where databases are made, unless DATABASE_URL names a server of the same kind.
SERVER_URLS = {
    "postgresql": "postgres://postgres@127.0.0.1:5432/postgres",
    "mariadb": "mysql://root@127.0.0.1:3306/mysql",
    "sqlite": "sqlite:///",
}
# As it was at the start: a benchmark that sets Django up in its own process changes it.
CONFIGURED_URL = os.environ.get("DATABASE_URL")
SETTINGS = "benchmarks.settings"


def server_url(kind: str = "postgresql") -> str:
    """Return the URL of the server on which databases of this kind are made."""
    default = SERVER_URLS[kind]
    url = CONFIGURED_URL or default
    return url if urlsplit(url).scheme[:4] == urlsplit(default).scheme[:4] else default


def database_url(name: str, kind: str = "postgresql") -> str:
    """Return the URL of the database ``name``."""
    if kind == "sqlite":
        return f"sqlite:///{Path(tempfile.gettempdir()) / f'{name}.sqlite3'}"
    return f"{server_url(kind).rpartition('/')[0]}/{name}"


def unique_name(name: str) -> str:
    """Return a database name that no benchmark running at the same time has."""
    return f"bench_{name}_{os.getpid()}"


def execute(statement: str, kind: str) -> None:
    """Execute a statement on the server. Exits with one line when the server does not answer."""
    url = server_url(kind)
    try:
        if kind == "postgresql":
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(statement)
        else:
            import MySQLdb

            parts = urlsplit(url)
            connection = MySQLdb.connect(
                host=parts.hostname or "127.0.0.1",
                port=parts.port or 3306,
                user=parts.username or "root",
                passwd=parts.password or "",
            )
            with contextlib.closing(connection):
                connection.cursor().execute(statement)
    except Exception as error:
        if type(error).__name__ != "OperationalError":
            raise
        sys.exit(f"{kind} failed (DATABASE_URL names the server): {error}".splitlines()[0])


def drop(name: str, kind: str = "postgresql") -> None:
    """Drop the database ``name``, also while somebody is connected."""
    if kind == "sqlite":
        path = Path(database_url(name, kind).removeprefix("sqlite:///"))
        for suffix in ("", "-wal", "-shm"):
            Path(f"{path}{suffix}").unlink(missing_ok=True)
        return
    force = " WITH (FORCE)" if kind == "postgresql" else ""
    execute(f"DROP DATABASE IF EXISTS {name}{force}", kind)


def migrate(url: str, settings: str = SETTINGS) -> None:
    """Create or update the tables, in a process of its own."""
    env = os.environ | {"DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": settings}
    command = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
    subprocess.run(command, cwd=ROOT, env=env, check=True)  # noqa: S603


@contextlib.contextmanager
def own_database(
    name: str,
    kind: str = "postgresql",
    *,
    settings: str = SETTINGS,
    keep: bool = False,
    reuse: str | None = None,
) -> Iterator[str]:
    """Create a database with the app's tables and yield its URL; drop it at the end.

    With ``keep`` it stays, and its name is printed. ``reuse`` names one that was kept: it is
    migrated, and stays.
    """
    database = reuse or unique_name(name)
    if not reuse:
        drop(database, kind)
        if kind != "sqlite":
            charset = " CHARACTER SET utf8mb4" if kind == "mariadb" else ""
            execute(f"CREATE DATABASE {database}{charset}", kind)
    try:
        migrate(database_url(database, kind), settings)
        yield database_url(database, kind)
    finally:
        if keep or reuse:
            print(f"The database {database} was kept.", file=sys.stderr)
        else:
            drop(database, kind)
