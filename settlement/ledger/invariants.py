"""What must always hold of the ledger (L1 to L4): each check is one read of the books and returns its
findings.

A finding is a sentence that names the account or the entry. No findings: the invariant holds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, Subquery, and_, case, func, or_, select, true, update

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
    sides = postings()
    total = func.sum(sides.c.signed_amount)
    per_entry = (
        select(sides.c.journal, account.c.unit, total)
        .join(account, and_(account.c.id == sides.c.account, account.c.unit == sides.c.unit))
        .where(sides.c.phase.in_(POSTED))
        .group_by(sides.c.journal, account.c.unit)
        .having(total != 0)
        .order_by(sides.c.journal, account.c.unit)
    )
    findings = [
        f"L1: entry {j} is out of balance by {int(t)} in {u}" for j, u, t in session.execute(per_entry)
    ]
    missing = (
        select(sides.c.journal, sides.c.leg, sides.c.account)
        .outerjoin(account, and_(account.c.id == sides.c.account, account.c.unit == sides.c.unit))
        .outerjoin(journal, journal.c.id == sides.c.journal)
        .where(or_(account.c.id.is_(None), journal.c.id.is_(None)))
        .order_by(sides.c.journal, sides.c.leg)
    )
    findings += [
        f"L1: entry {j} leg {n}: no entry, or no account {a} of its unit"
        for j, n, a in session.execute(missing)
    ]
    empty = (
        select(journal.c.id)
        .outerjoin(transfer, transfer.c.journal == journal.c.id)
        .where(transfer.c.id.is_(None))
    )
    findings += [f"L1: entry {id_} has no legs" for id_ in session.scalars(empty.order_by(journal.c.id))]
    return findings + _unbalanced_units(session)


def check_floors(session: Session) -> list[str]:
    """L2: no floor account is below zero now, nor was after any entry of the ledger."""
    sides = postings()
    change = _availability(sides)
    steps = (
        select(sides.c.account, journal.c.position, func.sum(change).label("change"))
        .join(journal, journal.c.id == sides.c.journal)
        .group_by(sides.c.account, journal.c.position)
        .subquery("step")
    )
    running = func.sum(steps.c.change).over(partition_by=steps.c.account, order_by=steps.c.position)
    prefix = select(steps.c.account, steps.c.position, running.label("available")).subquery("prefix")
    query = (
        select(prefix.c.account, journal.c.id, prefix.c.available)
        .join(account, account.c.id == prefix.c.account)
        .join(journal, journal.c.position == prefix.c.position)
        .where(account.c.floor == true(), prefix.c.available < 0)
        .order_by(prefix.c.position, prefix.c.account)
    )
    findings = [f"L2: account {a} stood at {int(v)} after entry {j}" for a, j, v in session.execute(query)]
    available = account.c.credits_posted - account.c.debits_posted - account.c.debits_pending
    now = (
        select(account.c.id, available).where(account.c.floor == true(), available < 0).order_by(account.c.id)
    )
    return findings + [f"L2: account {a} shows {v} available" for a, v in session.execute(now)]


def check_balances(session: Session) -> list[str]:
    """L3: cached balances equal the fold of the transfers."""
    return [
        f"L3: account {found.account} shows {found.cached} {found.counter}, its transfers make {found.folded}"
        for found in drift(session)
    ]


def check_pending(session: Session) -> list[str]:
    """L4: a resolving transfer names a pending one of equal unit, sides and amount, and is the only one."""
    resolving, held = transfer.alias("resolving"), transfer.alias("held")
    same = and_(*(resolving.c[name] == held.c[name] for name in ("unit", "debit", "credit", "amount")))
    query = (
        select(resolving.c.id, resolving.c.journal)
        .outerjoin(held, and_(held.c.id == resolving.c.pending_id, held.c.phase == "pending", same))
        .where(resolving.c.phase.in_(["post", "void"]), held.c.id.is_(None))
        .order_by(resolving.c.id)
    )
    findings = [
        f"L4: entry {j}: {t} resolves nothing that was pending alike" for t, j in session.execute(query)
    ]
    twice = (
        select(transfer.c.pending_id, func.count())
        .where(transfer.c.pending_id.is_not(None))
        .group_by(transfer.c.pending_id)
        .having(func.count() > 1)
        .order_by(transfer.c.pending_id)
    )
    findings += [f"L4: {t} was resolved {n} times" for t, n in session.execute(twice)]
    odd = select(transfer.c.id).where(
        (transfer.c.phase.in_(["post", "void"])) != transfer.c.pending_id.is_not(None)
    )
    return findings + [
        f"L4: {t} has a phase that does not fit" for t in session.scalars(odd.order_by(transfer.c.id))
    ]


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
    fold = _fold()
    query = select(account, *(fold.c[name].label(f"folded_{name}") for name in COUNTERS)).outerjoin(
        fold, fold.c.account == account.c.id
    )
    found = []
    for row in session.execute(query.order_by(account.c.id)):
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
    totals = [func.sum(account.c[name]) for name in COUNTERS]
    findings = []
    for unit, posted_out, posted_in, held_out, held_in in session.execute(
        select(account.c.unit, *totals).group_by(account.c.unit).order_by(account.c.unit)
    ):
        if (posted_out, held_out) != (posted_in, held_in):
            gap = int(posted_in - posted_out), int(held_in - held_out)
            findings.append(f"L1: balances in {unit} are off by {gap[0]} posted and {gap[1]} pending")
    return findings
