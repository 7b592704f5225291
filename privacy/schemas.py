"""The column types of files, filled into a policy document."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from privacy.errors import PolicyError
from privacy.sealed import opened
from privacy.values import arrow_type_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def parquet_schema(paths: str | Path | Sequence[str | Path]) -> dict[str, str]:
    """Column -> type of a table's first file, for the types that a policy knows."""
    first = paths if isinstance(paths, str | Path) else paths[0]
    with opened(first) as file:
        named = {field.name: arrow_type_name(field.type) for field in file.schema_arrow}
    return {name: kind for name, kind in named.items() if kind is not None}


def with_types(document: dict[str, Any], schemas: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """The document with all columns of the files that ``schemas`` describe, and their types where it declares
    none.

    Raises:
        PolicyError: it names a column that its file does not have, or another type for one by which rows find
            their unit.
    """
    known = {name.lower(): schema for name, schema in schemas.items()}
    tables = document.get("tables")
    linked = _linked_columns(tables)
    for name, table in (tables if isinstance(tables, dict) else {}).items():
        schema = known.get(str(name).lower())
        if schema is None or not isinstance(table, dict):
            continue
        compared = {column for there, column in linked if there == str(name).lower()}
        if "unit" in table and not table.get("path"):
            compared.add(str(table["unit"]).lower())
            if str(table["unit"]).lower() not in {column.lower() for column in schema}:
                raise PolicyError(f"tables.{name}.unit", "is not a column of the table's file")
        columns = table.setdefault("columns", {})
        if isinstance(columns, dict):
            _fill_columns(columns, schema, compared, f"tables.{name}.columns")
    return document


def _linked_columns(tables: Any) -> set[tuple[str, str]]:
    """Tables and columns that paths equate, in lower case. What is no path is passed over: it is refused
    later."""
    linked: set[tuple[str, str]] = set()
    for name, table in (tables if isinstance(tables, dict) else {}).items():
        here, path = str(name), table.get("path") if isinstance(table, dict) else None
        for hop in path if isinstance(path, list) else []:
            if isinstance(hop, dict):
                there = str(hop.get("table"))
                linked |= {(here, str(hop.get("from"))), (there, str(hop.get("to")))}
                here = there
    return {(table.lower(), column.lower()) for table, column in linked}


def _fill_columns(columns: dict[str, Any], schema: Mapping[str, str], compared: set[str], path: str) -> None:
    """What names units and leads to them is compared as it stands: a conversion might take two for one."""
    types = {name.lower(): (name, kind) for name, kind in schema.items()}
    for name, column in columns.items():
        found = types.pop(str(name).lower(), None)
        if found is None:
            raise PolicyError(f"{path}.{name}", "is not a column of the table's file")
        if isinstance(column, dict):
            column.setdefault("type", found[1])
            if str(name).lower() in compared and column["type"] != found[1]:
                raise PolicyError(
                    f"{path}.{name}.type", "must be the file's own type: by this column rows find their unit"
                )
    columns.update({name: {"type": kind} for name, kind in types.values()})
