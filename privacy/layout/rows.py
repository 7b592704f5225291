"""Rows in the order of their units: what is grouped by unit then meets each unit's rows together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from privacy.algebra import Column, Filter, Join, Scan, Semi, inputs_of, scans_of
from privacy.engines.duckdb import NUMBER, OWNER
from privacy.layout.wanted import Wanted

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from privacy.algebra import Aggregate, Relation


@dataclass(frozen=True)
class LaidRows(Wanted):
    """The rows of one private table, as a scan shows them, with their unit.

    Attributes:
        table: whose rows they are.
    """

    table: str


@dataclass(frozen=True)
class _Owner(Column):
    """The unit where stored rows have it. It keeps its place among the columns: what rows are ranked by, and
    how ties are broken, hangs on their order.

    Attributes:
        was: text of the column that it stands for.
    """

    was: str = ""

    @property
    def text(self) -> str:
        """As of the column that it stands for."""
        return self.was


def over_rows(aggregate: Aggregate, laid: Collection[str]) -> Aggregate:
    """The aggregate over the stored rows of these tables.

    Where the unit does nothing but tell units apart, its number does so at less cost.
    """
    bound = aggregate.input
    units = {scan.source: scan.unit for scan in scans_of(bound.input) if scan.unit and scan.table in laid}
    moved: Aggregate = _moved(aggregate, units)
    told_apart = not bound.ranked and all(one.kind != "distinct" for one in aggregate.sums)
    if bound.unit.source not in units or not told_apart or not _shows_scans(bound.input):
        return moved
    number = Column(bound.unit.source, NUMBER, "integer")
    return replace(moved, input=replace(moved.input, unit=number))


def _moved(node: Any, units: Mapping[str, Column]) -> Any:
    """The tree with the units of these scans where the stored rows have them."""
    if isinstance(node, tuple):
        return tuple(_moved(one, units) for one in node)
    if isinstance(node, Column):
        return _Owner(node.source, OWNER, node.type, node.text) if units.get(node.source) == node else node
    if not hasattr(node, "__dataclass_fields__"):
        return node
    parts = {name: _moved(getattr(node, name), units) for name in node.__dataclass_fields__}
    if isinstance(node, Scan) and node.source in units:
        parts["path"] = ()
    return type(node)(**parts)


def _shows_scans(relation: Relation) -> bool:
    """Whether the columns of scans are those of the relation."""
    shown = inputs_of(relation)[:1] if isinstance(relation, Semi) else inputs_of(relation)
    return isinstance(relation, Scan | Filter | Join | Semi) and all(map(_shows_scans, shown))
