"""The worker: sweeps, publishes, outlives what passes, and never publishes what contradicts the past."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from exchange import scratch, worker
from exchange.audit.errors import LogDiverged
from exchange.audit.note import SigningKey
from exchange.config import Settings, SettingsError
from exchange.layouts import Layouts, State
from exchange.operations import laying
from settlement.errors import PriceInvalid
from tests.journeys.crashes import CRASHES, LEASE_S, plant
from tests.journeys.test_tampering import alter
from tests.market import layouts, sample
from tests.market.stand import Stand


class Died(BaseException):
    """The process dies here."""


def die() -> None:
    raise Died


def of_worker(stand: Stand) -> Settings:
    return Settings.from_env(stand.environ, worker=True)


@pytest.fixture
def signals() -> Iterator[None]:
    """The handlers that the worker replaces."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


def test_a_round_sweeps_publishes_and_says_so(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        plant(patch, CRASHES[1].name, die)
        with pytest.raises(Died):
            stand.run()
    stand.clock.advance(seconds=LEASE_S)
    monkeypatch.setattr(worker, "open_market", lambda settings: stand.market)
    assert not (stand.home / "swept").exists()
    first = worker.run_once(of_worker(stand))
    assert stand.states() == ["FORFEITED"]
    assert (stand.home / "swept").exists()
    assert first.size == len(stand.entries())
    assert worker.run_once(of_worker(stand)).encoded() == first.encoded(), "nothing new, nothing signed anew"
    assert stand.verify().exit_code == 0


def test_every_checkpoint_continues_the_one_before(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    seen = [stand.publish_log().encoded().decode()]
    for _ in range(3):
        for _ in range(90):
            stand.get("nobody", "/v1/whoami")
        seen.append(stand.publish_log().encoded().decode())
    assert len(stand.entries()) > 256
    for earlier in seen:
        assert stand.verify(pinned=earlier).exit_code == 0


def test_a_web_process_cannot_sign_the_log(sqlite_stand: Stand) -> None:
    assert sqlite_stand.settings.log_key == ""
    key = of_worker(sqlite_stand).log_key
    assert SigningKey.parse(key).name == sqlite_stand.settings.log_origin
    assert key not in repr(of_worker(sqlite_stand))
    (sqlite_stand.home / "log.env").unlink()
    assert Settings.from_env(sqlite_stand.environ).log_key == "", "the web needs no log key"
    with pytest.raises(SettingsError, match="EXCHANGE_LOG_KEY"):
        of_worker(sqlite_stand)


@pytest.mark.parametrize("what", ["last", "restored"])
def test_what_contradicts_the_past_is_not_published(sqlite_stand: Stand, what: str) -> None:
    stand = sqlite_stand
    before = stand.publish_log()
    size = len(stand.entries())
    if what == "last":
        alter(stand, "audit_entry", f"UPDATE audit_entry SET leaf = leaf || x'20' WHERE seq = {size - 1}")
    else:
        alter(stand, "audit_entry", f"DELETE FROM audit_entry WHERE seq >= {size - 2}")
    with pytest.raises(LogDiverged):
        stand.publish_log()
    assert (stand.settings.log_path / "checkpoint").read_bytes() == before.encoded()


def test_the_worker_outlives_what_passes_and_ends_when_told(
    sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch, signals: None, caplog: pytest.LogCaptureFixture
) -> None:
    stand = sqlite_stand
    publish, failures = worker.publish, list[Exception]()
    failures += [
        OperationalError("SELECT", {}, ConnectionError("cell value 4711")),
        OSError(28, "No space left on device"),
        LogDiverged("The database holds another entry."),
    ]

    def faulty(market: Any, settings: Settings) -> Any:
        if failures:
            raise failures.pop(0)
        done = publish(market, settings)
        os.kill(os.getpid(), signal.SIGTERM)
        return done

    monkeypatch.setattr(worker, "publish", faulty)
    monkeypatch.setattr(worker, "PUBLISH_EVERY_S", 0.01)
    worker.run_forever(of_worker(stand))
    assert failures == []
    assert (stand.settings.log_path / "checkpoint").exists()
    told = [
        record.getMessage()
        for record in caplog.records
        if (record.name, record.levelname) == ("exchange.worker", "ERROR")
    ]
    assert told == [
        "the worker waits: OperationalError",
        "the worker waits: OSError",
        "the log cannot be published: The database holds another entry.",
    ]


def test_rounds_come_in_time_however_long_publishing_takes(
    sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch, signals: None
) -> None:
    publish, sweep, done = worker.publish, worker.sweep, list[str]()

    def slow(market: Any, settings: Settings) -> Any:
        done.append("published")
        if done.count("swept") == 3 or len(done) == 30:
            os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(0.1)
        return publish(market, settings)

    def sweeping(market: Any) -> Any:
        done.append("swept")
        return sweep(market)

    monkeypatch.setattr(worker, "sweep", sweeping)
    monkeypatch.setattr(worker, "publish", slow)
    monkeypatch.setattr(worker, "PUBLISH_EVERY_S", 0.01)
    monkeypatch.setattr(worker, "SWEEP_EVERY_S", 0.3)
    worker.run_forever(of_worker(sqlite_stand))
    assert done.count("swept") == 3
    assert done.count("published") < 20


def test_layouts_are_built_beside_the_log(
    sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch, signals: None
) -> None:
    stand, publish, published = sqlite_stand, worker.publish, list[str]()

    def until_ready(market: Any, settings: Settings) -> Any:
        done = publish(market, settings)
        published.append((layouts.told(stand) or {})["state"])
        if published[-1] == "ready":
            os.kill(os.getpid(), signal.SIGTERM)
        return done

    monkeypatch.setattr(worker, "publish", until_ready)
    monkeypatch.setattr(worker, "PUBLISH_EVERY_S", 0.01)
    worker.run_forever(of_worker(stand))
    assert published[-1] == "ready"
    assert len(published) > 3, "the log did not wait for it"
    assert layouts.taken(stand) is not None


def test_a_worker_that_is_told_to_end_leaves_a_layout_half_built(
    sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch, signals: None, caplog: pytest.LogCaptureFixture
) -> None:
    """The next one goes on with it."""
    stand, note, close, ended = sqlite_stand, Layouts.note, Layouts.close, threading.Event()

    def noting(self: Layouts, name: str, state: State) -> None:
        note(self, name, state)
        if state.done > 0 and not ended.is_set():
            os.kill(os.getpid(), signal.SIGTERM)
            assert ended.wait(30)

    def closing(self: Layouts) -> None:
        close(self)
        ended.set()

    with monkeypatch.context() as patch:
        patch.setattr(worker, "PUBLISH_EVERY_S", 0.01)
        patch.setattr(Layouts, "note", noting)
        patch.setattr(Layouts, "close", closing)
        worker.run_forever(of_worker(stand))
    assert not [thread for thread in threading.enumerate() if thread.name == "builder"]
    told = layouts.told(stand) or {}
    assert (told["state"], told["reason"]) == ("none", "interrupted")
    assert [one for one in caplog.records if one.levelname in ("WARNING", "ERROR")] == []
    kept = {path: path.stat().st_mtime_ns for path in layouts.folder(stand).glob("*.parquet")}
    layouts.lay_out(stand)
    assert (layouts.told(stand) or {})["state"] == "ready"
    assert kept == {path: path.stat().st_mtime_ns for path in kept}


def test_a_layout_that_cannot_be_built_stops_nothing(
    sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch, signals: None, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the log nor the layouts of others; nobody is told more than the kind of what happened."""
    stand, build, publish, failed = sqlite_stand, laying.build, worker.publish, threading.Event()
    stand.publish(manifest=sample.manifest(slug="city/more", policy=_more()), files=sample.files(seed=9))

    def faulty(market: Any, view: Any, **more: Any) -> State:
        if view.slug == sample.SLUG:
            failed.set()
            raise ValueError("cell value 4711")
        return build(market, view, **more)

    def until_ready(market: Any, settings: Settings) -> Any:
        done = publish(market, settings)
        built = layouts.folder(stand, "city/more").joinpath("layout.json").exists()
        if built and failed.is_set():
            os.kill(os.getpid(), signal.SIGTERM)
        return done

    monkeypatch.setattr(laying, "build", faulty)
    monkeypatch.setattr(worker, "publish", until_ready)
    for name in ("PUBLISH_EVERY_S", "LAY_OUT_EVERY_S"):
        monkeypatch.setattr(worker, name, 0.01)
    worker.run_forever(of_worker(stand))
    told = {record.getMessage() for record in caplog.records if record.name == "exchange.layouts"}
    assert "a layout was not built: ValueError" in told
    assert not any("4711" in message for message in told)


@pytest.mark.parametrize("what", ["orders", "invoices"])
def test_a_round_that_fails_keeps_neither_the_log_nor_the_money_waiting(
    sqlite_stand: Stand,
    monkeypatch: pytest.MonkeyPatch,
    signals: None,
    caplog: pytest.LogCaptureFixture,
    what: str,
) -> None:
    stand, publish, work_once = sqlite_stand, worker.publish, worker.work_once
    before, published, moved = len(stand.entries()), list[int](), list[object]()

    def broken(market: Any) -> Any:
        raise PriceInvalid("kind", "cell value 4711")

    def moving(market: Any) -> Any:
        moved.append(work_once(market))
        stand.get("nobody", "/v1/whoami")  # it is refused, which is an entry
        return moved[-1]

    def until_moved_twice(market: Any, settings: Settings) -> Any:
        done = publish(market, settings)
        published.append(done.size)
        if len(moved) > 1 and done.size > before + 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return done

    monkeypatch.setattr(
        *((worker.ordering, "rounds") if what == "orders" else (worker, "issue_month")), broken
    )
    monkeypatch.setattr(worker, "work_once", moving)
    monkeypatch.setattr(worker, "publish", until_moved_twice)
    for name in ("PUBLISH_EVERY_S", "MONEY_EVERY_S"):
        monkeypatch.setattr(worker, name, 0.01)
    worker.run_forever(of_worker(stand))
    assert published[-1] > before + 1
    told = {record.getMessage() for record in caplog.records if record.name == "exchange.worker"}
    assert f"{what}: not done in this round: PriceInvalid" in told
    assert not any("4711" in message for message in told)


def test_a_long_round_of_orders_does_not_delay_the_log(
    sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch, signals: None
) -> None:
    publish, began, go_on, published = worker.publish, threading.Event(), threading.Event(), list[int]()

    def waiting(market: Any) -> dict[str, int]:
        began.set()
        assert go_on.wait(30)
        return {}

    def until_three(market: Any, settings: Settings) -> Any:
        published.append(publish(market, settings).size)
        if began.is_set() and len(published) > 3:
            os.kill(os.getpid(), signal.SIGTERM)
            go_on.set()

    monkeypatch.setattr(worker.ordering, "rounds", waiting)
    monkeypatch.setattr(worker, "publish", until_three)
    for name in ("PUBLISH_EVERY_S", "MONEY_EVERY_S"):
        monkeypatch.setattr(worker, name, 0.01)
    worker.run_forever(of_worker(sqlite_stand))
    assert len(published) > 3


def test_what_an_ingest_left_that_was_killed_is_removed(sqlite_stand: Stand) -> None:
    place = of_worker(sqlite_stand).scratch_path
    script = (
        "import os, pathlib, sys\nfrom exchange import scratch\n"
        "with scratch.working(pathlib.Path(sys.argv[1])) as folder:\n"
        "    (folder / 'spilled').write_text('values')\n    os.kill(os.getpid(), 9)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(place)], check=False, cwd=Path(__file__).parents[2]
    )
    assert done.returncode == -signal.SIGKILL
    assert len(list(place.glob("*/spilled"))) == 1
    with scratch.working(place) as folder:
        assert list(place.iterdir()) == [folder], "whoever begins removes it"
        assert scratch.clear(place) == 0, "somebody works in it"
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("what", ["orders", "money", "invoices", "answers", "objects", "scratch", "alerts"])
def test_a_round_by_hand_does_all_that_the_threads_do(
    sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    done = list[str]()
    places = {
        "orders": (worker.ordering, "rounds"),
        "money": (worker, "work_once"),
        "invoices": (worker, "issue_month"),
        "answers": (worker.keeping, "round_once"),
        "objects": (worker.collecting, "collect"),
        "scratch": (worker.scratch, "clear"),
        "alerts": (worker.watching, "watch"),
    }
    real = getattr(*places[what])
    monkeypatch.setattr(*places[what], lambda market: (done.append(what), real(market))[1])
    worker.run_once(of_worker(sqlite_stand))
    assert done == [what]


def _more() -> dict[str, Any]:
    """Another domain, for other people."""
    return sample.policy(domain="riders:more")


def test_a_worker_without_its_parent_ends(sqlite_stand: Stand, signals: None) -> None:
    worker.run_forever(of_worker(sqlite_stand), parent=os.getppid() + 1)
    assert not (sqlite_stand.home / "swept").exists()
    statement = text("SELECT COUNT(*) FROM query")
    assert sqlite_stand.market.store.read(lambda s: s.execute(statement).scalar_one()) == 0
