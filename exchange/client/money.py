"""The wallet and what was used."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from exchange.client import html
from exchange.client.price import NANO, Price

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True)
class Balance:
    """A prepaid balance: what may be spent now, and what open queries hold."""

    available: Price
    reserved: Decimal

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Balance:
        """Read a balance."""
        amount, currency = str(document["available"]), str(document["currency"])
        return cls(
            Price(amount, currency, int(document["available_minor"])), Decimal(str(document["reserved"]))
        )

    @property
    def currency(self) -> str:
        """ISO 4217 code."""
        return self.available.currency


@dataclass(frozen=True)
class Wallet:
    """Prepaid balances, one for each currency."""

    balances: tuple[Balance, ...]

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Wallet:
        """Read a wallet."""
        return cls(tuple(Balance.from_document(balance) for balance in document["balances"]))

    def __iter__(self) -> Iterator[Balance]:
        return iter(self.balances)

    def __len__(self) -> int:
        return len(self.balances)

    def __getitem__(self, currency: str) -> Balance:
        """The balance in a currency. Raises ``KeyError``."""
        for balance in self.balances:
            if balance.currency == currency:
                return balance
        raise KeyError(currency)

    def _repr_html_(self) -> str:
        rows = [(balance.available, balance.reserved, balance.currency) for balance in self.balances]
        return html.table(("available", "reserved", "currency"), rows, caption="Wallet")


@dataclass(frozen=True)
class Usage:
    """What was asked and what it cost; for a provider, what its datasets earned. ``items`` are documents."""

    items: tuple[dict[str, Any], ...]
    totals: dict[str, Decimal]
    rho_nano: int

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Usage:
        """Read a usage report."""
        return cls(
            items=tuple(dict(item) for item in document["items"]),
            totals={total["currency"]: Decimal(str(total["amount"])) for total in document["totals"]},
            rho_nano=int(document["rho_nano"]),
        )

    @property
    def rho(self) -> Decimal:
        """Privacy budget that all of it cost."""
        return Decimal(self.rho_nano) / NANO

    def _repr_html_(self) -> str:
        rows = [(f"total {currency}", amount) for currency, amount in self.totals.items()]
        return html.facts([*rows, ("rho", self.rho), ("items", len(self.items))], caption="Usage")
