"""Fixtures of the catalogue's tests: ingest of small files, and a session on either database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from catalog import InvalidUpload, listings
from catalog.ingest import Limits, TableReport, ingest_table

CONFINED = "privacy.confinement"
"""The module by which the exchange has its children confined."""

Ingest = Callable[..., TableReport]
Refuse = Callable[..., InvalidUpload]


@pytest.fixture
def ingest(tmp_path: Path) -> Ingest:
    """Ingest a file's bytes, or a table written as Parquet; every call into a folder of its own."""
    calls = iter(range(1000))

    def run(
        content: bytes | pa.Table,
        *,
        name: str = "upload",
        table: str = "t",
        unit: str | None = None,
        keys: tuple[str, ...] = (),
        limits: Limits | None = None,
    ) -> TableReport:
        folder = tmp_path / f"call{next(calls)}"
        folder.mkdir()
        source = folder / name
        if isinstance(content, bytes):
            source.write_bytes(content)
        else:
            pq.write_table(content, source)
        return ingest_table(
            source, table=table, unit=unit, keys=keys, out=folder / "out", limits=limits, confinement=CONFINED
        )

    return run


@pytest.fixture
def refuse(ingest: Ingest, tmp_path: Path) -> Refuse:
    """Ingest something that must be refused; returns the refusal, after a look that nothing was left."""

    def run(content: bytes | pa.Table, **options: object) -> InvalidUpload:
        with pytest.raises(InvalidUpload) as caught:
            ingest(content, **options)
        assert not list(tmp_path.rglob("part-*.parquet"))
        assert caught.value.hint
        assert caught.value.table == options.get("table", "t")
        return caught.value

    return run


@pytest.fixture
def session(database_url: str) -> Iterator[Session]:
    """A session on an empty database with the catalogue's tables, on SQLite and on PostgreSQL."""
    engine = create_engine(database_url)
    listings.metadata.create_all(engine)
    with Session(engine) as opened:
        yield opened
    engine.dispose()
