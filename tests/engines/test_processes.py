"""Engines' processes: a missing package is named, ports differ, and nothing is left running."""

from __future__ import annotations

import shutil

import pytest

from tests.engines import processes
from tests.engines.processes import MissingPackage, Process, is_alive, wait_until
from tests.support.ports import free_port

needs_setpriv = pytest.mark.skipif(shutil.which("setpriv") is None, reason="Linux alone has it")


@pytest.mark.parametrize(("name", "package"), processes.PACKAGES.items())
def test_a_missing_program_names_its_debian_package(name, package, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda *args, **kwargs: None)
    with pytest.raises(MissingPackage, match=f"Debian's package {package}"):
        processes.program(name)


def test_a_missing_library_names_its_debian_package(monkeypatch, tmp_path):
    monkeypatch.setattr(processes, "GALERA_LIBRARY", tmp_path / "none.so")
    with pytest.raises(MissingPackage, match="Debian's package galera-4"):
        processes.galera_library()


def test_each_port_is_given_once():
    ports = {free_port() for _ in range(20)}
    assert len(ports) == 20


def test_waiting_for_what_never_comes_ends():
    with pytest.raises(TimeoutError, match=r"Waited 0\.1 s: nothing comes\."):
        wait_until(lambda: False, "nothing comes", 0.1)


@needs_setpriv
def test_a_program_that_ends_at_its_start_shows_its_log(tmp_path):
    process = Process(tmp_path, "failing")
    process.start("sh", "-c", "echo no such option >&2; exit 1")
    with pytest.raises(RuntimeError, match=r"failing ended at its start\.\nno such option"):
        process.wait_until_ready(lambda: False)


@needs_setpriv
def test_a_killed_program_takes_its_children_along(tmp_path):
    with Process(tmp_path, "parent") as process:
        process.start("sh", "-c", "sleep 600 & sleep 600 & echo ready; wait")
        process.wait_until_ready(lambda: "ready" in process.end_of_log())
        family = [process.pid, *processes.descendants(process.pid)]
        assert len(family) == 3
    assert not any(map(is_alive, family))
