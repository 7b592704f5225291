"""Functions of dates and timestamps. Moments outside the years 1 to 9999 are NULL."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NoReturn

from sqlglot import exp

from privacy.algebra import Literal, Scalar
from privacy.query.arguments import literal_text, moment, text
from privacy.values import TIMES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from privacy.query.scalars import Scalars

DATE_PARTS = {
    "year": "year", "quarter": "quarter", "month": "month", "week": "week", "day": "day", "hour": "hour",
    "minute": "minute", "second": "second", "dayofweek": "dayofweek", "dow": "dayofweek", "isodow": "isodow",
    "dayofyear": "dayofyear", "doy": "dayofyear", "days": "day", "months": "month", "years": "year",
    "hours": "hour", "minutes": "minute", "seconds": "second", "weekofyear": "week", "weekday": "dayofweek",
    "isoyear": "isoyear", "yearweek": "yearweek", "decade": "decade", "century": "century",
    "millisecond": "millisecond", "microsecond": "microsecond",
}  # fmt: skip
TRUNCATIONS = frozenset({"year", "quarter", "month", "week", "day", "hour", "minute", "second"})
_PART_NODES: dict[type, str] = {
    exp.Year: "year", exp.Quarter: "quarter", exp.Month: "month", exp.Week: "week", exp.Day: "day",
    exp.Hour: "hour", exp.Minute: "minute", exp.Second: "second", exp.DayOfWeek: "dayofweek",
    exp.DayOfWeekIso: "isodow", exp.DayOfYear: "dayofyear", exp.WeekOfYear: "week", exp.DayOfMonth: "day",
}  # fmt: skip
_UNITS = {
    "year": (12, 0, 0), "quarter": (3, 0, 0), "month": (1, 0, 0), "week": (0, 7, 0), "day": (0, 1, 0),
    "hour": (0, 0, 3_600_000_000), "minute": (0, 0, 60_000_000), "second": (0, 0, 1_000_000),
    "millisecond": (0, 0, 1_000), "microsecond": (0, 0, 1),
}  # fmt: skip
"""Months, days and microseconds of each unit that an interval may count."""
_LARGEST = (120_000, 3_660_000, 315_576_000_000_000_000)
"""Ten thousand years: no moment that is moved by it leaves the engine's range."""
_QUANTITY = re.compile(r"\s*([+-]?\d{1,18})\s*([a-zA-Z]+)\s*")
_FORMATS = frozenset("aAbBdfHIjmMpSuUVwWyYZGeT%") - frozenset("ZTe")
MAX_FORMAT_BYTES = 100

Interval = tuple[int, int, int]


# Parts of a moment


def _truncation(scalars: Scalars, node: exp.Expr) -> Scalar:
    scalars.only(node, "this", "unit", "input_type_preserved")
    unit = "" if node.args.get("unit") is None else str(node.args["unit"].name).lower()
    if unit not in TRUNCATIONS:
        hint = f"Use one of: {', '.join(sorted(TRUNCATIONS))}."
        message = "date_trunc to this unit is not supported."
        scalars.source.refuse(node, "unsupported_function", message, hint)
    return scalars.call(node, "date_trunc", [Literal(unit, "text"), moment(scalars, node.this)], "timestamp")


def _part(scalars: Scalars, node: exp.Expr) -> Scalar:
    scalars.only(node, "this")
    return _date_part(scalars, node, _PART_NODES[type(node)], node.this)


def _extract(scalars: Scalars, node: exp.Extract) -> Scalar:
    scalars.only(node, "this", "expression")
    return _date_part(scalars, node, str(node.this.name), node.expression)


def _date_part(scalars: Scalars, node: exp.Expr, part: str, of: exp.Expr) -> Scalar:
    if part.lower() == "epoch":
        return scalars.call(node, "epoch", [moment(scalars, of)], "float")
    known = DATE_PARTS.get(part.lower())
    if known is None:
        hint = f"Use one of: {', '.join(sorted({*DATE_PARTS.values(), 'epoch'}))}."
        scalars.source.refuse(node, "unsupported_function", "This part of a time is not supported.", hint)
    return scalars.call(node, "date_part", [Literal(known, "text"), moment(scalars, of)], "integer")


def _epoch(scalars: Scalars, node: exp.TimeToUnix) -> Scalar:
    scalars.only(node, "this")
    return _date_part(scalars, node, "epoch", node.this)


def _name(scalars: Scalars, node: exp.Expr) -> Scalar:
    scalars.only(node, "this")
    operation = "monthname" if isinstance(node, exp.Monthname) else "dayname"
    return scalars.call(node, operation, [moment(scalars, node.this)], "text")


def _last_day(scalars: Scalars, node: exp.LastDay) -> Scalar:
    scalars.only(node, "this")
    return scalars.call(node, "last_day", [moment(scalars, node.this)], "date")


def _date(scalars: Scalars, node: exp.Date) -> Scalar:
    scalars.only(node, "this")
    found = scalars.compile(node.this)
    if found.type not in (*TIMES, "text"):
        scalars.mismatch(node.this, "A date or timestamp is needed here.", "Use one, or text.")
    if isinstance(found, Literal):
        return scalars.converted(node, found, "date")
    return scalars.call(node, "try_cast", [found, Literal("DATE", "text")], "date")


def _made(scalars: Scalars, node: exp.DateFromParts) -> Scalar:
    scalars.only(node, "year", "month", "day")
    parts = [node.args.get(name) for name in ("year", "month", "day")]
    operands = [scalars.compile(part) for part in parts if part is not None]
    if len(operands) != len(parts) or any(operand.type != "integer" for operand in operands):
        scalars.mismatch(node, "Three whole numbers are needed here.", "Write make_date(year, month, day).")
    return scalars.call(node, "make_date", operands, "date")


# Texts


def _formatted(scalars: Scalars, node: exp.TimeToStr) -> Scalar:
    scalars.only(node, "this", "format")
    operands = [moment(scalars, node.this), _format(scalars, node.args.get("format"))]
    return scalars.call(node, "strftime", operands, "text")


def _parsed(scalars: Scalars, node: exp.Anonymous) -> Scalar:
    operands = [text(scalars, node.expressions[0]), _format(scalars, node.expressions[1])]
    return scalars.call(node, "try_strptime", operands, "timestamp")


def _format(scalars: Scalars, node: exp.Expr | None) -> Literal:
    found = literal_text(scalars, node, MAX_FORMAT_BYTES)
    if any(letter not in _FORMATS for letter in re.findall(r"%(.?)", str(found.value), re.DOTALL)):
        hint = "Use %Y %m %d %H %M %S %y %b %B %a %A %j %u %w %U %W %V %G %I %p %f and %%."
        scalars.source.refuse(node, "unsupported_function", "This format is not supported.", hint)
    return found


# Intervals and differences


def _difference(scalars: Scalars, node: exp.DateDiff) -> Scalar:
    """Boundaries of a unit of time between two moments, as the engine's date_diff counts them."""
    scalars.only(node, "this", "expression", "unit", "date_part_boundary")
    unit = "" if node.args.get("unit") is None else str(node.args["unit"].name)
    return _between(scalars, node, "date_diff", unit, [node.expression, node.this])


def _between(
    scalars: Scalars, node: exp.Expr, operation: str, unit: str, sides: Sequence[exp.Expr]
) -> Scalar:
    name = DATE_PARTS.get(unit.lower(), unit.lower())
    if name not in TRUNCATIONS:
        hint = f"Use one of: {', '.join(sorted(TRUNCATIONS))}."
        message = "A difference in this unit is not supported."
        scalars.source.refuse(node, "unsupported_function", message, hint)
    moments = [moment(scalars, side) for side in sides]
    return scalars.call(node, operation, [Literal(name, "text"), *moments], "integer")


def _added(scalars: Scalars, node: exp.DateAdd) -> Scalar:
    scalars.only(node, "this", "expression")
    if not isinstance(node.expression, exp.Interval):
        hint = "Write date_add(x, INTERVAL 1 DAY)."
        scalars.source.refuse(node, "unsupported_function", "This form is not supported.", hint)
    return _moved(scalars, node, node.this, interval(scalars, node.expression))


def time_arithmetic(
    scalars: Scalars, node: exp.Binary, sides: Sequence[exp.Expr], operands: Sequence[Scalar | None]
) -> Scalar | None:
    """What ``+`` or ``-`` means where there is a moment, or an interval (an operand of None); else None."""
    known = [operand for operand in operands if operand is not None]
    if len(known) == len(operands) and not any(operand.type in TIMES for operand in known):
        return None
    adding = isinstance(node, exp.Add)
    if len(known) == 1 and (adding or operands[0] is not None):
        place = operands.index(None)
        given = sides[place]
        assert isinstance(given, exp.Interval)
        length = interval(scalars, given)
        return _moved(scalars, node, sides[1 - place], length if adding else _negated(length), known[0])
    if len(known) == 2 and all(operand.type in ("date", "text") for operand in known) and not adding:
        dates = [scalars.converted(node, operand, "date") for operand in known]
        moments = [scalars.converted(node, one, "timestamp") for one in reversed(dates)]
        return scalars.call(node, "date_diff", [Literal("day", "text"), *moments], "integer")
    if len(known) == 2 and sorted(operand.type for operand in known) == ["date", "integer"]:
        return _days_later(scalars, node, known, adding=adding)
    return _refuse(scalars, node)


def _days_later(scalars: Scalars, node: exp.Binary, operands: Sequence[Scalar], *, adding: bool) -> Scalar:
    date, days = sorted(operands, key=lambda operand: operand.type)
    if not adding:
        if operands[0] is not date:
            _refuse(scalars, node)
        days = scalars.call(node, "neg", [days], "integer")
    return scalars.call(node, "add_days", [date, days], "date")


def _refuse(scalars: Scalars, node: exp.Expr) -> NoReturn:
    hint = "Use date_diff('hour', a, b), or x + INTERVAL 1 DAY."
    scalars.source.refuse(node, "type_mismatch", "Times are not computed with like this.", hint)


def _moved(
    scalars: Scalars, node: exp.Expr, of: exp.Expr, length: Interval, operand: Scalar | None = None
) -> Scalar:
    found = scalars.compile(of) if operand is None else operand
    if found.type not in TIMES:
        scalars.mismatch(of, "A date or timestamp is needed here.", "Use one, or try_cast(x AS timestamp).")
    start = scalars.converted(of, found, "timestamp")
    return scalars.call(node, "add_interval", [start, *_numbers(length)], "timestamp")


def _numbers(length: Interval) -> list[Literal]:
    return [Literal(number, "integer") for number in length]


def _negated(length: Interval) -> Interval:
    months, days, microseconds = length
    return -months, -days, -microseconds


def interval(scalars: Scalars, node: exp.Interval) -> Interval:
    """A literal interval as months, days and microseconds."""
    scalars.only(node, "this", "unit")
    given: exp.Expr | None = node.this
    sign = ""
    while isinstance(given, exp.Paren | exp.Neg):
        sign = "-" if isinstance(given, exp.Neg) and not sign else sign
        given = given.this
    unit = node.args.get("unit")
    written = (
        f"{sign}{given.this} {unit.name if unit is not None else ''}"
        if isinstance(given, exp.Literal)
        else ""
    )
    total = [0, 0, 0]
    end = 0
    while end < len(written.rstrip()):
        found = _QUANTITY.match(written, end)
        parts = _UNITS.get(_singular(found[2])) if found is not None else None
        if found is None or parts is None:
            _refuse_interval(scalars, node)
        total = [one + int(found[1]) * part for one, part in zip(total, parts, strict=True)]
        end = found.end()
    if not written or any(abs(one) > most for one, most in zip(total, _LARGEST, strict=True)):
        _refuse_interval(scalars, node)
    return total[0], total[1], total[2]


def _singular(unit: str) -> str:
    return unit.lower().removesuffix("s")


def _refuse_interval(scalars: Scalars, node: exp.Expr) -> NoReturn:
    hint = "Write it as in INTERVAL 1 DAY or INTERVAL '2 months', of at most 10,000 years."
    scalars.source.refuse(node, "type_mismatch", "A literal interval is needed here.", hint)


def _bucket(scalars: Scalars, node: exp.DateBin) -> Scalar:
    """time_bucket(interval, moment): the start of the stretch of time that a moment lies in."""
    scalars.only(node, "this", "expression")
    if not isinstance(node.this, exp.Interval):
        hint = "Write time_bucket(INTERVAL '15 minutes', x)."
        scalars.source.refuse(node, "type_mismatch", "A literal interval is needed here.", hint)
    months, days, microseconds = interval(scalars, node.this)
    if min(months, days, microseconds) < 0 or bool(months) is bool(days or microseconds):
        scalars.mismatch(node.this, "A width is needed here.", "Use months, or days and shorter, above 0.")
    found = scalars.compile(node.expression)
    if found.type not in TIMES or (found.type == "date" and microseconds):
        scalars.mismatch(node.expression, "A timestamp is needed here.", "Use try_cast(x AS timestamp).")
    start = scalars.converted(node, found, "timestamp")
    return scalars.call(node, "time_bucket", [start, *_numbers((months, days, microseconds))], found.type)


TIME_FUNCTIONS: dict[type, Callable[..., Scalar]] = {
    exp.TimestampTrunc: _truncation,
    exp.DateTrunc: _truncation,
    exp.Extract: _extract,
    exp.TimeToUnix: _epoch,
    exp.Monthname: _name,
    exp.Dayname: _name,
    exp.LastDay: _last_day,
    exp.Date: _date,
    exp.DateFromParts: _made,
    exp.TimeToStr: _formatted,
    exp.DateDiff: _difference,
    exp.DateAdd: _added,
    exp.DateBin: _bucket,
    **dict.fromkeys(_PART_NODES, _part),
}


def named_time_function(scalars: Scalars, node: exp.Anonymous, name: str) -> Scalar | None:
    """The functions that the parser knows no class for: date_part, date_sub, try_strptime, and parts."""
    given = node.expressions
    if name in ("date_part", "datepart", "date_sub", "datesub") and given:
        unit = scalars.compile(given[0])
        if not isinstance(unit, Literal) or not isinstance(unit.value, str):
            return None
        if name in ("date_part", "datepart") and len(given) == 2:
            return _date_part(scalars, node, unit.value, given[1])
        if name in ("date_sub", "datesub") and len(given) == 3:
            return _between(scalars, node, "date_sub", unit.value, given[1:])
    if name == "try_strptime" and len(given) == 2:
        return _parsed(scalars, node)
    if name in ("isoyear", "yearweek", "decade", "century", "weekday", "millisecond", "microsecond"):
        return _date_part(scalars, node, name, given[0]) if len(given) == 1 else None
    return None
