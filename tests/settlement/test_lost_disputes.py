"""What a buyer owes after a lost dispute is taken once the wallet covers it, and returns with the money."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import ClassVar

import pytest

from settlement import ledger
from settlement.ledger import chart, entries
from settlement.money import Money
from settlement.payments import disputes
from tests.settlement.programs import WITHOUT, Program, in_memory

ANN = "ann"


class Books(Program):
    """The books of the random programs, driven by hand."""

    books = staticmethod(in_memory)
    done: ClassVar = Counter[str]()


@pytest.fixture
def books() -> Iterator[Books]:
    """A buyer whose payment is held for questions when its bank takes it back, and the dispute is lost."""
    made = Books()
    made.begin()
    held = Money(made._available(ANN) - 500, "USD")
    with made.sessions() as session:
        legs = entries.charge(buyer=ANN, provider=WITHOUT, price=held, fee_basis_points=0)
        ledger.reserve(session, legs=legs, **made._head(made._name("qry"), "query_reserved"))
    first = sorted(made.payments).index(next(i for i, paid in made.payments.items() if paid["org"] == ANN))
    made.dispute(first, 100)
    everything(made)
    made.work()
    made.decide(0, won=False)
    everything(made)
    made.work()
    yield made
    made.open.close()


def everything(made: Books) -> None:
    while made.under_way:
        made.deliver([0], 1)


def owed(made: Books) -> int:
    with made.sessions() as session:
        return -ledger.balance(session, chart.buyer_receivable(ANN, "USD"), "USD").posted


def test_it_waits_until_the_wallet_covers_it(books: Books) -> None:
    debt = owed(books)
    assert debt > 0
    books.pay_by_bank(ANN, debt - books._available(ANN) - 1)
    books.work()
    assert owed(books) == debt
    books.pay_by_bank(ANN, 101)
    books.work()
    assert (owed(books), books._available(ANN)) == (0, 100)
    books.the_books_agree_with_the_model()


def test_what_was_collected_comes_back_with_the_money(books: Books) -> None:
    before, debt = books._available(ANN), owed(books)
    books.pay_by_bank(ANN, debt)
    books.work()
    assert owed(books) == 0
    [one] = books.world.all("dispute")
    books.world.tell("charge.dispute.funds_reinstated", one)
    books._collect()
    everything(books)
    books.work()
    assert owed(books) == 0
    with books.sessions() as session:
        [told] = disputes.disputes(session)
        assert told.reinstated
    assert books._available(ANN) >= before + debt
    books.the_books_agree_with_the_model()
