"""Every door of the API: who may pass, and that what is another's looks like what is not there."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest

from exchange import identity
from exchange.identity import Role
from exchange.operations import administering
from exchange.web.auth import SIGNED
from tests.exchange.doors import ASK, DOORS, EVERYBODY, D, Door, things_of
from tests.market import sample
from tests.market.refusals import Case, check
from tests.market.stand import TUS, Stand, problem


@pytest.fixture(scope="module")
def things(shared_stand: Stand) -> dict[str, str]:
    return things_of(shared_stand)


def test_every_door_is_tried(shared_stand: Stand) -> None:
    rules = {
        (method, rule.rule)
        for rule in shared_stand.app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"OPTIONS"}
        if rule.rule.startswith("/v1") and (method != "HEAD" or "GET" not in (rule.methods or set()))
    }
    assert {(door.method, door.rule) for door in DOORS} | {("POST", SIGNED)} == rules


@pytest.mark.parametrize("door", DOORS, ids=str)
def test_the_wrong_role_is_refused_and_logged(
    shared_stand: Stand, things: dict[str, str], door: Door
) -> None:
    for role in sorted(EVERYBODY - door.allowed):
        if door.method == "HEAD":
            assert door.knock(shared_stand, role, **things).status_code == 404
            continue
        reply: Callable[[Stand], httpx.Response] = lambda stand, role=role: door.knock(stand, role, **things)  # type: ignore[misc]  # noqa: E731
        code = door.knock(shared_stand, role, **things).json()["code"] if door.hidden else "role_missing"
        assert code in ("role_missing", "not_found", "request_missing")
        check(shared_stand, Case(role, reply, 404 if door.hidden else 403, code))


@pytest.mark.parametrize("door", [door for door in DOORS if door.method == "GET"], ids=str)
def test_the_right_role_passes(shared_stand: Stand, things: dict[str, str], door: Door) -> None:
    for role in sorted(door.allowed):
        reply = door.knock(shared_stand, role, **things)
        assert reply.status_code == 200, (role, reply.text)


@pytest.mark.parametrize("token", ["missing", "no token", "unknown", "garbled", "expired", "revoked"])
def test_a_token_that_is_not_valid_opens_nothing(
    shared_stand: Stand, things: dict[str, str], token: str
) -> None:
    """Every cause has the same answer, and each attempt is logged without a part of the token."""
    who = {"missing": None, "no token": "not-a-token-of-anybody", "unknown": f"tok_{'0' * 24}.{'A' * 43}"}
    who["garbled"] = shared_stand.tokens["buyer"][:-1] + "~"
    if token in ("expired", "revoked"):
        until = shared_stand.clock() + timedelta(hours=1)
        made = administering.create_token(shared_stand.market, org="acme", role=Role.BUYER, expires=until)
        who[token] = made["token"]
        assert shared_stand.get(made["token"], "/v1/whoami").status_code == 200
        if token == "revoked":
            table = identity.token
            with shared_stand.market.store.engine.begin() as connection:
                ended = table.update().where(table.c.id == made["token_id"]).values(revoked_at="2026")
                connection.execute(ended)
        else:
            shared_stand.clock.advance(hours=2)
    for door in DOORS:
        headers = {**dict(door.headers)}
        if who[token] is not None:
            headers["Authorization"] = f"Bearer {who[token]}"
        sent = {"json": door.body} if door.body is not None else {}
        path = door.path.format(**things)
        before = len(shared_stand.entries())
        reply = shared_stand.http.request(door.method, path, headers=headers, **sent)
        assert reply.headers["WWW-Authenticate"] == 'Bearer realm="exchange"'
        fresh = [r.document for r in shared_stand.entries()[before:]]
        assert [(e["kind"], e["code"]) for e in fresh] == [("token.refused", "token_unknown")]
        if door.method == "HEAD":
            assert reply.status_code == 401
            continue
        told = problem(reply, 401, "token_unknown")
        assert told["detail"] == "the token is missing, unknown, expired or revoked"
        if who[token]:
            assert str(who[token])[-20:] not in json.dumps(fresh)


FOREIGN = [
    ("rival", "HEAD", "/v1/uploads/{upload}", None),
    ("rival", "PATCH", "/v1/uploads/{upload}", None),
    ("rival", "GET", f"{D}/profile", None),
    ("rival", "POST", f"{D}/publish", {"version": "{version}"}),
    ("rival", "POST", f"{D}/deprecate", {"reason": "x"}),
    ("rival", "POST", f"{D}/withdraw", {}),
    ("rival", "GET", "/v1/requests/{request}", None),
    ("rival", "POST", "/v1/requests/{request}/approve", {}),
    ("rival", "POST", "/v1/requests/{request}/decline", {"reason": "no"}),
    ("other", "GET", "/v1/requests/{request}", None),
    ("other", "GET", "/v1/queries/{query}", None),
    ("other", "GET", "/v1/queries/{query}/result", None),
    ("other", "GET", "/v1/queries/{query}/receipt", None),
    ("other", "GET", "/v1/acceptances/{acceptance}", None),
    ("other", "GET", "/v1/acceptances/{acceptance}/receipt", None),
    ("rival", "GET", "/v1/licences/{licence}", None),
    ("stranger", "GET", "/v1/licences/{licence}", None),
    ("rival", "POST", "/v1/licences/{licence}/withdraw", {"reason": "x"}),
    ("rival", "POST", "/v1/licences/{licence}/approve", {}),
    ("other", "DELETE", "/v1/clients/{client}", None),
    ("other", "DELETE", "/v1/authorizations/{authorization}", None),
    ("operator", "DELETE", "/v1/authorizations/{authorization}", None),
    ("provider", "GET", "/v1/queries/{query}/result", None),
    ("other", "POST", "/v1/queries", {"quote": "{quote}"}),
    ("other", "POST", "/v1/quotes", {**ASK, "grant": "{grant}"}),
]
UNKNOWN = {
    "upload": "upl_" + "0" * 24,
    "request": "req_" + "0" * 24,
    "query": "qry_" + "0" * 24,
    "quote": "quo_" + "0" * 24,
    "grant": "grt_" + "0" * 24,
    "licence": "lic_" + "0" * 24,
    "acceptance": "acc_" + "0" * 24,
    "version": "ver_" + "0" * 24,
    "client": "cli_" + "0" * 24,
    "authorization": "aut_" + "0" * 24,
}


def filled(body: Any, ids: dict[str, str]) -> Any:
    if not isinstance(body, dict):
        return body
    return {k: v.format(**ids) if isinstance(v, str) and v.startswith("{") else v for k, v in body.items()}


@pytest.mark.parametrize(("who", "method", "path", "body"), FOREIGN, ids=lambda value: str(value)[:60])
def test_what_is_anothers_looks_like_what_is_not_there(
    shared_stand: Stand, things: dict[str, str], who: str, method: str, path: str, body: Any
) -> None:
    version = shared_stand.get("provider", D).json()["version"]
    headers = {"Upload-Offset": "0", "Content-Type": TUS} if method == "PATCH" else {}

    def knock(ids: dict[str, str]) -> httpx.Response:
        sent = {"json": filled(body, ids)} if body is not None else {}
        target = path.format(**ids)
        if ids is UNKNOWN:
            target = target.replace(sample.SLUG, "city/none")
        return shared_stand.call(who, method, target, headers=headers, **sent)

    before = shared_stand.books()
    foreign, unknown = knock({**things, "version": version}), knock(UNKNOWN)
    assert foreign.status_code == unknown.status_code in (403, 404)
    if method == "HEAD":
        return
    told, expected = foreign.json(), unknown.json()
    assert told.pop("request_id") != expected.pop("request_id")
    assert told == expected
    assert told["code"] in (
        "not_found",
        "request_missing",
        "quote_missing",
        "grant_missing",
        "licence_missing",
    )
    assert shared_stand.books() == before


def test_a_draft_is_seen_by_nobody_else(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    mine = sample.manifest(slug="city/secret", policy=sample.policy(domain="riders:secret"))
    drafted = stand.draft(
        manifest=mine, files={"rides": sample.rides(seed=5), "zones": sample.zones()}
    ).json()
    for who in ("buyer", "rival", "officer"):
        for name in ("city/secret", drafted["dataset"]):
            told = problem(stand.get(who, f"/v1/datasets/{name}"), 404, "dataset_not_found")
            unknown = stand.get(who, "/v1/datasets/city/none").json()
            assert told["detail"] == unknown["detail"]
        assert stand.get(who, "/v1/datasets?q=secret").json()["items"] == []


ODD = ["%00", "a%00b", "%ff%fe", "..", "%2e%2e%2f", "'; DROP TABLE query; --", "x" * 3000, "%F0%9F%98%80"]


@pytest.mark.parametrize("odd", ODD)
def test_odd_names_find_nothing(shared_stand: Stand, odd: str) -> None:
    """Sent with the framework's own client: httpx decodes a path before it reaches the application."""
    before, browser = shared_stand.books(), shared_stand.app.test_client()

    def get(who: str, path: str) -> Any:
        return browser.get(path, headers={"Authorization": f"Bearer {shared_stand.tokens[who]}"})

    names = (
        "/v1/datasets/{}",
        "/v1/datasets/city/{}",
        "/v1/queries/{}",
        "/v1/requests/{}",
        "/v1/queries/{}/result",
    )
    for path in names:
        reply = get("buyer", path.format(odd))
        assert reply.status_code in (200, 308, 404), (path, reply.text)
        if reply.status_code == 404:
            assert reply.content_type == "application/problem+json"
    for path in ("/v1/datasets?q={}", "/v1/datasets?page_token={}", "/v1/requests?state={}"):
        assert get("buyer", path.format(odd)).status_code in (200, 422), path
    for name in ("q", "kind", "since", "page_token", "org"):
        assert get("officer", f"/v1/audit/entries?{name}={odd}").status_code in (200, 422), name
    assert get("officer", f"/v1/audit/entries/{odd}").status_code in (200, 308, 404)
    assert get("officer", f"/v1/audit/journals?ids={odd}").status_code in (200, 422)
    assert browser.get("/v1/whoami", headers={"Authorization": f"Bearer {odd} \xe9"}).status_code == 401
    assert shared_stand.books() == before


PAGES = [
    Case("no number", lambda s: s.get("buyer", "/v1/datasets?limit=x"), 422, "request_invalid"),
    Case("nothing", lambda s: s.get("buyer", "/v1/datasets?limit=0"), 422, "request_invalid"),
    Case("too many", lambda s: s.get("buyer", "/v1/datasets?limit=501"), 422, "request_invalid"),
    Case(
        "no token of ours", lambda s: s.get("buyer", "/v1/datasets?page_token=x"), 422, "page_token_invalid"
    ),
    Case("no time", lambda s: s.get("officer", "/v1/audit/entries?since=soon"), 422, "request_invalid"),
    Case(
        "a time before times",
        lambda s: s.get("officer", "/v1/audit/entries?since=0001-01-01T00:00:00%2B14:00"),
        422,
        "request_invalid",
    ),
    Case(
        "too many journals",
        lambda s: s.get("officer", "/v1/audit/journals?ids=" + ",".join(["a"] * 501)),
        422,
        "request_invalid",
    ),
    Case("an unknown entry", lambda s: s.get("officer", "/v1/audit/entries/evt_0"), 404, "not_found"),
    Case("an unknown page", lambda s: s.get("buyer", "/v1/requests/none"), 404, "request_missing"),
]


@pytest.mark.parametrize("case", PAGES, ids=str)
def test_a_bad_parameter_is_refused(shared_stand: Stand, case: Case) -> None:
    check(shared_stand, case)


def test_other_methods_and_paths_are_told_apart(shared_stand: Stand) -> None:
    problem(shared_stand.call("buyer", "DELETE", "/v1/wallet"), 405, "method_not_allowed")
    problem(shared_stand.get("buyer", "/v1/nothing"), 404, "not_found")
    assert problem(shared_stand.get(None, "/nothing"), 404, "not_found")["hint"]


def test_the_request_id_is_always_ours(shared_stand: Stand) -> None:
    """It enters the public log, where no text of a caller's choice belongs."""
    for given in ("trace-42", "<script>", "a b", "x" * 65):
        reply = shared_stand.get("buyer", "/v1/whoami", headers={"X-Request-Id": given})
        assert re.fullmatch(r"req_[0-9a-f]{16}", reply.headers["X-Request-Id"])


def test_health_readiness_and_description(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    assert stand.get(None, "/healthz").json() == {"status": "ok"}
    described = stand.get(None, "/openapi.json").json()
    for door in DOORS:
        path = door.rule.replace("<path:", "{").replace("<", "{").replace(">", "}")
        operation = described["paths"][path][door.method.lower()]
        assert operation["security"] == [{"token": []}, {"oauth": []}]
        assert operation["summary"]
    asked = described["paths"]["/v1/queries"]["post"]
    assert {"Idempotency-Key", "Prefer"} <= {one["name"] for one in asked["parameters"]}
    assert {"Location", "Retry-After"} == set(asked["responses"]["202"]["headers"])
    assert stand.get("operator", "/v1/whoami").json()["role"] == "operator"
