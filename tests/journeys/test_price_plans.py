"""Every kind of price plan, from the request to the last cent, and what beats a listing's prices."""

from __future__ import annotations

import random
from contextlib import closing
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select

from exchange import checks
from exchange.operations import administering, ordering
from settlement import ledger
from settlement.ledger import chart
from settlement.prices import PricePlan, month_of, period_at
from tests.market import sample
from tests.market.officers import lift, officer, set_restraint
from tests.market.stand import Stand, problem

BUNDLE = sample.plan("bundle", kind="credits", bundle="5.00", per_rho="15.00", max_rho="1.5")
CLUB = sample.plan(
    "club",
    kind="subscription",
    period="month",
    period_fee="4.00",
    included_rho="0.05",
    per_rho="15.00",
    max_rho="1.5",
)
CAPPED = sample.plan("capped", kind="monthly-cap", monthly_cap="2.00", max_rho="1.5")
ALL = {"name": "all", "kind": "buy-out", "currency": "USD", "price": "60.00", "approval": "provider"}
SECRET = sample.plan(
    "secret", per_rho="10.00", organisation="acme", offered_until="2099-01-31", max_rho="1.5"
)
PAY = sample.plan(max_rho="1.5")
PLANS = [PAY, BUNDLE, CLUB, CAPPED, ALL, SECRET]


@pytest.fixture
def market(stand: Stand) -> Stand:
    """The market with a listing of all kinds of plan, on both databases."""
    stand.publish(manifest=sample.manifest(plans=PLANS))
    return stand


@pytest.fixture
def sqlite_market(sqlite_stand: Stand) -> Stand:
    sqlite_stand.publish(manifest=sample.manifest(plans=PLANS))
    return sqlite_stand


def ask(stand: Stand, plan: str, rho: str, number: int, who: str = "buyer") -> dict[str, Any]:
    """Ask a question that nobody asked before."""
    sql = f"select count(*) as n from rides where minutes > {number}"
    reply = stand.run(who, sql, rho, plan=plan)
    assert reply.status_code == 200, reply.text
    document: dict[str, Any] = reply.json()
    return document


def charged(reply: dict[str, Any]) -> int:
    return int(reply["charged"]["amount_minor"])


def grant_of(stand: Stand, plan: str, who: str = "buyer") -> str:
    reply = stand.request(who, plan)
    assert reply.status_code == 201, reply.text
    return str(reply.json()["grant"]["grant"])


def approved(stand: Stand, plan: str, who: str = "buyer", **limits: Any) -> dict[str, Any]:
    asked = stand.request(who, plan).json()["request"]
    reply = stand.post("provider", f"/v1/requests/{asked}/approve", limits)
    assert reply.status_code == 200, reply.text
    document: dict[str, Any] = reply.json()
    return document


def earned(stand: Stand) -> tuple[int, int]:
    """What the provider and the platform have."""

    def look(session: Any) -> tuple[int, int]:
        payable = chart.provider_payable(stand.orgs["provider"], "USD")
        return (
            ledger.balance(session, payable, "USD").posted,
            ledger.balance(session, chart.platform_fees("USD"), "USD").posted,
        )

    return stand.market.store.read(look)


def test_a_convex_price_is_refused_with_two_purchases_that_beat_it(sqlite_stand: Stand) -> None:
    tiers = [{"up_to_rho": "0.005", "per_rho": "400.00"}, {"per_rho": "800.00"}]
    convex = {k: v for k, v in sample.plan("premium").items() if k not in ("per_rho", "fee")} | {
        "tiers": tiers
    }
    before = sqlite_stand.books()
    checked = sqlite_stand.post("provider", "/v1/prices/check", {"plans": [convex]})
    for reply in (checked, sqlite_stand.draft(manifest=sample.manifest(plans=[convex]))):
        told = problem(reply, 422, "price_arbitrage")
        assert "two queries of rho 0.005 cost 4.00 USD, one of 0.01 costs 6.00 USD" in told["detail"]
        assert told["path"] == "tiers[1].per_rho"
        found = told["counterexample"]
        assert (found["cheaper_cost"], found["direct_cost"], found["currency"]) == ("4.00", "6.00", "USD")
        assert [one["times"] for one in found["cheaper"]] == [2]
    assert sqlite_stand.books() == before


def test_plans_that_beat_one_another_are_refused(sqlite_stand: Stand) -> None:
    taste = sample.plan("taste", per_rho="1.00", fee="0", max_rho="0.5")
    told = problem(sqlite_stand.draft(manifest=sample.manifest(plans=[PAY, taste])), 422, "price_arbitrage")
    assert told["path"] == "plans"
    assert {one["plan"] for one in told["counterexample"]["cheaper"]} == {"pay", "taste"}


def test_a_bundle_is_paid_up_front_and_spent_by_the_query(market: Stand) -> None:
    grant = grant_of(market, "bundle")
    assert market.wallet().posted == 10_000 - 500
    assert earned(market) == (0, 0), "credit is earned when it is spent"
    assert charged(ask(market, "bundle", "0.1", 1)) == 155
    assert market.wallet().posted == 9_500
    assert sum(earned(market)) == 155
    assert charged(ask(market, "bundle", "0.2", 2)) == 305
    told = problem(market.run("buyer", sample.BY_ZONE, "0.1", plan="bundle"), 402, "payment_required")
    assert (told["available"]["amount"], told["price"]["amount"]) == ("0.40", "1.55")
    assert "top-up" in told["hint"]
    assert market.post("buyer", f"/v1/grants/{grant}/top-up", key="once").status_code == 200
    assert market.post("buyer", f"/v1/grants/{grant}/top-up", key="once").status_code == 200
    assert market.wallet().posted == 9_000
    assert market.run("buyer", sample.BY_ZONE, "0.1", plan="bundle").status_code == 200
    problem(market.post("other", f"/v1/grants/{grant}/top-up"), 403, "grant_missing")
    assert market.broken_laws() == []


@pytest.mark.parametrize(("ending", "back"), [("withdraw", True), ("end", False)])
def test_credit_that_was_not_spent_goes_back_or_is_earned(
    sqlite_market: Stand, ending: str, back: bool
) -> None:
    grant = grant_of(sqlite_market, "bundle")
    ask(sqlite_market, "bundle", "0.1", 1)
    if back:
        reason = {"reason": "the data is retired"}
        assert sqlite_market.post("provider", f"/v1/grants/{grant}/{ending}", reason).status_code == 200
    else:
        assert sqlite_market.post("buyer", f"/v1/grants/{grant}/{ending}").status_code == 200
        ordering.rounds(sqlite_market.market)
        ordering.rounds(sqlite_market.market)
    assert sqlite_market.wallet().posted == (10_000 - 155 if back else 10_000 - 500)
    assert sum(earned(sqlite_market)) == (155 if back else 500)
    assert sqlite_market.broken_laws() == []


@pytest.mark.parametrize("subject", ["dataset", "organisation", "licence"])
def test_credit_of_a_grant_that_ends_under_a_freeze_goes_back(market: Stand, subject: str) -> None:
    """It does so too where the freeze was lifted before the worker came."""
    bundle = market.request("buyer", "bundle", until=f"{market.clock() + timedelta(days=2):%Y-%m-%d}")
    licence = market.get("buyer", f"/v1/datasets/{sample.SLUG}/licence").json()["id"]
    named = {"dataset": sample.SLUG, "organisation": "acme", "licence": licence}[subject]
    assert bundle.status_code == 201, bundle.text
    ask(market, "bundle", "0.1", 1)
    made = set_restraint(market, **{subject: named})
    market.clock.advance(days=3)
    with closing(officer(market)) as ada:
        lift(market, ada, made)
    for _ in range(2):
        ordering.rounds(market.market)
    assert market.wallet().posted == 10_000 - 155
    assert sum(earned(market)) == 155
    assert market.broken_laws() == []


def test_credit_of_a_grant_that_its_buyer_ends_under_a_freeze_is_earned(sqlite_market: Stand) -> None:
    """As without the freeze: ending the grant fetches no credit back."""
    grant = grant_of(sqlite_market, "bundle")
    set_restraint(sqlite_market, organisation="acme")
    assert sqlite_market.post("buyer", f"/v1/grants/{grant}/end").status_code == 200
    for _ in range(2):
        ordering.rounds(sqlite_market.market)
    assert sqlite_market.wallet().posted == 10_000 - 500
    assert sum(earned(sqlite_market)) == 500
    assert sqlite_market.broken_laws() == []


def test_credit_is_earned_where_the_freeze_was_lifted_before_the_end(sqlite_market: Stand) -> None:
    grant = grant_of(sqlite_market, "bundle")
    made = set_restraint(sqlite_market, dataset=sample.SLUG)
    with closing(officer(sqlite_market)) as ada:
        lift(sqlite_market, ada, made)
    assert sqlite_market.post("buyer", f"/v1/grants/{grant}/end").status_code == 200
    for _ in range(2):
        ordering.rounds(sqlite_market.market)
    assert sum(earned(sqlite_market)) == 500


def test_a_subscription_covers_its_allowance_and_charges_what_is_beyond(market: Stand) -> None:
    grant = grant_of(market, "club")
    assert market.wallet().posted == 9_600
    assert sum(earned(market)) == 400
    assert charged(ask(market, "club", "0.04", 1)) == 0
    quoted = market.quote("buyer", sample.BY_ZONE, "0.02", plan="club").json()
    assert (quoted["covered_rho"], quoted["price"]["amount"]) == ("0.01", "0.20")
    assert charged(ask(market, "club", "0.02", 2)) == 5 + 15
    assert charged(ask(market, "club", "0.02", 3)) == 5 + 30
    market.clock.advance(days=32)
    problem(market.run("buyer", sample.BY_ZONE, "0.02", plan="club"), 402, "payment_required")
    assert ordering.rounds(market.market)["periods"] == 1
    assert ordering.rounds(market.market)["periods"] == 0
    assert charged(ask(market, "club", "0.05", 4)) == 0
    problem(market.post("buyer", f"/v1/grants/{grant}/pay"), 409, "order_invalid")
    market.post("buyer", f"/v1/grants/{grant}/end")
    assert charged(ask(market, "club", "0.01", 5)) == 5 + 15
    market.clock.advance(days=32)
    assert ordering.rounds(market.market) == {
        "lapsed": 0,
        "expired": 1,
        "credit": 0,
        "periods": 0,
        "unpaid": 0,
    }
    problem(market.run("buyer", sample.BY_ZONE, "0.02", plan="club"), 403, "grant_expired")
    assert market.broken_laws() == []


def test_a_period_that_the_wallet_does_not_cover_is_told_once_and_can_be_paid(sqlite_market: Stand) -> None:
    problem(sqlite_market.request("poor", "club"), 402, "payment_required")
    paid = {"org": "initech", "currency": "USD"}
    administering.credit_wallet(sqlite_market.market, **paid, amount="5.00", reference="first")
    grant = grant_of(sqlite_market, "club", "poor")
    sqlite_market.clock.advance(days=40)
    assert [ordering.rounds(sqlite_market.market)["unpaid"] for _ in range(3)] == [1, 0, 0]
    told = sqlite_market.get("poor", "/v1/notifications?unread=true").json()["items"]
    assert [one["kind"] for one in told] == ["period.unpaid"]
    problem(sqlite_market.post("poor", f"/v1/grants/{grant}/pay"), 402, "payment_required")
    administering.credit_wallet(sqlite_market.market, **paid, amount="5.00", reference="second")
    assert sqlite_market.post("poor", f"/v1/grants/{grant}/pay").status_code == 200
    assert charged(ask(sqlite_market, "club", "0.05", 1, "poor")) == 0
    assert sqlite_market.broken_laws() == []


def test_a_month_with_a_cap_is_charged_no_more(market: Stand) -> None:
    grant_of(market, "capped")
    spent = [charged(ask(market, "capped", "0.04", number)) for number in range(1, 5)]
    assert spent == [85, 85, 30, 0]
    market.clock.advance(days=32)
    assert charged(ask(market, "capped", "0.04", 9)) == 85
    assert market.broken_laws() == []


def test_a_step_on_a_capped_answer_costs_the_difference_of_its_price(sqlite_market: Stand) -> None:
    grant_of(sqlite_market, "capped")
    asked: dict[str, Any] = {"plan": "capped"}
    assert charged(ask(sqlite_market, "capped", "0.09", 1)) == 185
    assert charged(sqlite_market.run("buyer", sample.COUNT, "0.02", **asked).json()) == 15
    sqlite_market.clock.advance(days=32)
    step = sqlite_market.run("buyer", sample.COUNT, "0.03", **asked).json()
    assert charged(step) == 20, "g(0.03) - g(0.02), although 0.15 of 0.45 were paid in the month with the cap"
    assert sqlite_market.broken_laws() == []


def test_a_buy_out_takes_all_that_is_left(market: Stand) -> None:
    assert charged(ask(market, "pay", "0.5", 1, "other")) == 1005
    made = approved(market, "all")
    assert made["grant"]["rho_nano_allowance"] == 1_500_000_000
    assert market.wallet().posted == 4_000
    assert sum(earned(market)) == 6_000 + 1_005
    assert charged(ask(market, "all", "0.7", 2)) == 0
    told = problem(market.run("other", sample.BY_ZONE, "0.01", plan="pay"), 409, "budget_exhausted")
    assert told["remaining"] == 0
    budget = market.budget()
    assert (budget["rho_nano_spent"], budget["rho_nano_set_aside"]) == (1_200_000_000, 800_000_000)
    problem(market.request("other", "all"), 402, "payment_required") if market.wallet(
        "other"
    ).posted < 6_000 else None
    assert market.broken_laws() == []


def test_a_buy_out_waits_for_those_who_paid_in_advance(sqlite_market: Stand) -> None:
    grant_of(sqlite_market, "club", "other")
    asked = sqlite_market.request("buyer", "all").json()["request"]
    assert sqlite_market.wallet().available == 4_000, "held until it is decided"
    told = problem(sqlite_market.post("provider", f"/v1/requests/{asked}/approve"), 409, "order_invalid")
    assert "paid for answers" in told["detail"]
    ask(sqlite_market, "club", "0.05", 1, "other")
    assert sqlite_market.post("provider", f"/v1/requests/{asked}/approve").status_code == 200
    assert sqlite_market.broken_laws() == []


def test_a_private_offer_is_seen_and_taken_by_its_organisation_alone(sqlite_market: Stand) -> None:
    path = f"/v1/datasets/{sample.SLUG}"
    for who, seen in (
        ("buyer", True),
        ("other", False),
        ("rival", False),
        ("provider", True),
        ("officer", True),
    ):
        for shown in (
            sqlite_market.get(who, path).json(),
            sqlite_market.get(who, "/v1/datasets").json()["items"][0],
        ):
            assert ("secret" in [plan["name"] for plan in shown["plans"]]) is seen, who
            assert ("secret" in [plan["name"] for plan in shown["offers"]]) is seen, who
    for page in ("/", f"/datasets/{sample.SLUG}"):
        assert "secret" not in sqlite_market.http.get(page).text
    told = problem(sqlite_market.request("other", "secret"), 404, "not_found")
    assert "secret" not in told["hint"]
    grant_of(sqlite_market, "secret")
    assert charged(ask(sqlite_market, "secret", "0.1", 1)) == 105
    sqlite_market.clock.advance(days=366 * 80)
    assert "secret" not in [plan["name"] for plan in sqlite_market.get("buyer", path).json()["plans"]]


class Model:
    """What each kind of plan charges, in a few lines of its own."""

    def __init__(self, plan: PricePlan, started: datetime) -> None:
        self.plan, self.started = plan, started
        self.used: dict[int, int] = {}
        self.months: dict[str, int] = {}
        self.credit = plan.up_front_minor

    def pays(self, rho_nano: int, now: datetime) -> int | None:
        """The charge of a query; None where it is refused for want of credit."""
        if self.plan.kind == "subscription":
            number = period_at(self.started, "month", now)
            free = min(rho_nano, self.plan.included_nano - self.used.get(number, 0))
            self.used[number] = self.used.get(number, 0) + free
            return self.plan.price(rho_nano - free)
        price = self.plan.price(rho_nano)
        if self.plan.kind == "monthly-cap":
            left = (self.plan.monthly_cap_minor or 0) - self.months.get(month_of(now), 0)
            self.months[month_of(now)] = self.months.get(month_of(now), 0) + min(price, left)
            return min(price, left)
        if self.plan.kind == "credits":
            if price > self.credit:
                return None
            self.credit -= price
        return 0 if self.plan.buys_out else price


@pytest.mark.parametrize("name", ["pay", "bundle", "club", "capped", "all"])
def test_each_kind_charges_what_a_small_model_says(sqlite_market: Stand, name: str) -> None:
    dice = random.Random(len(name) * 7)
    made = approved(sqlite_market, name) if name == "all" else sqlite_market.request("buyer", name).json()
    plan = PricePlan.from_document(next(one for one in PLANS if one["name"] == name))
    model = Model(plan, datetime.fromisoformat(made["requested_at"]))
    for number in range(1, 21):
        if dice.random() < 0.2:
            sqlite_market.clock.advance(days=dice.randrange(5, 40))
            ordering.rounds(sqlite_market.market)
        rho_nano = dice.randrange(1, 60) * 1_000_000
        expected = model.pays(rho_nano, sqlite_market.clock())
        sql = f"select count(*) as n from rides where minutes > {number}"
        reply = sqlite_market.run("buyer", sql, f"0.{rho_nano:09d}", plan=name)
        if expected is None:
            problem(reply, 402, "payment_required")
        else:
            assert charged(reply.json()) == expected
    assert sqlite_market.broken_laws() == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE query SET charge_minor = charge_minor - 1 WHERE charge_minor > 0",
        "UPDATE query SET worth_minor = worth_minor + 1 WHERE worth_minor > 0",
        "UPDATE query SET covered_nano = rho_nano WHERE covered_nano < rho_nano",
    ],
)
def test_a_charge_that_was_changed_breaks_its_law(sqlite_market: Stand, statement: str) -> None:
    grant_of(sqlite_market, "club")
    ask(sqlite_market, "club", "0.07", 1)
    assert sqlite_market.broken_laws() == []
    with sqlite_market.market.store.engine.begin() as connection:
        connection.exec_driver_sql(statement)
    broken = {law.id for law in checks.run(sqlite_market.market) if law.findings}
    assert "L9" in broken


def test_a_simulation_is_limited_in_all(sqlite_market: Stand) -> None:
    """Each time is charged one after the other: the limit is on all questions together."""

    def simulate(*times: int) -> Any:
        questions = [{"sql": sample.COUNT, "rho": "0.0001", "times": one} for one in times]
        body = {"dataset": sample.SLUG, "questions": questions}
        return sqlite_market.post("provider", "/v1/prices/simulate", body)

    most = simulate(9_999, 1)
    assert most.status_code == 200, most.text
    assert {one["times"] for one in most.json()["plans"]} == {10_000}
    for times in [(10_001,), (9_999, 2), (5_000, 5_000, 1), (1,) * 51, (0,), (-1,), (True,)]:
        problem(simulate(*times), 422, "request_invalid")


@pytest.mark.parametrize("named", ["acme-typo", "ACME", "provider"])
def test_a_private_offer_is_made_to_a_buyer_on_the_exchange(sqlite_stand: Stand, named: str) -> None:
    """Else nobody would ever see it. Nothing is spent before that is known."""
    stand = sqlite_stand
    organisation = stand.orgs.get(named, named)
    offer = sample.plan("secret", organisation=organisation, offered_until="2099-01-31")
    policy = sample.policy(domain="riders:offered", profile_rho=0.01)
    manifest = sample.manifest(slug="city/offered", policy=policy, plans=[PAY, offer])
    drafted = stand.draft(manifest=manifest, files=sample.files(seed=20)).json()
    reply = stand.post("provider", "/v1/datasets/city/offered/publish", {"version": drafted["version"]})
    told = problem(reply, 422, "price_invalid")
    assert told["detail"].startswith(f"plans[1].organisation: there is no buyer '{organisation}'")
    assert not stand.market.store.read(
        lambda session: session.execute(
            select(ledger.account.c.id).where(ledger.account.c.owner == "riders:offered")
        ).first()
    )
