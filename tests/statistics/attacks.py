"""The attacks that are audited: each a claim, and outcomes on two neighbouring databases.

Most are one entry of `tests.statistics.cases`: statements, a pair of neighbours, and what the buyer pays.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import privacy
from privacy.auditor import Choice, Claim, Verdict, audit, half_lines, kinds
from tests.statistics.databases import POLICY, Pair, Tables
from tests.statistics.sampling import (
    RUN,
    SALT,
    Engine,
    Exact,
    Reader,
    Ruler,
    contrast,
    released,
    scores,
    stacked,
)

Sampler = Callable[[int], Sequence[Any]]
LEAST_RUNS = 40


@dataclass(frozen=True)
class Attack:
    """What `privacy.auditor.audit` needs to know, and a name. ``share`` of the runs are made of it."""

    name: str
    claim: Claim
    larger: Sampler
    smaller: Sampler
    events: Choice[Any] = half_lines
    share: float = 1.0

    def audit(self, runs: int, confidence: float) -> Verdict:
        made = max(LEAST_RUNS, int(runs * self.share))
        return audit(self.claim, self.larger, self.smaller, self.events, made, confidence)


@dataclass(frozen=True)
class Fault:
    """What a planted fault changes of a case: nothing, by default.

    Attributes:
        ran: makes of each plan the one whose exact part is run in its place.
        tamper: changes an exact table, or what is released of it.
    """

    ran: Callable[[privacy.Plan], privacy.Plan] | None = None
    tamper: Callable[[Exact], Exact] | None = None


NONE = Fault()


@dataclass(frozen=True)
class Case:
    """Statements asked of both neighbours; the buyer weighs everything that is released as well as can be.

    Attributes:
        name: the attack.
        sql: statements, all of them asked.
        pair: makes the neighbours.
        rho: paid for each statement.
        promise: the claim, where it is not simply the sum of what is charged.
        repeats: how often each is asked, with fresh noise.
        salts: each is asked of so many versions of the dataset, which differ in their salts alone.
        factors: looks at this combination of the numbers that the statements show.
        read: looks at the rows that a buyer is shown.
        row_by_row: the public part makes one row of each released row, so that one run of it serves all.
        separate: one call of `perturb` for each run, as in life, instead of one for many.
        share: of the runs, for attacks that are slow or need many.
    """

    name: str
    sql: str | tuple[str, ...]
    pair: Callable[[], Pair]
    rho: float = 0.5
    options: privacy.Options = field(default_factory=privacy.Options)
    policy: privacy.Policy = POLICY
    promise: Claim | None = None
    repeats: int = 1
    salts: tuple[bytes, ...] = (SALT,)
    factors: tuple[float, ...] = ()
    read: Reader | None = None
    events: Choice[Any] = kinds
    row_by_row: bool = False
    separate: bool = False
    share: float = 1.0

    def plans(self) -> list[tuple[privacy.Plan, bytes]]:
        """Every plan that is answered, once for each time that it is, and the salt of the version."""
        statements = (self.sql,) if isinstance(self.sql, str) else self.sql
        planned = [privacy.plan(sql, self.policy, rho=self.rho, options=self.options) for sql in statements]
        return [(plan, salt) for _ in range(self.repeats) for salt in self.salts for plan in planned]

    def claim(self) -> Claim:
        """What is charged in all: zCDP composes by addition, and so does delta."""
        costs = [plan.cost for plan, _ in self.plans()]
        return self.promise or Claim.zcdp(
            sum(cost.rho_nano for cost in costs), sum(cost.delta_pico for cost in costs)
        )

    def attack(self, engine: Engine, fault: Fault = NONE) -> Attack:
        """The attack, with the exact part run once for each of the neighbours."""
        pair = self.pair()
        larger, smaller = (self._exact(engine, side, fault) for side in (pair.larger, pair.smaller))
        rulers = [Ruler.between(one, other) for one, other in zip(larger, smaller, strict=True)]
        if all(ruler.blind for ruler in rulers):
            raise AssertionError(f"{self.name}: the victim moves nothing, so that nothing can be refuted")
        attack = Attack(
            self.name,
            self.claim(),
            lambda runs: self._outcomes(larger, rulers, runs),
            lambda runs: self._outcomes(smaller, rulers, runs),
            share=self.share,
        )
        return attack if self.read is None else self._shown(engine, attack, pair, (larger, smaller))

    def _exact(self, engine: Engine, side: Tables, fault: Fault) -> list[Exact]:
        found = [
            one
            for plan, salt in self.plans()
            for one in engine.exact(plan, side, salt, fault.ran and fault.ran(plan))
        ]
        return [fault.tamper(one) for one in found] if fault.tamper else found

    def _outcomes(self, exacts: list[Exact], rulers: list[Ruler], runs: int) -> list[float]:
        if self.factors:
            return contrast(exacts, self.factors, runs)
        if self.separate:
            return [scores(exacts, rulers, 1)[0] for _ in range(runs)]
        return scores(exacts, rulers, runs)

    def _shown(
        self, engine: Engine, attack: Attack, pair: Pair, exacts: tuple[list[Exact], list[Exact]]
    ) -> Attack:
        ((plan, _),) = self.plans()
        read = self.read
        assert read is not None

        def sampler(of: list[Exact], side: Tables) -> Sampler:
            def one_by_one(runs: int) -> list[Any]:
                return [read(engine.shown(plan, released(of), side)) for _ in range(runs)]

            def all_at_once(runs: int) -> list[Any]:
                many = {one.name: one.show(stacked(one, runs).drop_columns([RUN])) for one in of}
                return [read([row]) for row in engine.shown(plan, many, side)]

            return all_at_once if self.row_by_row else one_by_one

        larger, smaller = (
            sampler(of, side) for of, side in zip(exacts, (pair.larger, pair.smaller), strict=True)
        )
        return dataclasses.replace(attack, larger=larger, smaller=smaller, events=self.events)
