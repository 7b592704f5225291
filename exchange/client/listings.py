"""What is on offer: search hits, and a dataset with schema, domains, licence, plans and privacy budget."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, overload

from exchange.client import html
from exchange.client.access import AccessRequest, Grant
from exchange.client.connection import Connection, read
from exchange.client.licences import DATASPACE, Acceptance, Licence, LicenceDiff, accept
from exchange.client.mock import mock_tables
from exchange.client.price import NANO, Price
from exchange.client.profile import Profile
from exchange.client.questions import Quote, ask, run

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from exchange.client.answers import Answer
    from exchange.client.jobs import Job
    from exchange.client.progress import Progress
    from exchange.client.questions import Amount


_SHOWN_KEYS = 5


@dataclass(frozen=True)
class Listing:
    """One search hit. ``plans`` are the price plans' documents; ``tables`` the tables' names.

    ``units`` are the columns that name whom privacy protects, ``territories`` where the licence allows use
    ("*": anywhere). ``price_from`` is by currency what the first answer costs at least (at rho 0.01).
    ``accuracy`` is how far a count of units is off at most, in 95 of 100 answers, when a question spends all
    it may: the least value of that facet which holds, None where none does.
    """

    id: str
    slug: str
    title: str
    description: str
    provider: str
    keywords: tuple[str, ...]
    version: str
    version_number: int
    published_at: str
    plans: tuple[dict[str, Any], ...]
    tables: tuple[str, ...]
    units: tuple[str, ...] = ()
    territories: tuple[str, ...] = ()
    price_from: Mapping[str, Price] = field(default_factory=dict)
    accuracy: int | None = None

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Listing:
        """Read a summary of the exchange's catalogue."""
        return cls(
            id=document["id"],
            slug=document["slug"],
            title=document["title"],
            description=document.get("description") or "",
            provider=str(document.get("provider") or ""),
            keywords=tuple(document.get("keywords") or ()),
            version=str(document.get("version") or ""),
            version_number=int(document.get("version_number") or 0),
            published_at=str(document.get("published_at") or ""),
            plans=tuple(document.get("plans") or ()),
            tables=tuple(table["name"] for table in document.get("tables") or ()),
            units=tuple(document.get("units") or ()),
            territories=tuple(document.get("territories") or ()),
            price_from={
                price["currency"]: Price.from_document(price) for price in document.get("price_from") or ()
            },
            accuracy=document.get("accuracy"),
        )

    def _repr_html_(self) -> str:
        facts = [("dataset", self.slug), ("provider", self.provider), ("about", self.description)]
        return html.facts([*facts, ("tables", ", ".join(self.tables))], caption=self.title)


@dataclass(frozen=True)
class FacetValue:
    """A value that listings can be narrowed to, and how many of those that the other choices find have it."""

    value: str
    count: int
    chosen: bool = False

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> FacetValue:
        """Read a value of a search's ``facets``."""
        return cls(document["value"], int(document["count"]), bool(document.get("chosen")))


class Listings(list[Listing]):
    """Search hits in their order; a notebook shows them as a table.

    ``total`` is how many there are, with those beyond the ``limit`` of the search; ``facets`` what they can
    be narrowed to, by ``subject``, ``unit``, ``territory``, ``price`` and ``accuracy``.
    """

    def __init__(
        self,
        hits: Iterable[Listing] = (),
        *,
        total: int | None = None,
        facets: Mapping[str, tuple[FacetValue, ...]] | None = None,
    ) -> None:
        super().__init__(hits)
        self.total = len(self) if total is None else total
        self.facets = dict(facets or {})

    def _repr_html_(self) -> str:
        rows = [(hit.slug, hit.title, hit.provider, ", ".join(hit.tables)) for hit in self]
        return html.table(("dataset", "title", "provider", "tables"), rows)


@dataclass(frozen=True)
class Column:
    """A column and its public domain: a key set, "private" keys, or bounds with the decimals kept.

    All of it is declared by the provider and independent of the data.
    """

    name: str
    type: str
    keys: tuple[Any, ...] | str | None = None
    bounds: tuple[Any, Any] | None = None
    decimals: int | None = None
    selectable: bool = True

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Column:
        """Read a column of a dataset's description."""
        keys, bounds = document.get("keys"), document.get("bounds")
        return cls(
            name=document["name"],
            type=document["type"],
            keys=tuple(keys) if isinstance(keys, list) else keys,
            bounds=(bounds[0], bounds[1]) if bounds else None,
            decimals=document.get("decimals"),
            selectable=bool(document.get("selectable", True)),
        )

    @property
    def domain(self) -> str:
        """The domain in words."""
        if isinstance(self.keys, tuple):
            more = ", ..." if len(self.keys) > _SHOWN_KEYS else ""
            return f"{len(self.keys)} keys: {', '.join(map(str, self.keys[:_SHOWN_KEYS]))}{more}"
        if self.keys:
            return f"{self.keys} keys"
        if self.bounds:
            return f"{self.bounds[0]} to {self.bounds[1]}"
        return "" if self.selectable else "not selectable"


@dataclass(frozen=True)
class Table:
    """A table: public tables cost nothing to read; of a private one ``unit`` names the protected column."""

    name: str
    public: bool
    unit: str | None
    columns: tuple[Column, ...]

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Table:
        """Read a table of a dataset's description."""
        return cls(
            name=document["name"],
            public=bool(document["public"]),
            unit=document.get("unit"),
            columns=tuple(Column.from_document(column) for column in document["columns"]),
        )


@dataclass(frozen=True)
class Budget:
    """A privacy domain's lifetime account over all buyers; ``epsilon_*`` is the same at the stated delta."""

    domain: str
    rho_nano_granted: int
    rho_nano_spent: int
    rho_nano_reserved: int
    rho_nano_remaining: int
    epsilon_granted: float | None = None
    epsilon_spent: float | None = None
    delta: str = ""

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Budget:
        """Read the budget of a dataset's description."""
        return cls(
            domain=document["domain"],
            rho_nano_granted=int(document["rho_nano_granted"]),
            rho_nano_spent=int(document["rho_nano_spent"]),
            rho_nano_reserved=int(document["rho_nano_reserved"]),
            rho_nano_remaining=int(document["rho_nano_remaining"]),
            epsilon_granted=document.get("epsilon_granted"),
            epsilon_spent=document.get("epsilon_spent"),
            delta=str(document.get("delta") or ""),
        )

    @property
    def rho_granted(self) -> Decimal:
        """Rho that was granted for the domain's lifetime."""
        return Decimal(self.rho_nano_granted) / NANO

    @property
    def rho_spent(self) -> Decimal:
        """Rho that answers have cost so far."""
        return Decimal(self.rho_nano_spent) / NANO

    @property
    def rho_remaining(self) -> Decimal:
        """Rho that all buyers together may still spend."""
        return Decimal(self.rho_nano_remaining) / NANO

    def _repr_html_(self) -> str:
        names = ("granted", "spent", "reserved", "remaining")
        return html.facts(
            [(n, Decimal(getattr(self, f"rho_nano_{n}")) / NANO) for n in names], caption=self.domain
        )


@dataclass(frozen=True)
class Dataset:
    """A dataset as its page shows it. ``document`` is everything that the exchange says about it."""

    listing: Listing
    tables: tuple[Table, ...]
    licence: Licence
    budget: Budget
    document: dict[str, Any] = field(repr=False)
    _connection: Connection = field(repr=False, compare=False)

    @classmethod
    def from_document(cls, document: Mapping[str, Any], connection: Connection) -> Dataset:
        """Read a dataset's description."""
        return cls(
            listing=Listing.from_document(document),
            tables=tuple(Table.from_document(table) for table in document["tables"]),
            licence=Licence.from_document(document["licence"]),
            budget=Budget.from_document(document["budget"]),
            document=dict(document),
            _connection=connection,
        )

    @property
    def id(self) -> str:
        """``ds_...``"""
        return self.listing.id

    @property
    def slug(self) -> str:
        """``owner/name``"""
        return self.listing.slug

    @property
    def title(self) -> str:
        """The title for people."""
        return self.listing.title

    @property
    def plans(self) -> tuple[dict[str, Any], ...]:
        """The price plans' documents, with their ``name``."""
        return self.listing.plans

    def plan_sha256(self, name: str) -> str:
        """The hash of a price plan as this object shows it; empty where it shows none of the name."""
        offers = self.document.get("offers") or ()
        return next((str(one.get("sha256") or "") for one in offers if one.get("name") == name), "")

    @property
    def policy(self) -> dict[str, Any]:
        """The privacy policy's document."""
        return dict(self.document.get("policy") or {})

    @property
    def profile(self) -> Profile | None:
        """What was released of how much single units contribute; None where the version has no profile."""
        told = self.document.get("profile")
        return None if told is None else read(Profile.from_document, told)

    @property
    def declarations(self) -> dict[str, Any] | None:
        """Where the data come from, as the provider declares it: ``source``, ``jurisdiction``,
        ``classification``, ``minors``, ``impact_assessment``, ``registration``; None where nothing is.
        """
        told = self.document.get("declarations")
        return None if told is None else dict(told)

    @property
    def layout(self) -> dict[str, Any] | None:
        """How far what is kept beside the files is, so that answers come sooner: for the provider alone.

        ``state`` is none, building, ready or failed, with ``reason``, ``progress`` from 0 to 1, ``bytes`` and
        what was ``left_out`` for want of room; ``in_words`` says it in a sentence. None for everybody else.
        """
        told = self.document.get("layout")
        return None if told is None else dict(told)

    @property
    def schema(self) -> dict[str, dict[str, str]]:
        """Column types by table and column."""
        return {table.name: {column.name: column.type for column in table.columns} for table in self.tables}

    @property
    def domains(self) -> dict[str, dict[str, Column]]:
        """Columns with their public domains, by table and column."""
        return {table.name: {column.name: column for column in table.columns} for table in self.tables}

    def request(
        self,
        *,
        plan: str,
        purpose: str,
        territory: str,
        accept_licence: bool,
        role: str = "",
        publishes: bool = False,
        until: str | None = None,
        plan_sha256: str | None = None,
        idempotency_key: str | None = None,
    ) -> Grant:
        """Ask for access. ``accept_licence=True`` accepts ``self.licence`` by the hash of its text.

        The plan is asked for as this object shows it, or as ``plan_sha256`` names it: one that was changed
        since is refused (:class:`~exchange.client.errors.RequestInvalid`).

        ``role`` is the one in which it is accepted, where the licence names roles; ``publishes`` says that
        answers are to be published.
        ``until`` is the day or time at which access shall end. Returns a grant that is active at once, or
        waits for the provider: see :meth:`Grant.wait`.
        Raises :class:`~exchange.client.errors.LicenceError` where the licence does not allow it.
        """
        shown = self.plan_sha256(plan) if plan_sha256 is None else plan_sha256
        body = {
            "plan": plan,
            "purpose": purpose,
            "territory": territory,
            "accept_licence": accept_licence,
            "licence_sha256": self.licence.text_sha256,
            **({"role": role} if role else {}),
            **({"publishes": True} if publishes else {}),
            **({} if until is None else {"until": until}),
            **({"plan_sha256": shown} if shown else {}),
        }
        document = self._connection.post(f"/v1/datasets/{self.slug}/requests", body, key=idempotency_key)
        return read(AccessRequest.from_document, document, self._connection).as_grant()

    def accept(
        self,
        *,
        purposes: Sequence[str],
        territory: str,
        role: str = "",
        publishes: bool = False,
        idempotency_key: str | None = None,
    ) -> Acceptance:
        """Accept ``self.licence``, as after a material change: grants for the same use go on under it."""
        return accept(
            self._connection,
            self.slug,
            self.licence,
            purposes=purposes,
            territory=territory,
            role=role,
            publishes=publishes,
            key=idempotency_key,
        )

    def licence_versions(self) -> list[dict[str, Any]]:
        """The licence versions that the dataset has been on offer under, with what each changed."""
        return list(self._connection.get(f"/v1/datasets/{self.slug}/licence/versions")["items"])

    def licence_diff(self, old: str | None = None, new: str | None = None) -> LicenceDiff:
        """What one licence version (by id) changes against another, in words; by default the newest."""
        where = f"/v1/datasets/{self.slug}/licence/diff"
        return read(LicenceDiff.from_document, self._connection.get(where, **{"from": old, "to": new}))

    def offer(self) -> dict[str, Any]:
        """The licence as an Offer of the Dataspace Protocol 2025-1."""
        where = f"/v1/datasets/{self.slug}/licence"
        return dict(self._connection.send("GET", where, headers={"Accept": DATASPACE}).json())

    def quote(
        self,
        sql: str,
        *,
        rho: Amount | None = None,
        epsilon: Amount | None = None,
        error: Mapping[str, float] | None = None,
        max_groups: int | None = None,
        max_rows_per_group: int | None = None,
        max_rows: int | None = None,
        strategy: str | None = None,
        intervals: bool | None = None,
        grant: str | Grant | None = None,
        plan: str | None = None,
    ) -> Quote:
        """Price, privacy cost and noise of a statement, bound to its plan for some minutes; free.

        Give exactly one of ``rho``, ``epsilon`` and ``error`` (95% half-width wanted, by column). Caps and
        ``strategy`` (how one unit's contribution is bounded: "caps", "clip" or "weights") are the exchange's
        choice where they are not given. Raises
        :class:`~exchange.client.errors.QueryRefused` with the place and the nearest allowed form.
        """
        options = _options(max_groups, max_rows_per_group, max_rows, strategy, intervals)
        question = ask(
            self.slug, sql, rho=rho, epsilon=epsilon, error=error, options=options, grant=grant, plan=plan
        )
        return read(Quote.from_document, self._connection.post("/v1/quotes", question), self._connection)

    @overload
    def query(
        self,
        sql: str,
        *,
        rho: Amount | None = None,
        epsilon: Amount | None = None,
        error: Mapping[str, float] | None = None,
        max_groups: int | None = None,
        max_rows_per_group: int | None = None,
        max_rows: int | None = None,
        strategy: str | None = None,
        intervals: bool | None = None,
        grant: str | Grant | None = None,
        plan: str | None = None,
        max_price: Amount | None = None,
        max_rho: Amount | None = None,
        wait: Literal[True] = True,
        progress: Progress = "auto",
        idempotency_key: str | None = None,
    ) -> Answer: ...
    @overload
    def query(
        self,
        sql: str,
        *,
        rho: Amount | None = None,
        epsilon: Amount | None = None,
        error: Mapping[str, float] | None = None,
        max_groups: int | None = None,
        max_rows_per_group: int | None = None,
        max_rows: int | None = None,
        strategy: str | None = None,
        intervals: bool | None = None,
        grant: str | Grant | None = None,
        plan: str | None = None,
        max_price: Amount | None = None,
        max_rho: Amount | None = None,
        wait: Literal[False],
        progress: Progress = "auto",
        idempotency_key: str | None = None,
    ) -> Job: ...
    def query(
        self,
        sql: str,
        *,
        rho: Amount | None = None,
        epsilon: Amount | None = None,
        error: Mapping[str, float] | None = None,
        max_groups: int | None = None,
        max_rows_per_group: int | None = None,
        max_rows: int | None = None,
        strategy: str | None = None,
        intervals: bool | None = None,
        grant: str | Grant | None = None,
        plan: str | None = None,
        max_price: Amount | None = None,
        max_rho: Amount | None = None,
        wait: bool = True,
        progress: Progress = "auto",
        idempotency_key: str | None = None,
    ) -> Answer | Job:
        """Quote and run in one call; refused before anything is charged if dearer than the limits.

        A long query is waited for, with a bar where ``progress`` shows one; with ``wait=False`` its job comes
        at once: ``.state``, ``.wait()``, ``.cancel()``. Raises the errors of :meth:`quote`, and
        ``LimitExceeded``, ``PaymentRequired``, ``BudgetExceeded``, ``QueryFailed``.
        """
        options = _options(max_groups, max_rows_per_group, max_rows, strategy, intervals)
        question = ask(
            self.slug, sql, rho=rho, epsilon=epsilon, error=error, options=options, grant=grant, plan=plan
        )
        if max_price is not None:
            question["max_price"] = str(max_price)
        if max_rho is not None:
            question["max_rho"] = str(max_rho)
        return run(self._connection, question, idempotency_key, wait=wait, progress=progress)

    def mock(self, rows: int = 100, *, seed: int | None = None) -> dict[str, list[dict[str, Any]]]:
        """Random rows of every table's schema and public domains, offline: for writing code before buying.

        They say nothing about the data: every column is drawn independently from what the policy declares.
        ``pandas.DataFrame(dataset.mock(1000)["flights"])`` makes a frame.
        """
        return mock_tables(self.tables, rows, seed=seed)

    def _repr_html_(self) -> str:
        rows = [(t.name, c.name, c.type, c.domain) for t in self.tables for c in t.columns]
        return html.table(("table", "column", "type", "domain"), rows, caption=f"{self.title} ({self.slug})")


def _options(
    max_groups: int | None,
    max_rows_per_group: int | None,
    max_rows: int | None,
    strategy: str | None,
    intervals: bool | None,
) -> dict[str, Any]:
    given = {
        "max_groups": max_groups,
        "max_rows_per_group": max_rows_per_group,
        "max_rows": max_rows,
        "strategy": strategy,
        "intervals": intervals,
    }
    return {name: value for name, value in given.items() if value is not None}
