"""docs/how-to/engines.md has the settings that `make test-engines` sets."""

from __future__ import annotations

import re

import pytest

from tests.hosts.follow import ROOT

pytest.importorskip("psycopg")  # which the matrix does without

from tests.engines.haproxy import CONFIGURATION as HAPROXY
from tests.engines.haproxy import login_packet
from tests.engines.pgbouncer import CONFIGURATION as PGBOUNCER
from tests.engines.pgbouncer import QUERY_WAIT_TIMEOUT

ENGINES = (ROOT / "docs" / "how-to" / "engines.md").read_text()


def test_pgbouncer_is_tested_as_documented():
    [documented] = re.findall(r"^```ini\n(.+?)^```$", ENGINES, re.M | re.S)
    tested = PGBOUNCER.replace("{query_wait_timeout}", str(QUERY_WAIT_TIMEOUT)).splitlines()
    assert set(documented.splitlines()) <= set(tested)
    for name in ("lock_timeout", "statement_timeout"):
        assert f"ALTER DATABASE mysite SET {name} = " in ENGINES


def test_haproxy_is_tested_as_documented():
    assert f"send-binary {login_packet('haproxy', 'postgres').hex()}\n" in ENGINES
    [is_primary] = re.findall(r"expect binary (\w+)$", ENGINES, re.M)
    assert bytes.fromhex(is_primary) == b"in_hot_standby\0off\0"
    [server] = re.findall(r"default-server .+", HAPROXY)
    assert server in ENGINES


@pytest.mark.parametrize(
    ("setting", "source"),
    [
        ("wsrep_sync_wait=7", "mariadb.py"),
        ("innodb_lock_wait_timeout=5", "mariadb.py"),
        ('"target_session_attrs": "read-write"', "scenarios/replication.py"),
        ("PARTITION BY HASH (id)", "scenarios/postgresql.py"),
        ("FOR VALUES WITH (MODULUS", "scenarios/postgresql.py"),
    ],
)
def test_an_engine_is_tested_as_documented(setting, source):
    assert setting in ENGINES
    assert setting in (ROOT / "tests" / "engines" / source).read_text()
