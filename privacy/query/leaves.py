"""Counts of many values at once: histogram(x), histogram(x, boundaries) and approx_top_k(x, k)."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from sqlglot import exp

from privacy.algebra import Call, Literal, Measure, columns_of, conjunction
from privacy.values import NUMBERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from privacy.algebra import Scalar
    from privacy.query.measured import PrivateCalls

MAX_VALUES = 1_000
MAX_VALUES_IN_ALL = 2_000
"""Values that the histograms of one statement may count: each of them is written out several times."""
_LARGEST = 2**63 - 1
_HINT = "Write it as in histogram(x, [0, 10, 100]), or group by x and count."
_DOMAIN_HINT = "Group by it and count: values with private keys are shown where enough units have them."


def named_histogram(calls: PrivateCalls, call: exp.Anonymous, condition: Scalar) -> tuple[Measure, str]:
    """histogram(x) over a public key set, or histogram(x, boundaries) over upper ends of bins."""
    arguments = call.expressions
    if len(arguments) == 1:
        measure = _of_values(calls, arguments[0], condition, "histogram", ())
        return measure, f"map of {measure.labels[0].type}"
    if len(arguments) != 2 or not isinstance(arguments[1], exp.Array):
        calls.source.refuse(call, "unsupported_function", "Boundaries are a list of numbers.", _HINT)
    value = calls.selectable(arguments[0])
    if value.type not in NUMBERS:
        calls.rows.mismatch(arguments[0], "Bins are of numbers.", _HINT)
    ends = _boundaries(calls, arguments[1])
    kind = "integer" if value.type == "integer" and all(isinstance(end, int) for end in ends) else "float"
    if kind == "integer":
        ends = [end for end in ends if end < _LARGEST]  # the last bin has that end
    else:
        ends = list({float(end): end for end in ends}.values())  # told apart as the labels are
    last = Literal(_LARGEST, "integer") if kind == "integer" else Literal(None, "float")
    labels = (*(Literal(end if kind == "integer" else Decimal(end), kind) for end in ends), last)
    tests = [Call("le", (value, Literal(Decimal(end), "decimal")), "boolean") for end in ends]
    return _measure(calls, arguments[1], condition, value, tests, labels, "histogram", ()), f"map of {kind}"


def top_k(calls: PrivateCalls, call: exp.ApproxTopK, condition: Scalar) -> tuple[Measure, str]:
    """The k most frequent values of a public key set, by their noisy counts."""
    calls.rows.only(call, "this", "expression")
    found = None if call.expression is None else calls.rows.compile(call.expression)
    size = found.value if isinstance(found, Literal) else None
    if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= MAX_VALUES:
        hint = "Write it as in approx_top_k(x, 3)."
        calls.source.refuse(call, "type_mismatch", "How many values is a literal whole number.", hint)
    measure = _of_values(calls, call.this, condition, "top_k", (Decimal(size),))
    return measure, f"list of {measure.labels[0].type}"


def _of_values(
    calls: PrivateCalls, argument: exp.Expr, condition: Scalar, kind: str, parameters: tuple[Decimal, ...]
) -> Measure:
    value = calls.selectable(argument)
    domain = calls.catalog.domain(value, calls.input.conditions) if columns_of(value) else None
    if domain is None:
        message = "These values have no public key set."
        calls.source.refuse(argument, "missing_bounds", message, _DOMAIN_HINT)
    tests = [Call("eq", (value, one), "boolean") for one in domain[:-1]]
    counted = calls.rows.call(argument, "in", [value, *domain], "boolean")
    return _measure(
        calls, argument, conjunction([condition, counted]), value, tests, domain, kind, parameters
    )


def _boundaries(calls: PrivateCalls, node: exp.Array) -> list[int | Decimal]:
    found = [calls.rows.compile(one) for one in node.expressions]
    ends: list[int | Decimal] = []
    for one in found:
        value = one.value if isinstance(one, Literal) else None
        if isinstance(value, bool) or not isinstance(value, int | Decimal):
            calls.source.refuse(node, "type_mismatch", "Boundaries are literal numbers.", _HINT)
        ends.append(value)
    if not ends:
        calls.source.refuse(node, "type_mismatch", "There are no boundaries.", _HINT)
    return sorted(set(ends))


def _measure(
    calls: PrivateCalls,
    node: exp.Expr,
    condition: Scalar,
    value: Scalar,
    tests: Sequence[Scalar],
    labels: tuple[Literal, ...],
    kind: str,
    parameters: tuple[Decimal, ...],
) -> Measure:
    """Each row counts for the first test that it passes, or else for the last label."""
    if len(labels) > MAX_VALUES:
        message = f"At most {MAX_VALUES} values can be counted at once."
        calls.source.refuse(node, "too_complex", message, _DOMAIN_HINT)
    calls.catalog.counted_values += len(labels)
    if calls.catalog.counted_values > MAX_VALUES_IN_ALL:
        message = f"The histograms of one statement can count {MAX_VALUES_IN_ALL} values; these count more."
        calls.source.refuse(node, "too_complex", message, "Ask for fewer of them at once.")
    parts: list[Scalar] = []
    for place, test in enumerate(tests):
        parts += [test, Literal(place, "integer")]
    parts.append(Literal(len(tests), "integer"))
    leaf = calls.rows.call(node, "case", parts, "integer") if tests else parts[0]
    counted = calls.where_present(condition, value)
    return Measure(kind, counted, value=leaf, parameters=parameters, labels=labels)
