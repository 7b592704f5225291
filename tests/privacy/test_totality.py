"""Every operation is total: no value that a file can hold makes a query fail, so that failure tells
nothing."""

from __future__ import annotations

import datetime as dt
import decimal
import math
from typing import Any

import pyarrow as pa
import pytest

import privacy
from privacy.algebra import Call
from privacy.engines.duckdb import OPERATIONS
from privacy.engines.duckdb.windows import WINDOWS

TEXTS = [
    None, "", "x", "%", "_", "\\", "'", '"', "nan", "inf", "-0", "1e999", "9223372036854775808", "true",
    "NULL",
    "2013-13-45", "0001-01-01", "9999-12-31 23:59:59.999999", "infinity", "é\U0001f600" * 9, "\x00", "ß" * 50,
    "a" * 1_000_000, "İ", "\u202e", "290309-12-22 (BC)", "24:00:00", "2013-01-01 00:00:00+99",
]  # fmt: skip
INTEGERS = [None, 0, 1, -1, 7, 2**31, -(2**31), 2**53 + 1, 2**62, -(2**62), 2**63 - 1, -(2**63)]
FLOATS = [
    None, 0.0, -0.0, 1.5, float("nan"), float("inf"), -float("inf"), 5e-324, 1e-300,
    1.7976931348623157e308, -1e308,
    0.1, 9.3e18, -9.3e18, 2.5,
]  # fmt: skip


def _moment(year: int, month: int, day: int, *clock: int) -> dt.datetime:
    hour, minute, second, microsecond = (*clock, 0, 0, 0, 0)[:4]
    return dt.datetime(year, month, day, hour, minute, second, microsecond, dt.UTC).replace(tzinfo=None)


TIMES = [
    None, _moment(1, 1, 1), _moment(9999, 12, 31, 23, 59, 59, 999999), _moment(1970, 1, 1),
    _moment(2013, 1, 1, 5), _moment(2012, 2, 29, 23, 59, 59),
]  # fmt: skip
FAR_TIMES = pa.array([-(2**63) + 2, 2**63 - 2, 0, None], pa.int64()).cast(pa.timestamp("us"))
FAR_DATES = pa.array([-(2**31) + 2, 2**31 - 2, 0, None], pa.int32()).cast(pa.date32())

POLICY = privacy.Policy.from_document(
    {
        "domain": "people:test",
        "rho": 10.0,
        "delta": 1e-6,
        "tables": {
            "t": {
                "unit": "u",
                "columns": {"i": {"bounds": [-100, 100]}, "f": {"bounds": [-2.5, 1000000.25], "decimals": 2}},
            },
            "p": {"public": True},
        },
    },
    {
        "t": {
            "u": "text",
            "i": "integer",
            "j": "integer",
            "f": "float",
            "g": "float",
            "b": "boolean",
            "s": "text",
            "d": "date",
            "m": "timestamp",
        },
        "p": {"s": "text", "x": "float"},
    },
)
PARTS = ("year", "quarter", "month", "week", "day", "hour", "minute", "second")
EXPRESSIONS = [
    "i + j", "i - j", "i * j", "i / j", "i % j", "f + g", "f - g", "f * g", "f / g", "f % g", "i + f", "-i",
    "-f", "abs(i)", "abs(g)", "floor(f)", "ceil(g)", "round(f)", "round(g, 3)", "round(g, -15)",
    "round(g, 15)", "floor(j / 30) * 30", "lower(s)", "upper(s)", "length(s)", "substring(s, 2, 3)",
    "substring(s, -5)", "substring(s, 0, -2)", "substring(s, 1000000, 1000000)", "left(s, 3)", "left(s, -3)",
    "right(s, -1000000)", "right(s, 2)", "coalesce(i, j, 0)", "nullif(s, 'x')", "least(i, j)",
    "greatest(f, g)", "b", "NOT b", "CASE WHEN b THEN f WHEN g > 0 THEN g END", "if(b, i, j)",
    "s LIKE '%a_b%'", "s ILIKE '\\%'", "s NOT LIKE ''", "i IN (1, 2)", "g IN (1.5, 0)",
    "s IN ('x', '''')", "i BETWEEN j AND f", "i = f", "f <> g", "g < 0", "g <= f",
    "f IS DISTINCT FROM g", "i IS NOT DISTINCT FROM j", "s IS NULL", "b IS TRUE",
    "b AND g > 0 OR b IS NULL", "d = m", "m > TIMESTAMP '9999-12-31 00:00:00'", "d < DATE '0001-01-02'",
    *(f"date_trunc('{part}', m)" for part in PARTS),
    *(f"date_trunc('{part}', d)" for part in ("year", "week", "hour")),
    *(f"date_part('{part}', m)" for part in PARTS),
    *(f"date_part('{part}', d)" for part in ("dow", "isodow", "doy", "year", "week")),
    *(f"date_diff('{part}', m, d)" for part in PARTS), "datediff('day', d, m)",
    *(f"try_cast(s AS {kind})" for kind in ("tinyint", "integer", "bigint", "double", "boolean")),
    *(f"try_cast(s AS {kind})" for kind in ("date", "timestamp")),
    *(f"try_cast(g AS {kind})" for kind in ("tinyint", "integer", "bigint", "float", "varchar")),
    *(f"try_cast(j AS {kind})" for kind in ("tinyint", "double", "varchar")),
    "try_cast(b AS bigint)", "try_cast(m AS date)", "try_cast(d AS timestamp)", "try_cast(m AS varchar)",
    "CAST(try_cast(s AS double) AS bigint)", "date_trunc('week', try_cast(s AS timestamp))",
    "upper(try_cast(g AS varchar))", "length(lower(upper(s)))",
    "s || 'x' || s", "s || j", "concat(s, NULL, i, g, m, b)", "concat(s, s, s, s)", "concat_ws('-', s, j, s)",
    "trim(s)", "trim(s, 'xa%')", "ltrim(s, ' ')", "rtrim(s)", "replace(s, 'a', '')", "replace(s, 'a', 'bcd')",
    "replace(s, 'é', 'e')", "reverse(s)", "lpad(s, 12, 'xé')", "rpad(s, 0, 'x')", "split_part(s, '-', 2)",
    "split_part(s, 'a', -3)", "starts_with(s, s)", "ends_with(s, 'x')", "prefix(s, '')", "suffix(s, 'é')",
    "contains(s, s)", "strpos(s, 'a')", "position('x' IN s)", "ascii(s)", "strlen(s)",
    "sign(j)", "sign(g)", "sqrt(g)", "sqrt(j)", "cbrt(g)", "ln(g)", "log(f)", "log10(j)", "log2(g)",
    "log(3, g)", "exp(g)", "power(f, g)", "power(g, 0.5)", "g ^ -3", "j ** 2", "radians(g)", "degrees(g)",
    "sin(f * g)", "cos(g)", "tan(g)", "asin(g)", "acos(f)", "atan(g * g)", "atan2(f, g)", "trunc(g)",
    "trunc(f)", "j // i", "i // j", "j // -1", "mod(j, i)", "pi() * f",
    *(f"date_part('{part}', m)" for part in ("isoyear", "yearweek", "decade", "century", "millisecond")),
    "date_part('microsecond', m)", "extract(epoch FROM m)", "epoch(d)", "weekday(d)", "decade(m)",
    *(f"date_sub('{part}', m, d)" for part in PARTS),
    "monthname(m)", "dayname(d)", "last_day(m)", "last_day(d)", "date(m)", "date(s)", "make_date(i, j, i)",
    "make_date(2013, i, 1)", "make_date(j, 2, 30)", "strftime(m, '%Y-%m-%d %H:%M:%S.%f %p %j %U %a %B %%')",
    "strftime(d, '%G-W%V-%u %y')", "try_strptime(s, '%Y-%m-%d')", "try_strptime(s, '%d/%m/%y %H:%M')",
    "m + INTERVAL 10000 YEAR", "m - INTERVAL '10000 years'", "d + INTERVAL '1 month 2 days'",
    "date_add(m, INTERVAL 315576000000 SECOND)", "INTERVAL 1 MICROSECOND + m", "m - INTERVAL (3) WEEKS",
    "d + j", "j + d", "d - i", "d - 3660000", "d - DATE '0001-01-01'", "DATE '9999-12-31' - d", "d - d",
    *(f"time_bucket(INTERVAL '{width}', m)" for width in ("15 minutes", "1 month", "7 days 3 hours")),
    *(f"time_bucket(INTERVAL {width}, m)" for width in ("10000 YEARS", "3660000 DAYS", "1 MICROSECOND")),
    "time_bucket(INTERVAL 1 WEEK, d)", "time_bucket(INTERVAL 10000 YEAR, d)",
]  # fmt: skip
MEASURES = [
    "sum(i)", "avg(i)", "sum(f)", "avg(f)", "sum(i * i + f)", "sum(-i)", "sum(abs(f))", "avg(i / 3)",
    "sum(f / -0.7)", "sum(CASE WHEN g > 0 THEN f ELSE i END)", "sum(least(i, f))", "sum(greatest(i, 5))",
    "sum(coalesce(f, i, 1))", "sum(i - f)", "avg(month(m))", "avg(year(d))", "count(j + 1)",
    "count(DISTINCT u) FILTER (WHERE g > 1)", "sum(i) FILTER (WHERE s LIKE '%a%')",
    "count(DISTINCT s)", "count(DISTINCT g / j)", "count(DISTINCT m)", "median(i)", "quantile_cont(f, 0.1)",
    "min(i * i + f)", "max(abs(f))", "count_if(g > 0)", "bool_and(b)", "bool_or(s LIKE '%a')", "histogram(b)",
    "histogram(g / j, [0, 0.5])", "approx_top_k(i > j, 1)",
    "var_samp(i)", "stddev_pop(f * i)", "covar_samp(i, f)", "corr(i, coalesce(f, 0))", "regr_slope(f, i)",
    "regr_intercept(i, f)", "regr_r2(i, i * f)",
]  # fmt: skip


def _nasty() -> pa.Table:
    length = 60
    columns = {
        "u": pa.array([None, *(f"u{row % 9}" for row in range(length - 1))]),
        "i": _repeated(INTEGERS, pa.int64(), length),
        "j": _repeated(INTEGERS[::-1], pa.int64(), length),
        "f": _repeated(FLOATS, pa.float64(), length),
        "g": _repeated([*FLOATS[::-1], 1.0], pa.float64(), length),
        "b": _repeated([True, None, False], pa.bool_(), length),
        "s": _repeated(TEXTS, pa.string(), length),
        "d": pa.concat_arrays(
            [FAR_DATES, _repeated([time and time.date() for time in TIMES], pa.date32(), length - 4)]
        ),
        "m": pa.concat_arrays([FAR_TIMES, _repeated(TIMES, pa.timestamp("us"), length - 4)]),
    }
    return pa.table(columns)


def _repeated(values: list[Any], kind: pa.DataType, length: int) -> pa.Array:
    return pa.array([values[row % len(values)] for row in range(length)], kind)


def _as_text(table: pa.Table) -> pa.Table:
    """The same table with every column as text: declared types must be reached by TRY_CAST."""
    columns = [
        pa.array([None if one is None else str(one) for one in column.to_pylist()])
        for column in table.columns
    ]
    return pa.table(columns, table.column_names)


NASTY = _nasty().drop(["d", "m"]).append_column("d", _nasty()["d"]).append_column("m", _nasty()["m"])
TEXTUAL = _as_text(NASTY.drop(["d", "m"])).append_column("d", NASTY["s"]).append_column("m", NASTY["s"])


ROWS_OF_SOMEBODY = NASTY.num_rows - NASTY["u"].null_count
UNITS = len(set(NASTY["u"].to_pylist()) - {None})


def _count(where: str, table: pa.Table, exact: Any) -> int:
    plan = privacy.plan(f"SELECT count(*) AS n FROM t WHERE {where}", POLICY, rho=1.0)
    count: int = exact(plan, {"t": table}).to_pylist()[0]["c0"]
    return count


@pytest.mark.parametrize("table", [NASTY, TEXTUAL], ids=["typed", "text"])
@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_no_value_makes_an_expression_fail(expression: str, table: pa.Table, exact: Any) -> None:
    """As a filter it splits the rows in two, none lost; as a key it makes groups of rows that are there."""
    missing = _count(f"({expression}) IS NULL", table, exact)
    present = _count(f"({expression}) IS NOT NULL", table, exact)
    assert missing + present == ROWS_OF_SOMEBODY
    grouped = privacy.plan(f"SELECT {expression} AS k, count(*) AS n FROM t GROUP BY k", POLICY, rho=1.0)
    rows = exact(grouped, {"t": table})
    counted = grouped.releases[0].lowered.parts[0][0]
    assert 0 < sum(rows[counted.name].to_pylist()) <= ROWS_OF_SOMEBODY << counted.shift


@pytest.mark.parametrize("table", [NASTY, TEXTUAL], ids=["typed", "text"])
@pytest.mark.parametrize("measure", MEASURES)
def test_no_value_makes_a_measure_fail(measure: str, table: pa.Table, exact: Any) -> None:
    """However wild the values, the total is within what so many units may contribute."""
    for sql in (f"SELECT {measure} AS x FROM t", f"SELECT s, b, {measure} AS x FROM t GROUP BY s, b"):
        plan = privacy.plan(sql, POLICY, rho=1.0)
        rows = exact(plan, {"t": table})
        for released in plan.releases[0].release.measures:
            most = UNITS * math.isqrt(released.sensitivity_squared)
            assert all(abs(value) <= most for value in _numbers(rows[released.name]))


def _numbers(column: pa.ChunkedArray) -> list[int]:
    """The integers of a column, of a histogram those of its leaves."""
    values: list[Any] = column.to_pylist()
    if not pa.types.is_list(column.type):
        return values
    return [pair["w"] for leaves in values for pair in leaves or []]


WITHIN_UNITS = [
    "count(*)", "count(g)", "count(DISTINCT s)", "sum(i)", "sum(f)", "avg(i)", "avg(f)", "sum(i * i + f)",
    "avg(i / 3)", "min(j)", "max(j)", "min(g)", "max(g)", "min(-g)", "max(s)", "min(s)", "min(d)", "max(m)",
    "bool_and(b)", "bool_or(g > 0)", "max(b)", "sum(i) FILTER (WHERE s LIKE '%a%')", "avg(year(d))",
    "sum(least(greatest(g, -1e9), 1e9))", "avg(try_cast(s AS double)) FILTER (WHERE try_cast(s AS double) "
    "BETWEEN 0 AND 1)", "median(i)", "median(f) FILTER (WHERE b)", "var_samp(i)", "variance(f)", "var_pop(f)",
    "stddev(f)", "stddev_samp(i)", "stddev_pop(f) FILTER (WHERE g > 0)",
]  # fmt: skip
WITHIN_WINDOWS = [
    "row_number() OVER (PARTITION BY u ORDER BY g)", "rank() OVER (PARTITION BY u ORDER BY s DESC, m)",
    "dense_rank() OVER (PARTITION BY u, b ORDER BY d)", "ntile(7) OVER (PARTITION BY u ORDER BY f)",
    "percent_rank() OVER (PARTITION BY u ORDER BY g)", "cume_dist() OVER (PARTITION BY u ORDER BY g)",
    "lag(j) OVER (PARTITION BY u ORDER BY m)", "lag(s, 1000000, 'x') OVER (PARTITION BY u ORDER BY m)",
    "lead(g, 2) OVER (PARTITION BY u ORDER BY j)", "first_value(m) OVER (PARTITION BY u ORDER BY g)",
    "last_value(d) OVER (PARTITION BY u ORDER BY g ROWS BETWEEN 3 PRECEDING AND UNBOUNDED FOLLOWING)",
    "nth_value(g, 2) OVER (PARTITION BY u ORDER BY g ROWS BETWEEN 3 PRECEDING AND 3 FOLLOWING)",
    "count(*) OVER (PARTITION BY u ORDER BY g)", "count(s) FILTER (WHERE g > 0) OVER (PARTITION BY u)",
    "sum(i) OVER (PARTITION BY u ORDER BY g)", "sum(f) OVER (PARTITION BY u)",
    "avg(f) OVER (PARTITION BY u ORDER BY j ROWS BETWEEN 1000000 PRECEDING AND 1 PRECEDING)",
    "min(g) OVER (PARTITION BY u ORDER BY s ROWS BETWEEN CURRENT ROW AND 1000000 FOLLOWING)",
    "max(s) OVER (PARTITION BY u ORDER BY m)", "max(j) OVER (PARTITION BY u, j % 0)",
]  # fmt: skip


@pytest.mark.parametrize("table", [NASTY, TEXTUAL], ids=["typed", "text"])
@pytest.mark.parametrize("feature", WITHIN_UNITS)
def test_no_value_makes_a_feature_of_a_unit_fail(feature: str, table: pa.Table, exact: Any) -> None:
    """Each unit has its row, with the feature or without."""
    rows = f"(SELECT u, {feature} AS x FROM t GROUP BY u) AS q"
    plans = [
        privacy.plan(f"SELECT count(*) AS n FROM {rows} WHERE x IS {word}", POLICY, rho=1.0)
        for word in ("NULL", "NOT NULL")
    ]
    assert sum(exact(plan, {"t": table}).to_pylist()[0]["c0"] for plan in plans) == UNITS


@pytest.mark.parametrize("table", [NASTY, TEXTUAL], ids=["typed", "text"])
@pytest.mark.parametrize("window", WITHIN_WINDOWS)
def test_no_value_makes_a_window_fail(window: str, table: pa.Table, exact: Any) -> None:
    """Each row stays, with a value or without."""
    rows = f"(SELECT u, {window} AS x FROM t) AS q"
    plans = [
        privacy.plan(f"SELECT count(*) AS n FROM {rows} WHERE x IS {word}", POLICY, rho=1.0)
        for word in ("NULL", "NOT NULL")
    ]
    assert sum(exact(plan, {"t": table}).to_pylist()[0]["c0"] for plan in plans) == ROWS_OF_SOMEBODY


def test_every_window_and_feature_is_tried() -> None:
    features = {f"aggregate_{feature.split('(')[0]}" for feature in WITHIN_UNITS}
    features |= {"aggregate_count_distinct"}
    features |= {f"aggregate_exact_{feature.split('(')[0]}" for feature in WITHIN_UNITS}
    windows = {window.split("(")[0] for window in WITHIN_WINDOWS}
    windows |= {"exact_sum", "exact_avg"}
    public = {name for name in OPERATIONS if name.endswith("_distinct")} - {"aggregate_count_distinct"}
    assert {name for name in OPERATIONS if name.startswith("aggregate_")} - public - features == set()
    assert set(WINDOWS) - windows == set()


def test_every_operation_is_tried() -> None:
    """An operation that enters the closed list must enter the corpus of this file as well."""
    used: set[str] = set()

    def collect(node: object) -> None:
        if isinstance(node, Call):
            used.add(node.operation)
        if isinstance(node, tuple):
            for part in node:
                collect(part)
        for name in getattr(node, "__dataclass_fields__", {}):
            collect(getattr(node, name))

    for expression in EXPRESSIONS:
        plan = privacy.plan(f"SELECT {expression} AS k FROM t GROUP BY k", POLICY, rho=1.0)
        collect(plan.releases[0].lowered)
    for measure in MEASURES:
        plan = privacy.plan(f"SELECT {measure} AS x FROM t", POLICY, rho=1.0)
        collect(plan.releases[0].lowered)
    private = {name for name in OPERATIONS if not name.startswith("aggregate_")}
    assert private - used == set()


@pytest.mark.parametrize(
    ("values", "expression"),
    [
        ([1, 0], "10 / j"),
        ([1, 2**63 - 1], "j + 1"),
        (["1", "x"], "try_cast(s AS integer)"),
        (["2013-01-01", "2013-99-99"], "CAST(s AS date)"),
    ],
)
def test_data_dependent_errors_do_not_exist(values: list[Any], expression: str, exact: Any) -> None:
    """Neighbours get the same status: the row that would raise in plain SQL counts as NULL."""
    name = "s" if isinstance(values[0], str) else "j"
    plan = privacy.plan(f"SELECT count(*) AS n FROM t WHERE {expression} IS NOT NULL", POLICY, rho=1.0)
    table = pa.table({"u": ["a", "b"], name: values})
    whole = exact(plan, {"t": table}).to_pylist()
    without = exact(plan, {"t": table.slice(0, 1)}).to_pylist()
    assert whole[0]["c0"] - without[0]["c0"] in (0, 1)


def test_totals_do_not_depend_on_the_order_of_rows(exact: Any) -> None:
    plan = privacy.plan("SELECT sum(f) AS s, avg(f) AS a FROM t", POLICY, rho=1.0)
    values = [decimal.Decimal(number) / 100 for number in range(-250, 250, 7)] * 20
    table = pa.table(
        {"u": [f"u{row % 50}" for row in range(len(values))], "f": [float(value) for value in values]}
    )
    assert exact(plan, {"t": table}).equals(
        exact(plan, {"t": table.take(list(reversed(range(len(values)))))})
    )
