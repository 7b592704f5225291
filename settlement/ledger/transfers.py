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

from sqlalchemy import Row, bindparam, select

from settlement.errors import (
    AccountUnknown,
    AmountInvalid,
    DuplicateBusinessKey,
    LedgerError,
    NotPending,
    Overdrawn,
)
from settlement.ledger.digests import entry_digest
from settlement.ledger.tables import COUNTERS, EFFECTS, Phase, account, journal, transfer
from settlement.ledger.writing import write
from settlement.money import AMOUNT_LIMIT
from settlement.schema import timestamp

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection
    from sqlalchemy.orm import Session

Resolution = Literal["post", "void"]

_RECORDED = "settlement.ledger.recorded"


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


def recorded(session: Session) -> dict[str, str]:
    """The entries that were recorded through this session, in their order, each with its digest.

    For a session of one transaction: what it rolled back stays in the list.
    """
    return dict(session.info.get(_RECORDED, {}))


def transfer_id(journal_id: str, leg: int) -> str:
    """The id of one leg's transfer; it needs no luck and no clock."""
    return f"{journal_id}:{leg}"


def _record(session: Session, head: _Head, lines: Sequence[_Line]) -> str:
    """All that can be refused is refused under the locks and before the first row is written.

    The statements are built once and run on the session's connection.
    """
    if not lines:
        raise LedgerError(f"Entry {head.journal} has no legs.")
    connection = session.connection()
    held = _lock(connection, lines)
    changes = _changes(lines)
    refusal = _refusal(held, changes)
    if refusal is not None or head.reverses:
        _refuse_repeats(connection, head, lines)
    if refusal is not None:
        raise refusal
    columns, rows = _columns(head), _rows(head, lines)
    if not write(connection, columns, changes, rows):
        _refuse_repeats(connection, head, lines)
        raise AssertionError("an entry was refused for which nothing speaks")
    session.info.setdefault(_RECORDED, {})[head.journal] = entry_digest(columns, rows)
    return head.journal


def _lock(connection: Connection, lines: Iterable[_Line]) -> dict[str, _Held]:
    ids = {side for line in lines for side in (line.leg.debit, line.leg.credit)}
    held = {row.id: row for row in connection.execute(_LOCKED, {"ids": sorted(ids)})}
    for line in lines:
        for side in (line.leg.debit, line.leg.credit):
            if side not in held or held[side].unit != line.leg.unit:
                raise AccountUnknown(f"There is no account {side} in {line.leg.unit}.")
    return held


def _refuse_repeats(connection: Connection, head: _Head, lines: Iterable[_Line]) -> None:
    resolving = sorted(line.pending_id for line in lines if line.pending_id)
    done = select(transfer.c.pending_id).where(transfer.c.pending_id.in_(resolving))
    resolved = sorted(str(leg) for leg in connection.scalars(done)) if resolving else []
    if resolved:
        raise NotPending(f"Transfer {resolved[0]} was resolved before.")
    key = select(journal.c.id).where(journal.c.business_key == head.business_key)
    if connection.scalar(key) is not None:
        raise DuplicateBusinessKey(head.business_key)
    if head.reverses and connection.scalar(select(journal.c.id).where(journal.c.reverses == head.reverses)):
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


def _refusal(
    held: Mapping[str, _Held], changes: Mapping[str, dict[str, int]]
) -> AmountInvalid | Overdrawn | None:
    """Why the first account, by id, does not admit its change; it is locked, so ``held`` is what it has."""
    for id_, change in changes.items():
        if any(getattr(held[id_], counter) + step >= AMOUNT_LIMIT for counter, step in change.items()):
            return AmountInvalid(
                f"The turnover of account {id_} would pass the largest total the books hold."
            )
    for id_, change in sorted(changes.items()):
        row = held[id_]
        available: int = row.credits_posted - row.debits_posted - row.debits_pending
        taken = change["debits_posted"] + change["debits_pending"] - change["credits_posted"]
        if row.floor and available < taken:
            return Overdrawn(id_, row.unit, available)
    return None


_LOCKED = (
    select(account)
    .where(account.c.id.in_(bindparam("ids", expanding=True)))
    .order_by(account.c.id)
    .with_for_update()
)


def _columns(head: _Head) -> dict[str, str | None]:
    return {
        "id": head.journal,
        "kind": head.kind,
        "business_key": head.business_key,
        "effective_at": timestamp(head.effective_at or head.now),
        "recorded_at": timestamp(head.now),
        "actor": head.actor,
        "reverses": head.reverses,
    }


def _rows(head: _Head, lines: Sequence[_Line]) -> list[dict[str, str | int | None]]:
    return [
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
    ]


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


_OF_ENTRY = select(transfer).where(transfer.c.journal == bindparam("entry")).order_by(transfer.c.leg)


def _transfers(session: Session, journal_id: str) -> Sequence[Row[tuple[object, ...]]]:
    return session.connection().execute(_OF_ENTRY, {"entry": journal_id}).all()
