"""What two have to decide, one does not decide twice, by another program, token or client of the own."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from sqlalchemy import update

from exchange.identity import Role, token
from exchange.operations import administering
from tests.exchange.oauth.program import Program
from tests.exchange.oauth.test_persons import let_in
from tests.market import sample
from tests.market.browser import Browser, member
from tests.market.stand import Stand, problem

TRANSFER = {"org": "acme", "amount": "5000000.00", "currency": "EUR", "reference": "MT940 77"}


def _signed_in_again(browser: Browser, first: str) -> str:
    del first
    return let_in(browser)["access_token"]


def _by_own_token(browser: Browser, first: str) -> str:
    del first
    found = re.search(r"<pre>(tok_[^<]+)</pre>", browser.post("/tokens").text)
    assert found is not None
    return found[1]


def _by_client(browser: Browser, first: str) -> str:
    return Program.of(browser.stand, first, scope="account").alone()


def _by_client_of_own_token(browser: Browser, first: str) -> str:
    return _by_client(browser, _by_own_token(browser, first))


@pytest.fixture
def op(stand: Stand) -> Iterator[Browser]:
    """An operator who administers the operator's organisation."""
    with closing(member(stand, "operator", "op@exchange.example", admin=True)) as browser:
        browser.add_app()
        yield browser


@pytest.mark.parametrize("another", [_signed_in_again, _by_own_token, _by_client, _by_client_of_own_token])
def test_one_operator_does_not_confirm_the_own_proposal(
    op: Browser, another: Callable[[Browser, str], str]
) -> None:
    stand, first = op.stand, let_in(op)["access_token"]
    proposed = stand.post(first, "/v1/credits", TRANSFER).json()
    assert proposed["proposed_by"].startswith("per_")
    where = f"/v1/credits/{proposed['credit']}"
    again = another(op, first)
    for verb in ("confirm", "decline"):
        problem(stand.post(again, f"{where}/{verb}", {}), 403, "second_operator_needed")
    with closing(member(stand, "operator", "second@exchange.example")) as second:
        second.add_app()
        done = stand.post(let_in(second)["access_token"], f"{where}/confirm", {})
    assert done.json()["state"] == "confirmed", done.text


def test_tokens_of_the_operators_command_line_are_each_their_own(stand: Stand) -> None:
    credit = stand.post("operator", "/v1/credits", TRANSFER).json()["credit"]
    problem(stand.post("operator", f"/v1/credits/{credit}/confirm", {}), 403, "second_operator_needed")
    made = administering.create_token(stand.market, org="house", role=Role.OPERATOR)["token"]
    assert stand.post(made, f"/v1/credits/{credit}/confirm", {}).json()["state"] == "confirmed"


def test_a_token_that_nobody_knows_the_maker_of_decides_nothing(stand: Stand) -> None:
    credit = stand.post("operator", "/v1/credits", TRANSFER).json()["credit"]
    made = administering.create_token(stand.market, org="house", role=Role.OPERATOR)
    unknown = update(token).where(token.c.id == made["token_id"]).values(created_by=None)
    stand.market.store.jot(lambda session, _: session.execute(unknown))
    told = problem(stand.post(made["token"], f"/v1/credits/{credit}/confirm", {}), 403, "role_missing")
    assert "nobody knows who made this token" in told["detail"]


def test_who_wrote_a_licence_does_not_approve_it_by_another_program(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    strict = dataclasses.replace(stand.market.settings, licence_approval=1)
    object.__setattr__(stand.market, "settings", strict)
    with closing(member(stand, "provider", "ed@city.example", admin=True)) as editor:
        first = let_in(editor)["access_token"]
        drafted = stand.draft(first, manifest=sample.manifest(licence=sample.licence(text="Mine."))).json()
        sent = {"version": drafted["version"]}
        refused = stand.post(first, f"/v1/datasets/{drafted['slug']}/publish", sent)
        problem(refused, 409, "licence_not_approved")
        entry = stand.entries(outcome="refused", code="licence_not_approved")[-1]
        licence = stand.get("officer", f"/v1/audit/entries/{entry.id}").json()["refusal"]["licence_id"]
        for another in (_signed_in_again, _by_own_token, _by_client):
            reply = stand.post(another(editor, first), f"/v1/licences/{licence}/approve")
            problem(reply, 403, "licence_edited_by_approver")
        assert stand.post("provider", f"/v1/licences/{licence}/approve").status_code == 200
