"""What must always hold of the ledger (L1 to L4): each check is one read of the books and returns its
findings.

A finding is a sentence that names the account or the entry. No findings: the invariant holds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Select, Subquery, and_, case, func, or_, select, true, update

from settlement.ledger.statements import POSTED, postings
from settlement.ledger.tables import COUNTERS, EFFECTS, account, journal, transfer

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

Check = Callable[["Session"], list[str]]


@dataclass(frozen=True, slots=True)
class Drift:
    """A cached counter that differs from the fold of the account's transfers."""

    account: str
    counter: str
    cached: int
    folded: int


def check_postings(session: Session) -> list[str]:
    """L1: postings sum to 0 per entry and unit, in their accounts' units; balances sum to 0 per unit."""
    findings = [
        f"L1: entry {j} is out of balance by {int(t)} in {u}"
        for j, u, t in session.execute(_entries_out_of_balance())
    ]
    findings += [
        f"L1: entry {j} leg {n}: no entry, or no account {a} of its unit"
        for j, n, a in session.execute(_legs_without_a_place())
    ]
    findings += [f"L1: entry {id_} has no legs" for id_ in session.scalars(_entries_without_legs())]
    return findings + _unbalanced_units(session)


def check_floors(session: Session) -> list[str]:
    """L2: no floor account is below zero now, nor was after any entry of the ledger."""
    once, now = _floors_broken_once(), _floors_broken_now()
    findings = [f"L2: account {a} stood at {int(v)} after entry {j}" for a, j, v in session.execute(once)]
    return findings + [f"L2: account {a} shows {v} available" for a, v in session.execute(now)]


def check_balances(session: Session) -> list[str]:
    """L3: cached balances equal the fold of the transfers."""
    return [
        f"L3: account {found.account} shows {found.cached} {found.counter}, its transfers make {found.folded}"
        for found in drift(session)
    ]


def check_pending(session: Session) -> list[str]:
    """L4: a resolving transfer names a pending one of equal unit, sides and amount, and is the only one."""
    findings = [
        f"L4: entry {j}: {t} resolves nothing that was pending alike"
        for t, j in session.execute(_resolving_nothing())
    ]
    findings += [f"L4: {t} was resolved {n} times" for t, n in session.execute(_resolved_twice())]
    return findings + [f"L4: {t} has a phase that does not fit" for t in session.scalars(_odd_phases())]


#: Invariant -> its check.
CHECKS: dict[str, Check] = {
    "L1": check_postings,
    "L2": check_floors,
    "L3": check_balances,
    "L4": check_pending,
}


def check(session: Session) -> list[str]:
    """All findings of L1 to L4."""
    return [finding for invariant in CHECKS.values() for finding in invariant(session)]


def drift(session: Session) -> list[Drift]:
    """Every cached counter that differs from the fold of the transfers."""
    found = []
    for row in session.execute(_counters_and_folds()):
        for name in COUNTERS:
            cached, folded = getattr(row, name), int(getattr(row, f"folded_{name}") or 0)
            if cached != folded:
                found.append(Drift(row.id, name, cached, folded))
    return found


def rebuild(session: Session) -> list[Drift]:
    """Write the fold of the transfers over every cached counter that differs; returns what was corrected.

    The caller keeps writers out: on SQLite by BEGIN IMMEDIATE, on PostgreSQL by SERIALIZABLE.
    """
    found = drift(session)
    by_account: dict[str, dict[str, int]] = {}
    for each in found:
        by_account.setdefault(each.account, {})[each.counter] = each.folded
    for id_, counters in by_account.items():
        session.execute(update(account).where(account.c.id == id_).values(counters))
    return found


# The statements are built once: that takes longer than a small ledger's answer.
@cache
def _entries_out_of_balance() -> Select[Any]:
    sides = postings()
    total = func.sum(sides.c.signed_amount)
    return (
        select(sides.c.journal, account.c.unit, total)
        .join(account, and_(account.c.id == sides.c.account, account.c.unit == sides.c.unit))
        .where(sides.c.phase.in_(POSTED))
        .group_by(sides.c.journal, account.c.unit)
        .having(total != 0)
        .order_by(sides.c.journal, account.c.unit)
    )


@cache
def _legs_without_a_place() -> Select[Any]:
    sides = postings()
    return (
        select(sides.c.journal, sides.c.leg, sides.c.account)
        .outerjoin(account, and_(account.c.id == sides.c.account, account.c.unit == sides.c.unit))
        .outerjoin(journal, journal.c.id == sides.c.journal)
        .where(or_(account.c.id.is_(None), journal.c.id.is_(None)))
        .order_by(sides.c.journal, sides.c.leg)
    )


@cache
def _entries_without_legs() -> Select[Any]:
    return (
        select(journal.c.id)
        .outerjoin(transfer, transfer.c.journal == journal.c.id)
        .where(transfer.c.id.is_(None))
        .order_by(journal.c.id)
    )


@cache
def _floors_broken_once() -> Select[Any]:
    sides = postings()
    steps = (
        select(sides.c.account, journal.c.position, func.sum(_availability(sides)).label("change"))
        .join(journal, journal.c.id == sides.c.journal)
        .group_by(sides.c.account, journal.c.position)
        .subquery("step")
    )
    running = func.sum(steps.c.change).over(partition_by=steps.c.account, order_by=steps.c.position)
    prefix = select(steps.c.account, steps.c.position, running.label("available")).subquery("prefix")
    return (
        select(prefix.c.account, journal.c.id, prefix.c.available)
        .join(account, account.c.id == prefix.c.account)
        .join(journal, journal.c.position == prefix.c.position)
        .where(account.c.floor == true(), prefix.c.available < 0)
        .order_by(prefix.c.position, prefix.c.account)
    )


@cache
def _floors_broken_now() -> Select[Any]:
    available = account.c.credits_posted - account.c.debits_posted - account.c.debits_pending
    broken = select(account.c.id, available).where(account.c.floor == true(), available < 0)
    return broken.order_by(account.c.id)


@cache
def _resolving_nothing() -> Select[Any]:
    resolving, held = transfer.alias("resolving"), transfer.alias("held")
    same = and_(*(resolving.c[name] == held.c[name] for name in ("unit", "debit", "credit", "amount")))
    return (
        select(resolving.c.id, resolving.c.journal)
        .outerjoin(held, and_(held.c.id == resolving.c.pending_id, held.c.phase == "pending", same))
        .where(resolving.c.phase.in_(["post", "void"]), held.c.id.is_(None))
        .order_by(resolving.c.id)
    )


@cache
def _resolved_twice() -> Select[Any]:
    return (
        select(transfer.c.pending_id, func.count())
        .where(transfer.c.pending_id.is_not(None))
        .group_by(transfer.c.pending_id)
        .having(func.count() > 1)
        .order_by(transfer.c.pending_id)
    )


@cache
def _odd_phases() -> Select[Any]:
    resolves = transfer.c.phase.in_(["post", "void"])
    odd = select(transfer.c.id).where(resolves != transfer.c.pending_id.is_not(None))
    return odd.order_by(transfer.c.id)


@cache
def _counters_and_folds() -> Select[Any]:
    fold = _fold()
    folded = (fold.c[name].label(f"folded_{name}") for name in COUNTERS)
    return select(account, *folded).outerjoin(fold, fold.c.account == account.c.id).order_by(account.c.id)


@cache
def _units() -> Select[Any]:
    totals = [func.sum(account.c[name]) for name in COUNTERS]
    return select(account.c.unit, *totals).group_by(account.c.unit).order_by(account.c.unit)


def _fold() -> Subquery:
    sides = postings()
    amount = func.abs(sides.c.signed_amount)
    sums = []
    for side in ("debits", "credits"):
        for position, suffix in enumerate(("posted", "pending")):
            signed = [
                (and_(sides.c.side == side, sides.c.phase == phase), effect[position] * amount)
                for phase, effect in EFFECTS.items()
                if effect[position]
            ]
            sums.append(func.sum(case(*signed, else_=0)).label(f"{side}_{suffix}"))
    return select(sides.c.account, *sums).group_by(sides.c.account).subquery("fold")


def _availability(sides: Subquery) -> ColumnElement[int]:
    """What a posting does to credits_posted - debits_posted - debits_pending of its account."""
    whens = []
    for phase, (posted, pending) in EFFECTS.items():
        whens.append(
            (
                and_(sides.c.side == "debits", sides.c.phase == phase),
                (posted + pending) * sides.c.signed_amount,
            )
        )
        whens.append(
            (and_(sides.c.side == "credits", sides.c.phase == phase), posted * sides.c.signed_amount)
        )
    return case(*whens, else_=0)


def _unbalanced_units(session: Session) -> list[str]:
    findings = []
    for unit, posted_out, posted_in, held_out, held_in in session.execute(_units()):
        if (posted_out, held_out) != (posted_in, held_in):
            gap = int(posted_in - posted_out), int(held_in - held_out)
            findings.append(f"L1: balances in {unit} are off by {gap[0]} posted and {gap[1]} pending")
    return findings
