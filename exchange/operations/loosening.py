"""What a new version of a listing would tell more of than the one on offer: that takes an officer's approval.

Compared are the policies, as declared: no row is looked at. What is larger, wider or more counts; what is
tighter is the provider's own to decide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from catalog import listings
from catalog.errors import NotFound
from exchange.approvals import Wanted
from exchange.errors import ApprovalNeeded
from exchange.operations import approving, domains, listing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from sqlalchemy import Row
    from sqlalchemy.orm import Session

    from catalog.listings import ListingView
    from exchange.market import Market
    from privacy.policy import Column, Policy, Table

_NAMED = 10


def approved(session: Session, market: Market, view: ListingView, now: datetime) -> Row[Any] | None:
    """The approval by which a version may be offered that tells more; None where it needs none.

    Raises :class:`ApprovalNeeded`, which says what it tells more of, where there is none.
    """
    before = _on_offer(session, view)
    if not market.settings.loosening_approval or (before and before.version_id == view.version_id):
        return None
    policy = listing.policy_of(view)
    found = list(_larger_budget(session, policy))
    if before is not None:
        found += changes(listing.policy_of(before), policy)
    wanted = Wanted(
        approving.LOOSEN,
        {
            "dataset": view.dataset_id,
            "version": view.version_id,
            "instead_of": before.version_id if before else None,
            "policy_sha256": policy.sha256,
        },
    )
    # A larger budget is granted before the profile is paid from it: the approval is used with the offer.
    standing = approving.standing(session, wanted, now)
    if standing is not None or not found:
        return standing
    raise ApprovalNeeded(f"this version tells more than what is on offer: {_few(found)}", wanted)


def _few(found: list[str]) -> str:
    more = len(found) - _NAMED
    return ", ".join(found[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def changes(old: Policy, new: Policy) -> list[str]:
    """By name what a policy allows more of than another: rho or delta of an answer, units, keys, bounds."""
    found = []
    if new.max_rho_per_query_nano > old.max_rho_per_query_nano:
        found.append("max_rho_per_query")
    if new.max_delta_per_query_pico > old.max_delta_per_query_pico:
        found.append("max_delta_per_query")
    if _answers_more(old, new):
        found.append("min_rho_per_query")
    for name, table in new.tables.items():
        before = old.tables.get(name)
        if table.private and before is not None and before.private:
            found += _in_table(before, table)
    return found


def _answers_more(old: Policy, new: Policy) -> bool:
    """Whether its lifetime budget is enough for more questions of the least rho than the other's.

    The least rho is rounded up to 1e-9; what rounding alone does is no change. So a smaller budget, whose
    least rho is smaller where none is declared, is not looser.
    """
    return new.rho_nano * (old.min_rho_per_query_nano - 1) >= old.rho_nano * new.min_rho_per_query_nano


def _in_table(old: Table, new: Table) -> Iterator[str]:
    if (new.unit, new.path) != (old.unit, old.path):
        yield f"{new.name}: unit"
    for name, column in new.columns.items():
        before = old.columns.get(name)
        if before is not None:
            yield from (f"{new.name}.{column.name}: {what}" for what in _in_column(before, column))


def _in_column(old: Column, new: Column) -> Iterator[str]:
    if set(new.keys or ()) - set(old.keys or ()):
        yield "keys"
    if new.selectable and not old.selectable:
        yield "selectable"
    if new.low is not None and new.high is not None and _is_wider(old, new):
        yield "bounds"


def _is_wider(old: Column, new: Column) -> bool:
    """Whether bounds, scaled by their decimals, reach further, or are there where none were."""
    if old.low is None or old.high is None or new.low is None or new.high is None:
        return True
    ours, theirs = 10**new.decimals, 10**old.decimals
    return bool(new.low * theirs < old.low * ours or new.high * theirs > old.high * ours)


def _larger_budget(session: Session, policy: Policy) -> Iterator[str]:
    """The domain's lifetime budget, where more than it was granted is asked for."""
    granted = domains.granted(session, policy.domain) if policy.domain else (0, 0)
    if granted != (0, 0):
        wanted = (("rho", policy.rho_nano, granted[0]), ("delta", policy.delta_pico, granted[1]))
        yield from (f"budget: {name}" for name, asked, had in wanted if asked > had)


def _on_offer(session: Session, view: ListingView) -> ListingView | None:
    try:
        return listings.find(session, view.dataset_id, sees_all=True)
    except NotFound:
        return None
