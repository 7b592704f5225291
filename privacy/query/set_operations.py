"""Set operations: UNION of private rows of one unit; UNION, EXCEPT and INTERSECT of public rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from sqlglot import exp

from privacy.algebra import Branch, Column, Literal, Order, Scalar, Semi, Union, conjunction
from privacy.query.catalog import Rows
from privacy.query.finishing import Finishing
from privacy.query.per_unit import each_once
from privacy.query.scalars import Scalars
from privacy.query.scope import Scope
from privacy.query.unions import Part, branches_of, private_union

if TYPE_CHECKING:
    from privacy.query.relations import Environment
    from privacy.query.statement import Statement

_PLACE = "b"
"""The column of a union that tells its branches apart."""


class SetOperation:
    """One chain of set operations, with the clauses that stand after it."""

    def __init__(self, statement: Statement, tree: exp.SetOperation, environment: Environment) -> None:
        self.statement = statement
        self.source = statement.source
        self.tree = tree
        self.environment = environment
        self.scalars = Scalars(self.source, Scope(self.source), self._misplaced, self._misplaced_window)

    def rows(self, *, top: bool) -> tuple[Rows, exp.Expr]:
        """What the operation evaluates to, and the place to blame for raw rows."""
        self._check_form()
        both = [self.tree.this, self.tree.expression]
        parts = branches_of(self.tree) if isinstance(self.tree, exp.Union) else both
        compiled = [self.statement.select(part, self.environment, top=False) for part in parts]
        private = [rows.unit is not None for rows, _ in compiled]
        if any(private):
            self._check_private(compiled, private, top=top)
            rows = private_union(compiled, self.scalars, self.statement.catalog)
            if self.tree.args.get("distinct"):
                unit = compiled[0][0].unit
                assert unit is not None
                rows = each_once(rows, unit.name, self.tree, self.scalars, self.statement.catalog)
            return rows, compiled[0][1]
        return self._public([rows for rows, _ in compiled], parts), compiled[0][1]

    def _public(self, branches: list[Rows], parts: list[exp.Expr]) -> Rows:
        columns = self._aligned(branches, parts)
        if isinstance(self.tree, exp.Union):
            made = stacked(self.statement, branches, columns)
        else:
            made = self._matched(branches, columns)
        finishing = Finishing(self.source, self.tree, self.scalars, self.statement.catalog)
        order = finishing.order(made.columns)
        if self.tree.args.get("distinct"):
            made, order = finishing.distinct(made, order)
        return finishing.finished(made, order)

    def _check_form(self) -> None:
        allowed = frozenset({"with_", "this", "expression", "distinct", "order", "limit", "offset"})
        self.statement.parts(self.tree, allowed)
        if not isinstance(self.tree, exp.Union) and not self.tree.args.get("distinct"):
            word = type(self.tree).__name__.upper()
            hint = f"Write {word} without ALL."
            self.source.refuse(
                self.tree.expression, "unsupported_clause", f"{word} ALL is not supported.", hint
            )

    def _aligned(self, branches: list[Rows], parts: list[exp.Expr]) -> list[list[Scalar]]:
        """For each branch its columns, brought to common types."""
        width = len(branches[0].columns)
        for rows, part in zip(branches, parts, strict=True):
            if len(rows.columns) != width:
                message = f"This query has {len(rows.columns)} columns, and the one before it {width}."
                self.source.refuse(part, "type_mismatch", message, "Select as many columns in each.")
        by_place = [[list(rows.columns.values())[place] for rows in branches] for place in range(width)]
        alike = [self.scalars.alike(self.tree.expression, scalars) for scalars in by_place]
        return [[column[branch] for column in alike] for branch in range(len(branches))]

    def _matched(self, branches: list[Rows], columns: list[list[Scalar]]) -> Rows:
        """EXCEPT or INTERSECT: rows of the left without or with an equal one on the right, each once."""
        left, right = branches
        same = [
            self.scalars.call(self.tree, "not_distinct", pair, "boolean")
            for pair in zip(*columns, strict=True)
        ]
        kind = "anti" if isinstance(self.tree, exp.Except) else "semi"
        made = Semi(left.filtered, right.filtered, kind, conjunction(list(same)))
        return Rows(made, dict(zip(left.columns, columns[0], strict=True)))

    # Refusals

    def _check_private(self, compiled: list[Part], private: list[bool], *, top: bool) -> None:
        """Private rows are only put after one another: all of them, whatever their order."""
        if not all(private):
            message = "A UNION of private rows and released or public ones is not supported."
            hint = "Aggregate the private rows first, or take them all from private tables."
            self.source.refuse(compiled[private.index(False)][1], "raw_rows", message, hint)
        if not isinstance(self.tree, exp.Union):
            message = "This operation would compare the rows of several units."
            hint = "Use WHERE with EXISTS, NOT EXISTS or IN and the privacy unit, or UNION."
            self.source.refuse(self.tree, "unsupported_clause", message, hint)
        for name in ("order", "limit", "offset"):
            if self.tree.args.get(name) is not None and not top:
                message = "The first rows of private tables depend on other units."
                hint = "Order and limit released rows, after the aggregation."
                self.source.refuse(self.tree.args[name], "private_limit", message, hint)

    def _misplaced(self, node: exp.Expr) -> NoReturn:
        hint = "Name a column of the result."
        self.source.refuse(node, "unsupported_subquery", "Subqueries here are not supported.", hint)

    def _misplaced_window(self, node: exp.Expr) -> NoReturn:
        hint = "Name a column of the result."
        self.source.refuse(node, "unsupported_clause", "Window functions are not supported here.", hint)


def stacked(statement: Statement, branches: list[Rows], columns: list[list[Scalar]]) -> Rows:
    """Public rows after one another, with the columns given for each branch, under the names of the first."""
    name = statement.catalog.fresh("u")
    shown = [_measured(statement, same) for same in zip(*columns, strict=True)]
    made = []
    for place, (rows, scalars) in enumerate(zip(branches, columns, strict=True)):
        named: list[tuple[str, Scalar]] = [(_PLACE, Literal(place, "integer"))]
        for number, scalar in enumerate(scalars):
            named.append((f"c{number}", scalar))
            if shown[number]:
                named += [(f"c{number}_{end}", _end(scalar, end)) for end in ("low", "high")]
        made.append(Branch(rows.filtered, tuple(named)))
    types = [scalar.type for scalar in columns[0]]
    result: dict[str, Scalar] = {
        alias: Column(name, f"c{number}", types[number]) for number, alias in enumerate(branches[0].columns)
    }
    statement.unions[name] = {f"c{number}" for number, whole in enumerate(shown) if whole}
    return Rows(Union(name, tuple(made)), result, order=(Order(Column(name, _PLACE, "integer")),))


def _measured(statement: Statement, scalars: tuple[Scalar, ...]) -> bool:
    """Whether the column has the ends of an interval: released measures, beside constants at most."""
    varying = [scalar for scalar in scalars if not isinstance(scalar, Literal)]
    return bool(varying) and all(
        isinstance(scalar, Column) and statement.has_interval(scalar) for scalar in varying
    )


def _end(scalar: Scalar, end: str) -> Scalar:
    return (
        Column(scalar.source, f"{scalar.name}_{end}", scalar.type) if isinstance(scalar, Column) else scalar
    )
