"""Statements that are the same but for one literal."""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

import privacy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

T = TypeVar("T")

_MOST_LITERALS = 200
_REMEMBERED = 512


def alike(items: Iterable[T], text_of: Callable[[T], str]) -> list[T]:
    """The largest set of items whose statements differ in one literal, at one and the same place.

    One for each value of that literal; a statement that was asked again counts once. A statement with more
    than 200 literals is like none.
    """
    sets: dict[tuple[object, ...], dict[str, T]] = defaultdict(dict)
    for item in items:
        found = _skeleton(text_of(item))
        if found is None or len(found.literals) > _MOST_LITERALS:
            continue
        for place, value in enumerate(found.literals):
            others = found.literals[:place] + found.literals[place + 1 :]
            sets[found.digest, place, others].setdefault(value, item)
    largest = max(sets.values(), key=len, default={})
    return list(largest.values()) if len(largest) > 1 else []


@lru_cache(maxsize=_REMEMBERED)
def _skeleton(text: str) -> privacy.Skeleton | None:
    try:
        return privacy.skeleton(text)
    except privacy.Refused:
        return None  # it was answered once, by rules of an earlier version
