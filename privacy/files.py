"""The files of a plan's tables, and what must be true of them before a private row is looked at.

A query over protected rows must not fail for what a row holds. Generated SQL does not; reading a file may:
text that is not UTF-8, times whose unit must be converted, parts of one table with different types. All of
that is settled here, once for a file and for all questions alike.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from privacy.algebra import Scan, columns_of, scans_of
from privacy.errors import EngineFailed, PrivacyError
from privacy.values import arrow_type_name

if TYPE_CHECKING:
    from privacy.algebra import Aggregate
    from privacy.plan import Plan

Files = Mapping[str, str | Path | Sequence[str | Path]]

_BATCH_ROWS = 16_384
_FILES_REMEMBERED = 4_096


class TablesMissing(PrivacyError):
    """The files of a table that the plan reads were not given, or the salt is too short."""

    code = "tables_missing"
    hint = "Pass the files of every table in plan.tables, and a secret salt of 16 bytes or more."


class TablesUnfit(PrivacyError):
    """A private table's file is not one that every question can be answered from. No row was counted.

    The same for every question that reads the column, whatever it asks.
    """

    code = "tables_unfit"
    hint = (
        "Write the file anew, with the types that the policy declares, UTF-8 text and times in microseconds."
    )


def files_of(names: Iterable[str], tables: Files) -> dict[str, tuple[str, ...]]:
    """The files of each named table.

    Raises:
        TablesMissing: some were not given.
    """
    given = {name.lower(): paths for name, paths in tables.items()}
    files: dict[str, tuple[str, ...]] = {}
    for name in names:
        paths = given.get(name.lower())
        if paths is None:
            raise TablesMissing(f"The files of the table {name} were not given.")
        files[name] = (str(paths),) if isinstance(paths, str | Path) else tuple(str(path) for path in paths)
    return files


def check_private_files(plan: Plan, files: Mapping[str, Sequence[str]]) -> None:
    """Check the columns that a plan reads of its private tables: types from the metadata, text once a file.

    Raises:
        TablesUnfit: the unit is not of the declared type, parts differ, or a column cannot be read whatever
            it holds.
        EngineFailed: ``query_failed``, a file cannot be read at all.
    """
    for one in plan.releases:
        _check_files(one.lowered.aggregate, files)


def _check_files(aggregate: Aggregate, files: Mapping[str, Sequence[str]]) -> None:
    read = columns_of(aggregate) | {aggregate.input.unit}
    for scan in scans_of(aggregate.input.input):
        if scan.unit is not None:
            names = sorted({column.name for column in read if column.source == scan.source})
            try:
                _check_table(scan, names, files[scan.table])
            except (OSError, pa.ArrowException):
                raise EngineFailed from None


def _check_table(scan: Scan, names: list[str], paths: Sequence[str]) -> None:
    parts = [_fields(scan, names, path) for path in paths]
    for name in names:
        kinds = {part[name].type for part in parts}
        if len(kinds) > 1:
            raise TablesUnfit(f"The files of {scan.table} have different types for {name}.")
        _check_unit(scan, name, kinds.pop())
    for path, fields in zip(paths, parts, strict=True):
        state = Path(path).stat()
        for name, field in fields.items():
            if not _needs_reading(field.type):
                continue
            if not _all_readable(os.path.realpath(path), state.st_size, state.st_mtime_ns, field.name):
                message = (
                    f"The column {name} of {scan.table} holds text that is not UTF-8, or a time far off."
                )
                raise TablesUnfit(message)


def _check_unit(scan: Scan, name: str, kind: pa.DataType) -> None:
    """The unit is grouped by as it stands: a conversion might take two units for one."""
    if scan.unit is None or name != scan.unit.name:
        return
    if arrow_type_name(kind) != scan.unit.type or pa.types.is_uint64(kind):
        raise TablesUnfit(f"The unit column {name} of {scan.table} is not of the type {scan.unit.type}.")


def _fields(scan: Scan, names: list[str], path: str) -> dict[str, pa.Field]:
    """The file's field for each name, in any letter case; and by their own names the other columns
    that may hold what cannot be read."""
    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        leaves = [file.schema.column(place) for place in range(len(file.schema))]
    physical = {leaf.path: leaf.physical_type for leaf in leaves}
    fields: dict[str, pa.Field] = {}
    for name in names:
        found = [field for field in schema if field.name.lower() == name.lower()]
        if len(found) != 1:
            raise TablesUnfit(f"A file of {scan.table} does not have one column {name}.")
        if not _readable(found[0].type, physical.get(found[0].name)):
            raise TablesUnfit(f"The column {name} of {scan.table} has a type that cannot always be read.")
        fields[name] = found[0]
    taken = {field.name for field in fields.values()}
    for field in schema:  # the engine reads the extremes of a column even where it reads no value
        if field.name not in taken and _needs_reading(field.type):
            fields.setdefault(field.name, field)
    return fields


def _readable(kind: pa.DataType, physical: str | None) -> bool:
    """Whether the engine reads values of the type, and `_all_readable` can tell whether it reads all of
    them."""
    if pa.types.is_timestamp(kind):
        return physical == "INT64"
    return physical is not None and arrow_type_name(kind) is not None and not pa.types.is_decimal256(kind)


def _needs_reading(kind: pa.DataType) -> bool:
    """Whether the type alone does not say that each value can be read."""
    return arrow_type_name(kind) == "text" or (pa.types.is_timestamp(kind) and kind.unit == "ms")


@lru_cache(maxsize=_FILES_REMEMBERED)
def _all_readable(path: str, _size: int, _mtime_ns: int, column: str) -> bool:
    """Whether all text is UTF-8, and all milliseconds are microseconds of 64 bits. Reads the column once."""
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_BATCH_ROWS, columns=[column], use_threads=False):
                values = batch.column(0)
                (values.dictionary if pa.types.is_dictionary(values.type) else values).validate(full=True)
                if pa.types.is_timestamp(values.type):
                    values.cast(pa.timestamp("us", values.type.tz))
    except pa.ArrowInvalid:
        return False
    return True
