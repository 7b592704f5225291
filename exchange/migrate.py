"""The database's schema: Alembic migrations for every package's tables, and the check that they were run."""

from __future__ import annotations

import io
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, event, inspect, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from exchange.config import SettingsError
from exchange.database import SECURE_DELETE
from exchange.errors import MigrationBlocked

if TYPE_CHECKING:
    from collections.abc import Callable

    from alembic.config import Config
    from sqlalchemy import Connection, Engine

_FOLDER = Path(__file__).parent / "migrations"
LOCK_TIMEOUT_S, ATTEMPTS, PAUSE_S = 3, 10, 2.0
"""Seconds to wait for a lock, how often that is tried, and the pause in between."""
_KEY = 7306002  # any constant, other than the store's
_LOCK_NOT_AVAILABLE = "55P03"
_REVISION, _BEFORE = r'^revision = "(\w+)"$', r'^down_revision = "(\w+)"$'


def upgrade(url: str, *, tell: Callable[[str], None] = lambda _: None) -> str:
    """Bring a database to the newest revision and return it; running it again changes nothing.

    After a change of the revision the catalogue's index is made anew (:func:`reindex`).

    All of it is one transaction. On PostgreSQL it waits :data:`LOCK_TIMEOUT_S` for a lock, so that requests
    that queue up behind it are not held for longer, then lets go and tries again.

    Args:
        tell: told what blocks, before each further attempt.

    Raises:
        MigrationBlocked: after :data:`ATTEMPTS`; nothing was changed.
        SettingsError: the database is newer than this program.
    """
    engine = _opened(url)
    try:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return _upgraded(engine)
            except OperationalError as error:
                if getattr(error.orig, "sqlstate", "") != _LOCK_NOT_AVAILABLE:
                    raise
                blocking = _blocking(engine)
                tell(f"attempt {attempt} of {ATTEMPTS}: waiting for {blocking}")
                if attempt < ATTEMPTS:
                    time.sleep(PAUSE_S)
        raise MigrationBlocked(f"the migration was blocked {ATTEMPTS} times by {blocking}")
    finally:
        engine.dispose()


def _opened(url: str) -> Engine:
    """An engine whose transaction holds changes of tables too: SQLite's driver would begin after them."""
    engine = create_engine(url)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _leave_beginning)
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine


def _leave_beginning(connection: Any, _record: object) -> None:
    connection.isolation_level = None
    connection.execute(f"PRAGMA {SECURE_DELETE}")


def _upgraded(engine: Engine) -> str:
    from alembic import command  # here alone: half a second that only a migration needs

    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_S}s'"))
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_KEY})"))  # two at once: one waits
        before = current(connection)
        _require_known(before)
        command.upgrade(_config(connection), "head")
        after = current(connection)
        if after != before:
            reindex(connection)
        return after


def reindex(connection: Connection) -> None:
    """Enter what is on offer into the catalogue's index anew, by the rules of this release.

    No revision does so by itself: it would do something else with each release. Again it changes nothing.
    """
    from exchange import facets  # here alone: what privacy is computed with, which only a migration needs

    with Session(connection, join_transaction_mode="rollback_only") as session:
        facets.fill(session)
        session.flush()


def _blocking(engine: Engine) -> str:
    """Who holds tables of this database: program, process and for how long, and nothing of what it does."""
    statement = text(
        "SELECT DISTINCT a.pid, COALESCE(NULLIF(a.application_name, ''), 'a program') AS program, a.state, "
        "ROUND(EXTRACT(EPOCH FROM now() - a.xact_start)) AS seconds "
        "FROM pg_stat_activity a JOIN pg_locks l ON l.pid = a.pid "
        "WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.xact_start IS NOT NULL "
        "AND l.granted AND l.locktype IN ('relation', 'advisory') ORDER BY seconds DESC LIMIT 5"
    )
    with engine.connect() as connection:
        rows = connection.execute(statement).all()
    told = [f"{row.program} (process {row.pid}, {row.state}, for {row.seconds} s)" for row in rows]
    return "; ".join(told) or "a transaction that has ended meanwhile"


def require_current(url: str) -> None:
    """Raise :class:`SettingsError` unless the database is at the newest revision, as the code is."""
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            stands = current(connection)
    finally:
        engine.dispose()
    _require_known(stands)
    if stands != newest():
        raise SettingsError(
            f"the database is at revision {stands or 'none'}, this program needs {newest()}: "
            "back it up (`exchange backup`), then run `exchange migrate`"
        )


def is_known(revision: str) -> bool:
    """Whether this program has the revision: a database of a newer release has another."""
    return revision in _revisions()[0]


def _require_known(stands: str) -> None:
    if stands and not is_known(stands):
        raise SettingsError(
            f"the database is at revision {stands}, which this program does not know: "
            "install the newer release that made it, or restore a backup from before it"
        )


def current(connection: Connection) -> str:
    """The revision that a database is at; empty for one that was never migrated."""
    if not inspect(connection).has_table("alembic_version"):
        return ""
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    return str(found or "")


def newest() -> str:
    """The newest revision: the one that no other builds on. Numbers name revisions and do not order them."""
    named, built_on = _revisions()
    (head,) = named - built_on
    return str(head)


def _revisions() -> tuple[set[str], set[str]]:
    """Every revision, and those that another builds on."""
    texts = [path.read_text() for path in (_FOLDER / "versions").glob("[0-9]*.py")]
    named, built_on = (set(re.findall(line, "\n".join(texts), re.MULTILINE)) for line in (_REVISION, _BEFORE))
    return named, built_on


def _config(connection: Connection) -> Config:
    from alembic.config import Config

    config = Config(stdout=io.StringIO())
    config.set_main_option("script_location", str(_FOLDER))
    config.attributes["connection"] = connection
    return config
