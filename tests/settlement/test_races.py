"""Sixty-four clients race for what suffices for thirty-seven: exactly thirty-seven get it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import datetime
from threading import Barrier

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from settlement import ledger
from settlement.errors import DuplicateBusinessKey, NotPending, Overdrawn
from settlement.ledger import chart, entries
from settlement.money import Money

CLIENTS, FITS, RHO = 64, 37, 10**6
DOMAIN = "person:race"
Sessions = Callable[[], AbstractContextManager[Session]]


def open_books(
    sessions: Sessions, now: datetime, *, cents: int = 100_000, rho_nano: int = FITS * RHO + RHO // 2
) -> None:
    with sessions() as session:
        chart.open_buyer(session, "org_b", "USD")
        chart.open_provider(session, "org_p", "USD")
        chart.open_domain(session, DOMAIN)
        chart.open_domain_buyer(session, DOMAIN, "org_b")
        chart.open_grant(session, "grt_1", DOMAIN)
        for journal, legs in (
            ("top-up", entries.wallet_credited("org_b", Money(cents, "USD"))),
            ("budget", entries.budget_granted(DOMAIN, rho_nano=rho_nano, delta_pico=0)),
            ("allowance", entries.allowance_issued("grt_1", DOMAIN, rho_nano=CLIENTS * RHO)),
        ):
            ledger.post(
                session, journal=journal, kind=journal, business_key=journal, actor="a", now=now, legs=legs
            )


def race(clients: int, run: Callable[[int], str]) -> list[str]:
    start = Barrier(clients)

    def client(number: int) -> str:
        start.wait()
        return run(number)

    with ThreadPoolExecutor(clients) as pool:
        return list(pool.map(client, range(clients)))


def reserve_one(session: Session, key: str, journal: str, now: datetime) -> None:
    legs = entries.charge(buyer="org_b", provider="org_p", price=Money(7, "USD"), fee_basis_points=1000)
    legs += entries.privacy_spent(buyer="org_b", domain=DOMAIN, grant="grt_1", rho_nano=RHO, delta_pico=0)
    ledger.reserve(session, journal=journal, kind="query", business_key=key, actor="a", now=now, legs=legs)


def test_a_race_for_rho_admits_exactly_what_fits(sessions: Sessions, now: datetime) -> None:
    open_books(sessions, now)

    def run(number: int) -> str:
        try:
            with sessions() as session:
                reserve_one(session, f"q{number}", f"q{number}", now)
        except Overdrawn as refused:
            return refused.account
        return "admitted"

    outcomes = race(CLIENTS, run)
    assert outcomes.count("admitted") == FITS
    assert outcomes.count(chart.domain_available(DOMAIN)) == CLIENTS - FITS
    with sessions() as session:
        left = ledger.balance(session, chart.domain_available(DOMAIN), chart.rho_unit(DOMAIN))
        assert (left.pending_out, left.available) == (FITS * RHO, RHO // 2)
        wallet = ledger.balance(session, chart.buyer_prepaid("org_b", "USD"), "USD")
        assert wallet.pending_out == FITS * 7
        assert ledger.check(session) == []


@pytest.mark.parametrize(("paid_for", "private"), [(20, 37), (37, 20), (30, 30)])
def test_a_race_for_money_and_rho_admits_what_both_cover(
    sessions: Sessions, now: datetime, paid_for: int, private: int
) -> None:
    """One wallet for N questions, one budget for M: min(N, M) are held whole, the others leave no trace."""
    open_books(sessions, now, cents=7 * paid_for + 6, rho_nano=private * RHO + RHO // 2)

    def run(number: int) -> str:
        try:
            with sessions() as session:
                reserve_one(session, f"q{number}", f"q{number}", now)
        except Overdrawn as refused:
            return refused.account
        return "admitted"

    outcomes, fits = race(CLIENTS, run), min(paid_for, private)
    assert outcomes.count("admitted") == fits
    assert set(outcomes) <= {
        "admitted",
        chart.domain_available(DOMAIN),
        chart.buyer_prepaid("org_b", "USD"),
    }
    with sessions() as session:
        left = ledger.balance(session, chart.domain_available(DOMAIN), chart.rho_unit(DOMAIN))
        wallet = ledger.balance(session, chart.buyer_prepaid("org_b", "USD"), "USD")
        held = select(func.count()).select_from(ledger.journal).where(ledger.journal.c.kind == "query")
        assert (left.pending_out, wallet.pending_out) == (fits * RHO, fits * 7)
        assert session.scalar(held) == fits
        assert ledger.check(session) == []


def test_a_race_with_one_business_key_records_one_entry(sessions: Sessions, now: datetime) -> None:
    open_books(sessions, now)

    def run(number: int) -> str:
        try:
            with sessions() as session:
                reserve_one(session, "the same", f"q{number}", now)
        except DuplicateBusinessKey:
            return "repeat"
        return "admitted"

    assert sorted(race(16, run)) == ["admitted", *["repeat"] * 15]


def test_one_business_key_over_different_accounts_is_still_one_entry(
    sessions: Sessions, now: datetime
) -> None:
    """No lock is shared here: the second writer is past its look-up before the first commits."""
    with sessions() as session:
        for org in range(8):
            chart.open_buyer(session, f"org_{org}", "USD")
            for side in ("in", "out"):
                ledger.ensure_account(session, f"{side}:{org}", "USD", owner="test", kind="test", floor=False)

    def run(number: int) -> str:
        try:
            with sessions() as session:
                legs = [ledger.Leg("USD", f"out:{number}", f"in:{number}", 1)]
                ledger.post(
                    session,
                    journal=f"j{number}",
                    kind="k",
                    business_key="same",
                    actor="a",
                    now=now,
                    legs=legs,
                )
        except DuplicateBusinessKey:
            return "repeat"
        return "admitted"

    assert sorted(race(8, run)) == ["admitted", *["repeat"] * 7]
    with sessions() as session:
        assert ledger.check(session) == []


def test_a_race_to_settle_resolves_once(sessions: Sessions, now: datetime) -> None:
    open_books(sessions, now)
    with sessions() as session:
        reserve_one(session, "q", "q", now)

    def run(number: int) -> str:
        try:
            with sessions() as session:
                ledger.resolve(
                    session,
                    pending_journal="q",
                    journal=f"s{number}",
                    kind="settle",
                    business_key=f"s{number}",
                    actor="a",
                    now=now,
                    phases="post" if number % 2 else "void",
                )
        except NotPending:
            return "late"
        return "settled"

    assert sorted(race(16, run)) == [*["late"] * 15, "settled"]
    with sessions() as session:
        assert ledger.check(session) == []
