"""Every page of the portal, for everybody: a language, a title, one main heading, and nothing inline."""

from __future__ import annotations

import re
from contextlib import closing

import pytest

from tests.exchange.pages import PEOPLE, Outline, addresses, faults, furnish, person
from tests.market.browser import Browser
from tests.market.stand import Stand

POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self'; object-src 'none'; frame-ancestors 'none'; "
    "base-uri 'none'; form-action 'self'"
)
FIRST_VISIT = 300_000


@pytest.fixture(scope="module")
def things(shared_sqlite_stand: Stand) -> dict[str, str]:
    """Something to show on every page."""
    return furnish(shared_sqlite_stand)


@pytest.mark.parametrize("who", [*PEOPLE, "nobody"])
def test_every_page_is_whole_for(who: str, shared_sqlite_stand: Stand, things: dict[str, str]) -> None:
    stand, wrong, seen = shared_sqlite_stand, [], 0
    with closing(Browser(stand) if who == "nobody" else person(stand, who)) as browser:
        for endpoint, address in addresses(stand, things):
            reply = browser.get(address)
            assert reply.status_code < 500, f"{address}: {reply.status_code}"
            if not reply.headers["Content-Type"].startswith("text/html"):
                continue
            seen += reply.status_code == 200
            assert reply.headers["Content-Security-Policy"] == POLICY, address
            wrong += [f"{endpoint} {address}: {one}" for one in faults(reply.text)]
    assert wrong == []
    assert seen > 3


def test_a_fault_of_a_page_is_found() -> None:
    page = "<html lang='en'><title>Fine · x</title><h1>A</h1><h2>B</h2><label for='a'></label><input id='a'>"
    assert faults(page) == []
    assert faults(page + "<h1>B</h1>") == ["2 headings of the first level"]
    assert faults(page + "<h4>B</h4>") == ["h4 follows h2"]
    assert faults(page + "<p style='x' onclick='y'>") == ["refused: p style", "refused: p onclick"]
    assert faults(page + "<div class='wide'>") == ["refused: a table that the keyboard cannot scroll"]
    assert faults(page + "<script>1</script>") == ["refused: script"]
    assert faults(page + "<p id='a' aria-labelledby='b'>") == ["twice: #a", "nothing is #b"]
    assert faults("<title> · x</title><h1></h1>") == ["language ''", "title '· x'"]


def test_the_first_visit_is_light(shared_sqlite_stand: Stand) -> None:
    """The page, and all that it names, as sent: nothing is packed on the way."""
    with closing(Browser(shared_sqlite_stand)) as browser:
        page = browser.get("/")
        files = set(re.findall(r'(?:src|href)="(/static/[^"]+)"', page.text))
        assert any(name.endswith(".css") for name in files)
        weight = len(page.content) + sum(len(browser.get(name).content) for name in files)
        assert weight < FIRST_VISIT
        assert Outline(page.text).language == "en"
