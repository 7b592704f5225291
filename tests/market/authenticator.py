"""An authenticator in software: a security key (WebAuthn, ES256, no attestation)."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from dataclasses import dataclass, field
from typing import Any

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

USER_PRESENT, USER_VERIFIED, ATTESTED = 0x01, 0x04, 0x40


def b64(data: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    """The bytes of a base64url text."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass
class SecurityKey:
    """One credential of a device. ``flags`` is what the device claims; by default it verified the user."""

    origin: str
    rp_id: str
    credential: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    count: int = 0
    flags: int = USER_PRESENT | USER_VERIFIED

    def register(self, options: dict[str, Any]) -> dict[str, Any]:
        """What a browser sends after ``navigator.credentials.create``."""
        authenticated = self._authenticator_data(self.flags | ATTESTED) + self._attested()
        statement = cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": authenticated})
        client = self._client_data("webauthn.create", options["challenge"])
        return self._reply({"clientDataJSON": b64(client), "attestationObject": b64(statement)})

    def sign(self, options: dict[str, Any]) -> dict[str, Any]:
        """What a browser sends after ``navigator.credentials.get``; each signature counts one more."""
        self.count += 1
        client = self._client_data("webauthn.get", options["challenge"])
        authenticated = self._authenticator_data(self.flags)
        signed = authenticated + hashlib.sha256(client).digest()
        signature = self.key.sign(signed, ec.ECDSA(hashes.SHA256()))
        told = {"clientDataJSON": client, "authenticatorData": authenticated, "signature": signature}
        return self._reply({name: b64(value) for name, value in told.items()})

    def _reply(self, response: dict[str, str]) -> dict[str, Any]:
        name = b64(self.credential)
        return {"id": name, "rawId": name, "type": "public-key", "response": response}

    def _client_data(self, kind: str, challenge: str) -> bytes:
        told = {"type": kind, "challenge": challenge, "origin": self.origin, "crossOrigin": False}
        return json.dumps(told).encode()

    def _authenticator_data(self, flags: int) -> bytes:
        place = hashlib.sha256(self.rp_id.encode()).digest()
        return place + bytes([flags]) + self.count.to_bytes(4, "big")

    def _attested(self) -> bytes:
        point = self.key.public_key().public_numbers()
        cose = {1: 2, 3: -7, -1: 1, -2: point.x.to_bytes(32, "big"), -3: point.y.to_bytes(32, "big")}
        head = bytes(16) + len(self.credential).to_bytes(2, "big") + self.credential
        return head + cbor2.dumps(cose)
