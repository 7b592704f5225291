"""What a provider declares about a dataset: everything that matters for privacy, and nothing observed.

A policy is a TOML or JSON document. Types come from the files' schemas; privacy unit, bounds, key sets and
caps are declared, because an observed bound would itself be a leak.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from functools import cached_property
from pathlib import Path
from typing import Any

from privacy.algebra import Hop
from privacy.errors import PolicyError
from privacy.profiled import least_profile_rho_nano
from privacy.schemas import parquet_schema, with_types
from privacy.values import MAX_KEY_BYTES, TYPES, Value, type_of, value_of

TABLE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}")
MAX_DECIMALS = 9
MAX_EXPONENT = 300
MAX_KEYS = 10_000
LARGEST_CAPS = {"max_groups": 10_000, "max_rows_per_group": 1_000_000_000, "max_rows": 1_000_000_000}
"""Caps are public choices; these limits keep sums within 2^62 for useful bounds, and rankings affordable."""

MAX_DELTA_PICO = 10**9
QUESTIONS_A_DOMAIN = 100_000
PROFILES_A_DOMAIN = 1_000
DEFAULT_MAX_GROUPS = 8
DEFAULT_MAX_ROWS_PER_GROUP = 50

_POLICY_FIELDS = frozenset(
    {"domain", "rho", "delta", "max_rho_per_query", "max_delta_per_query", "max_groups", "max_rows_per_group"}
    | {"min_rho_per_query", "profile_rho", "tables"}
)
_TABLE_FIELDS = frozenset(
    {"unit", "path", "public", "max_groups", "max_rows_per_group", "max_rows", "columns"}
)
_HOP_FIELDS = frozenset({"from", "table", "to"})
MAX_HOPS = 4
_COLUMN_FIELDS = frozenset({"type", "bounds", "decimals", "keys", "selectable"})


Identity = tuple[str, str]
"""What the values of a column name: a table and its key. Each such value belongs to one unit."""
UNIT: Identity = ("", "unit")
"""The identity of columns that name the privacy unit itself."""


@dataclass(frozen=True)
class Column:
    """One column as declared.

    Attributes:
        type: one of ``privacy.values.TYPES``, or None when neither declared nor known from a schema.
        low, high: bounds as integers scaled by ``10 ** decimals``, or None when the column has no numeric
        bounds.
        keys: the public key set, or None: then its values are private and only shown above a threshold.
        selectable: False keeps it out of keys and aggregates; filters may still read it.
    """

    name: str
    type: str | None
    low: int | None = None
    high: int | None = None
    decimals: int = 0
    keys: tuple[Value, ...] | None = None
    selectable: bool = True


@dataclass(frozen=True)
class Table:
    """One table. ``unit`` is None for a public table.

    Attributes:
        unit: the column that names the privacy unit: of this table, or of the last one on the ``path``.
        path: steps to the table that has the unit; each key on it is unique in its table and never NULL.
        max_groups: groups one privacy unit may contribute to in a query (l0).
        max_rows_per_group: rows of one unit that count within a group (linf).
        max_rows: rows of one unit that count when a query has no groups (M).
    """

    name: str
    unit: str | None
    columns: Mapping[str, Column]
    max_groups: int = DEFAULT_MAX_GROUPS
    max_rows_per_group: int = DEFAULT_MAX_ROWS_PER_GROUP
    max_rows: int = DEFAULT_MAX_GROUPS * DEFAULT_MAX_ROWS_PER_GROUP
    path: tuple[Hop, ...] = ()

    @property
    def private(self) -> bool:
        return self.unit is not None

    def column(self, name: str) -> Column | None:
        """The column of that name, in any letter case."""
        return self.columns.get(name.lower())


@dataclass(frozen=True)
class Policy:
    """A validated policy. Budgets are integers: rho in 1e-9, delta in 1e-12, rounded down.

    ``min_rho_per_query_nano`` is the least that a question about private rows may spend: who asks sees
    whether an answer comes at all, so that no question may be all but free. ``profile_rho_nano`` is what the
    contribution profile of a version spends when it is first offered; 0 means that none is released, and
    what is less than `privacy.profiled.least_profile_rho_nano` is refused.
    """

    document: dict[str, Any]
    sha256: str
    domain: str
    rho_nano: int
    delta_pico: int
    max_rho_per_query_nano: int
    max_delta_per_query_pico: int
    min_rho_per_query_nano: int
    profile_rho_nano: int
    tables: Mapping[str, Table]

    @classmethod
    def load(
        cls, path: str | Path, tables: Mapping[str, str | Path | Sequence[str | Path]] | None = None
    ) -> Policy:
        """Read a policy from a TOML or JSON file; types from the Parquet schemas of ``tables`` where given.

        Raises:
            PolicyError: the document is not valid.
        """
        source = Path(path)
        text = source.read_text(encoding="utf-8")
        try:
            document = json.loads(text) if source.suffix == ".json" else tomllib.loads(text)
        except ValueError as error:
            raise PolicyError("", f"not a readable policy document: {error}") from None
        return cls.from_document(
            document, {name: parquet_schema(paths) for name, paths in (tables or {}).items()}
        )

    @classmethod
    def from_document(
        cls, document: Mapping[str, Any], schemas: Mapping[str, Mapping[str, str]] | None = None
    ) -> Policy:
        """A policy from its document, with the column types of ``schemas`` (table -> column -> type)
        filled in.

        Raises:
            PolicyError: the document is not valid; ``path`` says where.
        """
        _known_fields(document, _POLICY_FIELDS, "")
        filled = with_types(_plain(document), schemas or {})
        domain = filled.get("domain")
        if not isinstance(domain, str) or not domain.strip():
            raise PolicyError("domain", "must name the population whose members are protected")
        rho_nano = _budget(filled, "rho", 9)
        delta_pico = _budget(filled, "delta", 12)
        if delta_pico > MAX_DELTA_PICO:
            raise PolicyError("delta", "must be at most 0.001: it is the chance that a unit is not protected")
        tables = _tables(filled)
        most = _share(filled, "max_rho_per_query", 9, rho_nano, rho_nano)
        return cls(
            document=filled,
            sha256=hashlib.sha256(canonical_json(filled).encode()).hexdigest(),
            domain=domain,
            rho_nano=rho_nano,
            delta_pico=delta_pico,
            max_rho_per_query_nano=most,
            min_rho_per_query_nano=_least_rho_nano(filled, rho_nano, most),
            profile_rho_nano=_profile_rho_nano(filled, rho_nano, tables),
            max_delta_per_query_pico=_share(
                filled, "max_delta_per_query", 12, delta_pico, max(delta_pico // 100, 1)
            ),
            tables=tables,
        )

    def table(self, name: str) -> Table | None:
        """The table of that name, in any letter case."""
        return self.tables.get(name.lower())

    def unit_column(self, table: Table) -> tuple[str, str]:
        """Name and type of the column that names the unit of a private table, which may be another table's.

        Without a declared type it is text.
        """
        assert table.unit is not None
        owner = self.tables[table.path[-1].table.lower()] if table.path else table
        declared = owner.columns[table.unit.lower()]
        return declared.name, declared.type or "text"

    @cached_property
    def path_keys(self) -> frozenset[Identity]:
        """Tables and their keys that paths lead to, in lower case: unique in their table, never NULL."""
        hops = [hop for table in self.tables.values() for hop in table.path]
        return frozenset((hop.table.lower(), hop.key.lower()) for hop in hops)

    def is_path_key(self, table: Table, column: str) -> bool:
        """Whether a path leads to that column of the table."""
        return (table.name.lower(), column.lower()) in self.path_keys

    def identity(self, table: Table, column: str) -> Identity | None:
        """What a column names, if each of its values belongs to one unit; None for all others."""
        name = column.lower()
        if table.unit is None:
            return None
        if table.path and table.path[0].column.lower() == name:
            target = self.tables[table.path[0].table.lower()]
            return self.identity(target, table.path[0].key)
        if not table.path and table.unit.lower() == name:
            return UNIT
        return (table.name.lower(), name) if self.is_path_key(table, name) else None


def canonical_json(document: Any) -> str:
    """JSON with sorted keys and no white space: equal documents have equal text."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    """TOML's dates become text, mappings become dicts, so that the document survives JSON unchanged."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dt.date | dt.datetime):
        return value.isoformat()
    return value


def _known_fields(document: Any, known: frozenset[str], path: str) -> None:
    if not isinstance(document, Mapping):
        raise PolicyError(path or "(document)", "must be a table of settings")
    for name in document:
        if name not in known:
            raise PolicyError(
                f"{path}.{name}" if path else str(name),
                "is not a setting of a policy",
                hint=f"Use one of: {', '.join(sorted(known))}.",
            )


def _decimal(value: Any, path: str) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise PolicyError(path, "must be a number")
    try:
        number = Decimal(str(value))
    except (InvalidOperation, ValueError):  # Python writes no whole number of more than 4,300 digits
        raise PolicyError(path, "must be a number") from None
    if not number.is_finite() or abs(number.adjusted()) > MAX_EXPONENT:
        raise PolicyError(path, f"must be a finite number of at most {MAX_EXPONENT} digits")
    return number


def _budget(document: Mapping[str, Any], name: str, digits: int) -> int:
    """A budget as an integer of ``10 ** -digits``, rounded down: never more than was declared."""
    if name not in document:
        raise PolicyError(name, "is missing")
    number = _decimal(document[name], name)
    scaled = int(number.scaleb(digits)) if 0 < number < 10**6 else 0
    if scaled <= 0:
        raise PolicyError(name, f"must be above 1e-{digits} and below a million")
    return scaled


def _share(document: Mapping[str, Any], name: str, digits: int, whole: int, default: int) -> int:
    if name not in document:
        return default
    part = _budget(document, name, digits)
    if part > whole:
        raise PolicyError(name, "must not exceed the budget of the domain")
    return part


def _least_rho_nano(document: Mapping[str, Any], rho_nano: int, most: int) -> int:
    """The smallest rho of a question, rounded up; without a declared one, a domain answers 100,000."""
    if "min_rho_per_query" not in document:
        return min(-(-rho_nano // QUESTIONS_A_DOMAIN), most)
    least = math.ceil(_decimal(document["min_rho_per_query"], "min_rho_per_query").scaleb(9))
    if not 1 <= least <= most:
        raise PolicyError("min_rho_per_query", "must be above 0 and not above the largest rho of a query")
    return least


def _profile_rho_nano(document: Mapping[str, Any], rho_nano: int, tables: Mapping[str, Table]) -> int:
    """Of a contribution profile, rounded down; where none is declared, a thousandth of the domain's, or 0
    where that is too little for one."""
    least = least_profile_rho_nano(tables.values())
    if "profile_rho" not in document:
        part = rho_nano // PROFILES_A_DOMAIN
        return part if part >= least else 0
    if _decimal(document["profile_rho"], "profile_rho") == 0:
        return 0
    asked = _share(document, "profile_rho", 9, rho_nano, 0)
    if asked < least:
        told = f"{Decimal(least).scaleb(-9).normalize():f}"
        raise PolicyError(
            "profile_rho",
            f"must be 0 or at least {told}: with less, a profile of so many tables and columns is noise",
            hint=f"Set `profile_rho = {told}` or more, or 0 to offer versions without a profile.",
        )
    return asked


def _tables(document: Mapping[str, Any]) -> dict[str, Table]:
    declared = document.get("tables")
    if not isinstance(declared, dict) or not declared:
        raise PolicyError("tables", "must declare at least one table")
    tables: dict[str, Table] = {}
    for name, settings in declared.items():
        path = f"tables.{name}"
        if not TABLE_NAME.fullmatch(name):
            raise PolicyError(path, "a table's name must be a letter followed by letters, digits or _")
        if name.lower() in tables:
            raise PolicyError(path, "is declared twice")
        tables[name.lower()] = _table(name, settings, path, document)
    return {name: replace(table, path=_checked_path(table, tables)) for name, table in tables.items()}


def _table(name: str, settings: Any, path: str, document: Mapping[str, Any]) -> Table:
    _known_fields(settings, _TABLE_FIELDS, path)
    unit, public = settings.get("unit"), settings.get("public", False)
    if public not in (True, False) or (unit is None) is not public:
        raise PolicyError(path, "must either name its `unit` column or say `public = true`")
    columns = _columns(settings.get("columns", {}), f"{path}.columns")
    hops = _hops(settings.get("path", []), f"{path}.path")
    if public:
        if hops:
            raise PolicyError(f"{path}.path", "leads to a privacy unit, and this table is public")
        return Table(name, None, columns)
    if not isinstance(unit, str) or not unit:
        raise PolicyError(f"{path}.unit", "must name a column of the table")
    if not hops:
        columns.setdefault(unit.lower(), Column(unit, "text"))
        _check_key_type(columns[unit.lower()], f"{path}.unit")
    elif unit.lower() in columns:
        raise PolicyError(
            f"{path}.columns.{columns[unit.lower()].name}",
            "is named like the unit, to which the path leads in another table",
            hint="Leave out the path if this column names the unit, or rename the column.",
        )
    groups = _cap(settings, document, "max_groups", DEFAULT_MAX_GROUPS, path)
    rows = _cap(settings, document, "max_rows_per_group", DEFAULT_MAX_ROWS_PER_GROUP, path)
    return Table(
        name,
        unit,
        columns,
        groups,
        rows,
        _cap(settings, {}, "max_rows", min(groups * rows, LARGEST_CAPS["max_rows"]), path),
        hops,
    )


def _check_key_type(column: Column, path: str) -> None:
    if column.type not in (None, "integer", "text"):
        raise PolicyError(
            path,
            "must be a column of whole numbers or text, so that no two units can be taken for one",
            hint="Convert the column to text before publishing.",
        )


def _hops(declared: Any, path: str) -> tuple[Hop, ...]:
    if not isinstance(declared, list) or len(declared) > MAX_HOPS:
        raise PolicyError(path, f"must be a list of at most {MAX_HOPS} steps {{from, table, to}}")
    for place, step in enumerate(declared):
        _known_fields(step, _HOP_FIELDS, f"{path}[{place}]")
        for name in ("from", "table", "to"):
            if not isinstance(step.get(name), str) or not step[name]:
                raise PolicyError(f"{path}[{place}].{name}", "must be a name")
    return tuple(Hop(step["from"], step["table"], step["to"]) for step in declared)


def _checked_path(table: Table, tables: Mapping[str, Table]) -> tuple[Hop, ...]:
    """The path in the tables' own spelling. Each step leads from a column to a key of a private table, whose
    own way to the unit is the rest."""
    here, hops = table, []
    for place, hop in enumerate(table.path):
        path = f"tables.{table.name}.path[{place}]"
        there = tables.get(hop.table.lower())
        if there is None or not there.private or there is table:
            raise PolicyError(f"{path}.table", "must be another private table of this policy")
        if here.column(hop.column) is None:
            raise PolicyError(f"{path}.from", f"must be a declared column of {here.name}")
        if there.column(hop.key) is None:
            raise PolicyError(f"{path}.to", f"must be a declared column of {there.name}")
        _check_ends(here.columns[hop.column.lower()], there.columns[hop.key.lower()], path)
        if _lower(there.path) != _lower(table.path[place + 1 :]):
            raise PolicyError(
                f"{path}.table", f"{there.name} has another way to its unit than this path says"
            )
        hops.append(
            Hop(here.columns[hop.column.lower()].name, there.name, there.columns[hop.key.lower()].name)
        )
        here = there
    if table.path and (table.unit or "").lower() != (here.unit or "").lower():
        raise PolicyError(
            f"tables.{table.name}.unit", f"must be the unit of {here.name}, where the path ends"
        )
    return tuple(hops)


def _check_ends(one: Column, other: Column, path: str) -> None:
    _check_key_type(one, f"{path}.from")
    _check_key_type(other, f"{path}.to")
    if (one.type or "text") != (other.type or "text"):
        raise PolicyError(f"{path}.to", "must have the type of the column that leads to it")


def _lower(path: tuple[Hop, ...]) -> list[tuple[str, str, str]]:
    return [(hop.column.lower(), hop.table.lower(), hop.key.lower()) for hop in path]


def _cap(settings: Mapping[str, Any], fallback: Mapping[str, Any], name: str, default: int, path: str) -> int:
    value = settings.get(name, fallback.get(name, default))
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LARGEST_CAPS[name]:
        raise PolicyError(f"{path}.{name}", f"must be a whole number from 1 to {LARGEST_CAPS[name]}")
    return value


def _columns(declared: Any, path: str) -> dict[str, Column]:
    if not isinstance(declared, dict):
        raise PolicyError(path, "must be a table of columns")
    columns: dict[str, Column] = {}
    for name, settings in declared.items():
        if not name or "\x00" in name or name.lower() in columns:
            raise PolicyError(f"{path}.{name}", "is not a usable column name, or is declared twice")
        columns[name.lower()] = _column(name, settings, f"{path}.{name}")
    return columns


def _column(name: str, settings: Any, path: str) -> Column:
    _known_fields(settings, _COLUMN_FIELDS, path)
    declared = settings.get("type")
    if declared is not None and declared not in TYPES:
        raise PolicyError(f"{path}.type", f"must be one of: {', '.join(TYPES)}")
    selectable = settings.get("selectable", True)
    if not isinstance(selectable, bool):
        raise PolicyError(f"{path}.selectable", "must be true or false")
    decimals = settings.get("decimals", 0)
    if isinstance(decimals, bool) or not isinstance(decimals, int) or not 0 <= decimals <= MAX_DECIMALS:
        raise PolicyError(f"{path}.decimals", f"must be a whole number from 0 to {MAX_DECIMALS}")
    kind = declared or _inferred_type(settings, decimals)
    if kind == "integer" and decimals:
        raise PolicyError(f"{path}.decimals", "whole numbers have no decimals")
    low, high = _bounds(settings, kind, decimals, path)
    return Column(name, kind, low, high, decimals, _keys(settings.get("keys"), kind, path), selectable)


def _inferred_type(settings: Mapping[str, Any], decimals: int) -> str | None:
    keys = settings.get("keys")
    if isinstance(keys, list) and keys:
        return type_of(keys[0])
    if "bounds" in settings:
        return "integer" if decimals == 0 else "decimal"
    return None


def _bounds(
    settings: Mapping[str, Any], kind: str | None, decimals: int, path: str
) -> tuple[int | None, int | None]:
    if "bounds" not in settings:
        return None, None
    path = f"{path}.bounds"
    pair = settings["bounds"]
    if not isinstance(pair, list) or len(pair) != 2:
        raise PolicyError(path, "must be [lower, upper]")
    if kind in ("date", "timestamp"):
        lower, upper = (value_of(item, kind) for item in pair)
        if lower is None or upper is None or str(lower) > str(upper):
            raise PolicyError(path, "must be two times in order")
        return None, None
    if kind not in ("integer", "float", "decimal"):
        raise PolicyError(path, "belong to numbers and times only")
    low, high = (_decimal(item, path).scaleb(decimals) for item in pair)
    if low != int(low) or high != int(high) or low > high or max(abs(low), abs(high)) >= 2**62:
        raise PolicyError(path, "must be in order, below 2^62, with no more decimals than declared")
    return int(low), int(high)


def _keys(declared: Any, kind: str | None, path: str) -> tuple[Value, ...] | None:
    if declared is None or declared == "private":
        return None
    path = f"{path}.keys"
    if not isinstance(declared, list) or not 1 <= len(declared) <= MAX_KEYS:
        raise PolicyError(path, f'must be "private" or a list of 1 to {MAX_KEYS} values')
    values = [value_of(item, kind or "text") for item in declared]
    if any(value is None for value in values):
        raise PolicyError(path, f"must all be values of type {kind}")
    if any(isinstance(value, str) and len(value.encode()) > MAX_KEY_BYTES for value in values):
        raise PolicyError(path, f"must be texts of at most {MAX_KEY_BYTES} bytes")
    stored = [float(value) if isinstance(value, Decimal) else value for value in values]
    if len(set(stored)) != len(stored):
        raise PolicyError(path, "must not name a value twice")
    return tuple(value for value in values if value is not None)
