"""GROUP BY: plain lists, ROLLUP, CUBE and GROUPING SETS -> the sets of expressions to group by."""

from __future__ import annotations

from itertools import combinations, product
from typing import TYPE_CHECKING

from sqlglot import exp

if TYPE_CHECKING:
    from privacy.query.text import Source

MAX_SETS = 32

Nodes = tuple[exp.Expr, ...]


def grouping_sets(source: Source, group: exp.Expr) -> list[Nodes] | None:
    """The sets that a GROUP BY clause names, or None when it is a plain list.

    Raises:
        Refused: ``unsupported_clause`` for other forms, ``too_complex`` for too many sets.
    """
    for name in ("grouping_sets", "cube", "rollup", "totals"):
        found = group.args.get(name)
        if found:
            place = found[0] if isinstance(found, list) else found
            hint = "Write GROUP BY ROLLUP (a, b), CUBE (a, b) or GROUPING SETS ((a, b), ())."
            source.refuse(
                place if isinstance(place, exp.Expr) else group,
                "unsupported_clause",
                f"WITH {name.replace('_', ' ').upper()} is not supported.",
                hint,
            )
    if not any(isinstance(node, exp.Rollup | exp.Cube | exp.GroupingSets) for node in group.expressions):
        return None
    factors = [_sets(source, node) for node in group.expressions]
    size = 1
    for factor in factors:
        size *= len(factor)
        _check_size(source, group.expressions[0], size)
    return [sum(parts, ()) for parts in product(*factors)]


def _check_size(source: Source, node: exp.Expr, size: int) -> None:
    if size > MAX_SETS:
        message = f"A query has at most {MAX_SETS} grouping sets."
        hint = "Each is an answer of its own: ask for those that you need with GROUPING SETS."
        source.refuse(node, "too_complex", message, hint)


def _sets(source: Source, node: exp.Expr) -> list[Nodes]:
    if isinstance(node, exp.GroupingSets):
        found = [one for element in node.expressions for one in _sets(source, element)]
        _check_size(source, node, len(found))
        return found
    elements = [_element(part) for part in node.expressions]
    if isinstance(node, exp.Rollup):
        _check_size(source, node, len(elements) + 1)
        return [sum(elements[:size], ()) for size in range(len(elements), -1, -1)]
    if isinstance(node, exp.Cube):
        _check_size(source, node, 2 ** min(len(elements), 63))
        sizes = range(len(elements), -1, -1)
        return [sum(chosen, ()) for size in sizes for chosen in combinations(elements, size)]
    return [_element(node)]


def _element(node: exp.Expr) -> Nodes:
    """An expression, or several in brackets that come and go together."""
    if isinstance(node, exp.Tuple):
        return tuple(node.expressions)
    return (node.this if isinstance(node, exp.Paren) else node,)
