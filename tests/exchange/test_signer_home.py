"""A signer's folder: with which memory it begins, and what it asks for where that is lost."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from exchange.audit import checkpoint, merkle, note
from exchange.audit.errors import AuditError, HeadRefused, Malformed, SignatureInvalid
from exchange.audit.integrate import integrate, published_keys
from exchange.audit.signing import LogSigner, parse_keys
from exchange.audit.tiles import Folder
from exchange.audit.verify import verify_log
from exchange.cli import main
from exchange.config import log_key_of, write_log_key
from exchange.signer.home import SignerHome
from tests.exchange.audit.samples import NOW, ORIGIN, SIGNER, records

ROOTS = [merkle.leaf_hash(bytes([number])) for number in range(40)]


def text(size: int) -> str:
    return checkpoint.text_of(ORIGIN, size, merkle.root(ROOTS[:size]))


def shown(home: SignerHome, size: int = 20) -> bytes:
    """The checkpoint of a size, signed by the keys of a home."""
    return note.sign_note(text(size), *parse_keys(log_key_of(home.path, {}))).encoded()


@pytest.fixture
def home(tmp_path: Path) -> SignerHome:
    made = SignerHome(tmp_path / "home", {})
    assert made.create(ORIGIN, None)
    return made


def test_several_keys_begin_with_statements_alone(home: SignerHome, tmp_path: Path) -> None:
    signer = home.signer()
    head = text(20)
    signer.sign_head(head, 0, [])
    statements = home.rotate(NOW, shown(home)).keys().statements
    signed = shown(home)
    shutil.rmtree(home.path / "signer")
    with pytest.raises(AuditError, match="No statement") as caught:
        home.create(ORIGIN, signed, b"")
    assert "--statements" in caught.value.hint
    files = {"checkpoint": signed, "statements": statements}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    options = [part for name in files for part in (f"--{name}", str(tmp_path / name))]
    done = CliRunner().invoke(
        main, ["signer", "init", "--origin", ORIGIN, "--home", str(home.path), *options]
    )
    assert done.exit_code == 0, done.output
    assert len(home.signer().keys().current) == 2
    assert not home.create(ORIGIN, signed, statements)
    with pytest.raises(AuditError, match="not those of this signer"):
        home.create(ORIGIN, signed, statements.replace(b"number 1", b"number 2"))


def test_a_key_without_a_memory_does_not_begin_anew_by_itself(home: SignerHome, tmp_path: Path) -> None:
    """It would sign another tree of a size that it signed, or say for a second time which key was first."""
    head = text(20)
    home.signer().sign_head(head, 0, [])
    key = log_key_of(home.path, {})
    (tmp_path / "checkpoint").write_bytes(note.sign_note(head, *parse_keys(key)).encoded())
    shutil.rmtree(home.path / "signer")

    def init(*options: str) -> Any:
        words = ["signer", "init", "--origin", ORIGIN, "--home", str(home.path), "--json", *options]
        return CliRunner().invoke(main, words)

    known = ["--checkpoint", str(tmp_path / "checkpoint")]
    for options, asked in (
        ((), "--checkpoint"),
        (("--no-statements",), "--checkpoint"),
        (known, "--statements"),
    ):
        refused = init(*options)
        assert (refused.exit_code, asked in refused.output) == (15, True), refused.output
        with pytest.raises(HeadRefused, match="not known"):
            home.signer().sign_head(head, 0, [])
    assert (
        init("--empty", *known).exit_code == init("--no-statements", "--statements", known[1]).exit_code == 2
    )
    begun = init(*known, "--no-statements")
    assert (begun.exit_code, "created" in begun.output) == (0, True), begun.output
    with pytest.raises(HeadRefused):
        home.signer().sign_head(checkpoint.text_of(ORIGIN, 20, bytes(32)), 0, [])
    assert "stood already" in init().output
    assert log_key_of(home.path, {}) == key


def test_a_key_that_has_signed_nothing_begins_where_that_is_said(tmp_path: Path) -> None:
    """As `exchange init` draws one, for a signer that is set up before the first entry."""
    write_log_key(tmp_path, SIGNER.encoded())
    home = SignerHome(tmp_path, {})
    with pytest.raises(AuditError, match="no memory"):
        home.create(ORIGIN, None)
    assert home.create(ORIGIN, None, empty=True)
    assert home.signer().sign_head(text(20), 0, [])


@pytest.mark.parametrize("step", ["exchange.config.write_log_key", "exchange.audit.heads.Heads.begin"])
def test_a_home_whose_making_was_interrupted_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(step, lambda *_: (_ for _ in ()).throw(SystemExit("killed")))
        with pytest.raises(SystemExit):
            SignerHome(tmp_path, {}).create(ORIGIN, None)
    assert SignerHome(tmp_path, {}).create(ORIGIN, None)
    assert SignerHome(tmp_path, {}).signer().sign_head(text(20), 0, [])


def test_a_rotation_that_was_interrupted_goes_on(home: SignerHome, monkeypatch: pytest.MonkeyPatch) -> None:
    home.signer().sign_head(text(20), 0, [])
    published = shown(home)
    with monkeypatch.context() as patch:
        patch.setattr(LogSigner, "announce", lambda *_: (_ for _ in ()).throw(SystemExit("killed")))
        with pytest.raises(SystemExit):
            home.rotate(NOW, published)
    assert len(home.signer().keys().current) == 1, "what was not announced signs nothing"
    made = log_key_of(home.path, {})
    assert len(home.rotate(NOW, published).keys().current) == 2
    assert log_key_of(home.path, {}) == made, "no third key"


def test_a_key_of_the_environment_is_not_rotated(home: SignerHome) -> None:
    given = SignerHome(home.path, {"EXCHANGE_LOG_KEY": log_key_of(home.path, {})})
    for change in (lambda: given.rotate(NOW), given.retire):
        with pytest.raises(AuditError, match="variable"):
            change()


def test_a_key_is_not_replaced_from_an_older_tree_on_than_it_signed(home: SignerHome, tmp_path: Path) -> None:
    """Nobody could believe the checkpoints since, and none would be published."""
    leaves = [record.leaf for record in records(60)]
    folder = Folder(tmp_path / "log")

    def publish(size: int) -> bytes:
        integrate(lambda s: iter(leaves[s:size]), folder, home.signer(), ORIGIN)
        return folder.read("checkpoint") or b""

    old = publish(20)
    stale = shutil.copytree(home.path / "signer", tmp_path / "stale")
    newest = publish(40)
    for copied in (False, True):
        shutil.rmtree(home.path / "signer")
        if copied:
            shutil.copytree(stale, home.path / "signer")
        else:
            home.create(ORIGIN, old, b"")
        for given in (newest, None) if copied else (newest, None, old):
            with pytest.raises(Malformed):
                home.rotate(NOW, given)
        assert len(parse_keys(log_key_of(home.path, {}))) == 1
    publish(41)
    with pytest.raises(SignatureInvalid):
        home.rotate(NOW, checkpoint.sign_checkpoint(ORIGIN, 41, bytes(32), SIGNER).encoded())
    shutil.copytree(folder.root, home.path / "log")
    assert len(home.rotate(NOW).keys().current) == 2, "of the home whose worker signs"
    assert [publish(size) for size in (41, 60)]
    assert verify_log(folder, origin=ORIGIN, keys=published_keys(folder), pinned=newest).exit_code == 0
