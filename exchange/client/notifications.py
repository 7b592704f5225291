"""What an organisation was told of: requests, decisions, ends, payments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from exchange.client import html

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from exchange.client.connection import Connection


@dataclass(frozen=True)
class Notification:
    """One fact: ``kind`` as in "access.approved", ``subject`` the id it is about, ``text`` a sentence."""

    id: str
    kind: str
    subject: str
    dataset: str
    text: str
    at: str
    read_at: str | None

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Notification:
        """Read a notification."""
        names = ("id", "kind", "subject", "dataset", "text", "at", "read_at")
        return cls(**{name: document[name] for name in names})


class Notifications:
    """The latest notifications, newest first."""

    def __init__(self, items: tuple[Notification, ...], connection: Connection) -> None:
        self._items = items
        self._connection = connection

    @classmethod
    def from_document(cls, document: Mapping[str, Any], connection: Connection) -> Notifications:
        """Read a list of notifications."""
        return cls(tuple(Notification.from_document(one) for one in document["items"]), connection)

    def __iter__(self) -> Iterator[Notification]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def mark_read(self, notification: str | Notification | None = None) -> int:
        """Mark one as read, or all that the exchange has; returns how many were not read before."""
        if notification is None:
            return int(self._connection.post("/v1/notifications/read", {})["read"])
        one = notification if isinstance(notification, str) else notification.id
        return int(self._connection.post(f"/v1/notifications/{one}/read", {})["read"])

    def _repr_html_(self) -> str:
        rows = [(one.at[:16], one.kind, one.text, one.read_at is None) for one in self]
        return html.table(("at", "kind", "what", "unread"), rows, caption="Notifications")
