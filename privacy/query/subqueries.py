"""Subqueries in expressions: one value each, joined to the rows that use it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from sqlglot import exp

from privacy.algebra import (
    TRUE,
    Branch,
    Column,
    Filter,
    Grouped,
    Join,
    Limited,
    Literal,
    Relation,
    Released,
    Scalar,
    Union,
    Windowed,
    inputs_of,
)
from privacy.errors import Refused
from privacy.query.scope import Correlated

if TYPE_CHECKING:
    from privacy.query.catalog import Rows
    from privacy.query.relations import Environment
    from privacy.query.scope import Scope
    from privacy.query.statement import Statement


class Subqueries:
    """Compiles the subqueries of one block's expressions.

    Attributes:
        private: whether the rows that use the values are private: then no released number may come in, as
            the exact part would wait for noise that is drawn after it.
    """

    def __init__(self, statement: Statement, scope: Scope, environment: Environment) -> None:
        self.statement = statement
        self.source = statement.source
        self.scope = scope
        self.environment = environment
        self.private = False
        self.joined: list[Relation] = []
        self._known: dict[int, Scalar] = {}

    def compile(self, node: exp.Expr) -> Scalar:
        """The one value of a subquery, NULL where it has no row."""
        found = self._known.get(id(node))
        if found is None:
            found = self._known[id(node)] = self._value(node)
        return found

    def onto(self, relation: Relation) -> Relation:
        """The relation beside whose rows the values stand."""
        for one in self.joined:
            relation = Join(relation, one, "left", TRUE)
        self.joined = []
        return relation

    def _value(self, node: exp.Expr) -> Scalar:
        rows = self._public(node)
        if not isinstance(node, exp.Subquery):
            hint = "Write IN and EXISTS as conditions of WHERE, combined by AND, or join the table."
            self._refuse(node, "unsupported_subquery", "A subquery of this form is not supported here.", hint)
        if len(rows.columns) != 1:
            hint = "Select one column."
            self._refuse(node, "unsupported_subquery", "A subquery here has more than one column.", hint)
        relation, (scalar,) = rows.filtered, rows.columns.values()
        if not self.at_most_one(relation):
            hint = "Aggregate it to one row, as in (SELECT max(n) FROM t), or add LIMIT 1."
            self._refuse(node, "unsupported_subquery", "A subquery here may have more than one row.", hint)
        if scalar.type == "null":
            scalar = Literal(None, "integer")
        if not self._one(relation) and not isinstance(scalar, Column):
            name = self.statement.catalog.fresh("u")
            relation = Union(name, (Branch(relation, (("c0", scalar),)),))
            scalar = Column(name, "c0", scalar.type)
        self.joined.append(relation)
        return scalar

    def rows(self, node: exp.Expr) -> Rows:
        """The rows of the query inside, which refers to nothing outside.

        Raises:
            Refused: ``correlated``, and what the query itself is refused for.
        """
        before, self.statement.around = self.statement.around, self.scope
        try:
            return self.statement.nested(query_of(node), self.environment)
        except Correlated:
            message = "A subquery that refers to the row outside is not supported."
            self._refuse(node, "correlated", message, "Join the tables instead.")
        except Refused as refused:
            if refused.code == "private_limit":  # one row of a private table: no value that may be used
                self._refuse_private(node)
            raise
        finally:
            self.statement.around = before

    def _public(self, node: exp.Expr) -> Rows:
        """The rows of the query inside: public ones, that may stand where they are."""
        if not isinstance(query_of(node), exp.Query):
            hint = "Write x IN ('a', 'b')."
            self._refuse(node, "unsupported_function", "Lists of this form are not supported.", hint)
        rows = self.rows(node)
        if rows.unit is not None or (self.private and released_within(rows.relation)):
            self._refuse_private(node)
        return rows

    def _refuse_private(self, node: exp.Expr) -> NoReturn:
        message = "A subquery over private rows would be an answer of its own."
        hint = "Ask it as its own question, then write its answer as a literal."
        self._refuse(node, "private_subquery", message, hint)

    def _refuse(self, node: exp.Expr, code: str, message: str, hint: str) -> NoReturn:
        self.source.refuse(query_of(node), code, message, hint)

    # How many rows

    def _one(self, relation: Relation) -> bool:
        """Whether there is exactly one row, whatever the tables hold."""
        if isinstance(relation, Grouped):
            return not relation.keys
        if isinstance(relation, Released):
            question = self.statement.question(relation.question)
            return question is not None and not question.keys
        if isinstance(relation, Join):
            return relation.on == TRUE and self._one(relation.left) and self.at_most_one(relation.right)
        return isinstance(relation, Windowed) and self._one(relation.input)

    def at_most_one(self, relation: Relation) -> bool:
        """Whether there is one row or none, whatever the tables hold."""
        if isinstance(relation, Limited):
            return relation.limit in (0, 1) or self.at_most_one(relation.input)
        if isinstance(relation, Filter | Windowed):
            return self.at_most_one(relation.input)
        if isinstance(relation, Join):
            return self.at_most_one(relation.left) and self.at_most_one(relation.right)
        return self._one(relation)


def released_within(relation: Relation) -> bool:
    """Whether numbers of an answer come in."""
    return isinstance(relation, Released) or any(map(released_within, inputs_of(relation)))


def query_of(node: exp.Expr) -> exp.Expr:
    """The nested query inside a subquery expression."""
    found = node.args.get("query") if isinstance(node, exp.In) else node
    found = found.this if isinstance(found, exp.Exists | exp.Any | exp.All) else found
    return found if isinstance(found, exp.Expr) else node
