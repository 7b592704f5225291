"""The restore drill: back up, destroy, restore, verify; and what is not restored."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import stat
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from exchange.audit.errors import LogDiverged
from exchange.audit.note import SigningKey
from exchange.backup import database
from exchange.cli import main
from privacy.sandbox import Sandbox
from tests.market import sample
from tests.market.prepared import Postgres
from tests.market.stand import Stand

Edit = Callable[[Path], None]
KEYS = {"keys.env", "log.env", "master.keys"}


def command(environ: dict[str, str], *arguments: object) -> Result:
    """`exchange ...` as an operator types it."""
    return CliRunner().invoke(main, [str(one) for one in arguments], env=environ, catch_exceptions=False)


def asked(stand: Stand) -> str:
    """An answer that was acknowledged under the key `kept`: the digest of its bytes."""
    reply = stand.post("buyer", "/v1/queries", stand.question(sample.BY_ZONE), key="kept")
    assert reply.status_code == 200, reply.text
    return str(reply.json()["result_sha256"])


@pytest.fixture
def fresh_url(stand: Stand, request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of an empty database of the stand's kind; empty for SQLite, which lies in the home."""
    if stand.settings.database_url.startswith("sqlite"):
        yield ""
        return
    server: Postgres = request.getfixturevalue("postgres_server")
    name = server.create()
    yield server.url(name)
    server.drop(name)


def of(stand: Stand, home: Path, url: str = "") -> dict[str, str]:
    return {**stand.environ, "EXCHANGE_HOME": str(home), **({"EXCHANGE_DATABASE_URL": url} if url else {})}


def beside(stand: Stand, home: Path, url: str = "") -> dict[str, str]:
    """The settings of another home, which reads the master keys where they were."""
    return {**of(stand, home, url), "EXCHANGE_MASTER_KEYS": str(stand.home / "master.keys")}


@pytest.mark.parametrize("name", ["backup.tar", "backup"])
def test_backup_destroy_restore_verify(
    stand: Stand, fresh_url: str, name: str, tmp_path: Path, lent_sandbox: Callable[[], Sandbox]
) -> None:
    digest = asked(stand)
    stand.publish_log()
    (tmp_path / "seen").write_bytes((stand.settings.log_path / "checkpoint").read_bytes())
    stand.get("nobody", "/v1/whoami")  # an entry that no checkpoint covers yet
    entries = [entry.id for entry in stand.entries()]
    made = command(stand.environ, "backup", tmp_path / name)
    assert made.exit_code == 0, made.output
    assert "keys are not in it" in made.stderr
    assert (tmp_path / name).stat().st_mode & 0o077 == 0
    shutil.copytree(stand.home, tmp_path / "keys", ignore=lambda _, names: set(names) - KEYS)
    stand.market.store.dispose()
    shutil.rmtree(stand.home)

    home = tmp_path / "anew"
    environ = of(stand, home, fresh_url)
    restored = command(
        environ,
        "restore",
        tmp_path / name,
        "--into",
        home,
        "--seen",
        tmp_path / "seen",
        "--keys",
        tmp_path / "keys",
    )
    assert restored.exit_code == 0, restored.output
    assert command(environ, "audit", "verify", "--local", "--checkpoint", tmp_path / "seen").exit_code == 0
    assert command(environ, "check").exit_code == 0
    again = Stand(environ, lent_sandbox, stand.tokens, stand.orgs)
    try:
        assert [entry.id for entry in again.entries()] == entries
        assert asked(again) == digest, "the key was used: the same bytes"
        again.publish_log()
        assert again.verify(pinned=(tmp_path / "seen").read_text()).exit_code == 0
    finally:
        again.close()


@pytest.fixture
def backed_up(sqlite_stand: Stand, tmp_path: Path) -> Path:
    """A backup with its keys, as a folder."""
    sqlite_stand.publish_log()
    made = command(sqlite_stand.environ, "backup", tmp_path / "backup", "--with-keys")
    assert made.exit_code == 0, made.output
    assert "HOLDS THE KEYS" in made.stderr
    assert (tmp_path / "backup" / "keys" / "log.env").stat().st_mode & 0o777 == 0o600
    return tmp_path / "backup"


def restore(stand: Stand, source: Path, *options: object) -> tuple[Result, Path]:
    home = source.parent / "anew"
    options = options or ("--none-newer",)
    return command(beside(stand, home), "restore", source, "--into", home, *options), home


def an_object(backup: Path) -> Path:
    return sorted(path for path in (backup / "objects").rglob("*") if path.is_file())[0]


def flip(path: Path) -> None:
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def rewritten(backup: Path) -> None:
    """A file and its line of the manifest, but not the manifest's HMAC."""
    changed = an_object(backup)
    flip(changed)
    manifest = json.loads((backup / "manifest.json").read_text())
    for one in manifest["files"]:
        if one["name"] == changed.relative_to(backup).as_posix():
            one["sha256"] = hashlib.sha256(changed.read_bytes()).hexdigest()
    (backup / "manifest.json").write_text(json.dumps(manifest, sort_keys=True, indent=0))


def linked(backup: Path) -> None:
    changed = an_object(backup)
    changed.unlink()
    changed.symlink_to("/etc/hostname")


TAMPERED: dict[str, Edit] = {
    "an object": lambda backup: flip(an_object(backup)),
    "the database": lambda backup: flip(backup / "database" / "exchange.db"),
    "the checkpoint": lambda backup: flip(backup / "log" / "checkpoint"),
    "a key": lambda backup: flip(backup / "keys" / "keys.env"),
    "an object is missing": lambda backup: an_object(backup).unlink(),
    "a file is added": lambda backup: (backup / "objects" / "more").write_text("more"),
    "a stranger's file": lambda backup: (backup / "authorized_keys").write_text("more"),
    "a link": linked,
    "the manifest too": rewritten,
    "no manifest": lambda backup: (backup / "manifest.json").unlink(),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_a_tampered_backup_is_refused(sqlite_stand: Stand, backed_up: Path, what: str) -> None:
    TAMPERED[what](backed_up)
    done, home = restore(sqlite_stand, backed_up)
    assert done.exit_code == 3, done.output
    assert not home.exists()
    assert not home.with_name("anew.restoring").exists()


def test_a_part_of_a_backup_is_refused(sqlite_stand: Stand, tmp_path: Path) -> None:
    sqlite_stand.publish_log()
    whole, part = tmp_path / "whole.tar", tmp_path / "part.tar"
    assert command(sqlite_stand.environ, "backup", whole, "--with-keys").exit_code == 0
    data = whole.read_bytes()
    for share in (0.0, 0.3, 0.6, 0.99):
        part.write_bytes(data[: int(len(data) * share)])
        done, home = restore(sqlite_stand, part)
        assert done.exit_code == 3, done.output
        assert not home.exists()


@pytest.mark.parametrize("name", ["../escaped", "/tmp/escaped", "objects/../../escaped", "log/.lock", "a\nb"])
def test_a_name_of_elsewhere_is_refused(sqlite_stand: Stand, tmp_path: Path, name: str) -> None:
    with tarfile.open(tmp_path / "odd.tar", "w") as tar:
        member = tarfile.TarInfo(name)
        member.size = 4
        tar.addfile(member, io.BytesIO(b"data"))
    done, home = restore(sqlite_stand, tmp_path / "odd.tar")
    assert done.exit_code == 3, done.output
    assert not home.exists()
    assert not list(tmp_path.rglob("escaped"))


def test_nothing_is_replaced(sqlite_stand: Stand, backed_up: Path) -> None:
    assert command(sqlite_stand.environ, "backup", backed_up).exit_code == 3, "a backup stands there"
    home = backed_up.parent / "anew"
    home.mkdir()
    (home / "precious").write_text("mine")
    done, _ = restore(sqlite_stand, backed_up)
    assert done.exit_code == 3
    assert [path.name for path in home.iterdir()] == ["precious"]


@pytest.mark.parametrize("lacking", ["keys.env", "log.env", "other secret", "other signer"])
def test_keys_that_the_home_does_not_hold_are_not_said_to_be_in_it(
    sqlite_stand: Stand, tmp_path: Path, lacking: str
) -> None:
    """The environment may set them, as the systemd units do: then the files hold none, or others."""
    stand = sqlite_stand
    stand.publish_log()
    secret = {"EXCHANGE_SECRET_KEY": str(stand.settings.secret_key)}
    if lacking == "other secret":
        (stand.home / "keys.env").write_text(f"EXCHANGE_SECRET_KEY={'0' * 64}\n")
    elif lacking == "other signer":
        signer = SigningKey.generate(stand.settings.log_origin)
        (stand.home / "log.env").write_text(f"EXCHANGE_LOG_KEY={signer.encoded()}\n")
    else:
        (stand.home / lacking).unlink()
    refused = command(stand.environ | secret, "backup", tmp_path / "backup", "--with-keys")
    assert refused.exit_code == 3, refused.output
    assert "HOLDS THE KEYS" not in refused.output
    assert list(tmp_path.glob("backup*")) == []
    assert command(stand.environ | secret, "backup", tmp_path / "backup").exit_code == 0


def test_without_the_keys_nothing_is_restored(sqlite_stand: Stand, tmp_path: Path) -> None:
    sqlite_stand.publish_log()
    assert command(sqlite_stand.environ, "backup", tmp_path / "backup").exit_code == 0
    done, home = restore(sqlite_stand, tmp_path / "backup")
    assert done.exit_code == 3
    assert "--keys" in done.output
    assert not home.exists()
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "keys.env").write_text(f"EXCHANGE_SECRET_KEY={'0' * 64}\n")
    done, home = restore(sqlite_stand, tmp_path / "backup", "--none-newer", "--keys", tmp_path / "others")
    assert done.exit_code == 3, "the keys of another exchange"
    assert not home.exists()


def test_a_backup_older_than_what_was_seen_is_not_gone_on_from(
    sqlite_stand: Stand, backed_up: Path, tmp_path: Path
) -> None:
    """From it a second log of the same name would be published, to those who know the first."""
    sqlite_stand.get("nobody", "/v1/whoami")
    (tmp_path / "seen").write_bytes(sqlite_stand.publish_log().encoded())
    done, home = restore(sqlite_stand, backed_up, "--seen", tmp_path / "seen")
    assert done.exit_code == 3, done.output
    assert "newer backup" in done.output
    assert not home.exists()
    done, _ = restore(sqlite_stand, backed_up, "--seen", tmp_path / "seen", "--none-newer")
    assert done.exit_code == 2, "one of them"
    done, _ = restore(sqlite_stand, backed_up, "--json")
    assert done.exit_code == 2, "neither is a decision"


def test_a_backup_from_before_the_log_is_older_than_anything_seen(
    sqlite_stand: Stand, tmp_path: Path
) -> None:
    stand = sqlite_stand
    shutil.rmtree(stand.settings.log_path, ignore_errors=True)
    assert command(stand.environ, "backup", tmp_path / "early.tar", "--with-keys").exit_code == 0
    (tmp_path / "seen").write_bytes(stand.publish_log().encoded())
    done, home = restore(stand, tmp_path / "early.tar", "--seen", tmp_path / "seen")
    assert done.exit_code == 3, done.output
    assert "before its first checkpoint" in done.output
    assert not home.exists()


def test_the_name_of_a_backup_is_on_disk_before_it_is_told_of(
    sqlite_stand: Stand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced, sync = [], os.fsync

    def noted(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            synced.append((os.fstat(handle).st_ino, (tmp_path / "kept.tar").exists()))
        sync(handle)

    monkeypatch.setattr(os, "fsync", noted)
    assert command(sqlite_stand.environ, "backup", tmp_path / "kept.tar").exit_code == 0
    assert (tmp_path.stat().st_ino, True) in synced


def test_an_old_database_beside_the_newer_log_publishes_nothing(
    sqlite_stand: Stand, backed_up: Path, lent_sandbox: Callable[[], Sandbox]
) -> None:
    """Where the database alone is put back, the log's folder knows more than it: the worker stops."""
    sqlite_stand.get("nobody", "/v1/whoami")
    newest = sqlite_stand.publish_log().encoded()
    done, home = restore(sqlite_stand, backed_up)
    assert done.exit_code == 0, done.output
    shutil.rmtree(home / "log")
    shutil.copytree(sqlite_stand.settings.log_path, home / "log")
    again = Stand(beside(sqlite_stand, home), lent_sandbox, sqlite_stand.tokens, sqlite_stand.orgs)
    try:
        for _ in range(3):
            with pytest.raises(LogDiverged):
                again.publish_log()
            again.get("nobody", "/v1/whoami")
    finally:
        again.close()
    assert (home / "log" / "checkpoint").read_bytes() == newest


def test_a_backup_of_a_busy_exchange_is_consistent(stand: Stand, fresh_url: str, tmp_path: Path) -> None:
    stop = threading.Event()

    def be_busy() -> None:
        while not stop.is_set():
            stand.get("nobody", "/v1/whoami")
            stand.publish_log()

    busy = threading.Thread(target=be_busy)
    busy.start()
    try:
        made = command(stand.environ, "backup", tmp_path / "backup.tar", "--with-keys")
    finally:
        stop.set()
        busy.join()
    assert made.exit_code == 0, made.output
    home = tmp_path / "anew"
    done = command(
        beside(stand, home, fresh_url), "restore", tmp_path / "backup.tar", "--into", home, "--none-newer"
    )
    assert done.exit_code == 0, done.output


@pytest.mark.postgres
@pytest.mark.parametrize("stand", ["postgres"], indirect=True)
def test_a_database_that_is_not_empty_is_not_filled(stand: Stand, tmp_path: Path) -> None:
    assert command(stand.environ, "backup", tmp_path / "backup", "--with-keys").exit_code == 0
    home = tmp_path / "anew"
    done = command(of(stand, home), "restore", tmp_path / "backup", "--into", home, "--none-newer")
    assert done.exit_code == 3, done.output
    assert "not empty" in done.output
    assert not home.exists()


@pytest.mark.postgres
@pytest.mark.parametrize("stand", ["postgres"], indirect=True)
def test_without_pg_dump_it_is_said_what_to_install(
    stand: Stand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_INSTALLED", "nowhere")
    done = command({**stand.environ, "PATH": str(tmp_path)}, "backup", tmp_path / "backup")
    assert done.exit_code == 3, done.output
    assert "postgresql-client" in done.output
    assert not (tmp_path / "backup").exists()
    assert list(tmp_path.glob("*unfinished*")) == []
