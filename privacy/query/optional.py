"""The optional side of a left join: its columns are NULL where nothing matched.

Columns of a subquery stand for their expressions, which are computed above the join. A literal or a CASE
would come out there even for a row that nothing matched, so they are computed below it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from privacy.algebra import Call, Column, Scalar
from privacy.query.set_operations import stacked
from privacy.query.unions import private_union

if TYPE_CHECKING:
    from sqlglot import exp

    from privacy.query.catalog import Rows
    from privacy.query.scalars import Scalars
    from privacy.query.statement import Statement

_STRICT = frozenset({"add", "sub", "mul", "div", "neg", "to_float", "to_timestamp"})


def optional_side(rows: Rows, node: exp.Expr, scalars: Scalars, statement: Statement) -> Rows:
    """The rows with columns that are NULL where all columns of their relation are."""
    if all(_null_where_unmatched(scalar) for scalar in rows.columns.values()):
        return rows
    if rows.unit is not None:
        made = private_union([(rows, node)], scalars, statement.catalog)
    else:
        made = stacked(statement, [rows], [list(rows.columns.values())])
    return replace(made, columns=dict(zip(rows.columns, made.columns.values(), strict=True)))


def _null_where_unmatched(scalar: Scalar) -> bool:
    """Whether an expression is NULL when all columns of its relation are."""
    if isinstance(scalar, Column):
        return True
    return (
        isinstance(scalar, Call)
        and scalar.operation in _STRICT
        and any(_null_where_unmatched(argument) for argument in scalar.arguments)
    )
