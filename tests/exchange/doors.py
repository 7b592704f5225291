"""The doors of the API, what each asks for, and something of somebody's behind every kind of id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from exchange.alerts import queue
from settlement import Money
from settlement.payments import top_ups
from tests.exchange.oauth.program import Program
from tests.market import sample
from tests.market.stand import TUS

if TYPE_CHECKING:
    import httpx

    from tests.market.stand import Stand

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
SEARCH = {"name": "x", "filters": {"kind": "query.refused"}}
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
    Door(
        "POST",
        "/v1/datasets/<path:dataset>/deprecate",
        f"{D}/deprecate",
        frozenset({PROVIDER}),
        {"reason": "x"},
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
    Door("GET", "/v1/notifications", "/v1/notifications", EVERYBODY - {OPERATOR}),
    Door("POST", "/v1/notifications/read", "/v1/notifications/read", EVERYBODY - {OPERATOR}, {}),
    Door(
        "POST",
        "/v1/notifications/<notification_id>/read",
        "/v1/notifications/ntf_0/read",
        EVERYBODY - {OPERATOR},
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
    Door("DELETE", "/v1/queries/<query_id>", "/v1/queries/{query}", frozenset({BUYER})),
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
    Door("POST", "/v1/clients", "/v1/clients", EVERYBODY, {"name": "Report", "kind": "confidential"}),
    Door("GET", "/v1/clients", "/v1/clients", EVERYBODY),
    Door("DELETE", "/v1/clients/<client_id>", "/v1/clients/{client}", EVERYBODY, hidden=True),
    Door("GET", "/v1/authorizations", "/v1/authorizations", EVERYBODY),
    Door(
        "DELETE",
        "/v1/authorizations/<authorization_id>",
        "/v1/authorizations/{authorization}",
        EVERYBODY,
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
    Door("POST", "/v1/audit/exports", "/v1/audit/exports", READERS, {"format": "csv", "kind": "none.such"}),
    Door("GET", "/v1/audit/journals", "/v1/audit/journals?ids=a", READERS),
    Door("GET", "/v1/audit/domains", "/v1/audit/domains", READERS),
    Door("GET", "/v1/audit/queries/<query_id>", "/v1/audit/queries/{query}", READERS),
    Door("GET", "/v1/audit/searches", "/v1/audit/searches", READERS),
    Door("POST", "/v1/audit/searches", "/v1/audit/searches", READERS, SEARCH),
    Door(
        "POST",
        "/v1/audit/searches/<search_id>/rename",
        "/v1/audit/searches/sea_0/rename",
        READERS,
        {"name": "x"},
    ),
    Door("DELETE", "/v1/audit/searches/<search_id>", "/v1/audit/searches/sea_0", READERS),
    Door("GET", "/v1/alerts", "/v1/alerts", READERS),
    Door("GET", "/v1/alerts/<alert_id>", "/v1/alerts/{alert}", READERS),
    Door("POST", "/v1/alerts/<alert_id>/assign", "/v1/alerts/{alert}/assign", frozenset({OFFICER}), {}),
    Door(
        "POST",
        "/v1/alerts/<alert_id>/notes",
        "/v1/alerts/{alert}/notes",
        frozenset({OFFICER}),
        {"text": "x"},
    ),
    Door(
        "POST",
        "/v1/alerts/<alert_id>/resolve",
        "/v1/alerts/{alert}/resolve",
        frozenset({OFFICER}),
        {"state": "acted"},
    ),
    *(
        door
        for kind in ("freeze", "hold")
        for door in (
            Door(
                "POST",
                f"/v1/officer/{kind}s",
                f"/v1/officer/{kind}s",
                frozenset({OFFICER}),
                {"organisation": "globex", "reason": "x"},
            ),
            Door("GET", f"/v1/officer/{kind}s", f"/v1/officer/{kind}s", READERS),
            Door("GET", f"/v1/officer/{kind}s/<{kind}_id>", f"/v1/officer/{kind}s/{{{kind}}}", READERS),
            Door(
                "POST",
                f"/v1/officer/{kind}s/<{kind}_id>/lift",
                f"/v1/officer/{kind}s/{{{kind}}}/lift",
                frozenset({OFFICER}),
                {"reason": "x"},
            ),
        )
    ),
    Door("GET", "/v1/officer/approvals", "/v1/officer/approvals", READERS),
    Door("GET", "/v1/officer/approvals/<approval_id>", "/v1/officer/approvals/{approval}", READERS),
    Door(
        "POST",
        "/v1/officer/approvals/<approval_id>/approve",
        "/v1/officer/approvals/{approval}/approve",
        frozenset({OFFICER}),  # whose token is told to use the portal
        {},
    ),
    Door(
        "POST",
        "/v1/officer/approvals/<approval_id>/decline",
        "/v1/officer/approvals/{approval}/decline",
        frozenset({OFFICER}),
        {},
    ),
]


def things_of(stand: Stand) -> dict[str, str]:
    """Something of city and acme behind every kind of id."""
    asked = stand.request(plan="by-request", purpose="journalism").json()["request"]
    answer = stand.run(sql=sample.PUBLIC).json()
    made = stand.call("provider", "POST", "/v1/uploads", headers={"Upload-Length": "3"})
    stand.run()
    for who in ("buyer", "operator"):
        assert stand.post(who, "/v1/billing-profile", NAMED).status_code == 200
    issued = stand.post("buyer", "/v1/invoices", {}).json()["items"]
    stand.publish_log()
    with stand.market.store._transaction(writing=True) as session:
        top_ups.request_top_up(
            session,
            id="top_1",
            org=stand.orgs["buyer"],
            actor="tok_1",
            amount=Money(100, "USD"),
            saved_method=False,
            now=stand.clock(),
        )
    with stand.market.store._transaction(writing=True) as session:
        queue.add(
            session,
            "alr_" + "1" * 24,
            kind="refusals",
            subject=stand.orgs["buyer"],
            measure=21,
            most=20,
            until_seq=1,
            occasion="",
            entries=(),
            now=stand.clock(),
        )
    program = Program.of(stand)
    stopped = {
        kind: stand.post("officer", f"/v1/officer/{kind}s", {"organisation": "hooli", "reason": "x"}).json()
        for kind in ("freeze", "hold")
    }
    freeze = stopped["freeze"]["freeze"]
    lifting = stand.post("officer", f"/v1/officer/freezes/{freeze}/lift", {"reason": "x"}).json()
    return {
        "freeze": freeze,
        "hold": stopped["hold"]["hold"],
        "approval": lifting["approval"],
        "client": program.client_id,
        "authorization": stand.get(program.alone(), "/v1/whoami").json()["token"],
        "alert": "alr_" + "1" * 24,
        "top_up": "top_1",
        "invoice": issued[0]["number"],
        "month": f"{stand.clock():%Y-%m}-USD",
        "wallet": f"buyer:{stand.orgs['buyer']}:prepaid:USD",
        "upload": made.headers["Location"].rpartition("/")[2],
        "licence": stand.get("buyer", f"{D}/licence").json()["id"],
        "acceptance": stand.get("buyer", "/v1/grants").json()["items"][0]["acceptance"],
        "request": asked,
        "open": asked,
        "query": answer["query"],
        "entry": stand.entries()[0].id,
        "quote": stand.quote().json()["quote"],
        "grant": stand.get("buyer", "/v1/grants").json()["items"][0]["grant"],
    }
