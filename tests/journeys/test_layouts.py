"""A version's layout from its publication to its withdrawal: queries are answered from it, and nothing that
befalls it reaches an answer, a charge or a digest.
"""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from catalog import listings
from exchange.errors import InsideTransaction
from exchange.layouts import Layouts, name_of
from exchange.operations import laying
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
    assert {one.about for one in laid.stored.values()} >= _SAMPLED
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
    assert again.stored.keys() == first.stored.keys(), "the files differ: encrypting draws at random"


def test_a_process_that_starts_takes_up_what_there_is(
    sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that its first question is answered from a layout, too."""
    stand, take, taken = sqlite_stand, Layouts.take, threading.Event()
    layouts.lay_out(stand)

    def taking(self: Layouts, *given: Any) -> Any:
        found = take(self, *given)
        taken.set()
        return found

    monkeypatch.setattr(Layouts, "take", taking)
    laying.warm(stand.market)
    assert taken.wait(30)
    assert laying.serving(stand.market, layouts.view(stand)) is not None


def test_nothing_of_it_is_touched_inside_a_transaction(sqlite_stand: Stand) -> None:
    layouts.lay_out(sqlite_stand)
    market, view = sqlite_stand.market, layouts.view(sqlite_stand)
    name = name_of(view)
    for touch in (
        lambda: laying.serving(market, view),
        lambda: market.layouts.state(name),
        lambda: laying.build(market, view),
        lambda: market.layouts.drop(name),
    ):
        with pytest.raises(InsideTransaction):
            market.store.read(lambda _, touch=touch: touch())
    assert (layouts.told(sqlite_stand) or {})["state"] == "ready"
    assert layouts.taken(sqlite_stand) is not None


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
    rows = {name: one for name, one in document["stored"].items() if one["about"].startswith("rows")}
    (folder / "layout.json").write_text(json.dumps({**document, "stored": kept | rows}))
    assert layouts.taken(stand) is not None
    for path in [*layouts.plain_files(stand), *(folder / one["file"] for one in _parts(rows))]:
        layouts.spoil_rows(path)
    assert stand.run("buyer", sample.BY_ZONE).json()["row_count"] == 3
    problem(stand.run("buyer", sample.MINUTES), 500, "query_failed")


def _parts(stored: dict[str, Any]) -> list[dict[str, Any]]:
    return [part for one in stored.values() for part in one["parts"]]


def test_a_layout_that_another_policy_built_is_built_anew(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    layouts.lay_out(stand)
    old = layouts.folder(stand)
    stand.publish(manifest=sample.manifest(policy=_other_policy()))
    shutil.copytree(old, layouts.folder(stand))
    layouts.lay_out(stand)
    laid = layouts.taken(stand)
    assert laid is not None
    assert {one.about for one in laid.stored.values()} >= _SAMPLED
    assert charged(stand, stand.run("buyer", sample.MINUTES))["row_count"] == 2
    assert not old.exists()
