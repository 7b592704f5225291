"""What a contribution profile is made of moves by no more than is charged when one unit comes or goes."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import privacy
from privacy.release import Release
from tests.privacy.conftest import silent
from tests.privacy.test_sensitivity import FLOATS, INTEGERS, POLICY, TYPES, VISITS

BOUNDS = [[-10, 25], [10**9, 10**9 + 3], [-(2**60), 2**60]]


def _rows(draw: random.Random) -> list[dict[str, Any]]:
    """Units of very different sizes; NULL, NaN and numbers far out of bounds."""
    sizes = {"heavy": 300, "middling": 40, "light": 5, "single": 1, "": 2}
    return [
        {
            "person": person,
            "ward": draw.choice(["a", "b", "c", "d", None]),
            "code": draw.choice(["x", None, "y" * 3000, str(draw.randrange(100))]),
            "day": draw.choice([1, 2, 5, 6, None]),
            "cost": draw.choice(INTEGERS),
            "score": draw.choice(FLOATS),
            "note": draw.choice([None, "", "n"]),
        }
        for person, size in sizes.items()
        for _ in range(draw.choice([size, 3 * size]))
    ]


class Recorder:
    """Keeps what would be noised. What is released of the first data is told of the second, as if noise had
    made them alike: the histograms are then taken around the same centres."""

    def __init__(self) -> None:
        self.exact: list[tuple[pa.Table, Release]] = []
        self.told: list[pa.Table] = []

    def perturb(self, exact: pa.Table, release: Release) -> pa.Table:
        from privacy.release import perturb

        place = len(self.exact) % 2
        self.exact.append((exact, release))
        if place == len(self.told):
            self.told.append(perturb(exact, silent(release)))
        return self.told[place]


@pytest.mark.parametrize("bounds", BOUNDS, ids=str)
def test_one_unit_moves_a_profile_by_at_most_what_is_charged(
    bounds: list[int], tmp_path: Path, sandbox: privacy.Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = copy.deepcopy(POLICY)
    document["tables"]["visits"]["columns"]["cost"] = {"bounds": bounds}  # type: ignore[index]
    policy = privacy.Policy.from_document(document, TYPES)
    recorder = Recorder()
    monkeypatch.setattr("privacy.profiling.perturb", recorder.perturb)
    rows = _rows(random.Random(bounds[0]))
    for left_out in (None, "heavy", ""):
        kept = [row for row in rows if row["person"] != left_out]
        pq.write_table(pa.Table.from_pylist(kept, VISITS), tmp_path / "visits.parquet")
        privacy.profile(policy, {"visits": tmp_path / "visits.parquet"}, rho=1, sandbox=sandbox)
    whole, others = recorder.exact[:2], recorder.exact[2:]
    moved = [_moved(*whole[place % 2], other) for place, (other, _) in enumerate(others)]
    assert min(moved[1::2]) > 0


def _moved(exact: pa.Table, release: Release, other: pa.Table) -> int:
    """How far a number moved; never further than it is noised for."""
    first, second = _numbers(exact, release), _numbers(other, release)
    assert first.keys() == second.keys()
    moved = 0
    for measure in release.measures:
        squared = sum((row[measure.name] - second[key][measure.name]) ** 2 for key, row in first.items())
        assert squared <= measure.sensitivity_squared
        moved += squared
    return moved


def _numbers(exact: pa.Table, release: Release) -> dict[Any, dict[str, int]]:
    return {tuple(row.pop(key) for key in release.keys): row for row in exact.to_pylist()}
