"""The peers' times: compared by their multiples of plain DuckDB, measured next to each."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pytest

from bench import data, report, worlds
from bench.overhead import Measured
from bench.peers import runs, times

if TYPE_CHECKING:
    from pathlib import Path


def test_the_fastest_way_of_a_peer_counts_as_a_multiple_of_plain() -> None:
    late = {"unable": f"{runs.TOO_LATE} 300 s"}
    ways = [late, {"seconds": [4.0], "plain_s": 0.5}, {"seconds": [1.0, 3.0], "plain_s": 0.5}]
    assert times.multiple(times.fastest(ways)) == 4.0
    assert times.fastest([late]) == late
    assert math.isnan(times.multiple(late))


def test_a_row_compares_multiples() -> None:
    ours = Measured("Q02", "count", "declared", "w", {"plain": [0.25], "files": [2.0], "layout": [0.5]})
    found: dict[str, dict[str, dict[str, Any]]] = {
        "slow": {"Q02": {"seconds": [30.0], "plain_s": 0.5}},
        "fast": {"Q02": {"seconds": [3.0], "plain_s": 0.125}},
        "late": {"Q02": {"unable": f"{runs.TOO_LATE} 300 s"}},
        "unable": {},
    }
    cells = ("0.250", "2 s (8.00x)", "0.5 s (2.00x)", "30 s (60.0x)", "3 s (24.0x)", "too late", "-")
    assert times.row(ours, found) == ("Q02 count", *cells, "12.0x")


def test_what_peers_took_of_any_size_is_kept_by_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is known of a size that nobody was asked about; ours is measured all the same."""
    for place, name in ((data, "FOLDER"), (worlds, "LAYOUTS"), (runs, "KEPT"), (report, "RESULTS")):
        monkeypatch.setattr(place, name, tmp_path)
    times.main(["--rows", "5k", "--peers", "qrlew", "--only", "Q02", "--kept", "--rounds", "1"])
    found = json.loads((tmp_path / "peers-5k.json").read_text())["figures"]
    assert found["peers"]["qrlew"]["Q02"]["unable"] == "not asked"
    assert len(found["ours"][0]["seconds"]["layout"]) == 1
