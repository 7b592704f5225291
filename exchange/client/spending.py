"""What each privacy domain has spent, added up from the public log, held against the exchange's word."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from exchange.client import errors, html, verdicts
from exchange.client.connection import Connection, read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from exchange.audit.report import Finding
    from exchange.audit.spending import Spending, Spent
    from exchange.audit.verify import LogReport, Reader
    from exchange.client.configuration import Keys

_PAGE, _MOST_PAGES = 50, 20_000
_POLL_S = 1.0


@dataclass(frozen=True)
class DomainSpending:
    """One domain: rho in 1e-9 that the log's entries add up to, and what the exchange says that was spent.

    ``said_rho_nano`` is None for a domain that the exchange does not name, ``log_rho_nano`` None where what
    it says is of entries that no checkpoint came to cover in time: nothing was compared then.
    """

    domain: str
    log_rho_nano: int | None
    said_rho_nano: int | None
    entries: int

    @property
    def agree(self) -> bool:
        """Whether both are there and the same."""
        return self.log_rho_nano == self.said_rho_nano


@dataclass(frozen=True)
class Page:
    """What the exchange says that domains have spent, rho in 1e-9, when its log had so many entries."""

    entries: int
    spent: tuple[tuple[str, int], ...]


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

    def __init__(self, said: Iterable[Page]) -> None:
        from exchange.audit.spending import Spending

        self._spending = Spending()
        self._pages = sorted(said, key=lambda page: page.entries)
        self._next = 0
        self._told: dict[str, DomainSpending] = {}
        self._at_first: tuple[Spent, ...] = ()

    def read(self, documents: Iterable[Mapping[str, Any]]) -> tuple[Finding, ...]:
        """Add a bundle's documents. What does not add up in them is found by the log's own verification."""
        for document in documents:
            self._tell(document["seq"])
            self._spending.add(document)
        return ()

    def held(self, report: LogReport, least: int) -> SpendingReport:
        """Every domain's two figures after a log that was found good, and what is wrong with them.

        ``least`` entries were signed before the exchange was asked, as far as is known here: what it said is
        of as many or more.
        """
        size = report.size or 0
        self._tell(size)
        for page in self._pages[self._next :]:
            self._keep(page, None)
        for found in self._at_first:
            nothing_said = DomainSpending(found.domain, found.rho_nano, None, found.entries)
            self._told.setdefault(found.domain, nothing_said)
        domains = tuple(self._told[name] for name in sorted(self._told))
        wrong = [*_out_of_time(self._pages, least, size), *self._repeated(), *_contradictions(domains)]
        return SpendingReport(report.with_findings(wrong), domains)

    def _tell(self, entries: int) -> None:
        """Settle what was said of a log of at most so many entries, as all of them are added up now."""
        while self._next < len(self._pages) and self._pages[self._next].entries <= entries:
            if self._next == 0:
                self._at_first = self._spending.domains()
            self._keep(self._pages[self._next], self._spending)
            self._next += 1

    def _keep(self, page: Page, spending: Spending | None) -> None:
        for domain, said_rho in page.spent:
            found = spending.of(domain) if spending else None
            log_rho, entries = (found.rho_nano, found.entries) if found else (None, 0)
            self._told[domain] = DomainSpending(domain, log_rho, said_rho, entries)

    def _repeated(self) -> Iterator[Finding]:
        from exchange.audit.report import ALTERED, Finding

        counted = Counter(domain for page in self._pages for domain, _ in page.spent)
        for domain in sorted(domain for domain, times in counted.items() if times > 1):
            yield Finding(ALTERED, f"The exchange says twice what was spent of {domain}.")


def _out_of_time(pages: Iterable[Page], least: int, size: int) -> Iterator[Finding]:
    """Whoever may choose the entries by which it is measured finds some that fit."""
    from exchange.audit.report import ALTERED, TRUNCATED, Finding

    for entries in sorted({page.entries for page in pages}):
        if entries < least:
            text = f"The exchange says what {entries} entries have spent, and had signed {least} before."
            yield Finding(ALTERED, text)
        elif entries > size:
            text = f"The exchange says what {entries} entries have spent, and signed {size} of them in time."
            yield Finding(TRUNCATED, text)


def _contradictions(domains: Iterable[DomainSpending]) -> Iterator[Finding]:
    from exchange.audit.report import ALTERED, Finding

    for one in domains:
        if one.log_rho_nano is not None and not one.agree:
            text = (
                f"{rho(one.log_rho_nano)} rho of {one.domain} are spent by the log's entries, "
                f"{rho(one.said_rho_nano)} as the exchange says."
            )
            yield Finding(ALTERED, text)


def said(connection: Connection) -> Iterator[Page]:
    """Everything that the exchange says of its domains; one page at least. Raises ServerError for a list
    without an end.
    """
    token: str | None = None
    for _ in range(_MOST_PAGES):
        page = connection.get("/audit/spending", limit=_PAGE, page_token=token)
        yield read(_page, page)
        token = page.get("next_page_token")
        if not token:
            return
    raise errors.ServerError("the exchange's list of domains does not end", code="unexpected_reply")


def _page(page: Mapping[str, Any]) -> Page:
    spent = tuple((str(one["domain"]), int(one["rho_nano_spent"])) for one in page["items"])
    return Page(int(page["entries"]), spent)


def covering(checkpoint: Callable[[], str], entries: int, wait_s: float) -> str:
    """The newest checkpoint, waited for so long until it is of so many entries."""
    from exchange.audit.checkpoint import parse_checkpoint
    from exchange.audit.errors import Malformed

    ends = time.monotonic() + wait_s
    while True:
        text = checkpoint()
        try:
            enough = parse_checkpoint(text).size >= entries
        except Malformed:
            return text  # its verification says what is wrong with it
        if enough or time.monotonic() >= ends:
            return text
        time.sleep(min(_POLL_S, max(0.0, ends - time.monotonic())))


def grown_from(
    reader: Reader, before: str, report: LogReport, trusted: Keys
) -> tuple[int, tuple[Finding, ...]]:
    """The size of a checkpoint that was shown before, and what is wrong if the verified log does not continue
    it, by a proof from the log's tiles (RFC 9162, 2.1.4).
    """
    from exchange.audit import checkpoint, merkle, tiles
    from exchange.audit.errors import Malformed, SignatureInvalid
    from exchange.audit.report import FORK, MALFORMED, SIGNATURE, TRUNCATED, Finding

    size, root = report.size or 0, report.root or b""
    try:
        head = checkpoint.open_checkpoint(before, origin=trusted.origin, keys=verdicts.log_keys(trusted))
        if head.size > size:
            text = f"The log has {size} entries, fewer than the {head.size} that it had a moment before."
            return head.size, (Finding(TRUNCATED, text),)
        proof = tiles.consistency_proof(reader, head.size, size)
    except SignatureInvalid as error:
        return 0, (Finding(SIGNATURE, str(error)),)
    except Malformed as error:
        return 0, (Finding(MALFORMED, str(error)),)
    if not merkle.verify_consistency(head.size, size, proof, head.root, root):
        return head.size, (Finding(FORK, "Two checkpoints of one minute do not continue one another."),)
    return head.size, ()
