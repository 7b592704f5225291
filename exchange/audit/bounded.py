"""Servers of few: no more connections than so many, and none for longer than so many seconds in all."""

from __future__ import annotations

import contextlib
import io
import signal
import socketserver
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket

MOST_CONNECTIONS = 16
LONGEST_S = 10.0


class Bounded(socketserver.ThreadingMixIn):
    """A threading server that closes connections beyond MOST_CONNECTIONS at once."""

    daemon_threads = True
    request_queue_size = MOST_CONNECTIONS

    def __init__(self, *args: Any, **options: Any) -> None:
        self._places = threading.BoundedSemaphore(MOST_CONNECTIONS)
        super().__init__(*args, **options)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Begin a thread for a connection, or close it."""
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)  # type: ignore[attr-defined]
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._places.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection, and give its place back."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: a connection that broke is the other side's matter, and what it sent is not repeated."""

    def serve(self) -> None:
        """Serve until SIGTERM or SIGINT, and close."""

        def stop(*_: object) -> None:
            threading.Thread(target=self.shutdown).start()  # type: ignore[attr-defined]

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        with self:  # type: ignore[attr-defined]
            self.serve_forever(poll_interval=0.2)  # type: ignore[attr-defined]


class Deadline(io.RawIOBase):
    """What arrives on a connection, until a moment. Raises TimeoutError after it, however it drips."""

    def __init__(self, connection: socket.socket, within_s: float = LONGEST_S) -> None:
        self._connection = connection
        self._until = time.monotonic() + within_s

    def readable(self) -> bool:
        """True: it is read from."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer with what has arrived."""
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)

    def read_all(self, most: int) -> bytes:
        """Everything until the other side ends or breaks off, at most so many bytes and one."""
        held = bytearray()
        block = bytearray(4_096)
        with contextlib.suppress(ConnectionResetError):
            while len(held) <= most and (count := self.readinto(block)):
                held += block[:count]
        return bytes(held[: most + 1])
