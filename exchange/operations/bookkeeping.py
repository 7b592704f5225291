"""The ledger from outside: trial balance, statement of an account, export, rebuilt balances."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import select

from exchange.audit.entry import Entry, ObjectGroup
from exchange.errors import NotFound
from exchange.identity import SYSTEM, Role
from exchange.operations.terms import decimal_text, moment
from settlement import ledger
from settlement.money import EXPONENTS, format_amount
from settlement.schema import timestamp

if TYPE_CHECKING:
    from typing import IO

    from sqlalchemy.orm import Session

    from exchange.identity import Actor
    from exchange.market import Market
    from exchange.store import Tx

_DECIMALS = {"rho": 9, "delta": 12}


@dataclass(frozen=True)
class ExportLedger:
    """Take the whole ledger away as text: reading everybody's accounts is itself an entry."""

    kind: ClassVar[str] = "ledger.exported"
    refused: ClassVar[str] = "ledger.refused"

    def entry(self) -> Entry:
        """The audit entry: the ledger."""
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="ledger"))


@dataclass(frozen=True)
class RebuildBalances:
    """Write the fold of the transfers over cached balances that differ."""

    kind: ClassVar[str] = "ledger.rebuilt"
    refused: ClassVar[str] = "ledger.refused"

    def entry(self) -> Entry:
        """The audit entry: the ledger."""
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="ledger"))


def trial_balance(market: Market, actor: Actor, *, until: str | None = None) -> dict[str, Any]:
    """Posted debits and credits of every account, from the transfers; buyers and providers see their own.

    ``until`` (ISO 8601, exclusive) takes the books as they were then. Raises RequestInvalid.
    """
    owner, bound = _owner(actor), _bound("until", until)

    def look(session: Session) -> dict[str, Any]:
        found = ledger.trial_balance(session, owner=owner, until=bound)
        return {
            "until": bound,
            "accounts": [_trial_line(line) for line in found.lines],
            "totals": [
                {"unit": unit, "debits": amount_text(debits, unit), "credits": amount_text(credits_, unit)}
                for unit, (debits, credits_) in sorted(found.totals().items())
            ],
            "balanced": found.balanced if owner is None else None,
        }

    return market.store.read(look)


def account_statement(
    market: Market, actor: Actor, account: str, *, since: str | None = None, until: str | None = None
) -> dict[str, Any]:
    """One account's postings with the running balance; a buyer or provider sees its own accounts.

    Raises NotFound, the same for an unknown account and another's; RequestInvalid for a wrong time.
    """
    owner, begin, end = _owner(actor), _bound("since", since), _bound("until", until)

    def look(session: Session) -> dict[str, Any]:
        held = ledger.account
        row = session.execute(select(held).where(held.c.id == account)).one_or_none()
        if row is None or owner not in (None, row.owner):
            raise NotFound("there is no such account")
        now = ledger.balance(session, row.id, row.unit)
        opening = ledger.balance_before(session, row.id, begin) if begin else 0
        lines = ledger.statement(session, row.id, since=begin, until=end)
        return {
            "account": row.id,
            "unit": row.unit,
            "since": begin,
            "until": end,
            "opening": amount_text(opening, row.unit),
            "closing": amount_text(lines[-1].balance if lines else opening, row.unit),
            "held": amount_text(now.pending_out, row.unit),
            "lines": [_statement_line(asdict(line), row.unit) for line in lines],
        }

    return market.store.read(look)


def export(market: Market, actor: Actor, out: IO[str]) -> None:
    """Write the ledger as Beancount text, line by line from one snapshot. For operators and officers.

    ``out`` is a local file: it is written while the snapshot is open, since the text is balanced only if all
    of it is of one moment, and may be too long for memory. Reading holds no lock, so that nobody waits.
    """
    actor.require(Role.OPERATOR, Role.OFFICER)

    def write(session: Session) -> None:
        for line in ledger.beancount.export(session):
            out.write(line + "\n")

    market.store.perform(actor, ExportLedger(), lambda _tx: {})
    market.store.read(write)


def rebuild(market: Market, *, check: bool) -> dict[str, Any]:
    """Compare cached balances with the fold of the transfers; unless ``check``, correct those that differ."""
    if check:
        found = market.store.read(ledger.drift)
        return _drifts(found, corrected=False)

    def work(tx: Tx) -> dict[str, Any]:
        return _drifts(ledger.rebuild(tx.session), corrected=True)

    return market.store.perform(SYSTEM, RebuildBalances(), work).value


def amount_text(amount: int, unit: str) -> str:
    """An amount of any unit as exact decimal text: in major units, rho or delta."""
    if unit in EXPONENTS:
        return format_amount(amount, unit)
    return decimal_text(amount, _DECIMALS[unit.partition(":")[0]])


def _drifts(found: list[ledger.Drift], *, corrected: bool) -> dict[str, Any]:
    return {"differing": [asdict(one) for one in found], "corrected": corrected and bool(found)}


def _owner(actor: Actor) -> str | None:
    """Whose accounts the actor may read; None for everybody's."""
    actor.require(Role.BUYER, Role.PROVIDER, Role.OPERATOR, Role.OFFICER)
    return actor.org if actor.role in (Role.BUYER, Role.PROVIDER) else None


def _trial_line(line: ledger.TrialLine) -> dict[str, Any]:
    amounts = {"debits": line.debits, "credits": line.credits, "balance": line.credits - line.debits}
    shown = {name: amount_text(amount, line.unit) for name, amount in amounts.items()}
    return {"account": line.account, "unit": line.unit, **shown}


def _statement_line(line: dict[str, Any], unit: str) -> dict[str, Any]:
    amount, balance = line.pop("signed_amount"), line.pop("balance")
    return {**line, "amount": amount_text(amount, unit), "balance": amount_text(balance, unit)}


def _bound(name: str, text: str | None) -> str | None:
    return timestamp(moment(name, text)) if text else None
