"""Top-ups, history and the operator's part of the books through SDK and command line, as people use them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from exchange.cli import commands, main
from exchange.client import Conflict, Exchange, PermissionDenied, StillUnpaid
from exchange.identity import Role
from exchange.operations import administering
from tests.market.stand import Stand
from tests.market.till import Counter, counter


@pytest.fixture
def till(sqlite_stand: Stand) -> Iterator[Counter]:
    with counter(sqlite_stand) as opened:
        yield opened


def as_(till: Counter, who: str) -> Exchange:
    """The SDK as a person of the market."""
    wire = httpx.WSGITransport(app=till.stand.app)
    return Exchange("http://market.test", token=till.stand.tokens.get(who, who), transport=wire)


def command(till: Counter, who: str, monkeypatch: pytest.MonkeyPatch, *words: str, code: int = 0) -> Any:
    """What a command prints as JSON, as a person of the market."""
    monkeypatch.setattr(commands, "client", lambda *_: as_(till, who))
    done = CliRunner().invoke(main, [*words, "--json"])
    assert done.exit_code == code, done.output
    return json.loads(done.stdout) if done.stdout else None


def test_a_top_up_is_paid_waited_for_and_in_the_history(till: Counter) -> None:
    with as_(till, "buyer") as x:
        made = x.top_up("12.00", "USD")
        assert made.state == "open"
        assert made.url is not None
        with pytest.raises(StillUnpaid):
            made.wait(timeout_s=0)
        till.world.pay(made.url.rpartition("/")[2])
        till.deliver()
        paid = made.wait()
        assert (paid.state, paid.document["received"]["amount"]) == ("paid", "12.00")
        assert x.top_ups()[0] == paid
        assert x.wallet_history()[-1]["amount"] == "12.00"
        assert made.id in made._repr_html_()


def test_two_operators_credit_a_large_transfer_by_command(
    till: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("--org", "acme", "--amount", "25000.00", "--currency", "USD", "--reference", "BANK-9")
    credit = command(till, "operator", monkeypatch, "wallet", "propose", *words)["credit"]
    command(till, "operator", monkeypatch, "wallet", "confirm", credit, code=3)
    other = administering.create_token(till.stand.market, org="house", role=Role.OPERATOR)["token"]
    done = command(till, other, monkeypatch, "wallet", "confirm", credit)
    assert done["state"] == "confirmed"
    [listed] = command(till, "operator", monkeypatch, "wallet", "proposals")
    assert listed["decided_by"] != listed["proposed_by"]


def test_the_life_of_a_payment_by_command(till: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    made = command(till, "buyer", monkeypatch, "wallet", "top-up", "--amount", "30.00", "--currency", "USD")
    intent = till.world.pay(made["url"].rpartition("/")[2])
    till.deliver()
    give = ("--payment", intent["id"], "--amount", "10.00", "--currency", "USD", "--reason", "asked")
    command(till, "operator", monkeypatch, "refunds", "create", *give)
    till.work()
    till.deliver()
    [refund] = command(till, "buyer", monkeypatch, "refunds", "list")
    assert refund["state"] == "refunded"
    run = command(till, "operator", monkeypatch, "reconcile")
    assert (run["clean"], run["breaks"]) == (True, [])
    till.world.move(till.world.keep("x", "loan", currency="usd"), "advance", 100)
    broken = command(till, "operator", monkeypatch, "reconcile", code=1)
    assert [one["kind"] for one in broken["breaks"]] == ["unknown_type"]
    assert command(till, "operator", monkeypatch, "reconcile", "--last", code=1)["run"] == broken["run"]
    assert command(till, "operator", monkeypatch, "disputes") == []
    url = command(till, "provider", monkeypatch, "payouts", "onboard")["url"]
    assert url.startswith("https://connect.")
    assert command(till, "provider", monkeypatch, "payouts", "list") == []


def test_who_may_not_is_told_so(till: Counter) -> None:
    with as_(till, "buyer") as x:
        with pytest.raises(PermissionDenied):
            x.treasury.reconcile()
        with pytest.raises(PermissionDenied):
            x.treasury.approve_payout("pay_0")
    with as_(till, "operator") as x:
        intent = till.paid("5.00")
        with pytest.raises(Conflict, match="at most"):
            x.treasury.refund(intent["id"], "5.01", "USD", reason="too much")
