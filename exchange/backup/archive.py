"""What a backup is on disk: a tar file or a folder of files, and a manifest with the SHA-256 of each.

The manifest is written last and carries an HMAC under a key derived from the exchange's secret key: whoever
changes a file, or the manifest with it, does not have that key unless the backup holds the keys.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import io
import json
import os
import re
import shutil
import tarfile
from dataclasses import asdict, dataclass, field
from typing import IO, TYPE_CHECKING, Any, Protocol

from catalog.objects import sync_folder
from exchange.errors import BackupInvalid, BackupRefused

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FORMAT = 1
MANIFEST, MAC = "manifest.json", "manifest.mac"
_BLOCK = 1 << 20
_NAME = re.compile(
    r"database/exchange\.(db|dump)|keys/(keys|log)\.env|manifest\.(json|mac)"
    r"|(log|objects)(/[A-Za-z0-9_-][A-Za-z0-9._-]*){1,8}"
)


@dataclass(frozen=True)
class File:
    """One file of a backup."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a backup holds.

    Attributes:
        format: of the backup; :data:`FORMAT`.
        version: of the program that made it.
        made_at: ISO 8601, UTC.
        database: `sqlite` or `postgresql`.
        revision: of the database's schema.
        origin: of the log.
        log_size: entries under the copied checkpoint; 0 before the first.
    """

    format: int
    version: str
    made_at: str
    database: str
    revision: str
    origin: str
    log_size: int
    files: list[File] = field(default_factory=list)

    def encoded(self) -> bytes:
        """Canonical bytes: what the HMAC is over."""
        return json.dumps(asdict(self), sort_keys=True, indent=0).encode()


def read_manifest(data: bytes, mac: bytes, secret_key: str) -> Manifest:
    """The manifest, if it is one and was written under this secret key. Raises BackupInvalid."""
    if not hmac.compare_digest(mac.strip(), mac_of(data, secret_key)):
        raise BackupInvalid("the manifest was not written under this exchange's secret key, or was altered")
    try:
        told = json.loads(data)
        files = [File(str(one["name"]), int(one["bytes"]), str(one["sha256"])) for one in told.pop("files")]
        manifest = Manifest(**told, files=files)
    except (ValueError, KeyError, TypeError):
        raise BackupInvalid("the manifest cannot be read") from None
    if manifest.format != FORMAT:
        raise BackupInvalid(f"the backup has the format {manifest.format!r}; this program reads {FORMAT}")
    return manifest


def mac_of(manifest: bytes, secret_key: str) -> bytes:
    """HMAC-SHA-256 as hex, under a key derived for this purpose alone."""
    key = hmac.new(secret_key.encode(), b"backup manifest", hashlib.sha256).digest()
    return hmac.new(key, manifest, hashlib.sha256).hexdigest().encode()


class Readable(Protocol):
    """What bytes are read from."""

    def read(self, size: int = -1, /) -> bytes:
        """At most so many bytes; none at the end."""


class Sink(Protocol):
    """Where a backup is written to."""

    def add(self, name: str, source: Readable, size: int) -> None:
        """Write ``size`` bytes of ``source`` under a name."""


class Writer:
    """Adds files to a sink and remembers what they are."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.files: list[File] = []

    def add(self, name: str, path: Path) -> None:
        """Add a file as it is now. One that is gone meanwhile is left out: what expired is not kept."""
        if not _NAME.fullmatch(name):
            raise BackupRefused(f"a file of the name {name!r} does not belong into a backup")
        try:
            source = path.open("rb")
        except FileNotFoundError:
            return
        with source:
            size = os.fstat(source.fileno()).st_size
            hashed = _Hashing(source)
            self._sink.add(name, hashed, size)
        self.files.append(File(name, size, hashed.hexdigest()))

    def finish(self, manifest: Manifest, secret_key: str) -> None:
        """Write the manifest and its HMAC."""
        data = manifest.encoded()
        for name, content in ((MANIFEST, data), (MAC, mac_of(data, secret_key) + b"\n")):
            self._sink.add(name, io.BytesIO(content), len(content))


@contextlib.contextmanager
def written(target: Path) -> Iterator[Writer]:
    """A writer of a backup that appears under its name once it is whole, readable by its owner alone.

    A name that ends in `.tar` is a file, any other a folder. Raises BackupRefused where it exists already.
    """
    if target.exists():
        raise BackupRefused(f"{target} exists already", hint="Name a file or folder that does not exist.")
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f"{target.name}.unfinished")
    _remove(unfinished)
    try:
        if target.suffix == ".tar":
            handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as file:
                with tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT) as tar:
                    yield Writer(_Tar(tar))
                file.flush()
                os.fsync(file.fileno())
        else:
            unfinished.mkdir(mode=0o700)
            yield Writer(_Folder(unfinished))
        unfinished.replace(target)
        sync_folder(target.parent)  # else a backup that was told of may have no name after a power failure
    finally:
        _remove(unfinished)


def extracted(source: Path, into: Path) -> dict[str, File]:
    """Copy a backup's files into a folder of our own, and say what they are, by name.

    Raises BackupInvalid for a name that does not belong into a backup, a link, or a name that comes twice.
    """
    found: dict[str, File] = {}
    try:
        for name, content in _members(source):
            if not _NAME.fullmatch(name) or name in found:
                raise BackupInvalid(f"{name[:200]!r} does not belong into a backup, or is there twice")
            place = into / name
            place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            hashed = _Hashing(content)
            with os.fdopen(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                shutil.copyfileobj(hashed, file, _BLOCK)
                file.flush()
                os.fchmod(file.fileno(), 0o440 if name.startswith("objects/") else 0o600)
                os.fsync(file.fileno())
            found[name] = File(name, place.stat().st_size, hashed.hexdigest())
    except (tarfile.TarError, EOFError) as error:
        raise BackupInvalid(f"{source} is no backup, or a part of one: {type(error).__name__}") from None
    return found


def hold(found: dict[str, File], manifest: Manifest) -> None:
    """Raise BackupInvalid unless exactly the files of the manifest were found, with their bytes."""
    wanted = {one.name: one for one in manifest.files}
    there = {name: one for name, one in found.items() if name not in (MANIFEST, MAC)}
    for name in sorted(wanted.keys() | there.keys()):
        if name not in there:
            raise BackupInvalid(f"{name} is missing")
        if name not in wanted:
            raise BackupInvalid(f"{name} is not in the manifest")
        if there[name] != wanted[name]:
            raise BackupInvalid(f"{name} does not have the bytes that the manifest names")


def _members(source: Path) -> Iterator[tuple[str, IO[bytes]]]:
    if source.is_dir():
        for path in sorted(source.rglob("*")):
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                raise BackupInvalid(f"{path.name!r} is no plain file")
            if path.is_file():
                with path.open("rb") as file:
                    yield path.relative_to(source).as_posix(), file
        return
    with tarfile.open(source, mode="r|") as tar:
        for member in tar:
            content = tar.extractfile(member) if member.isreg() else None
            if content is None:
                raise BackupInvalid(f"{member.name[:200]!r} is no plain file")
            yield member.name, content


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


class _Tar:
    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar

    def add(self, name: str, source: Readable, size: int) -> None:
        member = tarfile.TarInfo(name)
        member.size, member.mode = size, 0o600
        self._tar.addfile(member, source)


class _Folder:
    def __init__(self, root: Path) -> None:
        self._root = root

    def add(self, name: str, source: Readable, size: int) -> None:
        place = self._root / name
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with os.fdopen(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            left = size
            while left and (block := source.read(min(_BLOCK, left))):
                file.write(block)
                left -= len(block)
            file.flush()
            os.fsync(file.fileno())


class _Hashing:
    """Reads through, and hashes what is read."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self._digest = hashlib.sha256()

    def read(self, size: int = -1, /) -> bytes:
        data = self._source.read(size)
        self._digest.update(data)
        return data

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


def document(manifest: Manifest) -> dict[str, Any]:
    """What is told of a backup."""
    told = asdict(manifest)
    files = told.pop("files")
    return {**told, "files": len(files), "bytes": sum(one["bytes"] for one in files)}
