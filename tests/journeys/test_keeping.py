"""What is not kept for ever: answers go after so many days, and their receipts stay; keys are forgotten."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update

from exchange import data_keys, queries, schema, store, worker
from exchange.config import Settings, SettingsError
from exchange.operations import collecting, keeping, settling
from exchange.operations.keeping import round_once
from tests.market import sample
from tests.market.stand import Stand, problem

DAYS = 91
RHO, PRICE = 10_000_000, 25


def files(stand: Stand) -> set[str]:
    """The objects that are stored."""
    root = stand.home / "objects"
    return {path.name for path in root.glob("??/??/*")}


def grow_old(stand: Stand, **time: float) -> None:
    """Let time pass, for the clock and for the files."""
    stand.clock.advance(**time)
    for path in (stand.home / "objects").glob("??/??/*"):
        os.utime(path, (0, 0))


def keys(stand: Stand) -> int:
    count = select(func.count()).select_from(store.idempotency)
    return stand.market.store.read(lambda session: int(session.execute(count).scalar_one()))


def test_an_answer_goes_and_what_proves_it_stays(stand: Stand) -> None:
    object.__setattr__(stand.market.settings, "idempotency_days", 365)
    before = files(stand)
    answer = stand.run(key="old").json()
    where = f"/v1/queries/{answer['query']}"
    stored = files(stand) - before
    assert stand.stored(answer["result_sha256"]) in stored
    assert len(stored) == 2, "the answer, and the numbers behind it"
    grow_old(stand, days=89)
    assert round_once(stand.market)["answers"] == 0
    assert stand.get("buyer", f"{where}/result").status_code == 200
    grow_old(stand, days=2)
    assert round_once(stand.market)["answers"] == 1
    assert files(stand) == before
    job = stand.get("buyer", where).json()
    assert (job["state"], job["charge"]["amount_minor"], job["rho_nano"]) == ("expired", PRICE, RHO)
    assert not {"columns", "intervals"} & set(job)
    told = problem(stand.get("buyer", f"{where}/result"), 410, "answer_expired")
    assert "receipt" in told["hint"]
    problem(stand.run(key="old"), 410, "answer_expired")
    (entry,) = stand.entries(kind="answer.expired")
    assert entry.document["result"]["sha256"] == answer["result_sha256"]
    stand.publish_log()
    receipt = stand.get("buyer", f"{where}/receipt").json()
    assert answer["result_sha256"].encode() in base64.b64decode(receipt["leaf"])
    assert receipt["leaf"] == answer["receipt"]["leaf"]
    assert stand.verify().exit_code == 0
    assert stand.broken_laws() == []
    assert round_once(stand.market)["answers"] == 0, "again changes nothing"


def test_the_question_can_be_bought_again_as_a_new_one(stand: Stand) -> None:
    first = stand.run(key="first").json()
    assert stand.run(key="repeat").json()["repeated"] is True
    grow_old(stand, days=DAYS)
    round_once(stand.market)
    again = stand.run(key="again").json()
    assert (again["repeated"], again["refines"], again["rho_nano"]) == (False, None, RHO)
    assert again["query"] != first["query"]
    assert stand.wallet().posted == 10_000 - 2 * PRICE
    finer = stand.run(rho="0.02").json()
    assert finer["refines"] == again["query"]
    assert stand.broken_laws() == []


def test_what_another_answer_stands_on_stays(stand: Stand) -> None:
    stand.run()
    shared = stand.run(sql="select count(*) + 1 as m from rides").json()
    assert shared["charged"]["amount_minor"] == 0, "the same numbers, told in another way"
    grow_old(stand, days=60)
    late = stand.run(sql="select count(*) + 2 as o from rides").json()
    grow_old(stand, days=31)
    assert round_once(stand.market)["answers"] == 2
    assert stand.get("buyer", f"/v1/queries/{late['query']}/result").status_code == 200
    free = stand.run(sql="select count(*) + 3 as p from rides").json()
    assert (free["charged"]["amount_minor"], free["rho_nano"]) == (0, 0)
    assert stand.broken_laws() == []


def test_the_same_bytes_of_two_buyers_are_one_object(stand: Stand) -> None:
    """A public table is answered exactly, so that two organisations get the same bytes."""
    stand.run(sql=sample.PUBLIC)
    grow_old(stand, days=60)
    later = stand.run("other", sql=sample.PUBLIC).json()
    stored = stand.stored(later["result_sha256"])
    grow_old(stand, days=31)
    assert round_once(stand.market)["answers"] == 1
    where = f"/v1/queries/{later['query']}/result"
    assert stand.get("other", where).status_code == 200
    grow_old(stand, days=60)
    assert round_once(stand.market)["answers"] == 1
    assert stored not in files(stand)


def test_an_answer_that_was_stored_a_moment_ago_stays(sqlite_stand: Stand) -> None:
    """Somebody may be about to name it: the same bytes were put, and are not yet in the books."""
    stand = sqlite_stand
    digest = stand.run(sql=sample.PUBLIC).json()["result_sha256"]
    first, (again,) = stand.stored(digest), stand.market.vault.seal(stand.market.vault.read(digest))
    grow_old(stand, days=DAYS)
    assert round_once(stand.market)["answers"] == 1
    assert first not in files(stand)
    assert again.object in files(stand)
    ring = stand.market.vault.ring
    stand.market.store.jot(lambda session, _: data_keys.record(session, ring, [again]))
    assert stand.stored(digest) == again.object
    assert stand.market.vault.read(digest)


def test_a_cancelled_answer_goes_too(sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    stand, settle, before = sqlite_stand, settling.settle, files(sqlite_stand)

    def late(market: Any, actor: Any, query_id: str, **named: Any) -> bool:
        stand.call("buyer", "DELETE", f"/v1/queries/{query_id}")
        return settle(market, actor, query_id, **named)

    monkeypatch.setattr(settling, "settle", late)
    problem(stand.run(), 409, "query_cancelled")
    assert files(stand) != before
    grow_old(stand, days=DAYS)
    assert round_once(stand.market)["answers"] == 1
    assert files(stand) == before
    (job,) = stand.get("buyer", "/v1/queries").json()["items"]
    assert job["state"] == "cancelled"
    assert stand.broken_laws() == []


def test_a_process_that_dies_before_it_removes_leaves_an_answer_that_nobody_is_given(
    sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand = sqlite_stand
    answer = stand.run(key="old").json()
    stored = stand.stored(answer["result_sha256"])
    grow_old(stand, days=DAYS)

    def die(*_: object) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(stand.market.objects), "discard", die)
        with pytest.raises(KeyboardInterrupt):
            round_once(stand.market)
    problem(stand.get("buyer", f"/v1/queries/{answer['query']}/result"), 410, "answer_expired")
    assert stored in set(stand.market.objects.every())
    forgotten = stand.market.store.read(lambda session: data_keys.of_objects(session, [stored]))
    assert not forgotten, "its key went with it: the bytes that are left cannot be read"
    os.utime(stand.market.objects.path(stored), (1, 1))
    collecting.collect(stand.market)
    assert stored not in set(stand.market.objects.every())
    assert stand.broken_laws() == []


def test_an_answer_whose_bytes_are_lost_is_expired_all_the_same(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    digest = stand.run().json()["result_sha256"]
    stand.market.objects.path(stand.stored(digest)).unlink()
    grow_old(stand, days=DAYS)
    assert round_once(stand.market)["answers"] == 1
    assert stand.broken_laws() == []


def test_old_keys_are_forgotten_and_younger_ones_hold(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "_KEYS", 3)
    old = stand.run(key="old").json()
    held = keys(stand)
    stand.clock.advance(days=29)
    young = stand.run(sql=sample.BY_ZONE, key="young").json()
    assert round_once(stand.market)["keys"] == 0
    stand.clock.advance(days=2)
    assert round_once(stand.market)["keys"] >= held
    assert stand.run(sql=sample.BY_ZONE, key="young").json() == young
    assert stand.run(key="old").json()["repeated"] is True, "a new call, of a question that is answered"
    assert stand.wallet().posted == 10_000 - old["charged"]["amount_minor"] - young["charged"]["amount_minor"]
    assert stand.entries(kind="keys.forgotten")
    assert stand.broken_laws() == []


def test_keys_are_kept_for_a_month_at_least(sqlite_stand: Stand) -> None:
    with pytest.raises(SettingsError, match="EXCHANGE_IDEMPOTENCY_DAYS must be at least 30"):
        Settings.from_env({**sqlite_stand.environ, "EXCHANGE_IDEMPOTENCY_DAYS": "29"})
    assert (
        Settings.from_env({**sqlite_stand.environ, "EXCHANGE_IDEMPOTENCY_DAYS": "30"}).idempotency_days == 30
    )


def test_the_worker_does_it_once_an_hour(sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    stand = sqlite_stand
    rounds: list[Path] = []
    monkeypatch.setattr(keeping, "round_once", lambda market: rounds.append(market) or {"answers": 0})
    for minutes in (0, 0, 61):
        stand.clock.advance(minutes=minutes)
        worker._keep_in_time(stand.market, stand.settings)
    assert len(rounds) == 2


def test_all_that_is_due_expires_in_one_round(sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    stand = sqlite_stand
    monkeypatch.setattr(keeping, "_ANSWERS", 2)
    for number in range(5):
        assert stand.run(sql=f"select zone, {number} as n from zones").status_code == 200
    grow_old(stand, days=DAYS)
    assert round_once(stand.market)["answers"] == 5


def test_expiring_reads_no_answers(sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """They may be many, and large: the rows say what stands on what."""
    stand = sqlite_stand
    stand.run()
    shared = stand.run(sql="select count(*) + 1 as m from rides").json()
    gone = stand.stored(shared["result_sha256"])
    before = files(stand)
    grow_old(stand, days=60)
    late = stand.run(sql="select count(*) + 2 as o from rides").json()
    grow_old(stand, days=31)

    def read(*_: object) -> bytes:
        raise AssertionError("an answer was read")

    with monkeypatch.context() as patch:
        patch.setattr(type(stand.market.vault), "read", read)
        assert round_once(stand.market)["answers"] == 2
    assert gone not in files(stand)
    assert stand.stored(late["result_sha256"]) in files(stand)
    assert len(files(stand)) == len(before) - 1, "two answers went, one came, the numbers stayed"


def forget_what_is_behind(stand: Stand) -> None:
    """The rows as those are that were written before it was noted."""
    nothing = update(queries.query).values(released_sha256=None)
    stand.market.store.jot(lambda session, _: session.execute(nothing) and None)


@pytest.mark.parametrize("noted", [True, False])
def test_a_neighbour_that_cannot_be_read_keeps_what_it_stands_on(
    sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch, noted: bool
) -> None:
    stand, before = sqlite_stand, files(sqlite_stand)
    first = stand.run().json()
    gone = stand.stored(first["result_sha256"])
    (behind,) = files(stand) - before - {gone}
    grow_old(stand, days=60)
    late = stand.run(sql="select count(*) + 2 as o from rides").json()
    grow_old(stand, days=31)
    if not noted:
        forget_what_is_behind(stand)
    vault = type(stand.market.vault)
    read = vault.read

    def failing(self: Any, sha256: str) -> bytes:
        if sha256 == late["result_sha256"]:
            raise OSError("the disk does not answer")
        return read(self, sha256)

    with monkeypatch.context() as patch:
        patch.setattr(vault, "read", failing)
        assert round_once(stand.market)["answers"] == 1
        if not noted:
            assert collecting.collect(stand.market) == 0, "it is not known what is needed"
    assert gone not in files(stand)
    assert behind in files(stand)
    free = stand.run(sql="select count(*) + 3 as p from rides").json()
    assert (free["charged"]["amount_minor"], free["rho_nano"]) == (0, 0)


def test_answers_from_before_it_was_noted_expire_with_what_is_behind_them(stand: Stand) -> None:
    before = files(stand)
    stand.run()
    stand.run(sql=sample.PUBLIC)
    forget_what_is_behind(stand)
    grow_old(stand, days=DAYS)
    assert round_once(stand.market)["answers"] == 2
    assert files(stand) == before


def test_an_answer_that_was_cancelled_as_it_was_stored_is_collected(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process cancels between the storing and the row that names it: nobody will ever name it."""
    keep, before = settling.keep, files(stand)

    def late(market: Any, actor: Any, query_id: str, *given: Any, **named: Any) -> None:
        settling.cancel(market, actor, query_id, leave=queries.EXECUTING)
        keep(market, actor, query_id, *given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(settling, "keep", late)
        assert stand.run().status_code == 409
    assert len(files(stand) - before) == 2
    assert collecting.collect(stand.market) == 0, "a moment ago"
    kept = stand.run(sql=sample.BY_ZONE).json()
    named = files(stand)
    grow_old(stand, days=2)
    assert collecting.collect(stand.market) == 2
    assert before < files(stand) < named
    assert stand.stored(kept["result_sha256"]) in files(stand)
    assert stand.get("buyer", f"/v1/queries/{kept['query']}/result").status_code == 200
    assert stand.run(sql="select zone, count(*) + 1 as m from rides group by zone").json()["rho_nano"] == 0
    assert collecting.collect(stand.market) == 0
    assert stand.broken_laws() == []


#: Digests of something else than an object.
_OF_NO_OBJECT = {
    "data_key.plain_sha256",
    "acceptance.odrl_sha256",
    "acceptance.shown_sha256",
    "access_grant.plan_sha256",
    "access_request.plan_sha256",
    "audit_entry.object_id",
    "audit_entry.object_type",
    "contribution_profile.sha256",
    "dataset_version.content_sha256",
    "invitation.secret_sha256",
    "invoice.sha256",
    "licence.odrl_sha256",
    "licence.terms_sha256",
    "licence.text_sha256",
    "oauth_client.secret_sha256",
    "oauth_code.code_sha256",
    "oauth_device.device_sha256",
    "oauth_device.user_code_sha256",
    "oauth_refresh.secret_sha256",
    "organisation_identity.sha256",
    "portal_session.secret_sha256",
    "query.plan_sha256",
    "query.price_plan_sha256",
    "query.question_sha256",
    "query.sql_sha256",
    "recovery_code.sha256",
    "sent_manifest.sha256",
    "source.sha256",
    "token.secret_sha256",
}


def test_every_column_that_may_name_an_object_is_known() -> None:
    """What a column outside of the list names would be removed after a day."""
    digests = {
        f"{table.name}.{column.name}"
        for metadata in schema.metadatas
        for table in metadata.tables.values()
        for column in table.columns
        if "sha256" in column.name or "object" in column.name
    }
    named = {f"{column.table.name}.{column.name}" for column in collecting.NAMES_OBJECTS}
    assert named <= digests
    assert digests - named == _OF_NO_OBJECT


def test_what_expires_delays_no_money() -> None:
    """It has a thread of its own: there may be much of it."""
    assert worker._keep_in_time not in worker._MONEY.values()
    assert set(worker._KEEPING.values()) == {
        worker._watch,
        worker._keep_in_time,
        worker._expire_approvals,
        worker._collect_in_time,
        worker._clear_scratch,
    }
