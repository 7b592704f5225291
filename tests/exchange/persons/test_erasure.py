"""A person is erased: the key goes, no byte of what was personal is left; the log says so, and verifies."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import text

from exchange import bootstrap
from exchange.audit.report import GOOD
from exchange.cli import main
from exchange.errors import LastAdmin, LegalHold, NotFound
from exchange.operations import erasing, joining, rekeying
from exchange.persons import commitments, subjects
from tests.exchange.persons import marked
from tests.market import sample
from tests.market.browser import PASSWORD, Browser, invited, member
from tests.market.officers import lift, officer, set_restraint
from tests.market.stand import Stand

LOGIN = "ada@acme.example"


@pytest.fixture
def ada(sqlite_stand: Stand) -> Iterator[Browser]:
    """The only administrator of the buyer's organisation."""
    with closing(member(sqlite_stand, login=LOGIN, admin=True)) as browser:
        yield browser


def person_of(stand: Stand, login: str) -> str:
    members = joining.members(stand.market, joining.SYSTEM, org=stand.orgs["buyer"])["items"]
    return next(str(one["person"]) for one in members if one["login"] == login)


def kinds(stand: Stand) -> list[str]:
    return [record.document["kind"] for record in stand.entries()]


def test_no_byte_of_fifty_persons_is_left_and_every_proof_verifies(stand: Stand) -> None:
    assert marked.erase_all(stand, 50) == len(stand.entries(kind="person.erased")) == 50


def test_the_search_for_traces_finds_what_lies_in_a_row_or_a_file(sqlite_stand: Stand) -> None:
    wanted = marked.needles(["a text that is there"])
    assert not marked.traces(sqlite_stand, wanted)
    (sqlite_stand.home / "notes").write_text("so: a text that is there.")
    assert {name for name, _ in marked.traces(sqlite_stand, wanted)} == {"notes"}


def test_a_person_deletes_the_own_account_after_a_fresh_proof(ada: Browser) -> None:
    stand = ada.stand
    with closing(Browser(stand)) as bo:
        bo.join(invited(stand, "buyer", "bo@acme.example"), name="Bo")
        bo.add_app()
        person = person_of(stand, "bo@acme.example")
        page = bo.get("/account/erase").text
        assert person in page
        assert "bookkeeping law" in page
        stand.clock.advance(minutes=6)
        assert bo.post("/account/erase", login="bo@acme.example").url.path == "/sign-in/confirm"
        stand.clock.advance(seconds=30)
        assert bo.confirm(code=bo.code()).status_code == 200
        assert bo.post("/account/erase", login="ada@acme.example").status_code == 422
        assert bo.is_signed_in()
        bo.post("/account/erase", login=" BO@acme.example ")
        assert not bo.is_signed_in()
        assert bo.sign_in("bo@acme.example").status_code == 401
        assert "bo@acme.example" not in ada.get("/members").text
        erased = stand.entries(kind="person.erased")[-1].document
        assert erased["object"]["id"] == person
        assert erased["pii_commitment"] is None
        assert bo.join(invited(stand, "buyer", "bo@acme.example"), name="Bo").status_code == 200
        assert person_of(stand, "bo@acme.example") != person, "who comes again is somebody else"


def test_the_last_administrator_stays_unless_the_operator_says_so(ada: Browser) -> None:
    stand, person = ada.stand, person_of(ada.stand, LOGIN)
    assert ada.post("/account/erase", login=LOGIN).status_code == 409
    with pytest.raises(LastAdmin):
        erasing.erase(stand.market, person)
    assert stand.entries(kind="person.kept")[-1].document["code"] == "last_admin"
    assert ada.is_signed_in()
    erasing.erase(stand.market, person, leave_without_admin=True)
    assert not ada.is_signed_in()


def test_a_legal_hold_on_an_organisation_keeps_its_members(ada: Browser) -> None:
    stand, person = ada.stand, person_of(ada.stand, LOGIN)
    set_restraint(stand, "hold", organisation="acme")
    with pytest.raises(LegalHold):
        erasing.erase(stand.market, person, leave_without_admin=True)
    assert stand.entries(kind="person.kept")[-1].document["code"] == "held"
    assert ada.post("/account/erase", login=LOGIN).status_code == 409
    assert ada.is_signed_in()


@pytest.mark.parametrize("subject", ["organisation", "dataset", "query"])
def test_a_hold_keeps_whom_traces_tie_to_what_is_held(stand: Stand, subject: str) -> None:
    """Somebody who was removed from the organisation, and one who was invited there and never came."""
    asked, org = stand.run().json()["query"], stand.orgs["buyer"]
    with (
        closing(member(stand, login="bo@acme.example")),
        closing(member(stand, "other", "cy@globex.example")),
    ):
        bo = person_of(stand, "bo@acme.example")
        left = joining.member_named(stand.market, org=org, login="bo@acme.example")
        joining.remove(stand.market, joining.SYSTEM, org=org, member=left)
        there = joining.members(stand.market, joining.SYSTEM, org=stand.orgs["other"])["items"]
        cy = next(one["person"] for one in there if one["login"] == "cy@globex.example")
        invited(stand, "buyer", "cy@globex.example")
        name = {"organisation": "acme", "dataset": sample.SLUG, "query": asked}[subject]
        set_restraint(stand, "hold", **{subject: name})
        for person in (bo, cy):
            with pytest.raises(LegalHold):
                erasing.erase(stand.market, person, leave_without_admin=True)
        assert [one.document["code"] for one in stand.entries(kind="person.kept")] == ["held", "held"]


def test_saved_searches_go_with_their_person(stand: Stand) -> None:
    name, text_of = "calls of bo smith", "a slip of the pen"
    with closing(officer(stand, "bo@cnil.example")) as browser:
        assert name in browser.post("/officer/searches", name=name, q=text_of).text
        there = joining.members(stand.market, joining.SYSTEM, org=stand.orgs["officer"])["items"]
        body = {"name": f"{name} too", "filters": {"q": text_of}}
        for _ in range(2):
            kept = stand.post("officer", "/v1/audit/searches", body, key="once")
            assert (kept.status_code, kept.json()["name"]) == (201, f"{name} too")
        assert stand.call("officer", "DELETE", f"/v1/audit/searches/{kept.json()['search']}").is_success
        assert marked.traces(stand, marked.needles([name, text_of]))
        erasing.erase(stand.market, there[0]["person"], leave_without_admin=True)
    assert not marked.traces(stand, marked.needles([name, text_of]))


def test_erasing_again_changes_nothing_and_a_stranger_is_not_found(ada: Browser) -> None:
    market, person = ada.stand.market, person_of(ada.stand, LOGIN)
    first = erasing.erase(market, person, leave_without_admin=True)
    assert (
        erasing.erase(market, person) == first == {"person": person, "state": "erased", "overwritten": True}
    )
    assert kinds(ada.stand).count("person.erased") == 1
    with pytest.raises(NotFound):
        erasing.erase(market, "per_" + "0" * 24)


def test_a_crash_before_the_commit_leaves_all_and_after_it_the_next_round_sweeps(
    ada: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand, person = ada.stand, person_of(ada.stand, LOGIN)
    with monkeypatch.context() as broken:
        broken.setattr(subjects, "forget", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            erasing.erase(stand.market, person, leave_without_admin=True)
    assert ada.is_signed_in()
    with monkeypatch.context() as broken:
        broken.setattr(stand.market.store, "scrub", lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            erasing.erase(stand.market, person, leave_without_admin=True)
    assert not ada.is_signed_in()
    assert erasing.erase(stand.market, person)["overwritten"]
    assert (stand.home / "exchange.db-wal").stat().st_size == 0


def test_an_entry_is_opened_to_its_person_until_that_person_is_erased(ada: Browser) -> None:
    """The leaf says whom it concerns by a commitment, which anybody can hold against what an officer sees."""
    stand, person = ada.stand, person_of(ada.stand, LOGIN)
    started = stand.entries(kind="session.started")
    entry = next(one for one in reversed(started) if one.document["actor"]["ref"] == person)
    committed = entry.document["pii_commitment"]
    shown = stand.get("officer", f"/v1/audit/entries/{entry.id}").json()["concerns"]
    assert (shown["login"], shown["person"]) == (LOGIN, person)
    identity = {"login": LOGIN, "person": person}
    assert subjects.commitment(bytes.fromhex(shown["salt"]), identity) == committed
    assert (
        subjects.commitment(bytes.fromhex(shown["salt"]), identity | {"login": "eve@x.example"}) != committed
    )
    others = [one.document["pii_commitment"] for one in stand.entries() if one.document["pii_commitment"]]
    assert len(set(others)) == len(others), "no two entries show that they are of one person"
    erasing.erase(stand.market, person, leave_without_admin=True)
    assert stand.get("officer", f"/v1/audit/entries/{entry.id}").json()["concerns"] is None
    assert stand.market.store.read(lambda session: commitments.opening(session, entry.document)) is None
    stand.publish_log()
    assert stand.verify().exit_code == GOOD


def test_every_entry_of_a_step_says_whom_it_concerns(stand: Stand) -> None:
    """What an officer approves is done in that transaction, and has an entry of its own."""
    with closing(officer(stand)) as browser:
        lift(stand, browser, set_restraint(stand, dataset=sample.SLUG))
    for kind in ("approval.approved", "freeze.lifted"):
        (entry,) = stand.entries(kind=kind)
        shown = stand.get("officer", f"/v1/audit/entries/{entry.id}").json()["concerns"]
        assert shown["login"] == "ada@cnil.example"
        assert shown["person"] == entry.document["actor"]["ref"]


def test_keys_of_persons_turn_with_the_master_key(ada: Browser) -> None:
    """What a backup of before holds is then under a master key that can be destroyed."""
    market = ada.stand.market
    (old,) = market.vault.ring.ids()
    rekeying.rotate(market)
    assert rekeying.retire(market, old)["state"] == "retired"
    assert ada.is_signed_in()
    assert LOGIN in ada.get("/members").text


def test_what_an_older_release_kept_in_plain_is_sealed_when_it_is_opened(ada: Browser) -> None:
    stand = ada.stand
    person = person_of(stand, LOGIN)
    plain = {
        "person": "login = 'ada@acme.example', name = 'Ada of Old'",
        "portal_session": "network = '10.9.8.0/24', agent = 'an old browser'",
        "invitation": "login = 'ada@acme.example'",
    }
    with stand.market.store.engine.begin() as connection:
        connection.execute(
            text("DELETE FROM data_key WHERE object = :of OR object LIKE 'inv%'"), {"of": person}
        )
        for table, values in plain.items():
            connection.execute(text(f"UPDATE {table} SET sealed = NULL, {values}"))
    wanted = marked.needles(["ada@acme.example", "Ada of Old", "an old browser"])
    assert len({one for _, one in marked.traces(stand, wanted)}) >= 3
    bootstrap.open_market(stand.settings).close()
    assert not marked.traces(stand, wanted)
    assert ada.is_signed_in()
    page = ada.get("/account").text
    assert "Ada of Old" in page
    assert "an old browser" in page
    with closing(Browser(stand)) as again:
        assert again.sign_in(LOGIN, PASSWORD).url.path == "/account"


def test_the_operator_erases_at_the_machine(ada: Browser) -> None:
    person = person_of(ada.stand, LOGIN)

    def run(*given: str) -> Any:
        return CliRunner().invoke(main, ["person", "erase", *given], env=ada.stand.environ)

    assert run(person).exit_code != 0, "the last administrator"
    done = run(person, "--leave-without-admin", "--json")
    assert json.loads(done.output)["state"] == "erased"
    assert run("per_0").exit_code != 0
    assert not ada.is_signed_in()
