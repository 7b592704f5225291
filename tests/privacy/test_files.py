"""No row makes reading fail for one question and not for another, and a unit is never converted."""

from __future__ import annotations

import datetime as dt
import decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import privacy
from catalog.rewrite import Rewriter
from tests.privacy.conftest import SALT

PEOPLE = ["a", "b", "c"]
BROKEN_TEXT = pa.StringArray.from_buffers(
    3, *pa.array([b"ok", b"\xff\xfe", b"ok"], pa.binary()).buffers()[1:]
)
FAR = 9_223_372_036_854_775_807


def _policy(**types: str) -> privacy.Policy:
    document = {"domain": "d", "rho": 10, "delta": 1e-6, "tables": {"t": {"unit": "person"}}}
    return privacy.Policy.from_document(document, {"t": {"person": "text", **types}})


def _answer(sql: str, policy: privacy.Policy, files: Any, sandbox: privacy.Sandbox) -> pa.Table:
    return privacy.answer(privacy.plan(sql, policy, rho=1.0), {"t": files}, salt=SALT, sandbox=sandbox).table


def _written(folder: Path, name: str = "t", **columns: Any) -> str:
    path = folder / f"{name}.parquet"
    pq.write_table(pa.table(columns), path)
    return str(path)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("text", BROKEN_TEXT),
        ("text", BROKEN_TEXT.cast(pa.binary()).view(pa.binary()).cast(pa.binary())),
        ("text", pa.DictionaryArray.from_arrays(pa.array([0, 1, 0]), BROKEN_TEXT)),
        ("timestamp", pa.array([0, 0, FAR], pa.timestamp("ms"))),
        ("timestamp", pa.array([0, 0, 2**53], pa.timestamp("s"))),
        ("timestamp", pa.array([0, 0, FAR], pa.timestamp("ms", "UTC"))),
        ("decimal", pa.array([1, 2, 3], pa.decimal256(76, 0))),
    ],
    ids=["text", "binary", "dictionary", "milliseconds", "seconds", "zoned", "wide decimals"],
)
def test_a_column_that_may_not_be_readable_is_refused_whatever_is_asked(
    kind: str, values: pa.Array, tmp_path: Path, sandbox: privacy.Sandbox
) -> None:
    file = _written(tmp_path, person=PEOPLE, x=values)
    conditions = ["x IS NULL", "person = 'a' AND x IS NOT NULL", "person = 'nobody' AND x IS NULL"]
    if kind == "timestamp":  # the engine reads the extremes of a column even where it reads no value
        conditions.append("TRUE")
    for condition in conditions:
        with pytest.raises(privacy.TablesUnfit) as caught:
            _answer(f"SELECT count(*) AS n FROM t WHERE {condition}", _policy(x=kind), file, sandbox)
        assert caught.value.code == "tables_unfit"


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("text", pa.array(["é\U0001f600", "", None])),
        ("text", pa.array(["a", "b", "a"]).dictionary_encode()),
        ("timestamp", pa.array([0, FAR, -FAR], pa.timestamp("us"))),
        ("timestamp", pa.array([0, FAR, -FAR], pa.timestamp("ns"))),
        ("timestamp", pa.array([0, 10**12, None], pa.timestamp("ms"))),
        ("date", pa.array([0, 2**31 - 1, -(2**31)], pa.int32()).cast(pa.date32())),
        ("decimal", pa.array([decimal.Decimal(10) ** 37, None, None], pa.decimal128(38, 0))),
        ("integer", pa.array([2**64 - 1, 0, None], pa.uint64())),
        ("integer", pa.array(["x", "1", ""])),
    ],
)
def test_a_column_that_is_readable_whatever_it_holds_is_answered(
    kind: str, values: pa.Array, tmp_path: Path, sandbox: privacy.Sandbox
) -> None:
    file = _written(tmp_path, person=PEOPLE, x=values)
    answered = _answer("SELECT count(x) AS n, count(*) AS m FROM t", _policy(x=kind), file, sandbox)
    assert answered.num_rows == 1


def test_a_file_that_changed_is_checked_anew(tmp_path: Path, sandbox: privacy.Sandbox) -> None:
    sql = "SELECT count(x) AS n FROM t"
    _answer(sql, _policy(x="text"), _written(tmp_path, person=PEOPLE, x=["a", "b", "c"]), sandbox)
    with pytest.raises(privacy.TablesUnfit):
        _answer(sql, _policy(x="text"), _written(tmp_path, person=PEOPLE, x=BROKEN_TEXT), sandbox)


def test_parts_of_a_table_have_the_same_types(tmp_path: Path, sandbox: privacy.Sandbox) -> None:
    """The engine would convert the second part to the first one's type, and fail on a large value."""
    parts = [
        _written(tmp_path, "a", person=PEOPLE, x=pa.array([1, 2, 3], pa.int8())),
        _written(tmp_path, "b", person=PEOPLE, x=pa.array([1, 2, 2**40], pa.int64())),
    ]
    with pytest.raises(privacy.TablesUnfit, match="different types"):
        _answer("SELECT count(x) AS n FROM t", _policy(x="integer"), parts, sandbox)


@pytest.mark.parametrize(
    ("declared", "units"),
    [
        ("integer", pa.array(["7", "07", "x"])),
        ("text", pa.array([7, 8, 9])),
        ("integer", pa.array([7.2, 7.3, 8.0])),
        ("integer", pa.array([2**64 - 1, 7, 8], pa.uint64())),
        ("text", pa.array([b"7", b"8", b"9"], pa.binary())),
    ],
)
def test_a_unit_of_another_type_than_declared_is_refused(
    declared: str, units: pa.Array, tmp_path: Path, sandbox: privacy.Sandbox
) -> None:
    """A conversion would take '7' and '07' for one unit, which then moves two units' worth of rows."""
    policy = privacy.Policy.from_document(
        {"domain": "d", "rho": 10, "delta": 1e-6, "tables": {"t": {"unit": "person"}}},
        {"t": {"person": declared}},
    )
    with pytest.raises(privacy.TablesUnfit, match="column person"):
        _answer("SELECT count(*) AS n FROM t", policy, _written(tmp_path, person=units), sandbox)


def test_the_unit_is_not_cast() -> None:
    plan = privacy.plan("SELECT count(DISTINCT person) AS n FROM t", _policy(), rho=1.0)
    assert "TRY_CAST" not in plan.sql


def test_what_ingest_writes_is_fit(tmp_path: Path, sandbox: privacy.Sandbox) -> None:
    schema = pa.schema(
        {"person": pa.string(), "s": pa.string(), "i": pa.int64(), "f": pa.float64(), "b": pa.bool_()}
        | {"d": pa.date32(), "m": pa.timestamp("us"), "c": pa.decimal128(18, 2)}
    )
    row = ["p", "é", 1, 1.5, True, dt.date(2013, 1, 1), dt.datetime(2013, 1, 1), decimal.Decimal("1.25")]  # noqa: DTZ001
    batch = pa.record_batch(
        [pa.array([value], field.type) for value, field in zip(row, schema, strict=True)], schema
    )
    with Rewriter(tmp_path, schema, table="t", unit="person") as rewriter:
        rewriter.write(batch)
        rewriter.finish()
    kinds = {
        "s": "text",
        "i": "integer",
        "f": "float",
        "b": "boolean",
        "d": "date",
        "m": "timestamp",
        "c": "decimal",
    }
    columns = ", ".join(f"count({name}) AS {name}" for name in kinds)
    answered = _answer(f"SELECT {columns} FROM t", _policy(**kinds), [*rewriter.parts], sandbox)
    assert answered.num_columns == len(kinds)


PATH_POLICY = privacy.Policy.from_document(
    {
        "domain": "d",
        "rho": 10,
        "delta": 1e-6,
        "tables": {
            "orders": {"unit": "person"},
            "lines": {"unit": "person", "path": [{"from": "of", "table": "orders", "to": "key"}]},
        },
    },
    {"orders": {"person": "text", "key": "integer"}, "lines": {"of": "integer", "x": "integer"}},
)
LINES = {"of": [1, 1, 2, 9, None], "x": [1, 2, 3, 4, 5]}


@pytest.mark.parametrize(
    ("orders", "lines"),
    [
        ({"person": PEOPLE, "key": [1, 2, 2]}, LINES),
        ({"person": PEOPLE, "key": [1, 2, None]}, LINES),
        ({"person": PEOPLE, "key": [1.0, 2.0, 3.0]}, LINES),
        ({"person": PEOPLE, "key": [1, 2, 3]}, {**LINES, "of": [1.2, 1.4, 2.0, 9.0, None]}),
        ({"person": [1, 2, 3], "key": [1, 2, 3]}, LINES),
    ],
    ids=["repeated", "missing", "float key", "float reference", "unit of another type"],
)
@pytest.mark.parametrize("table", ["orders", "lines"])
def test_keys_on_the_way_to_a_unit_are_unique_and_never_converted(
    table: str, orders: Any, lines: Any, tmp_path: Path, sandbox: privacy.Sandbox
) -> None:
    """Otherwise a row had two owners. The same whatever is asked, of the key's table as well."""
    files = {"orders": _written(tmp_path, "orders", **orders), "lines": _written(tmp_path, "lines", **lines)}
    plan = privacy.plan(f"SELECT count(*) AS n FROM {table} WHERE 1 = 2", PATH_POLICY, rho=1.0)
    if table == "orders" and pa.types.is_floating(pa.array(lines["of"]).type):
        assert privacy.answer(plan, files, salt=SALT, sandbox=sandbox).table.num_rows == 1
        return
    with pytest.raises(privacy.TablesUnfit) as caught:
        privacy.answer(plan, files, salt=SALT, sandbox=sandbox)
    assert not any(str(value) in str(caught.value) for value in ("1.2", "9"))


def test_rows_that_lead_to_nobody_do_not_count(tmp_path: Path, sandbox: privacy.Sandbox, exact: Any) -> None:
    tables = {"orders": pa.table({"person": ["a", None, "c"], "key": [1, 2, 3]}), "lines": pa.table(LINES)}
    plan = privacy.plan("SELECT count(*) AS n FROM lines", PATH_POLICY, rho=1.0)
    assert exact(plan, tables).to_pylist() == [{"c0": 2}]
    files = {name: _written(tmp_path, name, **table.to_pydict()) for name, table in tables.items()}
    assert privacy.answer(plan, files, salt=SALT, sandbox=sandbox).table.num_rows == 1
