"""A TCP proxy before a server of the tests: it can fall silent, drip, or be gone."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from urllib.parse import urlsplit

_LOOK_S = 0.02


class Proxy:
    """Listens on a free port of this machine. ``mode`` is one of

    - ``open``: bytes pass;
    - ``silent``: connections are taken, and no byte passes in either direction;
    - ``dripping``: some bytes pass every now and then;
    - ``closed``: connections end at once.
    """

    def __init__(self, target: str) -> None:
        """``target`` is the http address of the server behind."""
        found = urlsplit(target)
        self.mode = "open"
        self._target = (str(found.hostname), int(found.port or 80))
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._closed = False
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """End every connection."""
        self._closed = True
        for one in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.mode == "closed":
                client.close()
                continue
            try:
                server = socket.create_connection(self._target, timeout=10)
            except OSError:
                client.close()
                continue
            self._sockets += [client, server]
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while block := source.recv(1 << 16):
                self._pass(sink, block)
        except OSError:
            pass
        finally:
            for one in (source, sink):
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def _pass(self, sink: socket.socket, block: bytes) -> None:
        while block and not self._closed:
            if self.mode == "silent":
                time.sleep(_LOOK_S)
            elif self.mode == "closed":
                raise ConnectionResetError
            elif self.mode == "dripping":
                sink.sendall(block[:2048])
                block = block[2048:]
                time.sleep(_LOOK_S)
            else:
                sink.sendall(block)
                block = b""
