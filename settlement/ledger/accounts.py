"""Opening units and accounts, and reading one account's balance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Row, Table, bindparam, select

from settlement.errors import AccountUnknown
from settlement.ledger.tables import UnitKind, account
from settlement.ledger.tables import unit as unit_table
from settlement.schema import insert_once

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.orm import Session


@dataclass(frozen=True, slots=True)
class Balance:
    """One account's balance in its unit's smallest step; credits count positive.

    ``posted`` is final, ``pending_out`` is held by reservations, ``pending_in`` may still arrive, and
    ``available = posted - pending_out`` is what a floor account may still take.
    """

    posted: int
    pending_out: int
    pending_in: int
    available: int


def ensure_unit(session: Session, code: str, kind: UnitKind, exponent: int) -> None:
    """Keep a unit, once. AccountUnknown when it is kept already with another kind or exponent."""
    _ensure(session, unit_table, "code", {"code": code, "kind": kind, "exponent": exponent})


def ensure_account(session: Session, id: str, unit: str, *, owner: str, kind: str, floor: bool) -> None:  # noqa: A002
    """Open an account, once; ``floor`` forbids that its available balance falls below zero.

    AccountUnknown when it stands already with another unit, owner, kind or floor, or its unit is not kept.
    """
    if session.scalar(select(unit_table.c.code).where(unit_table.c.code == unit)) is None:
        raise AccountUnknown(f"Account {id} cannot be opened: the ledger keeps no unit {unit}.")
    _ensure(session, account, "id", {"id": id, "unit": unit, "owner": owner, "kind": kind, "floor": floor})


def balance(session: Session, account_id: str, unit: str) -> Balance:
    """The account's cached balance. AccountUnknown for no such account, or one of another unit."""
    (found,) = balances(session, (account_id, unit))
    return found


def balances(session: Session, *accounts: tuple[str, str]) -> tuple[Balance, ...]:
    """The cached balances of (account, unit), in their order, in one statement. Raises as :func:`balance`."""
    rows = {
        (row.id, row.unit): row for row in session.execute(_THESE, {"these": [id_ for id_, _ in accounts]})
    }
    for id_, unit in accounts:
        if (id_, unit) not in rows:
            raise AccountUnknown(f"There is no account {id_} in {unit}.")
    return tuple(_balance(rows[one]) for one in accounts)


def balances_of_owners(
    session: Session, owners: Iterable[str], kind: str
) -> dict[tuple[str, str], list[Balance]]:
    """The cached balances of the owners' accounts of a kind, by (owner, unit), in one statement."""
    found: dict[tuple[str, str], list[Balance]] = {}
    for row in session.execute(_OF_OWNERS, {"owners": list(owners), "kind": kind}):
        found.setdefault((row.owner, row.unit), []).append(_balance(row))
    return found


_THESE = select(account).where(account.c.id.in_(bindparam("these", expanding=True)))
_OF_OWNERS = select(account).where(
    account.c.owner.in_(bindparam("owners", expanding=True)), account.c.kind == bindparam("kind")
)


def _balance(row: Row[Any]) -> Balance:
    posted = row.credits_posted - row.debits_posted
    return Balance(posted, row.debits_pending, row.credits_pending, posted - row.debits_pending)


def _ensure(session: Session, table: Table, key: str, values: dict[str, Any]) -> None:
    session.execute(insert_once(session, table).values(values).on_conflict_do_nothing(index_elements=[key]))
    columns = [table.c[name] for name in values]
    kept = session.execute(select(*columns).where(table.c[key] == values[key])).one()._asdict()
    different = [name for name, value in values.items() if kept[name] != value]
    if different:
        raise AccountUnknown(
            f"{table.name} {values[key]} stands already with another {' and '.join(different)}."
        )
