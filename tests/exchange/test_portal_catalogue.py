"""The catalogue's pages: what is found, what it can be narrowed to, and a way on where nothing is."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from html import unescape

import httpx
import pytest

from tests.exchange.test_portal import Markup
from tests.market import sample
from tests.market.stand import Stand

PAGE = f"/datasets/{sample.SLUG}"


@pytest.fixture
def page(shared_sqlite_stand: Stand) -> Callable[[str], str]:
    """A function that opens a page as somebody who is not signed in."""

    def opened(path: str) -> str:
        reply = shared_sqlite_stand.get(None, path)
        assert reply.status_code == 200, path
        assert Markup(reply.text).forbidden == []
        return unescape(reply.text)

    return opened


@pytest.fixture
def buyer(shared_sqlite_stand: Stand) -> Iterator[httpx.Client]:
    with closing(shared_sqlite_stand.sign_in("buyer")) as browser:
        yield browser


def ticked(html: str) -> list[tuple[str, str]]:
    """The boxes that are ticked: facet and value."""
    boxes = re.findall(r'<input type="checkbox"[^>]*name="([^"]*)" value="([^"]*)"([^>]*)>', html)
    return [(name, value) for name, value, rest in boxes if " checked" in rest]


def test_a_card_says_what_a_buyer_compares(page: Callable[[str], str]) -> None:
    html = page("/")
    for told in (
        "Rides in the city",
        "rider",
        "European Union, United States",
        "from 0.25 USD",
        "± 2",
        "Counts of units within",
    ):
        assert told in html, told
    assert f'href="{PAGE}/request"' in html
    assert "1 dataset" in html


def test_choices_are_ticked_counted_and_taken_back(page: Callable[[str], str]) -> None:
    html = page("/?q=rides&subject=mobility&territory=EU&territory=JP&sort=newest")
    assert ticked(html) == [("subject", "mobility"), ("territory", "EU")]
    assert '<option value="newest" selected>' in html
    assert "A count of units is off by at most" in html
    links = re.findall(r'<li><a href="([^"]*)"><span>([^<]*)</span>', html)
    assert ("/?q=rides&territory=EU&territory=JP&sort=newest", "Subject: mobility") in links
    assert ("/?q=rides&subject=mobility&territory=EU&sort=newest", "Licensed for use in: Japan") in links
    assert 'href="/?q=rides"' in html, "all of them at once"


def test_where_nothing_matches_it_says_what_to_do(page: Callable[[str], str]) -> None:
    assert "has every word of “elephants”" in page("/?q=elephants")
    both = page("/?q=rides&territory=JP")
    assert "remove a choice, or try fewer words" in both
    assert "European Union (1)" in both, "what would be found instead"
    assert "remove one, or choose another" in page("/?price=USD:0")
    assert "Nothing is listed yet" not in both


@pytest.mark.parametrize(
    "query", ["?sort=x", "?page=x", "?subject=" + "x" * 81, "?" + "&".join(f"unit={n}" for n in range(21))]
)
def test_what_cannot_be_searched_for_is_told_as_a_page(shared_sqlite_stand: Stand, query: str) -> None:
    reply = shared_sqlite_stand.get(None, f"/{query}")
    assert reply.status_code == 422
    assert "What to do" in reply.text


@pytest.mark.parametrize(
    "value",
    [
        "<script>alert(1)</script>",
        '"><b>',
        "USD:<b>",
        "JPY:1e9",
        "²³",
        ":",
        "XXX:100",
        "usd:100",
        "USD:" + "9" * 60,
    ],
)
def test_any_text_is_only_shown(page: Callable[[str], str], shared_sqlite_stand: Stand, value: str) -> None:
    for name in ("q", "subject", "unit", "territory", "price", "accuracy"):
        html = shared_sqlite_stand.get(None, "/", params={name: value}).text
        assert "<script" not in html
        assert "<b>" not in html
        assert "Nothing matches" in html


def test_the_page_of_a_dataset_says_everything_in_words(buyer: httpx.Client) -> None:
    html = unescape(buyer.get(PAGE).text)
    assert Markup(html).forbidden == []
    assert html.index("Request access") < html.index("Whom it protects")
    for told in (
        "first answer from 0.25 USD",
        "at most rho 1 of the budget; a count of them is then off by at most 1.39",
        "200 questions of rho 0.01",
        "select zone, count(*) as n, sum(minutes) as total from rides group by zone;",
        f'x.dataset("{sample.SLUG}")',
        "price, privacy cost and 95% error",
        "private keys: shown only above a noisy threshold",
        "on offer",
        'href="/?subject=mobility"',
    ):
        assert told in html, told


def test_a_name_is_never_code_in_an_example(sqlite_stand: Stand) -> None:
    name = 'x", purpose=print("owned"), y="\\'
    sqlite_stand.publish(manifest=sample.manifest(plans=[sample.plan(name)]))
    with closing(sqlite_stand.sign_in("buyer")) as browser:
        html = browser.get(PAGE).text
    found = re.search(r'aria-label="Python"><code>(.*?)</code>', html, re.DOTALL)
    assert found is not None
    calls = [node for node in ast.walk(ast.parse(unescape(found[1]))) if isinstance(node, ast.Call)]
    asked = next(one for one in calls if isinstance(one.func, ast.Attribute) and one.func.attr == "request")
    told = {one.arg: one.value.value for one in asked.keywords if isinstance(one.value, ast.Constant)}
    assert told == {"plan": name, "purpose": "…", "territory": "…", "accept_licence": True}


def test_no_field_of_an_address_holds_a_nul(shared_stand: Stand) -> None:
    for query in ("q=a%00", "subject=a&subject=b%00", "q%00=a", "page=a%00"):
        reply = shared_stand.get(None, f"/?{query}")
        assert reply.status_code == 422, query
        assert "holds a NUL character" in reply.text


def test_an_unknown_dataset_leaves_a_way_on(buyer: httpx.Client) -> None:
    for path in ("/datasets/city/none", "/datasets/x/y"):
        reply = buyer.get(path)
        assert reply.status_code == 404
        assert "Go to the catalogue" in reply.text
        assert 'role="search"' in reply.text


def test_revisions_say_what_changed(sqlite_stand: Stand) -> None:
    offer = {"organisation": "globex", "offered_until": "2099-01-31"}
    plans = [sample.plan("cheaper", fee="0.01"), sample.plan("theirs", **offer)]
    licence = sample.licence(title="Another licence", purposes=["research"])
    sqlite_stand.publish(manifest=sample.manifest(plans=plans, licence=licence))
    found = sqlite_stand.get("buyer", f"/v1{PAGE}").json()["revisions"]
    assert [(one["version_number"], one["current"]) for one in found] == [(2, True), (1, False)]
    changes = {one["what"]: one for one in found[0]["changes"]}
    assert set(changes) == {"licence", "plans"}
    assert changes["plans"]["removed"] == ["by-request", "pay", "taste"]
    assert changes["plans"]["added"] == ["cheaper"], "a private offer is for whom it is made to"
    assert changes["licence"]["added"][0].startswith("Another licence")
    assert found[1]["changes"] == []
