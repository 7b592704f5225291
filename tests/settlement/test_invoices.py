"""Documents over a wallet: each part of an entry on one of them; numbers without a gap; totals exact."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from settlement import invoices, ledger
from settlement.errors import BillingInvalid, BillingProfileMissing, InvoiceMissing, StatementMissing
from settlement.invoices import ISSUER, BillingProfile, Due, Invoice, TaxTreatment
from settlement.ledger import Leg, chart, entries
from settlement.money import Money
from settlement.schema import timestamp

Sessions = Callable[[], AbstractContextManager[Session]]
BUYER, PROVIDER = "org_b", "org_p"
FAR = "2099-01-01T00:00:00.000000+00:00"


@pytest.fixture
def books(sessions: Sessions, now: datetime) -> Sessions:
    """A buyer with 100.00 USD and 10,000 JPY, both parties named, nothing sold yet."""
    with sessions() as session:
        for currency, amount in (("USD", 10_000), ("JPY", 10_000)):
            chart.open_buyer(session, BUYER, currency)
            chart.open_provider(session, PROVIDER, currency)
            post(session, now, f"top-{currency}", entries.wallet_credited(BUYER, Money(amount, currency)))
        for org, name in ((ISSUER, "Exchange GmbH"), (BUYER, "株式会社データ")):
            profile = BillingProfile(name, "Street 1\n10115 Berlin", "DE", "DE123")
            invoices.save_profile(session, org, profile, actor="op", now=now)
    return sessions


def post(session: Session, now: datetime, name: str, legs: list[Leg]) -> None:
    ledger.post(session, journal=name, kind="booked", business_key=name, actor="a", now=now, legs=legs)


def sell(session: Session, now: datetime, name: str, minor: int, currency: str = "USD") -> None:
    price = Money(minor, currency)
    post(
        session, now, name, entries.charge(buyer=BUYER, provider=PROVIDER, price=price, fee_basis_points=1000)
    )


def give_back(session: Session, now: datetime, name: str) -> None:
    ledger.reverse(
        session,
        reverses=name,
        journal=f"back-{name}",
        kind="refunded",
        business_key=f"back:{name}",
        actor="a",
        now=now,
    )


def described(lines: Sequence[Due]) -> list[dict[str, Any]]:
    return [{"description": f"line {line.business_key}"} for line in lines]


def issue_all(session: Session, now: datetime, currency: str = "USD", until: str = FAR) -> list[Invoice]:
    made: list[Invoice] = []
    while True:
        number = session.execute(text("SELECT COUNT(*) FROM invoice")).scalar_one()
        one = invoices.issue_next(
            session,
            org=BUYER,
            currency=currency,
            until=until,
            id=f"inv_{number}",
            tax_journal=f"tax_{number}",
            actor="op",
            now=now,
            describe=described,
        )
        if one is None:
            return made
        made.append(one)


def told(made: Invoice) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(made.document)
    return document


@pytest.mark.parametrize(
    "world", [chart.platform_dispute_suspense("USD"), chart.buyer_receivable(BUYER, "USD")]
)
def test_what_a_bank_takes_back_is_no_supply(books: Sessions, now: datetime, world: str) -> None:
    """It stands on a receipt, as the payment did, and comes back on one; no invoice charges tax for it."""
    wallet = chart.buyer_prepaid(BUYER, "USD")
    with books() as session:
        post(session, now, "taken", [Leg("USD", debit=wallet, credit=world, amount=700)])
        give_back(session, now, "taken")
        made = issue_all(session, now)
        assert [one.kind for one in made] == ["receipt", "receipt", "receipt"]
        assert [told(one)["returned"] for one in made] == [False, True, False]


def test_a_payment_has_a_receipt_and_its_use_an_invoice(books: Sessions, now: datetime) -> None:
    with books() as session:
        for name, minor in (("a", 25), ("b", 101), ("c", 333)):
            sell(session, now, name, minor)
        made = issue_all(session, now)
        assert [(one.kind, one.number, one.gross_minor) for one in made] == [
            ("receipt", "RC-2026-000001", 10_000),
            ("invoice", "INV-2026-000001", 459),
        ]
        assert [(line["journal"], line["gross"]) for line in told(made[1])["lines"]] == [
            ("a", "0.25"),
            ("b", "1.01"),
            ("c", "3.33"),
        ]
        wallet = ledger.balance(session, chart.buyer_prepaid(BUYER, "USD"), "USD")
        assert made[0].gross_minor - made[1].gross_minor == wallet.posted
        assert told(made[1])["buyer"]["legal_name"] == "株式会社データ"
        assert issue_all(session, now) == []
        assert invoices.check_invoices(session) == []


def test_a_return_is_a_credit_note_on_its_invoice_with_the_tax_of_then(
    books: Sessions, now: datetime
) -> None:
    with books() as session:
        invoices.save_tax(session, BUYER, TaxTreatment("VAT", 1900, "DE"), actor="op", now=now)
        sell(session, now, "a", 119)
        sell(session, now, "b", 1_000)
        first = issue_all(session, now)[1]
        sell(session, now, "c", 50)
        second = issue_all(session, now)[0]
        invoices.save_tax(session, BUYER, TaxTreatment("VAT", 700, "DE"), actor="op", now=now)
        for name in ("a", "c"):
            give_back(session, now, name)
        notes = issue_all(session, now)
        assert [(n.kind, n.number, n.gross_minor) for n in notes] == [
            ("credit_note", "CN-2026-000001", 119),
            ("credit_note", "CN-2026-000002", 50),
        ]
        assert [told(n)["corrects"] for n in notes] == [first.number, second.number]
        assert (notes[0].net_minor, notes[0].tax_minor) == (100, 19)
        owed = ledger.balance(session, chart.platform_tax("DE", "USD"), "USD").posted
        assert owed == first.tax_minor + second.tax_minor - notes[0].tax_minor - notes[1].tax_minor
        assert invoices.check_invoices(session) == []
        assert ledger.check(session) == []


def test_money_sent_back_is_a_receipt_that_says_so(books: Sessions, now: datetime) -> None:
    with books() as session:
        issue_all(session, now)
        wallet, bank = chart.buyer_prepaid(BUYER, "USD"), chart.external_bank("USD")
        post(session, now, "out", [Leg("USD", debit=wallet, credit=bank, amount=500)])
        (made,) = issue_all(session, now)
        assert (made.kind, made.gross_minor, told(made)["returned"]) == ("receipt", 500, True)
        assert told(made)["tax"] is None


def test_only_what_was_recorded_before_is_billed_and_years_count_anew(books: Sessions, now: datetime) -> None:
    december, january = datetime(2026, 12, 31, 23, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
    with books() as session:
        issue_all(session, now)
        sell(session, december, "old", 10)
        sell(session, january, "new", 20)
        (made,) = issue_all(session, january, until=timestamp(january))
        assert (made.number, made.gross_minor) == ("INV-2027-000001", 10)
        (later,) = issue_all(session, january)
        assert (later.number, later.gross_minor) == ("INV-2027-000002", 20)
        assert told(later)["period"] == {"first": "2027-01-01", "last": "2027-01-01"}


def test_currencies_have_invoices_of_their_own_with_their_decimals(books: Sessions, now: datetime) -> None:
    with books() as session:
        invoices.save_tax(session, BUYER, TaxTreatment("JCT", 1000, "JP"), actor="op", now=now)
        sell(session, now, "yen", 1_234, "JPY")
        made = issue_all(session, now, "JPY")[1]
        assert told(made)["totals"] == {"net": "1122", "tax": "112", "gross": "1234"}
        assert invoices.organisations_due(session, until=FAR) == [(BUYER, "USD")]


def test_reservations_and_voided_ones_are_not_billed(books: Sessions, now: datetime) -> None:
    with books() as session:
        issue_all(session, now)
        legs = entries.charge(buyer=BUYER, provider=PROVIDER, price=Money(70, "USD"), fee_basis_points=1000)
        facts: Any = {"kind": "q", "actor": "a", "now": now}
        for name in ("open", "void", "post"):
            ledger.reserve(session, journal=f"r-{name}", business_key=f"r:{name}", legs=legs, **facts)
        for name in ("void", "post"):
            ledger.resolve(
                session,
                pending_journal=f"r-{name}",
                journal=name,
                business_key=name,
                phases=name,  # type: ignore[arg-type]
                **facts,
            )
        (made,) = issue_all(session, now)
        assert [line["journal"] for line in told(made)["lines"]] == ["post"]


def test_an_issued_document_cannot_be_changed(books: Sessions, now: datetime, engine: Any) -> None:
    with books() as session:
        issue_all(session, now)
    for statement in (
        "UPDATE invoice SET gross_minor = 1, net_minor = 1",
        "DELETE FROM invoice_line",
        "UPDATE billing_profile SET legal_name = 'x'",
        "DELETE FROM tax_treatment",
    ):
        table = statement.split()[1 if statement.startswith("UPDATE") else 2]
        with books() as session:
            if table == "tax_treatment":
                invoices.save_tax(session, BUYER, TaxTreatment("VAT", 0, "DE"), actor="op", now=now)
        with pytest.raises(DBAPIError, match="append-only"), engine.begin() as connection:
            connection.execute(text(statement))


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ("UPDATE invoice SET sequence = 7 WHERE kind = 'invoice'", "ends at 7 and has 1"),
        ("UPDATE invoice SET document = replace(document, '0.25', '0.26')", "not the document"),
        ("UPDATE invoice SET net_minor = net_minor + 1, gross_minor = gross_minor + 1", "other totals"),
        ("UPDATE invoice_line SET signed_minor = signed_minor - 1 WHERE journal = 'a'", "another amount"),
        ("DELETE FROM invoice_line WHERE journal = 'a'", "add up"),
    ],
)
def test_what_was_altered_behind_the_triggers_is_found(
    books: Sessions, now: datetime, engine: Any, change: str, finding: str
) -> None:
    with books() as session:
        sell(session, now, "a", 25)
        sell(session, now, "b", 75)
        issue_all(session, now)
        assert invoices.check_invoices(session) == []
    with engine.begin() as connection:
        for table in ("invoice", "invoice_line"):
            if engine.dialect.name == "sqlite":
                for event in ("update", "delete"):
                    connection.execute(text(f"DROP TRIGGER {table}_append_only_{event}"))
            else:
                connection.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER USER"))
        connection.execute(text(change))
    with books() as session:
        assert any(finding in found for found in invoices.check_invoices(session))


def test_without_a_profile_nothing_is_issued(sessions: Sessions, now: datetime) -> None:
    with sessions() as session:
        chart.open_buyer(session, BUYER, "USD")
        post(session, now, "top", entries.wallet_credited(BUYER, Money(1, "USD")))
        with pytest.raises(BillingProfileMissing, match="exchange has no billing profile"):
            issue_all(session, now)
        assert invoices.invoices_of(session, org=None) == []
        with pytest.raises(InvoiceMissing):
            invoices.find_invoice(session, "INV-2026-000001", org=None)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("legal_name", " "),
        ("legal_name", "x" * 201),
        ("address", "a\n" * 9),
        ("address", ""),
        ("address", "a\tb"),
        ("country", "Germany"),
        ("country", "de"),
        ("tax_id", "1\n2"),
        ("email", "x" * 201),
    ],
)
def test_a_profile_that_no_invoice_could_show_is_refused(field: str, value: str) -> None:
    good = {"legal_name": "A", "address": "B\nC", "country": "DE", "tax_id": "", "email": ""}
    with pytest.raises(BillingInvalid) as refused:
        BillingProfile(**{**good, field: value})
    assert refused.value.path == field


@pytest.mark.parametrize(("rate", "place"), [(-1, "DE"), (10_001, "DE"), (1900, "Germany"), (1900, "US-")])
def test_a_tax_that_cannot_be_is_refused(rate: int, place: str) -> None:
    with pytest.raises(BillingInvalid):
        TaxTreatment("VAT", rate, place)


def test_the_same_profile_again_is_no_revision(books: Sessions, now: datetime) -> None:
    with books() as session:
        found = invoices.find_profile(session, BUYER)
        assert found is not None
        assert not invoices.save_profile(session, BUYER, found, actor="op", now=now)
        changed = BillingProfile("New name", "Street 2", "FR")
        assert invoices.save_profile(session, BUYER, changed, actor="op", now=now)
        assert invoices.find_profile(session, BUYER) == changed


@given(
    st.lists(st.tuples(st.integers(1, 400), st.booleans()), min_size=1, max_size=8),
    st.integers(0, 10_000),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_documents_add_up_to_the_ledger_whatever_was_sold_and_returned(
    books: Sessions, now: datetime, sales: list[tuple[int, bool]], rate: int
) -> None:
    with books() as session:
        try:
            invoices.save_tax(session, BUYER, TaxTreatment("VAT", rate, "DE"), actor="op", now=now)
            for n, (minor, returned) in enumerate(sales):
                sell(session, now, f"s{n}", minor)
                if n == len(sales) // 2:
                    issue_all(session, now)
                if returned:
                    give_back(session, now, f"s{n}")
            issue_all(session, now)
            signs = {"receipt": 1, "invoice": -1, "credit_note": 1}
            made = invoices.invoices_of(session, org=BUYER)
            wallet = ledger.balance(session, chart.buyer_prepaid(BUYER, "USD"), "USD").posted
            assert sum(signs[one.kind] * one.gross_minor for one in made) == wallet
            for one in made:
                assert one.net_minor + one.tax_minor == one.gross_minor
                lines = told(one)["lines"]
                assert sum(round(float(line["net"]) * 100) for line in lines) == one.net_minor
            assert invoices.check_invoices(session) == []
            assert ledger.check(session) == []
        finally:
            session.rollback()


# providers


def test_a_provider_month_opens_with_what_the_last_one_closed(books: Sessions, now: datetime) -> None:
    october, december = datetime(2026, 10, 5, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
    payable, holdback = chart.provider_payable(PROVIDER, "USD"), chart.provider_holdback(PROVIDER, "USD")
    with books() as session:
        sell(session, october, "oct", 1_000)
        sell(session, now, "nov", 333)
        sell(session, now, "wrong", 101)
        give_back(session, now + timedelta(hours=1), "wrong")
        bank = chart.external_bank("USD")
        post(session, now, "hold", [Leg("USD", debit=payable, credit=holdback, amount=200)])
        post(session, now, "paid", [Leg("USD", debit=payable, credit=bank, amount=400)])
        sell(session, december, "dec", 50)
        months = [("2026-10-01", "2026-11-01"), ("2026-11-01", "2026-12-01"), ("2026-12-01", "2027-01-01")]
        stated = [
            invoices.provider_statement(
                session,
                org=PROVIDER,
                currency="USD",
                since=f"{a}T00:00:00.000000+00:00",
                until=f"{b}T00:00:00.000000+00:00",
            )
            for a, b in months
        ]
        assert stated[0].opening["total"] == 0
        for before, after in itertools.pairwise(stated):
            assert before.closing == after.opening
        for month in stated:
            assert (
                month.opening["total"] + sum(line.net_minor for line in month.lines) == month.closing["total"]
            )
        november = stated[1]
        assert [
            (line.category, line.gross_minor, line.fee_minor, line.net_minor) for line in november.lines
        ] == [
            ("earned", 333, 33, 300),
            ("earned", 101, 10, 91),
            ("refunded", -101, -10, -91),
            ("holdback", 0, 0, 0),
            ("payout", 0, 0, -400),
        ]
        assert november.closing == {"payable": 600, "holdback": 200, "clawback": 0, "total": 800}
        assert november.totals() == {
            "gross": 434,
            "fees": 43,
            "earned": 391,
            "holdback": 0,
            "payout": -400,
            "refunded": -91,
        }
        with pytest.raises(StatementMissing):
            invoices.provider_statement(session, org=BUYER, currency="USD", since="2026", until="2027")
