"""A client's connection, as a web process reads from it: who sends too slowly is cut off.

A thread reads a request to its end. Without a limit, as many clients as there are threads stop a process by
sending half a request each and then nothing, before anybody is asked who they are (CWE-400, "slowloris").
"""

from __future__ import annotations

import errno
import socket
import time
from typing import Any

SLOWEST_BYTES_S = 4 << 10
"""Bytes a second that a client who sends without a pause has to reach."""
READ_AT_ONCE = 128 << 10
"""Bytes of one read: a larger buffer is mapped anew for each, and its pages cost more than the copy."""
UNREAD_S = 60
"""So long a client may take nothing of a reply that waits for it."""


class PromptSocket:
    """A socket whose reads may wait for so many seconds in all, for each request; bytes that arrive give time
    back. Everything else is the socket's.
    """

    def __init__(self, connection: socket.socket, patience_s: float) -> None:
        self._socket = connection
        self._patience_s = self._left_s = patience_s
        if connection.family in (socket.AF_INET, socket.AF_INET6):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_S * 1000)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def begin(self) -> None:
        """Another request begins."""
        self._left_s = self._patience_s

    def recv(self, size: int, *flags: int) -> bytes:
        """As of a socket. Raises ConnectionResetError where the client was waited for long enough."""
        before, began = self._socket.gettimeout(), time.monotonic()
        wait_s = self._left_s if before is None else min(before, self._left_s)
        if wait_s <= 0:
            raise _reset()
        self._socket.settimeout(wait_s)
        try:
            data = self._socket.recv(min(size, READ_AT_ONCE), *flags)
        except TimeoutError:
            if before is not None and before < self._left_s:
                raise  # the caller's own limit
            raise _reset() from None
        finally:
            self._socket.settimeout(before)
            self._left_s -= time.monotonic() - began
        self._left_s = min(self._patience_s, self._left_s + len(data) / SLOWEST_BYTES_S)
        return data


def _reset() -> ConnectionResetError:
    return ConnectionResetError(errno.ECONNRESET, "the client sends too slowly")
