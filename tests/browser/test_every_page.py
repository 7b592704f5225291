"""Every page that somebody can open: nothing that keeps people from using it, and no word to the console."""

from __future__ import annotations

from contextlib import closing

import httpx
import pytest
from playwright.sync_api import Browser

from tests.browser import accessibility
from tests.browser.screens import NARROW, WIDE
from tests.exchange.pages import PEOPLE, addresses, furnish, person
from tests.market.server import on_a_port
from tests.market.stand import Stand

pytestmark = pytest.mark.browser

#: A phone by day and a wide screen by night: the sheet alone tells these apart, one for all pages.
LOOKS = ((NARROW, "light"), (WIDE, "dark"))
#: What each sees in another way.
DIFFERENT = {"portal.catalogue", "portal.dataset_page"}


@pytest.fixture(scope="module")
def things(shared_sqlite_stand: Stand) -> dict[str, str]:
    """Something to show on every page."""
    return furnish(shared_sqlite_stand)


@pytest.fixture(scope="module")
def visited() -> set[str]:
    """The pages that one of them has seen."""
    return set()


@pytest.mark.parametrize("who", PEOPLE)
def test_everybody_can_use_the_pages_of(
    who: str,
    shared_sqlite_stand: Stand,
    things: dict[str, str],
    visited: set[str],
    chromium: Browser,
    axe: str,
) -> None:
    """A page that several may open is looked at by the first of them, but for those in ``DIFFERENT``."""
    stand, wrong, told = shared_sqlite_stand, list[str](), list[str]()
    with closing(person(stand, who)) as signed_in:
        pages = [one for one in addresses(stand, things) if one[0] not in visited - DIFFERENT]
        pages = [one for one in pages if is_shown(signed_in.get(one[1]))]
        visited.update(endpoint for endpoint, _ in pages)
        cookies = [{"name": one.name, "value": one.value or ""} for one in signed_in.http.cookies.jar]
    with (
        on_a_port(stand.app) as site,
        closing(chromium.new_context(base_url=site, locale="en-GB", timezone_id="UTC")) as context,
    ):
        context.add_cookies([{**one, "url": site} for one in cookies])  # type: ignore[list-item, typeddict-item]
        page = context.new_page()
        page.on(
            "console", lambda said: told.append(f"{page.url}: {said.text}") if said.type == "error" else None
        )
        page.on("pageerror", lambda error: told.append(f"{page.url}: {error}"))
        for _, address in pages:
            page.goto(address)
            for size, scheme in LOOKS:
                page.set_viewport_size(size)  # type: ignore[arg-type]
                page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
                width = page.evaluate("document.documentElement.scrollWidth")
                wrong += [f"{address}: {width} wide"] if width > size["width"] else []
                wrong += [f"{address} {scheme}: {one}" for one in accessibility.grave(page, axe)]
    assert not wrong, "\n".join(wrong)
    assert not told, "\n".join(told)
    assert pages


def is_shown(reply: httpx.Response) -> bool:
    """Whether a reply is a page, not a refusal, a file or the way to signing in."""
    return reply.status_code == 200 and reply.headers["Content-Type"].startswith("text/html")
