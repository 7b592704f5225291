"""Retries: the same idempotency key, only where a retry can help, never longer than a minute."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from exchange.client import (
    ConnectionFailed,
    ExchangeError,
    InProgress,
    NotFound,
    QueryFailed,
    RateLimited,
    ServerError,
)
from exchange.client.connection import TIMEOUT
from tests.exchange.client.desk import Desk, good, html, problem

REFUSED = httpx.ConnectError("connection refused")


@pytest.mark.parametrize(
    "passing",
    [
        REFUSED,
        httpx.ReadError("reset"),
        httpx.RemoteProtocolError("gone"),
        httpx.ConnectTimeout("slow"),
        problem(409, "in_progress"),
        problem(429, "rate_limited"),
        html(502),
        problem(503, "server_error"),
        html(504),
    ],
)
def test_a_retry_carries_the_same_key(passing: httpx.Response | Exception) -> None:
    desk = Desk(passing, passing, good({"done": 1}))
    assert desk.connection().post("/v1/queries", {"quote": "q"}) == {"done": 1}
    assert len(desk.requests) == 3
    assert len(set(desk.keys)) == 1
    assert desk.keys[0]
    assert {request.content for request in desk.requests} == {desk.requests[0].content}


def test_each_call_has_its_own_key() -> None:
    desk = Desk(good())
    connection = desk.connection()
    connection.post("/v1/queries", {})
    connection.post("/v1/queries", {})
    connection.post("/v1/queries", {}, key="mine")
    assert len(set(desk.keys)) == 3
    assert desk.keys[2] == "mine"


class Breaking(httpx.SyncByteStream):
    """The beginning of a file, and then no more."""

    def __iter__(self) -> Iterator[bytes]:
        yield b"begin"
        raise httpx.ReadError("reset")


def test_a_file_that_breaks_off_is_fetched_again() -> None:
    desk = Desk(httpx.Response(200, stream=Breaking()), httpx.Response(200, content=b"beginning"))
    assert desk.connection().fetch("/audit/tile/0/000", 100) == b"beginning"
    assert Desk(httpx.Response(200, content=b"beginning")).connection().fetch("/audit/key", 4) == b"begin"
    gone = Desk(*(httpx.Response(200, stream=Breaking()) for _ in range(10)))
    with pytest.raises(ConnectionFailed):
        gone.connection().fetch("/audit/tile/0/000", 100)
    assert len(gone.requests) == 6, "once, and five times again"


class Dripping(httpx.SyncByteStream):
    """A reply that comes byte by byte and does not end, and how many were taken."""

    def __init__(self, part: bytes = b"x") -> None:
        self.part, self.sent = part, 0

    def __iter__(self) -> Iterator[bytes]:
        while self.sent < 100:
            self.sent += 1
            yield self.part


def test_a_file_that_drips_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    drops = Dripping()
    monkeypatch.setattr("exchange.client.connection._FETCHED_WITHIN_S", 0.0)
    desk = Desk(*(httpx.Response(200, stream=drops) for _ in range(10)))
    with pytest.raises(ConnectionFailed):
        desk.connection().fetch("/audit/checkpoint", 1000)
    assert (len(desk.requests), drops.sent) == (1, 1), "and not begun again"


def test_of_an_error_the_beginning_is_read() -> None:
    endless = Dripping(bytes(1 << 20))
    with pytest.raises(ServerError):
        Desk(httpx.Response(500, stream=endless)).connection().fetch("/audit/checkpoint", 10)
    assert endless.sent == 1
    short = httpx.Response(404, stream=httpx.ByteStream(problem(404, "not_found").content))
    short.headers["Content-Type"] = "application/problem+json"
    with pytest.raises(NotFound):
        Desk(short).connection().fetch("/audit/checkpoint", 10)


def test_a_document_that_is_nested_without_an_end_is_none() -> None:
    deep = httpx.Response(200, content=b"[" * 200_000, headers={"Content-Type": "application/json"})
    with pytest.raises(ServerError) as caught:
        Desk(deep).connection().get("/v1/jobs")
    assert caught.value.code == "unexpected_reply"


@pytest.mark.parametrize(
    "final",
    [
        problem(400, "request_invalid"),
        problem(401, "token_unknown"),
        problem(409, "budget_exhausted"),
        problem(409, "key_reused"),
        problem(500, "query_failed"),
        problem(500, "server_error"),
        problem(504, "query_timeout"),
        httpx.UnsupportedProtocol("ftp"),
    ],
)
def test_what_a_retry_cannot_help_is_not_repeated(final: httpx.Response | Exception) -> None:
    desk = Desk(final)
    with pytest.raises(ExchangeError):
        desk.connection().post("/v1/queries", {})
    assert len(desk.requests) == 1
    assert desk.slept == []


def test_timeout_of_the_query_itself_is_final() -> None:
    desk = Desk(problem(504, "query_timeout"))
    with pytest.raises(QueryFailed):
        desk.connection().post("/v1/queries", {})


def test_retry_after_is_honoured() -> None:
    desk = Desk(problem(429, "rate_limited", headers={"Retry-After": "7"}), good())
    desk.connection().get("/v1/whoami")
    assert desk.slept == [7.0]


def test_retry_after_as_a_date_is_measured_by_the_servers_clock() -> None:
    dates = {"Retry-After": "Wed, 21 Oct 2015 07:28:10 GMT", "Date": "Wed, 21 Oct 2015 07:28:00 GMT"}
    desk = Desk(problem(503, "server_error", headers=dates), good())
    desk.connection().get("/v1/whoami")
    assert desk.slept == [10.0]


def test_a_wait_that_is_too_long_is_not_begun() -> None:
    desk = Desk(problem(429, "rate_limited", headers={"Retry-After": "3600"}))
    with pytest.raises(RateLimited) as caught:
        desk.connection().get("/v1/whoami")
    assert caught.value.retry_after == 3600.0
    assert desk.slept == []


def test_retries_end() -> None:
    desk = Desk(REFUSED)
    with pytest.raises(ConnectionFailed) as caught:
        desk.connection(times=3).post("/v1/queries", {})
    assert len(desk.requests) == 4
    assert caught.value.idempotency_key == desk.keys[0]
    assert "idempotency_key" in caught.value.hint
    assert issubclass(ConnectionFailed, ServerError)


def test_waits_grow_and_stay_bounded() -> None:
    desk = Desk(REFUSED)
    with pytest.raises(ConnectionFailed):
        desk.connection(times=8, base_s=1.0, longest_s=4.0).get("/v1/whoami")
    assert len(desk.slept) == 8
    assert 0.25 <= desk.slept[0] <= 1.0
    assert all(1.0 <= wait <= 4.0 for wait in desk.slept[2:])


def test_an_answer_in_progress_is_awaited_for_as_long_as_allowed() -> None:
    waiting = problem(409, "in_progress", headers={"Retry-After": "1"})
    desk = Desk(*[waiting] * 20, good({"done": 1}))
    assert desk.connection(times=2).post("/v1/queries", {}) == {"done": 1}
    desk = Desk(problem(409, "in_progress", headers={"Retry-After": "61"}))
    with pytest.raises(InProgress):
        desk.connection().post("/v1/queries", {})


def test_timeouts_are_set() -> None:
    assert (TIMEOUT.connect, TIMEOUT.read) == (5.0, 60.0)
    desk = Desk(good())
    connection = desk.connection()
    connection.get("/v1/whoami")
    connection.post("/v1/datasets", {}, read_s=900.0)
    timeouts = [request.extensions["timeout"] for request in desk.requests]
    assert (timeouts[0]["connect"], timeouts[0]["read"]) == (5.0, 60.0)
    assert (timeouts[1]["connect"], timeouts[1]["read"]) == (5.0, 900.0)


def test_token_travels_in_its_header_and_nowhere_else() -> None:
    desk = Desk(good({"org": "o", "name": "n", "role": "buyer", "token": "tok_1"}))
    with desk.exchange() as x:
        x.whoami()
        assert "tok_secret" not in repr(x) + repr(x.audit) + repr(vars(x)) + repr(x.whoami())
    assert desk.requests[0].headers["Authorization"] == "Bearer tok_secret"
    assert "tok_secret" not in str(desk.requests[0].url)


def test_parameters_that_are_none_are_left_out() -> None:
    desk = Desk(good())
    desk.connection().get("/v1/requests", state=None, limit=3)
    assert str(desk.requests[0].url) == "http://exchange.test/v1/requests?limit=3"


def test_address_may_lie_below_a_path() -> None:
    desk = Desk(good({"balances": []}))
    from exchange import Exchange

    with Exchange("http://proxy.test/market/", transport=httpx.MockTransport(desk.handle)) as x:
        x.wallet()
    assert str(desk.requests[0].url) == "http://proxy.test/market/v1/wallet"
    assert "Authorization" not in desk.requests[0].headers
