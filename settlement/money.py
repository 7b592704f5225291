"""Money as integers of a currency's minor unit, read strictly and split without losing any."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from settlement.errors import AmountInvalid

if TYPE_CHECKING:
    from collections.abc import Sequence

_NO_DECIMALS = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF"
_TWO_DECIMALS = (
    "AED AFN ALL AMD AOA ARS AUD AZN BAM BBD BDT BND BOB BRL BSD BWP BZD CAD CHF CNY COP CRC CVE CZK DKK "
    "DOP DZD EGP ETB EUR FJD GBP GEL GHS GTQ GYD HKD HNL HTG HUF IDR ILS INR JMD KES KGS KHR KZT LAK LBP "
    "LKR MAD MDL MGA MKD MMK MNT MOP MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR "
    "PLN QAR RON RSD RUB SAR SCR SEK SGD THB TJS TRY TTD TWD TZS UAH USD UYU UZS WST XCD YER ZAR ZMW"
)
_THREE_DECIMALS = "BHD IQD JOD KWD LYD OMR TND"

#: Decimals of each currency's minor unit (ISO 4217).
EXPONENTS: dict[str, int] = {
    code: decimals
    for decimals, codes in ((0, _NO_DECIMALS), (2, _TWO_DECIMALS), (3, _THREE_DECIMALS))
    for code in codes.split()
}

#: Every amount and every total of the books stays below this, so that no sum of two leaves 64 bits.
AMOUNT_LIMIT = 2**62

_AMOUNT = re.compile(r"(0|[1-9][0-9]{0,18})(?:\.([0-9]{1,3}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Money:
    """A non-negative amount in minor units (cents, yen, fils) of one currency.

    Raises AmountInvalid when the amount is not an integer in [0, 2^62) or the currency is unknown.
    """

    amount_minor: int
    currency: str

    def __post_init__(self) -> None:
        exponent_of(self.currency)
        _integer(self.amount_minor)
        if not 0 <= self.amount_minor < AMOUNT_LIMIT:
            raise AmountInvalid(f"{self.amount_minor} is outside 0 to 2^62 minor units.")

    def __str__(self) -> str:
        return f"{format_amount(self.amount_minor, self.currency)} {self.currency}"


def exponent_of(currency: str) -> int:
    """Decimals of the currency; AmountInvalid for one that the books do not keep."""
    if not isinstance(currency, str) or currency not in EXPONENTS:
        raise AmountInvalid(
            "The currency is not one that the exchange keeps.",
            hint="Use the three letters of ISO 4217, such as USD.",
        )
    return EXPONENTS[currency]


def parse_amount(text: str, currency: str) -> int:
    """Read decimal text in major units as minor units: ``parse_amount("100.5", "USD") == 10050``.

    Plain digits and a point only. AmountInvalid for a sign, an exponent, separators, spaces, more decimals
    than the currency has, anything that is not text (a float has lost its cents already), and 2^62 or more.
    """
    decimals = exponent_of(currency)
    match = _AMOUNT.fullmatch(text) if isinstance(text, str) and len(text) <= 24 else None
    if match is None:
        raise AmountInvalid("An amount is decimal text without sign, exponent or separators, such as 100.00.")
    fraction = match[2] or ""
    if len(fraction) > decimals:
        raise AmountInvalid(f"{currency} has {decimals} decimals and the amount has {len(fraction)}.")
    amount = int(match[1] + fraction.ljust(decimals, "0"))
    if amount >= AMOUNT_LIMIT:
        raise AmountInvalid("The amount is larger than the books can hold.")
    return amount


def format_amount(amount_minor: int, currency: str) -> str:
    """Minor units as decimal text in major units, with a minus sign below zero: 10050 USD -> "100.50"."""
    decimals = exponent_of(currency)
    sign = "-" if _integer(amount_minor) < 0 else ""
    digits = str(abs(amount_minor)).rjust(decimals + 1, "0")
    return sign + (f"{digits[:-decimals]}.{digits[-decimals:]}" if decimals else digits)


def allocate(amount_minor: int, weights: Sequence[int]) -> list[int]:
    """Split an amount by integer weights; the parts add up to it exactly.

    Largest-remainder rule (Hamilton): each part is first rounded down, then the units left over go to the
    largest remainders, ties to the earlier weight. AmountInvalid for a negative amount or weight, or no
    positive weight.
    """
    if _integer(amount_minor) < 0 or any(_integer(weight) < 0 for weight in weights) or not any(weights):
        raise AmountInvalid(
            "Only a non-negative amount can be split, by non-negative weights that are not all 0."
        )
    total = sum(weights)
    parts = [amount_minor * weight // total for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda i: (-(amount_minor * weights[i] % total), i))
    for i in by_remainder[: amount_minor - sum(parts)]:
        parts[i] += 1
    return parts


def _integer(value: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise AmountInvalid("Minor units and weights are integers.")
    return value
