"""What a buyer is willing to spend, read as integer rho for the releases of one statement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from privacy.accounting import ParameterInvalid, half_width, rho_to_nano, sigma_for
from privacy.algebra import Column, Literal
from privacy.conversion import rho_nano_for_gaussian_epsilon
from privacy.errors import Refused
from privacy.measures import scale_of
from privacy.values import value_of

if TYPE_CHECKING:
    from privacy.algebra import Query, Scalar, Sum
    from privacy.bounding import Lowered
    from privacy.policy import Policy


@dataclass(frozen=True)
class Ask:
    """The four ways to say what may be spent; exactly one is given."""

    rho: float | str | Decimal | None = None
    epsilon: float | None = None
    error: Mapping[str, float] | None = None
    rho_nano: int | None = None


def measures_of(query: Query, column: str) -> tuple[tuple[int, int], ...]:
    """The questions and measures that an output column shows as they are."""
    scalar = next((found for name, found in query.output.columns if name.lower() == column.lower()), None)
    return () if scalar is None else measures_shown(query, scalar)


def measures_shown(query: Query, scalar: Scalar) -> tuple[tuple[int, int], ...]:
    """The questions and measures that a scalar of the public part is, if it is released measures and nothing
    else: one, or one for each branch of a union that has any."""
    found: dict[tuple[int, int], None] = {}
    for origin in query.origins(scalar):
        if isinstance(origin, Literal):
            continue
        question = query.question_of(origin.source) if isinstance(origin, Column) else None
        if question is None or not isinstance(origin, Column) or not origin.name.startswith("m"):
            return ()
        found[question, int(origin.name[1:])] = None
    return tuple(found)


@dataclass(frozen=True)
class Budget:
    """Reads what the buyer is willing to spend on all the releases of a statement together."""

    policy: Policy
    query: Query
    lowered: tuple[Lowered, ...]

    @property
    def sums(self) -> int:
        """How many distinct sums share the budget."""
        return sum(len(one.sensitivities) for one in self.lowered)

    @property
    def thresholds(self) -> int:
        """How many releases have private keys, and share the query's delta."""
        return sum(one.units is not None for one in self.lowered)

    def rho_nano(self, ask: Ask) -> int:
        """The rho to spend.

        Raises:
            Refused: ``budget_invalid``, ``rho_too_large`` or ``rho_too_small``.
        """
        given = (ask.rho, ask.epsilon, ask.error, ask.rho_nano)
        if sum(budget is not None for budget in given) != 1:
            message = "Exactly one of rho, epsilon, error and rho_nano says what may be spent."
            raise Refused("budget_invalid", message, hint="Give one of them, for example rho=0.01.")
        if any(isinstance(budget, int) and abs(budget) >= 10**18 for budget in given):
            raise Refused("budget_invalid", "The budget is out of range.", hint="As in rho=0.01.")
        if ask.rho is not None:
            spend = rho_to_nano(ask.rho, budget=True)
        elif ask.epsilon is not None:
            spend = self._for_epsilon(ask.epsilon)
        elif ask.error is not None:
            spend = self._for_error(ask.error)
        else:
            spend = _whole(ask.rho_nano)
        self._check(spend)
        return spend

    def _check(self, spend: int) -> None:
        most = self.policy.max_rho_per_query_nano
        if spend > most:
            message = f"This would spend rho = {spend / 1e9:g}; one query may spend {most / 1e9:g}."
            raise Refused(
                "rho_too_large", message, hint="Ask with less rho, a larger error or fewer aggregates."
            )
        least = max(self.policy.min_rho_per_query_nano, self.sums)
        if spend < least:
            message = f"This would spend rho = {spend / 1e9:g}, which is too little."
            hint = f"Ask with rho = {Decimal(least).scaleb(-9).normalize():f} or more, or a smaller error."
            raise Refused("rho_too_small", message, hint=hint)

    def _for_epsilon(self, asked: float) -> int:
        spent = self.policy.max_delta_per_query_pico if self.thresholds else 0
        if spent >= self.policy.delta_pico:
            message = "The policy leaves no delta to state an epsilon at."
            raise Refused("budget_invalid", message, hint="Ask with rho.")
        least = min(squared for one in self.lowered for squared in one.sensitivities)
        return rho_nano_for_gaussian_epsilon(asked, self.policy.delta_pico - spent, least)

    def _for_error(self, asked: Mapping[str, float]) -> int:
        if not isinstance(asked, Mapping) or not asked:
            raise Refused("budget_invalid", "No column is named.", hint="Name one, as in error={'n': 25}.")
        shares = [self._share(name, half) for name, half in asked.items()]
        return max(shares) * self.sums

    def _share(self, name: str, half: float) -> int:
        """The least rho for the sums behind a column whose 95% half-width is at most ``half``."""
        counted = self._counted(name)
        number = value_of(half, "decimal") if isinstance(half, int | float | Decimal) else None
        if not isinstance(number, Decimal) or not Decimal("1e-12") <= number < 10**18:
            message = "A half-width must be a number above 0 and below 1e18."
            raise Refused("budget_invalid", message, hint="As in error={'n': 25}, or ask with rho.")
        most = self.policy.max_rho_per_query_nano
        return max(
            least_rho_nano(one.sensitivity_squared, _released_half(int(number.scaleb(decimals)), one), most)
            for one, decimals in counted
        )

    def _counted(self, name: str) -> list[tuple[Sum, int]]:
        """The sums behind a column, one a measure, each with the decimals it is scaled back by."""
        found: list[tuple[Sum, int]] = []
        for place, measured in measures_of(self.query, name) if isinstance(name, str) else ():
            measure, lowered = self.query.questions[place].measures[measured], self.lowered[place]
            decimals = scale_of(measure)
            if decimals is None:
                found = []
                break
            (part,) = lowered.parts[measured]
            found.append((part, decimals))
        if found:
            return found
        message = f"An error can be asked for a COUNT or SUM column of the result, and {name} is none."
        raise Refused("budget_invalid", message, hint="Name such a column, or ask with rho.")


def _released_half(half: int, one: Sum) -> int:
    """A half-width in the unit of the released column; where that holds fractions, less the room for
    rounding."""
    return half if one.shift == 0 else (half << one.shift) - (1 << one.shift - 1)


def _whole(number: int | None) -> int:
    if isinstance(number, bool) or not isinstance(number, int) or number <= 0:
        raise Refused(
            "budget_invalid", "rho_nano must be a positive whole number.", hint="As in rho_nano=10_000_000."
        )
    return number


def least_rho_nano(sensitivity_squared: int, half: int, most: int) -> int:
    """The least nano-rho whose discrete Gaussian has a 95% half-width of at most ``half`` (an integer).

    Raises:
        Refused: ``rho_too_large`` when not even ``most`` is enough.
    """

    def wide(rho: int) -> bool:
        try:
            return half_width(sigma_for(sensitivity_squared, rho)) > half
        except ParameterInvalid:
            return True

    if wide(most):
        message = "No rho that one query may spend gives this error."
        raise Refused("rho_too_large", message, hint="Ask for a larger error, or set smaller caps.")
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if wide(middle) else (low, middle)
    return high
