"""What is listed: a listing on its page, its version's policy and plan."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

import privacy
from catalog import listings
from catalog.errors import NotFound as VersionMissing
from exchange import facets, profiles, quarantine
from exchange.errors import NotFound
from exchange.identity import Role, organisation_names
from exchange.operations import contributions, gates, pricing, revisions
from exchange.operations.terms import NANO, budget, decimal_text
from exchange.plans import Plans
from settlement import ledger, licences
from settlement.documents import sha256_hex
from settlement.ledger import chart

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

    from sqlalchemy.orm import Session

    from catalog.listings import ListingView
    from exchange.identity import Actor
    from exchange.market import Market


_plans = Plans()


def show(market: Market, actor: Actor, dataset: str) -> dict[str, Any]:
    """One listing with its licence, policy, plans and budget; its owner and officers see it withdrawn too."""
    today = market.store.clock().date()

    def look(session: Session) -> dict[str, Any]:
        sees_all = actor.role in (Role.OFFICER, Role.OPERATOR)
        view = listings.find(session, dataset, reader=actor.org, sees_all=sees_all)
        document = offered_to(detail(session, view), view, actor, today)
        document["revisions"] = revisions.of_dataset(session, view, actor, today)
        if actor.org == view.org:
            document["manifest_sha256"] = quarantine.manifest_of(session, view.version_id)
        return document

    return market.store.read(look)


def profile(market: Market, actor: Actor, dataset: str) -> dict[str, Any]:
    """Row counts and profiles of the newest version, for its owner."""

    def look(session: Session) -> dict[str, Any]:
        view = newest(session, actor, dataset)
        found = listings.provider_profile(session, view.version_id, org=actor.org)
        tables = [
            {"table": t.name, "rows": t.rows, "rows_without_unit": t.rows_without_unit, "profile": t.profile}
            for t in found.tables
        ]
        return {"dataset": view.dataset_id, "slug": view.slug, "version": view.version_id, "tables": tables}

    return market.store.read(look)


def published(session: Session, dataset: str) -> ListingView:
    """The version on offer. Raises NotFound for unknown, unpublished and withdrawn ones alike."""
    return listings.find(session, dataset)


def any_view(session: Session, dataset: str) -> ListingView:
    """The latest offered version in whatever state its listing is: for those who hold a grant."""
    return listings.find(session, dataset, sees_all=True)


def own(session: Session, actor: Actor, dataset: str) -> listings.Dataset:
    """A dataset of the actor's organisation, in any state. Raises :class:`NotFound`."""
    for one in listings.of_organisation(session, actor.org):
        if dataset in (one.id, one.slug):
            return one
    raise NotFound("there is no such dataset")


def own_version(session: Session, actor: Actor, dataset: str, version: str) -> ListingView:
    """A version of an own dataset; another's version looks like one that is not there."""
    found = own(session, actor, dataset)
    try:
        view = listings.version_of(session, version)
    except VersionMissing:
        view = None
    if view is None or view.dataset_id != found.id:
        raise NotFound("there is no such version")
    return view


def newest(session: Session, actor: Actor, dataset: str) -> ListingView:
    """The newest version of an own dataset. Raises :class:`NotFound`, also where none was published yet."""
    return listings.version_of(session, _offered(own(session, actor, dataset)))


def is_charged(session: Session, domain: str) -> bool:
    """Whether a privacy domain has its account in the books."""
    account = chart.domain_granted(domain)
    return (
        session.execute(select(ledger.account.c.id).where(ledger.account.c.id == account)).first() is not None
    )


def policy_of(view: ListingView) -> privacy.Policy:
    """The version's policy."""
    return _policy(view.policy_text)


def planned(
    view: ListingView,
    sql: str,
    ask: tuple[str, str],
    options: tuple[tuple[str, int | bool | str], ...],
    *,
    earlier: privacy.Released | None = None,
) -> privacy.Plan:
    """The plan of a statement on this version; touches no data. Raises privacy.Refused.

    ``ask`` is ("rho_nano" | "epsilon" | "error:COLUMN", value as text), ``earlier`` what the asking
    organisation was told before.
    """
    policy, profile = view.policy_text, view.contribution_profile
    if earlier is not None:
        return _plan(policy, profile, sql, ask, options, earlier)
    return _plans.planned(
        (policy, profile), sql, (ask, options), lambda: _plan(policy, profile, sql, ask, options, None)
    )


def domain_of(view: ListingView) -> str:
    """The privacy domain whose account the version charges."""
    return view.domain


def dataset_iri(market: Market, dataset_id: str) -> str:
    """The IRI of a dataset: where it is described."""
    return f"{market.settings.base_url.rstrip('/')}/v1/datasets/{dataset_id}"


def organisation_iri(org: str) -> str:
    """The IRI of an organisation."""
    return f"urn:private-data-exchange:organisation:{org}"


def datasets_of(session: Session, org: str) -> list[str]:
    """The ids of an organisation's datasets."""
    return [one.id for one in listings.of_organisation(session, org)]


def offered_to(document: dict[str, Any], view: ListingView, actor: Actor, today: date) -> dict[str, Any]:
    """A listing's document without the private offers that are not made to the reader."""
    plans = pricing.offered(view.plans, actor, view.org, today)
    return {**document, "plans": plans, "offers": pricing.summaries(plans)}


def summary(view: ListingView, names: Mapping[str, str]) -> dict[str, Any]:
    """A listing in a list."""
    return {
        "id": view.dataset_id,
        "slug": view.slug,
        "title": view.title,
        "description": view.description,
        "keywords": list(view.keywords),
        "provider": names.get(view.org, view.org),
        "state": view.state,
        "version": view.version_id,
        "version_number": view.version_number,
        "published_at": view.published_at.isoformat() if view.published_at else None,
        "plans": list(view.plans),
        "tables": [{"name": table.name, "public": table.public} for table in view.tables],
    }


def detail(session: Session, view: ListingView) -> dict[str, Any]:
    """A listing on its page."""
    licence = licences.find_licence(session, view.licence_id)
    return {
        **summary(view, organisation_names(session, [view.org])),
        "licence": licence_document(licence),
        "tables": [table_document(view.policy, table) for table in view.tables],
        "policy": view.policy,
        "profile": _contributions(session, view),
        "declarations": gates.shown(view),
        "budget": budget(session, view.domain),
        "count_error": count_error(policy_of(view)),
    }


def licence_document(licence: licences.Licence) -> dict[str, Any]:
    """A licence version for people and machines: text, terms in words and as a document, policy, hashes."""
    return {
        "id": licence.id,
        "title": licence.title,
        "version": licence.version,
        "text": licence.text,
        "text_sha256": licence.text_sha256,
        "terms": dict(licence.terms.document),
        "in_words": licences.in_words(licence.terms),
        "odrl": json.loads(licence.odrl),
        "odrl_sha256": licence.odrl_sha256,
        "published_at": licence.published_at,
        "approved_at": licence.approved_at,
        "withdrawn_at": licence.withdrawn_at,
    }


@lru_cache(maxsize=64)
def _policy(document: str) -> privacy.Policy:
    return privacy.Policy.from_document(json.loads(document), None)


@lru_cache(maxsize=64)
def _profile(document: str) -> privacy.Profile | None:
    """The kept profile; None for one of an earlier format: all plans are then made without it."""
    try:
        return privacy.Profile.from_document(json.loads(document))
    except privacy.ProfileInvalid:
        return None


@lru_cache(maxsize=64)
def _in_words(profile: str, policy: str) -> tuple[str, ...]:
    found = _profile(profile)
    return () if found is None else tuple(contributions.in_words(found, _policy(policy)))


def _plan(
    policy: str,
    profile: str | None,
    sql: str,
    ask: tuple[str, str],
    options: tuple[tuple[str, int | bool | str], ...],
    earlier: privacy.Released | None,
) -> privacy.Plan:
    name, value = ask
    given: dict[str, Any] = {
        "options": privacy.Options(**dict(options)),  # type: ignore[arg-type]
        "earlier": earlier,
    }
    if profile is not None:
        given["profile"] = _profile(profile)
    if name == "rho_nano":
        given["rho_nano"] = int(value)
    elif name == "epsilon":
        given["epsilon"] = float(value)
    else:
        given["error"] = {name.removeprefix("error:"): float(value)}
    return privacy.plan(sql, _policy(policy), **given)


def count_error(policy: privacy.Policy) -> dict[str, Any] | None:
    """How far a count of units is off when a question spends all it may; None without private tables."""
    if not any(table.private for table in policy.tables.values()):
        return None
    most = policy.max_rho_per_query_nano
    return {
        "half_width": round(facets.best_count_error(policy), 2),
        "rho": decimal_text(most, NANO),
        "rho_nano": most,
    }


def _offered(dataset: listings.Dataset) -> str:
    if dataset.version_id is None:
        raise NotFound("no version of the dataset was published yet")
    return dataset.version_id


def _contributions(session: Session, view: ListingView) -> dict[str, Any] | None:
    """What was released of how much single units contribute, in words and as document; None for nothing."""
    text = view.contribution_profile
    own = profiles.of_version(session, view.version_id)
    release = own if own is not None else profiles.reuse_of(session, view.version_id)
    if text is None or release is None:
        return None
    return {
        "in_words": list(_in_words(text, view.policy_text)),
        "rho": decimal_text(release.rho_nano, NANO),
        "rho_nano": release.rho_nano,
        "sha256": sha256_hex(text),
        "document": json.loads(text),
    }


def table_document(policy: Mapping[str, Any], table: listings.ListedTable) -> dict[str, Any]:
    """A table on its listing's page: what the policy declares of it."""
    declared = policy.get("tables", {}).get(table.name, {})
    columns = declared.get("columns", {})
    shown = ("keys", "bounds", "decimals", "selectable")
    return {
        "name": table.name,
        "public": table.public,
        "unit": table.unit,
        "rows": table.rows,
        "caps": {k: declared[k] for k in ("max_groups", "max_rows_per_group", "max_rows") if k in declared},
        "columns": [
            {
                "name": c.name,
                "type": c.type,
                **{k: columns[c.name][k] for k in shown if k in columns.get(c.name, {})},
            }
            for c in table.schema.columns
        ],
    }
