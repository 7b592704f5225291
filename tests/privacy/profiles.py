"""Contribution profiles as a release would have made them, had it met these units."""

from __future__ import annotations

from privacy.profile import Histogram, KeyProfile, NumberProfile, Profile, TableProfile


def histogram(*sizes: tuple[int, int]) -> Histogram:
    """Of pairs: so many units of about such a size."""
    counts = [0] * 40
    for units, size in sizes:
        counts[size.bit_length()] += units
    return Histogram(tuple(counts), 0.1)


def visits(rows: int = 6, groups: int = 2) -> Profile:
    """Units with a few rows or a few times as many, who lie in about so many groups of each key."""
    some = histogram((700, rows), (300, 2 * rows), (20, 8 * rows))
    key = KeyProfile(histogram((700, groups), (320, 2 * groups)), histogram((700, rows - 1), (320, 2 * rows)))
    cost = NumberProfile(
        5, histogram((700, 8 * rows), (320, 30 * rows)), histogram((700, 4 * rows), (320, 9 * rows))
    )
    score = NumberProfile(40, histogram((700, 90 * rows), (320, 200 * rows)), histogram((1000, 40 * rows)))
    keys = dict.fromkeys(("ward", "code", "day", "note"), key)
    return Profile(1000, {"visits": TableProfile(some, keys, {"cost": cost, "score": score})})
