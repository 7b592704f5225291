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
        "bills": {"unit": "person", **CAPS, "columns": {"amount": {"bounds": [0, 50]}}},
        "items": {
            "unit": "person",
            "path": [{"from": "bill", "table": "bills", "to": "bill"}],
            **CAPS,
            "columns": {"price": {"bounds": [0, 9]}},
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
    "bills": {**dict.fromkeys(["person", "bill"], "text"), "amount": "integer"},
    "items": {"bill": "text", "price": "integer"},
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
    """The rows as tables; the public one has each ward so many times, each visit a bill of two items."""
    wards = [{"ward": ward, "city": city} for ward, city in (("a", "N"), ("b", "S"), ("c", "S"))]
    bills = [
        {"person": row["person"], "bill": f"{row['person']}:{place}", "amount": row["cost"]}
        for place, row in enumerate(rows)
    ]
    items = [{"bill": bill["bill"], "price": price} for bill in bills for price in (3, 10**6)]
    made = {"visits": rows, "bills": bills, "items": items, "wards": wards * copies_of_a_ward}
    return {name: pa.Table.from_pylist(list(made[name]), SCHEMAS[name]) for name in SCHEMAS}


def million(**columns: Any) -> Pair:
    """A victim with 10^6 equal rows beside a crowd."""
    row = visit(**columns)
    others = tables(crowd())
    heavy = pa.table(
        {name: pa.repeat(pa.scalar(row[name], SCHEMAS["visits"].field(name).type), 10**6) for name in row}
    )
    visits = pa.concat_tables([heavy.select(SCHEMAS["visits"].names), others["visits"]])
    return Pair({**others, "visits": visits}, others)


# Victims


def heavy(**columns: Any) -> Pair:
    """A victim with far more rows than count, all alike."""
    return neighbours([visit(**columns)] * 200)


def everywhere(**columns: Any) -> Pair:
    """A victim with many rows in every public group."""
    rows = [visit(ward=ward, day=day, **columns) for ward in "abc" for day in (1, 2, 3)]
    return neighbours(rows * 5)


def lonely(keys: int = 1, rows: int = 1, others: bool = False) -> Pair:
    """A victim with keys of its own, in a database of its own or in a crowd."""
    own = [visit(code=f"only{key}") for key in range(keys) for _ in range(rows)]
    return neighbours(own, None if others else [])


def nasty() -> Pair:
    """A victim whose numbers are missing, not numbers, infinite or far beyond their bounds."""
    costs = [None, 2**63 - 1, -(2**63), 25, 25, 25]
    odd = [float("nan"), float("inf"), -float("inf"), 1e300, None, -0.0]
    return neighbours([visit(cost=a, score=b) for a, b in zip(costs, odd, strict=True)])


def even() -> Pair:
    """Two wards of the same size but for the victim, so that the victim decides which one is first."""
    others = [visit(f"{ward}{number}", ward=ward) for ward in "ab" for number in range(40)]
    return neighbours([visit(ward="b")] * 5, others)


def torn() -> Pair:
    """A victim whose rows lie at both ends of the bounds."""
    return neighbours([visit(cost=-10, score=-1.5)] * 100 + [visit(cost=25, score=2.25)] * 50)


def climbing() -> Pair:
    """A victim whose numbers jump from one end of the bounds to the other."""
    return neighbours([visit(day=1, cost=-10), visit(day=2, cost=25), visit(day=3, cost=-10)] * 40)


def multiplied() -> Pair:
    """A victim whose rows are joined to 32 rows of a public table each, ten thousand in all."""
    with_victim = tables([visit()] * 320 + crowd(), copies_of_a_ward=32)
    return Pair(with_victim, tables(crowd(), copies_of_a_ward=32))
