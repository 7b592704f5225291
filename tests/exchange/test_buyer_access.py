"""A buyer's way to a dataset on the portal: the request, its clock, and what becomes of access."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from html import unescape

import pytest
from sqlalchemy import event

from exchange.operations import ordering
from exchange.web.portal.buyer import access as pages
from exchange.web.portal.buyer import overview, workbench
from tests.journeys.test_declarations import declared, identify
from tests.journeys.test_price_plans import CLUB, PAY, PLANS
from tests.market import sample
from tests.market.browser import Browser, member
from tests.market.officers import lift, officer, set_restraint
from tests.market.stand import Stand, problem

FORM = f"/datasets/{sample.SLUG}/request"
WANTED = {"plan": "pay", "purpose": "research", "territory": "US"}


@pytest.fixture
def ada(stand: Stand) -> Iterator[Browser]:
    """Somebody of hooli, which has no access yet."""
    with closing(member(stand, "stranger", "ada@hooli.example")) as browser:
        yield browser


def shown(browser: Browser, path: str = FORM) -> dict[str, str]:
    """The hidden fields of a page's form."""
    page = browser.get(path).text
    return dict(
        re.findall(
            r'<input type="hidden" name="(csrf|once|licence_sha256|plan_sha256(?::[^"]+)?)" value="([^"]*)"',
            page,
        )
    )


def ask(browser: Browser, **fields: str) -> str:
    """Send the request's form as it is shown, with these choices; the page that follows, or the form."""
    reply = browser.http.post(FORM, data={**shown(browser), **WANTED, **fields})
    return unescape(reply.text)


def test_an_instant_plan_opens_at_once(stand: Stand, ada: Browser) -> None:
    page = unescape(ada.get(FORM).text)
    assert "0.05 USD a query + 20.00 USD per unit of rho" in page
    assert "Purposes: research, journalism." in page
    assert "You may publish what you learn." in page
    page = ask(ada)
    assert "You have access." in page
    (grant,) = stand.get("stranger", "/v1/grants").json()["items"]
    assert (grant["purpose"], grant["territory"], grant["plan"]) == ("research", "US", "pay")
    accepted = stand.entries(kind="access.requested")[-1].document
    assert accepted["actor"]["ref"].startswith("per_")
    receipt = ada.get(f"/access/acceptances/{grant['acceptance']}/receipt.json")
    assert (
        receipt.json()["acceptance"]
        == stand.get("stranger", f"/v1/acceptances/{grant['acceptance']}/receipt").json()["acceptance"]
    )
    assert "Your organisation has access already" in ada.get(FORM).text
    assert grant["slug"] in ada.get("/access").text
    assert "Ask a question" in ada.get(f"/access/grants/{grant['grant']}").text
    assert stand.broken_laws() == []


def test_the_form_sent_twice_asks_once(stand: Stand, ada: Browser) -> None:
    fields = {**shown(ada), **WANTED, "plan": "by-request"}
    first, second = (ada.http.post(FORM, data=fields) for _ in range(2))
    assert first.url.path == second.url.path
    assert len(stand.get("stranger", "/v1/requests").json()["items"]) == 1
    other = {**fields, "purpose": "journalism"}
    assert ada.http.post(FORM, data=other).url != first.url, "gone back and changed, it is another request"


def test_gone_back_and_sent_again_leads_to_the_request_that_waits(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    with closing(member(stand, "buyer", "bo@acme.example")) as bo:
        wanted = {**WANTED, "plan": "by-request", "purpose": "journalism"}
        first, second = (bo.http.post(FORM, data={**shown(bo), **wanted}) for _ in range(2))
        assert first.url.path == second.url.path
        assert "You have asked for this already" not in first.text
        assert "You have asked for this already" in second.text
        (grant,) = stand.get("buyer", "/v1/grants").json()["items"]
        where = f"/access/grants/{grant['grant']}"
        first, second = (bo.post(f"{where}/renew", **shown(bo, where)) for _ in range(2))
        assert first.url.path == second.url.path
        assert "You have asked for this already" in second.text
        open_ = stand.get("buyer", "/v1/requests?state=open").json()["items"]
        assert len(open_) == 2
        other = bo.post(f"{where}/renew", **shown(bo, where), until="2099-01-31")
        assert other.status_code == 409, "one renewal at a time"
        assert "asks to renew this access already" in other.text
        bo.post(f"{first.url.path}/withdraw")
        again = bo.post(f"{where}/renew", **shown(bo, where))
        assert again.url.path != first.url.path


def test_a_request_waits_with_a_clock_and_is_taken_back(stand: Stand, ada: Browser) -> None:
    page = ask(ada, plan="by-request", purpose="journalism")
    assert "45 days left" in page
    (request,) = stand.get("stranger", "/v1/requests").json()["items"]
    where = f"/access/requests/{request['request']}"
    stand.clock.advance(days=10)
    ada.sign_in("ada@hooli.example")
    assert "35 days left" in ada.get(where).text
    assert "35 days left" in ada.get("/access").text
    page = unescape(ada.post(f"{where}/withdraw").text)
    assert "You took this request back." in page
    assert stand.get("stranger", where.replace("/access", "/v1")).json()["outcome"] == "cancelled"
    assert ada.post(f"{where}/withdraw").status_code == 409


def test_a_provider_says_no_with_a_reason_or_nothing_in_time(stand: Stand, ada: Browser) -> None:
    ask(ada, plan="by-request")
    (first,) = stand.get("stranger", "/v1/requests").json()["items"]
    said = {"reason": "Ask with <another> purpose"}
    assert stand.post("provider", f"/v1/requests/{first['request']}/decline", said).status_code == 200
    page = ada.get(f"/access/requests/{first['request']}").text
    assert "declined: Ask with &lt;another&gt; purpose" in page
    assert f'href="{FORM}"' in page
    ask(ada, plan="by-request")
    stand.clock.advance(days=46)
    ordering.rounds(stand.market)
    ada.sign_in("ada@hooli.example")
    newest = stand.get("stranger", "/v1/requests").json()["items"][0]
    assert "did not decide in time" in ada.get(f"/access/requests/{newest['request']}").text


def test_what_was_chosen_stays_where_a_request_is_refused(stand: Stand, ada: Browser) -> None:
    page = ask(ada, purpose="advertising", publishes="yes", until="2099-01-31")
    assert "What to do" not in page
    assert re.search(r'value="pay" checked', page)
    assert re.search(r'<option value="US" selected', page)
    assert re.search(r'value="yes" checked', page)
    assert 'value="2099-01-31"' in page
    assert 'aria-invalid="true"' in page
    for fields, told in (
        ({"plan": ""}, "Choose a plan"),
        ({"purpose": ""}, "Choose a purpose"),
        ({"territory": ""}, "Choose a territory"),
        ({"until": "2001-01-01"}, "Until lies in the past"),
        ({"plan": "gold"}, "no plan 'gold'"),
        ({"licence_sha256": ""}, "shows no licence"),
        ({"licence_sha256": "0" * 64}, "licence must be accepted"),
    ):
        assert told in ask(ada, **fields), fields
    assert stand.get("stranger", "/v1/requests").json()["items"] == []


def test_a_price_that_was_not_shown_is_not_taken(sqlite_stand: Stand) -> None:
    stand = sqlite_stand

    def bundle(price: str) -> None:
        plan = sample.plan("bundle", kind="credits", bundle=price, per_rho="15.00")
        stand.publish(manifest=sample.manifest(plans=[sample.plan(), plan]))

    bundle("5.00")
    with closing(member(stand, "other", "gil@globex.example")) as gil:
        fields = {**shown(gil), **WANTED, "plan": "bundle", "until": "2099-01-31"}
        bundle("9.00")
        before = stand.wallet("other").available
        reply = gil.http.post(FORM, data=fields)
        page = unescape(reply.text)
        assert reply.status_code == 422
        assert "The plan bundle has changed since it was shown" in page
        assert "paid now: 9.00 USD" in page
        assert re.search(r'value="bundle" checked', page)
        assert 'value="2099-01-31"' in page
        assert stand.wallet("other").available == before
        again = dict(re.findall(r'name="(once|plan_sha256:bundle)" value="([^"]*)"', page))
        assert "You have access." in gil.http.post(FORM, data={**fields, **again}).text
        assert before - stand.wallet("other").available == 900
    old = fields["plan_sha256:bundle"]
    problem(stand.request("stranger", "bundle", plan_sha256=old), 422, "request_invalid")
    assert stand.request("buyer", "bundle", plan_sha256=again["plan_sha256:bundle"]).status_code == 201


def test_many_grants_have_pages_and_take_no_more_statements(
    sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand = sqlite_stand
    stand.publish(manifest=sample.manifest(plans=[PAY, CLUB, sample.plan("taste", max_rho="0.015")]))
    asked: list[str] = []
    event.listen(stand.market.store.engine, "before_cursor_execute", lambda *told: asked.append(told[2]))
    with closing(member(stand, "buyer", "bo@acme.example")) as bo:

        def statements(path: str) -> int:
            asked.clear()
            bo.get(path)
            return len(asked)

        paths = ("/access", "/overview", "/workbench")
        assert stand.request(purpose="journalism").status_code == 201
        for path in paths:
            bo.get(path)  # what a process reads once
        few = [statements(path) for path in paths]
        for plan in ("taste", "pay"):
            for territory in ("US", "EU"):
                made = stand.request(plan=plan, territory=territory, purpose="journalism")
                assert made.status_code == 201, made.text
        assert [statements(path) for path in paths] == few
        assert stand.request(plan="club").status_code == 201
        grants = [one["grant"] for one in stand.get("buyer", "/v1/grants").json()["items"]]
        assert len(grants) == 6
        monkeypatch.setattr(pages, "_A_PAGE", 2)
        seen: list[str] = []
        where = "/access"
        while where:
            page = unescape(bo.get(where).text)
            seen += re.findall(r'<h3><a href="/access/grants/(grt_\w+)"', page)
            older = re.search(r'href="(/access\?[^"]*)" rel="next"', page)
            where = older[1] if older else ""
        assert seen == grants
        assert bo.get("/access?page=x").status_code == 422
        monkeypatch.setattr(overview, "_GRANTS", 2)
        assert "<dd>2+</dd>" in bo.get("/overview").text
        monkeypatch.setattr(workbench, "_MOST_OFFERED", 2)
        page = bo.get(f"/workbench?grant={grants[-1]}").text
        assert f'<option value="{grants[-1]}" selected' in page, "one that is not among the newest"
        assert "Others are under Access" in page


def test_access_ends_and_is_asked_for_again(stand: Stand) -> None:
    with closing(member(stand, "buyer", "bo@acme.example")) as bo:
        (grant,) = stand.get("buyer", "/v1/grants").json()["items"]
        where = f"/access/grants/{grant['grant']}"
        assert "Ask to renew" in bo.get(where).text
        assert bo.post(f"{where}/renew", until="").status_code == 422, "a form that shows no plan"
        page = unescape(bo.post(f"{where}/renew", **{**shown(bo, where), "until": "2001-01-01"}).text)
        assert "lies in the past" in page
        assert 'value="2001-01-01"' in page
        page = bo.post(f"{where}/renew", **shown(bo, where)).text
        assert "It waits for the provider" in page
        assert bo.post(f"{where}/pay", once="a").status_code == 409
        assert "sells no credit" in bo.post(f"{where}/top-up", once="a").text
        bo.post(f"{where}/end", once="a")
        assert stand.get("buyer", "/v1/grants").json()["items"][0]["state"] == "expired"
        assert "/workbench" not in bo.get(where).text.split("<main")[1]
        assert stand.run().status_code == 403


def test_another_term_is_under_the_plan_and_price_that_were_shown(sqlite_stand: Stand) -> None:
    stand = sqlite_stand

    def secret(bundle: str, **changes: str) -> None:
        priced = {"kind": "credits", "bundle": bundle, "per_rho": "15.00"}
        offer = {"organisation": "acme", "offered_until": "2099-01-31", **changes}
        plan = sample.plan("secret", **priced, **offer)
        stand.publish(manifest=sample.manifest(plans=[sample.plan(), plan]))

    secret("5.00")
    grant = stand.request(plan="secret").json()["grant"]["grant"]
    where = f"/access/grants/{grant}"
    before = stand.wallet()
    with closing(member(stand, "buyer", "bo@acme.example")) as bo:
        secret("9.00")
        assert "secret: credit of 9.00 USD paid up front" in bo.get(where).text
        seen = shown(bo, where)
        secret("12.00")
        page = bo.post(f"{where}/renew", **seen, until="2099-01-31").text
        assert "The plan secret has changed since it was shown" in page
        assert "credit of 12.00 USD paid up front" in page
        assert 'value="2099-01-31"' in page
        assert stand.wallet() == before, "nothing is held"
        secret("12.00", organisation="globex")
        page = bo.get(where).text
        assert "no longer offered to your organisation" in page
        assert f'href="{FORM}"' in page
        assert "Ask to renew" not in page
        problem(stand.post("buyer", f"{where.replace('/access', '/v1')}/renew"), 404, "not_found")
        secret("12.00")
        assert "It waits for the provider" in bo.post(f"{where}/renew", **shown(bo, where)).text
        assert stand.wallet().pending_out - before.pending_out == 1200


def test_a_grant_says_what_can_be_done_in_every_state(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    (grant,) = (one["grant"] for one in stand.get("buyer", "/v1/grants").json()["items"])
    where, dataset = f"/access/grants/{grant}", stand.get("buyer", f"/v1/datasets/{sample.SLUG}").json()["id"]
    said = {"reason": "for now"}
    with closing(member(stand, "buyer", "bo@acme.example")) as bo:

        def told() -> tuple[str, bool, bool]:
            page = unescape(bo.get(where).text).split("<main")[1]
            return page, "Ask a question" in page, "Ask to renew" in page

        assert told()[1:] == (True, True)
        assert stand.post("provider", f"/v1/grants/{grant}/suspend", said).status_code == 200
        page, asks, renews = told()
        assert "The provider has stopped it for now" in page
        assert (asks, renews) == (False, False)
        assert stand.post("provider", f"/v1/grants/{grant}/resume", said).status_code == 200
        made = set_restraint(stand, dataset=sample.SLUG)
        page, asks, renews = told()
        assert "A compliance officer has stopped this" in page
        assert made["freeze"] in page
        assert (asks, renews) == (False, False)
        with closing(officer(stand)) as ada:
            lift(stand, ada, made)
        spent = stand.run(sql=sample.COUNT, rho="1.0")
        assert spent.status_code == 200, spent.text
        assert "Its allowance is spent" in told()[0]
        assert stand.post("provider", f"/v1/datasets/{dataset}/deprecate", said).status_code == 200
        page, asks, renews = told()
        assert "takes no new buyers and no renewals: this access is good until it ends" in page
        assert (asks, renews) == (True, False)
        problem(stand.post("buyer", f"/v1/grants/{grant}/renew"), 409, "listing_deprecated")
        assert stand.post("provider", f"/v1/datasets/{dataset}/withdraw").status_code == 200
        page, asks, renews = told()
        assert "off the market for good" in page
        assert (asks, renews) == (False, False)
        assert stand.run(sql=sample.BY_ZONE).status_code == 404
        assert stand.post("buyer", f"/v1/grants/{grant}/end").status_code == 200
        assert "off the market for good" in told()[0]


def test_a_grant_that_ended_says_so(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    (grant,) = (one["grant"] for one in stand.get("buyer", "/v1/grants").json()["items"])
    other = stand.request(purpose="journalism").json()["grant"]["grant"]
    assert stand.post("buyer", f"/v1/grants/{grant}/end").status_code == 200
    assert stand.post("provider", f"/v1/grants/{other}/withdraw", {"reason": "breach"}).status_code == 200
    with closing(member(stand, "buyer", "bo@acme.example")) as bo:
        assert "It has ended: nothing can be asked under it" in bo.get(f"/access/grants/{grant}").text
        page = bo.get(f"/access/grants/{other}").text
        assert "The provider has ended it for good" in page
        assert f'href="{FORM}"' in page


def test_the_last_day_of_access_is_a_day_of_access(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    today = stand.clock().date().isoformat()
    with closing(member(stand, "buyer", "bo@acme.example")) as bo:
        wanted = {**WANTED, "plan": "by-request", "purpose": "journalism", "until": today}
        page = bo.http.post(FORM, data={**shown(bo), **wanted})
        assert f"the end of {today}" in page.text
        (asked,) = stand.get("buyer", "/v1/requests?state=open").json()["items"]
        assert asked["until"] > stand.clock().isoformat()
        assert asked["until"][11:19] == "00:00:00"
        grant = stand.post("provider", f"/v1/requests/{asked['request']}/approve").json()["grant"]["grant"]
        for path in ("/access", f"/access/grants/{grant}"):
            assert f"the end of {today}" in bo.get(path).text, path
        where = f"/access/grants/{grant}"
        page = bo.post(f"{where}/renew", **shown(bo, where), until="2099-01-31")
        assert "the end of 2099-01-31" in page.text


def test_a_subscription_is_paid_for_where_its_period_is_not(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    stand.publish(manifest=sample.manifest(plans=PLANS))
    assert stand.request(plan="club").status_code == 201
    grant = stand.get("buyer", "/v1/grants").json()["items"][0]
    with closing(member(stand, "buyer", "bo@acme.example")) as bo:
        where = f"/access/grants/{grant['grant']}"
        assert "rho 0.05 of it left" in bo.get(where).text
        stand.clock.advance(days=32)
        bo.sign_in("bo@acme.example")
        page = bo.get(where).text
        assert "This period is not paid" in page
        assert "Pay 4.00 USD" in page
        assert "This period is not paid" in bo.get("/access").text
        before = stand.wallet().available
        once = shown(bo, where)["once"]
        for _ in range(2):
            bo.post(f"{where}/pay", once=once)
        assert before - stand.wallet().available == 400
        assert "rho 0.05 of it left" in bo.get(where).text
    assert stand.broken_laws() == []


def test_a_period_that_is_not_paid_ends_at_once_and_costs_nothing(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    stand.publish(manifest=sample.manifest(plans=PLANS))
    grant = stand.request(plan="club").json()["grant"]["grant"]
    with closing(member(stand, "buyer", "bo@acme.example")) as bo:
        where = f"/access/grants/{grant}"
        assert "It ends with the period that is paid" in bo.get(where).text
        stand.clock.advance(days=32)
        bo.sign_in("bo@acme.example")
        assert "It ends at once, since this period is not paid" in bo.get(where).text
        before = stand.wallet().available
        bo.post(f"{where}/end", once="a")
        ordering.rounds(stand.market)
        assert stand.wallet().available == before
        assert "expired" in [one["state"] for one in stand.get("buyer", "/v1/grants").json()["items"]]
        assert f"{where}/end" not in bo.get(where).text


def test_law_that_asks_who_the_parties_are_is_told_before_the_form_is_sent(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    identify(stand, "city")
    stand.publish(manifest=declared())
    with closing(member(stand, "stranger", "ada@hooli.example")) as ada:
        assert "that is not on record yet" in ada.get(FORM).text
        assert "which is asked for here" in ask(ada)
        identify(stand, "hooli")
        assert "it is on record" in ada.get(FORM).text
        assert "You have access." in ask(ada)


def test_the_pages_are_for_buyers_alone(shared_sqlite_stand: Stand) -> None:
    stand = shared_sqlite_stand
    paths = ("/overview", "/access", FORM, "/wallet", "/workbench", "/usage", "/invoices", "/queries")
    with closing(member(stand, "provider", "pat@city.example")) as pat, closing(Browser(stand)) as nobody:
        for path in paths:
            assert pat.get(path).status_code == 403, path
            assert nobody.get(path).url.path == "/sign-in", path
            assert f'href="{path}"' not in pat.get("/").text, path
