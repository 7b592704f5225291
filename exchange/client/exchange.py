"""The front door: one exchange, as one organisation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from exchange.client import answers, books, payments, pricing, publishing, questions, uploads
from exchange.client.access import AccessRequest, Grant
from exchange.client.alerts import Alerts, SavedSearches
from exchange.client.audit import Audit
from exchange.client.books import Invoice, Ledger, Statement
from exchange.client.configuration import Address, Keys, resolve
from exchange.client.connection import Connection, Retry, read
from exchange.client.errors import ConfigurationError, GrantMissing
from exchange.client.jobs import Job, Jobs
from exchange.client.licences import Licences
from exchange.client.listings import Dataset, FacetValue, Listing, Listings
from exchange.client.money import Usage, Wallet
from exchange.client.notifications import Notifications
from exchange.client.payments import TopUp, Treasury
from exchange.client.programs import Programs
from exchange.client.receipts import Receipt
from exchange.client.signing_in import by_secret, by_sign_in

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    import httpx

    from catalog.manifest import Manifest
    from exchange.client.answers import Answer
    from exchange.client.pricing import PlanOffer, Simulation
    from exchange.client.progress import Progress
    from exchange.client.publishing import Publication
    from exchange.client.questions import Quote

_PAGE = 50


@dataclass(frozen=True)
class Identity:
    """Who the exchange takes us for."""

    org: str
    name: str
    role: str
    token: str
    auth: str = "token"
    scope: str | None = None

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Identity:
        """Read an identity; ``token`` is the token's or authorization's id, not its secret."""
        return cls(
            org=document["org"],
            name=document["name"],
            role=document["role"],
            token=document["token"],
            auth=document.get("auth", "token"),
            scope=document.get("scope"),
        )


class Exchange:
    """A data exchange over HTTP. Safe to share between threads; close it, or use it in a ``with`` statement.

    Args:
        url: address; else ``EXCHANGE_URL``, ``./exchange.toml``, the user configuration.
        token: token; else ``EXCHANGE_TOKEN`` and the same files.
        client_id: a client of the organisation, with its ``client_secret``: access tokens are asked for and
            renewed by themselves, and no token is looked for elsewhere.
        scope: what those tokens may do, such as "dataset:nyc/flights rho:1.5"; all that the client may, by
            default.
        profile: profile of the configuration files; else ``EXCHANGE_PROFILE``.
        timeout: seconds or ``httpx.Timeout``; 5 s to connect and 60 s to read by default.
        retry: how failed calls are repeated.
        transport: an ``httpx`` transport, for tests and special networks.

    Raises:
        ConfigurationError: no exchange is named, or a configuration file cannot be used.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        client_id: str | None = None,
        client_secret: str | None = None,
        scope: str | None = None,
        profile: str | None = None,
        timeout: httpx.Timeout | float | None = None,
        retry: Retry | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        if client_id is not None and (token is not None or not client_secret):
            raise ConfigurationError(
                "a client comes with its secret, and without another token",
                hint="Pass client_id= and client_secret=, or token=.",
            )
        address = resolve(url, "" if client_id is not None else token, profile)
        self._connection = Connection(
            address,
            transport=transport,
            timeout=timeout,
            retry=retry,
            auth=_auth(address, client_id, client_secret, scope),
        )

    def __enter__(self) -> Exchange:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Exchange({self._connection.url!r})"

    def close(self) -> None:
        """Close the connections that are kept open."""
        self._connection.close()

    @property
    def url(self) -> str:
        """The exchange's address."""
        return self._connection.url

    def whoami(self) -> Identity:
        """The organisation and role behind the token. Raises ``AuthError``."""
        return read(Identity.from_document, self._connection.get("/v1/whoami"))

    def keys(self) -> Keys:
        """The exchange's public keys: the profile's, else those it publishes. Keep them to check offline."""
        return self._connection.keys()

    def published_keys(self) -> Keys:
        """What the exchange publishes now, whatever the profile has pinned: to pin it, or to compare."""
        return self._connection.published_keys()

    @cached_property
    def programs(self) -> Programs:
        """Clients of this organisation, and what it let them do (docs/signing-in.md)."""
        return Programs(self._connection)

    # -- buyers ---------------------------------------------------------------------------------------------

    def search(
        self,
        q: str = "",
        *,
        limit: int | None = None,
        subject: str | Iterable[str] = (),
        unit: str | Iterable[str] = (),
        territory: str | Iterable[str] = (),
        price: str | Iterable[str] = (),
        accuracy: str | int | Iterable[str | int] = (),
        sort: Literal["best", "newest", "name"] = "best",
    ) -> Listings:
        """Published listings that match the words; all of them unless ``limit`` is given.

        Of each facet a listing needs one of the values given: ``territory=["EU", "*"]``, ``price="USD:100"``
        (the first answer for at most 100 minor units), ``accuracy=5`` (a count within 5). The ``facets`` of
        what is returned list the values that there are.
        """
        chosen: dict[str, object] = {
            "subject": _values(subject),
            "unit": _values(unit),
            "territory": _values(territory),
            "price": _values(price),
            "accuracy": _values(accuracy),
        }
        return self._listings({"q": q or None, "sort": sort if sort != "best" else None, **chosen}, limit)

    def dataset(self, slug: str) -> Dataset:
        """A dataset by ``owner/name`` or id. Raises ``NotFound``."""
        return read(
            Dataset.from_document, self._connection.get(f"/v1/datasets/{slug.strip('/')}"), self._connection
        )

    @overload
    def run(
        self,
        quote: str | Quote,
        *,
        wait: Literal[True] = True,
        progress: Progress = "auto",
        idempotency_key: str | None = None,
    ) -> Answer: ...
    @overload
    def run(
        self,
        quote: str | Quote,
        *,
        wait: Literal[False],
        progress: Progress = "auto",
        idempotency_key: str | None = None,
    ) -> Job: ...
    def run(
        self,
        quote: str | Quote,
        *,
        wait: bool = True,
        progress: Progress = "auto",
        idempotency_key: str | None = None,
    ) -> Answer | Job:
        """Run a quote by its id, such as one made in another process; without ``wait`` its job comes at once.

        Raises as :meth:`Quote.run <exchange.client.questions.Quote.run>` does.
        """
        question = {"quote": quote if isinstance(quote, str) else quote.id}
        return questions.run(self._connection, question, idempotency_key, wait=wait, progress=progress)

    def job(self, query: str) -> Job:
        """One query by its id: its state, to wait for it, to cancel it. Raises ``NotFound``."""
        return read(Job.from_document, self._connection.get(f"/v1/queries/{query}"), self._connection)

    def jobs(self) -> Jobs:
        """This organisation's latest queries, newest first."""
        items = self._connection.get("/v1/queries")["items"]
        return Jobs(read(Job.from_document, item, self._connection) for item in items)

    def answer(self, query: str) -> Answer:
        """A past answer again, by its query's id: the same bytes, free of charge."""
        return answers.fetch(self._connection, query)

    def receipt(self, query: str) -> Receipt:
        """The receipt of a query, by the query's id."""
        return Receipt({}, query, self._connection).refresh()

    def wallet(self) -> Wallet:
        """Prepaid balances."""
        return read(Wallet.from_document, self._connection.get("/v1/wallet"))

    def top_up(
        self, amount: str, currency: str = "USD", *, saved: bool = False, idempotency_key: str | None = None
    ) -> TopUp:
        """Top up the wallet by card: pay on the page that the result's ``url`` names, then ``wait()``.

        ``saved`` pays at once with the method that an earlier top-up saved.
        """
        return payments.top_up(
            self._connection, amount, currency, saved=saved, idempotency_key=idempotency_key
        )

    def top_ups(self) -> list[TopUp]:
        """This organisation's top-ups, newest first."""
        items = self._connection.get("/v1/top-ups")["items"]
        return [read(TopUp.from_document, item, self._connection) for item in items]

    def wallet_history(self) -> list[dict[str, Any]]:
        """What moved in the wallets, oldest first, each with the balance after it."""
        items: list[dict[str, Any]] = self._connection.get("/v1/wallet/history")["items"]
        return items

    def usage(self) -> Usage:
        """What was asked and what it cost; for a provider, what its datasets earned."""
        return read(Usage.from_document, self._connection.get("/v1/usage"))

    def invoices(self) -> list[Invoice]:
        """Invoices, credit notes and payment receipts, newest first; ``.pdf(path)`` writes one."""
        return books.invoices(self._connection)

    def invoice(self, number: str) -> Invoice:
        """One invoice, credit note or receipt by its number or id. Raises ``NotFound``."""
        return books.invoice(self._connection, number)

    def issue_invoices(self, *, org: str | None = None, idempotency_key: str | None = None) -> list[Invoice]:
        """Issue what is due now instead of at the month's end; an operator may name the organisation.

        Raises ``Conflict`` (billing_profile_missing) before both parties have a billing profile.
        """
        return books.issue(self._connection, org, idempotency_key)

    # -- buyers and providers -------------------------------------------------------------------------------

    def grants(self) -> list[Grant]:
        """This organisation's grants with what is left of their allowances; for a provider, those it gave."""
        items = self._connection.get("/v1/grants")["items"]
        return [read(Grant.from_document, item, None, self._connection) for item in items]

    def grant(self, grant_id: str) -> Grant:
        """One grant by its id. Raises ``GrantMissing``."""
        for one in self.grants():
            if one.id == grant_id:
                return one
        raise GrantMissing("there is no such grant")

    def notifications(self, *, unread: bool = False) -> Notifications:
        """What this organisation was told, newest first."""
        told = self._connection.get("/v1/notifications", unread="true" if unread else None)
        return read(Notifications.from_document, told, self._connection)

    def requests(self, *, state: str | None = None) -> list[AccessRequest]:
        """Requests for access: a buyer's own, or those for a provider's datasets, newest first."""
        items = self._connection.get("/v1/requests", state=state)["items"]
        return [read(AccessRequest.from_document, item, self._connection) for item in items]

    def request(self, request_id: str) -> AccessRequest:
        """One request for access by its id."""
        return read(
            AccessRequest.from_document, self._connection.get(f"/v1/requests/{request_id}"), self._connection
        )

    def billing_profile(self) -> dict[str, Any]:
        """Who this organisation is on documents: legal name, address, country, tax id, e-mail."""
        return dict(self._connection.get("/v1/billing-profile"))

    def set_billing_profile(
        self,
        *,
        legal_name: str,
        address: str,
        country: str,
        tax_id: str = "",
        email: str = "",
        idempotency_key: str | None = None,
    ) -> dict[str, Any]:
        """Set it for documents from now on; an operator sets that of the exchange."""
        profile = {"legal_name": legal_name, "address": address, "country": country}
        sent = {**profile, "tax_id": tax_id, "email": email}
        return dict(self._connection.post("/v1/billing-profile", sent, key=idempotency_key))

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger: trial balance, statement of an account, export."""
        return Ledger(self._connection)

    # -- providers ------------------------------------------------------------------------------------------

    def publish(
        self,
        manifest: str | Path | Manifest,
        *,
        progress: Progress = "auto",
        idempotency_key: str | None = None,
    ) -> Publication:
        """Publish what a ``listing.toml`` describes: files, policy, licence and price plans.

        Publishing the same again changes nothing and uploads nothing; a changed manifest or file makes a new
        version. ``progress`` shows a bar on a terminal or in a notebook; True, False or a function override
        it.
        """
        return publishing.publish(
            self._connection, manifest, progress=progress, idempotency_key=idempotency_key
        )

    def check_prices(self, manifest: str | Path | Manifest) -> list[PlanOffer]:
        """Check the price plans of a ``listing.toml`` as publishing would; nothing is uploaded or stored.

        Raises ``InvalidRequest`` with the code "price_arbitrage" where two purchases beat a price: they are
        in the message, and in ``details["counterexample"]``.
        """
        return pricing.check(self._connection, manifest)

    def simulate_prices(
        self,
        manifest: str | Path | Manifest,
        *,
        questions: Iterable[Mapping[str, Any]] | None = None,
        plan: str | None = None,
    ) -> Simulation:
        """What questions will cost and earn under the plans of a ``listing.toml``, before it is published.

        Each question has ``sql``, one of ``rho``, ``epsilon`` and ``error``, and ``times``; without questions
        those are tried that the policy suggests. Files are not sent, and need not be complete.
        """
        return pricing.simulate(self._connection, manifest, questions=questions, plan=plan)

    def upload(self, path: str | Path, *, progress: Progress = "auto") -> str:
        """Upload a file, resuming where an earlier attempt stopped; returns the upload's id."""
        return uploads.upload(self._connection, Path(path), progress=progress)

    def statements(self, *, org: str | None = None) -> list[Statement]:
        """Monthly statements, newest first; an operator or officer names the provider."""
        return books.statements(self._connection, org)

    def statement(self, statement_id: str, *, org: str | None = None) -> Statement:
        """One statement by its id, such as "2026-11-USD". Raises ``NotFound``."""
        return books.statement(self._connection, statement_id, org)

    def deprecate(self, slug: str, *, reason: str, idempotency_key: str | None = None) -> str:
        """Take no new buyers; publishing the version again undoes it. Returns the new state."""
        sent, path = {"reason": reason}, f"/v1/datasets/{slug.strip('/')}/deprecate"
        return str(self._connection.post(path, sent, key=idempotency_key)["state"])

    def withdraw(self, slug: str, *, idempotency_key: str | None = None) -> str:
        """Withdraw a listing: its grants stop at the next query. Returns the new state."""
        return str(
            self._connection.post(f"/v1/datasets/{slug.strip('/')}/withdraw", {}, key=idempotency_key)[
                "state"
            ]
        )

    @cached_property
    def licences(self) -> Licences:
        """Licences: templates, checks, approval, withdrawal; acceptances with their receipts."""
        return Licences(self._connection)

    def payouts(self) -> list[dict[str, Any]]:
        """A provider's payouts, newest first; all for an operator."""
        items: list[dict[str, Any]] = self._connection.get("/v1/payouts")["items"]
        return items

    def onboarding(self) -> str:
        """The address at which a provider connects its account at Stripe; it works once and for minutes."""
        return str(self._connection.post("/v1/payouts/onboarding", {})["url"])

    # -- operators ------------------------------------------------------------------------------------------

    @cached_property
    def treasury(self) -> Treasury:
        """Refunds, disputes, bank credits, payouts and reconciliation."""
        return Treasury(self._connection)

    # -- officers -------------------------------------------------------------------------------------------

    @cached_property
    def audit(self) -> Audit:
        """The log: search, proofs, verification, evidence."""
        return Audit(self._connection)

    @cached_property
    def alerts(self) -> Alerts:
        """What an officer should look at."""
        return Alerts(self._connection)

    @cached_property
    def searches(self) -> SavedSearches:
        """Searches of the log that are kept under a name."""
        return SavedSearches(self._connection)

    def _listings(self, asked: Mapping[str, object], limit: int | None) -> Listings:
        found: list[Listing] = []
        first: dict[str, Any] | None = None
        token: str | None = None
        while limit is None or len(found) < limit:
            size = _PAGE if limit is None else min(_PAGE, limit - len(found))
            page = self._connection.get("/v1/datasets", **asked, limit=size, page_token=token)
            first = page if first is None else first
            left = None if limit is None else limit - len(found)
            found += [read(Listing.from_document, item) for item in page["items"][:left]]
            token = page.get("next_page_token")
            if not token:
                break
        told = first or {}
        facets = {
            name: tuple(read(FacetValue.from_document, value) for value in values)
            for name, values in (told.get("facets") or {}).items()
        }
        return Listings(found, total=told.get("total"), facets=facets)


def _values(given: object) -> list[str] | None:
    """One value or several, as parameters of an address; None for none."""
    many = given if isinstance(given, Iterable) and not isinstance(given, str) else (given,)
    return [str(value) for value in many if value != ""] or None


def _auth(
    address: Address, client_id: str | None, client_secret: str | None, scope: str | None
) -> httpx.Auth | None:
    """How access tokens are had, where it is not by a token that is there already."""
    if client_id is not None and client_secret:
        return by_secret(address.url, client_id, client_secret, scope)
    return by_sign_in(address.url, address.signed_in) if address.signed_in is not None else None
