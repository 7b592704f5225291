"""Two hundred random programs of fifty steps on the books, in two processes; `make soak` runs thousands."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ProcessPoolExecutor

from tests.soak import on_books

PROGRAMS, STEPS = 200, 50


def test_random_programs_break_no_law() -> None:
    """The same programs each time: a failure is the code's, not the day's."""
    with ProcessPoolExecutor(2) as pool:
        halves = [pool.submit(on_books, "", PROGRAMS // 2, STEPS, chosen) for chosen in (1, 2)]
        done = sum((half.result() for half in halves), Counter[str]())
    assert done["programs"] >= PROGRAMS
    assert done["steps"] >= PROGRAMS * STEPS * 0.8, "hypothesis ends some programs early"
    assert done["events"] > 1_000, "programs in which nothing arrives show nothing"
