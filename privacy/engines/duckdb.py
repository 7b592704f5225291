# ruff: noqa: S608 - generating SQL is what this file is for; no foreign text comes in
"""Engine SQL for DuckDB, generated from the algebra alone.

No buyer text comes here but literals, which are written anew. Every operation is total: no value that a
file can hold makes it raise, so that a failure never tells anything about a row.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from privacy.algebra import (
    TRUE,
    Aggregate,
    Bound,
    Call,
    Column,
    Filter,
    Grouped,
    Join,
    Key,
    Limited,
    Literal,
    Order,
    Output,
    Relation,
    Released,
    Scalar,
    Scan,
    Sum,
    columns_of,
)
from privacy.values import MAX_KEY_BYTES, canonical

SALT_TABLE = "_salt"
RELEASED_TABLE = "_released"
SMALLEST, LARGEST = -(2**62), 2**62

_TYPES = {
    "boolean": "BOOLEAN", "integer": "BIGINT", "float": "DOUBLE", "decimal": "DOUBLE", "text": "VARCHAR",
    "date": "DATE", "timestamp": "TIMESTAMP",
}  # fmt: skip


def quoted(name: str) -> str:
    """An identifier, quoted."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: object, kind: str) -> str:
    """A constant, written by us and typed."""
    if value is None:
        return f"CAST(NULL AS {_TYPES.get(kind, 'BOOLEAN')})"
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if kind == "integer":
        assert isinstance(value, int)
        return f"CAST({value} AS BIGINT)" if abs(value) < 2**62 else f"CAST('{value}' AS BIGINT)"
    if isinstance(value, int | Decimal):
        return f"CAST('{canonical(value)}' AS DOUBLE)"
    if isinstance(value, dt.datetime):
        return f"CAST('{value.isoformat(sep=' ')}' AS TIMESTAMP)"
    if isinstance(value, dt.date):
        return f"CAST('{value.isoformat()}' AS DATE)"
    return "'" + str(value).replace("'", "''") + "'"


def normalised(sql: str, kind: str) -> str:
    """A value of any origin as one of ``kind``: what cannot be read, NaN, infinities and far years become
    NULL."""
    cast = f"TRY_CAST({sql} AS {_TYPES[kind]})"
    if kind in ("float", "decimal"):
        return f"CASE WHEN isfinite({cast}) THEN {cast} + CAST('0' AS DOUBLE) END"
    if kind == "date":
        return f"CASE WHEN {cast} BETWEEN DATE '0001-01-01' AND DATE '9999-12-31' THEN {cast} END"
    if kind == "timestamp":
        earliest, latest = "TIMESTAMP '0001-01-01 00:00:00'", "TIMESTAMP '9999-12-31 23:59:59.999999'"
        return f"CASE WHEN {cast} BETWEEN {earliest} AND {latest} THEN {cast} END"
    return cast


# Scalars


def scalar(node: Scalar) -> str:
    """SQL of a scalar expression. Columns are called by source and name: ``"s0.origin"``."""
    if isinstance(node, Column):
        return _name(node)
    if isinstance(node, Literal):
        return literal(node.value, node.type)
    return OPERATIONS[node.operation](node, [scalar(argument) for argument in node.arguments])


def _name(column: Column) -> str:
    return quoted(f"{column.source}.{column.name}")


Operation = Callable[[Call, Sequence[str]], str]


def _infix(word: str) -> Operation:
    return lambda _call, parts: "(" + f" {word} ".join(parts) + ")"


def _function(name: str) -> Operation:
    return lambda _call, parts: f"{name}({', '.join(parts)})"


def _double(sql: str) -> str:
    return f"CAST({sql} AS DOUBLE)"


def _on_doubles(template: str) -> Operation:
    """Arithmetic on DOUBLE, which never raises; whole numbers return to BIGINT, or NULL beyond its range."""

    def made(call: Call, parts: Sequence[str]) -> str:
        sql = template.format(*(_double(part) for part in parts))
        return f"TRY_CAST({sql} AS BIGINT)" if call.type == "integer" else f"({sql})"

    return made


def _present(name: str) -> Operation:
    """LEAST and GREATEST with NULL as NULL: the engine's own would return the other operand, a clamp
    bound."""

    def made(_call: Call, parts: Sequence[str]) -> str:
        missing = " OR ".join(f"{part} IS NULL" for part in parts)
        return f"CASE WHEN {missing} THEN NULL ELSE {name}({', '.join(parts)}) END"

    return made


def _case(_call: Call, parts: Sequence[str]) -> str:
    branches = " ".join(
        f"WHEN {parts[place]} THEN {parts[place + 1]}" for place in range(0, len(parts) - 1, 2)
    )
    return f"(CASE {branches} ELSE {parts[-1]} END)"


def _try_cast(call: Call, parts: Sequence[str]) -> str:
    target = call.arguments[1]
    assert isinstance(target, Literal)
    narrow = f"TRY_CAST({parts[0]} AS {target.value})"
    return normalised(narrow, call.type)


def _clamp(call: Call, parts: Sequence[str]) -> str:
    """A column as fixed point: held in its bounds, scaled, an exact BIGINT; NULL stays NULL."""
    low, high, decimals = (_whole(argument) for argument in call.arguments[1:])
    value = parts[0]
    if call.arguments[0].type == "integer":
        held = f"greatest(least({value}, CAST({high} AS BIGINT)), CAST({low} AS BIGINT))"
    else:
        bounds = [literal(Decimal(bound).scaleb(-decimals), "float") for bound in (low, high)]
        near = f"greatest(least({value}, {bounds[1]}), {bounds[0]}) * CAST('1e{decimals}' AS DOUBLE)"
        held = (
            f"greatest(least(CAST(round({near}) AS BIGINT), CAST({high} AS BIGINT)), CAST({low} AS BIGINT))"
        )
    return f"CASE WHEN {value} IS NOT NULL THEN {held} END"


def _whole(node: Scalar) -> int:
    assert isinstance(node, Literal)
    assert isinstance(node.value, int)
    return node.value


def _held(_call: Call, parts: Sequence[str]) -> str:
    """A number within two constants; NULL stays NULL."""
    number, low, high = parts
    return f"CASE WHEN {number} IS NOT NULL THEN greatest(least({number}, {high}), {low}) END"


def _in(_call: Call, parts: Sequence[str]) -> str:
    return f"({parts[0]} IN ({', '.join(parts[1:])}))"


def _summed(function: str) -> Operation:
    """An exact aggregate over public rows; the first argument is its FILTER condition."""

    def made(call: Call, parts: Sequence[str]) -> str:
        condition = "" if call.arguments[0] == TRUE else f" FILTER (WHERE {parts[0]})"
        sql = function.format(*(parts[1:] or ["*"])) + condition
        return f"TRY_CAST({sql} AS {_TYPES[call.type]})"

    return made


OPERATIONS: dict[str, Operation] = {
    "and": _infix("AND"),
    "or": _infix("OR"),
    "not": lambda _call, parts: f"(NOT {parts[0]})",
    "eq": _infix("="),
    "ne": _infix("<>"),
    "lt": _infix("<"),
    "le": _infix("<="),
    "distinct": _infix("IS DISTINCT FROM"),
    "not_distinct": _infix("IS NOT DISTINCT FROM"),
    "is_null": lambda _call, parts: f"({parts[0]} IS NULL)",
    "in": _in,
    "like": _infix("LIKE"),
    "ilike": _infix("ILIKE"),
    "case": _case,
    "coalesce": _function("coalesce"),
    "nullif": _function("nullif"),
    "least": _present("least"),
    "greatest": _present("greatest"),
    "add": _on_doubles("{0} + {1}"),
    "sub": _on_doubles("{0} - {1}"),
    "mul": _on_doubles("{0} * {1}"),
    "div": _on_doubles("{0} / NULLIF({1}, CAST('0' AS DOUBLE))"),
    "mod": _on_doubles("{0} % NULLIF({1}, CAST('0' AS DOUBLE))"),
    "neg": _on_doubles("(- {0})"),
    "abs": _on_doubles("abs({0})"),
    "floor": _on_doubles("floor({0})"),
    "ceil": _on_doubles("ceil({0})"),
    "round": _on_doubles("round({0})"),
    "sqrt": _on_doubles("sqrt(greatest({0}, CAST('0' AS DOUBLE)))"),
    "round_to": lambda _call, parts: f"round({_double(parts[0])}, CAST({parts[1]} AS INTEGER))",
    "to_float": lambda _call, parts: _double(parts[0]),
    "to_timestamp": lambda _call, parts: f"CAST({parts[0]} AS TIMESTAMP)",
    "try_cast": _try_cast,
    "lower": _function("lower"),
    "upper": _function("upper"),
    "length": _function("length"),
    "substring": _function("substring"),
    "left": _function("left"),
    "right": _function("right"),
    "date_trunc": lambda _call, parts: f"CAST(date_trunc({parts[0]}, {parts[1]}) AS TIMESTAMP)",
    "date_part": lambda _call, parts: f"CAST(date_part({parts[0]}, {parts[1]}) AS BIGINT)",
    "clamp": _clamp,
    "held": _held,
    "exact_add": _infix("+"),
    "exact_sub": _infix("-"),
    "exact_mul": _infix("*"),
    "exact_div": _infix("//"),
    "exact_neg": lambda _call, parts: f"(- {parts[0]})",
    "exact_abs": _function("abs"),
    "aggregate_count": _summed("count({0})"),
    "aggregate_count_distinct": _summed("count(DISTINCT {0})"),
    "aggregate_sum": _summed("sum({0})"),
    "aggregate_avg": _summed("avg({0})"),
    "aggregate_min": _summed("min({0})"),
    "aggregate_max": _summed("max({0})"),
    "aggregate_sum_distinct": _summed("sum(DISTINCT {0})"),
    "aggregate_avg_distinct": _summed("avg(DISTINCT {0})"),
    "aggregate_min_distinct": _summed("min({0})"),
    "aggregate_max_distinct": _summed("max({0})"),
}


# Relations


class Relations:
    """SQL of relations, for a tree whose column references are known."""

    def __init__(self, used: set[Column], released: Sequence[tuple[str, str]] = ()) -> None:
        self._used = sorted(used, key=lambda column: column.text)
        self._released = released

    def sql(self, node: Relation) -> str:
        """A SELECT whose columns are called by source and name."""
        if isinstance(node, Scan):
            return self._scan(node)
        if isinstance(node, Released):
            columns = ", ".join(f"{sql} AS {quoted(f'{node.source}.{name}')}" for name, sql in self._released)
            return f"SELECT {columns} FROM {quoted(RELEASED_TABLE)}"
        if isinstance(node, Filter):
            return f"SELECT * FROM ({self.sql(node.input)}) AS q WHERE {scalar(node.predicate)}"
        if isinstance(node, Join):
            word = "LEFT JOIN" if node.kind == "left" else "JOIN"
            left, right = self.sql(node.left), self.sql(node.right)
            return f"SELECT * FROM ({left}) AS l {word} ({right}) AS r ON {scalar(node.on)}"
        if isinstance(node, Grouped):
            return self._grouped(node)
        return self._limited(node)

    def _scan(self, node: Scan) -> str:
        wanted = [
            column for column in self._used if column.source == node.source and column.type != "unknown"
        ]
        unit = node.unit
        if unit is not None and unit not in wanted:
            wanted.append(unit)
        columns = [f"{_stored(one, unit)} AS {_name(one)}" for one in wanted]
        selected = f"SELECT {', '.join(columns) or '1 AS nothing'} FROM {quoted(node.table)}"
        return (
            selected if unit is None else f"SELECT * FROM ({selected}) AS q WHERE {_name(unit)} IS NOT NULL"
        )

    def _grouped(self, node: Grouped) -> str:
        columns = [
            f"{scalar(one)} AS {quoted(f'{node.source}.{name}')}"
            for name, one in (*node.keys, *node.measures)
        ]
        grouped = (
            f" GROUP BY {', '.join(str(place + 1) for place in range(len(node.keys)))}" if node.keys else ""
        )
        return f"SELECT {', '.join(columns)} FROM ({self.sql(node.input)}) AS q{grouped}"

    def _limited(self, node: Limited) -> str:
        limit = "" if node.limit is None else f" LIMIT {node.limit}"
        return f"SELECT * FROM ({self.sql(node.input)}) AS q{ordered(node.order)}{limit} OFFSET {node.offset}"


def _stored(column: Column, unit: Column | None) -> str:
    """A column of a file. The unit is never cast: two units that a cast takes for one would share one
    bound."""
    return quoted(column.name) if column == unit else normalised(quoted(column.name), column.type)


def ordered(order: Sequence[Order]) -> str:
    """An ORDER BY clause, or nothing."""
    words = []
    for one in order:
        if isinstance(one.scalar, Literal):
            continue  # the same on every row: no order, and not allowed here
        direction = "DESC" if one.descending else "ASC"
        words.append(f"{scalar(one.scalar)} {direction} NULLS {'FIRST' if one.nulls_first else 'LAST'}")
    return f" ORDER BY {', '.join(words)}" if words else ""


# Before the exact part


@dataclass(frozen=True)
class Multiplicity:
    """Rows of a public relation that meet ``conditions`` and share the values of ``keys``: as many as
    there are at most."""

    relation: Relation
    conditions: tuple[Scalar, ...]
    keys: tuple[Scalar, ...]


def fan_out_sql(counts: Sequence[Multiplicity]) -> str:
    """One row with one BIGINT for each multiplicity, 0 where there is no row."""
    return f"SELECT {', '.join(f'({_most_alike(one)}) AS f{place}' for place, one in enumerate(counts))}"


def _most_alike(one: Multiplicity) -> str:
    relation = Relations(columns_of([one.relation, one.conditions, one.keys])).sql(one.relation)
    where = " AND ".join(scalar(condition) for condition in one.conditions) or "TRUE"
    keys = ", ".join(scalar(key) for key in one.keys)
    counted = (
        f"SELECT count(*) AS n FROM ({relation}) AS q WHERE {where}{f' GROUP BY {keys}' if keys else ''}"
    )
    return f"SELECT coalesce(max(n), 0) FROM ({counted}) AS q"


# The exact part


def exact_sql(aggregate: Aggregate) -> str:
    """Exact integer sums: keys ``k0``.. and one BIGINT for each sum, in key order. Never leaves the
    release step."""
    bound = aggregate.input
    keys = [quoted(key.name) for key in bound.keys]
    steps = [f"unit_rows AS ({_unit_rows(aggregate)})", f"parts AS ({_parts(aggregate)})"]
    if bound.ranked:
        steps.append(f"ranked AS ({_ranked(bound)})")
    kept = f"(SELECT * FROM ranked WHERE place <= {bound.groups}) AS kept" if bound.ranked else "parts"
    sums = ", ".join([*keys, *(f"{_total(one, bound)} AS {quoted(one.name)}" for one in aggregate.sums)])
    grouped = f" GROUP BY {', '.join(keys)}" if keys else ""
    steps.append(f"exact AS (SELECT {sums} FROM {kept}{grouped})")
    return f"WITH {', '.join(steps)} {_result(aggregate)}"


def _unit_rows(aggregate: Aggregate) -> str:
    """One row for each row that may count: its unit, keys, and what is summed of it."""
    bound = aggregate.input
    columns = [f"{_name(bound.unit)} AS u"]
    columns += [f"{_key(key)} AS {quoted(key.name)}" for key in bound.keys]
    for one in aggregate.sums:
        columns.append(f"{scalar(one.condition)} AS {quoted('if_' + one.name)}")
        if one.argument is not None:
            columns.append(f"{scalar(one.argument)} AS {quoted('of_' + one.name)}")
    relation = Relations(columns_of(aggregate)).sql(bound.input)
    rows = f"SELECT {', '.join(columns)} FROM ({relation}) AS q"
    texts = [quoted(key.name) for key in bound.keys if key.scalar.type == "text"]
    if texts:
        short = ", ".join(
            f"CASE WHEN strlen({key}) <= {MAX_KEY_BYTES} THEN {key} END AS {key}" for key in texts
        )
        rows = f"SELECT * REPLACE ({short}) FROM ({rows}) AS q"
    allowed = [
        f"{quoted(key.name)} IN ({', '.join(scalar(value) for value in key.domain)})"
        for key in bound.keys
        if key.domain is not None
    ]
    return f"SELECT * FROM ({rows}) AS q WHERE {' AND '.join(allowed)}" if allowed else rows


def _key(key: Key) -> str:
    sql = scalar(key.scalar)
    return normalised(sql, key.scalar.type) if key.scalar.type in ("float", "decimal") else sql


def _parts(aggregate: Aggregate) -> str:
    """What each unit contributes to each group."""
    keys = [quoted(key.name) for key in aggregate.input.keys]
    columns = ["u", *keys]
    for one in aggregate.sums:
        condition = f"FILTER (WHERE {quoted('if_' + one.name)})"
        columns.append(f"CAST(count(*) {condition} AS HUGEINT) AS {quoted('n_' + one.name)}")
        if one.argument is not None:
            total = f"sum({quoted('of_' + one.name)}) {condition}"
            columns.append(f"coalesce({total}, CAST(0 AS HUGEINT)) AS {quoted('t_' + one.name)}")
    return f"SELECT {', '.join(columns)} FROM unit_rows GROUP BY {', '.join(['u', *keys])}"


def _ranked(bound: Bound) -> str:
    """Each unit's groups in an order that only the salt and the names of unit and group decide."""
    named = ", ".join(_encoded(name) for name in ["u", *(quoted(key.name) for key in bound.keys)])
    rank = f"md5_number(concat((SELECT salt FROM {quoted(SALT_TABLE)}), {named}))"
    return f"SELECT *, row_number() OVER (PARTITION BY u ORDER BY {rank}) AS place FROM parts"


def _encoded(name: str) -> str:
    """Text in which no two lists of values look alike: each value with its length before it."""
    text = f"CAST({name} AS VARCHAR)"
    return f"CASE WHEN {name} IS NULL THEN 'n' ELSE concat('v', length({text}), ':', {text}) END"


def _total(one: Sum, bound: Bound) -> str:
    """The sum over units of what each may contribute, as a BIGINT."""
    count = quoted("n_" + one.name)
    if one.kind == "units":
        part = f"least({count}, CAST(1 AS HUGEINT))"
    elif one.kind == "rows":
        part = f"least({count}, {_huge(bound.rows)})"
    else:
        total = quoted("t_" + one.name)
        if one.kind == "centred":
            centred = f"({total} - {count} * {_huge(one.middle)})"
            shrunk = f"({centred} * {_huge(bound.rows)}) // {count}"
            total = f"CASE WHEN {count} <= {_huge(bound.rows)} THEN {centred} ELSE {shrunk} END"
        part = f"greatest(least({total}, {_huge(one.high)}), {_huge(one.low)})"
    whole = f"coalesce(sum({part}), CAST(0 AS HUGEINT))"
    return f"CAST(greatest(least({whole}, {_huge(LARGEST)}), {_huge(SMALLEST)}) AS BIGINT)"


def _huge(number: int) -> str:
    return f"CAST('{number}' AS HUGEINT)"


def _result(aggregate: Aggregate) -> str:
    """The groups that are there; with public keys every combination, present or not."""
    bound = aggregate.input
    keys = [quoted(key.name) for key in bound.keys]
    order = f" ORDER BY {', '.join(f'{key} NULLS LAST' for key in keys)}" if keys else ""
    if not bound.grid:
        return f"SELECT * FROM exact{order}"
    grids = " CROSS JOIN ".join(_domain(key) for key in bound.keys)
    columns = [f"grid.{key} AS {key}" for key in keys]
    columns += [
        f"coalesce(exact.{quoted(one.name)}, CAST(0 AS BIGINT)) AS {quoted(one.name)}"
        for one in aggregate.sums
    ]
    same = " AND ".join(f"grid.{key} = exact.{key}" for key in keys)
    order = f" ORDER BY {', '.join(f'grid.{key}' for key in keys)}"
    return (
        f"SELECT {', '.join(columns)} FROM (SELECT * FROM {grids}) AS grid LEFT JOIN exact ON {same}{order}"
    )


def _domain(key: Key) -> str:
    assert key.domain is not None
    values = ", ".join(f"({scalar(value)})" for value in key.domain)
    return f"(VALUES {values}) AS {quoted('d_' + key.name)}({quoted(key.name)})"


# The public part


def public_sql(
    output: Output,
    intervals: Sequence[tuple[Scalar, Scalar] | None],
    released: Sequence[tuple[str, Scalar]],
) -> str:
    """The asked columns as ``o0``.., then the bounds of intervals as ``l0``, ``h0``.., in the asked order.

    Args:
        intervals: for each output column its lower and upper end, where it has one.
        released: name and definition of each column of the released relation, over the released integers.
    """
    columns = [f"{_shown(one)} AS o{place}" for place, (_, one) in enumerate(output.columns)]
    for place, ends in enumerate(intervals):
        if ends is not None:
            columns += [f"{_shown(ends[0])} AS l{place}", f"{_shown(ends[1])} AS h{place}"]
    definitions = [(name, _released_column(one)) for name, one in released]
    relation = Relations(columns_of(output), definitions).sql(output.input)
    return f"SELECT {', '.join(columns)} FROM ({relation}) AS q{ordered(output.order)}"


def _shown(node: Scalar) -> str:
    sql = scalar(node)
    return normalised(sql, node.type) if node.type in ("float", "decimal") else sql


def _released_column(node: Scalar) -> str:
    """A definition over the released integers, whose columns carry no source."""
    if isinstance(node, Column):
        return quoted(node.name)
    if isinstance(node, Literal):
        return scalar(node)
    return OPERATIONS[node.operation](node, [_released_column(argument) for argument in node.arguments])
