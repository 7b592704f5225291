"""Random programs of the books: money comes in and out as Stripe tells of it, in any order and more than
once, while queries are reserved and settled, die and are swept. A small model keeps plain numbers beside
them; every law that the books can check themselves holds after each step.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import StaticPool, create_engine, event, text
from sqlalchemy.orm import Session

import settlement
from settlement import Money, PricePlan, ledger, payments
from settlement.errors import Overdrawn, PaymentMissing, RefundTooLarge, WebhookRefused
from settlement.ledger import chart, entries
from settlement.payments import disputes, events, outbox, payouts, refunds, top_ups
from settlement.stripe import verified
from tests.stripe_double.world import Delivery, Refusal, World

BEGINNING = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
DOMAIN, BUYERS = "people", ("ann", "ben")
WITH_ACCOUNT, WITHOUT = "city", "port"
BUDGET, ALLOWANCE = 3_000_000_000, 1_200_000_000
RHO = (5_000_000, 100_000_000, 700_000_000)
PLAN = PricePlan.from_document(
    {
        "name": "pay",
        "kind": "pay-per-query",
        "currency": "USD",
        "fee": "0.05",
        "per_rho": "19.99",
        "approval": "instant",
        "max_rho": "1.2",
    }
)
FEE_POINTS = 1_250
PLACES = st.integers(0, 10**6)
Sessions = Callable[[], AbstractContextManager[Session]]


class Program(RuleBasedStateMachine):
    """Buyers, providers, Stripe and the network between them, each doing what it does at any time."""

    books: Callable[[], AbstractContextManager[Sessions]]
    done: Counter[str]

    @initialize()
    def begin(self) -> None:
        """Two buyers with grants under one domain; two providers, of which one has an account at Stripe."""
        self.open = contextlib.ExitStack()
        self.sessions = self.open.enter_context(type(self).books())
        self.now, self.number = BEGINNING, 0
        self.world = World(secret="whsec_walk", clock=lambda: self.now)
        self.under_way: list[Delivery] = []
        self.arrived: list[Delivery] = []
        self.told: dict[str, int] = {}
        self.early: list[tuple[str, str, int]] = []
        self.payments: dict[str, Any] = {}
        self.held: dict[str, tuple[str, str, int, int]] = {}
        self.budget, self.allowance = BUDGET, dict.fromkeys(BUYERS, ALLOWANCE)
        self.position = dict.fromkeys(BUYERS, 0)
        self.earned = dict.fromkeys((WITH_ACCOUNT, WITHOUT), 0)
        self.fees = self.banked = 0
        self.disputed: set[str] = set()
        with self.sessions() as session:
            self._open(session)
        for org in BUYERS:
            self.pay_at_stripe(org, 6_000)
            self.deliver([1], 1)

    def _open(self, session: Session) -> None:
        chart.open_domain(session, DOMAIN)
        self._post(session, entries.budget_granted(DOMAIN, rho_nano=BUDGET, delta_pico=0))
        for org in BUYERS:
            chart.open_buyer(session, org, "USD")
            chart.open_domain_buyer(session, DOMAIN, org)
            chart.open_grant(session, f"of-{org}", DOMAIN)
            self._post(session, entries.allowance_issued(f"of-{org}", DOMAIN, rho_nano=ALLOWANCE))
        for org in self.earned:
            chart.open_provider(session, org, "USD")
        account = self.world.keep("acct", "account")
        payouts.connect(session, account=account["id"], org=WITH_ACCOUNT, now=self.now)
        self.world.activate(account["id"])
        self._collect()

    # what buyers do

    @rule(org=st.sampled_from(BUYERS), amount=st.integers(1, 5_000))
    def pay_by_bank(self, org: str, amount: int) -> None:
        with self.sessions() as session:
            self._post(session, entries.wallet_credited(org, Money(amount, "USD")))
        self.position[org] += amount
        self.banked += amount

    @rule(org=st.sampled_from(BUYERS), amount=st.integers(1, 5_000))
    def pay_at_stripe(self, org: str, amount: int) -> None:
        """The payment is made; the exchange hears of it when the network likes."""
        name, money = self._name("top"), Money(amount, "USD")
        with self.sessions() as session:
            top_ups.request_top_up(
                session, id=name, org=org, actor="tok", amount=money, saved_method=False, now=self.now
            )
        intent = self.world.keep(
            "pi", "payment_intent", amount=amount, currency="usd", customer="cus", metadata={"top_up": name}
        )
        self.payments[intent["id"]] = {"org": org, "intent": intent, "disputed": False, "refunded": False}
        self.world.succeed(intent)
        self._collect()

    @rule(
        org=st.sampled_from(BUYERS),
        provider=st.sampled_from((WITH_ACCOUNT, WITHOUT)),
        rho=st.sampled_from(RHO),
    )
    def reserve(self, org: str, provider: str, rho: int) -> None:
        """Admitted exactly where wallet, allowance and budget cover it."""
        journal, price = self._name("qry"), PLAN.price(rho)
        legs = entries.privacy_spent(buyer=org, domain=DOMAIN, grant=f"of-{org}", rho_nano=rho, delta_pico=0)
        legs += entries.charge(
            buyer=org, provider=provider, price=Money(price, "USD"), fee_basis_points=FEE_POINTS
        )
        fits = rho <= min(self.budget, self.allowance[org]) and price <= self._available(org)
        try:
            with self.sessions() as session:
                ledger.reserve(session, legs=legs, **self._head(journal, "query_reserved"))
        except Overdrawn:
            assert not fits
            return
        assert fits
        self.held[journal] = (org, provider, rho, price)
        self.budget -= rho
        self.allowance[org] -= rho

    @rule(place=PLACES, ending=st.sampled_from(("settled", "swept before the data", "swept after it")))
    def finish(self, place: int, ending: str) -> None:
        """A query runs to its end, or its process dies, and the sweeper finds it before or after the data."""
        if not self.held:
            return
        journal = sorted(self.held)[place % len(self.held)]
        org, provider, rho, price = self.held.pop(journal)
        with self.sessions() as session:
            phases: Any = "post" if ending == "settled" else "void"
            if ending == "swept after it":
                phases = entries.forfeited(session, journal)
            ledger.resolve(
                session,
                pending_journal=journal,
                phases=phases,
                **self._head(f"{journal}-end", "query_ended"),
            )
        if ending == "settled":
            fee = ledger_fee(price)
            self.position[org] -= price
            self.earned[provider] += price - fee
            self.fees += fee
        if ending == "swept before the data":
            self.budget += rho
            self.allowance[org] += rho

    # what the network does

    @rule(places=st.lists(PLACES, min_size=1, max_size=5), times=st.integers(1, 3))
    def deliver(self, places: list[int], times: int) -> None:
        """Some of what is under way arrives, in another order, and more than once."""
        for place in places[: len(self.under_way)]:
            one = self.under_way.pop(place % len(self.under_way))
            for _ in range(times):
                self._receive(one)
            self.arrived.append(one)

    @rule(place=PLACES)
    def deliver_again(self, place: int) -> None:
        if self.arrived:
            assert self._receive(self.arrived[place % len(self.arrived)]) == "duplicate"

    @rule(place=PLACES, amount=st.integers(1, 10**6))
    def forge(self, place: int, amount: int) -> None:
        """An event that somebody else signed, or altered on its way, is refused before it is read."""
        known = self.arrived + self.under_way
        if known:
            one = known[place % len(known)]
            altered = one.payload.replace(b'"amount":', b'"amount": %d,"was":' % amount)
            for payload in {altered, one.payload + b" "} - {one.payload}:
                self._refused(Delivery(one.event, payload, one.signature))

    @rule(minutes=st.integers(1, 60 * 24 * 40))
    def wait(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)

    # what banks and operators do

    @rule(place=PLACES, amount=st.integers(1, 5_000))
    def refund(self, place: int, amount: int) -> None:
        """An operator refunds what was paid and is unspent; Stripe does as it is told."""
        paid = self._payment(place)
        if paid is None or paid["disputed"]:
            return
        name, intent = self._name("ref"), paid["intent"]
        item = f"out-{name}"
        try:
            with self.sessions() as session:
                refunds.request_refund(
                    session,
                    id=name,
                    item=item,
                    payment_intent=intent["id"],
                    amount=Money(amount, "USD"),
                    reason="asked for",
                    actor="operator",
                    now=self.now,
                )
        except PaymentMissing:
            assert f"{intent['id']} paid" not in self.told
            return
        except RefundTooLarge:
            return
        paid["refunded"] = True
        try:
            made = self.world.refund(intent, amount, {"refund": name, "outbox": item})
        except Refusal:  # another refund was made in the dashboard, of which we have not heard
            with self.sessions() as session:
                outbox.refused(session, item, "amount_too_large")
                refunds.refuse(session, name, self.now)
            return
        with self.sessions() as session:
            outbox.done(session, item, made["id"])
        self._collect()

    @rule(place=PLACES, amount=st.integers(1, 5_000))
    def refund_in_the_dashboard(self, place: int, amount: int) -> None:
        paid = self._payment(place)
        if paid is None or paid["disputed"]:
            return
        with contextlib.suppress(Refusal):
            self.world.refund(paid["intent"], amount)
            paid["refunded"] = True
            self._collect()

    @rule(place=PLACES)
    def refund_comes_back(self, place: int) -> None:
        made = [one for one in self.world.all("refund") if one["status"] == "succeeded"]
        if made:
            self.world.fail_refund(made[place % len(made)]["id"])
            self._collect()

    @rule(place=PLACES, part=st.integers(1, 100))
    def dispute(self, place: int, part: int) -> None:
        """A buyer's bank takes a payment back, whole or in part; Stripe disputes no refunded payment."""
        paid = self._payment(place)
        if paid is None or paid["disputed"] or paid["refunded"]:
            return
        paid["disputed"] = True
        self.disputed.add(paid["org"])
        received = paid["intent"]["amount_received"]
        self.world.dispute(paid["intent"], max(1, received * part // 100))
        self._collect()

    @rule(place=PLACES, won=st.booleans())
    def decide(self, place: int, won: bool) -> None:
        waiting = [one for one in self.world.all("dispute") if one["status"] == "needs_response"]
        if waiting:
            self.world.close_dispute(waiting[place % len(waiting)]["id"], won=won)
            self._collect()

    @rule()
    def work(self) -> None:
        """A round of the worker; a second one right after it has nothing to do."""
        for again in (False, True):
            with self.sessions() as session:
                moved = events.retry_parked(session, self.now), disputes.settle(session, self.now)
                moved += disputes.collect(session, self.now), refunds.collect(session, self.now)
                moved += (payouts.release_holdbacks(session, self.now),)
                assert not disputes.due(session)
                assert not refunds.due(session)
            assert not again or not any(moved)

    @rule(provider=st.sampled_from((WITH_ACCOUNT, WITHOUT)), fails=st.booleans())
    def pay_out(self, provider: str, fails: bool) -> None:
        """A period is closed: by transfer, or by the operator's bank."""
        name = self._name("pay")
        with self.sessions() as session:
            made = payouts.close_period(
                session,
                id=name,
                item=f"out-{name}",
                provider=provider,
                currency="USD",
                period=name,
                until=self.now + timedelta(seconds=1),
                holdback_percent=10,
                holdback_for=timedelta(days=30),
                now=self.now,
            )
            if made is None or made.state != "waiting":
                return
            if made.method == "bank":
                payouts.confirm_bank(session, name, reference=name, actor="operator", now=self.now)
                self.banked -= made.amount_minor
                return
            if fails:
                outbox.refused(session, f"out-{name}", "account_closed")
                payouts.fail(session, name, self.now)
                return
        moved = self.world.keep(
            "tr",
            "transfer",
            amount=made.amount_minor,
            currency="usd",
            destination=made.destination,
            metadata={"outbox": f"out-{name}"},
            reversals={"data": []},
        )
        self.world.tell("transfer.created", moved)
        self._collect()

    # the model

    def teardown(self) -> None:
        """In the end everything arrives, and nothing is left waiting."""
        if not hasattr(self, "open"):
            return
        while self.under_way:
            self.deliver([0], 1)
        self.work()
        with self.sessions() as session:
            assert events.parked(session) == []
        self.the_books_agree_with_the_model()
        type(self).done["programs"] += 1
        type(self).done["events"] += len(self.arrived)
        self.open.close()

    @invariant()
    def the_books_agree_with_the_model(self) -> None:
        if not hasattr(self, "open"):
            return
        type(self).done["steps"] += 1
        with self.sessions() as session:
            findings = ledger.check(session)
            for law in payments.laws.CHECKS.values():
                findings += law(session)
            assert findings == []
            assert self._posted(session, chart.external_stripe("USD")) == -sum(self._stripe(session)), (
                self.told
            )
            assert self._posted(session, chart.external_bank("USD")) == -self.banked
            left = ledger.balance(session, chart.domain_available(DOMAIN), chart.rho_unit(DOMAIN)).available
            assert left == self.budget
            for org in BUYERS:
                unit = chart.rho_unit(DOMAIN)
                grant = ledger.balance(session, chart.grant_allowance(f"of-{org}"), unit)
                assert grant.available == self.allowance[org]
                if org not in self.disputed:
                    assert self._position(session, org) == self.position[org] + self._heard(org)
            if not self.disputed:
                assert self._posted(session, chart.platform_fees("USD")) == self.fees
                assert self._providers(session) == sum(self.earned.values())

    def _position(self, session: Session, org: str) -> int:
        """What a buyer has and owes, in one number."""
        accounts = chart.buyer_prepaid(org, "USD"), chart.buyer_receivable(org, "USD")
        return sum(self._posted(session, one) for one in accounts)

    def _providers(self, session: Session) -> int:
        """What providers have, were paid and are kept back."""
        sent = sum(one.amount_minor for one in payouts.payouts_of(session) if one.state == "sent")
        kept = (chart.provider_payable, chart.provider_holdback, chart.provider_clawback)
        return sent + sum(self._posted(session, of(org, "USD")) for of in kept for org in self.earned)

    def _stripe(self, session: Session) -> Iterator[int]:
        """What the facts that have arrived, or that we did ourselves, moved at Stripe."""
        yield from self.told.values()
        for one in payouts.payouts_of(session):
            if one.state == "sent" and one.method == "stripe":
                yield -one.amount_minor

    def _heard(self, org: str) -> int:
        """What Stripe has told of a buyer's payments and refunds."""
        of = {intent for intent, paid in self.payments.items() if paid["org"] == org}
        return sum(amount for key, amount in self.told.items() if key.split(" ")[0] in of)

    def _receive(self, one: Delivery) -> str:
        self.now += timedelta(seconds=1)
        fresh = self.world.delivery(next(e for e in self.world.events if e["id"] == one.event))
        known = self._known
        verified(
            fresh.payload,
            fresh.signature,
            secrets=[self.world.secret],
            livemode=False,
            connected=known,
            now=self.now,
        )
        with self.sessions() as session:
            became = events.receive(session, payload=fresh.payload, now=self.now)
        if became != "duplicate":
            self._tell(next(e for e in self.world.events if e["id"] == one.event))
        return became

    def _tell(self, told: dict[str, Any]) -> None:
        """The money that Stripe says it moved: known by intent and fact, so that telling it twice adds none.

        What is told of a payment before the payment itself counts once that has arrived.
        """
        about, kind = told["data"]["object"], told["type"]
        moved = {
            "payment_intent.succeeded": ("paid", about.get("amount_received", 0)),
            "refund.created": (f"refund {about['id']}", -about.get("amount", 0)),
            "refund.failed": (f"refund {about['id']}", 0),
            "charge.dispute.funds_withdrawn": (f"taken {about['id']}", -about.get("amount", 0)),
            "charge.dispute.funds_reinstated": (f"taken {about['id']}", 0),
        }.get(kind)
        if moved is None:
            return
        intent = about["id"] if kind.startswith("payment_intent") else about["payment_intent"]
        self.early.append((intent, *moved))
        for one in sorted(self.early, key=lambda one: one[1] != "paid"):
            of, name, amount = one
            if name == "paid" or f"{of} paid" in self.told:
                self.early.remove(one)
                final = f"{of} {name}" in self.told and amount < 0  # a failure or a return was told before
                self.told.setdefault(f"{of} {name}", amount)
                if not final:
                    self.told[f"{of} {name}"] = amount

    def _refused(self, one: Delivery) -> None:
        try:
            verified(
                one.payload,
                one.signature,
                secrets=[self.world.secret],
                livemode=False,
                connected=self._known,
                now=self.now,
            )
        except WebhookRefused:
            return
        raise AssertionError("a forged webhook was taken for Stripe's")

    def _known(self, account: str) -> bool:
        with self.sessions() as session:
            return payouts.is_connected(session, account)

    def _available(self, org: str) -> int:
        with self.sessions() as session:
            return ledger.balance(session, chart.buyer_prepaid(org, "USD"), "USD").available

    def _payment(self, place: int) -> Any:
        return self.payments[sorted(self.payments)[place % len(self.payments)]] if self.payments else None

    def _collect(self) -> None:
        """Events that Stripe has sent since."""
        known = len(self.under_way) + len(self.arrived)
        self.under_way += [self.world.delivery(one) for one in self.world.events[known:]]

    def _posted(self, session: Session, account: str) -> int:
        return ledger.balance(session, account, "USD").posted

    def _name(self, prefix: str) -> str:
        self.number += 1
        return f"{prefix}_{self.number:05d}"

    def _head(self, journal: str, kind: str) -> dict[str, Any]:
        return {"journal": journal, "kind": kind, "business_key": journal, "actor": "walk", "now": self.now}

    def _post(self, session: Session, legs: Any) -> None:
        ledger.post(session, legs=legs, **self._head(self._name("jnl"), "posted"))


def ledger_fee(price: int) -> int:
    """The platform's share of a price: an eighth, by largest remainder, ties to the provider."""
    exact, rest = divmod(price * FEE_POINTS, 10_000)
    return exact + (rest > 10_000 - rest)


@contextlib.contextmanager
def in_memory() -> Iterator[Sessions]:
    """Fresh books in this process's memory, with the triggers that keep entries as they are."""
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"isolation_level": None})

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    settlement.metadata.create_all(engine)
    with engine.begin() as connection:
        for statement in settlement.append_only_ddl("sqlite"):
            connection.execute(text(statement))

    @contextlib.contextmanager
    def transaction() -> Iterator[Session]:
        with Session(engine) as session, session.begin():
            yield session

    yield transaction
    engine.dispose()


def run(
    books: Callable[[], AbstractContextManager[Sessions]],
    *,
    examples: int,
    steps: int,
    chosen: int | None = None,
) -> Counter[str]:
    """So many programs of so many steps; what was done in them, by name.

    Args:
        chosen: names the programs; the same ones each time where it is left out.
    """
    done: Counter[str] = Counter()
    here = type("ProgramHere", (Program,), {"books": staticmethod(books), "done": done})
    here = here if chosen is None else seed(chosen)(here)
    settled = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        derandomize=chosen is None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(here, settings=settled)
    return done
