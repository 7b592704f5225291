"""The signer process: who may ask, what it answers, and a worker whose signer is away, slow or killed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from exchange import worker
from exchange.audit import checkpoint, merkle, note, succession
from exchange.audit import integrate as integrating
from exchange.audit.bounded import MOST_CONNECTIONS
from exchange.audit.errors import AuditError, HeadRefused, LogDiverged, SignerUnavailable
from exchange.audit.heads import Growth
from exchange.audit.note import SigningKey
from exchange.audit.signing import encode_keys, parse_keys
from exchange.audit.tiles import Folder
from exchange.cli import main
from exchange.config import Settings, log_key_of, write_log_key
from exchange.operations import auditing
from exchange.signer import server
from exchange.signer.client import SignerClient
from exchange.signer.home import SignerHome
from tests.exchange.audit.samples import NOW, ORIGIN, SIGNER
from tests.market.stand import Stand

ROOTS = [merkle.leaf_hash(bytes([number])) for number in range(40)]


def text(size: int) -> str:
    return checkpoint.text_of(ORIGIN, size, merkle.root(ROOTS[:size]))


def shown(home: SignerHome) -> bytes:
    """The checkpoint of 20 entries, signed by the keys of a home."""
    return note.sign_note(text(20), *parse_keys(log_key_of(home.path, {}))).encoded()


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder with a short name: a socket's has at most 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="s"))
    yield folder
    shutil.rmtree(folder)


@contextlib.contextmanager
def serving(home: SignerHome, path: Path, uids: list[int] | None = None) -> Iterator[SignerClient]:
    with server.SignerServer(path, home.signer, uids or [os.getuid()]) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield SignerClient(path)
        finally:
            made.shutdown()
            thread.join()


@pytest.fixture
def home(place: Path) -> SignerHome:
    made = SignerHome(place / "home", {})
    assert made.create(ORIGIN, None)
    assert not made.create(ORIGIN, None)
    return made


def raw(path: Path, data: bytes) -> bytes:
    """What the signer answers to these bytes."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(path))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
        held = b""
        with contextlib.suppress(ConnectionResetError):
            while block := connection.recv(65_536):
                held += block
        return held


def test_it_signs_what_continues_and_refuses_the_rest(home: SignerHome, place: Path) -> None:
    with serving(home, place / "s") as asked:
        assert (place / "s").stat().st_mode & 0o777 == 0o660
        keys = asked.keys()
        (signature,) = asked.sign_head(text(20), 0, [])
        assert keys.newest.verify(text(20).encode(), signature.value)
        assert asked.sign_head(text(20), 20, []) == (signature,)
        with pytest.raises(HeadRefused) as caught:
            asked.sign_head(text(19), 0, [])
        assert (caught.value.status, caught.value.size) == (409, 20)
        assert asked.sign_head(text(30), 20, merkle.consistency_proof(ROOTS[:30], 20))
        other = checkpoint.text_of("other.example/log", 40, bytes(32))
        for bad in (other, text(40) + "more\n", "x", text(40).replace("\n40", "\n040")):
            with pytest.raises(HeadRefused):
                asked.sign_head(bad, 30, [])
    head = home.signer().newest()
    assert head is not None
    assert head.size == 30


def test_no_bytes_bring_it_down_and_none_are_signed(home: SignerHome, place: Path) -> None:
    chance = random.Random(11)
    good = b"sign\n" + Growth(0, (), text(20).encode()).encoded()
    with serving(home, place / "s") as asked:
        for _ in range(150):
            changed = bytearray(good)
            for _ in range(chance.randrange(1, 4)):
                changed[chance.randrange(len(changed))] = chance.randrange(256)
            reply = raw(place / "s", bytes(changed[: chance.randrange(len(changed))]))
            assert reply[:3] in (b"400", b"404"), reply
        for data in (
            b"",
            b"keys",
            b"keys\nx",
            b"sign\n",
            b"x" * 500_000,
            b"sign\n" + b"\xff" * 90_000,
            b"\x00\n",
        ):
            assert raw(place / "s", data)[:1] in (b"4", b"2" if data == b"keys" else b"4", b"")
        assert home.signer().newest() == home.signer().newest()
        head = home.signer().newest()
        assert head is not None
        assert head.size == 0
        assert asked.keys().newest


def test_what_is_more_than_signatures_is_not_taken_for_them(place: Path) -> None:
    """Whoever answers on the socket in the signer's place."""
    longer = note.sign_note(f"{text(20)}\nmore\n", SIGNER).encoded().splitlines(True)[-1]
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(place / "s"))
        listening.listen()

        def answer() -> None:
            with listening.accept()[0] as connection:
                while connection.recv(65_536):
                    pass
                connection.sendall(b"200\nmore\n\n" + longer)

        answering = threading.Thread(target=answer)
        answering.start()
        with pytest.raises(AuditError, match="signature lines alone"):
            SignerClient(place / "s").sign_head(text(20), 0, [])
        answering.join()


def test_another_user_is_not_answered(
    home: SignerHome, place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(home, place / "s", uids=[os.getuid() + 1]) as asked:
        assert raw(place / "s", b"keys\n")[:3] == b"403"
        with pytest.raises(SignerUnavailable, match="this user"):
            asked.keys()
    assert f"the user with the id {os.getuid()} may not ask" in caplog.text


def test_another_user_takes_no_place(home: SignerHome, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's word is looked at before anything is read, so that nobody waits for who may not ask."""
    credentials = server._CREDENTIALS
    with serving(home, place / "s") as asked, contextlib.ExitStack() as held:
        asked.sign_head(text(20), 0, [])
        with monkeypatch.context() as patch:
            patch.setattr(server, "_CREDENTIALS", Another(credentials.format))
            for _ in range(MOST_CONNECTIONS + 4):
                silent = held.enter_context(socket.socket(socket.AF_UNIX))
                silent.connect(str(place / "s"))
                silent.settimeout(2)
                assert silent.recv(3) == b"403"
                with pytest.raises(SignerUnavailable, match="this user"):
                    asked.sign_head(text(20), 20, [])
        assert asked.sign_head(text(20), 20, [])


class Another(struct.Struct):
    """Credentials of another user than whose they are."""

    def unpack(self, data: Any) -> tuple[Any, ...]:
        pid, uid, gid = super().unpack(data)
        return pid, uid + 1, gid


def test_who_says_nothing_is_waited_for_a_while_and_keeps_nobody_out(
    home: SignerHome, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "LONGEST_S", 0.5)
    with serving(home, place / "s") as asked, contextlib.ExitStack() as held:
        silent = [held.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(MOST_CONNECTIONS + 4)]
        for one in silent:
            one.connect(str(place / "s"))
        with pytest.raises(SignerUnavailable):
            asked.keys()
        until = time.monotonic() + 10
        while time.monotonic() < until:
            with contextlib.suppress(SignerUnavailable):
                assert asked.keys()
                break
            time.sleep(0.05)
        else:
            pytest.fail("it answers nobody")


def test_a_damaged_memory_is_the_signer_s_fault(home: SignerHome, place: Path) -> None:
    (kept,) = (home.path / "signer" / "heads").iterdir()
    kept.write_bytes(b"x")
    with serving(home, place / "s") as asked:
        with pytest.raises(SignerUnavailable, match="last head"):
            asked.sign_head(text(20), 0, [])
        assert raw(place / "s", b"sign\n" + Growth(0, (), text(20).encode()).encoded())[:4] == b"500\n"


def test_a_second_signer_does_not_take_the_socket_and_a_dead_one_leaves_it(
    home: SignerHome, place: Path
) -> None:
    with serving(home, place / "s"), pytest.raises(OSError, match="another signer"):
        server.SignerServer(place / "s", home.signer, [])
    assert (place / "s").exists()
    with serving(home, place / "s") as asked:
        assert asked.keys()


def test_what_is_no_socket_is_not_removed(home: SignerHome, place: Path) -> None:
    for name in ("file", "link"):
        if name == "file":
            (place / name).write_text("kept")
        else:
            (place / name).symlink_to(place / "file")
        with pytest.raises(OSError, match="no socket"):
            server.SignerServer(place / name, home.signer, [])
        assert (place / name).read_text() == "kept"
    told = CliRunner().invoke(
        main, ["signer", "serve", "--home", str(home.path), "--socket", str(place / "file")]
    )
    assert (told.exit_code, "is no socket" in told.output) == (15, True), told.output


def test_a_key_is_rotated_and_retired_while_it_serves(home: SignerHome, place: Path) -> None:
    with serving(home, place / "s") as asked:
        asked.sign_head(text(20), 0, [])
        first = asked.keys().newest
        second = home.rotate(NOW, shown(home)).keys().newest
        assert asked.keys().current == (first, second)
        assert len(asked.sign_head(text(20), 20, [])) == 2
        assert home.retire().keys().current == asked.keys().current == (second,)
        assert [key.last_size for key in asked.keys().trusted()] == [20, None]
    assert (home.path / "log.env").stat().st_mode & 0o777 == 0o600


# the worker and its signer


@pytest.fixture
def signed(sqlite_stand: Stand, place: Path) -> tuple[Stand, Settings, Path]:
    """A stand whose log key lies with a signer that does not run yet."""
    apart = place / "signer"
    apart.mkdir()
    shutil.move(sqlite_stand.home / "log.env", apart / "log.env")
    environ = {**sqlite_stand.environ, "EXCHANGE_SIGNER": str(place / "s")}
    return sqlite_stand, Settings.from_env(environ, worker=True), apart


@contextlib.contextmanager
def process(home: Path, path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`exchange signer serve` in a process of its own, killed in the end."""
    command = [
        sys.executable,
        "-m",
        "exchange.cli",
        "signer",
        "serve",
        "--home",
        str(home),
        "--socket",
        str(path),
    ]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}) as running:
        try:
            until = time.monotonic() + 30
            while time.monotonic() < until:
                with contextlib.suppress(SignerUnavailable):
                    SignerClient(path).keys()
                    break
                time.sleep(0.02)
            yield running
        finally:
            running.kill()


def test_a_worker_signs_with_a_signer_and_holds_no_key(
    signed: tuple[Stand, Settings, Path], place: Path
) -> None:
    stand, settings, apart = signed
    assert settings.log_key == ""
    with pytest.raises(SignerUnavailable):
        worker.publish(stand.market, settings)
    home = SignerHome(apart, {})
    home.create(settings.log_origin, None, empty=True)
    with process(apart, place / "s") as running:
        head = worker.publish(stand.market, settings)
        assert head.size == len(stand.entries())
        running.send_signal(signal.SIGTERM)
        assert running.wait(10) == 0
    stand.get("nobody", "/v1/whoami")
    with pytest.raises(SignerUnavailable):
        worker.publish(stand.market, settings)
    assert stand.verify().exit_code == 0
    with process(apart, place / "s"):
        assert worker.publish(stand.market, settings).size == head.size + 1
    assert stand.verify().exit_code == 0
    assert not (stand.home / "signer").exists()


def test_a_signer_that_is_killed_at_any_step_leaves_one_log(
    signed: tuple[Stand, Settings, Path], place: Path
) -> None:
    """Before it remembers, after it did, after it answered: the worker publishes later, and no other tree."""
    stand, settings, apart = signed
    SignerHome(apart, {}).create(settings.log_origin, None, empty=True)
    for step in ("before", "after", "answered"):
        stand.get("nobody", "/v1/whoami")
        with contextlib.suppress(SignerUnavailable), _killed_at(step, apart, place / "s"):
            worker.publish(stand.market, settings)
            assert step == "answered"
        stand.get("nobody", "/v1/whoami")
        with serving(SignerHome(apart, {}), place / "s"):
            head = worker.publish(stand.market, settings)
        assert head.size == len(stand.entries())
        assert stand.verify(pinned=head.encoded().decode()).exit_code == 0


@contextlib.contextmanager
def _killed_at(step: str, home: Path, path: Path) -> Iterator[None]:
    script = (
        "import os, sys, pathlib\n"
        "from exchange.audit import heads\nfrom exchange.signer import server\n"
        "from exchange.signer.home import SignerHome\n"
        "keep, step = heads.Heads.keep, sys.argv[1]\n"
        "def keeping(self, head):\n"
        "    if step == 'before': os.kill(os.getpid(), 9)\n"
        "    keep(self, head)\n"
        "    if step == 'after': os.kill(os.getpid(), 9)\n"
        "heads.Heads.keep = keeping\n"
        "home = SignerHome(pathlib.Path(sys.argv[2]), {})\n"
        "server.SignerServer(pathlib.Path(sys.argv[3]), home.signer, [os.getuid()]).serve()\n"
    )
    command = [sys.executable, "-c", script, step, str(home), str(path)]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}) as running:
        try:
            until = time.monotonic() + 30
            while not path.is_socket() and time.monotonic() < until:
                time.sleep(0.02)
            while time.monotonic() < until:
                with contextlib.suppress(SignerUnavailable):
                    SignerClient(path).keys()
                    break
                time.sleep(0.02)
            yield
        finally:
            running.kill()
            running.wait()


def test_the_worker_says_that_its_signer_is_away_and_goes_on(
    signed: tuple[Stand, Settings, Path],
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    stand, settings, apart = signed
    SignerHome(apart, {}).create(settings.log_origin, None, empty=True)
    publish, rounds, before = worker.publish, list[Any](), signal.getsignal(signal.SIGTERM)
    with contextlib.ExitStack() as stack:

        def publishing(market: Any, given: Settings) -> Any:
            rounds.append(None)
            if len(rounds) == 3:
                stack.enter_context(serving(SignerHome(apart, {}), place / "s"))
            head = publish(market, given)
            os.kill(os.getpid(), signal.SIGTERM)
            return head

        monkeypatch.setattr(worker, "publish", publishing)
        monkeypatch.setattr(worker, "PUBLISH_EVERY_S", 0.01)
        try:
            worker.run_forever(settings)
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, before if number == signal.SIGTERM else signal.default_int_handler)
    assert len(rounds) == 3
    told = [one.getMessage() for one in caplog.records if one.name == "exchange.worker" and one.levelno > 20]
    assert set(told) == {"the log cannot be published: The signer does not answer: FileNotFoundError."}
    assert (stand.home / "swept").exists(), "everything else went on"
    assert stand.verify().exit_code == 0


def test_an_old_backup_is_not_signed_by_a_worker_either(sqlite_stand: Stand) -> None:
    """Database and published log of an old backup agree; the home's memory of what was signed does not."""
    stand = sqlite_stand
    stand.publish_log()
    old = shutil.copytree(stand.settings.log_path, stand.home / "old")
    for _ in range(3):
        stand.get("nobody", "/v1/whoami")
    stand.publish_log()
    shutil.rmtree(stand.settings.log_path)
    shutil.move(old, stand.settings.log_path)
    from tests.journeys.test_tampering import alter

    size = checkpoint.parse_checkpoint((stand.settings.log_path / "checkpoint").read_bytes()).size
    alter(stand, "audit_entry", f"DELETE FROM audit_entry WHERE seq >= {size}")
    alter(stand, "audit_sequence", f"UPDATE audit_sequence SET next = {size}")
    alter(stand, "audit_org_chain", "UPDATE audit_org_chain SET org_seq = org_seq")
    stand.get("nobody", "/v1/whoami")
    with pytest.raises(HeadRefused) as caught:
        stand.publish_log()
    assert "docs/witnesses.md" in caught.value.hint


def lost(stand: Stand) -> tuple[str, str]:
    """A market whose log key was replaced and whose memory of it is lost; the key files before and after."""
    stand.publish_log()
    before = log_key_of(stand.home, {})
    SignerHome(stand.home, {}).rotate(NOW)
    assert len(signatures(stand)) == 2
    shutil.rmtree(stand.home / "signer")
    stand.get("nobody", "/v1/whoami")
    return before, log_key_of(stand.home, {})


def signatures(stand: Stand) -> set[bytes]:
    """The ids of the keys that sign what is published now."""
    return {one.key_id for one in stand.publish_log().note.signatures}


def test_a_new_key_is_announced_in_the_log_once(sqlite_stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    stand = sqlite_stand
    stand.publish_log()
    home = SignerHome(stand.home, {})

    def dying(*_: object) -> None:
        raise SystemExit("killed")

    for number in (1, 2):
        home.rotate(NOW)
        with monkeypatch.context() as patch:  # the worker dies before the keys are published
            patch.setattr("exchange.audit.integrate._publish", dying)
            with pytest.raises(SystemExit):
                stand.publish_log()
        for _ in range(2):
            stand.publish_log()
        assert len(stand.entries(kind="log_key.rotated")) == number
    statements = succession.parse_statements((stand.settings.log_path / "keys").read_bytes())
    for one, record in zip(statements, stand.entries(kind="log_key.rotated"), strict=True):
        assert record.document["object"] == {
            "type": "log_key",
            "id": one.new.key_id.hex(),
            "version": str(one.number),
            "dataset": None,
        }
        digest = hashlib.sha256(one.note.encoded()).hexdigest()
        assert record.document["result"] == {"sha256": digest, "bytes": len(one.note.encoded())}
    assert stand.verify().exit_code == 0


def test_a_key_is_announced_whenever_it_was_replaced(
    signed: tuple[Stand, Settings, Path], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the worker waits for the log's folder, and after it has asked for the keys."""
    stand, settings, apart = signed
    home, exclusively, sign = SignerHome(apart, {}), Folder.exclusively, integrating._signed
    home.create(settings.log_origin, None, empty=True)
    rotated, published = list[Any](), settings.log_path / "checkpoint"

    @contextlib.contextmanager
    def waited(folder: Folder) -> Iterator[None]:
        with exclusively(folder):
            if folder.root == settings.log_path:
                rotated.append(home.rotate(NOW, published.read_bytes()))
            yield

    def signing(*given: Any) -> Any:
        rotated.append(home.rotate(NOW, published.read_bytes()))
        return sign(*given)

    late: dict[str, tuple[object, Any]] = {
        "exclusively": (Folder, waited),
        "_signed": (integrating, signing),
    }
    with serving(home, place / "s"):
        worker.publish(stand.market, settings)
        for step, (owner, doing) in late.items():
            stand.get("nobody", "/v1/whoami")
            with monkeypatch.context() as patch:
                patch.setattr(owner, step, doing)
                worker.publish(stand.market, settings)
            worker.publish(stand.market, settings)
            told = succession.parse_statements((settings.log_path / "keys").read_bytes())
            assert len(stand.entries(kind="log_key.rotated")) == len(told) == len(rotated)
    assert len(rotated) == 2
    assert stand.verify().exit_code == 0


def test_nothing_is_announced_of_statements_that_are_not_published(
    signed: tuple[Stand, Settings, Path], place: Path
) -> None:
    """A signer without its memory, which makes other first statements than those that everybody knows."""
    stand, settings, apart = signed
    home, published = SignerHome(apart, {}), settings.log_path
    home.create(settings.log_origin, None, empty=True)
    with serving(home, place / "s"):
        worker.publish(stand.market, settings)
        home.rotate(NOW, (published / "checkpoint").read_bytes())
        worker.publish(stand.market, settings)
    home.retire()
    shutil.rmtree(apart / "signer")
    home.create(settings.log_origin, (published / "checkpoint").read_bytes(), b"")
    with pytest.raises(AuditError, match="Nothing was signed"):
        home.rotate(NOW, (published / "checkpoint").read_bytes())
    write_log_key(
        apart, encode_keys([*parse_keys(log_key_of(apart, {})), SigningKey.generate(settings.log_origin)])
    )
    home.signer().announce(NOW)
    with serving(home, place / "s"), pytest.raises(LogDiverged):
        worker.publish(stand.market, settings)
    assert len(stand.entries(kind="log_key.rotated")) == 1


def test_a_memory_that_was_lost_knows_from_what_is_published_which_key_was_replaced(
    sqlite_stand: Stand,
) -> None:
    before, after = lost(sqlite_stand)
    told = (sqlite_stand.settings.log_path / "keys").read_bytes()
    write_log_key(sqlite_stand.home, before)
    with pytest.raises(AuditError, match="newest key"):
        sqlite_stand.publish_log()
    write_log_key(sqlite_stand.home, after)
    assert signatures(sqlite_stand) == {key.verifier.key_id for key in parse_keys(after)}
    assert (sqlite_stand.settings.log_path / "keys").read_bytes() == told
    key = (sqlite_stand.settings.log_path / "key").read_text()
    report = auditing.verify(sqlite_stand.market, log_key=key, statements=told.decode())
    assert report.exit_code == 0


def test_commands(place: Path) -> None:
    run = CliRunner().invoke
    home = ["--home", str(place / "home"), "--json"]
    made = run(main, ["signer", "init", "--origin", ORIGIN, *home])
    assert made.exit_code == 0, made.output
    assert ORIGIN in made.stdout
    assert run(main, ["signer", "rotate", *home]).exit_code == 15
    made_home = SignerHome(place / "home", {})
    made_home.signer().sign_head(text(20), 0, [])
    (place / "checkpoint").write_bytes(shown(made_home))
    for command in (["rotate", "--checkpoint", str(place / "checkpoint")], ["show"], ["retire"]):
        done = run(main, ["signer", *command, *home])
        assert done.exit_code == 0, done.output
        assert "exchange-key-succession/v1" in done.stdout
        assert "PRIVATE" not in done.output
    absent = run(main, ["signer", "serve", "--home", str(place / "none"), "--socket", str(place / "s")])
    assert absent.exit_code == 15
    nobody = run(
        main, ["signer", "serve", *home[:2], "--socket", str(place / "s"), "--allow", "nobody at all"]
    )
    assert nobody.exit_code == 2
