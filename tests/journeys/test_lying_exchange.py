"""An exchange that answers a verifying client otherwise than it published: every lie has an exit code."""

from __future__ import annotations

import collections
import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from exchange import config
from exchange.audit import checkpoint, note, tiles
from exchange.audit.note import SigningKey
from exchange.audit.signing import parse_keys
from exchange.client import Exchange, VerificationFailed
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


def test_books_are_hashed_here_and_not_by_the_exchange(sqlite_stand: Stand) -> None:
    """A digest that was logged stands beside any text; a client that believed it would compare nothing."""
    stand = sqlite_stand
    asked(stand, "0.01")
    stand.publish_log()

    def answer(request: httpx.Request, before: int, data: bytes) -> bytes:
        if request.url.path != "/v1/audit/journals":
            return data
        told = json.loads(data)
        for journal in told["items"].values():
            journal["text"] = journal["text"].replace('"amount":"', '"amount":"1')
        return json.dumps(told).encode()

    with lied_to(stand, lambda request, before, data: data, "officer") as x:
        report = x.audit.verify()
    assert (report.exit_code, report.books) == (0, True)
    with lied_to(stand, answer, "officer") as x:
        report = x.audit.verify()
    assert report.exit_code == 11
    assert {finding.message for finding in report.findings} == {
        "The ledger's journal is not the one that was logged."
    }


def other_document(path: str, of_other: bytes) -> Answer:
    """Something true, of something else than what is asked for."""
    return lambda request, before, data: of_other if request.url.path == path else data


def test_a_proof_and_a_receipt_are_of_what_was_asked_for(sqlite_stand: Stand) -> None:
    """Another entry is in the log as well, and another answer has a good receipt too."""
    stand = sqlite_stand
    mine, other = (stand.run(rho=rho).json()["query"] for rho in ("0.01", "0.02"))
    stand.publish_log()
    one, two = (entry.id for entry in stand.entries(kind="query.settled"))
    places = {
        f"/v1/audit/entries/{one}/proof": ("officer", f"/v1/audit/entries/{two}/proof"),
        f"/v1/queries/{mine}/receipt": ("buyer", f"/v1/queries/{other}/receipt"),
    }
    for path, (who, elsewhere) in places.items():
        forged = other_document(path, stand.get(who, elsewhere).content)
        with lied_to(stand, forged, who) as x:
            found: Any = x.audit.prove(one) if who == "officer" else x.receipt(mine)
            with pytest.raises(VerificationFailed) as caught:
                found.verify()
        assert caught.value.exit_code == 11


def saying(entries: Callable[[int], int], rho_nano: int) -> Answer:
    """What the exchange says of its domains, as of other entries and with another sum."""

    def answer(request: httpx.Request, before: int, data: bytes) -> bytes:
        if request.url.path != "/audit/spending":
            return data
        told = json.loads(data)
        told["entries"] = entries(told["entries"])
        told["items"][0]["rho_nano_spent"] = rho_nano
        return json.dumps(told).encode()

    return answer


@pytest.mark.parametrize(
    ("entries", "code"), [(lambda now: 0, 11), (lambda now: now - 1, 11), (lambda now: 10**15, 10)]
)
def test_the_exchange_does_not_choose_the_entries_by_which_it_is_measured(
    sqlite_stand: Stand, entries: Callable[[int], int], code: int
) -> None:
    """Nothing was spent before the first entry, and nothing is known of entries that never come."""
    stand = sqlite_stand
    asked(stand, "0.01")
    stand.publish_log()
    with lied_to(stand, saying(entries, 0)) as x:
        report = x.audit.spending(wait_s=0)
    assert report.log.exit_code == code
    assert not report.good


def test_the_checkpoint_before_is_one_of_this_log(sqlite_stand: Stand) -> None:
    """The first checkpoint shows what the exchange has signed: not one of nobody, of another, or of none."""
    stand = sqlite_stand
    stand.publish_log()
    asked(stand, "0.01")
    key = log_key(stand)
    text_of_fork = checkpoint.text_of(stand.settings.log_origin, 3, bytes(32))
    fork = note.sign_note(text_of_fork, key).encoded()
    stranger = note.sign_note(text_of_fork, SigningKey(key.name, bytes(32))).encoded()
    stand.publish_log()
    for shown, code in ((fork, 12), (stranger, 13), (b"nothing\n", 15)):

        def answer(request: httpx.Request, before: int, data: bytes, shown: bytes = shown) -> bytes:
            return shown if request.url.path == "/audit/checkpoint" and not before else data

        with lied_to(stand, answer) as x:
            report = x.audit.spending(wait_s=0)
        assert report.log.exit_code == code, report.log.findings


def test_an_older_log_is_not_shown_to_whoever_saved_a_newer_checkpoint(sqlite_stand: Stand) -> None:
    """What was said an hour ago is true of then; this reader knows that more was signed since."""
    stand = sqlite_stand
    asked(stand, "0.01")
    old = stand.publish_log().encoded()
    said = stand.get(None, "/audit/spending").content
    asked(stand, "0.02")
    pinned = stand.publish_log().encoded()

    def answer(request: httpx.Request, before: int, data: bytes) -> bytes:
        shown = {"/audit/spending": said, "/audit/checkpoint": data if before else old}
        return shown.get(request.url.path, data)

    with lied_to(stand, answer) as x:
        report = x.audit.spending(pinned=pinned)
    assert report.log.exit_code == 11
    assert "had signed" in report.log.findings[0].message


def log_key(stand: Stand) -> SigningKey:
    return parse_keys(config.log_key_of(stand.home, stand.environ))[-1]


def test_no_domain_is_left_out_or_named_twice(sqlite_stand: Stand) -> None:
    stand = sqlite_stand
    asked(stand, "0.01")
    stand.publish_log()
    changes: list[Callable[[list[dict[str, Any]]], None]] = [
        lambda items: items.clear(),
        lambda items: items.append(items[0]),
    ]
    for change in changes:

        def answer(
            request: httpx.Request,
            before: int,
            data: bytes,
            change: Callable[[list[dict[str, Any]]], None] = change,
        ) -> bytes:
            if request.url.path != "/audit/spending":
                return data
            told = json.loads(data)
            change(told["items"])
            return json.dumps(told).encode()

        with lied_to(stand, answer) as x:
            report = x.audit.spending()
        assert report.log.exit_code == 11
        assert len(report.log.findings) == 1


class Endless(httpx.SyncByteStream):
    """A reply without an end, and how much of it was taken."""

    def __init__(self) -> None:
        self.sent = 0

    def __iter__(self) -> Iterator[bytes]:
        while self.sent < 64 << 20:
            self.sent += 1 << 20
            yield bytes(1 << 20)


class Sending(httpx.BaseTransport):
    """Sends without an end under one path."""

    def __init__(self, stand: Stand, path: str) -> None:
        self._inner, self._path, self.endless = httpx.WSGITransport(app=stand.app), path, Endless()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if self._path in request.url.path:
            return httpx.Response(200, stream=self.endless)
        return self._inner.handle_request(request)


@pytest.mark.parametrize(
    ("path", "code", "most"),
    [("/audit/checkpoint", 15, 18), ("/tile/0/", 11, 36), ("/tile/entries/", 11, 36), ("/audit/keys", 15, 2)],
)
def test_no_reply_is_held_beyond_the_largest_file_of_a_log(
    sqlite_stand: Stand, path: str, code: int, most: int
) -> None:
    stand = sqlite_stand
    stand.publish_log()
    door = Sending(stand, path)
    with Exchange("http://market.test", token="", transport=door) as x:
        report = x.audit.verify(books=False, follow_keys=True)
    assert report.exit_code == code
    assert 0 < door.endless.sent <= most << 20
