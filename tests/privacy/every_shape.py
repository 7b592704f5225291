"""Every shape that a planner may choose for an exact part, each made the only one or the cheapest."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import duckdb

import privacy
from privacy.algebra import tables_of
from privacy.layout.documents import Served
from privacy.planned import PlannedRelease
from privacy.shapes import Sizes
from tests.privacy.conftest import SALTED

Files = Mapping[str, Iterable[str]]
STORED = {
    "rows": ("rows",),
    "a synopsis": ("rows", "synopsis"),
    "a synopsis with lengths": ("rows", "synopsis", "lengths in synopsis"),
    "a histogram": ("rows", "histogram"),
    "a histogram with lengths": ("rows", "histogram", "lengths in histogram"),
}
"""What is left of a layout, by how its parts are called: rows are what the others are made of."""
SIZES = (Sizes(1e12, 1.0, 1.0), Sizes(1.0, 1e12, 1e12))
"""Tables that make one shape or another the cheapest."""


class Database:
    """Files of a database and its layout, read in this process.

    Attributes:
        kept: what is left of the layout, by a name.
    """

    def __init__(self, files: Mapping[str, str], laid: privacy.Layout) -> None:
        self._files = {name: (path,) for name, path in files.items()}
        self._laid = laid
        self.kept = {name: _only(laid, about) for name, about in STORED.items()}
        self._connection = duckdb.connect()
        self._connection.execute("SET disabled_optimizers = 'top_n_window_elimination'; SET TimeZone = 'UTC'")
        self._connection.register("_salt", SALTED["_salt"])

    def ways(self, one: PlannedRelease) -> dict[str, Served]:
        """The shapes other than the plain files, by what they say of themselves."""
        served = [
            laid.serving(one.lowered.aggregate, self._files, sizes)
            for laid in self.kept.values()
            for sizes in SIZES
        ]
        return {way.about: way for way in served if way is not None}

    def offered(self, one: PlannedRelease) -> set[str]:
        """What the planner weighs of the whole layout against the plain files."""
        return {shape.about for shape in self._laid.shapes(one)} - {"plain files"}

    def plain(self, one: PlannedRelease) -> list[dict[str, Any]]:
        """The exact table of the plain files."""
        return self._run(
            one.candidates_sql, {name: self._files[name] for name in tables_of(one.question.input)}
        )

    def read(self, way: Served) -> list[dict[str, Any]]:
        """The exact table of another shape."""
        return self._run(way.sql, way.files)

    def _run(self, sql: str, files: Files) -> list[dict[str, Any]]:
        for name, paths in files.items():
            self._connection.execute(f'CREATE OR REPLACE VIEW "{name}" AS FROM read_parquet({list(paths)})')
        rows = self._connection.sql(sql).to_arrow_table().to_pylist()
        return [{name: in_order(value) for name, value in row.items()} for row in rows]


def _only(laid: privacy.Layout, about: tuple[str, ...]) -> privacy.Layout:
    stored = {digest: one for digest, one in laid.stored.items() if one.about.startswith(about)}
    return dataclasses.replace(laid, stored=stored)


def in_order(value: Any) -> Any:
    """Pairs of a histogram come in any order."""
    return sorted(value, key=lambda pair: pair["b"]) if isinstance(value, list) else value
