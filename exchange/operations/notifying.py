"""What an organisation is told of: listed, and marked as read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from exchange import notifications as table
from exchange.audit.entry import Entry, ObjectGroup
from exchange.identity import Role

if TYPE_CHECKING:
    from exchange.identity import Actor
    from exchange.market import Market
    from exchange.store import Tx


@dataclass(frozen=True)
class MarkRead:
    """Mark one notification, or all of the organisation's, as read."""

    notification: str
    kind: ClassVar[str] = "notifications.read"
    refused: ClassVar[str] = "notifications.refused"

    def entry(self) -> Entry:
        """The audit entry: the notification, or none in particular."""
        about = ObjectGroup(type="notification", id=self.notification[:64] or None)
        return Entry(kind=self.kind, outcome="done", object=about)


def notifications(market: Market, actor: Actor, *, unread: bool) -> dict[str, Any]:
    """The organisation's latest notifications, newest first."""
    actor.require(Role.BUYER, Role.PROVIDER, Role.OFFICER)
    rows = market.store.read(lambda session: table.of_organisation(session, actor.org, unread=unread))
    names = ("id", "kind", "subject", "dataset", "text", "at", "read_at")
    return {"items": [{name: getattr(row, name) for name in names} for row in rows]}


def mark_read(market: Market, actor: Actor, notification: str | None, *, key: str | None) -> dict[str, Any]:
    """Mark one notification, or all, as read. Raises NotFound."""

    def work(tx: Tx) -> dict[str, Any]:
        actor.require(Role.BUYER, Role.PROVIDER, Role.OFFICER)
        return {"read": table.mark_read(tx.session, actor.org, notification, tx.now)}

    return market.store.perform(actor, MarkRead(notification or ""), work, key=key).value
