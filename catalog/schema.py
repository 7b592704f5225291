"""What a version's tables look like, and whether a policy speaks of exactly these (pure)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from catalog.errors import InvalidUpload, PolicyMismatch, nearest

TYPES = ("boolean", "integer", "float", "decimal", "text", "date", "timestamp")
TABLE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}", re.ASCII)

_MAX_NAME = 128
_UNSAFE = frozenset("\"'`\\")


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its name as spelt in the file, and one of :data:`TYPES`.

    Timestamps are microseconds in UTC and carry no zone; floats are finite or NULL.
    """

    name: str
    type: str

    def __post_init__(self) -> None:
        if self.type not in TYPES:
            raise ValueError(f"unknown column type {self.type!r}")


@dataclass(frozen=True, slots=True)
class TableSchema:
    """A table's name and its columns in file order. Names differ by more than letter case."""

    name: str
    columns: tuple[Column, ...]

    @property
    def types(self) -> dict[str, str]:
        """Column name -> type, in file order: what ``privacy.Policy.from_document`` takes as a schema."""
        return {column.name: column.type for column in self.columns}

    def column(self, name: str) -> Column | None:
        """The column of that name, in any letter case."""
        return next((each for each in self.columns if each.name.lower() == name.lower()), None)

    def document(self) -> dict[str, Any]:
        """The schema as a JSON document."""
        return {"name": self.name, "columns": [{"name": c.name, "type": c.type} for c in self.columns]}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> TableSchema:
        """Read back what :meth:`document` wrote. ValueError for an unknown type."""
        columns = tuple(Column(each["name"], each["type"]) for each in document["columns"])
        return cls(document["name"], columns)


def check_table_name(name: str) -> None:
    """Raise :class:`InvalidUpload` unless ``name`` can name a table, a file and an SQL identifier alike."""
    if not TABLE_NAME.fullmatch(name):
        raise InvalidUpload("bad_table_name", "The table's name is not usable.", table=name[:63])


def check_column_names(names: list[str], *, table: str) -> None:
    """Raise :class:`InvalidUpload` for names that are unprintable, quoted, too long, or not unique."""
    seen: set[str] = set()
    for position, name in enumerate(names, start=1):
        usable = 1 <= len(name) <= _MAX_NAME and name.isprintable() and name == name.strip()
        if not usable or _UNSAFE & set(name):
            raise InvalidUpload(
                "bad_column_name", f"The name of column {position} is not usable.", table=table
            )
        if name.lower() in seen:
            raise InvalidUpload(
                "duplicate_column", f"Column {position} repeats the name `{name}`.", table=table, column=name
            )
        seen.add(name.lower())


def check_declared(policy: Mapping[str, Any], schemas: Mapping[str, TableSchema]) -> None:
    """Check that a policy document knows every table, and every column of each private table, and no others.

    A column that nobody declared would be open to buyers by oversight, so it is refused; of a public table
    the policy may name as few columns as it likes. Letter case does not matter. Raises
    :class:`PolicyMismatch` with the path of the first difference. The policy's other contents are not looked
    at here.
    """
    declared = _mapping(policy.get("tables"), "tables")
    files = {name.lower(): schema for name, schema in schemas.items()}
    for name in declared:
        if name.lower() not in files:
            raise PolicyMismatch(
                "policy_unknown_table",
                f"tables.{name}",
                f"no file of this dataset is named so; {nearest(name, schemas)}",
            )
    settings = {name.lower(): (name, value) for name, value in declared.items()}
    for key, schema in files.items():
        if key not in settings:
            raise PolicyMismatch(
                "policy_undeclared_table",
                f"tables.{schema.name}",
                "the policy does not mention this table",
                hint="Declare its `unit`, or say `public = true` if it holds no data about anybody.",
            )
        name, value = settings[key]
        _check_table(_mapping(value, f"tables.{name}"), schema, f"tables.{name}")


def is_public(policy: Mapping[str, Any], table: str) -> bool:
    """Whether the policy declares the table public. Anything but ``public = true`` means private."""
    return _settings(policy, table).get("public") is True


def unit_of(policy: Mapping[str, Any], table: str) -> str | None:
    """The privacy unit's column in a table; None for a public table, and where a path leads to the unit in
    another one."""
    settings = _settings(policy, table)
    unit = None if settings.get("path") else settings.get("unit")
    return unit if isinstance(unit, str) and not is_public(policy, table) else None


def keys_of(policy: Mapping[str, Any], table: str) -> tuple[str, ...]:
    """The columns of a table that other tables' paths lead to: each row needs a value of its own there.

    What is no path is passed over: who reads the policy refuses it.
    """
    tables = _mapping(policy.get("tables"), "tables")
    paths = [settings.get("path") for settings in tables.values() if isinstance(settings, Mapping)]
    hops = [hop for path in paths if isinstance(path, list) for hop in path if isinstance(hop, Mapping)]
    led = [hop.get("to") for hop in hops if str(hop.get("table")).lower() == table.lower()]
    return tuple(dict.fromkeys(name for name in led if isinstance(name, str)))


def _settings(policy: Mapping[str, Any], table: str) -> Mapping[str, Any]:
    tables = _mapping(policy.get("tables"), "tables")
    found: object = next((value for name, value in tables.items() if name.lower() == table.lower()), {})
    return _mapping(found, f"tables.{table}")


def _check_table(settings: Mapping[str, Any], schema: TableSchema, path: str) -> None:
    names = [column.name for column in schema.columns]
    columns = _mapping(settings.get("columns", {}), f"{path}.columns")
    public = settings.get("public") is True
    unit = None if settings.get("path") else settings.get("unit")
    if isinstance(unit, str) and schema.column(unit) is None:
        raise _unknown(f"{path}.unit", unit, names)
    for name in columns:
        if schema.column(name) is None:
            raise _unknown(f"{path}.columns.{name}", name, names)
    known = {name.lower() for name in columns} | ({unit.lower()} if isinstance(unit, str) else set())
    for name in names:
        if not public and name.lower() not in known:
            raise PolicyMismatch(
                "policy_undeclared_column",
                f"{path}.columns.{name}",
                "the file has this column and the policy does not declare it",
                hint=f"Declare it, say `{name} = {{ selectable = false }}`, or leave it out of the file.",
            )


def _unknown(path: str, name: str, names: list[str]) -> PolicyMismatch:
    message = f"the table's file has no column `{name}`; {nearest(name, names)}"
    return PolicyMismatch("policy_unknown_column", path, message)


def _mapping(value: object, path: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise PolicyMismatch("policy_mismatch", path, "must be a table of settings")
    return value
