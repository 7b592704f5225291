"""A plan in words: where each row is bounded, what each noisy number costs, and why it is so."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from privacy.algebra import Column, Sum
from privacy.relation_words import relation_words, unit_name
from privacy.values import MAX_KEY_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from privacy.algebra import Aggregate, Key, Scalar, Total
    from privacy.drafts import Expected
    from privacy.plan import Plan, PlanColumn
    from privacy.planned import PlannedRelease
    from privacy.shapes import Shape
    from privacy.strategies import Candidate

_ADDED = ("rows", "sum", "units")
"""Kinds of measures of which something is missing where rows are not counted."""
_STRATEGIES = {
    "caps": "keeps so many groups and rows of each unit",
    "clip": "scales long units down",
    "weights": "weighs the rows of busy units less",
    "none": "needs no bounding",
}


def explain(plan: Plan, shapes: Sequence[Sequence[Shape]] | None = None) -> str:
    """What is read, how one unit is bounded and why, the noise on each number, and the cost.

    Args:
        shapes: for each release the ways in which its exact part may be read, the cheapest first.
    """
    lines = [f"reads {', '.join(sorted(plan.tables))}"]
    if not plan.releases:
        return "\n".join([*lines, "public tables only: exact, costs nothing"])
    for place, one in enumerate(plan.releases):
        lines += [
            *relation_words(one.question),
            *_grouping(one),
            *_bounding(one.lowered.aggregate),
            *_reasons(one),
            *(_read(shapes[place]) if shapes is not None else []),
            *_noise(one),
            *_shown(one),
        ]
    lines += [_column(column) for column in plan.columns]
    cost = plan.cost
    lines.append(
        f"costs rho {cost.rho_nano / 1e9:g} and delta {cost.delta_pico / 1e12:g}: "
        f"epsilon {plan.epsilon:.4g} at delta {plan.policy.delta_pico / 1e12:g}"
    )
    return "\n".join(lines)


def _grouping(one: PlannedRelease) -> list[str]:
    bound = one.lowered.aggregate.input
    if not bound.keys:
        return []
    lines = [f"groups by {', '.join(_key(key) for key in bound.keys)}"]
    if any(key.scalar.type == "text" for key in bound.keys):
        lines.append(f"takes text of more than {MAX_KEY_BYTES} bytes for NULL where it names a group")
    return lines


def _key(key: Key) -> str:
    values = "private values" if key.domain is None else f"{len(key.domain)} public values"
    return f"{getattr(key.scalar, 'name', 'an expression')} ({values})"


# Bounding


def _bounding(aggregate: Aggregate) -> list[str]:
    bound = aggregate.input
    if not bound.scales:
        how = "chosen by keyed rank" if bound.ranked else "all there are"
        where = f"{bound.groups} groups ({how}) and {bound.rows} rows in each"
        return [f"bounds each {unit_name(bound.input)} to {where if bound.keys else f'{bound.rows} rows'}"]
    lines = [_scaling(aggregate), *_counting(aggregate)]
    if aggregate.shown_by is not None:
        lines.append(f"lets each {unit_name(bound.input)} bring about at most {bound.groups} groups")
    return [line for line in lines if line]


def _scaling(aggregate: Aggregate) -> str:
    unit = unit_name(aggregate.input.input)
    rows = [one for one in (*aggregate.sums, *aggregate.limits) if one.by_rows]
    if not rows:
        return ""
    if aggregate.input.strategy == "weights":
        counted = math.isqrt(max(one.norm_squared // one.reach**2 for one in rows))
        return f"bounds each {unit} by weights: all its rows together count as at most {counted}"
    limits = ", ".join(dict.fromkeys(f"{math.sqrt(one.norm_squared):.6g} for {_sum(one)}" for one in rows))
    return f"bounds each {unit} by clipping: scales its numbers down to a length over its groups of {limits}"


def _counting(aggregate: Aggregate) -> list[str]:
    limits = {one.norm_squared for one in aggregate.sums if one.kind == "units"}
    values = {one.norm_squared for one in aggregate.sums if one.kind == "distinct"}
    unit = unit_name(aggregate.input.input)
    return [
        *(
            f"counts a {unit} of g groups as sqrt({most} / g) in each, and as 1 where that is more"
            for most in sorted(limits)
        ),
        *(
            f"counts different values of a {unit} until the squares of their numbers in each group come to "
            f"{most}"
            for most in sorted(values)
        ),
    ]


def _sum(one: Sum | Total) -> str:
    if not isinstance(one, Sum):
        return f"the total of {_sum(one.of)}, {'as it is left' if one.kept else 'as it was'}"
    if one.kind in ("rows", "units"):
        return one.kind
    name = _name(one.argument)
    if one.kind == "distinct":
        return f"different values of {name}"
    if one.leaves:
        return f"a histogram of {one.leaves} bins in {one.levels} levels"
    return f"the sum of {name}" if one.kind == "total" else f"the sum of {name} around {one.middle}"


def _name(scalar: Scalar | None) -> str:
    """The column of a clamped column; anything else is not repeated."""
    inner = getattr(scalar, "arguments", (scalar,))[0]
    return inner.name if isinstance(inner, Column) else "an expression"


# Why, and at what price


def _reasons(one: PlannedRelease) -> list[str]:
    """The strategies that were compared, by what a contribution profile expects of them."""
    candidates = one.choice.candidates
    if not candidates:
        return ["chose that from the policy and the options alone: there is no contribution profile"]
    kinds = [measure.kind for measure in one.question.measures]
    best, *others = candidates
    name = best.design.strategy
    lines = [f"{name} {_STRATEGIES[name]}: expected, in a typical group, {_expected(best, kinds)}"]
    return lines + [f"instead of {other.design.strategy}: {_expected(other, kinds)}" for other in others]


def _read(shapes: Sequence[Shape]) -> list[str]:
    """The shapes that give the same sums, by what reading them costs."""
    best, *others = shapes
    lines = [f"reads the {best.about}: about {best.seconds:.2g} s of one core, by the model"]
    return lines + [f"instead of the {other.about}: {other.seconds:.2g} s" for other in others]


def _expected(candidate: Candidate, kinds: Sequence[str]) -> str:
    """A profile tells nothing of how many values of a unit are different."""
    pairs = zip(candidate.expected, kinds, strict=True)
    found = [_one_expected(one, kind) for one, kind in pairs if kind != "distinct"]
    return "; ".join(dict.fromkeys(found)) or "no error that a profile tells"


def _one_expected(one: Expected, kind: str) -> str:
    """Of a ratio nothing is missing, but rows of busy units weigh less: above the line as below it."""
    made_up = f", scaled up by {one.ratio:.3g}" if one.ratio > 1 else ""
    if kind in _ADDED:
        return f"error {one.error:.2%} (noise {one.noise:.2%}, left out {one.bias:.2%}{made_up})"
    less = f"; rows weigh {1 - one.bias:.2%} on average, those of busy units less" if one.bias else ""
    return f"error {one.error:.2%} (noise {one.noise:.2%}{less})"


def _noise(one: PlannedRelease) -> list[str]:
    noised = {measure.name: measure for measure in one.asked.noised}
    return [
        f"noises {_sum(summed)} with sigma {noised[summed.name].sigma / (1 << summed.shift):.6g} "
        f"for rho {noised[summed.name].rho_nano / 1e9:g}"
        for summed in one.lowered.noised
    ]


def _shown(one: PlannedRelease) -> list[str]:
    threshold, units = one.release.threshold, one.lowered.units
    if threshold is None or units is None:
        return []
    least = f"{threshold.value / (1 << units.shift):.6g}"
    return [f"shows a group from {least} noisy units on, delta {threshold.delta_pico / 1e12:g}"]


def _column(column: PlanColumn) -> str:
    line = f"{column.name}: {column.kind}"
    if column.half_width is not None and column.sigma is not None:
        line = f"{line}, sigma {column.sigma:.6g}, 95% within {column.half_width:.6g}"
        line += " before the threshold selects" if column.before_threshold else ""
    elif column.table is not None:
        sizes = ", ".join(f"{width:.4g} at {size:,} rows" for size, width in column.table.items())
        line = f"{line}, 95% within {sizes}"
    if column.expected_bias is not None:
        line += f", expected to leave out {column.expected_bias:.2%}"
    return f"{line} ({column.note})" if column.note else line
