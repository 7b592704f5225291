"""An exchange that answers a verifying client otherwise than it published: every lie has an exit code."""

from __future__ import annotations

import collections
import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
from sqlalchemy import text

from exchange.audit import tiles
from exchange.client import Exchange
from tests.market import sample
from tests.market.stand import Stand

Answer = Callable[[httpx.Request, int, bytes], bytes]


class Lying(httpx.BaseTransport):
    """Hands each good answer to ``answer``, with how often its path was asked for before."""

    def __init__(self, stand: Stand, answer: Answer) -> None:
        self._inner, self._answer = httpx.WSGITransport(app=stand.app), answer
        self.asked: collections.Counter[str] = collections.Counter()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        reply = self._inner.handle_request(request)
        data, path = reply.read(), request.url.path
        if reply.status_code == 200:
            data = self._answer(request, self.asked[path], data)
        self.asked[path] += 1
        return httpx.Response(reply.status_code, content=data)


@contextlib.contextmanager
def lied_to(stand: Stand, answer: Answer, who: str | None = None) -> Iterator[Exchange]:
    """The SDK of somebody to whom the exchange lies."""
    token = stand.tokens[who] if who else ""
    with Exchange("http://market.test", token=token, transport=Lying(stand, answer)) as x:
        yield x


def asked(stand: Stand, *rhos: str) -> None:
    for number, rho in enumerate(rhos):
        assert stand.run(sql=f"{sample.COUNT} -- {number}", rho=rho).status_code == 200


def second_copy(change: Callable[[dict[str, Any]], None]) -> Answer:
    """Other entries for whoever downloads a bundle for the second time."""

    def answer(request: httpx.Request, before: int, data: bytes) -> bytes:
        if not before or "/audit/tile/entries/" not in request.url.path:
            return data
        entries = []
        for leaf in tiles.decode_bundle(data):
            document = json.loads(leaf[1:])
            change(document)
            entries.append(leaf[:1] + json.dumps(document, separators=(",", ":"), sort_keys=True).encode())
        return tiles.encode_bundle(entries)

    return answer


def test_what_is_added_up_is_what_was_verified(sqlite_stand: Stand) -> None:
    """The tree is good at the first download, and the second would agree with a sum that is too small."""
    stand = sqlite_stand
    asked(stand, "0.01", "0.02")
    stand.publish_log()

    def nothing_spent(document: dict[str, Any]) -> None:
        document["privacy"] = None

    forged = second_copy(nothing_spent)

    def answer(request: httpx.Request, before: int, data: bytes) -> bytes:
        if request.url.path != "/audit/spending":
            return forged(request, before, data)
        told = json.loads(data)
        told["items"][0]["rho_nano_spent"] = 0
        return json.dumps(told).encode()

    with lied_to(stand, answer) as x:
        report = x.audit.spending()
    assert report.log.exit_code == 11
    (city,) = report.domains
    assert (city.log_rho_nano, city.said_rho_nano) == (stand.budget()["rho_nano_spent"], 0)


def test_books_are_held_against_the_entries_that_were_verified(sqlite_stand: Stand) -> None:
    """A journal was changed after it was logged, and the second download would name it as it is now."""
    stand = sqlite_stand
    asked(stand, "0.01")
    stand.publish_log()
    journal = stand.entries(kind="query.settled")[0].document["money"]["journal"]
    with stand.market.store.engine.begin() as connection:
        connection.execute(text("DROP TRIGGER journal_append_only_update"))
        changed = text("UPDATE journal SET actor = 'somebody else' WHERE id = :id")
        assert connection.execute(changed, {"id": journal}).rowcount == 1
    found = stand.get("officer", f"/v1/audit/journals?ids={journal}").json()["items"]

    def as_it_is_now(document: dict[str, Any]) -> None:
        if document["money"] and document["money"]["journal"] == journal:
            document["money"]["journal_sha256"] = found[journal]["digest"]

    with lied_to(stand, second_copy(as_it_is_now), "officer") as x:
        report = x.audit.verify()
    assert report.exit_code == 11
    assert {finding.journal for finding in report.findings} == {journal}
