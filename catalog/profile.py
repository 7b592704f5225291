"""What a provider sees of the own table: counts, extremes, common values, rows per unit; and whether its keys
are keys. Ingest process only.

It reads the rewritten parts, which are ours, and shows values of single rows, so it is for the provider's
eyes.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow.dataset as ds
from pyarrow.parquet import encryption

from catalog.errors import InvalidUpload

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import pyarrow as pa

_MEMORY_MIB = 256
_COMMON, _RANGES = 10, 20
_NUMBERS, _TIMES = ("integer", "float", "decimal"), ("date", "timestamp")
_SHOWN_CHARACTERS = 100
_MOST_DISTINCT_TO_COUNT = 1_000_000
_QUANTILES = {"q25": 0.25, "median": 0.5, "q75": 0.75, "q90": 0.9, "q99": 0.99}


def profile_table(
    parts: Sequence[Path],
    schema: pa.Schema,
    *,
    unit: str | None,
    scratch: Path,
    memory: int,
    key: bytes | None = None,
    histograms: bool = False,
) -> dict[str, Any]:
    """Profile a rewritten table, which is encrypted where there is a key.

    Returns ``{"columns": [{name, nulls, distinct, min, max, common}], "unit": {column, units,
    rows_per_unit}}``; ``distinct`` is approximate, extremes and common values are texts, ``unit`` is None for
    a public table. With ``histograms`` a column of numbers or times has ``histogram`` besides: how many rows
    lie in each of 20 ranges of equal width from min to max, or None where there is one value alone; and with
    a unit, each common value of another column has ``units`` besides: how many different units have it.
    """
    with _opened(parts, scratch, memory, key) as connection:
        columns = [_column(connection, field) for field in schema]
        if histograms:
            for column, field in zip(columns, schema, strict=True):
                column["histogram"] = _histogram(connection, field)
                if unit and field.name != unit:
                    _count_units(connection, column, unit)
        return {"columns": columns, "unit": _unit(connection, unit) if unit else None}


def check_keys(
    parts: Sequence[Path],
    schema: pa.Schema,
    *,
    table: str,
    keys: Sequence[str],
    scratch: Path,
    memory: int,
    key: bytes | None = None,
) -> None:
    """Raises InvalidUpload with the column's name unless each row has a value of its own in each key. Letter
    case of names does not matter; a key that is no column is passed over."""
    named = {field.name.lower(): field.name for field in schema}
    with _opened(parts, scratch, memory, key) as connection:
        for name in dict.fromkeys(name.lower() for name in keys):
            if name in named:
                _check_key(connection, table, named[name])


def _check_key(connection: duckdb.DuckDBPyConnection, table: str, key: str) -> None:
    name, told = _quoted(key), f"A path leads to the column `{key}` of `{table}`, and "
    ((missing,),) = connection.execute(f"SELECT count(*) > count({name}) FROM t").fetchall()  # noqa: S608
    if missing:
        raise InvalidUpload("key_not_unique", f"{told}a row has no value there.", table=table, column=key)
    # Grouped and not count(DISTINCT), because groups go to the scratch folder where memory ends.
    again = f"SELECT 1 FROM t GROUP BY {name} HAVING count(*) > 1 LIMIT 1"  # noqa: S608 - a quoted identifier
    if connection.execute(again).fetchall():
        raise InvalidUpload("key_not_unique", f"{told}two rows have the same.", table=table, column=key)


@contextmanager
def _opened(
    parts: Sequence[Path], scratch: Path, memory: int, key: bytes | None
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection whose view ``t`` is the rewritten table."""
    config: dict[str, str | bool | int | float | list[str]] = {
        "threads": "1",
        "memory_limit": f"{min(_MEMORY_MIB, memory // 4 >> 20)}MiB",  # beyond it, to the scratch folder
        "temp_directory": str(scratch),
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
    }
    with duckdb.connect(config=config) as connection:
        if key is None:
            files = ", ".join(_literal(str(part)) for part in parts)
            connection.execute(f"CREATE VIEW t AS SELECT * FROM read_parquet([{files}])")  # noqa: S608
        else:
            connection.register("t", _decrypted(parts, key))
        yield connection


def _decrypted(parts: Sequence[Path], key: bytes) -> ds.Dataset:
    properties = encryption.create_decryption_properties(key)
    options = ds.ParquetFragmentScanOptions(decryption_properties=properties)
    form = ds.ParquetFileFormat(default_fragment_scan_options=options)
    return ds.dataset([str(part) for part in parts], format=form)


def _column(connection: duckdb.DuckDBPyConnection, field: pa.Field) -> dict[str, Any]:
    name = _quoted(field.name)
    nulls, distinct, low, high = connection.execute(
        f"SELECT count(*) - count({name}), "  # noqa: S608 - a quoted identifier
        f"least(approx_count_distinct({name}), count({name})), "
        f"CAST(min({name}) AS VARCHAR), CAST(max({name}) AS VARCHAR) FROM t"
    ).fetchall()[0]
    return {
        "name": field.name,
        "nulls": nulls,
        "distinct": distinct,
        "min": _short(low),
        "max": _short(high),
        "common": _common(connection, name) if 0 < distinct <= _MOST_DISTINCT_TO_COUNT else [],
    }


def _common(connection: duckdb.DuckDBPyConnection, name: str) -> list[dict[str, Any]]:
    rows = connection.execute(
        f"SELECT CAST({name} AS VARCHAR) AS v, count(*) AS n FROM t WHERE {name} IS NOT NULL "  # noqa: S608
        f"GROUP BY v ORDER BY n DESC, v LIMIT {_COMMON}"
    ).fetchall()
    return [{"value": _short(value), "rows": count} for value, count in rows]


def _histogram(connection: duckdb.DuckDBPyConnection, field: pa.Field) -> list[int] | None:
    if field.type not in (*_NUMBERS, *_TIMES):
        return None
    name = _quoted(field.name)
    value = f"epoch({name})" if field.type in _TIMES else f"CAST({name} AS DOUBLE)"
    rows = connection.execute(
        f"WITH e AS (SELECT min({value}) AS low, max({value}) AS high FROM t) "  # noqa: S608
        f"SELECT CAST(least(floor(({value} - low) / ((high - low) / {_RANGES})), {_RANGES - 1}) AS INTEGER), "
        f"count(*) FROM t, e WHERE {name} IS NOT NULL AND high > low GROUP BY 1"
    ).fetchall()
    if not rows:
        return None
    found = {int(place): int(count) for place, count in rows}
    return [found.get(place, 0) for place in range(_RANGES)]


def _unit(connection: duckdb.DuckDBPyConnection, unit: str) -> dict[str, Any]:
    points = ", ".join(f"quantile_disc(n, {share})" for share in _QUANTILES.values())
    units, low, high, *inner = connection.execute(
        f"SELECT count(*), min(n), max(n), {points} "  # noqa: S608
        f"FROM (SELECT count(*) AS n FROM t GROUP BY {_quoted(unit)})"
    ).fetchall()[0]
    return {
        "column": unit,
        "units": units,
        "rows_per_unit": {"min": low, **dict(zip(_QUANTILES, inner, strict=True)), "max": high},
    }


def _count_units(connection: duckdb.DuckDBPyConnection, column: dict[str, Any], unit: str) -> None:
    """Count the units that have each common value."""
    if not column["common"]:
        return
    name = _quoted(column["name"])
    inner = f"SELECT CAST({name} AS VARCHAR) AS v, {_quoted(unit)} AS u FROM t WHERE {name} IS NOT NULL"  # noqa: S608
    values = [one["value"] for one in column["common"]]
    marks = ", ".join("?" for _ in values)
    # Grouped and not count(DISTINCT), because groups go to the scratch folder where memory ends.
    pairs = f"SELECT v, u FROM ({inner}) WHERE v IN ({marks}) GROUP BY v, u"  # noqa: S608
    found = connection.execute(f"SELECT v, count(*) FROM ({pairs}) GROUP BY v", values).fetchall()  # noqa: S608
    units = dict(found)
    for one in column["common"]:
        one["units"] = units.get(one["value"], 0)  # a value that was cut counts as nobody's


def _short(text: str | None) -> str | None:
    return text if text is None else text[:_SHOWN_CHARACTERS]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
