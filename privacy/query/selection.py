"""The SELECT list of one block: names and scalars of its columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlglot import exp

from privacy.algebra import Column, Scalar

if TYPE_CHECKING:
    from privacy.query.scalars import Scalars
    from privacy.query.scope import Scope
    from privacy.query.text import Source

MAX_COLUMNS = 200


class Selection:
    """Reads a SELECT list.

    Args:
        raw: whether a star would show raw rows here.
    """

    def __init__(self, source: Source, select: exp.Select, scope: Scope, *, raw: bool) -> None:
        self.source = source
        self.select = select
        self.scope = scope
        self.raw = raw

    def columns(self, scalars: Scalars) -> dict[str, Scalar]:
        """The columns by name, in their order; names that SQL makes up are told apart by numbers."""
        columns: dict[str, Scalar] = {}
        for item in self.select.expressions:
            for name, scalar in self._item(item, scalars):
                columns[self._fresh(name, item, columns)] = scalar
        if len(columns) > MAX_COLUMNS:
            hint = f"Select at most {MAX_COLUMNS} columns."
            self.source.refuse(self.select, "too_complex", "The result has too many columns.", hint)
        return columns

    def _fresh(self, name: str, item: exp.Expr, columns: dict[str, Scalar]) -> str:
        known = {one.lower() for one in columns}
        if name.lower() not in known:
            return name
        if isinstance(item, exp.Alias) or len(columns) >= MAX_COLUMNS:
            message = "Two columns of the result have the same name."
            self.source.refuse(item, "duplicate_column", message, "Give each its own name with AS.")
        numbered = (f"{name}_{count}" for count in range(2, MAX_COLUMNS + 2))
        return next(one for one in numbered if one.lower() not in known)

    def _item(self, item: exp.Expr, scalars: Scalars) -> list[tuple[str, Scalar]]:
        inner = item.this if isinstance(item, exp.Alias) else item
        if isinstance(inner, exp.Star) or (
            isinstance(inner, exp.Column) and isinstance(inner.this, exp.Star)
        ):
            return self._star(inner, scalars)
        if isinstance(item, exp.Alias):
            scalars.only(item, "this", "alias")
            return [(item.alias, scalars.compile(inner))]
        return [(_default_name(inner), scalars.compile(inner))]

    def _star(self, star: exp.Expr, scalars: Scalars) -> list[tuple[str, Scalar]]:
        inner = star if isinstance(star, exp.Star) else star.this
        scalars.only(inner)
        if not self.scope.items:
            self.source.refuse(
                star, "unsupported_clause", "There is no table to ask about.", "Add FROM and a table."
            )
        if self.raw:
            self.source.refuse(
                star, "raw_rows", "A star would show raw rows.", "Name the columns or aggregates."
            )
        if isinstance(star, exp.Column):
            items = [item for item in self.scope.items if item.alias.lower() == star.table.lower()]
            if not items:
                self.source.refuse(
                    star, "unknown_table", "There is no such table here.", "Use an alias of FROM."
                )
            found = list(items[0].columns.items())
        else:
            found = self.scope.all_columns()
        return [
            (scalar.name if isinstance(scalar, Column) and scalar.name.lower() == name else name, scalar)
            for name, scalar in found
            if scalar.type != "unknown"
        ]


def _default_name(node: exp.Expr) -> str:
    if isinstance(node, exp.Column):
        return str(node.name)
    while isinstance(node, exp.Paren | exp.Filter | exp.Window):
        node = node.this
    if isinstance(node, exp.Column):
        return str(node.name)
    return (
        node.sql_name().lower()
        if isinstance(node, exp.Func) and not isinstance(node, exp.Anonymous)
        else "column"
    )
