"""The contribution profile of a version: released once, with noise, and public."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from exchange.client import html
from exchange.client.price import NANO

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Profile:
    """How much single privacy units contribute: what the exchange plans every buyer's questions with.

    ``in_words`` says it in sentences, ``document`` in numbers: ``privacy.Profile.from_document`` reads it,
    and ``privacy.plan(..., profile=...)`` then plans as the exchange does. ``sha256`` is what the log names.
    """

    in_words: tuple[str, ...]
    rho_nano: int
    sha256: str
    document: dict[str, Any] = field(repr=False)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Profile:
        """Read the profile of a dataset's description."""
        return cls(
            in_words=tuple(document.get("in_words") or ()),
            rho_nano=int(document["rho_nano"]),
            sha256=document["sha256"],
            document=dict(document["document"]),
        )

    @property
    def rho(self) -> Decimal:
        """What the provider paid for it of the domain's privacy budget."""
        return Decimal(self.rho_nano) / NANO

    def _repr_html_(self) -> str:
        facts = [("rho", self.rho), *(("", sentence) for sentence in self.in_words)]
        return html.facts(facts, caption="What one unit contributes")
