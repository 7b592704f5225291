"""Long queries: the reply comes before the answer; they go on, are looked at, waited for and cancelled."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from exchange.errors import Overloaded
from exchange.market import OutsideEngine
from exchange.operations import settling
from exchange.turns import Shares
from privacy.layout import LIMITS
from privacy.sandbox import Sandbox
from tests.journeys.running import ended, endless, gated
from tests.market import sample
from tests.market.stand import Stand, problem

RHO, PRICE = 10_000_000, 25
ASYNC = {"Prefer": "respond-async"}


def submit(stand: Stand, who: str = "buyer", sql: str = sample.COUNT, key: str = "job") -> httpx.Response:
    """Ask, and do not wait."""
    return stand.post(who, "/v1/queries", stand.question(sql), key=key, headers=ASYNC)


def totals(stand: Stand) -> tuple[int, int, int, int]:
    """What was paid and spent, and what is held, in minor units and nano-rho."""
    wallet, budget = stand.wallet(), stand.budget()
    return 10_000 - wallet.posted, budget["rho_nano_spent"], wallet.pending_out, budget["rho_nano_reserved"]


def test_a_long_query_goes_on_after_the_reply(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    with gated(monkeypatch) as gate:
        reply = submit(stand)
        assert reply.status_code == 202, reply.text
        job = reply.json()
        where = reply.headers["Location"]
        assert (where, reply.headers["Retry-After"]) == (f"/v1/queries/{job['query']}", "1")
        assert where == job["location"]
        gate.await_arrival()
        shown = stand.get("buyer", where).json()
        assert (shown["state"], shown["charge"]["amount_minor"], shown["rho_nano"]) == ("running", 0, 0)
        assert 0 <= shown["elapsed_s"] <= shown["limit_s"]
        assert not {"columns", "intervals", "rows"} & set(shown)
        told = stand.get("buyer", f"{where}/result")
        problem(told, 409, "in_progress")
        assert told.headers["Retry-After"] == "1"
        problem(stand.get("buyer", f"{where}/receipt"), 409, "in_progress")
        again = submit(stand)
        assert (again.status_code, again.json()["query"]) == (202, job["query"])
        assert totals(stand) == (0, 0, PRICE, RHO)
        gate.open()
        done = ended(stand, where)
    assert (done["state"], done["charge"]["amount_minor"], done["rho_nano"]) == ("succeeded", PRICE, RHO)
    assert done["kept_until"] > done["ended_at"]
    answer = stand.run(key="job")
    assert answer.status_code == 200
    assert (answer.json()["query"], answer.json()["repeated"]) == (job["query"], False)
    assert stand.run(key="job").json() == answer.json()
    assert totals(stand) == (PRICE, RHO, 0, 0)
    assert stand.broken_laws() == []


def test_the_caller_says_how_long_it_waits(sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    stand = sqlite_stand
    with gated(monkeypatch) as gate:
        for number, prefer in enumerate(("wait=0", "respond-async", "respond-async, wait=0", "Wait=0; x=1")):
            sql = f"select count(*) as n{number} from rides"
            asked = stand.question(sql)
            reply = stand.post("buyer", "/v1/queries", asked, headers={"Prefer": prefer})
            assert reply.status_code == 202, prefer
            gate.open()
            ended(stand, reply.headers["Location"])
        gate.open()
        for prefer in ("wait=many", "handling=strict", "wait=9999999999"):
            gate.open()
            sql = f"select count(*) as m{len(prefer)} from rides"
            reply = stand.post("buyer", "/v1/queries", stand.question(sql), headers={"Prefer": prefer})
            assert reply.status_code == 200, prefer


def test_a_failure_after_the_reply_is_told_to_whoever_comes_back(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    with gated(monkeypatch) as gate:
        where = submit(stand).headers["Location"]
        gate.await_arrival()
        monkeypatch.setattr("exchange.operations.results.keep", _spoil)
        gate.open()
        job = ended(stand, where)
    assert (job["state"], job["failure"], job["charge"]["amount_minor"]) == ("failed", "query_failed", 0)
    problem(stand.run(key="job"), 500, "query_failed")
    problem(stand.get("buyer", f"{where}/result"), 500, "query_failed")
    assert totals(stand) == (0, RHO, 0, 0)
    assert stand.broken_laws() == []


def _spoil(*_: object) -> Any:
    raise OSError("the disk is full")


def test_two_hundred_posts_under_one_key_are_one_purchase(stand: Stand) -> None:
    start = threading.Barrier(200)

    def ask(_: int) -> httpx.Response:
        start.wait()
        until = time.monotonic() + 120
        while True:
            reply = stand.run(key="one")
            if reply.status_code == 200 or time.monotonic() > until:
                return reply
            assert reply.status_code in (202, 409, 429, 503), reply.text
            assert int(reply.headers["Retry-After"]) >= 1
            time.sleep(0.2)

    with ThreadPoolExecutor(200) as pool:
        replies = list(pool.map(ask, range(200)))
    assert {reply.status_code for reply in replies} == {200}
    assert len({json.dumps(reply.json(), sort_keys=True) for reply in replies}) == 1
    assert totals(stand) == (PRICE, RHO, 0, 0)
    assert stand.states() == ["SETTLED"]
    assert stand.broken_laws() == []


# Cancelling


def cancelled(stand: Stand, where: str) -> dict[str, Any]:
    reply = stand.call("buyer", "DELETE", where)
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


def test_what_waits_for_a_worker_is_cancelled_for_nothing(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    with gated(monkeypatch) as gate:
        first = submit(stand, key="first").headers["Location"]
        gate.await_arrival()
        reply = submit(stand, sql=sample.BY_ZONE, key="second")
        where = reply.headers["Location"]
        assert reply.json()["state"] == "queued"
        assert stand.market.engine.turns.waiting() == 1
        done = cancelled(stand, where)
        assert (done["state"], done["rho_nano"], done["charge"]["amount_minor"]) == ("cancelled", 0, 0)
        assert stand.market.engine.turns.waiting() == 0
        assert totals(stand) == (0, 0, PRICE, RHO)
        entries = len(stand.entries())
        assert cancelled(stand, where) == done
        assert len(stand.entries()) == entries, "again changes nothing"
        gate.open()
        assert ended(stand, first)["state"] == "succeeded"
    assert stand.states() == ["SETTLED", "VOIDED"]
    (entry,) = stand.entries(kind="query.voided")
    assert entry.document["code"] == "cancelled"
    problem(submit(stand, sql=sample.BY_ZONE, key="second"), 409, "query_cancelled")
    problem(stand.get("buyer", f"{where}/result"), 409, "query_cancelled")
    assert stand.run(sql=sample.BY_ZONE, key="third").status_code == 200
    assert stand.broken_laws() == []


def test_what_runs_is_killed_and_forfeited(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        begun = endless(patch)
        where = submit(stand).headers["Location"]
        assert begun.wait(30)
        done = cancelled(stand, where)
        assert (done["state"], done["rho_nano"], done["charge"]["amount_minor"]) == ("cancelled", RHO, 0)
        assert done["failure"] == "cancelled"
        assert stand.market.engine.turns.settled(10), "its worker is free long before the time limit"
    (entry,) = stand.entries(kind="query.forfeited")
    assert entry.document["code"] == "cancelled"
    assert entry.document["privacy"]["rho_nano"] == str(RHO)
    assert not stand.entries(kind="query.stuck")
    assert totals(stand) == (0, RHO, 0, 0)
    assert cancelled(stand, where) == done
    problem(stand.run(key="job"), 409, "query_cancelled")
    assert stand.run(key="fresh").status_code == 200
    assert stand.broken_laws() == []


def test_who_waits_for_a_query_that_is_cancelled_is_told(
    sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand = sqlite_stand
    with monkeypatch.context() as patch, ThreadPoolExecutor(1) as pool:
        begun = endless(patch)
        waiting = pool.submit(stand.run, key="job")
        assert begun.wait(30)
        (job,) = stand.get("buyer", "/v1/queries").json()["items"]
        cancelled(stand, job["location"])
        problem(waiting.result(timeout=20), 409, "query_cancelled")
    assert totals(stand) == (0, RHO, 0, 0)


def test_another_process_notices_by_itself(
    stand: Stand, monkeypatch: pytest.MonkeyPatch, lent_sandbox: Any
) -> None:
    """Cancelled at one web process, the query ends in the one that runs it: within two seconds."""
    other = Stand(stand.environ, lent_sandbox, stand.tokens, stand.orgs)
    try:
        with monkeypatch.context() as patch:
            begun = endless(patch)
            where = submit(stand).headers["Location"]
            assert begun.wait(30)
            assert cancelled(other, where)["state"] == "cancelled"
            started = time.monotonic()
            assert stand.market.engine.turns.settled(10)
            assert time.monotonic() - started < 4, "two seconds, and two for a busy machine"
    finally:
        other.close()
    assert totals(stand) == (0, RHO, 0, 0)
    assert not stand.entries(kind="query.settled")
    assert stand.broken_laws() == []


def test_a_cancelled_query_of_another_organisation_is_not_there(
    sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand = sqlite_stand
    with gated(monkeypatch) as gate:
        where = submit(stand).headers["Location"]
        gate.await_arrival()
        told = problem(stand.call("other", "DELETE", where), 404, "not_found")
        unknown = problem(stand.call("other", "DELETE", "/v1/queries/qry_" + "0" * 24), 404, "not_found")
        assert {**told, "request_id": ""} == {**unknown, "request_id": ""}
        problem(stand.call("provider", "DELETE", where), 403, "role_missing")
        gate.open()
        assert ended(stand, where)["state"] == "succeeded"


def test_what_has_ended_stays_as_it_is(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    answer = stand.run(key="done").json()
    books, entries = stand.books(), len(stand.entries())
    done = cancelled(stand, f"/v1/queries/{answer['query']}")
    assert (done["state"], done["charge"]["amount_minor"]) == ("succeeded", PRICE)
    assert (stand.books(), len(stand.entries())) == (books, entries)
    assert stand.run(key="done").json() == answer


@pytest.mark.parametrize("step", ["start", "keep", "settle"])
def test_a_cancellation_between_two_steps_wins_and_the_answer_is_not_given(
    stand: Stand, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    move = getattr(settling, step)

    def late(market: Any, actor: Any, query_id: str, *given: Any, **named: Any) -> Any:
        done = cancelled(stand, f"/v1/queries/{query_id}")
        assert done["state"] == "cancelled"
        return move(market, actor, query_id, *given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(settling, step, late)
        problem(stand.run(key="job"), 409, "query_cancelled")
    assert stand.states() == ["VOIDED" if step == "start" else "FORFEITED"]
    assert totals(stand) == (0, 0 if step == "start" else RHO, 0, 0)
    problem(stand.run(key="job"), 409, "query_cancelled")
    assert stand.broken_laws() == []
    assert stand.run(key="fresh").status_code == 200


def test_of_cancelling_and_settling_exactly_one_wins(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both at the same moment, again and again: each query is paid for and answered, or neither."""
    settle, outcomes = settling.settle, []
    for number in range(6):
        start, ids = threading.Barrier(2), []

        def at_once(
            market: Any, actor: Any, query_id: str, *, about: Any, start: Any = start, ids: Any = ids
        ) -> bool:
            ids.append(query_id)
            start.wait(20)
            return settle(market, actor, query_id, about=about)

        with monkeypatch.context() as patch, ThreadPoolExecutor(2) as pool:
            patch.setattr(settling, "settle", at_once)
            sql = f"select count(*) as n from rides where minutes < {10 + number}"
            reply = pool.submit(stand.run, sql=sql, key=f"k{number}")
            start.wait(20)
            done = cancelled(stand, f"/v1/queries/{ids[0]}")
            answer = reply.result(timeout=30)
        if done["state"] == "succeeded":
            assert (answer.status_code, answer.json()["query"]) == (200, ids[0])
        else:
            problem(answer, 409, "query_cancelled")
        outcomes.append(done["state"])
        assert stand.broken_laws() == []
    paid, spent, held_money, held_rho = totals(stand)
    assert (paid, held_money, held_rho) == (PRICE * outcomes.count("succeeded"), 0, 0)
    assert len(stand.entries(kind="query.settled")) == outcomes.count("succeeded")
    assert len(stand.entries(kind="query.forfeited")) == outcomes.count("cancelled")
    assert spent == RHO * 6


# Ending well


def test_a_process_that_stops_gives_back_what_waits_and_ends_what_runs(
    sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand = sqlite_stand
    with gated(monkeypatch) as gate:
        running = submit(stand, key="first").headers["Location"]
        gate.await_arrival()
        waiting = submit(stand, sql=sample.BY_ZONE, key="second").headers["Location"]
        closing = threading.Thread(target=stand.market.engine.turns.close)
        closing.start()
        closing.join()
        told = submit(stand, sql=sample.MINUTES, key="third")
        problem(told, 503, "overloaded")
        assert ended(stand, waiting)["state"] == "expired"
        gate.open()
        assert ended(stand, running)["state"] == "succeeded"
        assert stand.market.engine.turns.settled(5)
    assert totals(stand) == (PRICE, RHO, 0, 0)
    assert stand.broken_laws() == []


def test_a_turn_that_comes_after_the_engine_was_closed_costs_nothing(
    sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand = sqlite_stand
    object.__setattr__(stand.market.engine.turns, "shares", Shares(1, 1, 64, 16))
    with gated(monkeypatch) as gate:
        running = submit(stand, key="first").headers["Location"]
        gate.await_arrival()
        waiting = submit(stand, sql=sample.BY_ZONE, key="second").headers["Location"]
        monkeypatch.setattr(stand.market.engine, "_closed", True)  # its workers are lent: they are not killed
        gate.open()
        assert ended(stand, running)["state"] == "succeeded"
        assert ended(stand, waiting)["state"] == "expired"
    assert totals(stand) == (PRICE, RHO, 0, 0)
    assert stand.broken_laws() == []


def test_no_worker_starts_in_an_engine_that_is_closed() -> None:
    engine = OutsideEngine(lambda: Sandbox(LIMITS, workers=1))
    engine.close()
    with pytest.raises(Overloaded):
        engine.sandbox().close()


def test_a_query_that_waits_too_long_is_given_up_uncharged(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    object.__setattr__(stand.market.settings, "query_patience_s", 1)
    with gated(monkeypatch) as gate:
        submit(stand, key="first")
        gate.await_arrival()
        late = stand.run(sql=sample.BY_ZONE, key="second")
        told = problem(late, 503, "overloaded")
        assert "charged" not in told["detail"]
        assert totals(stand) == (0, 0, PRICE, RHO)
        problem(stand.run(sql=sample.BY_ZONE, key="second"), 500, "query_failed")
        gate.open()
    job = stand.get("buyer", "/v1/queries").json()["items"][0]
    assert (job["state"], job["failure"]) == ("expired", "overloaded")
    assert stand.broken_laws() == []


def test_only_who_reserved_starts(
    sqlite_stand: Stand, lent_sandbox: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second process that meets the key of an open query neither starts it nor waits for it."""
    stand = sqlite_stand
    other = Stand(stand.environ, lent_sandbox, stand.tokens, stand.orgs)
    try:
        with gated(monkeypatch) as gate:
            where = submit(stand).headers["Location"]
            gate.await_arrival()
            started = len(stand.entries(kind="query.started"))
            reply = other.run(key="job")
            assert (reply.status_code, reply.headers["Location"]) == (202, where)
            gate.open()
            ended(other, where)
        assert len(stand.entries(kind="query.started")) == started == 1
        assert other.run(key="job").json() == stand.run(key="job").json()
    finally:
        other.close()


# Fair to organisations, and bounded


def started(stand: Stand) -> list[str]:
    """Who asked each query that was started, in the order of the log."""
    names = {org: who for who, org in stand.orgs.items()}
    return [names[entry.document["actor"]["org"]] for entry in stand.entries(kind="query.started")]


def minutes(number: int) -> str:
    """A question of its own for each number."""
    return f"select count(*) as n from rides where minutes < {number}"


def test_an_organisation_does_not_wait_for_all_queries_of_another(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    object.__setattr__(stand.market.engine.turns, "shares", Shares(1, 1, 64, 16))
    with gated(monkeypatch) as gate:
        crowd = [submit(stand, sql=minutes(10 + one), key=f"k{one}") for one in range(9)]
        gate.await_arrival()
        late = submit(stand, "other", key="late")
        assert late.json()["state"] == "queued"
        gate.open(10)
        for reply in crowd:
            assert ended(stand, reply.headers["Location"])["state"] == "succeeded"
        assert ended(stand, late.headers["Location"], "other")["state"] == "succeeded"
    order = started(stand)
    assert order.count("buyer") == 9
    assert order.index("other") <= 2, "after the one that ran, and the one whose turn was next"
    assert stand.broken_laws() == []


def test_who_is_sent_away_holds_nothing(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    object.__setattr__(stand.market.engine.turns, "shares", Shares(1, 1, 3, 2))
    with gated(monkeypatch) as gate:
        for one in range(3):
            assert submit(stand, sql=minutes(10 + one), key=f"k{one}").status_code == 202
        before, entries = stand.books(), len(stand.entries())
        told = submit(stand, sql=minutes(40), key="too many")
        problem(told, 429, "too_many_queries")
        assert told.headers["Retry-After"] == "3"
        assert submit(stand, "other", minutes(10), key="o1").status_code == 202
        held = stand.books()
        full = submit(stand, "poor", key="p1")
        problem(full, 503, "overloaded")
        assert full.headers["Retry-After"] == "4"
        again = submit(stand, sql=minutes(10), key="k0")
        assert again.status_code == 202, "what is in already is no new query"
        assert stand.books() == held
        assert before["accounts"] != held["accounts"]
        assert not [entry for entry in stand.entries() if entry.document["outcome"] == "refused"]
        assert len(stand.entries()) > entries
        gate.open(4)
        assert stand.market.engine.turns.settled(30)
    late = submit(stand, sql=minutes(40), key="too many")
    assert late.status_code == 202
    assert ended(stand, late.headers["Location"])["state"] == "succeeded"
    assert stand.broken_laws() == []


def test_a_repeat_needs_no_place(sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    stand = sqlite_stand
    assert stand.run(sql=sample.BY_ZONE).status_code == 200
    object.__setattr__(stand.market.engine.turns, "shares", Shares(1, 1, 0, 0))
    with gated(monkeypatch) as gate:
        submit(stand)
        gate.await_arrival()
        problem(submit(stand, sql=minutes(10), key="next"), 429, "too_many_queries")
        assert stand.run(sql=sample.BY_ZONE).json()["repeated"] is True
        gate.open()
        assert stand.market.engine.turns.settled(30)


def test_requests_that_wait_leave_threads_to_those_who_ask(
    sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three quarters of the threads may wait for an answer; the next one is told at once that it goes on."""
    stand = sqlite_stand
    most = stand.settings.web_threads * 3 // 4
    with gated(monkeypatch) as gate, ThreadPoolExecutor(most) as pool:
        where = submit(stand).headers["Location"]
        gate.await_arrival()
        waiting = [pool.submit(stand.run, key="job") for _ in range(most)]
        until = time.monotonic() + 30
        while stand.market.runs._replies._value:
            assert time.monotonic() < until, "the requests did not come to wait"
            time.sleep(0.01)
        assert stand.run(key="job").status_code == 202
        assert stand.get("buyer", where).json()["state"] == "running"
        gate.open()
        assert {reply.result(timeout=30).status_code for reply in waiting} == {200}


def test_queries_that_wait_to_be_admitted_leave_threads_to_the_others(
    sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan with a join takes its turn before it is reserved; the request holds one of the same places."""
    stand = sqlite_stand
    most = stand.settings.web_threads * 3 // 4
    object.__setattr__(stand.market.engine.turns, "shares", Shares(1, 1, 64, 64))
    joined = "select z.name, count(*) as n from rides r join zones z on r.zone = z.zone group by z.name"
    with gated(monkeypatch) as gate, ThreadPoolExecutor(most + 1) as pool:
        submit(stand)
        gate.await_arrival()
        waiting = [pool.submit(submit, stand, sql=joined, key=f"k{one}") for one in range(most)]
        try:
            until = time.monotonic() + 30
            while stand.market.engine.turns.waiting() < most:
                assert time.monotonic() < until, "the requests did not come to wait"
                time.sleep(0.01)
            before = stand.books()
            told = pool.submit(submit, stand, "other", joined, "late").result(timeout=10)
            problem(told, 503, "overloaded")
            assert stand.books() == before
            assert stand.market.engine.turns.waiting() == most, "who is refused leaves the queue"
        finally:
            gate.open(1_000)
        codes = {reply.result(timeout=60).status_code for reply in waiting}
        assert codes <= {200, 202, 409}, "of one question, one is answered"
        assert stand.market.engine.turns.settled(30)
    assert stand.broken_laws() == []
