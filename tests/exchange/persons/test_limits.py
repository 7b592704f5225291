"""How many requests are served, how large they may be, and which headers every reply carries."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from contextlib import closing

import httpx
import pytest

from exchange.client.configuration import Address, Token
from exchange.client.connection import Connection
from exchange.config import Settings
from exchange.errors import RateLimited
from exchange.web import create_app
from exchange.web.limits import Buckets, RequestLimits
from tests.market import sample
from tests.market.browser import Browser, member
from tests.market.stand import Stand, problem


class Hands:
    """A clock that stands still until somebody moves it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def move(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def hands(sqlite_stand: Stand) -> Iterator[Hands]:
    """The market with two requests a second for each caller and ten for each network."""
    limits, hands = RequestLimits(Settings(rate_of_caller=2, rate_of_network=10)), Hands()
    limits.of_caller.clock = limits.of_network.clock = hands
    sqlite_stand.app.extensions["limits"] = limits
    return hands  # type: ignore[return-value]


def test_a_token_has_its_own_limit_and_waits_as_told(sqlite_stand: Stand, hands: Hands) -> None:
    stand, before = sqlite_stand, len(sqlite_stand.entries())
    assert [stand.get("buyer", "/v1/whoami").status_code for _ in range(20)] == [200] * 20
    reply = stand.get("buyer", "/v1/whoami")
    problem(reply, 429, "rate_limited")
    assert reply.headers["Retry-After"] == "1"
    assert stand.get("other", "/v1/whoami").status_code == 200, "another token is not concerned"
    hands.move(1)
    assert [stand.get("buyer", "/v1/whoami").status_code for _ in range(3)] == [200, 200, 429]
    assert len(stand.entries()) == before, "a flood of requests is no flood of entries"


def test_a_network_has_a_limit_before_anybody_is_known(sqlite_stand: Stand, hands: Hands) -> None:
    stand = sqlite_stand
    statuses = [stand.get(None, "/").status_code for _ in range(101)]
    assert statuses == [200] * 100 + [429]
    problem(stand.get("buyer", "/v1/whoami"), 429, "rate_limited")
    for path in ("/healthz", "/readyz"):
        assert stand.get(None, path).status_code in (200, 503)
    hands.move(60)
    assert stand.get(None, "/").status_code == 200


def test_a_refused_token_counts_for_ten(sqlite_stand: Stand, hands: Hands) -> None:
    statuses = [sqlite_stand.get("wrong", "/v1/whoami").status_code for _ in range(12)]
    assert statuses == [401] * 10 + [429] * 2
    assert len(sqlite_stand.entries(kind="token.refused")) == 10


def test_what_is_refused_to_a_stranger_counts_for_ten(sqlite_stand: Stand, hands: Hands) -> None:
    stand = sqlite_stand
    with closing(Browser(stand)) as browser:
        for path, kind in (("/join/inv_x", "invitation.refused"), ("/sign-in", "session.refused")):
            hands.move(60)
            codes = [
                browser.http.post(path, data={"login": f"{n}@acme.example", "password": "x"}).status_code
                for n in range(12)
            ]
            assert codes == [codes[0]] * 10 + [429] * 2, path
            assert len(stand.entries(kind=kind)) == 10
            problem(stand.get("buyer", "/v1/whoami"), 429, "rate_limited")


def test_a_person_on_the_portal_has_a_limit(sqlite_stand: Stand, hands: Hands) -> None:
    with closing(member(sqlite_stand)) as ada:
        hands.move(60)
        statuses = [ada.get("/").status_code for _ in range(21)]
        assert statuses == [200] * 20 + [429]
        assert sqlite_stand.get("buyer", "/v1/whoami").status_code == 200


def test_the_sdk_waits_as_long_as_it_is_told(sqlite_stand: Stand, hands: Hands) -> None:
    stand, slept = sqlite_stand, []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        hands.move(seconds)

    for _ in range(20):
        stand.get("buyer", "/v1/whoami")
    address = Address("http://market.test", Token(stand.tokens["buyer"]), None)
    with closing(
        Connection(address, transport=httpx.WSGITransport(app=stand.app), sleep=sleep)
    ) as connection:
        assert connection.get("/v1/whoami")["name"] == "acme"
    assert slept == [1.0]


def test_buckets_fill_to_their_brim_and_are_few() -> None:
    hands = Hands()
    buckets = Buckets(1, clock=hands, most=2)
    for _ in range(10):
        buckets.take("a")
    with pytest.raises(RateLimited):
        buckets.take("a")
    hands.move(1e6)
    for _ in range(10):
        buckets.take("a")
    with pytest.raises(RateLimited):
        buckets.take("a")
    for key in "bc":
        buckets.take(key)
    assert len(buckets._levels) == 2
    Buckets(0).take("a")


def test_a_form_larger_than_any_of_ours_is_refused(sqlite_stand: Stand) -> None:
    with closing(Browser(sqlite_stand)) as browser:
        reply = browser.http.post("/sign-in", data={"login": "x" * (65 << 10), "password": "x"})
        assert (reply.status_code, reply.json()["code"]) == (413, "too_large")


PATHS = ["/", "/sign-in", f"/datasets/{sample.SLUG}", "/account", "/v1/whoami", "/openapi.json", "/nothing"]


@pytest.mark.parametrize("base_url", ["https://exchange.test", "http://127.0.0.1:8000"])
@pytest.mark.parametrize("path", PATHS)
def test_headers_of_every_reply(shared_sqlite_stand: Stand, path: str, base_url: str) -> None:
    stand = shared_sqlite_stand
    settings = dataclasses.replace(stand.settings, base_url=base_url)
    app = create_app(dataclasses.replace(stand.market, settings=settings))
    app.logger.disabled = True
    with httpx.Client(transport=httpx.WSGITransport(app=app), base_url=base_url) as client:
        headers = client.get(path).headers
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy["script-src"] == policy["style-src"] == policy["default-src"] == "'self'"
    assert policy["object-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert "camera=()" in headers["Permissions-Policy"]
    assert ("Strict-Transport-Security" in headers) is base_url.startswith("https:")
    assert headers["Content-Type"].split(";")[0] in (
        "text/html",
        "application/json",
        "application/problem+json",
    )
    assert "Server" not in headers or "werkzeug" not in headers["Server"].lower()


def test_pages_run_our_own_script_alone(shared_sqlite_stand: Stand) -> None:
    with closing(member(shared_sqlite_stand, login="script@acme.example", admin=True)) as ada:
        for path in ("/account", "/members", "/tokens", "/sign-in/confirm"):
            page = ada.get(path).text
            assert not re.search(r"<script(?! src=\"/static/)", page), path
            assert not re.search(r"\s(style|on\w+)=", page), path


def test_an_address_is_believed_from_as_many_proxies_as_are_set(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    for proxies, network in ((0, "127.0.0.0/24"), (1, "203.0.113.0/24")):
        settings = dataclasses.replace(stand.settings, proxies=proxies)
        app = create_app(dataclasses.replace(stand.market, settings=settings))
        app.logger.disabled = True
        with httpx.Client(transport=httpx.WSGITransport(app=app), base_url="http://market.test") as client:
            sent = {"X-Forwarded-For": "198.51.100.7, 203.0.113.9", "Authorization": "Bearer wrong"}
            assert client.get("/v1/whoami", headers=sent).status_code == 401
        assert stand.entries(kind="token.refused")[-1].document["source"]["ip_truncated"] == network
