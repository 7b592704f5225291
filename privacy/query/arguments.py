"""What functions take: text, literal numbers and texts, moments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from privacy.algebra import Call, Column, Literal, Scalar
from privacy.values import NUMBERS, TIMES, canonical

if TYPE_CHECKING:
    from sqlglot import exp

    from privacy.query.scalars import Scalars

MAX_COUNT = 1_000_000


def text(scalars: Scalars, node: exp.Expr | None) -> Scalar:
    """``node`` as text."""
    operand = scalars.compile(node)
    if operand.type not in ("text", "null"):
        scalars.mismatch(node, "Text is needed here.", "Use a text column, or try_cast(x AS varchar).")
    return Literal(None, "text") if operand.type == "null" else operand


def written(scalars: Scalars, node: exp.Expr) -> Scalar:
    """``node`` as the text that SQL writes it as."""
    operand = scalars.compile(node)
    if operand.type == "text":
        return operand
    if not isinstance(operand, Literal):
        return scalars.call(node, "try_cast", [operand, Literal("VARCHAR", "text")], "text")
    if operand.value is None:
        return Literal(None, "text")
    if operand.type not in ("integer", "decimal"):
        scalars.mismatch(node, "Text is needed here.", "Write it as quoted text.")
    return Literal(canonical(operand.value), "text")


def literal_text(scalars: Scalars, node: exp.Expr | None, most: int = 1000) -> Literal:
    """``node`` as literal text of 1 to ``most`` bytes."""
    found = scalars.compile(node)
    value = found.value if isinstance(found, Literal) else None
    if not isinstance(found, Literal) or not isinstance(value, str) or not 0 < len(value.encode()) <= most:
        hint = f"Write it in quotes, of at most {most} bytes."
        scalars.mismatch(node, "A literal text is needed here.", hint)
    return found


def count(scalars: Scalars, node: exp.Expr | None, low: int = -MAX_COUNT, high: int = MAX_COUNT) -> Literal:
    """``node`` as a literal whole number from ``low`` to ``high``."""
    found = scalars.compile(node)
    if not isinstance(found, Literal) or not isinstance(found.value, int) or not low <= found.value <= high:
        scalars.mismatch(node, "A literal whole number is needed here.", f"Use one from {low} to {high}.")
    return found


def moment(scalars: Scalars, node: exp.Expr) -> Scalar:
    """``node`` as a timestamp."""
    operand = scalars.compile(node)
    if operand.type not in TIMES:
        scalars.mismatch(node, "A date or timestamp is needed here.", "Use one, or try_cast(x AS timestamp).")
    return scalars.converted(node, operand, "timestamp") if isinstance(operand, Column | Call) else operand


def double(scalars: Scalars, node: exp.Expr) -> Scalar:
    """``node`` as a number."""
    found = scalars.compile(node)
    if found.type not in NUMBERS | {"null"}:
        scalars.mismatch(node, "A number is needed here.", "Use a number, or try_cast(x AS double).")
    return Literal(None, "float") if found.type == "null" else found
