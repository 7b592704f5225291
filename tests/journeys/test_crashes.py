"""A process may die between any two steps: the sweeper makes of it what the design says, once."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from exchange.errors import InProgress
from exchange.operations import settling
from privacy.errors import EngineFailed
from tests.journeys.crashes import CRASHES, LEASE_S, Crash, Died, plant
from tests.market import sample
from tests.market.stand import Stand, problem

RHO, PRICE = 10_000_000, 25
ROOT = Path(__file__).resolve().parents[2]


def die() -> None:
    raise Died


def crash_in(stand: Stand, crash: Crash, key: str = "crash") -> None:
    """Let a query's process die at the boundary."""
    with pytest.MonkeyPatch.context() as patch:
        plant(patch, crash.name, die)
        with pytest.raises(Died):
            stand.run(key=key)


def totals(stand: Stand) -> tuple[int, int, int, int]:
    """What was paid and spent, and what is held, in minor units and nano-rho."""
    wallet, budget = stand.wallet(), stand.budget()
    return 10_000 - wallet.posted, budget["rho_nano_spent"], wallet.pending_out, budget["rho_nano_reserved"]


def after(crash: Crash) -> tuple[int, int, int, int]:
    return PRICE * crash.pays, RHO * crash.spends, 0, 0


@pytest.mark.parametrize("crash", CRASHES, ids=str)
def test_a_crash_ends_as_designed(stand: Stand, crash: Crash) -> None:
    crash_in(stand, crash)
    assert stand.states() == [crash.state]
    held = crash.state in ("RESERVED", "EXECUTING", "RESULT_DURABLE")
    assert totals(stand)[2:] == ((PRICE, RHO) if held else (0, 0))
    assert stand.broken_laws() == []

    assert stand.sweep() == {"voided": 0, "forfeited": 0, "settled": 0}, "the lease still runs"
    if held:
        problem(stand.run(key="crash"), 409, "in_progress")
        problem(stand.run(key="another"), 409, "in_progress")
    stand.clock.advance(seconds=LEASE_S)
    done = stand.sweep()
    assert {name: count for name, count in done.items() if count} == ({crash.swept: 1} if crash.swept else {})
    assert stand.states() == [crash.ends]
    assert totals(stand) == after(crash)
    assert stand.broken_laws() == []

    entries = stand.entries()
    assert stand.sweep() == {"voided": 0, "forfeited": 0, "settled": 0}
    assert stand.entries() == entries, "sweeping again changes nothing"
    _come_back(stand, crash)
    assert stand.broken_laws() == []
    stand.publish_log()
    assert stand.verify().exit_code == 0


def _come_back(stand: Stand, crash: Crash) -> None:
    """The client repeats its call with its key, then asks anew."""
    again = stand.run(key="crash")
    if crash.pays:
        assert again.status_code == 200, again.text
        told = again.json()
        assert (told["repeated"], told["charged"]["amount_minor"], told["rho_nano"]) == (False, PRICE, RHO)
        assert stand.run(key="fresh").json()["rows"] == told["rows"]
        assert totals(stand) == after(crash)
        return
    lost = problem(again, 500, "query_failed")
    assert ("Nothing was charged" in lost["hint"]) is (crash.ends == "VOIDED")
    shown = stand.get("buyer", "/v1/queries").json()["items"][0]
    assert shown["state"] == {"VOIDED": "expired", "FORFEITED": "failed"}[crash.ends]
    assert (shown["charge"]["amount_minor"], shown["rho_nano"]) == (0, RHO * crash.spends)
    fresh = stand.run(key="fresh")
    assert fresh.status_code == 200, "the question can be asked again"
    assert totals(stand) == (PRICE, RHO + RHO * crash.spends, 0, 0)


@pytest.mark.parametrize("crash", CRASHES[:4], ids=str)
def test_two_sweepers_at_once_do_the_work_of_one(stand: Stand, crash: Crash) -> None:
    crash_in(stand, crash)
    stand.clock.advance(seconds=LEASE_S)
    before, start = len(stand.entries()), Barrier(3)

    def sweep(_: int) -> dict[str, int]:
        start.wait()
        return stand.sweep()

    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(sweep, range(3)))
    assert sum(sum(counts.values()) for counts in done) == 1
    assert stand.states() == [crash.ends]
    assert totals(stand) == after(crash)
    assert len(stand.entries()) == before + 1
    assert stand.broken_laws() == []


def test_the_sweeper_overtakes_a_slow_process(stand: Stand) -> None:
    """A process that wakes up after its lease finds its query ended, and gives no answer away."""
    kept = settling.keep

    def slow(*given: Any, **named: Any) -> None:
        stand.clock.advance(seconds=LEASE_S)
        assert stand.sweep()["forfeited"] == 1
        kept(*given, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settling, "keep", slow)
        problem(stand.run(key="slow"), 409, "in_progress")
    problem(stand.run(key="slow"), 500, "query_failed")
    assert totals(stand) == (0, RHO, 0, 0)
    assert stand.broken_laws() == []


def test_the_sweeper_settles_before_a_slow_process(stand: Stand) -> None:
    settled = settling.settle

    def slow(market: Any, actor: Any, query: str) -> bool:
        with pytest.MonkeyPatch.context() as back:
            back.setattr(settling, "settle", settled)
            stand.clock.advance(seconds=LEASE_S)
            assert stand.sweep()["settled"] == 1
        return settled(market, actor, query)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settling, "settle", slow)
        problem(stand.run(key="slow"), 409, "in_progress")
    assert stand.run(key="slow").json()["charged"]["amount_minor"] == PRICE
    assert totals(stand) == (PRICE, RHO, 0, 0)
    assert stand.broken_laws() == []


@pytest.mark.parametrize("code", ["query_failed", "query_timeout", "query_too_large"])
def test_an_engine_that_fails_costs_rho_and_no_money(sqlite_stand: Stand, code: str) -> None:
    def fail(*_: object, **__: object) -> Any:
        raise EngineFailed(code)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("privacy.answer", fail)
        told = problem(sqlite_stand.run(key="failed"), 500, "query_failed")
    assert "price was returned" in told["hint"]
    assert sqlite_stand.states() == ["FORFEITED"]
    assert totals(sqlite_stand) == (0, RHO, 0, 0)
    ended = sqlite_stand.entries(kind="query.forfeited")
    assert [record.document["code"] for record in ended] == ["query_failed"], "the cause would tell of data"
    assert sqlite_stand.broken_laws() == []


def test_a_sweep_leaves_nothing_out_where_one_query_cannot_be_moved(
    sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand = sqlite_stand
    crash_in(stand, CRASHES[0])
    with monkeypatch.context() as patch:
        plant(patch, CRASHES[1].name, die)
        with pytest.raises(Died):
            stand.run("other", key="second")
    stand.clock.advance(seconds=LEASE_S)
    void = settling.void

    def stuck(*_: object) -> bool:
        raise InProgress("another process moved this query on")

    monkeypatch.setattr(settling, "void", stuck)
    assert stand.sweep() == {"voided": 0, "forfeited": 1, "settled": 0}
    monkeypatch.setattr(settling, "void", void)
    assert stand.sweep() == {"voided": 1, "forfeited": 0, "settled": 0}
    assert stand.broken_laws() == []


KILLED = {"after the start": CRASHES[1], "after the result was kept": CRASHES[3]}


@pytest.mark.parametrize("name", KILLED)
def test_a_killed_process_ends_as_designed(stand: Stand, name: str) -> None:
    """No exception, no clean-up: the process is gone in the middle of a request."""
    program = [sys.executable, "-m", "tests.journeys.killed", name, stand.tokens["buyer"]]
    ended = subprocess.run(
        program, cwd=ROOT, env={**os.environ, **stand.environ}, capture_output=True, timeout=60, check=False
    )
    assert ended.returncode == 9, ended.stderr.decode()
    crash = KILLED[name]
    assert stand.states() == [crash.state]
    stand.clock.advance(seconds=LEASE_S)
    stand.sweep()
    assert stand.states() == [crash.ends]
    assert totals(stand) == after(crash)
    assert stand.run(key="killed").status_code == (200 if crash.pays else 500)
    assert stand.broken_laws() == []


def test_the_question_of_a_dead_process_is_not_run_again_by_itself(sqlite_stand: Stand) -> None:
    """Otherwise crashing the worker would be a free second look at the data."""
    crash_in(sqlite_stand, CRASHES[1])
    sqlite_stand.clock.advance(seconds=LEASE_S)
    for _ in range(3):
        sqlite_stand.sweep()
        assert sqlite_stand.run(key="crash").status_code == 500
    assert sqlite_stand.states() == ["FORFEITED"]
    assert sqlite_stand.run(sql=sample.COUNT, key="anew").json()["rho_nano"] == RHO
    assert totals(sqlite_stand) == (PRICE, 2 * RHO, 0, 0)
