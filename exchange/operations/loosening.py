"""What a new version of a listing would tell more of than what is on offer: that takes an officer's approval.

A version is held against the one of its dataset that is on offer; the first of a dataset against the others
of its privacy domain, whose people it tells of too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from catalog import listings
from catalog.errors import NotFound
from exchange.approvals import Wanted
from exchange.errors import ApprovalNeeded
from exchange.operations import approving, listing
from exchange.operations.policy_changes import Change, between, larger_budget, less_declared

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Row
    from sqlalchemy.orm import Session

    from catalog.listings import ListingView
    from exchange.market import Market

_NAMED = 10


def approved(session: Session, market: Market, view: ListingView, now: datetime) -> Row[Any] | None:
    """The approval by which a version may be offered that tells more; None where it needs none.

    One that was used up by the larger budget of a version that was never offered is for its offer, too:
    in its time, and while that budget is still granted.

    Raises :class:`ApprovalNeeded`, which says what it tells more of, where there is none.
    """
    own = _on_offer(session, view)
    if not market.settings.loosening_approval or (own and own.version_id == view.version_id):
        return None
    policy = listing.policy_of(view)
    before, found = _least_changed([own] if own else _of_domain(session, view.domain), view)
    more = list(larger_budget(session, policy))
    found = [*more, *less_declared(session, view), *found]
    wanted = Wanted(
        approving.LOOSEN,
        {
            "dataset": view.dataset_id,
            "slug": view.slug,
            "version": view.version_id,
            "version_number": view.version_number,
            "instead_of": before.version_id if before else None,
            "policy_sha256": policy.sha256,
        },
    )
    standing = approving.standing(session, wanted, now)
    if standing is None and view.published_at is None and not more:
        standing = approving.used(session, wanted, now)
    if standing is not None or not found:
        return standing
    raise ApprovalNeeded(f"this version tells more than what is on offer: {_few(found)}", wanted)


def _least_changed(
    offered: Sequence[ListingView], view: ListingView
) -> tuple[ListingView | None, list[Change]]:
    """The version on offer that a new one changes least of, and its changes; none for a domain's first."""
    compared = ((one, between(one, view)) for one in offered)
    return min(compared, key=lambda pair: len(pair[1]), default=(None, []))


def _few(found: list[Change]) -> str:
    more = len(found) - _NAMED
    return ", ".join(one.what for one in found[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _on_offer(session: Session, view: ListingView) -> ListingView | None:
    """The version of the same dataset that is on offer: one that was withdrawn is never offered again."""
    try:
        return listings.find(session, view.dataset_id, sees_all=True)
    except NotFound:
        return None


def _of_domain(session: Session, domain: str) -> list[ListingView]:
    """What a dataset's first version is held against: other datasets of its privacy domain.

    Those on offer; where none is, the one that was offered last, so that withdrawing is no way to loosen.
    """
    found = listings.last_offered(session, domain)
    return [one for one in found if one.current] or found[:1]
