"""Ingest, growth and many clients: small runs of the real thing, and figures that follow from known times."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from bench import atrest, bombs, concurrency, growth, ingest

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_copy_and_a_layout_are_built_and_leave_nothing(bench_folder: Path) -> None:
    found = {kind: ingest.one(kind, "5k") for kind in (ingest.COPY, ingest.LAYOUT)}
    assert list(found[ingest.COPY]["stored"]) == ["copy"]
    assert any("region" in about for about in found[ingest.LAYOUT]["stored"])
    assert found[ingest.LAYOUT]["worker_peak_bytes"] > 20 * 2**20
    assert list((bench_folder / "layouts").iterdir()) == []


def test_ingest_is_compared_in_rows_a_second() -> None:
    taken = {"peak_bytes": 2**20, "worker_peak_bytes": 2**21}
    found = {
        "rows": 1_000,
        "source_bytes": 100,
        "copy": [{"seconds": 1.0, **taken, "stored": {"copy": 90}}],
        "layout": [{"seconds": 4.0, **taken, "stored": {"rows": 100, "synopsis": 50}}],
    }
    assert ingest.row("1k", found) == ("1k", "1,000", "250", "25%", "1", "1", "2", "100", "1.50x")


def test_clients_ask_the_whole_mix(bench_folder: Path) -> None:
    arguments = ["--rows", "5k", "--tpch", "none", "--queries", "5", "--clients", "4", "--rounds", "1"]
    concurrency.main(arguments)
    figures = json.loads((bench_folder / "concurrency.json").read_text())["figures"]
    assert {way: len(taken) for way, taken in figures["seconds"].items()} == dict.fromkeys(
        (concurrency.PRIVATE, concurrency.WORKERS, concurrency.PROCESS), 1
    )


def test_throughputs_are_compared_pair_by_pair() -> None:
    seconds = {concurrency.PRIVATE: [2.0, 4.0, 8.0], concurrency.WORKERS: [1.0, 4.0, 2.0]}
    assert concurrency.line(concurrency.WORKERS, seconds, 8) == (concurrency.WORKERS, "4.0", "50%")


def test_growth_is_measured_and_drawn(bench_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {100: growth.Size(2_000, 100, 50)}
    monkeypatch.setattr(growth, "sweeps", lambda _: {growth.ROWS: sizes})
    monkeypatch.setattr(growth, "QUESTIONS", ("Q02",))
    growth.main(["--rounds", "1"])
    figures = json.loads((bench_folder / "growth.json").read_text())["figures"]
    assert [one["at"] for one in figures[growth.ROWS]] == [100]
    drawn = ElementTree.parse(bench_folder / "growth.svg").getroot()
    words = {"".join(one.itertext()).strip() for one in drawn.iter("{http://www.w3.org/2000/svg}text")}
    assert {growth.AXES[growth.ROWS], "count by region", "plain DuckDB", "plain files", "laid out"} <= words


def test_each_sweep_moves_one_number() -> None:
    for axis, sizes in growth.sweeps(1.0).items():
        counts = [
            {getattr(size, name) for size in sizes.values()} for name in ("rows", "users", "categories")
        ]
        assert [len(one) > 1 for one in counts] == [axis == each for each in growth.AXES]


def test_encrypted_files_are_read_beside_plain_ones(bench_folder: Path) -> None:
    atrest.main(["--rows", "5k", "--only", "Q02", "--rounds", "1"])
    (figures,) = json.loads((bench_folder / "atrest.json").read_text())["figures"]
    assert {place: [len(one) for one in taken] for place, taken in figures["seconds"].items()} == {
        atrest.FILES: [1, 1],
        atrest.LAYOUT: [1, 1],
    }


def test_others_ask_beside_bombs(bench_folder: Path) -> None:
    bombs.main(["--rows", "5k", "--seconds", "0.5", "--rounds", "1", "--timeout", "1"])
    figures = json.loads((bench_folder / "bombs.json").read_text())["figures"]
    assert min(len(figures[what]) for what in ("alone", "beside", "behind")) > 0
    assert min(figures["behind"]) > -1


def test_bombs_are_judged_by_what_others_notice() -> None:
    known = bombs.Measured(alone=[0.1] * 10, beside=[0.1] * 9 + [0.21], behind=[0.2, 1.5])
    told = [row[-1] for row in bombs.lines(known)]
    assert told == ["-", "p99 <= 2x: missed (2.10x)", "longest <= 1.5 s: met (1.50 s)"]
