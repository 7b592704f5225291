"""What a token's scope narrows: datasets, purposes, doors, and rho in all, however many ask at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import text

from exchange.errors import ScopeInvalid
from exchange.scopes import Scopes
from tests.exchange.oauth.program import REDIRECT, Program
from tests.market import sample
from tests.market.stand import Stand, problem


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("account", "account"),
        ("ask", "ask"),
        ("rho:1.5", "ask rho:1.5"),
        ("rho:0.000000001", "ask rho:0.000000001"),
        ("rho:0", "ask rho:0"),
        ("rho:10", "ask rho:10"),
        ("purpose:b dataset:x/y purpose:a ask", "ask dataset:x/y purpose:a purpose:b"),
    ],
)
def test_a_scope_has_one_spelling(text: str, canonical: str) -> None:
    assert str(Scopes.parse(text)) == canonical
    assert Scopes.parse(canonical) == Scopes.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            " ",
            "ask ",
            "ask\u00a0rho:1",
            "account ask",
            "account rho:1",
            "admin",
            "rho",
            "rho:",
            "rho:1.0000000001",
        ),
        *(
            "rho:1 rho:2",
            "rho:01",
            "rho:1000000",
            "rho:+1",
            "rho:\u0661",
            "dataset:x",
            "dataset:X/Y",
            "dataset:x/y/z",
        ),
        *("dataset:*", "purpose:", "purpose:A", "ask:all", "x" * 2001, " ".join(["ask"] * 51)),
    ],
)
def test_a_scope_that_is_not_written_so_is_refused(text: str) -> None:
    with pytest.raises(ScopeInvalid) as refused:
        Scopes.parse(text)
    assert text in ("", " ", "rho", "rho:", "purpose:") or text not in str(refused.value)


ORDERED = [
    "rho:0.5 dataset:x/y",
    "rho:1 dataset:x/y",
    "dataset:x/y",
    "dataset:x/y dataset:x/z",
    "ask",
    "account",
]


def test_what_is_within_what() -> None:
    scopes = [Scopes.parse(text) for text in ORDERED]
    for low, smaller in enumerate(scopes):
        for high, larger in enumerate(scopes):
            assert smaller.within(larger) == (low <= high)
    assert not Scopes.parse("purpose:a").within(Scopes.parse("dataset:x/y"))


def spent(stand: Stand) -> int:
    return int(stand.budget()["rho_nano_spent"])


@pytest.mark.parametrize("scope", ["dataset:city/trams", "purpose:marketing", "rho:0.009999999", "rho:0"])
def test_a_token_asks_within_its_scope_alone(stand: Stand, scope: str) -> None:
    token = Program.of(stand).alone(scope)
    before = stand.books()
    for reply in (stand.quote(token), stand.run(token), stand.run(token, key="k1")):
        told = problem(reply, 403, "scope_missing")
        assert told["hint"]
        assert 'error="insufficient_scope"' in reply.headers["WWW-Authenticate"]
        last = stand.entries()[-1].document
        assert (last["code"], last["actor"]["auth"]) == ("scope_missing", "oauth")
        assert last["actor"]["ref"].startswith("aut_")
    assert stand.books() == before


def test_a_quote_made_without_limits_is_not_run_past_them(stand: Stand) -> None:
    quote = stand.quote().json()["quote"]
    token = Program.of(stand).alone("rho:0.005")
    before = stand.books()
    problem(stand.post(token, "/v1/queries", {"quote": quote}), 403, "scope_missing")
    assert stand.books() == before


def test_rho_is_counted_over_the_life_of_an_authorization(stand: Stand) -> None:
    program = Program.of(stand)
    assert stand.run(program.alone("rho:0.02")).status_code == 200
    stand.clock.advance(minutes=20)
    token = program.alone("rho:0.02")
    again = stand.run(token).json()
    assert again["repeated"], "a repeat is free"
    assert stand.run(token, sql=_other(1)).status_code == 200
    problem(stand.run(token, sql=_other(2)), 403, "scope_missing")
    assert stand.run(token, sql=sample.PUBLIC).status_code == 200, "public tables cost no rho"


def _other(number: int) -> str:
    """Another question that costs as much."""
    return f"select count(*) as n from rides where minutes > {number + 1}"


def test_a_clients_limit_holds_for_all_its_tokens(stand: Stand) -> None:
    program = Program.of(stand, scope="rho:0.02")
    for number, scope in enumerate(("rho:0.01", "rho:0.015")):
        assert stand.run(program.alone(scope), sql=_other(number)).status_code == 200
    problem(stand.run(program.alone("rho:0.012"), sql=_other(3)), 403, "scope_missing")


def test_many_questions_at_once_spend_no_more_than_the_limit(stand: Stand) -> None:
    """Twelve threads of two programs' tokens, each question 0.01 of a limit of 0.035: three pass."""
    program = Program.of(stand, scope="rho:0.035")
    tokens = [program.alone("rho:0.034"), program.alone("rho:0.035")]

    def ask(number: int) -> int:
        return stand.run(tokens[number % 2], sql=_other(number)).status_code

    with ThreadPoolExecutor(6) as pool:
        codes = list(pool.map(ask, range(12)))
    assert sorted(set(codes)) == [200, 403]
    assert codes.count(200) == 3
    assert Decimal(spent(stand)) / 10**9 == Decimal("0.03")
    assert stand.broken_laws() == []


def test_an_authorization_that_ends_while_a_question_is_planned_reserves_nothing(
    sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The token passed the door; it is looked at again where money and rho are held."""
    from exchange.operations import querying

    stand, program = sqlite_stand, Program.of(sqlite_stand)
    token, before = program.alone(), sqlite_stand.books()
    planned = querying._terms

    def then_revoked(*given: Any) -> Any:
        found = planned(*given)
        path = f"/v1/clients/{program.client_id}"
        with ThreadPoolExecutor(1) as elsewhere:
            assert elsewhere.submit(stand.call, "buyer", "DELETE", path).result().status_code == 200
        return found

    monkeypatch.setattr(querying, "_terms", then_revoked)
    problem(stand.run(token), 401, "token_unknown")
    assert stand.books() == before


BREAKS = {
    "UPDATE query SET authorization_id = NULL": "was not asked under the authorization",
    "UPDATE query SET authorization_id = 'aut_0'": "was asked by another organisation",
    "UPDATE oauth_authorization SET scope = 'ask rho:0.009'": "has spent more rho",
    "UPDATE oauth_authorization SET scope = 'ask dataset:city/trams'": "for another dataset",
    "UPDATE oauth_authorization SET scope = 'ask purpose:marketing'": "for another purpose",
    "UPDATE oauth_authorization SET scope = 'much'": "cannot be read",
    "UPDATE oauth_client SET scope = 'ask rho:0.019'": "has spent more rho",
}


@pytest.mark.parametrize("statement", BREAKS)
def test_a_law_compares_what_was_asked_with_the_scopes(stand: Stand, statement: str) -> None:
    program = Program.of(stand, scope="rho:0.02")
    for number, scope in enumerate(("rho:0.01", "rho:0.02")):
        assert stand.run(program.alone(scope), sql=_other(number)).status_code == 200
    assert stand.run(sql=_other(3)).status_code == 200
    assert stand.broken_laws() == []
    with stand.market.store.engine.begin() as connection:
        connection.execute(text(statement))
    found = stand.broken_laws()
    assert any(one.startswith("L16") and BREAKS[statement] in one for one in found), found


OPEN = {
    ("GET", "/v1/whoami"),
    ("GET", "/v1/datasets"),
    ("GET", "/v1/datasets/<path:dataset>"),
    ("GET", "/v1/datasets/<path:dataset>/licence"),
    ("POST", "/v1/quotes"),
    ("POST", "/v1/queries"),
    ("GET", "/v1/queries"),
    ("GET", "/v1/queries/<query_id>"),
    ("DELETE", "/v1/queries/<query_id>"),
    ("GET", "/v1/queries/<query_id>/result"),
    ("GET", "/v1/queries/<query_id>/receipt"),
}


def test_a_token_that_may_ask_opens_no_other_door(shared_sqlite_stand: Stand) -> None:
    stand = shared_sqlite_stand
    token = Program.of(stand).alone("ask")
    tried = 0
    for rule in stand.app.url_map.iter_rules():
        for method in sorted((rule.methods or set()) - {"OPTIONS", "HEAD"}):
            if not rule.rule.startswith("/v1") or rule.rule == "/v1/webhooks/stripe":
                continue
            if (method, rule.rule) in OPEN:
                continue
            path = rule.rule.replace("<path:dataset>", sample.SLUG)
            path = "".join(
                "x" if part.startswith("<") else part for part in path.replace("/", "\0/\0").split("\0")
            )
            problem(stand.call(token, method, path), 403, "scope_missing")
            tried += 1
    assert tried > 50


def test_a_token_for_everything_opens_what_its_role_does(sqlite_stand: Stand) -> None:
    token = Program.of(sqlite_stand, scope="account").alone()
    assert sqlite_stand.get(token, "/v1/wallet").status_code == 200
    made = sqlite_stand.post(token, "/v1/clients", {"name": "Second", "kind": "public"})
    told = problem(made, 403, "role_missing")
    assert "a client does not manage clients" in told["detail"]
    problem(sqlite_stand.get(token, "/v1/audit/entries"), 403, "role_missing")


def test_answers_of_other_datasets_are_not_read(stand: Stand) -> None:
    asked = stand.run().json()["query"]
    program = Program.of(stand)
    mine, other = program.alone(f"dataset:{sample.SLUG}"), program.alone("dataset:city/trams")
    for path in (f"/v1/queries/{asked}", f"/v1/queries/{asked}/result", f"/v1/queries/{asked}/receipt"):
        assert stand.get(mine, path).status_code == 200
        problem(stand.get(other, path), 403, "scope_missing")
    assert stand.call(mine, "DELETE", f"/v1/queries/{asked}").json()["state"] == "succeeded"
    problem(stand.call(other, "DELETE", f"/v1/queries/{asked}"), 403, "scope_missing")
    assert [one["query"] for one in stand.get(mine, "/v1/queries").json()["items"]] == [asked]
    assert stand.get(other, "/v1/queries").json()["items"] == []


def test_the_grant_is_chosen_for_the_tokens_purpose(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    assert stand.request(plan="pay", purpose="journalism").status_code == 201
    program = Program.of(stand)
    for purpose in ("research", "journalism"):
        asked = stand.run(program.alone(f"purpose:{purpose}"), sql=_other(len(purpose))).json()["query"]
        assert stand.get("buyer", f"/v1/queries/{asked}").json()["purpose"] == purpose


def test_nobody_creates_clients_for_another_organisation(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    for who in ("operator", "other"):
        sent = {"name": "Report", "kind": "confidential", "org": "acme"}
        problem(stand.post(who, "/v1/clients", sent), 422, "request_invalid")
    assert stand.get("buyer", "/v1/clients").json()["items"] == []
    assert stand.get(Program.of(stand, "operator").alone(), "/v1/whoami").json()["name"] == "house"


@pytest.mark.parametrize(
    "uri",
    [
        *(
            "http://program.test/",
            "javascript:alert(1)",
            "custom:back",
            "https:///x",
            "https://a.test/#x",
            "//a.test/",
        ),
        *("https://u:p@a.test/", "https://a.test\\@b.test/", "https://*.a.test/", "https://a.test/ x", ""),
        *("https://a.test:99999/", "file:///etc/passwd", "https://a.test/" + "x" * 500),
    ],
)
def test_an_address_that_is_no_place_for_codes_is_not_registered(
    shared_sqlite_stand: Stand, uri: str
) -> None:
    sent = {"name": "Report", "kind": "public", "redirect_uris": [uri]}
    told = problem(shared_sqlite_stand.post("other", "/v1/clients", sent), 422, "request_invalid")
    assert "redirect URI" in told["detail"]


@pytest.mark.parametrize(
    "uri", [REDIRECT, "http://127.0.0.1:8123/back", "http://[::1]/", "http://localhost:1/x"]
)
def test_an_address_that_is_one_is(shared_sqlite_stand: Stand, uri: str) -> None:
    sent = {"name": "Report", "kind": "public", "redirect_uris": [uri]}
    made = shared_sqlite_stand.post("other", "/v1/clients", sent)
    assert made.json()["redirect_uris"] == [uri]
