"""Parts of a statement's syntax, and columns in place of others."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from sqlglot import exp

from privacy.query.measured import is_aggregate

if TYPE_CHECKING:
    from collections.abc import Iterable

_AFTER = (
    *("order", "limit", "offset", "distinct", "qualify", "having", "windows", "sample", "group"),
    *("into", "locks"),
)


def select_of(node: exp.Expr) -> exp.Expr | None:
    """The SELECT that a part stands in."""
    return node if isinstance(node, exp.Select) else node.find_ancestor(exp.Select)


def element_of(node: exp.Expr, select: exp.Expr, key: str) -> exp.Expr | None:
    """The element of one of a SELECT's lists that a part stands in."""
    while node.parent is not None and node.parent is not select:
        node = node.parent
    return node if node.parent is select and node.arg_key == key else None


def aggregate_of(node: exp.Expr) -> exp.Expr | None:
    """The aggregate that a part stands in, without its FILTER."""
    found: exp.Expr | None = None
    current: exp.Expr | None = node
    while current is not None and not isinstance(current, exp.Query):
        if is_aggregate(current) and not isinstance(current, exp.Filter):
            found = current
        current = current.parent
    return found


def counting() -> exp.Expr:
    """``count(*) AS n``."""
    return exp.alias_(exp.Count(this=exp.Star()), "n")


def with_columns(tree: exp.Expr, select: exp.Expr, items: Iterable[exp.Expr]) -> exp.Expr:
    """The statement with these columns alone, of all the rows that FROM and WHERE leave."""
    select.set("expressions", list(items))
    for name in _AFTER:
        select.set(name, None)
    return tree


def closest(word: str, names: Iterable[Any]) -> list[str]:
    """The name that is spelt most like the word, if one is spelt much like it."""
    return difflib.get_close_matches(word.lower(), list(names), 1, 0.7)
