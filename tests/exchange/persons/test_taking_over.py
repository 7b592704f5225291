"""Nobody gets into an account, or stays in it, by what an administrator or an earlier password could do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from exchange.errors import InvitationUnknown
from exchange.identity import SYSTEM
from exchange.operations import arriving, joining
from exchange.persons import accounts
from exchange.store import Tx
from tests.exchange.oauth.program import CLI, Program
from tests.exchange.oauth.test_persons import let_in
from tests.exchange.persons.test_members import joined, link_on, member_ids
from tests.market.browser import PASSWORD, Browser, invited, member, path_of
from tests.market.stand import Stand

BO = "bo@acme.example"
OTHER_PASSWORD = "nine red lanterns in fog"


@pytest.fixture
def ada(stand: Stand) -> Iterator[Browser]:
    """An administrator of the buyer's organisation."""
    with closing(member(stand, login="ada@acme.example", admin=True)) as browser:
        yield browser


@pytest.fixture
def bo(ada: Browser) -> Iterator[Browser]:
    """A member whom the administrator invited."""
    with closing(joined(ada, BO)) as browser:
        yield browser


def opens(stand: Stand, given: dict[str, str]) -> bool:
    """Whether what a program was given opens anything."""
    if stand.get(given["access_token"], "/v1/whoami").status_code == 200:
        return True
    fresh = Program(stand, CLI).token("refresh_token", refresh_token=given["refresh_token"])
    return fresh.status_code == 200


def test_an_administrator_who_shut_a_member_out_does_not_reset_the_account(ada: Browser, bo: Browser) -> None:
    bo.post(path_of(invited(ada.stand, "other", BO)), accept="yes")
    made = member_ids(ada)[BO]
    assert ada.post(f"/members/{made}/disable").status_code == 200
    assert ada.post(f"/members/{made}/reset").status_code == 403
    assert bo.sign_in(BO).url.path == "/account", "the password is the same"


def test_an_administrator_does_not_reset_a_member_whom_another_organisation_shut_out(
    ada: Browser, bo: Browser
) -> None:
    stand = ada.stand
    bo.post(path_of(invited(stand, "other", BO)), accept="yes")
    theirs = joining.member_named(stand.market, org=stand.orgs["other"], login=BO)
    joining.disable(stand.market, SYSTEM, org=stand.orgs["other"], member=theirs)
    assert ada.post(f"/members/{member_ids(ada)[BO]}/reset").status_code == 403


def test_a_link_for_a_new_password_ends_when_its_person_joins_another_organisation(
    ada: Browser, bo: Browser
) -> None:
    stand = ada.stand
    other = invited(stand, "other", BO)
    link = link_on(ada.post(f"/members/{member_ids(ada)[BO]}/reset").text)
    found = arriving.look_at(stand.market, link.rpartition("/")[2])
    assert found["purpose"] == "password"
    _join(stand, other)
    with pytest.raises(InvitationUnknown):
        arriving.look_at(stand.market, link.rpartition("/")[2])
    with closing(Browser(stand)) as eve:
        assert eve.join(link, password=OTHER_PASSWORD).status_code == 404


def _join(stand: Stand, link: str) -> None:
    """Join as by single sign-on, which needs no password."""

    def work(tx: Tx) -> dict[str, str]:
        row = accounts.invited(tx.session, link.rpartition("/")[2], tx.now)
        known = accounts.by_login(tx.session, row.login)
        assert known is not None
        arriving.join_by(tx, row, known.id)
        return {}

    stand.market.store.perform(SYSTEM, arriving.JoinOrganisation(), work)


def test_another_password_ends_the_programs(bo: Browser) -> None:
    given = let_in(bo)
    assert bo.post("/account/password", current=PASSWORD, new=OTHER_PASSWORD).status_code == 200
    assert not opens(bo.stand, given)


def test_a_reset_ends_the_programs(ada: Browser, bo: Browser) -> None:
    given = let_in(bo)
    assert ada.post(f"/members/{member_ids(ada)[BO]}/reset").status_code == 200
    assert not opens(ada.stand, given)


def test_shutting_a_person_out_ends_the_programs_for_good(bo: Browser) -> None:
    given = let_in(bo)
    for shut_out in (True, False):
        joining.disable_person(bo.stand.market, login=BO, disabled=shut_out)
        assert not opens(bo.stand, given)


def test_a_member_let_in_again_finds_the_programs_ended(ada: Browser, bo: Browser) -> None:
    given, made = let_in(bo), member_ids(ada)[BO]
    for verb in ("disable", "enable"):
        assert ada.post(f"/members/{made}/{verb}").status_code == 200
        assert not opens(ada.stand, given)


def test_a_member_who_joins_again_finds_the_programs_of_this_organisation_ended(
    ada: Browser, bo: Browser
) -> None:
    stand, given = ada.stand, let_in(bo)
    bo.post(path_of(invited(stand, "other", BO)), accept="yes")
    elsewhere = let_in(bo)
    ada.post(f"/members/{member_ids(ada)[BO]}/remove")
    assert stand.get(elsewhere["access_token"], "/v1/whoami").json()["name"] == "globex"
    bo.sign_in(BO)
    assert bo.post(path_of(link_on(ada.post("/members", login=BO).text)), accept="yes").status_code == 200
    assert not opens(stand, given)
    assert stand.get(elsewhere["access_token"], "/v1/whoami").status_code == 200
