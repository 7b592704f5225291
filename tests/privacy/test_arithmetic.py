"""Interval arithmetic: the proven range holds every value that the engine computes."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from privacy.algebra import Call, Column, Literal, Scalar
from privacy.arithmetic import LIMIT, Bounds, Fixed, NotFixed, always_present, fixed
from privacy.engines import duckdb

BOUNDS = {"a": Bounds(-7, 12, 0), "b": Bounds(-150, 225, 2), "c": Bounds(3, 9, 0)}
COLUMNS: dict[str, Column] = {
    "a": Column("s0", "a", "integer"),
    "b": Column("s0", "b", "float"),
    "c": Column("s0", "c", "integer"),
}


def _bounds(scalar: Scalar) -> Bounds | None:
    return BOUNDS.get(scalar.name) if isinstance(scalar, Column) else None


def _number(text: str) -> Literal:
    return Literal(Decimal(text), "decimal")


def _expression(random_: random.Random, depth: int) -> Scalar:
    if depth == 0 or random_.random() < 0.2:
        numbers = [_number("2"), _number("-1.25"), _number("0"), Literal(None, "float")]
        leaves: list[Scalar] = [*COLUMNS.values(), *numbers]
        return random_.choice(leaves)
    kind = random_.choice(["add", "sub", "mul", "neg", "abs", "div", "case", "coalesce", "least", "greatest"])
    if kind in ("neg", "abs"):
        return Call(kind, (_expression(random_, depth - 1),), "float")
    left, right = _expression(random_, depth - 1), _expression(random_, depth - 1)
    if kind == "div":
        return Call("div", (left, _number(random_.choice(["3", "-0.7", "12", "0.001"]))), "float")
    if kind == "case":
        condition = Call("lt", (COLUMNS["a"], Literal(3, "integer")), "boolean")
        return Call("case", (condition, left, right), "float")
    return Call(kind, (left, right), "float")


def _fixed_or_none(scalar: Scalar) -> Fixed | None:
    """None for what is always NULL or too large: the only outcomes that expressions of bounded columns may
    have."""
    codes = []
    try:
        number = fixed(scalar, _bounds)
    except NotFixed as finding:
        codes.append(finding.code)
    if codes:
        assert codes == ["overflow"]
        return None
    return None if number.null else number


def test_every_computed_value_lies_in_the_proven_range(engine: Any) -> None:
    random_ = random.Random(1)
    wild: list[Any] = [None, 0, 1, -7, 12, 5, 2**63 - 1, -(2**63), 100, -100]
    rows = {
        "s0.a": pa.array([random_.choice(wild) for _ in range(200)], pa.int64()),
        "s0.b": pa.array(
            [random_.choice([None, 0.0, -1.5, 2.25, 1e300, -1e300, 0.005, 1.005]) for _ in range(200)]
        ),
        "s0.c": pa.array([random_.choice(wild) for _ in range(200)], pa.int64()),
    }
    found = 0
    for _ in range(300):
        number = _fixed_or_none(_expression(random_, 4))
        if number is None:
            continue
        values = f"SELECT {duckdb.scalar(number.scalar)} AS x FROM rows"
        sql = f"SELECT min(x), max(x), count(*) - count(x) FROM ({values})"
        low, high, missing = engine(sql, {"rows": pa.table(rows)}).to_pylist()[0].values()
        assert low is None or (number.low <= low and high <= number.high)
        assert not (always_present(number.scalar) and missing)
        assert max(abs(number.low), abs(number.high)) < LIMIT
        found += low is not None
    assert found > 100


def test_values_are_exact_to_the_declared_decimals(engine: Any) -> None:
    sql = duckdb.scalar(fixed(COLUMNS["b"], _bounds).scalar)
    table = pa.table({"s0.b": [1.005, -1.5, 2.25, 3.0, -9.0, 0.1 + 0.2, None]})
    values = [row["x"] for row in engine(f"SELECT {sql} AS x FROM rows", {"rows": table}).to_pylist()]
    assert values == [100, -150, 225, 225, -150, 30, None]


@pytest.mark.parametrize(
    ("scalar", "low", "high", "decimals"),
    [
        (COLUMNS["a"], -7, 12, 0),
        (Call("mul", (COLUMNS["a"], COLUMNS["a"]), "float"), -84, 144, 0),
        (Call("add", (COLUMNS["a"], COLUMNS["b"]), "float"), -850, 1425, 2),
        (Call("sub", (COLUMNS["a"], COLUMNS["c"]), "float"), -16, 9, 0),
        (Call("abs", (COLUMNS["a"],), "float"), 0, 12, 0),
        (Call("neg", (COLUMNS["c"],), "float"), -9, -3, 0),
        (Call("div", (COLUMNS["c"], _number("-2")), "float"), -4_500_000, -1_500_000, 6),
        (Call("least", (COLUMNS["a"], COLUMNS["c"]), "float"), -7, 9, 0),
        (Call("greatest", (COLUMNS["a"], COLUMNS["c"]), "float"), 3, 12, 0),
        (Call("coalesce", (COLUMNS["a"], _number("99")), "float"), -7, 99, 0),
        (_number("1.50"), 15, 15, 1),
        (Call("date_part", (Literal("month", "text"), Column("s0", "t", "timestamp")), "integer"), 1, 12, 0),
    ],
)
def test_ranges(scalar: Scalar, low: int, high: int, decimals: int) -> None:
    number = fixed(scalar, _bounds)
    assert (number.low, number.high, number.decimals) == (low, high, decimals)


@pytest.mark.parametrize(
    ("scalar", "code"),
    [
        (Column("s0", "unbounded", "integer"), "missing_bounds"),
        (Column("s0", "a", "text"), "missing_bounds"),
        (Call("length", (Column("s0", "t", "text"),), "integer"), "missing_bounds"),
        (Call("eq", (COLUMNS["a"], COLUMNS["c"]), "boolean"), "type_mismatch"),
        (Literal("x", "text"), "type_mismatch"),
        (Call("div", (COLUMNS["a"], COLUMNS["c"]), "float"), "unsupported_function"),
        (Call("div", (COLUMNS["a"], _number("0")), "float"), "unsupported_function"),
        (Literal(2**62, "integer"), "overflow"),
        (_number("1e30"), "overflow"),
        (_number("1e-30"), "overflow"),
        (Call("mul", (_number("1e10"), _number("1e10")), "float"), "overflow"),
    ],
)
def test_what_has_no_proven_range_is_not_summed(scalar: Scalar, code: str) -> None:
    with pytest.raises(NotFixed) as caught:
        fixed(scalar, _bounds)
    assert caught.value.code == code
    assert caught.value.hint
