"""Fixed point numbers whose range is proven before any data is read.

A number that is summed becomes an integer: clamped to its declared bounds, scaled by ``10 ** decimals``,
and combined by interval arithmetic. Every intermediate value is shown to stay below 2^62, so that the
engine's 64 bit integers are exact and cannot overflow, and sums over at most 2^64 rows fit HUGEINT.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal

from privacy.algebra import Call, Column, Literal, Scalar
from privacy.values import NUMBERS

LIMIT = 2**62
MAX_DECIMALS = 18
QUOTIENT_DECIMALS = 6
"""Further decimals that a division by a constant keeps; the rest is truncated toward zero."""

_DATE_PARTS = {
    "year": (1, 9999), "quarter": (1, 4), "month": (1, 12), "week": (1, 53), "day": (1, 31), "hour": (0, 23),
    "minute": (0, 59), "second": (0, 59), "dayofweek": (0, 6), "isodow": (1, 7), "dayofyear": (1, 366),
    "isoyear": (0, 9999), "yearweek": (0, 999953), "decade": (0, 999), "century": (1, 100),
    "millisecond": (0, 59_999), "microsecond": (0, 59_999_999),
}  # fmt: skip


@dataclass(frozen=True)
class Bounds:
    """Declared bounds of a column, scaled by ``10 ** decimals``."""

    low: int
    high: int
    decimals: int


BoundsOf = Callable[[Scalar], Bounds | None]
"""Bounds of a column, or of an expression that has no other fixed point form."""


class NotFixed(Exception):
    """The expression has no proven range.

    Attributes:
        code: ``missing_bounds``, ``overflow``, ``type_mismatch`` or ``unsupported_function``.
        column: the column at fault, when it is one.
    """

    code = "missing_bounds"

    def __init__(self, code: str, message: str, hint: str, column: Column | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint
        self.column = column


@dataclass(frozen=True)
class Fixed:
    """An integer expression with value ``scalar / 10 ** decimals`` in ``[low, high] / 10 ** decimals``.

    ``null`` says that it is NULL on every row; then it has no range.
    """

    scalar: Scalar
    low: int
    high: int
    decimals: int
    null: bool = False


NOTHING = Fixed(Literal(None, "integer"), 0, 0, 0, null=True)


def fixed(scalar: Scalar, bounds_of: BoundsOf) -> Fixed:
    """The fixed point form of a numeric expression.

    Raises:
        NotFixed: a column without bounds, a range beyond 2^62, or an operation without a fixed point form.
    """
    try:
        return _formed(scalar, bounds_of)
    except NotFixed:
        bounds = bounds_of(scalar) if isinstance(scalar, Call) else None
        if bounds is None:
            raise
    return _clamped(scalar, bounds)


def _formed(scalar: Scalar, bounds_of: BoundsOf) -> Fixed:
    if isinstance(scalar, Column):
        return _column(scalar, bounds_of)
    if isinstance(scalar, Literal):
        return _literal(scalar)
    if scalar.operation == "date_part":
        low, high = _DATE_PARTS[str(_value(scalar.arguments[0]))]
        return _clamped(scalar, Bounds(low, high, 0))
    if scalar.operation in _COMBINE:
        operands = [fixed(argument, bounds_of) for argument in scalar.arguments]
        return _checked(_COMBINE[scalar.operation](operands))
    if scalar.operation == "case":
        return _checked(_case(scalar, bounds_of))
    if scalar.operation == "div":
        return _checked(_quotient(fixed(scalar.arguments[0], bounds_of), scalar.arguments[1]))
    if scalar.type == "boolean":
        raise NotFixed(
            "type_mismatch", "A condition is not a number.", "Use CASE WHEN ... THEN 1 ELSE 0 END."
        )
    raise NotFixed(
        "missing_bounds",
        "The range of this expression is not known.",
        "Sum bounded columns combined by + - * / CASE abs least greatest coalesce.",
    )


def always_present(scalar: Scalar, present: Callable[[Column], bool] = lambda _: False) -> bool:
    """Whether the expression is provably never NULL. ``present`` tells it of columns."""
    if isinstance(scalar, Literal):
        return scalar.value is not None
    if isinstance(scalar, Column):
        return present(scalar)
    if scalar.operation == "is_null":
        return True
    parts = list(scalar.arguments)
    if scalar.operation == "coalesce":
        return any(always_present(argument, present) for argument in parts)
    if scalar.operation == "case":
        return all(always_present(value, present) for value in _values(scalar))
    return scalar.operation in _STRICT and all(always_present(argument, present) for argument in parts)


def presence(scalar: Scalar) -> Scalar:
    """The condition that a fixed point expression is not NULL; clamping does not change it."""
    inner = scalar.arguments[0] if isinstance(scalar, Call) and scalar.operation == "clamp" else scalar
    return Call("not", (Call("is_null", (inner,), "boolean"),), "boolean")


_STRICT = frozenset({"clamp", "exact_add", "exact_sub", "exact_mul", "exact_neg", "exact_abs", "exact_div"})


def _column(column: Column, bounds_of: BoundsOf) -> Fixed:
    bounds = bounds_of(column) if column.type in NUMBERS else None
    if bounds is None:
        raise NotFixed(
            "missing_bounds",
            "A summed column needs declared bounds, and this one has none.",
            "Ask the provider to declare bounds, or count rows instead.",
            column,
        )
    return _clamped(column, bounds)


def _clamped(scalar: Scalar, bounds: Bounds) -> Fixed:
    numbers = [Literal(number, "integer") for number in (bounds.low, bounds.high, bounds.decimals)]
    return _checked(
        Fixed(Call("clamp", (scalar, *numbers), "integer"), bounds.low, bounds.high, bounds.decimals)
    )


def held(number: Fixed, low: int, high: int) -> Fixed:
    """The number within ``[low, high]``, integers of its own decimals; NULL stays NULL."""
    ends = [Literal(end, "integer") for end in (low, high, 0)]
    return Fixed(Call("clamp", (number.scalar, *ends), "integer"), low, high, number.decimals)


def _literal(literal: Literal) -> Fixed:
    if literal.value is None:
        return NOTHING
    value = literal.value
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise NotFixed("type_mismatch", "This literal is not a number.", "Sum numbers.")
    number = Decimal(value)
    decimals = max(-int(number.normalize().as_tuple().exponent), 0) if number else 0
    scaled = int(number.scaleb(decimals)) if decimals <= MAX_DECIMALS and number.adjusted() < 19 else LIMIT
    return _checked(Fixed(Literal(scaled, "integer"), scaled, scaled, decimals))


def _value(scalar: Scalar) -> object:
    return scalar.value if isinstance(scalar, Literal) else None


def _checked(number: Fixed) -> Fixed:
    if max(abs(number.low), abs(number.high)) >= LIMIT or number.decimals > MAX_DECIMALS:
        raise NotFixed(
            "overflow",
            "The values of this expression could exceed 2^62.",
            "Use tighter bounds, fewer decimals or fewer factors.",
        )
    return number


def _aligned(operands: list[Fixed]) -> list[Fixed]:
    """The operands brought to one number of decimals."""
    decimals = max(operand.decimals for operand in operands)
    return [_checked(_scaled(operand, decimals - operand.decimals)) for operand in operands]


def _scaled(number: Fixed, digits: int) -> Fixed:
    if digits == 0 or number.null:
        return number
    factor = 10**digits
    if isinstance(number.scalar, Literal):
        scalar: Scalar = Literal(number.low * factor, "integer")
    else:
        scalar = Call("exact_mul", (number.scalar, Literal(factor, "integer")), "integer")
    return Fixed(scalar, number.low * factor, number.high * factor, number.decimals + digits)


def _binary(operation: str, operands: list[Fixed], low: int, high: int, decimals: int) -> Fixed:
    if any(operand.null for operand in operands):
        return NOTHING
    arguments = tuple(operand.scalar for operand in operands)
    return Fixed(Call(operation, arguments, "integer"), low, high, decimals)


def _sum(operands: list[Fixed]) -> Fixed:
    left, right = _aligned(operands)
    return _binary("exact_add", [left, right], left.low + right.low, left.high + right.high, left.decimals)


def _difference(operands: list[Fixed]) -> Fixed:
    left, right = _aligned(operands)
    return _binary("exact_sub", [left, right], left.low - right.high, left.high - right.low, left.decimals)


def _product(operands: list[Fixed]) -> Fixed:
    left, right = operands
    corners = [one * other for one in (left.low, left.high) for other in (right.low, right.high)]
    return _binary("exact_mul", operands, min(corners), max(corners), left.decimals + right.decimals)


def _negated(operands: list[Fixed]) -> Fixed:
    (number,) = operands
    return _binary("exact_neg", operands, -number.high, -number.low, number.decimals)


def _absolute(operands: list[Fixed]) -> Fixed:
    (number,) = operands
    low = 0 if number.low <= 0 <= number.high else min(abs(number.low), abs(number.high))
    return _binary("exact_abs", operands, low, max(abs(number.low), abs(number.high)), number.decimals)


def _quotient(number: Fixed, divisor: Scalar) -> Fixed:
    """Division by a constant: scaled up, then truncated toward zero by an integer divisor."""
    constant = _literal(divisor) if isinstance(divisor, Literal) else NOTHING
    power = _power_of_ten(constant)
    if power is not None and not number.null and power + number.decimals <= MAX_DECIMALS:
        return replace(number, decimals=number.decimals + power)
    if constant.null or constant.low == 0:
        raise NotFixed(
            "unsupported_function",
            "Inside an aggregate only a division by a constant other than 0 is possible.",
            "Divide two aggregates instead, as in sum(x) / count(*).",
        )
    if number.null:
        return NOTHING
    raised = _checked(_scaled(number, QUOTIENT_DECIMALS + constant.decimals))
    corners = [_truncated(raised.low, constant.low), _truncated(raised.high, constant.low)]
    scalar = Call("exact_div", (raised.scalar, Literal(constant.low, "integer")), "integer")
    return Fixed(scalar, min(corners), max(corners), number.decimals + QUOTIENT_DECIMALS)


def _power_of_ten(constant: Fixed) -> int | None:
    """How far a division by the constant moves the decimal point to the left, when it does only that."""
    if constant.null or constant.decimals or constant.low < 1:
        return None
    power = len(str(constant.low)) - 1
    return power if constant.low == 10**power else None


def _truncated(dividend: int, divisor: int) -> int:
    size = abs(dividend) // abs(divisor)
    return size if (dividend < 0) is (divisor < 0) else -size


def _choice(operation: str, operands: list[Fixed]) -> Fixed:
    """coalesce, least and greatest: a value of one of the operands."""
    aligned = _aligned(operands)
    present = [operand for operand in aligned if not operand.null]
    if not present or (operation != "coalesce" and len(present) < len(aligned)):
        return NOTHING
    call = Call(operation, tuple(operand.scalar for operand in aligned), "integer")
    if operation == "least":
        low, high = min(one.low for one in present), min(one.high for one in present)
    elif operation == "greatest":
        low, high = max(one.low for one in present), max(one.high for one in present)
    else:
        low, high = min(one.low for one in present), max(one.high for one in present)
    return Fixed(call, low, high, present[0].decimals)


def _values(case: Call) -> list[Scalar]:
    return [*case.arguments[1:-1:2], case.arguments[-1]]


def _case(case: Call, bounds_of: BoundsOf) -> Fixed:
    values = _aligned([fixed(value, bounds_of) for value in _values(case)])
    present = [value for value in values if not value.null]
    if not present:
        return NOTHING
    arguments = list(case.arguments)
    for place, value in zip([*range(1, len(arguments) - 1, 2), len(arguments) - 1], values, strict=True):
        arguments[place] = value.scalar
    call = Call("case", tuple(arguments), "integer")
    return Fixed(call, min(one.low for one in present), max(one.high for one in present), present[0].decimals)


_COMBINE: dict[str, Callable[[list[Fixed]], Fixed]] = {
    "add": _sum,
    "sub": _difference,
    "mul": _product,
    "neg": _negated,
    "abs": _absolute,
    "to_float": lambda operands: operands[0],
    "coalesce": lambda operands: _choice("coalesce", operands),
    "least": lambda operands: _choice("least", operands),
    "greatest": lambda operands: _choice("greatest", operands),
}
