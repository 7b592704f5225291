"""Functions of text. None makes texts of more than a few kilobytes: what an answer needs is no channel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlglot import exp

from privacy.algebra import Literal, Scalar
from privacy.query.arguments import count, literal_text, text, written

if TYPE_CHECKING:
    from collections.abc import Callable

    from privacy.query.scalars import Scalars

MAX_PADDED = 1000

_CHANGES: dict[type, tuple[str, str]] = {
    exp.Lower: ("lower", "text"), exp.Upper: ("upper", "text"), exp.Length: ("length", "integer"),
    exp.Reverse: ("reverse", "text"), exp.Ascii: ("ascii", "integer"),
}  # fmt: skip
_SEARCHES: dict[type, str] = {
    exp.StartsWith: "starts_with", exp.EndsWith: "ends_with", exp.Contains: "contains",
}  # fmt: skip
_SIDES = {"": "trim", "BOTH": "trim", "LEADING": "ltrim", "TRAILING": "rtrim"}


def _changed(scalars: Scalars, node: exp.Expr) -> Scalar:
    scalars.only(node, "this")
    operation, kind = _CHANGES[type(node)]
    return scalars.call(node, operation, [text(scalars, node.this)], kind)


def _searched(scalars: Scalars, node: exp.Expr) -> Scalar:
    scalars.only(node, "this", "expression")
    operands = [text(scalars, node.this), text(scalars, node.expression)]
    return scalars.call(node, _SEARCHES[type(node)], operands, "boolean")


def _position(scalars: Scalars, node: exp.StrPosition) -> Scalar:
    scalars.only(node, "this", "substr")
    operands = [text(scalars, node.this), text(scalars, node.args.get("substr"))]
    return scalars.call(node, "strpos", operands, "integer")


def _substring(scalars: Scalars, node: exp.Substring) -> Scalar:
    scalars.only(node, "this", "start", "length")
    if node.args.get("start") is None:
        scalars.refuse_unknown(node)
    bounds = [
        count(scalars, node.args[name]) for name in ("start", "length") if node.args.get(name) is not None
    ]
    return scalars.call(node, "substring", [text(scalars, node.this), *bounds], "text")


def _side(scalars: Scalars, node: exp.Expr) -> Scalar:
    scalars.only(node, "this", "expression")
    operation = "left" if isinstance(node, exp.Left) else "right"
    operands = [text(scalars, node.this), count(scalars, node.args.get("expression"))]
    return scalars.call(node, operation, operands, "text")


def _trimmed(scalars: Scalars, node: exp.Trim) -> Scalar:
    scalars.only(node, "this", "expression", "position")
    operands = [text(scalars, node.this)]
    if node.args.get("expression") is not None:
        operands.append(literal_text(scalars, node.expression))
    return scalars.call(node, _SIDES[str(node.args.get("position") or "")], operands, "text")


def _replaced(scalars: Scalars, node: exp.Replace) -> Scalar:
    scalars.only(node, "this", "expression", "replacement")
    by = node.args.get("replacement")
    inserted = Literal("", "text") if by is None else scalars.compile(by)
    if by is not None and inserted != Literal("", "text"):
        inserted = literal_text(scalars, by)
    operands = [text(scalars, node.this), literal_text(scalars, node.expression), inserted]
    return scalars.call(node, "replace", operands, "text")


def _padded(scalars: Scalars, node: exp.Pad) -> Scalar:
    scalars.only(node, "this", "expression", "fill_pattern", "is_left")
    if node.args.get("fill_pattern") is None:
        scalars.refuse_unknown(node)
    operands = [
        text(scalars, node.this),
        count(scalars, node.expression, 0, MAX_PADDED),
        literal_text(scalars, node.args["fill_pattern"], 100),
    ]
    return scalars.call(node, "lpad" if node.args.get("is_left") else "rpad", operands, "text")


def _part(scalars: Scalars, node: exp.SplitPart) -> Scalar:
    scalars.only(node, "this", "delimiter", "part_index")
    place = count(scalars, node.args.get("part_index"), -MAX_PADDED, MAX_PADDED)
    operands = [text(scalars, node.this), literal_text(scalars, node.args.get("delimiter")), place]
    return scalars.call(node, "split_part", operands, "text")


def _concatenated(scalars: Scalars, node: exp.Concat) -> Scalar:
    """concat skips NULL."""
    scalars.only(node, "expressions", "safe", "coalesce")
    operands = [written(scalars, part) for part in node.expressions]
    return scalars.call(node, "concat", operands, "text")


def _joined(scalars: Scalars, node: exp.ConcatWs) -> Scalar:
    scalars.only(node, "expressions", "safe", "coalesce")
    first, *parts = node.expressions
    operands = [literal_text(scalars, first, 100), *(written(scalars, part) for part in parts)]
    if not parts:
        scalars.refuse_unknown(node)
    return scalars.call(node, "concat_ws", operands, "text")


def _piped(scalars: Scalars, node: exp.DPipe) -> Scalar:
    """``a || b || c``, which is NULL where any of them is."""
    parts: list[exp.Expr] = []
    inner: exp.Expr = node
    while isinstance(inner, exp.DPipe):
        scalars.only(inner, "this", "expression", "safe")
        parts.append(inner.expression)
        inner = inner.this
    operands = [written(scalars, part) for part in (inner, *reversed(parts))]
    return scalars.call(node, "pipe", operands, "text")


TEXT_FUNCTIONS: dict[type, Callable[..., Scalar]] = {
    **dict.fromkeys(_CHANGES, _changed),
    **dict.fromkeys(_SEARCHES, _searched),
    exp.StrPosition: _position,
    exp.Substring: _substring,
    exp.Left: _side,
    exp.Right: _side,
    exp.Trim: _trimmed,
    exp.Replace: _replaced,
    exp.Pad: _padded,
    exp.SplitPart: _part,
    exp.Concat: _concatenated,
    exp.ConcatWs: _joined,
    exp.DPipe: _piped,
}


def named_text_function(scalars: Scalars, node: exp.Anonymous, name: str) -> Scalar | None:
    """The text functions that the parser knows no class for: prefix, suffix, strlen."""
    operation = {"prefix": "starts_with", "suffix": "ends_with"}.get(name)
    if operation is not None and len(node.expressions) == 2:
        return scalars.call(node, operation, [text(scalars, one) for one in node.expressions], "boolean")
    if name == "strlen" and len(node.expressions) == 1:
        return scalars.call(node, "strlen", [text(scalars, node.expressions[0])], "integer")
    return None
