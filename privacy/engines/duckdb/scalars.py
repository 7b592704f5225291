"""SQL of scalar expressions. Every operation is total: no value that a file can hold makes it raise, so
that a failure never tells anything about a row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal

from privacy.algebra import TRUE, Call, Column, Literal, Scalar
from privacy.engines.duckdb.functions import FUNCTIONS
from privacy.engines.duckdb.literals import TYPES, literal, normalised, quoted
from privacy.engines.duckdb.windows import exact_mean, exact_total, exact_variance


def scalar(node: Scalar) -> str:
    """SQL of a scalar expression. Columns are called by source and name: ``"s0.origin"``."""
    if isinstance(node, Column):
        return named(node)
    if isinstance(node, Literal):
        return literal(node.value, node.type)
    return OPERATIONS[node.operation](node, [scalar(argument) for argument in node.arguments])


def named(column: Column) -> str:
    """What SQL calls a column of a source."""
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


def _in(_call: Call, parts: Sequence[str]) -> str:
    return f"({parts[0]} IN ({', '.join(parts[1:])}))"


def _summed(function: str) -> Operation:
    """An exact aggregate over public rows; the first argument is its FILTER condition."""

    def made(call: Call, parts: Sequence[str]) -> str:
        sql = function.format(*(parts[1:] or ["*"])) + _condition(call, parts)
        return f"TRY_CAST({sql} AS {TYPES[call.type]})"

    return made


def _exact_sum(call: Call, parts: Sequence[str]) -> str:
    return exact_total(f"sum({parts[1]}){_condition(call, parts)}")


def _exact_avg(call: Call, parts: Sequence[str]) -> str:
    kept = _condition(call, parts)
    return exact_mean(f"sum({parts[1]}){kept}", f"count({parts[1]}){kept}")


def _exact_median(call: Call, parts: Sequence[str]) -> str:
    """The middle value, or the mean of the two in the middle: of the values alone, whatever their order."""
    return f"median({parts[1]}){_condition(call, parts)}"


def _exact_variance(*, sample: bool, root: bool) -> Operation:
    return lambda call, parts: exact_variance(parts[1], _condition(call, parts), sample=sample, root=root)


def _condition(call: Call, parts: Sequence[str]) -> str:
    return "" if call.arguments[0] == TRUE else f" FILTER (WHERE {parts[0]})"


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
    "round_to": lambda _call, parts: f"round({_double(parts[0])}, CAST({parts[1]} AS INTEGER))",
    "to_float": lambda _call, parts: _double(parts[0]),
    "to_timestamp": lambda _call, parts: f"CAST({parts[0]} AS TIMESTAMP)",
    "try_cast": _try_cast,
    **FUNCTIONS,
    "clamp": _clamp,
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
    "aggregate_bool_and": _summed("bool_and({0})"),
    "aggregate_bool_or": _summed("bool_or({0})"),
    "aggregate_exact_sum": _exact_sum,
    "aggregate_exact_avg": _exact_avg,
    "aggregate_exact_median": _exact_median,
    "aggregate_exact_var_samp": _exact_variance(sample=True, root=False),
    "aggregate_exact_var_pop": _exact_variance(sample=False, root=False),
    "aggregate_exact_stddev_samp": _exact_variance(sample=True, root=True),
    "aggregate_exact_stddev_pop": _exact_variance(sample=False, root=True),
}
