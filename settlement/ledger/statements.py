"""Reading the ledger: entries line by line, an account's statement, the trial balance."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Subquery, case, func, literal_column, select, union_all

from settlement.documents import sha256_hex
from settlement.errors import LedgerError
from settlement.ledger.digests import entry_text
from settlement.ledger.tables import EFFECTS, Phase, account, journal, transfer

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from sqlalchemy.orm import Session

POSTED = [phase for phase, (posted, _) in EFFECTS.items() if posted]


@dataclass(frozen=True, slots=True)
class JournalLine:
    """One transfer of an entry; ``amount`` in the unit's smallest step."""

    leg: int
    unit: str
    debit: str
    credit: str
    amount: int
    phase: Phase
    pending_id: str | None


@dataclass(frozen=True, slots=True)
class StatementLine:
    """One posting to an account: signed (credits positive), with the balance after it."""

    journal: str
    kind: str
    business_key: str
    effective_at: str
    recorded_at: str
    counterpart: str
    signed_amount: int
    balance: int


@dataclass(frozen=True, slots=True)
class TrialLine:
    """An account's posted debits and credits, added up from its transfers."""

    account: str
    unit: str
    debits: int
    credits: int


@dataclass(frozen=True, slots=True)
class TrialBalance:
    """All accounts that were ever posted to, by unit and id."""

    lines: tuple[TrialLine, ...]

    def totals(self) -> dict[str, tuple[int, int]]:
        """Unit -> (debits, credits) over all accounts."""
        totals: dict[str, tuple[int, int]] = {}
        for line in self.lines:
            debits, credits_ = totals.get(line.unit, (0, 0))
            totals[line.unit] = (debits + line.debits, credits_ + line.credits)
        return totals

    @property
    def balanced(self) -> bool:
        """Debits equal credits in every unit."""
        return all(debits == credits_ for debits, credits_ in self.totals().values())


def journal_lines(session: Session, journal_id: str) -> list[JournalLine]:
    """The entry's transfers in leg order; empty for an unknown entry."""
    columns = [transfer.c[name] for name in JournalLine.__slots__]
    query = select(*columns).where(transfer.c.journal == journal_id).order_by(transfer.c.leg)
    return [JournalLine(**row._asdict()) for row in session.execute(query)]


def journal_digest(session: Session, journal_id: str) -> str:
    """The digest of :func:`~settlement.ledger.digests.entry_digest` of what the books hold now.

    LedgerError for an unknown entry.
    """
    found = journal_digests(session, [journal_id])
    if journal_id not in found:
        raise LedgerError(f"There is no entry {journal_id}.")
    return found[journal_id]


def journal_digests(session: Session, journal_ids: Collection[str]) -> dict[str, str]:
    """The digests of :func:`journal_digest` by entry, at most a few hundred at once; unknown ones are left
    out.
    """
    return {one: sha256_hex(text) for one, text in journal_texts(session, journal_ids).items()}


def journal_texts(session: Session, journal_ids: Collection[str]) -> dict[str, str]:
    """What these digests hash, so that others can do it again: each entry's canonical JSON."""
    wanted = sorted(journal_ids)
    heads = session.execute(select(journal).where(journal.c.id.in_(wanted))).all()
    lines: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    rows = session.execute(select(transfer).where(transfer.c.journal.in_(wanted)).order_by(transfer.c.leg))
    for row in rows.mappings():
        lines[row["journal"]].append(dict(row))
    return {head.id: entry_text(head._asdict(), lines[head.id]) for head in heads}


def statement(
    session: Session, account_id: str, *, since: str | None = None, until: str | None = None
) -> list[StatementLine]:
    """The account's postings in the order of the ledger, each with the running balance in smallest steps.

    ``since`` (inclusive) and ``until`` (exclusive) bound ``recorded_at``; the balance runs from all before.
    """
    sides = postings()
    names = ("kind", "business_key", "effective_at", "recorded_at")
    query = (
        select(
            journal.c.id.label("journal"),
            *(journal.c[name] for name in names),
            sides.c.counterpart,
            sides.c.signed_amount,
        )
        .join(sides, sides.c.journal == journal.c.id)
        .where(sides.c.account == account_id, sides.c.phase.in_(POSTED), *_within(since, until))
        .order_by(journal.c.position, sides.c.leg)
    )
    lines, running = [], balance_before(session, account_id, since) if since else 0
    for row in session.execute(query):
        running += row.signed_amount
        lines.append(StatementLine(**row._asdict(), balance=running))
    return lines


def balance_before(session: Session, account_id: str, moment: str) -> int:
    """The account's posted balance just before a moment (text of the books' times), in smallest steps."""
    sides = postings()
    query = (
        select(func.coalesce(func.sum(sides.c.signed_amount), 0))
        .select_from(sides)
        .join(journal, journal.c.id == sides.c.journal)
        .where(sides.c.account == account_id, sides.c.phase.in_(POSTED), journal.c.recorded_at < moment)
    )
    return int(session.execute(query).scalar_one())


def trial_balance(session: Session, *, owner: str | None = None, until: str | None = None) -> TrialBalance:
    """Debits and credits of every account, added up from the transfers and not from the cached balances.

    Of one owner's accounts, or up to a moment (exclusive), where they are given.
    """
    sides = postings()
    debits = func.sum(case((sides.c.side == "debits", -sides.c.signed_amount), else_=0))
    credits_ = func.sum(case((sides.c.side == "credits", sides.c.signed_amount), else_=0))
    query = (
        select(sides.c.account, sides.c.unit, debits, credits_)
        .where(sides.c.phase.in_(POSTED))
        .group_by(sides.c.account, sides.c.unit)
        .order_by(sides.c.unit, sides.c.account)
    )
    if until is not None:
        query = query.join(journal, journal.c.id == sides.c.journal).where(*_within(None, until))
    if owner is not None:
        query = query.join(account, account.c.id == sides.c.account).where(account.c.owner == owner)
    return TrialBalance(tuple(TrialLine(a, u, int(d), int(c)) for a, u, d, c in session.execute(query)))


def _within(since: str | None, until: str | None) -> list[ColumnElement[bool]]:
    bounds = []
    if since is not None:
        bounds.append(journal.c.recorded_at >= since)
    if until is not None:
        bounds.append(journal.c.recorded_at < until)
    return bounds


def postings() -> Subquery:
    """Each transfer twice, once for each side: credits positive, debits negative, in every phase."""
    columns = [transfer.c[name] for name in ("journal", "leg", "unit", "phase", "pending_id")]
    amount, debit, credit = transfer.c.amount, transfer.c.debit, transfer.c.credit
    debits = select(
        *columns,
        debit.label("account"),
        credit.label("counterpart"),
        (-amount).label("signed_amount"),
        literal_column("'debits'").label("side"),
    )
    credits_ = select(
        *columns,
        credit.label("account"),
        debit.label("counterpart"),
        amount.label("signed_amount"),
        literal_column("'credits'").label("side"),
    )
    return union_all(debits, credits_).subquery("posting")
