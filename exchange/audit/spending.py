"""Each privacy domain's spending, added up from the log's leaves alone.

Every leaf that touches a domain's budget says how much rho of it is spent after it. So anybody who has the
public log can add up what was spent, and sees where a line between two others is no longer there.

Standard library alone: whoever checks needs nothing of the exchange.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from exchange.audit.report import ALTERED, GAP, Finding

if TYPE_CHECKING:
    from collections.abc import Mapping

KINDS = ("query.settled", "query.forfeited", "profile.released", "profile.forfeited")
"""Kinds of entries that spend: of an answer or a profile that was released, or whose release broke off."""


@dataclass(frozen=True)
class Spent:
    """What the log says of one domain: rho spent in 1e-9, by how many entries, the last of them."""

    domain: str
    rho_nano: int
    entries: int
    last_seq: int


class Spending:
    """Follows `privacy.spent_after` through leaves that are given in order. Memory: one line per domain."""

    def __init__(self) -> None:
        self._spent: dict[str, Spent] = {}
        self._epoch = 0
        self._read_in: dict[str, int] = {}

    def skip(self) -> None:
        """Passes over entries whose leaves could not be read: what they spent is told by later ones."""
        self._epoch += 1

    def add(self, document: Mapping[str, Any]) -> list[Finding]:
        """What is wrong with the next leaf's account of its domain.

        Code 14 where more was spent than the entries tell, code 11 where an entry spends without saying of
        what, how much and how far, where an account went back, or moved by an entry that does not spend.
        """
        privacy, spends = document["privacy"] or {}, document["kind"] in KINDS
        domain, after, told = (privacy.get(name) for name in ("domain", "spent_after", "rho_nano"))
        if spends and None in (domain, after, told):
            return [_finding(ALTERED, "The entry spends, and does not say of what, or how much.", document)]
        if domain is None or after is None:
            return []
        before, certain = self.of(domain), self._read_in.get(domain, 0) == self._epoch
        self._read_in[domain] = self._epoch
        rho = int(told) if spends and told is not None else 0
        found = _account_findings(document, before, int(after), rho, certain=certain)
        entries = before.entries + (1 if rho else 0)
        last = document["seq"] if rho else before.last_seq
        self._spent[domain] = Spent(domain, int(after), entries, last)
        return found

    def of(self, domain: str) -> Spent:
        """What was found of one domain so far."""
        return self._spent.get(domain) or Spent(domain, 0, 0, -1)

    def domains(self) -> tuple[Spent, ...]:
        """What was found so far, by the domains' names."""
        return tuple(self._spent[name] for name in sorted(self._spent))


def _account_findings(
    document: Mapping[str, Any], before: Spent, after: int, rho: int, *, certain: bool
) -> list[Finding]:
    """What is wrong where an entry that spends `rho` leaves `after`; unless `certain`, others may have spent
    since `before`. What was spent is never given back, whatever was not read.
    """
    step = after - before.rho_nano
    if rho < 0 or after < 0 or step < 0:
        text = f"{rho} nano-rho of {before.domain} are spent, {after} after it: an account only grows."
        return [_finding(ALTERED, text, document)]
    if not certain or step == rho:
        return []
    missing = step > rho
    text = (
        f"{after} nano-rho of {before.domain} are spent after this entry, {before.rho_nano} before it; "
        f"it spends {rho}{': an entry is missing between them' if missing else ''}."
    )
    return [_finding(GAP if missing else ALTERED, text, document)]


def _finding(code: int, text: str, document: Mapping[str, Any]) -> Finding:
    return Finding(code, text, seq=document["seq"], id=document["id"])
