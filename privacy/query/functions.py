"""The allow-list of scalar functions. Each is total: no value makes it raise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlglot import exp

from privacy.algebra import Call, Column, Literal, Scalar
from privacy.values import NUMBERS, TIMES

if TYPE_CHECKING:
    from collections.abc import Callable

    from privacy.query.scalars import Scalars

MAX_COUNT = 1_000_000

NAMES = (
    "abs ceil coalesce date_diff date_part date_trunc floor greatest least left length lower nullif right "
    "round substring try_cast upper"
)
"""The functions that may be written, for hints."""

DATE_PARTS = {
    "year": "year", "quarter": "quarter", "month": "month", "week": "week", "day": "day", "hour": "hour",
    "minute": "minute", "second": "second", "dayofweek": "dayofweek", "dow": "dayofweek", "isodow": "isodow",
    "dayofyear": "dayofyear", "doy": "dayofyear", "days": "day", "months": "month", "years": "year",
    "hours": "hour", "minutes": "minute", "seconds": "second", "weekofyear": "week",
}  # fmt: skip
TRUNCATIONS = frozenset({"year", "quarter", "month", "week", "day", "hour", "minute", "second"})
_PART_NODES: dict[type, str] = {
    exp.Year: "year", exp.Quarter: "quarter", exp.Month: "month", exp.Week: "week", exp.Day: "day",
    exp.Hour: "hour", exp.Minute: "minute", exp.Second: "second", exp.DayOfWeek: "dayofweek",
    exp.DayOfWeekIso: "isodow", exp.DayOfYear: "dayofyear", exp.WeekOfYear: "week", exp.DayOfMonth: "day",
}  # fmt: skip
_CAST_TYPES = {
    "TINYINT": "integer", "SMALLINT": "integer", "INT": "integer", "BIGINT": "integer", "DOUBLE": "float",
    "FLOAT": "float", "TEXT": "text", "VARCHAR": "text", "BOOLEAN": "boolean", "DATE": "date",
    "TIMESTAMP": "timestamp", "TIMESTAMPNTZ": "timestamp",
}  # fmt: skip
_CAST_ENGINE = {"INT": "INTEGER", "TEXT": "VARCHAR", "FLOAT": "DOUBLE", "TIMESTAMPNTZ": "TIMESTAMP"}

_ROUNDING: dict[type, str] = {exp.Abs: "abs", exp.Floor: "floor", exp.Ceil: "ceil", exp.Round: "round"}
_TEXT: dict[type, str] = {exp.Lower: "lower", exp.Upper: "upper", exp.Length: "length"}
_CASTS: dict[str, frozenset[str]] = {
    **dict.fromkeys(NUMBERS, frozenset({"integer", "float", "text"})),
    "boolean": frozenset({"boolean", "integer", "text"}),
    "text": frozenset({"integer", "float", "text", "boolean", "date", "timestamp"}),
    "date": TIMES | {"text"},
    "timestamp": TIMES | {"text"},
    "null": frozenset(),
}


def _rounding(scalars: Scalars, node: exp.Expr) -> Scalar:
    scalars.only(node, "this", "decimals")
    operand = scalars.number(node.this, scalars.compile(node.this))
    digits = node.args.get("decimals")
    if digits is not None and type(node) is not exp.Abs:
        places = _count(scalars, digits, -15, 15)
        if type(node) is not exp.Round:
            scalars.refuse_unknown(node)
        return scalars.call(node, "round_to", [operand, places], "float")
    if operand.type == "integer" and type(node) is not exp.Abs:
        return operand
    return scalars.call(
        node, _ROUNDING[type(node)], [operand], "integer" if operand.type == "integer" else "float"
    )


def _text_function(scalars: Scalars, node: exp.Expr) -> Scalar:
    scalars.only(node, "this")
    operation = _TEXT[type(node)]
    return scalars.call(
        node, operation, [text(scalars, node.this)], "integer" if operation == "length" else "text"
    )


def _substring(scalars: Scalars, node: exp.Substring) -> Scalar:
    scalars.only(node, "this", "start", "length")
    if node.args.get("start") is None:
        scalars.refuse_unknown(node)
    bounds = [
        _count(scalars, node.args[name]) for name in ("start", "length") if node.args.get(name) is not None
    ]
    return scalars.call(node, "substring", [text(scalars, node.this), *bounds], "text")


def _side(scalars: Scalars, node: exp.Expr) -> Scalar:
    scalars.only(node, "this", "expression")
    operation = "left" if isinstance(node, exp.Left) else "right"
    return scalars.call(
        node, operation, [text(scalars, node.this), _count(scalars, node.args["expression"])], "text"
    )


def text(scalars: Scalars, node: exp.Expr) -> Scalar:
    """``node`` as text."""
    operand = scalars.compile(node)
    if operand.type not in ("text", "null"):
        scalars.mismatch(node, "Text is needed here.", "Use a text column, or try_cast(x AS varchar).")
    return Literal(None, "text") if operand.type == "null" else operand


def _count(scalars: Scalars, node: exp.Expr, low: int = -MAX_COUNT, high: int = MAX_COUNT) -> Literal:
    found = scalars.compile(node)
    if not isinstance(found, Literal) or not isinstance(found.value, int) or not low <= found.value <= high:
        scalars.mismatch(node, "A literal whole number is needed here.", f"Use one from {low} to {high}.")
    return found


def _truncation(scalars: Scalars, node: exp.Expr) -> Scalar:
    scalars.only(node, "this", "unit", "input_type_preserved")
    unit = str(node.args["unit"].name).lower()
    if unit not in TRUNCATIONS:
        hint = f"Use one of: {', '.join(sorted(TRUNCATIONS))}."
        scalars.source.refuse(node, "unsupported_function", f"date_trunc to {unit} is not supported.", hint)
    moment = _moment(scalars, node.this)
    return scalars.call(node, "date_trunc", [Literal(unit, "text"), moment], "timestamp")


def _part(scalars: Scalars, node: exp.Expr) -> Scalar:
    scalars.only(node, "this")
    return _date_part(scalars, node, _PART_NODES[type(node)], node.this)


def _extract(scalars: Scalars, node: exp.Extract) -> Scalar:
    scalars.only(node, "this", "expression")
    return _date_part(scalars, node, str(node.this.name), node.expression)


def _date_part(scalars: Scalars, node: exp.Expr, part: str, moment: exp.Expr) -> Scalar:
    known = DATE_PARTS.get(part.lower())
    if known is None:
        hint = f"Use one of: {', '.join(sorted(set(DATE_PARTS.values())))}."
        scalars.source.refuse(node, "unsupported_function", "This part of a time is not supported.", hint)
    return scalars.call(node, "date_part", [Literal(known, "text"), _moment(scalars, moment)], "integer")


def _moment(scalars: Scalars, node: exp.Expr) -> Scalar:
    operand = scalars.compile(node)
    if operand.type not in TIMES:
        scalars.mismatch(node, "A date or timestamp is needed here.", "Use one, or try_cast(x AS timestamp).")
    return scalars.converted(node, operand, "timestamp") if isinstance(operand, Column | Call) else operand


def _difference(scalars: Scalars, node: exp.DateDiff) -> Scalar:
    """Boundaries of a unit of time between two moments, as the engine's date_diff counts them."""
    scalars.only(node, "this", "expression", "unit", "date_part_boundary")
    unit = str(node.args["unit"].name).lower() if node.args.get("unit") is not None else ""
    if unit not in TRUNCATIONS:
        hint = f"Use one of: {', '.join(sorted(TRUNCATIONS))}."
        scalars.source.refuse(
            node, "unsupported_function", "A difference in this unit is not supported.", hint
        )
    moments = [_moment(scalars, side) for side in (node.expression, node.this)]
    return scalars.call(node, "date_diff", [Literal(unit, "text"), *moments], "integer")


def _cast(scalars: Scalars, node: exp.Cast) -> Scalar:
    scalars.only(node, "this", "to", "safe", "_type")
    named = node.to.this.value if hasattr(node.to.this, "value") else str(node.to.this)
    target = _CAST_TYPES.get(named)
    if target is None or node.to.expressions or node.to.args.get("nested"):
        hint = "Cast to bigint, double, varchar, boolean, date or timestamp."
        scalars.source.refuse(node, "unsupported_function", "A cast to this type is not supported.", hint)
    operand = scalars.compile(node.this)
    if isinstance(operand, Literal):
        return scalars.converted(node, operand, target)
    if target not in _CASTS[operand.type]:
        scalars.mismatch(node, f"A {operand.type} does not cast to {target}.", "Cast by way of varchar.")
    engine_type = Literal(_CAST_ENGINE.get(named, named), "text")
    return scalars.call(node, "try_cast", [operand, engine_type], target)


def _anonymous(scalars: Scalars, node: exp.Anonymous) -> Scalar:
    name = str(node.this).lower()
    if name in ("date_part", "datepart") and len(node.expressions) == 2:
        part = scalars.compile(node.expressions[0])
        if isinstance(part, Literal) and isinstance(part.value, str):
            return _date_part(scalars, node, part.value, node.expressions[1])
    return scalars.refuse_unknown(node)


FUNCTIONS: dict[type, Callable[..., Scalar]] = {
    exp.Abs: _rounding,
    exp.Floor: _rounding,
    exp.Ceil: _rounding,
    exp.Round: _rounding,
    exp.Lower: _text_function,
    exp.Upper: _text_function,
    exp.Length: _text_function,
    exp.Substring: _substring,
    exp.Left: _side,
    exp.Right: _side,
    exp.TimestampTrunc: _truncation,
    exp.DateTrunc: _truncation,
    exp.Extract: _extract,
    exp.DateDiff: _difference,
    exp.Cast: _cast,
    exp.TryCast: _cast,
    exp.Anonymous: _anonymous,
    **dict.fromkeys(_PART_NODES, _part),
}
