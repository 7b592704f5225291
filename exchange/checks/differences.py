"""What a row says beside what the leaf of its entry says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from exchange.audit import AuditError
from exchange.audit import leaf as leaves

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sqlalchemy import Row

    Same = dict[str, tuple[Any, Any]]


def document(leaf: object) -> dict[str, Any] | None:
    """The leaf, or None where it cannot be read."""
    try:
        return leaves.decode(leaf if isinstance(leaf, bytes) else str(leaf).encode())
    except AuditError:
        return None


def differing(
    rows: Iterable[Row[Any]], same: Callable[[Row[Any], dict[str, Any]], Same], *, named: str = "id"
) -> list[str]:
    """What is wrong with rows that have the leaf of their entry as ``leaf``.

    Args:
        same: what the leaf says of a row's values as well, as (kept, logged). It is given the row and the
            groups of the leaf; one without a value is empty.
        named: the column that names a row.
    """
    findings = []
    for row in rows:
        who, leaf = getattr(row, named), document(row.leaf)
        if leaf is None:
            findings.append(f"{who} has a leaf that cannot be read")
            continue
        findings += _changed(who, same(row, {name: leaf[name] or {} for name in leaves.GROUPS}))
    return findings


def _changed(who: str, same: Same) -> list[str]:
    """What is wrong with a row whose values, as (kept, logged), are not the same."""
    different = [name for name, (kept, logged) in same.items() if kept != logged]
    return [f"{who} does not say what its entry says: {', '.join(different)}"] if different else []
