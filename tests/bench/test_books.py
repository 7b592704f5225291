"""The books' benchmark measures what it says, on the database that it is asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import books


def test_every_way_books_charges_and_says_whether_it_met_its_goal(
    bench_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    books.main(["--database", "sqlite", "--seconds", "0.2", "--clients", "2", "--markdown"])
    lines = json.loads((bench_folder / "books.json").read_text())["figures"]["charges"]
    assert [(line["way"], line["clients"]) for line in lines] == [
        ("ledger", 1),
        ("ledger", 2),
        ("exchange", 1),
        ("exchange", 2),
    ]
    for line in lines:
        assert line["charges"] > 0
        assert 0 < line["p50_s"] <= line["p99_s"]
    assert capsys.readouterr().out.count("| sqlite |") == 4
