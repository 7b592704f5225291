"""Keys derived from the exchange's secret key, one for each purpose, and what is kept sealed under them."""

from __future__ import annotations

import hashlib
import hmac
import os

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE = 12


def derived(secret_key: str, purpose: str) -> bytes:
    """A key for one purpose: HMAC-SHA-256 under the secret key (the PRF of RFC 5869's expand step)."""
    return hmac.new(secret_key.encode(), purpose.encode(), hashlib.sha256).digest()


def seal(key: bytes, text: str, owner: str) -> bytes:
    """Encrypt a text for its owner (AES-256-GCM, a random nonce before it)."""
    nonce = os.urandom(_NONCE)
    return nonce + AESGCM(key).encrypt(nonce, text.encode(), owner.encode())


def opened(key: bytes, sealed: bytes, owner: str) -> str:
    """The text that was sealed. Raises ``cryptography.exceptions.InvalidTag`` for another key or owner."""
    return AESGCM(key).decrypt(sealed[:_NONCE], sealed[_NONCE:], owner.encode()).decode()
