"""How long entries waited is counted from their own time to the first checkpoint that has them."""

from __future__ import annotations

import math

import pytest

from bench import publishing


def test_an_entry_waits_for_the_first_checkpoint_that_has_it() -> None:
    seen = publishing.Seen()
    for size, now in ((3, 10.0), (3, 11.0), (7, 12.0), (5, 13.0)):
        seen.add(size, now)
    assert (seen.sizes, seen.times) == ([3, 7], [10.0, 12.0])
    waited = seen.waited([(0, 9.0), (2, 9.5), (3, 10.5), (6, 12.0), (7, 12.0)])
    assert waited == [1.0, 0.5, 1.5, 0.0, math.inf]


@pytest.mark.parametrize(("p99_s", "verdict"), [(65.0, "met"), (65.1, "missed"), (math.inf, "missed")])
def test_a_line_is_judged(p99_s: float, verdict: str) -> None:
    one = {
        "what": "signed",
        "entries": 9,
        "per_second": 3.0,
        "p50_s": 1.0,
        "p99_s": p99_s,
        "longest_s": p99_s,
    }
    assert publishing.line(one)[-1] == f"p99 <= 65 s: {verdict}"
