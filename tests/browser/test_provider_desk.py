"""A provider's desk in a real browser, with scripts and without: decide, mind a listing, see the earnings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from exchange.operations import watching
from tests.browser.people import Person
from tests.browser.screens import Album
from tests.market import sample
from tests.market.stand import Stand

pytestmark = pytest.mark.browser

Come = Callable[..., Person]


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_a_provider_decides_and_looks_after_a_listing(
    stand: Stand, come: Come, album: Album, tmp_path: Path, scripts: bool
) -> None:
    if not scripts:
        album = Album(tmp_path / "plain")  # held to the same, and looks the same
    for day, sql in enumerate((sample.COUNT, sample.BY_ZONE, sample.MINUTES)):
        assert stand.run(sql=sql, key=f"question {day}").status_code == 200
        stand.clock.advance(days=day + 1)
    stand.publish_log()
    watching.watch(stand.market)
    for who in ("buyer", "other", "stranger"):
        assert stand.request(who, plan="by-request", purpose="journalism").status_code == 201
        stand.clock.advance(days=2)
    pat = come("provider", "pat@city.example", scripts=scripts)
    page = pat.page

    pat.follow("Desk")
    expect(page.get_by_role("table").get_by_role("link", name="Rides in the city")).to_be_visible()
    album.take(page, "provider-desk")
    pat.follow("Requests")
    album.take(page, "provider-requests")
    page.get_by_role("link", name="Open it").first.click()
    album.take(page, "provider-request")
    page.get_by_label("At most this much rho in all").fill("0.5")
    page.get_by_label("Reason").fill("For this year")
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_text("For this year")).to_be_visible()
    page.get_by_role("link", name="The grant that came of it").click()
    album.take(page, "provider-grant")

    pat.follow("Requests")
    page.get_by_role("button", name="Decline them").click()
    expect(page.get_by_role("alert")).to_contain_text("no request is ticked")
    for box in page.get_by_role("checkbox").all():
        box.check()
    page.get_by_label("Reason").fill("Ask under the plan pay")
    page.get_by_role("button", name="Decline them").click()
    expect(page.get_by_role("status")).to_contain_text("2 requests are decided")
    assert stand.get("stranger", "/v1/requests").json()["items"][0]["reason"] == "Ask under the plan pay"

    pat.follow("Earnings")
    expect(page.get_by_role("img", name="Earned by month, USD")).to_be_visible()
    album.take(page, "provider-earnings")
    page.get_by_role("rowheader").get_by_role("link", name="-USD").last.click()
    album.take(page, "provider-statement")
    with page.expect_download() as taken:
        page.get_by_role("link", name="PDF").click()
    assert taken.value.suggested_filename.endswith("-USD.pdf")

    pat.follow("Desk")
    page.get_by_role("link", name="Rides in the city").click()
    expect(page.get_by_role("img", name="Rho spent by day").locator("rect")).to_have_count(3)
    album.take(page, "provider-listing")
    page.get_by_label("Reason, and what comes instead").fill("Rides of the next year follow")
    page.get_by_role("button", name="Deprecate the listing").click()
    expect(page.get_by_text("It takes no new buyers")).to_be_visible()
    page.get_by_role("button", name="Put it back on the market").click()
    expect(page.get_by_role("button", name="Deprecate the listing")).to_be_visible()
    page.get_by_text("Withdraw the listing…").click()
    page.get_by_label(f"Type {sample.SLUG} to confirm it").fill("city/other")
    page.get_by_role("button", name="Withdraw it for good").click()
    expect(page.get_by_role("alert")).to_contain_text("not the listing's name")
    page.get_by_text("Withdraw the listing…").click()
    page.get_by_label(f"Type {sample.SLUG} to confirm it").fill(sample.SLUG)
    page.get_by_role("button", name="Withdraw it for good").click()
    expect(page.get_by_text("It was withdrawn for good.")).to_be_visible()
    assert stand.get("stranger", f"/v1/datasets/{sample.SLUG}").status_code == 404
    assert stand.broken_laws() == []
    assert [told for told in pat.errors if "422" not in told] == [], "but for forms that were not taken"
