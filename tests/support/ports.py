"""Loopback ports for the servers that tests start."""

from __future__ import annotations

import random
import socket

# Below the ports that the kernel gives to outgoing connections, which would take the port of a
# server that is down for a moment.
PORTS = range(20_000, 32_000)
_used_ports: set[int] = set()


def free_port() -> int:
    """Return a loopback port on which nothing listens, another one at each call."""
    for port in random.sample(PORTS, len(PORTS)):
        if port in _used_ports:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _used_ports.add(port)
        return port
    raise RuntimeError("No loopback port is free.")
