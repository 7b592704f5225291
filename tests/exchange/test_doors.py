"""Every door of the API: who may pass, and that what is another's looks like what is not there."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx
import pytest

from exchange import identity
from exchange.identity import Role
from exchange.operations import administering
from exchange.web.auth import SIGNED
from settlement import Money
from settlement.payments import top_ups
from tests.market import sample
from tests.market.refusals import Case, check
from tests.market.stand import TUS, Stand, problem

PROVIDER, BUYER, OFFICER, OPERATOR = "provider", "buyer", "officer", "operator"
EVERYBODY = frozenset({PROVIDER, BUYER, OFFICER, OPERATOR})
READERS = frozenset({OFFICER, OPERATOR})
D = f"/v1/datasets/{sample.SLUG}"


@dataclass(frozen=True)
class Door:
    """One door: how to knock, and who may pass. Others find nothing behind a ``hidden`` one."""

    method: str
    rule: str
    path: str
    allowed: frozenset[str]
    body: Any = None
    headers: tuple[tuple[str, str], ...] = ()
    hidden: bool = False

    def __str__(self) -> str:
        return f"{self.method} {self.rule}"

    def knock(self, stand: Stand, who: str | None, **more: Any) -> httpx.Response:
        """Send what the door asks for."""
        sent = {} if self.body is None else {"json": self.body}
        path = self.path.format(**more)
        return stand.call(who, self.method, path, headers=dict(self.headers), **sent)


ASK = {"dataset": sample.SLUG, "sql": sample.COUNT, "rho": "0.01"}
REQUEST = {"plan": "pay", "purpose": "research", "territory": "EU", "accept_licence": True}
ACCEPT = {"purposes": ["research"], "territory": "EU", "licence_sha256": "0" * 64}
DRAFT = {"manifest": sample.manifest(), "files": {"rides": "upl_0", "zones": "upl_0"}}
NAMED = {"legal_name": "Acme", "address": "Street 1", "country": "DE"}
REFUND = {"payment": "pi_0", "amount": "1.00", "currency": "USD", "reason": "x"}
CREDIT = {"org": "acme", "amount": "1.00", "currency": "USD", "reference": "x"}
DOORS = [
    Door("GET", "/v1/whoami", "/v1/whoami", EVERYBODY),
    Door("GET", "/v1/datasets", "/v1/datasets", EVERYBODY),
    Door("POST", "/v1/datasets", "/v1/datasets", frozenset({PROVIDER}), DRAFT),
    Door("GET", "/v1/datasets/<path:dataset>", D, EVERYBODY),
    Door("GET", "/v1/datasets/<path:dataset>/profile", f"{D}/profile", frozenset({PROVIDER}), hidden=True),
    Door(
        "POST", "/v1/datasets/<path:dataset>/publish", f"{D}/publish", frozenset({PROVIDER}), {"version": "x"}
    ),
    Door("POST", "/v1/datasets/<path:dataset>/withdraw", f"{D}/withdraw", frozenset({PROVIDER}), {}),
    Door("POST", "/v1/datasets/<path:dataset>/requests", f"{D}/requests", frozenset({BUYER}), REQUEST),
    Door("GET", "/v1/datasets/<path:dataset>/licence", f"{D}/licence", EVERYBODY),
    Door("GET", "/v1/datasets/<path:dataset>/licence/versions", f"{D}/licence/versions", EVERYBODY),
    Door("GET", "/v1/datasets/<path:dataset>/licence/diff", f"{D}/licence/diff", EVERYBODY),
    Door(
        "POST",
        "/v1/datasets/<path:dataset>/licence/accept",
        f"{D}/licence/accept",
        frozenset({BUYER}),
        ACCEPT,
    ),
    Door("GET", "/v1/licences/templates", "/v1/licences/templates", EVERYBODY),
    Door("GET", "/v1/licences/templates/<name>", "/v1/licences/templates/research", EVERYBODY),
    Door("POST", "/v1/licences/check", "/v1/licences/check", EVERYBODY, {"terms": {"template": "research"}}),
    Door("GET", "/v1/licences/<licence_id>", "/v1/licences/{licence}", EVERYBODY),
    Door(
        "POST",
        "/v1/licences/<licence_id>/withdraw",
        "/v1/licences/{licence}/withdraw",
        frozenset({PROVIDER}),
        {"reason": "x"},
    ),
    Door(
        "POST",
        "/v1/licences/<licence_id>/approve",
        "/v1/licences/{licence}/approve",
        frozenset({PROVIDER, OFFICER}),
        {},
    ),
    Door("GET", "/v1/acceptances/<acceptance_id>", "/v1/acceptances/{acceptance}", frozenset({BUYER})),
    Door(
        "GET",
        "/v1/acceptances/<acceptance_id>/receipt",
        "/v1/acceptances/{acceptance}/receipt",
        frozenset({BUYER, OFFICER}),
    ),
    Door(
        "POST",
        "/v1/acceptances/<acceptance_id>/signature",
        "/v1/acceptances/{acceptance}/signature",
        frozenset({BUYER}),
        {"algorithm": "Ed25519", "public_key": "AA==", "signature": "AA=="},
    ),
    Door("POST", "/v1/uploads", "/v1/uploads", frozenset({PROVIDER}), headers=(("Upload-Length", "3"),)),
    Door("HEAD", "/v1/uploads/<upload>", "/v1/uploads/{upload}", frozenset({PROVIDER}), hidden=True),
    Door(
        "PATCH",
        "/v1/uploads/<upload>",
        "/v1/uploads/{upload}",
        frozenset({PROVIDER}),
        headers=(("Upload-Offset", "0"), ("Content-Type", TUS)),
        hidden=True,
    ),
    Door("GET", "/v1/requests", "/v1/requests", frozenset({PROVIDER, BUYER})),
    Door(
        "GET",
        "/v1/requests/<request_id>",
        "/v1/requests/{request}",
        frozenset({PROVIDER, BUYER}),
        hidden=True,
    ),
    Door(
        "POST", "/v1/requests/<request_id>/approve", "/v1/requests/{open}/approve", frozenset({PROVIDER}), {}
    ),
    Door(
        "POST",
        "/v1/requests/<request_id>/decline",
        "/v1/requests/{open}/decline",
        frozenset({PROVIDER}),
        {"reason": "no"},
    ),
    Door("POST", "/v1/requests/<request_id>/cancel", "/v1/requests/{open}/cancel", frozenset({BUYER}), {}),
    Door("GET", "/v1/grants", "/v1/grants", frozenset({PROVIDER, BUYER})),
    *(
        Door(
            "POST",
            f"/v1/grants/<grant_id>/{verb}",
            f"/v1/grants/{{grant}}/{verb}",
            frozenset({PROVIDER}),
            {"reason": "no"},
        )
        for verb in ("suspend", "resume", "withdraw")
    ),
    *(
        Door("POST", f"/v1/grants/<grant_id>/{verb}", f"/v1/grants/{{grant}}/{verb}", frozenset({BUYER}), {})
        for verb in ("end", "top-up", "pay", "renew")
    ),
    Door("GET", "/v1/notifications", "/v1/notifications", frozenset({PROVIDER, BUYER})),
    Door("POST", "/v1/notifications/read", "/v1/notifications/read", frozenset({PROVIDER, BUYER}), {}),
    Door(
        "POST",
        "/v1/notifications/<notification_id>/read",
        "/v1/notifications/ntf_0/read",
        frozenset({PROVIDER, BUYER}),
        {},
    ),
    Door("POST", "/v1/prices/check", "/v1/prices/check", frozenset({PROVIDER}), {"plans": [sample.plan()]}),
    Door(
        "POST",
        "/v1/prices/simulate",
        "/v1/prices/simulate",
        frozenset({PROVIDER}),
        {"plans": [sample.plan()], "policy": sample.policy()},
    ),
    Door("GET", "/v1/wallet", "/v1/wallet", frozenset({BUYER})),
    Door("POST", "/v1/quotes", "/v1/quotes", frozenset({BUYER}), ASK),
    Door("POST", "/v1/queries", "/v1/queries", frozenset({BUYER}), ASK),
    Door("GET", "/v1/queries", "/v1/queries", frozenset({BUYER})),
    Door("GET", "/v1/queries/<query_id>", "/v1/queries/{query}", frozenset({BUYER}), hidden=True),
    Door(
        "GET", "/v1/queries/<query_id>/result", "/v1/queries/{query}/result", frozenset({BUYER}), hidden=True
    ),
    Door(
        "GET",
        "/v1/queries/<query_id>/receipt",
        "/v1/queries/{query}/receipt",
        frozenset({BUYER, OFFICER}),
        hidden=True,
    ),
    Door("GET", "/v1/usage", "/v1/usage", frozenset({PROVIDER, BUYER})),
    Door("GET", "/v1/billing-profile", "/v1/billing-profile", EVERYBODY - {OFFICER}),
    Door("POST", "/v1/billing-profile", "/v1/billing-profile", EVERYBODY - {OFFICER}, NAMED),
    Door("GET", "/v1/invoices", "/v1/invoices", READERS | {BUYER}),
    Door("POST", "/v1/invoices", "/v1/invoices", frozenset({BUYER, OPERATOR}), {}),
    Door("GET", "/v1/invoices/<invoice_id>", "/v1/invoices/{invoice}", READERS | {BUYER}),
    Door("GET", "/v1/statements", "/v1/statements", READERS | {PROVIDER}),
    Door("GET", "/v1/statements/<statement_id>", "/v1/statements/{month}?org=city", READERS | {PROVIDER}),
    Door("GET", "/v1/ledger/trial-balance", "/v1/ledger/trial-balance", EVERYBODY),
    Door(
        "GET",
        "/v1/ledger/statement",
        "/v1/ledger/statement?account={wallet}",
        EVERYBODY - {PROVIDER},
        hidden=True,
    ),
    Door("GET", "/v1/ledger/export", "/v1/ledger/export", READERS),
    Door("POST", "/v1/top-ups", "/v1/top-ups", frozenset({BUYER}), {"amount": "1.00", "currency": "USD"}),
    Door("GET", "/v1/top-ups", "/v1/top-ups", frozenset({BUYER, OPERATOR})),
    Door("GET", "/v1/top-ups/<top_up_id>", "/v1/top-ups/{top_up}", frozenset({BUYER})),
    Door("GET", "/v1/wallet/history", "/v1/wallet/history", frozenset({BUYER})),
    Door("POST", "/v1/refunds", "/v1/refunds", frozenset({OPERATOR}), REFUND),
    Door("GET", "/v1/refunds", "/v1/refunds", frozenset({BUYER, OPERATOR})),
    Door("GET", "/v1/disputes", "/v1/disputes", frozenset({OPERATOR})),
    Door("POST", "/v1/credits", "/v1/credits", frozenset({OPERATOR}), CREDIT),
    Door("GET", "/v1/credits", "/v1/credits", frozenset({OPERATOR})),
    Door("POST", "/v1/credits/<credit>/confirm", "/v1/credits/crd_0/confirm", frozenset({OPERATOR}), {}),
    Door("POST", "/v1/credits/<credit>/decline", "/v1/credits/crd_0/decline", frozenset({OPERATOR}), {}),
    Door("GET", "/v1/payouts", "/v1/payouts", frozenset({PROVIDER, OPERATOR})),
    Door("POST", "/v1/payouts/onboarding", "/v1/payouts/onboarding", frozenset({PROVIDER}), {}),
    Door("POST", "/v1/payouts/close", "/v1/payouts/close", frozenset({OPERATOR}), {}),
    Door("POST", "/v1/payouts/<payout>/approve", "/v1/payouts/pay_0/approve", frozenset({OPERATOR}), {}),
    Door(
        "POST",
        "/v1/payouts/<payout>/confirm",
        "/v1/payouts/pay_0/confirm",
        frozenset({OPERATOR}),
        {"reference": "x"},
    ),
    Door(
        "POST",
        "/v1/payouts/<payout>/recover",
        "/v1/payouts/pay_0/recover",
        frozenset({OPERATOR}),
        {"amount": "1.00"},
    ),
    Door("GET", "/v1/reconciliation", "/v1/reconciliation", frozenset({OPERATOR})),
    Door("POST", "/v1/reconciliation", "/v1/reconciliation", frozenset({OPERATOR}), {}),
    Door("GET", "/v1/audit/entries", "/v1/audit/entries", READERS),
    Door("GET", "/v1/audit/entries/<entry_id>", "/v1/audit/entries/{entry}", READERS),
    Door("GET", "/v1/audit/entries/<entry_id>/proof", "/v1/audit/entries/{entry}/proof", READERS),
    Door("GET", "/v1/audit/journals", "/v1/audit/journals?ids=a", READERS),
    Door("GET", "/v1/audit/domains", "/v1/audit/domains", READERS),
]


@pytest.fixture(scope="module")
def things(shared_stand: Stand) -> dict[str, str]:
    """Something of city and acme behind every kind of id."""
    asked = shared_stand.request(plan="by-request", purpose="journalism").json()["request"]
    answer = shared_stand.run(sql=sample.PUBLIC).json()
    made = shared_stand.call("provider", "POST", "/v1/uploads", headers={"Upload-Length": "3"})
    shared_stand.run()
    for who in ("buyer", "operator"):
        assert shared_stand.post(who, "/v1/billing-profile", NAMED).status_code == 200
    issued = shared_stand.post("buyer", "/v1/invoices", {}).json()["items"]
    shared_stand.publish_log()
    with shared_stand.market.store._transaction(writing=True) as session:
        top_ups.request_top_up(
            session,
            id="top_1",
            org=shared_stand.orgs["buyer"],
            actor="tok_1",
            amount=Money(100, "USD"),
            saved_method=False,
            now=shared_stand.clock(),
        )
    return {
        "top_up": "top_1",
        "invoice": issued[0]["number"],
        "month": f"{shared_stand.clock():%Y-%m}-USD",
        "wallet": f"buyer:{shared_stand.orgs['buyer']}:prepaid:USD",
        "upload": made.headers["Location"].rpartition("/")[2],
        "licence": shared_stand.get("buyer", f"{D}/licence").json()["id"],
        "acceptance": shared_stand.get("buyer", "/v1/grants").json()["items"][0]["acceptance"],
        "request": asked,
        "open": asked,
        "query": answer["query"],
        "entry": shared_stand.entries()[0].id,
        "quote": shared_stand.quote().json()["quote"],
        "grant": shared_stand.get("buyer", "/v1/grants").json()["items"][0]["grant"],
    }


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
    assert stand.get(None, "/readyz").status_code == 503
    (stand.home / "swept").touch()
    assert stand.get(None, "/readyz").json() == {"status": "ready"}
    described = stand.get(None, "/openapi.json").json()
    for door in DOORS:
        path = door.rule.replace("<path:", "{").replace("<", "{").replace(">", "}")
        operation = described["paths"][path][door.method.lower()]
        assert operation["security"] == [{"token": []}]
        assert operation["summary"]
    assert stand.get("operator", "/v1/whoami").json()["role"] == "operator"
