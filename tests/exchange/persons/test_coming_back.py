"""Somebody who was removed from the only organisation is invited again: the account is there, and joins."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from exchange.operations import joining
from tests.exchange.oauth.program import CLI, Program, confirm
from tests.exchange.persons.test_members import joined, link_on, member_ids
from tests.market.browser import PASSWORD, Browser, invited, member, path_of
from tests.market.identity_provider import named, provider
from tests.market.stand import Stand, problem

BO = "bo@acme.example"
FRESH = "nine red lanterns in fog"


@pytest.fixture
def ada(sqlite_stand: Stand) -> Iterator[Browser]:
    """An administrator of the buyer's organisation."""
    with closing(member(sqlite_stand, login="ada@acme.example", admin=True)) as browser:
        yield browser


def remove(ada: Browser, verb: str = "remove") -> str:
    """Shut bo out; returns the link where there is one."""
    page = ada.post(f"/members/{member_ids(ada)[BO]}/{verb}").text
    return link_on(page) if verb == "reset" else ""


def let_in(stand: Stand, browser: Browser) -> dict[str, str]:
    """What a device is given that somebody lets in."""
    program = Program(stand, CLI)
    started = program.device()
    confirm(browser.http, started["user_code"])
    given: dict[str, str] = program.poll(started["device_code"]).json()
    return given


def test_a_removed_person_joins_again_by_link_and_password(ada: Browser) -> None:
    stand = ada.stand
    with closing(joined(ada, BO)) as bo:
        before = let_in(stand, bo)
        assert stand.get(before["access_token"], "/v1/whoami").status_code == 200
        remove(ada)
        link = path_of(link_on(ada.post("/members", login=BO).text))
        page = bo.get(link).text
        assert "a member of no organisation" in page
        assert 'name="name"' not in page, "the account has a name"
        assert bo.post(link, password="not the password of bo").status_code == 401
        assert not bo.is_signed_in()
        assert bo.post(link, password=PASSWORD).url.path == "/account"
        assert "acting for acme as buyer" in bo.get("/account").text
        after = let_in(stand, bo)
        assert stand.get(after["access_token"], "/v1/whoami").json()["role"] == "buyer"
        problem(stand.get(before["access_token"], "/v1/whoami"), 401, "token_unknown")
        assert bo.post(link, password=PASSWORD).status_code == 404, "the link worked once"
    persons = [row.document["actor"]["ref"] for row in stand.entries(kind="session.started")]
    assert persons[-1] == persons[-2], "the same person as before"
    assert stand.broken_laws() == []


def test_another_organisation_may_invite_who_was_removed(ada: Browser) -> None:
    with closing(joined(ada, BO)) as bo:
        remove(ada)
        assert bo.post(path_of(invited(ada.stand, "other", BO)), password=PASSWORD).url.path == "/account"
        assert "acting for globex" in bo.get("/account").text


def test_the_password_is_guessed_no_faster_by_a_link(ada: Browser) -> None:
    with closing(joined(ada, BO)) as bo:
        remove(ada)
        link = path_of(invited(ada.stand, "other", BO))
        statuses = [bo.post(link, password=f"wrong words number {n}").status_code for n in range(6)]
        assert statuses == [401] * 5 + [429]
        assert bo.sign_in(BO).status_code == 429, "tries are counted together"


def test_whoever_is_a_member_elsewhere_signs_in_first(ada: Browser) -> None:
    with closing(joined(ada, BO)) as bo, closing(Browser(ada.stand)) as stranger:
        link = path_of(invited(ada.stand, "other", BO))
        assert "Sign in" in stranger.get(link).text
        assert stranger.post(link, name="Bo", password=PASSWORD).status_code == 409
        assert bo.post(link, accept="yes").url.path == "/account"


def test_a_second_factor_is_asked_before_anything_opens(ada: Browser) -> None:
    with closing(joined(ada, BO)) as bo:
        bo.add_app()
        remove(ada)
        link = path_of(invited(ada.stand, "other", BO))
        assert bo.post(link, password=PASSWORD).url.path == "/sign-in/confirm"
        assert not bo.is_signed_in()
        ada.stand.clock.advance(minutes=1)
        bo.confirm(code=bo.code())
        assert bo.is_signed_in()


def test_a_disabled_person_does_not_come_back(ada: Browser) -> None:
    with closing(joined(ada, BO)) as bo:
        remove(ada)
        joining.disable_person(ada.stand.market, login=BO)
        link = path_of(invited(ada.stand, "other", BO))
        assert bo.post(link, password=PASSWORD).status_code == 404
        joining.disable_person(ada.stand.market, login=BO, disabled=False)
        assert bo.post(link, password=PASSWORD).url.path == "/account"


def test_who_was_reset_and_removed_sets_a_password_anew(ada: Browser) -> None:
    """The earlier link is dead: it is of an organisation that the person left."""
    with closing(joined(ada, BO)) as bo, closing(Browser(ada.stand)) as eve:
        dead = remove(ada, "reset")
        remove(ada)
        assert eve.join(dead, password=FRESH).status_code == 404
        link = path_of(invited(ada.stand, "other", BO))
        assert 'name="name"' in bo.get(link).text
        assert bo.post(link, name="Bo", password=FRESH).url.path == "/account"
        assert bo.sign_in(BO, FRESH).url.path == "/account"


def test_who_came_by_a_provider_comes_back_by_it(ada: Browser) -> None:
    stand = ada.stand
    with provider() as idp, closing(Browser(stand)) as bo:
        named(stand, idp.url)
        idp.email = BO
        bo.http.follow_redirects = False

        def sign_on(link: str) -> int:
            away = bo.http.get("/sign-in/with", params={"next": link})
            return bo.http.get("/sign-in/back", params=idp.authorize(away.headers["Location"])).status_code

        assert sign_on(path_of(invited(stand, "buyer", BO))) == 302
        remove(ada)
        assert sign_on("/account") == 401
        again = path_of(invited(stand, "other", BO))
        assert "identity" in bo.get(again).text
        idp.subject = "subject-2"
        assert sign_on(again) == 409, "another identity opens no account of somebody's"
        idp.subject = "subject-1"
        assert sign_on(again) == 302
        assert "acting for globex" in bo.get("/account").text
