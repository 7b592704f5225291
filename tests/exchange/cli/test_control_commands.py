"""`exchange freeze`, `hold` and `approvals`, and the SDK behind them: an officer's program stops and asks."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from click.testing import CliRunner, Result

from exchange.cli import main
from exchange.client import Conflict, InvalidRequest, NotFound, PermissionDenied
from exchange.identity import Role
from tests.exchange.marketplace import SLUG, Marketplace

Run = Callable[..., Result]
REASON = "a red flag"


@pytest.fixture
def run(marketplace: Marketplace, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command as an organisation of the market."""

    def command(*words: str, who: str = "guard") -> Result:
        monkeypatch.setenv("EXCHANGE_URL", marketplace.url)
        monkeypatch.setenv("EXCHANGE_TOKEN", marketplace.tokens[who])
        return CliRunner().invoke(main, list(words), catch_exceptions=False)

    return command


def test_a_freeze_from_the_command_line(run: Run, marketplace: Marketplace) -> None:
    marketplace.admit("frosty", Role.BUYER, amount="10.00")
    none = run("freeze", "set", "--reason", REASON)
    assert none.exit_code != 0
    done = run("freeze", "set", "--organisation", "frosty", "--reason", REASON, "--json")
    assert done.exit_code == 0, done.stderr
    made = json.loads(done.stdout)
    assert (made["subject"]["name"], made["state"], made["reason"]) == ("frosty", "in force", REASON)
    listed = run("freeze", "list")
    assert made["freeze"] in listed.stdout.replace("\n", "")
    assert json.loads(run("freeze", "list", "--json").stdout)[0]["freeze"] == made["freeze"]
    assert made["freeze"] in run("freeze", "show", made["freeze"]).stdout
    with marketplace.client("frosty") as x, pytest.raises(PermissionDenied) as refused:
        x.dataset(SLUG).request(plan="pay", purpose="research", territory="US", accept_licence=True)
    assert (refused.value.code, refused.value.details["freeze"]) == ("frozen", made["freeze"])

    asked = run("freeze", "lift", made["freeze"], "--reason", "it was settled", "--json")
    approval = json.loads(asked.stdout)
    assert (approval["state"], approval["command"]) == ("open", "freeze.lift")
    assert approval["approval"] in run("approvals", "list", "--state", "open").stdout.replace("\n", "")
    told = run("approvals", "show", approval["approval"]).stdout
    assert "it was settled" in told
    assert "a red flag" in told, "who approves is told what is lifted, and why it was set"
    assert json.loads(run("freeze", "show", made["freeze"], "--json").stdout)["state"] == "in force"
    declined = json.loads(run("approvals", "decline", approval["approval"], "--json").stdout)
    assert declined["state"] == "declined"
    again = run("approvals", "decline", approval["approval"], "--json")
    assert json.loads(again.stderr)["code"] == "approval_closed"


def test_a_hold_from_the_command_line(run: Run, marketplace: Marketplace) -> None:
    marketplace.admit("kept", Role.BUYER)
    made = json.loads(run("hold", "set", "--organisation", "kept", "--reason", "file 12", "--json").stdout)
    assert made["answers_kept"] == 0
    assert made["hold"] in run("hold", "list").stdout.replace("\n", "")
    assert "file 12" in run("hold", "show", made["hold"]).stdout
    asked = json.loads(run("hold", "lift", made["hold"], "--reason", "closed", "--json").stdout)
    assert asked["command"] == "hold.lift"
    assert run("hold", "list", who="clinic").exit_code == 3


def test_the_sdk_says_what_is_wrong(marketplace: Marketplace) -> None:
    marketplace.admit("icy", Role.BUYER)
    with marketplace.client("guard") as x:
        with pytest.raises(InvalidRequest):
            x.audit.freeze(dataset=SLUG, organisation="icy", reason="two at once")
        with pytest.raises(NotFound):
            x.audit.freeze(organisation="nobody", reason="x")
        with pytest.raises(NotFound):
            x.audit.restraint("frz_" + "0" * 24)
        made = x.audit.freeze(organisation="icy", reason="x", idempotency_key="once")
        assert x.audit.freeze(organisation="icy", reason="x", idempotency_key="once").id == made.id
        assert made.id in made._repr_html_()
        asked = x.audit.lift(made.id, reason="y")
        assert asked.id in asked._repr_html_()
        assert x.audit.lift(made.id, reason="y").id == asked.id
        assert x.audit.decline(asked.id).state == "declined"
        with pytest.raises(Conflict):
            x.audit.decline(asked.id)
    with marketplace.client("lab") as x, pytest.raises(PermissionDenied):
        x.audit.freezes()
