"""The catalogue and a dataset's page."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from flask import g, render_template, request, url_for
from flask_babel import gettext as _

from catalog.words import fold
from exchange import facets
from exchange.identity import NOBODY, Actor, Role
from exchange.operations import finding, laying, listing
from exchange.store import REFUSALS
from exchange.web import languages
from exchange.web.auth import market
from exchange.web.portal import portal
from exchange.web.portal.pages import refusal_page
from settlement.errors import AmountInvalid

if TYPE_CHECKING:
    from collections.abc import Mapping

_PAGE = 24
_SHOWN = 10
"""Values of a facet that are seen at once; the others open by a press."""
_QUESTION_RHO_NANO = facets.QUESTION_RHO_NANO


@dataclass(frozen=True)
class _Asked:
    """What a visitor looks for, as the page's address says it."""

    text: str
    chosen: Mapping[str, tuple[str, ...]]
    sort: str

    def href(self, *, page: str | None = None) -> str:
        """The address that asks for this."""
        sort = self.sort if self.sort != finding.SORTS[0] else None
        named: dict[str, Any] = {name: list(values) for name, values in self.chosen.items() if values}
        return url_for("portal.catalogue", q=self.text or None, **named, sort=sort, page=page)

    def without(self, facet: str, value: str) -> _Asked:
        """The same with one choice less."""
        left = tuple(one for one in self.chosen[facet] if one != value)
        return replace(self, chosen={**self.chosen, facet: left})

    def of_subject(self, keyword: str) -> str:
        """The address of everything on a subject."""
        return replace(self, text="", chosen={"subject": (fold(keyword).strip(),)}).href()


@portal.get("/")
def catalogue() -> Any:
    """All listings, or those that are looked for, with what they can be narrowed to. Open to everybody."""
    asked = _Asked(
        request.args.get("q", "").strip(),
        {name: tuple(dict.fromkeys(request.args.getlist(name))) for name in facets.NAMES},
        request.args.get("sort", finding.SORTS[0]),
    )
    reader: Actor = g.get("visitor") or NOBODY
    try:
        found = finding.search(
            market(),
            reader,
            asked.text,
            chosen=asked.chosen,
            sort=asked.sort,
            limit=_PAGE,
            page_token=request.args.get("page"),
            counted=True,
        )
    except REFUSALS as refusal:
        return refusal_page(refusal)
    chips = [
        (facet, _value(facet, value), asked.without(facet, value).href())
        for facet, values in asked.chosen.items()
        for value in values
        if value
    ]
    return render_template(
        "catalogue.html",
        found=found,
        asked=asked,
        titles=_titles(),
        sorts=_sorts(),
        told=_value,
        chips=chips,
        shown=_SHOWN,
        may_request=reader.role not in (Role.PROVIDER, Role.OFFICER, Role.OPERATOR),
    )


@portal.get("/datasets/<owner>/<name>")
def dataset_page(owner: str, name: str) -> Any:
    """A listing: how to get access, dictionary, budget, licence and plans in words, examples, revisions.

    Open to everybody: nobody should have to sign in to learn that a dataset is there and what it asks.
    """
    visitor: Actor = g.get("visitor") or NOBODY
    try:
        found = laying.show(market(), visitor, f"{owner}/{name}")
    except REFUSALS as refusal:
        return refusal_page(refusal)
    mine = visitor is not NOBODY and found["provider"] == visitor.name
    counts = listing.profile(market(), visitor, f"{owner}/{name}") if mine else None
    return render_template(
        "dataset.html",
        dataset=found,
        counts=counts,
        may_request=found["state"] == "published" and (visitor is NOBODY or visitor.role == Role.BUYER),
        **beside(found),
    )


def beside(found: Mapping[str, Any]) -> dict[str, Any]:
    """What a dataset's page shows besides its document: examples, the least price, what is left."""
    return {
        "statements": _statements(found["tables"]),
        "price_from": facets.cheapest(found["plans"]),
        "questions_left": found["budget"]["rho_nano_remaining"] // _QUESTION_RHO_NANO,
        "question_rho_nano": _QUESTION_RHO_NANO,
        "changed": _changed(),
        "address": market().settings.base_url.rstrip("/"),
        "of_subject": _Asked("", {}, finding.SORTS[0]).of_subject,
    }


def _titles() -> dict[str, tuple[str, str]]:
    """Each facet's name, and what it is for."""
    return {
        "subject": (_("Subject"), ""),
        "unit": (_("Protects each"), _("whose privacy every answer keeps")),
        "territory": (_("Licensed for use in"), ""),
        "price": (_("First answer costs"), _("what one has paid by then, for an answer of rho 0.01")),
        "accuracy": (
            _("A count of units is off by at most"),
            _("for privacy units, in 95 of 100 answers, when a question spends all it may"),
        ),
    }


def _sorts() -> list[tuple[str, str]]:
    return [("best", _("Best match")), ("newest", _("Newest")), ("name", _("Name"))]


def _value(facet: str, value: str) -> str:
    """A facet's value for people."""
    if facet == "territory":
        return str(_("anywhere")) if value == "*" else languages.territory(value)
    if facet == "price":
        currency, _sign, minor = value.partition(":")
        if not (minor.isascii() and minor.isdecimal() and len(minor) < 16 and len(currency) == 3):
            return value
        if int(minor) == 0:
            return str(_("nothing (%(currency)s)", currency=currency))
        try:
            return str(_("up to %(amount)s", amount=languages.money(minor, currency)))
        except AmountInvalid:  # no currency of ours: nothing matches it
            return value
    return f"± {value}" if facet == "accuracy" else value


def _changed() -> dict[str, str]:
    """What a revision may have changed, in words."""
    return {
        "tables": _("Tables"),
        "columns": _("Columns"),
        "data": _("New data in the same columns"),
        "policy": _("Privacy policy"),
        "licence": _("Licence"),
        "plans": _("Price plans"),
        "declarations": _("Where the data come from"),
    }


def _statements(tables: list[dict[str, Any]]) -> list[str]:
    """Questions to begin with, of what the listing declares alone; private tables first."""
    made = []
    for table in sorted(tables, key=lambda one: bool(one["public"])):
        keys = [column["name"] for column in table["columns"] if isinstance(column.get("keys"), list)]
        bounded = [
            column["name"]
            for column in table["columns"]
            if column.get("bounds") and not isinstance(column["bounds"][0], str)
        ]
        name = _quoted(table["name"])
        made.append(f"select count(*) as n from {name}")  # noqa: S608 - shown, not run
        if keys and not table["public"]:
            total = f", sum({_quoted(bounded[0])}) as total" if bounded else ""
            key = _quoted(keys[0])
            made.append(f"select {key}, count(*) as n{total} from {name} group by {key}")  # noqa: S608 - shown
    return made[:3]


def _quoted(name: str) -> str:
    """A name as SQL takes it."""
    plain = name.isascii() and name.isidentifier() and name == name.lower()
    return name if plain else '"{}"'.format(name.replace('"', '""'))
