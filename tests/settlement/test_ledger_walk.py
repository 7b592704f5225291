"""Random programs of top-up, reserve, post and void against a small model; L1 to L4 after each step."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import count
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule
from sqlalchemy import StaticPool, create_engine
from sqlalchemy.orm import Session

import settlement
from settlement import ledger
from settlement.errors import Overdrawn
from settlement.ledger import Leg, chart

NOW = datetime(2026, 11, 22, tzinfo=UTC)
BANK, FEES, DOMAIN = chart.external_bank("USD"), chart.platform_fees("USD"), "d"
WALLETS = [chart.buyer_prepaid(org, "USD") for org in ("a", "b")]
AMOUNTS = st.integers(1, 50)


class Walk(RuleBasedStateMachine):
    held = Bundle("held")

    @initialize()
    def open(self) -> None:
        self.engine = create_engine("sqlite://", poolclass=StaticPool)
        settlement.metadata.create_all(self.engine)
        self.session = Session(self.engine)
        self.numbers = count()
        for org in ("a", "b"):
            chart.open_buyer(self.session, org, "USD")
            chart.open_domain(self.session, DOMAIN)
            chart.open_domain_buyer(self.session, DOMAIN, org)
        #: (posted, held) of each floor account
        self.model = {account: [0, 0] for account in (*WALLETS, chart.domain_available(DOMAIN))}
        self.earned = 0

    def facts(self) -> dict[str, Any]:
        number = next(self.numbers)
        return {"journal": f"j{number}", "kind": "k", "business_key": f"k{number}", "actor": "a", "now": NOW}

    @rule(wallet=st.sampled_from(WALLETS), amount=AMOUNTS)
    def top_up(self, wallet: str, amount: int) -> None:
        ledger.post(self.session, legs=[Leg("USD", BANK, wallet, amount)], **self.facts())
        self.model[wallet][0] += amount

    @rule(rho_nano=AMOUNTS)
    def grant_budget(self, rho_nano: int) -> None:
        legs = ledger.entries.budget_granted(DOMAIN, rho_nano=rho_nano, delta_pico=0)
        ledger.post(self.session, legs=legs, **self.facts())
        self.model[chart.domain_available(DOMAIN)][0] += rho_nano

    @rule(target=held, wallet=st.sampled_from(WALLETS), amount=AMOUNTS, rho_nano=AMOUNTS)
    def reserve(self, wallet: str, amount: int, rho_nano: int) -> Any:
        budget, facts = chart.domain_available(DOMAIN), self.facts()
        spent = chart.domain_spent(DOMAIN, wallet.split(":")[1])
        legs = [Leg("USD", wallet, FEES, amount), Leg(chart.rho_unit(DOMAIN), budget, spent, rho_nano)]
        fits = all(
            self.model[a][0] - self.model[a][1] >= n for a, n in ((wallet, amount), (budget, rho_nano))
        )
        try:
            ledger.reserve(self.session, legs=legs, **facts)
        except Overdrawn:
            assert not fits
            return None
        assert fits
        self.model[wallet][1] += amount
        self.model[budget][1] += rho_nano
        return facts["journal"], wallet, amount, rho_nano

    @rule(
        reservation=consumes(held),
        money=st.sampled_from(["post", "void"]),
        rho=st.sampled_from(["post", "void"]),
    )
    def resolve(self, reservation: Any, money: str, rho: str) -> None:
        if reservation is None:
            return
        journal, wallet, amount, rho_nano = reservation
        phases: Any = {0: money, 1: rho}
        ledger.resolve(self.session, pending_journal=journal, phases=phases, **self.facts())
        budget = chart.domain_available(DOMAIN)
        for account, taken, phase in ((wallet, amount, money), (budget, rho_nano, rho)):
            self.model[account][1] -= taken
            self.model[account][0] -= taken if phase == "post" else 0
        self.earned += amount if money == "post" else 0

    @invariant()
    def the_books_agree_with_the_model(self) -> None:
        for account, (posted, pending) in self.model.items():
            unit = "USD" if account in WALLETS else chart.rho_unit(DOMAIN)
            found = ledger.balance(self.session, account, unit)
            assert (found.posted, found.pending_out, found.available) == (posted, pending, posted - pending)
        assert ledger.balance(self.session, FEES, "USD").posted == self.earned

    @invariant()
    def the_invariants_hold(self) -> None:
        assert ledger.check(self.session) == []

    def teardown(self) -> None:
        if hasattr(self, "session"):
            self.session.close()
            self.engine.dispose()


Walk.TestCase.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
TestWalk = Walk.TestCase
