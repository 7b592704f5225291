"""What is kept encrypted: AES-256-GCM (NIST SP 800-38D), a nonce drawn at random before it.

It is bound to words about what it is of: another key, or what was sealed for something else, opens nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
_NONCE_BYTES = 12


def new_key() -> bytes:
    """A key of 256 random bits."""
    return secrets.token_bytes(KEY_BYTES)


def derived(secret_key: str, purpose: str) -> bytes:
    """A key for one purpose: HMAC-SHA-256 under the secret key (the PRF of RFC 5869's expand step)."""
    return hmac.new(secret_key.encode(), purpose.encode(), hashlib.sha256).digest()


def seal(key: bytes, content: bytes, about: str) -> bytes:
    """Encrypt bytes; they are opened with the same key and the same words about what they are of."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, content, about.encode())


def opened(key: bytes, sealed: bytes, about: str) -> bytes:
    """The bytes that were sealed. Raises ``cryptography.exceptions.InvalidTag`` where key, bytes or words are
    not those.
    """
    try:
        return AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], about.encode())
    except ValueError:  # too short for a nonce
        raise InvalidTag from None
