"""Somebody looks for a dataset in a real browser, with a keyboard or a finger, with scripts or without."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.people import Person
from tests.browser.screens import Album
from tests.market import sample
from tests.market.server import on_a_port
from tests.market.stand import Stand

pytestmark = pytest.mark.browser

Come = Callable[[str, str], Person]


def test_a_dataset_is_found_without_scripts(chromium: Browser, stand: Stand, site: str, album: Album) -> None:
    with closing(chromium.new_context(base_url=site, locale="en-GB", java_script_enabled=False)) as context:
        page = context.new_page()
        page.goto("/")
        page.get_by_role("searchbox", name="Search datasets").fill("rid")
        page.get_by_role("searchbox", name="Search datasets").press("Enter")
        expect(page.get_by_role("heading", name="Rides in the city")).to_be_visible()
        page.get_by_label("mobility (1)").check()
        page.get_by_label("European Union (1)").check()
        page.get_by_label("Sort by").select_option(label="Newest")
        page.get_by_role("button", name="Apply").click()
        expect(page.get_by_role("status")).to_have_text("1 dataset")
        chips = page.get_by_role("list", name="Chosen")
        expect(chips).to_contain_text("Subject: mobility")
        assert page.get_by_label("Search datasets").input_value() == "rid", "what was typed stays"
        chips.get_by_role("link", name="Subject: mobility").click()
        expect(page.get_by_label("mobility (1)")).not_to_be_checked()
        expect(page.get_by_label("European Union (1)")).to_be_checked()
        expect(page.get_by_label("Sort by")).to_have_value("newest")
        page.goto("/?q=rides&territory=JP")
        expect(page.get_by_text("Nothing matches.")).to_be_visible()
        page.get_by_role("link", name="Search “rides” everywhere").click()
        expect(page.get_by_role("heading", name="Rides in the city")).to_be_visible()
        assert page.locator("h1").count() == 1


def test_a_buyer_reads_the_page_of_a_dataset(stand: Stand, come: Come, album: Album) -> None:
    bob = come("buyer", "bob@acme.example")
    page = bob.page
    page.goto("/?q=rides")
    album.take(page, "catalogue-buyer")
    expect(page.get_by_role("link", name="Request access to Rides in the city")).to_be_visible()
    page.get_by_role("link", name="Rides in the city", exact=True).click()
    request = page.get_by_role("link", name="Request access")
    expect(request).to_be_in_viewport()
    expect(request).to_have_attribute("href", f"/datasets/{sample.SLUG}/request")
    expect(page.get_by_role("region", name="Dictionary")).to_contain_text("0 to 120")
    expect(page.get_by_text("enough for 200 questions of rho 0.01")).to_be_visible()
    expect(page.get_by_role("region", name="Python")).to_contain_text(f'x.dataset("{sample.SLUG}")')
    expect(page.get_by_role("region", name="Revisions").get_by_role("row")).to_have_count(2)
    album.take(page, "dataset")
    page.goto("/datasets/city/none")
    expect(page.get_by_role("link", name="Go to the catalogue")).to_be_visible()
    album.take(page, "dataset-unknown")
    assert [told for told in bob.errors if "404" not in told] == []


@pytest.mark.parametrize(
    ("name", "tag", "ask"), [("简体中文", "zh-Hans", "申请访问"), ("한국어", "ko", "접근 신청")]
)
def test_a_language_is_chosen_once_for_every_page(
    sqlite_stand: Stand, chromium: Browser, album: Album, name: str, tag: str, ask: str
) -> None:
    with (
        on_a_port(sqlite_stand.app) as url,
        closing(chromium.new_context(base_url=url, locale="en-GB")) as context,
    ):
        page = context.new_page()
        page.goto("/")
        page.get_by_role("link", name=name).click()
        expect(page.locator("html")).to_have_attribute("lang", tag)
        album.take(page, f"catalogue-{tag.lower()}")
        page.goto(f"/datasets/{sample.SLUG}")
        expect(page.get_by_role("link", name=ask).first).to_be_visible()
        expect(page.locator("html")).to_have_attribute("lang", tag)
        album.take(page, f"dataset-{tag.lower()}")
