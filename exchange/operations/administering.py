"""The operator's journey: organisations, tokens, and wallets credited for confirmed bank transfers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from exchange import identity, parties
from exchange.approvals import Wanted
from exchange.audit.entry import Entry, MoneyGroup, ObjectGroup, ResultGroup
from exchange.errors import ApprovalNeeded, RequestInvalid, RoleMissing
from exchange.identity import SYSTEM, Role, new_id
from exchange.operations import approving
from exchange.operations.terms import money
from settlement import ledger
from settlement.errors import SecondOperatorNeeded
from settlement.ledger import chart, entries
from settlement.money import Money, exponent_of, parse_amount

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from exchange.identity import Actor
    from exchange.market import Market
    from exchange.store import Tx


REGISTERED = (Role.BUYER, Role.PROVIDER)
"""Whom an officer may have to approve; officers and operators are the operator's own to admit."""


@dataclass(frozen=True)
class CreateOrganisation:
    """Admit an organisation with one role."""

    name: str
    role: str
    kind: ClassVar[str] = "organisation.created"
    refused: ClassVar[str] = "organisation.refused"

    def entry(self) -> Entry:
        """The audit entry: an organisation, by id once it has one."""
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="organisation"))


@dataclass(frozen=True)
class IdentifyOrganisation:
    """Record who an organisation is, as the operator has verified it."""

    org: str
    kind: ClassVar[str] = "organisation.identified"
    refused: ClassVar[str] = "organisation.refused"

    def entry(self) -> Entry:
        """The audit entry: an organisation; the digest of what is recorded, and nothing of it."""
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="organisation"))


@dataclass(frozen=True)
class CreateToken:
    """Give an organisation a token; its text is shown once."""

    org: str
    role: str
    expires_at: str | None
    kind: ClassVar[str] = "token.created"
    refused: ClassVar[str] = "token.refused"

    def entry(self) -> Entry:
        """The audit entry: a token, by id."""
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="token"))


@dataclass(frozen=True)
class RevokeToken:
    """End a token at once."""

    token: str
    kind: ClassVar[str] = "token.revoked"
    refused: ClassVar[str] = "token.refused"

    def entry(self) -> Entry:
        """The audit entry: a token, by id."""
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="token", id=self.token[:64]))


@dataclass(frozen=True)
class CreditWallet:
    """Credit a wallet for a bank transfer that the operator saw arrive; the reference is the bank's."""

    org: str
    amount_minor: int
    currency: str
    reference: str
    kind: ClassVar[str] = "wallet.credited"
    refused: ClassVar[str] = "wallet.refused"

    def entry(self) -> Entry:
        """The audit entry: a wallet."""
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="wallet", id=self.org))


def create_organisation(
    market: Market, *, name: str, role: Role, actor: Actor = SYSTEM, anew: bool = False
) -> dict[str, Any]:
    """Create an organisation; creating the same again returns it, or is refused where it is to be ``anew``.

    Raises :class:`RequestInvalid`.

    Where the settings ask for it, an officer approves buyers and providers: ApprovalNeeded names what was
    asked for, and the organisation is there once that is approved. Officers and operators are admitted at
    the machine (the actor SYSTEM) alone: whoever lets officers in could be two of them.
    """
    asks = market.settings.registration_approval and role in REGISTERED

    def work(tx: Tx) -> dict[str, Any]:
        if actor is not SYSTEM:
            actor.require(Role.OPERATOR)
            if role not in REGISTERED:
                raise RoleMissing(
                    f"an organisation with the role {role} is admitted at the machine",
                    hint=f"Run `exchange org create NAME --role {role}` there.",
                )
        made = new_id("org")
        org = identity.create_organisation(tx.session, id=made, name=name, role=role, now=tx.now)
        if anew and org != made:
            raise RequestInvalid(f"the organisation {name} exists already", hint="Change it on its own page.")
        if asks and org == made:
            wanted = Wanted(approving.REGISTER, {"name": name, "role": str(role)})
            raise ApprovalNeeded(f"a compliance officer approves that {name} is registered", wanted)
        tx.record(kind=_created(org, made), object=ObjectGroup(type="organisation", id=org))
        return {"org": org, "name": name, "role": str(role)}

    with approving.filing(market, actor):
        return market.store.perform(actor, CreateOrganisation(name, str(role)), work).value


def register(tx: Tx, parameters: Mapping[str, Any], approval: str) -> None:
    """Create an organisation in the transaction that approves it."""
    del approval  # the entry beside this one names it
    name, role = parameters["name"], Role(parameters["role"])
    made = new_id("org")
    org = identity.create_organisation(tx.session, id=made, name=name, role=role, now=tx.now)
    tx.also(_created(org, made), object=ObjectGroup(type="organisation", id=org))


def _created(org: str, made: str) -> str:
    """What the log says: that an organisation was created under its new id, or that it was there before."""
    return "organisation.created" if org == made else "organisation.confirmed"


def identify(market: Market, *, org: str, said: Mapping[str, str], actor: Actor = SYSTEM) -> dict[str, Any]:
    """Record the legal name, country, registration of an organisation and by what it was verified.

    Nothing is overwritten: the newest record is the one in force. Raises RequestInvalid, NotFound.
    """

    def work(tx: Tx) -> dict[str, Any]:
        if actor is not SYSTEM:
            actor.require(Role.OPERATOR)
        found, _ = identity.find_organisation(tx.session, org)
        digest = parties.record(tx.session, found, said, by=tx.actor.ref, now=tx.now)
        tx.record(object=ObjectGroup(type="organisation", id=found), result=ResultGroup(sha256=digest))
        return {"org": found, "name": org, **(parties.find(tx.session, found) or {})}

    return market.store.perform(actor, IdentifyOrganisation(org), work).value


def create_token(market: Market, *, org: str, role: Role, expires: datetime | None = None) -> dict[str, Any]:
    """Create a token for the organisation named ``org``; ``token`` in the reply is its text, shown once.

    The text never enters the log or the stored outcome.
    """
    shown: list[str] = []

    def work(tx: Tx) -> dict[str, Any]:
        org_id, _ = identity.find_organisation(tx.session, org)
        token_id = new_id("tok")
        shown[:] = [
            identity.create_token(
                tx.session,
                id=token_id,
                org=org_id,
                role=role,
                now=tx.now,
                expires_at=expires,
                by=SYSTEM.ref,
            )
        ]
        tx.record(object=ObjectGroup(type="token", id=token_id))
        return {"token_id": token_id, "org": org_id, "name": org, "role": str(role)}

    command = CreateToken(org, str(role), expires.isoformat() if expires else None)
    made = market.store.perform(SYSTEM, command, work).value
    return {**made, "token": shown[0]}


def revoke_token(market: Market, *, token: str) -> dict[str, Any]:
    """End a token by its id (``tok_...``), with every session that it opened. Raises NotFound."""

    def work(tx: Tx) -> dict[str, Any]:
        identity.revoke_token(tx.session, token, tx.now)
        tx.record(object=ObjectGroup(type="token", id=token))
        return {"token_id": token, "revoked_at": tx.now.isoformat(timespec="seconds")}

    return market.store.perform(SYSTEM, RevokeToken(token), work).value


def credit_wallet(market: Market, *, org: str, amount: str, currency: str, reference: str) -> dict[str, Any]:
    """Credit ``amount`` (decimal text in major units) once for each ``reference`` of the bank.

    Confirming the same transfer twice credits it once; the same reference with another amount is refused.
    """
    org_id, minor = checked_credit(market, org=org, amount=amount, currency=currency, reference=reference)
    command = CreditWallet(org_id, minor, currency, reference)
    limit = market.settings.credit_limit
    with market.store.refusing(SYSTEM, command):
        if minor > limit * 10 ** exponent_of(currency):
            raise SecondOperatorNeeded(f"one operator credits at most {limit} {currency} of a bank transfer")

    def work(tx: Tx) -> dict[str, Any]:
        chart.open_buyer(tx.session, org_id, currency)
        journal = ledger.post(
            tx.session,
            journal=new_id("jnl"),
            kind="wallet_credited",
            business_key=f"bank:{reference}",
            actor=tx.actor.ref,
            now=tx.now,
            legs=entries.wallet_credited(org_id, Money(minor, currency)),
        )
        tx.record(money=MoneyGroup(currency=currency, amount_minor=minor, journal=journal))
        balance = ledger.balance(tx.session, chart.buyer_prepaid(org_id, currency), currency)
        return {
            "org": org_id,
            "credited": money(minor, currency),
            "balance": money(balance.available, currency),
        }

    done = market.store.perform(SYSTEM, command, work, key=f"bank:{reference}")
    return {**done.value, "reference": reference, "replayed": done.replayed}


def checked_credit(
    market: Market, *, org: str, amount: str, currency: str, reference: str
) -> tuple[str, int]:
    """The buyer's id and the minor units of a bank transfer to credit. Raises RequestInvalid, NotFound."""
    check_reference(reference)
    minor = parse_amount(amount, currency)
    if minor == 0:
        raise RequestInvalid("the amount must be above zero")
    org_id, role = market.store.read(lambda session: identity.find_organisation(session, org))
    if role != Role.BUYER:
        raise RequestInvalid(f"{org} is no buyer, so it has no wallet")
    return org_id, minor


def check_reference(reference: str) -> None:
    """Raise RequestInvalid for what is no bank's reference."""
    if not (0 < len(reference) <= 140 and reference.isprintable()):
        raise RequestInvalid("the reference must be 1 to 140 printable characters")
