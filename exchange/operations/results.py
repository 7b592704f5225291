"""Stored answers: one Arrow stream each, found by the digest of its bytes, with all that is known of it."""

from __future__ import annotations

import datetime
import decimal
import hashlib
import json
import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from exchange.operations.settling import Kept
from exchange.store import assert_outside_transaction

if TYPE_CHECKING:
    import privacy
    from exchange.market import Market
    from exchange.operations.quoting import Terms

_TOLD = ("kind", "sigma", "half_width", "expected_bias", "note")
_COLUMNS, _INTERVALS, _RELEASED = b"exchange.columns", b"exchange.intervals", b"exchange.released"


def keep(market: Market, answer: privacy.Answer, terms: Terms) -> Kept:
    """Write an answer as an Arrow stream, with its columns' noise and intervals in the schema's metadata.

    The released numbers behind it are an object of their own, whose digest the stream names.
    """
    assert_outside_transaction()
    noise = {column.name: asdict(column) for column in terms.plan.columns}
    columns = [
        {
            "name": f.name,
            "type": str(f.type),
            **{told: _without_infinity(noise.get(f.name, {}).get(told)) for told in _TOLD},
        }
        for f in answer.table.schema
    ]
    metadata = {
        **(answer.table.schema.metadata or {}),
        _COLUMNS: json.dumps(columns, allow_nan=False).encode(),
        _INTERVALS: json.dumps(as_plain(answer.intervals), allow_nan=False).encode(),
        b"exchange.version": terms.view.version_id.encode(),
        b"exchange.plan_sha256": terms.plan.digest.encode(),
        b"exchange.refines": (terms.reuse.refines or "").encode(),
    }
    contents, released = [], ""
    if answer.released.tables:
        contents.append(answer.released.to_bytes())
        released = hashlib.sha256(contents[0]).hexdigest()
        metadata[_RELEASED] = released.encode()
    table = answer.table.replace_schema_metadata(metadata).combine_chunks()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    contents.append(sink.getvalue().to_pybytes())
    sealed = market.vault.seal(*contents)
    return Kept(hashlib.sha256(contents[-1]).hexdigest(), len(contents[-1]), released, sealed)


def as_plain(value: Any) -> Any:
    """A value as it travels in JSON, also within lists and maps: decimals and times as text, so that nothing
    is rounded, and so the bin without an upper end, for which JSON has no number."""
    if isinstance(value, dict):
        return {name: as_plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [as_plain(one) for one in value]
    if isinstance(value, decimal.Decimal):
        return str(value)
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return "Infinity" if value > 0 else "-Infinity" if value < 0 else None
    return value


def _without_infinity(told: Any) -> Any:
    """An error without bound is null, as in a quote."""
    return None if isinstance(told, float) and not math.isfinite(told) else told


def releases_of(table: pa.Table) -> list[dict[str, Any]]:
    """How a unit's contribution to each release behind a stored answer was bounded, as its metadata says."""
    stated = (table.schema.metadata or {}).get(b"privacy", b"{}")
    found: list[dict[str, Any]] = json.loads(stated).get("releases", [])
    return found


def open_result(arrow: bytes) -> tuple[pa.Table, list[dict[str, Any]], dict[str, Any]]:
    """The table of a stored answer, what is known of its columns, and its intervals."""
    with pa.ipc.open_stream(pa.BufferReader(arrow)) as reader:
        table = reader.read_all()
    stored = table.schema.metadata or {}
    return table, json.loads(stored[_COLUMNS]), json.loads(stored[_INTERVALS])


def released_of(arrow: bytes) -> str | None:
    """The digest of the released numbers behind a stored answer; None where none were kept."""
    with pa.ipc.open_stream(pa.BufferReader(arrow)) as reader:
        kept: bytes | None = (reader.schema.metadata or {}).get(_RELEASED)
    return None if kept is None else kept.decode()
