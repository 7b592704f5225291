"""From a statement, a policy and a budget to a plan: what will be run, how strongly it is noised, what it
costs.

A plan is a pure function of text, policy, budget and options. It reads no file, so nothing in it - cost,
intervals, SQL, refusals - can tell anything about the data.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from privacy.accounting import ParameterInvalid
from privacy.algebra import Column, Literal, Query, Question, Scalar, scans_of
from privacy.bounding import Options, lower
from privacy.budget import Ask, Budget, measures_shown
from privacy.conversion import gaussian_epsilon
from privacy.engines import duckdb
from privacy.errors import Refused
from privacy.measures import KINDS, facts
from privacy.planned import DIGEST_FORMAT, Cost, PlannedRelease, digest_of
from privacy.query import compile_query
from privacy.reading import columns_read, joins_made
from privacy.released import Released
from privacy.repeating import Repeat
from privacy.spending import releases_of
from privacy.strategies import Choice, choose

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal

    from privacy.bounding import Lowered
    from privacy.layout import Layout
    from privacy.policy import Policy, Table
    from privacy.profile import Profile
    from privacy.release import Release

MAX_NUMBERS = 2**22
"""Noisy numbers of one statement with public keys: half a minute of drawing."""
_MADE_UP = "scaled up by two noisy totals: sigma and half-width as expected from the contribution profile"


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
        expected_bias: the share of what counts and sums count that is expected to be left out and not made up
            for, from the contribution profile; None without one.
        resolution: width of the bins that a quantile was found among; it is not known better than to that.
    """

    name: str
    kind: str
    sigma: float | None = None
    half_width: float | None = None
    table: Mapping[int, float] | None = None
    before_threshold: bool = False
    note: str | None = None
    resolution: float | None = None
    expected_bias: float | None = None


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

    @cached_property
    def columns_read(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Tables with the columns that the statement names; see :func:`privacy.reading.columns_read`."""
        return columns_read(self.query)

    @cached_property
    def joins(self) -> str:
        """How far the statement joins: "none", "public" or "any"; see :func:`privacy.reading.joins_made`."""
        return joins_made(self.query, self.policy)

    @property
    def cost(self) -> Cost:
        """The sum over the releases: zCDP composes by addition."""
        return Cost(
            sum(one.cost.rho_nano for one in self.releases), sum(one.cost.delta_pico for one in self.releases)
        )

    @property
    def epsilon(self) -> float:
        """The epsilon of this answer alone at the policy's delta, in which the thresholds' share is
        included: that of Gaussian noise, which is less than its rho alone stands for."""
        rest = self.policy.delta_pico - self.cost.delta_pico
        drawn = [one.drawn for one in self.releases if one.drawn is not None]
        least = min((one.sensitivity_squared for release in drawn for one in release.noised), default=1)
        return gaussian_epsilon(self.cost.rho_nano, rest, least)

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
        shown = measures_shown(self.query, scalar)
        if not isinstance(scalar, Column) or not shown or not all(self._has_interval(*one) for one in shown):
            return None
        low, high = (Column(scalar.source, f"{scalar.name}_{end}", scalar.type) for end in ("low", "high"))
        return (low, high) if self.query.has_column(low) else None

    def _has_interval(self, place: int, measured: int) -> bool:
        return KINDS[self.query.questions[place].measures[measured].kind].interval

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
        return digest_of(["discrete gaussian", DIGEST_FORMAT, self.policy.sha256, releases])

    @property
    def bound_digests(self) -> tuple[str, ...]:
        """Name the bounded rows of each release: what earlier numbers for them are found by."""
        return tuple(one.bound_digest for one in self.releases)

    @cached_property
    def digest(self) -> str:
        """Names the whole answer, the public part and what is said of it included."""
        biases = [column.expected_bias for column in self.columns]
        reserved = [
            [one.in_reserve(place) for place in range(len(one.question.measures))] for one in self.releases
        ]
        output = self.query.output.text
        return digest_of([self.release_digest, output, self.options.intervals, biases, reserved])

    def explain(self, layout: Layout | None = None) -> str:
        """The plan for a reader: what is read, how a unit is bounded, the noise and the cost.

        Args:
            layout: of the files that will be read: then the shapes that it offers are compared too.
        """
        from privacy.explain import explain

        return explain(self, None if layout is None else [layout.shapes(one) for one in self.releases])

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
        column = PlanColumn(
            name, kind, known.sigma, known.half_width, known.table, before, known.note, known.resolution
        )
        return _with_expected(column, release, measured)


def _with_expected(column: PlanColumn, release: PlannedRelease, measured: int) -> PlanColumn:
    """The column with what a profile expects of it."""
    if not release.choice.expected or column.half_width is None or column.sigma is None:
        return column
    if release.question.measures[measured].kind == "distinct":
        return column  # a profile counts rows and groups of a unit, not its different values
    expected = release.choice.expected[measured]
    bias = round(expected.bias, 6)
    if not release.lowered.made_up(measured):
        return replace(column, expected_bias=bias)
    sigma, width = (float(f"{one * expected.ratio:.6g}") for one in (column.sigma, column.half_width))
    return replace(column, sigma=sigma, half_width=width, note=_MADE_UP, expected_bias=bias)


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
        max((column.resolution for column in columns if column.resolution is not None), default=None),
        max((column.expected_bias for column in columns if column.expected_bias is not None), default=None),
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
    profile: Profile | None = None,
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
        profile: the contribution profile of the version: how a unit is bounded is then chosen by what is
            expected of it, and said beside the noise.

    Raises:
        Refused: the statement, an option or the budget is not admissible.
    """
    chosen = options or Options()
    query = compile_query(sql, policy, lambda near: _bounded(policy, near, chosen))
    _check_names(query, chosen)
    if not query.questions:
        return Plan(policy, query, chosen, ())
    planner = _Planner(policy, query, chosen, profile, Ask(rho, epsilon, error, rho_nano))
    lowered, choices, releases = planner.planned()
    kept = earlier or Released(())
    planned = zip(query.questions, lowered, choices, releases, strict=True)
    return Plan(
        policy, query, chosen, tuple(_repeated(PlannedRelease(*one, one[-1]), kept) for one in planned)
    )


def _bounded(policy: Policy, query: Query, options: Options) -> None:
    """Refuse a query whose questions cannot be bounded, at whatever price."""
    _check_names(query, options)
    _Planner(policy, query, options, None, Ask()).chosen()


@dataclass(frozen=True)
class _Planner:
    """Chooses how the questions of a statement are bounded."""

    policy: Policy
    query: Query
    options: Options
    profile: Profile | None
    ask: Ask

    def planned(self) -> tuple[tuple[Lowered, ...], tuple[Choice, ...], tuple[Release, ...]]:
        """The questions as they are bounded, and their releases. What a profile speaks for may be more than
        can be had, as where units are heavier than any noise allows: then it is the policy's caps.

        Raises:
            Refused: the budget, an option or the size of the question is not admissible.
        """
        try:
            choices, budget = self.chosen()
            most_delta = self.policy.max_delta_per_query_pico
            releases = releases_of(budget.lowered, budget.rho_nano(self.ask), most_delta)
        except (Refused, ParameterInvalid) as invalid:
            if self.profile is not None:
                return replace(self, profile=None).planned()
            if isinstance(invalid, Refused):
                raise
            raise Refused("budget_invalid", str(invalid), hint=invalid.hint) from None
        return budget.lowered, choices, releases

    def chosen(self) -> tuple[tuple[Choice, ...], Budget]:
        """The designs, and the budget of what they come to.

        Raises:
            Refused: a budget, an option or the size of the question is not admissible.
        """
        choices = tuple(self._choice(question, 1, None) for question in self.query.questions)
        budget = self._budget(choices)
        if self.profile is None:
            return choices, budget
        spend = self._reference(budget) // len(choices)
        choices = tuple(self._choice(question, spend, self.profile) for question in self.query.questions)
        return choices, self._budget(choices)

    def _reference(self, budget: Budget) -> int:
        """About what is spent, to a factor of four: so that a question asked with somewhat more rho is
        bounded as before, and its numbers can be refined. With an error asked for, what is spent follows
        from it."""
        if self.ask.error is not None:
            return self.policy.max_rho_per_query_nano // 4
        bits = budget.rho_nano(self.ask).bit_length() - 1
        return 2 << bits - bits % 2

    def _choice(self, question: Question, spend: int, profile: Profile | None) -> Choice:
        return choose(
            question, self._table(question), self.options, profile, spend, rescale=self.ask.error is None
        )

    def _budget(self, choices: tuple[Choice, ...]) -> Budget:
        questions = zip(self.query.questions, choices, strict=True)
        lowered = tuple(
            lower(one, self._table(one), self.options, choice.design) for one, choice in questions
        )
        _check_numbers(lowered)
        if self.ask.error is not None:
            lowered = tuple(replace(one, parts_of_rho=()) for one in lowered)
        return Budget(self.policy, self.query, lowered)

    def _table(self, question: Question) -> Table:
        table = self.policy.table(question.table)
        assert table is not None
        return table


def _check_numbers(lowered: tuple[Lowered, ...]) -> None:
    """Noise is drawn outside of the sandbox, so that how much of it there is must be known before.

    Raises:
        Refused: ``too_many_groups``.
    """
    numbers = sum(one.numbers for one in lowered)
    if numbers > MAX_NUMBERS:
        message = f"This would release {numbers:,} numbers; at most {MAX_NUMBERS:,} can be."
        raise Refused("too_many_groups", message, hint="Group by fewer columns, or ask for fewer numbers.")


def _check_names(query: Query, options: Options) -> None:
    """No column may be called like the end of another's interval."""
    names = {name.lower() for name, _ in query.output.columns}
    for name, scalar in query.output.columns if options.intervals else ():
        for end in (f"{name}_low", f"{name}_high"):
            if measures_shown(query, scalar) and end.lower() in names:
                message = f"The interval of {name} needs the column name {end}, which another column has."
                hint = f"Rename {end}, or ask without intervals."
                raise Refused("duplicate_column", message, hint=hint)


def _repeated(planned: PlannedRelease, earlier: Released) -> PlannedRelease:
    """The release with the earlier numbers that spare most of it."""
    repeats = [Repeat(planned.asked, planned.sums, one) for one in earlier.of(planned.bound_digest)]
    saving = [one for one in repeats if one.saves]
    if not saving:
        return planned
    best = min(saving, key=lambda one: 0 if one.drawn is None else one.drawn.rho_nano)
    return replace(planned, release=best.stated, repeat=best)
