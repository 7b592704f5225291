"""A layout for which there is little room: what serves most is kept, the rest is left out and said to be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import privacy
from privacy.layout import is_complete, left_out
from tests.privacy.conftest import SALT
from tests.privacy.test_layout_folder import FILTERED, SQL, Killed, exact, policy, serves, written

ROWS = 6_000
IN_PART = 2_000


def sizes(laid: privacy.Layout) -> dict[str, int]:
    """Bytes of each selection, in the order in which they are built."""
    return {one.about: sum(part.size for part in one.parts) for one in laid.stored.values()}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return written(tmp_path_factory.mktemp("files"), ROWS)


@pytest.fixture(scope="module")
def whole(
    sandbox: privacy.Sandbox, files: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> privacy.Layout:
    folder = tmp_path_factory.mktemp("whole")
    return privacy.layout(policy(), files, folder, sandbox=sandbox, rows_in_part=IN_PART)


def built(
    sandbox: privacy.Sandbox, files: dict[str, str], folder: Path, room: float, **more: Any
) -> privacy.Layout:
    return privacy.layout(
        policy(), files, folder, sandbox=sandbox, rows_in_part=IN_PART, max_bytes=room, **more
    )


def kept(laid: privacy.Layout) -> dict[str, list[tuple[int, int]]]:
    """Rows and units of each part. Rows of one unit lie in any order, so that bytes differ between builds."""
    return {one.about: [(part.rows, part.units) for part in one.parts] for one in laid.stored.values()}


def rooms(every: dict[str, int]) -> list[int]:
    rows, whole = every["rows of t"], sum(every.values())
    return [
        0,
        rows // 99,
        rows // 2,
        rows * 9 // 10,
        rows * 11 // 10,
        (rows + whole) // 2,
        whole * 9 // 10,
        whole * 2,
    ]


@pytest.mark.parametrize("case", range(8))
def test_no_more_is_stored_than_there_is_room_for(
    sandbox: privacy.Sandbox, files: dict[str, str], whole: privacy.Layout, tmp_path: Path, case: int
) -> None:
    every = sizes(whole)
    assert list(every)[:2] == ["rows of t", "synopsis of t by unit"]
    assert len(next(iter(whole.stored.values())).parts) == ROWS // IN_PART
    room = rooms(every)[case]
    laid = built(sandbox, files, tmp_path, room)
    assert ("rows of t" in sizes(laid)) is (room >= every["rows of t"])
    assert (kept(laid) == kept(whole)) is (room >= sum(every.values()))
    assert bool(laid.stored) is (case > 1), "without the rows the rest is taken from the plain files"
    assert sum(path.stat().st_size for path in tmp_path.glob("*.parquet")) <= room
    assert sorted(left_out(tmp_path).values()) == sorted(set(every) - set(sizes(laid)))
    assert is_complete(laid)
    assert {path.name for path in tmp_path.iterdir()} == {"layout.json", *(one.file for one in laid.files)}
    plan = privacy.plan(SQL, policy(), rho=0.1)
    if serves(laid, files, policy()):
        assert exact(sandbox, plan, files) == exact(sandbox, plan, files, laid.checked())
    answer = privacy.answer(plan, files, salt=SALT, sandbox=sandbox, layout=laid)
    assert answer.table.column("k").to_pylist() == ["a", "b"]


def test_what_was_left_out_follows_when_there_is_room(
    sandbox: privacy.Sandbox, files: dict[str, str], whole: privacy.Layout, tmp_path: Path
) -> None:
    every = sizes(whole)
    rows, *_ = every.values()
    small = built(sandbox, files, tmp_path, rows * 9 // 10)
    assert "rows of t" in left_out(tmp_path).values()
    times = {part.file: (tmp_path / part.file).stat().st_mtime_ns for part in small.files}
    told: list[tuple[str, float]] = []
    again = built(sandbox, files, tmp_path, rows * 9 // 10, progress=lambda *one: told.append(one))
    assert again.stored == small.stored
    assert [share for _, share in told] == sorted(share for _, share in told)
    assert sum(about == "rows of t" for about, _ in told) == 1, "it is known to be too large: not tried again"
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in times} == times
    assert built(sandbox, files, tmp_path, sum(every.values()) * 2) is not None
    assert kept(privacy.Layout.open(tmp_path, policy())) == kept(whole)
    assert left_out(tmp_path) == {}


def test_a_layout_is_made_smaller(
    sandbox: privacy.Sandbox, files: dict[str, str], whole: privacy.Layout, tmp_path: Path
) -> None:
    """What was opened before answers from the plain files where its own are gone."""
    opened = built(sandbox, files, tmp_path, 2**40)
    assert kept(opened) == kept(whole)
    built(sandbox, files, tmp_path, sizes(whole)["rows of t"] // 2)
    assert "rows of t" not in sizes(privacy.Layout.open(tmp_path, policy()))
    for sql in (SQL, FILTERED):
        assert not serves(opened, files, policy(), sql)
        plan = privacy.plan(sql, policy(), rho=0.1)
        answer = privacy.answer(plan, files, salt=SALT, sandbox=sandbox, layout=opened)
        assert answer.table.column("k").to_pylist() == ["a", "b"]


def test_a_kill_with_little_room_goes_on_within_it(
    sandbox: privacy.Sandbox, files: dict[str, str], whole: privacy.Layout, tmp_path: Path
) -> None:
    every = sizes(whole)
    room = every["rows of t"] * 3 // 2
    for most in (0.1, 0.2, 0.4, 0.66):

        def killed(_: str, done: float, most: float = most) -> None:
            if done > most:
                raise Killed

        with pytest.raises(Killed):
            built(sandbox, files, tmp_path, room, progress=killed)
        with pytest.raises(privacy.LayoutInvalid):
            left_out(tmp_path)
    laid = built(sandbox, files, tmp_path, room)
    assert sum(sizes(laid).values()) <= room
    assert "rows of t" in sizes(laid)
    assert built(sandbox, files, tmp_path / "at once", room) is not None
    assert kept(privacy.Layout.open(tmp_path / "at once", policy())) == kept(laid)


def test_a_layout_that_another_release_would_build_otherwise_is_not_complete(
    sandbox: privacy.Sandbox, files: dict[str, str], tmp_path: Path
) -> None:
    laid = built(sandbox, files, tmp_path, 2**40)
    assert is_complete(laid)
    document = json.loads((tmp_path / "layout.json").read_text())
    document["stored"]["0" * 64] = document["stored"].pop(next(iter(laid.stored)))
    (tmp_path / "layout.json").write_text(json.dumps(document))
    assert not is_complete(privacy.Layout.open(tmp_path, policy()))
    del document["left_out"]
    (tmp_path / "layout.json").write_text(json.dumps(document))
    with pytest.raises(privacy.LayoutInvalid):
        is_complete(privacy.Layout.open(tmp_path, policy()))
    assert is_complete(built(sandbox, files, tmp_path, 2**40))
