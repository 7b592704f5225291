"""Who is named on invoices: billing profiles of organisations and of the exchange, and the tax of a buyer."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from exchange import identity
from exchange.audit.entry import Entry, ObjectGroup, ResultGroup
from exchange.identity import SYSTEM, Role
from settlement import invoices
from settlement.documents import canonical, sha256_hex
from settlement.errors import BillingInvalid

if TYPE_CHECKING:
    from exchange.identity import Actor
    from exchange.market import Market
    from exchange.store import Tx

_RATE = re.compile(r"(0|[1-9][0-9]{0,2})(?:\.([0-9]{1,2}))?", re.ASCII)
_FIELDS = ("legal_name", "address", "country", "tax_id", "email")


@dataclass(frozen=True)
class SetBillingProfile:
    """Keep who an organisation is on invoices from now on."""

    org: str
    profile: invoices.BillingProfile
    kind: ClassVar[str] = "billing.changed"
    refused: ClassVar[str] = "billing.refused"

    def entry(self) -> Entry:
        """The audit entry: whose profile; names and addresses stay out of the log, their digest is in it."""
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="billing_profile", id=self.org))


@dataclass(frozen=True)
class SetTax:
    """Enter the tax of a buyer's invoices from now on."""

    org: str
    tax: invoices.TaxTreatment
    kind: ClassVar[str] = "tax.entered"
    refused: ClassVar[str] = "tax.refused"

    def entry(self) -> Entry:
        """The audit entry: whose tax, with the digest of what was entered."""
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="tax_treatment", id=self.org))


def show_profile(market: Market, actor: Actor) -> dict[str, Any]:
    """The actor's own billing profile, for an operator that of the exchange; empty before it is set."""
    actor.require(Role.BUYER, Role.PROVIDER, Role.OPERATOR)
    return market.store.read(lambda session: _profile_document(session, _whose(actor)))


def set_profile(
    market: Market, actor: Actor, given: dict[str, str], *, org: str | None = None, key: str | None = None
) -> dict[str, Any]:
    """Set the actor's own profile; an operator sets the exchange's, SYSTEM that of the organisation named.

    Raises BillingInvalid naming the field.
    """
    if actor != SYSTEM:
        actor.require(Role.BUYER, Role.PROVIDER, Role.OPERATOR)
        whose = _whose(actor)
    else:
        whose = _id_of(market, org)
    profile = invoices.BillingProfile(**{name: given.get(name, "") for name in _FIELDS})

    def work(tx: Tx) -> dict[str, Any]:
        invoices.save_profile(tx.session, whose, profile, actor=tx.actor.ref, now=tx.now)
        tx.record(result=ResultGroup(sha256=sha256_hex(canonical(asdict(profile)))))
        return _profile_document(tx.session, whose)

    return market.store.perform(actor, SetBillingProfile(whose, profile), work, key=key).value


def set_tax(market: Market, *, org: str, label: str, rate: str, place: str, note: str = "") -> dict[str, Any]:
    """Enter a buyer's tax: ``rate`` in percent, such as "20" or "7.25", of the net amount.

    Prices contain it. Raises BillingInvalid, NotFound.
    """
    match = _RATE.fullmatch(rate)
    if match is None:
        raise BillingInvalid("rate", "is a percentage with at most two decimals, such as 20 or 7.25")
    basis_points = int(match[1] + (match[2] or "").ljust(2, "0"))
    tax = invoices.TaxTreatment(label, basis_points, place, note)
    whose = _id_of(market, org)

    def work(tx: Tx) -> dict[str, Any]:
        invoices.save_tax(tx.session, whose, tax, actor=tx.actor.ref, now=tx.now)
        tx.record(result=ResultGroup(sha256=sha256_hex(canonical(asdict(tax)))))
        return {"org": whose, **asdict(tax)}

    return market.store.perform(SYSTEM, SetTax(whose, tax), work).value


def _id_of(market: Market, org: str | None) -> str:
    if org is None:
        return invoices.ISSUER
    return market.store.read(lambda session: identity.find_organisation(session, org))[0]


def _whose(actor: Actor) -> str:
    return invoices.ISSUER if actor.role == Role.OPERATOR else actor.org


def _profile_document(session: Any, org: str) -> dict[str, Any]:
    found = invoices.find_profile(session, org)
    empty = dict.fromkeys(_FIELDS, "")
    return {"org": org, "complete": found is not None, **(asdict(found) if found else empty)}
