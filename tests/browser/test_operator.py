"""An operator in a real browser, with scripts and without; an officer's way from what waits to a case."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.people import Person
from tests.browser.screens import Album
from tests.exchange.test_oversight import raise_one
from tests.market.stand import Stand

pytestmark = pytest.mark.browser

Come = Callable[..., Person]


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_an_organisation_is_admitted_and_its_money_confirmed_by_two(
    stand: Stand, come: Come, album: Album, tmp_path: Path, scripts: bool
) -> None:
    if not scripts:
        album = Album(tmp_path / "plain")  # held to the same, and looks the same
    assert stand.run().status_code == 200
    stand.publish_log()
    raise_one(stand)
    olga = come("operator", "olga@market.example", scripts=scripts)
    page = olga.page
    olga.follow("Health")
    expect(page.get_by_role("row").filter(has_text="Query workers")).to_contain_text("ok")
    album.take(page, "operator-health")

    olga.follow("Organisations")
    album.take(page, "operator-organisations")
    page.get_by_role("link", name="Admit one").click()
    page.get_by_label("Short name").fill("umbrella")
    page.get_by_label("It", exact=True).select_option("buyer")
    page.get_by_label("Legal name").fill("Umbrella Statistics B.V.")
    page.get_by_label("Country").fill("Netherlands"[:2])
    page.get_by_label("Registration").fill("KvK 1234567")
    page.get_by_label("Verified by").fill("Extract of the register")
    album.take(page, "operator-admit")
    page.get_by_role("button", name="Admit it").click()
    expect(page.get_by_role("alert")).to_contain_text("ISO 3166-1")
    page.get_by_label("Country").fill("NL")
    page.get_by_role("button", name="Admit it").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("umbrella")
    page.get_by_label("Login of the first administrator").fill("una@umbrella.example")
    page.get_by_role("button", name="Make a link").click()
    expect(page.get_by_role("region", name="A link for una@umbrella.example")).to_contain_text("/join/inv_")
    album.take(page, "operator-organisation")

    olga.follow("Bank transfers")
    for label, text in (("Buyer", "umbrella"), ("Amount", "20000.00"), ("Currency", "EUR")):
        page.get_by_label(label, exact=True).fill(text)
    page.get_by_label("The bank's reference").fill("SEPA 2026-77")
    page.get_by_role("button", name="Propose it").click()
    expect(page.get_by_text("Another operator decides.")).to_be_visible()
    album.take(page, "operator-transfers")

    otto = come("operator", "otto@market.example", scripts=scripts)
    stand.clock.advance(minutes=6)
    otto.follow("Bank transfers")
    otto.page.get_by_role("button", name="Confirm").click()
    otto.confirm()
    otto.page.get_by_role("button", name="Confirm").click()
    expect(otto.page.get_by_role("row").filter(has_text="SEPA 2026-77")).to_contain_text("confirmed")
    otto.page.get_by_role("link", name="umbrella").click()
    expect(otto.page.get_by_role("region", name="Money")).to_contain_text("20,000.00 EUR")

    month = f"{stand.clock():%Y-%m}"
    stand.clock.advance(days=35)
    late = come("operator", "late@market.example", scripts=scripts)
    late.follow("Payouts")
    late.page.get_by_text("Close a month now…").click()
    late.page.get_by_label("Month that is over").fill(month)
    late.page.get_by_role("button", name="Close it").click()
    late.page.get_by_label("The bank's reference").fill("SEPA out 1")
    album.take(late.page, "operator-payouts")
    late.page.get_by_role("button", name="It was sent").click()
    expect(late.page.get_by_text("SEPA out 1")).to_be_visible()
    assert stand.broken_laws() == []
    assert [told for one in (olga, otto, late) for told in one.errors if "422" not in told] == []


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_an_officer_finds_everything_from_what_waits(
    stand: Stand, come: Come, album: Album, tmp_path: Path, scripts: bool
) -> None:
    if not scripts:
        album = Album(tmp_path / "plain")
    query = stand.run().json()["query"]
    stand.publish_log()
    raise_one(stand)
    frozen = stand.post("officer", "/v1/officer/freezes", {"organisation": "globex", "reason": "x"}).json()
    stand.post("officer", f"/v1/officer/freezes/{frozen['freeze']}/lift", {"reason": "It was settled"})
    ada = come("officer", "ada@cnil.example", scripts=scripts)
    page = ada.page
    ada.follow("Overview")
    album.take(page, "officer-overview")
    page.get_by_role("link", name=re.compile("^Lift the freeze")).click()
    expect(page.get_by_role("button", name="Approve")).to_be_visible()
    ada.follow("Overview")
    page.get_by_label("Id of a query, an entry, an alert or an approval").fill(query)
    page.get_by_role("button", name="Open it").click()
    expect(page.get_by_role("region", name="The grant")).to_be_visible()
    ada.follow("Domains")
    album.take(page, "officer-domains")
    page.get_by_role("rowheader").get_by_role("link").first.click()
    expect(page.get_by_role("region", name="Lifetime budget over all buyers")).to_be_visible()
    ada.follow("Exports")
    album.take(page, "officer-exports")
    page.get_by_label("Kind").fill("query.settled")
    with page.expect_download() as taken:
        page.get_by_role("button", name="Export").click()
    assert taken.value.suggested_filename == "audit-log.zip"
    assert ada.errors == []
