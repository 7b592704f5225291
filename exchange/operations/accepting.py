"""A buyer accepts a licence: recorded for exact versions, logged, receipted, and signed where they like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from exchange.audit import acceptances as receipts
from exchange.audit.entry import Entry, LicenceGroup, ObjectGroup, ResultGroup
from exchange.audit.errors import Malformed
from exchange.errors import LicenceNotShown, NotFound
from exchange.identity import Role, new_id
from exchange.operations import auditing, listing
from exchange.operations.receipting import receipt_of_entry
from settlement import licences
from settlement.documents import canonical
from settlement.errors import LicenceNotAccepted, SignatureRefused

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from catalog.listings import ListingView
    from exchange.identity import Actor
    from exchange.market import Market
    from exchange.store import Tx


@dataclass(frozen=True)
class Given:
    """What a person declares in accepting; the role is the token's where none is given."""

    purposes: tuple[str, ...]
    territory: str
    role: str = ""
    publishes: bool = False


@dataclass(frozen=True)
class AcceptLicence:
    """Accept the licence that a dataset is on offer under, by the hash of the text that was shown."""

    dataset: str
    given: Given
    licence_sha256: str
    kind: ClassVar[str] = "licence.accepted"
    refused: ClassVar[str] = "licence.refused"

    def entry(self) -> Entry:
        """The audit entry: the dataset."""
        return Entry(
            kind=self.kind,
            outcome="done",
            object=ObjectGroup(type="dataset", dataset=self.dataset[:200]),
        )


@dataclass(frozen=True)
class SignAcceptance:
    """Add the buyer's own signature to an acceptance."""

    acceptance: str
    algorithm: str
    public_key: str
    signature: str
    kind: ClassVar[str] = "licence.signed"
    refused: ClassVar[str] = "licence.refused"

    def entry(self) -> Entry:
        """The audit entry: the acceptance."""
        about = ObjectGroup(type="acceptance", id=self.acceptance[:64])
        return Entry(kind=self.kind, outcome="done", object=about)


def record(tx: Tx, view: ListingView, licence: licences.Licence, given: Given) -> licences.Acceptance:
    """Record an acceptance in the open transaction, whose entry fixes its digest."""
    accepted = licences.accept_licence(
        tx.session,
        id=new_id("acc"),
        licence_id=licence.id,
        org=tx.actor.org,
        org_name=tx.actor.name,
        actor=tx.actor.ref,
        role=given.role or str(tx.actor.role),
        purposes=given.purposes,
        territory=given.territory,
        publishes=given.publishes,
        shown_sha256=licence.text_sha256,
        dataset=view.dataset_id,
        dataset_version=view.version_id,
        entry_id=tx.entry.id,
        now=tx.now,
    )
    name(tx, accepted)
    return accepted


def name(tx: Tx, accepted: licences.Acceptance, *, purpose: str | None = None) -> None:
    """Name an acceptance in the entry of the open transaction: licence, purpose (its first), and digest."""
    licence = LicenceGroup(
        acceptance_id=accepted.id,
        odrl_sha256=accepted.odrl_sha256,
        purpose=purpose or accepted.purposes[0],
    )
    tx.record(licence=licence, result=ResultGroup(sha256=accepted.digest))


def accept(market: Market, actor: Actor, command: AcceptLicence, *, key: str | None) -> dict[str, Any]:
    """Accept the licence in force: grants for the same purpose and territory go on under it."""

    def work(tx: Tx) -> dict[str, Any]:
        actor.require(Role.BUYER)
        view = listing.published(tx.session, command.dataset)
        licence = licences.find_licence(tx.session, view.licence_id)
        if command.licence_sha256 != licence.text_sha256:
            raise LicenceNotShown("the licence must be accepted in the version that is in force")
        accepted = record(tx, view, licence, command.given)
        tx.record(
            object=ObjectGroup(type="acceptance", id=accepted.id, version=view.version_id, dataset=view.slug)
        )
        return _document(tx.session, accepted)

    return market.store.perform(actor, command, work, key=key).value


def show(market: Market, actor: Actor, acceptance_id: str) -> dict[str, Any]:
    """An acceptance of the buyer's organisation with all that it says, and what a signature is over."""
    return market.store.read(lambda session: _document(session, _own(session, actor, acceptance_id)))


def agreement(market: Market, actor: Actor, acceptance_id: str) -> dict[str, Any]:
    """An acceptance as an Agreement of the Dataspace Protocol."""

    def look(session: Session) -> dict[str, Any]:
        accepted = _own(session, actor, acceptance_id)
        licence = licences.find_licence(session, accepted.licence_id)
        return licences.dataspace.agreement(
            licence,
            accepted,
            target=listing.dataset_iri(market, accepted.dataset or ""),
            assigner=listing.organisation_iri(licence.org),
            assignee=listing.organisation_iri(accepted.org),
        )

    return market.store.read(look)


def receipt(market: Market, actor: Actor, acceptance_id: str) -> dict[str, Any]:
    """The receipt of an acceptance, for its buyer; for an officer too. It is checked offline."""
    officer = actor.role == Role.OFFICER
    if officer:
        auditing.note_reading(market, actor, "receipt", acceptance_id)

    def look(session: Session) -> tuple[licences.Acceptance, dict[str, str] | None]:
        found = _any(session, acceptance_id) if officer else _own(session, actor, acceptance_id)
        return found, licences.signature_of(session, found.id)

    accepted, signature = market.store.read(look)
    if accepted.entry_id is None:
        raise NotFound("the acceptance is older than receipts", hint="Accept the licence again for one.")
    return {
        "format": receipts.FORMAT,
        "acceptance": canonical(licences.document_of(accepted)),
        "signature": signature,
        "receipt": receipt_of_entry(market, accepted.entry_id),
    }


def sign(market: Market, actor: Actor, command: SignAcceptance, *, key: str | None) -> dict[str, Any]:
    """Keep the buyer's own signature over an acceptance, once it is found to hold."""

    def work(tx: Tx) -> dict[str, Any]:
        actor.require(Role.BUYER)
        accepted = _own(tx.session, actor, command.acceptance)
        parts = (command.algorithm, command.public_key, command.signature)
        try:
            holds = receipts.signature_holds(*parts, accepted.digest)
        except Malformed as error:
            raise SignatureRefused(str(error)) from None
        if not holds:
            raise SignatureRefused("The signature is not one of this key over the acceptance.")
        licences.keep_signature(
            tx.session,
            accepted.id,
            org=actor.org,
            actor=actor.ref,
            algorithm=parts[0],
            public_key=parts[1],
            signature=parts[2],
            now=tx.now,
        )
        name(tx, accepted)
        return _document(tx.session, accepted)

    return market.store.perform(actor, command, work, key=key).value


def _own(session: Session, actor: Actor, acceptance_id: str) -> licences.Acceptance:
    actor.require(Role.BUYER)
    return _any(session, acceptance_id, org=actor.org)


def _any(session: Session, acceptance_id: str, *, org: str | None = None) -> licences.Acceptance:
    try:
        return licences.find_acceptance(session, acceptance_id, org=org)
    except LicenceNotAccepted:
        raise NotFound("there is no such acceptance") from None


def _document(session: Session, accepted: licences.Acceptance) -> dict[str, Any]:
    said = licences.document_of(accepted)
    said["acceptance"] = said.pop("id")
    licence = licences.find_licence(session, accepted.licence_id)
    return {
        **said,
        "licence": licence.title,
        "digest": accepted.digest,
        "to_sign": receipts.message_of(accepted.digest).decode(),
        "signature": licences.signature_of(session, accepted.id),
    }
