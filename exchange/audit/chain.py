"""The sequences inside the leaves: numbers without gaps, each organisation's chain, each domain's account."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from exchange.audit.report import ALTERED, GAP, Finding
from exchange.audit.spending import Spending

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True)
class _Link:
    org_seq: int
    leaf_hash: str
    epoch: int


class SequenceCheck:
    """Follows `seq`, `org_seq`, `prev_org_leaf` and `spent_after` from the first leaf on; one link is kept
    for each organisation, and one sum for each privacy domain.
    """

    def __init__(self) -> None:
        self._next = 0
        self._links: dict[str, _Link] = {}
        # Raised whenever entries could not be read: what they did to the chains is then unknown, and an
        # honest later entry must not be blamed for it.
        self._epoch = 0
        self._spending = Spending()

    def skip(self, count: int = 1) -> None:
        """Passes over entries whose leaves could not be read."""
        self._next += count
        self._epoch += 1
        self._spending.skip()

    def check(self, document: Mapping[str, Any], leaf_hash: bytes) -> Iterator[Finding]:
        """What is wrong with the next leaf's place."""
        seq, entry_id = document["seq"], document["id"]
        if seq > self._next:
            text = f"Entries {self._next} to {seq - 1} are missing from the sequence."
            yield Finding(GAP, text, seq=seq, id=entry_id)
        elif seq < self._next:
            text = f"The entry stands where entry {self._next} belongs: repeated, inserted or out of order."
            yield Finding(ALTERED, text, seq=seq, id=entry_id)
        self._next = max(self._next, seq + 1)
        if document["org_seq"] is not None:
            yield from self._check_org(document, leaf_hash)
        yield from self._spending.add(document)

    def _check_org(self, document: Mapping[str, Any], leaf_hash: bytes) -> Iterator[Finding]:
        org, org_seq = document["actor"]["org"], document["org_seq"]
        link = self._links.get(org) or _Link(-1, "", 0)
        place = {"seq": document["seq"], "id": document["id"]}
        certain = link.epoch == self._epoch
        if org_seq <= link.org_seq:
            yield Finding(
                ALTERED, f"Number {org_seq} of {org} is repeated, inserted or out of order.", **place
            )
        elif org_seq > link.org_seq + 1 and certain:
            text = f"Numbers {link.org_seq + 1} to {org_seq - 1} of {org} are missing."
            yield Finding(GAP, text, **place)
        elif org_seq == link.org_seq + 1 and (document["prev_org_leaf"] or "") != link.leaf_hash:
            yield Finding(ALTERED, f"The entry does not follow the previous entry of {org}.", **place)
        if org_seq > link.org_seq:
            self._links[org] = _Link(org_seq, leaf_hash.hex(), self._epoch)
