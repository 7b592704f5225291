"""Licences in plain language: what one allows, and what a new version changes, materially or not.

A change is material where it takes something away from who accepted the old version or asks more of them:
then they accept anew before their next query. What only gives more, or changes no word, is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from settlement.documents import format_rho
from settlement.licences.terms import JOINS, TERMS, territory_within

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from settlement.licences.register import Licence
    from settlement.licences.terms import LicenceTerms

_PUBLICATION = ("forbidden", None, "permitted")


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between two licence versions: the term (or title, text), and a sentence about it."""

    term: str
    material: bool
    says: str


def in_words(terms: LicenceTerms) -> list[str]:
    """What terms allow and ask, a sentence each; what is not limited is said, too."""
    return [_sentence(f"{_LABELS[term]}: {value}") for term, value in shown(terms)]


def shown(terms: LicenceTerms) -> list[tuple[str, str]]:
    """Every term with its value in words, in the order in which terms are written."""
    return [(term, _shown(term, _value(terms, term))) for term in TERMS]


def _sentence(text: str) -> str:
    """The text with a full stop, unless it ends a sentence already: attributions are texts of their own."""
    return text if text.endswith(_ENDS) else f"{text}."


def compare(old: Licence, new: Licence) -> list[Change]:
    """Every difference from an old version to a new one, material ones first."""
    changes = compare_terms(old.terms, new.terms)
    if old.text != new.text:
        same_words = old.text.split() == new.text.split()
        says = "only white space differs" if same_words else "the words differ; read them again"
        changes.append(Change("text", not same_words, f"Text: {says}."))
    if old.title != new.title:
        changes.append(Change("title", False, f"Title: now {new.title}."))
    return sorted(changes, key=lambda one: not one.material)


def compare_terms(old: LicenceTerms, new: LicenceTerms) -> list[Change]:
    """Every difference in the terms, in the order in which terms are written."""
    found = []
    for term in TERMS:
        before, after = _value(old, term), _value(new, term)
        if before != after:
            says = _sentence(f"{_LABELS[term]}: {_difference(term, before, after)}")
            found.append(Change(term, not _GIVES_MORE[term](before, after), says))
    return found


def is_material(old: Licence, new: Licence) -> bool:
    """Whether who accepted the old version has to accept the new one before the next query."""
    return old.id != new.id and any(change.material for change in compare(old, new))


def _value(terms: LicenceTerms, term: str) -> Any:
    return getattr(terms, f"{term}_nano" if term.startswith("max_rho") else term)


def _shown(term: str, value: Any) -> str:
    if value is None:
        return _UNLIMITED.get(term, "not limited")
    if isinstance(value, tuple):
        return "any" if "*" in value else ", ".join(value)
    if term.startswith("max_rho"):
        return format_rho(value)
    if term.startswith("valid"):
        return str(value.isoformat())
    return f"{value} days" if term == "retention_days" else str(value)


def _difference(term: str, before: Any, after: Any) -> str:
    if isinstance(before, tuple) and isinstance(after, tuple) and "*" not in (*before, *after):
        lost = [name for name in before if name not in after]
        won = [name for name in after if name not in before]
        parts = [f"no longer {', '.join(lost)}"] if lost else []
        parts += [f"now also {', '.join(won)}"] if won else []
        return "; ".join(parts) or "in another order"
    return f"was {_shown(term, before)}, now {_shown(term, after)}"


def _covers(inside: Callable[[str, tuple[str, ...]], bool]) -> Callable[[Any, Any], bool]:
    """Whether the new list holds everything of the old one; no list allows everything."""

    def gives_more(before: tuple[str, ...] | None, after: tuple[str, ...] | None) -> bool:
        if after is None or "*" in after:
            return True
        return before is not None and all(inside(name, after) for name in before)

    return gives_more


def _column_within(name: str, allowed: tuple[str, ...]) -> bool:
    known = {one.casefold() for one in allowed}
    return name.casefold() in known or f"{name.partition('.')[0]}.*".casefold() in known


def _no_less(before: int | None, after: int | None) -> bool:
    return after is None or (before is not None and after >= before)


def _no_later(before: datetime | None, after: datetime | None) -> bool:
    return after is None or (before is not None and after <= before)


def _no_earlier(before: datetime | None, after: datetime | None) -> bool:
    return after is None or (before is not None and after >= before)


_names = _covers(lambda name, allowed: name in allowed)

#: For each term, whether a new value leaves who accepted the old one at least as much.
_GIVES_MORE: dict[str, Callable[[Any, Any], bool]] = {
    "purposes": _names,
    "territories": _covers(lambda name, allowed: territory_within(name, allowed) is not None),
    "fields_of_use": _names,
    "assignees": _names,
    "roles": _names,
    "valid_from": _no_later,
    "valid_until": _no_earlier,
    "query_count": _no_less,
    "max_rho_per_query": _no_less,
    "max_rho_total": _no_less,
    "columns": _covers(_column_within),
    "joins": lambda before, after: JOINS.index(after or "any") >= JOINS.index(before or "any"),
    "publication": lambda before, after: _PUBLICATION.index(after) >= _PUBLICATION.index(before),
    "retention_days": _no_less,
    "attribution": lambda _, after: after is None,
}

_LABELS = {
    "purposes": "Purposes",
    "territories": "Territories",
    "fields_of_use": "Fields of use (recorded, not enforced)",
    "assignees": "Organisations that may accept",
    "roles": "Roles in which it is accepted",
    "valid_from": "Begins",
    "valid_until": "Ends",
    "query_count": "Queries of one organisation",
    "max_rho_per_query": "Rho of one query, at most",
    "max_rho_total": "Rho of all queries of one organisation, at most",
    "columns": "Columns that may be read",
    "joins": "Joins",
    "publication": "Publication of answers",
    "retention_days": "Answers are kept (recorded, not enforced)",
    "attribution": "Attribution (recorded, not enforced)",
}

_ENDS = (".", "!", "?", "\N{HORIZONTAL ELLIPSIS}", "\N{IDEOGRAPHIC FULL STOP}")

_UNLIMITED = {
    "valid_from": "with acceptance",
    "valid_until": "not before it is withdrawn",
    "joins": "all that can be answered",
    "publication": "not said",
    "attribution": "none asked",
}
