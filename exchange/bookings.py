"""What a command booked, as the log names it: every journal, with the digest of what it holds."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from exchange.audit.entry import Entry, MoneyGroup, ObjectGroup
from exchange.identity import new_id
from settlement import ledger

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

#: An entry that says nothing but that its journal was booked, by the command whose entry stands before it.
BOOKED = "journal.booked"


def named(session: Session, entry: Entry) -> tuple[Entry, list[Entry]]:
    """The entry of a command whose work is done, and the entries that follow it in the same transaction.

    A command's entry names the one journal of its fact: the one that it told, or the only one that it booked.
    Every other journal is named by an entry of its own, in the order of booking. Digests are added here.
    """
    booked, money = ledger.recorded(session), entry.money or MoneyGroup()
    told = money.get("journal")
    if told is None and len(booked) == 1:
        (told,) = booked
    if told is not None:
        digest = booked.pop(told, None) or ledger.journal_digest(session, told)
        entry = dataclasses.replace(entry, money={**money, "journal": told, "journal_sha256": digest})
    return entry, [_booked(journal, digest) for journal, digest in booked.items()]


def _booked(journal: str, digest: str) -> Entry:
    return Entry(
        id=new_id("evt"),
        kind=BOOKED,
        outcome="done",
        object=ObjectGroup(type="journal", id=journal),
        money=MoneyGroup(journal=journal, journal_sha256=digest),
    )
