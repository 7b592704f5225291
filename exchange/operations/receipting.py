"""Receipts: the leaf of the settled query with the exchange's signed promise, then with its inclusion proof.

A receipt is rebuilt from the log whenever it is asked for: Ed25519 is deterministic (RFC 8032), so the
same leaf gives the same promise, and nothing is kept twice.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

from exchange.audit import checkpoint as checkpoints
from exchange.audit import log
from exchange.audit.errors import Malformed
from exchange.audit.receipts import attach_inclusion
from exchange.audit.tiles import Folder
from exchange.errors import NotFound

if TYPE_CHECKING:
    from sqlalchemy import Row

    from exchange.audit.checkpoint import Checkpoint
    from exchange.market import Market


def receipt_of(market: Market, row: Row[Any]) -> dict[str, Any]:
    """The receipt of a settled query."""
    return receipt_of_entry(market, row.entry_id)


def receipt_of_entry(market: Market, entry_id: str) -> dict[str, Any]:
    """The receipt of any entry, with an inclusion proof as soon as the published log covers it."""
    record = market.store.read(lambda session: log.find(session, entry_id))
    if record is None:
        raise NotFound("there is no such entry")
    time = json.loads(record.leaf[1:])["time"]
    receipt = market.receipts.issue(record.leaf, datetime.fromisoformat(time))
    newest = newest_checkpoint(market)
    if newest is None or newest.size <= record.seq:
        return receipt
    try:
        return attach_inclusion(receipt, Folder(market.settings.log_path), newest)
    except Malformed:
        return receipt  # tiles and checkpoint were replaced while they were read; the promise stands


def newest_checkpoint(market: Market) -> Checkpoint | None:
    """The published checkpoint, or None before the worker's first run."""
    path = market.settings.log_path / checkpoints.PATH
    return checkpoints.parse_checkpoint(path.read_bytes()) if path.is_file() else None
