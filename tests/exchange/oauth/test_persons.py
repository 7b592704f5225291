"""Programs that persons let in: they end with the membership, and members see and end their own alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from functools import partial

import pytest

from exchange import authorizations
from tests.exchange.oauth.program import CLI, REDIRECT, Program, claims, hidden, refused
from tests.market.browser import Browser, invited, member
from tests.market.stand import Stand, problem


@pytest.fixture
def ada(stand: Stand) -> Iterator[Browser]:
    """An administrator of the buyer's organisation."""
    with closing(member(stand, login="ada@acme.example", admin=True)) as browser:
        yield browser


@pytest.fixture
def bo(stand: Stand) -> Iterator[Browser]:
    """A member of the buyer's organisation."""
    with closing(member(stand, login="bo@acme.example")) as browser:
        yield browser


def let_in(browser: Browser, scope: str = "account") -> dict[str, str]:
    """What the command line gets from somebody who confirms its code."""
    program = Program(browser.stand, CLI)
    started = program.device(scope=scope)
    page = browser.get(f"/device?user_code={started['user_code']}")
    assert "Let “" in page.text, page.text
    done = browser.post(
        "/device", csrf=hidden(page)["csrf"], user_code=started["user_code"], decision="approve"
    )
    assert "The program is in" in done.text
    given: dict[str, str] = program.poll(started["device_code"]).json()
    return given


def test_what_a_person_let_in_acts_for_the_organisation(bo: Browser) -> None:
    given = let_in(bo, "rho:1")
    told = claims(given["access_token"])
    assert told["sub"].startswith("per_")
    assert bo.stand.quote(given["access_token"]).status_code == 201
    (entry,) = [one.document for one in bo.stand.entries(kind="query.quoted")]
    assert entry["actor"]["ref"] == told["authorization"]
    assert entry["actor"]["auth"] == "oauth"
    (granted,) = [one.document for one in bo.stand.entries(kind="authorization.granted")]
    assert (granted["actor"]["ref"], granted["actor"]["auth"]) == (told["sub"], "session")
    assert granted["object"]["id"] == told["authorization"]


@pytest.mark.parametrize("verb", ["disable", "remove"])
def test_it_ends_with_the_membership(ada: Browser, bo: Browser, verb: str) -> None:
    given = let_in(bo)
    assert ada.stand.get(given["access_token"], "/v1/whoami").status_code == 200
    rows = re.findall(r"<tr>.*?</tr>", ada.get("/members").text, re.DOTALL)
    (row,) = [row for row in rows if "bo@acme.example" in row]
    (made,) = set(re.findall(r"/members/(mbr_\w+)/", row))
    assert ada.post(f"/members/{made}/{verb}").status_code == 200
    problem(ada.stand.get(given["access_token"], "/v1/whoami"), 401, "token_unknown")
    program = Program(ada.stand, CLI)
    refused(program.token("refresh_token", refresh_token=given["refresh_token"]), "invalid_grant")


def test_a_member_makes_no_clients_not_even_through_a_program(ada: Browser, bo: Browser) -> None:
    """A client outlives the membership of who made it: that is for administrators."""
    sent = {"name": "Report", "kind": "confidential"}
    token = let_in(bo)["access_token"]
    problem(bo.stand.post(token, "/v1/clients", sent), 403, "role_missing")
    problem(bo.stand.get(token, "/v1/clients"), 403, "role_missing")
    assert bo.post("/programs/clients", **sent).status_code == 403
    assert "A new client" not in bo.get("/programs").text
    assert bo.stand.post(let_in(ada)["access_token"], "/v1/clients", sent).status_code == 201


def test_a_member_sees_and_ends_the_own_programs_alone(ada: Browser, bo: Browser) -> None:
    hers, his = let_in(ada), let_in(bo)
    held = {
        name: claims(given["access_token"])["authorization"] for name, given in (("hers", hers), ("his", his))
    }
    assert held["his"] in ada.get("/programs").text
    assert held["hers"] in ada.get("/programs").text
    page = bo.get("/programs").text
    assert f"{held['his']}/revoke" in page
    assert held["hers"] not in page
    listed = bo.stand.get(his["access_token"], "/v1/authorizations").json()["items"]
    assert [one["authorization"] for one in listed] == [held["his"]]
    assert bo.post(f"/programs/authorizations/{held['hers']}/revoke").status_code == 404
    foreign = bo.stand.call(his["access_token"], "DELETE", f"/v1/authorizations/{held['hers']}")
    problem(foreign, 404, "not_found")
    assert bo.post(f"/programs/authorizations/{held['his']}/revoke").url.path == "/programs"
    assert bo.stand.get(his["access_token"], "/v1/whoami").status_code == 401
    assert ada.stand.get(hers["access_token"], "/v1/whoami").status_code == 200


def test_the_own_programs_are_listed_however_many_others_let_in(
    ada: Browser, bo: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    his = let_in(bo)
    let_in(ada)
    found = authorizations.of_organisation
    monkeypatch.setattr(authorizations, "of_organisation", partial(found, limit=1))
    listed = bo.stand.get(his["access_token"], "/v1/authorizations").json()["items"]
    assert [one["authorization"] for one in listed] == [claims(his["access_token"])["authorization"]]


def test_an_administrator_manages_clients_on_the_portal(ada: Browser) -> None:
    page = ada.post(
        "/programs/clients", name="Report", kind="confidential", scope="rho:1", redirect_uris=REDIRECT
    )
    client, secret = re.findall(r"<dd><code>([^<]+)</code></dd>", page.text)
    assert secret not in ada.get("/programs").text, "it is shown once"
    program = Program(ada.stand, client, secret)
    token = program.alone()
    assert ada.stand.get(token, "/v1/whoami").json()["scope"] == "ask rho:1"
    assert ada.post(f"/programs/clients/{client}/revoke").status_code == 200
    assert ada.stand.get(token, "/v1/whoami").status_code == 401
    wrong = ada.post("/programs/clients", name="Report", kind="public", scope="everything", redirect_uris="")
    assert wrong.status_code == 422
    ada.stand.clock.advance(minutes=6)
    asked = ada.post("/programs/clients", name="Report", kind="public", scope="ask", redirect_uris="")
    assert asked.url.path == "/sign-in/confirm", "it needs a proof of the person"


def test_an_officer_lets_nothing_in_without_the_second_factor(sqlite_stand: Stand) -> None:
    """What is let in acts for a month without one."""
    stand = sqlite_stand
    with closing(Browser(stand)) as officer:
        officer.join(invited(stand, "officer", "cara@cnil.example"))
        officer.add_app()
        stand.clock.advance(minutes=6)
        started = Program(stand, CLI).device()
        where = f"/device?user_code={started['user_code']}"
        assert officer.get(where).url.path == "/sign-in/confirm"
        sent = officer.post("/device", user_code=started["user_code"], decision="approve")
        assert sent.status_code == 403
        refused(Program(stand, CLI).poll(started["device_code"]), "authorization_pending")
        assert officer.confirm(code=officer.code()).status_code == 200
        page = officer.get(where)
        assert "Let “" in page.text
        assert (
            "The program is in"
            in officer.post(
                "/device", csrf=hidden(page)["csrf"], user_code=started["user_code"], decision="approve"
            ).text
        )
