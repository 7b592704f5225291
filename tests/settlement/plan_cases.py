"""Price plans by the hundred: good ones, bad ones, and purchases tried one by one to tell them apart."""

from __future__ import annotations

import random
from typing import Any

from settlement.money import EXPONENTS
from settlement.prices import NANO, PricePlan

CURRENCIES = ("USD", "JPY", "KWD", "CNY")


def amount(minor: int, currency: str) -> str:
    """Minor units as a plan writes them."""
    decimals = EXPONENTS[currency]
    digits = str(minor).rjust(decimals + 1, "0")
    return f"{digits[:-decimals]}.{digits[-decimals:]}" if decimals else digits


def rho(nano: int) -> str:
    return f"{nano // NANO}.{nano % NANO:09d}"


def curve(dice: random.Random, currency: str, *, rising: bool = False) -> dict[str, Any]:
    """Fields of a curve; with ``rising`` one whose rates rise."""
    count = dice.randrange(2 if rising else 1, 5)
    rates = sorted((dice.randrange(1, 5000) for _ in range(count)), reverse=True)
    if rising:
        rates[-1] = rates[0] + dice.randrange(1, 5000)
    ends = sorted(dice.sample(range(1, 2000), count - 1))
    tiers: list[dict[str, Any]] = [{"per_rho": amount(rate, currency)} for rate in rates]
    for tier, end in zip(tiers, ends, strict=False):
        tier["up_to_rho"] = rho(end * NANO // 1000)
    made: dict[str, Any] = {"tiers": tiers}
    fee = dice.choice([0, 0, dice.randrange(0, 40)])
    if fee:
        made["fee"] = amount(fee, currency)
    if not rising and dice.random() < 0.3:
        made["cap"] = amount(fee + dice.randrange(1, 4000), currency)
    return made


def plan(dice: random.Random, kind: str, currency: str, name: str = "one", **changes: Any) -> dict[str, Any]:
    """A plan of a kind in good form; a subscription's fee covers what its allowance costs on top."""
    made: dict[str, Any] = {"name": name, "kind": kind, "currency": currency, "approval": "provider"}
    if kind == "buy-out":
        return {**made, "price": amount(dice.randrange(1, 10**6), currency), **changes}
    made |= {**curve(dice, currency), "max_rho": rho(dice.randrange(1, 40) * NANO // 10)}
    if kind == "credits":
        made["bundle"] = amount(dice.randrange(1, 10**5), currency)
    if kind == "monthly-cap":
        made["monthly_cap"] = amount(dice.randrange(50, 10**5), currency)
    if kind == "subscription":
        included = dice.randrange(1, 1000) * NANO // 1000
        base = {**made, "kind": "pay-per-query"}
        covered = PricePlan.from_document(base).price(included)
        made |= {
            "period": dice.choice(["month", "year"]),
            "included_rho": rho(included),
            "max_rho": rho(included * dice.randrange(1, 30)),
            "period_fee": amount(max(1, covered) + dice.randrange(0, 1000), currency),
        }
    return {**made, **changes}


def total(made: PricePlan, rho_nano: int) -> int | None:
    """What so much rho costs in all from nothing, in one period; None where the plan does not sell so much.

    Written down from the kinds' descriptions, not from the code under test.
    """
    if made.allowance_rho_nano and rho_nano > made.allowance_rho_nano:
        return None
    if made.kind == "buy-out":
        return made.up_front_minor
    if made.kind == "subscription":
        return made.up_front_minor + made.price(max(0, rho_nano - made.included_nano))
    if made.kind == "monthly-cap":
        return min(made.price(rho_nano), made.monthly_cap_minor or 0)
    return made.price(rho_nano)


def beaten(menu: list[PricePlan], sizes: list[tuple[int, int]]) -> tuple[int, int] | None:
    """Two amounts of rho that are cheaper bought apart, under whichever plans, than together under one."""
    for one, two in sizes:
        apart = [
            a + b
            for first in menu
            for second in menu
            if (first is not second or first.kind != "buy-out")
            and (a := total(first, one)) is not None
            and (b := total(second, two)) is not None
            and (first is not second or not made_once(first, one + two))
        ]
        sold = any(each.kind != "buy-out" and total(each, one + two) is not None for each in menu)
        together = [c for each in menu if sold and (c := total(each, one + two)) is not None]
        if apart and together and min(apart) < min(together):
            return one, two
    return None


def made_once(each: PricePlan, rho_nano: int) -> bool:
    """Whether a plan cannot be bought from twice for so much: its grants share one allowance."""
    return bool(each.allowance_rho_nano) and rho_nano > each.allowance_rho_nano


def sizes(dice: random.Random, menu: list[PricePlan], count: int) -> list[tuple[int, int]]:
    """Amounts to try: by chance, and about the plans' own figures."""
    marks = [1, NANO // 1000, NANO]
    for each in menu:
        ends = [tier.up_to_nano for tier in each.curve.tiers if tier.up_to_nano]
        marks += [each.allowance_rho_nano or NANO, each.included_nano or 1, *ends]

    def one() -> int:
        if dice.random() < 0.5:
            return max(1, dice.choice(marks) + dice.choice([-1, 0, 0, 0, 1, dice.randrange(-1000, 1000)]))
        return int(10 ** dice.uniform(0, 10))

    return [(one(), one()) for _ in range(count)]
