"""Money in and out through the doors, against a Stripe that fails in every way that Stripe can."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from exchange.identity import Role
from exchange.operations import administering
from settlement.ledger import chart
from tests.journeys.payments import balance, closed, closed_again, connect, provider, spend, spend_opening
from tests.market.stand import Stand, problem
from tests.market.till import Counter, counter


@pytest.fixture
def till(stand: Stand) -> Iterator[Counter]:
    with counter(stand) as opened:
        yield opened
        assert stand.broken_laws() == []


@pytest.fixture
def light(sqlite_stand: Stand) -> Iterator[Counter]:
    with counter(sqlite_stand) as opened:
        yield opened
        assert sqlite_stand.broken_laws() == []


def earn(till: Counter) -> int:
    """The buyer asks until the provider has earned something; what is payable."""
    till.stand.request()
    answered = till.stand.run(rho="0.05")
    assert answered.status_code == 200, answered.text
    return balance(till, chart.provider_payable(provider(till), "USD")).posted


def test_a_buyer_tops_up_on_stripes_page(till: Counter) -> None:
    before = till.stand.wallet().available
    made = till.top_up("25.50")
    assert made["state"] == "open"
    assert made["url"].startswith("https://checkout.stripe.example/")
    till.world.pay(made["url"].rpartition("/")[2])
    assert till.stand.wallet().available == before
    assert set(till.deliver()) == {"applied"}
    assert till.stand.wallet().available == before + 2550
    shown = till.stand.get("buyer", f"/v1/top-ups/{made['top_up']}").json()
    assert (shown["state"], shown["received"]["amount"]) == ("paid", "25.50")
    history = till.stand.get("buyer", "/v1/wallet/history").json()["items"]
    assert (history[-1]["kind"], history[-1]["amount"]) == ("payment_captured", "25.50")
    assert till.stand.entries(kind="payment_event.received")


def test_the_saved_method_pays_at_once_and_once(light: Counter) -> None:
    light.paid()
    before = light.stand.wallet().available
    light.world.faults["drop_reply"] = 1
    asked = {"amount": "10.00", "currency": "USD", "saved": True}
    problem(light.stand.post("buyer", "/v1/top-ups", asked, key="again"), 503, "stripe_unknown")
    again = light.stand.post("buyer", "/v1/top-ups", asked, key="again")
    assert again.status_code == 201, again.text
    light.deliver()
    assert light.stand.wallet().available == before + 1000
    assert len(light.world.all("payment_intent")) == 2


def test_currencies_without_decimals_and_with_three(light: Counter) -> None:
    light.paid("5000", "JPY")
    light.paid("12.340", "KWD")
    assert light.stand.wallet(currency="JPY").available == 5000
    assert light.stand.wallet(currency="KWD").available == 12340
    odd = light.stand.post("buyer", "/v1/top-ups", {"amount": "1.005", "currency": "KWD"})
    problem(odd, 422, "amount_invalid")


@pytest.mark.parametrize("amount", ["-1.00", "0.00", "1.001", "1e3", "99999999999999999999"])
def test_amounts_that_are_none(light: Counter, amount: str) -> None:
    reply = light.stand.post("buyer", "/v1/top-ups", {"amount": amount, "currency": "USD"})
    assert reply.status_code == 422, reply.text
    assert light.world.all("checkout.session") == []


def test_the_same_webhook_again_changes_nothing(till: Counter) -> None:
    till.paid()
    books = till.stand.books()
    for event in till.world.events:
        redelivered = {**event, "pending_webhooks": 7}
        assert till.send(till.world.delivery(redelivered)).json()["outcome"] == "duplicate"
    assert till.stand.books() == books


def test_webhooks_in_any_order_make_the_same_ledger(light: Counter) -> None:
    made = light.top_up()
    intent = light.world.pay(made["url"].rpartition("/")[2])
    light.world.fail_refund(light.world.refund(intent, 4000)["id"])
    light.world.refund(intent, 1000)
    light.world.close_dispute(light.world.dispute(intent, 2000)["id"], won=True)
    outcomes = [
        light.send(light.world.delivery(event)).json()["outcome"] for event in light.world.events[::-1]
    ]
    assert "parked" in outcomes
    light.work()
    wallet = balance(light, chart.buyer_prepaid(light.stand.orgs["buyer"], "USD"))
    assert wallet.available == light.stand.wallet().available
    assert balance(light, chart.platform_dispute_suspense("USD")).posted == 0
    assert -balance(light, chart.external_stripe("USD")).posted == light.world.balance["usd"]


def _changed(till: Counter, **changes: Any) -> Any:
    till.top_up()
    till.world.pay(till.world.all("checkout.session")[0]["id"])
    return till.world.delivery({**till.world.events[-1], **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"api_version": "2020-08-27"},
        {"livemode": True},
        {"account": "acct_stranger"},
        {"data": {"object": None}},
        {"created": "yesterday"},
    ],
)
def test_webhooks_that_are_not_for_this_exchange(light: Counter, changes: dict[str, Any]) -> None:
    wrong = _changed(light, **changes)
    books = light.stand.books()
    problem(light.send(wrong), 400, "webhook_refused")
    assert light.stand.books() == books
    assert light.stand.entries(kind="payment_event.refused")
    light.deliver()


def test_signatures_are_of_the_raw_bytes_and_fresh(light: Counter) -> None:
    made = light.top_up()
    light.world.pay(made["url"].rpartition("/")[2])
    event = light.world.events[0]
    right = light.world.delivery(event)
    for wrong in (
        light.world.delivery(event, secret="whsec_other"),
        light.world.delivery(event, at=light.world.now() - 301),
        light.world.delivery(event, at=light.world.now() + 900),  # further off than a busy machine takes
        type(right)(right.event, right.payload + b" ", right.signature),
        type(right)(right.event, json.dumps(event).encode(), right.signature),
        type(right)(right.event, right.payload, ""),
        type(right)(right.event, b"\xff\xfe", right.signature),
    ):
        problem(light.send(wrong), 400, "webhook_refused")
    assert light.stand.get("buyer", f"/v1/top-ups/{made['top_up']}").json()["state"] == "open"
    assert light.send(right).json()["outcome"] == "applied"


def test_a_payment_of_another_application_is_not_ours(light: Counter) -> None:
    foreign = light.world.keep("pi", "payment_intent", amount=999, currency="usd", customer=None, metadata={})
    light.world.succeed(foreign)
    assert light.deliver() == ["ignored"]
    run = light.stand.post("operator", "/v1/reconciliation").json()
    assert [one["kind"] for one in run["breaks"]] == ["missing_in_ledger"]


def test_a_refund_is_held_sent_and_booked_once(till: Counter) -> None:
    intent = till.paid()
    wallet = till.stand.wallet().available
    asked = {"payment": intent["id"], "amount": "30.00", "currency": "USD", "reason": "asked for"}
    held = till.stand.post("operator", "/v1/refunds", asked)
    assert held.status_code == 201, held.text
    assert till.stand.wallet().available == wallet - 3000
    till.work()
    till.deliver()
    assert [one["state"] for one in till.stand.get("buyer", "/v1/refunds").json()["items"]] == ["refunded"]
    assert till.stand.wallet().posted == wallet - 3000
    assert len(till.world.all("refund")) == 1


def test_a_refund_beyond_the_payment_or_the_wallet(light: Counter) -> None:
    intent = light.paid("20.00")
    asked = {"payment": intent["id"], "amount": "20.01", "currency": "USD", "reason": "x"}
    problem(light.stand.post("operator", "/v1/refunds", asked), 409, "refund_too_large")
    asked = {**asked, "amount": "20.00", "currency": "EUR"}
    problem(light.stand.post("operator", "/v1/refunds", asked), 409, "refund_too_large")
    spend(light)
    asked = {**asked, "currency": "USD"}
    problem(light.stand.post("operator", "/v1/refunds", asked), 409, "refund_too_large")
    problem(light.stand.post("operator", "/v1/refunds", {**asked, "payment": "pi_0"}), 404, "payment_missing")
    assert light.world.all("refund") == []


def test_a_refund_that_the_bank_returns(light: Counter) -> None:
    intent = light.paid()
    wallet = light.stand.wallet().available
    asked = {"payment": intent["id"], "amount": "30.00", "currency": "USD", "reason": "asked for"}
    light.stand.post("operator", "/v1/refunds", asked)
    light.work()
    light.world.fail_refund(light.world.all("refund")[0]["id"])
    light.deliver()
    assert light.stand.wallet().available == wallet
    assert light.stand.get("operator", "/v1/refunds").json()["items"][0]["state"] == "returned"


@pytest.mark.parametrize("fault", ["drop_reply", "refuse_connection", "acted_500", "saved_500"])
def test_a_transfer_of_unknown_outcome_is_looked_up_and_made_once(light: Counter, fault: str) -> None:
    light.paid()
    earned = earn(light)
    connect(light)
    payout = closed(light)
    assert payout["method"] == "stripe"
    light.stand.post("operator", f"/v1/payouts/{payout['payout']}/approve")
    light.world.faults[fault] = 1
    light.work()
    assert state(light) == "waiting"
    made = len(light.world.all("transfer"))
    for _ in range(3):
        light.pass_time(minutes=61)
        light.work()
    assert state(light) == "sent"
    assert len(light.world.all("transfer")) == 1
    sends = light.stripe.made("POST", "/v1/transfers")
    assert len(sends) == (1 if made else 2)
    assert len(set(sends)) == (2 if fault == "saved_500" else 1)
    light.deliver()
    paid = int(light.world.all("transfer")[0]["amount"])
    assert paid == payout["amount"]["amount_minor"] <= earned


def state(till: Counter) -> str:
    [made] = till.stand.get("provider", "/v1/payouts").json()["items"]
    return str(made["state"])


@pytest.mark.parametrize(("fault", "times"), [("busy_429", 3), ("in_flight_409", 2)])
def test_a_call_that_was_not_begun_is_repeated_with_its_key(light: Counter, fault: str, times: int) -> None:
    light.paid()
    earn(light)
    connect(light)
    payout = closed(light)
    light.stand.post("operator", f"/v1/payouts/{payout['payout']}/approve")
    light.world.faults[fault] = times
    for _ in range(times + 1):
        light.work()
        light.pass_time(minutes=61)
    assert state(light) == "sent"
    assert len(set(light.stripe.made("POST", "/v1/transfers"))) == 1
    assert len(light.world.all("transfer")) == 1
    light.deliver()


def test_a_balance_that_does_not_cover_a_transfer_is_waited_for(light: Counter) -> None:
    light.paid()
    earn(light)
    connect(light)
    payout = closed(light)
    light.stand.post("operator", f"/v1/payouts/{payout['payout']}/approve")
    light.world.faults["short_balance"] = 1
    light.work()
    assert state(light) == "waiting"
    light.pass_time(hours=7)
    light.work()
    assert state(light) == "sent"
    light.deliver()


def test_what_a_key_would_have_repeated_after_a_day_is_looked_up(light: Counter) -> None:
    light.paid()
    earn(light)
    connect(light)
    payout = closed(light)
    light.stand.post("operator", f"/v1/payouts/{payout['payout']}/approve")
    light.world.faults["drop_reply"] = 1
    light.work()
    light.pass_time(days=2)  # Stripe has forgotten the key by now
    light.work()
    assert state(light) == "sent"
    assert len(light.world.all("transfer")) == 1
    light.deliver()


def test_a_refused_transfer_is_payable_again(light: Counter) -> None:
    light.paid()
    earned = earn(light)
    account = connect(light)
    payout = closed(light)
    light.world.found(account)["capabilities"] = {"transfers": "inactive"}
    light.stand.post("operator", f"/v1/payouts/{payout['payout']}/approve")
    light.work()
    assert state(light) == "failed"
    kept = payout["holdback"]["amount_minor"]
    assert balance(light, chart.provider_payable(provider(light), "USD")).available == earned - kept


def test_payouts_wait_for_two_clean_days(light: Counter) -> None:
    light.paid()
    earn(light)
    connect(light)
    closed(light)
    for _ in range(4):
        light.work()
        assert state(light) == "waiting"
        light.pass_time(hours=13)
    light.work()
    light.pass_time(seconds=1)
    light.work()
    assert state(light) == "sent"
    light.deliver()
    last = light.stand.get("operator", "/v1/reconciliation").json()
    assert last["clean"], last
    assert last["automatic_payouts"]


def test_holdback_is_released_when_its_time_is_over(light: Counter) -> None:
    light.paid()
    earned = earn(light)
    connect(light)
    payout = closed(light)
    kept = payout["holdback"]["amount_minor"]
    assert kept == -(-earned * light.stand.settings.holdback_percent // 100)
    payable = chart.provider_payable(provider(light), "USD")
    light.stand.post("operator", f"/v1/payouts/{payout['payout']}/approve")
    light.work()
    assert balance(light, payable).available == 0
    light.pass_time(days=light.stand.settings.holdback_days)
    light.work()
    assert balance(light, chart.provider_holdback(provider(light), "USD")).posted == 0
    assert balance(light, payable).posted == kept
    light.deliver()


def test_a_lost_dispute_is_clawed_back_from_the_next_settlement(light: Counter) -> None:
    opening = light.stand.wallet().available
    spend_opening(light, opening)
    intent = light.paid("50.00")
    spend(light)
    connect(light)
    payout = closed(light)
    light.stand.post("operator", f"/v1/payouts/{payout['payout']}/approve")
    light.work()
    assert state(light) == "sent"
    dispute = light.world.dispute(intent)
    light.deliver()
    light.work()
    [shown] = light.stand.get("operator", "/v1/disputes").json()["items"]
    assert sum(float(one["share"]) for one in shown["shares"]) == 50.0
    light.world.close_dispute(dispute["id"], won=False)
    light.deliver()
    light.work()
    assert balance(light, chart.platform_dispute_suspense("USD")).posted == 0
    owed = -balance(light, chart.provider_clawback(provider(light), "USD")).posted
    assert owed > 0
    light.paid("80.00")
    spend(light)
    taken = closed_again(light)
    assert taken["clawback"]["amount_minor"] == owed
    assert balance(light, chart.provider_clawback(provider(light), "USD")).posted == 0


def test_a_payment_on_a_providers_own_account_credits_nobody(light: Counter) -> None:
    """Its owner writes what it likes into the metadata of its own payments."""
    account = connect(light)
    made, before = light.top_up("25.00"), light.stand.wallet().available
    intent = light.world.pay(made["url"].rpartition("/")[2])
    told = light.world.events.pop()
    while told["type"] != "payment_intent.succeeded":
        told = light.world.events.pop()
    light.world.tell("payment_intent.succeeded", intent, account=account)
    assert light.deliver() == ["ignored"]
    assert light.stand.wallet().available == before
    light.world.tell("payment_intent.succeeded", intent)
    assert light.deliver() == ["applied"]
    assert light.stand.wallet().available == before + 2500


def amount_of(minor: int) -> str:
    return f"{minor // 100}.{minor % 100:02}"


def test_a_won_dispute_gives_everything_back(light: Counter) -> None:
    intent = light.paid()
    earned = earn(light)
    wallet = light.stand.wallet().available
    dispute = light.world.dispute(intent)
    light.deliver()
    light.work()
    assert balance(light, chart.platform_dispute_suspense("USD")).posted == 0
    assert light.stand.wallet().available < wallet
    light.world.close_dispute(dispute["id"], won=True)
    light.deliver()
    light.work()
    assert light.stand.wallet().available == wallet
    assert balance(light, chart.provider_payable(provider(light), "USD")).posted == earned


@pytest.mark.parametrize("covered", [True, False])
def test_money_is_asked_back_by_reversal(light: Counter, covered: bool) -> None:
    spend_opening(light, light.stand.wallet().available)
    intent = light.paid("50.00")
    spend(light)
    connect(light)
    payout = closed(light)
    light.stand.post("operator", f"/v1/payouts/{payout['payout']}/approve")
    light.work()
    light.world.close_dispute(light.world.dispute(intent)["id"], won=False)
    light.deliver()
    light.work()
    clawback = chart.provider_clawback(provider(light), "USD")
    owed = -balance(light, clawback).posted
    where = f"/v1/payouts/{payout['payout']}/recover"
    problem(light.stand.post("operator", where, {"amount": "9999.00"}), 422, "amount_invalid")
    asked = light.stand.post("operator", where, {"amount": "1.00"})
    assert asked.status_code == 200, asked.text
    light.world.faults["failed_reversal"] = 0 if covered else 1
    light.work()
    light.deliver()
    assert -balance(light, clawback).posted == (owed - 100 if covered else owed)


def in_debt(till: Counter) -> tuple[dict[str, Any], int, str]:
    """A payout that was sent, what its provider owes after a lost dispute, and the dispute."""
    spend_opening(till, till.stand.wallet().available)
    intent = till.paid("50.00")
    spend(till)
    connect(till)
    payout = closed(till)
    till.stand.post("operator", f"/v1/payouts/{payout['payout']}/approve")
    till.work()
    dispute = till.world.dispute(intent)["id"]
    till.world.close_dispute(dispute, won=False)
    till.deliver()
    till.work()
    return payout, -balance(till, chart.provider_clawback(provider(till), "USD")).posted, dispute


def test_what_is_asked_back_is_taken_once(light: Counter) -> None:
    """Neither a second reversal nor a settlement in the meantime takes it again."""
    payout, owed, _ = in_debt(light)
    where, most = f"/v1/payouts/{payout['payout']}/recover", min(owed, payout["amount"]["amount_minor"])
    assert light.stand.post("operator", where, {"amount": amount_of(most)}).status_code == 200
    for again in (most, owed - most + 1):
        problem(light.stand.post("operator", where, {"amount": amount_of(again)}), 422, "amount_invalid")
    light.paid("80.00")
    spend(light)
    assert closed_again(light)["clawback"]["amount_minor"] == owed - most
    light.work()
    light.deliver()
    assert balance(light, chart.provider_clawback(provider(light), "USD")).posted == 0


def test_a_refused_reversal_can_be_asked_for_again(light: Counter) -> None:
    payout, owed, _ = in_debt(light)
    where, most = f"/v1/payouts/{payout['payout']}/recover", min(owed, payout["amount"]["amount_minor"])
    light.world.faults["failed_reversal"] = 1
    for left in (owed, owed - most):
        assert light.stand.post("operator", where, {"amount": amount_of(most)}).status_code == 200
        light.work()
        light.deliver()
        assert -balance(light, chart.provider_clawback(provider(light), "USD")).posted == left


def test_a_won_dispute_gives_back_a_holdback_whose_time_is_over(light: Counter) -> None:
    """It was in suspense when it would have been released: nobody else would release it later."""
    spend_opening(light, light.stand.wallet().available)
    intent = light.paid("50.00")
    spend(light)
    connect(light)
    payout = closed(light)
    light.stand.post("operator", f"/v1/payouts/{payout['payout']}/approve")
    light.work()
    payable, held = (of(provider(light), "USD") for of in (chart.provider_payable, chart.provider_holdback))
    kept = balance(light, held).posted
    assert kept == payout["holdback"]["amount_minor"] > 0
    dispute = light.world.dispute(intent)
    light.deliver()
    light.work()
    assert balance(light, held).posted == 0
    light.pass_time(days=light.stand.settings.holdback_days)
    light.work()
    light.world.close_dispute(dispute["id"], won=True)
    light.deliver()
    light.work()
    assert balance(light, held).posted == 0
    assert balance(light, payable).posted == kept


def test_without_a_key_the_exchange_works_by_bank_transfer(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    reply = stand.post("buyer", "/v1/top-ups", {"amount": "1.00", "currency": "USD"})
    assert "bank transfer" in problem(reply, 409, "stripe_missing")["hint"]
    sent = stand.call(None, "POST", "/v1/webhooks/stripe", content=b"{}")
    problem(sent, 409, "stripe_missing")
    before = stand.wallet().available
    administering.credit_wallet(
        stand.market, org="acme", amount="10000.00", currency="USD", reference="at-the-limit"
    )
    assert stand.wallet().available == before + 1_000_000
    stand.request()
    stand.run(rho="0.05")
    stand.clock.advance(days=32)
    [payout] = stand.post("operator", "/v1/payouts/close", {}).json()["items"]
    assert payout["method"] == "bank"
    where = f"/v1/payouts/{payout['payout']}/confirm"
    assert stand.post("operator", where, {"reference": "BANK-7"}).json()["state"] == "sent"
    problem(stand.post("operator", where, {"reference": "BANK-8"}), 409, "payment_state")
    assert stand.broken_laws() == []


def test_a_large_bank_transfer_needs_two_operators(stand: Stand) -> None:
    transfer = {"org": "acme", "amount": "10000.01", "currency": "USD", "reference": "large"}
    with pytest.raises(Exception, match="one operator credits at most"):
        administering.credit_wallet(stand.market, **transfer)
    before = stand.wallet().available
    credit = stand.post("operator", "/v1/credits", transfer).json()["credit"]
    assert stand.post("operator", "/v1/credits", transfer).json()["credit"] == credit
    alone = stand.post("operator", f"/v1/credits/{credit}/confirm")
    problem(alone, 403, "second_operator_needed")
    assert stand.wallet().available == before
    made = administering.create_token(stand.market, org="house", role=Role.OPERATOR)
    done = stand.post(made["token"], f"/v1/credits/{credit}/confirm")
    assert done.json()["state"] == "confirmed", done.text
    assert stand.wallet().available == before + 1_000_001
    problem(stand.post(made["token"], f"/v1/credits/{credit}/decline"), 409, "payment_state")
    assert stand.broken_laws() == []
