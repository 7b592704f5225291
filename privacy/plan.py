"""From a statement, a policy and a budget to a plan: what will be run, how strongly it is noised, what it
costs.

A plan is a pure function of text, policy, budget and options. It reads no file, so nothing in it - cost,
intervals, SQL, refusals - can tell anything about the data.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING

from privacy.accounting import (
    ParameterInvalid,
    epsilon,
    half_width,
    rho_nano_for_epsilon,
    rho_to_nano,
    sigma_for,
    threshold_for,
)
from privacy.algebra import Column, Query, Question, Scalar, columns_of, scans_of
from privacy.bounding import Definition, Lowered, Options, average_half_widths, definition, lower
from privacy.engines import duckdb
from privacy.errors import Refused
from privacy.query import compile_query
from privacy.query.aggregates import RELEASED
from privacy.release import Measure, Release, Threshold
from privacy.values import canonical, value_of

if TYPE_CHECKING:
    from privacy.policy import Policy

_KINDS = {"rows": "count", "units": "count_distinct", "sum": "sum", "avg": "avg"}
_DIGEST_FORMAT = 2


@dataclass(frozen=True)
class Cost:
    """What an answer is charged: rho in 1e-9, delta in 1e-12."""

    rho_nano: int
    delta_pico: int


@dataclass(frozen=True)
class PlanColumn:
    """A column of the answer.

    Attributes:
        kind: ``key``, ``count``, ``count_distinct``, ``sum``, ``avg``, ``derived`` or ``public``.
        sigma: noise scale in the column's own unit, for counts and sums.
        half_width: half of its 95% interval, for counts and sums.
        table: for averages, the half-width at cells of 100, 1,000 and 10,000 rows (at the widest).
        before_threshold: whether rows are shown by this very number. Its 95% interval then holds over all
        groups, before the threshold selects among them; close to the threshold, shown numbers lie high.
    """

    name: str
    kind: str
    sigma: float | None = None
    half_width: float | None = None
    table: Mapping[int, float] | None = None
    before_threshold: bool = False


@dataclass(frozen=True)
class Plan:
    """What `privacy.answer` will do. ``release`` and ``lowered`` are None when only public tables are
    read."""

    policy: Policy
    query: Query
    options: Options
    lowered: Lowered | None
    release: Release | None
    definitions: tuple[Definition, ...]

    @property
    def private(self) -> bool:
        """Whether private rows are read; a plan over public tables alone costs nothing."""
        return self.release is not None

    @property
    def tables(self) -> frozenset[str]:
        """Names of the tables that are read."""
        return self.query.tables

    @property
    def cost(self) -> Cost:
        return Cost(0, 0) if self.release is None else Cost(self.release.rho_nano, self.release.delta_pico)

    @property
    def epsilon(self) -> float:
        """The epsilon of this answer alone at the policy's delta, in which the threshold's share is
        included."""
        rest = self.policy.delta_pico - self.cost.delta_pico
        return epsilon(self.cost.rho_nano, rest)

    @cached_property
    def sql(self) -> str:
        """SQL of the exact part, for the engine. Its rows never leave the release step (unless all is
        public)."""
        if self.lowered is None:
            return self.public_sql
        return duckdb.exact_sql(self.lowered.aggregate)

    @cached_property
    def public_sql(self) -> str:
        """SQL of the public part, over the released table and public tables."""
        return duckdb.public_sql(self.query.output, self.interval_ends, self._released_columns())

    @property
    def public_tables(self) -> frozenset[str]:
        """The tables that the public part reads."""
        scanned = {scan.table for scan in scans_of(self.query.output.input)}
        return frozenset(table.name for table in self.policy.tables.values() if not table.private) & scanned

    @cached_property
    def interval_ends(self) -> tuple[tuple[Scalar, Scalar] | None, ...]:
        """For each output column the ends of its interval, where it shows a released measure as it is."""
        ends: list[tuple[Scalar, Scalar] | None] = []
        for _, scalar in self.query.output.columns:
            measured = self._measured(scalar)
            named = None if measured is None else f"m{measured}"
            ends.append(
                None
                if named is None
                else (
                    Column(RELEASED, f"{named}_low", scalar.type),
                    Column(RELEASED, f"{named}_high", scalar.type),
                )
            )
        return tuple(ends)

    @cached_property
    def columns(self) -> tuple[PlanColumn, ...]:
        """The asked columns, in order, with what is known of their error before anything is read."""
        return tuple(self._column(name, scalar) for name, scalar in self.query.output.columns)

    @cached_property
    def release_digest(self) -> str:
        """Names the released numbers: equal for equal questions however they are written, and whatever is
        done with the numbers afterwards. The same on the same data, they may be given again without
        charge."""
        if self.lowered is None or self.release is None:
            return _sha256(["public", _DIGEST_FORMAT, self.policy.sha256])
        measures = [
            [one.name, one.sensitivity_squared, repr(one.sigma), one.rho_nano]
            for one in self.release.measures
        ]
        threshold = self.release.threshold
        bar = None if threshold is None else [threshold.measure, threshold.value, threshold.delta_pico]
        tree = self.lowered.aggregate.text
        return _sha256(["discrete gaussian", _DIGEST_FORMAT, self.policy.sha256, tree, measures, bar])

    @cached_property
    def digest(self) -> str:
        """Names the whole plan: released numbers, what is computed from them, and the names of the
        columns."""
        definitions = [[one.value.text, one.low.text, one.high.text] for one in self.definitions]
        output = [self.query.output.text, definitions, self.options.intervals]
        return _sha256([self.release_digest, output])

    def explain(self) -> str:
        """The plan for a reader: what is read, how a unit is bounded, the noise and the cost."""
        from privacy.explain import explain

        return explain(self)

    def _measured(self, scalar: Scalar) -> int | None:
        """Which measure of the question a column of the released table is, if any."""
        if isinstance(scalar, Column) and scalar.source == RELEASED and scalar.name.startswith("m"):
            return int(scalar.name[1:])
        return None

    def _column(self, name: str, scalar: Scalar) -> PlanColumn:
        measured = self._measured(scalar)
        if measured is not None:
            return self._measure_column(name, measured)
        sources = {column.source for column in columns_of(scalar)}
        if isinstance(scalar, Column) and scalar.source == RELEASED:
            return PlanColumn(name, "key")
        return PlanColumn(name, "derived" if RELEASED in sources or self.private else "public")

    def _measure_column(self, name: str, measured: int) -> PlanColumn:
        assert self.lowered is not None
        question = self.query.question
        assert question is not None
        measure, parts = question.measures[measured], self.lowered.parts[measured]
        sigmas = [self._sigma(part.name) for part in parts]
        kind = _KINDS[measure.kind]
        if measure.kind == "avg":
            return PlanColumn(name, kind, table=average_half_widths(measure, parts[1].middle, sigmas))
        scale = 10**measure.decimals if measure.kind == "sum" else 1
        width = half_width(sigmas[0]) / scale
        return PlanColumn(name, kind, sigmas[0] / scale, width, None, parts[0] == self.lowered.units)

    def _sigma(self, name: str) -> float:
        assert self.release is not None
        return next(measure.sigma for measure in self.release.measures if measure.name == name)

    def _released_columns(self) -> list[tuple[str, Scalar]]:
        if self.lowered is None:
            return []
        columns: list[tuple[str, Scalar]] = [
            (key.name, Column("released", key.name, key.scalar.type))
            for key in self.lowered.aggregate.input.keys
        ]
        for place, one in enumerate(self.definitions):
            columns += [(f"m{place}", one.value), (f"m{place}_low", one.low), (f"m{place}_high", one.high)]
        return columns


def plan(
    sql: str,
    policy: Policy,
    *,
    rho: float | str | Decimal | None = None,
    epsilon: float | None = None,
    error: Mapping[str, float] | None = None,
    rho_nano: int | None = None,
    options: Options | None = None,
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

    Raises:
        Refused: the statement, an option or the budget is not admissible.
    """
    chosen = options or Options()
    query = compile_query(sql, policy)
    _check_names(query, chosen)
    if query.question is None:
        return Plan(policy, query, chosen, None, None, ())
    table = policy.table(query.question.table)
    assert table is not None
    lowered = lower(query.question, table, chosen)
    budget = _Budget(policy, query, lowered)
    try:
        spend = budget.rho_nano(rho, epsilon, error, rho_nano)
        release = _release(policy, lowered, spend)
    except ParameterInvalid as invalid:
        raise Refused("budget_invalid", str(invalid), hint=invalid.hint) from None
    return Plan(policy, query, chosen, lowered, release, _definitions(query.question, lowered, release))


def _check_names(query: Query, options: Options) -> None:
    """No column may be called like the end of another's interval."""
    names = {name.lower() for name, _ in query.output.columns}
    for name, scalar in query.output.columns if options.intervals else ():
        measured = isinstance(scalar, Column) and scalar.source == RELEASED and scalar.name.startswith("m")
        for end in (f"{name}_low", f"{name}_high"):
            if measured and end.lower() in names:
                message = f"The interval of {name} needs the column name {end}, which another column has."
                hint = f"Rename {end}, or ask without intervals."
                raise Refused("duplicate_column", message, hint=hint)


@dataclass(frozen=True)
class _Budget:
    """Reads what the buyer is willing to spend."""

    policy: Policy
    query: Query
    lowered: Lowered

    def rho_nano(
        self,
        rho: float | str | Decimal | None,
        epsilon: float | None,
        error: Mapping[str, float] | None,
        rho_nano: int | None,
    ) -> int:
        if sum(budget is not None for budget in (rho, epsilon, error, rho_nano)) != 1:
            message = "Exactly one of rho, epsilon, error and rho_nano says what may be spent."
            raise Refused("budget_invalid", message, hint="Give one of them, for example rho=0.01.")
        if any(isinstance(budget, int) and abs(budget) >= 10**18 for budget in (rho, epsilon, rho_nano)):
            raise Refused("budget_invalid", "The budget is out of range.", hint="As in rho=0.01.")
        if rho is not None:
            spend = rho_to_nano(rho, budget=True)
        elif epsilon is not None:
            spend = self._for_epsilon(epsilon)
        elif error is not None:
            spend = self._for_error(error)
        else:
            spend = _whole(rho_nano)
        self._check(spend)
        return spend

    def _check(self, spend: int) -> None:
        most = self.policy.max_rho_per_query_nano
        if spend > most:
            message = f"This would spend rho = {spend / 1e9:g}; one query may spend {most / 1e9:g}."
            raise Refused(
                "rho_too_large", message, hint="Ask with less rho, a larger error or fewer aggregates."
            )
        least = max(self.policy.min_rho_per_query_nano, len(self.lowered.sensitivities))
        if spend < least:
            message = f"This would spend rho = {spend / 1e9:g}, which is too little."
            hint = f"Ask with rho = {Decimal(least).scaleb(-9).normalize():f} or more, or a smaller error."
            raise Refused("rho_too_small", message, hint=hint)

    def _for_epsilon(self, asked: float) -> int:
        spent = self.policy.max_delta_per_query_pico if self.lowered.units is not None else 0
        if spent >= self.policy.delta_pico:
            message = "The policy leaves no delta to state an epsilon at."
            raise Refused("budget_invalid", message, hint="Ask with rho.")
        return rho_nano_for_epsilon(asked, self.policy.delta_pico - spent)

    def _for_error(self, asked: Mapping[str, float]) -> int:
        if not isinstance(asked, Mapping) or not asked:
            raise Refused("budget_invalid", "No column is named.", hint="Name one, as in error={'n': 25}.")
        shares = [self._share(name, half) for name, half in asked.items()]
        return max(shares) * len(self.lowered.sensitivities)

    def _share(self, name: str, half: float) -> int:
        """The least rho for the sum behind a column whose 95% half-width is at most ``half``."""
        place, decimals = self._counted(name)
        number = value_of(half, "decimal") if isinstance(half, int | float | Decimal) else None
        if not isinstance(number, Decimal) or not Decimal("1e-12") <= number < 10**18:
            message = "A half-width must be a number above 0 and below 1e18."
            raise Refused("budget_invalid", message, hint="As in error={'n': 25}, or ask with rho.")
        target = int(number.scaleb(decimals))
        sensitivity = self.lowered.sensitivities[place]
        return least_rho_nano(sensitivity, target, self.policy.max_rho_per_query_nano)

    def _counted(self, name: str) -> tuple[int, int]:
        question = self.query.question
        assert question is not None
        columns = {one.lower(): found for one, found in self.query.output.columns}
        scalar = columns.get(name.lower()) if isinstance(name, str) else None
        if isinstance(scalar, Column) and scalar.source == RELEASED and scalar.name.startswith("m"):
            measured = int(scalar.name[1:])
            measure = question.measures[measured]
            if measure.kind != "avg":
                part = self.lowered.parts[measured][0]
                return self.lowered.aggregate.sums.index(
                    part
                ), measure.decimals if measure.kind == "sum" else 0
        message = f"An error can be asked for a COUNT or SUM column of the result, and {name} is none."
        raise Refused("budget_invalid", message, hint="Name such a column, or ask with rho.")


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


def _release(policy: Policy, lowered: Lowered, spend: int) -> Release:
    """Equal shares of rho for the distinct sums; a threshold where keys are private."""
    share = spend // len(lowered.sensitivities)
    measures = tuple(
        Measure(one.name, sensitivity, sigma_for(sensitivity, share), share)
        for one, sensitivity in zip(lowered.aggregate.sums, lowered.sensitivities, strict=True)
    )
    bound = lowered.aggregate.input
    threshold = None
    if lowered.units is not None:
        sigma = next(measure.sigma for measure in measures if measure.name == lowered.units.name)
        delta = policy.max_delta_per_query_pico
        threshold = Threshold(lowered.units.name, threshold_for(sigma, bound.groups, delta), delta)
    release = Release(tuple(key.name for key in bound.keys), measures, threshold)
    assert release.rho_nano <= spend
    return release


def _definitions(question: Question, lowered: Lowered, release: Release) -> tuple[Definition, ...]:
    sigmas = {measure.name: measure.sigma for measure in release.measures}
    widths = {name: half_width(sigma) for name, sigma in sigmas.items()}
    return tuple(
        definition(
            measure, parts, [sigmas[part.name] for part in parts], [widths[part.name] for part in parts]
        )
        for measure, parts in zip(question.measures, lowered.parts, strict=True)
    )


def _sha256(document: object) -> str:
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=canonical)
    return hashlib.sha256(text.encode()).hexdigest()


ExplainText = Callable[[Plan], str]
