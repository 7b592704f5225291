"""One release of a plan: an exact statement, its noise, and what is made of the noisy numbers."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from privacy.accounting import half_width
from privacy.algebra import columns_of, sources_ranked
from privacy.engines import duckdb
from privacy.measures import Asked, estimate, scale_of, unshifted
from privacy.released import ReleasedMeasure, ReleasedTable
from privacy.rescaling import RESERVE_BELOW, Totals, made_up, sum_sigma
from privacy.values import canonical

if TYPE_CHECKING:
    from collections.abc import Mapping

    from privacy.algebra import Question, Sum, Total
    from privacy.bounding import Lowered
    from privacy.measures import Estimate
    from privacy.release import Noised, Release
    from privacy.repeating import Repeat
    from privacy.strategies import Choice

DIGEST_FORMAT = 7


@dataclass(frozen=True)
class Cost:
    """What an answer is charged: rho in 1e-9, delta in 1e-12."""

    rho_nano: int
    delta_pico: int


@dataclass(frozen=True)
class PlannedRelease:
    """One exact statement and the noisy table that it becomes.

    Attributes:
        choice: how a unit is bounded, and what is expected of that.
        release: the noise that the numbers have when they are shown, and what was paid for them in all.
        asked: the release as asked for, had nothing been released before.
        repeat: earlier numbers that serve again, or None.
    """

    question: Question
    lowered: Lowered
    choice: Choice
    release: Release
    asked: Release
    repeat: Repeat | None = None

    @cached_property
    def sql(self) -> str:
        """SQL of the exact part, for the engine. Its rows never leave the release step."""
        return duckdb.exact_sql(self.lowered.aggregate)

    @cached_property
    def candidates_sql(self) -> str:
        """`sql`, less the groups that cannot be shown."""
        return duckdb.candidates_sql(self.lowered.aggregate)

    @property
    def drawn(self) -> Release | None:
        """What is drawn and charged now: the difference to earlier numbers, or None where they suffice."""
        return self.asked if self.repeat is None else self.repeat.drawn

    @property
    def cost(self) -> Cost:
        return Cost(0, 0) if self.drawn is None else Cost(self.drawn.rho_nano, self.drawn.delta_pico)

    @cached_property
    def sums(self) -> Mapping[str, str]:
        """Digest of each bounded sum and total, by the column that it is released as."""
        named: dict[str, list[object]] = {
            one.name: [one.text, *self._held_with(one)] for one in self.lowered.aggregate.sums
        }
        for one in self.lowered.aggregate.totals:
            named[one.name] = [*named[one.of.name], one.kept, one.cap]
        return {name: digest_of(parts) for name, parts in named.items()}

    def _held_with(self, one: Sum) -> list[str]:
        """What the sum's exact value hangs on beside itself: sums that are scaled down by one factor."""
        aggregate = self.lowered.aggregate
        if not aggregate.input.scales:
            return []
        return sorted(other.text for other in duckdb.held_together(one, aggregate.sums + aggregate.limits))

    @cached_property
    def bound_digest(self) -> str:
        """Names the bounded rows and their groups: sums over them may be released one after another."""
        aggregate = self.lowered.aggregate
        ranked = sources_ranked(aggregate.input.input)
        read = sorted(column.text for column in columns_of(aggregate) if column.source in ranked)
        return digest_of([DIGEST_FORMAT, aggregate.input.text, aggregate.input.unit.text, read])

    def released(self, noisy: pa.Table | None) -> ReleasedTable:
        """The table to show and to keep, from what was drawn."""
        if self.repeat is not None:
            noisy = self.repeat.combined(noisy)
        assert noisy is not None
        threshold = self.release.threshold
        measures = tuple(
            ReleasedMeasure(one.name, self.sums[one.name], self._in_all(one), one.sigma)
            for one in self.release.noised
        )
        return ReleasedTable(
            self.bound_digest, noisy, measures, None if threshold is None else threshold.value
        )

    def _in_all(self, one: Noised) -> int:
        """What was paid for a measure: never less than what an earlier draw cost."""
        paid = None if self.repeat is None else self.repeat.earlier.find(self.sums[one.name])
        return one.rho_nano if paid is None else max(paid.rho_nano, one.rho_nano)

    def sigma(self, one: Sum | Total) -> float:
        """The noise scale of a sum, in the unit of what it sums."""
        return self._noised(one) / float(1 << one.shift)

    def width(self, one: Sum) -> int:
        """Half of the 95% interval of a sum, in the unit of what it sums, rounded up; where fractions of
        that are rounded away, with room for it."""
        half = half_width(self._noised(one))
        return half if one.shift == 0 else -(-(2 * half + (1 << one.shift)) // (2 << one.shift))

    def _noised(self, one: Sum | Total) -> float:
        return next(measure.sigma for measure in self.release.noised if measure.name == one.name)

    def measured(self, place: int) -> Asked:
        """A measure of the question with the noise of its sums."""
        parts = self.lowered.parts[place]
        sigmas = tuple(self.sigma(part) for part in parts)
        return Asked(self.question.measures[place], parts, sigmas, tuple(map(self.width, parts)))

    def shown(self, noisy: pa.Table) -> pa.Table:
        """The released relation: the keys, and each measure of the question with the ends of its interval.

        Args:
            noisy: what `privacy.release.perturb` made of the exact table.
        """
        keys = list(self.release.keys)
        names, columns = list(keys), [noisy.column(key) for key in keys]
        for place, parts in enumerate(self.lowered.parts):
            values = [unshifted(noisy.column(part.name), part) for part in parts]
            names += [f"m{place}", f"m{place}_low", f"m{place}_high"]
            totals = self._totals(noisy, parts[0], place) if len(parts) == 1 else None
            columns += self._estimate(place, values, totals).arrays()
        return pa.table(columns, names=names)

    def _estimate(self, place: int, values: list[Any], totals: Totals | None) -> Estimate:
        asked = self.measured(place)
        if totals is None:
            return estimate(asked, values)
        decimals = scale_of(asked.measure) or 0
        return made_up(values[0], asked.sigmas[0], totals, decimals, whole_numbers=decimals == 0)

    def _totals(self, noisy: pa.Table, one: Sum, place: int) -> Totals | None:
        """The released totals of the sum that a measure is, where there are any."""
        found = {total.kept: total for total in self.lowered.aggregate.totals if total.of == one}
        if not found or not noisy.num_rows:
            return None
        whole, kept = (self._total(noisy, found.get(which)) for which in (False, True))
        assert whole is not None
        reserve = self.in_reserve(place)
        if kept is not None:
            return Totals(*whole, *kept, None, reserve)
        summed = sum(noisy.column(one.name).to_pylist()) / (1 << one.shift)
        sigma = sum_sigma(self.sigma(one), noisy.num_rows)
        return Totals(*whole, summed, sigma, noisy.num_rows, reserve)

    def in_reserve(self, place: int) -> bool:
        """Whether a measure is scaled up by totals only if these clearly differ: what is expected of it is
        that they do not."""
        expected = self.choice.expected
        return self.lowered.made_up(place) and bool(expected) and expected[place].ratio < RESERVE_BELOW

    def _total(self, noisy: pa.Table, total: Total | None) -> tuple[float, float] | None:
        if total is None:
            return None
        return noisy.column(total.name)[0].as_py() / (1 << total.shift), self.sigma(total)

    def document(self) -> list[object]:
        """What names the released numbers: equal for equal questions at equal noise."""
        measures = [
            [one.name, one.sensitivity_squared, repr(one.sigma), one.rho_nano] for one in self.asked.noised
        ]
        threshold = self.asked.threshold
        bar = None if threshold is None else [threshold.measure, threshold.value, threshold.delta_pico]
        return [self.lowered.aggregate.text, measures, bar]


def digest_of(document: object) -> str:
    """SHA-256 of a document in canonical JSON."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=canonical)
    return hashlib.sha256(text.encode()).hexdigest()
