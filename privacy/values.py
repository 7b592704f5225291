"""The seven column types and their literal values."""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal, InvalidOperation
from typing import Any

import pyarrow as pa

TYPES = ("boolean", "integer", "float", "decimal", "text", "date", "timestamp")
NUMBERS = frozenset({"integer", "float", "decimal"})
TIMES = frozenset({"date", "timestamp"})

MAX_KEY_BYTES = 256
"""Text longer than this is NULL as a group's name: the size of an exact table is no channel."""

Value = bool | int | Decimal | str | dt.date | dt.datetime

_STRAY = re.compile("[\x00\ud800-\udfff]")


def structured(kind: str) -> bool:
    """Whether a type is one of lists or maps: some released columns have such, and nothing computes with
    them."""
    return kind.startswith(("list of ", "map of "))


def type_of(value: Any) -> str | None:
    """The type a bare literal has, or None when it is no literal of ours."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float | Decimal):
        return "float"
    return "text" if isinstance(value, str) else None


def value_of(value: Any, kind: str) -> Value | None:
    """``value`` read as a literal of type ``kind``, or None when it is none (never a rounded or guessed
    one)."""
    if kind == "boolean":
        return value if isinstance(value, bool) else None
    if kind == "integer":
        return _integer(value)
    if kind in ("float", "decimal"):
        return _number(value)
    if kind == "text":
        return value if isinstance(value, str) and not _STRAY.search(value) else None
    return _time(value, kind)


def _number(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        return None
    try:
        number = Decimal(str(value))
    except (InvalidOperation, ValueError):  # Python writes no whole number of more than 4,300 digits
        return None
    return number if number.is_finite() and abs(number.adjusted()) <= 300 else None


def _integer(value: Any) -> int | None:
    number = _number(value)
    if number is None or number.adjusted() > 18 or number != int(number):
        return None
    return int(number) if -(2**63) <= int(number) < 2**63 else None


def _time(value: Any, kind: str) -> dt.date | dt.datetime | None:
    if not isinstance(value, str):
        return None
    try:
        moment = dt.datetime.fromisoformat(value.strip())
    except ValueError:
        return None
    if moment.tzinfo is not None:
        moment = moment.astimezone(dt.UTC).replace(tzinfo=None)
    if kind == "timestamp":
        return moment
    return moment.date() if moment.time() == dt.time() else None


def canonical(value: Value | None) -> str:
    """Text in which equal literals are equal: numbers without trailing zeros, times in ISO form."""
    if isinstance(value, Decimal):
        return format(value.normalize(), "f") if value else "0"
    if isinstance(value, dt.date | dt.datetime):
        return value.isoformat()
    return repr(value)


def arrow_type_name(kind: pa.DataType) -> str | None:
    """Our name for an Arrow type, or None when columns of that type cannot be asked about."""
    if pa.types.is_dictionary(kind):
        return arrow_type_name(kind.value_type)
    if pa.types.is_boolean(kind):
        return "boolean"
    if pa.types.is_integer(kind):
        return "integer"
    if pa.types.is_floating(kind):
        return "float"
    if pa.types.is_decimal(kind):
        return "decimal"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "text"
    if pa.types.is_date(kind):
        return "date"
    return "timestamp" if pa.types.is_timestamp(kind) else None
