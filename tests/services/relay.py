"""A line to a server that can be cut, closed, or left dead, without touching the server."""

from __future__ import annotations

import contextlib
import socket
import threading


class Relay:
    """Passes every connection to its ``port`` on to ``target``, until told otherwise."""

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self.answers = True
        self._sockets: set[socket.socket] = set()
        self._listen(0)

    def _listen(self, port: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", port), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(self.target)
                self._sockets |= {client, server}
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=self._pass, args=(source, sink), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if self.answers:
                    sink.sendall(data)
        for end in (source, sink):
            self._end(end)

    def _end(self, end: socket.socket) -> None:
        self._sockets.discard(end)
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()

    def cut(self) -> None:
        """End every connection; new ones are taken."""
        for end in list(self._sockets):
            self._end(end)

    def refuse(self) -> None:
        """End every connection, and refuse new ones."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def accept(self) -> None:
        """Take connections again, on the same port."""
        self._listen(self.port)
