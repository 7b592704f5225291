"""Opening the database: what is asked of its connections, and how a transaction begins on SQLite."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, event
from sqlalchemy.exc import DBAPIError, DisconnectionError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnection

if TYPE_CHECKING:
    from sqlalchemy import Dialect, Engine

# Seconds and milliseconds until a server that does not answer at all is taken as away.
_PATIENCE = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
    # The server's side: a client that vanished inside a transaction holds the one writer's lock no longer.
    "options": "-c idle_in_transaction_session_timeout=60s -c tcp_keepalives_idle=10"
    " -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3",
}
_SQLITE_AWAY = ("database is locked", "disk I/O error", "database or disk is full", "unable to open database")
SECURE_DELETE = "secure_delete=ON"
"""What is deleted is overwritten with zeros: of a key that was erased no byte stays in SQLite's file."""
_BUSY_MS, _SCRUB_MS = 15_000, 500
_FRESH_S = 1.0  # a connection used so lately is not asked whether its server is there


def connect(url: str) -> Engine:
    """The engine of a SQLite or PostgreSQL database.

    A connection's execution options say what its next transaction is for: ``writing`` (the default), which on
    SQLite takes the database at once, or reading, which cannot write; and ``followed``, which leaves the disk
    to the next commit.
    """
    if not url.startswith("sqlite"):
        engine = create_engine(url, pool_size=24, max_overflow=0, pool_timeout=10, connect_args=_PATIENCE)
        event.listen(engine, "checkin", _note_use)
        event.listen(engine, "checkout", partial(_ping_idle, engine.dialect))
        return engine
    engine = create_engine(url, connect_args={"timeout": 15, "check_same_thread": False})
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def is_unavailable(error: Exception) -> bool:
    """Whether an error says that the database is away or takes nothing more: it stops, starts, has no
    connection or no room left. The same request may succeed later."""
    if isinstance(error, NoConnection):
        return True
    if not isinstance(error, DBAPIError):
        return False
    state = getattr(error.orig, "sqlstate", None)
    if state is not None:
        return state[:2] in {"08", "53"} or state in {"57P01", "57P02", "57P03", "57P05", "25P03"}
    told = str(error.orig)
    if any(sign in told for sign in _SQLITE_AWAY):
        return True
    # What never reached the server, or lost it on the way, has no state.
    return isinstance(error, OperationalError) and type(error.orig).__module__.startswith("psycopg")


def _note_use(_connection: Any, record: Any) -> None:
    record.info["used_at"] = time.monotonic()


def _ping_idle(dialect: Dialect, connection: Any, record: Any, _fairy: object) -> None:
    """Ask a connection that lay idle whether its server still answers; the pool replaces it otherwise.

    One that was used a moment ago is not asked: that costs as much as a statement.
    """
    if time.monotonic() - record.info.get("used_at", 0.0) < _FRESH_S:
        return
    try:
        dialect.do_ping(connection)
    except dialect.loaded_dbapi.Error as error:
        raise DisconnectionError from error


def _configure_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions are begun below, not guessed by the driver
    pragmas = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={_BUSY_MS}")
    for pragma in (*pragmas, SECURE_DELETE):
        connection.execute(f"PRAGMA {pragma}")


def empty_log(engine: Engine) -> bool:
    """Write SQLite's log of writes into the database's file and empty it; False where somebody reads it."""
    connection = engine.raw_connection()
    try:
        driver: Any = connection.driver_connection
        driver.execute(f"PRAGMA busy_timeout={_SCRUB_MS}")  # writers wait behind this
        busy, *_ = driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        driver.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
    finally:
        connection.close()
    return not busy


def _begin_sqlite(connection: Any) -> None:
    options = connection.get_execution_options()
    writing = options.get("writing", True)
    connection.exec_driver_sql(f"PRAGMA query_only = {'OFF' if writing else 'ON'}")
    if writing:  # NORMAL leaves the log of writes to the next commit in FULL, which syncs all before it
        synced = "NORMAL" if options.get("followed") else "FULL"
        connection.exec_driver_sql(f"PRAGMA synchronous = {synced}")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")
