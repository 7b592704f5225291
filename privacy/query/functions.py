"""The allow-list of scalar functions. Each is total: no value makes it raise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlglot import exp

from privacy.algebra import Literal, Scalar
from privacy.query.number_functions import NUMBER_FUNCTIONS
from privacy.query.text_functions import TEXT_FUNCTIONS, named_text_function
from privacy.query.time_functions import TIME_FUNCTIONS, named_time_function
from privacy.values import NUMBERS, TIMES

if TYPE_CHECKING:
    from collections.abc import Callable

    from privacy.query.scalars import Scalars

NAMES = (
    "abs acos ascii asin atan atan2 cbrt ceil century coalesce concat concat_ws contains cos date_add "
    "date_diff date_part date_sub date_trunc dayname decade degrees ends_with epoch exp extract floor "
    "greatest isoyear last_day least left length ln log lower lpad ltrim make_date mod monthname nullif "
    "pi power radians replace reverse right round rpad rtrim sign sin split_part sqrt starts_with "
    "strftime strlen strpos substring tan time_bucket trim trunc try_cast try_strptime upper yearweek"
)
"""The functions that may be written, for hints."""

_CAST_TYPES = {
    "TINYINT": "integer", "SMALLINT": "integer", "INT": "integer", "BIGINT": "integer", "DOUBLE": "float",
    "FLOAT": "float", "TEXT": "text", "VARCHAR": "text", "BOOLEAN": "boolean", "DATE": "date",
    "TIMESTAMP": "timestamp", "TIMESTAMPNTZ": "timestamp",
}  # fmt: skip
_CAST_ENGINE = {"INT": "INTEGER", "TEXT": "VARCHAR", "FLOAT": "DOUBLE", "TIMESTAMPNTZ": "TIMESTAMP"}

_CASTS: dict[str, frozenset[str]] = {
    **dict.fromkeys(NUMBERS, frozenset({"integer", "float", "text"})),
    "boolean": frozenset({"boolean", "integer", "text"}),
    "text": frozenset({"integer", "float", "text", "boolean", "date", "timestamp"}),
    "date": TIMES | {"text"},
    "timestamp": TIMES | {"text"},
    "null": frozenset(),
}


def _cast(scalars: Scalars, node: exp.Cast) -> Scalar:
    scalars.only(node, "this", "to", "safe", "_type")
    named = node.to.this.value if hasattr(node.to.this, "value") else str(node.to.this)
    target = _CAST_TYPES.get(named)
    if target is None or node.to.expressions or node.to.args.get("nested"):
        hint = "Cast to bigint, double, varchar, boolean, date or timestamp."
        scalars.source.refuse(node, "unsupported_function", "A cast to this type is not supported.", hint)
    operand = scalars.compile(node.this)
    if isinstance(operand, Literal):
        return scalars.converted(node, operand, target)
    if target not in _CASTS.get(operand.type, frozenset()):
        scalars.mismatch(node, f"A {operand.type} does not cast to {target}.", "Cast by way of varchar.")
    engine_type = Literal(_CAST_ENGINE.get(named, named), "text")
    return scalars.call(node, "try_cast", [operand, engine_type], target)


def _anonymous(scalars: Scalars, node: exp.Anonymous) -> Scalar:
    name = str(node.this).lower()
    for named in (named_text_function, named_time_function):
        found = named(scalars, node, name)
        if found is not None:
            return found
    return scalars.refuse_unknown(node)


FUNCTIONS: dict[type, Callable[..., Scalar]] = {
    **NUMBER_FUNCTIONS,
    **TEXT_FUNCTIONS,
    **TIME_FUNCTIONS,
    exp.Cast: _cast,
    exp.TryCast: _cast,
    exp.Anonymous: _anonymous,
}
