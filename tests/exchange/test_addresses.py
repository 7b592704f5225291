"""Addresses that somebody sends: refused, or kept and never asked. No connection is made for them."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from ipaddress import ip_address

import httpx
import pytest

from exchange import addresses
from exchange.config import Settings
from exchange.web.limits import RequestLimits
from tests.exchange.guard import Guard, guarded
from tests.exchange.oauth.program import REDIRECT, Program
from tests.exchange.spellings import SPELLINGS
from tests.market import sample
from tests.market.browser import Browser, member
from tests.market.stand import Stand

#: Well spelt, and a place that a browser may be sent to: a program may live on an inner network.
PLAIN = {
    *("loopback", "loopback with https", "localhost", "localhost and a port", "any address with https"),
    *("broadcast", "multicast", "private", "private 172", "private 192", "shared", "documentation"),
    *("metadata with https", "IPv6 loopback", "IPv6 loopback with https", "IPv6 mapped in hex"),
    *("IPv6 mapped metadata", "IPv6 compatible", "IPv6 metadata", "IPv6 link-local", "IPv6 unique local"),
    *("IPv6 site-local", "NAT64", "6to4", "Teredo", "name of loopback", "name with an address in it"),
    *("name of IPv6 loopback", "name of metadata", "name within", "name of a unique local address"),
    *("name of NAT64", "name of 6to4", "name of shared space", "localhost of a domain", "homograph in ASCII"),
}


@pytest.fixture(scope="module")
def stand(shared_sqlite_stand: Stand) -> Stand:
    """Without limits on requests: there are many."""
    shared_sqlite_stand.app.extensions["limits"] = RequestLimits(
        Settings(rate_of_caller=0, rate_of_network=0)
    )
    return shared_sqlite_stand


@pytest.fixture
def guard() -> Iterator[Guard]:
    with guarded() as made:
        yield made
    assert made.connections == []


def test_the_guard_sees_a_connection_and_does_not_make_it() -> None:
    with guarded() as made:
        for name in ("loops.example", "127.0.0.1"):
            with contextlib.suppress(ConnectionRefusedError):
                socket.create_connection((name, 9))
        with pytest.raises(httpx.ConnectError):
            httpx.get("http://169.254.169.254/")
    assert made.connections == [("127.0.0.1", 9), ("127.0.0.1", 9), ("169.254.169.254", 80)]


def test_there_are_many_spellings_and_each_is_another() -> None:
    assert len(SPELLINGS) > 100
    assert len(set(SPELLINGS.values())) == len(SPELLINGS)


@pytest.mark.parametrize("name", SPELLINGS)
def test_no_spelling_is_of_a_public_place(name: str, guard: Guard) -> None:
    """Each is no address at all, or leads within: so a fetch of any of them is a fault."""
    try:
        found = addresses.parse(SPELLINGS[name])
    except ValueError:
        return
    told = guard.resolve(found.host.strip("[]").lower(), found.port)
    assert not any(addresses.is_public(ip_address(one[4][0])) for one in told)


@pytest.mark.parametrize("door", ["API", "portal"])
def test_redirect_uris_are_spelt_plainly_and_never_asked(stand: Stand, guard: Guard, door: str) -> None:
    taken, tried = set(), set(SPELLINGS)
    if door == "portal":  # the same command behind a page that is slow; white space parts several addresses
        tried = {name for name in list(SPELLINGS)[::4] if SPELLINGS[name].split() == [SPELLINGS[name]]}
    with closing(member(stand, login=f"{door.lower()}@acme.example", admin=True)) as ada:
        csrf = ada.csrf()
        for name in sorted(tried):
            spelling = SPELLINGS[name]
            if door == "API":
                asked = {"name": "Report", "kind": "public", "redirect_uris": [spelling]}
                reply = stand.post("buyer", "/v1/clients", asked)
            else:
                form = {"name": "Report", "kind": "public", "redirect_uris": spelling}
                reply = ada.post("/programs/clients", csrf=csrf, **form)
            assert reply.status_code in (200, 201, 422), (name, reply.text)
            if reply.status_code != 422:
                taken.add(name)
                made = next(
                    one["client_id"]
                    for one in stand.get("buyer", "/v1/clients").json()["items"]
                    if one["redirect_uris"] == [spelling]
                )
                stand.call("buyer", "DELETE", f"/v1/clients/{made}")
    assert taken == PLAIN & tried


def test_an_address_that_is_not_registered_is_never_sent_to(stand: Stand, guard: Guard) -> None:
    program = Program.of(stand, redirect_uris=[REDIRECT])
    with closing(member(stand, login="bo@acme.example")) as bo:
        code = program.code(bo.http)
        for name, spelling in SPELLINGS.items():
            for reply in (
                program.authorize(bo.http, redirect_uri=spelling),
                program.redeem(code, redirect_uri=spelling),
            ):
                assert 400 <= reply.status_code < 500, (name, reply.text)
                assert "Location" not in reply.headers, name


def test_nobody_is_led_to_another_site_after_signing_in(stand: Stand, guard: Guard) -> None:
    browser = Browser(stand)
    browser.http.follow_redirects = False
    member(stand, login="cy@acme.example").close()
    with closing(browser):
        for name, spelling in SPELLINGS.items():
            browser.http.cookies.clear()
            sent = {"token": stand.tokens["buyer"], "next": spelling}
            reply = browser.http.post("/sign-in", data=sent)
            assert (reply.status_code, reply.headers["Location"]) == (302, "/"), name


@dataclass(frozen=True)
class Field:
    """A field in which somebody may write an address, though it is none."""

    name: str
    send: Callable[[Stand, str], httpx.Response]

    def __str__(self) -> str:
        return self.name


def head_of(spelling: str) -> str:
    """A header's value, as a client could send it."""
    return spelling.encode("ascii", "replace").decode().translate(dict.fromkeys(range(32), " ")).strip()


def jws(spelling: str) -> str:
    """A token that says where its key is."""
    head = dict.fromkeys(("kid", "jku", "x5u"), spelling)
    parts = ({"alg": "ES256", "typ": "at+jwt", **head}, {"iss": spelling})
    told = [base64.urlsafe_b64encode(json.dumps(one).encode()).rstrip(b"=").decode() for one in parts]
    return ".".join([*told, "A" * 86])


def texts(spelling: str) -> dict[str, object]:
    return {
        "title": spelling,
        "description": spelling,
        "keywords": [spelling],
        "licence": sample.licence(title=spelling, text=spelling),
    }


def drafted(**changes: object) -> dict[str, object]:
    return {"manifest": sample.manifest(**changes), "files": {"rides": "upl_0", "zones": "upl_0"}}


HEADERS = ("Origin", "Referer", "X-Forwarded-Host", "X-Forwarded-For", "Forwarded", "X-Original-URL")
CREDIT = {"org": "nobody", "amount": "1.00", "currency": "USD"}
NAMED = {"legal_name": "Acme", "address": "Street 1", "country": "DE"}
FIELDS = [
    Field("SQL: a table", lambda s, x: s.quote(sql=f'select count(*) as n from "{x}"')),
    Field("SQL: a function", lambda s, x: s.quote(sql=f"select count(*) as n from read_csv('{x}')")),
    Field("SQL: a statement", lambda s, x: s.quote(sql=f"attach '{x}' as a")),
    Field("dataset", lambda s, x: s.post("buyer", "/v1/quotes", {**s.question(), "dataset": x})),
    Field("search", lambda s, x: s.get("buyer", "/v1/datasets", params={"q": x})),
    Field("texts of a listing", lambda s, x: s.post("provider", "/v1/datasets", drafted(**texts(x)))),
    Field("file of a table", lambda s, x: s.post("provider", "/v1/datasets", drafted(tables={"rides": x}))),
    Field(
        "upload of a table",
        lambda s, x: s.post("provider", "/v1/datasets", {**drafted(), "files": {"rides": x, "zones": x}}),
    ),
    Field("terms", lambda s, x: s.post("buyer", "/v1/licences/check", {"terms": {"uid": x, "profile": x}})),
    Field("template", lambda s, x: s.post("buyer", "/v1/licences/check", {"terms": {"template": x}})),
    Field(
        "name of a file",
        lambda s, x: s.call(
            "provider",
            "POST",
            "/v1/uploads",
            headers={
                "Upload-Length": "3",
                "Upload-Metadata": f"filename {base64.b64encode(x.encode()).decode()}",
            },
        ),
    ),
    Field("purpose and territory", lambda s, x: s.request(purpose=x, territory=x)),
    Field(
        "billing profile",
        lambda s, x: s.post("buyer", "/v1/billing-profile", {**NAMED, "address": x, "email": f"a@{x}"}),
    ),
    Field("bank's reference", lambda s, x: s.post("operator", "/v1/credits", {**CREDIT, "reference": x})),
    Field("client", lambda s, x: s.post("buyer", "/v1/clients", {"name": x, "kind": "public", "scope": x})),
    Field("event of Stripe", lambda s, x: s.post(None, "/v1/webhooks/stripe", {"url": x, "return_url": x})),
    Field("header of a token", lambda s, x: s.get(jws(x), "/v1/whoami")),
    Field("headers", lambda s, x: s.get("buyer", "/v1/whoami", headers=dict.fromkeys(HEADERS, head_of(x)))),
    Field("login", lambda s, x: s.http.post("/sign-in", data={"login": f"a@{x}", "password": "x"})),
]


@pytest.mark.parametrize("field", FIELDS, ids=str)
def test_what_is_written_into_a_field_is_never_asked(stand: Stand, guard: Guard, field: Field) -> None:
    for name, spelling in SPELLINGS.items():
        reply = field.send(stand, spelling)
        assert reply.status_code < 500, (name, reply.text)
        assert "Location" not in reply.headers or reply.headers["Location"].startswith("/v1/"), name
