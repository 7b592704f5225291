"""A contribution profile shown again: it is of files and policy, and of nothing else.

A version that differs from an earlier one in its prices or its licence alone shows that one's document
again, for nothing.

The log proves it: the entry ``profile.reused`` names the release that was paid for, and the digest of the
same document.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import privacy
from catalog import listings
from exchange import profiles, restraints
from exchange.audit.entry import Entry, ObjectGroup, PrivacyGroup, ResultGroup
from exchange.errors import InProgress
from exchange.operations import domains, listing

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from catalog.listings import ListingView
    from exchange.identity import Actor
    from exchange.market import Market
    from exchange.store import Tx


@dataclass(frozen=True)
class ReuseProfile:
    """Show the contribution profile of an earlier version of the same files and policy."""

    dataset: str
    version: str
    kind: ClassVar[str] = "profile.reused"
    refused: ClassVar[str] = "listing.refused"

    def entry(self) -> Entry:
        """The audit entry: the dataset and the version."""
        return about_version(self.kind, self.dataset, self.version)


def reused(market: Market, actor: Actor, dataset: str, version: str) -> bool:
    """Show an earlier version's profile again, where there is one of the same files and policy."""

    def work(tx: Tx) -> dict[str, Any]:
        view = offerable(tx.session, tx.actor, dataset, version)
        found = _earlier(tx.session, view)
        if found is None or view.published_at is not None or _is_settled(tx.session, view.version_id):
            raise InProgress("another process settles the contribution profile of this version")
        release, document = found
        result = kept(tx, view.version_id, json.loads(document))
        stamp = tx.now.isoformat(timespec="microseconds")
        profiles.reuse(
            tx.session,
            {"version": view.version_id, "release": release, "entry_id": tx.entry.id, "reused_at": stamp},
        )
        about = ObjectGroup(type="profile", id=release, version=view.version_id, dataset=view.slug)
        tx.record(object=about, privacy=PrivacyGroup(domain=view.domain), result=result)
        return {"release": release}

    def stands(session: Session) -> bool:
        return _earlier(session, offerable(session, actor, dataset, version)) is not None

    if not market.store.read(stands):
        return False
    market.store.perform(actor, ReuseProfile(dataset, version), work)
    return True


def _is_settled(session: Session, version: str) -> bool:
    own = profiles.of_version(session, version)
    return own is not None or profiles.reuse_of(session, version) is not None


def _earlier(session: Session, view: ListingView) -> tuple[str, str] | None:
    """An earlier release of the same files and policy, and its document; one that is read no more is made
    anew."""
    for one in listings.profiled_alike(session, view):
        release, document = profiles.of_version(session, one.version_id), one.contribution_profile
        if release is not None and document is not None and _is_read(document):
            return release.id, document
    return None


def _is_read(document: str) -> bool:
    try:
        privacy.Profile.from_document(json.loads(document))
    except privacy.ProfileInvalid:
        return False
    return True


def offerable(session: Session, actor: Actor, dataset: str, version: str) -> ListingView:
    """An own version that may be offered; refuses others, and any of a domain with a frozen dataset."""
    view = listing.own_version(session, actor, dataset, version)
    restraints.require_free(session, dataset=view.dataset_id, licence=view.licence_id)
    if view.domain:
        restraints.require_free_domain(session, view.domain)
    domains.check_offer(session, view)
    return view


def kept(tx: Tx, version: str, document: dict[str, Any]) -> ResultGroup:
    """Keep the document of a version, for ever; what the log says of it."""
    made = listings.keep_profile(tx.session, version_id=version, document=document, now=tx.now)
    return ResultGroup(sha256=made.sha256, bytes=made.bytes)


def about_version(kind: str, dataset: str, version: str) -> Entry:
    """The audit entry of a command about a version."""
    about = ObjectGroup(type="dataset", dataset=dataset[:200], version=version[:64])
    return Entry(kind=kind, outcome="done", object=about)
