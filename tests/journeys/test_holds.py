"""Legal holds: what they are on is kept whatever its time says, until two persons lift them."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest
from sqlalchemy import select, true

from exchange.errors import LegalHold
from exchange.identity import SYSTEM
from exchange.operations import erasing, joining, keeping
from exchange.operations.keeping import round_once
from exchange.persons.tables import portal_session
from exchange.store import idempotency
from tests.market import sample
from tests.market.browser import member
from tests.market.officers import lift, officer, set_restraint
from tests.market.stand import Stand, problem

LONG = 200


def result_of(stand: Stand, answer: dict[str, Any]) -> int:
    return stand.get("buyer", f"/v1/queries/{answer['query']}/result").status_code


def held(stand: Stand, answer: dict[str, Any]) -> dict[str, dict[str, str]]:
    return {
        "dataset": {"dataset": sample.SLUG},
        "organisation": {"organisation": "acme"},
        "query": {"query": answer["query"]},
    }


@pytest.mark.parametrize("subject", ["dataset", "organisation", "query"])
def test_what_is_held_does_not_expire(stand: Stand, subject: str) -> None:
    answer = stand.run(key="one").json()
    made = set_restraint(stand, "hold", **held(stand, answer)[subject])
    assert made["answers_kept"] == 0
    stand.clock.advance(days=LONG)
    done = round_once(stand.market)
    assert (done["answers"], done["held"]) == (0, 1)
    assert result_of(stand, answer) == 200
    assert stand.run(key="one").json() == answer, "the key is kept, too"
    assert stand.get("officer", f"/v1/officer/holds/{made['hold']}").json()["answers_kept"] == 1
    assert stand.broken_laws() == []
    with closing(officer(stand)) as ada:
        lift(stand, ada, made, "hold")
    done = round_once(stand.market)
    assert (done["answers"], done["held"]) == (1, 0)
    problem(stand.get("buyer", f"/v1/queries/{answer['query']}/result"), 410, "answer_expired")
    assert stand.broken_laws() == []


@pytest.mark.parametrize("subject", ["dataset", "organisation", "query"])
def test_the_public_log_does_not_say_what_is_held(sqlite_stand: Stand, subject: str) -> None:
    """Neither in what was set, found in force, refused and lifted, nor in what was asked for and approved."""
    stand = sqlite_stand
    named = held(stand, stand.run().json())[subject]
    with closing(officer(stand)) as ada:
        before = len(stand.entries())
        made = set_restraint(stand, "hold", **named)
        set_restraint(stand, "hold", **named)
        problem(stand.post("provider", "/v1/officer/holds", {"reason": "x", **named}), 403, "role_missing")
        lift(stand, ada, made, "hold")
    written = stand.entries()[before:]
    kinds = {one.document["kind"] for one in written}
    assert {"hold.set", "hold.confirmed", "hold.refused", "hold.lifted", "approval.approved"} <= kinds
    for secret in (made["subject"]["id"], made["subject"]["name"], *named.values()):
        assert all(secret.encode() not in one.leaf for one in written), secret
    assert stand.get("officer", f"/v1/officer/holds/{made['hold']}").json()["subject"] == made["subject"]
    assert stand.broken_laws() == []


def test_others_expire(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    kept, gone = stand.run().json(), stand.run(sql=sample.BY_ZONE).json()
    set_restraint(stand, "hold", query=kept["query"])
    stand.clock.advance(days=LONG)
    done = round_once(stand.market)
    assert (done["answers"], done["held"]) == (1, 1)
    assert (result_of(stand, kept), result_of(stand, gone)) == (200, 410)


def test_a_hold_that_comes_just_before_the_expiry_wins(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = stand.run().json()
    stand.clock.advance(days=LONG)
    before = keeping._expire

    def held_first(*given: Any, **named: Any) -> Any:
        set_restraint(stand, "hold", query=answer["query"])
        return before(*given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(keeping, "_expire", held_first)
        assert round_once(stand.market)["answers"] == 0
    (entry,) = stand.entries(kind="answer.kept")
    assert entry.document["code"] == "held"
    assert result_of(stand, answer) == 200
    assert stand.broken_laws() == []


def test_keys_and_records_of_a_held_organisation_stay(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    answer = stand.run(key="kept").json()
    assert stand.request("other").status_code in (200, 201)
    assert stand.run("other", key="forgotten").status_code == 200
    for who, login in (("buyer", "ada@acme.example"), ("other", "eve@globex.example")):
        member(stand, who, login).close()
    set_restraint(stand, "hold", organisation="acme")
    stand.clock.advance(days=LONG)
    done = round_once(stand.market)
    assert done["records"] > 0

    def left(session: Any) -> tuple[list[str], list[str]]:
        keys = session.scalars(select(idempotency.c.key).where(idempotency.c.key.in_(("kept", "forgotten"))))
        return list(keys), list(session.scalars(select(portal_session.c.org)))

    keys, sessions = stand.market.store.read(left)
    assert keys == ["kept"]
    assert set(sessions) == {stand.orgs["buyer"]}
    assert stand.run(key="kept").json() == answer


def test_uploads_of_a_held_organisation_stay(sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    stand = sqlite_stand
    monkeypatch.setattr("exchange.quarantine.untouched", lambda _place, ids, _s: list(ids))
    for who in ("provider", "rival"):
        made = stand.call(who, "POST", "/v1/uploads", headers={"Upload-Length": "3"})
        assert made.status_code == 201
    set_restraint(stand, "hold", organisation="city")
    stand.clock.advance(days=3)
    assert round_once(stand.market)["uploads"] == 1


def test_a_hold_that_comes_just_before_uploads_are_purged_wins(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {who: stand.upload(who, b"abc") for who in ("provider", "rival")}
    stand.clock.advance(days=3)

    def held_first(_place: Any, ids: Any, _seconds: float) -> list[str]:
        set_restraint(stand, "hold", organisation="city")
        return list(ids)

    with monkeypatch.context() as patch:
        patch.setattr("exchange.quarantine.untouched", held_first)
        assert round_once(stand.market)["uploads"] == 1
    left = {who: stand.call(who, "HEAD", f"/v1/uploads/{one}").status_code for who, one in made.items()}
    assert left == {"provider": 200, "rival": 404}


def test_a_member_of_a_held_organisation_is_disabled_and_not_removed(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    member(stand, "buyer", "ada@acme.example").close()
    org = stand.orgs["buyer"]
    found = joining.member_named(stand.market, org=org, login="ada@acme.example")
    set_restraint(stand, "hold", organisation="acme")
    with pytest.raises(LegalHold):
        joining.remove(stand.market, SYSTEM, org=org, member=found)
    (entry,) = stand.entries(kind="member.refused")
    assert entry.document["code"] == "held"
    assert joining.disable(stand.market, SYSTEM, org=org, member=found)["state"] == "disabled"


@pytest.mark.parametrize("subject", ["dataset", "query"])
def test_nobody_is_removed_and_then_erased_from_under_a_hold(sqlite_stand: Stand, subject: str) -> None:
    """When sessions and links are gone by their age, the membership alone leads to what is held."""
    stand = sqlite_stand
    asked, org = stand.run().json()["query"], stand.orgs["buyer"]
    member(stand, "buyer", "ada@acme.example", admin=True).close()
    member(stand, "buyer", "bo@acme.example").close()
    stand.clock.advance(days=LONG)
    round_once(stand.market)
    set_restraint(stand, "hold", **{subject: asked if subject == "query" else sample.SLUG})
    there = joining.members(stand.market, SYSTEM, org=org)["items"]
    bo = next(one for one in there if one["login"] == "bo@acme.example")
    with pytest.raises(LegalHold):
        joining.remove(stand.market, SYSTEM, org=org, member=bo["member"])
    with pytest.raises(LegalHold):
        erasing.erase(stand.market, bo["person"])
    assert joining.disable(stand.market, SYSTEM, org=org, member=bo["member"])["state"] == "disabled"


def test_the_law_finds_what_expired_under_a_hold(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    answer = stand.run().json()
    set_restraint(stand, "hold", query=answer["query"])
    stand.clock.advance(days=LONG)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keeping.restraints, "unheld", true)
        patch.setattr(keeping.restraints, "require_unheld_query", lambda *_: None)
        assert round_once(stand.market)["answers"] == 1
    assert any(one.startswith("L17") and "expired" in one for one in stand.broken_laws())


def test_a_hold_stops_nothing(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    set_restraint(stand, "hold", dataset=sample.SLUG)
    set_restraint(stand, "hold", organisation="acme")
    assert stand.run().status_code == 200


@pytest.mark.parametrize(
    ("given", "status", "code"),
    [
        ({"licence": "lic_0"}, 422, "request_invalid"),
        ({}, 422, "request_invalid"),
        ({"query": "qry_0"}, 404, "not_found"),
    ],
    ids=str,
)
def test_what_cannot_be_held(
    shared_sqlite_stand: Stand, given: dict[str, str], status: int, code: str
) -> None:
    problem(shared_sqlite_stand.post("officer", "/v1/officer/holds", {"reason": "x", **given}), status, code)
    assert shared_sqlite_stand.get("officer", "/v1/officer/holds").json()["items"] == []


@pytest.mark.parametrize("who", ["provider", "buyer", "operator"])
def test_nobody_else_holds(shared_sqlite_stand: Stand, who: str) -> None:
    body = {"dataset": sample.SLUG, "reason": "x"}
    problem(shared_sqlite_stand.post(who, "/v1/officer/holds", body), 403, "role_missing")
    last = shared_sqlite_stand.entries()[-1].document
    assert (last["kind"], last["code"]) == ("hold.refused", "role_missing")
