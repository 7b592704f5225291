"""What somebody without an account, or with a client of another organisation, cannot do to others."""

from __future__ import annotations

from contextlib import closing

import pytest

from exchange.authorizations import MOST_STANDING
from exchange.config import Settings
from exchange.web.limits import RequestLimits
from tests.exchange.oauth.program import CLI, REDIRECT, Program, refused
from tests.market.browser import member
from tests.market.stand import Stand, problem


def limited(stand: Stand) -> Stand:
    """Four requests a second for each caller and ten for each network, by a clock that stands still."""
    limits = RequestLimits(Settings(rate_of_caller=4, rate_of_network=10))
    limits.of_caller.clock = limits.of_network.clock = lambda: 1000.0
    stand.app.extensions["limits"] = limits
    return stand


@pytest.mark.parametrize(
    "wrong", [{}, {"response_type": "x"}, {"code_challenge": None}, {"scope": "zzz"}, {"scope": "account"}]
)
def test_a_client_of_another_organisation_redirects_nobody(
    sqlite_stand: Stand, wrong: dict[str, str | None]
) -> None:
    stand = sqlite_stand
    other, own = (Program.of(stand, who, redirect_uris=[REDIRECT]) for who in ("other", "buyer"))
    with closing(member(stand)) as ada:
        reply = other.authorize(ada.http, **wrong)
        assert (reply.status_code, reply.headers.get("Location")) == (422, None)
        if wrong:
            assert own.authorize(ada.http, **wrong).headers["Location"].startswith(REDIRECT)


@pytest.mark.parametrize("path", ["token", "device", "revoke", "introspect"])
def test_a_wrong_request_counts_for_ten(sqlite_stand: Stand, path: str) -> None:
    stand = limited(sqlite_stand)
    before = len(stand.entries(kind="token.refused"))
    sent = [stand.http.post(f"/oauth/{path}", data={"client_id": "nobody"}) for _ in range(12)]
    assert [reply.status_code == 429 for reply in sent] == [False] * 10 + [True] * 2
    assert len(stand.entries(kind="token.refused")) - before == 10


def test_a_client_that_proved_itself_has_its_own_limit(sqlite_stand: Stand) -> None:
    first, second = Program.of(sqlite_stand), Program.of(sqlite_stand)
    limited(sqlite_stand)
    statuses = [first.token("client_credentials").status_code for _ in range(41)]
    assert statuses == [200] * 40 + [429]
    assert second.token("client_credentials").status_code == 200


def test_a_client_asks_for_so_many_scopes_and_no_more(sqlite_stand: Stand) -> None:
    program = Program.of(sqlite_stand)
    for number in range(MOST_STANDING):
        program.alone(f"rho:0.{number + 1:03d}")
    refused(program.token("client_credentials", scope="rho:0.999"), "invalid_scope")
    assert program.alone("rho:0.001"), "one that it has asked for before"
    held = sqlite_stand.get("buyer", "/v1/authorizations").json()["items"]
    assert len(held) == MOST_STANDING


def test_what_a_client_does_for_itself_is_stopped_with_the_client(sqlite_stand: Stand) -> None:
    with closing(member(sqlite_stand, admin=True)) as ada:
        Program.of(sqlite_stand).alone()
        assert "revoke the client to stop it" in ada.get("/programs").text


def test_a_link_on_another_site_tries_no_code(sqlite_stand: Stand) -> None:
    started = Program(sqlite_stand, CLI).device()
    with closing(member(sqlite_stand)) as ada:
        there = {"Sec-Fetch-Site": "cross-site"}
        for _ in range(6):
            page = ada.http.get("/device?user_code=BCDF-BCDF", headers=there)
            assert 'value="BCDF-BCDF"' in page.text
        assert sqlite_stand.entries(kind="user_code.refused") == []
        right = ada.http.get(f"/device?user_code={started['user_code']}", headers=there).text
        assert "Let “" not in right
        assert "Let “" in ada.post("/device", user_code=started["user_code"]).text


def test_wrong_codes_of_one_organisation_stop_nobody_of_another(
    sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exchange.operations.authorizing._MOST_TRIES_OF_ALL", 2)
    with (
        closing(member(sqlite_stand)) as ada,
        closing(member(sqlite_stand, login="bo@acme.example")) as bo,
        closing(member(sqlite_stand, "other", "gil@globex.example")) as gil,
    ):
        wrong = {"user_code": "BCDF-BCDF"}
        assert [ada.post("/device", **wrong).status_code for _ in range(3)] == [404, 404, 429]
        assert bo.post("/device", **wrong).status_code == 429
        assert gil.post("/device", **wrong).status_code == 404


def test_an_operator_stops_a_program_of_anybodys_and_it_is_told(sqlite_stand: Stand) -> None:
    stand, program = sqlite_stand, Program.of(sqlite_stand)
    token = program.alone()
    listed = stand.get("operator", "/v1/clients?org=acme").json()["items"]
    assert [one["client_id"] for one in listed] == [program.client_id]
    assert "secret" not in str(listed)
    (looked,) = stand.entries(kind="clients.listed")
    assert looked.document["object"]["id"] == stand.orgs["buyer"]
    assert looked.document["actor"]["org"] == stand.orgs["operator"]
    for _ in range(2):
        gone = stand.call("operator", "DELETE", f"/v1/clients/{program.client_id}")
        assert gone.status_code == 200, gone.text
    problem(stand.get(token, "/v1/whoami"), 401, "token_unknown")
    ends = [one.document["actor"]["org"] for one in stand.entries(kind="client.revoked")]
    assert ends == [stand.orgs["operator"]] * 2
    told = [
        one["subject"]
        for one in stand.get("buyer", "/v1/notifications").json()["items"]
        if one["kind"] == "client.revoked"
    ]
    assert told == [program.client_id], "once, though it was ended again"
    assert stand.broken_laws() == []


def test_nobody_else_looks_at_clients_of_others_and_own_looks_are_no_entries(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    Program.of(stand).alone()
    for who in ("other", "provider", "officer"):
        problem(stand.get(who, "/v1/clients?org=acme"), 403, "role_missing")
        assert stand.get(who, "/v1/clients").json()["items"] == []
    assert len(stand.get("buyer", "/v1/clients?org=acme").json()["items"]) == 1
    stand.call(
        "buyer", "DELETE", f"/v1/clients/{stand.get('buyer', '/v1/clients').json()['items'][0]['client_id']}"
    )
    assert stand.entries(kind="clients.listed") == []
    kinds = {one["kind"] for one in stand.get("buyer", "/v1/notifications").json()["items"]}
    assert "client.revoked" not in kinds, "who ended it knows"


def test_an_operator_sees_and_ends_no_authorization_of_others(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    Program.of(stand).alone()
    held = stand.get("buyer", "/v1/authorizations").json()["items"][0]["authorization"]
    assert stand.get("operator", "/v1/authorizations").json()["items"] == []
    problem(stand.call("operator", "DELETE", f"/v1/authorizations/{held}"), 404, "not_found")
