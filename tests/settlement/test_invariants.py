"""Each invariant is broken on purpose, behind the ledger's back, and must be reported."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import Session

import settlement
from settlement import ledger
from settlement.ledger import Leg, chart

WALLET, BANK, FEES = chart.buyer_prepaid("o", "USD"), chart.external_bank("USD"), chart.platform_fees("USD")
Reader = Callable[[], AbstractContextManager[Session]]


@pytest.fixture
def books(tmp_path: Path, now: datetime) -> Iterator[Engine]:
    """Books without triggers, whose constraints are switched off: an insider's database."""
    engine = create_engine(f"sqlite:///{tmp_path / 'books.sqlite'}")
    settlement.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        chart.open_buyer(session, "o", "USD")
        chart.open_buyer(session, "o", "JPY")
        for number, legs in enumerate([[Leg("USD", BANK, WALLET, 100)], [Leg("USD", WALLET, FEES, 60)]]):
            facts: dict[str, Any] = {"kind": "k", "business_key": f"k{number}", "actor": "a"}
            ledger.post(session, journal=f"j{number}", now=now, legs=legs, **facts)
        facts = {"kind": "k", "actor": "a"}
        legs = [Leg("USD", WALLET, FEES, 10)]
        ledger.reserve(session, journal="j2", business_key="k2", now=now, legs=legs, **facts)
        ledger.resolve(
            session, pending_journal="j2", journal="j3", business_key="k3", now=now, phases="post", **facts
        )
    yield engine
    engine.dispose()


def findings_after(engine: Engine, *statements: str) -> list[str]:
    with engine.connect() as connection:
        connection.execute(text("PRAGMA ignore_check_constraints = ON"))
        for statement in statements:
            connection.execute(text(statement))
        connection.commit()
    with Session(engine) as session:
        return ledger.check(session)


def test_whole_books_have_no_findings(books: Engine) -> None:
    assert findings_after(books) == []


def test_l1_names_an_entry_with_a_leg_in_another_unit(books: Engine) -> None:
    yen = chart.platform_fees("JPY")
    found = findings_after(books, f"UPDATE transfer SET credit = '{yen}' WHERE id = 'j1:0'")
    assert any(f.startswith("L1: entry j1 leg 0") and yen in f for f in found)
    assert any(f.startswith("L1: entry j1 is out of balance by -60 in USD") for f in found)


def test_l1_names_units_whose_balances_do_not_cancel(books: Engine) -> None:
    found = findings_after(books, f"UPDATE account SET credits_posted = 71 WHERE id = '{FEES}'")
    assert "L1: balances in USD are off by 1 posted and 0 pending" in found


def test_l1_names_entries_without_legs_and_legs_without_entries(books: Engine) -> None:
    found = findings_after(books, "UPDATE transfer SET journal = 'gone' WHERE id = 'j1:0'")
    assert "L1: entry j1 has no legs" in found
    assert any(f.startswith("L1: entry gone leg 0") for f in found)


def test_l2_names_the_entry_after_which_a_floor_was_broken(books: Engine) -> None:
    found = findings_after(books, "UPDATE transfer SET amount = 50 WHERE id = 'j0:0'")
    assert f"L2: account {WALLET} stood at -10 after entry j1" in found


def test_l2_names_a_cached_balance_below_its_floor(books: Engine) -> None:
    found = findings_after(books, f"UPDATE account SET debits_pending = 31 WHERE id = '{WALLET}'")
    assert f"L2: account {WALLET} shows -1 available" in found


def test_l3_names_the_counter_and_a_rebuild_mends_it(books: Engine) -> None:
    found = findings_after(books, f"UPDATE account SET debits_posted = 69 WHERE id = '{WALLET}'")
    assert f"L3: account {WALLET} shows 69 debits_posted, its transfers make 70" in found
    with Session(books) as session, session.begin():
        assert ledger.rebuild(session) == [ledger.Drift(WALLET, "debits_posted", 69, 70)]
        assert ledger.check(session) == []


def test_l4_names_a_resolution_of_something_else(books: Engine) -> None:
    found = findings_after(books, "UPDATE transfer SET amount = 11 WHERE id = 'j3:0'")
    assert "L4: entry j3: j3:0 resolves nothing that was pending alike" in found


def test_l4_names_a_transfer_resolved_twice(books: Engine, tmp_path: Path) -> None:
    with books.begin() as connection:  # the constraint that forbids it is gone in this copy of the table
        connection.execute(text("CREATE TABLE copy AS SELECT * FROM transfer"))
        connection.execute(text("PRAGMA foreign_keys = OFF"))
        connection.execute(text("DROP TABLE transfer"))
        connection.execute(text("ALTER TABLE copy RENAME TO transfer"))
    again = "SELECT 'j9:0', 'j3', 9, unit, debit, credit, amount, phase, pending_id FROM transfer"
    found = findings_after(books, f"INSERT INTO transfer {again} WHERE id = 'j3:0'")
    assert "L4: j2:0 was resolved 2 times" in found


def test_l4_names_a_phase_that_does_not_fit(books: Engine) -> None:
    found = findings_after(books, "UPDATE transfer SET pending_id = 'j0:0' WHERE id = 'j1:0'")
    assert "L4: j1:0 has a phase that does not fit" in found
