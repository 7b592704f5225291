"""The worker's part of money: the outbox is sent, disputes and holdbacks settled, months closed, books
reconciled.

Each step is its own transaction, and every call to Stripe stands between two of them.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from exchange.audit.entry import Entry, ObjectGroup
from exchange.identity import SYSTEM, Role, new_id
from exchange.operations import paying_out
from exchange.operations.terms import money
from settlement.errors import (
    PaymentError,
    SettlementError,
    StripeBusy,
    StripeFailed,
    StripeRefused,
    StripeShort,
    StripeUnknown,
)
from settlement.payments import disputes, events, outbox, payouts, reconciliation, refunds
from settlement.payments.facts import Refunded, Transferred

if TYPE_CHECKING:
    from exchange.identity import Actor
    from exchange.market import Market
    from exchange.store import Tx
    from settlement.payments.outbox import Item, Step
    from settlement.payments.reconciliation import Run
    from settlement.stripe import Sent, Till

RECONCILE_EVERY = timedelta(hours=12)
_MOST = 200
_LOG = logging.getLogger("exchange.treasury")


@dataclass(frozen=True)
class SettleMoney:
    """Bring disputes, owed refunds and holdbacks where they belong by now."""

    kind: ClassVar[str] = "money.settled"
    refused: ClassVar[str] = "money.refused"

    def entry(self) -> Entry:
        """The audit entry: the treasury as a whole."""
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="treasury"))


@dataclass(frozen=True)
class MoveItem:
    """Claim an item of the outbox, or note what became of it."""

    item: str
    step: str
    kind: ClassVar[str] = "payment_call.moved"
    refused: ClassVar[str] = "payment_call.refused"

    def entry(self) -> Entry:
        """The audit entry: the item."""
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="payment_call", id=self.item))


@dataclass(frozen=True)
class Reconcile:
    """Compare Stripe's balance transactions with the ledger."""

    kind: ClassVar[str] = "books.reconciled"
    refused: ClassVar[str] = "books.refused"

    def entry(self) -> Entry:
        """The audit entry: a reconciliation."""
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="reconciliation"))


def work_once(market: Market) -> dict[str, int]:
    """One round; returns what was settled and sent. A Stripe that fails stops nothing but its own calls."""
    settled = settle(market)
    closed = _close_last_month(market)
    sent = send_due(market)
    if market.till is not None and _reconciliation_is_due(market):
        try:
            reconcile(market, SYSTEM)
        except SettlementError as error:
            _LOG.error("the books are not reconciled: %s", error)
    return {"settled": settled, "closed": closed, "sent": sent}


def settle(market: Market) -> int:
    """Settle disputes, owed refunds and holdbacks; nothing is written where nothing is due."""
    now = market.store.clock()

    def due(session: Any) -> bool:
        return disputes.due(session) or refunds.due(session) or payouts.due(session, now)

    if not market.store.read(due):
        return 0

    def work(tx: Tx) -> dict[str, Any]:
        done = disputes.settle(tx.session, tx.now) + disputes.collect(tx.session, tx.now)
        done += refunds.collect(tx.session, tx.now)
        return {"done": done + payouts.release_holdbacks(tx.session, tx.now)}

    return int(market.store.perform(SYSTEM, SettleMoney(), work).value["done"])


def send_due(market: Market) -> int:
    """Send what the outbox holds; returns how many calls came to an end.

    Transfers wait for two clean days of reconciliation, or for an operator's approval.
    """
    if market.till is None:
        return 0
    now = market.store.clock()
    items = market.store.read(lambda session: _sendable(session, now))
    return sum(_send(market, market.stripe(), item) for item in items)


def reconcile(market: Market, actor: Actor) -> dict[str, Any]:
    """Compare Stripe's list and balance with the ledger. Raises StripeMissing, StripeUnknown, StripeBusy."""
    if actor is not SYSTEM:
        actor.require(Role.OPERATOR)
    till = market.stripe()
    since = market.store.read(reconciliation.read_from)
    balances = till.balances()
    movements = list(till.movements(since))
    settled = balances == till.balances()  # money that moves meanwhile is compared with the next run

    def work(tx: Tx) -> dict[str, Any]:
        events.retry_parked(tx.session, tx.now)
        run = reconciliation.reconcile(
            tx.session,
            id=new_id("rec"),
            movements=movements,
            balances=balances if settled else None,
            now=tx.now,
        )
        tx.record(object=ObjectGroup(type="reconciliation", id=run.id))
        return _document(run, automatic=reconciliation.pays_by_itself(tx.session, tx.now))

    return market.store.perform(actor, Reconcile(), work).value


def latest(market: Market, actor: Actor) -> dict[str, Any]:
    """The last reconciliation with its breaks; empty before the first. For operators."""
    actor.require(Role.OPERATOR)

    def look(session: Any) -> dict[str, Any]:
        run = reconciliation.latest_run(session)
        automatic = reconciliation.pays_by_itself(session, market.store.clock())
        return _document(run, automatic=automatic) if run else {}

    return market.store.read(look)


def _sendable(session: Any, now: Any) -> list[Item]:
    automatic = reconciliation.pays_by_itself(session, now)
    transfers = [
        item
        for item in outbox.due(session, now, kinds=("transfer",), limit=_MOST)
        if automatic or item.state != "ready" or payouts.find_payout(session, item.subject).approved_by
    ]
    return outbox.due(session, now, kinds=("refund", "reversal"), limit=_MOST) + transfers


def _send(market: Market, till: Till, item: Item) -> bool:
    """One attempt at one item. Whatever happens to this process, the next attempt begins with a look-up."""
    claimed = _claim(market, item)
    if claimed is None:
        return False
    taken: Item | None = claimed[0]
    if claimed[1] == "look up":
        try:
            found = till.look_up(claimed[0])
        except PaymentError:
            _note(market, item, "later", lambda tx: outbox.later(tx.session, item.id, tx.now))
            return False
        if found is not None:
            return _done(market, item, found)
        taken = _again(market, item)
    return taken is not None and _call(market, till, taken)


def _call(market: Market, till: Till, item: Item) -> bool:
    """Make the call; True where it came to an end."""
    try:
        return _done(market, item, till.send(item))
    except StripeShort as error:
        return _short(market, item, error)
    except StripeRefused as error:
        return _refused(market, item, error)
    except StripeBusy as error:
        code = error.code
        _note(market, item, "busy", lambda tx: outbox.postponed(tx.session, item.id, code, tx.now))
    except StripeUnknown as error:
        code, saved = error.code, isinstance(error, StripeFailed)
        _note(
            market,
            item,
            "unknown",
            lambda tx: outbox.unknown(tx.session, item.id, code, tx.now, saved=saved),
        )
    return False


def _claim(market: Market, item: Item) -> tuple[Item, Step] | None:
    taken: list[tuple[Item, Step] | None] = []

    def work(tx: Tx) -> dict[str, Any]:
        taken[:] = [outbox.take(tx.session, item.id, tx.now)]
        return {}

    market.store.perform(SYSTEM, MoveItem(item.id, "taken"), work)
    return taken[0]


def _again(market: Market, item: Item) -> Item | None:
    taken: list[Item | None] = []

    def work(tx: Tx) -> dict[str, Any]:
        taken[:] = [outbox.send_again(tx.session, item.id, tx.now)]
        return {}

    market.store.perform(SYSTEM, MoveItem(item.id, "again"), work)
    return taken[0]


def _done(market: Market, item: Item, sent: Sent) -> bool:
    def work(tx: Tx) -> None:
        if isinstance(sent.fact, Transferred):
            payouts.apply(tx.session, sent.fact, tx.now)
        elif isinstance(sent.fact, Refunded):
            refunds.apply(tx.session, sent.fact, tx.now)
        else:
            payouts.recovered(tx.session, item.subject, reversal=sent.id, now=tx.now)
        outbox.done(tx.session, item.id, sent.id)

    _note(market, item, "done", work)
    return True


def _short(market: Market, item: Item, error: StripeShort) -> bool:
    """A provider's balance that does not cover a reversal ends it; the platform's own is waited for."""
    if item.kind == "reversal":
        return _refused(market, item, error)
    _note(
        market,
        item,
        "short",
        lambda tx: outbox.postponed(tx.session, item.id, error.code, tx.now, short=True),
    )
    return False


def _refused(market: Market, item: Item, error: StripeRefused) -> bool:
    def work(tx: Tx) -> None:
        outbox.refused(tx.session, item.id, error.code)
        if item.kind == "transfer":
            payouts.fail(tx.session, item.subject, tx.now)
        elif item.kind == "refund":
            refunds.refuse(tx.session, item.subject, tx.now)
        else:
            payouts.not_recovered(tx.session, item.subject)

    _note(market, item, "refused", work)
    return True


def _note(market: Market, item: Item, step: str, change: Any) -> None:
    def work(tx: Tx) -> dict[str, Any]:
        change(tx)
        return {}

    market.store.perform(SYSTEM, MoveItem(item.id, step), work)


def _close_last_month(market: Market) -> int:
    return len(paying_out.close(market, SYSTEM)["items"])


def _reconciliation_is_due(market: Market) -> bool:
    run = market.store.read(reconciliation.latest_run)
    wanted = market.store.clock() - RECONCILE_EVERY
    return run is None or run.ran_at < wanted.isoformat(timespec="microseconds")


def _document(run: Run, *, automatic: bool) -> dict[str, Any]:
    return {
        "run": run.id,
        "ran_at": run.ran_at,
        "transactions": run.transactions,
        "clean": run.clean,
        "automatic_payouts": automatic,
        "breaks": [
            {
                "kind": one.kind,
                "about": one.about,
                "amount": None
                if one.amount_minor is None or one.currency is None
                else money(one.amount_minor, one.currency),
            }
            for one in run.breaks
        ],
    }
