"""A version is offered to buyers; a listing takes no new ones, or is taken off the market."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from catalog import listings
from exchange import facets, identity, notifications
from exchange.audit.entry import Entry, MoneyGroup, ObjectGroup, PrivacyGroup
from exchange.errors import InProgress, RequestInvalid
from exchange.identity import Role
from exchange.operations import approving, domains, gates, listing, loosening, profile_reuse, profiling
from settlement import licences, orders
from settlement.errors import PriceInvalid
from settlement.ledger import chart

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy.orm import Session

    from catalog.listings import ListingView
    from exchange.identity import Actor
    from exchange.market import Market
    from exchange.store import Tx

LONGEST_REASON = 1000


@dataclass(frozen=True)
class ChangeListing:
    """Publish a version of a dataset, or withdraw the dataset."""

    dataset: str
    version: str | None
    kind: ClassVar[str] = "listing.published"
    refused: ClassVar[str] = "listing.refused"

    def entry(self) -> Entry:
        """The audit entry: the dataset and the version."""
        return Entry(
            kind=self.kind,
            outcome="done",
            object=ObjectGroup(
                type="dataset", dataset=self.dataset[:200], version=(self.version or "")[:64] or None
            ),
        )


@dataclass(frozen=True)
class DeprecateListing:
    """Take no new buyers; ``reason`` is what those who have access read."""

    dataset: str
    reason: str
    kind: ClassVar[str] = "listing.deprecated"
    refused: ClassVar[str] = "listing.refused"

    def entry(self) -> Entry:
        """The audit entry: the dataset."""
        return Entry(
            kind=self.kind, outcome="done", object=ObjectGroup(type="dataset", dataset=self.dataset[:200])
        )


def publish(market: Market, actor: Actor, dataset: str, version: str, *, key: str | None) -> dict[str, Any]:
    """Offer a version, once its contribution profile was released; see :mod:`exchange.operations.profiling`.

    One that tells more than the version before it takes an officer's approval, which is asked for here:
    see :mod:`exchange.operations.loosening`.

    The domain's lifetime budget is granted with its first listing and never again.
    """
    command = ChangeListing(dataset, version)
    done = market.store.replay(actor, command, key)
    if done is not None:
        return done.value
    now = market.store.clock()

    def check(session: Session) -> None:
        loosening.approved(session, market, _offerable(session, market, actor, dataset, version), now)

    with approving.filing(market, actor):
        with market.store.refusing(actor, command):  # nothing is spent for a version that may not be offered
            market.store.read(check)
        profiling.settle_before_offer(market, actor, dataset, version)
        return market.store.perform(
            actor, command, lambda tx: _offer(tx, market, dataset, version), key=key
        ).value


def deprecate(
    market: Market, actor: Actor, dataset: str, *, reason: str, key: str | None = None
) -> dict[str, Any]:
    """Take no new buyers from now on: the listing is gone from search, and who has access goes on asking
    until it ends, and is told why. Offering its version again undoes it.

    Raises RequestInvalid, NotFound, ListingState.
    """

    def work(tx: Tx) -> dict[str, Any]:
        actor.require(Role.PROVIDER)
        check_reason(reason)
        view = listing.own(tx.session, actor, dataset)
        changed = listings.deprecate(tx.session, dataset_id=view.id, now=tx.now)
        tx.record(object=_about(view))
        if changed:
            _tell_holders(tx, view, "listing.deprecated", f"takes no new buyers any more: {reason}")
        return {"dataset": view.id, "slug": view.slug, "state": "deprecated", "changed": changed}

    return market.store.perform(actor, DeprecateListing(dataset, reason), work, key=key).value


def check_reason(reason: str) -> None:
    """Raise RequestInvalid for what is no reason to give to a buyer."""
    if not reason.strip() or len(reason) > LONGEST_REASON:
        raise RequestInvalid(f"a reason of 1 to {LONGEST_REASON} characters is needed: the buyers read it")


def withdraw(market: Market, actor: Actor, dataset: str, *, key: str | None) -> dict[str, Any]:
    """Take a listing off the market for good; who has access is told."""

    def work(tx: Tx) -> dict[str, Any]:
        actor.require(Role.PROVIDER)
        view = listing.own(tx.session, actor, dataset)
        changed = listings.withdraw(tx.session, dataset_id=view.id, now=tx.now)
        tx.record(kind="listing.withdrawn", object=_about(view))
        if changed:
            _tell_holders(tx, view, "listing.withdrawn", "was withdrawn: no new question can be asked of it.")
        return {"dataset": view.id, "slug": view.slug, "state": "withdrawn", "changed": changed}

    return market.store.perform(actor, ChangeListing(dataset, None), work, key=key).value


def _about(view: listings.Dataset) -> ObjectGroup:
    return ObjectGroup(type="dataset", id=view.id, dataset=view.slug)


def _tell_holders(tx: Tx, view: listings.Dataset, kind: str, what: str) -> None:
    for org in orders.holders(tx.session, view.id):
        told = {"subject": view.id, "dataset": view.slug, "text": f"{view.slug} {what}"}
        notifications.notify(tx.session, org, kind, now=tx.now, **told)


def _offer(tx: Tx, market: Market, dataset: str, version: str) -> dict[str, Any]:
    actor, view = tx.actor, _offerable(tx.session, market, tx.actor, dataset, version)
    profile = profiling.told(tx.session, view.version_id)
    if profile is not None and profile["state"] not in ("released", "reused", "failed"):
        raise InProgress("the contribution profile of this version is being released")
    approval = loosening.approved(tx.session, market, view, tx.now)
    changed = listings.publish(
        tx.session,
        dataset_id=view.dataset_id,
        version_id=view.version_id,
        now=tx.now,
        facets=facets.of_version(tx.session, view),
    )
    for plan in view.plans:
        chart.open_provider(tx.session, actor.org, plan["currency"])
    by = approval.id if approval is not None else None
    policy = listing.policy_of(view)
    journal = domains.grant_budget(tx, policy, approval=by) if listing.domain_of(view) else None
    if approval is not None and approval.used_at is None:
        approving.use(tx, approval)
    tx.record(
        object=ObjectGroup(type="dataset", id=view.dataset_id, version=view.version_id, dataset=view.slug),
        money=MoneyGroup(journal=journal) if journal else None,
        privacy=PrivacyGroup(domain=listing.domain_of(view)),
    )
    return {
        "dataset": view.dataset_id,
        "slug": view.slug,
        "version": view.version_id,
        "version_number": view.version_number,
        "state": "published",
        "changed": changed,
        "profile": profile,
    }


def _offerable(session: Session, market: Market, actor: Actor, dataset: str, version: str) -> ListingView:
    """An own version that may be offered; refuses others."""
    actor.require(Role.PROVIDER)
    view = profile_reuse.offerable(session, actor, dataset, version)
    check_private(session, view.plans)
    gates.check_parties(session, view, view.org)
    if market.settings.licence_approval:
        licences.require_approved(session, view.licence_id)
    return view


def check_private(session: Session, plans: Iterable[Mapping[str, Any]]) -> None:
    """Whom a private offer is made to can take it; else nobody would ever see it. Raises PriceInvalid."""
    for i, plan in enumerate(plans):
        if plan.get("organisation") and not identity.is_buyer(session, plan["organisation"]):
            raise PriceInvalid(
                f"plans[{i}].organisation",
                f"there is no buyer {plan['organisation']!r} on the exchange",
                hint="Name the buyer as it is registered; an operator admits a new one by "
                "`exchange org create NAME --role buyer`.",
            )
