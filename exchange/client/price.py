"""Amounts of money as people compute with them: a Decimal that knows its currency."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

NANO = Decimal(10) ** 9
"""Rho is kept in units of 1e-9."""
PICO = Decimal(10) ** 12
"""Delta is kept in units of 1e-12."""


class Price(Decimal):
    """An amount in a currency. A ``Decimal``: compare and add it as one; ``text`` names the currency."""

    __slots__ = ("amount_minor", "currency")
    amount_minor: int
    currency: str

    def __new__(cls, amount: str, currency: str, amount_minor: int) -> Price:
        """``amount`` in major units as text, and the same in the currency's minor units."""
        made = super().__new__(cls, amount)
        made.currency = currency
        made.amount_minor = amount_minor
        return made

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Price:
        """Read ``{amount, currency, amount_minor}``."""
        return cls(str(document["amount"]), str(document["currency"]), int(document["amount_minor"]))

    @property
    def text(self) -> str:
        """The amount with its currency, as in "0.25 USD"."""
        return f"{self} {self.currency}"

    def as_document(self) -> dict[str, Any]:
        """``{amount, currency, amount_minor}``."""
        return {"amount": str(self), "currency": self.currency, "amount_minor": self.amount_minor}

    def __repr__(self) -> str:
        return f"Price({self.text!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return (Price, (str(self), self.currency, self.amount_minor))

    def __copy__(self) -> Price:
        return self

    def __deepcopy__(self, memo: object) -> Price:
        return self
