"""Which names a SELECT block can see, and what each of them stands for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from privacy.algebra import Column, Scalar

if TYPE_CHECKING:
    from sqlglot import exp

    from privacy.query.text import Source


@dataclass(frozen=True)
class Named:
    """One item of FROM: its alias, and its columns by lower-case name in their order."""

    alias: str
    columns: dict[str, Scalar]


class Correlated(Exception):
    """A subquery names a column of the query around it."""

    code = "correlated"


@dataclass
class Scope:
    """The items of one FROM, in order.

    Attributes:
        merged: the columns that USING made one of.
        outer: what can be seen of the query around it.
        beyond: what the query around sees and this one cannot: such names raise `Correlated`.
    """

    source: Source
    items: list[Named] = field(default_factory=list)
    merged: dict[str, Scalar] = field(default_factory=dict)
    outer: Scope | None = None
    beyond: Scope | None = None

    def add(self, item: Named, node: exp.Expr) -> None:
        if any(item.alias.lower() == other.alias.lower() for other in self.items):
            self.source.refuse(
                node,
                "ambiguous_table",
                f"Two tables are called {item.alias}.",
                "Give each table its own alias.",
            )
        self.items.append(item)

    def resolve(self, node: exp.Column) -> Scalar:
        """What the column stands for.

        Raises:
            Refused: ``unknown_column``, ``unknown_table``, ``ambiguous_column`` or ``unknown_type``.
        """
        found = self.find(node)
        if found is None and self.beyond is not None and self.beyond.knows(node):
            raise Correlated
        if found is None:
            here = self.outer if node.table and not self.has_alias(node.table) and self.outer else self
            known = sorted({name for item in here._visible(node) for name in item.columns})
            hint = f"Columns here: {', '.join(known[:30])}." if known else "There are no columns here."
            self.source.refuse(node, "unknown_column", f"There is no column {node.name}.", hint)
        if isinstance(found, Column) and found.type == "unknown":
            self.source.refuse(
                node,
                "unknown_type",
                f"The type of {node.name} is not known.",
                "Declare the column's `type` in the policy, or load the policy with tables=.",
            )
        return found

    def find(self, node: exp.Column) -> Scalar | None:
        """Like `resolve`, but None when no item has the column."""
        for extra in ("db", "catalog"):
            if node.args.get(extra) is not None:
                self.source.refuse(
                    node, "unknown_column", "A column has at most one qualifier.", "Write table.column."
                )
        name = node.name.lower()
        if node.table and self.outer is not None and not self.has_alias(node.table):
            return self.outer.find(node)
        items = self._visible(node)
        if not node.table and name in self.merged:
            return self.merged[name]
        matches = [item.columns[name] for item in items if name in item.columns]
        if len(matches) > 1:
            self.source.refuse(
                node,
                "ambiguous_column",
                f"More than one table has a column {node.name}.",
                f"Name the table: {items[0].alias}.{node.name}.",
            )
        if not matches and self.outer is not None and not node.table:
            return self.outer.find(node)
        return matches[0] if matches else None

    def has_alias(self, alias: str) -> bool:
        return any(item.alias.lower() == alias.lower() for item in self.items)

    def knows(self, node: exp.Column) -> bool:
        """Whether this query or one around it has such a column."""
        alias, name = node.table.lower(), node.name.lower()
        if any(item.alias.lower() == alias if alias else name in item.columns for item in self.items):
            return True
        return any(around is not None and around.knows(node) for around in (self.outer, self.beyond))

    def all_columns(self) -> list[tuple[str, Scalar]]:
        """What ``*`` stands for."""
        found: list[tuple[str, Scalar]] = list(self.merged.items())
        for item in self.items:
            found.extend((name, scalar) for name, scalar in item.columns.items() if name not in self.merged)
        return found

    def _visible(self, node: exp.Column) -> list[Named]:
        if not node.table:
            return self.items
        items = [item for item in self.items if item.alias.lower() == node.table.lower()]
        if not items and self.beyond is not None and self.beyond.knows(node):
            raise Correlated
        if not items:
            aliases = ", ".join(item.alias for item in self.items) or "none"
            self.source.refuse(
                node, "unknown_table", f"There is no table {node.table} here.", f"Tables here: {aliases}."
            )
        return items
