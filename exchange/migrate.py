"""The database's schema: Alembic migrations for every package's tables, and the check that they were run."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import create_engine, inspect, text

from exchange.config import SettingsError

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection

_FOLDER = Path(__file__).parent / "migrations"
_REVISION, _BEFORE = r'^revision = "(\w+)"$', r'^down_revision = "(\w+)"$'


def upgrade(url: str) -> str:
    """Bring a database to the newest revision and return it; running it again changes nothing."""
    from alembic import command  # here alone: half a second that only a migration needs

    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            command.upgrade(_config(connection), "head")
            return current(connection)
    finally:
        engine.dispose()


def require_current(url: str) -> None:
    """Raise :class:`SettingsError` unless the database is at the newest revision, as the code is."""
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            stands = current(connection)
    finally:
        engine.dispose()
    if stands != newest():
        raise SettingsError("the database is not at the newest revision: run `exchange migrate`")


def current(connection: Connection) -> str:
    """The revision that a database is at; empty for one that was never migrated."""
    if not inspect(connection).has_table("alembic_version"):
        return ""
    return str(connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one())


def newest() -> str:
    """The newest revision: the one that no other builds on. Numbers name revisions and do not order them."""
    texts = [path.read_text() for path in (_FOLDER / "versions").glob("[0-9]*.py")]
    named, built_on = (set(re.findall(line, "\n".join(texts), re.MULTILINE)) for line in (_REVISION, _BEFORE))
    (head,) = named - built_on
    return str(head)


def _config(connection: Connection) -> Config:
    from alembic.config import Config

    config = Config(stdout=io.StringIO())
    config.set_main_option("script_location", str(_FOLDER))
    config.attributes["connection"] = connection
    return config
