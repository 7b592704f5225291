"""How a version's layout is built: through kills, full disks, small budgets and defects."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import privacy
from exchange.errors import LayoutStopped
from exchange.layouts import Layouts, State, name_of
from exchange.operations import laying
from privacy.layout import building
from tests.market import layouts, sample
from tests.market.stand import Stand


@pytest.mark.parametrize("done", ["0.0", "0.3", "0.7"])
def test_a_worker_that_is_killed_goes_on_where_it_ended(sqlite_stand: Stand, done: str) -> None:
    """By SIGKILL: nothing of it tidies up, and who builds next is not kept waiting."""
    stand = sqlite_stand
    process = subprocess.run(
        [sys.executable, "-m", "tests.journeys.killed_worker", done],
        env={**os.environ, **stand.environ},
        check=False,
    )
    assert process.returncode == -signal.SIGKILL
    kept = {path: path.stat().st_mtime_ns for path in layouts.folder(stand).glob("*.parquet")}
    assert kept
    told = layouts.told(stand)
    assert told is not None
    assert (told["state"], told["reason"]) == ("none", "interrupted")
    assert float(done) < told["progress"] < 1
    assert "goes on where it ended" in told["in_words"]
    assert stand.run("buyer", sample.BY_ZONE).status_code == 200
    layouts.lay_out(stand)
    assert (layouts.told(stand) or {})["state"] == "ready"
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert layouts.taken(stand) is not None
    assert stand.broken_laws() == []


def test_on_a_full_disk_nothing_of_it_stays(sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    stand, written, parts = sqlite_stand, building.__dict__["_written"], [3]

    def full(*given: Any) -> Any:
        parts[0] -= 1
        if parts[0] < 0:
            raise OSError(28, "No space left on device")
        return written(*given)

    with monkeypatch.context() as patch:
        patch.setattr(building, "_written", full)
        layouts.lay_out(stand)
        told = layouts.told(stand)
        assert told is not None
        assert (told["state"], told["reason"]) == ("failed", "disk_full")
        assert "tries again every hour" in told["in_words"]
        assert {path.name for path in layouts.folder(stand).iterdir()} == {"lock", "state.json"}
        assert stand.run("buyer", sample.BY_ZONE).status_code == 200
        parts[0] = 99
        layouts.lay_out(stand)
        assert (layouts.told(stand) or {})["state"] == "failed", "not at every round"
        stand.clock.advance(hours=1, seconds=1)
        layouts.lay_out(stand)
    assert (layouts.told(stand) or {})["state"] == "ready"


def test_the_budget_is_kept_and_what_it_left_out_is_told(sqlite_stand: Stand) -> None:
    """A megabyte is always granted: so the rows must be more."""
    stand = sqlite_stand
    stand.publish(files={**sample.files(), "rides": sample.rides(rows=600_000)})
    size = sum(path.stat().st_size for path in layouts.plain_files(stand))
    assert size * 60 // 100 > 1 << 20
    settings = {**stand.environ, "EXCHANGE_LAYOUT_PERCENT": "60"}
    process = subprocess.run(
        [sys.executable, "-m", "exchange.cli", "layout", "build", "--json"],
        env={**os.environ, **settings},
        check=True,
        capture_output=True,
    )
    (told,) = json.loads(process.stdout)
    assert told["state"] == "ready"
    assert "rows of rides" in told["left_out"]
    assert 0 < told["bytes"] <= size * 60 // 100
    assert layouts.told(stand) == {name: told[name] for name in told if name not in ("dataset", "version")}
    assert layouts.taken(stand) is not None
    assert stand.run("buyer", sample.BY_ZONE).status_code == 200
    with contextlib.closing(stand.sign_in("provider")) as browser:
        page = browser.get(f"/datasets/{sample.SLUG}").text
    assert "Layout: ready" in page
    assert "There was no room for: rows of rides" in page
    with contextlib.closing(stand.sign_in("buyer")) as browser:
        assert "Layout" not in browser.get(f"/datasets/{sample.SLUG}").text


def test_a_defect_is_told_as_one_and_tried_again(
    sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand = sqlite_stand

    def broken(*_: Any, **__: Any) -> Any:
        raise ValueError("cell value 4711")

    with monkeypatch.context() as patch:
        patch.setattr(building, "selections", broken)
        with pytest.raises(ValueError, match="4711"):
            laying.build(stand.market, layouts.view(stand))
        told = layouts.told(stand) or {}
        assert (told["state"], told["reason"]) == ("failed", "defect")
        assert told["in_words"] == "It failed. Look at the worker's log."
        stand.clock.advance(hours=1, seconds=1)
        layouts.lay_out(stand)
    assert (layouts.told(stand) or {})["state"] == "failed"
    stand.clock.advance(hours=1, seconds=1)
    layouts.lay_out(stand)
    assert (layouts.told(stand) or {})["state"] == "ready"


def test_what_is_not_a_layout_is_left_alone(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    other = layouts.folder(stand).parent / "lost+found"
    other.mkdir(parents=True)
    layouts.lay_out(stand)
    assert other.is_dir()


def test_a_lease_covers_the_plain_files_after_a_spoilt_layout(
    sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each exact part twice, and the public part: as long as each may take, nobody resolves the query."""
    stand, answer, releases = sqlite_stand, privacy.answer, list[int]()
    both = f"{sample.BY_ZONE} union all select zone, count(*) as n from rides where paid group by zone"

    def slow(plan: privacy.Plan, *given: Any, **more: Any) -> privacy.Answer:
        releases.append(len(plan.releases))
        stand.clock.advance(seconds=(2 * len(plan.releases) + 1) * stand.settings.query_timeout_s)
        assert stand.sweep() == {"voided": 0, "forfeited": 0, "settled": 0}
        return answer(plan, *given, **more)

    monkeypatch.setattr(privacy, "answer", slow)
    for sql in (sample.PUBLIC, sample.COUNT, both):
        assert stand.run("buyer", sql).status_code == 200, sql
    assert releases == [0, 1, 2]


def test_a_small_disk_makes_a_small_layout(sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    stand = sqlite_stand
    free = shutil.disk_usage(stand.home)._replace(free=40_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    layouts.lay_out(stand)
    told = layouts.told(stand)
    assert told is not None
    assert told["bytes"] <= 20_000
    assert told["left_out"]
    monkeypatch.undo()
    assert laying.build(stand.market, layouts.view(stand)).left_out == ()


def test_two_builders_do_not_meet(sqlite_stand: Stand) -> None:
    """Who does not wait is told what the other is doing."""
    stand = sqlite_stand
    view, seen = layouts.view(stand), list[State]()
    name = name_of(view)

    def other(about: str, done: float) -> None:
        if not seen:
            seen.append(laying.build(stand.market, view, wait=False))
            told = layouts.told(stand) or {}
            assert (told["state"], told["about"]) == ("building", about)
            layouts.lay_out(stand)
            stand.market.layouts.remove(name)
            assert done == 0.0

    assert laying.build(stand.market, view, tell=other).state == "ready"
    assert [one.state for one in seen] == ["building"]


def test_what_is_dropped_stops_being_built(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    view = layouts.view(stand)
    name = name_of(view)

    def dropping(_: str, done: float) -> None:
        if done > 0.4:
            (layouts.folder(stand) / "dropped").touch()

    with pytest.raises(LayoutStopped):
        laying.build(stand.market, view, tell=dropping)
    stand.market.layouts.drop(name)
    assert (layouts.told(stand) or {})["reason"] == "dropped"
    assert list(layouts.folder(stand).glob("*.parquet")) == []
    layouts.lay_out(stand)
    assert (layouts.told(stand) or {})["reason"] == "dropped"


def test_layouts_are_switched_off(sqlite_stand: Stand) -> None:
    layouts.lay_out(sqlite_stand)
    assert sqlite_stand.market.layouts.names()
    environ = {**sqlite_stand.environ, "EXCHANGE_LAYOUT_PERCENT": "0"}
    stand = Stand(environ, sqlite_stand.market.engine.sandbox, sqlite_stand.tokens, sqlite_stand.orgs)
    assert (layouts.told(stand) or {})["reason"] == "off"
    assert layouts.taken(stand) is None
    layouts.lay_out(stand)
    assert stand.market.layouts.names() == set()
    stand.http.close()
    stand.market.store.dispose()


def test_a_dataset_without_a_private_table_has_none(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    policy = sample.policy(tables={"zones": {"public": True}})
    manifest = sample.manifest(slug="city/zones", tables={"zones": "zones.csv"}, policy=policy)
    stand.publish(manifest=manifest, files={"zones": sample.zones()})
    layouts.lay_out(stand)
    told = stand.get("provider", "/v1/datasets/city/zones").json()["layout"]
    assert (told["state"], told["reason"]) == ("none", "nothing_private")
    assert len(stand.market.layouts.names()) == 1


@pytest.mark.parametrize(("home", "group"), [(0o700, 0o000), (0o770, 0o070)])
def test_a_layout_is_for_those_whose_home_it_is(sqlite_stand: Stand, home: int, group: int) -> None:
    """Web and worker processes may be of two users in one group: one builds, the other answers and drops."""
    stand = sqlite_stand
    stand.home.chmod(home)
    layouts.lay_out(stand)
    folder = layouts.folder(stand)
    for path in (folder.parent, folder, folder / "lock"):
        assert path.stat().st_mode & 0o070 == group & (path.stat().st_mode & 0o700) >> 3, path.name
    files = [path for path in folder.iterdir() if path.name != "lock"]
    assert {"layout.json", "state.json"} < {path.name for path in files}
    assert all(path.stat().st_mode & group & 0o040 == group & 0o040 for path in files), "who comes in reads"


def test_a_state_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    found = Layouts(tmp_path, lambda: pytest.fail("nothing is built"))
    folder = tmp_path / "x"
    folder.mkdir()
    sound = {"state": "ready", "reason": "", "done": 1, "about": "", "bytes": 1, "left_out": []}
    for text in ("", "[]", "{}", "[" * 100_000, json.dumps({**sound, "at": "2026-01-01T00:00:00"})):
        (folder / "state.json").write_text(text)
        assert found.state("x") == State()
    (folder / "state.json").write_text(json.dumps({**sound, "at": "2026-01-01T00:00:00+00:00"}))
    assert found.state("x") == State(), "there is no document"
    (folder / "layout.json").touch()
    assert found.state("x").state == "ready"
