"""The worker's turn: of the workers of one exchange, one at a time makes the rounds; the others stand by.

On PostgreSQL a turn is a session's advisory lock, on a connection of its own: the server takes it back when
the process ends, however it ends, and when nothing was heard of it for :data:`LEASE_S`. On SQLite it is a
lock on a file of the home, which the kernel takes back with the process.

A turn spares double work, and entries of those who came second. What may never happen twice does not rest on
it: the log's folder has a lock of its own, and every command looks at the state that it changes.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import threading
from typing import TYPE_CHECKING, Protocol

from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Connection

LEASE_S = 20
"""Seconds without a sign of life after which PostgreSQL gives a turn to another worker."""
HEARTBEAT_S = 4.0
_KEY = 7306003  # any constant, other than the store's: the turn of this application's workers
_LOG = logging.getLogger("exchange.worker")
# What a server or a client may wait for the other before it takes the line as cut: seconds, milliseconds.
_SERVER = {
    "idle_session_timeout": f"{LEASE_S}s",
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "3",
    "tcp_keepalives_count": "3",
}
_CLIENT = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    "application_name": "exchange worker",
}


class Turn(Protocol):
    """Held by at most one worker of an exchange."""

    def take(self) -> bool:
        """Take the turn if nobody has it, without waiting; returns whether it is held now."""

    def held(self) -> bool:
        """Whether it is held, as far as is known."""

    def release(self) -> None:
        """Let another have it."""


def turn(database_url: str, home: Path) -> Turn:
    """The turn of the workers on this database."""
    if database_url.startswith("sqlite"):
        return FileTurn(home / "worker.lock")
    return SessionTurn(database_url)


class FileTurn:
    """A lock on a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None

    def take(self) -> bool:
        """Take it without waiting."""
        if self._file is not None:
            return True
        opened = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(opened)
            return False
        self._file = opened
        return True

    def held(self) -> bool:
        """Whether it was taken: only its holder's end takes it away."""
        return self._file is not None

    def release(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


class SessionTurn:
    """An advisory lock of PostgreSQL's, held by a session that a thread keeps alive."""

    def __init__(self, url: str) -> None:
        options = " ".join(f"-c {name}={value}" for name, value in _SERVER.items())
        self._engine = create_engine(
            url,
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
            connect_args={**_CLIENT, "options": options},
        )
        self._mutex = threading.Lock()
        self._connection: Connection | None = None
        self._ended = threading.Event()

    def take(self) -> bool:
        """Take it without waiting. Raises DBAPIError where the database does not answer."""
        if self._alive():
            return True
        connection = self._engine.connect()
        try:
            got = connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": _KEY}).scalar_one()
        except DBAPIError:
            connection.close()
            raise
        if not got:
            connection.close()
            return False
        with self._mutex:
            self._connection = connection
        self._ended.clear()
        threading.Thread(target=self._keep_alive, args=(connection,), name="turn", daemon=True).start()
        return True

    def held(self) -> bool:
        """Whether the session was there at the last sign of life."""
        return self._connection is not None

    def release(self) -> None:
        """End the session."""
        self._ended.set()
        self._drop()
        self._engine.dispose()

    def _keep_alive(self, mine: Connection) -> None:
        while not self._ended.wait(HEARTBEAT_S):
            if self._connection is not mine or not self._alive():
                return

    def _alive(self) -> bool:
        with self._mutex:
            if self._connection is None:
                return False
            try:
                self._connection.execute(text("SELECT 1"))
            except DBAPIError:
                _LOG.warning("the worker's turn was lost: the database ended its session")
            else:
                return True
        self._drop()
        return False

    def _drop(self) -> None:
        with self._mutex:
            connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(DBAPIError):
                connection.invalidate()  # ends the session at once, whatever state it is in
                connection.close()
