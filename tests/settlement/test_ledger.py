from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from settlement import ledger
from settlement.errors import (
    AccountUnknown,
    AmountInvalid,
    DuplicateBusinessKey,
    LedgerError,
    NotPending,
    Overdrawn,
)
from settlement.ledger import Leg, chart, entries
from settlement.money import Money

Sessions = Callable[[], AbstractContextManager[Session]]
WALLET, BANK = chart.buyer_prepaid("org_b", "USD"), chart.external_bank("USD")
PAYABLE, FEES = chart.provider_payable("org_p", "USD"), chart.platform_fees("USD")
DOMAIN, GRANT = "aircraft:nyc", "grt_1"


@pytest.fixture
def books(sessions: Sessions, now: datetime) -> Sessions:
    """A wallet of 10.00, a domain with rho 5 and delta 1e-6, a grant for rho 1."""
    with sessions() as session:
        chart.open_buyer(session, "org_b", "USD")
        chart.open_provider(session, "org_p", "USD")
        chart.open_domain(session, DOMAIN)
        chart.open_domain_buyer(session, DOMAIN, "org_b")
        chart.open_grant(session, GRANT, DOMAIN)
        book(session, now, "jrn_top_up", entries.wallet_credited("org_b", Money(1000, "USD")))
        book(session, now, "jrn_budget", entries.budget_granted(DOMAIN, rho_nano=5 * 10**9, delta_pico=10**6))
        book(session, now, "jrn_allow", entries.allowance_issued(GRANT, DOMAIN, rho_nano=10**9))
    return sessions


def book(session: Session, now: datetime, journal: str, legs: list[Leg], **changes: Any) -> str:
    facts = {"kind": "test", "business_key": f"test:{journal}", "actor": "act_1", "now": now, **changes}
    return ledger.post(session, journal=journal, legs=legs, **facts)


def hold(session: Session, now: datetime, journal: str, legs: list[Leg]) -> str:
    return ledger.reserve(
        session,
        journal=journal,
        kind="query.reserved",
        business_key=f"h:{journal}",
        actor="act_1",
        now=now,
        legs=legs,
    )


def settle(session: Session, now: datetime, pending: str, journal: str, phases: Any) -> str:
    facts: dict[str, Any] = {
        "kind": "query.settled",
        "business_key": f"s:{journal}",
        "actor": "act_1",
        "now": now,
    }
    return ledger.resolve(session, pending_journal=pending, journal=journal, phases=phases, **facts)


def available(session: Session, account: str, unit: str = "USD") -> int:
    return ledger.balance(session, account, unit).available


def query_legs(price_minor: int = 101, rho_nano: int = 10**7) -> list[Leg]:
    charge = entries.charge(
        buyer="org_b", provider="org_p", price=Money(price_minor, "USD"), fee_basis_points=1500
    )
    spent = entries.privacy_spent(buyer="org_b", domain=DOMAIN, grant=GRANT, rho_nano=rho_nano, delta_pico=10)
    return charge + spent


def test_a_reservation_holds_and_a_settlement_moves(books: Sessions, now: datetime) -> None:
    with books() as session:
        hold(session, now, "jrn_q", query_legs())
        assert ledger.balance(session, WALLET, "USD") == ledger.Balance(1000, 101, 0, 899)
        assert ledger.balance(session, PAYABLE, "USD") == ledger.Balance(0, 0, 86, 0)
    with books() as session:
        settle(session, now, "jrn_q", "jrn_s", "post")
        assert ledger.balance(session, WALLET, "USD") == ledger.Balance(899, 0, 0, 899)
        assert (available(session, PAYABLE), available(session, FEES)) == (86, 15)
        assert available(session, chart.domain_available(DOMAIN), chart.rho_unit(DOMAIN)) == 5 * 10**9 - 10**7
        assert available(session, chart.grant_allowance(GRANT), chart.rho_unit(DOMAIN)) == 10**9 - 10**7
        assert (
            available(session, chart.domain_spent(DOMAIN, "org_b", "delta"), chart.delta_unit(DOMAIN)) == 10
        )
        assert ledger.check(session) == []
        assert ledger.trial_balance(session).balanced


def test_a_void_gives_everything_back(books: Sessions, now: datetime) -> None:
    with books() as session:
        hold(session, now, "jrn_q", query_legs())
        settle(session, now, "jrn_q", "jrn_v", "void")
        assert ledger.balance(session, WALLET, "USD") == ledger.Balance(1000, 0, 0, 1000)
        assert available(session, chart.domain_available(DOMAIN), chart.rho_unit(DOMAIN)) == 5 * 10**9
        assert ledger.check(session) == []


def test_a_forfeit_keeps_privacy_and_returns_money(books: Sessions, now: datetime) -> None:
    with books() as session:
        hold(session, now, "jrn_q", query_legs())
        settle(session, now, "jrn_q", "jrn_f", entries.forfeited(session, "jrn_q"))
        assert available(session, WALLET) == 1000
        assert available(session, PAYABLE) == 0
        assert available(session, chart.grant_used(GRANT), chart.rho_unit(DOMAIN)) == 10**7
        assert (
            available(session, chart.domain_spent(DOMAIN, "org_b", "delta"), chart.delta_unit(DOMAIN)) == 10
        )
        assert ledger.check(session) == []


def test_legs_left_out_of_a_resolution_stay_pending(books: Sessions, now: datetime) -> None:
    with books() as session:
        hold(session, now, "jrn_q", query_legs())
        settle(session, now, "jrn_q", "jrn_1", {0: "post"})
        assert ledger.balance(session, WALLET, "USD") == ledger.Balance(914, 15, 0, 899)
        with pytest.raises(NotPending):
            settle(session, now, "jrn_q", "jrn_2", "post")
        settle(session, now, "jrn_q", "jrn_3", {1: "void", 2: "post", 3: "post", 4: "post"})
        assert available(session, WALLET) == 914
        assert ledger.check(session) == []


@pytest.mark.parametrize("phases", ["post", "void", {0: "void"}])
def test_a_pending_leg_resolves_once(books: Sessions, now: datetime, phases: Any) -> None:
    with books() as session:
        hold(session, now, "jrn_q", query_legs())
        settle(session, now, "jrn_q", "jrn_1", "post")
    with books() as session:
        before = ledger.trial_balance(session)
        with pytest.raises(NotPending):
            settle(session, now, "jrn_q", "jrn_2", phases)
        assert ledger.trial_balance(session) == before


@pytest.mark.parametrize(
    ("journal", "phases"),
    [("jrn_none", "post"), ("jrn_top_up", "void"), ("jrn_q", {9: "post"}), ("jrn_q", {})],
)
def test_only_reserved_legs_can_be_resolved(
    books: Sessions, now: datetime, journal: str, phases: Any
) -> None:
    with books() as session:
        hold(session, now, "jrn_q", query_legs())
        with pytest.raises(NotPending):
            settle(session, now, journal, "jrn_x", phases)
        with pytest.raises(LedgerError):
            settle(session, now, "jrn_q", "jrn_x", {0: "refund"})


def test_overdrawing_one_leg_refuses_the_whole_entry_and_leaves_the_transaction_usable(
    books: Sessions, now: datetime
) -> None:
    with books() as session:
        with pytest.raises(Overdrawn) as refused:
            hold(session, now, "jrn_q", query_legs(rho_nano=10**9 + 1))
        assert refused.value.account == chart.grant_allowance(GRANT)
        assert (refused.value.unit, refused.value.available) == (chart.rho_unit(DOMAIN), 10**9)
        assert refused.value.code == "overdrawn"
        assert available(session, WALLET) == 1000
        hold(session, now, "jrn_q", query_legs(price_minor=1000, rho_nano=10**9))
    with books() as session:
        assert available(session, WALLET) == 0
        with pytest.raises(Overdrawn, match=r"buyer:org_b:prepaid:USD"):
            hold(session, now, "jrn_r", query_legs(price_minor=1, rho_nano=0))
        assert ledger.check(session) == []


def test_held_amounts_are_not_available_and_pending_credits_are_not_either(
    books: Sessions, now: datetime
) -> None:
    with books() as session:
        hold(session, now, "jrn_q", [Leg("USD", WALLET, PAYABLE, 600)])
        with pytest.raises(Overdrawn):
            hold(session, now, "jrn_r", [Leg("USD", WALLET, PAYABLE, 401)])
        with pytest.raises(Overdrawn):
            book(session, now, "jrn_p", [Leg("USD", PAYABLE, BANK, 1)])


def test_one_entry_may_pass_money_through_an_empty_floor_account(books: Sessions, now: datetime) -> None:
    with books() as session:
        book(session, now, "jrn_t", [Leg("USD", PAYABLE, FEES, 5), Leg("USD", BANK, PAYABLE, 5)])
        assert (available(session, PAYABLE), available(session, FEES)) == (0, 5)
        assert ledger.check(session) == []


def test_a_business_fact_is_recorded_once(books: Sessions, now: datetime) -> None:
    with books() as session:
        before = ledger.trial_balance(session)
        with pytest.raises(DuplicateBusinessKey) as refused:
            book(session, now, "jrn_again", [Leg("USD", BANK, WALLET, 1000)], business_key="test:jrn_top_up")
        assert refused.value.business_key == "test:jrn_top_up"
        assert ledger.trial_balance(session) == before
        assert ledger.journal_lines(session, "jrn_again") == []


@pytest.mark.parametrize("amount", [0, -1, 2**62, 1.0, True, "5", None])
def test_a_leg_moves_a_positive_integer(amount: Any) -> None:
    with pytest.raises(AmountInvalid):
        Leg("USD", "a", "b", amount)


def test_a_leg_has_two_sides() -> None:
    with pytest.raises(LedgerError, match="same account"):
        Leg("USD", "a", "a", 1)


def test_turnover_beyond_the_books_is_refused_before_it_wraps(books: Sessions, now: datetime) -> None:
    most = 2**62 - 1
    with books() as session:
        with pytest.raises(AmountInvalid):
            book(session, now, "jrn_1", [Leg("USD", BANK, WALLET, most)])
        with pytest.raises(AmountInvalid):
            book(session, now, "jrn_2", [Leg("USD", BANK, FEES, most), Leg("USD", BANK, FEES, most)])
        assert available(session, WALLET) == 1000


def test_accounts_must_exist_in_the_leg_s_unit(books: Sessions, now: datetime) -> None:
    with books() as session:
        for leg in (
            Leg("USD", "nobody", WALLET, 1),
            Leg("JPY", BANK, WALLET, 1),
            Leg(chart.rho_unit(DOMAIN), BANK, WALLET, 1),
        ):
            with pytest.raises(AccountUnknown):
                book(session, now, "jrn_x", [leg])
        with pytest.raises(AccountUnknown):
            ledger.balance(session, WALLET, "JPY")
        with pytest.raises(LedgerError, match="no legs"):
            book(session, now, "jrn_x", [])


def test_opening_twice_changes_nothing_and_opening_differently_is_refused(books: Sessions) -> None:
    with books() as session:
        chart.open_buyer(session, "org_b", "USD")
        assert available(session, WALLET) == 1000
        with pytest.raises(AccountUnknown, match="another floor"):
            ledger.ensure_account(session, WALLET, "USD", owner="org_b", kind="buyer_prepaid", floor=False)
        with pytest.raises(AccountUnknown, match="another exponent"):
            ledger.ensure_unit(session, "USD", "money", 3)
        with pytest.raises(AccountUnknown, match="no unit"):
            ledger.ensure_account(session, "x", "EUR", owner="o", kind="k", floor=False)
        with pytest.raises(AccountUnknown, match="colon"):
            chart.open_buyer(session, "org:b", "USD")


def test_a_reversal_is_a_new_entry_and_happens_once(books: Sessions, now: datetime) -> None:
    with books() as session:
        facts: dict[str, Any] = {"kind": "wallet.reversed", "actor": "act_1", "now": now}
        ledger.reverse(session, reverses="jrn_top_up", journal="jrn_rev", business_key="rev:1", **facts)
        assert available(session, WALLET) == 0
        with pytest.raises(LedgerError, match="reversed before"):
            ledger.reverse(session, reverses="jrn_top_up", journal="jrn_rev2", business_key="rev:2", **facts)
        with pytest.raises(LedgerError, match="nothing"):
            ledger.reverse(session, reverses="jrn_none", journal="jrn_rev3", business_key="rev:3", **facts)
        assert ledger.check(session) == []


def test_a_reversal_cannot_take_what_was_spent(books: Sessions, now: datetime) -> None:
    with books() as session:
        book(session, now, "jrn_s", [Leg("USD", WALLET, PAYABLE, 1)])
        with pytest.raises(Overdrawn):
            ledger.reverse(
                session,
                reverses="jrn_top_up",
                journal="jrn_r",
                kind="r",
                business_key="r",
                actor="a",
                now=now,
            )


def test_a_statement_runs_a_balance_over_posted_amounts(books: Sessions, now: datetime) -> None:
    with books() as session:
        hold(session, now, "jrn_q", query_legs())
        assert [line.balance for line in ledger.statement(session, WALLET)] == [1000]
        settle(session, now, "jrn_q", "jrn_s", "post")
        lines = ledger.statement(session, WALLET)
        assert [(line.journal, line.signed_amount, line.balance, line.counterpart) for line in lines] == [
            ("jrn_top_up", 1000, 1000, BANK),
            ("jrn_s", -86, 914, PAYABLE),
            ("jrn_s", -15, 899, FEES),
        ]


def test_the_journal_view_holds_posted_amounts_with_both_sides(books: Sessions, now: datetime) -> None:
    with books() as session:
        hold(session, now, "jrn_q", query_legs())
        settle(session, now, "jrn_q", "jrn_s", "post")
        held = session.execute(text("SELECT count(*) FROM v_journal WHERE journal = 'jrn_q'")).scalar_one()
        assert held == 0
        rows = (
            session.execute(text("SELECT * FROM v_journal WHERE journal = 'jrn_s' AND unit = 'USD'"))
            .mappings()
            .all()
        )
        assert sorted((row["account"], row["signed_amount"]) for row in rows) == [
            (WALLET, -86),
            (WALLET, -15),
            (FEES, 15),
            (PAYABLE, 86),
        ]
        assert set(rows[0]) == {"journal", "unit", "account", "signed_amount", "business_key", "recorded_at"}
        assert {row["recorded_at"] for row in rows} == {"2026-11-22T09:00:00.000000+00:00"}
        sums = (
            session.execute(text("SELECT SUM(signed_amount) FROM v_journal GROUP BY journal, unit"))
            .scalars()
            .all()
        )
        assert set(map(int, sums)) == {0}


def test_the_privacy_view_adds_up_a_domain(books: Sessions, now: datetime) -> None:
    with books() as session:
        hold(session, now, "jrn_q", query_legs())
        hold(session, now, "jrn_r", query_legs(rho_nano=3))
        settle(session, now, "jrn_q", "jrn_s", "post")
        rows = session.execute(text("SELECT * FROM v_privacy")).mappings().all()
        assert [dict(row) for row in rows] == [
            {"domain": DOMAIN, "granted_nano": 5 * 10**9, "spent_nano": 10**7, "reserved_nano": 3}
        ]


def test_the_digest_covers_every_fact_of_an_entry(books: Sessions, now: datetime) -> None:
    with books() as session:
        hold(session, now, "jrn_q", query_legs())
        digest = ledger.journal_digest(session, "jrn_q")
        assert len(digest) == 64
        assert digest == ledger.journal_digest(session, "jrn_q")
        assert digest != ledger.journal_digest(session, "jrn_top_up")
        names = ["jrn_q", "jrn_none", "jrn_top_up"]
        assert ledger.journal_digests(session, names) == {
            name: ledger.journal_digest(session, name) for name in names if name != "jrn_none"
        }
        assert ledger.recorded(session)["jrn_q"] == digest
        lines = ledger.journal_lines(session, "jrn_q")
        assert [(line.leg, line.amount, line.phase) for line in lines][:2] == [
            (0, 86, "pending"),
            (1, 15, "pending"),
        ]
        with pytest.raises(LedgerError):
            ledger.journal_digest(session, "jrn_none")


@pytest.mark.parametrize("table", ["journal", "transfer"])
@pytest.mark.parametrize("change", ["UPDATE {} SET id = 'x'", "DELETE FROM {}"])
def test_the_database_refuses_to_change_the_past(
    books: Sessions, engine: Engine, table: str, change: str
) -> None:
    with pytest.raises(DBAPIError, match="append-only"), engine.begin() as connection:
        connection.execute(text(change.format(table)))
    with books() as session:
        assert len(session.execute(select(ledger.journal)).all()) == 3


def test_the_database_itself_keeps_a_floor(books: Sessions, engine: Engine) -> None:
    with pytest.raises(DBAPIError, match="floor"), engine.begin() as connection:
        connection.execute(text(f"UPDATE account SET debits_posted = 1001 WHERE id = '{WALLET}'"))


def test_unknown_databases_have_no_triggers() -> None:
    with pytest.raises(ValueError, match="oracle"):
        ledger.append_only_ddl("oracle")
