"""What a draft comes to: its faults step by step, the listing that its buyers would see, and its publication.

A manifest and the steps of a draft are two spellings of one thing: publishing here is what
:func:`exchange.operations.drafting.draft` and :func:`exchange.operations.offering.publish` do for both.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any

import privacy
from catalog import declarations, listings
from exchange import listing_drafts
from exchange.errors import BudgetLoosened, BudgetSpent, NotFound, PartyUnidentified, RequestInvalid
from exchange.operations import (
    domains,
    drafting,
    gates,
    licence_versions,
    listing,
    offering,
    policy_changes,
    pricing,
    simulating,
    suggesting,
    typed_listings,
)
from exchange.operations.composing import (
    STEPS,
    file_faults,
    found_tables,
    look,
    schemas,
    table_names,
    unit_of,
)
from exchange.operations.terms import budget
from exchange.store import REFUSALS
from privacy import accounting
from settlement import licences
from settlement.documents import canonical
from settlement.errors import PriceInvalid

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

    from exchange.identity import Actor
    from exchange.listing_drafts import Draft
    from exchange.market import Market
    from exchange.operations.typed_listings import Faults


class _Changed(RequestInvalid):
    """A draft is another than the one that is being published."""


def faults(market: Market, draft: Draft, step: str) -> Faults:
    """What publishing would refuse of a step, at its fields."""
    if step in ("files", "columns"):
        return file_faults(market, draft)
    if step == "privacy":
        return _privacy_faults(draft) or market.store.read(
            lambda session: _budget_faults(market, session, draft)
        )
    if step == "about":
        licence = typed_listings.licence_document(draft.of("licence"))
        broken = typed_listings.licence_faults(licence)
        terms = {k: v for k, v in licence.items() if k not in ("title", "text")}
        wrong = typed_listings.about_faults(
            typed_listings.about_document(draft.of("about")),
            {"purposes": ["*"], "territories": ["*"]} if broken else terms,
            market.store.clock().date(),
            private=any(typed_listings.is_private(draft.of("privacy"), name) for name in schemas(draft)),
        )
        return wrong or market.store.read(lambda session: _party_faults(session, draft))
    if step == "licence":
        return typed_listings.licence_faults(typed_listings.licence_document(draft.of("licence")))
    if step == "price":
        plans = typed_listings.plan_documents(draft.of("price"))
        return market.store.read(lambda s: _buyer_faults(s, plans)) | typed_listings.plan_faults(plans)
    return _whole_faults(market, draft)


def _privacy_faults(draft: Draft) -> Faults:
    return draft.once("privacy", lambda: _faults_of_policy(draft))


def _faults_of_policy(draft: Draft) -> Faults:
    tables = schemas(draft)
    if not tables:
        return {"": "Send the files first: what is declared here are their columns."}
    found = typed_listings.policy_faults(policy_document(draft), tables)
    for name, told in found_tables(draft).items():
        error = told.get("unit_error")
        if error and unit_of(draft, name) == told.get("unit"):
            found.setdefault(f"{name}.unit", f"{error['message']} {error['hint']}")
    return found


def _budget_faults(market: Market, session: Session, draft: Draft) -> Faults:
    """What is refused of a budget where the version is offered, which is too late to change it: less than is
    spent, and more than was granted where no officer may approve it.
    """
    policy = _policy(draft)
    if not listing.is_charged(session, policy.domain):
        return {}
    spent = f"More of the domain is spent or reserved than this grants. {BudgetSpent.hint}"
    faults: Faults = dict.fromkeys(domains.below_spent(session, policy), spent)
    if not market.settings.loosening_approval:
        for change in policy_changes.larger_budget(session, policy):
            told = f"The domain was granted {change.before}, less than this. {BudgetLoosened.hint}"
            faults[change.what.removeprefix("budget: ")] = told
    return faults


def _party_faults(session: Session, draft: Draft) -> Faults:
    """That nobody recorded who the provider is, which the law of the data may ask before they are offered."""
    declared = typed_listings.about_document(draft.of("about")).get("declarations")
    try:
        gates.check_recorded(session, declarations.read(declared) or declarations.Declarations(), draft.org)
    except PartyUnidentified as refused:
        said = str(refused)
        return {"jurisdiction": f"{said[:1].upper()}{said[1:]}. {refused.hint}"}
    return {}


def _buyer_faults(session: Session, plans: list[dict[str, Any]]) -> Faults:
    """Private offers that nobody could take, which are refused where the version is offered."""
    faults: Faults = {}
    for place, plan in enumerate(plans):
        try:
            offering.check_private(session, [plan])
        except PriceInvalid as refused:
            said = str(refused).removeprefix(f"{refused.path}: ")
            faults[f"{place}.organisation"] = f"{said[:1].upper()}{said[1:]}. {refused.hint}"
    return faults


def _whole_faults(market: Market, draft: Draft) -> Faults:
    """What only all steps together show."""
    try:
        manifest = drafting.checked(document(draft), market.store.clock().date())
        drafting.fitting(manifest, schemas(draft))
    except REFUSALS as refused:
        return {"": str(refused)}
    return {}


def unready(market: Market, draft: Draft) -> dict[str, Faults]:
    """Step -> its faults, for the steps that have some; what all of them show where each is in order."""
    return draft.once("unready", lambda: _unready(market, draft))


def _unready(market: Market, draft: Draft) -> dict[str, Faults]:
    found = {step: faults(market, draft, step) for step in STEPS[:-1] if step != "columns"}
    left = {step: some for step, some in found.items() if some}
    if not left and (last := faults(market, draft, "preview")):
        left["preview"] = last
    return left


def policy_document(draft: Draft) -> dict[str, Any]:
    """The policy as typed; its domain is named after the dataset where none was typed."""
    slug = draft.of("about").get("slug", "").strip() or draft.id
    return typed_listings.policy_document(draft.of("privacy"), schemas(draft), default_domain=f"units:{slug}")


def _policy(draft: Draft) -> privacy.Policy:
    """The policy as typed, of a draft whose step of privacy has no faults."""

    def read() -> privacy.Policy:
        types = {name: schema.types for name, schema in schemas(draft).items()}
        return privacy.Policy.from_document(policy_document(draft), types)

    return draft.once("policy", read)


def document(draft: Draft) -> dict[str, Any]:
    """The manifest that the draft comes to."""
    names = table_names(draft)
    files = {names[one.upload]: one.name for one in draft.files if not one.removed}
    return {
        **typed_listings.about_document(draft.of("about")),
        "tables": files,
        "licence": typed_listings.licence_document(draft.of("licence")),
        "plans": typed_listings.plan_documents(draft.of("price")),
        "policy": policy_document(draft),
    }


def suggested(draft: Draft, table: str) -> dict[str, str]:
    """What could be typed in the privacy step for a table, read off its file; for the provider to decide."""
    found = counted(draft, table)
    typed = {
        f"{table}.{column.name}.{name}": text
        for column in suggesting.columns(found)
        for name, text in column.suggested.items()
    }
    return {**typed, **{f"{table}.{name}": text for name, text in suggesting.caps(found).items()}}


def counted(draft: Draft, table: str) -> dict[str, Any]:
    """What was found in a table's file, with what was counted by unit where that is the unit as typed."""
    found = found_tables(draft)[table]
    profile = found["profile"]
    if profile.get("unit") and profile["unit"]["column"] == unit_of(draft, table):
        return found
    columns = [
        {**one, "common": [{k: v for k, v in value.items() if k != "units"} for value in one["common"]]}
        for one in profile["columns"]
    ]
    return {**found, "profile": {**profile, "unit": None, "columns": columns}}


def gauge(market: Market, draft: Draft) -> dict[str, Any]:
    """What the budget gives: the error of counts, and how many are left; nothing while there are faults.

    ``state`` is ``faults``, ``public`` (no private table), ``spent``, ``little`` (less than a question takes)
    or ``left``; ``caps`` is what the caps leave out, for the provider alone.
    """
    wrong = _privacy_faults(draft)
    if wrong:
        return {"state": "faults", "rows": [], "faults": len(wrong)}
    policy = _policy(draft)
    left = market.store.read(lambda session: _left(session, policy))
    rows = simulating.gauge(policy, left)
    private = any(table.private for table in policy.tables.values())
    state = "public" if not private else "left" if rows else "little" if left > 0 else "spent"
    return {
        "state": state,
        "rows": rows,
        "caps": _left_out(draft, policy),
        "faults": 0,
        "epsilon": accounting.epsilon(policy.rho_nano, policy.delta_pico),
    }


_KEPT = (("max", 100), ("q99", 99), ("q90", 90), ("q75", 75), ("median", 50), ("q25", 25))


def _left_out(draft: Draft, policy: privacy.Policy) -> list[dict[str, Any]]:
    """For each table and kind of question: the rows of one unit that count at most, and how many in a hundred
    units at least have no more."""
    made = []
    for name in found_tables(draft):
        table, unit = policy.table(name), counted(draft, name)["profile"].get("unit")
        if table is None or not table.private or not unit:
            continue
        rows = unit["rows_per_unit"]
        caps = ((False, table.max_rows), (True, table.max_groups * table.max_rows_per_group))
        for grouped, cap in caps:
            kept = next((share for at, share in _KEPT if rows[at] is not None and rows[at] <= cap), 0)
            made.append({"table": name, "grouped": grouped, "cap": cap, "kept": kept, "low": kept < 90})
    return made


def _left(session: Session, policy: privacy.Policy) -> int:
    charged = listing.is_charged(session, policy.domain)
    return int(budget(session, policy.domain)["rho_nano_remaining"]) if charged else policy.rho_nano


def simulation(market: Market, actor: Actor, draft: Draft) -> dict[str, Any] | None:
    """Prices tried on the questions that the policy suggests; None while either has faults."""
    if any(faults(market, draft, step) for step in ("privacy", "price")):
        return None
    policy = _policy(draft)
    plans = typed_listings.plan_documents(draft.of("price"))
    return simulating.simulate(market, actor, {"plans": plans, "policy": policy.document})


def licence_waits(market: Market, draft: Draft) -> bool:
    """Whether somebody else is to approve the licence as typed before it is offered."""
    if not market.settings.licence_approval:
        return False
    written = typed_listings.licence_document(draft.of("licence"))
    if typed_listings.licence_faults(written):
        return True
    terms = {name: value for name, value in written.items() if name not in ("title", "text")}
    title, text, document = licences.written_out(written["title"], written["text"], terms)

    def look(session: Session) -> bool:
        known = licences.same_licence(session, org=draft.org, title=title, text=text, terms=document)
        return known is None or licences.find_licence(session, known).approved_at is None

    return market.store.read(look)


def licence_told(draft: Draft) -> dict[str, Any] | None:
    """The licence in plain words, and what it changes of its template; None while it has faults."""
    written = typed_listings.licence_document(draft.of("licence"))
    if typed_listings.licence_faults(written):
        return None
    terms = {name: value for name, value in written.items() if name not in ("title", "text")}
    told = licence_versions.check(written["title"], written["text"], terms)
    lent = licences.templates().get(draft.of("licence").get("template", ""))
    if lent is None:
        return {**told, "template": None, "changes": []}
    changes = licences.compare_terms(
        licences.LicenceTerms.from_document(lent.terms), licences.LicenceTerms.from_document(told["terms"])
    )
    words = [] if written["text"].split() == lent.text.split() else ["Text: the words differ."]
    return {**told, "template": lent.title, "changes": [one.says for one in changes] + words}


def preview(market: Market, actor: Actor, draft: Draft) -> dict[str, Any]:
    """The listing as its buyers will see it, as :func:`exchange.operations.listing.show` tells of one.

    Raises what publishing would raise.
    """
    manifest = drafting.checked(document(draft), market.store.clock().date())
    policy = drafting.fitting(manifest, schemas(draft))
    title, text, terms = licences.written_out(
        manifest.licence.title, manifest.licence.text, manifest.licence.terms
    )
    found = found_tables(draft)
    tables = [
        listings.ListedTable(
            name=name,
            public=table.unit is None,
            unit=table.unit,
            schema=schema,
            objects=(),
            rows=found[name]["rows"] if table.unit is None else None,
            stored=(),
        )
        for name, schema in schemas(draft).items()
        if (table := policy.table(name)) is not None
    ]
    left = market.store.read(lambda session: _budget(session, policy))
    return {
        "id": draft.id,
        "slug": manifest.slug,
        "title": manifest.title,
        "description": manifest.description,
        "keywords": list(manifest.keywords),
        "provider": actor.name,
        "state": "draft",
        "version": draft.id,
        "version_number": 1,
        "published_at": None,
        "plans": list(manifest.plans),
        "offers": pricing.summaries(manifest.plans),
        "licence": {
            "title": title,
            "version": 1,
            "text": text,
            "text_sha256": sha256(text.encode()).hexdigest(),
            "terms": terms,
            "in_words": licences.in_words(licences.LicenceTerms.from_document(terms)),
        },
        "tables": [listing.table_document(policy.document, one) for one in tables],
        "policy": policy.document,
        "profile": None,
        "declarations": manifest.declared.document() if manifest.declared else None,
        "budget": left,
        "count_error": listing.count_error(policy),
    }


def _budget(session: Session, policy: privacy.Policy) -> dict[str, Any]:
    if listing.is_charged(session, policy.domain):
        return budget(session, policy.domain)
    return {
        "domain": policy.domain,
        "rho_nano_granted": policy.rho_nano,
        "rho_nano_spent": 0,
        "rho_nano_reserved": 0,
        "rho_nano_set_aside": 0,
        "rho_nano_remaining": policy.rho_nano,
        "delta": str(policy.document["delta"]),
        "epsilon_granted": accounting.epsilon(policy.rho_nano, policy.delta_pico),
        "epsilon_spent": 0.0,
    }


def publish(market: Market, actor: Actor, draft_id: str, *, number: int) -> str | None:
    """Make a version of the draft and offer it; returns the dataset's name.

    ``number`` is the draft's at the preview that was looked at: None where the draft was changed since, also
    while it was being published, and nothing is offered. What became a version changes no more.

    Where the offer is refused - it waits for an approval, say - or the process ends, the version stays, and
    publishing again goes on from there. Raises RequestInvalid while a step has faults, and what publishing
    raises.
    """
    draft = look(market, actor, draft_id)
    if draft.deleted:
        raise NotFound("the draft was deleted", hint="Fetch it back from the list of drafts first.")
    if draft.published:
        return str(draft.slug)
    if draft.version is None and draft.number != number:
        return None
    made = (str(draft.slug), draft.version) if draft.version else _made(market, actor, draft)
    if made is None:
        return None
    slug, version = made
    offering.publish(market, actor, slug, version, key=None)

    def end(session: Session, now: datetime) -> None:
        listing_drafts.change(session, draft_id, published_at=now.isoformat(timespec="microseconds"))
        listing_drafts.forget_found(session, draft_id)

    market.store.jot(end)
    return slug


def _made(market: Market, actor: Actor, draft: Draft) -> tuple[str, str] | None:
    """The dataset's name and the version that the draft became; None where it was changed meanwhile."""
    if unready(market, draft):
        raise RequestInvalid("the listing is not complete yet", hint="Go through the steps that are marked.")
    names = table_names(draft)
    files = {names[one.upload]: one.upload for one in draft.files if not one.removed}
    manifest = document(draft)
    digest = sha256(canonical({"manifest": manifest, "uploads": files}).encode()).hexdigest()
    command = drafting.DraftListing(manifest, files, digest)

    def keep(session: Session, made: dict[str, Any]) -> None:
        # In one transaction with the version: whatever stops between them, a draft knows what it became.
        if listing_drafts.find(session, draft.id, org=actor.org).number != draft.number:
            raise _Changed("the draft was changed while it was being published", hint="Look it over again.")
        listing_drafts.change(session, draft.id, slug=made["slug"], version=made["version"])

    try:
        made = drafting.draft(market, actor, command, key=f"{draft.id}:{digest}", beside=keep)
    except _Changed:
        return None
    return made["slug"], made["version"]
