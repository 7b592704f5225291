"""A witness's folder: `config.toml`, its key, and its state."""

from __future__ import annotations

import json
import os
import re
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from exchange.audit import succession
from exchange.audit.errors import Malformed
from exchange.audit.note import COSIGNATURE, SigningKey, VerifierKey
from exchange.audit.tiles import Folder

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

CONFIG, KEY, STATE = "config.toml", "key", "state"
_LISTEN = re.compile(r"(\[[0-9a-f:]+\]|[A-Za-z0-9.-]+):([0-9]{1,5})")
_MEMBERS = {"listen", "archive", "retain_days", "log"}
_OF_LOG = {"keys", "statements"}


@dataclass(frozen=True)
class Configuration:
    """What a witness was told. `logs` holds the trusted keys by origin."""

    folder: Path
    key: SigningKey
    host: str
    port: int
    logs: Mapping[str, tuple[VerifierKey, ...]]
    archive: str = ""
    retain_days: int = 0

    @property
    def state(self) -> Folder:
        """What the witness remembers."""
        return Folder(self.folder / STATE)


def create(folder: Path, *, name: str, log_keys: list[str], archive: str, listen: str) -> Configuration:
    """Makes a witness's folder with a new key. Raises Malformed where one stands, or a key cannot be read."""
    if (folder / KEY).exists() or (folder / CONFIG).exists():
        raise Malformed(f"A witness stands in {folder} already.")
    key = SigningKey.generate(name, COSIGNATURE)
    lines = [f"listen = {json.dumps(listen)}", f"archive = {json.dumps(archive)}", ""]
    for text in log_keys:
        lines += ["[[log]]", f"keys = [{json.dumps(str(VerifierKey.parse(text.strip())))}]", ""]
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    (folder / CONFIG).write_text("\n".join(lines), encoding="utf-8")
    handle = os.open(folder / KEY, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(key.encoded() + "\n")
        file.flush()
        os.fsync(handle)
    return read(folder)


def read(folder: Path) -> Configuration:
    """Reads a witness's folder. Raises Malformed, and SignatureInvalid for a broken chain of keys."""
    try:
        told: dict[str, Any] = tomllib.loads((folder / CONFIG).read_text(encoding="utf-8"))
        key = SigningKey.parse((folder / KEY).read_text(encoding="utf-8").strip())
        mode = (folder / KEY).stat().st_mode
    except (OSError, ValueError) as error:
        raise Malformed(f"{folder} is no witness's folder: {type(error).__name__}.") from None
    if mode & 0o077:
        raise Malformed(f"Others can read {folder / KEY}.", hint="Run `chmod 600` on it.")
    if key.algorithm != COSIGNATURE:
        raise Malformed("The key is not that of a witness.")
    if not set(told) <= _MEMBERS:
        raise Malformed(f"{CONFIG} holds what is not known: {', '.join(sorted(set(told) - _MEMBERS))}.")
    match = _LISTEN.fullmatch(_text(told, "listen", "127.0.0.1:8090"))
    if match is None or int(match[2]) > 65_535:
        raise Malformed("`listen` is HOST:PORT.")
    return Configuration(
        folder=folder,
        key=key,
        host=match[1].strip("[]"),
        port=int(match[2]),
        logs=_logs(folder, told.get("log", [])),
        archive=_text(told, "archive", ""),
        retain_days=_days(told.get("retain_days", 0)),
    )


def _logs(folder: Path, told: Any) -> dict[str, tuple[VerifierKey, ...]]:
    if not isinstance(told, list) or not all(isinstance(one, dict) and set(one) <= _OF_LOG for one in told):
        raise Malformed("Each [[log]] has `keys`, and `statements` where keys followed one another.")
    found: dict[str, tuple[VerifierKey, ...]] = {}
    for one in told:
        keys = one.get("keys")
        if not isinstance(keys, list) or not keys or not all(isinstance(key, str) for key in keys):
            raise Malformed("The `keys` of a [[log]] are a list of its public keys.")
        named = _text(one, "statements", "")
        statements = (folder / named).read_bytes() if named else b""
        trusted = succession.pinned_keys(keys, statements)
        (origin, *others) = {key.name for key in trusted}
        if others or origin in found:
            raise Malformed("Each [[log]] has keys of one name, and no other has that name.")
        found[origin] = trusted
    return found


def _text(told: Mapping[str, Any], name: str, default: str) -> str:
    value = told.get(name, default)
    if not isinstance(value, str):
        raise Malformed(f"`{name}` is text.")
    return value


def _days(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= 36_500:
        raise Malformed("`retain_days` is a number of days.")
    return value
