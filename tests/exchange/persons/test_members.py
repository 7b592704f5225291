"""Members of organisations: invited, changed, shut out - by those who may, and in a log that names nobody."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import closing
from html import unescape

import pytest

from exchange.errors import MemberExists, RoleMissing
from exchange.identity import SYSTEM, Role
from exchange.operations import joining
from tests.market.browser import PASSWORD, Browser, invited, member, path_of
from tests.market.stand import Stand

LOGIN = "ada@acme.example"


@pytest.fixture
def ada(stand: Stand) -> Iterator[Browser]:
    """An administrator of the buyer's organisation."""
    with closing(member(stand, login=LOGIN, admin=True)) as browser:
        yield browser


def link_on(page: str) -> str:
    found = re.search(r"<pre>([^<]*/join/[^<]*)</pre>", page)
    assert found is not None, page
    return unescape(found[1])


def member_ids(browser: Browser) -> dict[str, str]:
    """Login -> the id of the membership, as the page shows them."""
    rows = re.findall(r"<tr>.*?</tr>", browser.get("/members").text, re.DOTALL)
    found = [(re.search(r"[\w.]+@[\w.]+", row), re.search(r"/members/(mbr_\w+)/", row)) for row in rows]
    return {login[0]: made[1] for login, made in found if login and made}


def joined(ada: Browser, login: str = "bo@acme.example", **more: str) -> Browser:
    """Somebody whom ada invited on her page, in a browser of the own."""
    page = ada.post("/members", login=login, **more).text
    browser = Browser(ada.stand)
    assert browser.join(link_on(page), name="Bo").url.path == "/account"
    return browser


def test_an_administrator_invites_and_the_link_works_once(ada: Browser) -> None:
    page = ada.post("/members", login=" Bo@Acme.example ").text
    link = link_on(page)
    assert link.startswith(ada.stand.settings.base_url + "/join/inv_")
    assert link not in ada.get("/members").text, "it is shown once"
    assert "bo@acme.example" in ada.get("/members").text
    with closing(Browser(ada.stand)) as bo, closing(Browser(ada.stand)) as late:
        assert "Join acme" in bo.get(path_of(link)).text
        assert "acting for acme as buyer" in bo.join(link, name="Bo").text
        assert late.join(link, name="Eve").status_code == 404
        assert late.get(path_of(link)).status_code == 404
        assert bo.get("/members").status_code == 403
        assert "Members" not in bo.get("/").text
    assert set(member_ids(ada)) == {LOGIN, "bo@acme.example"}


@pytest.mark.parametrize(
    "change",
    [lambda link: link[:-1] + "A", lambda link: link[:-44], lambda _: "/join/x", lambda _: "/join/inv_0.x"],
)
def test_another_link_opens_nothing(ada: Browser, change: object) -> None:
    link = link_on(ada.post("/members", login="bo@acme.example").text)
    other = change(link)  # type: ignore[operator]
    with closing(Browser(ada.stand)) as bo:
        if other != link:
            assert bo.get(path_of(other)).status_code == 404
            assert bo.join(other).status_code == 404
        ada.stand.clock.advance(days=7)
        assert bo.join(link).status_code == 404, "too old"


def test_a_link_can_be_withdrawn_and_replaced(ada: Browser) -> None:
    first = link_on(ada.post("/members", login="bo@acme.example").text)
    second = link_on(ada.post("/members", login="bo@acme.example").text)
    with closing(Browser(ada.stand)) as bo:
        assert bo.join(first).status_code == 404, "a newer link takes its place"
        (invitation,) = set(re.findall(r"/invitations/(inv_\w+)/withdraw", ada.get("/members").text))
        assert ada.post("/invitations/inv_0/withdraw").status_code == 404
        assert ada.post(f"/invitations/{invitation}/withdraw").status_code == 200
        assert bo.join(second).status_code == 404


@pytest.mark.parametrize(
    "login", ["", "bo", "bo@", "@x.example", "a b@x.example", "bo@x.example\x00", "x" * 250 + "@x.example"]
)
def test_a_login_looks_like_an_address(ada: Browser, login: str) -> None:
    assert ada.post("/members", login=login).status_code == 422


def test_the_log_names_ids_and_nobody(ada: Browser) -> None:
    stand = ada.stand
    with closing(joined(ada, "bo.secret@acme.example")) as bo:
        bo.post("/account/password", current=PASSWORD, new="nine red lanterns in fog")
    made = member_ids(ada)["bo.secret@acme.example"]
    for verb in ("promote", "demote", "disable", "enable", "reset", "remove"):
        assert ada.post(f"/members/{made}/{verb}").status_code == 200, verb
    ada.post("/members", login="bo.secret@acme.example")
    assert ada.post("/members", login="not a login of bo").status_code == 422
    leaves = json.dumps([record.document for record in stand.entries()])
    for text in ("bo.secret", "Bo", LOGIN, "Ada", "not a login"):
        assert text not in leaves, text
    kinds = {record.document["kind"] for record in stand.entries()}
    verbs = ("invited", "joined", "changed", "disabled", "enabled", "reset", "removed")
    assert {f"member.{verb}" for verb in verbs} <= kinds
    (removed,) = stand.entries(kind="member.removed")
    assert removed.document["object"]["id"] == made
    assert removed.document["actor"]["ref"].startswith("per_")
    assert removed.document["actor"]["auth"] == "session"
    assert stand.broken_laws() == []


def test_disabling_and_removing_end_sessions_at_once(ada: Browser) -> None:
    with closing(joined(ada)) as bo:
        made = member_ids(ada)["bo@acme.example"]
        assert bo.is_signed_in()
        ada.post(f"/members/{made}/disable")
        assert not bo.is_signed_in()
        assert bo.sign_in("bo@acme.example").status_code == 401, "as if the password were wrong"
        ada.post(f"/members/{made}/enable")
        assert bo.sign_in("bo@acme.example").url.path == "/account"
        ada.post(f"/members/{made}/remove")
        assert not bo.is_signed_in()
        assert bo.sign_in("bo@acme.example").status_code == 401


def test_a_demoted_administrator_loses_the_pages_at_once(ada: Browser) -> None:
    with closing(joined(ada, admin="yes")) as bo:
        assert bo.get("/members").status_code == 200
        ada.post(f"/members/{member_ids(ada)['bo@acme.example']}/demote")
        assert bo.get("/members").status_code == 403
        assert bo.post("/members", login="x@acme.example").status_code == 403
        assert bo.get("/tokens").status_code == 403
        assert bo.post("/tokens").status_code == 403


@pytest.mark.parametrize("verb", ["demote", "disable", "remove"])
def test_the_last_administrator_stays(ada: Browser, verb: str) -> None:
    mine = member_ids(ada)[LOGIN]
    reply = ada.post(f"/members/{mine}/{verb}")
    assert reply.status_code == 409
    assert "nobody else administers" in reply.text
    with closing(joined(ada, admin="yes")):
        joining.disable_person(ada.stand.market, login="bo@acme.example")
        assert ada.post(f"/members/{mine}/{verb}").status_code == 409, "the other one is shut out everywhere"
        joining.disable_person(ada.stand.market, login="bo@acme.example", disabled=False)
        assert ada.post(f"/members/{mine}/{verb}").status_code == 200


def test_members_of_others_look_like_none(ada: Browser) -> None:
    with closing(member(ada.stand, "other", "gil@globex.example", admin=True)) as gil:
        theirs = member_ids(gil)["gil@globex.example"]
        for verb in ("promote", "demote", "disable", "enable", "reset", "remove"):
            foreign, unknown = ada.post(f"/members/{theirs}/{verb}"), ada.post(f"/members/mbr_0/{verb}")
            assert (foreign.status_code, unknown.status_code) == (404, 404)
            assert foreign.text == unknown.text
        assert gil.is_signed_in()
        assert ada.post(f"/members/{member_ids(ada)[LOGIN]}/eat").status_code == 422


def test_a_reset_takes_everything_away_and_its_link_sets_a_password(ada: Browser) -> None:
    with closing(joined(ada)) as bo:
        bo.add_app()
        link = link_on(ada.post(f"/members/{member_ids(ada)['bo@acme.example']}/reset").text)
        assert not bo.is_signed_in()
        assert bo.sign_in("bo@acme.example").status_code == 401
        assert "Set a new password" in bo.get(path_of(link)).text
        assert bo.join(link, password="nine red lanterns in fog").url.path == "/account"
        assert "None yet" in bo.get("/account").text, "the second factor is gone"
        assert bo.join(link).status_code == 404
        assert bo.sign_in("bo@acme.example", "nine red lanterns in fog").url.path == "/account"


def test_a_member_of_two_organisations_is_reset_by_the_operator_alone(ada: Browser) -> None:
    stand = ada.stand
    with closing(joined(ada)) as bo:
        bo.post(path_of(invited(stand, "other", "bo@acme.example")), accept="yes")
        made = member_ids(ada)["bo@acme.example"]
        assert ada.post(f"/members/{made}/reset").status_code == 403
        assert bo.is_signed_in()
        done = joining.reset(stand.market, SYSTEM, org=stand.orgs["buyer"], member=made)
        assert not bo.is_signed_in()
        assert bo.join(done["link"]).url.path == "/account"


def test_an_account_joins_by_its_own_links_alone(ada: Browser) -> None:
    stand = ada.stand
    hers, his = invited(stand, "other", LOGIN), invited(stand, "other", "bo@globex.example")
    with closing(Browser(stand)) as stranger:
        assert "There is an account" in stranger.get(path_of(hers)).text
        assert stranger.join(hers, name="Eve").status_code == 409, (
            "no new password for an account that is there"
        )
    assert ada.post(path_of(his), accept="yes").status_code == 404
    assert "acting for globex" in ada.post(path_of(hers), accept="yes").text
    with pytest.raises(MemberExists):
        invited(stand, "other", LOGIN)


def test_roles_are_those_that_the_organisation_holds(stand: Stand) -> None:
    with pytest.raises(RoleMissing, match="holds the role buyer"):
        joining.invite(stand.market, SYSTEM, org=stand.orgs["buyer"], login=LOGIN, role=Role.OFFICER)
    with closing(member(stand, login=LOGIN)):
        made = joining.member_named(stand.market, org=stand.orgs["buyer"], login=LOGIN)
        with pytest.raises(RoleMissing):
            joining.change(stand.market, SYSTEM, org=stand.orgs["buyer"], member=made, role=Role.OPERATOR)


def test_tokens_are_made_seen_and_revoked_by_administrators(ada: Browser) -> None:
    stand = ada.stand
    found = re.search(r"<pre>(tok_[^<]+)</pre>", ada.post("/tokens", expires="2099-01-31").text)
    assert found is not None
    page = ada.get("/tokens").text
    assert found[1] not in page
    token = found[1].partition(".")[0]
    assert token in page
    assert "2099-01-31 23:59:59 UTC" in page
    assert stand.get(found[1], "/v1/whoami").json()["name"] == "acme"
    assert ada.post(f"/tokens/{token}/revoke").status_code == 200
    assert stand.get(found[1], "/v1/whoami").status_code == 401
    foreign = stand.tokens["other"].partition(".")[0]
    assert ada.post(f"/tokens/{foreign}/revoke").status_code == 404
    assert stand.get("other", "/v1/whoami").status_code == 200
    for day in ("yesterday", "2020-01-01", "31.1.2099"):
        assert ada.post("/tokens", expires=day).status_code == 422
    with closing(stand.sign_in("buyer")) as with_token:
        assert with_token.get("/tokens").status_code == 403, "a token makes no tokens"
        assert with_token.get("/members").status_code == 403


def test_inviting_and_tokens_ask_for_a_recent_proof(ada: Browser) -> None:
    ada.stand.clock.advance(minutes=6)
    assert ada.post("/members", login="bo@acme.example").url.path == "/sign-in/confirm"
    assert ada.post("/tokens").url.path == "/sign-in/confirm"
    assert ada.post("/sign-in/confirm", password=PASSWORD, next="/members").url.path == "/members"
    assert link_on(ada.post("/members", login="bo@acme.example").text)


def test_persons_are_actors_of_their_organisation(ada: Browser) -> None:
    page = ada.get("/datasets/city/rides")
    assert page.status_code == 200
    assert "acme · buyer" in page.text


def test_what_was_typed_stays_where_a_form_is_refused(ada: Browser) -> None:
    page = ada.post("/members", login="no login", admin="yes")
    assert page.status_code == 422
    assert 'value="no login"' in page.text
    assert 'value="yes" checked' in page.text
    assert 'aria-invalid="true"' in page.text
    page = ada.post("/tokens", expires="2001-01-31")
    assert page.status_code == 422
    assert 'value="2001-01-31"' in page.text
    assert "A token ends in the future" in page.text


def test_what_shuts_somebody_out_is_confirmed(ada: Browser) -> None:
    ada.post("/tokens", expires="2099-01-31")
    for path, verbs in (("/members", ("disable", "reset", "remove")), ("/tokens", ("revoke",))):
        page = ada.get(path).text
        for verb in verbs:
            assert re.search(rf'<details class="confirm">.{{0,400}}action="[^"]*/{verb}"', page, re.DOTALL), (
                verb
            )
