"""A witness cosigns what continues, and nothing else: statuses of C2SP tlog-witness, and what it keeps."""

from __future__ import annotations

import http.client
import random
import shutil
import socket
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from exchange.audit import checkpoint, merkle, note, succession
from exchange.audit.bounded import MOST_CONNECTIONS
from exchange.audit.errors import Malformed, SignatureInvalid
from exchange.audit.heads import Growth
from exchange.audit.note import SigningKey
from exchange.audit.verify import Fetched, verify_log
from exchange.witness import configuration
from exchange.witness.archive import FolderArchive
from exchange.witness.configuration import Configuration
from exchange.witness.witness import Witness
from tests.exchange.audit.samples import ORIGIN, SIGNER, STRANGER, publish, records
from tests.exchange.witness.logs import HASHES, OTHERS, growth, head, made, proof, serving, signed, witness

NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)


@pytest.fixture
def told(tmp_path: Path) -> Configuration:
    return made(tmp_path / "w1")


@pytest.fixture
def one(told: Configuration) -> Witness:
    """A witness that has cosigned 20 entries."""
    made = witness(told)
    assert made.add_checkpoint(growth(0, 20)).status == 200
    return made


def test_a_cosignature_is_one_over_that_checkpoint_now(told: Configuration) -> None:
    answer = Witness(told, None, clock=lambda: NOW).add_checkpoint(growth(0, 20))
    read = note.parse_note(head(20) + answer.body.encode())
    assert note.verify_note(read, [told.key.verifier]) == (told.key.verifier,)
    assert int.from_bytes(read.signatures[-1].value[:8], "big") == int(NOW.timestamp())
    assert len(answer.body.splitlines()) == 1


def body(old: int, note_bytes: bytes, steps: tuple[bytes, ...] = ()) -> bytes:
    return Growth(old, steps, note_bytes).encoded()


UNSIGNED = head(30).partition("— ".encode())[0] + f"— {ORIGIN} AAAAAAA=\n".encode()
EXTENDED = note.sign_note(f"{ORIGIN}\n30\n{'A' * 43}=\nmore\n", SIGNER).encoded()
REFUSED = {
    "an unknown log": (body(0, head(30, origin="other.example/log")), 404, None),
    "another key": (body(20, head(30, key=STRANGER), proof(20, 30)), 403, None),
    "no signature of the log": (body(20, UNSIGNED, proof(20, 30)), 403, None),
    "an altered signature": (body(20, head(30).replace(b"\n30\n", b"\n31\n"), proof(20, 30)), 403, None),
    "an old size above the new": (body(40, head(30)), 400, None),
    "not from the last": (body(0, head(30)), 409, "20\n"),
    "a replayed older head": (growth(0, 20 - 5), 409, "20\n"),
    "an older head from itself": (body(15, head(15)), 409, "20\n"),
    "another tree of the size": (body(20, head(20, OTHERS[5:])), 409, "20\n"),
    "a fork": (body(20, head(30, OTHERS[5:]), proof(20, 30, OTHERS[5:])), 422, None),
    "no proof": (body(20, head(30)), 422, None),
    "a proof of others": (body(20, head(30), proof(19, 30)), 422, None),
    "no request": (b"old 20\n", 400, None),
    "no checkpoint": (body(20, b"x\n"), 400, None),
    "an extension": (body(20, EXTENDED), 400, None),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_does_not_continue_is_refused_with_its_status(one: Witness, what: str) -> None:
    request, status, told = REFUSED[what]
    before = one.newest(ORIGIN)
    answer = one.add_checkpoint(request)
    assert (answer.status, signed(answer)) == (status, False)
    if told is not None:
        assert (answer.body, answer.content_type) == (told, "text/x.tlog.size")
    assert one.newest(ORIGIN) == before
    assert one.add_checkpoint(growth(20, 30)).status == 200


def test_the_same_checkpoint_is_cosigned_again_and_archived_once(one: Witness) -> None:
    assert signed(one.add_checkpoint(growth(20, 20)))
    assert len(list(one.archived(ORIGIN))) == 1
    assert signed(one.add_checkpoint(growth(20, 30)))
    assert [checkpoint.parse_checkpoint(data).size for data in one.archived(ORIGIN)] == [20, 30]


def test_what_the_log_signed_and_was_refused_is_kept(one: Witness, told: Configuration) -> None:
    request, _, _ = REFUSED["another tree of the size"]
    one.add_checkpoint(request)
    one.add_checkpoint(REFUSED["another key"][0])
    (kept,) = (told.folder / "state" / "refused").iterdir()
    assert kept.read_bytes() == request


def test_what_proves_nothing_is_not_kept_and_crowds_nothing_out(
    one: Witness, told: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody may send again what the log published, with any old size and any proof."""
    refused = told.folder / "state" / "refused"
    for size in (30, 31, 32):
        assert one.add_checkpoint(growth(0, size)).body == "20\n"
    assert one.add_checkpoint(body(20, head(20), (bytes(32),))).status == 422, "its own tree"
    assert not refused.exists()
    monkeypatch.setattr("exchange.witness.witness._MOST_REFUSED", 4)
    monkeypatch.setattr("exchange.witness.witness._PLACES_LEFT", 2)
    for size in range(30, 40):
        for steps in ((), (bytes(32),)):
            assert one.add_checkpoint(body(20, head(size), steps)).status == 422
    assert len(list(refused.iterdir())) == 2, "each once, and places are left"
    other = body(20, head(20, OTHERS[5:]))
    assert one.add_checkpoint(other).status == 409
    assert other in [path.read_bytes() for path in refused.iterdir()]


def test_its_own_damage_is_not_the_request_s_fault(one: Witness, told: Configuration) -> None:
    (kept,) = (told.folder / "state" / "heads").iterdir()
    kept.write_bytes(b"x")
    answer = one.add_checkpoint(growth(20, 30))
    assert (answer.status, signed(answer)) == (500, False)
    assert not (told.folder / "state" / "refused").exists()


def test_no_bytes_get_a_signature_or_break_it(told: Configuration) -> None:
    one, chance, good = witness(told), random.Random(13), growth(0, 20)
    for _ in range(600):
        changed = bytearray(good)
        for _ in range(chance.randrange(1, 5)):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        answer = one.add_checkpoint(bytes(changed[: chance.choice([None, chance.randrange(len(changed))])]))
        assert not signed(answer) or bytes(changed) == good, bytes(changed)
    assert one.newest(ORIGIN).size == 0
    assert signed(one.add_checkpoint(good))


def test_an_old_copy_of_the_state_catches_up_from_the_archive(one: Witness, told: Configuration) -> None:
    old = shutil.copytree(told.folder / "state", told.folder / "old")
    for start, end in ((20, 30), (30, 44)):
        one.add_checkpoint(growth(start, end))
    shutil.rmtree(told.folder / "state")
    shutil.move(old, told.folder / "state")
    again = witness(told)
    fork = again.add_checkpoint(growth(20, 60, [*HASHES[:25], *HASHES[26:]]))
    assert (fork.status, fork.body) == (409, "44\n")
    assert again.newest(ORIGIN).size == 44
    assert signed(again.add_checkpoint(growth(44, 60)))


def test_a_state_that_is_gone_catches_up_too(one: Witness, told: Configuration) -> None:
    shutil.rmtree(told.folder / "state")
    assert witness(told).add_checkpoint(growth(0, 10)).body == "20\n"


def set_back(told: Configuration, name: str) -> None:
    """Put the copy of the state that lies under a name in its place."""
    shutil.rmtree(told.folder / "state")
    shutil.copytree(told.folder / name, told.folder / "state")


def test_an_archive_that_is_turned_on_later_protects_from_there_on(told: Configuration) -> None:
    """A state that counted without an archive, and copies of it from before and after."""
    alone = Witness(told, None)
    for start, end in ((0, 5), (5, 10), (10, 20)):
        assert signed(alone.add_checkpoint(growth(start, end)))
        shutil.copytree(told.folder / "state", told.folder / f"at {end}")
    one = witness(told)
    assert one.newest(ORIGIN).size == 20
    assert [checkpoint.parse_checkpoint(data).size for data in one.archived(ORIGIN)] == [20]
    assert signed(one.add_checkpoint(growth(20, 30)))
    fork = growth(10, 60, [*HASHES[:10], *HASHES[11:]])
    for name in ("at 5", "at 10", "at 20"):
        set_back(told, name)
        for again in (one, witness(told)):
            assert again.add_checkpoint(fork).body == "30\n", name
    assert signed(one.add_checkpoint(growth(30, 40)))


def test_an_archive_that_was_away_for_a_while_goes_on_at_its_end(one: Witness, told: Configuration) -> None:
    assert signed(one.add_checkpoint(growth(20, 30)))
    without = Witness(told, None)
    for start, end in ((30, 40), (40, 50), (50, 60)):
        assert signed(without.add_checkpoint(growth(start, end)))
    again = witness(told)
    assert signed(again.add_checkpoint(growth(60, 70)))
    assert [checkpoint.parse_checkpoint(data).size for data in again.archived(ORIGIN)] == [20, 30, 60, 70]
    assert signed(Witness(told, None).add_checkpoint(growth(70, 80)))
    for path in (told.folder / "state" / "cosigned").iterdir():
        path.write_bytes(head(75))
    assert witness(told).add_checkpoint(growth(80, 90)).status == 500


def test_an_archive_with_what_another_signed_is_not_believed(one: Witness, told: Configuration) -> None:
    (slot,) = (told.folder / "archive").rglob("*1")
    stranger = SigningKey.generate("x", note.COSIGNATURE)
    forged = checkpoint.cosign(checkpoint.parse_checkpoint(head(90)), stranger, NOW)
    slot.with_name(f"{2:016d}").write_bytes(forged.encoded())
    assert one.add_checkpoint(growth(20, 30)).status == 500
    slot.with_name(f"{2:016d}").unlink()
    slot.with_name(f"{2:016d}").write_bytes(slot.read_bytes())
    assert not signed(one.add_checkpoint(growth(20, 30))), "no second place for one head"


class Dying(FolderArchive):
    """An archive whose witness is killed before, or after, it keeps something."""

    after = False

    def put_new(self, name: str, data: bytes) -> bool:
        if self.after:
            super().put_new(name, data)
        raise SystemExit("killed")


@pytest.mark.parametrize("after", [False, True])
def test_a_witness_that_is_killed_at_any_step_signs_no_second_tree(
    one: Witness, told: Configuration, after: bool
) -> None:
    dying = Dying(told.folder / "archive")
    dying.after = after
    with pytest.raises(SystemExit):
        Witness(told, dying).add_checkpoint(growth(20, 30))
    again = witness(told)
    other = [*HASHES[:22], *HASHES[23:]]
    if after:
        assert again.add_checkpoint(growth(20, 40, other)).body == "30\n"
        moved = Witness(told, FolderArchive(told.folder / "another"))
        assert signed(moved.add_checkpoint(growth(30, 30)))
        assert [checkpoint.parse_checkpoint(data).size for data in moved.archived(ORIGIN)] == [30]
    else:
        assert signed(again.add_checkpoint(growth(20, 40, other))), "nothing else was cosigned"


def test_a_full_disk_signs_nothing(
    one: Witness, told: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("exchange.audit.heads.Heads.keep", full)
        answer = one.add_checkpoint(growth(20, 30))
        assert (answer.status, signed(answer)) == (503, False)
    answer = one.add_checkpoint(growth(20, 30))
    assert answer.status == 409, "it may have been cosigned: the archive says so"
    assert signed(one.add_checkpoint(growth(30, 30)))


# over HTTP


def post(port: int, data: bytes, path: str = "/add-checkpoint") -> tuple[int, str, bytes]:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        made = http.client.HTTPConnection("127.0.0.1", port)
        made.sock = raw
        made.request("POST", path, body=data)
        reply = made.getresponse()
        return reply.status, reply.headers["Content-Type"], reply.read()


def test_it_answers_over_http(told: Configuration) -> None:
    with serving(witness(told)) as port:
        status, _, answer = post(port, growth(0, 20))
        assert status == 200
        assert note.verify_note(note.parse_note(head(20) + answer), [told.key.verifier])
        assert post(port, growth(0, 30)) == (409, "text/x.tlog.size", b"20\n")
        assert post(port, b"x", "/other")[0] == 404
        assert post(port, b"x" * 70_000)[0] == 413


RAW = {
    "no length": b"POST /add-checkpoint HTTP/1.1\r\n\r\n",
    "chunks": b"POST /add-checkpoint HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nold 1\r\n0\r\n\r\n",
    "a negative length": b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    "a huge length": b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
    "a read": b"GET /add-checkpoint HTTP/1.1\r\n\r\n",
    "another method": b"BREW /add-checkpoint HTTP/1.1\r\n\r\n",
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "many headers": b"POST / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n",
    "a long line": b"POST /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
}


def test_other_requests_are_refused_and_end_nothing(told: Configuration) -> None:
    with serving(witness(told)) as port:
        for name, data in RAW.items():
            with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
                raw.sendall(data)
                raw.shutdown(socket.SHUT_WR)
                reply = raw.makefile("rb").read()
            assert b" 200 " not in reply[:20], name
            assert b"aaaa" not in reply, "nothing is repeated"
        assert post(port, growth(0, 20))[0] == 200


def test_who_is_slow_is_cut_off(told: Configuration, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exchange.audit.bounded.Deadline.__init__.__defaults__", (0.4,))
    with serving(witness(told)) as port:
        slow = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(MOST_CONNECTIONS)]
        for connection in slow:
            connection.sendall(b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: 50\r\n\r\nold")
        until = time.monotonic() + 10
        while True:
            try:
                assert post(port, growth(0, 20))[0] == 200
                break
            except (OSError, http.client.HTTPException):
                assert time.monotonic() < until, "it answers nobody"
                time.sleep(0.05)
        for connection in slow:
            connection.close()


# configuration


def test_a_folder_is_made_once_and_its_key_is_private(told: Configuration) -> None:
    assert (told.folder / "key").stat().st_mode & 0o777 == 0o600
    with pytest.raises(Malformed, match="already"):
        made(told.folder)
    (told.folder / "key").chmod(0o644)
    with pytest.raises(Malformed, match="Others"):
        configuration.read(told.folder)


BAD = [
    'listen = 5',
    'listen = "here"',
    'listen = "127.0.0.1:99999"',
    'unknown = 1',
    'retain_days = -1',
    'log = 1',
    '[[log]]\nkeys = []',
    '[[log]]\nkeys = ["x"]',
    '[[log]]\nkeys = [1]',
    f'[[log]]\nkeys = ["{SIGNER.verifier}"]\n[[log]]\nkeys = ["{STRANGER.verifier}"]',
    f'[[log]]\nkeys = ["{SIGNER.verifier}", "{SigningKey("other", bytes(32)).verifier}"]',
    f'[[log]]\nkeys = ["{SIGNER.verifier}"]\nmore = 1',
    "[[",
]  # fmt: skip


@pytest.mark.parametrize("text", BAD, ids=range(len(BAD)))
def test_a_configuration_that_cannot_be_read_is_refused(told: Configuration, text: str) -> None:
    (told.folder / "config.toml").write_text(text)
    with pytest.raises(Malformed):
        configuration.read(told.folder)


def test_keys_that_followed_are_taken_from_statements(told: Configuration) -> None:
    chain = succession.make_statement(b"", SIGNER, STRANGER, size=20, time=1)
    (told.folder / "keys.txt").write_bytes(chain)
    text = (told.folder / "config.toml").read_text()
    (told.folder / "config.toml").write_text(f'{text}statements = "keys.txt"\n')
    one = witness(configuration.read(told.folder))
    assert signed(one.add_checkpoint(growth(0, 20)))
    assert one.add_checkpoint(growth(20, 30)).status == 403, "the old key signs nothing larger alone"
    assert signed(one.add_checkpoint(body(20, head(30, key=STRANGER), proof(20, 30))))
    (told.folder / "keys.txt").write_bytes(chain.replace(b"size 20", b"size 99"))
    with pytest.raises(SignatureInvalid):
        configuration.read(told.folder)


# verifying with witnesses


def test_too_few_witnesses_and_a_forged_one_are_found(tmp_path: Path) -> None:
    leaves = [record.leaf for record in records(60)[:20]]
    files = publish(leaves)
    hashes = [merkle.leaf_hash(leaf) for leaf in leaves]
    keys, lines = [], ""
    for number in (1, 2):
        told = made(tmp_path / str(number), number)
        lines += witness(told).add_checkpoint(body(0, head(20, hashes))).body
        keys.append(str(told.key.verifier))
    cosigned = Fetched({**files, "checkpoint": files["checkpoint"] + lines.encode()})
    log = {"origin": ORIGIN, "keys": [SIGNER.verifier], "witnesses": keys}
    assert verify_log(cosigned, required=2, **log).exit_code == 0  # type: ignore[arg-type]
    assert verify_log(Fetched(files), required=1, **log).exit_code == 16  # type: ignore[arg-type]
    one = Fetched({**files, "checkpoint": files["checkpoint"] + lines.splitlines(True)[0].encode()})
    assert verify_log(one, required=1, **log).exit_code == 0  # type: ignore[arg-type]
    assert verify_log(one, required=2, **log).exit_code == 16  # type: ignore[arg-type]
    name, value = lines.splitlines()[0].rsplit(" ", 1)
    forged = f"{name} {value[:40]}{'A' if value[40] != 'A' else 'B'}{value[41:]}\n"
    assert verify_log(
        Fetched({**files, "checkpoint": files["checkpoint"] + forged.encode()}), required=1, **log  # type: ignore[arg-type]
    ).exit_code == 13  # fmt: skip
