"""SQL of window functions. Like every operation they are total."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from privacy.algebra import Window

Writer = Callable[[Window, Sequence[str], str], str]

ORDERED = frozenset({"row_number", "ntile", "lag", "lead", "first_value", "last_value", "nth_value"})
"""Functions that tell rows with equal values of the order apart: they need an order without ties."""


def _plain(name: str) -> Writer:
    return lambda _window, parts, over: f"{name}({', '.join(parts)}) OVER ({over})"


def exact_total(total: str) -> str:
    """A sum of integers held within 2^62, so that no number of rows overflows; NULL where there are none."""
    most, least = (f"CAST('{end}' AS HUGEINT)" for end in (2**62, -(2**62)))
    held = f"CAST(greatest(least({total}, {most}), {least}) AS BIGINT)"
    return f"CASE WHEN {total} IS NOT NULL THEN {held} END"


def exact_mean(total: str, count: str) -> str:
    """The quotient of two exact integers: the same however the rows lie."""
    return f"(CAST({total} AS DOUBLE) / CAST(nullif({count}, 0) AS DOUBLE))"


def exact_variance(x: str, kept: str, *, sample: bool, root: bool) -> str:
    """The variance of integers within 2^31 of 0, or its root: the same however the rows lie.

    With m the mean cut to an integer and r = sum(x) - m n, the squares around m come to sum(x^2) - m sum(x) -
    m r, exactly, and those around the mean to r^2 / n less. What remains for floating point is as close
    to the result as it is precise, or within a unit of x squared.
    """
    count, total = f"CAST(count({x}){kept} AS HUGEINT)", f"sum({x}){kept}"
    whole = f"({total} // nullif({count}, 0))"
    rest = f"({total} - {whole} * {count})"
    around = f"CAST(sum({x} * {x}){kept} - {whole} * {total} - {whole} * {rest} AS DOUBLE)"
    n, r = f"CAST({count} AS DOUBLE)", f"CAST({rest} AS DOUBLE)"
    squares = f"({around} - {r} * {r} / nullif({n}, 0))"
    sql = f"greatest({squares} / nullif({n}{' - 1' if sample else ''}, 0), CAST('0' AS DOUBLE))"
    held = f"CASE WHEN {count} > {1 if sample else 0} THEN {sql} END"
    return f"sqrt({held})" if root else held


def _exact_avg(_window: Window, parts: Sequence[str], over: str) -> str:
    return exact_mean(f"(sum({parts[0]}) OVER ({over}))", f"(count({parts[0]}) OVER ({over}))")


def _public_sum(window: Window, parts: Sequence[str], over: str) -> str:
    kind = "BIGINT" if window.arguments[0].type == "integer" else "DOUBLE"
    return f"TRY_CAST(sum({parts[0]}) OVER ({over}) AS {kind})"


WINDOWS: dict[str, Writer] = {
    "row_number": _plain("row_number"),
    "rank": _plain("rank"),
    "dense_rank": _plain("dense_rank"),
    "percent_rank": _plain("percent_rank"),
    "cume_dist": _plain("cume_dist"),
    "ntile": _plain("ntile"),
    "lag": _plain("lag"),
    "lead": _plain("lead"),
    "first_value": _plain("first_value"),
    "last_value": _plain("last_value"),
    "nth_value": _plain("nth_value"),
    "count": lambda _window, parts, over: f"count({', '.join(parts) or '*'}) OVER ({over})",
    "min": _plain("min"),
    "max": _plain("max"),
    "sum": _public_sum,
    "avg": _plain("avg"),
    "exact_sum": lambda _window, parts, over: exact_total(f"(sum({parts[0]}) OVER ({over}))"),
    "exact_avg": _exact_avg,
}
