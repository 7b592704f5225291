"""The search for a statement that is answered, among changes of one that is not."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlglot import exp
from sqlglot.errors import ErrorLevel, SqlglotError

from privacy.query.nearest.offers import offers

if TYPE_CHECKING:
    from privacy.policy import Policy

MAX_ATTEMPTS = 10
MAX_STEPS = 6
MAX_NODES = 600
MAX_TEXT = 2_000


@dataclass(frozen=True)
class Attempt:
    """What compiling a statement came to. ``code`` is None where it is answered.

    Attributes:
        tree: the statement's syntax, as far as it was read.
        blamed: the part that it is refused for.
    """

    code: str | None
    text: str
    tree: exp.Expr | None = None
    blamed: exp.Expr | None = None


_QUERY = re.compile(r"\b(?:SELECT|WITH|FROM)\b", re.IGNORECASE)

Compile = Callable[[str], Attempt]


def nearest(failed: Attempt, policy: Policy, compiled: Compile) -> str | None:
    """The text of a statement near the refused one that is answered, or None where none was found.

    Args:
        compiled: compiles a text; refusals come back as an attempt.
    """
    left = MAX_ATTEMPTS
    for _ in range(MAX_STEPS):
        onward: Attempt | None = None
        for candidate in _texts(failed, policy):
            if left == 0:
                return None
            left -= 1
            attempt = compiled(candidate)
            if attempt.code is None:
                return candidate
            if onward is None or _alike(onward, failed):
                onward = attempt
        if onward is None:
            return None
        failed = onward
    return None


def _alike(one: Attempt, other: Attempt) -> bool:
    """Whether two statements fail for the same reason: then nothing was mended."""
    return one.code == other.code and one.blamed == other.blamed


def _texts(failed: Attempt, policy: Policy) -> Iterator[str]:
    """The texts of the changed statements, the best first."""
    tree, blamed = failed.tree, failed.blamed
    if tree is None:
        yield from _parts(failed, policy)
    if tree is None or blamed is None or failed.code is None:
        return
    if sum(1 for _ in zip(tree.walk(), range(MAX_NODES), strict=False)) >= MAX_NODES:
        return
    seen = set()
    path = _path(blamed)
    for offer in offers(failed.code, policy):
        copied = tree.copy()
        place = _at(copied, path)
        try:
            changed = None if place is None else offer(copied, place)
            text = None if changed is None else _written(changed)
        except (SqlglotError, ValueError, TypeError, AttributeError, KeyError, IndexError):
            continue
        if text is not None and len(text) <= MAX_TEXT and text not in seen:
            seen.add(text)
            yield text


def _parts(failed: Attempt, policy: Policy) -> Iterator[str]:
    """Of several statements the first; of another statement the query in it; with the brackets closed."""
    if len(failed.text) > MAX_TEXT:
        return
    if failed.code == "multiple_statements":
        yield failed.text.partition(";")[0]
    if failed.code == "syntax":
        plain = failed.text.rstrip("; \n")
        if plain.count("(") > plain.count(")"):
            yield plain + ")" * (plain.count("(") - plain.count(")"))
        first, _, rest = plain.partition(" ")
        if first.lower() != "select" and difflib.get_close_matches(first.lower(), ["select"], 1, 0.8):
            yield f"SELECT {rest}"
    if failed.code in ("unsupported_statement", "unsupported_clause"):
        words = re.findall(r"\w+", failed.text.lower())
        named = [table.name for name, table in policy.tables.items() if name in words]
        if named and words[0] in ("summarize", "describe", "desc", "pivot", "unpivot"):
            yield _written(exp.select("count(*) AS n").from_(exp.to_table(named[0]), dialect="duckdb"))
    if failed.code == "unsupported_statement":
        found = _QUERY.search(failed.text, 1)
        if found is not None:
            yield failed.text[found.start() :].rstrip("; \n")


def _written(tree: exp.Expr) -> str:
    return tree.sql("duckdb", unsupported_level=ErrorLevel.IGNORE, normalize_functions="lower")


def _path(node: exp.Expr) -> list[tuple[str, int | None]]:
    """The way from the root to a node."""
    steps: list[tuple[str, int | None]] = []
    while node.parent is not None and node.arg_key is not None:
        steps.append((node.arg_key, node.index))
        node = node.parent
    return steps[::-1]


def _at(tree: exp.Expr, path: list[tuple[str, int | None]]) -> exp.Expr | None:
    node: object = tree
    for key, index in path:
        if not isinstance(node, exp.Expr):
            return None
        node = node.args.get(key)
        if index is not None:
            node = node[index] if isinstance(node, list) and index < len(node) else None
    return node if isinstance(node, exp.Expr) else None
