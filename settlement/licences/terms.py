"""Licence terms: what a provider may write, read strictly; as ODRL in :mod:`settlement.licences.odrl`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING, Any

from settlement.documents import format_rho, read_rho_nano, unknown_name
from settlement.errors import LicenceInvalid

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_PURPOSE = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*", re.ASCII)
_TERRITORY = re.compile(r"[A-Z]{2}(-[A-Z0-9]{1,3})?", re.ASCII)
_ORGANISATION = re.compile(r"[a-z0-9][a-z0-9-]{0,62}", re.ASCII)
_COLUMN = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}\.(\*|[^*\x00-\x1f\x7f][^\x00-\x1f\x7f]{0,127})")
_PUBLICATION = ("permitted", "forbidden")
_MOST_NAMES = 100
_MOST_TEXT = 2000

#: How far a statement may join, from nothing to everything that the policy allows.
JOINS = ("none", "public", "any")


@dataclass(frozen=True, slots=True)
class LicenceTerms:
    """What the licence allows. None means that the term was not written and does not limit.

    ``purposes``, ``territories`` (ISO 3166-1 alpha-2, with ISO 3166-2 subdivisions, or "*") and ``roles`` (of
    the person who accepts) are declared by the buyer and bound, not detected. ``assignees`` are names of
    organisations. The term is valid_from <= now < valid_until. ``query_count`` and ``max_rho_total_nano`` are
    an organisation's over all its grants. ``columns`` ("table.column" or "table.*") are all that a statement
    may read; ``joins`` is "none" (one table a question), "public" (a private table with public ones) or
    "any". ``publication`` binds what the buyer declares. ``fields_of_use``, ``retention_days`` and
    ``attribution`` bind the buyer and are recorded, not enforced.
    """

    purposes: tuple[str, ...]
    territories: tuple[str, ...]
    fields_of_use: tuple[str, ...] | None = None
    assignees: tuple[str, ...] | None = None
    roles: tuple[str, ...] | None = None
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    query_count: int | None = None
    max_rho_per_query_nano: int | None = None
    max_rho_total_nano: int | None = None
    columns: tuple[str, ...] | None = None
    joins: str | None = None
    publication: str | None = None
    retention_days: int | None = None
    attribution: str | None = None

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> LicenceTerms:
        """Read terms; LicenceInvalid names the field, and for an unknown term the nearest known one.

        Keys are purposes, territories, fields_of_use, assignees, roles, valid_from, valid_until (dates or
        times of ISO 8601, a date alone begins its day in UTC), query_count, max_rho_per_query, max_rho_total
        (decimals), columns, joins, publication ("permitted" or "forbidden"), retention_days and attribution.
        The first two are required.
        """
        values: dict[str, Any] = {}
        for key, value in document.items():
            if key not in _READERS:
                raise LicenceInvalid(f"terms.{key}", unknown_name(key, _READERS))
            field, read = _READERS[key]
            values[field] = read(value, f"terms.{key}")
        for key in ("purposes", "territories"):
            if key not in values:
                raise LicenceInvalid(f"terms.{key}", "is missing; name at least one")
        terms = cls(**values)
        if terms.valid_from and terms.valid_until and terms.valid_until <= terms.valid_from:
            raise LicenceInvalid("terms.valid_until", "the term ends before it begins")
        per_query, total = terms.max_rho_per_query_nano, terms.max_rho_total_nano
        if per_query is not None and total is not None and per_query > total:
            raise LicenceInvalid("terms.max_rho_per_query", "one query may not ask more than all together")
        return terms

    @property
    def document(self) -> dict[str, Any]:
        """The terms as a JSON document that ``from_document`` reads back to equal terms."""
        return {
            key: _WRITERS.get(type(value), _same)(value) if not field.endswith("_nano") else format_rho(value)
            for key, (field, _) in _READERS.items()
            if (value := getattr(self, field)) is not None
        }


def is_purpose(name: object) -> bool:
    """Whether a name is written as purposes are: lower-case words joined by hyphens."""
    return isinstance(name, str) and len(name) <= 60 and _PURPOSE.fullmatch(name) is not None


def is_territory(name: object) -> bool:
    """Whether a name is written as territories are: a country of ISO 3166-1, or a part of one (-2)."""
    return isinstance(name, str) and _TERRITORY.fullmatch(name) is not None


def territory_within(territory: str, allowed: tuple[str, ...]) -> str | None:
    """The entry of ``allowed`` that covers a territory: itself, its country or "*"; None if none does."""
    for entry in allowed:
        if entry == "*" or territory == entry or territory.startswith(f"{entry}-"):
            return entry
    return None


def covers_column(allowed: tuple[str, ...], table: str, column: str) -> bool:
    """Whether a list of columns covers one; names of tables and columns are compared without letter case."""
    asked = {f"{table}.{column}".casefold(), f"{table}.*".casefold()}
    return any(entry.casefold() in asked for entry in allowed)


def _same(value: Any) -> Any:
    return value


_WRITERS: dict[type, Callable[[Any], Any]] = {tuple: list, datetime: datetime.isoformat}


def _matches(pattern: re.Pattern[str]) -> Callable[[object], bool]:
    return lambda name: isinstance(name, str) and pattern.fullmatch(name) is not None


def _names(known: Callable[[object], bool], example: str) -> Callable[[object, str], tuple[str, ...]]:
    def read(value: object, path: str) -> tuple[str, ...]:
        if not isinstance(value, list | tuple) or not 1 <= len(value) <= _MOST_NAMES:
            raise LicenceInvalid(path, f"a list of 1 to {_MOST_NAMES} names such as {example}")
        for i, name in enumerate(value):
            if name != "*" and not known(name):
                raise LicenceInvalid(f"{path}[{i}]", f'write it like {example}, or "*" for any')
        return ("*",) if "*" in value else tuple(dict.fromkeys(value))

    return read


def _moment(value: object, path: str) -> datetime:
    try:
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        if isinstance(value, date) and not isinstance(value, datetime):
            value = datetime.combine(value, time())
    except ValueError:
        value = None
    if not isinstance(value, datetime):
        raise LicenceInvalid(path, "write a date or time of ISO 8601, such as 2027-12-31")
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _count(value: object, path: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**31:
        raise LicenceInvalid(path, "write a positive whole number")
    return value


def _rho(value: object, path: str) -> int:
    try:
        return read_rho_nano(value)
    except ValueError as error:
        raise LicenceInvalid(path, str(error)) from error


def _one_of(known: tuple[str, ...]) -> Callable[[object, str], str]:
    def read(value: object, path: str) -> str:
        if not isinstance(value, str) or value not in known:
            raise LicenceInvalid(path, unknown_name(value, known))
        return value

    return read


def _text(value: object, path: str) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > _MOST_TEXT or not value.isprintable():
        raise LicenceInvalid(path, f"a printable line of at most {_MOST_TEXT} characters")
    return value


#: Key of the document -> field of LicenceTerms and its reader.
_READERS: dict[str, tuple[str, Callable[[object, str], Any]]] = {
    "purposes": ("purposes", _names(is_purpose, "research")),
    "territories": ("territories", _names(is_territory, "US or US-NY")),
    "fields_of_use": ("fields_of_use", _names(is_purpose, "public-health")),
    "assignees": ("assignees", _names(_matches(_ORGANISATION), "acme")),
    "roles": ("roles", _names(is_purpose, "data-steward")),
    "valid_from": ("valid_from", _moment),
    "valid_until": ("valid_until", _moment),
    "query_count": ("query_count", _count),
    "max_rho_per_query": ("max_rho_per_query_nano", _rho),
    "max_rho_total": ("max_rho_total_nano", _rho),
    "columns": ("columns", _names(_matches(_COLUMN), "flights.origin or flights.*")),
    "joins": ("joins", _one_of(JOINS)),
    "publication": ("publication", _one_of(_PUBLICATION)),
    "retention_days": ("retention_days", _count),
    "attribution": ("attribution", _text),
}

#: Every term that may be written, in the order in which it is shown.
TERMS = tuple(_READERS)
