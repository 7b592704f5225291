"""Whether the plans of one listing beat one another: a menu of plans is held to what each plan is held to.

What a buyer pays in all for rho x under plan i, starting with nothing, is F_i(x): g for a plan without a fee
(credit counts at its face value: what is over is spent later), min(cap, g) in a month with a cap, fee +
g(x - allowance) in a period of a subscription, the price for a buy-out; each up to the plan's max_rho. The
direct price of x is h(x), the least F_k(x) of the plans that sell so much. What nothing but a buy-out sells
has no direct price: who buys all that is left also buys that nobody else has it. A menu is refused where
some F_i(x) + F_j(y) < h(x + y): two purchases under two plans, averaged, beat buying directly.

Each F is linear between a few points. For a given sum the cheapest split lies where one part is as small as
can be, a whole allowance, or a whole max_rho, because everywhere else F_i is concave; the gap to h is largest
where a slope changes, a limit ends, or two plans cross. Those points are all tried, in exact arithmetic:
rounding up to minor units keeps subadditivity, because ceil(a) + ceil(b) >= ceil(a + b).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, pairwise, permutations
from typing import TYPE_CHECKING

from settlement.errors import PriceArbitrage, PriceInvalid
from settlement.prices.counterexamples import Counterexample, Purchase
from settlement.prices.curves import NANO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from settlement.prices.plans import PricePlan

_ENDLESS = 10**18
_SMALL = (10**8, 10**7, 10**6, 10**5, 10**3, 1)
"""Amounts to show where a part may be as small as can be."""
_MOST_TIERS = 100
_HINT = "Bring the plans into line: what is sold apart may not cost less than the same sold together."
_TOO_SMALL = "two plans beat each other by less than the smallest coin: bring them into line"


def check_menu(plans: Sequence[PricePlan]) -> None:
    """Refuse a listing whose plans beat one another, for everybody and for each organisation with an offer.

    Plans of different currencies are not compared. PriceArbitrage names the purchases; PriceInvalid where the
    listing has too many tiers, or what is gained is hidden by rounding.
    """
    if sum(len(plan.curve.tiers) for plan in plans) > _MOST_TIERS:
        raise PriceInvalid("plans", f"the plans of a listing have at most {_MOST_TIERS} tiers together")
    for reader in sorted({plan.organisation for plan in plans} | {""}):
        offered = [plan for plan in plans if plan.organisation in ("", reader)]
        for currency in sorted({plan.currency for plan in offered}):
            menu = [_Offer(plan) for plan in offered if plan.currency == currency]
            found = _mixed(menu)
            if found is not None:
                raise PriceArbitrage("plans", str(found), hint=_HINT, counterexample=found.document())


@dataclass(frozen=True)
class _Offer:
    """A plan as a way to buy rho."""

    plan: PricePlan

    @cached_property
    def limit(self) -> int:
        """How much rho may be bought under it."""
        return self.plan.allowance_rho_nano or _ENDLESS

    def exact(self, rho_nano: int) -> int:
        """F in 1e-9 minor units."""
        plan = self.plan
        if plan.buys_out:
            return plan.up_front_minor * NANO
        if plan.period is not None:
            beyond = plan.curve.exact_nano(max(0, rho_nano - plan.included_nano))
            return plan.up_front_minor * NANO + beyond
        return self.marginal(rho_nano)

    def marginal(self, rho_nano: int) -> int:
        """What a query costs on top, with no allowance left, in 1e-9 minor units."""
        exact, cap = self.plan.curve.exact_nano(rho_nano), self.plan.monthly_cap_minor
        return exact if cap is None else min(exact, cap * NANO)

    @cached_property
    def points(self) -> list[int]:
        """Where F changes its slope."""
        plan = self.plan
        kinks = [1, *plan.curve.kinks(), *_reached(self.marginal, plan.monthly_cap_minor)]
        shifted = [kink + plan.included_nano for kink in kinks] if plan.period is not None else []
        own = [*kinks, *shifted, plan.included_nano, self.limit if self.limit < _ENDLESS else 0]
        return sorted({point for point in own if 0 < point <= self.limit})

    @cached_property
    def ends(self) -> list[int]:
        """The parts that a cheapest split is made of."""
        own = (1, self.plan.included_nano, self.limit if self.limit < _ENDLESS else 0)
        return sorted({point for point in own if 0 < point <= self.limit})

    def bought(self, rho_nano: int) -> Purchase:
        """A purchase under the plan, from nothing."""
        plan = self.plan
        how = ""
        if plan.buys_out:
            how = "a buy-out, of which rho {rho} is used,"
        elif plan.period is not None:
            how = f"a {plan.period} with rho {{rho}}"
        return Purchase(1, rho_nano, _up(self.exact(rho_nano)), plan=plan.name, how=how)


def _mixed(menu: list[_Offer]) -> Counterexample | None:
    """Purchases under two plans that cost less than their sum costs directly."""
    sums = _sums(menu)
    hidden = False
    for first, second in permutations(menu, 2):
        for part in first.ends:
            rests = {*second.points, *(total - part for total in sums)}
            for rest in sorted(rest for rest in rests if 0 < rest <= second.limit):
                if _gap(menu, first, second, part, rest) > 0:
                    found = _written(menu, first, second, part, rest)
                    if found is not None:
                        return found
                    hidden = True
    if hidden:
        raise PriceInvalid("plans", _TOO_SMALL)
    return None


def _gap(menu: list[_Offer], first: _Offer, second: _Offer, part: int, rest: int) -> int:
    """By how much a split is cheaper than buying directly, in 1e-9 minor units; below 0 where nobody sells
    so much.
    """
    direct = _direct(menu, part + rest)
    return -1 if direct is None else direct.exact(part + rest) - first.exact(part) - second.exact(rest)


def _direct(menu: list[_Offer], rho_nano: int) -> _Offer | None:
    """The cheapest plan that sells so much."""
    selling = [offer for offer in menu if rho_nano <= offer.limit]
    if all(offer.plan.buys_out for offer in selling):
        return None
    return min(selling, key=lambda offer: offer.exact(rho_nano))


def _written(
    menu: list[_Offer], first: _Offer, second: _Offer, part: int, rest: int
) -> Counterexample | None:
    """The split in minor units, with a rounder amount of rho where one does it as well."""
    for some in _SMALL if part == 1 else (part,):
        for tried in _rounder(rest, second.limit):
            direct = _direct(menu, some + tried) if some <= first.limit else None
            if direct is not None:
                cheaper = first.bought(some), second.bought(tried)
                found = Counterexample(cheaper, direct.bought(some + tried), first.plan.currency)
                if found.holds:
                    return found
    return None


def _sums(menu: list[_Offer]) -> list[int]:
    """Where the direct price changes its slope or jumps."""
    points = {point for offer in menu for point in (*offer.points, offer.limit + 1) if point <= _ENDLESS}
    ordered = sorted(points)
    for one, two in combinations(menu, 2):
        points.update(_crossings(one.exact, two.exact, ordered))
    return sorted(points)


def _crossings(one: Callable[[int], int], two: Callable[[int], int], points: Iterable[int]) -> Iterable[int]:
    """Where two lines between neighbouring points cross, rounded down and up."""
    gaps = [(point, one(point) - two(point)) for point in points]
    for (a, before), (b, after) in pairwise(gaps):
        if (before < 0) != (after < 0):
            crossing = a + (b - a) * abs(before) // (abs(before) + abs(after))
            yield crossing
            yield min(b, crossing + 1)


def _reached(price: Callable[[int], int], cap_minor: int | None) -> list[int]:
    """Where a price reaches a month's cap, by bisection; empty where there is no cap."""
    if cap_minor is None or price(_ENDLESS) < cap_minor * NANO:
        return []
    low, high = 0, _ENDLESS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if price(middle) >= cap_minor * NANO else (middle, high)
    return [point for point in (low, high) if point]


def _rounder(rho_nano: int, limit: int) -> list[int]:
    """Amounts to try instead of one, the roundest first: people compare 0.01 more easily than 0.010000001."""
    tried = []
    for digits in (1, 2, 3):
        step = 10 ** max(0, len(str(rho_nano)) - digits)
        tried += [-(-rho_nano // step) * step, rho_nano // step * step]
    for power in range(9, 3, -1):
        tried += [10**power, 5 * 10 ** (power - 1)]
    near = [rho_nano + step for step in (0, 1, -1, 10, -10, 1000, -1000)]
    return [one for one in dict.fromkeys([*tried, *near]) if 0 < one <= limit]


def _up(exact_nano: int) -> int:
    return -(-exact_nano // NANO)
