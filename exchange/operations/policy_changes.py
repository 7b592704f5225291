"""What one version tells more of than another, as policy and origin are declared: no row is looked at.

What is larger, wider or more counts, and every table and column that is new: under another name it could be
anything. What is tighter is the provider's own to decide.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from catalog import declarations, listings
from exchange.errors import ApprovalChanged
from exchange.operations import domains, gates, listing
from exchange.operations.terms import NANO, PICO, decimal_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from sqlalchemy.orm import Session

    from catalog.declarations import Declarations
    from catalog.listings import ListingView
    from privacy.policy import Column, Policy, Table
    from privacy.values import Value

NOTHING = "nothing"
UNBOUNDED = "none: a question may state its own"
_AMOUNTS = (
    ("max_rho_per_query", "max_rho_per_query_nano", NANO),
    ("max_delta_per_query", "max_delta_per_query_pico", PICO),
)


@dataclass(frozen=True)
class Change:
    """One thing that is looser: its name, and what was and is declared of it, in words."""

    what: str
    before: str
    after: str


def between(old: ListingView, new: ListingView) -> list[Change]:
    """What a version allows more of than another; see :func:`less_declared` for the origin of its data."""
    return changes(listing.policy_of(old), listing.policy_of(new))


def less_declared(session: Session, view: ListingView) -> list[Change]:
    """What a version declares less of than the one of its dataset that is on offer; where none is, than any
    other dataset of its privacy domain, since the rows may be the same.
    """
    others = [one for one in listings.last_offered(session, view.domain) if one.current]
    own = [one for one in others if one.dataset_id == view.dataset_id]
    found: dict[str, Change] = {}
    for one in own or others:
        found.update({change.what: change for change in _in_origin(gates.of(one), gates.of(view))})
    return list(found.values())


def changes(old: Policy, new: Policy) -> list[Change]:
    """What a policy allows more of than another: rho or delta, answers, tables, columns, keys, bounds.

    Caps are not among them: they are what holds where a question states none of its own.
    """
    return [*_in_amounts(old, new), *_in_tables(old, new)]


def larger_budget(session: Session, policy: Policy) -> Iterator[Change]:
    """The domain's lifetime budget, where more than it was granted is asked for."""
    granted = domains.granted(session, policy.domain) if policy.domain else (0, 0)
    if granted != (0, 0):
        rho, delta = (policy.rho_nano, granted[0], NANO), (policy.delta_pico, granted[1], PICO)
        for name, (asked, had, digits) in (("rho", rho), ("delta", delta)):
            if asked > had:
                yield Change(f"budget: {name}", decimal_text(had, digits), decimal_text(asked, digits))


def of_version(session: Session, given: Mapping[str, Any]) -> list[Change]:
    """What a version tells more of, whose approval is asked for with these parameters: all of it.

    Raises :class:`ApprovalChanged` where its policy is not the one that is to be approved.
    """
    view = listings.version_of(session, given["version"])
    policy = listing.policy_of(view)
    if policy.sha256 != given["policy_sha256"]:
        raise ApprovalChanged("the version's policy is not the one that the approval was asked for")
    found = [*larger_budget(session, policy), *less_declared(session, view)]
    if given["instead_of"] is not None:
        found += between(listings.version_of(session, given["instead_of"]), view)
    return found


def _in_origin(old: Declarations, new: Declarations) -> Iterator[Change]:
    """A lower class of data, another territory, children who are no longer declared: less is asked of it."""
    if declarations.CLASSES.index(new.classification) < declarations.CLASSES.index(old.classification):
        yield Change("declarations.classification", old.classification, new.classification)
    if old.jurisdiction and new.jurisdiction != old.jurisdiction:
        yield Change("declarations.jurisdiction", old.jurisdiction, new.jurisdiction or NOTHING)
    if old.minors and not new.minors:
        yield Change("declarations.minors", "data about children", NOTHING)


def _in_amounts(old: Policy, new: Policy) -> Iterator[Change]:
    for name, field, digits in _AMOUNTS:
        before, after = getattr(old, field), getattr(new, field)
        if after > before:
            yield Change(name, decimal_text(before, digits), decimal_text(after, digits))
    most = max(old.profile_rho_nano, old.max_rho_per_query_nano)
    if new.profile_rho_nano > most:  # up to then a profile tells no more than one answer might
        yield Change("profile_rho", decimal_text(most, NANO), decimal_text(new.profile_rho_nano, NANO))
    if _answers_more(old, new):
        least = [decimal_text(one.min_rho_per_query_nano, NANO) for one in (old, new)]
        yield Change("min_rho_per_query", *least)


def _answers_more(old: Policy, new: Policy) -> bool:
    """Whether its lifetime budget is enough for more questions of the least rho than the other's.

    The least rho is rounded up to 1e-9; what rounding alone does is no change. So a smaller budget, whose
    least rho is smaller where none is declared, is not looser.
    """
    return new.rho_nano * (old.min_rho_per_query_nano - 1) >= old.rho_nano * new.min_rho_per_query_nano


def _in_tables(old: Policy, new: Policy) -> Iterator[Change]:
    for name, table in new.tables.items():
        before = old.tables.get(name)
        if before is None or (before.private and not table.private):
            yield Change(
                f"{table.name}: table", NOTHING if before is None else _protected(before), _protected(table)
            )
        elif before.private and _protected(before).lower() != _protected(table).lower():
            yield Change(f"{table.name}: unit", _protected(before), _protected(table))
        yield from _in_columns(before, table)


def _in_columns(old: Table | None, new: Table) -> Iterator[Change]:
    for name, column in new.columns.items():
        before = old.columns.get(name) if old is not None else None
        if before is None:
            yield Change(f"{new.name}.{column.name}: column", NOTHING, _declared(column))
        elif old is not None and old.private and new.private:
            yield from _in_column(f"{new.name}.{column.name}", before, column)


def _in_column(name: str, old: Column, new: Column) -> Iterator[Change]:
    added = [key for key in new.keys or () if key not in (old.keys or ())]
    if added:
        yield Change(f"{name}: keys", _keys(old.keys), f"{'also ' if old.keys else ''}{_keys(added)}")
    elif new.selectable and old.keys is not None and new.keys is None:  # values that it left out may be shown
        yield Change(f"{name}: keys", _keys(old.keys), _keys(None))
    if new.selectable and not old.selectable:
        yield Change(f"{name}: selectable", "no", "yes")
    if new.low is not None and new.high is not None:
        if _is_wider(old, new):
            yield Change(f"{name}: bounds", _bounds(old), _bounds(new))
    elif new.selectable and old.low is not None:  # what a question states of its rows bounds them then
        yield Change(f"{name}: bounds", _bounds(old), _bounds(new))
    if new.selectable and old.type and new.type and new.type != old.type:
        yield Change(f"{name}: type", old.type, new.type)  # a moment tells more than its day


def _is_wider(old: Column, new: Column) -> bool:
    """Whether bounds, scaled by their decimals, reach further, or are there where none were."""
    if old.low is None or old.high is None or new.low is None or new.high is None:
        return True
    ours, theirs = 10**new.decimals, 10**old.decimals
    return bool(new.low * theirs < old.low * ours or new.high * theirs > old.high * ours)


def _protected(table: Table) -> str:
    """The privacy unit of a table and the way to it, or that it is public."""
    way = "".join(f" by {hop.column} to {hop.table}.{hop.key}" for hop in table.path)
    return f"private, unit {table.unit}{way}" if table.private else "public"


def _declared(column: Column) -> str:
    """All that a policy says of a column."""
    said = [column.type or "of no known type", f"keys {_keys(column.keys)}"]
    if column.low is not None:
        said.append(f"bounds {_bounds(column)}")
    return ", ".join(said if column.selectable else [*said, "not selectable"])


def _keys(keys: Sequence[Value] | None) -> str:
    """Keys as JSON, so that none can be taken for two."""
    if keys is None:
        return "private"
    return ", ".join(json.dumps(key, ensure_ascii=False, default=str) for key in keys)


def _bounds(column: Column) -> str:
    if column.low is None or column.high is None:
        return UNBOUNDED
    return f"{decimal_text(column.low, column.decimals)} to {decimal_text(column.high, column.decimals)}"
