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
from sqlalchemy import select

from exchange import profiles
from exchange.errors import InProgress
from exchange.operations import profiling, querying, settling
from privacy.errors import EngineFailed
from tests.journeys.crashes import (
    CRASHES,
    LEASE_S,
    PROFILE_CRASHES,
    PROFILE_LEASE_S,
    Crash,
    Died,
    ProfileCrash,
    plant,
    plant_in_publishing,
)
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
        told = stand.run(key="crash")
        assert (told.status_code, told.headers["Retry-After"]) == (202, "1")
        assert told.json()["state"] == ("queued" if crash.state == "RESERVED" else "running")
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

    def slow(*given: Any, **named: Any) -> bool:
        with pytest.MonkeyPatch.context() as back:
            back.setattr(settling, "settle", settled)
            stand.clock.advance(seconds=LEASE_S)
            assert stand.sweep()["settled"] == 1
        return settled(*given, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settling, "settle", slow)
        problem(stand.run(key="slow"), 409, "in_progress")
    assert stand.run(key="slow").json()["charged"]["amount_minor"] == PRICE
    assert totals(stand) == (PRICE, RHO, 0, 0)
    assert stand.broken_laws() == []


def test_a_repeat_leaves_only_after_its_entry_is_on_disk(sqlite_stand: Stand) -> None:
    """Also where the answer that is repeated was settled while the repeat waited for its turn."""
    assert sqlite_stand.run(key="first").status_code == 200
    store = sqlite_stand.market.store
    perform, followed = store.perform, []

    def watched(*given: Any, **named: Any) -> Any:
        followed.append(named.get("followed", False))
        return perform(*given, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "perform", watched)
        assert sqlite_stand.run(key="repeat").json()["repeated"] is True
        assert followed == [False]
        patch.setattr(querying, "_repeats", lambda *_: False)
        patch.setattr(store, "sync", die)
        with pytest.raises(Died):
            sqlite_stand.run(key="late")
    assert sqlite_stand.run(key="late").json()["repeated"] is True


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


def test_a_process_that_dies_before_the_reservation_leaves_nothing(stand: Stand) -> None:
    before = stand.books()
    die_elsewhere(stand, "before the reservation", stand.tokens["buyer"])
    assert stand.books() == before
    assert stand.states() == []
    assert stand.run(key="killed").json()["repeated"] is False
    assert totals(stand) == (PRICE, RHO, 0, 0)
    assert stand.broken_laws() == []


def die_elsewhere(stand: Stand, *words: str) -> None:
    """Die in a process of its own: see :mod:`tests.journeys.killed`."""
    program = [sys.executable, "-m", "tests.journeys.killed", *words]
    ended = subprocess.run(
        program, cwd=ROOT, env={**os.environ, **stand.environ}, capture_output=True, timeout=60, check=False
    )
    assert ended.returncode == 9, ended.stderr.decode()


@pytest.mark.parametrize("crash", CRASHES, ids=str)
def test_a_killed_process_ends_as_designed(stand: Stand, crash: Crash) -> None:
    """No exception, no clean-up: the process is gone in the middle of a request."""
    die_elsewhere(stand, crash.name, stand.tokens["buyer"])
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


# Publishing: the profile of a version is paid for once, wherever the process dies


PROFILE_RHO = 3_000_000
PROFILED = sample.manifest(policy=sample.policy(profile_rho="0.003"))


def releases(stand: Stand) -> list[str]:
    """The state of every release of a profile, in the order in which they were reserved."""
    table = profiles.profile_release
    found = select(table.c.state).order_by(table.c.reserved_at)
    return stand.market.store.read(lambda session: list(session.scalars(found)))


def offered(stand: Stand) -> tuple[str, bool]:
    """The version on offer, and whether its page shows a profile."""
    listed = stand.get("buyer", f"/v1/datasets/{sample.SLUG}").json()
    return listed["version"], listed["profile"] is not None


def publish(stand: Stand, version: str, key: str | None = None) -> Any:
    return stand.post("provider", f"/v1/datasets/{sample.SLUG}/publish", {"version": version}, key=key)


def die_publishing(stand: Stand, version: str, crash: ProfileCrash) -> None:
    with pytest.MonkeyPatch.context() as patch:
        plant_in_publishing(patch, crash.name, die)
        with pytest.raises(Died):
            publish(stand, version, key="crash")


def spent(stand: Stand) -> tuple[int, int]:
    return stand.budget()["rho_nano_spent"], stand.budget()["rho_nano_reserved"]


@pytest.mark.parametrize("crash", PROFILE_CRASHES, ids=str)
@pytest.mark.parametrize("resolver", ["the sweeper", "the next publication"])
def test_a_publication_that_dies_pays_once_and_ends_as_designed(
    sqlite_stand: Stand, crash: ProfileCrash, resolver: str
) -> None:
    stand = sqlite_stand
    before = offered(stand)
    version = stand.draft(manifest=PROFILED).json()["version"]
    die_publishing(stand, version, crash)
    assert releases(stand) == [crash.state][: len(crash.state)]
    held = PROFILE_RHO * (crash.state in ("RESERVED", "EXECUTING"))
    assert spent(stand) == (PROFILE_RHO * (crash.state == "RELEASED"), held)
    assert offered(stand) == ((version, True) if crash.name == "before the reply" else before)
    assert stand.broken_laws() == []

    assert not any(stand.sweep().values()), "the lease still runs"
    if held:
        problem(publish(stand, version, key="crash"), 409, "in_progress")
        problem(publish(stand, version), 409, "in_progress")
    stand.clock.advance(seconds=PROFILE_LEASE_S)
    if resolver == "the sweeper":
        done = stand.sweep()
        assert {name: n for name, n in done.items() if n} == ({crash.swept: 1} if crash.swept else {})
        assert releases(stand) == [crash.ends][: len(crash.ends)]
        assert spent(stand) == (PROFILE_RHO * (crash.ends in ("FORFEITED", "RELEASED")), 0)
        assert stand.broken_laws() == []

    told = publish(stand, version, key="crash")
    assert told.status_code == 200, told.text
    assert offered(stand) == (version, crash.released)
    assert told.json()["profile"]["state"] == ("released" if crash.released else "failed")
    assert spent(stand) == (PROFILE_RHO, 0)
    assert publish(stand, version).json()["profile"] == told.json()["profile"]
    assert spent(stand) == (PROFILE_RHO, 0)
    assert len(stand.entries(kind="profile.released")) == crash.released
    assert stand.run().status_code == 200
    assert stand.broken_laws() == []
    stand.publish_log()
    assert stand.verify().exit_code == 0


@pytest.mark.parametrize("crash", PROFILE_CRASHES[1:4], ids=str)
def test_a_killed_publication_ends_as_designed(stand: Stand, crash: ProfileCrash) -> None:
    version = stand.draft(manifest=PROFILED).json()["version"]
    die_elsewhere(stand, crash.name, stand.tokens["provider"], version)
    assert releases(stand) == [crash.state]
    stand.clock.advance(seconds=PROFILE_LEASE_S)
    stand.sweep()
    assert releases(stand) == [crash.ends]
    assert publish(stand, version, key="killed").status_code == 200
    assert (offered(stand), spent(stand)) == ((version, crash.released), (PROFILE_RHO, 0))
    assert stand.broken_laws() == []


def test_the_sweeper_overtakes_a_slow_publication(sqlite_stand: Stand) -> None:
    """A process that wakes up after its lease finds the release ended, and shows no profile."""
    stand, kept = sqlite_stand, profiling.keep
    version = stand.draft(manifest=PROFILED).json()["version"]

    def slow(*given: Any) -> None:
        stand.clock.advance(seconds=PROFILE_LEASE_S)
        assert stand.sweep()["forfeited"] == 1
        kept(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(profiling, "keep", slow)
        problem(publish(stand, version), 409, "in_progress")
    assert publish(stand, version).json()["profile"]["state"] == "failed"
    assert (offered(stand), spent(stand)) == ((version, False), (PROFILE_RHO, 0))
    assert stand.broken_laws() == []


def test_a_domain_that_paid_for_a_profile_belongs_to_who_paid(sqlite_stand: Stand) -> None:
    """Between the profile and the offer nobody else can publish in the domain."""
    stand = sqlite_stand
    policy = sample.policy(profile_rho="0.003", domain="riders:elsewhere")
    listed = [
        stand.draft(who, sample.manifest(slug=f"{who}-rides/rides", policy=policy), sample.files(seed=seed))
        for who, seed in (("provider", 21), ("rival", 22))
    ]
    own, other = (reply.json() for reply in listed)

    def offer(who: str, made: dict[str, Any]) -> Any:
        return stand.post(who, f"/v1/datasets/{made['slug']}/publish", {"version": made["version"]})

    with pytest.MonkeyPatch.context() as patch:
        plant_in_publishing(patch, "after the profile was kept", die)
        with pytest.raises(Died):
            offer("provider", own)
    problem(offer("rival", other), 409, "domain_taken")
    assert offer("provider", own).status_code == 200
    assert stand.broken_laws() == []
