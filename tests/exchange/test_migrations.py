"""The migrations make the tables that the code expects, once, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, create_engine, inspect, text

from exchange import bootstrap, migrate
from exchange.config import Settings, SettingsError
from exchange.schema import append_only, metadatas, views
from exchange.store import Store
from tests.market.prepared import environment
from tests.market.stand import Stand

METADATAS: Any = metadatas  # Alembic takes several, its annotation says one


def connected(stand: Stand) -> Iterator[Connection]:
    engine = create_engine(stand.settings.database_url)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


@pytest.fixture
def connection(shared_stand: Stand) -> Iterator[Connection]:
    yield from connected(shared_stand)


def triggers(connection: Connection) -> dict[str, int]:
    """How many triggers each table has."""
    sqlite = "SELECT tbl_name, COUNT(*) FROM sqlite_master WHERE type = 'trigger' GROUP BY tbl_name"
    postgresql = (
        "SELECT c.relname, COUNT(*) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid "
        "WHERE NOT t.tgisinternal GROUP BY c.relname"
    )
    statement = sqlite if connection.dialect.name == "sqlite" else postgresql
    return {row[0]: row[1] for row in connection.execute(text(statement))}


def content(connection: Connection) -> dict[str, Any]:
    """Every table with its number of rows."""
    names = inspect(connection).get_table_names()
    return {name: connection.execute(text(f"SELECT COUNT(*) FROM {name}")).scalar_one() for name in names}


def test_migrations_make_exactly_the_tables_of_the_code(connection: Connection) -> None:
    context = MigrationContext.configure(connection, opts={"compare_server_default": True})
    assert compare_metadata(context, METADATAS) == []
    names = {table.name for metadata in metadatas for table in metadata.sorted_tables}
    assert set(inspect(connection).get_table_names()) == names | {"alembic_version"}


def test_migrations_make_the_views_and_triggers_of_the_code(connection: Connection) -> None:
    assert set(inspect(connection).get_view_names()) == set(views)
    assert triggers(connection) == dict.fromkeys(append_only, 2)
    for name in views:
        connection.execute(text(f"SELECT * FROM {name}")).all()


def test_a_changed_table_is_found(sqlite_stand: Stand) -> None:
    """The comparison above can fail: a planted column is a difference."""
    for connection in connected(sqlite_stand):
        connection.execute(text("ALTER TABLE token ADD COLUMN extra INTEGER"))
        differences = compare_metadata(MigrationContext.configure(connection), METADATAS)
        assert [(difference[0], difference[3].name) for difference in differences] == [
            ("remove_column", "extra")
        ]


def test_upgrading_again_changes_nothing(shared_stand: Stand, connection: Connection) -> None:
    before = (content(connection), triggers(connection))
    connection.rollback()
    assert migrate.upgrade(shared_stand.settings.database_url) == migrate.newest()
    assert (content(connection), triggers(connection)) == before


def test_an_empty_database_is_not_served_and_can_be_upgraded(database_url: str, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    environ = environment(tmp_path / "home", database_url) | {"EXCHANGE_SECRET_KEY": "k" * 64}
    settings = Settings.from_env(environ)
    with pytest.raises(SettingsError, match="exchange migrate"):
        bootstrap.open_market(settings)
    migrate.upgrade(database_url)
    market = bootstrap.open_market(settings)
    assert (
        market.store.read(lambda session: session.execute(text("SELECT COUNT(*) FROM query")).scalar_one())
        == 0
    )
    market.close()


@pytest.mark.parametrize("revision", ["0000", "9999"])
def test_another_revision_is_not_served(sqlite_stand: Stand, revision: str) -> None:
    engine = create_engine(sqlite_stand.settings.database_url)
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE alembic_version SET version_num = '{revision}'"))
    engine.dispose()
    with pytest.raises(SettingsError, match="newest revision"):
        bootstrap.open_market(sqlite_stand.settings)


def test_the_database_of_a_home_is_created_by_init_and_again_is_no_change(tmp_path: Path) -> None:
    home = tmp_path / "home"
    environ = environment(home)
    assert bootstrap.create(home, environ) is True
    secrets = {path.name: path.read_bytes() for path in home.glob("*.env")}
    assert bootstrap.create(home, environ) is False
    assert {path.name: path.read_bytes() for path in home.glob("*.env")} == secrets
    assert sorted(secrets) == ["keys.env", "log.env"]
    assert all(path.stat().st_mode & 0o077 == 0 for path in home.glob("*.env"))
    store = Store(Settings.from_env(environ).database_url)
    assert store.read(lambda session: session.execute(text("SELECT COUNT(*) FROM journal")).scalar_one()) == 0
    store.dispose()
