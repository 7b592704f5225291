"""The books on both databases: a SQLite file, and a schema of the PostgreSQL that `make services` starts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.orm import Session

import settlement

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
Sessions = Callable[[], AbstractContextManager[Session]]


@pytest.fixture
def now() -> datetime:
    return NOW


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    if request.param == "sqlite":
        opened = sqlite_books(tmp_path)
    else:
        opened = postgresql_books(request.getfixturevalue("postgres_server_url"))
    with opened as made:
        settlement.metadata.create_all(made)
        with made.begin() as connection:
            for statement in [*settlement.append_only_ddl(request.param), *settlement.views.values()]:
                connection.execute(text(statement))
        yield made


@pytest.fixture
def sessions(engine: Engine) -> Sessions:
    """A function that opens one committed transaction."""
    return lambda: transaction(engine)


@contextmanager
def transaction(engine: Engine) -> Iterator[Session]:
    with Session(engine) as session, session.begin():
        yield session


@contextmanager
def sqlite_books(folder: Path) -> Iterator[Engine]:
    engine = create_engine(
        f"sqlite:///{folder / 'books.sqlite'}", connect_args={"timeout": 60, "isolation_level": None}
    )

    @event.listens_for(engine, "connect")
    def _on_connect(connection: Any, _: object) -> None:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA foreign_keys = ON")

    @event.listens_for(engine, "begin")
    def _on_begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    yield engine
    engine.dispose()


@contextmanager
def postgresql_books(url: str) -> Iterator[Engine]:
    """A schema of its own in the test server's database, dropped afterwards."""
    schema = f"books_{uuid4().hex}"
    outer = create_engine(url)
    with outer.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {schema}"))
    engine = create_engine(url, connect_args={"options": f"-csearch_path={schema}"}, pool_size=16)
    yield engine
    engine.dispose()
    with outer.begin() as connection:
        connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))
    outer.dispose()
