"""Rows in the order of their units: what is grouped by unit then meets each unit's rows together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from privacy.algebra import Call, Column, Filter, Join, Scan, Semi, inputs_of, renamed, scans_of
from privacy.engines.duckdb import NUMBER, OWNER
from privacy.layout.wanted import Wanted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from privacy.algebra import Aggregate, Relation


@dataclass(frozen=True, kw_only=True)
class LaidRows(Wanted):
    """The rows of one private table, as a scan shows them, with their unit.

    Attributes:
        table: whose rows they are.
        source: what the scan of them is called there.
        fixed: names of declared numbers in fixed point that stand beside the columns, and what they are.
    """

    table: str
    source: str
    fixed: Mapping[str, Call]

    @property
    def called(self) -> str:
        """They stand in the place of the table."""
        return self.table

    def shown(self, source: str) -> dict[str, Column]:
        """The stored columns that have a number in fixed point, or are missing where a column is, by the text
        of that in a scan of another name."""
        found: dict[str, Column] = {}
        for name, scalar in self.fixed.items():
            moved: Call = renamed(scalar, {self.source: source})
            column = Column(source, name, "integer")
            found[moved.text] = column
            found[Call("is_null", (moved.arguments[0],), "boolean").text] = column
        return found


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


def over_rows(aggregate: Aggregate, laid: Mapping[str, LaidRows]) -> Aggregate:
    """The aggregate over the stored rows of these tables.

    Where the unit does nothing but tell units apart, its number does so at less cost. Where no rows are put
    in order by all that they have, numbers are read in fixed point.
    """
    bound = aggregate.input
    scans = [scan for scan in scans_of(bound.input) if scan.unit and scan.table in laid]
    units = {scan.source: scan.unit for scan in scans if scan.unit is not None}
    plain, fixed = _shows_scans(bound.input), dict[str, Column]()
    for scan in scans if plain else ():
        fixed |= laid[scan.table].shown(scan.source)
    moved: Aggregate = _Moved(units, fixed).node(aggregate)
    told_apart = not bound.ranked and all(one.kind != "distinct" for one in aggregate.sums)
    if bound.unit.source not in units or not told_apart or not plain:
        return moved
    number = Column(bound.unit.source, NUMBER, "integer")
    return replace(moved, input=replace(moved.input, unit=number))


@dataclass(frozen=True)
class _Moved:
    """Moves a tree to stored rows.

    Attributes:
        units: the unit of each scan that is of stored rows.
        fixed: the columns of stored rows that hold what an expression of this text is of.
    """

    units: Mapping[str, Column]
    fixed: Mapping[str, Column]

    def node(self, node: Any) -> Any:
        """The tree with units, and numbers in fixed point, where the stored rows have them."""
        if isinstance(node, tuple):
            return tuple(self.node(one) for one in node)
        if isinstance(node, Column):
            here = self.units.get(node.source) == node
            return _Owner(node.source, OWNER, node.type, node.text) if here else node
        if isinstance(node, Call) and node.operation in ("clamp", "is_null") and node.text in self.fixed:
            column = self.fixed[node.text]
            return column if node.operation == "clamp" else replace(node, arguments=(column,))
        if not hasattr(node, "__dataclass_fields__"):
            return node
        parts = {name: self.node(getattr(node, name)) for name in node.__dataclass_fields__}
        if isinstance(node, Scan) and node.source in self.units:
            parts["path"] = ()
        return type(node)(**parts)


def _shows_scans(relation: Relation) -> bool:
    """Whether the columns of scans are those of the relation."""
    shown = inputs_of(relation)[:1] if isinstance(relation, Semi) else inputs_of(relation)
    return isinstance(relation, Scan | Filter | Join | Semi) and all(map(_shows_scans, shown))
