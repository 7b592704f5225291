"""C2SP signed notes and their Ed25519 keys (https://c2sp.org/signed-note, https://c2sp.org/tlog-cosignature).

`cryptography` is imported when a signature is made or checked: reading keys and notes needs the standard
library alone.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from exchange.audit.errors import CryptographyMissing, Malformed, SignatureInvalid

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from types import ModuleType

ED25519 = 0x01
COSIGNATURE = 0x04
"""Timestamped Ed25519 signature of a witness."""
MAX_NOTE_BYTES = 262_144
MAX_SIGNATURES = 64

_PRIVATE_PREFIX = "PRIVATE+KEY+"
_SIGNATURE_LINE = re.compile(r"— ([^ ]+) ([A-Za-z0-9+/]+={0,2})")
_SIGNATURE_BYTES = {ED25519: 64, COSIGNATURE: 72}


class Signer(Protocol):
    """Something that signs as one Ed25519 key: a SigningKey here, a signer process or key service later."""

    @property
    def verifier(self) -> VerifierKey:
        """The public half."""

    def sign(self, message: bytes) -> bytes:
        """The 64-byte Ed25519 signature over `message`."""


@dataclass(frozen=True)
class VerifierKey:
    """A public key under a name, written `name+id+base64(algorithm || key)`.

    `last_size` is that of the largest tree that a key of a log stands for alone, where another has followed
    it, and `before_pinned` says that it was replaced before the key that the reader pinned
    (`exchange.audit.succession`); both are no part of the key.
    """

    name: str
    public: bytes
    algorithm: int = ED25519
    last_size: int | None = field(default=None, compare=False)
    before_pinned: bool = field(default=False, compare=False)

    @property
    def key_id(self) -> bytes:
        """First 4 bytes of SHA-256(name || 0x0A || algorithm || public key)."""
        return _key_id(self.name, self.algorithm, self.public)

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        """Reads a verifier key. Raises Malformed where name, id and key do not belong together."""
        name, key_id, data = _split_key(text)
        algorithm, public = data[0], data[1:]
        key = cls(name, public, algorithm)
        if algorithm not in _SIGNATURE_BYTES or key.key_id.hex() != key_id:
            raise Malformed("The verifier key's id does not belong to its name, kind and key.")
        return key

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{_encode(bytes([self.algorithm]) + self.public)}"

    def verify(self, message: bytes, signature: bytes) -> bool:
        """True if `signature` is this key's over `message` (a cosignature carries its own time)."""
        if len(signature) != _SIGNATURE_BYTES[self.algorithm]:
            return False
        if self.algorithm == COSIGNATURE:
            message, signature = _cosigned(message, int.from_bytes(signature[:8], "big")), signature[8:]
        ed25519, invalid = _ed25519()
        try:
            ed25519.Ed25519PublicKey.from_public_bytes(self.public).verify(signature, message)
        except (invalid, ValueError):
            return False
        return True


@dataclass(frozen=True)
class SigningKey:
    """A private key under a name, `PRIVATE+KEY+name+id+base64(algorithm || seed)`; repr hides it."""

    name: str
    seed: bytes = field(repr=False)
    algorithm: int = ED25519

    @classmethod
    def generate(cls, name: str, algorithm: int = ED25519) -> SigningKey:
        """A new key from the operating system's randomness. Raises Malformed for an unusable name."""
        _check_name(name)
        return cls(name, os.urandom(32), algorithm)

    @classmethod
    def parse(cls, text: str) -> SigningKey:
        """Reads a private key. Raises Malformed, without repeating any part of it."""
        if not text.startswith(_PRIVATE_PREFIX):
            raise Malformed("The text is not a private note key.")
        name, key_id, data = _split_key(text.removeprefix(_PRIVATE_PREFIX))
        key = cls(name, data[1:], data[0])
        if key.algorithm not in _SIGNATURE_BYTES or key.verifier.key_id.hex() != key_id:
            raise Malformed("The private key's id does not belong to its name, kind and key.")
        return key

    def encoded(self) -> str:
        """The private key as text. Whoever reads it can sign: keep it with the signer alone."""
        data = _encode(bytes([self.algorithm]) + self.seed)
        return f"{_PRIVATE_PREFIX}{self.name}+{self.verifier.key_id.hex()}+{data}"

    @property
    def verifier(self) -> VerifierKey:
        """The public half."""
        ed25519, _ = _ed25519()
        private = ed25519.Ed25519PrivateKey.from_private_bytes(self.seed)
        return VerifierKey(self.name, private.public_key().public_bytes_raw(), self.algorithm)

    def sign(self, message: bytes) -> bytes:
        """The Ed25519 signature over `message`, 64 bytes."""
        ed25519, _ = _ed25519()
        signature: bytes = ed25519.Ed25519PrivateKey.from_private_bytes(self.seed).sign(message)
        return signature


@dataclass(frozen=True)
class Signature:
    """One signature line: who claims to have signed, and the bytes."""

    name: str
    key_id: bytes
    value: bytes


@dataclass(frozen=True)
class Note:
    """A parsed, not yet verified note. `text` ends in a newline."""

    text: str
    signatures: tuple[Signature, ...]

    def encoded(self) -> bytes:
        """The note's bytes."""
        return f"{self.text}\n{signature_lines(self.signatures)}".encode()


def sign_note(text: str, *signers: Signer) -> Note:
    """A note over `text` (which ends in a newline) signed by Ed25519 keys."""
    if not text.endswith("\n") or _has_control(text):
        raise Malformed("A note's text ends in a newline and holds no other control character.")
    keys = [signer.verifier for signer in signers]
    values = [signer.sign(text.encode()) for signer in signers]
    signatures = (Signature(k.name, k.key_id, value) for k, value in zip(keys, values, strict=True))
    return Note(text, tuple(signatures))


def signature_lines(signatures: Sequence[Signature]) -> str:
    """Signatures as a note ends in them, a line each."""
    return "".join(f"— {s.name} {_encode(s.key_id + s.value)}\n" for s in signatures)


def cosign_note(note: Note, witness: SigningKey, now: datetime) -> Note:
    """The note with a witness's timestamped signature added (key of kind COSIGNATURE).

    Raises:
        Malformed: the key is not a witness key, or it has signed this note already.
    """
    if witness.algorithm != COSIGNATURE:
        raise Malformed("A witness signs with a key of kind 0x04.")
    key, seconds = witness.verifier, int(now.timestamp())
    if any((s.name, s.key_id) == (key.name, key.key_id) for s in note.signatures):
        raise Malformed("The witness has signed this note already.")
    value = seconds.to_bytes(8, "big") + witness.sign(_cosigned(note.text.encode(), seconds))
    return Note(note.text, (*note.signatures, Signature(key.name, key.key_id, value)))


def parse_note(data: bytes | str) -> Note:
    """Reads a signed note.

    Raises:
        Malformed: too large, not UTF-8, control characters, no signature, a line of another form, or two
            signatures under one name and key id.
    """
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    if len(raw) > MAX_NOTE_BYTES:
        raise Malformed("The note is too large.")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise Malformed("The note is not UTF-8.") from None
    body, separator, tail = text.rpartition("\n\n")
    if _has_control(text) or not separator or not tail.endswith("\n"):
        raise Malformed("The note is not a text, an empty line and signature lines.")
    lines = tail.removesuffix("\n").split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise Malformed("The note has too many signatures.")
    signatures = tuple(_parse_signature(line) for line in lines)
    if len({(s.name, s.key_id) for s in signatures}) != len(signatures):
        raise Malformed("The note has two signatures by one key.")
    return Note(body + "\n", signatures)


def parse_signatures(text: str, lines: bytes) -> Note:
    """A note over `text` with the signature lines that somebody sent for it.

    Raises Malformed also where they would be read as a note over another text.
    """
    note = parse_note(text.encode() + b"\n" + lines)
    if note.text != text:
        raise Malformed("What was sent is not signature lines alone.")
    return note


def verify_note(note: Note, keys: Sequence[VerifierKey]) -> tuple[VerifierKey, ...]:
    """The trusted keys that signed the note; signatures by unknown keys are ignored, as the format asks.

    Raises:
        SignatureInvalid: a trusted key's signature does not verify, or no trusted key signed.
    """
    by_name = {(key.name, key.key_id): key for key in keys}
    signed = []
    for signature in note.signatures:
        key = by_name.get((signature.name, signature.key_id))
        if key is None:
            continue
        if not key.verify(note.text.encode(), signature.value):
            raise SignatureInvalid(f"The signature by {key.name} does not verify.")
        signed.append(key)
    if not signed:
        raise SignatureInvalid("No trusted key has signed.")
    return tuple(signed)


def as_verifier(key: str | VerifierKey) -> VerifierKey:
    """A verifier key given as itself or as its text. Raises Malformed."""
    return VerifierKey.parse(key) if isinstance(key, str) else key


def decode_base64(text: str) -> bytes:
    """Standard base64 in its one canonical spelling. Raises Malformed."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Malformed("A value is not base64.") from None
    if _encode(data) != text:
        raise Malformed("A value is not canonical base64.")
    return data


def _parse_signature(line: str) -> Signature:
    match = _SIGNATURE_LINE.fullmatch(line)
    if match is None:
        raise Malformed("A signature line does not have the form of the format.")
    _check_name(match[1])
    data = decode_base64(match[2])
    if len(data) < 5:
        raise Malformed("A signature is too short.")
    return Signature(match[1], data[:4], data[4:])


def _split_key(text: str) -> tuple[str, str, bytes]:
    name, key_id, data = [*text.split("+", 2), "", ""][:3]
    _check_name(name)
    key = decode_base64(data)
    if not re.fullmatch(r"[0-9a-f]{8}", key_id) or len(key) != 33:
        raise Malformed("A note key is name+id+base64 of a kind byte and 32 key bytes.")
    return name, key_id, key


def _check_name(name: str) -> None:
    if not name or "+" in name or len(name) > 255 or any(c.isspace() or not c.isprintable() for c in name):
        raise Malformed("A key name is not empty and has neither spaces nor plus signs.")


def _has_control(text: str) -> bool:
    return any(character < " " and character != "\n" for character in text)


def _key_id(name: str, algorithm: int, public: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + bytes([algorithm]) + public).digest()[:4]


def _cosigned(text: bytes, seconds: int) -> bytes:
    return b"cosignature/v1\ntime %d\n" % seconds + text


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _ed25519() -> tuple[ModuleType, type[Exception]]:
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise CryptographyMissing("Signatures need the cryptography package.") from None
    return ed25519, InvalidSignature
