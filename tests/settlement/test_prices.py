from __future__ import annotations

import random
from fractions import Fraction
from math import ceil
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from settlement.errors import PriceArbitrage, PriceInvalid
from settlement.prices import NANO, PricePlan

BASE: dict[str, Any] = {
    "name": "pay-as-you-go",
    "kind": "pay-per-query",
    "currency": "USD",
    "fee": "0.10",
    "per_rho": "40.00",
    "cap": "25.00",
    "approval": "instant",
    "max_rho": "1.0",
}


def plan(**changes: Any) -> PricePlan:
    """The base plan with changes; None removes a field."""
    return PricePlan.from_document({k: v for k, v in {**BASE, **changes}.items() if v is not None})


def test_a_query_costs_the_fee_and_its_rho_rounded_up_to_the_cent() -> None:
    made = plan()
    assert made.price(10_000_000) == 10 + 40
    assert made.price(1) == 10 + 1
    assert made.price(10_000_001) == 10 + 41
    assert made.price(NANO) == 2500
    assert made.allowance_rho_nano == NANO


def test_a_query_of_public_tables_costs_nothing() -> None:
    assert plan().price(0) == 0


def test_falling_tiers_add_up_exactly() -> None:
    tiers = [{"up_to_rho": "0.1", "per_rho": "40.00"}, {"per_rho": "30.00"}]
    made = plan(per_rho=None, tiers=tiers, fee=None, cap=None)
    assert made.price(NANO // 10) == 400
    assert made.price(NANO // 5) == 400 + 300
    assert made.price(NANO) == 400 + 2700


def test_currencies_without_or_with_three_decimals() -> None:
    assert plan(currency="JPY", fee="10", per_rho="4000", cap=None).price(1_000_001) == 10 + 5
    assert plan(currency="KWD", fee="0.001", per_rho="4.000", cap=None).price(1_000_001) == 1 + 5


def test_the_document_is_kept_and_its_hash_does_not_depend_on_the_order_of_fields() -> None:
    made, turned = plan(), PricePlan.from_document(dict(reversed(BASE.items())))
    assert made.document == BASE
    assert made.sha256 == turned.sha256 != plan(fee="0.11").sha256


def test_premium_accuracy_is_refused_with_two_purchases_that_beat_it() -> None:
    tiers = [{"up_to_rho": "0.005", "per_rho": "400.00"}, {"per_rho": "800.00"}]
    with pytest.raises(PriceArbitrage) as refused:
        plan(per_rho=None, tiers=tiers, fee=None, cap=None)
    assert refused.value.path == "tiers[1].per_rho"
    assert refused.value.code == "price_arbitrage"
    assert "two queries of rho 0.005 cost 4.00 USD, one of 0.01 costs 6.00 USD" in str(refused.value)


def test_a_fee_only_moves_the_counterexample() -> None:
    tiers = [
        {"up_to_rho": "0.5", "per_rho": "10.00"},
        {"up_to_rho": "1", "per_rho": "12.00"},
        {"per_rho": "30.00"},
    ]
    with pytest.raises(
        PriceArbitrage, match=r"two queries of rho 1 cost 26.00 USD, one of 2 costs 43.00 USD"
    ):
        plan(per_rho=None, tiers=tiers, fee="2.00", cap=None)


def test_rising_rates_are_refused_even_where_a_cap_hides_them() -> None:
    tiers = [{"up_to_rho": "1", "per_rho": "10.00"}, {"per_rho": "30.00"}]
    with pytest.raises(PriceInvalid) as refused:
        plan(per_rho=None, tiers=tiers, cap="10.50")
    assert refused.value.code == "price_invalid"
    assert refused.value.path == "tiers[1].per_rho"


@pytest.mark.parametrize(
    ("changes", "path", "says"),
    [
        ({"kind": "pay-per-qurey"}, "kind", "did you mean pay-per-query?"),
        ({"kind": None}, "kind", "is missing"),
        ({"per_rhoo": "1"}, "per_rhoo", "did you mean per_rho?"),
        ({"rebate": "1"}, "rebate", "makes more cost less"),
        ({"currency": "usd"}, "currency", "currency"),
        ({"currency": None}, "currency", "currency"),
        ({"fee": "-1"}, "fee", "amount"),
        ({"fee": 0.1}, "fee", "amount"),
        ({"fee": "0.001"}, "fee", "2 decimals"),
        ({"per_rho": None}, "per_rho", "either"),
        ({"tiers": [{"per_rho": "1"}]}, "per_rho", "either"),
        ({"cap": "0.05"}, "cap", "below the fee"),
        ({"approval": "maybe"}, "approval", "unknown"),
        ({"max_rho": None}, "max_rho", "is missing"),
        ({"max_rho": "0"}, "max_rho", "positive"),
        ({"max_rho": "0.0000000001"}, "max_rho", "nine decimals"),
        ({"max_rho": True}, "max_rho", "positive"),
        ({"name": "  "}, "name", "1 to 100"),
        ({"name": "a\u0000b"}, "name", "printable"),
        ({"description": 5}, "description", "text"),
        ({"description": "\ud800"}, "plan", "Unicode"),
        ({"per_rho": None, "tiers": []}, "tiers", "1 to 20"),
        ({"per_rho": None, "tiers": ["x"]}, "tiers[0]", "table"),
        ({"per_rho": None, "tiers": [{"up_to_rho": "1", "per_rho": "1"}]}, "tiers[0].up_to_rho", "last"),
        ({"per_rho": None, "tiers": [{"per_rho": "1"}, {"per_rho": "1"}]}, "tiers[0].up_to_rho", "ends"),
        (
            {"per_rho": None, "tiers": [{"upto": "1", "per_rho": "1"}]},
            "tiers[0].upto",
            "did you mean up_to_rho?",
        ),
        ({"per_rho": None, "tiers": [{}]}, "tiers[0].per_rho", "missing"),
        (
            {
                "per_rho": None,
                "tiers": [
                    {"up_to_rho": "1", "per_rho": "1"},
                    {"up_to_rho": "1", "per_rho": "1"},
                    {"per_rho": "1"},
                ],
            },
            "tiers[1].up_to_rho",
            "above",
        ),
    ],
)
def test_each_broken_field_is_named(changes: dict[str, Any], path: str, says: str) -> None:
    with pytest.raises(PriceInvalid) as refused:
        plan(**changes)
    assert refused.value.path == path
    assert says in str(refused.value)


def test_a_negative_rho_is_a_programming_error() -> None:
    with pytest.raises(ValueError, match="negative"):
        plan().price(-1)


@st.composite
def good_plans(draw: st.DrawFn) -> PricePlan:
    rates = sorted(draw(st.lists(st.integers(0, 10**6), min_size=1, max_size=5)), reverse=True)
    ends = sorted(draw(st.sets(st.integers(1, 10**10), min_size=len(rates) - 1, max_size=len(rates) - 1)))
    tiers = [{"per_rho": f"{rate // 100}.{rate % 100:02d}"} for rate in rates]
    for tier, end in zip(tiers, ends, strict=False):
        tier["up_to_rho"] = f"{end // NANO}.{end % NANO:09d}"
    fee = draw(st.integers(0, 500))
    cap = draw(st.none() | st.integers(fee, 10**6))
    money = {
        "fee": f"{fee // 100}.{fee % 100:02d}",
        "cap": None if cap is None else f"{cap // 100}.{cap % 100:02d}",
    }
    return plan(per_rho=None, tiers=tiers, **money)


@given(good_plans(), st.integers(0, 10**10), st.integers(0, 10**10))
def test_every_accepted_plan_is_integer_monotone_and_subadditive(made: PricePlan, a: int, b: int) -> None:
    price = made.price
    assert all(isinstance(price(x), int) and price(x) >= 0 for x in (a, b))
    assert price(a + b) <= price(a) + price(b)
    assert price(min(a, b)) <= price(max(a, b))


@given(good_plans(), st.lists(st.integers(1, 10**9), min_size=1, max_size=6))
def test_steps_cost_together_what_one_query_of_their_rho_costs(made: PricePlan, steps: list[int]) -> None:
    before = paid = 0
    for step in steps:
        price = made.price_of_more(step, before_nano=before, paid_minor=paid)
        assert 0 <= price <= made.price(step), "a step is never dearer than its rho asked for alone"
        before, paid = before + step, paid + price
    assert paid == made.price(sum(steps))


@given(good_plans(), st.integers(1, 10**9), st.integers(1, 10**9), st.integers(0, 10**6))
def test_no_more_is_credited_than_was_paid(made: PricePlan, before: int, step: int, paid: int) -> None:
    price = made.price_of_more(step, before_nano=before, paid_minor=paid)
    assert made.price(before + step) - made.price(before) <= price <= made.price(before + step)
    assert paid + price >= made.price(before + step)


@given(good_plans(), st.integers(1, 10**11))
def test_the_price_is_the_documented_formula_in_exact_fractions(made: PricePlan, rho_nano: int) -> None:
    exact, start = Fraction(0), Fraction(0)
    for tier in made.document["tiers"]:
        end = min(Fraction(rho_nano, NANO), Fraction(tier.get("up_to_rho", 10**9)))
        exact += max(Fraction(0), end - start) * Fraction(tier["per_rho"]) * 100
        start = end
    price = Fraction(made.document["fee"]) * 100 + ceil(exact)
    cap = Fraction(made.document["cap"]) * 100 if "cap" in made.document else price
    assert made.price(rho_nano) == min(cap, price)


def test_of_two_hundred_random_rising_plans_none_is_accepted_and_every_counterexample_is_true() -> None:
    random_, shown = random.Random(7), 0
    for _ in range(200):
        low = random_.randrange(1, 1000)
        high = low + random_.randrange(1, 1000)
        tiers = [
            {"up_to_rho": f"0.{random_.randrange(1, 999):03d}", "per_rho": str(low)},
            {"per_rho": str(high)},
        ]
        with pytest.raises(PriceInvalid) as refused:
            plan(per_rho=None, tiers=tiers, fee=f"0.{random_.randrange(100):02d}", cap=None)
        if isinstance(refused.value, PriceArbitrage):
            words = str(refused.value).replace(",", "").split()
            shown += 1
            assert Fraction(words[words.index("cost") + 1]) < Fraction(words[words.index("costs") + 1])
    assert shown > 190
