"""How an entry is written once nothing refuses it: its head, its accounts' counters, its transfers.

SQLite takes three statements. PostgreSQL takes them as one, since what an entry costs there is the way to the
server and back; both ask the floors once more, and the business key and the reserved legs for the first time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import ARRAY, BigInteger, String, Update, bindparam, not_, or_, text, update

from settlement.ledger.tables import COUNTERS, account, transfer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection

_HEAD = ("id", "kind", "business_key", "effective_at", "recorded_at", "actor", "reverses")
_TRANSFER = ("id", "leg", "unit", "debit", "credit", "amount", "phase", "pending_id")


def write(
    connection: Connection,
    head: Mapping[str, str | None],
    changes: Mapping[str, Mapping[str, int]],
    transfers: Sequence[Mapping[str, str | int | None]],
) -> bool:
    """Write an entry whose accounts are locked: its columns, account -> counter -> change, its legs' rows.

    False, and nothing was changed, where another entry has the business key, or resolved one of the legs.
    """
    if connection.dialect.name == "sqlite":
        new, changed = _in_three(connection, head, changes, transfers)
    else:
        new, changed = _in_one(connection, head, changes, transfers)
    if new and changed != len(changes):
        raise AssertionError("an account refused a change that it covers: the transaction does not lock")
    return bool(new)


def _in_three(
    connection: Connection,
    head: Mapping[str, str | None],
    changes: Mapping[str, Mapping[str, int]],
    transfers: Sequence[Mapping[str, str | int | None]],
) -> tuple[int, int]:
    """How many heads were new, and how many accounts were changed."""
    counted = {"preserve_rowcount": True}
    resolving = {"resolving": [row["pending_id"] for row in transfers if row["pending_id"]]}
    if not connection.execute(_NEW_HEAD, {**head, **resolving}, execution_options=counted).rowcount:
        return 0, 0
    rows = [{"account_id": id_, **changes[id_]} for id_ in sorted(changes)]
    changed = connection.execute(_ADMIT, rows, execution_options=counted).rowcount
    connection.execute(_TRANSFERS, [dict(row) for row in transfers])
    return 1, changed


def _in_one(
    connection: Connection,
    head: Mapping[str, str | None],
    changes: Mapping[str, Mapping[str, int]],
    transfers: Sequence[Mapping[str, str | int | None]],
) -> tuple[int, int]:
    """The same; the lists of a column each are tables to PostgreSQL."""
    accounts = sorted(changes)
    lists: dict[str, object] = {"accounts": accounts}
    lists |= {name: [changes[id_][name] for id_ in accounts] for name in COUNTERS}
    lists |= {f"transfer_{name}": [row[name] for row in transfers] for name in _TRANSFER}
    new, changed = connection.execute(_ENTRY, {**head, **lists}).one()
    return new, changed


# Two entries over different accounts may race for one key, past every look-up: the constraint decides. Two
# that resolve one leg have its accounts in common: who came second sees here what the first did.
_INSERT_HEAD = f"""
    INSERT INTO journal ({", ".join(_HEAD)}) SELECT {", ".join(f":{name}" for name in _HEAD)}
    WHERE NOT EXISTS (SELECT 1 FROM transfer WHERE pending_id {{}}) ON CONFLICT (business_key) DO NOTHING
    """  # noqa: S608
_NEW_HEAD = text(_INSERT_HEAD.format("IN :resolving")).bindparams(bindparam("resolving", expanding=True))
_TRANSFERS = transfer.insert()


def _admit() -> Update:
    """Change one account's counters unless that takes a floor account below zero: it then changes no row."""
    after = {name: account.c[name] + bindparam(name, type_=BigInteger) for name in COUNTERS}
    covered = after["credits_posted"] - after["debits_posted"] - after["debits_pending"] >= 0
    admitted = or_(not_(account.c.floor), covered)
    return update(account).where(account.c.id == bindparam("account_id"), admitted).values(after)


_ADMIT = _admit()

# Parts that change something see the same state of the tables, and run whole whatever reads them; foreign
# keys are checked when all are done. What has no new head changes nothing.
_ENTRY = (
    text(
        f"""
    WITH head AS (
        {_INSERT_HEAD.format("= ANY (:transfer_pending_id)")} RETURNING id
    ), changed AS (
        UPDATE account SET {", ".join(f"{name} = account.{name} + step.{name}" for name in COUNTERS)}
        FROM head, unnest(:accounts, {", ".join(f":{name}" for name in COUNTERS)})
            AS step (id, {", ".join(COUNTERS)})
        WHERE account.id = step.id AND (NOT account.floor OR
            account.credits_posted + step.credits_posted - account.debits_posted - step.debits_posted
                - account.debits_pending - step.debits_pending >= 0)
        RETURNING account.id
    ), moved AS (
        INSERT INTO transfer (journal, {", ".join(_TRANSFER)})
        SELECT head.id, one.* FROM head, unnest({", ".join(f":transfer_{name}" for name in _TRANSFER)}) AS one
    )
    SELECT (SELECT count(*) FROM head) AS new, (SELECT count(*) FROM changed) AS changed
    """  # noqa: S608
    )
    .bindparams(
        bindparam("accounts", type_=ARRAY(String)),
        *(bindparam(name, type_=ARRAY(BigInteger)) for name in COUNTERS),
        *(
            bindparam(f"transfer_{name}", type_=ARRAY(BigInteger if name in ("leg", "amount") else String))
            for name in _TRANSFER
        ),
    )
    .columns(new=BigInteger, changed=BigInteger)
)  # told, so that they are not looked up at every entry
