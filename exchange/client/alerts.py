"""The officer's review queue, and searches of the log that are kept under a name."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from exchange.client import html
from exchange.client.connection import Connection, read

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_PAGE = 50


@dataclass(frozen=True)
class Note:
    """What an officer wrote on an alert."""

    at: str
    by: str
    text: str


@dataclass(frozen=True)
class Alert:
    """Something that an officer should look at. ``state`` is open, acted or false_alarm.

    ``text`` says what was found, ``step`` what to do next; ``entries`` are ids of entries that it is about.
    """

    id: str
    kind: str
    title: str
    subject: str
    text: str
    step: str
    state: str
    times: int
    raised_at: str
    assignee: str | None
    entries: tuple[str, ...] = field(repr=False)
    notes: tuple[Note, ...] = field(repr=False)
    document: dict[str, Any] = field(repr=False)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Alert:
        """Read an alert; one of a list has no notes."""
        names = ("kind", "title", "subject", "text", "step", "state", "times", "raised_at", "assignee")
        return cls(
            id=document["alert"],
            entries=tuple(document["entries"]),
            notes=tuple(Note(n["at"], n["by"], n["text"]) for n in document.get("notes", ())),
            document=dict(document),
            **{name: document[name] for name in names},
        )

    def _repr_html_(self) -> str:
        rows = [(n.at[:16], n.by, n.text) for n in self.notes]
        return html.table(("at", "by", "note"), rows, caption=f"{self.title}: {self.text}")


class Alerts:
    """``x.alerts``: needs a token of the role officer; operators read."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __repr__(self) -> str:
        return f"Alerts({self._connection.url!r})"

    def list(
        self, *, state: str | None = "open", kind: str | None = None, limit: int | None = None
    ) -> Iterator[Alert]:
        """Alerts of a state (None: of all), newest first, page by page. Reading is itself an entry."""
        return islice(self._pages(state, kind, limit), limit)

    def get(self, alert: str) -> Alert:
        """One alert with its notes."""
        return read(Alert.from_document, self._connection.get(f"/v1/alerts/{alert}"))

    def assign(self, alert: str) -> Alert:
        """Take an open alert upon oneself."""
        return self._post(alert, "assign", {})

    def note(self, alert: str, text: str) -> Alert:
        """Write a note, at most 2,000 characters."""
        return self._post(alert, "notes", {"text": text})

    def resolve(self, alert: str, state: str, *, note: str = "") -> Alert:
        """Resolve an open alert as "acted" or "false_alarm". Raises ``Conflict`` where somebody did."""
        return self._post(alert, "resolve", {"state": state, **({"note": note} if note else {})})

    def _post(self, alert: str, verb: str, body: dict[str, Any]) -> Alert:
        return read(Alert.from_document, self._connection.post(f"/v1/alerts/{alert}/{verb}", body))

    def _pages(self, state: str | None, kind: str | None, limit: int | None) -> Iterator[Alert]:
        token: str | None = None
        size = min(_PAGE, limit) if limit else _PAGE
        while True:
            asked = {"state": state, "kind": kind, "limit": size, "page_token": token}
            page = self._connection.get("/v1/alerts", **asked)
            yield from (read(Alert.from_document, item) for item in page["items"])
            token = page.get("next_page_token")
            if not token:
                return


@dataclass(frozen=True)
class SavedSearch:
    """Filters of the log's search under a name; ``x.audit.search(**saved.filters)`` runs it."""

    id: str
    name: str
    filters: dict[str, str]
    created_at: str

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> SavedSearch:
        """Read a saved search."""
        filters = {str(name): str(value) for name, value in document["filters"].items()}
        return cls(document["search"], document["name"], filters, document["created_at"])


class SavedSearches:
    """``x.searches``: one's own, at most 50."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __repr__(self) -> str:
        return f"SavedSearches({self._connection.url!r})"

    def __iter__(self) -> Iterator[SavedSearch]:
        found = self._connection.get("/v1/audit/searches")["items"]
        return iter([read(SavedSearch.from_document, item) for item in found])

    def save(self, name: str, **filters: str) -> SavedSearch:
        """Save filters of ``x.audit.search`` under a name."""
        made = self._connection.post("/v1/audit/searches", {"name": name, "filters": filters})
        return read(SavedSearch.from_document, made)

    def rename(self, search: str, name: str) -> SavedSearch:
        """Give one another name."""
        made = self._connection.post(f"/v1/audit/searches/{search}/rename", {"name": name})
        return read(SavedSearch.from_document, made)

    def delete(self, search: str) -> None:
        """Delete one."""
        self._connection.delete(f"/v1/audit/searches/{search}")
