"""Plans of every kind, alone and beside each other: what is refused is beaten, what is accepted is not."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from settlement.errors import PriceArbitrage, PriceInvalid
from settlement.money import exponent_of, parse_amount
from settlement.prices import KINDS, NANO, PricePlan, check_menu
from tests.settlement import plan_cases as cases

PAY: dict[str, Any] = {
    "name": "pay",
    "kind": "pay-per-query",
    "currency": "USD",
    "per_rho": "20.00",
    "approval": "instant",
    "max_rho": "1.0",
}
CLUB: dict[str, Any] = {
    **PAY,
    "name": "club",
    "kind": "subscription",
    "period": "month",
    "period_fee": "5.00",
    "included_rho": "0.3",
    "per_rho": "10.00",
}


def compiled(*documents: dict[str, Any]) -> list[PricePlan]:
    return [PricePlan.from_document(document) for document in documents]


def test_two_hundred_good_plans_are_accepted_and_nothing_beats_them() -> None:
    dice = random.Random(11)
    for number in range(200):
        kind, currency = KINDS[number % len(KINDS)], cases.CURRENCIES[number % 4]
        made = PricePlan.from_document(cases.plan(dice, kind, currency))
        check_menu([made])
        tried = cases.sizes(dice, [made], 200)
        prices = sorted((x, made.price(x)) for pair in tried for x in pair)
        assert all(low <= high for (_, low), (_, high) in itertools.pairwise(prices))
        assert all(made.price(a + b) <= made.price(a) + made.price(b) for a, b in tried)
        assert cases.beaten([made], tried) is None


def bad(dice: random.Random, number: int) -> dict[str, Any]:
    """A plan that should be refused, of one of eight sorts in turn."""
    currency = cases.CURRENCIES[dice.randrange(4)]
    good = cases.plan(dice, "pay-per-query", currency)
    convex = {k: v for k, v in good.items() if k not in ("tiers", "fee", "cap")}
    convex |= cases.curve(dice, currency, rising=True)
    subscription = cases.plan(dice, "subscription", currency, period_fee=cases.amount(1, currency))
    subscription["included_rho"] = subscription["max_rho"]
    return [
        {k: v for k, v in convex.items() if k != "fee"},
        convex,
        {**good, "rounding": dice.choice(["down", "nearest"])},
        {**good, "free_rho": "0.01"},
        {**good, "rebate": {"from_rho": "0.5", "percent": dice.randrange(5, 90)}},
        {**good, dice.choice(["per_row", "per_group", "per_second", "surge", "free_queries"]): "1"},
        subscription,
        {**good, "max_rho": "-1"},
    ][number % 8]


def test_two_hundred_bad_plans_are_refused_and_their_counterexamples_are_true() -> None:
    dice, shown = random.Random(12), 0
    for number in range(200):
        document = bad(dice, number)
        with pytest.raises(PriceInvalid) as refused:
            PricePlan.from_document(document)
        if isinstance(refused.value, PriceArbitrage):
            assert_cheaper(refused.value)
            shown += 1
        if number % 8 == 0:
            assert isinstance(refused.value, PriceArbitrage), "rising rates without a fee are always beaten"
            assert_true_of_tiers(document, refused.value)
    assert shown > 100


def assert_cheaper(refused: PriceArbitrage) -> None:
    """The cheaper side buys as much rho and costs less, in figures and in the sentence."""
    told = refused.counterexample
    assert told is not None
    direct, currency = told["direct"], told["currency"]
    bought = sum(one["times"] * one["rho_nano"] for one in told["cheaper"])
    assert bought >= direct["rho_nano"] * direct["times"]
    paid = sum(one["cost_minor"] for one in told["cheaper"])
    assert paid == parse_amount(told["cheaper_cost"], currency) < direct["cost_minor"]
    assert f"{told['cheaper_cost']} {currency}" in str(refused)
    assert f"{told['direct_cost']} {currency}" in str(refused)


def assert_true_of_tiers(document: dict[str, Any], refused: PriceArbitrage) -> None:
    """The costs of the counterexample are those of the tiers as they were written."""
    assert refused.counterexample is not None
    for one in [*refused.counterexample["cheaper"], refused.counterexample["direct"]]:
        cost, start = 0, 0
        for tier in document["tiers"]:
            end = min(one["rho_nano"], int(tier.get("up_to_rho", "9" * 19).replace(".", "")))
            cost += max(0, end - start) * parse_amount(tier["per_rho"], document["currency"])
            start = max(start, end)
        assert one["cost_minor"] == one["times"] * -(-cost // NANO)


def test_menus_are_accepted_where_nothing_beats_them_and_refused_where_something_does() -> None:
    dice, verdicts = random.Random(13), {True: 0, False: 0}
    for _ in range(250):
        currency = cases.CURRENCIES[dice.randrange(4)]
        count = dice.randrange(2, 5)
        menu = compiled(*(cases.plan(dice, dice.choice(KINDS), currency, f"p{i}") for i in range(count)))
        try:
            check_menu(menu)
        except PriceInvalid as refused:
            verdicts[False] += 1
            if isinstance(refused, PriceArbitrage):
                assert_cheaper(refused)
                assert_sold(menu, refused)
        else:
            verdicts[True] += 1
            assert cases.beaten(menu, cases.sizes(dice, menu, 300)) is None
    assert min(verdicts.values()) > 20


def assert_sold(menu: list[PricePlan], refused: PriceArbitrage) -> None:
    """Each purchase from nothing costs what its plan says, and no plan sells the whole for less."""
    assert refused.counterexample is not None
    told, by_name = refused.counterexample, {each.name: each for each in menu}
    for one in [*told["cheaper"], told["direct"]]:
        assert cases.total(by_name[one["plan"]], one["rho_nano"]) == one["cost_minor"]
    whole = [c for each in menu if (c := cases.total(each, told["direct"]["rho_nano"])) is not None]
    assert min(whole) == told["direct"]["cost_minor"]


def test_a_cheap_plan_with_a_small_limit_beats_the_dear_one_beside_it() -> None:
    taste = {**PAY, "name": "taste", "per_rho": "1.00", "max_rho": "0.5"}
    with pytest.raises(PriceArbitrage) as refused:
        check_menu(compiled(PAY, taste))
    assert refused.value.path == "plans"
    assert_cheaper(refused.value)
    assert "under 'taste'" in str(refused.value)
    check_menu(compiled(PAY, {**taste, "per_rho": "20.00"}))
    check_menu(compiled(PAY, {**taste, "max_rho": "1.0"}))


def test_a_subscription_may_not_be_worth_less_than_two_periods_of_it() -> None:
    with pytest.raises(PriceArbitrage) as refused:
        compiled({**CLUB, "period_fee": "2.00"})
    assert refused.value.path == "period_fee"
    assert "two months, each with rho 0.3 cost 4.00 USD, rho 0.6 in one month costs 5.00 USD" in str(
        refused.value
    )
    check_menu(compiled(CLUB, PAY))


def test_a_subscriber_may_not_pay_less_by_taking_what_is_beyond_the_allowance_elsewhere() -> None:
    check_menu(compiled(PAY, CLUB))
    dear = {**CLUB, "fee": "0.30", "per_rho": "9.00"}
    with pytest.raises(PriceArbitrage) as refused:
        check_menu(compiled(PAY, dear))
    assert_cheaper(refused.value)


def test_a_private_offer_is_compared_with_what_its_organisation_sees() -> None:
    offer = {"organisation": "acme", "offered_until": "2027-01-31"}
    cheap = {**PAY, "name": "acme", "per_rho": "1.00", "max_rho": "0.5", **offer}
    with pytest.raises(PriceArbitrage):
        check_menu(compiled(PAY, cheap))
    check_menu(compiled(PAY, {**cheap, "max_rho": "1.0"}))
    other = {**cheap, "name": "globex", "organisation": "globex"}
    check_menu(compiled({**cheap, "max_rho": "1.0"}, {**other, "max_rho": "0.1"}))


def test_plans_of_two_currencies_are_not_compared() -> None:
    check_menu(
        compiled(PAY, {**PAY, "name": "taste", "currency": "EUR", "per_rho": "1.00", "max_rho": "0.5"})
    )


@pytest.mark.parametrize(
    ("document", "path", "says"),
    [
        ({**PAY, "currency": "JPY", "per_rho": "0.001"}, "per_rho", "JPY has 0 decimals"),
        ({**PAY, "per_rho": "20.005"}, "per_rho", "USD has 2 decimals and the amount has 3"),
        ({**PAY, "per_rho": "-20.00"}, "per_rho", "decimal text without sign"),
        ({**PAY, "per_rho": "1e3"}, "per_rho", "decimal text without sign"),
        ({**PAY, "per_rho": "92233720368547758.08"}, "per_rho", "larger than the books can hold"),
        ({**PAY, "currency": "XYZ"}, "currency", "not one that the exchange keeps"),
        ({**PAY, "kind": "credits"}, "bundle", "is missing"),
        ({**PAY, "kind": "credits", "bundle": "0"}, "bundle", "above 0"),
        ({**PAY, "kind": "monthly-cap", "monthly_cap": "0.00"}, "monthly_cap", "above 0"),
        (
            {**PAY, "kind": "monthly-cap", "fee": "2.00", "monthly_cap": "1.00"},
            "monthly_cap",
            "below the fee",
        ),
        ({**CLUB, "period": "week"}, "period", "known are month, year"),
        ({**CLUB, "included_rho": "2"}, "included_rho", "more rho than max_rho"),
        ({**CLUB, "bundle": "1.00"}, "bundle", "unknown"),
        (
            {"name": "all", "kind": "buy-out", "currency": "USD", "price": "9", "approval": "instant"},
            "approval",
            "the provider approves it",
        ),
        ({**PAY, "organisation": "acme"}, "offered_until", "a day such as"),
        ({**PAY, "offered_until": "2027-01-31"}, "organisation", "name of the organisation"),
        ({**PAY, "organisation": "acme", "offered_until": "soon"}, "offered_until", "a day such as"),
        ({**PAY, "per_row": "0.01"}, "per_row", "looks at the data"),
        ({**PAY, "per_second": "0.01"}, "per_second", "depends on time"),
        ({**PAY, "free_queries": 3}, "free_queries", "fresh answers that are free"),
        ({**PAY, "rounding": "up"}, "rounding", "always rounded up"),
    ],
)
def test_each_broken_field_is_named(document: dict[str, Any], path: str, says: str) -> None:
    with pytest.raises(PriceInvalid) as refused:
        PricePlan.from_document(document)
    assert refused.value.path == path
    assert says in str(refused.value)
    assert len(refused.value.hint) > 10


def test_a_plan_that_rounds_down_is_refused_with_questions_that_are_free() -> None:
    with pytest.raises(PriceArbitrage) as refused:
        PricePlan.from_document({**PAY, "rounding": "down"})
    assert_cheaper(refused.value)
    assert refused.value.path == "rounding"


def test_a_rebate_is_refused_with_the_larger_question_that_costs_less() -> None:
    with pytest.raises(PriceArbitrage) as refused:
        PricePlan.from_document({**PAY, "rebate": {"from_rho": "0.5", "percent": 20}})
    assert_cheaper(refused.value)


def test_a_listing_has_a_bounded_number_of_tiers() -> None:
    tiers = [{"up_to_rho": f"0.{i:02d}", "per_rho": "1.00"} for i in range(1, 20)] + [{"per_rho": "1.00"}]
    document = {key: value for key, value in PAY.items() if key != "per_rho"}
    with pytest.raises(PriceInvalid, match="at most 100 tiers"):
        check_menu(compiled(*({**document, "name": f"p{i}", "tiers": tiers} for i in range(6))))


@pytest.mark.parametrize(("currency", "price"), [("JPY", 21), ("USD", 201), ("KWD", 2001)])
def test_prices_are_exact_in_currencies_of_no_two_and_three_decimals(currency: str, price: int) -> None:
    one = "1" if exponent_of(currency) == 0 else f"1.{'0' * exponent_of(currency)}"
    made = PricePlan.from_document({**PAY, "currency": currency, "per_rho": one})
    assert made.price(20 * NANO if currency == "JPY" else 2 * NANO) == price - 1
    assert made.price((20 if currency == "JPY" else 2) * NANO + 1) == price
