"""What strangers send is taken whole or refused with a reason, and costs no more than is allowed."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from tests.catalog.hostile import FAMILIES
from tests.catalog.soak_files import try_files

SEED = 20261122
SLICE = 4 * len(FAMILIES)


def test_hostile_files_are_taken_whole_or_refused(tmp_path: Path) -> None:
    """Of each family as many as the suite has time for; ``make soak`` tries three hundred."""
    # In a process of its own: what its children held at most is not what those of other tests did.
    with ProcessPoolExecutor(1, get_context("spawn")) as fresh:
        found = fresh.submit(try_files, SEED, SLICE, tmp_path).result()
    assert found.wrong == []
    assert sum(found.ended.values()) == SLICE
    assert len(found.ended) >= 8, "the files no longer differ"
