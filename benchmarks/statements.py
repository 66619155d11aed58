"""Counts SQL statements on their way to PostgreSQL, whatever driver sends them."""

from __future__ import annotations

import socket
import socketserver
import struct
import threading

# What a client asks ahead of its start-up message: encryption by TLS or by GSSAPI.
SSL_REQUEST, GSS_REQUEST = 80877103, 80877104
QUERY, EXECUTE = b"Q", b"E"  # the messages that run a statement


class StatementCounter(socketserver.ThreadingTCPServer):
    """Passes connections on to the PostgreSQL server at ``target``; ``count`` is its tally."""

    daemon_threads = True

    def __init__(self, target: tuple[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), Relay)
        self.target = target
        self.port: int = self.server_address[1]
        self.count = 0
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Relay(socketserver.StreamRequestHandler):
    server: StatementCounter

    def handle(self) -> None:
        with socket.create_connection(self.server.target) as upstream:
            (length, code), body = self.first_message()
            while code in (SSL_REQUEST, GSS_REQUEST):
                self.wfile.write(b"N")  # in the clear, so that it can be read
                (length, code), body = self.first_message()
            upstream.sendall(struct.pack("!II", length, code) + body)
            threading.Thread(target=self.answer, args=(upstream,), daemon=True).start()
            while kind := self.rfile.read(1):
                size = self.rfile.read(4)
                body = self.rfile.read(struct.unpack("!I", size)[0] - 4)
                self.server.count += kind in (QUERY, EXECUTE)
                upstream.sendall(kind + size + body)
            upstream.shutdown(socket.SHUT_RDWR)  # which ends the other thread

    def first_message(self) -> tuple[tuple[int, int], bytes]:
        length, code = struct.unpack("!II", self.rfile.read(8))
        return (length, code), self.rfile.read(length - 8)

    def answer(self, upstream: socket.socket) -> None:
        while data := upstream.recv(65536):
            self.wfile.write(data)
