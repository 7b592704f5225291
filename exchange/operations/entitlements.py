"""What is paid under a plan beside the price of a query: in advance, in each period, and what that covers.

The ledger keeps what can run out in floor accounts of the grant: the rho that a period includes, credit,
what a month's cap leaves to be charged, and what a buy-out set aside of the domain.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import select

from exchange.errors import BudgetExhausted, PaymentRequired
from exchange.identity import new_id
from exchange.operations import listing
from exchange.operations.terms import money
from settlement import ledger, orders
from settlement.errors import OrderError, Overdrawn
from settlement.ledger import chart, entries
from settlement.money import Money
from settlement.prices import PricePlan, Standing, month_of, period_at, period_starts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.orm import Session

    from exchange.market import Market
    from exchange.operations.quoting import Terms
    from exchange.store import Tx
    from settlement.ledger import Leg


def standing(session: Session, grant: orders.Grant, plan: PricePlan, now: datetime) -> Standing:
    """What is left of what a grant's plan includes. Raises PaymentRequired for a period that is not paid."""
    if plan.period is not None:
        return _period_standing(session, grant, plan, now)
    if plan.monthly_cap_minor is None:
        return Standing()
    room = _balance(
        session, chart.grant_month(grant.id, month_of(now), "room"), chart.room_unit(plan.currency)
    )
    if room is None:
        return Standing(room_left_minor=plan.monthly_cap_minor)
    return Standing(room_left_minor=room.available, room_held_minor=room.pending_out)


def included_left(
    session: Session, grants: Iterable[tuple[orders.Grant, PricePlan]], now: datetime
) -> dict[str, int]:
    """Nano-rho left of what each subscription's period of today includes; without those that are not paid."""
    numbers = {grant.id: current_period(grant, plan, now) for grant, plan in grants}
    accounts = {chart.grant_period(id_, number, "included"): id_ for id_, number in numbers.items()}
    table = ledger.account
    opened = session.execute(select(table.c.id, table.c.unit).where(table.c.id.in_(accounts))).all()
    left = ledger.balances(session, *((row.id, row.unit) for row in opened))
    return {accounts[row.id]: one.available for row, one in zip(opened, left, strict=True)}


def legs_of(tx: Tx, market: Market, terms: Terms, domain: str) -> list[Leg]:
    """What a query takes of allowance, credit or wallet, and of its month's room."""
    grant, plan, charge = terms.grant, terms.price_plan, terms.charge
    legs: list[Leg] = []
    if plan.period is not None:
        number = current_period(grant, plan, tx.now)
        legs += entries.included_used(grant.id, number, domain, rho_nano=charge.covered_nano)
    if not charge.amount_minor:
        return legs
    if plan.monthly_cap_minor is not None:
        month = month_of(tx.now)
        _open_month(tx, grant, plan, month)
        legs += entries.room_taken(grant.id, month, terms.price)
    return legs + entries.charge(
        buyer=grant.org,
        provider=terms.view.org,
        price=terms.price,
        fee_basis_points=basis_points(market),
        credit_of=grant.id if plan.kind == "credits" else None,
    )


def up_front(tx: Tx, market: Market, grant: orders.Grant, plan: PricePlan, domain: str) -> list[Leg]:
    """What is paid when access is granted, and what it opens; its legs join the grant's own entry.

    Raises BudgetExhausted where nothing is left to be bought out, OrderError where others have paid for
    answers from it.
    """
    if plan.buys_out:
        chart.open_set_aside(tx.session, domain, grant.id)
        _refuse_owed(tx.session, grant, domain, tx.now)
        bought = entries.budget_bought(domain, grant.id, rho_nano=grant.allowance_rho_nano)
        return [*bought, *_paid(market, grant, plan)]
    if plan.period is not None:
        return _period_legs(tx, market, grant, plan, domain, 0)
    if plan.kind == "credits":
        chart.open_credit(tx.session, grant.id, plan.currency)
        return entries.credit_bought(grant.org, grant.id, Money(plan.up_front_minor, plan.currency))
    return []


def allowance(session: Session, plan: PricePlan, domain: str) -> int:
    """The rho that a new grant may spend: its plan's, or all that is left to be bought out."""
    if not plan.buys_out:
        return plan.allowance_rho_nano
    left = ledger.balance(session, chart.domain_available(domain), chart.rho_unit(domain)).available
    if left <= 0:
        raise BudgetExhausted("nothing is left of the privacy budget to be bought", remaining=0)
    return left


def open_period(tx: Tx, market: Market, grant: orders.Grant, number: int) -> str:
    """Pay a period of a subscription and open what it includes; returns the journal.

    Raises PaymentRequired where the wallet does not cover its fee.
    """
    plan = PricePlan.from_document(json.loads(grant.plan))
    domain = listing.domain_of(listing.any_view(tx.session, grant.dataset))
    legs = _period_legs(tx, market, grant, plan, domain, number)
    return post(tx, "period_opened", f"grant:{grant.id}:period:{number}", legs, plan)


def buy_credit(tx: Tx, grant: orders.Grant, plan: PricePlan) -> str:
    """Buy another bundle of credit; returns the journal. Raises PaymentRequired."""
    legs = entries.credit_bought(grant.org, grant.id, Money(plan.up_front_minor, plan.currency))
    journal = new_id("jnl")
    return post(tx, "credit_bought", f"grant:{grant.id}:credit:{journal}", legs, plan, journal=journal)


def end_credit(tx: Tx, market: Market, grant: orders.Grant, *, earned: bool) -> str | None:
    """Empty the credit of a grant that ended: it is earned, or goes back to the wallet.

    Returns the journal, or None where nothing is left. What open queries hold is left for another time.
    """
    plan = PricePlan.from_document(json.loads(grant.plan))
    if plan.kind != "credits":
        return None
    left = ledger.balance(tx.session, chart.grant_credit(grant.id, plan.currency), plan.currency).available
    if not left:
        return None
    amount = Money(left, plan.currency)
    if earned:
        legs, kind = _charge(market, grant, amount, credit_of=grant.id), "credit_lapsed"
    else:
        legs, kind = entries.credit_returned(grant.org, grant.id, amount), "credit_returned"
    journal = new_id("jnl")
    return post(tx, kind, f"grant:{grant.id}:{kind}:{journal}", legs, plan, journal=journal)


def hold_up_front(tx: Tx, request: orders.AccessRequest, plan: PricePlan) -> None:
    """Hold what will be paid when an open request is approved, so that approving it does not fail."""
    if not plan.up_front_minor:
        return
    chart.open_buyer(tx.session, request.org, plan.currency)
    wallet = chart.buyer_prepaid(request.org, plan.currency)
    leg = ledger.Leg(
        plan.currency, wallet, chart.provider_payable(request.provider, plan.currency), plan.up_front_minor
    )
    try:
        ledger.reserve(
            tx.session,
            journal=new_id("jnl"),
            kind="request_held",
            business_key=f"request:{request.id}:held",
            actor=tx.actor.ref,
            now=tx.now,
            legs=[leg],
        )
    except Overdrawn as short:
        raise shortage(short, Money(plan.up_front_minor, plan.currency)) from None


def release_up_front(tx: Tx, request_id: str) -> None:
    """Give back what an open request held; approving it charges it anew."""
    table = ledger.journal
    held = tx.session.scalar(select(table.c.id).where(table.c.business_key == f"request:{request_id}:held"))
    if held is not None:
        ledger.resolve(
            tx.session,
            pending_journal=held,
            journal=new_id("jnl"),
            kind="request_released",
            business_key=f"request:{request_id}:released",
            actor=tx.actor.ref,
            now=tx.now,
            phases="void",
        )


def post(
    tx: Tx, kind: str, business_key: str, legs: list[Leg], plan: PricePlan, *, journal: str | None = None
) -> str:
    """Post an entry of a grant; returns the journal. Raises PaymentRequired where money is short."""
    try:
        return ledger.post(
            tx.session,
            journal=journal or new_id("jnl"),
            kind=kind,
            business_key=business_key,
            actor=tx.actor.ref,
            now=tx.now,
            legs=legs,
        )
    except Overdrawn as short:
        raise shortage(short, Money(plan.up_front_minor, plan.currency)) from None


def shortage(short: Overdrawn, price: Money) -> Exception:
    """What a person is told of an account that does not cover an entry."""
    if short.unit == price.currency:
        what = "credit of the grant" if short.account.startswith("grant:") else "wallet"
        hint = "Buy another bundle: `exchange grants top-up GRANT`." if what != "wallet" else None
        return PaymentRequired(
            f"the {what} does not cover the price",
            hint=hint,
            price=money(price.amount_minor, price.currency),
            available=money(short.available, short.unit),
        )
    whose = "grant's allowance" if short.account.startswith("grant:") else "privacy budget of the dataset"
    return BudgetExhausted(f"the {whose} does not cover this query", remaining=short.available)


def current_period(grant: orders.Grant, plan: PricePlan, now: datetime) -> int:
    """The number of the subscription's period that a moment lies in."""
    assert plan.period is not None
    return period_at(datetime.fromisoformat(grant.issued_at), plan.period, now)


def period_start(grant: orders.Grant, plan: PricePlan, number: int) -> datetime:
    """When a period of the subscription starts."""
    assert plan.period is not None
    return period_starts(datetime.fromisoformat(grant.issued_at), plan.period, number)


def is_open(session: Session, grant: orders.Grant, number: int) -> bool:
    """Whether a period was paid."""
    account = chart.grant_period(grant.id, number, "included")
    return (
        session.execute(select(ledger.account.c.id).where(ledger.account.c.id == account)).first() is not None
    )


def covers(session: Session, org: str, price: Money) -> bool:
    """Whether a wallet covers a price now."""
    held = _balance(session, chart.buyer_prepaid(org, price.currency), price.currency)
    return held is not None and held.available >= price.amount_minor


def basis_points(market: Market) -> int:
    """The platform's share in hundredths of a percent."""
    return market.settings.platform_share_percent * 100


def _period_standing(session: Session, grant: orders.Grant, plan: PricePlan, now: datetime) -> Standing:
    number = current_period(grant, plan, now)
    if not is_open(session, grant, number):
        since = period_start(grant, plan, number).date()
        raise PaymentRequired(
            f"the {plan.period} of your subscription that began on {since} is not paid",
            hint="Top up the wallet and run `exchange grants pay GRANT`; the exchange tries it as well.",
            price=money(plan.up_front_minor, plan.currency),
        )
    account = chart.grant_period(grant.id, number, "included")
    unit = session.execute(select(ledger.account.c.unit).where(ledger.account.c.id == account)).scalar_one()
    left = ledger.balance(session, account, unit)
    return Standing(included_left_nano=left.available, included_held_nano=left.pending_out)


def _period_legs(
    tx: Tx, market: Market, grant: orders.Grant, plan: PricePlan, domain: str, number: int
) -> list[Leg]:
    chart.open_period(tx.session, grant.id, number, domain)
    included = entries.period_opened(grant.id, number, domain, rho_nano=plan.included_nano)
    return [*included, *_paid(market, grant, plan)]


def _paid(market: Market, grant: orders.Grant, plan: PricePlan) -> list[Leg]:
    return _charge(market, grant, Money(plan.up_front_minor, plan.currency))


def _charge(market: Market, grant: orders.Grant, price: Money, *, credit_of: str | None = None) -> list[Leg]:
    points = basis_points(market)
    return entries.charge(
        buyer=grant.org, provider=grant.provider, price=price, fee_basis_points=points, credit_of=credit_of
    )


def _open_month(tx: Tx, grant: orders.Grant, plan: PricePlan, month: str) -> None:
    unit, account = chart.room_unit(plan.currency), chart.grant_month(grant.id, month, "room")
    if _balance(tx.session, account, unit) is None:
        chart.open_month(tx.session, grant.id, month, plan.currency)
        legs = entries.month_opened(grant.id, month, Money(plan.monthly_cap_minor or 0, plan.currency))
        post(tx, "month_opened", f"grant:{grant.id}:month:{month}", legs, plan)


def _refuse_owed(session: Session, grant: orders.Grant, domain: str, now: datetime) -> None:
    """Others who paid in advance for answers from this budget are served first."""
    table = orders.access_grant
    for other in session.execute(select(table).where(table.c.state.in_(("active", "suspended")))):
        held = orders.find_grant(session, other.id, org=other.org)
        if held.id == grant.id or orders.state_at(held, now) not in ("active", "suspended"):
            continue
        plan = PricePlan.from_document(json.loads(held.plan))
        if listing.domain_of(listing.any_view(session, held.dataset)) == domain and _owed(
            session, held, plan, now
        ):
            raise OrderError(
                "Another organisation has paid for answers from this budget.",
                hint="Approve the buy-out once its period is over or its credit is spent.",
            )


def _owed(session: Session, grant: orders.Grant, plan: PricePlan, now: datetime) -> bool:
    if plan.kind == "credits":
        return ledger.balance(session, chart.grant_credit(grant.id, plan.currency), plan.currency).posted > 0
    if plan.period is None:
        return False
    number = current_period(grant, plan, now)
    if not is_open(session, grant, number):
        return False
    return _period_standing(session, grant, plan, now).included_left_nano > 0


def _balance(session: Session, account: str, unit: str) -> ledger.Balance | None:
    held = ledger.account
    if session.execute(select(held.c.id).where(held.c.id == account)).first() is None:
        return None
    return ledger.balance(session, account, unit)
