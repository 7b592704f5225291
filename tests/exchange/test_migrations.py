"""The migrations make the tables that the code expects, once, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, Engine, create_engine, event, inspect, text

from catalog import indexing, listings
from exchange import bootstrap, migrate
from exchange.config import Settings, SettingsError
from exchange.errors import MigrationBlocked
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


def of_words(name: str) -> bool:
    """Whether a table holds the words of the catalogue's index, which each database does in its own way."""
    return name == indexing.WORDS or name.startswith(f"{indexing.WORDS}_")


def compared(connection: Connection, **options: Any) -> list[Any]:
    """How the database differs from the code."""
    opts = {
        "include_name": lambda name, kind, _: kind != "table" or not of_words(name),
        **options,
    }
    return list(compare_metadata(MigrationContext.configure(connection, opts=opts), METADATAS))


def test_migrations_make_exactly_the_tables_of_the_code(connection: Connection) -> None:
    assert compared(connection, compare_server_default=True) == []
    names = {table.name for metadata in metadatas for table in metadata.sorted_tables}
    found = inspect(connection).get_table_names()
    assert {name for name in found if not of_words(name)} == names | {"alembic_version"}
    assert indexing.WORDS in found


def test_the_words_of_the_index_are_kept_as_the_code_says(connection: Connection, tmp_path: Path) -> None:
    made = create_engine(f"sqlite:///{tmp_path}/fresh.db")
    if connection.dialect.name == "sqlite":
        listings.metadata.create_all(made)
        asked = text("SELECT sql FROM sqlite_master WHERE name LIKE 'search_words%' ORDER BY name")
        with made.connect() as fresh:
            assert fresh.execute(asked).all() == connection.execute(asked).all()
    else:
        (told,) = connection.execute(
            text("SELECT indexdef FROM pg_indexes WHERE indexname = 'search_words_by_word'")
        ).scalars()
        assert "USING gin (words) WITH (fastupdate=off)" in told
    made.dispose()


#: What 0023 replaced.
BEFORE_THE_INDEX = (
    "DROP TABLE listing_draft_file",
    "DROP TABLE listing_draft",
    "DROP TABLE search_words",
    "DROP TABLE search_facet",
    "DROP TABLE search_entry",
    "ALTER TABLE listing ADD COLUMN folded_title TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE listing ADD COLUMN folded_description TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE listing ADD COLUMN folded_keywords TEXT NOT NULL DEFAULT ''",
    "UPDATE alembic_version SET version_num = '0022'",
)


def test_what_is_on_offer_is_entered_into_the_index(stand: Stand) -> None:
    """A database of the release before: what is found afterwards is what was found when it was published."""

    def found() -> Any:
        return [
            stand.get(None, f"/?q={words}&subject=mobility&accuracy=2").text.count("Rides in the city")
            for words in ("", "rides", "zone")
        ], stand.get("buyer", "/v1/datasets").json()["facets"]

    before = found()
    assert all(before[0])
    engine = create_engine(stand.settings.database_url)
    with engine.begin() as connection:
        for statement in BEFORE_THE_INDEX:
            connection.execute(text(statement))
    engine.dispose()
    assert migrate.upgrade(stand.settings.database_url) == migrate.newest()
    assert found() == before
    engine = create_engine(stand.settings.database_url)
    with engine.begin() as connection:
        migrate.reindex(connection)
    engine.dispose()
    assert found() == before


def test_migrations_make_the_views_and_triggers_of_the_code(connection: Connection) -> None:
    assert set(inspect(connection).get_view_names()) == set(views)
    assert triggers(connection) == dict.fromkeys(append_only, 2)
    for name in views:
        connection.execute(text(f"SELECT * FROM {name}")).all()


def test_a_changed_table_is_found(sqlite_stand: Stand) -> None:
    """The comparison above can fail: a planted column is a difference."""
    for connection in connected(sqlite_stand):
        connection.execute(text("ALTER TABLE token ADD COLUMN extra INTEGER"))
        assert [(one[0], one[3].name) for one in compared(connection)] == [("remove_column", "extra")]


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
    with pytest.raises(SettingsError, match="newer release"):
        bootstrap.open_market(sqlite_stand.settings)
    with pytest.raises(SettingsError, match="newer release"):
        migrate.upgrade(sqlite_stand.settings.database_url)


def test_an_older_revision_is_told_the_next_step(sqlite_stand: Stand) -> None:
    engine = create_engine(sqlite_stand.settings.database_url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    engine.dispose()
    with pytest.raises(SettingsError, match=r"at revision 0001.*exchange migrate"):
        bootstrap.open_market(sqlite_stand.settings)


@pytest.mark.postgres
def test_a_migration_lets_go_of_what_others_hold(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits a little, tells who holds it, tries again, and gives up with nothing changed."""
    migrate.upgrade(postgres_url)
    monkeypatch.setattr(migrate, "LOCK_TIMEOUT_S", 1)
    monkeypatch.setattr(migrate, "PAUSE_S", 0.0)
    monkeypatch.setattr(migrate, "ATTEMPTS", 2)
    told: list[str] = []
    engine = create_engine(postgres_url, connect_args={"application_name": "a long report"})
    with engine.begin() as connection:
        connection.execute(text("LOCK TABLE alembic_version IN ACCESS EXCLUSIVE MODE"))
        with pytest.raises(MigrationBlocked, match="a long report"):
            migrate.upgrade(postgres_url, tell=told.append)
    engine.dispose()
    assert [line.partition(":")[0] for line in told] == ["attempt 1 of 2", "attempt 2 of 2"]
    assert "alembic_version" not in "".join(told), "not what it does"
    assert migrate.upgrade(postgres_url, tell=told.append) == migrate.newest()
    assert len(told) == 2


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


@pytest.mark.parametrize("lived", [3, 40, 120, 180])
def test_an_interrupted_migration_changes_nothing(database_url: str, lived: int) -> None:
    """It ends after so many changes; run again, it is as if it had not begun."""
    changes = iter(range(10_000))

    def end(_c: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        changing = statement.lstrip().upper().startswith(("CREATE", "ALTER", "DROP", "INSERT"))
        if changing and next(changes) == lived:
            raise KeyboardInterrupt

    event.listen(Engine, "before_cursor_execute", end)
    try:
        with pytest.raises(KeyboardInterrupt):
            migrate.upgrade(database_url)
    finally:
        event.remove(Engine, "before_cursor_execute", end)
    engine = create_engine(database_url)
    with engine.connect() as connection:
        assert (migrate.current(connection), inspect(connection).get_table_names()) == ("", [])
    engine.dispose()
    assert migrate.upgrade(database_url) == migrate.newest()
