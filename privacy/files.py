"""The files of a plan's tables, and what must be true of them before a private row is looked at.

A query over protected rows must not fail for what a row holds. Generated SQL does not; reading a file may:
text that is not UTF-8, times whose unit must be converted, parts of one table with different types. All of
that is settled here, once for a file and for all questions alike.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from privacy.algebra import columns_of, scans_of
from privacy.engines.duckdb import unique_sql
from privacy.errors import EngineFailed, PrivacyError
from privacy.sandbox import Task
from privacy.sealed import SealedFile, opened, real
from privacy.values import arrow_type_name

if TYPE_CHECKING:
    from privacy.plan import Plan
    from privacy.policy import Policy
    from privacy.sandbox import Sandbox

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
        files[name] = (_path(paths),) if isinstance(paths, str | Path) else tuple(map(_path, paths))
    return files


def _path(path: str | Path) -> str:
    return path if isinstance(path, SealedFile) else str(path)


def check_private_files(plan: Plan, files: Mapping[str, Sequence[str]], sandbox: Sandbox) -> None:
    """Check the columns that a plan reads of its private tables: types from the metadata, text once a file,
    and that keys to which paths lead are unique, once for the files of a table.

    Raises:
        TablesUnfit: the unit or a key is not of the declared type, a key is missing or repeated, parts
            differ, or a column cannot be read whatever it holds.
        EngineFailed: ``query_failed``, a file cannot be read at all.
    """
    for name, read in _tables_read(plan).items():
        try:
            _check_table(read, files[name])
        except (OSError, pa.ArrowException):
            raise EngineFailed from None
        for key in read.keys:
            _check_unique(name, key, files[name], sandbox)


@dataclass
class _Read:
    """What is read of one private table.

    Attributes:
        names: its columns.
        exact: the columns that must have the declared type as they stand, with that type.
        keys: the columns that must be unique.
    """

    table: str
    names: set[str] = field(default_factory=set)
    exact: dict[str, str] = field(default_factory=dict)
    keys: set[str] = field(default_factory=set)


def _tables_read(plan: Plan) -> dict[str, _Read]:
    tables: dict[str, _Read] = {}
    for one in plan.releases:
        aggregate = one.lowered.aggregate
        read = columns_of(aggregate)
        for scan in scans_of(aggregate.input.input):
            if scan.unit is None:
                continue
            found = tables.setdefault(scan.table, _Read(scan.table))
            own = {column.name for column in read if column.source == scan.source}
            found.names |= own - {scan.unit.name} if scan.path else own | {scan.unit.name}
            for name in [scan.table, *(hop.table for hop in scan.path)]:
                _add_keys(tables.setdefault(name, _Read(name)), plan.policy)
    return tables


def _add_keys(read: _Read, policy: Policy) -> None:
    """The unit, and the columns that paths from and to the table equate."""
    table = policy.table(read.table)
    assert table is not None
    named = [table.path[0].column] if table.path else [policy.unit_column(table)[0]]
    read.keys |= {column.name for column in table.columns.values() if policy.is_path_key(table, column.name)}
    for name in [*named, *read.keys]:
        read.names.add(name)
        read.exact[name] = table.columns[name.lower()].type or "text"


def _check_table(read: _Read, paths: Sequence[str]) -> None:
    names = sorted(read.names)
    parts = [_fields(read.table, names, path) for path in paths]
    for name in names:
        kinds = {part[name].type for part in parts}
        if len(kinds) > 1:
            raise TablesUnfit(f"The files of {read.table} have different types for {name}.")
        _check_exact(read, name, kinds.pop())
    for path, fields in zip(paths, parts, strict=True):
        state = Path(path).stat()
        for name, found in fields.items():
            if not _needs_reading(found.type):
                continue
            if not _all_readable(real(path), state.st_size, state.st_mtime_ns, found.name):
                message = (
                    f"The column {name} of {read.table} holds text that is not UTF-8, or a time far off."
                )
                raise TablesUnfit(message)


def _check_exact(read: _Read, name: str, kind: pa.DataType) -> None:
    """Units and keys are compared as they stand: a conversion might take two of them for one."""
    declared = read.exact.get(name)
    if declared is not None and (arrow_type_name(kind) != declared or pa.types.is_uint64(kind)):
        raise TablesUnfit(f"The unit or key column {name} of {read.table} is not of the type {declared}.")


_unique_keys: set[tuple[object, ...]] = set()
"""Files and columns that were found to have no value twice."""


def _check_unique(table: str, key: str, paths: Sequence[str], sandbox: Sandbox) -> None:
    """A row of a table on the way to the unit has one owner: rows that lead to a key lead to one row."""
    states = [(os.path.realpath(path), Path(path).stat()) for path in paths]
    checked = (key, *((path, state.st_size, state.st_mtime_ns) for path, state in states))
    if checked in _unique_keys:
        return
    counted = sandbox.run(Task(unique_sql(table, key), {table: tuple(paths)}))
    if not counted.column("fit").to_pylist()[0]:
        raise TablesUnfit(f"The key {key} of {table} is missing in a row, or stands in two rows.")
    if len(_unique_keys) >= _FILES_REMEMBERED:
        _unique_keys.clear()
    _unique_keys.add(checked)


def _fields(table: str, names: list[str], path: str) -> dict[str, pa.Field]:
    """The file's field for each name, in any letter case; and by their own names the other columns
    that may hold what cannot be read."""
    with opened(path) as file:
        schema = file.schema_arrow
        leaves = [file.schema.column(place) for place in range(len(file.schema))]
    physical = {leaf.path: leaf.physical_type for leaf in leaves}
    fields: dict[str, pa.Field] = {}
    for name in names:
        found = [one for one in schema if one.name.lower() == name.lower()]
        if len(found) != 1:
            raise TablesUnfit(f"A file of {table} does not have one column {name}.")
        if not _readable(found[0].type, physical.get(found[0].name)):
            raise TablesUnfit(f"The column {name} of {table} has a type that cannot always be read.")
        fields[name] = found[0]
    taken = {one.name for one in fields.values()}
    for one in schema:  # the engine reads the extremes of a column even where it reads no value
        if one.name not in taken and _needs_reading(one.type):
            fields.setdefault(one.name, one)
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
        with opened(path) as file:
            for batch in file.iter_batches(_BATCH_ROWS, columns=[column], use_threads=False):
                values = batch.column(0)
                (values.dictionary if pa.types.is_dictionary(values.type) else values).validate(full=True)
                if pa.types.is_timestamp(values.type):
                    values.cast(pa.timestamp("us", values.type.tz))
    except pa.ArrowInvalid:
        return False
    return True
