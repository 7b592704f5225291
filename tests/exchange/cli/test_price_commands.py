"""Prices and orders on the command line and in the SDK: checked, simulated, decided, notified."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from exchange.cli import main
from exchange.client import ExchangeError
from exchange.identity import Role
from tests.exchange.marketplace import COUNT, PLAN, SLUG, Marketplace, write_listing

Run = Callable[..., Result]
CONVEX = """\
fee = "0.00"
tiers = [{ up_to_rho = "0.005", per_rho = "400.00" }, { per_rho = "800.00" }]
"""
BEATEN = "two queries of rho 0.005 cost 4.00 USD, one of 0.01 costs 6.00 USD"


@pytest.fixture
def run(marketplace: Marketplace, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command as an organisation of the market."""

    def command(*words: str, who: str = "clinic") -> Result:
        monkeypatch.setenv("EXCHANGE_URL", marketplace.url)
        monkeypatch.setenv("EXCHANGE_TOKEN", marketplace.tokens[who])
        return CliRunner().invoke(main, list(words), catch_exceptions=False)

    return command


@pytest.fixture
def convex(tmp_path: Path) -> Path:
    """A listing whose price rises with accuracy."""
    manifest = write_listing(tmp_path / "convex")
    text = manifest.read_text().replace(SLUG, "clinic/convex").replace("person:clinic", "person:convex")
    head, _, rest = text.partition('fee = "')
    _, _, rest = rest.partition("approval")
    manifest.write_text(f"{head}{CONVEX}approval{rest}")
    return manifest


@pytest.mark.parametrize("words", [("price", "check"), ("price", "simulate"), ("publish",)])
def test_a_convex_price_is_refused_with_two_purchases_that_beat_it(
    run: Run, convex: Path, words: tuple[str, ...]
) -> None:
    done = run(*words, str(convex))
    assert done.exit_code == 3
    assert BEATEN in done.stderr
    told = json.loads(run(*words, str(convex), "--json").stderr)
    assert (told["code"], told["path"]) == ("price_arbitrage", "tiers[1].per_rho")
    found = told["counterexample"]
    assert (found["cheaper"][0]["times"], found["cheaper_cost"], found["direct_cost"]) == (2, "4.00", "6.00")
    assert run("show", "clinic/convex").exit_code == 2, "nothing was published"


def test_the_sdk_says_the_same(marketplace: Marketplace, convex: Path) -> None:
    with marketplace.client("clinic") as x:
        for refused_by in (x.check_prices, x.simulate_prices, x.publish):
            with pytest.raises(ExchangeError, match=BEATEN) as refused:
                refused_by(convex)
            assert refused.value.details["counterexample"]["currency"] == "USD"


def test_good_prices_are_checked_and_simulated_before_publishing(
    marketplace: Marketplace, run: Run, tmp_path: Path
) -> None:
    manifest = write_listing(tmp_path / "fresh")
    manifest.write_text(manifest.read_text().replace(SLUG, "clinic/fresh").replace("person:", "fresh:"))
    assert "Nothing beats them" in run("price", "check", str(manifest)).stdout
    tried = run("price", "simulate", str(manifest), "--plan", PLAN).stdout
    assert "count of visits by site" in tried
    one = ("--sql", COUNT, "--error", "n=10", "--times", "20", "--json")
    told = json.loads(run("price", "simulate", str(manifest), "--plan", PLAN, *one).stdout)
    (plan,) = told["plans"]
    (row,) = plan["questions"]
    assert row["times"] == plan["times"] == 20
    assert 0 < row["error"]["n"] <= 10
    assert row["all"]["amount_minor"] == 20 * row["price"]["amount_minor"] == plan["cost"]["amount_minor"]
    assert plan["earned"]["amount_minor"] + plan["platform"]["amount_minor"] == plan["cost"]["amount_minor"]
    with marketplace.client("clinic") as x:
        same = x.simulate_prices(manifest, questions=[{"sql": COUNT, "error": {"n": 10}, "times": 20}])
        assert same[PLAN].cost.amount_minor == plan["cost"]["amount_minor"]
        assert "20 of question at +-" in same[PLAN].questions[0].in_words
    assert run("show", "clinic/fresh").exit_code == 2, "nothing was published"


def test_what_is_simulated_is_what_is_charged(marketplace: Marketplace, run: Run) -> None:
    quoted = json.loads(
        run(
            "price",
            "simulate",
            str(marketplace.manifest),
            "--plan",
            PLAN,
            "--sql",
            COUNT,
            "--rho",
            "0.0123",
            "--json",
        ).stdout
    )["plans"][0]["questions"][0]
    with marketplace.client("lab") as x:
        dataset = x.dataset(SLUG)
        dataset.request(plan=PLAN, purpose="research", territory="US", accept_licence=True)
        offer = dataset.quote("select count(*) as m from visits where minutes < 77", rho="0.0123", plan=PLAN)
        assert offer.price.amount_minor == quoted["price"]["amount_minor"]


def test_a_request_is_followed_from_asking_to_the_end(marketplace: Marketplace, run: Run) -> None:
    marketplace.admit("ward", Role.BUYER, amount="50.00")
    terms = ("--plan", "asked", "--purpose", "research", "--territory", "US", "--accept-licence")
    asked = json.loads(run("request", SLUG, *terms, "--until", "2099-01-31", "--json", who="ward").stdout)
    assert asked["state"] == "open"
    listed = json.loads(run("requests", "list", "--state", "open", "--json").stdout)
    (mine,) = [one for one in listed if one["request"] == asked["request"]]
    assert mine["decide_by"]
    assert "ward asks for access" in run("notifications", "--unread").stdout
    limits = ("--max-rho", "0.5", "--until", "2098-12-31", "--reason", "welcome")
    assert run("requests", "approve", asked["request"], *limits).exit_code == 0
    (grant,) = json.loads(run("grants", "list", "--json", who="ward").stdout)
    assert (grant["state"], grant["rho_remaining"], grant["until"][:10]) == ("active", "0.5", "2098-12-31")
    told = json.loads(run("notifications", "--unread", "--json", who="ward").stdout)
    assert [one["kind"] for one in told] == ["access.approved"]
    assert run("notifications", "--read", told[0]["id"], who="ward").exit_code == 0
    assert json.loads(run("notifications", "--unread", "--json", who="ward").stdout) == []
    for verb, state in (("suspend", "suspended"), ("resume", "active")):
        moved = run("grants", verb, grant["id"], "--reason", "a review", "--json")
        assert json.loads(moved.stdout)["state"] == state
    renewed = json.loads(run("grants", "renew", grant["id"], "--json", who="ward").stdout)
    assert (renewed["state"], renewed["renews"]) == ("open", grant["id"])
    assert run("requests", "cancel", renewed["request"], who="ward").exit_code == 0
    assert run("grants", "top-up", grant["id"], who="ward").exit_code == 3, "the plan sells no credit"
    assert run("grants", "withdraw", grant["id"], "--reason", "breach").exit_code == 0
    kinds = [one["kind"] for one in json.loads(run("notifications", "--json", who="ward").stdout)]
    assert kinds[:3] == ["grant.withdrawn", "grant.resumed", "grant.suspended"]
    assert run("grants", "end", grant["id"], who="ward").exit_code == 3
