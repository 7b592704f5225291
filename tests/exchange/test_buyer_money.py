"""A buyer's money on the portal: the wallet, top-ups at Stripe, usage, invoices, and the overview."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Iterator
from contextlib import closing
from html import unescape

import httpx
import pytest

from exchange.identity import SYSTEM
from exchange.operations import billing
from tests.market import sample
from tests.market.browser import Browser, member
from tests.market.stand import Stand
from tests.market.till import Counter, counter

LOGIN = "ada@acme.example"
NAMED = {"legal_name": "Acme Ltd", "address": "1 Long Street\nSpringfield", "country": "US"}


@pytest.fixture
def till(stand: Stand) -> Iterator[Counter]:
    """A market with an account at Stripe."""
    with counter(stand) as made:
        yield made


@pytest.fixture
def ada(till: Counter) -> Iterator[Browser]:
    """Somebody of acme."""
    with closing(member(till.stand, login=LOGIN)) as browser:
        yield browser


def form_of(browser: Browser, path: str = "/wallet") -> dict[str, str]:
    """The hidden fields of the page's forms."""
    page = browser.get(path).text
    return dict(re.findall(r'<input type="hidden" name="(csrf|once)" value="([^"]*)"', page))


def top_up(browser: Browser, amount: str = "50.00", currency: str = "usd", **more: str) -> httpx.Response:
    form = {**form_of(browser), "amount": amount, "currency": currency, **more}
    return browser.http.post("/wallet/top-ups", data=form)


def test_a_top_up_leads_to_stripe_and_back_into_the_wallet(till: Counter, ada: Browser) -> None:
    stand = till.stand
    page = ada.get("/wallet").text
    assert "100.00 USD" in page
    assert "Bank transfer received" in page
    assert stand.orgs["buyer"] in page, "the reference of a bank transfer"
    reply = top_up(ada)
    pay = re.search(r'href="([^"]+)" rel="noreferrer">Pay 50.00 USD', unescape(reply.text))
    assert pay is not None
    session = till.world.found(pay[1].rpartition("/")[2])
    sent = [text for text, *_ in till.world.saved.values() if "success_url" in text]
    (there,) = urllib.parse.parse_qs(sent[-1])["success_url"]
    back = there.removeprefix(stand.settings.base_url)
    assert back.startswith("/wallet?top_up=top_"), back
    assert "has not arrived yet" in ada.get(back).text
    till.world.pay(session["id"])
    till.deliver()
    page = ada.get(back).text
    assert "50.00 USD have arrived" in page
    assert "150.00 USD" in ada.get("/wallet").text
    assert "Charge the method that was saved" in ada.get("/wallet").text
    reply = top_up(ada, "20.00", saved="yes")
    assert "The saved method is charged" in reply.text
    assert stand.broken_laws() == []


def test_a_form_sent_twice_is_one_top_up(till: Counter, ada: Browser) -> None:
    form = {**form_of(ada), "amount": "50.00", "currency": "USD"}
    first, second = (ada.http.post("/wallet/top-ups", data=form) for _ in range(2))
    assert first.url == second.url
    changed = ada.http.post("/wallet/top-ups", data={**form, "amount": "60.00"})
    assert changed.url != first.url
    assert len(till.stand.get("buyer", "/v1/top-ups").json()["items"]) == 2


@pytest.mark.parametrize("fault", ["drop_reply", "in_flight_409", "busy_429"])
def test_a_saved_method_whose_outcome_is_not_known_is_charged_once(sqlite_stand: Stand, fault: str) -> None:
    def again(page: str) -> dict[str, str]:
        assert 'value="20.00" id="amount"' in page
        assert re.search(r'name="saved" value="yes" checked', page)
        found = re.search(r'name="once" value="([^"]*)"', page)
        return {
            **form_of(ada),
            "amount": "20.00",
            "currency": "USD",
            "saved": "yes",
            "once": found[1] if found else "",
        }

    with counter(sqlite_stand) as till, closing(member(till.stand, login=LOGIN)) as ada:
        till.paid("50.00")
        till.world.faults[fault] = 100
        reply = top_up(ada, "20.00", saved="yes")
        assert reply.status_code in (502, 503), reply.status_code
        (asked, _) = till.stand.get("buyer", "/v1/top-ups").json()["items"]
        assert "not known yet whether the saved method" in ada.get(f"/wallet/top-ups/{asked['top_up']}").text
        till.world.faults[fault] = 0
        reply = ada.http.post("/wallet/top-ups", data=again(reply.text))
        assert reply.url.path == f"/wallet/top-ups/{asked['top_up']}"
        till.deliver()
        assert till.stand.wallet().available == 17_000
        assert len(till.stand.get("buyer", "/v1/top-ups").json()["items"]) == 2


def test_a_top_up_without_a_page_to_pay_on_does_not_say_that_it_is_charged(sqlite_stand: Stand) -> None:
    with counter(sqlite_stand) as till, closing(member(till.stand, login=LOGIN)) as ada:
        till.world.faults["busy_429"] = 100
        top_up(ada, "20.00")
        (asked,) = till.stand.get("buyer", "/v1/top-ups").json()["items"]
        page = ada.get(f"/wallet/top-ups/{asked['top_up']}").text
        assert "nothing was charged" in page
        assert "saved method" not in page


@pytest.mark.parametrize(
    ("amount", "currency"),
    [("", "USD"), ("-5", "USD"), ("0", "USD"), ("0.001", "JPY"), ("5", "EURO"), ("5,00", "EUR")],
)
def test_an_amount_that_is_none_is_told_at_its_field(sqlite_stand: Stand, amount: str, currency: str) -> None:
    with counter(sqlite_stand) as till, closing(member(till.stand, login=LOGIN)) as ada:
        reply = top_up(ada, amount, currency)
        assert reply.status_code == 422
        page = unescape(reply.text)
        assert 'role="alert"' in page
        assert f'value="{amount}" id="amount"' in page
        assert f'value="{currency}" id="currency"' in page
        assert till.stand.get("buyer", "/v1/top-ups").json()["items"] == []


def test_without_stripe_the_bank_is_the_way(sqlite_stand: Stand) -> None:
    with closing(member(sqlite_stand, login=LOGIN)) as ada:
        page = ada.get("/wallet").text
        assert "bank transfers alone" in page
        assert 'name="amount"' not in page
        assert top_up(ada).status_code == 409


def test_what_moved_is_newest_first_whatever_its_currency(till: Counter, ada: Browser) -> None:
    for amount, currency in (("5000", "JPY"), ("30.00", "USD"), ("12.00", "EUR")):
        till.pass_time(seconds=60)
        till.paid(amount, currency)
    moved = ada.get("/wallet").text.split('id="lines"')[1]
    found = re.findall(r'<td class="number">([\d.,]+ [A-Z]{3})</td><td', moved)
    assert found == ["12.00 EUR", "30.00 USD", "5,000 JPY", "100.00 USD"]


def test_refunds_are_seen(till: Counter, ada: Browser) -> None:
    stand = till.stand
    intent = till.paid("30.00")
    said = {"payment": intent["id"], "amount": "10.00", "currency": "USD", "reason": "Paid <twice>"}
    assert stand.post("operator", "/v1/refunds", said).status_code == 201
    page = ada.get("/wallet").text
    assert "Paid &lt;twice&gt;" in page
    assert intent["id"] in page


def test_usage_adds_up_to_what_was_charged(till: Counter, ada: Browser) -> None:
    stand = till.stand
    assert "Nothing was used" in ada.get("/usage").text
    assert stand.run(sql=sample.COUNT).status_code == 200
    stand.clock.advance(days=3)
    assert stand.run(sql=sample.BY_ZONE, rho="0.02").status_code == 200
    ada.sign_in(LOGIN)
    page = unescape(ada.get("/usage").text)
    used = stand.get("buyer", "/v1/usage").json()
    assert used["totals"][0]["amount"] == "0.70"
    assert "0.70 USD in 90 days" in page
    chart = page.split('class="chart"')[1].split("</svg>")[0]
    assert len(re.findall("<rect", chart)) == 2
    today, before = stand.clock(), page
    assert f'<th scope="row">{today:%Y-%m-%d}</th><td class="number">0.45 USD</td>' in before
    assert '<th scope="row">city/rides</th><td class="number">0.03</td>' in page
    stand.clock.advance(days=100)
    ada.sign_in(LOGIN)
    assert "Nothing was used in the last 90 days" in ada.get("/usage").text


def test_an_invoice_is_issued_read_and_downloaded(till: Counter, ada: Browser) -> None:
    stand = till.stand
    assert stand.run(sql=sample.COUNT).status_code == 200
    billing.set_profile(stand.market, SYSTEM, {**NAMED, "legal_name": "The house"}, key=None)
    reply = ada.post("/invoices")
    assert reply.status_code == 409
    assert 'role="alert"' in reply.text
    wrong = ada.post(
        "/invoices/profile", **{**NAMED, "country": "USA", "address": "1 Long Street\r\nSpringfield"}
    )
    assert wrong.status_code == 422
    assert 'value="Acme Ltd"' in wrong.text
    assert "1 Long Street\nSpringfield</textarea>" in wrong.text
    assert 'aria-invalid="true"' in wrong.text
    ada.post("/invoices/profile", **NAMED)
    page = ada.post("/invoices").text
    assert "The documents were issued." in page
    assert "there is nothing new" in ada.post("/invoices").text
    found = [one for one in stand.get("buyer", "/v1/invoices").json()["items"] if one["kind"] == "invoice"]
    where = f"/invoices/{found[0]['invoice']}"
    page = ada.get(where).text
    assert "Private answer · city/rides" in page
    assert found[0]["gross"]["amount"] in page
    assert "Acme Ltd" in page
    pdf = ada.get(f"{where}.pdf")
    assert pdf.content.startswith(b"%PDF")
    assert ada.get(f"{where}.json").json()["sha256"] == found[0]["sha256"]
    with closing(member(stand, "other", "gil@globex.example")) as gil:
        for path in (where, f"{where}.pdf", f"{where}.json"):
            assert gil.get(path).status_code == 404
    assert stand.broken_laws() == []


def test_the_overview_says_what_waits(till: Counter, ada: Browser) -> None:
    stand = till.stand
    made = stand.request(plan="by-request", purpose="journalism").json()
    assert stand.run(sql=sample.COUNT).status_code == 200
    moved = re.findall(r"Private answer .*?<td class=\"number\">([^<]*)", ada.get("/wallet").text)
    assert moved == ["-0.25 USD"], "a charge is one line, whoever gets which part of it"
    page = unescape(ada.get("/overview").text)
    for text in ("99.75 USD", "rho 0.99 left", "the provider decides by", sample.COUNT):
        assert text in page
    stand.post("provider", f"/v1/requests/{made['request']}/decline", {"reason": "not now"})
    page = ada.get("/overview").text
    assert "was declined: not now" in page
    assert "the provider decides by" not in page
    assert "was declined" not in ada.post("/overview/read").text
    with closing(member(stand, "stranger", "new@hooli.example")) as new:
        page = new.get("/overview").text
        assert "Nothing waits for you." in page
        assert "No access yet" in page
