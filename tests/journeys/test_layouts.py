"""A version's layout from its publication to its withdrawal: queries are answered from it, and nothing that
befalls it reaches an answer, a charge or a digest.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import privacy
from catalog import listings
from exchange.errors import LayoutStopped
from exchange.layouts import Layouts, State, name_of
from exchange.operations import laying
from privacy.layout import building
from tests.market import layouts, sample
from tests.market.stand import Stand, problem

_SAMPLED = {
    "rows of rides",
    "synopsis of rides by unit",
    "synopsis of rides by unit and zone",
    "synopsis of rides by unit and kind",
    "synopsis of rides by unit and paid",
}


def charged(stand: Stand, reply: Any) -> dict[str, Any]:
    """What does not hang on chance: price, rho, plan, columns, bounds and widths."""
    assert reply.status_code == 200, reply.text
    answer = reply.json()
    widths = {
        name: [None if one is None else round(one[1] - one[0], 6) for one in ends]
        for name, ends in answer["intervals"].items()
    }
    leaf = stand.entries(kind="query.settled")[-1].document
    assert leaf["object"]["id"] == answer["query"]
    known = {name: answer[name] for name in ("charged", "rho_nano", "columns", "releases", "row_count")}
    return {
        **known,
        "widths": widths,
        "plan": leaf["query"]["plan_sha256"],
        "rho": leaf["privacy"]["rho_nano"],
    }


def test_a_published_version_is_laid_out_and_answers_from_it(stand: Stand) -> None:
    assert layouts.told(stand) == {
        "state": "none",
        "reason": None,
        "progress": 0.0,
        "about": None,
        "bytes": 0,
        "left_out": [],
        "at": None,
        "in_words": "It is built in a moment, when the worker comes to it.",
    }
    quoted = stand.quote(sql=sample.MINUTES).json()
    plain = charged(stand, stand.run("other", sample.MINUTES))
    entries = len(stand.entries())
    layouts.lay_out(stand)
    assert len(stand.entries()) == entries, "a layout is no fact of the market"
    told = layouts.told(stand)
    assert told is not None
    assert (told["state"], told["progress"], told["left_out"]) == ("ready", 1.0, [])
    assert told["bytes"] == sum(path.stat().st_size for path in layouts.folder(stand).glob("*.parquet")) > 0
    assert all(layouts.told(stand, who) is None for who in ("buyer", "rival", "officer"))
    laid = layouts.taken(stand)
    assert laid is not None
    assert {one.about for one in laid.stored.values()} == _SAMPLED
    for path in layouts.plain_files(stand):
        layouts.spoil_rows(path)
    served = charged(stand, stand.run("buyer", sample.MINUTES))
    assert served == plain
    assert served["plan"] == quoted["plan_sha256"]
    assert stand.run("buyer", sample.BY_ZONE).status_code == 200
    stand.market.layouts.drop(name_of(layouts.view(stand)))
    problem(stand.run("buyer", sample.COUNT), 500, "query_failed")
    assert [one for one in stand.broken_laws() if not one.startswith("L13")] == []


def test_a_process_checks_a_layout_once_beside_its_queries(stand: Stand) -> None:
    """The first question is answered from the plain files; so is the first one after it was built anew."""
    layouts.lay_out(stand)
    market, view = stand.market, layouts.view(stand)
    assert laying.serving(market, view) is None
    first = _served(stand)
    assert laying.serving(market, view) is first, "it is read once"
    market.layouts.drop(name_of(view))
    assert laying.serving(market, view) is None
    laying.build(market, view)
    assert laying.serving(market, view) is None, "it is dropped until somebody wants it again"
    market.layouts.want(name_of(view))
    laying.build(market, view)
    again = _served(stand)
    assert again is not first
    assert again.stored == first.stored


def _served(stand: Stand) -> Any:
    """The layout, once the thread beside has checked it."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found = laying.serving(stand.market, layouts.view(stand))
        if found is not None:
            return found
        time.sleep(0.01)
    raise AssertionError("the layout was not taken up")


# what befalls a folder


def _gone(folder: Path) -> None:
    shutil.rmtree(folder)


def _a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("no folder")


def _no_document(folder: Path) -> None:
    (folder / "layout.json").unlink()


def _cut_document(folder: Path) -> None:
    text = (folder / "layout.json").read_text()
    (folder / "layout.json").write_text(text[: len(text) // 2])


def _parts_gone(folder: Path) -> None:
    for part in folder.glob("*.parquet"):
        part.unlink()


def _parts_altered(folder: Path) -> None:
    for part in folder.glob("*.parquet"):
        layouts.flip(part)


def _parts_altered_in_secret(folder: Path) -> None:
    for part in folder.glob("*.parquet"):
        layouts.flip(part, hidden=True)


def _parts_swapped(folder: Path) -> None:
    one, other, *_ = sorted(folder.glob("*.parquet"))
    for source, target in ((one, folder / "held"), (other, one), (folder / "held", other)):
        source.rename(target)


def _no_state(folder: Path) -> None:
    (folder / "state.json").write_text('{"state": "ready", "at": 3}')


BEFALLS = [_gone, _a_file, _no_document, _cut_document, _parts_gone, _parts_altered, _parts_altered_in_secret]
BEFALLS += [_parts_swapped, _no_state]


@pytest.mark.parametrize("befalls", BEFALLS)
@pytest.mark.parametrize("opened", [True, False])
def test_nothing_that_befalls_a_layout_reaches_an_answer(
    sqlite_stand: Stand, befalls: Callable[[Path], None], opened: bool
) -> None:
    stand = sqlite_stand
    plain = charged(stand, stand.run("other", sample.MINUTES))
    layouts.lay_out(stand)
    if opened:
        assert layouts.taken(stand) is not None
    befalls(layouts.folder(stand))
    if not opened and befalls is not _no_state:
        assert layouts.taken(stand) is None
    assert charged(stand, stand.run("buyer", sample.MINUTES)) == plain
    found = [one for one in stand.broken_laws() if "L13" in one]
    if befalls.__name__.startswith(("_parts", "_cut")):
        assert found[0].startswith(f"L13: {sample.SLUG}: ")
        assert found[0].endswith(f"Run `exchange layout build {sample.SLUG}`.")
    else:
        assert found == []
    if befalls is _a_file:
        layouts.folder(stand).unlink()
    laying.build(stand.market, layouts.view(stand))
    assert layouts.taken(stand) is not None
    assert stand.broken_laws() == []
    assert charged(stand, stand.run("buyer", sample.BY_ZONE))["charged"] == plain["charged"]


# which versions have one


def test_what_is_not_on_offer_has_no_layout(stand: Stand) -> None:
    layouts.lay_out(stand)
    first, before = layouts.folder(stand), layouts.view(stand)
    stand.publish(manifest=sample.manifest(policy=sample.policy(rho=1.5)))
    layouts.lay_out(stand)
    assert layouts.folder(stand) == first, "the same tables and files"
    stand.publish(manifest=sample.manifest(policy=sample.policy(rho=1.5)), files=sample.files(seed=8))
    assert layouts.folder(stand) != first
    assert (layouts.told(stand) or {})["state"] == "none"
    layouts.lay_out(stand)
    assert not first.exists()
    assert (layouts.told(stand) or {})["state"] == "ready"
    superseded = stand.market.store.read(lambda s: listings.version_of(s, before.version_id))
    assert laying.told(stand.market, superseded)["reason"] == "not_offered"
    assert stand.post("provider", f"/v1/datasets/{sample.SLUG}/withdraw").status_code == 200
    assert (layouts.told(stand) or {})["reason"] == "not_offered"
    layouts.lay_out(stand)
    assert stand.market.layouts.names() == set()


def test_another_price_shares_the_layout(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    layouts.lay_out(stand)
    kept = {path: path.stat().st_mtime_ns for path in layouts.folder(stand).iterdir()}
    stand.publish(manifest=sample.manifest(plans=[sample.plan(fee="0.07")]))
    layouts.lay_out(stand)
    assert {path: path.stat().st_mtime_ns for path in layouts.folder(stand).iterdir()} == kept
    assert (layouts.told(stand) or {})["state"] == "ready"


def _other_policy() -> dict[str, Any]:
    """What a buyer may see of a key changes: other statements, other rows."""
    policy = sample.policy()
    policy["tables"]["rides"]["columns"]["zone"] = {"keys": ["north", "south"]}
    policy["tables"]["rides"]["columns"]["minutes"] = {"bounds": [0, 60]}
    return policy


def test_a_layout_of_an_older_policy_is_never_used(sqlite_stand: Stand) -> None:
    """Not even where somebody puts it in the new one's place: what another SELECT made is not found."""
    stand = sqlite_stand
    layouts.lay_out(stand)
    old = layouts.folder(stand)
    document = json.loads((old / "layout.json").read_text())
    kept = {name: one for name, one in document["stored"].items() if "zone" in one["about"]}
    (old / "layout.json").write_text(json.dumps({**document, "stored": kept}))
    stand.publish(manifest=sample.manifest(policy=_other_policy()))
    new = layouts.folder(stand)
    assert new != old
    assert layouts.taken(stand) is None
    shutil.copytree(old, new)
    assert layouts.taken(stand) is not None
    assert stand.run("other", sample.BY_ZONE).json()["row_count"] == 2
    for path in layouts.plain_files(stand):
        layouts.spoil_rows(path)
    problem(stand.run("buyer", sample.BY_ZONE), 500, "query_failed")
    shutil.rmtree(new)


def test_what_is_kept_of_a_key_answers_by_it(sqlite_stand: Stand) -> None:
    """The other half of the test before: under its own policy it does answer."""
    stand = sqlite_stand
    layouts.lay_out(stand)
    folder = layouts.folder(stand)
    document = json.loads((folder / "layout.json").read_text())
    kept = {name: one for name, one in document["stored"].items() if "zone" in one["about"]}
    (folder / "layout.json").write_text(json.dumps({**document, "stored": kept}))
    assert layouts.taken(stand) is not None
    for path in layouts.plain_files(stand):
        layouts.spoil_rows(path)
    assert stand.run("buyer", sample.BY_ZONE).json()["row_count"] == 3
    problem(stand.run("buyer", sample.MINUTES), 500, "query_failed")


def test_a_layout_that_another_policy_built_is_built_anew(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    layouts.lay_out(stand)
    old = layouts.folder(stand)
    stand.publish(manifest=sample.manifest(policy=_other_policy()))
    shutil.copytree(old, layouts.folder(stand))
    layouts.lay_out(stand)
    laid = layouts.taken(stand)
    assert laid is not None
    assert {one.about for one in laid.stored.values()} == _SAMPLED
    assert charged(stand, stand.run("buyer", sample.MINUTES))["row_count"] == 2
    assert not old.exists()


# building


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
    """A quarter of a megabyte is always granted: so the rows must be more."""
    stand = sqlite_stand
    stand.publish(files={**sample.files(), "rides": sample.rides(rows=120_000)})
    size = sum(path.stat().st_size for path in layouts.plain_files(stand))
    assert size * 60 // 100 > 1 << 18
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
