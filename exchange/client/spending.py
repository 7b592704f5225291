"""What each privacy domain has spent, added up from the public log, held against the exchange's word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from exchange.client import html
from exchange.client.connection import Connection, read

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from exchange.audit.report import Finding
    from exchange.audit.verify import LogReport

_PAGE = 50


@dataclass(frozen=True)
class DomainSpending:
    """One domain: rho in 1e-9 that the log's entries add up to, and what the exchange says that was spent.

    ``said_rho_nano`` is None for a domain that the exchange does not name, ``log_rho_nano`` None while its
    newest entries are not under a checkpoint yet.
    """

    domain: str
    log_rho_nano: int | None
    said_rho_nano: int | None
    entries: int

    @property
    def agree(self) -> bool:
        """Whether both are the same; True while the log is not there yet."""
        return self.log_rho_nano is None or self.log_rho_nano == self.said_rho_nano


@dataclass(frozen=True)
class Said:
    """What the exchange says that a domain has spent, when its log had so many entries."""

    entries: int
    domain: str
    rho_nano: int


@dataclass(frozen=True)
class SpendingReport:
    """What the log's verification found, and every domain's spending with both sides' figures."""

    log: LogReport
    domains: tuple[DomainSpending, ...]

    @property
    def good(self) -> bool:
        """True if the log is good, adds up, and says what the exchange says."""
        return self.log.good

    def _repr_html_(self) -> str:
        head = ("domain", "log: rho spent", "exchange: rho spent", "entries", "agree")
        rows = [
            (d.domain, rho(d.log_rho_nano), rho(d.said_rho_nano), d.entries, "yes" if d.agree else "NO")
            for d in self.domains
        ]
        return html.table(head, rows, caption="Privacy spent")


def rho(nano: int | None) -> str:
    """Rho in 1e-9 as decimal text; "-" where it is not known."""
    return "-" if nano is None else f"{nano // 10**9}.{nano % 10**9:09d}".rstrip("0").rstrip(".")


class Tally:
    """Adds up the entries of a log while it is verified, and keeps what each domain had spent at the moments
    at which the exchange says something of it.
    """

    def __init__(self, said: Iterable[Said]) -> None:
        from exchange.audit.spending import Spending

        self._spending = Spending()
        self._waiting = sorted(said, key=lambda one: one.entries, reverse=True)
        self._told: dict[str, DomainSpending] = {}

    def read(self, documents: Iterable[Mapping[str, Any]]) -> tuple[Finding, ...]:
        """Add a bundle's documents. What does not add up in them is found by the log's own verification."""
        for document in documents:
            self._tell(document["seq"])
            self._spending.add(document)
        return ()

    def held(self, report: LogReport) -> SpendingReport:
        """Every domain's two figures, and what contradicts among them, after a log that was found good."""
        self._tell(report.size or 0)
        for one in self._waiting:
            self._told[one.domain] = DomainSpending(one.domain, None, one.rho_nano, 0)
        for found in self._spending.domains():
            self._told.setdefault(
                found.domain, DomainSpending(found.domain, found.rho_nano, None, found.entries)
            )
        domains = tuple(self._told[name] for name in sorted(self._told))
        return SpendingReport(report.with_findings(_contradictions(domains)), domains)

    def _tell(self, entries: int) -> None:
        """Settle what was said of a log of at most so many entries, as all of them are added up now."""
        while self._waiting and self._waiting[-1].entries <= entries:
            one = self._waiting.pop()
            found = self._spending.of(one.domain)
            self._told[one.domain] = DomainSpending(one.domain, found.rho_nano, one.rho_nano, found.entries)


def _contradictions(domains: tuple[DomainSpending, ...]) -> Iterator[Finding]:
    from exchange.audit.report import ALTERED, Finding

    for one in domains:
        if not one.agree:
            text = (
                f"{rho(one.log_rho_nano)} rho of {one.domain} are spent by the log's entries, "
                f"{rho(one.said_rho_nano)} as the exchange says."
            )
            yield Finding(ALTERED, text)


def said(connection: Connection) -> Iterator[Said]:
    """Everything that the exchange says of its domains."""
    token: str | None = None
    while True:
        page = connection.get("/audit/spending", limit=_PAGE, page_token=token)
        yield from read(_items, page)
        token = page.get("next_page_token")
        if not token:
            return


def _items(page: Mapping[str, Any]) -> list[Said]:
    return [Said(int(page["entries"]), one["domain"], int(one["rho_nano_spent"])) for one in page["items"]]
