"""Where a benchmark under test keeps what it makes."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import data, report, worlds


@pytest.fixture
def bench_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Data, layouts and results of one test."""
    monkeypatch.setattr(data, "FOLDER", tmp_path / "data")
    monkeypatch.setattr(worlds, "LAYOUTS", tmp_path / "layouts")
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    return tmp_path
