"""What comes last over public rows: DISTINCT, ORDER BY, LIMIT and OFFSET, of a SELECT or of a union."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sqlglot import exp

from privacy.algebra import Column, Grouped, Limited, Order, Scalar
from privacy.query.catalog import Catalog, Rows

if TYPE_CHECKING:
    from privacy.query.scalars import Scalars
    from privacy.query.text import Source

MAX_LIMIT = 2**31


class Finishing:
    """The last clauses of one query.

    Args:
        query: the syntax that holds the clauses.
        scalars: reads expressions of ORDER BY that are no selected columns.
    """

    def __init__(self, source: Source, query: exp.Expr, scalars: Scalars, catalog: Catalog) -> None:
        self.source = source
        self.query = query
        self.scalars = scalars
        self.catalog = catalog

    def order(self, columns: dict[str, Scalar]) -> tuple[Order, ...]:
        """ORDER BY: numbers and names of selected columns, or expressions."""
        order = self.query.args.get("order")
        if order is None:
            return ()
        self.scalars.only(order, "expressions")
        return tuple(self._ordered(item, columns) for item in order.expressions)

    def finished(self, rows: Rows, order: tuple[Order, ...]) -> Rows:
        """The rows distinct, in a total order, and no more than asked for."""
        distinct = self.query.args.get("distinct")
        if isinstance(distinct, exp.Expr):
            self.scalars.only(distinct)
            rows, order = self.distinct(rows, order)
        limit, offset = self._number("limit"), self._number("offset") or 0
        rows = replace(rows, order=total_order(*order, *rows.order))
        if limit is None and not offset:
            return rows
        limited = Limited(rows.filtered, whole_order(rows), limit, offset)
        return replace(rows, relation=limited, filters=())

    def distinct(self, rows: Rows, order: tuple[Order, ...]) -> tuple[Rows, tuple[Order, ...]]:
        """Each row once, and the same order of what is left."""
        name = self.catalog.fresh("g")
        texts = {scalar.text: scalar for scalar in rows.columns.values()}
        keys = {text: (f"k{place}", texts[text]) for place, text in enumerate(texts)}
        columns: dict[str, Scalar] = {
            alias: Column(name, keys[scalar.text][0], scalar.type) for alias, scalar in rows.columns.items()
        }
        if any(one.scalar.text not in keys for one in order):
            place = self.query.args["order"]
            self.source.refuse(
                place, "unsupported_clause", "With DISTINCT, order by selected columns.", "Name one of them."
            )
        renamed = tuple(
            Order(Column(name, keys[one.scalar.text][0], one.scalar.type), one.descending, one.nulls_first)
            for one in order
        )
        default = tuple(Order(scalar) for scalar in columns.values())
        return Rows(Grouped(name, rows.filtered, tuple(keys.values()), ()), columns, order=default), renamed

    def _ordered(self, item: exp.Expr, columns: dict[str, Scalar]) -> Order:
        self.scalars.only(item, "this", "desc", "nulls_first")
        node = item.this
        named = {name.lower(): scalar for name, scalar in columns.items()}
        if isinstance(node, exp.Literal) and not node.is_string:
            scalar = self._selected(node, columns)
        elif isinstance(node, exp.Column) and not node.table and node.name.lower() in named:
            scalar = named[node.name.lower()]
        elif isinstance(node, exp.Var):
            self.source.refuse(
                node, "unsupported_clause", "ORDER BY ALL is not supported.", "Name the columns."
            )
        else:
            scalar = self.scalars.compile(node)
        return Order(scalar, bool(item.args.get("desc")), bool(item.args.get("nulls_first")))

    def _selected(self, node: exp.Literal, columns: dict[str, Scalar]) -> Scalar:
        place = ordinal(node)
        if not 1 <= place <= len(columns):
            message = "There is no selected column of that number."
            self.source.refuse(node, "unknown_column", message, "Name the column.")
        return list(columns.values())[place - 1]

    def _number(self, name: str) -> int | None:
        clause = self.query.args.get(name)
        if clause is None:
            return None
        self.scalars.only(clause, "expression")
        value = clause.expression
        text = str(value.this) if isinstance(value, exp.Literal) and not value.is_string else ""
        if not text.isdecimal() or len(text) > 10 or int(text) >= MAX_LIMIT:
            hint = "Write it as in LIMIT 10."
            self.source.refuse(
                clause, "unsupported_clause", f"{name.upper()} needs a literal whole number.", hint
            )
        return int(text)


def ordinal(node: exp.Literal) -> int:
    """The number that a literal of GROUP BY or ORDER BY is, 0 if it is none."""
    text = str(node.this)
    return int(text) if text.isdecimal() and len(text) < 6 else 0


def whole_order(rows: Rows) -> tuple[Order, ...]:
    """The order of the rows, ties broken by everything that they show."""
    return total_order(*rows.order, *(Order(scalar) for scalar in rows.columns.values()))


def total_order(*orders: Order) -> tuple[Order, ...]:
    """The orders, each expression once: later ones break the ties of earlier ones."""
    found: dict[str, Order] = {}
    for one in orders:
        found.setdefault(one.scalar.text, one)
    return tuple(found.values())
