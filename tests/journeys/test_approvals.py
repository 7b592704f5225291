"""Approvals: one person asks, another approves with a second factor, once, in time, just what was shown."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from exchange import Exchange, restraints
from exchange.identity import SYSTEM
from exchange.operations import approving, deciding, joining
from tests.exchange.persons.test_members import link_on, member_ids
from tests.journeys.crashes import Died
from tests.market import sample
from tests.market.browser import Browser, member
from tests.market.officers import approve, officer, set_restraint, shown
from tests.market.stand import Stand, problem


@pytest.fixture
def officers(stand: Stand) -> Iterator[tuple[Browser, Browser]]:
    """Ada and Bo, two officers of one organisation."""
    with closing(officer(stand)) as ada, closing(officer(stand, "bo@cnil.example")) as bo:
        yield ada, bo


@pytest.fixture
def frozen(stand: Stand) -> str:
    """A freeze of the sample's dataset."""
    return str(set_restraint(stand, dataset=sample.SLUG)["freeze"])


def ask(browser: Browser, freeze: str) -> str:
    """Ask on the portal to lift a freeze; returns the approval's id."""
    page = browser.post(f"/officer/freezes/{freeze}/lift", reason="it was settled")
    found = re.fullmatch(r"/officer/approvals/(apr_[0-9a-f]{24})", page.url.path)
    assert found is not None, page.text
    return found[1]


def is_frozen(stand: Stand) -> bool:
    (made,) = stand.get("officer", "/v1/officer/freezes").json()["items"]
    return bool(made["state"] == "in force")


def refused(reply: httpx.Response, code: str) -> None:
    assert code in reply.text.lower().replace(" ", "_"), reply.text
    assert "What to do" in reply.text


def test_two_persons_lift_a_freeze(stand: Stand, officers: tuple[Browser, Browser], frozen: str) -> None:
    ada, bo = officers
    asked = ask(ada, frozen)
    assert ask(ada, frozen) == asked, "asking again asks once"
    waiting = shown(stand, asked)
    assert (waiting["state"], waiting["command"]) == ("open", "freeze.lift")
    assert (waiting["parameters"], waiting["reason"]) == ({"freeze": frozen}, "it was settled")
    refused(ada.post(f"/officer/approvals/{asked}/approve", digest=waiting["digest"]), "second_person_needed")
    assert is_frozen(stand)
    assert approve(bo, asked).status_code == 200
    assert not is_frozen(stand)
    done = shown(stand, asked)
    assert done["state"] == "approved"
    assert done["used_at"]
    assert done["requested_by"].startswith("per_")
    assert done["decided_by"].startswith("per_")
    assert done["decided_by"] != done["requested_by"]
    told = {one.document["kind"]: one.document for one in stand.entries()}
    for kind, who in (
        ("approval.requested", done["requested_by"]),
        ("approval.approved", done["decided_by"]),
    ):
        assert (told[kind]["actor"]["ref"], told[kind]["object"]["id"]) == (who, asked)
        assert told[kind]["result"]["sha256"] == done["digest"]
    assert told["freeze.lifted"]["object"]["id"] == frozen
    assert told["freeze.lifted"]["seq"] == told["approval.approved"]["seq"] + 1, "in one transaction"
    assert stand.run().status_code == 200
    refused(approve(bo, asked), "approval_closed")
    problem(
        stand.post("officer", f"/v1/officer/freezes/{frozen}/lift", {"reason": "x"}), 409, "approval_closed"
    )
    assert stand.broken_laws() == []
    stand.publish_log()
    assert stand.verify().exit_code == 0


def test_who_asks_does_not_approve_whatever_it_is_asked_with(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    freeze = set_restraint(stand, dataset=sample.SLUG)["freeze"]
    with ExitStack() as stack:
        ada = stack.enter_context(closing(member(stand, "officer", "ada@cnil.example", admin=True)))
        assert ada.add_app().status_code == 200
        bo = stack.enter_context(closing(officer(stand, "bo@cnil.example")))
        csrf = ada.csrf("/tokens")
        made = re.search(r"tok_[0-9a-f]{24}\.[A-Za-z0-9_-]{43}", ada.post("/tokens", csrf=csrf).text)
        assert made is not None
        asked = stand.post(made[0], f"/v1/officer/freezes/{freeze}/lift", {"reason": "settled"}).json()
        told = shown(stand, asked["approval"])
        assert told["requested_by"].startswith("per_"), "a token's holder asked"
        page = ada.get(f"/officer/approvals/{asked['approval']}").text
        assert "You asked for this" in page
        posted = ada.post(f"/officer/approvals/{asked['approval']}/approve", digest=told["digest"])
        refused(posted, "second_person_needed")
        assert posted.status_code == 403
        assert stand.entries(kind="approval.refused")[-1].document["code"] == "second_person_needed"
        assert is_frozen(stand)
        assert approve(bo, asked["approval"]).status_code == 200
    assert not is_frozen(stand)
    assert stand.broken_laws() == []


def puppet(stand: Stand, link: str, login: str) -> Browser:
    """An account that whoever made its link opened for themselves, with a second factor."""
    browser = Browser(stand)
    assert browser.join(link).status_code == 200
    assert browser.add_app().status_code == 200
    return browser


@pytest.mark.parametrize("when", ["before", "after"])
def test_who_resets_a_colleague_does_not_approve_as_the_colleague(sqlite_stand: Stand, when: str) -> None:
    stand = sqlite_stand
    freeze = set_restraint(stand, dataset=sample.SLUG)["freeze"]
    with closing(member(stand, "officer", "ada@cnil.example", admin=True)) as ada:
        ada.add_app()
        officer(stand, "bo@cnil.example").close()
        asked = ask(ada, freeze) if when == "after" else ""
        reset = ada.post(f"/members/{member_ids(ada)['bo@cnil.example']}/reset")
        with closing(puppet(stand, link_on(reset.text), "bo@cnil.example")) as bo:
            told = approve(bo, asked or ask(ada, freeze))
            refused(told, "second_person_needed")
            if when == "before":  # the operator lets Bo in anew, and Bo is another person again
                link = again(stand, "bo@cnil.example")
                with closing(puppet(stand, link, "bo@cnil.example")) as himself:
                    refused(approve(himself, ask(ada, freeze)), "second_person_needed")
                    stand.post("officer", f"/v1/officer/approvals/{ask(ada, freeze)}/decline")
                    assert approve(himself, ask(ada, freeze)).status_code == 200
    assert is_frozen(stand) is (when == "after")
    assert stand.broken_laws() == []


def again(stand: Stand, login: str) -> str:
    """The link for a new password that the operator makes at the machine."""
    made = joining.member_named(stand.market, org=stand.orgs["officer"], login=login)
    return str(joining.reset(stand.market, SYSTEM, org=stand.orgs["officer"], member=made)["link"])


@pytest.mark.parametrize("asks", ["admin", "invited"])
def test_who_invites_an_account_is_no_second_person_beside_it(sqlite_stand: Stand, asks: str) -> None:
    stand = sqlite_stand
    freeze = set_restraint(stand, dataset=sample.SLUG)["freeze"]
    with closing(member(stand, "officer", "ada@cnil.example", admin=True)) as ada:
        ada.add_app()
        link = link_on(ada.post("/members", login="zed@cnil.example").text)
        with closing(puppet(stand, link, "zed@cnil.example")) as zed:
            one, other = (ada, zed) if asks == "admin" else (zed, ada)
            asked = ask(one, freeze)
            refused(approve(other, asked), "second_person_needed")
            with closing(officer(stand, "bo@cnil.example")) as late:
                refused(approve(late, asked), "second_person_needed")
                stand.post("officer", f"/v1/officer/approvals/{asked}/decline")
                assert approve(late, ask(one, freeze)).status_code == 200
    assert not is_frozen(stand)


def test_a_token_asks_and_approves_nothing(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    freeze = set_restraint(stand, dataset=sample.SLUG)["freeze"]
    asked = stand.post("officer", f"/v1/officer/freezes/{freeze}/lift", {"reason": "settled"}).json()
    path = f"/v1/officer/approvals/{asked['approval']}"
    problem(
        stand.post("officer", f"{path}/approve", {"digest": asked["digest"]}), 403, "second_factor_missing"
    )
    last = stand.entries()[-1].document
    assert (last["kind"], last["code"]) == ("approval.refused", "second_factor_missing")
    assert is_frozen(stand)
    declined = stand.post("officer", f"{path}/decline").json()
    assert declined["state"] == "declined"
    assert is_frozen(stand)
    problem(stand.post("officer", f"{path}/decline"), 409, "approval_closed")
    again = stand.post("officer", f"/v1/officer/freezes/{freeze}/lift", {"reason": "once more"}).json()
    assert again["approval"] != asked["approval"]
    assert stand.broken_laws() == []


def test_a_long_list_is_read_page_by_page(stand: Stand) -> None:
    """Each once: those that wait first, the newest first, in the API, the SDK and on the portal."""
    freeze = set_restraint(stand, dataset=sample.SLUG)["freeze"]
    declined, where = [], f"/v1/officer/freezes/{freeze}/lift"
    for number in range(5):
        made = stand.post("officer", where, {"reason": f"reason {number}"}).json()["approval"]
        stand.post("officer", f"/v1/officer/approvals/{made}/decline")
        declined.insert(0, made)
    waits = stand.post("officer", where, {"reason": "the last"}).json()["approval"]
    seen, token = list[str](), None
    while token is not None or not seen:
        asked = {"limit": "2", **({"page_token": token} if token else {})}
        page = stand.get("officer", "/v1/officer/approvals", params=asked).json()
        seen += [one["approval"] for one in page["items"]]
        token = page["next_page_token"]
    assert seen == [waits, *declined]
    some = stand.get("officer", "/v1/officer/approvals", params={"limit": "4", "state": "declined"}).json()
    rest = {"state": "declined", "page_token": some["next_page_token"]}
    assert len(stand.get("officer", "/v1/officer/approvals", params=rest).json()["items"]) == 1
    transport = httpx.WSGITransport(app=stand.app)
    with Exchange("http://market.test", token=stand.tokens["officer"], transport=transport) as x:
        assert [one.id for one in x.audit.approvals()] == seen
        assert [one.id for one in x.audit.approvals(limit=3)] == seen[:3]
    for wrong in ("", "2", "0_1_2", "x" * 200, f"7_{'0' * 32}_apr_1"):
        told = stand.get("officer", "/v1/officer/approvals", params={"page_token": wrong})
        problem(told, 422, "request_invalid")
    with closing(stand.sign_in("officer")) as browser:
        rest = {"page": f"1_{shown(stand, declined[0])['requested_at']}_{declined[0]}"}
        behind = browser.get("/officer/approvals", params=rest).text
    assert [one for one in seen if f'href="/officer/approvals/{one}"' in behind] == declined[1:]


@pytest.mark.parametrize("who", ["provider", "buyer", "operator"])
@pytest.mark.parametrize("verb", ["approve", "decline"])
def test_nobody_else_decides(shared_sqlite_stand: Stand, who: str, verb: str) -> None:
    stand = shared_sqlite_stand
    problem(stand.post(who, f"/v1/officer/approvals/apr_{'0' * 24}/{verb}"), 403, "role_missing")
    last = stand.entries()[-1].document
    assert (last["kind"], last["code"]) == ("approval.refused", "role_missing")


def test_an_approval_takes_a_fresh_second_factor(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    freeze = set_restraint(stand, dataset=sample.SLUG)["freeze"]
    with closing(officer(stand)) as ada:
        asked = stand.post("officer", f"/v1/officer/freezes/{freeze}/lift", {"reason": "settled"}).json()[
            "approval"
        ]
        stand.clock.advance(minutes=6)
        sent = approve(ada, asked)
        assert sent.url.path == "/sign-in/confirm"
        assert sent.url.params["next"] == f"/officer/approvals/{asked}"
        assert is_frozen(stand)
        assert stand.entries(kind="approval.refused")[-1].document["code"] == "confirmation_needed"
        ada.post("/sign-in/confirm", next=f"/officer/approvals/{asked}", code=ada.code())
        assert approve(ada, asked).status_code == 200
    assert not is_frozen(stand)


def test_a_password_is_no_second_factor(sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the operator lets officers in without one, an approval needs it."""
    stand = sqlite_stand
    monkeypatch.setitem(vars(stand.settings), "second_factor", 0)
    freeze = set_restraint(stand, dataset=sample.SLUG)["freeze"]
    asked = stand.post("officer", f"/v1/officer/freezes/{freeze}/lift", {"reason": "settled"}).json()[
        "approval"
    ]
    with closing(member(stand, "officer", "ada@cnil.example")) as ada:
        refused(approve(ada, asked), "second_factor_missing")
    assert is_frozen(stand)


def test_what_was_not_approved_in_time_is_over(
    stand: Stand, officers: tuple[Browser, Browser], frozen: str
) -> None:
    asked = ask(officers[0], frozen)
    stand.clock.advance(hours=73)
    with closing(officer(stand, "cy@cnil.example")) as cy:
        assert shown(stand, asked)["state"] == "expired"
        digest = shown(stand, asked)["digest"]
        refused(cy.post(f"/officer/approvals/{asked}/approve", digest=digest), "approval_closed")
        assert approving.expire(stand.market) == 1
        assert approving.expire(stand.market) == 0
        (entry,) = stand.entries(kind="approval.expired")
        assert (entry.document["actor"]["org"], entry.document["object"]["id"]) == ("system", asked)
        refused(cy.post(f"/officer/approvals/{asked}/approve", digest=digest), "approval_closed")
    assert is_frozen(stand)
    assert stand.broken_laws() == []


@pytest.mark.parametrize(
    "statement",
    [
        'UPDATE approval SET parameters = \'{"freeze":"frz_other"}\'',
        "UPDATE approval SET reason = 'another'",
        "UPDATE approval SET command = 'hold.lift'",
    ],
)
def test_changed_parameters_are_not_approved(sqlite_stand: Stand, statement: str) -> None:
    stand = sqlite_stand
    freeze = set_restraint(stand, dataset=sample.SLUG)["freeze"]
    asked = stand.post("officer", f"/v1/officer/freezes/{freeze}/lift", {"reason": "settled"}).json()
    with closing(officer(stand)) as ada:
        path = f"/officer/approvals/{asked['approval']}/approve"
        refused(ada.post(path, digest="0" * 64), "approval_changed")
        assert stand.broken_laws() == []
        with stand.market.store.engine.begin() as connection:
            connection.execute(text(statement))
        refused(ada.post(path, digest=asked["digest"]), "approval_changed")
        assert any(one.startswith("L17") for one in stand.broken_laws())
    assert is_frozen(stand)


def test_two_approvers_at_once_are_one_approval(
    stand: Stand, officers: tuple[Browser, Browser], frozen: str
) -> None:
    asked = stand.post("officer", f"/v1/officer/freezes/{frozen}/lift", {"reason": "settled"}).json()
    start, path = threading.Barrier(2), f"/officer/approvals/{asked['approval']}/approve"
    csrf = [one.csrf("/account") for one in officers]

    def press(number: int) -> httpx.Response:
        start.wait()
        return officers[number].post(path, csrf=csrf[number], digest=asked["digest"])

    with ThreadPoolExecutor(2) as pool:
        replies = list(pool.map(press, range(2)))
    assert sorted(reply.status_code for reply in replies) == [200, 409]
    assert len(stand.entries(kind="approval.approved")) == 1
    assert len(stand.entries(kind="freeze.lifted")) == 1
    assert stand.broken_laws() == []


def test_an_approval_whose_step_fails_is_not_given(
    stand: Stand, officers: tuple[Browser, Browser], frozen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that dies in the middle leaves both undone; then both are done, once."""
    asked = ask(officers[0], frozen)

    def die(*_: Any, **__: Any) -> None:
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(restraints, "lift", die)
        with pytest.raises(Died):
            approve(officers[1], asked)
    assert shown(stand, asked)["state"] == "open"
    assert is_frozen(stand)
    assert stand.broken_laws() == []
    assert approve(officers[1], asked).status_code == 200
    assert not is_frozen(stand)
    assert stand.broken_laws() == []


def test_an_officer_who_is_shut_out_approves_nothing(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    freeze = set_restraint(stand, dataset=sample.SLUG)["freeze"]
    asked = stand.post("officer", f"/v1/officer/freezes/{freeze}/lift", {"reason": "settled"}).json()
    with closing(officer(stand)) as ada:
        check = deciding._require_person

        def disabled_first(*given: Any) -> None:
            (tx, who) = given
            tx.session.execute(
                text("UPDATE membership SET disabled_at = '2026' WHERE person = :p"), {"p": who.person}
            )
            check(*given)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(deciding, "_require_person", disabled_first)
            refused(approve(ada, asked["approval"]), "role_missing")
    assert is_frozen(stand)


def test_the_log_does_not_tell_what_is_asked_for(sqlite_stand: Stand) -> None:
    """Its digest is under a salt: nobody can guess at a reason."""
    stand = sqlite_stand
    for _ in range(2):
        freeze = set_restraint(stand, organisation="acme")["freeze"]
        asked = stand.post("officer", f"/v1/officer/freezes/{freeze}/lift", {"reason": "settled"}).json()
        stand.post("officer", f"/v1/officer/approvals/{asked['approval']}/decline")
    digests = [one.document["result"]["sha256"] for one in stand.entries(kind="approval.requested")]
    assert len(set(digests)) == 2
    assert all(b"settled" not in one.leaf for one in stand.entries())


def test_an_organisation_waits_for_so_many(sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    stand = sqlite_stand
    monkeypatch.setattr(approving, "_MOST_WAITING", 1)
    first, second = (
        set_restraint(stand, **one) for one in ({"dataset": sample.SLUG}, {"organisation": "acme"})
    )
    for made, status in ((first, 202), (second, 422)):
        path = f"/v1/officer/freezes/{made['freeze']}/lift"
        assert stand.post("officer", path, {"reason": "settled"}).status_code == status
