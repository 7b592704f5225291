"""Access tokens: JWTs signed with ES256 (RFC 9068), by keys of this exchange, in one spelling.

Everything that the format lets a sender choose is fixed here: the algorithm, the type, the three members of
the header, the ten claims, the bytes of the encoding. What differs is not looked at any further.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import re
import secrets
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from exchange import sharing
from exchange.errors import TokenUnknown

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ALGORITHM, TYPE = "ES256", "at+jwt"
LONGEST_S = 900
"""No token lives longer, whatever it says and whoever signed it."""
_LONGEST = 4096
_SHAPE = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]{86})", re.ASCII)
_FILE = re.compile(r"([0-9]{20}-[0-9a-f]{16})\.pem")
_CLAIMS = {
    "iss": str,
    "aud": str,
    "sub": str,
    "client_id": str,
    "authorization": str,
    "scope": str,
    "jti": str,
    "exp": int,
    "iat": int,
    "nbf": int,
}
_SETTLED_NS = 2_000_000_000
_LOG = logging.getLogger("exchange.tokens")


@dataclass(frozen=True)
class Issuer:
    """Whose tokens are good here: the exchange is both who issues them and whom they are for."""

    url: str

    def claims(self, **rest: Any) -> dict[str, Any]:
        """The claims of a token of ours."""
        return {"iss": self.url, "aud": self.url, **rest}


class SigningKeys:
    """The keys in a folder, one file each, named by the time of its making and its id; the newest one signs.

    A file that is taken away ends every token that its key has signed. The folder is read again when it
    changes: several processes share it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._keys: dict[str, ECKey] = {}
        self._unreadable: set[str] = set()
        self._changed: int | None = None
        self._lock = threading.Lock()

    def sign(self, claims: Mapping[str, Any]) -> str:
        """A token with these claims, signed with the newest key; the first one is made when it is needed."""
        keys = self.keys()
        if not keys:
            self.rotate()
            keys = self.keys()
        kid = max(keys)
        header = {"alg": ALGORITHM, "typ": TYPE, "kid": kid}
        body = json.dumps(dict(claims), separators=(",", ":")).encode()
        return jws.serialize_compact(header, body, keys[kid], algorithms=[ALGORITHM])

    def read(self, text: str, *, issuer: Issuer, now: datetime) -> dict[str, Any]:
        """The claims of a token of ours that is valid now. Raises :class:`TokenUnknown`, for every cause."""
        try:
            claims = self._verified(text)
            _check(claims, issuer, int(now.timestamp()))
        except (JoseError, ValueError, TypeError, OverflowError, RecursionError):
            raise TokenUnknown("the token is missing, unknown, expired or revoked") from None
        return claims

    def _verified(self, text: str) -> dict[str, Any]:
        shape = _SHAPE.fullmatch(text) if len(text) <= _LONGEST else None
        if shape is None:
            raise ValueError("no compact JWS with a signature of 64 bytes")
        header, body = (object_of(_decoded(part)) for part in shape.group(1, 2))
        _decoded(shape[3])
        if set(header) != {"alg", "typ", "kid"} or (header["alg"], header["typ"]) != (ALGORITHM, TYPE):
            raise ValueError("the header is not ours")
        key = self.keys().get(header["kid"]) if isinstance(header["kid"], str) else None
        if key is None:
            raise ValueError("the key is not ours")
        jws.deserialize_compact(text, key, algorithms=[ALGORITHM])
        return body

    def keys(self) -> dict[str, ECKey]:
        """The keys by their ids, oldest first; one that cannot be read is passed over, and the log names it.

        Raises OSError where none of them can be read: tokens are out there that nobody could tell from
        forged ones.
        """
        with self._lock:
            changed = self._folder.stat().st_mtime_ns if self._folder.is_dir() else -1
            if changed != self._changed:
                self._keys = self._load()
                # A folder that changed just now may change again without its time telling, and so may who
                # may read a file.
                settled = time.time_ns() - changed > _SETTLED_NS and not self._unreadable
                self._changed = changed if settled else None
            return self._keys

    def published(self) -> dict[str, Any]:
        """The public keys as a JWK set (RFC 7517)."""
        found = self.keys()
        return {
            "keys": [
                {**key.as_dict(private=False), "kid": kid, "use": "sig", "alg": ALGORITHM}
                for kid, key in found.items()
            ]
        }

    def rotate(self) -> str:
        """Make a new key, with which tokens are signed from now on; returns its id.

        It is for those whom the folder is for, whoever makes it: web processes have to read it.
        """
        kid = f"{datetime.now(UTC):%Y%m%d%H%M%S%f}-{secrets.token_hex(8)}"
        pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        sharing.make_folder(self._folder)
        draft = self._folder / f".{kid}"
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        sharing.share(draft, 0o640)
        draft.replace(self._folder / f"{kid}.pem")
        return kid

    def retire(self, kid: str) -> bool:
        """Take a key away, with every token that it signed; False where there is none of that id."""
        if not _FILE.fullmatch(f"{kid}.pem"):
            return False
        path = self._folder / f"{kid}.pem"
        found = path.is_file()
        path.unlink(missing_ok=True)
        return found

    def _load(self) -> dict[str, ECKey]:
        names = sorted(path.name for path in self._folder.iterdir()) if self._folder.is_dir() else []
        found = [match for name in names if (match := _FILE.fullmatch(name))]
        read = {one[1]: self._content(one[0]) for one in found}
        known = {kid: data for kid, data in read.items() if isinstance(data, bytes)}
        refused = {kid: data for kid, data in read.items() if isinstance(data, OSError)}
        if refused and not known:
            raise next(iter(refused.values()))
        for kid in sorted(refused.keys() - self._unreadable):
            _LOG.error("the signing key %s cannot be read: %s", kid, type(refused[kid]).__name__)
        self._unreadable = set(refused)
        return {kid: ECKey.import_key(data) for kid, data in known.items()}

    def _content(self, name: str) -> bytes | OSError | None:
        """A file's bytes, why they cannot be read, or None where it was taken away a moment ago."""
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            return error


def _decoded(part: str) -> bytes:
    """Base64url without padding, in its one spelling: bits that mean nothing are zero."""
    found = base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    if base64.urlsafe_b64encode(found).rstrip(b"=").decode() != part:
        raise ValueError("another spelling")
    return found


def object_of(data: bytes) -> dict[str, Any]:
    """A JSON object without a member that is given twice, and without NaN. Raises ValueError, TypeError."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in pairs}) != len(pairs):
            raise ValueError("a member is given twice")
        return dict(pairs)

    def never(_: str) -> None:
        raise ValueError("no number")

    found = json.loads(data.decode(), object_pairs_hook=once, parse_constant=never)
    if not isinstance(found, dict):
        raise TypeError("no object")
    return found


def _check(claims: Mapping[str, Any], issuer: Issuer, now: int) -> None:
    if set(claims) != set(_CLAIMS) or any(type(claims[name]) is not kind for name, kind in _CLAIMS.items()):
        raise ValueError("the claims are not ours")
    if (claims["iss"], claims["aud"]) != (issuer.url, issuer.url):
        raise ValueError("the token is for another exchange")
    if not claims["nbf"] <= now < claims["exp"] <= claims["iat"] + LONGEST_S or claims["iat"] > now:
        raise ValueError("the token is not valid now")
