"""EXISTS and IN with a subquery, as conditions that WHERE asks of every row."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NoReturn

from sqlglot import exp

from privacy.algebra import (
    TRUE,
    Call,
    Capped,
    Column,
    Relation,
    Released,
    Scalar,
    Semi,
    columns_of,
    conjunction,
    conjuncts,
    inputs_of,
    shown_sources,
)
from privacy.query.links import MAX_FACTOR, MAX_ROWS_JOINED, same_owner
from privacy.query.ties import equates

if TYPE_CHECKING:
    from privacy.query.block import Block
    from privacy.query.catalog import Rows


@dataclass(frozen=True)
class Asked:
    """A condition with a subquery: EXISTS, or IN with its operand; negated or not."""

    node: exp.Expr
    query: exp.Expr
    operand: exp.Expr | None
    negated: bool


def split(node: exp.Expr) -> tuple[list[exp.Expr], list[Asked]]:
    """The conjuncts of a condition: those without, and those with a subquery that is a semi-join."""
    plain: list[exp.Expr] = []
    asked: list[Asked] = []
    pending = [node]
    while pending:
        part = pending.pop(0)
        inner = part.unnest() if isinstance(part, exp.Paren) else part
        if isinstance(inner, exp.And):
            pending = [inner.this, inner.expression, *pending]
            continue
        found = _asked(inner)
        if found is None:
            plain.append(part)
        else:
            asked.append(found)
    return plain, asked


def _asked(node: exp.Expr) -> Asked | None:
    negated = False
    while isinstance(node, exp.Not | exp.Paren):
        negated ^= isinstance(node, exp.Not)
        node = node.this
    if isinstance(node, exp.Exists):
        return Asked(node, node.this, None, negated)
    if isinstance(node, exp.In) and node.args.get("query") is not None:
        return Asked(node, node.args["query"], node.this, negated)
    return None


class SemiJoins:
    """Applies the subqueries of one block's WHERE to its rows."""

    def __init__(self, block: Block) -> None:
        self.block = block
        self.source = block.source
        self.catalog = block.statement.catalog

    def apply(self, rows: Rows, asked: Asked) -> Rows:
        """The rows for which the subquery has a match, or has none.

        Raises:
            Refused: ``private_subquery``, it asks about private rows of other units; ``correlated``, it
                refers to the row outside in another way than an equality; ``unsupported_subquery``.
        """
        right, mixed, column = self._right(asked)
        parts = list(mixed)
        operand = None
        if asked.operand is not None:
            assert column is not None
            scalars = self.block.scalars
            compiled = scalars.compile(asked.operand)
            operand, column = scalars.alike(asked.node, [compiled, column])
            parts.append(scalars.call(asked.node, "eq", [operand, column], "boolean"))
        near = shown_sources(rows.relation) | shown_sources(right.relation)
        if any(column.source not in near for part in parts for column in columns_of(part)):
            message = "A subquery that refers to a row further outside is not supported."
            self.source.refuse(query_of(asked.node), "correlated", message, "Join the tables instead.")
        if right.unit is None and (rows.unit is None or not _has_released(right.relation)):
            return self._with_public(rows, right, asked, parts)
        return self._with_private(rows, right, asked, parts, operand)

    def _right(self, asked: Asked) -> tuple[Rows, list[Scalar], Scalar | None]:
        """The rows of the subquery, the conditions that read the row outside, and the column of an IN."""
        right, mixed, columns = self.block.subquery(asked.query)
        if asked.operand is None:
            return right, mixed, None
        if len(columns) != 1:
            self.source.refuse(
                asked.query, "type_mismatch", "The subquery of IN selects one column.", "Select one column."
            )
        return right, mixed, columns[0]

    def _with_public(self, rows: Rows, right: Rows, asked: Asked, parts: list[Scalar]) -> Rows:
        on = conjunction(parts)
        left = shown_sources(rows.relation)
        if on != TRUE and not any(
            equates(part, left, shown_sources(right.relation)) for part in conjuncts(on)
        ):
            hint = "Equate a column of the subquery with one of the row outside."
            message = "The subquery is not tied to the row outside by an equality."
            self.source.refuse(asked.node, "unsupported_subquery", message, hint)
        kind = "anti" if asked.negated else "semi"
        if asked.negated and asked.operand is not None:
            if len(parts) > 1:
                message = "NOT IN with a subquery that refers to the row outside is not supported."
                self.source.refuse(asked.node, "correlated", message, "Write NOT EXISTS.")
            kind = "not_in"
        return replace(rows, relation=Semi(rows.filtered, right.filtered, kind, on), filters=())

    def _with_private(
        self, rows: Rows, right: Rows, asked: Asked, parts: list[Scalar], operand: Scalar | None
    ) -> Rows:
        """Both sides are private: the match is among the unit's own rows.

        NOT IN drops the rows whose operand is NULL, and does not look whether the subquery holds a NULL or
        nothing at all: that would be about other units.
        """
        sources = shown_sources(right.relation)
        ties = [ends for part in parts if (ends := same_owner(part, self.catalog)) is not None]
        ties = [ends for ends in ties if len({end.source in sources for end in ends}) == 2]
        if rows.unit is None or right.unit is None or not ties:
            self._refuse(asked, parts)
        on = conjunction(parts)
        relation = right.filtered
        factor = rows.factor
        if not all(_equality(part, sources) for part in conjuncts(on)):
            relation, cap = self._capped(
                right, [end for ends in ties for end in ends if end.source in sources]
            )
            factor *= cap
        if factor > MAX_FACTOR:
            message = "The subquery and joins could make too many rows of one."
            self.source.refuse(asked.node, "too_complex", message, "Ask with fewer tables.")
        kept: tuple[Scalar, ...] = ()
        if asked.negated and operand is not None:
            kept = (self._present(asked, operand),)
        made = Semi(rows.filtered, relation, "anti" if asked.negated else "semi", on)
        return replace(rows, relation=made, filters=kept, factor=factor)

    def _present(self, asked: Asked, operand: Scalar) -> Scalar:
        missing = self.block.scalars.call(asked.node, "is_null", [operand], "boolean")
        return self.block.scalars.call(asked.node, "not", [missing], "boolean")

    def _capped(self, right: Rows, ends: list[Column]) -> tuple[Relation, int]:
        """At most so many rows of a unit, and of each key that is equated, as one row is compared with."""
        if right.most is not None and right.most <= MAX_ROWS_JOINED:
            return right.filtered, right.most
        if any(end in right.unique for end in ends):
            return right.filtered, 1
        assert right.unit is not None
        most = right.table.max_rows if right.table is not None else MAX_ROWS_JOINED
        cap = min(MAX_ROWS_JOINED, most)
        keys = tuple(dict.fromkeys(end for end in ends if end not in right.units))
        return Capped(right.filtered, right.unit, cap, keys), cap

    def _refuse(self, asked: Asked, parts: list[Scalar]) -> NoReturn:
        if (
            asked.operand is None
            and parts
            and self.block.input is not None
            and self.block.input.unit is not None
        ):
            message = "A subquery over other units' rows, which refers to the row outside, is not supported."
            hint = "Equate the privacy units, or a key on the path to them."
            self.source.refuse(query_of(asked.node), "correlated", message, hint)
        message = "A subquery over private rows would be an answer of its own."
        hint = "Equate the privacy unit with the row outside, or ask it as its own question."
        self.source.refuse(query_of(asked.node), "private_subquery", message, hint)


def query_of(node: exp.Expr) -> exp.Expr:
    """The nested query inside a subquery expression."""
    found = node.args.get("query") if isinstance(node, exp.In) else node
    return found if isinstance(found, exp.Expr) else node


def _equality(part: Scalar, right: set[str]) -> bool:
    """Whether a condition equates an expression of the right side with one of the left."""
    if not isinstance(part, Call) or part.operation != "eq":
        return False
    one, other = ({column.source for column in columns_of(side)} for side in part.arguments)
    return bool(
        one and other and ((one <= right and not other & right) or (other <= right and not one & right))
    )


def _has_released(relation: Relation) -> bool:
    return isinstance(relation, Released) or any(_has_released(below) for below in inputs_of(relation))
