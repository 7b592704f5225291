"""Long queries from Python and from the command line: waited for by themselves, or held as a job."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from exchange.cli import main
from exchange.client import (
    Exchange,
    Job,
    NotFound,
    QueryCancelled,
    QueryFailed,
    RateLimited,
    Retry,
    StillRunning,
)
from tests.exchange.client.desk import Desk, problem
from tests.journeys.running import Gate, endless, gated
from tests.market import sample
from tests.market.stand import Stand

SQL = sample.COUNT


@pytest.fixture
def stand(sqlite_stand: Stand) -> Stand:
    """An exchange that tells of a job at once."""
    object.__setattr__(sqlite_stand.market.settings, "query_wait_s", 0)
    return sqlite_stand


@pytest.fixture
def buyer(stand: Stand) -> Iterator[Exchange]:
    transport = httpx.WSGITransport(app=stand.app)
    with Exchange("http://market.test", token=stand.tokens["buyer"], transport=transport) as x:
        yield x


@pytest.fixture
def gate(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    with gated(monkeypatch) as made:
        yield made


def test_a_long_query_just_works_and_tells_how_far_it_is(stand: Stand, buyer: Exchange, gate: Gate) -> None:
    told: list[tuple[str, int, int]] = []

    def tell(label: str, done: int, total: int) -> None:
        told.append((label, done, total))
        gate.open()

    answer = buyer.dataset(sample.SLUG).query(SQL, rho="0.01", progress=tell)
    assert answer.charged.text == "0.25 USD"
    assert (answer.repeated, answer.rho_nano) == (False, 10_000_000)
    assert told
    assert stand.settings.query_patience_s + 30 <= min(total for _, _, total in told)
    assert all(0 <= done <= total for _, done, total in told)
    assert len(stand.entries(kind="query.settled")) == 1


def test_a_job_is_held_looked_at_and_waited_for(buyer: Exchange, gate: Gate) -> None:
    job = buyer.dataset(sample.SLUG).query(SQL, rho="0.01", wait=False)
    assert isinstance(job, Job)
    gate.await_arrival()
    assert job.refresh().state == "running"
    assert job.open
    assert (job.progress.state, job.rho_nano) == ("running", 0)
    assert 0 <= job.progress.share < 1
    assert "running" in repr(job)
    assert "running" in job._repr_html_()
    with pytest.raises(StillRunning) as late:
        job.wait(timeout_s=0.1, progress=False)
    assert isinstance(late.value, TimeoutError)
    gate.open()
    answer = job.wait(progress=False)
    assert (answer.id, answer.repeated, answer.charged.text) == (job.id, False, "0.25 USD")
    assert (job.state, job.open, job.progress.share) == ("succeeded", False, 1.0)
    assert job.wait() is answer
    known = buyer.job(job.id)
    assert known.wait().rows == answer.rows
    assert known.kept_until


def test_a_quote_may_be_run_as_a_job(buyer: Exchange, gate: Gate) -> None:
    quote = buyer.dataset(sample.SLUG).quote(SQL, rho="0.01")
    job, other = quote.run(wait=False), buyer.dataset(sample.SLUG).quote(sample.BY_ZONE, rho="0.01")
    gate.open(2)
    assert job.wait(progress=False).charged == quote.price
    assert buyer.run(other.id, wait=False).wait(progress=False).charged == other.price
    repeated = buyer.dataset(sample.SLUG).query(SQL, rho="0.01", wait=False)
    assert (repeated.state, repeated.answer().repeated) == ("succeeded", True)


def test_a_job_is_cancelled(stand: Stand, buyer: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        begun = endless(patch)
        job = buyer.dataset(sample.SLUG).query(SQL, rho="0.01", wait=False)
        assert begun.wait(30)
        assert job.cancel().state == "cancelled"
        assert job.cancel().state == "cancelled"
        with pytest.raises(QueryCancelled):
            job.wait()
        with pytest.raises(QueryCancelled):
            buyer.job(job.id).wait()
        assert stand.market.engine.turns.settled(10)
    assert isinstance(QueryCancelled("x"), QueryFailed)
    assert stand.wallet().posted == 10_000
    with pytest.raises(NotFound):
        buyer.job("qry_" + "0" * 24)


def test_a_waiting_call_that_is_cancelled_says_so(
    stand: Stand, buyer: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    raised: list[BaseException] = []
    begun = endless(monkeypatch)

    def ask() -> None:
        with pytest.raises(QueryCancelled) as told:
            buyer.dataset(sample.SLUG).query(SQL, rho="0.01", progress=False)
        raised.append(told.value)

    asking = threading.Thread(target=ask)
    asking.start()
    assert begun.wait(30)
    (job,) = buyer.jobs()
    job.cancel()
    asking.join(30)
    assert [getattr(error, "code", "") for error in raised] == ["query_cancelled"]
    assert stand.market.engine.turns.settled(10)


def test_a_full_queue_is_waited_for_as_it_says() -> None:
    desk = Desk(
        problem(429, "too_many_queries", headers={"Retry-After": "4"}),
        problem(503, "overloaded", headers={"Retry-After": "7"}),
        httpx.Response(200, json={"done": True}),
    )
    assert desk.connection().post("/v1/queries", {}) == {"done": True}
    assert desk.slept == [4.0, 7.0]
    assert len(set(desk.keys)) == 1


def test_a_queue_that_stays_full_is_an_error_with_its_seconds(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = stand.market.engine.turns
    monkeypatch.setattr(turns, "shares", type(turns.shares)(at_once=1, of_one=1, waiting=9, waiting_of_one=0))
    before = stand.books()
    with turns.enter(stand.orgs["buyer"]):
        transport = httpx.WSGITransport(app=stand.app)
        with (
            Exchange(
                "http://market.test", token=stand.tokens["buyer"], transport=transport, retry=Retry(times=0)
            ) as x,
            pytest.raises(RateLimited) as told,
        ):
            x.dataset(sample.SLUG).query(SQL, rho="0.01")
    assert (told.value.code, told.value.retry_after) == ("too_many_queries", 1.0)
    assert stand.books() == before, "who is refused a place holds nothing"


# The command line


def exchange_command(stand: Stand, monkeypatch: pytest.MonkeyPatch, *words: str) -> Any:
    """Run a command as the buyer, within this process."""
    transport = httpx.WSGITransport(app=stand.app)
    monkeypatch.setattr(
        "exchange.cli.commands.client",
        lambda *_: Exchange("http://market.test", token=stand.tokens["buyer"], transport=transport),
    )
    monkeypatch.setattr(
        "exchange.cli.jobs.client",
        lambda *_: Exchange("http://market.test", token=stand.tokens["buyer"], transport=transport),
    )
    done = CliRunner().invoke(main, list(words))
    assert done.exit_code == 0, done.output
    return done.output


def test_the_life_of_a_job_by_command(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    with gated(monkeypatch) as gate:
        made = json.loads(
            exchange_command(
                stand, monkeypatch, "query", sample.SLUG, SQL, "--rho", "0.01", "--no-wait", "--json"
            )
        )
        gate.await_arrival()
        (listed,) = json.loads(exchange_command(stand, monkeypatch, "jobs", "--json"))
        assert (listed["query"], listed["state"]) == (made["query"], "running")
        assert "running" in exchange_command(stand, monkeypatch, "jobs")
        shown = exchange_command(stand, monkeypatch, "jobs", "show", made["query"])
        assert "of at most" in shown
        gate.open()
        answer = json.loads(exchange_command(stand, monkeypatch, "jobs", "wait", made["query"], "--json"))
        assert (answer["query"], len(answer["rows"])) == (made["query"], 1)
        other = exchange_command(
            stand, monkeypatch, "query", sample.SLUG, sample.BY_ZONE, "--rho", "0.01", "--no-wait"
        )
        cancelled = exchange_command(stand, monkeypatch, "jobs", "cancel", other.partition(":")[0], "--json")
        assert json.loads(cancelled)["state"] == "cancelled"


def test_the_limit_is_read_anew_once_the_query_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Queued it may wait for so long; running it has the time of its plan, and is not given up before."""
    now = [0.0]
    monkeypatch.setattr("exchange.client.jobs.time.monotonic", lambda: now[0])
    monkeypatch.setattr("exchange.client.jobs.time.sleep", lambda s: now.__setitem__(0, now[0] + 25 * s))
    job = {"query": "qry_1", "state": "running", "elapsed_s": 11, "limit_s": 5_000}
    running = [httpx.Response(200, json={**job, "elapsed_s": 10 * one}) for one in range(1, 9)]
    ended_ = httpx.Response(200, json={**job, "state": "cancelled", "limit_s": None})
    told: list[tuple[int, int]] = []
    held = Job({**job, "state": "queued", "limit_s": 60}, Desk(*running, ended_).connection())
    with pytest.raises(QueryCancelled):
        held.wait(progress=lambda _, done, total: told.append((done, total)))
    assert now[0] > 60 + 60, "longer than the limit of the queue"
    assert told[:2] == [(10, 5_000), (20, 5_000)]
    assert told[-1] == (5_000, 5_000)
