"""Scalar expressions: syntax tree -> typed, total operations of the algebra.

An allow-list: a node class, or an argument of one, that is not handled here is refused. Operand types are
settled at plan time, so that nothing is left for the engine to convert or to fail on.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, ClassVar, NoReturn

from sqlglot import exp

from privacy.algebra import COMMUTATIVE, Call, Literal, Scalar, conjunction
from privacy.query.arguments import text
from privacy.query.functions import FUNCTIONS, NAMES
from privacy.query.time_functions import time_arithmetic
from privacy.values import NUMBERS, TIMES, structured, value_of

if TYPE_CHECKING:
    from privacy.query.scope import Scope
    from privacy.query.text import Source

MAX_DEPTH = 120
MAX_SIZE = 10_000
MAX_WILDCARDS = 3

NULL = Literal(None, "null")
_LIKE_WITH_LIKE = "Compare like with like; use try_cast(x AS type)."

_VOLATILE_NODES = (
    *(
        exp.Rand,
        exp.Randn,
        exp.Uuid,
        exp.CurrentDate,
        exp.CurrentDatetime,
        exp.CurrentTime,
        exp.CurrentTimestamp,
    ),
    *(exp.CurrentTimestampLTZ, exp.Localtime, exp.Localtimestamp, exp.UnixSeconds),
)
_VOLATILE_WORDS = (
    "now random setseed nextval currval gen_random_uuid uuid uuidv4 uuidv7 today current_date current_time "
    "current_timestamp get_current_time get_current_timestamp transaction_timestamp txid_current "
    "current_localtime current_localtimestamp localtime localtimestamp statement_timestamp clock_timestamp"
)
_VOLATILE_NAMES = frozenset(_VOLATILE_WORDS.split())

_NESTED = (exp.Subquery, exp.Select, exp.Exists, exp.Any, exp.All, exp.SetOperation)

Special = Callable[[exp.Expr], Scalar | None]
Nested = Callable[[exp.Expr], Scalar]


class Scalars:
    """Compiles the scalar expressions of one SELECT block.

    Args:
        special: looked at first for every node: lets a block answer for its aggregates and grouping keys.
        subquery: called with a nested query, or IN with one; answers for it, or refuses it.
        windowed: called with a window function; answers for it, or refuses it.
    """

    def __init__(
        self,
        source: Source,
        scope: Scope,
        subquery: Nested,
        windowed: Nested,
        special: Special | None = None,
    ) -> None:
        self.source = source
        self.scope = scope
        self._subquery = subquery
        self._windowed = windowed
        self._special = special

    def compile(self, node: exp.Expr | None) -> Scalar:
        """The typed operation that ``node`` means; None is an argument that the statement leaves out.

        Raises:
            Refused: with the code, position and hint of the first thing that is not allowed.
        """
        if not isinstance(node, exp.Expr):  # sqlglot lets some arguments be left out
            self.source.refuse(
                None, "syntax", "A part of an expression is missing.", "Complete the statement."
            )
        if self._special is not None and (found := self._special(node)) is not None:
            return found
        handler = self._HANDLERS.get(type(node))
        if handler is None and isinstance(node, _NESTED):
            return self._subquery(node)
        if handler is None:
            self.refuse_unknown(node)
        return handler(self, node)

    def predicate(self, node: exp.Expr) -> Scalar:
        """``node`` as a condition."""
        return self._boolean(node, self.compile(node))

    def only(self, node: exp.Expr, *allowed: str) -> None:
        """Refuse ``node`` when it carries an argument that would be silently ignored."""
        for name, value in node.args.items():
            if name not in allowed and value not in (None, False, [], ""):
                where = value if isinstance(value, exp.Expr) else node
                message = "This form is not supported."
                self.source.refuse(where, "unsupported_clause", message, "Write it in its plain form.")

    def call(self, node: exp.Expr, operation: str, arguments: Sequence[Scalar], kind: str) -> Call:
        """An operation, within the limits of depth and size."""
        if any(structured(argument.type) for argument in arguments):
            hint = "Ask for its parts one by one, as in quantile_cont(x, 0.25)."
            self.mismatch(node, "A column of lists or maps can be shown, not computed with.", hint)
        if operation in COMMUTATIVE:
            arguments = sorted(arguments, key=lambda argument: argument.text)
        made = Call(operation, tuple(arguments), kind)
        if made.depth > MAX_DEPTH:
            self.source.refuse(
                node, "too_deep", "The expression is nested too deep.", "Write it with fewer levels."
            )
        if made.size > MAX_SIZE:
            self.source.refuse(node, "too_complex", "The expression is too large.", "Ask a smaller question.")
        return made

    # Leaves

    def _column(self, node: exp.Column) -> Scalar:
        if isinstance(node.this, exp.Star):
            self.source.refuse(node, "raw_rows", "A star stands for rows here.", "Name a column.")
        self.only(node, "this", "table", "db", "catalog")
        return self.scope.resolve(node)

    def _literal(self, node: exp.Literal) -> Scalar:
        text = str(node.this)
        if node.is_string:
            return Literal(text, "text")
        if text.isdecimal():
            whole = int(text) if len(text) <= 19 else 2**63
            if whole < 2**63:
                return Literal(whole, "integer")
        number = value_of(text, "decimal") if len(text) <= 60 else None
        if not isinstance(number, Decimal):
            self.source.refuse(node, "type_mismatch", "This number is out of range.", "Use a smaller number.")
        return Literal(number, "decimal")

    def _boolean_literal(self, node: exp.Boolean) -> Scalar:
        return Literal(bool(node.this), "boolean")

    def _null(self, _node: exp.Null) -> Scalar:
        return NULL

    def _paren(self, node: exp.Paren) -> Scalar:
        self.only(node, "this")
        return self.compile(node.this)

    def _window(self, node: exp.Window) -> Scalar:
        return self._windowed(node)

    # Arithmetic

    def _negate(self, node: exp.Neg) -> Scalar:
        operand = self.number(node.this, self.compile(node.this))
        if isinstance(operand, Literal) and isinstance(operand.value, int | Decimal):
            return Literal(-operand.value, operand.type)
        return self.call(node, "neg", [operand], operand.type)

    def _arithmetic(self, node: exp.Binary) -> Scalar:
        self.only(node, "this", "expression", "typed", "safe")
        operation = _ARITHMETIC[type(node)]
        sides = (node.this, node.expression)
        found = [None if isinstance(side, exp.Interval) else self.compile(side) for side in sides]
        if operation in ("add", "sub") and (moved := time_arithmetic(self, node, sides, found)) is not None:
            return moved
        operands = [
            self.number(side, self.compile(side) if one is None else one)
            for side, one in zip(sides, found, strict=True)
        ]
        whole = operation != "div" and all(operand.type == "integer" for operand in operands)
        kept = _without_identity(operation, operands, whole)
        return kept or self.call(node, operation, operands, "integer" if whole else "float")

    def number(self, node: exp.Expr, scalar: Scalar) -> Scalar:
        """``scalar``, which must be a number."""
        if scalar.type == "null":
            return Literal(None, "float")
        if scalar.type not in NUMBERS:
            self.mismatch(node, "A number is needed here.", "Use a number, or try_cast(x AS double).")
        return scalar

    # Conditions

    def _connective(self, node: exp.Expr) -> Scalar:
        kind = type(node)
        operands: list[Scalar] = []
        pending: list[exp.Expr] = [node]
        while pending:
            part = pending.pop()
            inner = part.unnest() if isinstance(part, exp.Paren) else part
            if type(inner) is kind:
                self.only(inner, "this", "expression")
                pending.extend((inner.args["expression"], inner.args["this"]))
            else:
                operands.append(self.predicate(part))
        if kind is exp.And:
            return conjunction(operands)
        flat = {operand.text: operand for operand in operands}
        ordered = [flat[text] for text in sorted(flat)]
        return ordered[0] if len(ordered) == 1 else self.call(node, "or", ordered, "boolean")

    def _not(self, node: exp.Not) -> Scalar:
        return self._negated(node, self.predicate(node.this))

    def _negated(self, node: exp.Expr, operand: Scalar) -> Scalar:
        if isinstance(operand, Call) and operand.operation == "not":
            return operand.arguments[0]
        return self.call(node, "not", [operand], "boolean")

    def _boolean(self, node: exp.Expr, scalar: Scalar) -> Scalar:
        if scalar.type == "null":
            return Literal(None, "boolean")
        if scalar.type != "boolean":
            self.mismatch(node, "A condition is needed here.", "Compare it with something.")
        return scalar

    def _comparison(self, node: exp.Binary) -> Scalar:
        self.only(node, "this", "expression")
        operation, swapped = _COMPARISONS[type(node)]
        left, right = self.alike(node, [self.compile(node.this), self.compile(node.expression)])
        return self.call(node, operation, [right, left] if swapped else [left, right], "boolean")

    def _is(self, node: exp.Is) -> Scalar:
        self.only(node, "this", "expression")
        operand, wanted = self.compile(node.this), node.expression
        if isinstance(wanted, exp.Null):
            return self.call(node, "is_null", [operand], "boolean")
        if not isinstance(wanted, exp.Boolean):
            self.refuse_unknown(wanted)
        condition = self._boolean(node.this, operand)
        if not wanted.this:
            condition = self._negated(node, condition)
        return self.call(node, "coalesce", [condition, Literal(False, "boolean")], "boolean")

    def _between(self, node: exp.Between) -> Scalar:
        self.only(node, "this", "low", "high")
        parts = [self.compile(node.args[name]) for name in ("low", "this", "high")]
        low, operand, high = self.alike(node, parts)
        return conjunction(
            [
                self.call(node, "le", [low, operand], "boolean"),
                self.call(node, "le", [operand, high], "boolean"),
            ]
        )

    def _in(self, node: exp.In) -> Scalar:
        if node.args.get("query") is not None:
            return self._subquery(node)
        self.only(node, "this", "expressions")
        operand = self.compile(node.this)
        literals = [self.compile(item) for item in node.expressions]
        for item, literal in zip(node.expressions, literals, strict=True):
            if not isinstance(literal, Literal) or literal.value is None:
                self.mismatch(item, "IN needs a list of literals.", "List values, as in x IN ('a', 'b').")
        operand, *values = self.alike(node, [operand, *literals])
        listed = {value.text: value for value in values}
        return self.call(node, "in", [operand, *(listed[text] for text in sorted(listed))], "boolean")

    def _like(self, node: exp.Expr) -> Scalar:
        self.only(node, "this", "expression", "negate")
        operand, pattern = text(self, node.this), self.compile(node.args.get("expression"))
        if not isinstance(pattern, Literal) or not isinstance(pattern.value, str):
            self.mismatch(
                node.args["expression"], "LIKE needs a literal pattern.", "Write it as in x LIKE 'S%'."
            )
        if pattern.value.count("%") > MAX_WILDCARDS or len(pattern.value) > 1000:
            hint = f"Use at most {MAX_WILDCARDS} wildcards %."
            self.source.refuse(node.args["expression"], "too_complex", "The pattern is too complex.", hint)
        operation = "like" if isinstance(node, exp.Like) else "ilike"
        made = self.call(node, operation, [operand, pattern], "boolean")
        return self._negated(node, made) if node.args.get("negate") else made

    # Choices

    def _case(self, node: exp.Case) -> Scalar:
        self.only(node, "this", "ifs", "default")
        subject = None if node.this is None else self.compile(node.this)
        parts: list[Scalar] = []
        for branch in node.args["ifs"]:
            parts.append(self._when(branch, subject))
            parts.append(self.compile(branch.args.get("true")))
        default = node.args.get("default")
        parts.append(NULL if default is None else self.compile(default))
        return self._choice(node, parts)

    def _when(self, branch: exp.If, subject: Scalar | None) -> Scalar:
        self.only(branch, "this", "true")
        if subject is None:
            return self.predicate(branch.this)
        return self.call(
            branch, "eq", self.alike(branch.this, [subject, self.compile(branch.this)]), "boolean"
        )

    def _if(self, node: exp.If) -> Scalar:
        self.only(node, "this", "true", "false")
        otherwise = node.args.get("false")
        return self._choice(
            node,
            [
                self.predicate(node.this),
                self.compile(node.args.get("true")),
                NULL if otherwise is None else self.compile(otherwise),
            ],
        )

    def _choice(self, node: exp.Expr, parts: list[Scalar]) -> Scalar:
        """``parts``: condition, value, condition, value, ..., else."""
        places = [*range(1, len(parts) - 1, 2), len(parts) - 1]
        for place, value in zip(places, self.alike(node, [parts[place] for place in places]), strict=True):
            parts[place] = value
        return self.call(node, "case", parts, parts[-1].type)

    def _variadic(self, node: exp.Expr) -> Scalar:
        self.only(node, "this", "expressions", "ignore_nulls")
        operands = self.alike(node, [self.compile(part) for part in (node.this, *node.expressions)])
        if len(operands) == 1:
            return operands[0]
        return self.call(node, _VARIADIC[type(node)], operands, operands[0].type)

    def _nullif(self, node: exp.Nullif) -> Scalar:
        self.only(node, "this", "expression")
        operands = self.alike(node, [self.compile(node.this), self.compile(node.expression)])
        return self.call(node, "nullif", operands, operands[0].type)

    def alike(self, node: exp.Expr, scalars: Sequence[Scalar]) -> list[Scalar]:
        """The operands brought to one type: literals converted now, or the statement refused."""
        kinds = {scalar.type for scalar in scalars if not _bare(scalar)} or {
            scalar.type for scalar in scalars if scalar.type != "null"
        }
        if not kinds:
            return [Literal(None, "integer") for _ in scalars]
        literal_kinds = {scalar.type for scalar in scalars if _bare(scalar) and scalar.type != "null"}
        if kinds <= NUMBERS and literal_kinds <= NUMBERS and len(kinds | literal_kinds) > 1:
            target = "float"
        elif kinds <= TIMES and len(kinds) > 1:
            target = "timestamp"
        elif len(kinds) == 1:
            target = next(iter(kinds))
        else:
            self.mismatch(node, "These have different types.", _LIKE_WITH_LIKE)
        return [self.converted(node, scalar, target) for scalar in scalars]

    def converted(self, node: exp.Expr, scalar: Scalar, target: str) -> Scalar:
        """The operand as one of type ``target``, without loss; refused where there is no such way."""
        if scalar.type == target:
            return scalar
        if structured(target):
            self.mismatch(node, "These have different types.", _LIKE_WITH_LIKE)
        if isinstance(scalar, Literal):
            if scalar.value is None:
                return Literal(None, target)
            written = scalar.value.isoformat() if isinstance(scalar.value, dt.date) else scalar.value
            value = value_of(written, target) if _readable(scalar, target) else None
            if value is None:
                self.mismatch(
                    node, f"A literal here is not of type {target}.", f"Write a literal of type {target}."
                )
            return Literal(value, target)
        if target == "float" and scalar.type in NUMBERS:
            return self.call(node, "to_float", [scalar], "float")
        if target != "timestamp" or scalar.type != "date":
            self.mismatch(node, "These have different types.", _LIKE_WITH_LIKE)
        return self.call(node, "to_timestamp", [scalar], "timestamp")

    # Refusals

    def mismatch(self, node: exp.Expr | None, message: str, hint: str) -> NoReturn:
        """Refuse ``node`` for its type."""
        self.source.refuse(node, "type_mismatch", message, hint)

    def refuse_unknown(self, node: exp.Expr) -> NoReturn:
        """Refuse a node that is not on the allow-list, under the code that tells why."""
        name = self.source.word(node)
        if isinstance(node, _VOLATILE_NODES) or name.lower() in _VOLATILE_NAMES:
            hint = "Write the moment or number as a literal."
            self.source.refuse(node, "volatile", f"{name} gives another value each time.", hint)
        if isinstance(
            node, exp.Explode | exp.Unnest | exp.Star | exp.Tuple | exp.Rollup | exp.Cube | exp.GroupingSets
        ):
            self.source.refuse(
                node, "unsupported_clause", f"{name} is not supported here.", "Use plain columns."
            )
        if isinstance(node, exp.AggFunc):
            hint = "Use count, sum or avg in the SELECT list, HAVING or ORDER BY of a grouped query."
            self.source.refuse(node, "unsupported_function", f"{name} is not available here.", hint)
        hint = f"Functions: {NAMES}."
        self.source.refuse(node, "unsupported_function", f"{name} is not supported.", hint)

    _HANDLERS: ClassVar[dict[type, Callable[..., Scalar]]] = {
        exp.Column: _column,
        exp.Literal: _literal,
        exp.Boolean: _boolean_literal,
        exp.Null: _null,
        exp.Paren: _paren,
        exp.Window: _window,
        exp.Neg: _negate,
        exp.Add: _arithmetic,
        exp.Sub: _arithmetic,
        exp.Mul: _arithmetic,
        exp.Div: _arithmetic,
        exp.Mod: _arithmetic,
        exp.And: _connective,
        exp.Or: _connective,
        exp.Not: _not,
        exp.EQ: _comparison,
        exp.NEQ: _comparison,
        exp.LT: _comparison,
        exp.LTE: _comparison,
        exp.GT: _comparison,
        exp.GTE: _comparison,
        exp.NullSafeEQ: _comparison,
        exp.NullSafeNEQ: _comparison,
        exp.Is: _is,
        exp.Between: _between,
        exp.In: _in,
        exp.Like: _like,
        exp.ILike: _like,
        exp.Case: _case,
        exp.If: _if,
        exp.Coalesce: _variadic,
        exp.Least: _variadic,
        exp.Greatest: _variadic,
        exp.Nullif: _nullif,
        **FUNCTIONS,
    }


_ARITHMETIC: dict[type, str] = {
    exp.Add: "add", exp.Sub: "sub", exp.Mul: "mul", exp.Div: "div", exp.Mod: "mod",
}  # fmt: skip
_COMPARISONS: dict[type, tuple[str, bool]] = {
    exp.EQ: ("eq", False), exp.NEQ: ("ne", False), exp.LT: ("lt", False), exp.LTE: ("le", False),
    exp.GT: ("lt", True), exp.GTE: ("le", True),
    exp.NullSafeEQ: ("not_distinct", False), exp.NullSafeNEQ: ("distinct", False),
}  # fmt: skip
_VARIADIC: dict[type, str] = {exp.Coalesce: "coalesce", exp.Least: "least", exp.Greatest: "greatest"}


def _bare(scalar: Scalar) -> bool:
    """Literals that take the type of what they stand beside."""
    return isinstance(scalar, Literal) and scalar.type in ("null", "text", "integer", "decimal")


def _readable(literal: Literal, target: str) -> bool:
    """Quoted literals may stand for any type; numbers for numbers alone."""
    return (
        literal.type == "text"
        or (literal.type in NUMBERS and target in NUMBERS)
        or {literal.type, target} <= TIMES
    )


def _without_identity(operation: str, operands: list[Scalar], whole: bool) -> Scalar | None:
    """``x`` for ``x + 0``, ``x - 0`` and ``x * 1`` over whole numbers."""
    neutral = {"add": 0, "sub": 0, "mul": 1}.get(operation)
    if neutral is None or not whole:
        return None
    left, right = operands
    if isinstance(right, Literal) and right.value == neutral:
        return left
    return right if operation != "sub" and isinstance(left, Literal) and left.value == neutral else None
