"""The folder of a signer: its keys in `log.env`, its memory and statements in `signer/`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exchange import config
from exchange.audit import checkpoint as checkpoints
from exchange.audit.errors import Malformed
from exchange.audit.note import SigningKey
from exchange.audit.signing import LogSigner, encode_keys, parse_keys
from exchange.audit.tiles import Folder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from pathlib import Path


def signer_of(home: Path, log_key: str) -> LogSigner:
    """The signer with the keys that are given as text, and the memory of a home."""
    memory = home / "signer"
    memory.mkdir(parents=True, exist_ok=True, mode=0o700)
    return LogSigner(parse_keys(log_key), Folder(memory))


class SignerHome:
    """A signer's folder. The variable EXCHANGE_LOG_KEY wins over the file, which then cannot be rotated."""

    def __init__(self, path: Path, environ: Mapping[str, str]) -> None:
        self.path = path
        self._environ = environ

    def create(
        self, origin: str, published: bytes | None, statements: bytes | None = None, *, empty: bool = False
    ) -> bool:
        """Draws a key unless there is one, and begins: with an empty log, or with a published checkpoint.

        `statements` say how its keys followed one another, b"" that none was ever replaced. A key without a
        memory may have signed trees: `published` and `statements` are asked for, or that the log is `empty`.
        Returns False where both stood already.

        Raises Malformed, SignatureInvalid for a checkpoint of other keys.
        """
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        held = config.log_key_of(self.path, self._environ)
        key = held or SigningKey.generate(origin).encoded()
        signer = signer_of(self.path, key)
        begun = signer.newest() is not None
        if held and not begun and not empty:
            _require_told(published, statements)
        signer.begin(published, statements or b"")
        if not held:  # the memory first: interrupted here, it draws another key next time
            config.write_log_key(self.path, key)
        return not (held and begun)

    def signer(self) -> LogSigner:
        """The signer as it is now. Raises Malformed where there is no key."""
        return signer_of(self.path, config.log_key_of(self.path, self._environ))

    def rotate(self, now: datetime, published: bytes | None = None) -> LogSigner:
        """Makes a new key that signs beside the old; one that was made and not announced is announced.

        `published` is the newest checkpoint; without it that of the home, where its worker signs.

        Raises Malformed where the variable holds the keys, where no checkpoint is known, or where the memory
        is behind it; SignatureInvalid for one of other keys.
        """
        self._require_file()
        signer = self.signer()
        shown = published or Folder(self.path / "log").read(checkpoints.PATH)
        if shown is None:
            raise Malformed(
                "The newest checkpoint of the log is not known here.",
                hint="Give what /audit/checkpoint shows with --checkpoint.",
            )
        signer.require_abreast(shown)
        held = self._keys()
        if len(signer.keys().current) == len(held):
            self._write([*held, SigningKey.generate(signer.origin)])
        signer = self.signer()
        signer.announce(now)
        return signer

    def retire(self) -> LogSigner:
        """Removes every key but the newest, which signs alone from now on."""
        self._require_file()
        newest = self.signer().keys().newest
        self._write([key for key in self._keys() if key.verifier == newest])
        return self.signer()

    def _keys(self) -> tuple[SigningKey, ...]:
        return parse_keys(config.log_key_of(self.path, self._environ))

    def _write(self, keys: Sequence[SigningKey]) -> None:
        config.write_log_key(self.path, encode_keys(keys))

    def _require_file(self) -> None:
        if self._environ.get("EXCHANGE_LOG_KEY"):
            raise Malformed(
                "EXCHANGE_LOG_KEY holds the key, and a variable cannot be rewritten.",
                hint=f"Write it into {config.log_file(self.path)} and unset it, then rotate.",
            )


def _require_told(published: bytes | None, statements: bytes | None) -> None:
    """Raises Malformed unless a signer that lost its memory is told what its keys signed, and which do."""
    if published is None:
        raise Malformed(
            "There is a key, and no memory of what it signed.",
            hint="Give the newest checkpoint with --checkpoint, or --empty where the log never had an entry.",
        )
    if statements is None:
        raise Malformed(
            "There is a key, and no memory of those that it replaced.",
            hint="Give what /audit/keys shows with --statements, or --no-statements where it shows nothing.",
        )
