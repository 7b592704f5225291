"""What a row says beside what the leaf of its entry says."""

from __future__ import annotations

from typing import Any

from exchange.audit import AuditError
from exchange.audit import leaf as leaves


def document(leaf: object) -> dict[str, Any] | None:
    """The leaf, or None where it cannot be read."""
    try:
        return leaves.decode(leaf if isinstance(leaf, bytes) else str(leaf).encode())
    except AuditError:
        return None


def changed(who: str, same: dict[str, tuple[Any, Any]]) -> list[str]:
    """What is wrong with a row whose values, as (kept, logged), are not the same."""
    different = [name for name, (kept, logged) in same.items() if kept != logged]
    return [f"{who} does not say what its entry says: {', '.join(different)}"] if different else []
