"""From a statement, a policy and a budget to a plan: what will be run, how strongly it is noised, what it
costs.

A plan is a pure function of text, policy, budget and options. It reads no file, so nothing in it - cost,
intervals, SQL, refusals - can tell anything about the data.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import pyarrow as pa

from privacy.accounting import ParameterInvalid, epsilon, half_width, sigma_for, threshold_for
from privacy.algebra import (
    Column,
    Literal,
    Query,
    Question,
    Scalar,
    Sum,
    columns_of,
    scans_of,
    sources_ranked,
)
from privacy.bounding import Lowered, Options, lower
from privacy.budget import Ask, Budget, measures_shown
from privacy.engines import duckdb
from privacy.errors import Refused
from privacy.measures import KINDS, Asked, estimate, facts, unshifted
from privacy.query import compile_query
from privacy.release import Measure, Release, Threshold
from privacy.released import Released, ReleasedMeasure, ReleasedTable
from privacy.repeating import Repeat
from privacy.values import canonical

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal

    from privacy.policy import Policy

_DIGEST_FORMAT = 4


@dataclass(frozen=True)
class Cost:
    """What an answer is charged: rho in 1e-9, delta in 1e-12."""

    rho_nano: int
    delta_pico: int


@dataclass(frozen=True)
class PlanColumn:
    """A column of the answer.

    Attributes:
        kind: ``key``, the name of an aggregate, ``derived`` or ``public``.
        sigma: noise scale in the column's own unit, for counts and sums.
        half_width: half of its 95% interval, for counts and sums.
        table: for other aggregates, the half-width at cells of 100, 1,000 and 10,000 rows (at the widest,
        unless the note says otherwise).
        before_threshold: whether rows are shown by this very number. Its 95% interval then holds over all
        groups, before the threshold selects among them; close to the threshold, shown numbers lie high.
        note: what the figures hold for, where that needs saying.
    """

    name: str
    kind: str
    sigma: float | None = None
    half_width: float | None = None
    table: Mapping[int, float] | None = None
    before_threshold: bool = False
    note: str | None = None


@dataclass(frozen=True)
class PlannedRelease:
    """One exact statement and the noisy table that it becomes.

    Attributes:
        release: the noise that the numbers have when they are shown, and what was paid for them in all.
        asked: the release as asked for, had nothing been released before.
        repeat: earlier numbers that serve again, or None.
    """

    question: Question
    lowered: Lowered
    release: Release
    asked: Release
    repeat: Repeat | None = None

    @cached_property
    def sql(self) -> str:
        """SQL of the exact part, for the engine. Its rows never leave the release step."""
        return duckdb.exact_sql(self.lowered.aggregate)

    @property
    def drawn(self) -> Release | None:
        """What is drawn and charged now: the difference to earlier numbers, or None where they suffice."""
        return self.asked if self.repeat is None else self.repeat.drawn

    @property
    def cost(self) -> Cost:
        return Cost(0, 0) if self.drawn is None else Cost(self.drawn.rho_nano, self.drawn.delta_pico)

    @cached_property
    def sums(self) -> Mapping[str, str]:
        """Digest of each bounded sum, by the column that it is released as."""
        return {one.name: _sha256([one.text, *self._held_with(one)]) for one in self.lowered.aggregate.sums}

    def _held_with(self, one: Sum) -> list[str]:
        """What the sum's exact value hangs on beside itself: sums that are scaled down by one factor."""
        aggregate = self.lowered.aggregate
        if aggregate.input.strategy == "caps":
            return []
        return sorted(other.text for other in duckdb.held_together(one, aggregate.sums))

    @cached_property
    def bound_digest(self) -> str:
        """Names the bounded rows and their groups: sums over them may be released one after another."""
        aggregate = self.lowered.aggregate
        ranked = sources_ranked(aggregate.input.input)
        read = sorted(column.text for column in columns_of(aggregate) if column.source in ranked)
        return _sha256([_DIGEST_FORMAT, aggregate.input.text, aggregate.input.unit.text, read])

    def released(self, noisy: pa.Table | None) -> ReleasedTable:
        """The table to show and to keep, from what was drawn."""
        if self.repeat is not None:
            noisy = self.repeat.combined(noisy)
        assert noisy is not None
        threshold = self.release.threshold
        measures = tuple(
            ReleasedMeasure(one.name, self.sums[one.name], self._in_all(one), one.sigma)
            for one in self.release.measures
        )
        return ReleasedTable(
            self.bound_digest, noisy, measures, None if threshold is None else threshold.value
        )

    def _in_all(self, one: Measure) -> int:
        """What was paid for a measure: never less than what an earlier draw cost."""
        paid = None if self.repeat is None else self.repeat.earlier.find(self.sums[one.name])
        return one.rho_nano if paid is None else max(paid.rho_nano, one.rho_nano)

    def sigma(self, one: Sum) -> float:
        """The noise scale of a sum, in the unit of what it sums."""
        return self._noised(one) / float(1 << one.shift)

    def width(self, one: Sum) -> int:
        """Half of the 95% interval of a sum, in the unit of what it sums, rounded up."""
        return -(-half_width(self._noised(one)) // (1 << one.shift))

    def _noised(self, one: Sum) -> float:
        return next(measure.sigma for measure in self.release.measures if measure.name == one.name)

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
            values = [unshifted(noisy.column(part.name).to_numpy(), part) for part in parts]
            names += [f"m{place}", f"m{place}_low", f"m{place}_high"]
            columns += estimate(self.measured(place), values).arrays()
        return pa.table(columns, names=names)

    def document(self) -> list[object]:
        """What names the released numbers: equal for equal questions at equal noise."""
        measures = [
            [one.name, one.sensitivity_squared, repr(one.sigma), one.rho_nano] for one in self.asked.measures
        ]
        threshold = self.asked.threshold
        bar = None if threshold is None else [threshold.measure, threshold.value, threshold.delta_pico]
        return [self.lowered.aggregate.text, measures, bar]


@dataclass(frozen=True)
class Plan:
    """What `privacy.answer` will do. ``releases`` is empty when only public tables are read."""

    policy: Policy
    query: Query
    options: Options
    releases: tuple[PlannedRelease, ...]

    @property
    def private(self) -> bool:
        """Whether private rows are read; a plan over public tables alone costs nothing."""
        return bool(self.releases)

    @property
    def tables(self) -> frozenset[str]:
        """Names of the tables that are read."""
        return self.query.tables

    @property
    def cost(self) -> Cost:
        """The sum over the releases: zCDP composes by addition."""
        return Cost(
            sum(one.cost.rho_nano for one in self.releases), sum(one.cost.delta_pico for one in self.releases)
        )

    @property
    def epsilon(self) -> float:
        """The epsilon of this answer alone at the policy's delta, in which the thresholds' share is
        included."""
        rest = self.policy.delta_pico - self.cost.delta_pico
        return epsilon(self.cost.rho_nano, rest)

    @cached_property
    def sql(self) -> str:
        """SQL for the engine: the exact part of each release, or the whole of a public statement."""
        return ";\n".join(one.sql for one in self.releases) if self.releases else self.public_sql

    @cached_property
    def public_sql(self) -> str:
        """SQL of the public part, over the released tables and public tables."""
        return duckdb.public_sql(self.query.output, self.interval_ends)

    @property
    def public_tables(self) -> frozenset[str]:
        """The tables that the public part reads."""
        scanned = {scan.table for scan in scans_of(self.query.output.input)}
        return frozenset(table.name for table in self.policy.tables.values() if not table.private) & scanned

    @cached_property
    def interval_ends(self) -> tuple[tuple[Scalar, Scalar] | None, ...]:
        """For each output column the ends of its interval, where it shows a released measure as it is."""
        return tuple(self._ends(scalar) for _, scalar in self.query.output.columns)

    def _ends(self, scalar: Scalar) -> tuple[Scalar, Scalar] | None:
        if not measures_shown(self.query, scalar) or not isinstance(scalar, Column):
            return None
        low, high = (Column(scalar.source, f"{scalar.name}_{end}", scalar.type) for end in ("low", "high"))
        return (low, high) if self.query.has_column(low) else None

    @cached_property
    def columns(self) -> tuple[PlanColumn, ...]:
        """The asked columns, in order, with what is known of their error before anything is read."""
        return tuple(self._column(name, scalar) for name, scalar in self.query.output.columns)

    @cached_property
    def release_digest(self) -> str:
        """Names the released numbers: equal for equal questions however they are written, and whatever is
        done with the numbers afterwards. The same on the same data, they may be given again without
        charge. What was released before does not change the name."""
        releases = [one.document() for one in self.releases]
        return _sha256(["discrete gaussian", _DIGEST_FORMAT, self.policy.sha256, releases])

    @property
    def bound_digests(self) -> tuple[str, ...]:
        """Name the bounded rows of each release: what earlier numbers for them are found by."""
        return tuple(one.bound_digest for one in self.releases)

    @cached_property
    def digest(self) -> str:
        """Names the whole answer, the public part included."""
        return _sha256([self.release_digest, self.query.output.text, self.options.intervals])

    def explain(self) -> str:
        """The plan for a reader: what is read, how a unit is bounded, the noise and the cost."""
        from privacy.explain import explain

        return explain(self)

    def _column(self, name: str, scalar: Scalar) -> PlanColumn:
        shown = measures_shown(self.query, scalar)
        if shown:
            return _widest([self._measure_column(name, *one) for one in shown])
        origins = [one for one in self.query.origins(scalar) if not isinstance(one, Literal)]
        released = [
            isinstance(one, Column) and self.query.question_of(one.source) is not None for one in origins
        ]
        if origins and all(released):
            return PlanColumn(name, "key")
        return PlanColumn(name, "derived" if self.private else "public")

    def _measure_column(self, name: str, place: int, measured: int) -> PlanColumn:
        release = self.releases[place]
        known, part = facts(release.measured(measured)), release.lowered.parts[measured][0]
        kind = KINDS[release.question.measures[measured].kind].column
        before = known.half_width is not None and part == release.lowered.units
        return PlanColumn(name, kind, known.sigma, known.half_width, known.table, before, known.note)


def _widest(columns: list[PlanColumn]) -> PlanColumn:
    """What holds for every row of a column that shows a measure of each branch of a union."""
    first = columns[0]
    if len(columns) == 1:
        return first
    if {column.kind for column in columns} != {first.kind}:
        return PlanColumn(first.name, "derived")
    sigmas = [column.sigma for column in columns if column.sigma is not None]
    widths = [column.half_width for column in columns if column.half_width is not None]
    tables = [column.table for column in columns if column.table is not None]
    table = {size: max(one[size] for one in tables) for size in tables[0]} if tables else None
    return PlanColumn(
        first.name,
        first.kind,
        max(sigmas, default=None),
        max(widths, default=None),
        table,
        any(column.before_threshold for column in columns),
        first.note,
    )


def plan(
    sql: str,
    policy: Policy,
    *,
    rho: float | str | Decimal | None = None,
    epsilon: float | None = None,
    error: Mapping[str, float] | None = None,
    rho_nano: int | None = None,
    options: Options | None = None,
    earlier: Released | None = None,
) -> Plan:
    """Plan the answer to a statement. Touches no file.

    Exactly one of the budgets is given; a statement over public tables alone needs none and costs nothing.

    Args:
        rho: zero-concentrated privacy loss to spend (rounded down to 1e-9).
        epsilon: the same as epsilon at the policy's delta.
        error: asked 95% half-width for named COUNT or SUM columns, in the column's unit; the least rho
        that gives it.
        rho_nano: rho in 1e-9.
        options: caps and intervals.
        earlier: numbers released before on the same version of the data (`Answer.released`): what they give
            is not paid again, and a sum asked with more rho costs the difference.

    Raises:
        Refused: the statement, an option or the budget is not admissible.
    """
    chosen = options or Options()
    query = compile_query(sql, policy)
    _check_names(query, chosen)
    lowered = tuple(_lowered(question, policy, chosen) for question in query.questions)
    if not lowered:
        return Plan(policy, query, chosen, ())
    budget = Budget(policy, query, lowered)
    try:
        spend = budget.rho_nano(Ask(rho, epsilon, error, rho_nano))
        releases = _releases(policy, query, budget, spend, earlier or Released(()))
    except ParameterInvalid as invalid:
        raise Refused("budget_invalid", str(invalid), hint=invalid.hint) from None
    return Plan(policy, query, chosen, releases)


def _lowered(question: Question, policy: Policy, options: Options) -> Lowered:
    table = policy.table(question.table)
    assert table is not None
    return lower(question, table, options)


def _check_names(query: Query, options: Options) -> None:
    """No column may be called like the end of another's interval."""
    names = {name.lower() for name, _ in query.output.columns}
    for name, scalar in query.output.columns if options.intervals else ():
        for end in (f"{name}_low", f"{name}_high"):
            if measures_shown(query, scalar) and end.lower() in names:
                message = f"The interval of {name} needs the column name {end}, which another column has."
                hint = f"Rename {end}, or ask without intervals."
                raise Refused("duplicate_column", message, hint=hint)


def _releases(
    policy: Policy, query: Query, budget: Budget, spend: int, earlier: Released
) -> tuple[PlannedRelease, ...]:
    """Equal shares of rho for the distinct sums, and of delta for the thresholds."""
    share = spend // budget.sums
    delta = policy.max_delta_per_query_pico // max(budget.thresholds, 1)
    releases = tuple(
        _planned(question, lowered, _release(lowered, share, delta), earlier)
        for question, lowered in zip(query.questions, budget.lowered, strict=True)
    )
    assert sum(one.asked.rho_nano for one in releases) <= spend
    return releases


def _release(lowered: Lowered, share: int, delta: int) -> Release:
    measures = tuple(
        Measure(one.name, sensitivity, sigma_for(sensitivity, share), share)
        for one, sensitivity in zip(lowered.aggregate.sums, lowered.sensitivities, strict=True)
    )
    bound = lowered.aggregate.input
    threshold = None
    if lowered.units is not None:
        sigma = next(measure.sigma for measure in measures if measure.name == lowered.units.name)
        threshold = Threshold(lowered.units.name, threshold_for(sigma, bound.groups, delta), delta)
    return Release(tuple(key.name for key in bound.keys), measures, threshold)


def _planned(question: Question, lowered: Lowered, release: Release, earlier: Released) -> PlannedRelease:
    return _repeated(PlannedRelease(question, lowered, release, release), earlier)


def _repeated(planned: PlannedRelease, earlier: Released) -> PlannedRelease:
    """The release with the earlier numbers that spare most of it."""
    repeats = [Repeat(planned.asked, planned.sums, one) for one in earlier.of(planned.bound_digest)]
    saving = [one for one in repeats if one.saves]
    if not saving:
        return planned
    best = min(saving, key=lambda one: 0 if one.drawn is None else one.drawn.rho_nano)
    return replace(planned, release=best.stated, repeat=best)


def _sha256(document: object) -> str:
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=canonical)
    return hashlib.sha256(text.encode()).hexdigest()
