"""What each privacy domain has spent, added up from the public log, held against the exchange's word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from exchange.client import html
from exchange.client.connection import Connection, read

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from exchange.audit.report import Finding
    from exchange.audit.spending import Spent
    from exchange.audit.verify import LogReport, Reader

_PAGE = 500


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
class _Said:
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


def compare(connection: Connection, reader: Reader, report: LogReport) -> SpendingReport:
    """Add up the entries of a log that was verified, and hold every domain against what the exchange says.

    Findings are added to the report: what does not add up (codes 11, 14).
    """
    from exchange.audit import leaf as leaves
    from exchange.audit.spending import Spending
    from exchange.audit.verify import published_leaves

    size = report.size or 0
    findings: list[Finding] = []
    followed, told = Spending(), dict[str, DomainSpending]()
    waiting = sorted(_said(connection), key=lambda one: one.entries, reverse=True)
    for seq, leaf in enumerate(published_leaves(reader, size)):
        while waiting and waiting[-1].entries <= seq:
            one = waiting.pop()
            told[one.domain] = _held(one, followed.of(one.domain))
        findings += followed.add(leaves.decode(leaf))
    for one in waiting:
        told[one.domain] = _held(one, followed.of(one.domain) if one.entries == size else None)
    for found in followed.domains():
        told.setdefault(found.domain, DomainSpending(found.domain, found.rho_nano, None, found.entries))
    domains = tuple(told[name] for name in sorted(told))
    return SpendingReport(report.with_findings([*findings, *_contradictions(domains)]), domains)


def _contradictions(domains: tuple[DomainSpending, ...]) -> Iterator[Finding]:
    from exchange.audit.report import ALTERED, Finding

    for one in domains:
        if not one.agree:
            text = (
                f"{rho(one.log_rho_nano)} rho of {one.domain} are spent by the log's entries, "
                f"{rho(one.said_rho_nano)} as the exchange says."
            )
            yield Finding(ALTERED, text)


def _said(connection: Connection) -> Iterator[_Said]:
    token: str | None = None
    while True:
        page = connection.get("/audit/spending", limit=_PAGE, page_token=token)
        yield from read(_items, page)
        token = page.get("next_page_token")
        if not token:
            return


def _items(page: Mapping[str, Any]) -> list[_Said]:
    return [_Said(int(page["entries"]), one["domain"], int(one["rho_nano_spent"])) for one in page["items"]]


def _held(said: _Said, found: Spent | None) -> DomainSpending:
    """One domain against the log as it was when the exchange said so; None where the log is not there yet."""
    if found is None:
        return DomainSpending(said.domain, None, said.rho_nano, 0)
    return DomainSpending(said.domain, found.rho_nano, said.rho_nano, found.entries)
