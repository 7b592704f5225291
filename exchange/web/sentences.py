"""Sentences that the exchange writes by its own rules (licences, prices, bookings) in the reader's words.

What providers and buyers wrote themselves stays as it is. What no rule here knows is shown in English.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from flask_babel import gettext
from flask_babel import lazy_gettext as _

from settlement import licences

if TYPE_CHECKING:
    from collections.abc import Mapping

_TERMS = {
    "purposes": _("Purposes: %(value)s."),
    "territories": _("Territories: %(value)s."),
    "fields_of_use": _("Fields of use (recorded, not enforced): %(value)s."),
    "assignees": _("Organisations that may accept: %(value)s."),
    "roles": _("Roles in which it is accepted: %(value)s."),
    "valid_from": _("Begins: %(value)s."),
    "valid_until": _("Ends: %(value)s."),
    "query_count": _("Queries of one organisation: %(value)s."),
    "max_rho_per_query": _("Rho of one query, at most: %(value)s."),
    "max_rho_total": _("Rho of all queries of one organisation, at most: %(value)s."),
    "columns": _("Columns that may be read: %(value)s."),
    "joins": _("Joins: %(value)s."),
    "publication": _("Publication of answers: %(value)s."),
    "retention_days": _("Answers are kept (recorded, not enforced): %(value)s."),
    "attribution": _("Attribution (recorded, not enforced): %(value)s."),
    "title": _("Title: %(value)s."),
    "text": _("Text: %(value)s."),
}
_NOT_LIMITED = "not limited"
_VALUES = {
    _NOT_LIMITED: _("not limited"),
    "any": _("any"),
    "none": _("none"),
    "public": _("public"),
    "with acceptance": _("with acceptance"),
    "not before it is withdrawn": _("not before it is withdrawn"),
    "all that can be answered": _("all that can be answered"),
    "not said": _("not said"),
    "none asked": _("none asked"),
    "permitted": _("permitted"),
    "forbidden": _("forbidden"),
    "in another order": _("in another order"),
    "only white space differs": _("only white space differs"),
    "the words differ; read them again": _("the words differ; read them again"),
    "the words differ": _("the words differ"),
}
_FREE = ("attribution", "title", "purposes", "territories", "fields_of_use", "assignees", "roles", "columns")
"""Terms in which a provider's own words stand."""
_CHANGED = (
    (re.compile(r"was (?P<old>.+), now (?P<new>.+)"), _("was %(old)s, now %(new)s")),
    (
        re.compile(r"no longer (?P<lost>[^;]+); now also (?P<won>[^;]+)"),
        _("no longer %(lost)s; now also %(won)s"),
    ),
    (re.compile(r"no longer (?P<lost>[^;]+)"), _("no longer %(lost)s")),
    (re.compile(r"now also (?P<won>[^;]+)"), _("now also %(won)s")),
    (re.compile(r"now (?P<new>.+)"), _("now %(new)s")),
)
_PAID = (
    (
        re.compile(r"(?P<now>\S+ [A-Z]{3}) for all that is left of the privacy budget"),
        _("%(now)s for all that is left of the privacy budget"),
    ),
    (
        re.compile(
            r"(?P<now>\S+ [A-Z]{3}) each month with rho (?P<rho>\S+) included; beyond it (?P<each>.+)"
        ),
        _("%(now)s each month with rho %(rho)s included; beyond it %(each)s"),
    ),
    (
        re.compile(r"(?P<now>\S+ [A-Z]{3}) each year with rho (?P<rho>\S+) included; beyond it (?P<each>.+)"),
        _("%(now)s each year with rho %(rho)s included; beyond it %(each)s"),
    ),
    (
        re.compile(r"(?P<each>.+); a calendar month at most (?P<most>\S+ [A-Z]{3})"),
        _("%(each)s; a calendar month at most %(most)s"),
    ),
    (
        re.compile(r"credit of (?P<now>\S+ [A-Z]{3}) paid up front, spent by (?P<each>.+)"),
        _("credit of %(now)s paid up front, spent by %(each)s"),
    ),
    (re.compile(r"(?P<each>.+), at most (?P<most>\S+ [A-Z]{3})"), _("%(each)s, at most %(most)s")),
    (re.compile(r"(?P<fee>.+ a query) \+ (?P<each>.+)"), _("%(fee)s + %(each)s")),
    (re.compile(r"(?P<price>\S+ [A-Z]{3}) a query"), _("%(price)s a query")),
    (
        re.compile(r"(?P<price>\S+ [A-Z]{3}) per unit of rho, falling to (?P<last>\S+ [A-Z]{3})"),
        _("%(price)s per unit of rho, falling to %(last)s"),
    ),
    (re.compile(r"(?P<price>\S+ [A-Z]{3}) per unit of rho"), _("%(price)s per unit of rho")),
    (re.compile(r"nothing"), _("nothing")),
)
_BOOKED = {
    "Bank transfer received": _("Bank transfer received"),
    "Private answer": _("Private answer"),
    "Private answer taken back": _("Private answer taken back"),
    "Access under a price plan": _("Access under a price plan"),
    "Period of a subscription": _("Period of a subscription"),
    "Credit for private answers": _("Credit for private answers"),
    "Credit given back": _("Credit given back"),
    "Payment received": _("Payment received"),
    "Payment refunded": _("Payment refunded"),
    "Refund that came back": _("Refund that came back"),
    "Refund made at Stripe": _("Refund made at Stripe"),
    "Payment taken back by the bank": _("Payment taken back by the bank"),
    "Owed since the bank took a payment back": _("Owed since the bank took a payment back"),
    "Payment given back by the bank": _("Payment given back by the bank"),
}


def licence(terms: Mapping[str, Any]) -> list[tuple[bool, str]]:
    """What the terms of a licence (their document) allow and ask, a sentence each, with whether it limits."""
    read = licences.LicenceTerms.from_document(terms)
    return [
        (value != _NOT_LIMITED, str(_TERMS[term]) % {"value": _value(term, value)})
        for term, value in licences.shown(read)
    ]


def change(says: str, term: str) -> str:
    """A sentence on what a licence version changes of a term."""
    value = says.partition(": ")[2].removesuffix(".")
    return str(_TERMS[term]) % {"value": _difference(term, value)} if term in _TERMS and value else says


def price(said: str) -> str:
    """A price plan's sentence: what is paid when."""
    for pattern, text in _PAID:
        found = pattern.fullmatch(said)
        if found is not None:
            parts = found.groupdict()
            nested = {name: price(part) for name, part in parts.items() if name in ("each", "fee")}
            return str(text) % {**parts, **nested}
    return said


def booked(said: str) -> str:
    """What a booking is called in a wallet."""
    return str(_BOOKED.get(said, said))


def _value(term: str, value: str) -> str:
    days = re.fullmatch(r"(\d+) days", value)
    if days is not None and term == "retention_days":
        return str(gettext("%(days)s days", days=days[1]))
    closed = term not in _FREE or value in (_NOT_LIMITED, "any", "none asked", "in another order")
    # What a provider wrote may end with a full stop of its own: the sentence brings one.
    return str(_VALUES.get(value, value)) if closed else value.removesuffix(".").removesuffix("\u3002")


def _difference(term: str, value: str) -> str:
    for pattern, text in _CHANGED:
        found = pattern.fullmatch(value)
        if found is not None:
            parts = found.groupdict()
            return str(text) % {name: _value(term, part) for name, part in parts.items()}
    return _value(term, value)
