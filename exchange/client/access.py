"""Access: requests on their way, and the grants they lead to."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from exchange.client import html
from exchange.client.connection import Connection, read
from exchange.client.errors import ExchangeError, GrantMissing
from exchange.client.price import NANO

if TYPE_CHECKING:
    from collections.abc import Mapping

_FIRST_POLL_S, _LONGEST_POLL_S = 1.0, 30.0


class StillOpen(ExchangeError, TimeoutError):
    """The provider has not decided within the time that ``wait`` was given."""

    codes = ("request_open",)
    hint = "Wait again later, or look at `x.requests()`."


@dataclass(frozen=True)
class AccessRequest:
    """A request for access. ``state`` is "open", "approved" or "declined".

    ``outcome`` says more of a declined one: "lapsed" or "cancelled". ``decide_by`` is the end of the
    provider's time to decide, while it runs.
    """

    id: str
    state: str
    dataset: str
    plan: str
    purpose: str
    territory: str
    buyer: str
    requested_at: str
    grant: dict[str, Any] | None
    document: dict[str, Any] = field(repr=False)
    _connection: Connection = field(repr=False, compare=False)
    outcome: str = ""
    reason: str = ""
    decide_by: str | None = None
    renews: str | None = None

    @classmethod
    def from_document(cls, document: Mapping[str, Any], connection: Connection) -> AccessRequest:
        """Read a request."""
        return cls(
            id=document["request"],
            state=document["state"],
            dataset=str(document.get("slug") or document.get("dataset") or ""),
            plan=str(document.get("plan") or ""),
            purpose=str(document.get("purpose") or ""),
            territory=str(document.get("territory") or ""),
            buyer=str(document.get("org_name") or document.get("buyer") or document.get("org") or ""),
            requested_at=str(document.get("requested_at") or document.get("created_at") or ""),
            grant=document.get("grant"),
            document=dict(document),
            _connection=connection,
            outcome=str(document.get("outcome") or document["state"]),
            reason=str(document.get("reason") or ""),
            decide_by=document.get("decide_by"),
            renews=document.get("renews"),
        )

    def approve(
        self,
        *,
        reason: str = "",
        max_rho: Decimal | str | float | None = None,
        until: str | None = None,
        idempotency_key: str | None = None,
    ) -> AccessRequest:
        """Provider: issue the grant, with at most ``max_rho`` and until ``until`` where they are given."""
        limits = {
            "reason": reason or None,
            "max_rho": None if max_rho is None else str(max_rho),
            "until": until,
        }
        body = {name: value for name, value in limits.items() if value is not None}
        return self._decide("approve", body, idempotency_key)

    def cancel(self, *, idempotency_key: str | None = None) -> AccessRequest:
        """Buyer: take the request back while it is open."""
        return self._decide("cancel", {}, idempotency_key)

    def decline(self, *, reason: str, idempotency_key: str | None = None) -> AccessRequest:
        """Provider: decline, with a reason that the buyer reads."""
        return self._decide("decline", {"reason": reason}, idempotency_key)

    def refresh(self) -> AccessRequest:
        """The request as it stands now."""
        return read(
            AccessRequest.from_document, self._connection.get(f"/v1/requests/{self.id}"), self._connection
        )

    def as_grant(self) -> Grant:
        """The grant, active or still to come."""
        return read(Grant.from_request, self)

    def _decide(self, verb: str, body: dict[str, Any], key: str | None) -> AccessRequest:
        document = self._connection.post(f"/v1/requests/{self.id}/{verb}", body, key=key)
        return read(AccessRequest.from_document, document, self._connection)


@dataclass(frozen=True)
class Grant:
    """The right to ask questions of a dataset under a plan, for a purpose, in a territory.

    ``state`` is "active", "open" while the provider decides, or what ended it. ``id`` is empty while open.
    """

    id: str
    state: str
    dataset: str
    plan: str
    purpose: str
    territory: str
    rho_nano_allowance: int | None
    rho_nano_remaining: int | None
    until: str | None
    acceptance: Any
    request: AccessRequest | None = field(default=None, repr=False, compare=False)
    buyer: str = ""
    reason: str = ""
    _connection: Connection | None = field(default=None, repr=False, compare=False)

    @classmethod
    def from_document(
        cls,
        document: Mapping[str, Any],
        request: AccessRequest | None = None,
        connection: Connection | None = None,
    ) -> Grant:
        """Read a grant."""
        return cls(
            id=document["grant"],
            state=document["state"],
            dataset=str(document.get("slug") or document["dataset"]),
            plan=document["plan"],
            purpose=document["purpose"],
            territory=document["territory"],
            rho_nano_allowance=document.get("rho_nano_allowance"),
            rho_nano_remaining=document.get("rho_nano_remaining"),
            until=document.get("until"),
            acceptance=document.get("acceptance"),
            request=request,
            buyer=str(document.get("org") or ""),
            reason=str(document.get("reason") or ""),
            _connection=connection or (request._connection if request else None),
        )

    @classmethod
    def from_request(cls, request: AccessRequest) -> Grant:
        """The grant of a request, or the place where it will be."""
        if request.grant:
            return cls.from_document(request.grant, request)
        about = (request.dataset, request.plan, request.purpose, request.territory)
        return cls("", request.state, *about, None, None, None, request.document.get("acceptance"), request)

    @property
    def rho_remaining(self) -> Decimal | None:
        """Rho that this grant may still spend; None where it has no allowance of its own."""
        return None if self.rho_nano_remaining is None else Decimal(self.rho_nano_remaining) / NANO

    def suspend(self, *, reason: str, idempotency_key: str | None = None) -> Grant:
        """Provider: stop its use for now."""
        return self._move("suspend", {"reason": reason}, idempotency_key)

    def resume(self, *, reason: str, idempotency_key: str | None = None) -> Grant:
        """Provider: allow its use again."""
        return self._move("resume", {"reason": reason}, idempotency_key)

    def withdraw(self, *, reason: str, idempotency_key: str | None = None) -> Grant:
        """Provider: end it for good; credit that was not spent goes back to the buyer."""
        return self._move("withdraw", {"reason": reason}, idempotency_key)

    def end(self, *, idempotency_key: str | None = None) -> Grant:
        """Buyer: let it end - a subscription with the period that is paid, anything else at once."""
        return self._move("end", {}, idempotency_key)

    def top_up(self, *, idempotency_key: str | None = None) -> Grant:
        """Buyer: buy another bundle of credit."""
        return self._move("top-up", {}, idempotency_key)

    def pay(self, *, idempotency_key: str | None = None) -> Grant:
        """Buyer: pay the present period of a subscription, where it is not paid."""
        return self._move("pay", {}, idempotency_key)

    def renew(
        self,
        *,
        until: str | None = None,
        accept_licence: bool = False,
        licence_sha256: str | None = None,
        plan_sha256: str | None = None,
        idempotency_key: str | None = None,
    ) -> AccessRequest:
        """Buyer: ask for another term. A new licence version must be accepted, by the hash of its text.

        ``plan_sha256``: the plan of that term as it was shown (:meth:`Dataset.plan_sha256`); where it was
        changed since, the request is refused.
        """
        asked = {
            "until": until,
            "accept_licence": accept_licence,
            "licence_sha256": licence_sha256,
            "plan_sha256": plan_sha256,
        }
        body = {name: value for name, value in asked.items() if value is not None}
        connection = self._door()
        document = connection.post(f"/v1/grants/{self.id}/renew", body, key=idempotency_key)
        return read(AccessRequest.from_document, document, connection)

    def _move(self, verb: str, body: dict[str, Any], key: str | None) -> Grant:
        connection = self._door()
        document = connection.post(f"/v1/grants/{self.id}/{verb}", body, key=key)
        return read(Grant.from_document, document, self.request, connection)

    def _door(self) -> Connection:
        if self._connection is None or not self.id:
            raise GrantMissing("there is no grant yet", hint="Wait for the provider: `grant.wait()`.")
        return self._connection

    def wait(self, *, timeout_s: float | None = None) -> Grant:
        """Wait for the provider's decision and return the active grant.

        Raises :class:`~exchange.client.errors.GrantMissing` where it was declined, :class:`StillOpen` (a
        ``TimeoutError``) after ``timeout_s`` seconds.
        """
        if self.id or self.request is None:
            return self
        request, pause = self.request, _FIRST_POLL_S
        began = time.monotonic()
        while request.state == "open":
            if timeout_s is not None and time.monotonic() - began + pause > timeout_s:
                raise StillOpen(f"the provider has not decided on request {request.id} yet")
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_POLL_S)
            request = request.refresh()
        if request.grant is None:
            reason = request.document.get("reason")
            raise GrantMissing(
                f"the request was {request.state}" + (f": {reason}" if reason else ""),
                code="request_declined",
                hint="Ask the provider, or request another purpose or plan.",
            )
        return request.as_grant()

    def _repr_html_(self) -> str:
        names = ("id", "state", "dataset", "plan", "purpose", "territory", "rho_remaining", "until")
        return html.facts([(name, getattr(self, name)) for name in names], caption="Grant")
