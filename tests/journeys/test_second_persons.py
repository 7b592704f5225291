"""Whether two officers are two persons: by whom accounts were let in, through removals, resets and others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from exchange.identity import SYSTEM
from exchange.operations import erasing, joining, second_persons
from tests.exchange.persons.test_members import link_on, member_ids
from tests.journeys.test_approvals import again, ask, is_frozen, puppet, refused
from tests.market import sample
from tests.market.browser import PASSWORD, Browser, invited, member, path_of
from tests.market.officers import approve, officer, set_restraint
from tests.market.stand import Stand

ADA, BO, YAK, ZED = (f"{name}@cnil.example" for name in ("ada", "bo", "yak", "zed"))


@pytest.fixture
def freeze(sqlite_stand: Stand) -> str:
    """A freeze of the sample's dataset."""
    return str(set_restraint(sqlite_stand, dataset=sample.SLUG)["freeze"])


@pytest.fixture
def ada(sqlite_stand: Stand) -> Iterator[Browser]:
    """An officer who administers the organisation, let in by the operator."""
    with closing(member(sqlite_stand, "officer", ADA, admin=True)) as browser:
        browser.add_app()
        yield browser


def invite(by: Browser, login: str, **fields: str) -> Browser:
    """An account that an administrator invites, and whoever made the link opens."""
    return puppet(by.stand, link_on(by.post("/members", login=login, **fields).text), login)


def come_back(known: Browser, login: str) -> None:
    """The operator invites somebody who was removed, and the account joins with what it has."""
    known.post(path_of(invited(known.stand, "officer", login)), password=PASSWORD)
    known.stand.clock.advance(minutes=1)
    assert known.confirm(code=known.code()).status_code == 200
    assert known.is_signed_in()


def remove(stand: Stand, login: str) -> None:
    org = stand.orgs["officer"]
    found = joining.member_named(stand.market, org=org, login=login)
    joining.remove(stand.market, SYSTEM, org=org, member=found)


@pytest.mark.parametrize("by", ["invitation", "reset"])
def test_a_membership_that_ended_still_tells_who_let_in(ada: Browser, freeze: str, by: str) -> None:
    """The account has the password and the factor that it had."""
    stand = ada.stand
    if by == "invitation":
        zed = invite(ada, ZED)
    else:
        officer(stand, ZED).close()
        zed = puppet(stand, link_on(ada.post(f"/members/{member_ids(ada)[ZED]}/reset").text), ZED)
    with closing(zed):
        for _ in range(2):
            remove(stand, ZED)
            come_back(zed, ZED)
        asked = ask(ada, freeze)
        refused(approve(zed, asked), "second_person_needed")
        assert is_frozen(stand)
        with closing(puppet(stand, again(stand, ZED), ZED)) as himself:  # the operator takes everything away
            stand.post("officer", f"/v1/officer/approvals/{asked}/decline")
            assert approve(himself, ask(ada, freeze)).status_code == 200
    assert not is_frozen(stand)
    assert stand.broken_laws() == []


def test_who_was_reset_by_the_operator_removed_and_invited_again_approves(ada: Browser, freeze: str) -> None:
    stand = ada.stand
    invite(ada, ZED).close()
    with closing(puppet(stand, again(stand, ZED), ZED)) as zed:
        remove(stand, ZED)
        come_back(zed, ZED)
        assert approve(zed, ask(ada, freeze)).status_code == 200
    assert not is_frozen(stand)


@pytest.mark.parametrize("between", ["there", "reset", "removed", "erased"])
@pytest.mark.parametrize("asks", ["first", "last"])
def test_who_lets_somebody_in_by_another_is_no_second_person(
    ada: Browser, freeze: str, asks: str, between: str
) -> None:
    """Whatever has become of the account between the two since."""
    stand = ada.stand
    with closing(invite(ada, ZED, admin="yes")) as zed, closing(invite(zed, YAK)) as yak:
        if between == "reset":
            again(stand, ZED)
        elif between == "removed":
            remove(stand, ZED)
        elif between == "erased":
            there = joining.members(stand.market, SYSTEM, org=stand.orgs["officer"])["items"]
            erasing.erase(stand.market, next(one["person"] for one in there if one["login"] == ZED))
        one, other = (ada, yak) if asks == "first" else (yak, ada)
        refused(approve(other, ask(one, freeze)), "second_person_needed")
    assert is_frozen(stand)
    assert stand.broken_laws() == []


def test_whom_one_administrator_invited_approve_for_each_other(ada: Browser, freeze: str) -> None:
    """So do those whom they let in: an organisation whose members one person invited has second persons."""
    with (
        closing(invite(ada, ZED, admin="yes")) as zed,
        closing(invite(ada, BO)) as bo,
        closing(invite(zed, YAK)) as yak,
    ):
        asked = ask(bo, freeze)
        assert approve(zed, asked).status_code == 200
        other = str(set_restraint(ada.stand, organisation="acme")["freeze"])
        assert approve(yak, ask(bo, other)).status_code == 200
    made = ada.stand.get("officer", "/v1/officer/freezes").json()["items"]
    assert {one["state"] for one in made} == {"lifted"}


def test_what_an_account_let_in_before_somebody_took_it_over_is_not_theirs(ada: Browser, freeze: str) -> None:
    stand = ada.stand
    with closing(member(stand, "officer", ZED, admin=True)) as zed:
        zed.add_app()
        with closing(invite(zed, YAK)) as yak:
            ada.post(f"/members/{member_ids(ada)[ZED]}/reset")
            assert approve(yak, ask(ada, freeze)).status_code == 200


def test_a_chain_that_is_too_long_is_nobodys_second_person(
    ada: Browser, freeze: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(second_persons, "_MOST_LINKS", 1)
    with closing(invite(ada, ZED, admin="yes")) as zed, closing(invite(zed, YAK)) as yak:
        with closing(officer(ada.stand, BO)) as bo:
            asked = ask(bo, freeze)
        refused(approve(yak, asked), "second_person_needed")
    assert is_frozen(ada.stand)


def test_leaving_is_told_by_ids_alone(ada: Browser) -> None:
    stand = ada.stand
    invite(ada, ZED).close()
    found = member_ids(ada)[ZED]
    ada.post(f"/members/{found}/remove")
    removed, left = stand.entries()[-2:]
    assert (removed.document["kind"], removed.document["object"]["id"]) == ("member.removed", found)
    about = left.document["object"]
    assert (left.document["kind"], about["type"], about["version"]) == ("person.left", "person", found)
    assert about["id"].startswith("per_")
    assert b"zed" not in left.leaf
