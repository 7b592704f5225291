"""Pairs of neighbouring databases: the same people, and one more, made to move the answer as far as can be.

Neighbours differ by all rows of one unit. The unit that is there or not is called `VICTIM`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

import privacy

Row = dict[str, Any]
Tables = Mapping[str, pa.Table]

VICTIM = "victim"
CAPS = {"max_groups": 2, "max_rows_per_group": 3, "max_rows": 4}
COPIES = 4_000

DOCUMENT: dict[str, Any] = {
    "domain": "people:audit",
    "rho": 1000.0,
    "delta": 1e-3,
    "max_delta_per_query": 1e-3,
    "min_rho_per_query": 1e-6,
    "tables": {
        "visits": {
            "unit": "person",
            **CAPS,
            "columns": {
                "ward": {"keys": ["a", "b", "c"]},
                "day": {"keys": [1, 2, 3]},
                "code": {"keys": "private"},
                "cost": {"bounds": [-10, 25]},
                "score": {"bounds": [-1.5, 2.25], "decimals": 2},
                "copy": {"keys": list(range(COPIES))},
            },
        },
        "wards": {"public": True},
    },
}
TYPES = {
    "visits": {
        **dict.fromkeys(["person", "ward", "code", "note"], "text"),
        **dict.fromkeys(["day", "cost", "copy"], "integer"),
        "score": "float",
    },
    "wards": {"ward": "text", "city": "text"},
}
POLICY = privacy.Policy.from_document(DOCUMENT, TYPES)

_ARROW = {"text": pa.string(), "integer": pa.int64(), "float": pa.float64()}
SCHEMAS = {
    name: pa.schema([(column, _ARROW[kind]) for column, kind in columns.items()])
    for name, columns in TYPES.items()
}


@dataclass(frozen=True)
class Pair:
    """Neighbours: `larger` has everything of `smaller`, and the victim."""

    larger: Tables
    smaller: Tables


def visit(person: str = VICTIM, **columns: Any) -> Row:
    """A row of somebody, ordinary where nothing is said."""
    row: Row = {"ward": "a", "day": 1, "code": "common", "cost": 5, "score": 0.5, "note": "n", "copy": 0}
    return {"person": person, **row, **columns}


def crowd(people: int = 60) -> list[Row]:
    """People with a few rows each, in every ward and on every day."""
    return [
        visit(f"p{number}", ward="abc"[(number + row) % 3], day=1 + (number + row) % 3, cost=number % 20)
        for number in range(people)
        for row in range(1 + number % 4)
    ]


def neighbours(victim: Sequence[Row], others: Sequence[Row] | None = None) -> Pair:
    """The others (by default a crowd) with the victim's rows and without."""
    rows = crowd() if others is None else list(others)
    assert all(row["person"] == VICTIM for row in victim)
    assert all(row["person"] != VICTIM for row in rows)
    return Pair(tables([*victim, *rows]), tables(rows))


def tables(rows: Sequence[Row], copies_of_a_ward: int = 1) -> Tables:
    """The rows as tables; the public table has each ward so many times."""
    wards = [{"ward": ward, "city": city} for ward, city in (("a", "N"), ("b", "S"), ("c", "S"))]
    return {
        "visits": pa.Table.from_pylist(list(rows), SCHEMAS["visits"]),
        "wards": pa.Table.from_pylist(wards * copies_of_a_ward, SCHEMAS["wards"]),
    }


def million(**columns: Any) -> Pair:
    """A victim with 10^6 equal rows beside a crowd."""
    row = visit(**columns)
    others = tables(crowd())
    heavy = pa.table(
        {name: pa.repeat(pa.scalar(row[name], SCHEMAS["visits"].field(name).type), 10**6) for name in row}
    )
    visits = pa.concat_tables([heavy.select(SCHEMAS["visits"].names), others["visits"]])
    return Pair({**others, "visits": visits}, others)
