"""FROM: tables, subqueries and joins -> rows of one privacy unit, or public rows."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NoReturn

from sqlglot import exp

from privacy.algebra import (
    TRUE,
    Join,
    Scalar,
    columns_of,
    conjunction,
    conjuncts,
    shown_sources,
)
from privacy.query.catalog import Catalog, Rows
from privacy.query.scope import Named, Scope
from privacy.query.ties import equates

if TYPE_CHECKING:
    from privacy.query.scalars import Scalars
    from privacy.query.text import Source

MAX_SOURCES = 32
_SYSTEM_TABLE = re.compile(r"(sqlite|pg|duckdb|pragma|information_schema)_?", re.IGNORECASE)
_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_UNSUPPORTED_JOIN_HINT = "Join the private table to public tables, with JOIN or LEFT JOIN and an equality."


Environment = Mapping[str, tuple[exp.Expr, "Environment"]]
SubqueryRows = Callable[[exp.Expr, "Environment"], Rows]


class From:
    """Compiles the FROM clause of one block."""

    def __init__(self, source: Source, catalog: Catalog, subquery_rows: SubqueryRows) -> None:
        self.source = source
        self.catalog = catalog
        self._subquery_rows = subquery_rows

    def item(self, node: exp.Expr, environment: Environment) -> tuple[Rows, str]:
        """The rows of one item of FROM, and its alias."""
        if len(self.catalog.scans) >= MAX_SOURCES:
            self.source.refuse(
                node, "too_complex", "The statement names too many tables.", "Ask a smaller question."
            )
        if isinstance(node, exp.Table):
            return self._table(node, environment)
        if not isinstance(node, exp.Subquery):
            hint = "Name a table of the dataset or a subquery."
            self.source.refuse(node, "unsupported_table", "This cannot stand in FROM.", hint)
        return self._subquery(node, environment)

    def _subquery(self, node: exp.Subquery, environment: Environment) -> tuple[Rows, str]:
        self._only(node, "this", "alias")
        self._plain_alias(node)
        if isinstance(node.this, exp.Table):
            rows, alias = self.item(node.this, environment)
            return rows, node.alias or alias
        return self._subquery_rows(node.this, environment), node.alias or f"subquery {id(node)}"

    def _table(self, node: exp.Table, environment: Environment) -> tuple[Rows, str]:
        if not isinstance(node.this, exp.Identifier) or node.args.get("db") is not None:
            self._refuse_table(node)
        if node.args.get("sample") is not None:
            self.source.refuse(
                node.args["sample"], "sampling", "Sampling is not supported.", "Ask about all rows."
            )
        self._only(node, "this", "alias")
        self._plain_alias(node)
        named = environment.get(node.name.lower())
        if named is not None:
            return self._subquery_rows(*named), node.alias or node.name
        table = self.catalog.policy.table(node.name)
        if table is None:
            self._refuse_table(node)
        return self.catalog.scan(table, self.source.position(node)), node.alias or node.name

    def _plain_alias(self, node: exp.Expr) -> None:
        alias = node.args.get("alias")
        if alias is not None and alias.args.get("columns"):
            hint = "Rename columns with AS in the subquery."
            self.source.refuse(
                alias, "unsupported_clause", "Column lists in an alias are not supported.", hint
            )

    def _refuse_table(self, node: exp.Table) -> NoReturn:
        name = node.name
        hint = f"Tables: {', '.join(sorted(table.name for table in self.catalog.policy.tables.values()))}."
        plain = isinstance(node.this, exp.Identifier) and node.args.get("db") is None
        if plain and _PLAIN_NAME.fullmatch(name) and not _SYSTEM_TABLE.match(name):
            self.source.refuse(node, "unknown_table", f"There is no table {name}.", hint)
        message = "Files, functions and system tables cannot stand in FROM."
        self.source.refuse(node, "unsupported_table", message, hint)

    def _only(self, node: exp.Expr, *allowed: str) -> None:
        for name, value in node.args.items():
            if name in allowed or value in (None, False, [], ""):
                continue
            where = next((part for part in (value if isinstance(value, list) else [value])), None)
            place = where if isinstance(where, exp.Expr) else node
            if name == "sample":
                self.source.refuse(place, "sampling", "Sampling is not supported.", "Ask about all rows.")
            code = "unsupported_join" if name == "joins" else "unsupported_clause"
            self.source.refuse(
                place, code, "This clause of FROM is not supported.", "Write it in its plain form."
            )

    # Joins

    def join(
        self, left: Rows, right: Rows, node: exp.Join, scope: Scope, scalars: Scalars, alias: str
    ) -> Rows:
        """``left`` joined with the item ``right``, which the scope gains."""
        kind = self._kind(node)
        if kind == "left" and right.unit is not None and left.unit is None:
            message = "A private table cannot be the optional side of a join."
            self.source.refuse(
                node.this, "unsupported_join", message, "Write private_table LEFT JOIN public_table."
            )
        before = Scope(self.source, list(scope.items), dict(scope.merged))
        scope.add(Named(alias, right.columns), node.this)
        condition = self._condition(node, before, right, scope, scalars)
        if kind == "left":
            return self._left(left, right, node, condition)
        first, second = (right, left) if left.unit is None and right.unit is not None else (left, right)
        return Rows(
            Join(first.relation, second.relation, "inner", TRUE),
            {},
            left.unit or right.unit,
            left.table or right.table,
            (*left.filters, *right.filters, condition),
            left.order + right.order,
            nullable=left.nullable | right.nullable,
        )

    def _left(self, left: Rows, right: Rows, node: exp.Join, condition: Scalar) -> Rows:
        made = Join(left.relation, right.filtered, "left", condition)
        own, other = shown_sources(left.relation), shown_sources(right.relation)
        if any(column.source not in own | other for column in columns_of(condition)):
            message = "A left join does not ask for the value of a subquery."
            hint = "Join the subquery as a table first, or compare with its value in WHERE."
            self.source.refuse(node.args["on"], "unsupported_subquery", message, hint)
        if not any(equates(part, own, other) for part in conjuncts(condition)):
            message = "A joined table needs an equality with a table before it."
            hint = "Add ON a.key = b.key to the join."
            self.source.refuse(node.this, "unsupported_join", message, hint)
        return Rows(
            made,
            {},
            left.unit,
            left.table,
            left.filters,
            left.order + right.order,
            nullable=left.nullable | other,
        )

    def _kind(self, node: exp.Join) -> str:
        method, side, kind = (str(node.args.get(name) or "").upper() for name in ("method", "side", "kind"))
        if method in ("ASOF", "POSITIONAL"):
            message = f"{method} joins are not supported."
            self.source.refuse(node.this, "unsupported_clause", message, _UNSUPPORTED_JOIN_HINT)
        if method or side not in ("", "LEFT") or kind not in ("", "INNER", "OUTER", "CROSS"):
            words = " ".join(word for word in (method, side, kind) if word)
            message = f"{words} joins are not supported."
            self.source.refuse(node.this, "unsupported_join", message, _UNSUPPORTED_JOIN_HINT)
        self._only(node, "this", "on", "side", "kind", "using")
        return "left" if side == "LEFT" else "inner"

    def _condition(
        self, node: exp.Join, before: Scope, right: Rows, scope: Scope, scalars: Scalars
    ) -> Scalar:
        if node.args.get("using"):
            return conjunction(
                [self._same(name, before, right, scope, scalars) for name in node.args["using"]]
            )
        on = node.args.get("on")
        return TRUE if on is None else scalars.predicate(on)

    def _same(self, name: exp.Expr, before: Scope, right: Rows, scope: Scope, scalars: Scalars) -> Scalar:
        column = exp.Column(this=name.copy())
        column.meta.update(name.meta)
        other = right.columns.get(name.name.lower())
        if other is None:
            before.items.append(Named("", {}))
            self.source.refuse(
                name,
                "unknown_column",
                f"There is no column {name.name} to join on.",
                "Name a column of both sides.",
            )
        first = before.resolve(column)
        scope.merged[name.name.lower()] = first
        return scalars.call(name, "eq", scalars.alike(name, [first, other]), "boolean")
