"""Making a backup while the exchange serves."""

from __future__ import annotations

import contextlib
import os
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import create_engine

from catalog.errors import NotFound
from exchange import migrate
from exchange.audit import checkpoint
from exchange.audit.errors import AuditError
from exchange.audit.signing import parse_keys
from exchange.audit.tiles import Folder
from exchange.backup import archive, database
from exchange.bootstrap import open_objects
from exchange.config import Settings, SettingsError
from exchange.errors import BackupRefused
from exchange.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exchange.backup.archive import Manifest, Writer
    from exchange.market import OutsideObjects

KEYS = ("keys.env", "log.env")
MASTER_KEYS = "master.keys"
"""Never in a backup, whatever is asked for: with it what is stored could be read."""


@dataclass(frozen=True)
class Made:
    """A finished backup."""

    target: Path
    manifest: Manifest
    with_keys: bool


def make(settings: Settings, target: Path, *, with_keys: bool = False) -> Made:
    """Write a backup of the exchange to a file that ends in `.tar`, or to a folder, streaming it.

    Raises BackupRefused: the target exists, a program of PostgreSQL's is missing or fails, or the keys are
    asked for and the files of the home do not hold those in force.
    """
    if with_keys:
        _require_keys(settings)
    kind = database.kind_of(settings.database_url)
    with archive.written(target) as writer:
        log_size = _add_log(writer, settings.log_path)
        revision = _add_database(writer, settings.database_url, kind, target.parent)
        _add_objects(writer, open_objects(settings))
        for name in KEYS if with_keys else ():
            writer.add(f"keys/{name}", settings.home / name)
        manifest = archive.Manifest(
            format=archive.FORMAT,
            version=__version__,
            made_at=datetime.now(UTC).isoformat(timespec="seconds"),
            database=kind,
            revision=revision,
            origin=settings.log_origin,
            log_size=log_size,
            files=writer.files,
        )
        writer.finish(manifest, settings.secret_key)
    return Made(target, manifest, with_keys)


def _require_keys(settings: Settings) -> None:
    """Raises BackupRefused unless the home's files hold the keys in force: the environment may set others."""
    try:
        held = Settings.from_env({"EXCHANGE_HOME": str(settings.home)}, worker=True)
        signers = [key.verifier for key in parse_keys(held.log_key)]
        newest = settings.log_path / checkpoint.PATH
        if newest.is_file():
            checkpoint.open_checkpoint(newest.read_bytes(), origin=settings.log_origin, keys=signers)
        in_force = held.secret_key == settings.secret_key
    except (SettingsError, AuditError, OSError):
        in_force = False
    if not in_force:
        raise BackupRefused(
            f"{' and '.join(KEYS)} in {settings.home} do not hold the keys that this exchange runs with",
            hint="Write EXCHANGE_SECRET_KEY and EXCHANGE_LOG_KEY into them, or back up without --with-keys "
            "and keep the keys apart.",
        )


def _add_log(writer: Writer, root: Path) -> int:
    """Add the published log as of one checkpoint; the worker waits meanwhile, replies do not."""
    if not (root / checkpoint.PATH).is_file():
        return 0
    with Folder(root).exclusively():
        for path in _files(root):
            writer.add(f"log/{path.relative_to(root).as_posix()}", path)
        return checkpoint.parse_checkpoint((root / checkpoint.PATH).read_bytes()).size


def _add_database(writer: Writer, url: str, kind: str, room: Path) -> str:
    """Add a copy of the database, which needs its size in ``room`` for a moment; returns its revision."""
    with tempfile.TemporaryDirectory(dir=room, prefix=".backup-") as folder:
        copied = Path(folder) / database.COPIES[kind]
        database.copy(url, copied)
        writer.add(f"database/{copied.name}", copied)
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            return migrate.current(connection)
    finally:
        engine.dispose()


def _add_objects(writer: Writer, objects: OutsideObjects) -> None:
    for sha256 in objects.every():
        with contextlib.suppress(NotFound), objects.held(sha256) as path:  # it expired meanwhile
            writer.add(f"objects/{sha256[:2]}/{sha256[2:4]}/{sha256}", path)


def _files(root: Path) -> Iterator[Path]:
    """Every file under a folder, folder by folder; hidden ones are of those who write, and left out."""
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(folder) / name
