"""The contribution profile of a version: released once, before the first offer, at the provider's charge.

It tells in noisy counts how much single privacy units contribute, so that the plans of all buyers are bounded
well; a version is offered with it or without it, and stays so. The road is a query's: rho is held before any
row is read, the start is committed before the engine runs, and whatever happens then the rho stays charged. A
version is tried once: where that fails, it is offered without a profile.

A version of the same files and policy as an earlier one has no release of its own:
:mod:`exchange.operations.profile_reuse`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import privacy
from catalog import listings
from exchange import profiles, restraints
from exchange.audit.entry import Entry, MoneyGroup, ObjectGroup, PrivacyGroup
from exchange.errors import BudgetExhausted, Frozen, InProgress
from exchange.identity import SYSTEM, Role, new_id
from exchange.operations import approving, domains, listing, loosening, settling
from exchange.operations.policy_changes import larger_budget
from exchange.operations.profile_reuse import about_version, kept, offerable, reused
from exchange.operations.terms import NANO, decimal_text
from settlement import ledger
from settlement.errors import Overdrawn
from settlement.ledger import chart, entries

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy import Row
    from sqlalchemy.orm import Session

    from catalog.listings import ListingView
    from exchange.identity import Actor
    from exchange.market import Market
    from exchange.store import Tx

Ending = Literal["release", "forfeit", "void"]

_LEASE_MARGIN = timedelta(seconds=30)
_STATES = {
    profiles.RESERVED: "queued",
    profiles.EXECUTING: "running",
    profiles.RELEASED: "released",
    profiles.FORFEITED: "failed",
}


@dataclass(frozen=True)
class GrantBudget:
    """Grant the privacy domain of a version its lifetime budget, from which the profile is paid."""

    dataset: str
    version: str
    kind: ClassVar[str] = "budget.granted"
    refused: ClassVar[str] = "listing.refused"

    def entry(self) -> Entry:
        """The audit entry: the dataset and the version."""
        return about_version(self.kind, self.dataset, self.version)


@dataclass(frozen=True)
class ReleaseProfile:
    """Release the contribution profile of a version."""

    dataset: str
    version: str
    kind: ClassVar[str] = "profile.reserved"
    refused: ClassVar[str] = "listing.refused"

    def entry(self) -> Entry:
        """The audit entry: the dataset and the version."""
        return about_version(self.kind, self.dataset, self.version)


@dataclass(frozen=True)
class MoveProfile:
    """Move the release of a profile on: start it, end it with or without a document, void it."""

    release: str
    move: str
    code: str = ""
    kind: ClassVar[str] = "profile.moved"
    refused: ClassVar[str] = "profile.stuck"

    def entry(self) -> Entry:
        """The audit entry: the release."""
        about = ObjectGroup(type="profile", id=self.release)
        return Entry(kind=self.kind, outcome="done", object=about)


def settle_before_offer(market: Market, actor: Actor, dataset: str, version: str) -> None:
    """Release the profile of a version that was never offered, unless its policy wants none or it was tried.

    Raises InProgress while another process releases it, Overloaded, BudgetExhausted, and whatever refuses
    the listing itself: nothing is spent for a version that may not be offered.
    """
    command = ReleaseProfile(dataset, version)
    with market.store.refusing(actor, command):
        actor.require(Role.PROVIDER)
        view = market.store.read(lambda session: listing.own_version(session, actor, dataset, version))
        if not _is_due(market, view) or reused(market, actor, dataset, version):
            return
        with (
            market.runs.place(),
            market.engine.turn(actor.org, market.settings.query_timeout_s),
            market.vault.files(view) as files,
        ):
            _grant_budget(market, actor, dataset, version)
            reserved = market.store.perform(actor, command, lambda tx: _reserve(tx, market, dataset, version))
            _release(market, actor, reserved.value["release"], listing.policy_of(view), files)


def told(session: Session, version: str) -> dict[str, Any] | None:
    """What a provider reads of the release of a version's profile; None where there was none."""
    row = profiles.of_version(session, version)
    if row is None:
        again = profiles.reuse_of(session, version)
        free = {"state": "reused", "rho": "0", "rho_nano": 0}
        return None if again is None else {**free, "ended_at": again.reused_at}
    return {
        "state": _STATES[row.state],
        "rho": decimal_text(row.rho_nano, NANO),
        "rho_nano": row.rho_nano,
        "ended_at": row.ended_at,
    }


def resolve(market: Market, row: Row[Any]) -> tuple[str, bool]:
    """End what a dead process left behind; how it ended, and whether it was this caller that ended it."""
    if row.state == profiles.RESERVED:
        return "voided", _end(market, SYSTEM, row.id, "void", code="lease_ended")
    return "forfeited", _end(market, SYSTEM, row.id, "forfeit", code="lease_ended")


def _is_due(market: Market, view: ListingView) -> bool:
    """Whether the version still needs its one release. A release that a dead process left is ended first."""
    policy = listing.policy_of(view)
    private = any(table.private for table in policy.tables.values())
    if view.published_at is not None or policy.profile_rho_nano == 0 or not private:
        return False
    row = market.store.read(lambda session: profiles.of_version(session, view.version_id))
    if row is None:
        return market.store.read(lambda session: profiles.reuse_of(session, view.version_id)) is None
    if row.state not in profiles.OPEN:
        return False
    if row.lease_until > market.store.clock().isoformat(timespec="microseconds"):
        raise InProgress("the contribution profile of this version is being released")
    return resolve(market, row)[0] == "voided"


def _grant_budget(market: Market, actor: Actor, dataset: str, version: str) -> None:
    """The domain's budget, in a transaction of its own: one entry of the log names one journal."""

    def stands(session: Session) -> bool:
        return domains.is_granted(session, listing.policy_of(offerable(session, actor, dataset, version)))

    def work(tx: Tx) -> dict[str, Any]:
        view = offerable(tx.session, actor, dataset, version)
        approval = loosening.approved(tx.session, market, view, tx.now)
        policy = listing.policy_of(view)
        by = approval.id if approval is not None else None
        if approval is not None and approval.used_at is None and any(larger_budget(tx.session, policy)):
            approving.use(tx, approval)  # what it allows happens here; the offer follows, or never comes
        journal = domains.grant_budget(tx, policy, approval=by)
        tx.record(
            object=ObjectGroup(
                type="dataset", id=view.dataset_id, version=view.version_id, dataset=view.slug
            ),
            privacy=PrivacyGroup(domain=view.domain),
            money=MoneyGroup(journal=journal) if journal else None,
        )
        return {"journal": journal}

    if not market.store.read(stands):
        market.store.perform(actor, GrantBudget(dataset, version), work)


def _reserve(tx: Tx, market: Market, dataset: str, version: str) -> dict[str, Any]:
    """Hold the rho of the profile; what was checked before is checked again in this transaction."""
    view = offerable(tx.session, tx.actor, dataset, version)
    if view.published_at is not None or profiles.of_version(tx.session, view.version_id) is not None:
        raise InProgress("another process releases the contribution profile of this version")
    policy, release_id = listing.policy_of(view), new_id("prf")
    journal = _hold(tx, policy, release_id)
    profiles.reserve(
        tx.session,
        {
            "id": release_id,
            "org": tx.actor.org,
            "dataset": view.dataset_id,
            "slug": view.slug,
            "version": view.version_id,
            "domain": policy.domain,
            "rho_nano": policy.profile_rho_nano,
            "reserve_journal": journal,
            "lease_until": _lease(market, policy, tx.now),
            "reserved_at": tx.now.isoformat(timespec="microseconds"),
        },
    )
    tx.record(**_known(profiles.find(tx.session, release_id)), **_books(tx.session, policy, journal))
    return {"release": release_id}


def _hold(tx: Tx, policy: privacy.Policy, release_id: str) -> str:
    chart.open_domain_buyer(tx.session, policy.domain, tx.actor.org)
    legs = entries.privacy_spent(
        buyer=tx.actor.org,
        domain=policy.domain,
        grant=None,
        rho_nano=policy.profile_rho_nano,
        delta_pico=0,
    )
    try:
        return ledger.reserve(
            tx.session,
            journal=new_id("jnl"),
            kind="profile_reserved",
            business_key=f"profile:{release_id}:reserved",
            actor=tx.actor.ref,
            now=tx.now,
            legs=legs,
        )
    except Overdrawn as short:
        raise BudgetExhausted(
            "the privacy budget of the domain does not cover the contribution profile of this version",
            hint="Set `profile_rho = 0` in the policy to offer the version without a profile.",
            remaining=short.available,
        ) from None


def _lease(market: Market, policy: privacy.Policy, now: datetime) -> str:
    """The end of the lease: each private table is read twice, in a task each."""
    tasks = 2 * sum(table.private for table in policy.tables.values())
    lease = now + timedelta(seconds=tasks * market.settings.query_timeout_s) + _LEASE_MARGIN
    return lease.isoformat(timespec="microseconds")


def _release(
    market: Market,
    actor: Actor,
    release_id: str,
    policy: privacy.Policy,
    files: Mapping[str, tuple[str, ...]],
) -> None:
    """Start, run, keep. A failure after the start keeps the rho, and the version goes without a profile."""
    try:
        start(market, actor, release_id)
    except Frozen:
        _end(market, actor, release_id, "void", code=Frozen.code)
        raise
    try:
        made = _computed(market, policy, files)
    except privacy.PrivacyError:
        _end(market, actor, release_id, "forfeit", code="profile_failed")
        return
    except BaseException:
        _end(market, actor, release_id, "forfeit", code="profile_failed")
        raise
    try:
        keep(market, actor, release_id, made)
    except Frozen:
        _end(market, actor, release_id, "forfeit", code=Frozen.code)
        raise


def _computed(
    market: Market, policy: privacy.Policy, files: Mapping[str, tuple[str, ...]]
) -> privacy.Profile:
    made = privacy.profile(policy, files, sandbox=market.engine.sandbox())
    assert made.rho_nano <= policy.profile_rho_nano, "more was spent than is held"
    return made


def start(market: Market, actor: Actor, release_id: str) -> None:
    """EXECUTING, committed before any row is read. Raises Frozen."""

    def work(tx: Tx) -> dict[str, Any]:
        _require_free(tx.session, profiles.find(tx.session, release_id))
        stamp = tx.now.isoformat(timespec="microseconds")
        profiles.advance(
            tx.session, release_id, leave=profiles.RESERVED, enter=profiles.EXECUTING, started_at=stamp
        )
        tx.record(kind="profile.started", **_known(profiles.find(tx.session, release_id)))
        return {"release": release_id}

    market.store.perform(actor, MoveProfile(release_id, "start"), work)


def keep(market: Market, actor: Actor, release_id: str, made: privacy.Profile) -> None:
    """The document and its charge, in one transaction: from now on it is public."""
    _end(market, actor, release_id, "release", document=made.document())


_ENDINGS: dict[Ending, tuple[str, str, str]] = {
    "release": (profiles.EXECUTING, profiles.RELEASED, "profile.released"),
    "forfeit": (profiles.EXECUTING, profiles.FORFEITED, "profile.forfeited"),
    "void": (profiles.RESERVED, profiles.VOIDED, "profile.voided"),
}


def _end(
    market: Market,
    actor: Actor,
    release_id: str,
    ending: Ending,
    *,
    document: dict[str, Any] | None = None,
    code: str = "",
) -> bool:
    """End a release. Sweepers share a key for it, so that of two one ends it and the other learns of it."""
    leave, enter, kind = _ENDINGS[ending]

    def work(tx: Tx) -> dict[str, Any]:
        row = profiles.find(tx.session, release_id)
        if row.state != leave:
            raise InProgress("another process moved the release of this profile on")
        if document is not None:
            _require_free(tx.session, row)
        result = kept(tx, row.version, document) if document is not None else None
        journal = _resolve(tx, row, ending)
        profiles.advance(
            tx.session,
            release_id,
            leave=leave,
            enter=enter,
            ended_at=tx.now.isoformat(timespec="microseconds"),
            settle_journal=journal,
            entry_id=tx.entry.id,
            failure=code or None,
        )
        spent = 0 if ending == "void" else row.rho_nano
        tx.record(
            kind=kind,
            code=code or None,
            money=MoneyGroup(journal=journal),
            privacy=settling.spend_in(tx.session, row.domain, spent, 0),
            result=result,
            **_known(row),
        )
        return {"release": release_id}

    key = f"end:{release_id}" if actor == SYSTEM else None
    done = market.store.perform(actor, MoveProfile(release_id, ending, code=code), work, key=key)
    return not done.replayed


def _require_free(session: Session, row: Row[Any]) -> None:
    """Raise Frozen where the dataset is frozen, or the licence that the version is to be offered under."""
    licence = listings.version_of(session, row.version).licence_id
    restraints.require_free(session, dataset=row.dataset, licence=licence)


def _resolve(tx: Tx, row: Row[Any], ending: Ending) -> str:
    return ledger.resolve(
        tx.session,
        pending_journal=row.reserve_journal,
        journal=new_id("jnl"),
        kind=_ENDINGS[ending][2].replace(".", "_"),
        business_key=f"profile:{row.id}:ended",
        actor=tx.actor.ref,
        now=tx.now,
        phases="void" if ending == "void" else "post",
    )


def _known(row: Row[Any]) -> dict[str, Any]:
    """The audit groups of a release that stands in the books."""
    return {"object": ObjectGroup(type="profile", id=row.id, version=row.version, dataset=row.slug)}


def _books(session: Session, policy: privacy.Policy, journal: str) -> dict[str, Any]:
    return {
        "money": MoneyGroup(journal=journal),
        "privacy": settling.spend_in(session, policy.domain, policy.profile_rho_nano, 0),
    }
