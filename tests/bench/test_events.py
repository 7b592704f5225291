"""The events that answers are measured on: as skewed as described, at any size, however they are written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from bench import events

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("rows", [events.MILLION, 10 * events.MILLION])
def test_users_are_skewed_as_described(rows: int) -> None:
    size = events.size_of(rows)
    found = events.rows_per_user(np.random.default_rng(events.SEED), size)
    assert (int(found.sum()), int(found.max())) == (rows, rows * 46_000 // 10**6)
    assert found.min() >= 1
    assert 48 <= np.median(found) <= 58
    assert 150 <= np.quantile(found, 0.9) <= 400


def test_slices_make_the_same_population_as_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    size = events.size_of(200_000)
    whole = pa.concat_tables(events.slices(size))
    monkeypatch.setattr(events, "ROWS_AT_A_TIME", 60_000)
    sliced = pa.concat_tables(events.slices(size))
    assert whole.num_rows == sliced.num_rows == 200_000
    for table in (whole, sliced):
        seconds = table.column("happened_at").cast(pa.int64()).to_numpy()
        assert np.all(np.diff(seconds) >= 0)
        assert pc.min_max(table.column("amount")).as_py()["max"] <= 1000
    counted = [table.column("user_id").value_counts().to_pylist() for table in (whole, sliced)]
    assert counted[0] != counted[1]  # another order
    assert [sorted((one["values"], one["counts"]) for one in each) for each in counted[:1]] == [
        sorted((one["values"], one["counts"]) for one in counted[1])
    ]


def test_a_user_has_a_home_region(tmp_path: Path) -> None:
    path = tmp_path / "events.parquet"
    events.write(path, events.size_of(200_000))
    grouped = pq.read_table(path).group_by(["user_id", "region"]).aggregate([([], "count_all")])
    users = grouped.group_by("user_id").aggregate([("count_all", "max"), ("count_all", "sum")])
    busy = users.filter(pc.field("count_all_sum") >= 50)
    shares = pc.divide(busy.column("count_all_max").cast(pa.float64()), busy.column("count_all_sum"))
    assert pc.mean(shares).as_py() == pytest.approx(events.HOME_SHARE, abs=0.02)


@pytest.mark.parametrize(("text", "rows"), [("10m", 10_000_000), ("250k", 250_000), ("1234", 1_234)])
def test_sizes_are_read_as_they_are_written(text: str, rows: int) -> None:
    assert events.rows_in(text) == rows
    assert events.size_of(rows).name == text
