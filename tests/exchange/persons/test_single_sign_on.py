"""Signing in by an identity provider: who may, and every fault of what comes back refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest
from joserfc.jwk import ECKey

from tests.market.browser import Browser, invited, member, path_of
from tests.market.identity_provider import CLIENT, Provider, named, provider
from tests.market.stand import Stand

LOGIN = "ada@acme.example"


@pytest.fixture
def idp(sqlite_stand: Stand) -> Iterator[Provider]:
    """A provider that the market's settings name."""
    with provider() as made:
        named(sqlite_stand, made.url)
        yield made


@pytest.fixture
def browser(sqlite_stand: Stand) -> Iterator[Browser]:
    with closing(Browser(sqlite_stand)) as made:
        made.http.follow_redirects = False
        yield made


def away(browser: Browser, target: str = "/account") -> str:
    """The address at the provider that the browser is sent to."""
    reply = browser.http.get("/sign-in/with", params={"next": target})
    assert reply.status_code == 302, reply.text
    return str(reply.headers["Location"])


def back(browser: Browser, sent: dict[str, str]) -> httpx.Response:
    return browser.http.get("/sign-in/back", params=sent)


def sign_on(browser: Browser, idp: Provider, target: str = "/account") -> httpx.Response:
    return back(browser, idp.authorize(away(browser, target)))


@pytest.fixture
def joined(browser: Browser, idp: Provider) -> Browser:
    """A browser whose person has joined by the provider, and signed out."""
    link = path_of(invited(browser.stand, "buyer", LOGIN))
    assert "identity provider" in browser.get(link).text
    reply = sign_on(browser, idp, link)
    assert (reply.status_code, reply.headers["Location"]) == (302, "/account")
    assert "acting for acme as buyer" in browser.get("/account").text
    assert browser.post("/sign-out").status_code == 302
    return browser


def refused(browser: Browser, reply: httpx.Response) -> None:
    assert reply.status_code == 401, reply.text
    assert "Single sign on refused" in reply.text
    assert browser.get("/account").status_code == 302, "nobody is signed in"
    entry = browser.stand.entries(code="single_sign_on_refused")
    assert all(record.document["actor"]["org"] == "unknown" for record in entry)


def test_an_invited_person_joins_and_comes_back(joined: Browser, idp: Provider) -> None:
    assert "identity provider" in joined.get("/sign-in").text
    reply = sign_on(joined, idp, "/datasets/city/rides")
    assert (reply.status_code, reply.headers["Location"]) == (302, "/datasets/city/rides")
    assert joined.get("/account").status_code == 200
    assert joined.post("/sign-in", login=LOGIN, password="").status_code == 401, "there is no password"
    assert joined.stand.broken_laws() == []


def test_nobody_comes_in_who_was_not_invited(browser: Browser, idp: Provider) -> None:
    refused(browser, sign_on(browser, idp))


def test_an_address_alone_opens_no_account(browser: Browser, idp: Provider) -> None:
    member(browser.stand, login=LOGIN).close()
    refused(browser, sign_on(browser, idp))


def test_a_link_is_used_by_the_address_that_was_invited_alone(browser: Browser, idp: Provider) -> None:
    idp.email = "eve@acme.example"
    link = path_of(invited(browser.stand, "buyer", LOGIN))
    refused(browser, sign_on(browser, idp, link))
    idp.email = "Ada@Acme.example"
    assert sign_on(browser, idp, link).status_code == 302


def test_one_identity_is_one_account(joined: Browser, idp: Provider) -> None:
    idp.email = "bo@acme.example"
    refused(joined, sign_on(joined, idp, path_of(invited(joined.stand, "buyer", "bo@acme.example"))))


def test_a_disabled_person_stays_out(joined: Browser, idp: Provider) -> None:
    with joined.stand.market.store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE person SET disabled_at = '2026'")
    assert sign_on(joined, idp).status_code == 401


FAULTS: dict[str, Callable[[Provider], Any]] = {
    "wrong nonce": lambda idp: idp.claims.update(nonce="another"),
    "no nonce": lambda idp: idp.claims.update(nonce=None),
    "wrong audience": lambda idp: idp.claims.update(aud="somebody-else"),
    "more audiences": lambda idp: idp.claims.update(aud=[CLIENT, "somebody-else"]),
    "another party": lambda idp: idp.claims.update(azp="somebody-else"),
    "other issuer": lambda idp: idp.claims.update(iss="https://evil.test"),
    "issuer with a slash": lambda idp: idp.claims.update(iss=idp.url + "/"),
    "expired": lambda idp: setattr(idp, "shift_s", -400),
    "no end": lambda idp: idp.claims.update(exp=None),
    "an end that is none": lambda idp: idp.claims.update(exp="never"),
    "from the future": lambda idp: setattr(idp, "shift_s", 400),
    "alg none": lambda idp: setattr(idp, "unsigned", True),
    "alg HS256": lambda idp: setattr(idp, "by_secret", True),
    "another key": lambda idp: setattr(idp, "signed_by", ECKey.generate_key("P-256", {"kid": "k1"})),
    "address not verified": lambda idp: idp.claims.update(email_verified=False),
    "address verified in words": lambda idp: idp.claims.update(email_verified="true"),
    "no subject": lambda idp: idp.claims.update(sub=None),
    "another subject": lambda idp: setattr(idp, "subject", "subject-2"),
    "configuration of another": lambda idp: idp.configuration.update(issuer="https://evil.test"),
    "keys in the open": lambda idp: idp.configuration.update(jwks_uri="http://evil.test/keys"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_token_with_a_fault_signs_nobody_in(joined: Browser, idp: Provider, fault: str) -> None:
    sent = idp.authorize(away(joined))
    FAULTS[fault](idp)
    refused(joined, back(joined, sent))


@pytest.mark.parametrize(
    "change",
    [{"state": "another"}, {"state": ""}, {"code": ""}, {"code": "another"}, {"iss": "https://evil.test"}],
    ids=str,
)
def test_a_return_with_a_fault_signs_nobody_in(
    joined: Browser, idp: Provider, change: dict[str, str]
) -> None:
    refused(joined, back(joined, {**idp.authorize(away(joined)), **change}))


def test_a_state_works_once(joined: Browser, idp: Provider) -> None:
    sent = idp.authorize(away(joined))
    assert back(joined, sent).status_code == 302
    joined.post("/sign-out")
    idp.codes[sent["code"]] = {"code_challenge": "x"}
    refused(joined, back(joined, sent))


def test_a_state_is_of_one_browser_and_five_minutes(joined: Browser, idp: Provider) -> None:
    sent = idp.authorize(away(joined))
    with closing(Browser(joined.stand)) as victim:
        victim.http.follow_redirects = False
        refused(victim, back(victim, sent))
        away(victim)
        refused(victim, back(victim, sent))
    joined.stand.clock.advance(minutes=5)
    refused(joined, back(joined, sent))


def test_without_a_provider_there_is_no_such_way(sqlite_stand: Stand) -> None:
    with closing(Browser(sqlite_stand)) as browser:
        assert browser.get("/sign-in/with").status_code == 404
        assert "identity provider" not in browser.get("/sign-in").text
