"""The overhead benchmark: small runs of the real thing, and figures that follow from known times."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import privacy
from bench import overhead, watching, worlds
from privacy.sandbox import Limits, Task

if TYPE_CHECKING:
    from pathlib import Path


def test_a_small_run_measures_every_way(bench_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    overhead.main(["--rows", "5k", "--tpch", "none", "--only", "Q02,U06", "--rounds", "2", "--markdown"])
    found = json.loads((bench_folder / "overhead.json").read_text())["figures"]
    assert [one["id"] for one in found] == ["Q02", "U06"]
    for one in found:
        assert one["failed"] == {}
        assert {way: len(taken) for way, taken in one["seconds"].items()} == dict.fromkeys(
            ("plain", "files", "files, no noise", "layout", "layout, no noise"), 2
        )
        for way in ("files", "layout"):
            pairs = zip(one["seconds"][way], one["seconds"][f"{way}, no noise"], strict=True)
            assert all(0 < exact < whole for whole, exact in pairs)
        assert min(one["peak_bytes"].values()) > 30 * 2**20
    assert found[0]["served"] != "plain files"
    shown = capsys.readouterr().out
    assert "| Q02 count by region |" in shown
    assert "| events-5k, undeclared, laid out | 1 |" in shown


def test_where_no_layout_can_be_built_the_rest_is_measured(
    bench_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[object] = []

    def fail(*given: object, **_: object) -> privacy.Layout:
        tries.append(given)
        raise privacy.EngineFailed("query_failed")

    monkeypatch.setattr(privacy, "layout", fail)
    overhead.main(["--rows", "5k", "--tpch", "none", "--only", "Q01,Q02", "--rounds", "1"])
    found = json.loads((bench_folder / "overhead.json").read_text())["figures"]
    assert len(tries) == 1
    assert [one["failed"] for one in found] == [{"layout": "query_failed"}] * 2
    assert [len(one["seconds"]["files"]) for one in found] == [1, 1]


def test_ratios_are_taken_pair_by_pair() -> None:
    one = overhead.Measured("Q", "", "declared", "w", {"plain": [1.0, 2.0, 4.0], "files": [2.0, 8.0, 4.0]})
    assert one.ratio("files") == 2.0
    assert one.median("files") == 4.0
    assert math.isnan(one.ratio("layout"))


def test_what_fails_is_shown_and_in_no_mean(capsys: pytest.CaptureFixture[str]) -> None:
    seconds = {"plain": [1.0], "files": [4.0], "files, no noise": [2.0]}
    good = overhead.Measured("Q1", "", "declared", "w", seconds)
    bad = overhead.Measured("Q2", "", "declared", "w", {"plain": [1.0]}, failed={"files": "query_timeout"})
    overhead.show_means([good, bad], markdown=True)
    assert "| w, declared, plain files | 1 | 4.00x | 2.00x | 4.00x | Q1 | 1 |" in capsys.readouterr().out


def test_a_watched_sandbox_times_what_reads_watched_files(tmp_path: Path) -> None:
    for name in ("private", "public"):
        pq.write_table(pa.table({"a": [1, 2]}), tmp_path / f"{name}.parquet")
    tasks = {name: Task("SELECT sum(a) AS s FROM t", {"t": (str(tmp_path / f"{name}.parquet"),)}) for name in
             ("private", "public")}  # fmt: skip
    with watching.Watched(Limits(), workers=1) as sandbox:
        sandbox.places = frozenset({str((tmp_path / "private.parquet").resolve())})
        sandbox.run(tasks["public"])
        assert sandbox.taken_s() == 0
        sandbox.run(tasks["private"])
        assert sandbox.taken_s() > 0
        assert sandbox.taken_s() == 0
        assert watching.worker_peak(lambda: sandbox.run(tasks["public"])) > 20 * 2**20


def test_every_question_is_planned_at_the_same_price() -> None:
    found = worlds.flights_world()
    assert {round(found.plan(one).epsilon, 6) for one in found.questions} == {1.0}
