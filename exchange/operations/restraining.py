"""What officers stop and keep: freezes end what runs and refuse what comes, holds keep what would expire.

One officer sets them, at once. To lift one takes an approval, and so two persons.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from exchange import authorizations, queries, restraints
from exchange.approvals import Wanted
from exchange.audit.entry import Entry, ObjectGroup, ResultGroup
from exchange.errors import ApprovalClosed, MarketError, NotFound, RequestInvalid, RoleMissing
from exchange.identity import SYSTEM, Role, is_buyer, new_id
from exchange.operations import approving, auditing, running
from exchange.restraints import FREEZE, HOLD, SUBJECTS
from settlement.errors import SettlementError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Row
    from sqlalchemy.orm import Session

    from exchange.identity import Actor
    from exchange.market import Market
    from exchange.store import Tx

_PREFIX = {FREEZE: "frz", HOLD: "hld"}


@dataclass(frozen=True)
class SetFreeze:
    """Freeze what has this name or id; why stands beside the log."""

    subject_type: str
    subject: str
    reason: str
    kind: ClassVar[str] = "freeze.set"
    refused: ClassVar[str] = "freeze.refused"

    def entry(self) -> Entry:
        """The audit entry: a freeze, by id once it has one, and the dataset that it is of."""
        named = self.subject[:200] if self.subject_type == "dataset" else None
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type=FREEZE, dataset=named))


@dataclass(frozen=True)
class SetHold(SetFreeze):
    """Put a legal hold on what has this name or id."""

    kind: ClassVar[str] = "hold.set"
    refused: ClassVar[str] = "hold.refused"

    def entry(self) -> Entry:
        """The audit entry: a hold, by id once it has one. What it is of is told to officers alone."""
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type=HOLD))


@dataclass(frozen=True)
class AskToLift:
    """Ask for the approval to lift a freeze or a hold."""

    restraint: str
    id: str
    kind: ClassVar[str] = "approval.requested"
    refused: ClassVar[str] = "approval.refused"

    def entry(self) -> Entry:
        """The audit entry: the freeze or hold."""
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type=self.restraint, id=self.id[:64]))


def subject_given(kind: str, given: Mapping[str, Any]) -> tuple[str, str]:
    """What a request names as the one subject of a freeze or hold. Raises RequestInvalid."""
    named = [(name, str(given[name]).strip()) for name in SUBJECTS[kind] if given.get(name)]
    if len(named) != 1 or not named[0][1]:
        raise RequestInvalid(f"give exactly one of {', '.join(SUBJECTS[kind])}")
    return named[0]


def impose(
    market: Market, actor: Actor, kind: str, subject: tuple[str, str], reason: str, *, key: str | None = None
) -> dict[str, Any]:
    """Put a freeze or a legal hold in force; one that is in force on the subject is returned as it is. What a
    repeated key set may have been lifted since: it is returned, and ends nothing.

    A freeze then ends every query of its subject: what was not started is voided, the rest is forfeited -
    money returned, privacy loss kept - as when a buyer cancels.
    """
    subject_type, named = subject
    command = (SetFreeze if kind == FREEZE else SetHold)(subject_type, named, reason)

    def work(tx: Tx) -> dict[str, Any]:
        actor.require(Role.OFFICER)
        _check_reason(reason)
        subject_id, name = _subject(tx.session, kind, subject_type, named)
        row = restraints.in_force(tx.session, kind=kind, subject_type=subject_type, subject=subject_id)
        if row is not None:
            tx.record(kind=f"{kind}.confirmed")
        else:
            row = restraints.impose(
                tx.session,
                id=new_id(_PREFIX[kind]),
                kind=kind,
                subject_type=subject_type,
                subject=subject_id,
                name=name,
                reason=reason,
                by=_who(tx.session, actor),
                entry=str(tx.entry.id),
                now=tx.now,
            )
        tx.record(object=_about(row), result=ResultGroup(sha256=row.digest))
        return {kind: row.id}

    made = market.store.perform(actor, command, work, key=key).value
    if kind == FREEZE:
        end_frozen(market, actor, market.store.read(lambda session: _open_under(session, made[kind])))
    return market.store.read(lambda session: _document(session, market, kind, made[kind]))


def _open_under(session: Session, freeze: str) -> Sequence[Row[Any]]:
    row = restraints.find(session, freeze, kind=FREEZE)
    return [] if row.lifted_at is not None else restraints.open_under(session, row)


def end_frozen(market: Market, actor: Actor, rows: Sequence[Row[Any]]) -> dict[str, int]:
    """End these queries, whose subject is frozen; returns how many were voided and forfeited."""
    done = {"voided": 0, "forfeited": 0}
    for row in rows:
        with contextlib.suppress(MarketError, SettlementError):  # another process was first: it is logged
            left = running.stop(market, actor, row.id, org=None, code=queries.FROZEN)
            if left is not None:
                done["voided" if left == queries.RESERVED else "forfeited"] += 1
    return done


def sweep(market: Market) -> dict[str, int]:
    """End what a process that died after its freeze left open."""
    return end_frozen(market, SYSTEM, market.store.read(restraints.frozen_and_open))


def ask_to_lift(
    market: Market, actor: Actor, kind: str, restraint_id: str, reason: str, *, key: str | None = None
) -> dict[str, Any]:
    """Ask for the approval to lift a freeze or a hold; another person gives it. Raises NotFound."""
    with market.store.refusing(actor, AskToLift(kind, restraint_id)):
        actor.require(Role.OFFICER)
        _check_reason(reason)
        row = market.store.read(lambda session: restraints.find(session, restraint_id, kind=kind))
        _require_in_force(row)
    wanted = Wanted(f"{kind}.lift", {kind: restraint_id})
    return approving.request(market, actor, wanted, reason=reason, key=key)


def lift_freeze(tx: Tx, parameters: Mapping[str, Any], approval: str) -> None:
    """Lift a freeze in the transaction that approves it."""
    _lift(tx, FREEZE, parameters[FREEZE], approval)


def lift_hold(tx: Tx, parameters: Mapping[str, Any], approval: str) -> None:
    """Lift a legal hold in the transaction that approves it."""
    _lift(tx, HOLD, parameters[HOLD], approval)


def listed(market: Market, actor: Actor, kind: str) -> dict[str, Any]:
    """Freezes or holds, those in force first. Officers and operators only; logged."""
    auditing.note_reading(market, actor, f"{kind}s", "")

    def look(session: Session) -> dict[str, Any]:
        return {
            "items": [_told(session, market, row) for row in restraints.listed(session, kind=kind)],
        }

    return market.store.read(look)


def show(market: Market, actor: Actor, kind: str, restraint_id: str) -> dict[str, Any]:
    """One freeze or hold, with its reason. Officers and operators only; logged."""
    auditing.note_reading(market, actor, kind, restraint_id)
    return market.store.read(lambda session: _document(session, market, kind, restraint_id))


def _who(session: Session, actor: Actor) -> str:
    """The person who sets it, or the token where nobody knows who made that: stopping waits for nothing."""
    try:
        return authorizations.subject_of(session, actor.ref)
    except RoleMissing:
        return actor.ref


def _check_reason(reason: str) -> None:
    if not (reason.strip() and len(reason) <= approving.LONGEST_REASON and reason.isprintable()):
        raise RequestInvalid(
            f"a reason of 1 to {approving.LONGEST_REASON} printable characters is needed: officers read it"
        )


def _subject(session: Session, kind: str, subject_type: str, named: str) -> tuple[str, str]:
    """The id and name of what is to be frozen or held. Raises NotFound, RequestInvalid."""
    found = restraints.subject_named(session, subject_type, named)
    if found is None:
        raise NotFound(f"there is no such {subject_type}")
    if kind == FREEZE and subject_type == "organisation" and not is_buyer(session, found[0]):
        raise RequestInvalid(
            "a freeze of an organisation stops a buyer, and this is none", hint="Freeze its datasets instead."
        )
    return found


def _lift(tx: Tx, kind: str, restraint_id: str, approval: str) -> None:
    row = restraints.find(tx.session, restraint_id, kind=kind)
    _require_in_force(row)
    entry = tx.also(f"{kind}.lifted", object=_about(row), result=ResultGroup(sha256=row.digest))
    by = authorizations.subject_of(tx.session, tx.actor.ref)
    restraints.lift(tx.session, row, by=by, approval=approval, entry=entry, now=tx.now)


def _require_in_force(row: Row[Any]) -> None:
    if row.lifted_at is not None:
        raise ApprovalClosed(f"the {row.kind} was lifted already")


def _about(row: Row[Any]) -> ObjectGroup:
    """The freeze or hold as the log names it: itself; a freeze also what it is of, a dataset by its name.

    What a hold is of is told to officers alone: the log is public.
    """
    if row.kind == HOLD:
        return ObjectGroup(type=HOLD, id=row.id)
    named = row.name if row.subject_type == "dataset" else None
    return ObjectGroup(type=row.kind, id=row.id, version=row.subject, dataset=named)


def _document(session: Session, market: Market, kind: str, restraint_id: str) -> dict[str, Any]:
    return _told(session, market, restraints.find(session, restraint_id, kind=kind))


def _told(session: Session, market: Market, row: Row[Any]) -> dict[str, Any]:
    """A freeze or hold as officers see it, with how many queries it ended, or answers it keeps."""
    told = {
        row.kind: row.id,
        "subject": {"type": row.subject_type, "id": row.subject, "name": row.name},
        "state": "lifted" if row.lifted_at else "in force",
        "reason": row.reason,
        "set_by": row.set_by,
        "set_at": row.set_at,
        "lifted_by": row.lifted_by,
        "lifted_at": row.lifted_at,
        "approval": row.approval,
    }
    if row.kind == FREEZE:
        return told | {"queries_ended": restraints.stopped_by(session, row)}
    if row.lifted_at is not None:
        return told | {"answers_kept": 0}
    due = market.store.clock() - timedelta(days=market.settings.answer_days)
    return told | {"answers_kept": restraints.kept_by(session, row, due_before=due)}
