"""How a question is bounded, chosen from a contribution profile so that its error is expected to be least.

For each strategy every sum gets the limit that `privacy.limits` finds best; the strategy with the least
squared errors over the question's aggregates is chosen. Without a profile, or where the buyer names
strategy or caps, there is nothing to choose: `privacy.bounding.plain_design`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from privacy.bounding import MAX_SHOWN, Design, grid_of, plain_design
from privacy.drafts import SHOWING, Draft, Setting
from privacy.population import population_of
from privacy.shapes import TYPICAL, sizes_of

if TYPE_CHECKING:
    from privacy.algebra import Question
    from privacy.bounding import Options
    from privacy.drafts import Expected
    from privacy.policy import Table
    from privacy.population import Population
    from privacy.profile import Profile
    from privacy.shapes import Sizes

_STEEP = 6.0
"""A threshold lies about so many deviations of its noise above nothing."""
_FEWEST_SHOWN = 64
_BUSIEST = 0.005
"""The share of units that may have more groups than one unit may bring about."""


@dataclass(frozen=True)
class Candidate:
    """One strategy for a question.

    Attributes:
        expected: for each of the question's measures.
    """

    design: Design
    expected: tuple[Expected, ...]

    @property
    def cost(self) -> int:
        """The mean squared error over the measures, in millionths: what is compared."""
        squares = [one.error * one.error for one in self.expected]
        return round(math.fsum(squares) / max(len(squares), 1) * 1e6)


@dataclass(frozen=True)
class Choice:
    """The design of a question, and what else might have been chosen, the best first.

    Attributes:
        expected: for each measure what a profile expects of it; empty without one.
        sizes: how much there is to read, as far as a profile tells.
    """

    design: Design
    expected: tuple[Expected, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    sizes: Sizes = TYPICAL


def choose(
    question: Question,
    table: Table,
    options: Options,
    profile: Profile | None,
    rho_nano: int,
    *,
    rescale: bool,
) -> Choice:
    """Choose how a question is bounded.

    Args:
        rho_nano: about what the question may cost.
        rescale: whether totals may be released to make up for what is not counted.

    Raises:
        Refused: ``too_many_groups`` or ``option_invalid``.
    """
    plain = plain_design(question, table, options)
    population = None if profile is None else population_of(question, table, profile)
    if population is None:
        return Choice(plain)
    setting = _setting(question, table, population, rho_nano, rescale=rescale)
    asked = (options.strategy, options.max_groups, options.max_rows_per_group, options.max_rows)
    caps = plain_design(question, table, replace(options, strategy="caps")) if question.keys else plain
    candidates = [_candidate(setting, caps, best=False)]
    if plain.strategy == "none" or any(one is not None for one in asked):
        candidates = [_candidate(setting, plain, best=False)]
    else:
        for strategy in ("clip", "weights"):
            free = Design(strategy, 1, 1, _shown(setting), plain.most, plain.fits, plain.distinct)
            candidates.append(_candidate(setting, free, best=True))
    candidates.sort(key=lambda one: (one.cost, one.design.strategy))
    best = candidates[0]
    return Choice(best.design, best.expected, tuple(candidates), sizes_of(population))


def _candidate(setting: Setting, base: Design, *, best: bool) -> Candidate:
    draft = Draft(setting, base, best)
    expected = draft.expected()
    return Candidate(draft.design() if best else base, expected)


def _setting(
    question: Question, table: Table, population: Population, rho_nano: int, *, rescale: bool
) -> Setting:
    private = bool(question.keys) and grid_of(question) is None
    k = math.sqrt(1e9 / (2 * max(rho_nano, 1)))
    groups = 1.0
    if question.keys:
        groups = _groups_shown(population, k) if private else float(grid_of(question) or 1)
    scaled = rescale and (bool(question.keys) or population.more is not None)
    totals = (2 if private else 1) if scaled else 0
    return Setting(question, table, population, k, groups, private, totals)


def _groups_shown(population: Population, k: float) -> float:
    """How many groups there are of the size of one that is about to be shown: with one and a half times the
    units that its threshold asks for, of whom each counts as much as who has as many groups may."""
    kinds = population.kinds
    groups = math.fsum(one.units * one.groups for one in kinds)
    counted = math.fsum(one.units * math.sqrt(one.groups) for one in kinds)
    units = 1.5 * (1 + _STEEP * k / math.sqrt(SHOWING)) * groups / counted
    return max(groups / units, 1.0)


def _shown(setting: Setting) -> int:
    """Groups that one unit may bring about: as many as all but a few of the units have."""
    if not setting.private:
        return 1
    kinds = sorted(setting.population.kinds, key=lambda one: one.groups)
    left = _BUSIEST * math.fsum(one.units for one in kinds)
    while len(kinds) > 1 and kinds[-1].units < left:
        left -= kinds.pop().units
    return min(max(1 << math.ceil(kinds[-1].groups).bit_length(), _FEWEST_SHOWN), MAX_SHOWN)
