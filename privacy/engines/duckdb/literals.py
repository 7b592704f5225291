"""Names and constants as SQL, and values of any origin as values of one type."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

from privacy.values import canonical

TYPES = {
    "boolean": "BOOLEAN", "integer": "BIGINT", "float": "DOUBLE", "decimal": "DOUBLE", "text": "VARCHAR",
    "date": "DATE", "timestamp": "TIMESTAMP",
}  # fmt: skip


def quoted(name: str) -> str:
    """An identifier, quoted."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: object, kind: str) -> str:
    """A constant, written by us and typed."""
    if value is None:
        return f"CAST(NULL AS {TYPES.get(kind, 'BOOLEAN')})"
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
    cast = f"TRY_CAST({sql} AS {TYPES[kind]})"
    if kind in ("float", "decimal"):
        return f"CASE WHEN isfinite({cast}) THEN {cast} + CAST('0' AS DOUBLE) END"
    if kind == "date":
        return f"CASE WHEN {cast} BETWEEN DATE '0001-01-01' AND DATE '9999-12-31' THEN {cast} END"
    if kind == "timestamp":
        earliest, latest = "TIMESTAMP '0001-01-01 00:00:00'", "TIMESTAMP '9999-12-31 23:59:59.999999'"
        return f"CASE WHEN {cast} BETWEEN {earliest} AND {latest} THEN {cast} END"
    return cast
