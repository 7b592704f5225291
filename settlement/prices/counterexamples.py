"""Purchases that beat a price: who buys cleverly pays less than who buys directly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from settlement.documents import format_rho
from settlement.money import format_amount

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_COUNTS = {1: "one query", 2: "two queries"}
_MOST = 10


@dataclass(frozen=True, slots=True)
class Purchase:
    """``times`` queries of ``rho_nano`` each, for ``cost_minor`` in all.

    ``plan`` names the plan where several are compared; ``how`` replaces the words for what is bought.
    """

    times: int
    rho_nano: int
    cost_minor: int
    plan: str = ""
    how: str = ""

    def in_words(self) -> str:
        """What is bought: "two queries of rho 0.005"."""
        bought = self.how or f"{_COUNTS.get(self.times, f'{self.times} queries')} of rho {{rho}}"
        words = bought.format(rho=format_rho(self.rho_nano))
        return f"{words} under {self.plan!r}" if self.plan else words

    def document(self, currency: str) -> dict[str, Any]:
        """The purchase as JSON."""
        told = {
            "times": self.times,
            "rho": format_rho(self.rho_nano),
            "rho_nano": self.rho_nano,
            "cost": format_amount(self.cost_minor, currency),
            "cost_minor": self.cost_minor,
            "in_words": self.in_words(),
        }
        return {**told, "plan": self.plan} if self.plan else told


@dataclass(frozen=True, slots=True)
class Counterexample:
    """``cheaper`` costs less in all than ``direct`` and is worth as much or more.

    ``rho_bought`` of the cheaper side is at least that of the direct one: its answers averaged are at least
    as accurate.
    """

    cheaper: tuple[Purchase, ...]
    direct: Purchase
    currency: str

    @property
    def holds(self) -> bool:
        """Whether the cheaper side buys as much rho, for less."""
        rho = sum(one.times * one.rho_nano for one in self.cheaper)
        return rho >= self.direct.times * self.direct.rho_nano and self.cost_minor < self.direct.cost_minor

    @property
    def cost_minor(self) -> int:
        """What the cheaper side costs together."""
        return sum(one.cost_minor for one in self.cheaper)

    def __str__(self) -> str:
        cost, direct = (
            f"{format_amount(minor, self.currency)} {self.currency}"
            for minor in (self.cost_minor, self.direct.cost_minor)
        )
        cheaper = " and ".join(one.in_words() for one in self.cheaper)
        verb = "costs" if len(self.cheaper) == 1 and self.cheaper[0].times == 1 else "cost"
        single = self.direct.in_words()
        if len(self.cheaper) == 1 and not self.cheaper[0].plan and not self.direct.how:
            single = f"one of {format_rho(self.direct.rho_nano)}"
        together = " together" if len(self.cheaper) > 1 else ""
        return f"{cheaper} {verb} {cost}{together}, {single} costs {direct}"

    def document(self) -> dict[str, Any]:
        """The counterexample as JSON."""
        return {
            "currency": self.currency,
            "cheaper": [one.document(self.currency) for one in self.cheaper],
            "cheaper_cost": format_amount(self.cost_minor, self.currency),
            "direct": self.direct.document(self.currency),
            "direct_cost": format_amount(self.direct.cost_minor, self.currency),
        }


def find_arbitrage(price: Callable[[int], int], sizes: Sequence[int]) -> tuple[int, int] | None:
    """(n, x) such that n queries of x nano-rho cost less than one of n * x; None if no tried purchase does.

    Fewest queries first, then the smallest x among ``sizes``.
    """
    for n in range(2, _MOST + 1):
        for x in sorted(sizes):
            if n * price(x) < price(n * x):
                return n, x
    return None


def split(price: Callable[[int], int], sizes: Sequence[int], currency: str) -> Counterexample | None:
    """Several smaller queries that cost less than one of all their rho, where a tried size shows it."""
    found = find_arbitrage(price, sizes)
    if found is None:
        return None
    n, x = found
    return Counterexample((Purchase(n, x, n * price(x)),), Purchase(1, n * x, price(n * x)), currency)


def falling(price: Callable[[int], int], sizes: Iterable[int], currency: str) -> Counterexample | None:
    """A larger query that costs less than a smaller one, just below one of the sizes."""
    for x in sorted(sizes):
        for less in (x - 1, x - x // 20, x // 2):
            if 0 < less < x and price(x) < price(less):
                return Counterexample((Purchase(1, x, price(x)),), Purchase(1, less, price(less)), currency)
    return None
