"""A new version of a listing begins with the one on offer: its words, terms, prices and policy as if they had
been typed in the steps of a draft. The files are sent anew: what is stored of them is ours and encrypted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import privacy
from exchange.identity import Role
from exchange.operations import composing, listing, typed_listings
from exchange.operations.policy_changes import changes
from exchange.operations.typed_listings import ABOUT, BUDGET, CAPS, LICENCE, MOST_PLANS, PLAN
from settlement import licences
from settlement.documents import canonical

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.orm import Session

    from catalog.listings import ListingView
    from exchange.identity import Actor
    from exchange.market import Market

Typed = dict[str, str]
_OF_POLICY = ("rho", "max_rho_per_query", "min_rho_per_query", "profile_rho")


def begin(market: Market, actor: Actor, dataset: str) -> str:
    """Begin a draft from the version on offer; returns its id.

    Raises NotFound for another's listing and one that is not on offer; RequestInvalid for too many drafts.
    """
    actor.require(Role.PROVIDER)
    typed = market.store.read(lambda session: _typed(session, actor, dataset))
    return composing.begin(market, actor, typed)


def beyond(session: Session, view: ListingView) -> list[str]:
    """What of a version the steps of a draft have no field for: it would be another version without it."""
    typed, tables = typed_of(session, view), {table.name: table.schema for table in view.tables}
    types = {name: schema.types for name, schema in tables.items()}
    old = listing.policy_of(view)
    new = privacy.Policy.from_document(typed_listings.policy_document(typed["privacy"], tables), types)
    found = [one.what for one in (*changes(old, new), *changes(new, old))]
    found += [name for name in _OF_POLICY if getattr(old, f"{name}_nano") != getattr(new, f"{name}_nano")]
    if old.max_delta_per_query_pico != new.max_delta_per_query_pico:
        found.append("max_delta_per_query")
    known = typed_listings.about_document(typed["about"]).get("declarations", {})
    found += [name for name, told in (view.declarations or {}).items() if told and known.get(name) != told]
    if not _same_licence(session, view, typed["licence"]):
        found.append("licence")
    if typed_listings.plan_documents(typed["price"]) != list(view.plans):
        found.append("plans")
    return list(dict.fromkeys(found))


def _same_licence(session: Session, view: ListingView, typed: Typed) -> bool:
    document = typed_listings.licence_document(typed)
    terms = {name: value for name, value in document.items() if name not in ("title", "text")}
    title, text, written = licences.written_out(document["title"], document["text"], terms)
    old = licences.find_licence(session, view.licence_id)
    was = [old.title.strip(), old.text.strip(), dict(old.terms.document)]
    return canonical([title, text, dict(written)]) == canonical(was)


def typed_of(session: Session, view: ListingView) -> dict[str, Typed]:
    """A version as it would have been typed, by step."""
    licence = licences.find_licence(session, view.licence_id)
    terms = {"title": licence.title, "text": licence.text, **licence.terms.document}
    return {
        "about": _about(view),
        "licence": {name: _text(terms[name]) for name in LICENCE if terms.get(name) is not None},
        "price": _price(view.plans),
        "privacy": _privacy(view),
    }


def _typed(session: Session, actor: Actor, dataset: str) -> dict[str, Typed]:
    own = listing.own(session, actor, dataset)
    return typed_of(session, listing.published(session, own.id))


def _about(view: ListingView) -> Typed:
    declared = view.declarations or {}
    said = {name: declared[name] for name in ABOUT if isinstance(declared.get(name), str)}
    for section, prefix in (("impact_assessment", "assessment"), ("registration", "registration")):
        said |= {f"{prefix}_{name}": str(text) for name, text in (declared.get(section) or {}).items()}
    if declared.get("minors"):
        said["minors"] = "yes"
    shown = {"slug": view.slug, "title": view.title, "description": view.description}
    return {"classification": "general", **said, **shown, "keywords": ", ".join(view.keywords)}


def _price(plans: tuple[dict[str, Any], ...]) -> Typed:
    typed = {"plans": str(min(len(plans), MOST_PLANS))}
    for place, plan in enumerate(plans[:MOST_PLANS]):
        for name in PLAN:
            if plan.get(name) is not None:
                text = _tiers(plan[name]) if name == "tiers" else _text(plan[name])
                typed[f"{place}.{name}"] = text
    return typed


def _tiers(tiers: list[Mapping[str, Any]]) -> str:
    rows = [(one.get("up_to_rho"), one["per_rho"]) for one in tiers]
    return "\n".join(f"{until}: {rate}" if until is not None else str(rate) for until, rate in rows)


def _privacy(view: ListingView) -> Typed:
    policy = view.policy
    typed = {name: _text(policy[name]) for name in BUDGET if policy.get(name) is not None}
    for name, table in policy.get("tables", {}).items():
        if table.get("public"):
            typed[f"{name}.public"] = "yes"
            continue
        if isinstance(table.get("unit"), str):
            typed[f"{name}.unit"] = table["unit"]
        caps = {**policy, **table}  # a table has the policy's caps where it has none of its own
        typed |= {f"{name}.{cap}": str(caps[cap]) for cap in CAPS if cap in caps}
        for column, declared in table.get("columns", {}).items():
            typed |= {f"{name}.{column}.{field}": text for field, text in _column(declared).items()}
    return typed


def _column(declared: Mapping[str, Any]) -> Typed:
    """What a column is for, as the step of privacy asks it."""
    if declared.get("selectable") is False:
        return {"use": "filter"}
    if "bounds" in declared:
        low, high = (_text(one) for one in declared["bounds"])
        decimals = {"decimals": str(declared["decimals"])} if "decimals" in declared else {}
        return {"use": "range", "low": low, "high": high, **decimals}
    if isinstance(declared.get("keys"), list):
        return {"use": "keys", "keys": "\n".join(_text(one) for one in declared["keys"])}
    return {"use": "group"}


def _text(value: Any) -> str:
    """A value of a document as somebody would type it."""
    if isinstance(value, list | tuple):
        return ", ".join(str(one) for one in value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
