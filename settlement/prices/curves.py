"""g itself: a fee per query, tiers of marginal rates, a cap per query; exact, in integers."""

from __future__ import annotations

from dataclasses import dataclass

NANO = 10**9


@dataclass(frozen=True, slots=True)
class Tier:
    """Rho up to ``up_to_nano`` (None: without end) costs ``minor_per_rho`` minor units per 1 rho."""

    up_to_nano: int | None
    minor_per_rho: int


@dataclass(frozen=True, slots=True)
class Curve:
    """A fee per query, tiers of marginal rates, a cap per query; all in minor units."""

    fee_minor: int
    tiers: tuple[Tier, ...]
    cap_minor: int | None = None

    def price(self, rho_nano: int) -> int:
        """Minor units for one query of so much rho, rounded up; 0 for 0. ValueError for a negative rho."""
        return -(-self.exact_nano(rho_nano) // NANO)

    def exact_nano(self, rho_nano: int) -> int:
        """The price before it is rounded up, in 1e-9 minor units: concave for positive rho."""
        if rho_nano < 0:
            raise ValueError("rho is never negative")
        if rho_nano == 0:
            return 0
        price = self.fee_minor * NANO + self._tiers_nano(rho_nano)
        return price if self.cap_minor is None else min(self.cap_minor * NANO, price)

    def kinks(self) -> list[int]:
        """Where the price may change its slope, in nano-rho: ends of tiers, and where the cap is reached."""
        ends = [tier.up_to_nano for tier in self.tiers if tier.up_to_nano is not None]
        return [*ends, *self._cap_reached()]

    def _cap_reached(self) -> list[int]:
        """The rho at which the cap is reached, rounded down and up; empty where it is not."""
        if self.cap_minor is None:
            return []
        room, start = (self.cap_minor - self.fee_minor) * NANO, 0
        for tier in self.tiers:
            width = None if tier.up_to_nano is None else tier.up_to_nano - start
            if tier.minor_per_rho and (width is None or width * tier.minor_per_rho >= room):
                reached = start + room // tier.minor_per_rho
                return [reached, reached + 1]
            room -= (width or 0) * tier.minor_per_rho
            start = tier.up_to_nano or start
        return []

    def _tiers_nano(self, rho_nano: int) -> int:
        cost, start = 0, 0
        for tier in self.tiers:
            end = rho_nano if tier.up_to_nano is None else min(rho_nano, tier.up_to_nano)
            cost += max(0, end - start) * tier.minor_per_rho
            start = end
        return cost


#: What is paid for otherwise: a query costs nothing more.
FREE = Curve(0, (Tier(None, 0),))
