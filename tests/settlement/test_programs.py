"""Two hundred random programs of fifty steps on the books; `make soak` runs thousands."""

from __future__ import annotations

import pytest

from tests.soak import on_books

PROGRAMS, STEPS, PARTS = 200, 50, 4


@pytest.mark.parametrize("part", range(PARTS))
def test_random_programs_break_no_law(part: int) -> None:
    """The same programs each time: a failure is the code's, not the day's."""
    count = PROGRAMS // PARTS
    done = on_books("", count, STEPS, part + 1)
    assert done["programs"] >= count
    assert done["steps"] >= count * STEPS * 0.8, "hypothesis ends some programs early"
    assert done["events"] > 200, "programs in which nothing arrives show nothing"
