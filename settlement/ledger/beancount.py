"""The whole ledger as Beancount text, so that a program that is not ours can add it up again.

Every unit is a commodity, rho and delta too; every account is opened with its own id as metadata; every entry
is one transaction, in the order of the ledger. Beancount writes debits positive and credits negative. What a
reservation holds is booked beside, between accounts under ``Equity:Held`` that mirror the held ones, and
taken back when it is resolved, so that ``bean-check`` adds up reservations as well. The text ends with one
balance assertion for each account and each holding, from the cached balances and with no tolerance: a journal
that was altered, or a balance that was, does not pass.

Equal ledgers make equal bytes. Syntax: Beancount Language Syntax, https://beancount.github.io/docs/.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from settlement.ledger.tables import EFFECTS, account, journal, transfer, unit

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sqlalchemy.orm import Session

#: Kind of account -> Beancount's root account; every kind that is not named is Equity.
ROOTS = {
    "buyer_prepaid": "Liabilities",
    "buyer_receivable": "Assets",
    "provider_payable": "Liabilities",
    "provider_holdback": "Liabilities",
    "provider_clawback": "Assets",
    "platform_fees": "Income",
    "platform_promotion": "Expenses",
    "platform_stripe_fees": "Expenses",
    "platform_tax": "Liabilities",
    "platform_dispute_suspense": "Liabilities",
    "external_bank": "Assets",
    "external_stripe": "Assets",
}

_AT_ONCE = 1000
_FIRST_DAY = "1970-01-01"
_LONGEST_COMMODITY = 24
_UNSAFE = re.compile(r"[^A-Za-z0-9]+")
_UNLINKED = re.compile(r"[^A-Za-z0-9_.-]")
_UNPRINTED = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]")


@dataclass(frozen=True, slots=True)
class _Names:
    """Beancount's names for our accounts and units, with each unit's decimals."""

    accounts: dict[str, str]
    commodities: dict[str, str]
    exponents: dict[str, int]

    def posting(self, name: str, amount: int, code: str) -> str:
        return f"  {name}  {_decimal(amount, self.exponents[code])} {self.commodities[code]}"

    def held(self, account_id: str) -> str:
        return f"Equity:Held:{self.accounts[account_id]}"


def export(session: Session, *, title: str = "Ledger of the exchange") -> Iterator[str]:
    """The ledger as lines of Beancount text without their line ends, in one pass and without loading it.

    The session must see one snapshot until the last line is taken.
    """
    units = session.execute(select(unit).order_by(unit.c.code)).all()
    accounts = session.execute(select(account).order_by(account.c.id)).all()
    names = _Names(
        _account_names(accounts),
        _commodities([row.code for row in units]),
        {row.code: row.exponent for row in units},
    )
    reserving = select(transfer.c.debit, transfer.c.credit).where(transfer.c.phase == "pending").distinct()
    held = {side for row in session.execute(reserving) for side in row}
    yield f"option {_quoted('title')} {_quoted(title)}"
    yield from _opened(units, accounts, held, names)
    last = _FIRST_DAY
    for entry in _entries(session):
        last = max(last, entry[0].recorded_at[:10])
        yield from _transaction(entry, names)
    yield from _assertions(accounts, held, names, date.fromisoformat(last) + timedelta(days=1))


def _opened(units: Sequence[Any], accounts: Sequence[Any], held: set[str], names: _Names) -> Iterator[str]:
    for row in units:
        yield ""
        yield f"{_FIRST_DAY} commodity {names.commodities[row.code]}"
        yield f"  unit: {_quoted(row.code)}"
        yield f"  kind: {_quoted(row.kind)}"
    for row in accounts:
        yield ""
        yield f"{_FIRST_DAY} open {names.accounts[row.id]} {names.commodities[row.unit]}"
        yield f"  ledger-account: {_quoted(row.id)}"
        yield f"  owner: {_quoted(row.owner)}"
        if row.id in held:
            yield f"{_FIRST_DAY} open {names.held(row.id)} {names.commodities[row.unit]}"
            yield f"  ledger-account: {_quoted(row.id)}"


def _entries(session: Session) -> Iterator[list[Any]]:
    """The transfers of each entry, entry by entry in the order of the ledger."""
    reserved = transfer.alias("reserved")
    columns = [column for column in journal.c if column.name != "id"]
    legs = [transfer.c[name] for name in ("leg", "unit", "debit", "credit", "amount", "phase")]
    query = (
        select(journal.c.id, *columns, *legs, reserved.c.journal.label("resolves"))
        .join(transfer, transfer.c.journal == journal.c.id)
        .outerjoin(reserved, reserved.c.id == transfer.c.pending_id)
        .order_by(journal.c.position, transfer.c.leg)
        .execution_options(yield_per=_AT_ONCE)
    )
    for _, rows in groupby(session.execute(query), key=lambda row: row.position):
        yield list(rows)


def _transaction(entry: list[Any], names: _Names) -> Iterator[str]:
    head = entry[0]
    posts = any(EFFECTS[row.phase][0] for row in entry)
    resolved = {row.resolves for row in entry if row.resolves}
    links = [head.id, *sorted(resolved), *([head.reverses] if head.reverses else [])]
    yield ""
    yield (
        f"{head.recorded_at[:10]} {'*' if posts else '!'} {_quoted(head.kind)}"
        + "".join(f" ^{_UNLINKED.sub('-', link)}" for link in links)
        + ("" if posts else " #nothing-posted")
    )
    for key in ("business_key", "recorded_at", "effective_at", "actor", "reverses"):
        if getattr(head, key) is not None:
            yield f"  {key.replace('_', '-')}: {_quoted(getattr(head, key))}"
    for row in entry:
        posted, pending = EFFECTS[row.phase]
        sides = ((row.debit, row.amount), (row.credit, -row.amount))
        if pending:
            yield from (names.posting(names.held(side), pending * n, row.unit) for side, n in sides)
        if posted:
            yield from (names.posting(names.accounts[side], n, row.unit) for side, n in sides)


def _assertions(accounts: Sequence[Any], held: set[str], names: _Names, day: date) -> Iterator[str]:
    """What every account must add up to, from the cached balances; ``~ 0`` leaves no tolerance."""
    yield ""
    for row in accounts:
        exponent, commodity = names.exponents[row.unit], names.commodities[row.unit]
        posted = _decimal(row.debits_posted - row.credits_posted, exponent)
        yield f"{day} balance {names.accounts[row.id]}  {posted} ~ 0 {commodity}"
        if row.id in held:
            pending = _decimal(row.debits_pending - row.credits_pending, exponent)
            yield f"{day} balance {names.held(row.id)}  {pending} ~ 0 {commodity}"


def _account_names(accounts: Iterable[Any]) -> dict[str, str]:
    """Our ids as Beancount's: parts of letters, digits and hyphens that begin with a capital or a digit."""
    taken: set[str] = set()
    names: dict[str, str] = {}
    for row in accounts:
        parts = [_part(part) for part in row.id.split(":")]
        name = ":".join([ROOTS.get(row.kind, "Equity"), *parts])
        names[row.id] = _unlike(name, row.id, taken)
    return names


def _part(text: str) -> str:
    plain = _UNSAFE.sub("-", text).strip("-") or "X"
    return plain[0].upper() + plain[1:]


def _commodities(codes: Iterable[str]) -> dict[str, str]:
    """Our units as Beancount's commodities: capitals, digits and hyphens, at most 24 of them."""
    taken: set[str] = set()
    names: dict[str, str] = {}
    for code in codes:
        plain = _UNSAFE.sub("-", code.upper()).strip("-")
        if not plain[:1].isalpha() or len(plain) < 2 or len(plain) > _LONGEST_COMMODITY:
            plain = f"{plain.partition('-')[0][:8] or 'UNIT'}-{_digest(code).upper()}"
        names[code] = _unlike(plain, code, taken)
    return names


def _unlike(name: str, origin: str, taken: set[str]) -> str:
    """The name, or where another took it the name with a digest of where it comes from."""
    if name in taken:
        name = f"{name[: _LONGEST_COMMODITY - 11] if ':' not in name else name}-{_digest(origin).upper()}"
    taken.add(name)
    return name


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _decimal(amount: int, exponent: int) -> str:
    sign, digits = "-" if amount < 0 else "", str(abs(amount)).rjust(exponent + 1, "0")
    return sign + (f"{digits[:-exponent]}.{digits[-exponent:]}" if exponent else digits)


def _quoted(text: str) -> str:
    """A string on one line: backslashes and quotes escaped, control characters replaced by spaces."""
    plain = _UNPRINTED.sub(" ", text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{plain}"'
