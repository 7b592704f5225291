"""Random rows of a public schema, in pure Python: no data is involved, only what the policy declares."""

from __future__ import annotations

import datetime
import random
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exchange.client.listings import Column, Table

_PRIVATE_KEYS = 20
_UNITS_PER_ROW = 0.25
_DAY = datetime.date(2026, 1, 1)


def mock_tables(tables: Sequence[Table], rows: int, *, seed: int | None) -> dict[str, list[dict[str, Any]]]:
    """``rows`` random rows for each table; the same ``seed`` gives the same rows."""
    if rows < 0:
        raise ValueError("rows must not be negative")
    return {table.name: _mock_table(table, rows, seed) for table in tables}


def _mock_table(table: Table, rows: int, seed: int | None) -> list[dict[str, Any]]:
    dice = random.Random(None if seed is None else f"{seed}:{table.name}")  # noqa: S311 - mock data
    units = max(1, int(rows * _UNITS_PER_ROW))
    made = []
    for _ in range(rows):
        row = {column.name: _value(column, dice) for column in table.columns}
        if table.unit in row:
            row[table.unit] = _unit(table, dice.randrange(units))
        made.append(row)
    return made


def _unit(table: Table, number: int) -> Any:
    kind = next(column.type for column in table.columns if column.name == table.unit)
    return number if kind == "integer" else f"{table.unit}-{number:06d}"


def _value(column: Column, dice: random.Random) -> Any:
    if isinstance(column.keys, tuple) and column.keys:
        return dice.choice(column.keys)
    if column.bounds:
        return _between(column, column.bounds, dice)
    return _free(column, dice)


def _between(column: Column, bounds: tuple[Any, Any], dice: random.Random) -> Any:
    low, high = bounds
    if column.type == "date":
        first, last = datetime.date.fromisoformat(low), datetime.date.fromisoformat(high)
        return first + datetime.timedelta(days=dice.randint(0, (last - first).days))
    if column.type == "timestamp":
        start, end = datetime.datetime.fromisoformat(low), datetime.datetime.fromisoformat(high)
        return start + dice.random() * (end - start)
    scale = 10 ** (column.decimals or 0)
    drawn = dice.randint(int(Decimal(str(low)) * scale), int(Decimal(str(high)) * scale))
    if column.type == "integer":
        return drawn // scale
    exact = Decimal(drawn) / scale
    return exact if column.type == "decimal" else float(exact)


def _free(column: Column, dice: random.Random) -> Any:
    number = dice.randrange(_PRIVATE_KEYS)
    made: dict[str, Any] = {
        "boolean": number % 2 == 0,
        "integer": number,
        "float": dice.random(),
        "decimal": Decimal(number),
        "date": _DAY + datetime.timedelta(days=number),
        "timestamp": datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC).replace(tzinfo=None)
        + datetime.timedelta(hours=number),
    }
    return made.get(column.type, f"{column.name}-{number:02d}")
