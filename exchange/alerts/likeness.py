"""Statements that are the same but for one literal, or for several."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

import privacy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

T = TypeVar("T")

_MOST_LITERALS = 200
_REMEMBERED = 512


def alike(items: Iterable[T], text_of: Callable[[T], str]) -> list[T]:
    """The largest set of items whose statements differ in one literal, at one and the same place.

    One for each value of that literal; a statement that was asked again counts once. More than 200 literals
    of a statement count as one: what is not to be noticed would else be padded.
    """
    sets: dict[tuple[object, ...], dict[str, T]] = defaultdict(dict)
    for item in items:
        found = _skeleton(text_of(item))
        if found is None:
            continue
        for place, value in enumerate(found.literals):
            others = found.literals[:place] + found.literals[place + 1 :]
            sets[found.digest, place, others].setdefault(value, item)
    return _largest(sets.values())


def same_words(items: Iterable[T], text_of: Callable[[T], str]) -> list[T]:
    """The largest set of items whose statements differ in literals alone, however many of them; a statement
    that was asked again counts once.
    """
    sets: dict[str, dict[tuple[str, ...], T]] = defaultdict(dict)
    for item in items:
        found = _skeleton(text_of(item))
        if found is not None:
            sets[found.digest].setdefault(found.literals, item)
    return _largest(sets.values())


def _largest(sets: Iterable[Mapping[Any, T]]) -> list[T]:
    largest: Mapping[Any, T] = max(sets, key=len, default={})
    return list(largest.values()) if len(largest) > 1 else []


@lru_cache(maxsize=_REMEMBERED)
def _skeleton(text: str) -> privacy.Skeleton | None:
    try:
        found = privacy.skeleton(text)
    except privacy.Refused:
        return None  # it was answered once, by rules of an earlier version
    if len(found.literals) <= _MOST_LITERALS:
        return found
    return replace(found, literals=(hashlib.sha256("\x1f".join(found.literals).encode()).hexdigest(),))
