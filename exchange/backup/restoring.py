"""Restoring: a home appears once everything in it was verified, and never in place of another."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from exchange import checks, migrate
from exchange.audit import checkpoint, log, merkle, succession
from exchange.audit.integrate import published_keys
from exchange.audit.tiles import Folder
from exchange.backup import archive, database
from exchange.backup.making import KEYS, MASTER_KEYS
from exchange.bootstrap import open_market, open_objects
from exchange.config import Settings, SettingsError
from exchange.errors import BackupInvalid, BackupRefused
from exchange.operations import auditing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from sqlalchemy.orm import Session

    from exchange.audit.verify import LogReport
    from exchange.backup.archive import Manifest
    from exchange.checks import Law
    from exchange.market import Market


@dataclass(frozen=True)
class Restored:
    """What came of a restore. Without ``good`` the home lies beside its name, to be looked at."""

    home: Path
    manifest: Manifest
    revision: str
    broken: tuple[Law, ...]
    report: LogReport | None

    @property
    def good(self) -> bool:
        """Whether every law holds and the log verifies."""
        return not self.broken and (self.report is None or self.report.good)


def restore(
    source: Path, home: Path, environ: Mapping[str, str], *, seen: str | None, keys: Path | None = None
) -> Restored:
    """Restore a backup into a home that does not exist yet.

    Args:
        environ: the settings of the restored exchange; its database must be empty.
        seen: the newest checkpoint that anybody saw, or None where it is sure that none is newer than the
            backup's. What was published after the backup is not in it: an exchange that went on from it
            would show those who saw more another log of the same name.
        keys: a folder with the key files, where the backup holds none and ``environ`` names none; the master
            keys are in no backup.

    Raises:
        BackupInvalid: a file is missing, added or altered, or the copy of the database cannot be read.
        BackupRefused: something stands already where the backup is to go, keys are missing, or ``seen``
            is newer than the backup.
    """
    if not source.exists():
        raise BackupRefused(f"{source} does not exist", hint="Name the file or folder of a backup.")
    _require_free(home)
    staging = home.with_name(f"{home.name}.restoring")
    if staging.exists():
        raise BackupRefused(f"{staging} stands from an earlier restore", hint="Look at it and remove it.")
    staging.mkdir(parents=True, mode=0o700)
    try:
        manifest, settings = _unpacked(source, staging, environ, keys)
        aimed = Settings.from_env({**_of(environ, staging), "EXCHANGE_HOME": str(home)} | _secret(settings))
        _require_aim(manifest, aimed)
        database.load(settings.database_url, staging / "database" / database.COPIES[manifest.database])
        shutil.rmtree(staging / "database")
        shutil.rmtree(staging / "keys", ignore_errors=True)
        revision = migrate.upgrade(settings.database_url)
        restored = _looked_through(settings, Restored(home, manifest, revision, (), None), seen)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    if not restored.good:
        return replace(restored, home=staging)
    _put_in_place(staging, home, aimed)
    return restored


def _looked_through(settings: Settings, restored: Restored, seen: str | None) -> Restored:
    """The laws, and the whole log with the books behind it."""
    with contextlib.closing(_opened(settings)) as market:
        _require_not_newer(market, seen)
        broken = tuple(law for law in checks.run(market) if not law.holds)
        return replace(restored, broken=broken, report=_verified(market))


def _opened(settings: Settings) -> Market:
    """The restored market. Raises BackupRefused without the master keys that its objects are under."""
    try:
        return open_market(settings)
    except SettingsError as missing:
        raise BackupRefused(
            str(missing),
            hint=f"Put {MASTER_KEYS} into the folder that --keys names, or set EXCHANGE_MASTER_KEYS.",
        ) from None


def _unpacked(
    source: Path, staging: Path, environ: Mapping[str, str], keys: Path | None
) -> tuple[Manifest, Settings]:
    """The backup's files in the staging folder, each held against the manifest, and the settings there."""
    found = archive.extracted(source, staging)
    if archive.MANIFEST not in found or archive.MAC not in found:
        raise BackupInvalid("there is no manifest: this is no backup, or a part of one")
    for folder in (staging / "keys", keys):
        for name in (*KEYS, MASTER_KEYS):
            if folder is not None and (folder / name).is_file() and not (staging / name).exists():
                shutil.copyfile(folder / name, staging / name)
                (staging / name).chmod(0o600)
    settings = _settings_in(staging, environ)
    data, mac = ((staging / name).read_bytes() for name in (archive.MANIFEST, archive.MAC))
    manifest = archive.read_manifest(data, mac, settings.secret_key)
    archive.hold(found, manifest)
    for name in (archive.MANIFEST, archive.MAC):
        (staging / name).unlink()
    (staging / "objects").mkdir(exist_ok=True)
    return manifest, settings


def _settings_in(staging: Path, environ: Mapping[str, str]) -> Settings:
    given = _of(environ, staging)
    if not given.get("EXCHANGE_SECRET_KEY") and not (staging / KEYS[0]).is_file():
        raise BackupRefused(
            "the backup holds no keys",
            hint="Name the folder of the key files with --keys, or set EXCHANGE_SECRET_KEY.",
        )
    settings = Settings.from_env(given)
    return replace(settings, objects_url=f"file:{staging / 'objects'}")


def _of(environ: Mapping[str, str], home: Path) -> dict[str, str]:
    return {**environ, "EXCHANGE_HOME": str(home)}


def _secret(settings: Settings) -> dict[str, str]:
    return {"EXCHANGE_SECRET_KEY": str(settings.secret_key)}


def _require_free(home: Path) -> None:
    if home.exists() and any(home.iterdir()):
        raise BackupRefused(f"{home} is not empty", hint="Name a home that does not exist: none is replaced.")


def _require_aim(manifest: Manifest, aimed: Settings) -> None:
    """The place that the settings name is free, and of the backup's kind."""
    kind = database.kind_of(aimed.database_url)
    if kind != manifest.database:
        raise BackupRefused(
            f"the backup is of {manifest.database}, and EXCHANGE_DATABASE_URL names {kind}",
            hint=f"Set EXCHANGE_DATABASE_URL to an empty database of {manifest.database}.",
        )
    if aimed.log_origin != manifest.origin:
        raise BackupRefused(
            f"the backup's log is {manifest.origin}", hint="Set EXCHANGE_LOG_ORIGIN to that name."
        )
    if not migrate.is_known(manifest.revision):
        raise BackupRefused(
            f"the backup is of a newer release ({manifest.version})", hint="Install that release, or a newer."
        )
    database.require_empty(aimed.database_url)
    folder = aimed.objects_path
    held = any(open_objects(aimed).every()) if folder is None else folder.exists() and any(folder.iterdir())
    if held:
        raise BackupRefused(
            f"the object store {aimed.objects_url.partition('?')[0]} is not empty",
            hint="Set EXCHANGE_OBJECTS_URL to an empty folder, or to another prefix of the bucket.",
        )


def _require_not_newer(market: Market, seen: str | None) -> None:
    """Raise BackupRefused unless the restored log holds what was seen of it."""
    if seen is None:
        return
    settings = market.settings
    if not (settings.log_path / "key").is_file():
        raise BackupRefused(
            "the log was seen, and the backup is from before its first checkpoint",
            hint="Restore a newer backup: from this one another log of the same name would be published.",
        )
    keys = published_keys(Folder(settings.log_path))
    head = checkpoint.open_checkpoint(seen, origin=settings.log_origin, keys=keys)

    def root(session: Session) -> bytes:
        grown = merkle.CompactRange()
        for record in log.entries(session, 0, head.size):
            grown.append(merkle.leaf_hash(record.leaf))
        return grown.root()

    held = market.store.read(log.size)
    if held < head.size:
        raise BackupRefused(
            f"the log was seen with {head.size} entries, and the backup holds {held}",
            hint="Restore a newer backup: from this one another log of the same name would be published.",
        )
    if market.store.read(root) != head.root:
        raise BackupRefused("the checkpoint that was seen is of another log than the backup's")


def _verified(market: Market) -> LogReport | None:
    key = market.settings.log_path / "key"
    if not key.is_file():
        return None
    statements = market.settings.log_path / succession.PATH
    return auditing.verify(
        market,
        log_key=key.read_text(encoding="utf-8"),
        statements=statements.read_text(encoding="utf-8") if statements.is_file() else "",
    )


def _put_in_place(staging: Path, home: Path, aimed: Settings) -> None:
    folder = aimed.objects_path
    if folder is None:
        objects = open_objects(replace(aimed, objects_cache_path=str(staging / "cache")))
        for path in sorted((staging / "objects").glob("??/??/*")):
            objects.put(path)
        for left in ("objects", "cache"):
            shutil.rmtree(staging / left, ignore_errors=True)
    elif home not in folder.parents:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.exists():
            folder.rmdir()
        shutil.move(staging / "objects", folder)
    if home.exists():
        home.rmdir()
    staging.rename(home)
