"""The adapter against the double, and the same calls against Stripe's test mode where ``STRIPE_TEST_KEY`` is
set.
"""

from __future__ import annotations

import json
import os
import secrets
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from settlement import Money
from settlement.errors import (
    AmountInvalid,
    PaymentError,
    StripeBusy,
    StripeFailed,
    StripeRefused,
    StripeShort,
    StripeUnknown,
)
from settlement.payments.facts import Refunded, from_stripe, to_stripe
from settlement.payments.outbox import Item
from settlement.stripe import Till
from tests.stripe_double import StripeDouble, running

TEST_KEY = os.environ.get("STRIPE_TEST_KEY", "")
AT = datetime(2026, 11, 22, tzinfo=UTC).isoformat()


@pytest.fixture
def double() -> Iterator[StripeDouble]:
    with running() as opened:
        yield opened


@pytest.fixture
def till(double: StripeDouble) -> Till:
    return Till(double.key, api_base=double.url, timeout=5.0)


@pytest.fixture(
    params=[
        "double",
        pytest.param(
            "test mode", marks=pytest.mark.skipif(not TEST_KEY, reason="STRIPE_TEST_KEY is not set")
        ),
    ]
)
def either(request: pytest.FixtureRequest) -> Till:
    if request.param == "double":
        found: Till = request.getfixturevalue("till")
        return found
    assert TEST_KEY.startswith(("sk_test_", "rk_test_")), "only a key of the test mode is used"
    return Till(TEST_KEY)


def item(kind: str, body: dict[str, object], id_: str = "") -> Item:
    return Item(
        id=id_ or f"out_{secrets.token_hex(12)}",
        kind=kind,  # type: ignore[arg-type]
        subject="x",
        body=body,
        state="sending",
        generation=1,
        attempts=1,
        first_sent_at=AT,
        last_sent_at=AT,
        next_at=AT,
        failure=None,
        stripe_id=None,
    )


def test_a_customer_is_made_once_and_pays_on_a_page(either: Till) -> None:
    org = f"org_{secrets.token_hex(12)}"
    customer = either.customer(org, "acme")
    assert either.customer(org, "acme") == customer
    top_up = f"top_{secrets.token_hex(12)}"
    wanted = {"top_up": top_up, "customer": customer, "amount": Money(2550, "USD")}
    page = either.checkout(**wanted, back="https://exchange.example/")  # type: ignore[arg-type]
    assert page.url
    assert page.url.startswith("https://")
    again = either.checkout(**wanted, back="https://exchange.example/")  # type: ignore[arg-type]
    assert again.session == page.session
    assert either.find_payment(top_up=top_up, customer=customer) is None
    with pytest.raises(StripeRefused, match="No payment method"):
        either.charge_saved(**wanted)  # type: ignore[arg-type]


def test_a_provider_is_led_to_its_account(either: Till) -> None:
    org = f"org_{secrets.token_hex(12)}"
    account = either.account(org)
    assert either.account(org) == account
    assert either.onboarding(account, back="https://exchange.example/").startswith("https://")


def test_a_transfer_to_nobody_is_refused_and_not_found(either: Till) -> None:
    sent = item("transfer", {"amount": 100, "currency": "usd", "destination": "acct_0"})
    with pytest.raises(StripeRefused):
        either.send(sent)
    assert either.look_up(sent) is None


def test_balances_and_movements_are_read(either: Till) -> None:
    assert all(isinstance(amount, int) for amount in either.balances().values())
    for movement in either.movements(int(datetime.now(UTC).timestamp()) - 86_400):
        assert movement.net == movement.amount - movement.fee


def test_movements_name_the_payment_and_run_over_pages(double: StripeDouble, till: Till) -> None:
    for number in range(130):
        made = double.world.keep(
            "pi", "payment_intent", amount=1000 + number, currency="usd", customer="c", metadata={}
        )
        double.world.succeed(made)
    listed = list(till.movements(0))
    assert len(listed) == 130
    intents = {one["id"] for one in double.world.all("payment_intent")}
    assert {one.payment_intent for one in listed} == intents
    assert sum(one.net for one in listed) == till.balances()["USD"]


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("drop_reply", StripeUnknown),
        ("refuse_connection", StripeUnknown),
        ("saved_500", StripeFailed),
        ("acted_500", StripeFailed),
        ("in_flight_409", StripeBusy),
        ("busy_429", StripeBusy),
    ],
)
def test_every_failure_says_whether_money_may_have_moved(
    double: StripeDouble, till: Till, fault: str, told: type[PaymentError]
) -> None:
    made = double.world.keep("pi", "payment_intent", amount=5000, currency="usd", customer="c", metadata={})
    double.world.succeed(made)
    refund = item("refund", {"payment_intent": made["id"], "amount": 100, "metadata": {}})
    refund.body["metadata"] = {"outbox": refund.id}
    double.world.faults[fault] = 1
    with pytest.raises(PaymentError) as caught:
        till.send(refund)
    assert type(caught.value) is told
    acted = fault in ("drop_reply", "acted_500")
    found = till.look_up(refund)
    assert (found is not None) == acted
    if found is not None:
        assert isinstance(found.fact, Refunded)
        assert found.fact.amount_minor == 100


def test_a_saved_failure_is_answered_again_and_a_new_key_is_not(double: StripeDouble, till: Till) -> None:
    made = double.world.keep("pi", "payment_intent", amount=5000, currency="usd", customer="c", metadata={})
    double.world.succeed(made)
    refund = item("refund", {"payment_intent": made["id"], "amount": 100})
    double.world.faults["saved_500"] = 1
    for _ in range(2):
        with pytest.raises(StripeFailed):
            till.send(refund)
    assert till.send(item("refund", dict(refund.body))).id.startswith("re_")


def test_want_of_balance_is_told_apart(double: StripeDouble, till: Till) -> None:
    account = till.account("org_1")
    double.world.activate(account)
    with pytest.raises(StripeShort):
        till.send(item("transfer", {"amount": 1, "currency": "usd", "destination": account}))


def test_a_wrong_key_never_ends_a_call(double: StripeDouble) -> None:
    stranger = Till("sk_test_other", api_base=double.url)
    with pytest.raises(StripeBusy, match="key"):
        stranger.send(item("refund", {"payment_intent": "pi_1", "amount": 1}))


@pytest.mark.parametrize(
    ("path", "form", "refused"),
    [
        ("/v1/transfers", "amount=1&currency=usd&destination=acct_1&speed=fast", "speed"),
        ("/v1/refunds", "payment_intent=pi_1&idempotency_key=a", "idempotency_key"),
        (
            "/v1/checkout/sessions",
            "line_items[0][price_data][colour]=red",
            "line_items[0][price_data][colour]",
        ),
        ("/v1/customers", "metadata[a][b]=1", "metadata[a][b]"),
        ("/v1/payment_intents", "automatic_payment_methods[on]=true", "automatic_payment_methods[on]"),
    ],
)
def test_the_double_refuses_keys_that_the_sdk_does_not_name(
    double: StripeDouble, path: str, form: str, refused: str
) -> None:
    import stripe

    headers = {"Authorization": f"Bearer {double.key}", "Stripe-Version": str(stripe.api_version)}
    call = urllib.request.Request(f"{double.url}{path}", data=form.encode(), headers=headers)
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(call)
    with caught.value as reply:
        told = json.loads(reply.read())["error"]
    assert (told["code"], told["message"]) == ("parameter_unknown", refused)


@pytest.mark.parametrize(
    ("minor", "currency", "stripes"),
    [
        (1050, "USD", 1050),
        (500, "JPY", 500),
        (12340, "KWD", 12340),
        (7, "ISK", 700),
        (7, "UGX", 700),
        (700, "MGA", 7),
    ],
)
def test_amounts_are_counted_as_stripe_counts_them(minor: int, currency: str, stripes: int) -> None:
    assert to_stripe(minor, currency) == stripes
    assert from_stripe(stripes, currency.lower()) == (minor, currency)


@pytest.mark.parametrize(("minor", "currency"), [(12345, "KWD"), (101, "MGA")])
def test_amounts_that_stripe_cannot_move(minor: int, currency: str) -> None:
    with pytest.raises(AmountInvalid, match="steps"):
        to_stripe(minor, currency)


@pytest.mark.parametrize("amount", [1.5, True, "100", None, 2**62])
def test_amounts_that_are_none_are_refused(amount: object) -> None:
    with pytest.raises(AmountInvalid):
        from_stripe(amount, "usd")
