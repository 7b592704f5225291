"""Clients who send a request slowly, or half of it: they are cut off, and their threads serve others."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from exchange import connections
from tests.market.processes import Web, ending, until
from tests.market.stand import Stand

PATIENCE_S, THREADS = 2, 2
HALF = {
    "a line": b"GET /heal",
    "a head": b"GET /healthz HTTP/1.1\r\nHost: exchange\r\n",
    "a body": b"POST /sign-in HTTP/1.1\r\nHost: exchange\r\nContent-Length: 100\r\n"
    b"Content-Type: application/x-www-form-urlencoded\r\n\r\nlogin=",
}


@pytest.fixture
def web(sqlite_stand: Stand, tmp_path: Path) -> Iterator[Web]:
    told = {"EXCHANGE_WEB_THREADS": str(THREADS), "EXCHANGE_CLIENT_PATIENCE_S": str(PATIENCE_S)}
    (sqlite_stand.home / "swept").touch()
    with ending() as running:
        made = Web({**sqlite_stand.environ, **told}, tmp_path)
        running.append(made)
        made.until_ready()
        yield made


def connected(web: Web, sent: bytes) -> socket.socket:
    line = socket.create_connection(("127.0.0.1", web.port), timeout=30)
    line.sendall(sent)
    return line


def heard(line: socket.socket) -> bytes:
    """All that is answered until the other end closes."""
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while part := line.recv(4096):
            parts.append(part)
    return b"".join(parts)


def drip(line: socket.socket, seconds: float = 30) -> None:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        line.sendall(b"x")
        time.sleep(0.1)


@pytest.mark.parametrize("half", HALF)
def test_half_a_request_holds_no_thread(web: Web, half: str) -> None:
    with contextlib.ExitStack() as held:
        lines = [held.enter_context(connected(web, HALF[half])) for _ in range(2 * THREADS)]
        assert web.answers("/healthz") == 200
        for line in lines:
            assert b" 200 " not in heard(line)


def test_a_byte_now_and_then_holds_no_thread(web: Web) -> None:
    with connected(web, b"GET /healthz HTTP/1.1\r\n") as line, pytest.raises(OSError, match=r"pipe|reset"):
        drip(line)


def test_who_pauses_for_less_is_answered(web: Web) -> None:
    with connected(web, b"GET /healthz HTTP/1.1\r\nHost: exch") as line:
        begun = time.monotonic()
        until(lambda: time.monotonic() > begun + PATIENCE_S / 4)
        line.sendall(b"ange\r\nConnection: close\r\n\r\n")
        assert b" 200 " in heard(line)


def test_who_takes_nothing_of_a_reply_holds_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "UNREAD_S", 1)
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        taken, _ = server.accept()
        with taken, pytest.raises(TimeoutError):
            connections.PromptSocket(taken, PATIENCE_S).sendall(bytes(64 << 20))
