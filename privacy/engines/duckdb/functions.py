"""SQL of functions of text, numbers and times. Each is total: where it is not defined it is NULL."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from privacy.algebra import Call, Literal
from privacy.engines.duckdb.literals import normalised

Operation = Callable[[Call, Sequence[str]], str]

MAX_MADE_BYTES = 4096
"""Longer texts are not made: concatenated or filled with longer replacements they are NULL."""
_FARTHEST_DAYS = 4_000_000


def _function(name: str) -> Operation:
    return lambda _call, parts: f"{name}({', '.join(parts)})"


# Text


def _within(lengths: str, sql: str) -> str:
    return f"CASE WHEN {lengths} <= {MAX_MADE_BYTES} THEN {sql} END"


def _pipe(_call: Call, parts: Sequence[str]) -> str:
    return _within(" + ".join(f"strlen({part})" for part in parts), f"({' || '.join(parts)})")


def _concat(_call: Call, parts: Sequence[str]) -> str:
    lengths = " + ".join(f"coalesce(strlen({part}), 0)" for part in parts)
    return _within(lengths, f"concat({', '.join(parts)})")


def _concat_ws(_call: Call, parts: Sequence[str]) -> str:
    lengths = " + ".join(f"coalesce(strlen({part}), 0) + strlen({parts[0]})" for part in parts[1:])
    return _within(lengths, f"concat_ws({', '.join(parts)})")


def _replace(call: Call, parts: Sequence[str]) -> str:
    """What is replaced may become longer: by so many times at most."""
    sought, inserted = (_text(argument) for argument in call.arguments[1:])
    times = -(-len(inserted.encode()) // len(sought.encode()))
    sql = f"replace({', '.join(parts)})"
    return sql if times <= 1 else _within(f"strlen({parts[0]}) * {times}", sql)


def _padded(function: str) -> Operation:
    return lambda _call, parts: f"{function}({parts[0]}, CAST({parts[1]} AS INTEGER), {parts[2]})"


def _text(node: object) -> str:
    assert isinstance(node, Literal)
    assert isinstance(node.value, str)
    return node.value


def _whole(function: str) -> Operation:
    return lambda _call, parts: f"CAST({function}({', '.join(parts)}) AS BIGINT)"


# Numbers


def _double(sql: str) -> str:
    return f"CAST({sql} AS DOUBLE)"


def _finite(function: str, condition: str = "") -> Operation:
    """A function of doubles where ``condition`` holds and its value is finite."""

    def made(_call: Call, parts: Sequence[str]) -> str:
        doubles = [_double(part) for part in parts]
        sql = f"{function}({', '.join(doubles)})"
        held = f"{condition.format(*doubles)} AND " if condition else ""
        return f"CASE WHEN {held}isfinite({sql}) THEN {sql} END"

    return made


def _log(call: Call, parts: Sequence[str]) -> str:
    """Bases that the engine has an own function for keep its exact powers."""
    base, number = (_double(part) for part in parts)
    given = call.arguments[0]
    name = {"10": "log10", "2": "log2"}.get(str(given.value) if isinstance(given, Literal) else "")
    logarithm = f"{name}({number})" if name else f"ln({number}) / ln({base})"
    return f"CASE WHEN {number} > 0 THEN {logarithm} END"


def _whole_div(_call: Call, parts: Sequence[str]) -> str:
    one, other = (_double(part) for part in parts)
    return f"TRY_CAST(trunc({one} / NULLIF({other}, CAST('0' AS DOUBLE))) AS BIGINT)"


# Times


def _interval(parts: Sequence[str]) -> str:
    months, days, microseconds = parts
    return (
        f"(to_months(CAST({months} AS INTEGER)) + to_days(CAST({days} AS INTEGER)) "
        f"+ to_microseconds({microseconds}))"
    )


def _add_interval(_call: Call, parts: Sequence[str]) -> str:
    return normalised(f"({parts[0]} + {_interval(parts[1:])})", "timestamp")


def _add_days(_call: Call, parts: Sequence[str]) -> str:
    near = f"{parts[1]} BETWEEN -{_FARTHEST_DAYS} AND {_FARTHEST_DAYS}"
    days = f"CASE WHEN {near} THEN CAST({parts[1]} AS INTEGER) END"
    return normalised(f"({parts[0]} + {days})", "date")


def _time_bucket(call: Call, parts: Sequence[str]) -> str:
    return normalised(f"time_bucket({_interval(parts[1:])}, {parts[0]})", call.type)


def _cast(kind: str, function: str) -> Operation:
    return lambda _call, parts: f"CAST({function}({', '.join(parts)}) AS {kind})"


FUNCTIONS: dict[str, Operation] = {
    **{
        name: _function(name)
        for name in ("lower", "upper", "length", "substring", "left", "right", "reverse")
    },
    **{name: _function(name) for name in ("trim", "ltrim", "rtrim", "split_part")},
    **{name: _function(name) for name in ("starts_with", "ends_with", "contains", "strftime")},
    **{name: _whole(name) for name in ("ascii", "strlen", "strpos", "sign")},
    **{name: _padded(name) for name in ("lpad", "rpad")},
    "pipe": _pipe,
    "concat": _concat,
    "concat_ws": _concat_ws,
    "replace": _replace,
    "root": _finite("sqrt", "{0} >= 0"),
    "ln": _finite("ln", "{0} > 0"),
    "log": _log,
    "asin": _finite("asin", "{0} BETWEEN -1 AND 1"),
    "acos": _finite("acos", "{0} BETWEEN -1 AND 1"),
    **{name: _finite(name, "isfinite({0})") for name in ("sin", "cos", "tan", "atan")},
    **{name: _finite(name) for name in ("cbrt", "exp", "radians", "degrees", "atan2", "power")},
    "trunc": lambda _call, parts: f"trunc({_double(parts[0])})",
    "whole_div": _whole_div,
    "date_trunc": _cast("TIMESTAMP", "date_trunc"),
    "date_part": _whole("date_part"),
    "date_diff": _whole("date_diff"),
    "date_sub": _whole("date_sub"),
    "epoch": _cast("DOUBLE", "epoch"),
    "monthname": _function("monthname"),
    "dayname": _function("dayname"),
    "last_day": lambda _call, parts: normalised(f"last_day({parts[0]})", "date"),
    "make_date": lambda _call, parts: normalised(f"TRY(make_date({', '.join(parts)}))", "date"),
    "try_strptime": lambda _call, parts: normalised(f"try_strptime({', '.join(parts)})", "timestamp"),
    "add_interval": _add_interval,
    "add_days": _add_days,
    "time_bucket": _time_bucket,
}
