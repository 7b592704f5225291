"""Licence terms: what a provider may write, read strictly, and their ODRL 2.2 form."""

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
_PUBLICATION = ("permitted", "forbidden")
_MOST_NAMES = 100
_MOST_TEXT = 2000

#: Our ODRL profile: operands and actions that the ODRL 2.2 vocabulary does not have.
PROFILE = "urn:private-data-exchange:odrl:1"


@dataclass(frozen=True, slots=True)
class LicenceTerms:
    """What the licence allows. None means that the term was not written and does not limit.

    ``purposes`` and ``territories`` (ISO 3166-1 alpha-2, with ISO 3166-2 subdivisions, or "*") are declared
    by the buyer and bound, not detected. The term is valid_from <= now < valid_until. ``publication`` of
    answers, ``retention_days`` and ``attribution`` bind the buyer and are recorded, not enforced.
    """

    purposes: tuple[str, ...]
    territories: tuple[str, ...]
    valid_from: datetime | None = None
    valid_until: datetime | None = None
    query_count: int | None = None
    max_rho_per_query_nano: int | None = None
    publication: str | None = None
    retention_days: int | None = None
    attribution: str | None = None

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> LicenceTerms:
        """Read terms; LicenceInvalid names the field, and for an unknown term the nearest known one.

        Keys are purposes, territories, valid_from, valid_until (dates or times of ISO 8601, a date alone
        begins its day in UTC), query_count, max_rho_per_query (decimal), publication ("permitted" or
        "forbidden"), retention_days and attribution. The first two are required.
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
        return terms

    @property
    def document(self) -> dict[str, Any]:
        """The terms as a JSON document that ``from_document`` reads back to equal terms."""
        rho = self.max_rho_per_query_nano
        values = {
            "purposes": list(self.purposes),
            "territories": list(self.territories),
            "valid_from": self.valid_from and self.valid_from.isoformat(),
            "valid_until": self.valid_until and self.valid_until.isoformat(),
            "query_count": self.query_count,
            "max_rho_per_query": None if rho is None else format_rho(rho),
            "publication": self.publication,
            "retention_days": self.retention_days,
            "attribution": self.attribution,
        }
        return {key: value for key, value in values.items() if value is not None}


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


def to_odrl(terms: LicenceTerms, uid: str) -> dict[str, Any]:
    """The terms as an ODRL 2.2 Set in JSON-LD (W3C Recommendation, 2018), under our small profile.

    ``uid`` is the licence version's IRI; the target is the collection of what is listed under it.
    """
    data, answers = (
        {"@type": "AssetCollection", "uid": f"{uid}#data"},
        {"@type": "Asset", "uid": f"{uid}#answers"},
    )
    query: dict[str, Any] = {"target": data, "action": "pdx:query", "constraint": _constraints(terms)}
    if terms.attribution is not None:
        query["duty"] = [{"action": "attribute", "pdx:attribution": terms.attribution}]
    policy: dict[str, Any] = {
        "@context": ["http://www.w3.org/ns/odrl.jsonld", {"pdx": f"{PROFILE}:"}],
        "@type": "Set",
        "uid": uid,
        "profile": PROFILE,
        "permission": [query],
    }
    if terms.publication == "permitted":
        policy["permission"].append({"target": answers, "action": "distribute"})
    if terms.publication == "forbidden":
        policy["prohibition"] = [{"target": answers, "action": "distribute"}]
    if terms.retention_days is not None:
        after = _constraint("elapsedTime", "gteq", f"P{terms.retention_days}D", "xsd:duration")
        policy["obligation"] = [{"target": answers, "action": "delete", "constraint": [after]}]
    return policy


def _constraints(terms: LicenceTerms) -> list[dict[str, Any]]:
    constraints = [_constraint("purpose", "isAnyOf", list(terms.purposes))]
    if "*" not in terms.territories:
        constraints.append(_constraint("spatial", "isAnyOf", list(terms.territories)))
    for operator, moment in (("gteq", terms.valid_from), ("lt", terms.valid_until)):
        if moment is not None:
            constraints.append(_constraint("dateTime", operator, moment.isoformat(), "xsd:dateTime"))
    if terms.query_count is not None:
        constraints.append(_constraint("count", "lteq", str(terms.query_count), "xsd:integer"))
    if terms.max_rho_per_query_nano is not None:
        rho = format_rho(terms.max_rho_per_query_nano)
        constraints.append(_constraint("pdx:rhoPerQuery", "lteq", rho, "xsd:decimal"))
    return constraints


def _constraint(left: str, operator: str, right: object, datatype: str | None = None) -> dict[str, Any]:
    operand = right if datatype is None else {"@value": right, "@type": datatype}
    return {"leftOperand": left, "operator": operator, "rightOperand": operand}


def _names(known: Callable[[object], bool], example: str) -> Callable[[object, str], tuple[str, ...]]:
    def read(value: object, path: str) -> tuple[str, ...]:
        if not isinstance(value, list | tuple) or not 1 <= len(value) <= _MOST_NAMES:
            raise LicenceInvalid(path, f"a list of 1 to {_MOST_NAMES} names such as {example}")
        for i, name in enumerate(value):
            if name != "*" and not known(name):
                raise LicenceInvalid(f"{path}[{i}]", f'write it like {example}, or "*" for any')
        return tuple(dict.fromkeys(value))

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


def _publication(value: object, path: str) -> str:
    if not isinstance(value, str) or value not in _PUBLICATION:
        raise LicenceInvalid(path, unknown_name(value, _PUBLICATION))
    return value


def _text(value: object, path: str) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > _MOST_TEXT or not value.isprintable():
        raise LicenceInvalid(path, f"a printable line of at most {_MOST_TEXT} characters")
    return value


#: Key of the document -> field of LicenceTerms and its reader.
_READERS: dict[str, tuple[str, Callable[[object, str], Any]]] = {
    "purposes": ("purposes", _names(is_purpose, "research")),
    "territories": ("territories", _names(is_territory, "US or US-NY")),
    "valid_from": ("valid_from", _moment),
    "valid_until": ("valid_until", _moment),
    "query_count": ("query_count", _count),
    "max_rho_per_query": ("max_rho_per_query_nano", _rho),
    "publication": ("publication", _publication),
    "retention_days": ("retention_days", _count),
    "attribution": ("attribution", _text),
}
