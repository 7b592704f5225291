"""A unit that makes plain SQL fail in every way, people who harm nobody, statements that tell them apart."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pyarrow as pa

import privacy

FIXTURE = Path(__file__).parent / "fixtures" / "data_dependent_errors.sql"
STATEMENTS = [
    line.strip().removesuffix(";")
    for line in FIXTURE.read_text().splitlines()
    if line.strip() and not line.startswith("--")
]
TYPES = {
    "t": {
        **dict.fromkeys(["u", "s", "c"], "text"),
        **dict.fromkeys(["i", "j"], "integer"),
        **dict.fromkeys(["f", "g"], "float"),
        "b": "boolean",
        "d": "date",
        "m": "timestamp",
    },
    "p": {"s": "text", "x": "float"},
}
POLICY = privacy.Policy.from_document(
    {
        "domain": "people:errors",
        "rho": 10.0,
        "delta": 1e-6,
        "tables": {
            "t": {
                "unit": "u",
                "columns": {
                    "i": {"bounds": [-100, 100]},
                    "f": {"bounds": [-2.5, 1000.25], "decimals": 2},
                    "c": {"keys": ["a", "b", "c"]},
                },
            },
            "p": {"public": True},
        },
    },
    TYPES,
)
ARROW = {
    "text": pa.string(),
    "integer": pa.int64(),
    "float": pa.float64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
}
SCHEMAS = {
    table: pa.schema([(name, ARROW[kind]) for name, kind in columns.items()])
    for table, columns in TYPES.items()
}


def _moment(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(f"{text}+00:00").replace(tzinfo=None)


NAN, INFINITY = float("nan"), float("inf")
FIRST, NOON, LAST = map(_moment, ("0001-01-01T00:00", "2013-05-01T12:00", "9999-12-31T23:59:59.999999"))
PLAIN: dict[str, Any] = {
    "s": "12",
    "c": "a",
    "i": 5,
    "j": 2,
    "f": 1.5,
    "g": 2.0,
    "b": True,
    "d": dt.date(2013, 5, 1),
    "m": NOON,
}
DREADFUL: list[dict[str, Any]] = [
    {"j": 0, "i": 0, "f": 0.0, "g": -0.0, "s": "", "b": False},
    {"j": 2**63 - 1, "i": 2**63 - 1, "g": 1.7e308, "f": 1e308, "s": "9223372036854775808"},
    {"j": -(2**63), "i": -(2**63), "g": -1.7e308, "f": -1e308, "s": "1e999"},
    {"g": NAN, "f": NAN, "s": "nan"},
    {"g": INFINITY, "f": -INFINITY, "s": "infinity"},
    {"s": "x", "c": "nowhere", "j": 400},
    {"s": "2013-99-99", "d": dt.date(9999, 12, 31), "m": LAST},
    {"s": "(", "d": dt.date(1, 1, 1), "m": FIRST},
    {"s": "\\", "j": -1},
    {"s": "{}{", "j": 1_000_000_000},
    dict.fromkeys(PLAIN),
]


def crowd() -> list[dict[str, Any]]:
    """People whose rows harm nobody, in every group."""
    return [
        {**PLAIN, "u": f"p{number}", "c": "abc"[number % 3], "i": number % 9 + 1, "j": number % 4 + 1}
        for number in range(40)
    ]


def victim(longest: int = 1_000_000) -> list[dict[str, Any]]:
    """One unit with everything that makes a statement fail, texts of up to so many bytes."""
    huge = {"s": "y" * longest, "j": 10}
    return [{**PLAIN, **row, "u": "victim"} for row in (*DREADFUL, huge)]


def tables(rows: list[dict[str, Any]]) -> dict[str, pa.Table]:
    public = [{"s": "12", "x": 1.0}, {"s": "x", "x": 2.0}]
    return {
        "t": pa.Table.from_pylist(rows, SCHEMAS["t"]),
        "p": pa.Table.from_pylist(public, SCHEMAS["p"]),
    }


def quote(sql: str) -> tuple[privacy.Plan | None, dict[str, Any]]:
    """All that is told before any file is opened."""
    try:
        plan = privacy.plan(sql, POLICY, rho=0.1)
    except privacy.Refused as refused:
        place = [refused.line, refused.column]
        return None, {"status": refused.code, "text": str(refused), "hint": refused.hint, "place": place}
    return plan, {
        "status": "planned",
        "cost": plan.cost,
        "epsilon": plan.epsilon,
        "columns": plan.columns,
        "explained": plan.explain(),
        "sql": plan.sql,
    }
