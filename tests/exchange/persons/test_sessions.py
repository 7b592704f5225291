"""Sessions of the portal: kept by the exchange, ended in time, bound to forms, and no key to the API."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from contextlib import closing

import httpx
import pytest
from sqlalchemy import select, text

from exchange.persons.tables import portal_session
from exchange.web import create_app
from tests.market.browser import ORIGIN, Browser, member
from tests.market.stand import Stand


@pytest.fixture
def ada(stand: Stand) -> Iterator[Browser]:
    with closing(member(stand, admin=True)) as browser:
        yield browser


def session_ids(page: str) -> list[str]:
    return re.findall(r"/account/sessions/(ses_[0-9a-f]{24})/end", page)


def test_a_session_is_random_bits_of_which_a_digest_is_kept(ada: Browser, stand: Stand) -> None:
    secret = ada.http.cookies["session"]
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", secret)
    rows = stand.market.store.read(lambda session: session.execute(select(portal_session)).all())
    assert secret not in str(rows)
    assert [(row.person[:4], row.token, row.network, row.agent) for row in rows] == [("per_", None, "", "")]
    assert "127.0.0.0/24" not in str(rows)


@pytest.mark.parametrize(
    ("base_url", "name", "secure"),
    [("https://exchange.test", "__Host-session", True), ("http://127.0.0.1:8000", "session", False)],
)
def test_the_cookie_belongs_to_the_host_where_the_exchange_is_on_https(
    sqlite_stand: Stand, base_url: str, name: str, secure: bool
) -> None:
    stand = sqlite_stand
    settings = dataclasses.replace(stand.settings, base_url=base_url)
    app = create_app(dataclasses.replace(stand.market, settings=settings))
    app.logger.disabled = True
    with httpx.Client(transport=httpx.WSGITransport(app=app), base_url=base_url) as client:
        reply = client.post("/sign-in", data={"token": stand.tokens["buyer"], "next": "/"})
    cookie = reply.headers["Set-Cookie"]
    assert cookie.startswith(f"{name}=")
    assert {"HttpOnly", "Path=/", "SameSite=Lax"} <= set(cookie.split("; "))
    assert ("Secure" in cookie) is secure
    assert "Domain" not in cookie
    assert "Expires" not in cookie


def test_a_session_ends_when_it_is_not_used(ada: Browser, stand: Stand) -> None:
    stand.clock.advance(minutes=59)
    assert ada.is_signed_in(), "used within the hour"
    stand.clock.advance(minutes=59)
    assert ada.is_signed_in(), "each use begins the hour again"
    stand.clock.advance(minutes=60)
    assert not ada.is_signed_in()
    assert "session" not in ada.http.cookies


def test_a_session_ends_after_a_day_at_work_however_it_is_used(ada: Browser, stand: Stand) -> None:
    for _ in range(13):
        stand.clock.advance(minutes=55)
        assert ada.is_signed_in()
    stand.clock.advance(minutes=10)
    assert not ada.is_signed_in()


def test_signing_in_gives_a_new_id_and_ends_the_one_before(ada: Browser) -> None:
    before = ada.http.cookies["session"]
    assert ada.sign_in("ada@acme.example").status_code == 200
    assert ada.http.cookies["session"] != before
    with closing(Browser(ada.stand)) as thief:
        thief.http.cookies.set("session", before)
        assert not thief.is_signed_in()


def test_an_id_of_somebody_elses_choice_is_never_taken(stand: Stand) -> None:
    with closing(member(stand)) as browser, closing(Browser(stand)) as fixed:
        chosen = "A" * 43
        fixed.http.cookies.set("session", chosen, domain="market.test")
        assert fixed.sign_in("ada@acme.example").url.path == "/account"
        assert chosen not in [cookie.value for cookie in fixed.http.cookies.jar]
        assert browser.is_signed_in()


def test_own_sessions_are_listed_and_ended_and_no_others(ada: Browser, stand: Stand) -> None:
    with closing(Browser(stand)) as second, closing(member(stand, "other", "bo@globex.example")) as bo:
        second.sign_in("ada@acme.example")
        (other,) = session_ids(bo.get("/account").text)
        mine = session_ids(ada.get("/account").text)
        assert len(mine) == 2
        assert other not in mine
        assert ada.post(f"/account/sessions/{other}/end").status_code == 404
        assert ada.post("/account/sessions/ses_0/end").status_code == 404
        assert bo.is_signed_in()
        assert ada.post(f"/account/sessions/{mine[0]}/end").status_code == 200
        assert [ada.is_signed_in(), second.is_signed_in()].count(True) == 1
    ended = stand.entries(kind="session.ended")
    assert [record.document["object"]["id"] for record in ended] == [mine[0]]


@pytest.mark.parametrize("headers", [{}, {"Authorization": ""}, {"Authorization": "Bearer "}])
def test_the_api_never_takes_the_cookie(ada: Browser, headers: dict[str, str]) -> None:
    assert ada.is_signed_in()
    for method, path in (("GET", "/v1/whoami"), ("GET", "/v1/wallet"), ("POST", "/v1/quotes")):
        reply = ada.http.request(method, path, headers=headers)
        assert (reply.status_code, reply.json()["code"]) == (401, "token_unknown")
    secret = ada.http.cookies["session"]
    assert ada.http.get("/v1/whoami", headers={"Authorization": f"Bearer {secret}"}).status_code == 401


UNSAFE = [
    "/sign-out",
    "/sign-in",
    "/sign-in/confirm",
    "/sign-in/passkey",
    "/sign-in/passkey/options",
    "/account/password",
    "/account/erase",
    "/account/organisation",
    "/account/app",
    "/account/app/confirm",
    "/account/passkeys",
    "/account/passkeys/options",
    "/account/factors/app/remove",
    "/account/recovery-codes",
    "/account/sessions/ses_0/end",
    "/members",
    "/members/mbr_0/remove",
    "/invitations/inv_0/withdraw",
    "/tokens",
    "/tokens/tok_0/revoke",
    "/join/inv_0",
    "/device",
    "/oauth/authorize",
    "/programs/authorizations/aut_0/revoke",
    "/programs/clients",
    "/programs/clients/cli_0/revoke",
    "/queries/qry_0/cancel",
    "/provider/requests",
    "/provider/requests/req_0/decide",
    "/provider/grants/grt_0/suspend",
    "/provider/grants/grt_0/resume",
    "/provider/grants/grt_0/withdraw",
    "/provider/listings/ds_0/deprecate",
    "/provider/listings/ds_0/offer",
    "/provider/listings/ds_0/revise",
    "/provider/listings/ds_0/withdraw",
    "/provider/payouts/connect",
    "/access/grants/grt_0/end",
    "/access/grants/grt_0/pay",
    "/access/grants/grt_0/renew",
    "/access/grants/grt_0/top-up",
    "/access/requests/req_0/withdraw",
    "/datasets/city/rides/request",
    "/invoices",
    "/invoices/profile",
    "/overview/read",
    "/wallet/top-ups",
    "/workbench",
    "/workbench/run",
    "/operator/organisations/new",
    "/operator/organisations/acme/identity",
    "/operator/organisations/acme/invite",
    "/operator/transfers",
    "/operator/transfers/crd_0/confirm",
    "/operator/transfers/crd_0/decline",
    "/operator/payouts/close",
    "/operator/payouts/pay_0/approve",
    "/operator/payouts/pay_0/confirm",
    "/operator/reconciliation",
    "/officer/alerts/alr_0/assign",
    "/officer/alerts/alr_0/notes",
    "/officer/alerts/alr_0/resolve",
    "/officer/approvals/apr_0/approve",
    "/officer/approvals/apr_0/decline",
    "/officer/exports",
    "/officer/freezes",
    "/officer/freezes/frz_0/lift",
    "/officer/licences/lic_0/approve",
    "/officer/holds",
    "/officer/holds/hld_0/lift",
    "/officer/searches",
    "/officer/searches/sea_0/delete",
    "/officer/searches/sea_0/rename",
    "/provide",
    "/provide/drf_0/about",
    "/provide/drf_0/delete",
    "/provide/drf_0/files/upl_0/remove",
    "/provide/drf_0/files/upl_0/restore",
    "/provide/drf_0/gauge",
    "/provide/drf_0/publish",
    "/provide/drf_0/restore",
    "/provide/drf_0/send",
    "/provide/drf_0/uploads",
]


def test_the_list_of_unsafe_pages_is_whole(stand: Stand) -> None:
    rules = [rule for rule in stand.app.url_map.iter_rules() if rule.endpoint.startswith("portal.")]
    unsafe = {re.sub(r"<[^>]+>", "x", rule.rule) for rule in rules if "POST" in (rule.methods or set())}
    named = {
        re.sub(
            r"(ses|mbr|inv|tok|aut|cli|qry|alr|apr|lic|frz|hld|sea|req|grt|ds|drf|upl|crd|pay)_0|(?<=factors/)app|"
            r"(?<=drf_0/)about|(?<=mbr_0/)remove|(?<=datasets/)city|(?<=city/)rides|(?<=organisations/)acme",
            "x",
            path,
        )
        for path in UNSAFE
    }
    assert {path.replace("members/x/remove", "members/x/x") for path in named} >= unsafe


@pytest.mark.parametrize("path", UNSAFE)
def test_an_unsafe_request_needs_the_sessions_own_token(shared_sqlite_stand: Stand, path: str) -> None:
    stand = shared_sqlite_stand
    login = f"user{UNSAFE.index(path)}@acme.example"
    with closing(member(stand, login=login)) as browser, closing(Browser(stand)) as other:
        other.sign_in(login)
        before = len(stand.entries())
        for forged in ("", "0" * 64, other.csrf(), "\N{LATIN SMALL LETTER E WITH ACUTE}"):
            assert browser.http.post(path, data={"csrf": forged}).status_code == 400, forged
        assert browser.http.post(path).status_code == 400
        assert len(stand.entries()) == before
        assert browser.is_signed_in()


@pytest.mark.parametrize("path", ["/sign-in", "/join/inv_0", "/account/password"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.test"},
        {"Origin": "null"},
        {"Origin": f"{ORIGIN}.evil.test"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
def test_a_form_from_another_site_is_refused_before_it_is_read(
    shared_sqlite_stand: Stand, path: str, headers: dict[str, str]
) -> None:
    with closing(Browser(shared_sqlite_stand)) as browser:
        sent = {"login": "x@y.example", "password": "x", "csrf": ""}
        assert browser.http.post(path, data=sent, headers=headers).status_code == 400
        if path == "/sign-in":
            own = browser.http.post(
                path, data=sent, headers={"Origin": ORIGIN, "Sec-Fetch-Site": "same-origin"}
            )
            assert own.status_code == 401


def test_switching_the_organisation_is_a_new_id_and_another_actor(ada: Browser, stand: Stand) -> None:
    from tests.market.browser import invited, path_of

    link = invited(stand, "other", "ada@acme.example")
    assert "Join globex with this account" in ada.get(path_of(link)).text
    before = ada.http.cookies["session"]
    assert "acting for globex" in ada.post(path_of(link), accept="yes").text
    assert ada.http.cookies["session"] != before
    assert "acting for acme" in ada.post("/account/organisation", org=stand.orgs["buyer"]).text
    assert ada.post("/account/organisation", org=stand.orgs["rival"]).status_code == 404
    assert ada.post("/account/organisation", org="org_0").status_code == 404
    moved = stand.entries(kind="session.moved")
    assert len(moved) == 2
    assert {record.document["actor"]["ref"][:4] for record in moved} == {"per_"}


def test_what_a_session_stands_on_ends_it(ada: Browser, stand: Stand) -> None:
    with stand.market.store.engine.begin() as connection:
        connection.execute(text("UPDATE person SET disabled_at = '2026'"))
    assert not ada.is_signed_in()
