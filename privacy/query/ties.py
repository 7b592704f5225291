"""How public items of a FROM are tied to the rows before them.

A public item may be tied to several items at once: a supplier to the line that names it and, by the nation,
to the customer. The engine is free to join it to either first, and to the customer it would be joined many
times over. So one tie is kept as an equality, and the others become conditions that no join is made of: the
item is joined by the first alone, and admission counts what that multiplies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from privacy.algebra import Call, Literal, Scalar, columns_of

if TYPE_CHECKING:
    from collections.abc import Sequence

EQUALITIES = frozenset({"eq", "not_distinct"})


def equates(part: Scalar, left: set[str], right: set[str]) -> bool:
    """Whether a condition equates something of the left with something of the right."""
    ends = _ends(part)
    return any(one <= left and other <= right for one, other in (ends, ends[::-1]) if one and other)


def one_tie_each(
    conditions: Sequence[Scalar], private: Sequence[set[str]], public: Sequence[set[str]]
) -> list[Scalar]:
    """The conditions, with one tie of each public item left to join it by.

    Args:
        private: the sources of each private item, first those that keep all their rows.
        public: the sources of each public item.
    """
    made = list(conditions)
    known = [set(sources) for sources in private]
    waiting = [set(sources) for sources in public]
    while waiting:
        before = set().union(*known)
        own = next((one for one in waiting if any(equates(part, one, before) for part in made)), waiting[0])
        waiting.remove(own)
        ties = [(place, _other(part, own)) for place, part in enumerate(made) if equates(part, own, before)]
        kept = min((other for _, other in ties), key=lambda other: _rank(other, known), default=set())
        for place, other in ties:
            if other != kept:
                made[place] = _aside(made[place])
        known.append(own)
    return made


def _ends(part: Scalar) -> tuple[set[str], set[str]]:
    if not isinstance(part, Call) or part.operation not in EQUALITIES:
        return set(), set()
    one, other = ({column.source for column in columns_of(side)} for side in part.arguments)
    return one, other


def _other(part: Scalar, own: set[str]) -> set[str]:
    one, other = _ends(part)
    return other if one <= own else one


def _rank(sources: set[str], known: Sequence[set[str]]) -> tuple[int, list[int], list[str]]:
    """A tie to one item is better than one to several; then the items count in their order."""
    places = [place for place, item in enumerate(known) if item & sources]
    return len(places), places, sorted(sources)


def _aside(part: Scalar) -> Scalar:
    """The same condition, as one that the engine joins nothing by."""
    return Call("case", (part, Literal(True, "boolean"), Literal(False, "boolean")), "boolean")
