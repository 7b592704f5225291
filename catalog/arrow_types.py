"""Which Arrow types a file may hold, and what each becomes in our own files. Runs in the ingest process."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from catalog.errors import InvalidUpload
from catalog.schema import Column

OURS = {
    "boolean": pa.bool_(),
    "integer": pa.int64(),
    "float": pa.float64(),
    "text": pa.string(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
}

# Days and microseconds since 1970 of the years 1 to 9999: what every reader of ours can show.
_FIRST_DAY, _LAST_DAY = -719_162, 2_932_896
_DAY_US = 86_400_000_000
_OFFSET_BYTES, _WIDEST_BYTES = 4, 16
"""What a text takes beside its bytes, and what a value of the widest other type takes: a decimal."""


def target_of(field: pa.Field, *, table: str) -> tuple[Column, pa.DataType]:
    """The column that a field becomes, and its Arrow type. Raises InvalidUpload for types not taken."""
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    name = _type_name(kind)
    if name is None:
        shown = kind.extension_name if isinstance(kind, pa.BaseExtensionType) else str(kind).partition("<")[0]
        message = f"The column `{field.name}` is of type {shown}, which is not taken."
        raise InvalidUpload("unsupported_type", message, table=table, column=field.name)
    target = pa.decimal128(kind.precision, kind.scale) if name == "decimal" else OURS[name]
    return Column(field.name, name), target


def _type_name(kind: pa.DataType) -> str | None:
    if isinstance(kind, pa.BaseExtensionType):
        return None
    tests = pa.types
    if tests.is_decimal(kind):
        return "decimal" if kind.precision <= 38 and 0 <= kind.scale <= kind.precision else None
    known = (
        (tests.is_boolean, "boolean"),
        (tests.is_integer, "integer"),
        (tests.is_floating, "float"),
        (tests.is_string, "text"),
        (tests.is_large_string, "text"),
        (tests.is_string_view, "text"),
        (tests.is_null, "text"),
        (tests.is_date, "date"),
        (tests.is_timestamp, "timestamp"),
    )
    return next((name for test, name in known if test(kind)), None)


def to_ours(array: pa.Array, column: Column, target: pa.DataType, *, table: str, cell_bytes: int) -> pa.Array:
    """The array in our type: UTC instants without zone, valid UTF-8, every value in range.

    Floats keep NaN and infinities here; the rewriter counts them and makes them NULL. Raises InvalidUpload.
    """
    array = _plain(array, column, table, cell_bytes)
    try:
        array = _cast(array, target)
    except pa.ArrowInvalid:
        raise _out_of_range(column, table) from None
    if column.type == "text":
        _check_text(array, column, table, cell_bytes)
    if column.type in ("date", "timestamp"):
        _check_years(array, column, table)
    return array


def expanded_bytes(array: pa.Array) -> int:
    """How many bytes an array takes once each of its values stands for itself, before it is made to: all rows
    may mean a dictionary's one long text. Raises pa.ArrowException for a dictionary that is none.
    """
    if not pa.types.is_dictionary(array.type):
        return int(array.nbytes)
    values = array.dictionary
    if _type_name(values.type) == "text" and not pa.types.is_null(values.type):
        lengths = pc.binary_length(values).take(array.indices)
        return _OFFSET_BYTES * len(array) + (pc.sum(lengths).as_py() or 0)
    return len(array) * _WIDEST_BYTES


def _plain(array: pa.Array, column: Column, table: str, cell_bytes: int) -> pa.Array:
    if not pa.types.is_dictionary(array.type):
        return array
    # A dictionary's one long text would be copied once per row: look at it before it is spread out.
    if column.type == "text":
        _check_text(array.dictionary, column, table, cell_bytes)
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        raise _damaged(column, table) from None
    return array.dictionary_decode()


def _cast(array: pa.Array, target: pa.DataType) -> pa.Array:
    if pa.types.is_timestamp(array.type):
        # Through the integer: an instant stays the same instant, in UTC, whatever zone the file names.
        array = array.cast(pa.int64()).cast(pa.timestamp(array.type.unit))
        return array.cast(target, safe=array.type.unit != "ns")
    if pa.types.is_float16(array.type):
        array = array.cast(pa.float32())
    return array.cast(target)


def _check_text(array: pa.Array, column: Column, table: str, cell_bytes: int) -> None:
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        message = f"The column `{column.name}` holds text that is not UTF-8."
        raise InvalidUpload("not_utf8", message, table=table, column=column.name) from None
    if (pc.max(pc.binary_length(array)).as_py() or 0) > cell_bytes:
        message = f"The column `{column.name}` holds a text of more than {cell_bytes:,} bytes."
        raise InvalidUpload("cell_too_large", message, table=table, column=column.name)
    if pc.any(pc.match_substring(array, "\0")).as_py():
        message = f"The column `{column.name}` holds a text with a NUL byte."
        raise InvalidUpload("broken_rows", message, table=table, column=column.name)


def _check_years(array: pa.Array, column: Column, table: str) -> None:
    scale = 1 if column.type == "date" else _DAY_US
    extremes = pc.min_max(array.cast(pa.int32() if column.type == "date" else pa.int64())).as_py()
    low, high = extremes["min"], extremes["max"]
    if low is not None and not (_FIRST_DAY * scale <= low and high < (_LAST_DAY + 1) * scale):
        raise _out_of_range(column, table)


def _out_of_range(column: Column, table: str) -> InvalidUpload:
    message = f"The column `{column.name}` holds a value outside the range of type {column.type}."
    return InvalidUpload("value_out_of_range", message, table=table, column=column.name)


def _damaged(column: Column, table: str) -> InvalidUpload:
    message = f"The column `{column.name}` does not hold what its own index says."
    return InvalidUpload("damaged_file", message, table=table, column=column.name)
