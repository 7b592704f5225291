"""The review queue: open alerts, who looks at each, notes, and what came of it. Officers and operators read;
officers decide, each by an entry of the log.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from exchange import identity
from exchange.alerts import queue
from exchange.alerts.kinds import KINDS
from exchange.audit.entry import Entry, ObjectGroup
from exchange.errors import RequestInvalid
from exchange.identity import Role
from exchange.operations.auditing import note_reading
from exchange.operations.terms import NANO, decimal_text
from exchange.persons.accounts import names_of
from exchange.store import our_id

if TYPE_CHECKING:
    from sqlalchemy import Row
    from sqlalchemy.orm import Session

    from exchange.identity import Actor
    from exchange.market import Market
    from exchange.store import Outcome, Tx

LONGEST_NOTE = 2_000
_RESOLVED = {queue.ACTED: "alert.acted_on", queue.FALSE_ALARM: "alert.dismissed"}


@dataclass(frozen=True)
class _OfAlert:
    """A command about one alert."""

    alert: str
    kind: ClassVar[str]
    refused: ClassVar[str] = "alert.refused"

    def entry(self) -> Entry:
        """The audit entry: the alert. What a note says stands beside the log."""
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="alert", id=our_id(self.alert)))


@dataclass(frozen=True)
class AssignAlert(_OfAlert):
    """Take an alert upon oneself."""

    kind: ClassVar[str] = "alert.assigned"


@dataclass(frozen=True)
class NoteAlert(_OfAlert):
    """Write a note on an alert."""

    text: str
    kind: ClassVar[str] = "alert.noted"


@dataclass(frozen=True)
class ResolveAlert(_OfAlert):
    """Resolve an alert: it was acted on, or it was a false alarm."""

    state: str
    text: str
    kind: ClassVar[str] = "alert.resolved"


def alerts(
    market: Market,
    actor: Actor,
    *,
    state: str | None = None,
    kind: str | None = None,
    limit: int = 50,
    page_token: str | None = None,
) -> dict[str, Any]:
    """Alerts, newest first, of a state (open, acted, false_alarm) and kind if given; reading is an entry.

    Raises RequestInvalid for a state, kind or page token that there is not.
    """
    note_reading(market, actor, "alerts", state or "")
    if state not in (None, *queue.STATES):
        raise RequestInvalid(f"state must be one of {', '.join(queue.STATES)}")
    if kind not in (None, *KINDS):
        raise RequestInvalid("there is no such kind of alert", hint=f"Kinds: {', '.join(KINDS)}.")
    before = _place(page_token)

    def look(session: Session) -> dict[str, Any]:
        rows = queue.page(session, state=state, kind=kind, limit=limit + 1, before=before)
        names = _Names(session)
        last = rows[limit - 1] if len(rows) > limit else None
        return {
            "items": [_told(row, names) for row in rows[:limit]],
            "open": queue.count_open(session),
            "next_page_token": f"{last.raised_at}_{last.id}" if last is not None else None,
        }

    return market.store.read(look)


def alert(market: Market, actor: Actor, alert_id: str) -> dict[str, Any]:
    """One alert with its notes and some of the entries that it was raised for. Raises NotFound."""
    note_reading(market, actor, "alert", alert_id)
    return market.store.read(lambda session: _whole(session, alert_id))


def assign(market: Market, actor: Actor, alert_id: str, *, key: str | None = None) -> dict[str, Any]:
    """Take an open alert upon oneself, also from another officer. Raises NotFound, AlertResolved."""

    def work(tx: Tx) -> dict[str, Any]:
        tx.actor.require(Role.OFFICER)
        queue.assign(tx.session, alert_id, tx.actor.ref, tx.now)
        return {}

    return _after(market, alert_id, market.store.perform(actor, AssignAlert(alert_id), work, key=key))


def note(market: Market, actor: Actor, alert_id: str, text: str, *, key: str | None = None) -> dict[str, Any]:
    """Write a note, at most 2,000 characters, also on one that is resolved. Raises NotFound."""

    def work(tx: Tx) -> dict[str, Any]:
        tx.actor.require(Role.OFFICER)
        queue.note(tx.session, alert_id, tx.actor.ref, _note(text), tx.now)
        return {}

    return _after(market, alert_id, market.store.perform(actor, NoteAlert(alert_id, text), work, key=key))


def resolve(
    market: Market, actor: Actor, alert_id: str, state: str, *, text: str = "", key: str | None = None
) -> dict[str, Any]:
    """Resolve an open alert as ``acted`` or ``false_alarm``, with a note if ``text`` is given.

    Raises NotFound, AlertResolved, RequestInvalid.
    """

    def work(tx: Tx) -> dict[str, Any]:
        tx.actor.require(Role.OFFICER)
        if state not in _RESOLVED:
            raise RequestInvalid(f"an alert is resolved as {' or '.join(_RESOLVED)}")
        if text.strip():
            queue.note(tx.session, alert_id, tx.actor.ref, _note(text), tx.now)
        queue.resolve(tx.session, alert_id, state, tx.actor.ref, tx.now)
        tx.record(kind=_RESOLVED[state])
        return {}

    command = ResolveAlert(alert_id, state, text)
    return _after(market, alert_id, market.store.perform(actor, command, work, key=key))


def _after(market: Market, alert_id: str, _done: Outcome) -> dict[str, Any]:
    """The alert as it is now: no outcome that is kept for repeats holds a note or a name."""
    return market.store.read(lambda session: _whole(session, alert_id))


class _Names:
    """Names of organisations, and of those who act: a person's, else the id of a token."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._orgs = identity.organisation_names(session)

    def subject(self, row: Row[Any]) -> str:
        """Whom an alert is about, with an organisation's name in place of its id."""
        head, space, rest = str(row.subject).partition(" ")
        return self._orgs.get(head, head) + space + rest

    def actor(self, ref: str | None) -> str | None:
        """Who acted."""
        return None if ref is None else names_of(self._session, [ref]).get(ref, ref)


def _whole(session: Session, alert_id: str) -> dict[str, Any]:
    row, names = queue.find(session, alert_id), _Names(session)
    notes = [{"at": n.at, "by": names.actor(n.by), "text": n.text} for n in queue.notes(session, alert_id)]
    return {**_told(row, names), "notes": notes}


def _told(row: Row[Any], names: _Names) -> dict[str, Any]:
    kind = KINDS[row.kind]
    measure = decimal_text(row.measure, NANO) if kind.unit == "rho" else str(row.measure)
    unit = {"percent": " %", "days": " days"}.get(kind.unit, "")
    return {
        "alert": row.id,
        "kind": row.kind,
        "title": kind.title,
        "subject": names.subject(row),
        "text": kind.text.format(measure=f"{measure}{unit}", most=row.most),
        "step": kind.step,
        "measure": row.measure,
        "most": row.most,
        "unit": kind.unit,
        "times": row.times,
        "raised_at": row.raised_at,
        "last_at": row.last_at,
        "state": row.state,
        "assignee": names.actor(row.assignee),
        "assigned_at": row.assigned_at,
        "resolved_by": names.actor(row.resolved_by),
        "resolved_at": row.resolved_at,
        "entries": json.loads(row.entries),
    }


def _note(text: str) -> str:
    text = text.strip()
    if not text or len(text) > LONGEST_NOTE:
        raise RequestInvalid(f"a note has 1 to {LONGEST_NOTE:,} characters")
    return text


def _place(token: str | None) -> tuple[str, str] | None:
    """Where a page begins. Raises RequestInvalid for a token that no page gave."""
    if token is None:
        return None
    at, _, alert_id = token.partition("_")
    if our_id(alert_id) is None or len(at) != 32:
        raise RequestInvalid("the page token was not given by this list")
    return at, alert_id
