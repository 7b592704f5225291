"""What a buyer does, in a real browser, with scripts and without: request, pay, ask, read, prove, book."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from exchange.client.receipts import Receipt
from exchange.identity import SYSTEM
from exchange.operations import billing
from tests.browser.people import Person
from tests.browser.screens import Album
from tests.market import sample
from tests.market.server import on_a_port
from tests.market.stand import Stand
from tests.market.till import Counter, counter

pytestmark = pytest.mark.browser

Come = Callable[..., Person]
HOUSE = {"legal_name": "The exchange", "address": "1 Market Square", "country": "DE"}


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


Take = Callable[[Page, str], None]


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no-scripts"])
def test_from_the_dataset_to_the_invoice(
    till: Counter, come: Come, album: Album, tmp_path: Path, scripts: bool
) -> None:
    # Pictures are taken once, of the journey with scripts: their own checks need one.
    take: Take = album.take if scripts else lambda page, name: None
    ada = come("stranger", "ada@hooli.example", scripts=scripts)
    ada.follow("Overview")
    expect(ada.page.get_by_text("Nothing waits for you.")).to_be_visible()
    get_access(ada.page, take)
    fill_the_wallet(ada, till, take)
    find_the_price(ada, take)
    read_the_answer(ada.page, take, tmp_path)
    till.stand.publish_log()
    ada.page.reload()
    expect(ada.page.get_by_text("The receipt proves that this answer")).to_be_visible()
    keep_the_books(ada, take, tmp_path)
    for name in ("Wallet", "Queries", "Overview"):
        ada.follow(name)
        take(ada.page, f"buyer-{name.lower()}")
    assert ada.errors == []
    assert till.stand.broken_laws() == []


def get_access(page: Page, take: Take) -> None:
    """From the dataset's page to access, in four actions."""
    page.goto(f"/datasets/{sample.SLUG}")
    page.get_by_role("link", name="Request access").click()
    page.get_by_label("Purpose").select_option("research")
    page.get_by_label("Territory").select_option("EU")
    take(page, "buyer-request")
    page.get_by_role("button", name="Accept the licence and request access").click()
    expect(page.get_by_text("You have access.")).to_be_visible()
    take(page, "buyer-access-granted")


def fill_the_wallet(ada: Person, till: Counter, take: Take) -> None:
    """Top up on Stripe's page."""
    page = ada.page
    ada.follow("Wallet")
    page.get_by_label("Amount").fill("25.00")
    page.get_by_role("button", name="Go on to pay").click()
    pay = page.get_by_role("link", name="Pay 25.00 USD")
    take(page, "buyer-top-up")
    till.world.pay((pay.get_attribute("href") or "").rpartition("/")[2])
    till.deliver()
    page.reload()
    expect(page.get_by_text("25.00 USD have arrived in your wallet.")).to_be_visible()


def find_the_price(ada: Person, take: Take) -> None:
    """A statement that is refused, then one that is quoted."""
    page = ada.page
    page.get_by_role("link", name="Ask a question").click()
    page.get_by_label("SQL").fill("select zone, count(*) as n\nfrom rides\ngroup zone")
    page.get_by_role("button", name="Quote").click()
    expect(page.get_by_role("alert")).to_contain_text("Line 3, column")
    assert page.get_by_label("SQL").input_value().endswith("group zone")
    assert [one for one in ada.errors if "422" not in one] == []
    ada.errors.clear()  # the browser tells of the refusal's status
    take(page, "buyer-refused")
    page.get_by_role("link", name="How many by zone").click()
    page.get_by_role("button", name="Quote").click()
    told = page.get_by_role("region", name="Quote")
    for text in ("0.25 USD", "rho 0.01", "±"):
        expect(told).to_contain_text(text)
    take(page, "buyer-quote")


def read_the_answer(page: Page, take: Take, folder: Path) -> None:
    """Run at the price that is shown; the chart, the files and the receipt."""
    page.get_by_role("button", name="Run for at most 0.25 USD").click()
    expect(page.get_by_role("heading", name="The answer")).to_be_visible()
    chart = page.get_by_role("img", name="n by zone")
    expect(chart.locator("rect")).to_have_count(3)
    boxes = [one.bounding_box() for one in chart.locator("line.error").all()]
    assert len(boxes) == 9
    assert all(box and box["width"] + box["height"] > 0 for box in boxes)
    take(page, "buyer-answer")
    receipt = Receipt.load(download(page, "Download the receipt", folder / "receipt.json"))
    assert (receipt.summary["amount_minor"], receipt.summary["purpose"]) == ("25", "research")
    assert download(page, "Download CSV", folder / "answer.csv").read_text().startswith("zone,n")


def keep_the_books(ada: Person, take: Take, folder: Path) -> None:
    """Usage, the address for invoices, an invoice and its pages."""
    page = ada.page
    ada.follow("Usage")
    expect(page.get_by_role("img", name="Spent by day, USD").locator("rect")).to_have_count(1)
    take(page, "buyer-usage")
    ada.follow("Invoices")
    page.get_by_label("Legal name").fill("Hooli Ltd")
    page.get_by_label("Address").fill("2 Short Street\nSpringfield")
    page.get_by_label("Country").fill("US")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("button", name="Issue what is due now").click()
    row = page.get_by_role("row").filter(has_text="Invoice").filter(has_text="0.25 USD")
    expect(row).to_have_count(1)
    take(page, "buyer-invoices")
    row.get_by_role("rowheader").get_by_role("link").click()
    assert download(page, "Download PDF", folder / "invoice.pdf").read_bytes().startswith(b"%PDF")
    take(page, "buyer-invoice")


def download(page: Page, link: str, path: Path) -> Path:
    """Press a link that gives a file; where it was saved."""
    with page.expect_download() as saved:
        page.get_by_role("link", name=link).click()
    saved.value.save_as(path)
    return path


def test_a_request_waits_is_seen_and_taken_back(till: Counter, come: Come, album: Album) -> None:
    ada = come("stranger", "ada@hooli.example")
    page = ada.page
    page.goto(f"/datasets/{sample.SLUG}/request")
    page.get_by_role("radio", name="by-request").check()
    page.get_by_label("Purpose").select_option("journalism")
    page.get_by_label("Territory").select_option("US")
    page.get_by_role("button", name="Accept the licence and request access").click()
    expect(page.get_by_text("has 45 days left")).to_be_visible()
    album.take(page, "buyer-request-waits")
    ada.follow("Access")
    expect(page.get_by_role("cell", name="45 days left")).to_be_visible()
    page.get_by_role("rowheader").get_by_role("link").click()
    page.get_by_text("Take the request back").click()
    page.get_by_role("button", name="Take it back").click()
    expect(page.get_by_text("You took this request back.")).to_be_visible()
    ada.follow("Access")
    album.take(page, "buyer-access")
    assert ada.errors == []
