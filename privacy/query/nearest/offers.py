"""Changes of a refused statement: what a person who wrote it may have meant.

Each takes the statement's syntax (a copy, changed in place) and the part that it was refused for, and returns
the changed statement, or None where it does not apply.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sqlglot import exp

from privacy.query.nearest.leaving import left_out
from privacy.query.nearest.meanings import Known
from privacy.query.nearest.rewriting import (
    aggregated_instead,
    as_double,
    as_number,
    as_text,
    asked_apart,
    counted,
    counted_argument,
    counted_rows,
    each_of_quotient,
    having_instead,
    in_two_steps,
    inside,
    listed,
    literal_moment,
    parsed,
    plain_aggregate,
    plain_form,
    plain_join,
    present,
    qualified,
    released_inside,
    renamed,
    semi_joined,
    union_all,
    unqualified,
)

if TYPE_CHECKING:
    from privacy.policy import Policy

Offer = Callable[[exp.Expr, exp.Expr], exp.Expr | None]


def offers(code: str, policy: Policy) -> list[Offer]:
    """The changes to try for a refusal of that code, the best first; leaving the part out comes last."""
    known = Known(policy)
    named: dict[str, list[Offer]] = {
        "raw_rows": [known.distinct_units, known.grouped, known.aggregated, counted],
        "ungrouped_column": [known.grouped],
        "unit_as_key": [known.without_unit, known.per_unit],
        "not_selectable": [counted_rows],
        "missing_bounds": [counted_argument, counted_rows],
        "overflow": [counted_argument],
        "type_mismatch": [as_number, as_text, present, listed, counted_argument],
        "unsupported_function": [
            each_of_quotient,
            plain_aggregate,
            counted_argument,
            as_double,
            parsed,
            inside,
        ],
        "unsupported_join": [plain_join, known.joined_on_unit, semi_joined, known.joined_on_common],
        "unknown_table": [known.table_meant, unqualified],
        "unsupported_table": [known.table_meant],
        "unknown_column": [known.column_meant],
        "ambiguous_column": [qualified],
        "duplicate_column": [renamed],
        "private_window": [known.window_of_unit, aggregated_instead],
        "private_subquery": [released_inside, asked_apart],
        "nested_aggregate": [in_two_steps],
        "unsupported_clause": [union_all, having_instead, plain_form, known.joined_on_common],
        "volatile": [literal_moment],
    }
    return [*named.get(code, []), left_out]
