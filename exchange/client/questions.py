"""Questions: their wire form, quotes, and running them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal, overload

from exchange.client import html
from exchange.client.jobs import Job, submit
from exchange.client.price import NANO, PICO, Price

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exchange.client.access import Grant
    from exchange.client.answers import Answer
    from exchange.client.connection import Connection
    from exchange.client.progress import Progress

Amount = int | float | str | Decimal
"""A number; text and Decimal are passed on exactly."""


def ask(
    dataset: str,
    sql: str,
    *,
    rho: Amount | None,
    epsilon: Amount | None,
    error: Mapping[str, float] | None,
    options: Mapping[str, Any],
    grant: str | Grant | None,
    plan: str | None,
) -> dict[str, Any]:
    """The question as the exchange reads it; what is not given is left out."""
    given: dict[str, Any] = {
        "dataset": dataset,
        "sql": sql,
        "rho": _number(rho),
        "epsilon": _number(epsilon),
        "error": {column: _number(width) for column, width in error.items()} if error is not None else None,
        "options": dict(options) or None,
        "grant": (grant if isinstance(grant, str) else grant.id) if grant is not None else None,
        "plan": plan,
    }
    return {name: value for name, value in given.items() if value is not None}


def run(
    connection: Connection, question: Mapping[str, Any], key: str | None, *, wait: bool, progress: Progress
) -> Answer | Job:
    """Run a question under one idempotency key: its answer, or without ``wait`` its job."""
    job = submit(connection, question, key, wait=wait)
    return job.wait(progress=progress) if wait else job


@dataclass(frozen=True)
class QuoteColumn:
    """A column to be released: noise scale ``sigma`` and 95% ``half_width``, both None for keys.

    ``table`` gives half-widths by the number of rows in a group where they depend on it, None where nothing
    bounds the error; ``expected_bias`` is the share of what is counted or summed that bounding is expected to
    leave out, by the version's profile;
    ``note`` says what the figures hold for where that needs saying.
    """

    name: str
    kind: str
    sigma: float | None
    half_width: float | None
    table: dict[str, float | None] | None = None
    expected_bias: float | None = None
    note: str | None = None

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> QuoteColumn:
        """Read a column of a quote."""
        return cls(
            document["name"],
            document["kind"],
            document.get("sigma"),
            document.get("half_width"),
            document.get("table"),
            document.get("expected_bias"),
            document.get("note"),
        )

    @property
    def error(self) -> str:
        """The 95% half-width in words, by the rows of a group where it depends on them."""
        if self.table:
            widths = {rows: "any" if width is None else f"{width:.4g}" for rows, width in self.table.items()}
            return ", ".join(f"{width} at {int(rows):,} rows" for rows, width in widths.items())
        return "" if self.half_width is None else f"{self.half_width:g}"

    @property
    def bias(self) -> str:
        """The expected bias as a percentage; empty where nothing is known of it."""
        return "" if self.expected_bias is None else f"{self.expected_bias:.2%}"


@dataclass(frozen=True)
class Refinement:
    """The earlier answer that a quote makes more accurate; ``rho_nano`` and ``paid`` is what it had cost."""

    query: str
    rho_nano: int
    paid: Price

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Refinement:
        """Read what a quote refines."""
        return cls(document["query"], int(document["rho_nano"]), Price.from_document(document["paid"]))

    @property
    def rho(self) -> Decimal:
        """What was spent on the question before."""
        return Decimal(self.rho_nano) / NANO


@dataclass(frozen=True)
class Quote:
    """An offer, bound to one plan of one version until ``expires_at``: price, privacy cost and noise.

    Where ``refines`` names an earlier answer of the same question, price and rho are the difference to it.
    ``releases`` tells for each noisy table behind the answer how one unit's contribution is bounded.
    ``epsilon`` is infinite where a question takes all the delta that it could be stated at.
    """

    id: str
    dataset: str
    version: str
    sql: str
    price: Price
    rho_nano: int
    delta_pico: int
    epsilon: float
    columns: tuple[QuoteColumn, ...]
    plan_sha256: str
    explain: str = field(repr=False)
    expires_at: str = ""
    refines: Refinement | None = None
    releases: tuple[dict[str, Any], ...] = field(default=(), repr=False)
    _connection: Connection = field(repr=False, compare=False, kw_only=True)

    @classmethod
    def from_document(cls, document: Mapping[str, Any], connection: Connection) -> Quote:
        """Read a quote."""
        return cls(
            id=document["quote"],
            dataset=document["dataset"],
            version=document["version"],
            sql=document["sql"],
            price=Price.from_document(document["price"]),
            rho_nano=int(document["rho_nano"]),
            delta_pico=int(document["delta_pico"]),
            epsilon=math.inf if document["epsilon"] is None else float(document["epsilon"]),
            columns=tuple(QuoteColumn.from_document(column) for column in document["columns"]),
            plan_sha256=document["plan_sha256"],
            explain=document.get("explain") or "",
            expires_at=str(document.get("expires_at") or ""),
            refines=Refinement.from_document(document["refines"]) if document.get("refines") else None,
            releases=tuple(document.get("releases") or ()),
            _connection=connection,
        )

    @property
    def rho(self) -> Decimal:
        """What the answer costs the privacy budget, as rho of zero-concentrated differential privacy."""
        return Decimal(self.rho_nano) / NANO

    @property
    def delta(self) -> Decimal:
        """The delta that thresholds of private keys add."""
        return Decimal(self.delta_pico) / PICO

    @property
    def strategies(self) -> tuple[str, ...]:
        """By what strategy a unit's contribution is bounded, for each noisy table behind the answer."""
        return tuple(str(release["strategy"]) for release in self.releases if release.get("strategy"))

    @overload
    def run(
        self,
        *,
        wait: Literal[True] = True,
        progress: Progress = "auto",
        idempotency_key: str | None = None,
    ) -> Answer: ...
    @overload
    def run(
        self, *, wait: Literal[False], progress: Progress = "auto", idempotency_key: str | None = None
    ) -> Job: ...
    def run(
        self, *, wait: bool = True, progress: Progress = "auto", idempotency_key: str | None = None
    ) -> Answer | Job:
        """Accept the offer: charge and answer. An answer that this organisation already has is free.

        A long query is waited for; with ``wait=False`` its :class:`~exchange.client.jobs.Job` comes at once.
        Raises ``QuoteExpired``, ``PaymentRequired``, ``BudgetExceeded``, ``LicenceError`` or ``QueryFailed``.
        """
        return run(self._connection, {"quote": self.id}, idempotency_key, wait=wait, progress=progress)

    def _repr_html_(self) -> str:
        facts = html.facts(
            [
                ("price", self.price.text),
                ("rho", self.rho),
                ("epsilon", f"{self.epsilon:.4g}"),
                ("until", self.expires_at),
                ("bounded by", ", ".join(self.strategies)),
                *([("refines", self.refines.query)] if self.refines else []),
            ],
            caption=f"Quote {self.id}",
        )
        rows = [(c.name, c.kind, c.error, c.bias, c.note) for c in self.columns]
        return facts + html.table(("column", "kind", "95% half-width", "expected bias", "note"), rows)


def _number(value: Amount | Fraction | None) -> int | float | str | None:
    return str(value) if isinstance(value, Decimal | Fraction) else value
