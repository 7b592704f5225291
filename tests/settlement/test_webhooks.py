"""Webhooks in any order, twice, late, badly signed: the journal is that of the events once, in order."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from settlement import ledger, payments
from settlement.payments import events
from tests.settlement import soak_webhooks
from tests.settlement.soak_webhooks import (
    NOW,
    Sessions,
    books,
    deliver,
    disordered,
    open_books,
    run,
    world_of,
)


def test_disorder_changes_nothing(sessions: Sessions, tmp_path: Path) -> None:
    world = world_of(200, seed=7)
    (tmp_path / "ordered").mkdir()
    with books(tmp_path / "ordered") as ordered:
        expected, _, broken = run(ordered, world, [world.delivery(event) for event in world.events])
    assert broken == []
    found, outcomes, broken = run(sessions, world, disordered(world, seed=7))
    assert broken == []
    assert found == expected
    assert {"applied", "parked", "duplicate", "refused"} <= set(outcomes)


def test_the_soak_says_that_hashes_are_equal(capsys: pytest.CaptureFixture[str]) -> None:
    assert soak_webhooks.main(["--count", "60", "--seed", "3"]) == 0
    assert capsys.readouterr().out.endswith("equal\n")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_permutation_of_one_payment(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    world = world_of(0, seed=1)
    world.faults.clear()
    paid = world.keep(
        "pi", "payment_intent", amount=9000, currency="usd", customer="c", metadata={"top_up": "top_1"}
    )
    world.tell("payment_intent.payment_failed", paid)
    world.succeed(paid)
    world.fail_refund(world.refund(paid, 4000)["id"])
    world.refund(paid, 500)
    world.close_dispute(world.dispute(paid, 3000)["id"], won=data.draw(st.booleans()))
    deliveries = [world.delivery(event) for event in world.events]
    mixed = data.draw(st.permutations(deliveries + data.draw(st.lists(st.sampled_from(deliveries)))))
    with books(tmp_path_factory.mktemp("ordered")) as ordered:
        expected = run(ordered, world, deliveries)
    with books(tmp_path_factory.mktemp("mixed")) as other:
        found = run(other, world, mixed)
    assert (found[0], found[2]) == (expected[0], [])


def test_a_law_finds_an_entry_that_no_event_tells(sessions: Sessions) -> None:
    world = world_of(20, seed=2)
    with sessions() as session:
        open_books(session, world)
    deliver(sessions, [world.delivery(event) for event in world.events], world.secret)
    with sessions() as session:
        assert payments.laws.check_events(session) == []
        leg = ledger.Leg("USD", debit="external:stripe:USD", credit="platform:fees:USD", amount=5)
        for key, kind in (("stripe:pi_forged:captured", "payment_captured"), ("house:1", "forged")):
            ledger.post(
                session,
                journal=f"jnl_{kind}",
                kind=kind,
                business_key=key,
                actor="thief",
                now=NOW,
                legs=[leg],
            )
        assert payments.laws.check_events(session) == [
            "stripe:pi_forged:captured is in the ledger and no event tells it"
        ]
        assert payments.laws.check_reconciled(session) == [
            "house:1 moves Stripe's account and is not Stripe's"
        ]


def test_events_are_kept_as_they_came_and_never_change(sessions: Sessions) -> None:
    world = world_of(3, seed=2)
    with sessions() as session:
        open_books(session, world)
    sent = [world.delivery(event) for event in world.events]
    deliver(sessions, sent, world.secret)
    with sessions() as session:
        kept = session.execute(text("SELECT id, payload FROM stripe_event")).all()
        assert {row.id: bytes(row.payload) for row in kept} == {one.event: one.payload for one in sent}
        assert all(events.known(session, one.event) for one in sent)
    with pytest.raises(Exception, match="append-only"), sessions() as session:
        session.execute(text("DELETE FROM stripe_event"))
