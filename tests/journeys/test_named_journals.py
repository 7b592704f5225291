"""Whatever is booked, the log names it: nothing honest is alleged, and whatever is altered is found."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import text

from exchange.operations import ordering
from privacy.sandbox import Sandbox
from settlement.ledger import chart
from tests.journeys.payments import (
    balance,
    closed,
    closed_again,
    connect,
    provider,
    spend,
    spend_opening,
)
from tests.journeys.test_tampering import unguarded
from tests.market import sample
from tests.market.fixtures import BOTH
from tests.market.prepared import Postgres, Prepared, copied
from tests.market.stand import Stand
from tests.market.till import Counter, counter

PLANS = [
    sample.plan(max_rho="1.5"),
    sample.plan("bundle", kind="credits", bundle="5.00", per_rho="15.00", max_rho="1.5"),
    sample.plan(
        "club",
        kind="subscription",
        period="month",
        period_fee="4.00",
        included_rho="0.05",
        per_rho="15.00",
        max_rho="1.5",
        approval="provider",
    ),
    sample.plan("capped", kind="monthly-cap", monthly_cap="2.00", max_rho="1.5"),
]
#: What the journeys below must have booked to have shown anything.
KINDS = {
    "allowance_issued",
    "credit_bought",
    "credit_returned",
    "dispute_borne",
    "dispute_covered",
    "dispute_returned",
    "dispute_withdrawn",
    "holdback_released",
    "month_opened",
    "payment_captured",
    "payment_refunded",
    "payout_reserved",
    "payout_settled",
    "period_opened",
    "query_reserved",
    "query_settled",
    "refund_held",
    "request_held",
    "request_released",
}


def kinds(stand: Stand) -> dict[str, list[str]]:
    """Journals by their kind, in the order of the books."""
    found: dict[str, list[str]] = {}
    rows = stand.market.store.read(
        lambda session: session.execute(text("SELECT id, kind FROM journal ORDER BY position")).all()
    )
    for row in rows:
        found.setdefault(row.kind, []).append(row.id)
    return found


def plans_are_used(stand: Stand) -> None:
    """Credits, a subscription over two months and a monthly cap, with their requests and their ends."""
    stand.publish(manifest=sample.manifest(plans=PLANS))
    bundle = stand.request(plan="bundle").json()["grant"]["grant"]
    asked = stand.request(plan="club").json()["request"]
    assert stand.post("provider", f"/v1/requests/{asked}/approve").status_code == 200
    assert stand.request(plan="capped").status_code == 201
    for number, plan in enumerate(("bundle", "club", "capped")):
        sql = f"select count(*) as n from rides where minutes > {number}"
        assert stand.run(sql=sql, rho="0.04", plan=plan).status_code == 200
    assert stand.post("buyer", f"/v1/grants/{bundle}/top-up").status_code == 200
    assert stand.post("provider", f"/v1/grants/{bundle}/withdraw", {"reason": "x"}).status_code == 200
    stand.clock.advance(days=32)
    assert ordering.rounds(stand.market)["periods"] == 1
    assert stand.run(sql=sample.BY_ZONE, rho="0.04", plan="capped").status_code == 200


def money_moves(till: Counter) -> None:
    """A refund, a payout with its holdback, a lost dispute and its reversal, a won one, the next payout."""
    stand = till.stand
    intent = till.paid()
    asked = {"payment": intent["id"], "amount": "30.00", "currency": "USD", "reason": "asked for"}
    assert stand.post("operator", "/v1/refunds", asked).status_code == 201
    till.work()
    till.world.refund(intent, 1000)  # in Stripe's dashboard
    till.deliver()
    till.work()
    spend_opening(till, stand.wallet().available)
    lost, won = till.paid("50.00"), till.paid("20.00")
    spend(till)
    connect(till)
    payout = closed(till)["payout"]
    stand.post("operator", f"/v1/payouts/{payout}/approve")
    till.work()
    till.world.close_dispute(till.world.dispute(lost)["id"], won=False)
    till.deliver()
    till.work()
    dispute = till.world.dispute(won)["id"]
    till.deliver()
    till.work()
    till.world.close_dispute(dispute, won=True)
    till.deliver()
    till.work()
    assert balance(till, chart.provider_clawback(provider(till), "USD")).posted < 0
    assert stand.post("operator", f"/v1/payouts/{payout}/recover", {"amount": "1.00"}).status_code == 200
    till.work()
    till.deliver()
    till.paid("80.00")
    spend(till)
    closed_again(till)
    till.pass_time(days=stand.settings.holdback_days)
    till.work()
    till.deliver()


@pytest.fixture(scope="module", params=BOTH)
def moved(
    request: pytest.FixtureRequest,
    prepared_markets: Callable[[str], tuple[Prepared, Postgres | None]],
    lent_sandbox: Callable[[], Sandbox],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stand]:
    """A market in which money did everything that it can do, and whose log is published."""
    prepared, server = prepared_markets(request.param)
    home = tmp_path_factory.mktemp("moved") / "market"
    with copied(prepared, home, lent_sandbox, server) as stand, counter(stand) as till:
        plans_are_used(stand)
        money_moves(till)
        stand.publish_log()
        yield stand


def test_nothing_is_alleged_of_a_market_in_which_money_moved(moved: Stand) -> None:
    assert set(kinds(moved)) >= KINDS
    report = moved.verify()
    assert (report.exit_code, report.findings) == (0, ())
    assert moved.broken_laws() == []


def test_each_journal_is_named_by_the_command_that_booked_it(moved: Stand) -> None:
    entries, booked = moved.entries(), kinds(moved)
    naming: dict[str, list[dict[str, Any]]] = {}
    for record in entries:
        journal = (record.document["money"] or {}).get("journal")
        naming.setdefault(journal, []).append(record.document)
    assert set(naming) - {None} == {journal for journals in booked.values() for journal in journals}
    for record in entries:
        told = record.document
        if told["kind"] == "journal.booked":
            before = entries[told["seq"] - 1].document
            assert (told["time"], told["actor"], told["source"]) == (
                before["time"],
                before["actor"],
                before["source"],
            )
            assert told["object"]["id"] == told["money"]["journal"]
    [settled] = naming[booked["dispute_withdrawn"][0]]
    assert settled["kind"] == "payment_event.received", "the only journal of a command is its entry's"
    [month] = naming[booked["month_opened"][0]]
    assert month["kind"] == "journal.booked"
    assert entries[month["seq"] - 1].document["kind"] == "query.reserved"


def test_an_entrys_page_shows_what_else_its_command_booked(moved: Stand) -> None:
    further = moved.entries(kind="journal.booked")[0]
    first = moved.entries()[further.seq - 1]
    with contextlib.closing(moved.sign_in("officer")) as browser:
        page = browser.get(f"/officer/entries/{first.id}").text
        assert "Entries of the same command" in page
        assert further.document["money"]["journal"] in page
        assert first.id in browser.get(f"/officer/entries/{further.id}").text
        alone = moved.entries(kind="query.settled")[0]
        assert "Entries of the same command" not in browser.get(f"/officer/entries/{alone.id}").text


def test_whichever_journal_is_altered_it_is_named(moved: Stand) -> None:
    booked = kinds(moved)
    last = {journals[-1] for journals in booked.values()}
    listed = ", ".join(f"'{journal}'" for journal in sorted(last))
    with changed(moved, "journal", f"actor = actor || '!' WHERE id IN ({listed})"):
        report = moved.verify()
        assert {finding.journal for finding in report.findings} == last
        assert report.exit_code == 11
        assert {law.split()[2].rstrip(":") for law in moved.broken_laws()} == last
    for kind in ("dispute_borne", "payout_settled", "month_opened"):
        with changed(moved, "transfer", f"amount = amount + 1 WHERE journal = '{booked[kind][0]}'"):
            assert booked[kind][0] in {finding.journal for finding in moved.verify().findings}
            assert any(law.startswith(f"L15: journal {booked[kind][0]}") for law in moved.broken_laws())
    assert moved.verify().exit_code == 0


def test_a_journal_whose_entry_is_gone_is_named(moved: Stand) -> None:
    """The law alone finds it as the verification of the log does."""
    further = moved.entries(kind="journal.booked")[-1]
    journal = further.document["money"]["journal"]
    with changed(moved, "audit_entry", f"journal = NULL WHERE seq = {further.seq}"):
        assert journal in {finding.journal for finding in moved.verify().findings}
        (law,) = [law for law in moved.broken_laws() if law.startswith("L15")]
        assert journal in law
        assert "in no entry of the log" in law


@contextlib.contextmanager
def changed(stand: Stand, table: str, change: str) -> Iterator[None]:
    """A change of the books as their administrator could make it, undone afterwards."""
    undo = change.replace("actor || '!'", "substr(actor, 1, length(actor) - 1)").replace("+ 1", "- 1")
    undo = undo.replace("journal = NULL", "journal = object_id")
    for one in (change, undo):
        with stand.market.store.engine.begin() as connection, unguarded(connection, table):
            assert connection.execute(text(f"UPDATE {table} SET {one}")).rowcount > 0
        if one is change:
            yield
