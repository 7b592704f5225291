"""A provider's desk: who may open it, deciding once and several at once, what is confirmed and earned."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest

from exchange.operations import tending, watching
from exchange.persons import sessions
from settlement import invoices
from settlement.payments import payouts
from tests.exchange.test_portal import Markup
from tests.market import sample
from tests.market.browser import PASSWORD, Browser, member
from tests.market.stand import Stand
from tests.market.till import Counter, counter

LISTING = f"/provider/listings/{sample.SLUG}"
PAGES = ("/provider", "/provider/requests", "/provider/earnings", LISTING)


@pytest.fixture
def ask(sqlite_stand: Stand) -> Any:
    """A function that asks for access that waits; it returns the request's id."""

    def asked(who: str = "buyer", **more: Any) -> str:
        reply = sqlite_stand.request(who, plan="by-request", **more)
        assert reply.status_code == 201, reply.text
        return str(reply.json()["request"])

    return asked


@pytest.fixture
def desk(sqlite_stand: Stand) -> Iterator[Browser]:
    """A member of the provider."""
    with closing(member(sqlite_stand, "provider", "pat@city.example")) as browser:
        yield browser


def once(page: str) -> str:
    found = re.search(r'name="once" value="([0-9a-f]{24})"', page)
    assert found is not None
    return found[1]


def sent(browser: Browser, page: str, to: str, **fields: Any) -> httpx.Response:
    """A form of a page as it was drawn, with its marks."""
    html = browser.get(page).text
    csrf = re.search(r'name="csrf" value="([^"]+)"', html)
    assert csrf is not None
    return browser.http.post(to, data={"csrf": csrf[1], "once": once(html), **fields})


@pytest.mark.parametrize("who", ["buyer", "officer", "operator"])
def test_the_desk_is_for_providers(sqlite_stand: Stand, who: str) -> None:
    with closing(sqlite_stand.sign_in(who)) as browser:
        for page in (*PAGES, "/provider/statements/2026-11-USD", "/provider/requests/req_0"):
            assert browser.get(page).status_code == 403, page
        assert ">Desk<" not in browser.get("/").text


def test_another_providers_things_look_like_none(sqlite_stand: Stand, ask: Any) -> None:
    stand, request = sqlite_stand, ask()
    grant = stand.get("buyer", "/v1/grants").json()["items"][0]["grant"]
    with closing(stand.sign_in("rival")) as rival:
        for there, nowhere, status in (
            (LISTING, "/provider/listings/city/nothing", 404),
            (f"/provider/requests/{request}", f"/provider/requests/req_{'0' * 24}", 404),
            (f"/provider/grants/{grant}", f"/provider/grants/grt_{'0' * 24}", 403),
        ):
            replies = [rival.get(path) for path in (there, nowhere)]
            assert [reply.status_code for reply in replies] == [status, status], there
            bodies = {reply.text.replace(there, "X").replace(nowhere, "X") for reply in replies}
            bodies = {re.sub(r"next=[^\"]+", "", body) for body in bodies}
            assert len(bodies) == 1, there
        page = rival.get("/provider").text
        assert "You list nothing yet." in page
        assert sample.SLUG not in page


def test_the_pages_of_a_provider_who_has_sold(sqlite_stand: Stand, desk: Browser, ask: Any) -> None:
    stand = sqlite_stand
    assert stand.run(sql=sample.BY_ZONE).status_code == 200
    stand.publish_log()
    watching.watch(stand.market)
    request = ask(purpose="journalism")
    for path in (*PAGES, f"/provider/requests/{request}", f"/provider/statements/{stand.clock():%Y-%m}-USD"):
        page = desk.get(path)
        assert page.status_code == 200, page.text
        markup = Markup(page.text)
        assert markup.forbidden == [], path
        assert markup.tags.count("h1") == 1, path
    told = desk.get("/provider").text
    assert "acme asks for city/rides" in told
    assert "lapses in 44 days" in told or "lapses in 45 days" in told
    facts = desk.get(f"/provider/requests/{request}").text
    for text in (
        "journalism",
        "EU",
        "to act as buyer",
        "will not publish",
        "Nobody has recorded who it is.",
        "rho 0.01 spent",
    ):
        assert text in facts, text
    listing = desk.get(LISTING).text
    assert listing.count("<svg") == 2, "the brand's and the chart"
    assert "Nothing was offered before it." in listing
    assert "acme</a></th><td>active" in listing


def test_the_desk_shows_listings_page_by_page_and_counts_all(
    sqlite_stand: Stand, desk: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    public = {"domain": "zones", "rho": 1.0, "delta": 1e-6, "tables": {"zones": {"public": True}}}
    tables = {"zones": "zones.csv"}
    for name in ("a", "z"):
        mine = sample.manifest(slug=f"city/{name}", tables=tables, policy=public)
        assert sqlite_stand.draft(manifest=mine, files={"zones": sample.zones()}).status_code < 300
    monkeypatch.setattr(tending, "MOST_LISTINGS", 2)
    first = desk.get("/provider").text
    more = re.search(r'href="([^"]+)" rel="next"', first)
    assert more is not None
    seen = [re.findall(r"<br><code>(city/\w+)</code>", one) for one in (first, desk.get(more[1]).text)]
    assert seen == [["city/a", sample.SLUG], ["city/z"]]
    assert "Listings</dt><dd>3</dd>" in first


def test_a_request_is_approved_once_however_often_it_is_sent(
    sqlite_stand: Stand, desk: Browser, ask: Any
) -> None:
    stand, request = sqlite_stand, ask("stranger")
    path = f"/provider/requests/{request}"
    html = desk.get(path).text
    fields = {
        "csrf": desk.csrf(path),
        "once": once(html),
        "decision": "approve",
        "max_rho": "0.25",
        "until": "",
    }
    for _ in range(2):
        reply = desk.http.post(f"{path}/decide", data=fields)
        assert (reply.status_code, reply.url.path) == (200, path)
        assert "approved" in reply.text
    (grant,) = stand.get("stranger", "/v1/grants").json()["items"]
    assert grant["rho_nano_allowance"] == 250_000_000
    assert len(stand.entries(kind="access.approved")) == 1
    again = sent(desk, LISTING, f"{path}/decide", decision="decline", reason="too late")
    assert again.status_code == 409
    assert "Decide" not in again.text.split("<main")[1]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"decision": "decline", "reason": " "}, "a reason of 1 to 1,000 characters"),
        ({"decision": "decline", "reason": "x" * 1001}, "a reason of 1 to 1,000 characters"),
        ({"decision": "approve", "max_rho": "much"}, "max_rho must be a decimal number"),
        ({"decision": "approve", "until": "2020-01-01"}, "until lies in the past"),
        ({"decision": "both"}, "a request is approved or declined"),
    ],
)
def test_a_decision_that_is_not_taken_keeps_what_was_typed(
    sqlite_stand: Stand, desk: Browser, ask: Any, fields: dict[str, str], told: str
) -> None:
    request = ask()
    path = f"/provider/requests/{request}"
    typed = {"reason": '<i>"typed"</i>', **fields}
    reply = sent(desk, path, f"{path}/decide", **typed)
    assert reply.status_code == 422
    assert told in reply.text
    assert "<i>" not in reply.text
    assert (
        typed["reason"].strip()[:1000].replace('"', "&#34;").replace("<", "&lt;").replace(">", "&gt;")
        in reply.text
    )
    assert sqlite_stand.get("buyer", f"/v1/requests/{request}").json()["state"] == "open"


def test_several_are_declined_at_once_and_one_that_cannot_be_stays(
    sqlite_stand: Stand, desk: Browser, ask: Any
) -> None:
    stand = sqlite_stand
    ids = [ask(), ask("other"), ask("stranger")]
    reply = sent(desk, "/provider/requests", "/provider/requests", decision="approve")
    assert reply.status_code == 422
    assert "no request is ticked" in reply.text
    taken = ids[2]
    assert stand.post("stranger", f"/v1/requests/{taken}/cancel").status_code == 200
    foreign = "req_" + "0" * 24
    reply = sent(
        desk,
        "/provider/requests",
        "/provider/requests",
        decision="decline",
        reason="The plan ends",
        request=[*ids, foreign],
    )
    assert reply.status_code in (404, 409)
    assert "2 requests are decided" in reply.text
    assert f"{taken}: " in reply.text
    assert f"{foreign}: There is no such access request" in reply.text
    found = {
        one["request"]: one
        for who in ("buyer", "other")
        for one in stand.get(who, "/v1/requests").json()["items"]
    }
    assert {found[one]["reason"] for one in ids[:2]} == {"The plan ends"}
    assert "No request waits." in desk.get("/provider/requests").text
    assert "The plan ends" in desk.get("/provider/requests?state=declined").text
    assert desk.get("/provider/requests?state=none").status_code == 422


def test_several_are_approved_and_the_page_says_how_many(
    sqlite_stand: Stand, desk: Browser, ask: Any
) -> None:
    ids = [ask("other"), ask("stranger")]
    reply = sent(desk, "/provider/requests", "/provider/requests", decision="approve", request=ids)
    assert reply.url.path == "/provider/requests"
    assert "2 requests are decided. Who asked is told." in reply.text
    assert sqlite_stand.get("stranger", "/v1/grants").json()["items"]


def test_a_listing_is_deprecated_and_put_back(sqlite_stand: Stand, desk: Browser) -> None:
    stand = sqlite_stand
    dataset = stand.get("provider", f"/v1/datasets/{sample.SLUG}").json()
    path = f"/provider/listings/{dataset['id']}"
    empty = sent(desk, LISTING, f"{path}/deprecate", reason="")
    assert empty.status_code == 422
    assert stand.get("buyer", f"/v1/datasets/{sample.SLUG}").json()["state"] == "published"
    done = sent(desk, LISTING, f"{path}/deprecate", reason="Another follows")
    assert done.url.path == LISTING
    assert "It takes no new buyers" in done.text
    assert "Put it back on the market" in done.text
    assert stand.run().status_code == 200
    back = sent(desk, LISTING, f"{path}/offer", version=dataset["version"])
    assert "It takes no new buyers" not in back.text
    assert stand.get("buyer", "/v1/datasets").json()["items"]


def test_a_listing_is_withdrawn_by_its_name_alone(sqlite_stand: Stand, desk: Browser) -> None:
    stand = sqlite_stand
    dataset = stand.get("provider", f"/v1/datasets/{sample.SLUG}").json()["id"]
    path = f"/provider/listings/{dataset}/withdraw"
    assert "grants are in force: no further question" in desk.get(LISTING).text
    wrong = sent(desk, LISTING, path, name="city/other")
    assert wrong.status_code == 422
    assert "this is not the listing" in wrong.text
    assert stand.run().status_code == 200
    done = sent(desk, LISTING, path, name=sample.SLUG)
    assert "It was withdrawn for good." in done.text
    assert "Withdraw the listing" not in done.text
    assert stand.run(sql=sample.BY_ZONE).status_code == 404


def test_a_new_version_says_what_it_tells_more_and_less_of(sqlite_stand: Stand, desk: Browser) -> None:
    stand = sqlite_stand
    tighter = sample.policy()
    tighter["tables"]["rides"]["columns"]["minutes"] = {"bounds": [0, 60]}
    drafted = stand.draft(manifest=sample.manifest(policy=tighter, plans=[sample.plan(fee="0.10")])).json()
    page = desk.get(LISTING).text
    assert "Its prices" in page
    assert re.search(
        r"rides.minutes: bounds</th><td>0 to 120</td><td>0 to 60</td>\s*<td><span class=\"tag good\">less",
        page,
    )
    assert "draft of version 2" in desk.get("/provider").text
    offered = sent(
        desk, LISTING, f"/provider/listings/{drafted['dataset']}/offer", version=drafted["version"]
    )
    assert offered.status_code == 200, offered.text
    assert "Offer this version" not in offered.text
    assert stand.get("buyer", f"/v1/datasets/{sample.SLUG}").json()["version_number"] == 2


def test_a_grant_is_suspended_resumed_and_withdrawn(sqlite_stand: Stand, desk: Browser) -> None:
    stand = sqlite_stand
    grant = stand.get("buyer", "/v1/grants").json()["items"][0]["grant"]
    path = f"/provider/grants/{grant}"
    assert sent(desk, path, f"{path}/suspend", reason="").status_code == 422
    assert "Unclear use" in sent(desk, path, f"{path}/suspend", reason="Unclear use").text
    assert stand.run().status_code == 403
    assert "Suspend</button>" in sent(desk, path, f"{path}/resume", reason="Clear now").text
    assert stand.run().status_code == 200
    gone = sent(desk, path, f"{path}/withdraw", reason="It ends")
    assert "End it for good" not in gone.text
    assert stand.run(sql=sample.BY_ZONE).status_code == 403


def test_earnings_by_month_are_those_of_the_statement(sqlite_stand: Stand, desk: Browser) -> None:
    stand = sqlite_stand
    assert stand.run(sql=sample.BY_ZONE).status_code == 200
    month = f"{stand.clock():%Y-%m}"

    def look(session: Any) -> tuple[int, int]:
        found = invoices.provider_statement(
            session, org=stand.orgs["provider"], currency="USD", since=f"{month}-01", until="2999"
        )
        sold = [line for line in found.lines if line.category in ("earned", "refunded")]
        return sum(line.net_minor for line in sold), len(sold)

    stated = stand.market.store.read(look)
    earned = stand.market.store.read(
        lambda s: invoices.earned_by_month(s, stand.orgs["provider"], "USD", since=f"{month}-01")
    )
    assert earned == {month: stated}
    assert stated[0] > 0
    held = stand.market.store.read(
        lambda s: (
            invoices.provider_statement(
                s, org=stand.orgs["provider"], currency="USD", since=f"{month}-01", until="2999"
            ).closing
        )
    )
    page = desk.get("/provider/earnings").text
    assert f"Owed to you</dt><dd>{held['total'] / 100:.2f} USD" in page
    assert (
        f'{month}</th><td class="number">{stated[1]}</td><td class="number">{stated[0] / 100:.2f} USD' in page
    )
    data = desk.get(f"/provider/statements/{month}-USD.json")
    assert data.json()["document"]["totals"]["earned"] == f"{stated[0] / 100:.2f}"
    pdf = desk.get(f"/provider/statements/{month}-USD.pdf")
    assert (pdf.headers["Content-Type"], pdf.content[:4]) == ("application/pdf", b"%PDF")
    assert "Connect an account" not in page, "there is no Stripe here"
    assert desk.get("/provider/statements/1999-01-EUR").status_code == 404


CONNECT = "/provider/payouts/connect"


@pytest.fixture
def till(sqlite_stand: Stand) -> Iterator[Counter]:
    """Stripe, which the exchange is connected to."""
    with counter(sqlite_stand) as opened:
        yield opened


def test_an_administrator_who_has_just_shown_it_says_where_the_money_goes(
    till: Counter, desk: Browser
) -> None:
    stand = till.stand
    told = desk.get("/provider/earnings").text
    assert "An administrator of your organisation connects an account" in told
    assert CONNECT not in told, "nothing to press that is refused"
    refused = desk.post(CONNECT)
    assert (refused.status_code, "needs an administrator" in refused.text) == (403, True)
    with closing(member(stand, "provider", "ann@city.example", admin=True)) as ann:
        assert f'action="{CONNECT}"' in ann.get("/provider/earnings").text
        assert "go on at Stripe" in ann.post(CONNECT).text
        stand.clock.advance(seconds=sessions.FRESH.total_seconds() + 1)
        stale = ann.post(CONNECT)
        assert stale.url.path == "/sign-in/confirm", "shown too long ago"
        ann.confirm(password=PASSWORD)
        assert "go on at Stripe" in ann.post(CONNECT).text
        account = stand.market.store.read(lambda s: payouts.account_of(s, stand.orgs["provider"]))
        assert account is not None
        till.world.activate(account[0])
        till.deliver()
        again = ann.post(CONNECT)
        assert (again.status_code, "connected already" in again.text) == (422, True)
        assert "go on at Stripe" in ann.post(CONNECT, again="yes").text
