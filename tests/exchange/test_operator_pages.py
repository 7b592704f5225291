"""The operator's pages: who may open them, admitting organisations, money that two confirm, how it is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest

from exchange import parties
from exchange.identity import SYSTEM, Role
from exchange.operations import joining, supervising
from exchange.persons import accounts
from tests.exchange.test_portal import Markup
from tests.market.browser import Browser, member
from tests.market.stand import Stand

PAGES = (
    "/operator",
    "/operator/organisations",
    "/operator/organisations/new",
    "/operator/organisations/acme",
    "/operator/transfers",
    "/operator/payouts",
)
WHO = {
    "legal_name": "Acme Research GmbH",
    "country": "DE",
    "registration": "HRB 12345",
    "evidence": "Extract of the register, 2026-11-20",
}
CREDIT = {"org": "acme", "amount": "120.00", "currency": "USD", "reference": "SEPA 77"}


@pytest.fixture
def olga(sqlite_stand: Stand) -> Iterator[Browser]:
    """An operator."""
    with closing(member(sqlite_stand, "operator", "olga@market.example")) as browser:
        yield browser


@pytest.fixture
def otto(sqlite_stand: Stand) -> Iterator[Browser]:
    """Another operator."""
    with closing(member(sqlite_stand, "operator", "otto@market.example")) as browser:
        yield browser


def sent(browser: Browser, page: str, to: str, **fields: Any) -> httpx.Response:
    """A form of a page as it was drawn, with its marks."""
    html = browser.get(page).text
    marks = {
        name: found[1]
        for name in ("csrf", "once")
        if (found := re.search(rf'name="{name}" value="(\w+)"', html))
    }
    return browser.http.post(to, data={**marks, **fields})


@pytest.mark.parametrize("who", ["buyer", "provider", "officer"])
def test_the_pages_are_for_operators(sqlite_stand: Stand, who: str) -> None:
    with closing(sqlite_stand.sign_in(who)) as browser:
        for page in PAGES:
            assert browser.get(page).status_code == 403, page
        assert "Bank transfers" not in browser.get("/").text


def test_every_page_keeps_to_the_policy_of_pages(sqlite_stand: Stand, olga: Browser) -> None:
    sqlite_stand.publish_log()
    for path in PAGES:
        page = olga.get(path)
        assert page.status_code == 200, page.text
        markup = Markup(page.text)
        assert (markup.forbidden, markup.tags.count("h1")) == ([], 1), path
    assert olga.get("/operator/organisations/nobody").status_code == 404
    assert olga.get("/operator/organisations?role=king").status_code == 422


def test_how_the_exchange_is(sqlite_stand: Stand, olga: Browser) -> None:
    stand = sqlite_stand
    told = olga.get("/operator").text
    assert "none yet" in told, "no checkpoint"
    assert stand.run().status_code == 200
    stand.publish_log()
    told = olga.get("/operator").text
    assert re.search(r"Newest checkpoint</dt><dd><span class=\"tag good\">\d s old", told)
    assert "settled 1" in told
    assert re.search(r"Query workers</th><td><span class=\"tag good\">ok", told)
    assert re.search(r"Worker</th><td><span class=\"tag bad\">not seen yet", told)
    assert re.search(r"home(, log)?</th>", told), "the disks"


def test_organisations_are_found_page_by_page(
    sqlite_stand: Stand, olga: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervising, "PAGE", 2)
    seen: list[str] = []
    page = "/operator/organisations"
    while page:
        html = olga.get(page).text
        seen += re.findall(r'/operator/organisations/([a-z0-9-]+)">\1<', html)
        more = re.search(r'href="([^"]+)" rel="next"', html)
        page = more[1].replace("&amp;", "&") if more else ""
    assert seen == sorted(seen)
    assert {"acme", "city", "cnil", "globex"} <= set(seen)
    assert len(seen) == len(set(seen))
    found = olga.get("/operator/organisations?q=acm&role=buyer").text
    assert ">acme<" in found
    assert ">globex<" not in found
    assert "No organisation matches." in olga.get("/operator/organisations?q=%25").text, (
        "a sign is no wildcard"
    )


def test_an_organisation_is_admitted_with_its_identity_and_its_first_administrator(
    sqlite_stand: Stand, olga: Browser
) -> None:
    stand, new = sqlite_stand, "/operator/organisations/new"
    made = sent(olga, new, new, name="umbrella", role="provider", **WHO)
    assert made.url.path == "/operator/organisations/umbrella"
    for text in WHO.values():
        assert text in made.text
    created = stand.entries(kind="organisation.created")[-1].document
    assert created["actor"]["ref"].startswith("per_"), "a person did it, not the machine"
    assert stand.entries(kind="organisation.identified")[-1].document["actor"] == created["actor"]
    page = "/operator/organisations/umbrella"
    link = sent(olga, page, f"{page}/invite", login="una@umbrella.example")
    found = re.search(r"<pre>(http[^<]+/join/[^<]+)</pre>", link.text)
    assert found is not None
    assert found[1] not in olga.get(page).text, "shown once"
    with closing(Browser(stand)) as una:
        assert una.join(found[1]).status_code == 200
        assert "acting for umbrella" in una.get("/account").text
        assert una.get("/members").status_code == 200
    assert "Its administrators invite" in olga.get(page).text
    again = olga.post(f"{page}/invite", login="eve@umbrella.example")
    assert again.status_code == 409
    assert "somebody administers this organisation already" in again.text


@pytest.mark.parametrize("role", ["buyer", "provider"])
def test_admitting_one_that_is_there_leaves_it_as_it_is(
    sqlite_stand: Stand, olga: Browser, role: str
) -> None:
    page, new = "/operator/organisations/acme", "/operator/organisations/new"
    assert sent(olga, page, f"{page}/identity", **WHO).status_code == 200
    others = {**WHO, "legal_name": "Acme of another country Ltd", "country": "GB"}
    refused = sent(olga, new, new, name="acme", role=role, **others)
    assert refused.status_code == 422
    assert f'href="{page}"' in refused.text, "the way to its own page"
    assert others["legal_name"] in refused.text, "what was typed stays"
    held = sqlite_stand.market.store.read(lambda s: parties.find(s, sqlite_stand.orgs["buyer"]))
    assert held is not None
    assert held["legal_name"] == WHO["legal_name"]


def first_link(operator: Browser, login: str) -> str:
    """A link of umbrella's first administrator."""
    page = "/operator/organisations/umbrella"
    found = re.search(
        r"<pre>(http[^<]+/join/[^<]+)</pre>", sent(operator, page, f"{page}/invite", login=login).text
    )
    assert found is not None
    return found[1]


def test_one_first_administrator_joins_whatever_links_were_made(sqlite_stand: Stand, olga: Browser) -> None:
    stand, new = sqlite_stand, "/operator/organisations/new"
    sent(olga, new, new, name="umbrella", role="provider")
    lost = first_link(olga, "boss@umbrella.example")
    sent_in_error = first_link(olga, "eve@umbrella.example")
    org = joining.organisation(stand.market, "umbrella")
    with closing(Browser(stand)) as early:
        assert early.join(lost).status_code == 404, "it ended when another was made"
    at_machine = joining.invite(
        stand.market, SYSTEM, org=org, login="una@umbrella.example", role=Role.PROVIDER, admin=True
    )
    assert len(stand.market.store.read(lambda s: accounts.open_invitations(s, org, stand.clock()))) == 2
    with closing(Browser(stand)) as una, closing(Browser(stand)) as eve:
        assert una.join(at_machine["link"]).status_code == 200
        assert eve.join(sent_in_error).status_code == 404, "somebody administers it"
        page = una.get("/members").text
    assert "una@umbrella.example" in page
    assert "eve@umbrella.example" not in page


def test_a_first_administrators_link_opens_nothing_beside_one(sqlite_stand: Stand, olga: Browser) -> None:
    stand, new = sqlite_stand, "/operator/organisations/new"
    sent(olga, new, new, name="umbrella", role="provider")
    org = joining.organisation(stand.market, "umbrella")
    with closing(Browser(stand)) as una, closing(Browser(stand)) as eve:
        assert una.join(first_link(olga, "una@umbrella.example")).status_code == 200
        known = joining.member_named(stand.market, org=org, login="una@umbrella.example")
        joining.disable(stand.market, SYSTEM, org=org, member=known)
        link = first_link(olga, "eve@umbrella.example")
        joining.disable(stand.market, SYSTEM, org=org, member=known, disabled=False)
        assert eve.get(link).status_code == 404
        assert eve.join(link).status_code == 404


def test_an_operator_lets_in_neither_officers_nor_operators(sqlite_stand: Stand, olga: Browser) -> None:
    new = "/operator/organisations/new"
    for role in (Role.OFFICER, Role.OPERATOR):
        refused = sent(olga, new, new, name="second", role=str(role))
        assert refused.status_code == 422
        assert 'value="second"' in refused.text, "what was typed stays"
    for name in ("cnil",):
        page = f"/operator/organisations/{name}"
        assert "invited at the machine" in olga.get(page).text
        refused = olga.post(f"{page}/invite", login="eve@cnil.example")
        assert (refused.status_code, "invited at the machine" in refused.text) == (403, True)
    assert "second" not in olga.get("/operator/organisations").text


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "Acme & Sons", "role": "buyer"},
        {"name": "acme", "role": "provider"},
        {"name": "newone", "role": "buyer", **WHO, "country": "Germany"},
        {"name": "newone", "role": "buyer", "legal_name": "Half"},
        {"name": "newone", "role": ""},
    ],
)
def test_what_is_not_admitted_keeps_what_was_typed(
    sqlite_stand: Stand, olga: Browser, fields: dict[str, str]
) -> None:
    new = "/operator/organisations/new"
    refused = sent(olga, new, new, **fields)
    assert refused.status_code == 422, refused.text
    assert 'role="alert"' in refused.text
    assert fields["name"].replace("&", "&amp;") in refused.text
    assert "newone" not in olga.get("/operator/organisations").text
    assert sqlite_stand.market.store.read(lambda s: parties.find(s, sqlite_stand.orgs["buyer"])) is None


def test_a_stale_proof_is_asked_for_in_the_form_and_nothing_typed_is_lost(
    sqlite_stand: Stand, olga: Browser
) -> None:
    stand, page = sqlite_stand, "/operator/organisations/acme"
    olga.add_app()
    stand.clock.advance(minutes=6)
    assert 'name="code"' in olga.get(page).text
    refused = sent(olga, page, f"{page}/identity", **WHO)
    assert refused.status_code == 403
    assert WHO["legal_name"] in refused.text
    wrong = sent(olga, page, f"{page}/identity", **WHO, code="000000")
    assert wrong.status_code == 401
    assert WHO["registration"] in wrong.text
    done = sent(olga, page, f"{page}/identity", **WHO, code=olga.code())
    assert done.status_code == 200, done.text
    assert "Recorded</dt>" in done.text
    assert 'name="code"' not in done.text


def test_a_bank_transfer_takes_two_operators(sqlite_stand: Stand, olga: Browser, otto: Browser) -> None:
    stand, page = sqlite_stand, "/operator/transfers"
    before = stand.wallet().available
    html = olga.get(page).text
    mark = re.search(r'name="once" value="(\w+)"', html)
    assert mark is not None
    for _ in range(2):
        assert olga.post(page, once=mark[1], **CREDIT).status_code == 200
    told = olga.get(page).text
    assert told.count(CREDIT["reference"]) == 1
    assert "Another operator decides." in told
    found = re.search(r"/operator/transfers/(crd_\w+)/confirm", otto.get(page).text)
    assert found is not None
    own = olga.post(f"{page}/{found[1]}/confirm")
    assert own.status_code == 403
    assert "Another operator" in own.text
    assert stand.wallet().available == before
    done = sent(otto, page, f"{page}/{found[1]}/confirm")
    assert (done.status_code, "confirmed" in done.text) == (200, True)
    assert stand.wallet().available == before + 12_000
    again = sent(otto, page, f"{page}/{found[1]}/decline")
    assert again.status_code == 409
    assert stand.wallet().available == before + 12_000
    assert stand.broken_laws() == []


def test_bank_transfers_stand_page_by_page_those_that_wait_first(
    sqlite_stand: Stand, olga: Browser, otto: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervising, "PAGE", 2)
    page = "/operator/transfers"
    for number in range(4):
        sqlite_stand.clock.advance(seconds=1)
        sent(olga, page, page, **{**CREDIT, "reference": f"SEPA no {number}"})
    (newest, *_rest) = re.findall(r"/operator/transfers/(crd_\w+)/confirm", otto.get(page).text)
    sent(otto, page, f"{page}/{newest}/confirm")
    seen: list[list[str]] = []
    where = page
    while where:
        html = otto.get(where).text
        seen.append(re.findall(r"<td>SEPA no (\d)</td>", html))
        more = re.search(r'href="([^"]+)" rel="next"', html)
        where = more[1] if more else ""
    assert seen == [["2", "1"], ["0", "3"]], "what was confirmed comes last, though it is the newest"
    assert otto.get(f"{page}?page=nonsense").status_code == 422


@pytest.mark.parametrize(
    "wrong", [{"amount": "1,50"}, {"amount": "0"}, {"org": "city"}, {"org": "nobody"}, {"reference": ""}]
)
def test_a_credit_that_cannot_be_proposed_keeps_what_was_typed(
    sqlite_stand: Stand, olga: Browser, wrong: dict[str, str]
) -> None:
    page = "/operator/transfers"
    refused = sent(olga, page, page, **{**CREDIT, **wrong})
    assert refused.status_code in (404, 422)
    for text in {**CREDIT, **wrong}.values():
        assert f'value="{text}"' in refused.text
    assert sqlite_stand.get("operator", "/v1/credits").json()["items"] == []


def test_a_payout_by_bank_is_noted_with_its_reference(sqlite_stand: Stand, olga: Browser) -> None:
    stand, page = sqlite_stand, "/operator/payouts"
    assert stand.run().status_code == 200
    assert "No month was closed yet." in olga.get(page).text
    assert sent(olga, page, f"{page}/close", period=f"{stand.clock():%Y-%m}").status_code == 422
    month = f"{stand.clock():%Y-%m}"
    olga.add_app()
    stand.clock.advance(days=35)
    with closing(Browser(stand)) as fresh:
        fresh.sign_in("olga@market.example")
        fresh.secret = olga.secret
        assert fresh.confirm(code=fresh.code()).status_code == 200
        closed = sent(fresh, page, f"{page}/close", period=month)
        found = re.search(r"/operator/payouts/(pay_\w+)/confirm", closed.text)
        assert found is not None
        refused = sent(fresh, page, f"{page}/{found[1]}/confirm", reference="")
        assert refused.status_code == 422
        stand.clock.advance(minutes=6)
        asked = sent(fresh, page, f"{page}/{found[1]}/confirm", reference="SEPA 9")
        assert asked.url.path == "/sign-in/confirm"
        assert fresh.confirm(code=fresh.code()).status_code == 200
        done = sent(fresh, page, f"{page}/{found[1]}/confirm", reference="SEPA 9")
        assert "SEPA 9" in done.text
        assert "Compare now" not in done.text, "there is no Stripe here"
        assert 'rel="next"' not in done.text
        assert fresh.get(f"{page}?page=0_nonsense_pay_1").status_code == 422
    assert stand.get("provider", "/v1/payouts").json()["items"][0]["reference"] == "SEPA 9"
    assert stand.broken_laws() == []
