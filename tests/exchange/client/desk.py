"""A pretended exchange: a list of replies in order, and a record of the requests that came."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx

from exchange.client import Exchange, Retry
from exchange.client.configuration import Address, Token
from exchange.client.connection import Connection

Reply = httpx.Response | Exception | Callable[[httpx.Request], httpx.Response]


class Desk:
    """Answers each request with the next reply; the last one is repeated."""

    def __init__(self, *replies: Reply) -> None:
        self.replies = list(replies)
        self.requests: list[httpx.Request] = []
        self.slept: list[float] = []

    def handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if isinstance(reply, Exception):
            raise reply
        return reply(request) if callable(reply) else reply

    def connection(self, **retry: Any) -> Connection:
        """A connection whose waits are recorded and not waited."""
        address = Address("http://exchange.test", Token("tok_secret"))
        return Connection(
            address, transport=httpx.MockTransport(self.handle), retry=Retry(**retry), sleep=self.slept.append
        )

    def exchange(self) -> Exchange:
        """A client of this desk."""
        return Exchange(
            "http://exchange.test", token="tok_secret", transport=httpx.MockTransport(self.handle)
        )

    @property
    def keys(self) -> list[str | None]:
        """The idempotency keys in the order they came."""
        return [request.headers.get("Idempotency-Key") for request in self.requests]


def problem(status: int, code: str, *, headers: dict[str, str] | None = None, **extra: Any) -> httpx.Response:
    """A problem document."""
    body = {"type": "about:blank", "title": code, "status": status, "detail": f"It is {code}.", "code": code}
    body |= {"hint": "Do this.", "request_id": "req_1", **extra}
    given = {"Content-Type": "application/problem+json", **(headers or {})}
    return httpx.Response(status, content=json.dumps(body).encode(), headers=given)


def good(body: Any = None) -> httpx.Response:
    """A JSON reply."""
    return httpx.Response(200, json={} if body is None else body)


def html(status: int) -> httpx.Response:
    """What a proxy says."""
    return httpx.Response(status, html="<html><body>Bad gateway</body></html>")
