"""Queries of this organisation: how far they are, waiting for them, cancelling them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from exchange.client import html
from exchange.client.answers import Answer, fetch
from exchange.client.connection import Connection, new_key, read
from exchange.client.errors import AnswerExpired, ExchangeError, QueryCancelled
from exchange.client.price import NANO, Price
from exchange.client.progress import meter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exchange.client.progress import Progress

_OPEN = frozenset({"queued", "running"})
_FIRST_POLL_S, _LONGEST_POLL_S = 0.25, 2.0
_LATE_S = 60


class StillRunning(ExchangeError, TimeoutError):
    """The query has not ended within the time that ``wait`` was given; it goes on."""

    codes = ("query_running",)
    hint = "Wait again with `job.wait()`, or end it with `job.cancel()`."


@dataclass(frozen=True)
class JobProgress:
    """How far a query is: its state, and that ``elapsed_s`` of at most ``limit_s`` seconds have passed.

    The limit depends on settings and plan. How much of the work is done is not told: that tells of the data.
    """

    state: str
    elapsed_s: int
    limit_s: int | None

    @property
    def share(self) -> float:
        """How much of the time that it may take has passed, from 0 to 1."""
        return min(1.0, self.elapsed_s / self.limit_s) if self.limit_s else 1.0


class Job:
    """One query of this organisation, as it was when it was last looked at.

    ``state`` is "queued", "running", "succeeded", "failed", "cancelled", or "expired": given up before it
    began (then ``failure`` says why), or answered and no longer kept.
    """

    def __init__(
        self,
        document: Mapping[str, Any],
        connection: Connection,
        *,
        asked: Mapping[str, Any] | None = None,
        key: str | None = None,
        answer: Answer | None = None,
    ) -> None:
        self._connection = connection
        self._asked, self._key, self._answer = asked, key, answer
        self._read(document)

    @classmethod
    def from_document(cls, document: Mapping[str, Any], connection: Connection) -> Job:
        """Read a query of the list of queries."""
        return cls(document, connection)

    def _read(self, document: Mapping[str, Any]) -> None:
        charge = document.get("charge")
        self.id = str(document["query"])
        self.state = str(document["state"])
        self.dataset = str(document.get("slug") or document.get("dataset") or "")
        self.asked_at = str(document.get("asked_at") or "")
        self.ended_at: str | None = document.get("ended_at")
        self.kept_until: str | None = document.get("kept_until")
        self.failure: str | None = document.get("failure")
        self.sql = str(document.get("sql") or "")
        self.rho_nano = int(document.get("rho_nano") or 0)
        self.charge = Price.from_document(charge) if charge else None
        limit = document.get("limit_s")
        elapsed = int(document.get("elapsed_s") or 0)
        self.progress = JobProgress(self.state, elapsed, None if limit is None else int(limit))

    def __repr__(self) -> str:
        return f"Job({self.id!r}, state={self.state!r})"

    @property
    def rho(self) -> Decimal:
        """What it cost the privacy budget."""
        return Decimal(self.rho_nano) / NANO

    @property
    def open(self) -> bool:
        """Whether it has not ended."""
        return self.state in _OPEN

    def refresh(self) -> Job:
        """Look again; returns itself."""
        read(self._read, self._connection.get(f"/v1/queries/{self.id}"))
        return self

    def cancel(self) -> Job:
        """End it, and look again: nothing is charged, but the privacy of data that was read already.

        One that has ended stays as it is: see ``state``.
        """
        read(self._read, self._connection.delete(f"/v1/queries/{self.id}"))
        return self

    def wait(self, *, timeout_s: float | None = None, progress: Progress = "auto") -> Answer:
        """Wait for the answer. ``progress`` shows a bar on a terminal or in a notebook.

        Raises ``QueryFailed``, ``QueryCancelled`` or ``AnswerExpired`` where there is none, and
        :class:`StillRunning` (a ``TimeoutError``) after ``timeout_s`` seconds.
        """
        if self.open:
            self._await(timeout_s, progress)
        return self.answer()

    def answer(self) -> Answer:
        """The answer, free of charge. Raises ``QueryFailed`` where there is none (yet)."""
        if self._answer is None and not self.open and self._asked is not None:
            # The same call under the same key: the reply that it would have had.
            document = self._connection.post("/v1/queries", self._asked, key=self._key)
            self._answer = read(Answer.from_document, document, self._connection)
        if self._answer is None and self.state == "cancelled":
            raise QueryCancelled(f"the query {self.id} was cancelled")
        if self._answer is None and self.state == "expired" and not self.failure:
            raise AnswerExpired(f"the answer of the query {self.id} is no longer kept")
        return self._answer or fetch(self._connection, self.id)

    def _await(self, timeout_s: float | None, progress: Progress) -> None:
        """Look again and again. The limit is another one once the query runs: it is read anew each time."""
        began, pause = time.monotonic(), _FIRST_POLL_S
        limit_s = self.progress.limit_s or _LATE_S
        with meter(progress, f"query {self.state}", limit_s, unit="s") as shown:
            while self.open:
                limit_s = self.progress.limit_s or limit_s
                most_s = limit_s + _LATE_S if timeout_s is None else timeout_s
                if time.monotonic() - began + pause > most_s:
                    raise StillRunning(f"the query {self.id} is still {self.state}")
                time.sleep(pause)
                pause = min(pause * 1.5, _LONGEST_POLL_S)
                self.refresh()
                limit_s = (self.progress.limit_s or limit_s) if self.open else limit_s
                shown.update(min(self.progress.elapsed_s, limit_s) if self.open else limit_s, limit_s)

    def _repr_html_(self) -> str:
        names = ("id", "state", "dataset", "asked_at", "ended_at", "rho", "sql")
        return html.facts([(name, getattr(self, name)) for name in names], caption="Query")


class Jobs(list[Job]):
    """Queries, newest first; a notebook shows them as a table."""

    def _repr_html_(self) -> str:
        rows = [
            (j.id, j.dataset, j.state, j.asked_at, j.charge.text if j.charge else "", j.rho) for j in self
        ]
        return html.table(("query", "dataset", "state", "asked at", "charge", "rho"), rows)


def submit(connection: Connection, question: Mapping[str, Any], key: str | None, *, wait: bool) -> Job:
    """Run a question under one idempotency key; with ``wait`` for as long as the exchange keeps a request."""
    key = key or new_key()
    prefer = {} if wait else {"Prefer": "respond-async"}
    document = connection.post("/v1/queries", question, key=key, headers=prefer)
    return read(_submitted, document, connection, question, key)


def _submitted(
    document: Mapping[str, Any], connection: Connection, question: Mapping[str, Any], key: str
) -> Job:
    if document.get("state") in _OPEN:
        return Job(document, connection, asked=question, key=key)
    answer = Answer.from_document(document, connection)
    told = {"state": "succeeded", **document, "charge": document["charged"]}
    return Job(told, connection, asked=question, key=key, answer=answer)
