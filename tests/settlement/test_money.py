from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from settlement.errors import AmountInvalid
from settlement.money import EXPONENTS, Money, allocate, format_amount, parse_amount


@pytest.mark.parametrize(
    ("text", "currency", "minor"),
    [
        ("100.00", "USD", 10_000),
        ("100", "USD", 10_000),
        ("0.1", "USD", 10),
        ("0", "USD", 0),
        ("1500", "JPY", 1500),
        ("1.005", "KWD", 1005),
        ("46116860184273879.03", "USD", 4_611_686_018_427_387_903),
    ],
)
def test_amounts_are_read_in_the_currency_s_own_decimals(text: str, currency: str, minor: int) -> None:
    assert parse_amount(text, currency) == minor


@pytest.mark.parametrize(
    ("text", "currency"),
    [
        ("-1", "USD"),
        ("+1", "USD"),
        ("1e2", "USD"),
        ("1,000", "USD"),
        (" 1", "USD"),
        ("1\n", "USD"),
        ("1.", "USD"),
        (".5", "USD"),
        ("01", "USD"),
        ("", "USD"),
        ("1.005", "USD"),
        ("0.001", "JPY"),
        ("1.0", "JPY"),
        ("٣", "USD"),
        ("NaN", "USD"),
        ("9" * 5000, "USD"),
        ("46116860184273879.04", "USD"),
        ("1", "usd"),
        ("1", "XXX"),
        (1.0, "USD"),
        (1, "USD"),
        (None, "USD"),
        ("1", None),
    ],
)
def test_what_is_not_an_amount_is_refused(text: Any, currency: Any) -> None:
    with pytest.raises(AmountInvalid) as refused:
        parse_amount(text, currency)
    assert refused.value.code == "amount_invalid"


@given(st.integers(-(2**62) + 1, 2**62 - 1), st.sampled_from(sorted(EXPONENTS)))
def test_formatting_is_the_inverse_of_reading(minor: int, currency: str) -> None:
    text = format_amount(minor, currency)
    assert (-1 if text.startswith("-") else 1) * parse_amount(text.removeprefix("-"), currency) == minor


def test_money_is_a_non_negative_integer_of_a_known_currency() -> None:
    assert str(Money(5, "USD")) == "0.05 USD"
    assert str(Money(5, "JPY")) == "5 JPY"
    bad: list[tuple[Any, str]] = [(-1, "USD"), (2**62, "USD"), (1.0, "USD"), (True, "USD"), (1, "ABC")]
    for amount, currency in bad:
        with pytest.raises(AmountInvalid):
            Money(amount, currency)


def test_the_largest_remainder_takes_the_cent_and_ties_go_to_the_earlier() -> None:
    assert allocate(100, [1, 1, 1]) == [34, 33, 33]
    assert allocate(5, [70, 30]) == [4, 1]
    assert allocate(1, [3, 7]) == [0, 1]
    assert allocate(0, [1, 2]) == [0, 0]
    assert allocate(7, [0, 1]) == [0, 7]


def test_ten_thousand_random_splits_lose_nothing() -> None:
    random_ = random.Random(20261122)
    for _ in range(10_000):
        amount = random_.randrange(2 ** random_.randrange(1, 62))
        weights = [random_.randrange(2 ** random_.randrange(1, 40)) for _ in range(random_.randrange(1, 9))]
        weights[random_.randrange(len(weights))] += 1
        parts = allocate(amount, weights)
        assert sum(parts) == amount
        total = sum(weights)
        assert all(
            abs(part * total - amount * weight) < total for part, weight in zip(parts, weights, strict=True)
        )


@pytest.mark.parametrize(
    ("amount", "weights"), [(-1, [1]), (1, []), (1, [0]), (1, [-1, 2]), (1.5, [1]), (1, [0.5])]
)
def test_splits_that_make_no_sense_are_refused(amount: Any, weights: Any) -> None:
    with pytest.raises(AmountInvalid):
        allocate(amount, weights)


def test_a_hundred_thousand_random_splits_lose_nothing_and_are_fair() -> None:
    dice = random.Random(19)
    for _ in range(100_000):
        amount = dice.randrange(10 ** dice.randrange(1, 18))
        weights = [dice.randrange(10_001) for _ in range(dice.randrange(1, 5))]
        weights[0] += 1  # not all of them are 0
        parts, total = allocate(amount, weights), sum(weights)
        assert sum(parts) == amount
        assert all(
            part * total - amount * weight in range(1 - total, total)
            for part, weight in zip(parts, weights, strict=True)
        ), "each part is within one minor unit of its exact share"
