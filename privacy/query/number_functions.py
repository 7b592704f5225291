"""Functions of numbers. Where one is not defined, or not finite, it is NULL."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from sqlglot import exp

from privacy.algebra import Literal, Scalar
from privacy.query.arguments import count, double

if TYPE_CHECKING:
    from collections.abc import Callable

    from privacy.query.scalars import Scalars

PI = Literal(Decimal("3.141592653589793"), "float")
_ROUNDING: dict[type, str] = {exp.Abs: "abs", exp.Floor: "floor", exp.Ceil: "ceil", exp.Round: "round"}
_OF_ONE: dict[type, str] = {
    exp.Sqrt: "root", exp.Cbrt: "cbrt", exp.Ln: "ln", exp.Exp: "exp", exp.Radians: "radians",
    exp.Degrees: "degrees", exp.Sin: "sin", exp.Cos: "cos", exp.Tan: "tan", exp.Asin: "asin",
    exp.Acos: "acos", exp.Atan: "atan",
}  # fmt: skip
_OF_TWO: dict[type, str] = {exp.Pow: "power", exp.Atan2: "atan2"}


def _rounded(scalars: Scalars, node: exp.Expr) -> Scalar:
    scalars.only(node, "this", "decimals")
    operand = scalars.number(node.this, scalars.compile(node.this))
    digits = node.args.get("decimals")
    if digits is not None and type(node) is not exp.Abs:
        places = count(scalars, digits, -15, 15)
        if type(node) is not exp.Round:
            scalars.refuse_unknown(node)
        return scalars.call(node, "round_to", [operand, places], "float")
    if operand.type == "integer" and type(node) is not exp.Abs:
        return operand
    return scalars.call(
        node, _ROUNDING[type(node)], [operand], "integer" if operand.type == "integer" else "float"
    )


def _truncated(scalars: Scalars, node: exp.Trunc) -> Scalar:
    scalars.only(node, "this")
    operand = double(scalars, node.this)
    return operand if operand.type == "integer" else scalars.call(node, "trunc", [operand], "float")


def _sign(scalars: Scalars, node: exp.Sign) -> Scalar:
    scalars.only(node, "this")
    return scalars.call(node, "sign", [double(scalars, node.this)], "integer")


def _of_one(scalars: Scalars, node: exp.Expr) -> Scalar:
    scalars.only(node, "this")
    return scalars.call(node, _OF_ONE[type(node)], [double(scalars, node.this)], "float")


def _of_two(scalars: Scalars, node: exp.Expr) -> Scalar:
    scalars.only(node, "this", "expression")
    operands = [double(scalars, node.this), double(scalars, node.expression)]
    return scalars.call(node, _OF_TWO[type(node)], operands, "float")


def _logarithm(scalars: Scalars, node: exp.Log) -> Scalar:
    """log(x) to the base 10, or log(b, x) to a literal base."""
    scalars.only(node, "this", "expression")
    if node.args.get("expression") is None:
        return scalars.call(node, "log", [Literal(10, "integer"), double(scalars, node.this)], "float")
    base = scalars.compile(node.this)
    value = base.value if isinstance(base, Literal) else None
    if isinstance(value, bool) or not isinstance(value, int | Decimal) or value <= 0 or value == 1:
        scalars.mismatch(node.this, "A base is needed here.", "Use a literal above 0 other than 1.")
    return scalars.call(node, "log", [base, double(scalars, node.expression)], "float")


def _whole_quotient(scalars: Scalars, node: exp.IntDiv) -> Scalar:
    scalars.only(node, "this", "expression")
    operands = [double(scalars, side) for side in (node.this, node.expression)]
    if any(operand.type != "integer" for operand in operands):
        scalars.mismatch(node, "Whole numbers are needed here.", "Use floor(a / b).")
    return scalars.call(node, "whole_div", operands, "integer")


def _pi(scalars: Scalars, node: exp.Pi) -> Scalar:
    scalars.only(node)
    return PI


NUMBER_FUNCTIONS: dict[type, Callable[..., Scalar]] = {
    **dict.fromkeys(_ROUNDING, _rounded),
    **dict.fromkeys(_OF_ONE, _of_one),
    **dict.fromkeys(_OF_TWO, _of_two),
    exp.Trunc: _truncated,
    exp.Sign: _sign,
    exp.Log: _logarithm,
    exp.IntDiv: _whole_quotient,
    exp.Pi: _pi,
}
