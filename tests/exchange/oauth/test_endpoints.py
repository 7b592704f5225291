"""Revocation, introspection, metadata; two requests with one code; an exchange that has no https."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from exchange.config import Settings, SettingsError
from exchange.web import create_app
from tests.exchange.oauth.program import CLI, REDIRECT, Program, claims, confirm, refused
from tests.market.stand import Stand, problem

NEVER = ["", "x", "tok_0.x", "a.b.c", "ref_" + "x" * 43, "x" * 3999, "\u00e4", "a\tb"]


def signed_in(stand: Stand, scope: str = "ask") -> tuple[Program, dict[str, str]]:
    """The command line after the device flow, and what it was given."""
    program = Program(stand, CLI)
    started = program.device(scope=scope)
    confirm(stand.sign_in("buyer"), started["user_code"])
    return program, program.poll(started["device_code"]).json()


def introspected(program: Program, token: str) -> dict[str, object]:
    reply = program.send("/oauth/introspect", token=token)
    assert reply.status_code == 200, reply.text
    found: dict[str, object] = reply.json()
    return found


def test_an_access_token_is_revoked_alone(stand: Stand) -> None:
    program, given = signed_in(stand)
    again = program.token("refresh_token", refresh_token=given["refresh_token"]).json()
    assert program.send("/oauth/revoke", token=given["access_token"]).status_code == 200
    assert stand.get(given["access_token"], "/v1/whoami").status_code == 401
    assert stand.get(again["access_token"], "/v1/whoami").status_code == 200
    last = [entry.document for entry in stand.entries(kind="access.revoked")]
    assert [entry["actor"]["auth"] for entry in last] == ["oauth"]
    assert program.send("/oauth/revoke", token=given["access_token"]).status_code == 200, "twice is once"


def test_a_refresh_token_takes_its_family_along(stand: Stand) -> None:
    program, given = signed_in(stand)
    assert program.send("/oauth/revoke", token=given["refresh_token"]).status_code == 200
    assert stand.get(given["access_token"], "/v1/whoami").status_code == 401
    refused(program.token("refresh_token", refresh_token=given["refresh_token"]), "invalid_grant")
    held = stand.get("buyer", "/v1/authorizations").json()["items"]
    assert claims(given["access_token"])["authorization"] not in [one["authorization"] for one in held]


def test_a_token_is_ended_by_its_own_client_alone(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    _, given = signed_in(stand)
    other = Program.of(stand)
    for token in (given["access_token"], given["refresh_token"]):
        refused(other.send("/oauth/revoke", token=token), "invalid_grant")
    assert stand.get(given["access_token"], "/v1/whoami").status_code == 200
    refused(stand.http.post("/oauth/revoke", data={"token": given["access_token"]}), "invalid_client", 401)
    refused(other.send("/oauth/revoke"), "invalid_request")


@pytest.mark.parametrize("token", NEVER, ids=ascii)
def test_what_never_was_a_token_is_nothing(shared_sqlite_stand: Stand, token: str) -> None:
    program = Program.of(shared_sqlite_stand)
    ended = program.send("/oauth/revoke", token=token)
    asked = program.send("/oauth/introspect", token=token)
    if token.isascii() and token.isprintable():
        assert (ended.status_code, asked.status_code, asked.json()) == (200, 200, {"active": False})
    else:
        refused(ended, "invalid_request")
        refused(asked, "invalid_request")


def test_introspection_says_what_a_token_may_do_now(stand: Stand) -> None:
    _, given = signed_in(stand, "dataset:city/rides rho:1")
    ours, theirs = Program.of(stand), Program.of(stand, "other")
    told = introspected(ours, given["access_token"])
    assert (told["active"], told["scope"], told["client_id"]) == (True, "ask dataset:city/rides rho:1", CLI)
    assert told["exp"] == claims(given["access_token"])["exp"]
    assert introspected(ours, given["refresh_token"])["active"] is True
    assert introspected(theirs, given["access_token"]) == {"active": False}
    assert introspected(theirs, given["refresh_token"]) == {"active": False}
    stand.call("buyer", "DELETE", f"/v1/authorizations/{told['authorization']}")
    assert introspected(ours, given["access_token"]) == {"active": False}
    assert introspected(ours, given["refresh_token"]) == {"active": False}
    refused(Program(stand, CLI).send("/oauth/introspect", token="x"), "invalid_client", 401)


def test_an_ended_token_is_not_active(sqlite_stand: Stand) -> None:
    program = Program.of(sqlite_stand)
    token = program.alone()
    assert introspected(program, token)["active"] is True
    sqlite_stand.clock.advance(minutes=10)
    assert introspected(program, token) == {"active": False}


@pytest.mark.parametrize("what", ["code", "device", "refresh"])
def test_of_many_requests_with_one_credential_one_is_served(stand: Stand, what: str) -> None:
    """And what that one gave has ended by the last of the others: somebody had a copy."""
    program = Program.of(stand, kind="public", redirect_uris=[REDIRECT])
    browser = stand.sign_in("buyer")
    started = program.device()
    code = program.code(browser)
    confirm(browser, started["user_code"])
    refresh = "" if what != "refresh" else program.redeem(code).json()["refresh_token"]

    def ask(_: int) -> httpx.Response:
        if what == "refresh":
            return program.token("refresh_token", refresh_token=refresh)
        return program.redeem(code) if what == "code" else program.poll(started["device_code"])

    with ThreadPoolExecutor(6) as pool:
        replies = list(pool.map(ask, range(6)))
    assert sorted(reply.status_code for reply in replies) == [200, 400, 400, 400, 400, 400]
    (served,) = [reply.json() for reply in replies if reply.status_code == 200]
    assert stand.get(served["access_token"], "/v1/whoami").status_code == 401
    refused(program.token("refresh_token", refresh_token=served["refresh_token"]), "invalid_grant")


def test_the_metadata_names_what_is_there(sqlite_stand: Stand) -> None:
    """And nothing that is closed: no implicit grant, no plain challenge, no registration by anybody."""
    told = sqlite_stand.http.get("/.well-known/oauth-authorization-server").json()
    assert told["issuer"] == "http://127.0.0.1:8000"
    assert told["code_challenge_methods_supported"] == ["S256"]
    assert told["response_types_supported"] == ["code"]
    assert "registration_endpoint" not in told
    assert not {"implicit", "password"} & set(told["grant_types_supported"])
    posted = [name for name in told if name.endswith("_endpoint") and name != "authorization_endpoint"]
    for name in posted:
        path = told[name].removeprefix(told["issuer"])
        assert sqlite_stand.http.get(path).status_code == 405, name
        assert sqlite_stand.http.post(path).status_code in (400, 401), name
    assert sqlite_stand.http.get(told["jwks_uri"].removeprefix(told["issuer"])).status_code == 200
    described = sqlite_stand.http.get("/openapi.json").json()["components"]["securitySchemes"]
    assert described["oauth"]["flows"]["clientCredentials"]["tokenUrl"] == told["token_endpoint"]


def test_a_token_in_an_address_or_a_cookie_is_not_read(sqlite_stand: Stand) -> None:
    token = Program.of(sqlite_stand).alone()
    assert sqlite_stand.http.get(f"/v1/whoami?access_token={token}").status_code == 401
    assert sqlite_stand.http.get("/v1/whoami", headers={"Cookie": f"access_token={token}"}).status_code == 401
    told = problem(sqlite_stand.get(None, "/v1/whoami"), 401, "token_unknown")
    assert token not in str(told)


def test_tokens_are_not_given_where_the_way_is_not_private(sqlite_stand: Stand) -> None:
    """RFC 6749 asks for TLS; loopback is this machine (RFC 8252). What a proxy makes of it is no matter."""
    program = Program.of(sqlite_stand)
    for base_url, status in (("http://exchange.test", 400), ("https://exchange.test/", 200)):
        settings = dataclasses.replace(sqlite_stand.settings, base_url=base_url)
        app = create_app(dataclasses.replace(sqlite_stand.market, settings=settings))
        with httpx.Client(transport=httpx.WSGITransport(app=app), base_url="http://inside.test") as proxy:
            form, login = {"grant_type": "client_credentials"}, (program.client_id, program.secret or "")
            reply = proxy.post("/oauth/token", data=form, auth=login)
            assert reply.status_code == status, reply.text
            if status == 400:
                assert reply.json()["error"] == "insecure_transport"
            else:
                bearer = {"Authorization": f"Bearer {reply.json()['access_token']}"}
                assert proxy.get("/v1/whoami", headers=bearer).status_code == 200
                assert claims(reply.json()["access_token"])["aud"] == "https://exchange.test"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("EXCHANGE_ACCESS_TOKEN_S", "901"),
        ("EXCHANGE_ACCESS_TOKEN_S", "0"),
        ("EXCHANGE_AUTHORIZATION_DAYS", "0"),
        ("EXCHANGE_AUTHORIZATION_DAYS", "366"),
    ],
)
def test_long_tokens_cannot_be_configured(sqlite_stand: Stand, variable: str, value: str) -> None:
    with pytest.raises(SettingsError, match=variable):
        Settings.from_env({**sqlite_stand.environ, variable: value})


def test_every_endpoint_is_described_as_it_answers(sqlite_stand: Stand) -> None:
    """All that the metadata names, with the content types that come."""
    stand, program = sqlite_stand, Program.of(sqlite_stand)
    paths = stand.http.get("/openapi.json").json()["paths"]
    told = stand.http.get("/.well-known/oauth-authorization-server").json()
    named = {value.removeprefix(told["issuer"]) for name, value in told.items() if name.endswith("_endpoint")}
    named |= {told["jwks_uri"].removeprefix(told["issuer"]), "/.well-known/oauth-authorization-server"}
    assert {path for path in paths if path.startswith(("/oauth", "/.well-known"))} == named
    served = {
        "/oauth/token": program.token("client_credentials"),
        "/oauth/device": Program(stand, CLI).send("/oauth/device"),
        "/oauth/revoke": program.send("/oauth/revoke", token="x"),
        "/oauth/introspect": program.send("/oauth/introspect", token="x"),
        "/oauth/jwks": stand.http.get("/oauth/jwks"),
        "/.well-known/oauth-authorization-server": stand.http.get("/.well-known/oauth-authorization-server"),
    }
    for path, reply in served.items():
        (operation,) = paths[path].values()
        ((kind, content),) = operation["responses"]["200"]["content"].items()
        assert (reply.status_code, reply.headers["Content-Type"]) == (200, kind), path
        assert set(content["schema"]["required"]) <= set(reply.json()), path
    for path in ("/oauth/token", "/oauth/device", "/oauth/revoke", "/oauth/introspect"):
        body = paths[path]["post"]["requestBody"]["content"]
        assert list(body) == ["application/x-www-form-urlencoded"]
        wrong = stand.http.post(path, json={"grant_type": "client_credentials", "token": "x"})
        assert wrong.status_code in (400, 401)
        assert wrong.headers["Content-Type"] in paths[path]["post"]["responses"]["400"]["content"]
    asked = {one["name"] for one in paths["/oauth/authorize"]["get"]["parameters"]}
    assert {"client_id", "redirect_uri", "code_challenge", "code_challenge_method", "state"} <= asked
    assert list(paths["/oauth/authorize"]) == ["get"], "the form of the page is no door of the API"
