"""What a contribution profile says, in sentences for people who read a listing."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import privacy

_SHARES = (("half", 0.5), ("nine in ten", 0.9))


def in_words(profile: privacy.Profile, policy: privacy.Policy) -> list[str]:
    """How many rows, and how many groups of each declared key, most units have; from noisy counts."""
    sentences = []
    for name, table in profile.tables.items():
        declared = policy.table(name)
        if declared is None:
            continue
        sentences += _about_rows(table.rows.significant, f"{declared.unit} values", declared.name)
        for key, found in table.keys.items():
            column = declared.column(key)
            if column is not None:
                sentences += _about_groups(found.groups.significant, column)
    return sentences


def _about_rows(counts: Sequence[int], units: str, table: str) -> list[str]:
    told = [f"{share} have at most {_number(most, 'row')}" for share, most in _at_most(counts)]
    return [f"Of the {units} in {table}, {' and '.join(told)}."] if told else []


def _about_groups(counts: Sequence[int], key: privacy.policy.Column) -> list[str]:
    sizes = _at_most(counts, most=None if key.keys is None else len(key.keys))
    told = [f"{share} are in at most {_number(most, 'group')}" for share, most in sizes]
    return [f"Grouped by {key.name}, {' and '.join(told)}."] if told else []


def _at_most(counts: Sequence[int], *, most: int | None = None) -> list[tuple[str, int]]:
    """The largest size in the bin that each share of the units reaches: bin b holds sizes below 2^b."""
    sums = list(accumulate(counts))
    if not sums or sums[-1] <= 0:
        return []
    found = []
    for share, part in _SHARES:
        place = next(b for b, reached in enumerate(sums) if reached >= part * sums[-1])
        found.append((share, 2**place - 1 if most is None else min(2**place - 1, most)))
    return found[1:] if found[0][1] == found[1][1] else found


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
