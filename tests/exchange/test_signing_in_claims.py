"""What docs/accounts.md and docs/signing-in.md say of settings, keys and providers, each tried."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OKPKey, RSAKey

from exchange.errors import LastAdmin
from exchange.identity import SYSTEM
from exchange.operations import joining
from tests.exchange.oauth.program import CLI, Program, claims, confirm, header
from tests.market.browser import Browser, invited, member, path_of
from tests.market.identity_provider import Provider, named, provider
from tests.market.stand import Stand, problem


def setting(stand: Stand, **values: object) -> None:
    for name, value in values.items():
        object.__setattr__(stand.market.settings, name, value)


def let_in(stand: Stand) -> tuple[Program, dict[str, Any]]:
    """The command line after the device flow, and what it was given."""
    program = Program(stand, CLI)
    started = program.device()
    confirm(stand.sign_in("buyer"), started["user_code"])
    return program, program.poll(started["device_code"]).json()


@pytest.fixture
def idp(sqlite_stand: Stand) -> Iterator[Provider]:
    with provider() as made:
        named(sqlite_stand, made.url)
        yield made


def sign_on(browser: Browser, idp: Provider, target: str) -> str:
    """Where the browser is led after the provider has signed its person in."""
    browser.http.follow_redirects = False
    away = browser.http.get("/sign-in/with", params={"next": target}).headers["Location"]
    reply = browser.http.get("/sign-in/back", params=idp.authorize(away))
    assert reply.status_code == 302, reply.text
    return str(reply.headers["Location"])


# joserfc says that the name EdDSA is an old one: providers use it.
@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
@pytest.mark.parametrize("alg", ["ES256", "RS256", "PS256", "EdDSA", "Ed25519"])
def test_a_provider_signs_with_any_of_these_algorithms(sqlite_stand: Stand, idp: Provider, alg: str) -> None:
    key: ECKey | RSAKey | OKPKey
    if alg == "ES256":
        key = ECKey.generate_key("P-256", {"kid": "k"})
    elif alg.startswith("Ed"):
        key = OKPKey.generate_key("Ed25519", {"kid": "k"})
    else:
        key = RSAKey.generate_key(2048, {"kid": "k"})
    idp.published = {"keys": [key.as_dict(private=False)]}
    idp.forged = lambda told: jwt.encode({"alg": alg, "kid": "k"}, told, key, algorithms=[alg])
    with closing(Browser(sqlite_stand)) as ada:
        assert sign_on(ada, idp, path_of(invited(sqlite_stand, "buyer", idp.email))) == "/account"


def test_the_second_factor_is_ours_whoever_signed_somebody_in(sqlite_stand: Stand, idp: Provider) -> None:
    setting(sqlite_stand, second_factor=1)
    with closing(Browser(sqlite_stand)) as ada:
        sign_on(ada, idp, path_of(invited(sqlite_stand, "officer", idp.email)))
        assert ada.get("/officer").headers["Location"] == "/account", "one must be added first"
        ada.http.follow_redirects = True
        ada.add_app()
        assert ada.get("/officer").status_code == 200
        ada.post("/sign-out")
        sqlite_stand.clock.advance(minutes=1)
        assert sign_on(ada, idp, "/officer").startswith("/sign-in/confirm")
        ada.http.follow_redirects = True
        ada.confirm(code=ada.code())
        assert ada.get("/officer").url.path == "/officer"


def test_the_operator_may_leave_an_organisation_without_an_administrator(sqlite_stand: Stand) -> None:
    stand, org = sqlite_stand, sqlite_stand.orgs["buyer"]
    with closing(member(stand, login="ada@acme.example", admin=True)) as ada:
        mine = joining.member_named(stand.market, org=org, login="ada@acme.example")
        assert LastAdmin.code in ada.post(f"/members/{mine}/remove").text.replace(" ", "_").lower()
        joining.remove(stand.market, SYSTEM, org=org, member=mine)
        assert not ada.is_signed_in()


def test_sessions_last_as_long_as_the_settings_say(sqlite_stand: Stand) -> None:
    setting(sqlite_stand, session_idle_s=120, session_lasts_s=300)
    with closing(member(sqlite_stand)) as ada:
        for _ in range(3):
            sqlite_stand.clock.advance(seconds=90)
            assert ada.is_signed_in()
        sqlite_stand.clock.advance(seconds=40)
        assert not ada.is_signed_in(), "300 seconds in any case"
        assert ada.sign_in("ada@acme.example").url.path == "/account"
        sqlite_stand.clock.advance(seconds=130)
        assert not ada.is_signed_in(), "120 seconds without use"


def test_an_authorization_lasts_as_many_days_as_the_settings_say(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    setting(stand, authorization_days=5)
    program, given = let_in(stand)
    for days in (2, 2):
        stand.clock.advance(days=days)
        given = program.token("refresh_token", refresh_token=given["refresh_token"]).json()
        assert stand.get(given["access_token"], "/v1/whoami").status_code == 200
    stand.clock.advance(days=2)
    assert program.token("refresh_token", refresh_token=given["refresh_token"]).status_code == 400


def test_without_the_keys_nobody_is_locked_out(sqlite_stand: Stand) -> None:
    """Refresh tokens and secrets need no key; what a lost one signed is good no more."""
    stand = sqlite_stand
    program, given = let_in(stand)
    own = Program.of(stand)
    before = own.alone()
    shutil.rmtree(stand.settings.oauth_path)
    for lost in (given["access_token"], before):
        problem(stand.get(lost, "/v1/whoami"), 401, "token_unknown")
    fresh = program.token("refresh_token", refresh_token=given["refresh_token"]).json()
    for token in (fresh["access_token"], own.alone()):
        assert stand.get(token, "/v1/whoami").status_code == 200
    assert header(fresh["access_token"])["kid"] != header(given["access_token"])["kid"]


def test_an_access_token_says_this_and_nothing_else(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    program = Program.of(stand, scope="dataset:city/rides rho:1.5")
    token = program.alone()
    told, url = claims(token), stand.settings.base_url
    assert header(token) == {"alg": "ES256", "typ": "at+jwt", "kid": header(token)["kid"]}
    named = {"iss", "aud", "sub", "client_id", "authorization", "scope", "jti", "iat", "nbf", "exp"}
    assert set(told) == named
    assert (told["iss"], told["aud"], told["sub"]) == (url, url, program.client_id)
    assert told["exp"] - told["iat"] == 600
    stand.run(who=token)
    entry = stand.entries(kind="query.settled")[-1].document
    assert (entry["actor"]["ref"], entry["actor"]["auth"]) == (told["authorization"], "oauth")
