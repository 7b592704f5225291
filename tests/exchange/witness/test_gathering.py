"""The exchange asks its witnesses: who answers is published with the checkpoint, others delay nothing."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from exchange import outside, worker
from exchange.addresses import networks
from exchange.audit import checkpoint, note
from exchange.audit.heads import Growth
from exchange.audit.integrate import integrate
from exchange.audit.tiles import Folder
from exchange.audit.verify import verify_log
from exchange.config import Settings, SettingsError
from exchange.operations import observing, witnessing
from exchange.operations.witnessing import Gatherer
from exchange.witness.configuration import Configuration
from exchange.witness.witness import Answer, Witness
from tests.exchange.audit.samples import ORIGIN, SIGNER, STRANGER, WITNESSES, records, signer_of
from tests.exchange.witness.logs import made, serving, witness
from tests.market.stand import Stand

LEAVES = [record.leaf for record in records(300)]
HERE = networks("127.0.0.0/8")


def grow(folder: Folder, gatherer: Gatherer, size: int) -> checkpoint.Checkpoint:
    """One round of the worker, with so many entries."""
    head = integrate(
        lambda start: iter(LEAVES[start:size]), folder, signer_of(folder), ORIGIN, cosign=gatherer.gather
    )
    return gatherer.complete(head)


def names(folder: Folder, *told: Configuration) -> tuple[str, ...]:
    """The witnesses that the published checkpoint carries, verified."""
    keys = [one.key.verifier for one in told]
    report = verify_log(folder, origin=ORIGIN, keys=[SIGNER.verifier], witnesses=keys)
    assert report.exit_code == 0, report.findings
    return tuple(sorted(report.witnesses))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "log")


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who was away is asked again at once."""
    monkeypatch.setattr(witnessing, "AGAIN_S", 0.0)


def test_two_witnesses_sign_what_is_published(tmp_path: Path, folder: Folder) -> None:
    told = [made(tmp_path / str(number), number) for number in (1, 2)]
    with contextlib.ExitStack() as stack:
        ports = [stack.enter_context(serving(witness(one))) for one in told]
        asked = [(o.key.verifier, f"http://127.0.0.1:{p}") for o, p in zip(told, ports, strict=True)]
        gatherer = Gatherer(asked, folder, HERE)
        for size in (5, 5, 40, 300):
            assert grow(folder, gatherer, size).size == size
            assert names(folder, *told) == ("compliance.example/1", "compliance.example/2")
        again = Gatherer(asked, folder, HERE)  # a new process knows no sizes, and is told
        grow(folder, again, 300)
        assert names(folder, *told) == ("compliance.example/1", "compliance.example/2")


def test_a_witness_that_comes_back_is_added(tmp_path: Path, folder: Folder) -> None:
    told, other = made(tmp_path / "1"), made(tmp_path / "2", 2)
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    with serving(witness(other)) as there:
        asked = [
            (told.key.verifier, f"http://127.0.0.1:{port}"),
            (other.key.verifier, f"http://127.0.0.1:{there}"),
        ]
        gatherer = Gatherer(asked, folder, HERE)
        grow(folder, gatherer, 20)
        assert names(folder, told, other) == ("compliance.example/2",)
        from exchange.witness import server

        with server.WitnessServer("127.0.0.1", port, witness(told)) as listening:
            thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            try:
                grow(folder, gatherer, 20)
            finally:
                listening.shutdown()
                thread.join()
        assert names(folder, told, other) == ("compliance.example/1", "compliance.example/2")


def test_who_never_answers_delays_no_longer_than_the_bound(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(witnessing, "WITHIN_S", 0.2)
    monkeypatch.setattr(witnessing, "_TIMEOUT_S", 0.6)
    monkeypatch.setattr(witnessing, "AGAIN_S", 60.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        gatherer = Gatherer([(one.verifier, url) for one in WITNESSES], folder, HERE)
        began = time.monotonic()
        assert grow(folder, gatherer, 20).size == 20
        assert time.monotonic() - began < 2
        began = time.monotonic()
        assert gatherer.gather(grow(folder, gatherer, 30)).size == 30
        assert time.monotonic() - began < 0.2 + 2, "who was away is not waited for again"
        assert [one.again > began for one in gatherer._asked] == [True] * 3
        until = began + 20
        while any(one.name.startswith("witness") for one in threading.enumerate()):
            assert time.monotonic() < until, "their threads end"
            time.sleep(0.05)


def test_who_never_ends_its_answer_takes_one_thread(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(witnessing, "WITHIN_S", 0.03)
    monkeypatch.setattr(outside, "LONGEST_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        dripping = threading.Thread(target=drip, args=(silent,))
        dripping.start()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        gatherer = Gatherer([(WITNESSES[0].verifier, url)], folder, HERE)
        for size in range(1, 12):
            assert grow(folder, gatherer, size).size == size
            asking = [one for one in threading.enumerate() if one.name.startswith("witness")]
            assert len(asking) <= 2, "one is asked, one has just found that it is"
            assert all(one.daemon for one in asking), "nobody keeps the worker from ending"
        assert "has not answered what it was asked before" in caplog.text
        dripping.join()
    until = time.monotonic() + 10
    while any(one.name.startswith("witness") for one in threading.enumerate()):
        assert time.monotonic() < until
        time.sleep(0.02)


def drip(listening: socket.socket) -> None:
    """Answer one connection with headers that do not end, until the other side has enough."""
    with listening.accept()[0] as connection, contextlib.suppress(OSError):
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        while True:
            connection.sendall(b"a: b\r\n")
            time.sleep(0.05)


def test_a_signature_over_more_than_the_checkpoint_is_not_published(tmp_path: Path, folder: Folder) -> None:
    """Signed by the witness's own key: put beneath the checkpoint, it would be a forged one to everybody."""
    told, other = made(tmp_path / "1"), made(tmp_path / "2", 2)

    class Longer(Witness):
        def add_checkpoint(self, body: bytes) -> Answer:
            shown = note.parse_note(Growth.parse(body).note)
            longer = note.sign_note(f"{shown.text}\nmore\n", SIGNER)
            line = note.cosign_note(longer, told.key, datetime.now(UTC)).encoded().splitlines(True)[-1]
            return Answer(200, f"more\n\n{line.decode()}")

    with serving(Longer(told, None)) as port, serving(witness(other)) as there:
        asked = [(told.key.verifier, port), (other.key.verifier, there)]
        gatherer = Gatherer([(key, f"http://127.0.0.1:{at}") for key, at in asked], folder, HERE)
        grow(folder, gatherer, 20)
    assert names(folder, told, other) == ("compliance.example/2",)


def test_whatever_a_witness_breaks_the_others_signatures_are_published(
    tmp_path: Path, folder: Folder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    told, other = made(tmp_path / "1"), made(tmp_path / "2", 2)
    ask = outside.ask

    def breaking(address: str, **options: Any) -> tuple[int, bytes]:
        if address.startswith("http://127.0.0.2"):
            raise ZeroDivisionError("a defect")
        return ask(address, **options)

    monkeypatch.setattr(outside, "ask", breaking)
    with serving(witness(other)) as there:
        asked = [
            (told.key.verifier, "http://127.0.0.2:1"),
            (other.key.verifier, f"http://127.0.0.1:{there}"),
        ]
        grow(folder, Gatherer(asked, folder, HERE), 20)
    assert names(folder, told, other) == ("compliance.example/2",)
    assert "compliance.example/1 did not cosign: ZeroDivisionError" in caplog.text


class Liar(Witness):
    """Answers as a test says."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer

    def add_checkpoint(self, body: bytes) -> Answer:
        return self.answer


def lies(tmp_path: Path) -> dict[str, Answer]:
    told = made(tmp_path / "1")
    head = checkpoint.sign_checkpoint(ORIGIN, 20, bytes(32), SIGNER)
    moved = checkpoint.cosign(head, told.key, datetime.now(UTC)).encoded().decode()
    stranger = checkpoint.cosign(head, WITNESSES[0], datetime.now(UTC)).encoded().decode()
    line = "— compliance.example/1 "
    return {
        "another checkpoint's": Answer(200, moved.splitlines(True)[-1]),
        "a stranger's": Answer(200, stranger.splitlines(True)[-1]),
        "nothing": Answer(200, ""),
        "no signature": Answer(200, "hello\n"),
        "garbage": Answer(200, line + "AAAA\n"),
        "much": Answer(200, "x" * 300_000),
        "a page": Answer(500, "<html>"),
        "a size that is none": Answer(409, "-1\n"),
        "more than there are": Answer(409, "999999\n"),
        "an endless dance": Answer(409, "7\n"),
        "not ours": Answer(404, "no\n"),
    }


def test_a_witness_that_lies_adds_nothing_and_breaks_nothing(
    tmp_path: Path, folder: Folder, caplog: pytest.LogCaptureFixture
) -> None:
    key, size = None, 20
    for name, answer in lies(tmp_path).items():
        told = key or (key := _key(tmp_path))
        with serving(Liar(answer)) as port:
            gatherer = Gatherer([(told, f"http://127.0.0.1:{port}")], folder, HERE)
            size += 1
            assert grow(folder, gatherer, size).size == size, name
        published = checkpoint.parse_checkpoint(folder.read("checkpoint") or b"")
        assert len(published.note.signatures) == 1, name
    assert "compliance.example/1" in caplog.text


def _key(tmp_path: Path):  # type: ignore[no-untyped-def]
    from exchange.witness import configuration

    return configuration.read(tmp_path / "1").key.verifier


@pytest.mark.parametrize("hours", [-2, 2])
def test_a_cosignature_of_another_time_is_not_published(
    tmp_path: Path, folder: Folder, hours: int, caplog: pytest.LogCaptureFixture
) -> None:
    told = made(tmp_path / "1")
    skewed = Witness(told, None, clock=lambda: datetime.now(UTC) + timedelta(hours=hours))
    with serving(skewed) as port:
        grow(folder, Gatherer([(told.key.verifier, f"http://127.0.0.1:{port}")], folder, HERE), 20)
    assert names(folder, told) == ()
    assert "compare the clocks" in caplog.text


def test_a_witness_within_is_asked_where_its_network_is_named(tmp_path: Path, folder: Folder) -> None:
    told = made(tmp_path / "1")
    with serving(witness(told)) as port:
        asked = [(told.key.verifier, f"http://127.0.0.1:{port}")]
        grow(folder, Gatherer(asked, folder), 20)
        assert names(folder, told) == ()
        grow(folder, Gatherer(asked, folder, HERE), 20)
        assert names(folder, told) == ("compliance.example/1",)


# the worker


@pytest.fixture
def witnessed(
    sqlite_stand: Stand, tmp_path: Path
) -> Iterator[tuple[Stand, Configuration, Witness, Settings]]:
    """A market whose worker asks one witness."""
    from exchange.audit.note import SigningKey
    from exchange.config import log_key_of

    log_key = SigningKey.parse(log_key_of(sqlite_stand.home, {}))
    from exchange.witness import configuration

    told = configuration.create(
        tmp_path / "w",
        name="compliance.example/1",
        log_keys=[str(log_key.verifier)],
        archive="archive",
        listen="127.0.0.1:0",
    )
    one = witness(told)
    with serving(one) as port:
        environ = {
            **sqlite_stand.environ,
            "EXCHANGE_WITNESSES": f"{told.key.verifier} http://127.0.0.1:{port}",
            "EXCHANGE_WITNESS_NETWORKS": "127.0.0.0/8",
        }
        yield sqlite_stand, told, one, Settings.from_env(environ, worker=True)


def test_the_worker_publishes_what_its_witness_signed(
    witnessed: tuple[Stand, Configuration, Witness, Settings],
) -> None:
    stand, told, one, settings = witnessed
    market = replace(stand.market, settings=settings)
    assert observing.log_state(market)["witnesses"] == {"compliance.example/1": "missing"}
    head = worker.publish(market, settings)
    assert head.size == one.newest(settings.log_origin).size
    key = (settings.log_path / "key").read_text().strip()
    report = verify_log(
        Folder(settings.log_path),
        origin=settings.log_origin,
        keys=[key],
        witnesses=[str(told.key.verifier)],
        required=1,
    )
    assert (report.exit_code, report.witnesses) == (0, ("compliance.example/1",))
    assert observing.log_state(market)["witnesses"] == {"compliance.example/1": "signed"}
    told_of = {fact.name: fact.values for fact in observing.facts(market)}
    assert told_of["exchange_log_cosignatures_missing"] == {"": 0.0}


def test_a_forked_log_is_not_witnessed_although_its_signer_forgot(
    witnessed: tuple[Stand, Configuration, Witness, Settings], caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever has database, log, key and the signer's memory can sign another past: the witness does not."""
    import shutil

    stand, told, one, settings = witnessed
    market = replace(stand.market, settings=settings)
    for _ in range(3):
        stand.get("nobody", "/v1/whoami")
    size = worker.publish(market, settings).size
    shutil.rmtree(settings.log_path)
    shutil.rmtree(settings.home / "signer")
    from tests.journeys.test_tampering import alter

    alter(stand, "audit_entry", f"DELETE FROM audit_entry WHERE seq >= {size - 2}")
    alter(stand, "audit_sequence", f"UPDATE audit_sequence SET next = {size - 2}")
    chain = "UPDATE audit_org_chain SET org_seq = org_seq"
    with contextlib.suppress(AssertionError):
        alter(stand, "audit_org_chain", chain)
    for _ in range(6):
        stand.get("nobody", "/v1/whoami")
    head = worker.publish(market, settings)
    assert head.size > size
    assert witnessing.missing(head, [told.key.verifier]) == ["compliance.example/1"]
    assert "refuses to cosign" in caplog.text
    assert one.newest(settings.log_origin).size == size


@pytest.mark.parametrize(
    "text",
    [
        "x",
        f"{WITNESSES[0].verifier}",
        f"{WITNESSES[0].verifier} ftp://x",
        f"{STRANGER.verifier} https://w.example",
        f"{WITNESSES[0].verifier} https://w.example, {WITNESSES[0].verifier} https://v.example",
    ],
)
def test_witnesses_that_cannot_be_read_are_refused(shared_sqlite_stand: Stand, text: str) -> None:
    with pytest.raises(SettingsError, match="EXCHANGE_WITNESSES"):
        Settings.from_env({**shared_sqlite_stand.environ, "EXCHANGE_WITNESSES": text})
    with pytest.raises(SettingsError, match="EXCHANGE_WITNESS_NETWORKS"):
        Settings.from_env({**shared_sqlite_stand.environ, "EXCHANGE_WITNESS_NETWORKS": "x"})
