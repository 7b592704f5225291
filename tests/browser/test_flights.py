"""The flights through the browser alone: listed, requested, approved, paid, asked, and audited."""

from __future__ import annotations

import runpy
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from exchange.identity import SYSTEM
from exchange.operations import billing
from tests.browser import test_provider as listing
from tests.browser.people import Person
from tests.browser.test_buyer import HOUSE, download
from tests.browser.test_officer import export_evidence, verify_elsewhere
from tests.market.server import EXAMPLE, on_a_port
from tests.market.stand import Stand
from tests.market.till import Counter, counter

pytestmark = pytest.mark.browser

Come = Callable[..., Person]
BY_MONTH = "select month, count(*) as n from flights group by month"
FLIGHTS = 334_264
"""Those that name an aircraft."""


@pytest.fixture
def till(stand: Stand) -> Iterator[Counter]:
    """A market with an account at Stripe."""
    billing.set_profile(stand.market, SYSTEM, HOUSE, key=None)
    with counter(stand) as made:
        yield made


@pytest.fixture
def site(till: Counter) -> Iterator[str]:
    """Its address on a free port of this machine."""
    with on_a_port(till.stand.app) as url:
        yield url


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The five files of the example, whole."""
    written: list[Path] = runpy.run_path(str(EXAMPLE / "make_data.py"))["write"](
        tmp_path_factory.mktemp("flights")
    )
    return written


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no-scripts"])
def test_flights_from_the_file_to_the_audit(
    till: Counter,
    come: Come,
    files: list[Path],
    tmp_path: Path,
    scripts: bool,
    request: pytest.FixtureRequest,
) -> None:
    if not scripts and "postgres" in request.node.name:
        pytest.skip("what needs no script does not depend on the database")
    pat = come("provider", "pat@city.example", scripts=scripts)
    offer(pat, files, scripts=scripts)
    ada = come("stranger", "ada@hooli.example", scripts=scripts)
    ask_for_access(ada.page)
    approve(pat)
    pay(ada, till)
    ask(ada.page, tmp_path)
    till.stand.publish_log()
    olga = come("officer", "olga@cnil.example", scripts=scripts)
    verify_elsewhere(till.stand, audit(olga, tmp_path))
    assert olga.errors == []
    assert pat.errors == ada.errors == []
    assert till.stand.broken_laws() == []


def offer(pat: Person, files: list[Path], *, scripts: bool) -> None:
    """Step by step, as a provider does who cannot program."""
    hands = listing.Provider(pat.page)

    def no_picture(name: str) -> None:
        """Those of the steps are taken elsewhere."""

    listing.send_and_look(hands, no_picture, files, scripts=scripts)
    listing.protect(hands, no_picture, scripts=scripts)
    listing.describe(hands, no_picture)
    hands.press("Publish this listing")
    pat.page.wait_for_url("**/datasets/city/flights")
    assert hands.actions < listing.MOST_ACTIONS


def ask_for_access(page: Page) -> None:
    """Find it, and ask for access."""
    page.goto("/")
    page.get_by_role("searchbox").fill("flight new york")
    page.get_by_role("button", name="Search").click()
    page.get_by_role("link", name="Flights out of New York City", exact=True).click()
    page.get_by_role("link", name="Request access").first.click()
    page.get_by_label("Purpose").select_option("research")
    page.get_by_label("Territory").fill("US")  # the licence is for any
    page.get_by_role("button", name="Accept the licence and request access").click()
    expect(page.get_by_text("days left")).to_be_visible()


def approve(pat: Person) -> None:
    """The provider reads who asks, and for what."""
    pat.follow("Requests")
    pat.page.get_by_role("link", name="Open it").click()
    pat.page.get_by_label("Reason").fill("Research in aviation")
    pat.page.get_by_role("button", name="Approve").click()
    expect(pat.page.get_by_role("link", name="The grant that came of it")).to_be_visible()


def pay(ada: Person, till: Counter) -> None:
    """Top up on Stripe's page."""
    page = ada.page
    ada.follow("Wallet")
    page.get_by_label("Amount").fill("50.00")
    page.get_by_role("button", name="Go on to pay").click()
    link = page.get_by_role("link", name="Pay 50.00 USD").get_attribute("href") or ""
    till.world.pay(link.rpartition("/")[2])
    till.deliver()
    page.reload()
    expect(page.get_by_text("50.00 USD have arrived in your wallet.")).to_be_visible()


def ask(page: Page, folder: Path) -> None:
    """Quote, and run; the answer adds up to the flights within its own error."""
    page.get_by_role("link", name="Ask a question").click()
    page.get_by_label("SQL").fill(BY_MONTH)
    page.get_by_label("Rho").fill("0.1")
    page.get_by_role("button", name="Quote").click()
    expect(page.get_by_role("region", name="Quote")).to_contain_text("rho 0.1")
    page.get_by_role("button", name="Run for at most").click()
    expect(page.get_by_role("heading", name="The answer")).to_be_visible()
    expect(page.get_by_role("img", name="n by month").locator("rect")).to_have_count(12)
    rows = download(page, "Download CSV", folder / "answer.csv").read_text().splitlines()[1:]
    # What a limit on an aircraft's flights leaves out is not in the error. The limit follows the noise of a
    # profile: mostly it keeps nine flights of ten, and a fifth are left out once in thousands of runs.
    assert 0.6 * FLIGHTS < sum(int(row.split(",")[1]) for row in rows) < 1.1 * FLIGHTS


def audit(olga: Person, folder: Path) -> Path:
    """The officer finds the answer in the log, takes the evidence of it away, and reads its case."""
    page = olga.page
    olga.follow("Audit log")
    page.get_by_label("Kind").fill("query.settled")
    page.get_by_label("Dataset").fill("city/flights")
    page.get_by_role("button", name="Search").click()
    evidence = export_evidence(page, folder)
    page.get_by_role("link", name="query.settled").click()
    page.get_by_role("link", name="Everything about this query").click()
    assert olga.told("The grant")["For"].startswith("research, in US")
    spent = olga.told("Privacy before and after")["By this query"].split()[1]
    assert 0.0999 < float(spent) <= 0.1
    expect(page.get_by_role("region", name="The books")).to_contain_text("USD")
    expect(page.get_by_role("region", name="Receipt and proof")).to_contain_text(
        "its receipt proves inclusion"
    )
    return evidence
