"""The four grants: what each gives, and what of Authlib's defaults is closed."""

from __future__ import annotations

import logging

import pytest

from tests.exchange.oauth.program import (
    CLI,
    REDIRECT,
    VERIFIER,
    Program,
    back,
    challenge,
    claims,
    confirm,
    decide,
    header,
    refused,
)
from tests.market.stand import Stand


def test_a_client_comes_in_with_its_own_secret(stand: Stand) -> None:
    program = Program.of(stand, scope="ask rho:2")
    reply = program.token("client_credentials", scope="dataset:city/rides rho:0.5")
    given = reply.json()
    assert set(given) == {"access_token", "token_type", "expires_in", "scope"}
    assert (given["token_type"], given["expires_in"]) == ("Bearer", 600)
    assert given["scope"] == "ask dataset:city/rides rho:0.5"
    told = claims(given["access_token"])
    assert header(given["access_token"])["typ"] == "at+jwt"
    assert header(given["access_token"])["alg"] == "ES256"
    assert told["exp"] - told["iat"] == 600
    assert told["iss"] == told["aud"] == "http://127.0.0.1:8000"
    assert told["sub"] == told["client_id"] == program.client_id
    who = stand.get(given["access_token"], "/v1/whoami").json()
    assert (who["org"], who["role"], who["auth"]) == (stand.orgs["buyer"], "buyer", "oauth")
    assert who["token"].startswith("aut_")
    assert who["scope"] == "ask dataset:city/rides rho:0.5"


def test_asking_again_for_the_same_scope_is_the_same_authorization(stand: Stand) -> None:
    program = Program.of(stand)
    refs = {stand.get(program.alone(), "/v1/whoami").json()["token"] for _ in range(3)}
    assert len(refs) == 1
    assert stand.get(program.alone("rho:1"), "/v1/whoami").json()["token"] not in refs


def test_a_secret_is_shown_once_and_kept_as_a_digest(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    sent = {"name": "Report", "kind": "confidential"}
    first, again = (stand.post("buyer", "/v1/clients", sent, key="k1").json() for _ in range(2))
    assert first["client_secret"]
    assert again == {**first, "client_secret": None}
    assert first["client_secret"] not in stand.get("buyer", "/v1/clients").text
    kept = (stand.settings.home / "exchange.db").read_bytes()
    assert first["client_secret"].encode() not in kept


@pytest.mark.parametrize("auth", ["none", "wrong", "empty", "unknown", "both", "bearer", "garbled", "bytes"])
def test_a_client_that_does_not_prove_itself_is_refused_alike(sqlite_stand: Stand, auth: str) -> None:
    stand, program = sqlite_stand, Program.of(sqlite_stand)
    headers = {
        "bearer": "Bearer x",
        "garbled": "Basic ####",
        "bytes": "Basic /////w==",
        "empty": "Basic ",
    }
    form = {"grant_type": "client_credentials"}
    if auth in headers:
        reply = stand.http.post("/oauth/token", data=form, headers={"Authorization": headers[auth]})
    elif auth == "none":
        reply = stand.http.post("/oauth/token", data={**form, "client_id": program.client_id})
    else:
        login = {"wrong": "x" * 43, "both": program.secret, "unknown": program.secret}[auth] or ""
        name = f"cli_{'0' * 24}" if auth == "unknown" else program.client_id
        more = {"client_secret": login, "client_id": name} if auth == "both" else {}
        reply = stand.http.post("/oauth/token", data={**form, **more}, auth=(name, login))
    refused(reply, "invalid_client", 401)
    assert reply.json()["error_description"] == "The client is unknown, or did not authenticate."
    assert reply.headers["WWW-Authenticate"].startswith("Basic ")
    last = stand.entries()[-1].document
    assert (last["kind"], last["code"]) == ("token.refused", "invalid_client")


def test_parameters_belong_in_the_body_and_are_given_once(sqlite_stand: Stand) -> None:
    program = Program.of(sqlite_stand)
    login = (program.client_id, program.secret or "")
    post = sqlite_stand.http.post
    refused(post("/oauth/token?grant_type=client_credentials", auth=login), "invalid_request")
    refused(post("/oauth/token", json={"grant_type": "client_credentials"}, auth=login), "invalid_request")
    twice = {"grant_type": ["client_credentials", "client_credentials"]}
    refused(post("/oauth/token", data=twice, auth=login), "invalid_request")
    refused(program.token("client_credentials", scope="ask\u00e4"), "invalid_request")
    refused(program.token("password", username="a", password="b"), "unsupported_grant_type")
    refused(program.token("implicit\u2028"), "invalid_request")
    assert program.token("client_credentials").status_code == 200


@pytest.mark.parametrize("scope", ["account", "rho:3", "admin", "dataset:*", "rho:-1", "rho:1e3", "ask  ask"])
def test_a_client_is_given_no_more_than_its_limit(sqlite_stand: Stand, scope: str) -> None:
    program = Program.of(sqlite_stand, scope="dataset:city/rides rho:2")
    refused(program.token("client_credentials", scope=scope), "invalid_scope")
    assert program.token("client_credentials", scope="dataset:city/rides rho:2").status_code == 200


def test_the_code_flow_with_pkce_gives_tokens(stand: Stand) -> None:
    program = Program.of(stand, kind="public", scope="account", redirect_uris=[REDIRECT])
    browser = stand.sign_in("buyer")
    page = program.authorize(browser, scope="ask rho:1.5")
    assert "at most rho 1.5" in page.text
    assert "form-action 'self' https://program.test" in page.headers["Content-Security-Policy"]
    sent = back(decide(browser, page, "/oauth/authorize", "approve"))
    assert (sent["state"], sent["iss"], sent["from"]) == ("s1", "http://127.0.0.1:8000", "exchange")
    given = program.redeem(sent["code"]).json()
    assert given["scope"] == "ask rho:1.5"
    who = stand.get(given["access_token"], "/v1/whoami").json()
    assert (who["org"], who["auth"]) == (stand.orgs["buyer"], "oauth")
    assert claims(given["access_token"])["sub"].startswith("tok_")


def test_a_person_may_say_no(sqlite_stand: Stand) -> None:
    program = Program.of(sqlite_stand, kind="public", redirect_uris=[REDIRECT])
    browser = sqlite_stand.sign_in("buyer")
    sent = back(decide(browser, program.authorize(browser), "/oauth/authorize", "decline"))
    assert (sent["error"], sent["state"], sent["iss"]) == ("access_denied", "s1", "http://127.0.0.1:8000")
    assert "code" not in sent


def test_nobody_decides_without_signing_in_or_from_another_site(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    program = Program.of(stand, kind="public", redirect_uris=[REDIRECT])
    nobody = program.authorize(stand.http)
    assert nobody.status_code == 302
    assert nobody.headers["Location"].startswith("/sign-in?next=/oauth/authorize")
    browser = stand.sign_in("buyer")
    form = {"client_id": program.client_id, "response_type": "code", "decision": "approve"}
    assert browser.post("/oauth/authorize", data=form).status_code == 400
    assert browser.post("/device", data={"user_code": "BCDF-GHJK", "decision": "approve"}).status_code == 400


@pytest.mark.parametrize(
    "wrong",
    [
        {"code_challenge": None, "code_challenge_method": None},
        {"code_challenge_method": None},
        {"code_challenge_method": "plain"},
        {"code_challenge_method": "s256"},
        {"code_challenge": None},
        {"code_challenge": "short"},
        {"code_challenge": "a" * 44},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["public", "confidential"])
def test_pkce_with_s256_is_asked_of_every_client(
    shared_sqlite_stand: Stand, wrong: dict[str, str | None], kind: str
) -> None:
    program = Program.of(shared_sqlite_stand, kind=kind, redirect_uris=[REDIRECT])
    sent = back(program.authorize(shared_sqlite_stand.sign_in("buyer"), **wrong))
    assert (sent["error"], sent["state"]) == ("invalid_request", "s1")


@pytest.mark.parametrize(
    "uri",
    [
        None,
        "",
        "https://program.test/back",
        "https://program.test/back?from=exchange&more=1",
        "https://program.test/back?from=exchange#",
        "https://program.test/BACK?from=exchange",
        "https://program.test:443/back?from=exchange",
        "http://program.test/back?from=exchange",
        "https://program.test.evil.test/back?from=exchange",
        "https://program.test@evil.test/back?from=exchange",
        "https://evil.test",
        "javascript:alert(1)",
    ],
)
def test_an_address_that_is_not_the_clients_is_never_sent_to(
    shared_sqlite_stand: Stand, uri: str | None
) -> None:
    program = Program.of(shared_sqlite_stand, kind="public", redirect_uris=[REDIRECT])
    reply = program.authorize(shared_sqlite_stand.sign_in("buyer"), redirect_uri=uri)
    assert reply.status_code == 422
    assert "Location" not in reply.headers


@pytest.mark.parametrize("response_type", ["token", "id_token", "code token", "", "c\u00f6de"])
def test_codes_alone_are_given_through_the_browser(shared_sqlite_stand: Stand, response_type: str) -> None:
    program = Program.of(shared_sqlite_stand, kind="public", redirect_uris=[REDIRECT])
    reply = program.authorize(shared_sqlite_stand.sign_in("buyer"), response_type=response_type)
    assert reply.status_code in (302, 422)
    if reply.status_code == 302:
        assert "code=" not in reply.headers["Location"]


def test_a_client_of_another_organisation_is_not_let_in(sqlite_stand: Stand) -> None:
    program = Program.of(sqlite_stand, kind="public", redirect_uris=[REDIRECT])
    assert program.authorize(sqlite_stand.sign_in("other")).status_code == 422
    started = program.device()
    reply = confirm_unknown(sqlite_stand, "other", started["user_code"])
    assert "no device waits with this code" in reply


def confirm_unknown(stand: Stand, who: str, user_code: str) -> str:
    reply = stand.sign_in(who).get("/device", params={"user_code": user_code})
    assert reply.status_code == 404
    return reply.text


@pytest.mark.parametrize(
    "wrong",
    [
        {"code_verifier": ""},
        {"code_verifier": "a" * 43},
        {"code_verifier": challenge(VERIFIER)},
        {"redirect_uri": "https://program.test/back"},
        {"redirect_uri": ""},
    ],
    ids=["no verifier", "another verifier", "the challenge", "another address", "no address"],
)
@pytest.mark.parametrize("kind", ["public", "confidential"])
def test_a_stolen_code_is_worth_nothing(shared_sqlite_stand: Stand, wrong: dict[str, str], kind: str) -> None:
    program = Program.of(shared_sqlite_stand, kind=kind, redirect_uris=[REDIRECT])
    code = program.code(shared_sqlite_stand.sign_in("buyer"))
    assert program.redeem(code, **wrong).status_code == 400
    other = Program.of(shared_sqlite_stand, kind=kind, redirect_uris=[REDIRECT])
    refused(other.redeem(code), "invalid_grant")
    assert program.redeem(code).status_code == 200, "it was not used up by others"


def test_a_code_is_good_for_a_minute(sqlite_stand: Stand) -> None:
    program = Program.of(sqlite_stand, kind="public", redirect_uris=[REDIRECT])
    browser = sqlite_stand.sign_in("buyer")
    code = program.code(browser)
    fresh = program.code(browser)
    sqlite_stand.clock.advance(seconds=61)
    refused(program.redeem(code), "invalid_grant")
    sqlite_stand.clock.advance(seconds=-2)
    assert program.redeem(fresh).status_code == 200


@pytest.mark.parametrize("later_s", [0, 120])
def test_a_code_that_comes_twice_ends_what_it_gave(stand: Stand, later_s: int) -> None:
    program = Program.of(stand, kind="public", redirect_uris=[REDIRECT])
    code = program.code(stand.sign_in("buyer"))
    given = program.redeem(code).json()
    stand.clock.advance(seconds=later_s)
    assert stand.get(given["access_token"], "/v1/whoami").status_code == 200
    refused(program.redeem(code), "invalid_grant")
    assert stand.get(given["access_token"], "/v1/whoami").status_code == 401
    refused(program.token("refresh_token", refresh_token=given["refresh_token"]), "invalid_grant")
    assert "credential.reused" in {entry.document["kind"] for entry in stand.entries()}


def test_a_refresh_token_is_changed_at_each_use_and_its_reuse_ends_the_family(stand: Stand) -> None:
    program = Program.of(stand, kind="public", redirect_uris=[REDIRECT])
    first = program.redeem(program.code(stand.sign_in("buyer"))).json()
    second = program.token("refresh_token", refresh_token=first["refresh_token"]).json()
    assert second["refresh_token"] != first["refresh_token"]
    assert stand.get(second["access_token"], "/v1/whoami").status_code == 200
    refused(program.token("refresh_token", refresh_token=first["refresh_token"]), "invalid_grant")
    for token in (first["access_token"], second["access_token"]):
        assert stand.get(token, "/v1/whoami").status_code == 401
    refused(program.token("refresh_token", refresh_token=second["refresh_token"]), "invalid_grant")


def test_a_refresh_token_may_be_narrowed_and_is_the_clients_alone(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    program = Program.of(stand, kind="public", redirect_uris=[REDIRECT])
    browser = stand.sign_in("buyer")
    given = program.redeem(program.code(browser, scope="rho:1.5")).json()
    old = given["refresh_token"]
    for scope in ("account", "rho:1.50001", "ask"):
        refused(program.token("refresh_token", refresh_token=old, scope=scope), "invalid_scope")
    thief = Program.of(stand, kind="public", redirect_uris=[REDIRECT])
    refused(thief.token("refresh_token", refresh_token=old), "invalid_grant")
    narrowed = program.token("refresh_token", refresh_token=old, scope="rho:0.5").json()
    assert narrowed["scope"] == "ask rho:0.5"
    whole = program.token("refresh_token", refresh_token=narrowed["refresh_token"]).json()
    assert whole["scope"] == "ask rho:1.5"
    stand.clock.advance(days=31)
    refused(program.token("refresh_token", refresh_token=whole["refresh_token"]), "invalid_grant")


def test_the_device_flow(stand: Stand) -> None:
    program = Program(stand, CLI)
    started = program.device(scope="ask")
    assert started["verification_uri"] == "http://127.0.0.1:8000/device"
    assert (started["expires_in"], started["interval"]) == (600, 5)
    refused(program.poll(started["device_code"]), "authorization_pending")
    done = confirm(stand.sign_in("buyer"), started["user_code"].lower().replace("-", " "))
    assert "The program is in" in done.text
    given = program.poll(started["device_code"]).json()
    who = stand.get(given["access_token"], "/v1/whoami").json()
    assert (who["org"], who["scope"]) == (stand.orgs["buyer"], "ask")
    refused(program.poll(started["device_code"]), "invalid_grant")
    assert stand.get(given["access_token"], "/v1/whoami").status_code == 401, "a device code came twice"


def test_a_device_that_is_refused_waits_too_long_or_asks_too_often_is_told(sqlite_stand: Stand) -> None:
    stand, program = sqlite_stand, Program(sqlite_stand, CLI)
    hasty = program.device()
    refused(program.poll(hasty["device_code"]), "authorization_pending")
    refused(program.poll(hasty["device_code"]), "slow_down")
    declined = program.device()
    assert "was not let in" in confirm(stand.sign_in("buyer"), declined["user_code"], "decline").text
    refused(program.poll(declined["device_code"]), "access_denied")
    refused(program.poll("unknown"), "invalid_grant")
    stand.clock.advance(minutes=11)
    refused(program.poll(hasty["device_code"]), "expired_token")
    assert "no device waits" in confirm_unknown(stand, "buyer", hasty["user_code"])
    refused(Program.of(stand).send("/oauth/device"), "unauthorized_client")


def test_a_user_code_is_not_guessed(stand: Stand) -> None:
    program = Program(stand, CLI)
    started = program.device()
    browser = stand.sign_in("other")
    for number in range(5):
        wrong = browser.get("/device", params={"user_code": f"BBBB-BBB{'BCDFG'[number]}"})
        assert wrong.status_code == 404
    stopped = browser.get("/device", params={"user_code": started["user_code"]})
    assert stopped.status_code == 429
    assert "Let “" not in stopped.text
    assert "Let “" in stand.sign_in("buyer").get("/device", params={"user_code": started["user_code"]}).text
    stand.clock.advance(minutes=9)
    assert browser.get("/device", params={"user_code": started["user_code"]}).status_code == 429
    stand.clock.advance(minutes=2)
    assert browser.get("/device", params={"user_code": program.device()["user_code"]}).status_code == 200


def test_so_many_devices_wait_and_no_more(sqlite_stand: Stand) -> None:
    program = Program(sqlite_stand, CLI)
    for _ in range(30):
        program.device()
    reply = program.send("/oauth/device")
    assert (reply.status_code, reply.json()["code"]) == (429, "rate_limited")
    assert int(reply.headers["Retry-After"]) > 0
    assert sqlite_stand.entries(kind="device.refused") == [], "that somebody waits is no entry"
    sqlite_stand.clock.advance(minutes=11)
    program.device()


def test_tokens_are_not_written_into_any_log(sqlite_stand: Stand, caplog: pytest.LogCaptureFixture) -> None:
    program = Program.of(sqlite_stand, kind="public", redirect_uris=[REDIRECT])
    browser = sqlite_stand.sign_in("buyer")
    with caplog.at_level(logging.DEBUG):
        code = program.code(browser)
        given = program.redeem(code).json()
        program.token("refresh_token", refresh_token=given["refresh_token"])
    told = caplog.text + str([entry.document for entry in sqlite_stand.entries()])
    for secret in (code, given["access_token"][-40:], given["refresh_token"]):
        assert secret not in told
