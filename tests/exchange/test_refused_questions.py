"""Bad questions: each a clear problem, one entry in the log, nothing charged - on both databases."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.market import sample
from tests.market.refusals import Case, check
from tests.market.stand import Stand, problem

ASK = {"dataset": sample.SLUG, "sql": sample.COUNT}


def quote(body: object, who: str = "buyer") -> Any:
    return lambda stand: stand.post(who, "/v1/quotes", body)


def run(body: object, who: str = "buyer", key: str | None = None) -> Any:
    return lambda stand: stand.post(who, "/v1/queries", body, key=key)


def raw(content: bytes, path: str = "/v1/quotes", **headers: str) -> Any:
    sent = {"Content-Type": "application/json", **headers}
    return lambda stand: stand.call("buyer", "POST", path, content=content, headers=sent)


def ask(**changes: Any) -> dict[str, Any]:
    return {name: value for name, value in {**ASK, "rho": "0.01", **changes}.items() if value is not None}


def request(**changes: Any) -> Any:
    return lambda stand: stand.request("stranger", **changes)


def foreign_grant(stand: Stand) -> httpx.Response:
    grant = stand.get("other", "/v1/grants").json()["items"][0]["grant"]
    return stand.quote(grant=grant)


def foreign_quote(stand: Stand) -> httpx.Response:
    return stand.post("buyer", "/v1/queries", {"quote": stand.quote("other").json()["quote"]})


def expired_quote(stand: Stand) -> httpx.Response:
    made = stand.quote().json()["quote"]
    stand.clock.advance(minutes=15)
    return stand.post("buyer", "/v1/queries", {"quote": made})


def reused(path: str) -> Any:
    """A key that a quote was asked under comes back with another body, or at another door."""

    def act(stand: Stand) -> httpx.Response:
        key = f"reused {path}"
        stand.post("buyer", "/v1/quotes", ask(sql=sample.PUBLIC), key=key)
        return stand.post("buyer", path, ask(), key=key)

    return act


def allowance(stand: Stand) -> httpx.Response:
    return stand.run(rho="0.02", plan="taste")


DEEP = b'{"dataset": ' + b"[" * 40 + b"]" * 40 + b"}"
BOTTOMLESS = b'{"dataset": ' + b"[" * 50_000 + b"]" * 50_000 + b"}"
NUL = json.dumps(ask(sql="select count(*) as n from rides where zone = 'a\0'")).encode()
SURROGATE = b'{"dataset": "city/rides", "sql": "select \\ud800", "rho": "0.01"}'

CASES = [
    # what may not be asked
    Case("raw rows", quote(ask(sql="select rider\nfrom rides")), 422, "raw_rows", (("category", "sql"),)),
    Case("run raw rows", run(ask(sql="select rider from rides")), 422, "raw_rows", (("line", 1),)),
    Case("no sql", quote(ask(sql="select")), 422, "syntax"),
    Case("sql of 65 KiB", quote(ask(sql="select 1 -- " + "x" * 65_536)), 422, "too_long"),
    Case("too much rho for one query", quote(ask(rho="1.5")), 422, "rho_too_large"),
    # who may not ask
    Case("no grant", quote(ask(), "stranger"), 403, "grant_missing"),
    Case("run without a grant", run(ask(), "stranger"), 403, "grant_missing"),
    Case("a grant of another", foreign_grant, 403, "grant_missing"),
    Case("an unknown grant", quote(ask(grant="grt_0")), 403, "grant_missing"),
    Case("no grant under that plan", quote(ask(plan="none")), 403, "grant_missing"),
    Case("an unknown dataset", quote(ask(dataset="city/none")), 404, "dataset_not_found"),
    Case(
        "wrong purpose",
        request(purpose="advertising"),
        403,
        "purpose_not_allowed",
        (("category", "licence"),),
    ),
    Case("no purpose at all", request(purpose="Two Words"), 403, "purpose_not_allowed"),
    Case("wrong territory", request(territory="CN"), 403, "territory_not_allowed"),
    Case("no territory at all", request(territory="Atlantis"), 403, "territory_not_allowed"),
    Case("licence not accepted", request(accept_licence=False), 403, "licence_not_accepted"),
    Case("another text accepted", request(licence_sha256="0" * 64), 403, "licence_not_accepted"),
    Case("an unknown plan", request(plan="none"), 404, "not_found"),
    # money and budget
    Case("empty wallet", run(ask(), "poor"), 402, "payment_required"),
    Case("dearer than max_price", run(ask(max_price="0.24")), 409, "limit_exceeded"),
    Case("dearer than max_rho", run(ask(max_rho="0.0099")), 409, "limit_exceeded"),
    Case("a limit rounds down", run(ask(rho="0.010000001", max_rho="0.0100000009")), 409, "limit_exceeded"),
    Case("max_price is no amount", run(ask(max_price="0.001")), 422, "amount_invalid"),
    Case("max_price is no number", run(ask(max_price="much")), 422, "amount_invalid"),
    Case("max_rho is no number", run(ask(max_rho="much")), 422, "request_invalid"),
    # quotes and keys
    Case("an unknown quote", run({"quote": "quo_0"}), 404, "quote_missing"),
    Case("a quote of another", foreign_quote, 404, "quote_missing"),
    Case("an expired quote", expired_quote, 410, "quote_expired"),
    Case("a quote and a question", run({"quote": "quo_0", "sql": "select 1"}), 422, "request_invalid"),
    Case("neither quote nor question", run({}), 422, "request_invalid"),
    Case("key reused for a quote", reused("/v1/quotes"), 409, "key_reused"),
    Case("key reused for a query", reused("/v1/queries"), 409, "key_reused"),
    Case("a key of 201 characters", run(ask(), key="k" * 201), 422, "request_invalid"),
    # bodies
    Case("malformed JSON", raw(b'{"dataset":'), 422, "request_invalid"),
    Case("a list", raw(b"[1]"), 422, "request_invalid"),
    Case("no JSON type", raw(b"{}", **{"Content-Type": "text/plain"}), 422, "request_invalid"),
    Case("bytes that are no text", raw(b'{"dataset": "\xff"}'), 422, "request_invalid"),
    Case("nested", raw(DEEP), 422, "request_invalid"),
    Case("nested without end", raw(BOTTOMLESS), 422, "request_invalid"),
    Case("NUL", raw(NUL), 422, "request_invalid"),
    Case("half a character", raw(SURROGATE), 422, "request_invalid"),
    Case("too large a body", raw(b" " * (1 << 20) + b"{} "), 413, "too_large"),
    Case("unknown field", quote(ask(rhoo="0.01")), 422, "request_invalid"),
    Case("missing field", quote({"sql": "select 1", "rho": 1}), 422, "request_invalid"),
    Case("wrong kind of field", quote(ask(sql=["select 1"])), 422, "request_invalid"),
    Case("a truth for a number", quote(ask(rho=True)), 422, "request_invalid"),
    # amounts
    Case("no amount", quote(ask(rho=None)), 422, "request_invalid"),
    Case("two amounts", quote(ask(epsilon=1)), 422, "request_invalid"),
    Case("rho is negative", quote(ask(rho="-0.01")), 422, "request_invalid"),
    Case("rho is NaN", raw(json.dumps(ask(rho=float("nan"))).encode()), 422, "request_invalid"),
    Case("rho is infinite", raw(json.dumps(ask(rho=float("inf"))).encode()), 422, "request_invalid"),
    Case("rho is huge", quote(ask(rho=10**400)), 422, "request_invalid"),
    Case("rho is no number", quote(ask(rho="much")), 422, "request_invalid"),
    Case("rho is nothing", quote(ask(rho="0")), 422, "request_invalid"),
    Case("epsilon is nothing", quote(ask(rho=None, epsilon=0)), 422, "request_invalid"),
    Case("epsilon is huge", quote(ask(rho=None, epsilon=1e308)), 422, "rho_too_large"),
    Case("error names two columns", quote(ask(rho=None, error={"a": 1, "b": 2})), 422, "request_invalid"),
    Case("error is nothing", quote(ask(rho=None, error={"n": 0})), 422, "request_invalid"),
    Case("error is tiny", quote(ask(rho=None, error={"n": 1e-300})), 422, "budget_invalid"),
    Case("unknown option", quote(ask(options={"fast": True})), 422, "request_invalid"),
    Case("option of another kind", quote(ask(options={"max_groups": "3"})), 422, "request_invalid"),
    Case("option out of range", quote(ask(options={"max_groups": 0})), 422, "option_invalid"),
    Case("unknown strategy", quote(ask(options={"strategy": "luck"})), 422, "option_invalid"),
    Case("strategy of another kind", quote(ask(options={"strategy": 1})), 422, "request_invalid"),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_bad_question_costs_nothing_and_is_logged(shared_stand: Stand, case: Case) -> None:
    check(shared_stand, case)


def test_refusals_name_the_place_and_the_next_step(shared_stand: Stand) -> None:
    told = shared_stand.quote(sql="select count(*) as n,\n       sum(zone) as s from rides").json()
    assert (told["line"], told["column"], told["category"]) == (2, 12, "sql")
    assert told["nearest"] == "SELECT count(*) AS n, count(zone) AS s FROM rides"
    assert shared_stand.quote(sql=told["nearest"]).status_code == 201
    price = shared_stand.run("poor").json()
    assert price["price"]["amount_minor"] == 25
    assert price["available"]["amount_minor"] == 0
    assert "wallet top-up" in price["hint"]


def test_an_allowance_ends_before_the_budget_does(stand: Stand) -> None:
    assert stand.request(plan="taste").status_code == 201
    told = check(stand, Case("allowance", allowance, 409, "budget_exhausted", (("remaining", 15_000_000),)))
    assert "allowance" in told["detail"]
    assert stand.run(rho="0.015", plan="taste").status_code == 200
    told = check(
        stand, Case("used up", lambda s: s.run(sql=sample.BY_ZONE, plan="taste"), 409, "budget_exhausted")
    )
    assert told["remaining"] == 0


def test_a_budget_of_many_buyers_ends_for_all(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    assert stand.run("buyer", rho="1.0").status_code == 200
    assert stand.run("other", rho="1.0").status_code == 200
    fresh = stand.request(plan="taste").json()["grant"]["grant"]
    asked = {"sql": sample.BY_ZONE, "grant": fresh}
    case = Case("exhausted", lambda s: s.run(**asked), 409, "budget_exhausted", (("remaining", 0),))
    assert "budget of the dataset" in check(stand, case)["detail"]
    repeated = stand.run("buyer", rho="1.0").json()
    assert repeated["repeated"] is True, "what was bought stays bought"


def test_a_withdrawn_listing_answers_nothing_new(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    bought = stand.run().json()
    quoted = stand.quote(sql=sample.BY_ZONE).json()["quote"]
    assert stand.post("provider", f"/v1/datasets/{sample.SLUG}/withdraw").json()["state"] == "withdrawn"
    gone = (404, "dataset_not_found")
    check(stand, Case("quote", quote(ask()), *gone))
    check(stand, Case("run", run(ask(sql=sample.BY_ZONE)), *gone))
    check(stand, Case("quoted before", run({"quote": quoted}), *gone))
    check(stand, Case("request", request(), *gone))
    check(stand, Case("page", lambda s: s.get("buyer", f"/v1/datasets/{sample.SLUG}"), *gone))
    assert stand.get("buyer", "/v1/datasets").json()["items"] == []
    assert stand.get("provider", f"/v1/datasets/{sample.SLUG}").json()["state"] == "withdrawn"
    assert stand.get("officer", f"/v1/datasets/{sample.SLUG}").json()["state"] == "withdrawn"
    assert stand.get("buyer", f"/v1/queries/{bought['query']}/result").status_code == 200
    assert stand.get("buyer", "/v1/grants").status_code == 200


def test_a_licence_that_ended_stops_questions_and_fetching(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    until = (stand.clock().date().replace(year=stand.clock().year + 1)).isoformat()
    stand.publish(manifest=sample.manifest(licence=sample.licence(valid_until=until)))
    told = check(stand, Case("not accepted", quote(ask()), 403, "licence_not_accepted"))
    assert "new licence version" in told["detail"]
    assert stand.request().json()["repeated"] is False
    bought = stand.run(key="bought").json()
    where = f"/v1/queries/{bought['query']}"
    assert stand.get("buyer", f"{where}/result").status_code == 200
    stand.clock.advance(days=366)
    ended = (403, "licence_expired", (("clause", f"valid_until: {until}T00:00:00+00:00"),))
    check(stand, Case("quote", quote(ask()), *ended))
    check(stand, Case("run", run(ask(sql=sample.BY_ZONE)), *ended))
    check(stand, Case("fetch", lambda s: s.get("buyer", f"{where}/result"), *ended))
    assert stand.get("buyer", f"{where}/receipt").json()["leaf"] == bought["receipt"]["leaf"]


def test_a_licence_limits_questions_and_rho(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    terms = sample.licence(query_count=2, max_rho_per_query="0.05")
    stand.publish(manifest=sample.manifest(licence=terms))
    assert stand.request().status_code == 201
    check(stand, Case("rho", run(ask(rho="0.06")), 403, "rho_not_allowed"))
    assert stand.run().status_code == 200
    assert stand.run(sql=sample.BY_ZONE).status_code == 200
    check(stand, Case("count", run(ask(sql=sample.MINUTES)), 403, "quota_exceeded"))
    assert stand.run().json()["repeated"] is True


def test_a_quote_does_not_survive_a_new_version(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    quoted = stand.quote().json()["quote"]
    stand.publish(files=sample.files(seed=9))
    told = check(stand, Case("quote", run({"quote": quoted}), 410, "quote_expired"))
    assert "new version" in told["detail"]


def test_a_revoked_token_stops_between_plan_and_reservation(
    sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The token is checked again inside the reserving transaction: nothing is held for a revoked one."""
    from exchange import identity
    from exchange.operations import administering, querying, quoting

    stand = sqlite_stand
    token = administering.create_token(stand.market, org="acme", role=identity.Role.BUYER)
    planned = quoting.logged_terms

    def revoking(*given: Any, **named: Any) -> Any:
        terms = planned(*given, **named)
        with stand.market.store.engine.begin() as connection:
            table = identity.token
            connection.execute(
                table.update().where(table.c.id == token["token_id"]).values(revoked_at="2026")
            )
        return terms

    monkeypatch.setattr(querying, "logged_terms", revoking)
    case = Case("revoked", lambda s: s.run(token["token"]), 401, "token_unknown")
    check(stand, case)
    assert stand.states() == []


def test_a_defect_says_nothing_and_moves_nothing(
    sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    from exchange.operations import quoting

    def defect(*_: object) -> Any:
        raise ZeroDivisionError("cell value 4711")

    monkeypatch.setattr(quoting, "terms_of", defect)
    books = sqlite_stand.books()
    told = problem(sqlite_stand.quote(), 500, "server_error")
    assert "4711" not in json.dumps(told)
    assert "ZeroDivision" not in json.dumps(told)
    assert sqlite_stand.books() == books
