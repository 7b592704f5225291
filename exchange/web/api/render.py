"""Answers as JSON and CSV. Formula cells in CSV are defused; numbers keep their digits."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

from exchange.operations.results import as_plain, releases_of
from exchange.operations.terms import money

if TYPE_CHECKING:
    import pyarrow as pa

    from exchange.operations.querying import Answered

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def answer_document(answered: Answered, *, rows: bool) -> dict[str, Any]:
    """The reply to a run: what was charged, the columns with their noise, rows and intervals, the receipt."""
    row = answered.row
    document = {
        "query": row.id,
        "state": "succeeded",
        "repeated": answered.repeated,
        "charged": money(0 if answered.repeated else row.charge_minor, row.currency),
        "rho_nano": 0 if answered.repeated else row.rho_nano,
        "refines": row.refines,
        "columns": answered.columns,
        "releases": releases_of(answered.table),
        "row_count": answered.table.num_rows,
        "result_sha256": row.result_sha256,
        "receipt": answered.receipt,
        "intervals": answered.intervals,
    }
    if rows:
        document["rows"] = as_json(answered.table)["rows"]
    return document


def as_json(table: pa.Table) -> dict[str, Any]:
    """Columns and rows; decimals and times as text, so that nothing is rounded."""
    names = table.column_names
    columns = [column.to_pylist() for column in table.columns]
    rows = [[as_plain(value) for value in row] for row in zip(*columns, strict=True)]
    return {
        "columns": [{"name": n, "type": str(t)} for n, t in zip(names, table.schema.types, strict=True)],
        "rows": rows,
    }


def as_csv(table: pa.Table) -> str:
    """RFC 4180; text that a spreadsheet would run as a formula prefixed by an apostrophe, lists as JSON."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(_safe(name) for name in table.column_names)
    for row in as_json(table)["rows"]:
        writer.writerow(_safe(value) for value in row)
    return out.getvalue()


def _safe(value: object) -> object:
    if isinstance(value, list):
        return json.dumps(value, ensure_ascii=False)
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
