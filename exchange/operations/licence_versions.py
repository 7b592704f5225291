"""Licences as their providers keep them: templates, checks, versions, differences, approval and end."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from catalog import listings
from exchange import authorizations
from exchange.audit.entry import Entry, LicenceGroup, ObjectGroup
from exchange.errors import NotFound
from exchange.identity import Role, organisation_names
from exchange.operations import listing
from exchange.operations.terms import place, token_of
from settlement import licences
from settlement.errors import LicenceMissing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.orm import Session

    from exchange.identity import Actor
    from exchange.market import Market
    from exchange.store import Tx


_PAGE = 20


@dataclass(frozen=True)
class DecideLicence:
    """Approve or withdraw a licence version."""

    licence: str
    reason: str = ""
    kind: ClassVar[str] = "licence.approved"
    refused: ClassVar[str] = "licence.refused"

    def entry(self) -> Entry:
        """The audit entry: the licence version."""
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="licence", id=self.licence[:64]))


def templates() -> dict[str, Any]:
    """The licences that a provider may start from."""
    return {"items": [asdict(one) for one in licences.templates().values()]}


def template(name: str) -> dict[str, Any]:
    """One licence to start from, with its terms in words. Raises :class:`NotFound`."""
    found = licences.templates().get(name)
    if found is None:
        names = ", ".join(licences.templates())
        raise NotFound(f"there is no licence template {name!r}", hint=f"The templates: {names}.")
    terms = licences.LicenceTerms.from_document(found.terms)
    return {**asdict(found), "in_words": licences.in_words(terms)}


def check(title: str, text: str, terms: Mapping[str, Any]) -> dict[str, Any]:
    """What a licence would say if it were published now; nothing is stored. Raises LicenceInvalid."""
    lent = "template" in terms
    title, text = title or ("" if lent else "Draft"), text or ("" if lent else "Draft")
    title, text, document = licences.written_out(title, text, terms)
    read = licences.LicenceTerms.from_document(document)
    return {
        "title": title,
        "text": text,
        "terms": document,
        "in_words": licences.in_words(read),
        "odrl": licences.to_odrl(read, licences.uid_of("draft")),
    }


def of_listing(market: Market, actor: Actor, dataset: str) -> licences.Licence:
    """The licence version that a dataset is on offer under."""
    return market.store.read(
        lambda session: licences.find_licence(session, _view(session, actor, dataset).licence_id)
    )


def offer(market: Market, actor: Actor, dataset: str) -> dict[str, Any]:
    """The licence of a dataset as an Offer of the Dataspace Protocol."""

    def look(session: Session) -> dict[str, Any]:
        view = _view(session, actor, dataset)
        found = licences.find_licence(session, view.licence_id)
        target, assigner = listing.dataset_iri(market, view.dataset_id), listing.organisation_iri(view.org)
        return licences.dataspace.offer(found, target=target, assigner=assigner)

    return market.store.read(look)


def versions(market: Market, actor: Actor, dataset: str) -> dict[str, Any]:
    """The licence versions that a dataset has been on offer under, oldest first, with what each changed."""

    def look(session: Session) -> dict[str, Any]:
        found = _offered(session, actor, dataset)
        before = [None, *found]
        return {"items": [_listed(one, old) for old, one in zip(before, found, strict=False)]}

    return market.store.read(look)


def diff(market: Market, actor: Actor, dataset: str, old: str | None, new: str | None) -> dict[str, Any]:
    """What one licence version of a dataset changes against another: the last two where none are named."""

    def look(session: Session) -> dict[str, Any]:
        found = {one.id: one for one in _offered(session, actor, dataset)}
        ids = list(found)
        after = _one(found, new or ids[-1])
        before = _one(found, old or ids[max(ids.index(after.id) - 1, 0)])
        changes = licences.compare(before, after)
        return {
            "from": {"id": before.id, "version": before.version},
            "to": {"id": after.id, "version": after.version},
            "material": licences.is_material(before, after),
            "changes": [asdict(one) for one in changes],
        }

    return market.store.read(look)


def withdraw(
    market: Market, actor: Actor, licence_id: str, reason: str, *, key: str | None
) -> dict[str, Any]:
    """Stop every new use of a licence version from this commit on; what runs ends under it."""

    def work(tx: Tx) -> dict[str, Any]:
        actor.require(Role.PROVIDER)
        licences.withdraw_licence(
            tx.session, licence_id, org=actor.org, actor=actor.ref, reason=reason, now=tx.now
        )
        found = licences.find_licence(tx.session, licence_id)
        tx.record(kind="licence.withdrawn", licence=LicenceGroup(odrl_sha256=found.odrl_sha256))
        return listing.licence_document(found)

    return market.store.perform(actor, DecideLicence(licence_id, reason), work, key=key).value


def approve(market: Market, actor: Actor, licence_id: str, *, key: str | None) -> dict[str, Any]:
    """Approve a licence version that somebody else wrote: of the provider's organisation, or an officer."""

    def work(tx: Tx) -> dict[str, Any]:
        actor.require(Role.PROVIDER, Role.OFFICER)
        org = None if actor.role == Role.OFFICER else actor.org
        subject = authorizations.subject_of(tx.session, actor.ref)
        licences.approve_licence(tx.session, licence_id, org=org, actor=subject, now=tx.now)
        found = licences.find_licence(tx.session, licence_id)
        tx.record(licence=LicenceGroup(odrl_sha256=found.odrl_sha256))
        return listing.licence_document(found)

    return market.store.perform(actor, DecideLicence(licence_id), work, key=key).value


def waiting(market: Market, actor: Actor, *, page_token: str | None = None) -> dict[str, Any]:
    """Licence versions that an officer may approve, the newest first, 20 at a time, with whose they are;
    ``asked`` is whether this exchange asks for it. Raises RequestInvalid for a token of no page.
    """
    actor.require(Role.OFFICER)
    after = place(page_token)

    def look(session: Session) -> dict[str, Any]:
        found = licences.waiting(session, limit=_PAGE + 1, after=after and after[1:])
        shown = found[:_PAGE]
        names = organisation_names(session, {one.org for one in shown})
        last = shown[-1] if len(found) > _PAGE else None
        return {
            "asked": bool(market.settings.licence_approval),
            "items": [{**listing.licence_document(one), "org": names.get(one.org, one.org)} for one in shown],
            "next_page_token": token_of((0, last.published_at, last.id)) if last else None,
        }

    return market.store.read(look)


def show(market: Market, actor: Actor, licence_id: str) -> licences.Licence:
    """A licence version, for its provider, for who accepted it, for officers; to others it is not there."""

    def look(session: Session) -> licences.Licence:
        found = licences.find_licence(session, licence_id)
        known = actor.role in (Role.OFFICER, Role.OPERATOR) or found.org == actor.org
        if not known and not licences.acceptances_of(session, org=actor.org, licence_id=licence_id):
            raise LicenceMissing("There is no such licence.")
        return found

    return market.store.read(look)


def _view(session: Session, actor: Actor, dataset: str) -> listings.ListingView:
    sees_all = actor.role in (Role.OFFICER, Role.OPERATOR)
    return listings.find(session, dataset, reader=actor.org, sees_all=sees_all)


def _offered(session: Session, actor: Actor, dataset: str) -> list[licences.Licence]:
    """The licences of all versions that were on offer, the latest of each in its place."""
    ids = listings.licences_offered(session, _view(session, actor, dataset).dataset_id)
    return [licences.find_licence(session, one) for one in ids]


def _listed(one: licences.Licence, old: licences.Licence | None) -> dict[str, Any]:
    changes = [] if old is None else licences.compare(old, one)
    return {
        **{name: getattr(one, name) for name in ("id", "title", "version", "text_sha256", "published_at")},
        "withdrawn_at": one.withdrawn_at,
        "approved_at": one.approved_at,
        "material": any(change.material for change in changes),
        "changes": [asdict(change) for change in changes],
    }


def _one(found: Mapping[str, licences.Licence], licence_id: str) -> licences.Licence:
    if licence_id not in found:
        raise LicenceMissing("The dataset was never on offer under this licence.")
    return found[licence_id]
