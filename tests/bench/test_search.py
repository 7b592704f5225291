"""The benchmark of the officer's search writes a log as the log does, and says whether it met its goal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import books, search
from exchange.audit import log


def test_every_filter_is_measured(bench_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    search.main(["--database", "sqlite", "--entries", "600", "--rounds", "2", "--markdown"])
    figures = json.loads((bench_folder / "search.json").read_text())["figures"]["filters"]
    named = {"org", "dataset", "domain", "purpose", "kind", "outcome", "since", "until", "q"}
    assert named <= {one["filter"] for one in figures}
    assert all(0 < one["p50_s"] <= one["p95_s"] <= one["worst_s"] for one in figures)
    assert capsys.readouterr().out.count("| sqlite: ") == len(figures)


def test_the_rows_are_those_of_a_log() -> None:
    with books.database("sqlite") as store:
        search.fill(store, 300)
        assert store.read(lambda session: list(log.check(session))) == []
        assert store.read(log.size) == 300
