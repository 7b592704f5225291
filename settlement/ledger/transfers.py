"""The one way into the ledger: post, reserve, resolve, reverse.

Each call writes one journal entry or nothing. It locks the accounts it touches in the order of their ids,
applies one conditional UPDATE per account, and draws the entry's position while they are locked. On SQLite
the caller begins with BEGIN IMMEDIATE; on PostgreSQL any isolation from READ COMMITTED up will do, and a
serialization failure or deadlock is the caller's to retry. A refusal leaves the caller's transaction as it
was.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sqlalchemy import BigInteger, Row, Update, bindparam, not_, or_, select, update

from settlement.errors import (
    AccountUnknown,
    AmountInvalid,
    DuplicateBusinessKey,
    LedgerError,
    NotPending,
    Overdrawn,
)
from settlement.ledger.tables import COUNTERS, EFFECTS, Phase, account, journal, transfer
from settlement.money import AMOUNT_LIMIT
from settlement.schema import insert_once, rows_changed, timestamp

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

Resolution = Literal["post", "void"]


@dataclass(frozen=True, slots=True)
class Leg:
    """Move ``amount`` of ``unit`` (its smallest step, 0 < amount < 2^62) from account ``debit`` to
    ``credit``.

    Raises AmountInvalid for another amount and LedgerError when both sides are one account.
    """

    unit: str
    debit: str
    credit: str
    amount: int

    def __post_init__(self) -> None:
        if (
            not isinstance(self.amount, int)
            or isinstance(self.amount, bool)
            or not 0 < self.amount < AMOUNT_LIMIT
        ):
            raise AmountInvalid(f"A leg of {self.unit} moves a positive integer amount below 2^62.")
        if self.debit == self.credit:
            raise LedgerError(f"A leg cannot debit and credit the same account {self.debit}.")


_Held = Row[tuple[object, ...]]


@dataclass(frozen=True, slots=True)
class _Line:
    leg: Leg
    phase: Phase
    pending_id: str | None = None


@dataclass(frozen=True, slots=True)
class _Head:
    journal: str
    kind: str
    business_key: str
    actor: str
    now: datetime
    effective_at: datetime | None = None
    reverses: str | None = None


def post(
    session: Session,
    *,
    journal: str,
    kind: str,
    business_key: str,
    actor: str,
    now: datetime,
    legs: Sequence[Leg],
    effective_at: datetime | None = None,
) -> str:
    """Record an entry whose legs are final at once; returns the journal id.

    ``effective_at`` is the date of the fact when it differs from ``now``, the date of its recording. Raises
    Overdrawn, DuplicateBusinessKey, AccountUnknown, AmountInvalid, LedgerError.
    """
    head = _Head(journal, kind, business_key, actor, now, effective_at)
    return _record(session, head, [_Line(leg, "single") for leg in legs])


def reserve(
    session: Session,
    *,
    journal: str,
    kind: str,
    business_key: str,
    actor: str,
    now: datetime,
    legs: Sequence[Leg],
    effective_at: datetime | None = None,
) -> str:
    """Hold every leg until it is resolved: floor accounts lose it at once, nobody gains it yet.

    Returns the journal id, by which ``resolve`` finds the legs. Raises as ``post``.
    """
    head = _Head(journal, kind, business_key, actor, now, effective_at)
    return _record(session, head, [_Line(leg, "pending") for leg in legs])


def resolve(
    session: Session,
    *,
    pending_journal: str,
    journal: str,
    kind: str,
    business_key: str,
    actor: str,
    now: datetime,
    phases: Mapping[int, Resolution] | Resolution,
) -> str:
    """Post or void reserved legs, in full: all of them by one word, or each by its leg number.

    Legs that the mapping does not name stay pending. Returns the journal id. Raises NotPending for a leg that
    is unknown or resolved before, otherwise as ``post``.
    """
    lines = _resolving(session, pending_journal, phases)
    return _record(session, _Head(journal, kind, business_key, actor, now), lines)


def reverse(
    session: Session, *, reverses: str, journal: str, kind: str, business_key: str, actor: str, now: datetime
) -> str:
    """Undo an entry's posted amounts by a new entry with the sides exchanged; an entry is reversed once.

    Returns the journal id. Raises LedgerError for an unknown entry, one that posted nothing, or one reversed
    before; otherwise as ``post``.
    """
    rows = _transfers(session, reverses)
    lines = [
        _Line(Leg(row.unit, debit=row.credit, credit=row.debit, amount=row.amount), "single")
        for row in rows
        if EFFECTS[row.phase][0]
    ]
    if not lines:
        raise LedgerError(f"Entry {reverses} posted nothing that could be reversed.")
    return _record(session, _Head(journal, kind, business_key, actor, now, reverses=reverses), lines)


def transfer_id(journal_id: str, leg: int) -> str:
    """The id of one leg's transfer; it needs no luck and no clock."""
    return f"{journal_id}:{leg}"


def _record(session: Session, head: _Head, lines: Sequence[_Line]) -> str:
    if not lines:
        raise LedgerError(f"Entry {head.journal} has no legs.")
    with session.begin_nested():  # a refusal half-way leaves no account changed, whatever comes next
        held = _lock(session, lines)
        _refuse_repeats(session, head, lines)
        _apply(session, held, _changes(lines))
        _insert(session, head, lines)
    return head.journal


def _lock(session: Session, lines: Iterable[_Line]) -> dict[str, _Held]:
    ids = {side for line in lines for side in (line.leg.debit, line.leg.credit)}
    query = select(account).where(account.c.id.in_(sorted(ids))).order_by(account.c.id).with_for_update()
    held = {row.id: row for row in session.execute(query)}
    for line in lines:
        for side in (line.leg.debit, line.leg.credit):
            if side not in held or held[side].unit != line.leg.unit:
                raise AccountUnknown(f"There is no account {side} in {line.leg.unit}.")
    return held


def _refuse_repeats(session: Session, head: _Head, lines: Iterable[_Line]) -> None:
    if session.scalar(select(journal.c.id).where(journal.c.business_key == head.business_key)) is not None:
        raise DuplicateBusinessKey(head.business_key)
    resolving = [line.pending_id for line in lines if line.pending_id]
    if resolving and (
        done := session.scalars(
            select(transfer.c.pending_id).where(transfer.c.pending_id.in_(resolving))
        ).all()
    ):
        raise NotPending(f"Transfer {min(filter(None, done))} was resolved before.")
    if head.reverses and session.scalar(select(journal.c.id).where(journal.c.reverses == head.reverses)):
        raise LedgerError(f"Entry {head.reverses} was reversed before.")


def _changes(lines: Iterable[_Line]) -> dict[str, dict[str, int]]:
    """Account id -> counter -> change, over all lines of the entry."""
    changes: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(COUNTERS, 0))
    for line in lines:
        posted, pending = EFFECTS[line.phase]
        for side, word in ((line.leg.debit, "debits"), (line.leg.credit, "credits")):
            changes[side][f"{word}_posted"] += posted * line.leg.amount
            changes[side][f"{word}_pending"] += pending * line.leg.amount
    return changes


def _apply(session: Session, held: Mapping[str, _Held], changes: dict[str, dict[str, int]]) -> None:
    for id_, change in changes.items():
        if any(getattr(held[id_], counter) + step >= AMOUNT_LIMIT for counter, step in change.items()):
            raise AmountInvalid(f"The turnover of account {id_} would pass the largest total the books hold.")
    rows = [{"account_id": id_, **changes[id_]} for id_ in sorted(changes)]
    if rows_changed(session, _ADMIT, rows) != len(rows):
        raise _overdrawn(held, changes)


def _overdrawn(held: Mapping[str, _Held], changes: dict[str, dict[str, int]]) -> Overdrawn:
    """The first account, by id, that did not admit its change; it is locked, so ``held`` is what it has."""
    for id_, change in sorted(changes.items()):
        row = held[id_]
        available: int = row.credits_posted - row.debits_posted - row.debits_pending
        taken = change["debits_posted"] + change["debits_pending"] - change["credits_posted"]
        if row.floor and available < taken:
            return Overdrawn(id_, row.unit, available)
    raise AssertionError("an account refused a change that it covers: the caller's transaction does not lock")


def _admit() -> Update:
    """Change one account's counters unless that takes a floor account below zero: it then changes no row."""
    after = {name: account.c[name] + bindparam(name, type_=BigInteger) for name in COUNTERS}
    covered = after["credits_posted"] - after["debits_posted"] - after["debits_pending"] >= 0
    admitted = or_(not_(account.c.floor), covered)
    return update(account).where(account.c.id == bindparam("account_id"), admitted).values(after)


_ADMIT = _admit()


def _insert(session: Session, head: _Head, lines: Sequence[_Line]) -> None:
    values = {
        "id": head.journal,
        "kind": head.kind,
        "business_key": head.business_key,
        "effective_at": timestamp(head.effective_at or head.now),
        "recorded_at": timestamp(head.now),
        "actor": head.actor,
        "reverses": head.reverses,
    }
    # Two entries over different accounts may race for one key, past the look-up: the constraint decides.
    statement = (
        insert_once(session, journal).values(values).on_conflict_do_nothing(index_elements=["business_key"])
    )
    if not rows_changed(session, statement):
        raise DuplicateBusinessKey(head.business_key)
    session.execute(
        transfer.insert(),
        [
            {
                "id": transfer_id(head.journal, number),
                "journal": head.journal,
                "leg": number,
                "unit": line.leg.unit,
                "debit": line.leg.debit,
                "credit": line.leg.credit,
                "amount": line.leg.amount,
                "phase": line.phase,
                "pending_id": line.pending_id,
            }
            for number, line in enumerate(lines)
        ],
    )


def _resolving(
    session: Session, pending_journal: str, phases: Mapping[int, Resolution] | Resolution
) -> list[_Line]:
    pending = {row.leg: row for row in _transfers(session, pending_journal) if row.phase == "pending"}
    wanted = dict.fromkeys(pending, phases) if isinstance(phases, str) else dict(phases)
    unknown = sorted(set(wanted) - set(pending))
    if unknown or not wanted:
        raise NotPending(f"Entry {pending_journal} has no pending leg {unknown[0] if unknown else 'at all'}.")
    if not set(wanted.values()) <= {"post", "void"}:
        raise LedgerError("A reserved leg is resolved by 'post' or 'void'.")
    return [
        _Line(Leg(row.unit, row.debit, row.credit, row.amount), wanted[number], row.id)
        for number, row in sorted(pending.items())
        if number in wanted
    ]


def _transfers(session: Session, journal_id: str) -> Sequence[Row[tuple[object, ...]]]:
    return session.execute(
        select(transfer).where(transfer.c.journal == journal_id).order_by(transfer.c.leg)
    ).all()
