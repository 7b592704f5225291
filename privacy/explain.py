"""A plan in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from privacy.relation_words import relation_words, unit_name
from privacy.values import MAX_KEY_BYTES

if TYPE_CHECKING:
    from privacy.algebra import Bound, Key
    from privacy.plan import Plan, PlanColumn


def explain(plan: Plan) -> str:
    """What is read, how one unit is bounded, the noise on each number, and the cost."""
    lines = [f"reads {', '.join(sorted(plan.tables))}"]
    if not plan.releases:
        return "\n".join([*lines, "public tables only: exact, costs nothing"])
    for one in plan.releases:
        lines += relation_words(one.question)
        lines += _bounding(one.lowered.aggregate.input)
    lines += [_column(column) for column in plan.columns]
    for one in plan.releases:
        threshold = one.release.threshold
        if threshold is not None:
            lines.append(
                f"shows a group from {threshold.value} noisy units on, delta {threshold.delta_pico / 1e12:g}"
            )
    cost = plan.cost
    lines.append(
        f"costs rho {cost.rho_nano / 1e9:g} and delta {cost.delta_pico / 1e12:g}: "
        f"epsilon {plan.epsilon:.4g} at delta {plan.policy.delta_pico / 1e12:g}"
    )
    return "\n".join(lines)


def _bounding(bound: Bound) -> list[str]:
    unit = unit_name(bound.input)
    if not bound.keys:
        return [f"bounds each {unit} to {bound.rows} rows"]
    lines = [f"groups by {', '.join(_key(key) for key in bound.keys)}"]
    how = "chosen by keyed rank" if bound.ranked else "all there are"
    lines.append(f"bounds each {unit} to {bound.groups} groups ({how}) and {bound.rows} rows in each")
    if any(key.scalar.type == "text" for key in bound.keys):
        lines.append(f"takes text of more than {MAX_KEY_BYTES} bytes for NULL where it names a group")
    return lines


def _key(key: Key) -> str:
    values = "private values" if key.domain is None else f"{len(key.domain)} public values"
    return f"{getattr(key.scalar, 'name', 'an expression')} ({values})"


def _column(column: PlanColumn) -> str:
    if column.half_width is not None and column.sigma is not None:
        line = f"{column.name}: {column.kind}, sigma {column.sigma:.6g}, 95% within {column.half_width:.6g}"
        return f"{line} before the threshold selects" if column.before_threshold else line
    if column.table is not None:
        sizes = ", ".join(f"{width:.4g} at {size:,} rows" for size, width in column.table.items())
        line = f"{column.name}: {column.kind}, 95% within {sizes}"
        return f"{line} ({column.note})" if column.note else line
    return f"{column.name}: {column.kind}"
