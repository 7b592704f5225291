"""Scopes: what an access token may do, where that is less than its organisation may (RFC 6749, section 3.3).

A scope is a list of words with spaces between them::

    account                                 everything that the role may do; stands alone
    ask                                     the catalogue, quotes, queries, answers and receipts
    dataset:nyc/flights                     ... of this dataset alone; repeat it for several
    purpose:research                        ... under grants for this purpose alone; repeat it for several
    rho:1.5                                 ... for at most this much rho in all

Any of the last three says ``ask`` as well.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from exchange.errors import ScopeInvalid, ScopeMissing

_LONGEST, _MOST = 2000, 50
_DATASET = re.compile(r"[a-z0-9-]+/[a-z0-9-]+", re.ASCII)
_PURPOSE = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*", re.ASCII)
_RHO = re.compile(r"(0|[1-9][0-9]{0,5})(?:\.([0-9]{1,9}))?", re.ASCII)
_NANO_DIGITS = 9


@dataclass(frozen=True)
class Scopes:
    """What a token may do. Empty ``datasets`` and ``purposes`` mean any, no ``rho_nano`` is no limit."""

    account: bool = False
    datasets: frozenset[str] = frozenset()
    purposes: frozenset[str] = frozenset()
    rho_nano: int | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a scope. Raises :class:`ScopeInvalid` naming what is wrong, never quoting it."""
        words = text.split(" ") if len(text) <= _LONGEST else []
        if not 0 < len(words) <= _MOST or not all(words):
            raise ScopeInvalid(f"a scope is 1 to {_MOST} words with single spaces between them")
        if "account" in words:
            if len(words) > 1:
                raise ScopeInvalid("the scope `account` stands alone")
            return cls(account=True)
        told: dict[str, list[str]] = {"dataset": [], "purpose": [], "rho": []}
        for word in words:
            name, colon, value = word.partition(":")
            if (name not in told or not colon) and word != "ask":
                raise ScopeInvalid("a scope has a word of an unknown kind")
            if colon:
                told[name].append(value)
        return cls(
            datasets=_all(_DATASET, told["dataset"], "dataset:provider/name"),
            purposes=_all(_PURPOSE, told["purpose"], "purpose:research"),
            rho_nano=_rho(told["rho"]),
        )

    def __str__(self) -> str:
        """The scope in its one spelling."""
        if self.account:
            return "account"
        words = [*(f"dataset:{one}" for one in sorted(self.datasets))]
        words += [f"purpose:{one}" for one in sorted(self.purposes)]
        if self.rho_nano is not None:
            whole, nano = divmod(self.rho_nano, 10**_NANO_DIGITS)
            words.append(f"rho:{whole}.{nano:0{_NANO_DIGITS}d}".rstrip("0").rstrip("."))
        return " ".join(["ask", *words])

    def within(self, other: Scopes) -> bool:
        """Whether this allows nothing that ``other`` does not."""
        if other.account:
            return True
        return (
            not self.account
            and _inside(self.datasets, other.datasets)
            and _inside(self.purposes, other.purposes)
            and (other.rho_nano is None or (self.rho_nano is not None and self.rho_nano <= other.rho_nano))
        )

    def require_account(self) -> None:
        """Raise :class:`ScopeMissing` unless the token may do all that the role may."""
        if not self.account:
            raise ScopeMissing("the token may ask questions alone", hint=_hint("account"))

    def permit_dataset(self, slug: str) -> None:
        """Raise :class:`ScopeMissing` unless the token may ask about the dataset."""
        if self.datasets and slug not in self.datasets:
            raise ScopeMissing("the token is for other datasets", hint=_hint(f"dataset:{slug}"))

    def permit_purpose(self, purpose: str) -> None:
        """Raise :class:`ScopeMissing` unless the token may ask under a grant for the purpose."""
        if self.purposes and purpose not in self.purposes:
            raise ScopeMissing("the token is for other purposes", hint=_hint(f"purpose:{purpose}"))

    def permit_use(self, slug: str, purpose: str) -> None:
        """Raise :class:`ScopeMissing` unless the token may read answers about the dataset for the purpose."""
        self.permit_dataset(slug)
        self.permit_purpose(purpose)


def _all(pattern: re.Pattern[str], values: list[str], example: str) -> frozenset[str]:
    if not all(len(value) <= 128 and pattern.fullmatch(value) for value in values):
        raise ScopeInvalid(f"such a scope is written as in `{example}`")
    return frozenset(values)


def _rho(values: list[str]) -> int | None:
    if not values:
        return None
    found = _RHO.fullmatch(values[0]) if len(values) == 1 else None
    if found is None:
        raise ScopeInvalid("one rho is given, below a million with at most nine decimals, as in `rho:1.5`")
    whole, fraction = str(found[1]), str(found[2] or "")
    return int(whole + fraction.ljust(_NANO_DIGITS, "0"))


def _inside(ours: frozenset[str], theirs: frozenset[str]) -> bool:
    return not theirs or (bool(ours) and ours <= theirs)


def _hint(word: str) -> str:
    return f"Ask for a token whose scope allows it: `{word}`."
