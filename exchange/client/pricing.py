"""Prices before publishing: are they beaten, and what will questions cost and earn under them."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from exchange.client import html
from exchange.client.connection import read
from exchange.client.price import Price
from exchange.client.publishing import load

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from catalog.manifest import Manifest
    from exchange.client.connection import Connection


@dataclass(frozen=True)
class PlanOffer:
    """A price plan in words. ``up_front`` is paid when access is granted, and again in each period."""

    name: str
    kind: str
    in_words: str
    up_front: Price
    organisation: str | None
    offered_until: str | None

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> PlanOffer:
        """Read a plan's summary."""
        return cls(
            document["name"],
            document["kind"],
            document["in_words"],
            Price.from_document(document["up_front"]),
            document.get("organisation"),
            document.get("offered_until"),
        )


@dataclass(frozen=True)
class SimulatedQuestion:
    """A question under a plan: rho, epsilon, 95% half-width of its columns, what it costs once and in all.

    ``refused`` says why it cannot be planned; the figures are None then.
    """

    about: str
    sql: str
    times: int
    rho: Decimal | None
    epsilon: float | None
    error: dict[str, float]
    price: Price | None
    all: Price | None
    refused: str | None

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> SimulatedQuestion:
        """Read a row of a simulation."""
        refused = document.get("refused")
        return cls(
            about=document["about"],
            sql=document["sql"],
            times=int(document["times"]),
            rho=None if refused else Decimal(document["rho"]),
            epsilon=None if refused else document["epsilon"],
            error={} if refused else dict(document["error"]),
            price=None if refused else Price.from_document(document["price"]),
            all=None if refused else Price.from_document(document["all"]),
            refused=refused,
        )

    @property
    def in_words(self) -> str:
        """What so many of it cost: "20 of count of rides by zone at +-10 cost 12.00 USD"."""
        if self.price is None or self.all is None:
            return f"{self.about}: {self.refused}"
        widths = ", ".join(f"{width:g}" for width in self.error.values())
        many = f"{self.times} of {self.about}" if self.times > 1 else self.about
        return f"{many}{f' at +-{widths}' if widths else ''} cost {self.all.text}, rho {self.rho} each"


@dataclass(frozen=True)
class SimulatedPlan:
    """A plan, its questions, and what all of them bring when one buyer asks them in one period."""

    offer: PlanOffer
    questions: tuple[SimulatedQuestion, ...]
    times: int
    cost: Price
    earned: Price
    platform: Price
    rho_spent: Decimal
    rho_left: Decimal
    fits: bool

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> SimulatedPlan:
        """Read a plan's part of a simulation."""
        return cls(
            offer=PlanOffer.from_document(document),
            questions=tuple(SimulatedQuestion.from_document(one) for one in document["questions"]),
            times=int(document["times"]),
            cost=Price.from_document(document["cost"]),
            earned=Price.from_document(document["earned"]),
            platform=Price.from_document(document["platform"]),
            rho_spent=Decimal(document["rho_spent"]),
            rho_left=Decimal(document["rho_left"]),
            fits=bool(document["fits"]),
        )

    def _repr_html_(self) -> str:
        rows = [(q.about, q.times, q.rho, q.epsilon, q.error, q.price) for q in self.questions]
        header = ("question", "times", "rho", "epsilon", "error", "price")
        return html.table(header, rows, caption=f"{self.offer.name}: earns {self.earned.text}")


@dataclass(frozen=True)
class Simulation:
    """What questions cost under each plan of a listing, before it is published."""

    domain: str
    rho: Decimal
    rho_left: Decimal
    plans: tuple[SimulatedPlan, ...]
    document: dict[str, Any] = field(repr=False)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Simulation:
        """Read a simulation."""
        plans = tuple(SimulatedPlan.from_document(one) for one in document["plans"])
        left = Decimal(document["rho_left"])
        return cls(document["domain"], Decimal(document["rho"]), left, plans, dict(document))

    def __iter__(self) -> Iterator[SimulatedPlan]:
        return iter(self.plans)

    def __getitem__(self, name: str) -> SimulatedPlan:
        """The plan of that name. Raises ``KeyError``."""
        for plan in self.plans:
            if plan.offer.name == name:
                return plan
        raise KeyError(name)


def check(connection: Connection, manifest: str | Path | Manifest) -> list[PlanOffer]:
    """Check the plans of a manifest. See :meth:`exchange.client.Exchange.check_prices`."""
    given = load(manifest) if isinstance(manifest, str | PurePath) else manifest
    told = connection.post("/v1/prices/check", {"plans": given.document["plans"]})
    return [read(PlanOffer.from_document, one) for one in told["plans"]]


def simulate(
    connection: Connection,
    manifest: str | Path | Manifest,
    *,
    questions: Iterable[Mapping[str, Any]] | None,
    plan: str | None,
) -> Simulation:
    """Try the plans of a manifest. See :meth:`exchange.client.Exchange.simulate_prices`."""
    given = load(manifest) if isinstance(manifest, str | PurePath) else manifest
    document = given.document
    asked: dict[str, Any] = {
        "plans": document["plans"],
        "policy": document["policy"],
        "schemas": {name: schema for name, path in given.tables.items() if (schema := _schema(path))},
        "questions": [dict(one) for one in questions] if questions is not None else None,
        "plan": plan,
    }
    body = {name: value for name, value in asked.items() if value is not None}
    return read(Simulation.from_document, connection.post("/v1/prices/simulate", body))


def _schema(path: Path) -> dict[str, str]:
    """Column -> Arrow type of a Parquet file, where Arrow is installed; the exchange guesses the rest."""
    if path.suffix != ".parquet":
        return {}
    try:
        import pyarrow.parquet as pq
    except ImportError:
        return {}
    return {column.name: str(column.type) for column in pq.read_schema(path)}
