"""What the worker does for officers: it adds up what each day spent, reads the log's new entries by the rules
of alerts, and raises what they find. It goes on from where it was and never reads the log from the start.

An alert is raised once, whoever watches and whenever a process dies: what it took in is noted with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import func, select

from exchange import notifications
from exchange.alerts import kinds, position, queue, rules, spent
from exchange.alerts.rules import Account, Found
from exchange.audit import log
from exchange.audit.entry import Entry, ObjectGroup, PrivacyGroup
from exchange.errors import InProgress
from exchange.identity import SYSTEM, Role, new_id, organisations_of_role
from exchange.operations.receipting import newest_checkpoint
from exchange.operations.terms import budget
from settlement import ledger
from settlement.payments import reconciliation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session

    from exchange.market import Market
    from exchange.store import Tx

READER = "alerts"
_AT_ONCE = 5_000
_BATCHES = 20
_DOMAINS_A_ROUND = 20
_MOST_TOLD = 50


@dataclass(frozen=True)
class RaiseAlert:
    """Tell officers of something that they should look at."""

    about: str
    until_seq: int
    occasion: str
    kind: ClassVar[str] = "alert.raised"
    refused: ClassVar[str] = "alert.kept"

    def entry(self) -> Entry:
        """The audit entry: an alert."""
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="alert"))


def watch(market: Market) -> int:
    """One round: read on, as far as so many batches go; returns how many alerts were raised."""
    raised = 0
    for _ in range(_BATCHES):
        if not _fold(market):
            break
    for _ in range(_BATCHES):
        found, start, stop = market.store.read(lambda session: _of_log(session))
        raised += sum(_raise(market, one) for one in found)
        if start == stop or not _moved(market, start, stop):
            break
    return raised + sum(_raise(market, one) for one in _of_states(market))


def _fold(market: Market) -> bool:
    try:
        return bool(market.store.jot(lambda session, _: spent.fold(session)))
    except InProgress:
        return False  # another worker is at it


def _moved(market: Market, start: int, stop: int) -> bool:
    try:
        market.store.jot(lambda session, _: position.move(session, READER, start, stop))
    except InProgress:
        return False
    return True


def _of_log(session: Session) -> tuple[list[Found], int, int]:
    """What the next entries tell, and which these are: no more than are added up."""
    start = position.of(session, READER)
    stop = max(start, min(start + _AT_ONCE, position.of(session, spent.READER)))
    fresh = rules.entries_between(session, start, stop)
    found = list(rules.of_entries(session, fresh))
    for domain, days in sorted(rules.touched(fresh).items()):
        found += rules.of_domain(session, _account(session, domain), days, stop - 1)
    return [one for one in found if _is_new(session, one)], start, stop


def _of_states(market: Market) -> list[Found]:
    """What no entry tells: what is not published, does not reconcile, does not add up."""
    newest = newest_checkpoint(market)
    published, now = newest.size if newest else 0, market.store.clock()

    def look(session: Session) -> list[Found]:
        found = [
            *_stale_checkpoint(session, published, now),
            *_reconciliation(session),
            *_differing(session, now),
        ]
        return [one for one in found if _is_new(session, one)]

    return market.store.read(look)


def _stale_checkpoint(session: Session, published: int, now: datetime) -> Iterator[Found]:
    kind, columns = kinds.CHECKPOINT_STALE, log.audit_entry.c
    oldest = session.scalar(select(columns.time).where(columns.seq == published))
    waits = 0 if oldest is None else int((now - datetime.fromisoformat(oldest)).total_seconds())
    if waits > kind.most:
        yield Found(kind, "log", waits, published, occasion=f"of {published}")


def _reconciliation(session: Session) -> Iterator[Found]:
    run = reconciliation.latest_run(session)
    if run is not None and not run.clean:
        end = log.size(session) - 1
        yield Found(kinds.RECONCILIATION, "books", len(run.breaks), end, occasion=run.id)


def _differing(session: Session, now: datetime) -> Iterator[Found]:
    """Domains whose account is not what the log's entries spent: some at a time, others the next minute."""
    size = log.size(session)
    if size - position.of(session, spent.READER) > _AT_ONCE:
        return  # not added up yet
    owner = ledger.account.c.owner
    all_of = select(owner).where(ledger.account.c.kind == "domain_granted").distinct()
    count = session.scalar(select(func.count()).select_from(all_of.subquery())) or 0
    pages = max(1, -(-count // _DOMAINS_A_ROUND))
    offset = int(now.timestamp()) // kinds.MINUTE_S % pages * _DOMAINS_A_ROUND
    for domain in session.scalars(all_of.order_by(owner).offset(offset).limit(_DOMAINS_A_ROUND)).all():
        apart = spent.in_all(session, domain) - _account(session, domain).spent
        if apart:
            what, end = kinds.SPENDING_DIFFERS, size - 1
            yield Found(what, domain, abs(apart), end, occasion=f"by {apart}", domain=domain)


def _account(session: Session, domain: str) -> Account:
    told = budget(session, domain)
    return Account(domain, told["rho_nano_granted"], told["rho_nano_spent"])


def _is_new(session: Session, found: Found) -> bool:
    """Whether no alert has taken this in, nor told of its occasion."""
    last = queue.latest(session, found.kind.name, found.subject)
    if last is None:
        return True
    return bool(last.occasion != found.occasion if found.occasion else last.until_seq < found.until_seq)


def _raise(market: Market, found: Found) -> bool:
    """Raise an alert, or count once more on the open one about the same; whether one was raised."""
    due = market.store.jot(lambda session, now: _due(session, found, now))
    if due is None:
        return False
    found = due
    about = queue.about(found.kind.name, found.subject)
    command = RaiseAlert(about, found.until_seq, found.occasion)
    key = f"alert:{about}:{found.until_seq}:{found.occasion}"
    try:
        done = market.store.perform(SYSTEM, command, lambda tx: _raised(tx, found), key=key)
    except InProgress:
        return False  # another worker was first
    return not done.replayed


def _due(session: Session, found: Found, now: datetime) -> Found | None:
    """What is to be raised: this, or where too many of its kind are open that alone. None where it was
    counted on an alert that is open.
    """
    last = queue.latest(session, found.kind.name, found.subject)
    if last is not None and last.state == queue.OPEN:
        queue.found_again(
            session,
            last.id,
            measure=found.measure,
            until_seq=found.until_seq,
            occasion=found.occasion,
            now=now,
        )
        return None
    many = queue.count_open(session, kind=found.kind.name)
    if found.kind is kinds.TOO_MANY or many < queue.MOST_OPEN:
        return found
    beyond = Found(kinds.TOO_MANY, found.kind.name, many, found.until_seq, found.entries)
    return _due(session, beyond, now) if _is_new(session, beyond) else None


def _raised(tx: Tx, found: Found) -> dict[str, Any]:
    last = queue.latest(tx.session, found.kind.name, found.subject)
    if not _is_new(tx.session, found) or (last is not None and last.state == queue.OPEN):
        raise InProgress("another worker raised this alert")
    alert_id, kind = new_id("alr"), found.kind
    queue.add(
        tx.session,
        alert_id,
        kind=kind.name,
        subject=found.subject,
        measure=found.measure,
        most=kind.most,
        until_seq=found.until_seq,
        occasion=found.occasion,
        entries=found.entries,
        now=tx.now,
    )
    about = ObjectGroup(type="alert", id=alert_id, version=kind.name, dataset=found.dataset)
    tx.record(object=about, privacy=PrivacyGroup(domain=found.domain) if found.domain else None)
    for org in organisations_of_role(tx.session, Role.OFFICER, limit=_MOST_TOLD):
        told = {"subject": alert_id, "dataset": found.dataset or "", "text": f"{kind.title}."}
        notifications.notify(tx.session, org, RaiseAlert.kind, now=tx.now, **told)
    return {"alert": alert_id}
