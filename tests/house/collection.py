"""The least number of tests of each suite: one that shrinks, or is no longer found, is a finding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

# Raised when suites grow: about nine tenths of what is there.
FLOORS = {
    "bench": 56,
    "browser": 36,
    "catalog": 275,
    "exchange": 3700,
    "house": 250,
    "journeys": 960,
    "privacy": 3100,
    "settlement": 530,
    "statistics": 390,
}


def shrunken(collected: Iterable[str], floors: Mapping[str, int]) -> Iterator[str]:
    """Suites with fewer tests than their floor; ``collected`` node ids as ``tests/a/test_b.py::test``."""
    counts = Counter(node.split("/")[1] for node in collected if node.count("/") > 1)
    for suite, floor in floors.items():
        if counts[suite] < floor:
            yield f"tests/{suite} has {counts[suite]} tests, at least {floor} are expected"
