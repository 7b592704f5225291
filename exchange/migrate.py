"""The database's schema: Alembic migrations for every package's tables, and the check that they were run."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from exchange.config import SettingsError

if TYPE_CHECKING:
    from sqlalchemy import Connection

_FOLDER = Path(__file__).parent / "migrations"


def upgrade(url: str) -> str:
    """Bring a database to the newest revision and return it; running it again changes nothing."""
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            command.upgrade(_config(connection), "head")
            return _current(connection)
    finally:
        engine.dispose()


def require_current(url: str) -> None:
    """Raise :class:`SettingsError` unless the database is at the newest revision, as the code is."""
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            current = _current(connection)
    finally:
        engine.dispose()
    head = ScriptDirectory.from_config(_config(None)).get_current_head()
    if current != head:
        raise SettingsError("the database is not at the newest revision: run `exchange migrate`")


def _current(connection: Connection) -> str:
    return MigrationContext.configure(connection).get_current_revision() or ""


def _config(connection: Connection | None) -> Config:
    config = Config(stdout=io.StringIO())
    config.set_main_option("script_location", str(_FOLDER))
    config.attributes["connection"] = connection
    return config
