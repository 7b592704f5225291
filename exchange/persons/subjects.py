"""What is personal is kept sealed under a key of whom it is about: without that key it is noise everywhere.

A subject is a person, an invitation to somebody who is none yet, or a token that somebody came in with. Its
key is a row of :mod:`exchange.data_keys`, wrapped under a master key as the keys of objects are, so that a
rotation takes it along; erasing a subject is deleting that row. What must be found without the key, a login
or an identity, is looked up by a keyed digest.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidTag
from sqlalchemy import delete, select

from exchange import data_keys, sealing
from exchange.audit import leaf
from exchange.data_keys import Sealed, data_key
from exchange.errors import MasterKeyWrong

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from sqlalchemy import Row
    from sqlalchemy.orm import Session

    from exchange.keyring import KeyRing

INFO = "subjects"
"""Where a session of the store carries the one :class:`Subjects` of its process (``Session.info``)."""


class Subjects:
    """Seals and opens what is of one subject. Safe for several threads; keeps no subject's key in memory."""

    def __init__(self, ring: KeyRing, secret: bytes) -> None:
        """``secret`` keys the digests by which logins and identities are found."""
        self._ring = ring
        self._secret = secret

    def digest(self, kind: str, text: str) -> str:
        """What is looked up in place of a text: HMAC-SHA-256, in hex."""
        return hmac.new(self._secret, f"{kind}:{text}".encode(), hashlib.sha256).hexdigest()

    def seal(self, session: Session, subject: str, table: str, **values: str) -> bytes:
        """Encrypt values of a row, under the key of its subject, which is made with the first of them."""
        row = _row(session, subject)
        if row is None:
            key = sealing.new_key()
            data_keys.record(session, self._ring, [Sealed(subject, key)])
        else:
            key = self._key(row)
        return sealing.seal(key, json.dumps(values, sort_keys=True).encode(), _bound(subject, table))

    def open(self, session: Session, subject: str, table: str, sealed: bytes) -> dict[str, str]:
        """The values of a row. Raises :class:`MasterKeyMissing`, and :class:`MasterKeyWrong` where the key of
        the subject is gone or the row was altered: whoever deletes a key deletes the rows with it.
        """
        row = _row(session, subject)
        if row is None:
            raise MasterKeyWrong(f"what is kept of {subject} has no key")
        return self.opened(row, table, sealed)

    def opened(self, row: Any, table: str, sealed: bytes) -> dict[str, str]:
        """The values of a row whose subject's key (``object``, ``master``, ``wrapped``) was read with it."""
        try:
            text = sealing.opened(self._key(row), sealed, _bound(row.object, table))
        except InvalidTag:
            raise MasterKeyWrong(f"what is kept of {row.object} is not what was sealed") from None
        return dict(json.loads(text))

    def salt(self, row: Any, entry_id: str) -> bytes:
        """The salt of an entry's commitment, derived from the subject's key: it goes when that goes."""
        about = f"exchange commitment\n{entry_id}".encode()
        return hmac.new(self._key(row), about, hashlib.sha256).digest()

    def _key(self, row: Any) -> bytes:
        return self._ring.unwrap(row.master, row.wrapped, row.object)


def of(session: Session) -> Subjects:
    """The process's subjects, which every session of the store carries."""
    found: Subjects = session.info[INFO]
    return found


def forget(session: Session, subjects: Collection[str]) -> None:
    """Delete the keys of subjects: what was sealed under them can be read no more, here or in a copy."""
    session.execute(delete(data_key).where(data_key.c.object.in_(list(subjects))))


def commitment(salt: bytes, identity: Mapping[str, str]) -> str:
    """What a leaf says of whom it is about: SHA-256 over the salt (32 bytes) and the RFC 8785 JSON of the
    identity, ``{"login":...,"person":...}``. Whoever is shown both can compute it again; without the salt,
    256 bits that look random, no guess can be tried.
    """
    return hashlib.sha256(salt + leaf.canonical(dict(identity))).hexdigest()


def _row(session: Session, subject: str) -> Row[Any] | None:
    return session.execute(select(data_key).where(data_key.c.object == subject)).one_or_none()


def _bound(subject: str, table: str) -> str:
    return f"exchange subject\n{subject}\n{table}"
