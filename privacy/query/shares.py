"""Quantiles of private rows: at which shares, of which number."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from sqlglot import exp

from privacy.algebra import Literal, Measure

if TYPE_CHECKING:
    from privacy.algebra import Scalar
    from privacy.query.measured import PrivateCalls

QUANTILES = (
    exp.Median, exp.PercentileCont, exp.PercentileDisc, exp.Quantile, exp.ApproxQuantile, exp.Min, exp.Max,
)  # fmt: skip
MAX_SHARES = 100

_EXTREMES: dict[type, tuple[str, Decimal]] = {
    exp.Median: ("quantile", Decimal("0.5")),
    exp.Min: ("min", Decimal("0.01")),
    exp.Max: ("max", Decimal("0.99")),
}
_HINT = "Write it as in quantile_cont(x, 0.9) or quantile_cont(x, [0.25, 0.75])."


def quantile(calls: PrivateCalls, call: exp.Expr, condition: Scalar) -> tuple[Measure, str]:
    """quantile_cont(x, shares) and its kin, median(x), min(x) and max(x)."""
    calls.rows.only(call, "this", "expression", "quantile")
    if type(call) in _EXTREMES:
        kind, share = _EXTREMES[type(call)]
        return _quantiles(calls, call, call.this, condition, kind, [share])
    shares = call.args.get("expression") or call.args.get("quantile")
    if shares is None:
        calls.source.refuse(call, "unsupported_function", "A share is needed.", _HINT)
    kind, found = _shares(calls, shares)
    return _quantiles(calls, call, call.this, condition, kind, found)


def within_group(calls: PrivateCalls, call: exp.WithinGroup, condition: Scalar) -> tuple[Measure, str]:
    """percentile_cont(shares) WITHIN GROUP (ORDER BY x)."""
    inner, order = call.this, call.expression
    if not isinstance(inner, exp.PercentileCont | exp.PercentileDisc) or not isinstance(order, exp.Order):
        calls.refuse(call)
    calls.rows.only(inner, "this")
    calls.rows.only(order, "expressions")
    ordered = order.expressions[0]
    if len(order.expressions) != 1 or not isinstance(ordered, exp.Ordered):
        calls.source.refuse(order, "unsupported_clause", "Order by one number.", _HINT)
    calls.rows.only(ordered, "this", "desc", "nulls_first")
    kind, shares = _shares(calls, inner.this)
    if ordered.args.get("desc"):
        shares = [1 - share for share in shares]
    return _quantiles(calls, call, ordered.this, condition, kind, shares)


def _shares(calls: PrivateCalls, node: exp.Expr) -> tuple[str, list[Decimal]]:
    if isinstance(node, exp.Array):
        return "quantiles", [_share(calls, one) for one in node.expressions]
    return "quantile", [_share(calls, node)]


def _share(calls: PrivateCalls, node: exp.Expr) -> Decimal:
    found = calls.rows.compile(node)
    value = found.value if isinstance(found, Literal) else None
    if isinstance(value, bool) or not isinstance(value, int | Decimal) or not 0 < value < 1:
        message = "A share is a literal number between 0 and 1."
        calls.source.refuse(node, "type_mismatch", message, _HINT)
    return Decimal(value)


def _quantiles(
    calls: PrivateCalls,
    call: exp.Expr,
    argument: exp.Expr,
    condition: Scalar,
    kind: str,
    shares: list[Decimal],
) -> tuple[Measure, str]:
    if not 1 <= len(shares) <= MAX_SHARES:
        message = f"From one to {MAX_SHARES} shares can be asked for at once."
        calls.source.refuse(call, "unsupported_function", message, _HINT)
    number = calls.number(call, argument, condition)
    counted = calls.where_present(condition, number.scalar)
    measure = Measure(kind, counted, (number,), parameters=tuple(shares), leaves=calls.leaves)
    return measure, "list of float" if kind == "quantiles" else "float"
