"""The digest by which others name an entry: the log's leaves hold it, so that an altered entry is found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from settlement.documents import canonical, sha256_hex

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_HEAD = ("id", "kind", "business_key", "effective_at", "recorded_at", "actor", "reverses")
_LINE = ("leg", "unit", "debit", "credit", "amount", "phase", "pending_id")


def entry_digest(head: Mapping[str, Any], lines: Iterable[Mapping[str, Any]]) -> str:
    """SHA-256, in hex, over the text of an entry."""
    return sha256_hex(entry_text(head, lines))


def entry_text(head: Mapping[str, Any], lines: Iterable[Mapping[str, Any]]) -> str:
    """The canonical JSON (RFC 8785) of an entry's columns and its transfers by leg.

    Amounts enter as decimal text, because JSON numbers are exact only below 2^53. The entry's position is
    left out: it belongs to this database.
    """
    transfers = [{name: line[name] for name in _LINE} | {"amount": str(line["amount"])} for line in lines]
    document = {name: head[name] for name in _HEAD} | {"v": 1, "transfers": transfers}
    return canonical(document)
