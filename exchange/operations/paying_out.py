"""Payouts: periods are closed, transfers approved, bank payouts confirmed, money asked back, accounts
connected.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from exchange.audit.entry import Entry, MoneyGroup, ObjectGroup
from exchange.errors import RequestInvalid
from exchange.identity import SYSTEM, Role, new_id
from exchange.operations.administering import check_reference
from exchange.operations.joining import require_admin
from exchange.operations.terms import money, place, token_of
from settlement.ledger import chart
from settlement.money import parse_amount
from settlement.payments import payouts, postings, reconciliation

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from exchange.identity import Actor
    from exchange.market import Market
    from exchange.store import Tx
    from settlement.payments.payouts import Payout


@dataclass(frozen=True)
class ClosePeriod:
    """Settle what one provider earned in a currency until the end of a period."""

    provider: str
    currency: str
    period: str
    kind: ClassVar[str] = "payout.closed"
    refused: ClassVar[str] = "payout.refused"

    def entry(self) -> Entry:
        """The audit entry: a payout."""
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="payout"))


@dataclass(frozen=True)
class MovePayout:
    """Approve a payout, confirm that it was sent by bank, or ask some of it back."""

    payout: str
    step: str
    detail: str
    kind: ClassVar[str] = "payout.moved"
    refused: ClassVar[str] = "payout.refused"

    def entry(self) -> Entry:
        """The audit entry: the payout."""
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="payout", id=self.payout[:64]))


@dataclass(frozen=True)
class ConnectAccount:
    """Connect a provider's account at Stripe."""

    provider: str
    kind: ClassVar[str] = "account.connected"
    refused: ClassVar[str] = "account.refused"

    def entry(self) -> Entry:
        """The audit entry: the provider's organisation."""
        return Entry(
            kind=self.kind, outcome="done", object=ObjectGroup(type="organisation", id=self.provider)
        )


def period_end(period: str) -> datetime:
    """The end of a month, YYYY-MM, in UTC. Raises RequestInvalid."""
    try:
        begin = datetime.strptime(period, "%Y-%m").replace(tzinfo=UTC)
    except ValueError:
        raise RequestInvalid("a period is a month such as 2026-10") from None
    return (begin + timedelta(days=32)).replace(day=1)


def last_period(now: datetime) -> str:
    """The month before this one."""
    return (now.replace(day=1) - timedelta(days=1)).strftime("%Y-%m")


def close(market: Market, actor: Actor, *, period: str | None = None) -> dict[str, Any]:
    """Close a month for every provider with something payable; one that is closed stays as it is."""
    if actor is not SYSTEM:
        actor.require(Role.OPERATOR)
    now = market.store.clock()
    month = period or last_period(now)
    until = period_end(month)
    if until > now:
        raise RequestInvalid(f"the period {month} is not over yet", hint="Close it when the month is over.")
    waiting = market.store.read(payouts.payable_providers)
    made = [_close(market, actor, provider, currency, month, until) for provider, currency in waiting]
    return {"period": month, "items": [one for one in made if one]}


def list_payouts(market: Market, actor: Actor) -> dict[str, Any]:
    """A provider's payouts and whether it is connected, or all for an operator."""
    actor.require(Role.PROVIDER, Role.OPERATOR)
    org = None if actor.role == Role.OPERATOR else actor.org

    def look(session: Session) -> dict[str, Any]:
        items = [_document(one) for one in payouts.payouts_of(session, org)]
        return {"items": items, **_state(session, actor, market.store.clock())}

    return market.store.read(look)


def page_of_payouts(market: Market, actor: Actor, *, limit: int, page_token: str | None) -> dict[str, Any]:
    """The same page by page, what waits to be sent first. Raises RequestInvalid for a token of no page."""
    after = place(page_token)
    actor.require(Role.PROVIDER, Role.OPERATOR)
    org = None if actor.role == Role.OPERATOR else actor.org

    def look(session: Session) -> dict[str, Any]:
        found = payouts.page_of_payouts(session, org, limit=limit + 1, after=after)
        more = len(found) > limit
        return {
            "items": [_document(one) for one in found[:limit]],
            "next_page_token": token_of(payouts.place_of(found[limit - 1])) if more else None,
            **_state(session, actor, market.store.clock()),
        }

    return market.store.read(look)


def _state(session: Session, actor: Actor, now: datetime) -> dict[str, Any]:
    account = payouts.account_of(session, actor.org)
    return {
        "account": {"connected": account is not None, "active": bool(account and account[1])},
        "automatic": reconciliation.pays_by_itself(session, now),
    }


def approve(market: Market, actor: Actor, payout: str, *, key: str | None) -> dict[str, Any]:
    """Let one transfer go although automatic payouts are held. Raises PaymentState, PaymentMissing."""
    actor.require(Role.OPERATOR)

    def work(tx: Tx) -> dict[str, Any]:
        return _document(payouts.approve(tx.session, payout, actor=actor.ref))

    return market.store.perform(actor, MovePayout(payout, "approved", ""), work, key=key).value


def confirm(market: Market, actor: Actor, payout: str, *, reference: str, key: str | None) -> dict[str, Any]:
    """Note that a payout was sent by bank, under the bank's reference."""
    actor.require(Role.OPERATOR)
    check_reference(reference)

    def work(tx: Tx) -> dict[str, Any]:
        done = payouts.confirm_bank(tx.session, payout, reference=reference, actor=actor.ref, now=tx.now)
        return _document(done)

    return market.store.perform(actor, MovePayout(payout, "confirmed", reference), work, key=key).value


def recover(market: Market, actor: Actor, payout: str, *, amount: str, key: str | None) -> dict[str, Any]:
    """Ask some of a transfer back, towards what its provider owes after lost disputes; the worker asks."""
    actor.require(Role.OPERATOR)
    market.stripe()
    found = market.store.read(lambda session: payouts.find_payout(session, payout))
    minor = parse_amount(amount, found.currency)

    def work(tx: Tx) -> dict[str, Any]:
        recovery = new_id("rcv")
        payouts.ask_back(
            tx.session,
            id=recovery,
            item=new_id("out"),
            payout_id=payout,
            amount_minor=minor,
            actor=actor.ref,
            now=tx.now,
        )
        owed = -postings.posted(tx.session, chart.provider_clawback(found.provider, found.currency))
        return {
            "recovery": recovery,
            "payout": payout,
            "amount": money(minor, found.currency),
            "owed": money(owed, found.currency),
        }

    return market.store.perform(actor, MovePayout(payout, "recovered", amount), work, key=key).value


def onboard(market: Market, actor: Actor) -> dict[str, Any]:
    """The address at which a provider tells Stripe who it is; its account is made with the first call."""
    actor.require(Role.PROVIDER)
    till = market.stripe()
    known = market.store.read(lambda session: payouts.account_of(session, actor.org))
    account = known[0] if known else till.account(actor.org)
    if known is None:

        def work(tx: Tx) -> dict[str, Any]:
            payouts.connect(tx.session, account=account, org=actor.org, now=tx.now)
            return {}

        market.store.perform(actor, ConnectAccount(actor.org), work)
    url = till.onboarding(account, back=f"{market.settings.base_url.rstrip('/')}/")
    return {"url": url, "active": bool(known and known[1])}


def onboard_as_admin(market: Market, actor: Actor, *, again: bool = False) -> dict[str, Any]:
    """As :func:`onboard`, for an administrator of the provider: who it is and where its money goes.

    Raises RoleMissing for another member; RequestInvalid where an account is active and it is not to be told
    ``again``.
    """
    with market.store.refusing(actor, ConnectAccount(actor.org)):
        market.store.read(lambda session: require_admin(session, actor, actor.org))
        if list_payouts(market, actor)["account"]["active"] and not again:
            raise RequestInvalid("an account at Stripe is connected already", hint="Payouts go there.")
    return onboard(market, actor)


def _close(
    market: Market, actor: Actor, provider: str, currency: str, period: str, until: datetime
) -> dict[str, Any] | None:
    settings = market.settings

    def work(tx: Tx) -> dict[str, Any]:
        made = payouts.close_period(
            tx.session,
            id=new_id("pay"),
            item=new_id("out"),
            provider=provider,
            currency=currency,
            period=period,
            until=until,
            holdback_percent=settings.holdback_percent,
            holdback_for=timedelta(days=settings.holdback_days),
            now=tx.now,
        )
        if made is None:
            return {}
        amount = MoneyGroup(currency=currency, amount_minor=made.amount_minor)
        tx.record(object=ObjectGroup(type="payout", id=made.id), money=amount)
        return _document(made)

    due = market.store.read(
        lambda s: payouts.is_due(s, provider=provider, currency=currency, period=period, until=until)
    )
    if not due:
        return None
    return market.store.perform(actor, ClosePeriod(provider, currency, period), work).value or None


def _document(made: Payout) -> dict[str, Any]:
    currency = made.currency
    return {
        "payout": made.id,
        "provider": made.provider,
        "period": made.period,
        "state": made.state,
        "method": made.method,
        "gross": money(made.gross_minor, currency),
        "clawback": money(made.clawback_minor, currency),
        "holdback": money(made.holdback_minor, currency),
        "amount": money(made.amount_minor, currency),
        "reference": made.reference,
        "approved": made.approved_by is not None,
        "sent_at": made.sent_at,
        "release_at": made.release_at,
    }
