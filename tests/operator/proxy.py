"""A TCP proxy whose connections can go silent: open, and nothing comes any more."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass, field
from threading import Thread


@dataclass
class _Connection:
    near: socket.socket
    far: socket.socket
    silent: bool = False


@dataclass
class Proxy:
    """To a port of 127.0.0.1. A context: its connections end with it."""

    target: int
    _connections: list[_Connection] = field(default_factory=list)
    _listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    def silence(self) -> int:
        """What is connected now never hears again, as behind a load balancer that forgot it. How many there were."""
        for connection in self._connections:
            connection.silent = True
        return len(self._connections)

    def __enter__(self) -> Proxy:
        Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        for connection in self._connections:
            for end in (connection.near, connection.far):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                connection = _Connection(near, socket.create_connection(("127.0.0.1", self.target)))
                self._connections.append(connection)
                for source, sink in ((near, connection.far), (connection.far, near)):
                    Thread(target=self._pump, args=(connection, source, sink), daemon=True).start()

    def _pump(self, connection: _Connection, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if not connection.silent:
                    sink.sendall(data)
            if not connection.silent:
                sink.shutdown(socket.SHUT_WR)
