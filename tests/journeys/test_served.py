"""Over a real socket: bodies without a length, many callers, and headers as they travel."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from exchange.identity import Role
from exchange.operations import administering
from tests.market.server import DemoExchange
from tests.market.stand import TUS, problem


@pytest.fixture(scope="module")
def provider(demo_exchange: DemoExchange) -> Iterator[httpx.Client]:
    administering.create_organisation(demo_exchange.market, name="harbour", role=Role.PROVIDER)
    token = administering.create_token(demo_exchange.market, org="harbour", role=Role.PROVIDER)["token"]
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=demo_exchange.url, headers=headers, timeout=60) as http:
        yield http


def pieces(total: int, size: int = 1 << 16) -> Iterator[bytes]:
    """A body in pieces, so that its length is not announced."""
    for start in range(0, total, size):
        yield b" " * min(size, total - start)


def test_a_body_without_a_length_is_read_up_to_the_limit(provider: httpx.Client) -> None:
    headers = {"Content-Type": "application/json"}
    for path in ("/v1/datasets", "/v1/datasets/nyc/flights/publish"):
        problem(provider.post(path, content=pieces(3 << 20), headers=headers), 413, "too_large")
        problem(provider.post(path, content=pieces(1 << 10), headers=headers), 422, "request_invalid")
    told = problem(provider.post("/v1/datasets", content=b" " * (3 << 20), headers=headers), 413, "too_large")
    assert told["hint"]


def test_an_upload_in_pieces_ends_at_its_declared_length(provider: httpx.Client) -> None:
    where = provider.post("/v1/uploads", headers={"Upload-Length": str(200_000)}).headers["Location"]
    sent = {"Content-Type": TUS, "Upload-Offset": "0"}
    assert provider.patch(where, content=pieces(150_000), headers=sent).headers["Upload-Offset"] == "150000"
    more = {**sent, "Upload-Offset": "150000"}
    problem(provider.patch(where, content=pieces(50_001), headers=more), 413, "too_large")
    arrived = int(provider.head(where).headers["Upload-Offset"])
    assert 150_000 <= arrived <= 200_000


def test_two_writers_do_not_mix_their_bytes(provider: httpx.Client, demo_exchange: DemoExchange) -> None:
    """Both begin at the same offset: one writes, the other is told that somebody does."""
    for number in range(6):
        where = provider.post("/v1/uploads", headers={"Upload-Length": str(1 << 20)}).headers["Location"]
        sent = {"Content-Type": TUS, "Upload-Offset": "0"}

        def write(letter: bytes, where: str = where, sent: dict[str, str] = sent) -> httpx.Response:
            return provider.patch(where, content=letter * (1 << 20), headers=sent)

        with ThreadPoolExecutor(2) as pool:
            replies = list(pool.map(write, (b"a", b"b")))
        assert sorted(reply.status_code for reply in replies) == [204, 409], number
        kept = demo_exchange.market.settings.home / "quarantine" / where.rpartition("/")[2]
        assert set(kept.read_bytes()) in ({ord("a")}, {ord("b")})
        assert kept.stat().st_size == 1 << 20


def test_the_log_may_be_kept_by_those_who_read_it(demo_exchange: DemoExchange) -> None:
    url = demo_exchange.url
    checkpoint = httpx.get(f"{url}/audit/checkpoint")
    assert checkpoint.headers["Cache-Control"] == "no-cache"
    assert checkpoint.headers["Content-Type"].startswith("text/plain")
    for path in ("/audit/key", "/audit/receipt-key"):
        assert httpx.get(f"{url}{path}").text.count("+") >= 2
    assert "Set-Cookie" not in checkpoint.headers
