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
from privacy.algebra import Column, Output, Query, Question, Scalar, columns_of
from privacy.bounding import Definition, Lowered, Options, average_half_widths, definition, lower
from privacy.engines import duckdb
from privacy.errors import Refused
from privacy.query import compile_query
from privacy.query.aggregates import RELEASED
from privacy.release import Measure, Release, Threshold
from privacy.values import canonical

if TYPE_CHECKING:
    from privacy.policy import Policy

_KINDS = {"rows": "count", "units": "count_distinct", "sum": "sum", "avg": "avg"}
_DIGEST_FORMAT = 1


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
    """

    name: str
    kind: str
    sigma: float | None = None
    half_width: float | None = None
    table: Mapping[int, float] | None = None


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
        private = self.policy.tables.values()
        return frozenset(table.name for table in private if not table.private) & _scanned(self.query.output)

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
        return PlanColumn(name, kind, sigmas[0] / scale, half_width(sigmas[0]) / scale)

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
        if spend < len(self.lowered.sensitivities):
            raise Refused("rho_too_small", "This budget is too small to spend.", hint="Ask with more rho.")

    def _for_epsilon(self, asked: float) -> int:
        spent = self.policy.max_delta_per_query_pico if self.lowered.units is not None else 0
        if spent >= self.policy.delta_pico:
            message = "The policy leaves no delta to state an epsilon at."
            raise Refused("budget_invalid", message, hint="Ask with rho.")
        return rho_nano_for_epsilon(asked, self.policy.delta_pico - spent)

    def _for_error(self, asked: Mapping[str, float]) -> int:
        if not asked:
            raise Refused("budget_invalid", "No column is named.", hint="Name one, as in error={'n': 25}.")
        shares = [self._share(name, half) for name, half in asked.items()]
        return max(shares) * len(self.lowered.sensitivities)

    def _share(self, name: str, half: float) -> int:
        """The least rho for the sum behind a column whose 95% half-width is at most ``half``."""
        place, decimals = self._counted(name)
        if isinstance(half, bool) or not isinstance(half, int | float | Decimal) or not half >= 1e-12:
            raise Refused("budget_invalid", "A half-width must be positive.", hint="As in error={'n': 25}.")
        if not half < 10**18:
            raise Refused("budget_invalid", "The half-width is too large.", hint="Ask with rho.")
        target = int(Decimal(str(half)).scaleb(decimals))
        sensitivity = self.lowered.sensitivities[place]
        return least_rho_nano(sensitivity, target, self.policy.max_rho_per_query_nano)

    def _counted(self, name: str) -> tuple[int, int]:
        question = self.query.question
        assert question is not None
        scalar = {one.lower(): found for one, found in self.query.output.columns}.get(name.lower())
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


def _scanned(output: Output) -> frozenset[str]:
    """Names of the tables that the public part scans."""
    from privacy.algebra import Filter, Grouped, Join, Limited, Relation, Scan

    names: set[str] = set()
    pending: list[Relation] = [output.input]
    while pending:
        node = pending.pop()
        if isinstance(node, Scan):
            names.add(node.table)
        elif isinstance(node, Join):
            pending += [node.left, node.right]
        elif isinstance(node, Filter | Grouped | Limited):
            pending.append(node.input)
    return frozenset(names)


def _sha256(document: object) -> str:
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=canonical)
    return hashlib.sha256(text.encode()).hexdigest()


ExplainText = Callable[[Plan], str]
