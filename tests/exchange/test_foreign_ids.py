"""What is another organisation's looks like what is not there: every door with an id, for everybody.

Not one byte tells them apart, but for the request's own id. Who may look is named here, door by door.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing

import httpx
import pytest

from exchange.config import Settings
from exchange.identity import Actor, Role
from exchange.operations import administering, composing
from exchange.web.limits import RequestLimits
from tests.exchange.doors import DOORS, READERS, SEARCH, things_of
from tests.market import sample
from tests.market.browser import Browser, invited, member
from tests.market.stand import Stand

#: Everybody who has nothing to do with city and acme; ``""`` is nobody at all.
OUTSIDERS = ("other", "stranger", "rival", "officer", "operator", "")
DRAFT = "city/secret"
#: Doors whose id is no organisation's own: everybody's templates, the own month of whoever asks.
NOBODYS = {"/v1/licences/templates/{name}", "/v1/statements/{statement_id}"}
CONTROLLED = ("freeze", "hold", "approval")
#: Who is let in although the thing is another's: officers read, operators run the market.
LET_IN = {
    ("officer", "GET /v1/acceptances/{acceptance_id}/receipt"),
    ("officer", "GET /v1/queries/{query_id}/receipt"),
    ("other", "GET /v1/licences/{licence_id}"),
    ("officer", "GET /v1/licences/{licence_id}"),
    ("operator", "GET /v1/licences/{licence_id}"),
    ("officer", "POST /v1/licences/{licence_id}/approve"),
    ("operator", "DELETE /v1/clients/{client_id}"),
    ("operator", "POST /v1/credits/{credit}/confirm"),
    ("operator", "POST /v1/credits/{credit}/decline"),
    ("operator", "POST /v1/payouts/{payout}/approve"),
    ("operator", "POST /v1/payouts/{payout}/confirm"),
    ("operator", "POST /v1/payouts/{payout}/recover"),
    *((who, f"GET /v1/officer/{kind}s/{{{kind}_id}}") for who in READERS for kind in CONTROLLED),
    *(("officer", f"POST /v1/officer/{kind}s/{{{kind}_id}}/lift") for kind in ("freeze", "hold")),
    *(("officer", f"POST /v1/officer/approvals/{{approval_id}}/{verb}") for verb in ("approve", "decline")),
    *((who, "GET /v1/invoices/{invoice_id}") for who in READERS),
    *((who, "GET /v1/audit/entries/{entry_id}") for who in READERS),
    *((who, "GET /v1/audit/entries/{entry_id}/proof") for who in READERS),
    *((who, "GET /v1/audit/queries/{query_id}") for who in READERS),
    *((who, "GET /v1/alerts/{alert_id}") for who in READERS),
    *(("officer", f"POST /v1/alerts/{{alert_id}}/{verb}") for verb in ("assign", "notes", "resolve")),
}


@pytest.fixture(scope="module")
def ids(shared_sqlite_stand: Stand) -> dict[str, str]:
    """An id of city's or acme's for every parameter of an address."""
    stand = shared_sqlite_stand
    stand.app.extensions["limits"] = RequestLimits(Settings(rate_of_caller=0, rate_of_network=0))
    made = things_of(stand)
    stand.post("provider", f"/v1/requests/{made['request']}/decline", {"reason": "no"})
    told = stand.get("buyer", "/v1/notifications").json()["items"]
    credit = {"org": "acme", "amount": "20000.00", "currency": "USD", "reference": "bank-1"}
    proposed = stand.post("operator", "/v1/credits", credit)
    assert proposed.status_code == 201, proposed.text
    secret = sample.manifest(slug=DRAFT, policy=sample.policy(domain="riders:secret"))
    files = {"rides": sample.rides(seed=5), "zones": sample.zones()}
    drafted = stand.draft(manifest=secret, files=files)
    assert drafted.status_code == 201, drafted.text
    second = administering.create_token(stand.market, org="cnil", role=Role.OFFICER)["token"]
    stand.clock.advance(days=35)
    closed = stand.post("operator", "/v1/payouts/close", {})
    assert closed.json()["items"], closed.text
    return {
        "dataset": DRAFT,
        "licence_id": made["licence"],
        "notification_id": told[0]["id"],
        "credit": proposed.json()["credit"],
        "payout": closed.json()["items"][0]["payout"],
        "upload": made["upload"],
        "alert_id": made["alert"],
        "search_id": stand.post(second, "/v1/audit/searches", SEARCH).json()["search"],
        **{f"{name}_id": made[name] for name in ("request", "grant", "query", "client", "authorization")},
        **{f"{name}_id": made[name] for name in ("acceptance", "invoice", "top_up", "entry")},
        **{f"{name}_id": made[name] for name in CONTROLLED},
    }


def unknown(text: str) -> str:
    """An id of the same form that is nobody's."""
    if text == DRAFT:
        return "city/nought"
    head, mark, tail = text.rpartition("_")
    return head + mark + re.sub("[0-9a-f]", "0", tail) if mark else re.sub(r"\d", "9", text)


def told(reply: httpx.Response, named: str) -> tuple[object, ...]:
    """All of a reply but its own id, and the id that was asked for where it is told again."""
    own = reply.headers.get("X-Request-Id", "?")
    body = reply.text.replace(own, "REQUEST").replace(named, "NAMED")
    headers = {name: value for name, value in reply.headers.items() if name not in ("x-request-id", "date")}
    length = headers.pop("content-length", None)
    return reply.status_code, body, headers, None if named in reply.text else length


def test_every_described_door_with_an_id_is_tried(shared_sqlite_stand: Stand) -> None:
    paths = shared_sqlite_stand.get(None, "/openapi.json").json()["paths"]
    described = {f"{method.upper()} {path}" for path in paths for method in paths[path] if "{" in path}
    named = set(tried())
    assert described - named == {f"GET {path}" for path in NOBODYS} | {"GET /audit/tile/{path}"}
    assert len(named) > 40
    assert {operation for _, operation in LET_IN} <= named


def tried() -> dict[str, tuple[str, str, object, dict[str, str]]]:
    """Operation -> method, address with the names of its parameters, body, headers."""
    found = {}
    for door in DOORS:
        address = re.sub(r"<(?:path:)?(\w+)>", r"{\1}", door.rule)
        if "{" in address and address not in NOBODYS:
            found[f"{door.method} {address}"] = door.method, address, door.body, dict(door.headers)
    return found


@pytest.mark.parametrize("operation", tried())
def test_another_organisations_id_reads_like_one_that_is_not_there(
    shared_sqlite_stand: Stand, ids: dict[str, str], operation: str
) -> None:
    stand = shared_sqlite_stand
    method, address, body, headers = tried()[operation]
    (name,) = re.findall(r"{(\w+)}", address)
    before = stand.books()
    for who in OUTSIDERS:
        if (who, operation) in LET_IN:
            continue
        replies = []
        for one in (ids[name], unknown(ids[name])):
            target = address.format(**{name: one})
            reply = stand.call(who or None, method, target, headers=headers, json=body)
            replies.append(told(reply, one))
        assert replies[0] == replies[1], who
        assert replies[0][0] in ((401,) if not who else (403, 404)), (who, replies[0])
    assert stand.books() == before


@pytest.mark.parametrize(
    ("who", "operation"), sorted(one for one in LET_IN if one[1].startswith("GET")), ids=str
)
def test_who_is_let_in_sees_what_is_there_alone(
    shared_sqlite_stand: Stand, ids: dict[str, str], who: str, operation: str
) -> None:
    address = operation.partition(" ")[2]
    (name,) = re.findall(r"{(\w+)}", address)
    shared_sqlite_stand.publish_log()
    found, nothing = (
        shared_sqlite_stand.get(who, address.format(**{name: one})).status_code
        for one in (ids[name], unknown(ids[name]))
    )
    assert (found, nothing) == (200, 404)


PAGES = (
    "/account/sessions/{session}/end",
    "/account/factors/{factor}/remove",
    "/programs/authorizations/{authorization}/revoke",
    "/programs/clients/{client}/revoke",
    "/members/{member}/disable",
    "/members/{member}/remove",
    "/members/{member}/reset",
    "/invitations/{invitation}/withdraw",
    "/tokens/{token}/revoke",
    "/queries/{query}/cancel",
    "/provider/requests/{request}/decide",
    "/provider/grants/{grant}/suspend",
    "/provider/grants/{grant}/resume",
    "/provider/grants/{grant}/withdraw",
    "/provider/listings/{listing}/deprecate",
    "/provider/listings/{listing}/offer",
    "/provider/listings/{listing}/revise",
    "/provider/listings/{listing}/withdraw",
    "/access/grants/{grant}/end",
    "/access/grants/{grant}/pay",
    "/access/grants/{grant}/renew",
    "/access/grants/{grant}/top-up",
    "/access/requests/{asked}/withdraw",
    "/operator/organisations/{organisation}/identity",
    "/operator/organisations/{organisation}/invite",
    "/operator/transfers/{credit}/confirm",
    "/operator/transfers/{credit}/decline",
    "/operator/payouts/{payout}/approve",
    "/operator/payouts/{payout}/confirm",
    "/officer/alerts/{alert}/assign",
    "/officer/alerts/{alert}/notes",
    "/officer/alerts/{alert}/resolve",
    "/officer/searches/{search}/rename",
    "/officer/searches/{search}/delete",
    "/officer/freezes/{freeze}/lift",
    "/officer/holds/{hold}/lift",
    "/officer/licences/{licence}/approve",
    "/officer/approvals/{approval}/approve",
    "/officer/approvals/{approval}/decline",
    "/provide/{draft}/about",
    "/provide/{draft}/delete",
    "/provide/{draft}/restore",
    "/provide/{draft}/publish",
    "/provide/{draft}/gauge",
    "/provide/{draft}/uploads",
    "/provide/{draft}/send",
    "/provide/{draft}/files/upl_0/remove",
    "/provide/{draft}/files/upl_0/restore",
)


#: Who may open pages about something of this kind at all; everybody, where it is not here.
ALLOWED = {
    "query": ("other",),
    "asked": ("other",),
    **dict.fromkeys(("request", "grant", "listing"), ("rival",)),
    "draft": ("rival",),
    **dict.fromkeys(("organisation", "credit", "payout"), ("operator",)),
    "alert": ("officer",),
    "licence": ("officer",),
    "search": ("officer", "operator"),
    **dict.fromkeys(CONTROLLED, ("officer",)),
}
#: Who is let in on pages although the thing is another's.
LET_IN_ON_PAGES = {
    ("operator", "/programs/clients/{client}/revoke"),
    *(("operator", f"/operator/organisations/{{organisation}}/{verb}") for verb in ("identity", "invite")),
    *(("operator", f"/operator/transfers/{{credit}}/{verb}") for verb in ("confirm", "decline")),
    *(("operator", f"/operator/payouts/{{payout}}/{verb}") for verb in ("approve", "confirm")),
    *(("officer", f"/officer/alerts/{{alert}}/{verb}") for verb in ("assign", "notes", "resolve")),
    ("officer", "/officer/licences/{licence}/approve"),
    *(("officer", f"/officer/{kind}s/{{{kind}}}/lift") for kind in ("freeze", "hold")),
    *(("officer", f"/officer/approvals/{{approval}}/{verb}") for verb in ("approve", "decline")),
}


@pytest.fixture(scope="module")
def strangers(shared_sqlite_stand: Stand) -> Iterator[dict[str, Browser]]:
    """An administrator of every role elsewhere, each signed in."""
    made = {
        who: member(shared_sqlite_stand, who, f"admin@{who}.example", admin=True)
        for who in ("other", "rival", "officer", "operator")
    }
    yield made
    for browser in made.values():
        browser.close()


def test_every_page_with_an_id_is_tried(shared_sqlite_stand: Stand) -> None:
    rules = {
        re.sub(r"<(\w+)>", "{}", rule.rule)
        for rule in shared_sqlite_stand.app.url_map.iter_rules()
        if rule.endpoint.startswith("portal.") and "POST" in (rule.methods or ()) and "<" in rule.rule
    }
    second = r"(?<=/members/{member}/)\w+|(?<=/provide/{draft}/)about|(?<=/files/)upl_0"
    tried = {re.sub(r"{\w+}", "{}", re.sub(second, "{}", page)) for page in PAGES}
    assert rules - tried == {"/join/{}", "/datasets/{}/{}/request"}


def test_another_organisations_id_reads_like_none_on_the_portal(
    shared_sqlite_stand: Stand, ids: dict[str, str], strangers: dict[str, Browser]
) -> None:
    stand = shared_sqlite_stand
    with closing(member(stand, "buyer", "ada@acme.example", admin=True)) as ada:
        found = re.search(r"/account/sessions/(ses_\w+)/end", ada.get("/account").text)
        link = re.search(r"/join/(inv_[0-9a-f]{24})", invited(stand, "buyer", "bo@acme.example"))
        own = re.search(r"/members/(mbr_\w+)/", ada.get("/members").text)
        ada.add_app()
        factor = re.search(r"/account/factors/(\w+)/remove", ada.get("/account").text)
        assert found
        assert link
        assert own
        assert factor
        theirs = {
            "session": found[1],
            "factor": factor[1] if "_" in factor[1] else "psk_" + "1" * 24,
            "authorization": ids["authorization_id"],
            "client": ids["client_id"],
            "query": ids["query_id"],
            "request": ids["request_id"],
            "asked": ids["request_id"],
            **{name: ids[name] for name in ("credit", "payout")},
            "organisation": "acme",
            "grant": ids["grant_id"],
            "listing": stand.get("provider", f"/v1/datasets/{sample.SLUG}").json()["id"],
            "alert": ids["alert_id"],
            "licence": ids["licence_id"],
            "search": ids["search_id"],
            "draft": composing.begin(
                stand.market, Actor("tok_1", stand.orgs["provider"], "city", "provider")
            ),
            "member": own[1],
            "invitation": link[1],
            "token": stand.tokens["buyer"].partition(".")[0],
            **{name: ids[f"{name}_id"] for name in CONTROLLED},
        }
        for who, browser in strangers.items():
            csrf = browser.csrf("/account")
            for page in PAGES:
                if (who, page) in LET_IN_ON_PAGES:
                    continue
                (name,) = re.findall(r"{(\w+)}", page)
                replies = []
                for one in (theirs[name], unknown(theirs[name])):
                    reply = browser.post(page.format(**{name: one}), csrf=csrf)
                    replies.append(told(reply, one))
                assert replies[0] == replies[1], (who, page)
                expected = 403 if who not in ALLOWED.get(name, (who,)) or name == "grant" else 404
                assert replies[0][0] == expected, (who, page, replies[0])
        assert ada.is_signed_in()
