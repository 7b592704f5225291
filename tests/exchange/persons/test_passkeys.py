"""Hostile replies of browsers: whatever is in them, a passkey is registered or refused."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

import cbor2
import pytest

from exchange.errors import SecondFactorRefused
from exchange.persons.passkeys import Site, asserted, registered
from tests.market.authenticator import SecurityKey, b64, unb64

CHALLENGE = b"c" * 32
SITE = Site.of("http://market.test")
FORMATS = ("none", "packed", "tpm", "android-key", "android-safetynet", "apple", "fido-u2f", "x", 3, None)
FIELDS = ("sig", "alg", "x5c", "ver", "certInfo", "pubArea", "response")
#: Lists where the library expects objects, and a key that names a curve and has no point.
TOKENS = [
    ".".join(b64(part) for part in parts).encode() for parts in ((b"[]", b"[]", b"s"), (b"{}", b"{}", b"s"))
]
KEYS: list[Any] = [
    {},
    [],
    {1: 2},
    {1: 2, 3: -7},
    {1: 3, 3: -257, -1: b"", -2: b""},
    {1: 1, 3: -8, -1: 6, -2: b"z"},
]


class Forger:
    """Registrations that begin as good ones; one seed makes the same again."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.key = SecurityKey(SITE.origin, SITE.rp_id, credential=b"k" * 32)
        self.good = self.key.register({"challenge": b64(CHALLENGE)})

    def reply(self) -> dict[str, Any]:
        """The next one."""
        statement = cbor2.loads(unb64(self.good["response"]["attestationObject"]))
        faults: list[Callable[[dict[str, Any]], bytes]] = [self.changed, self.stated, self.described]
        made = copy.deepcopy(self.good)
        made["response"]["attestationObject"] = b64(self.random.choice(faults)(statement))
        if self.random.random() < 0.1:
            made[self.random.choice(list(made))] = self.junk()
        return made

    def changed(self, statement: dict[str, Any]) -> bytes:
        """Some bytes are others, or the rest is missing."""
        raw = bytearray(cbor2.dumps(statement))
        for _ in range(self.random.randrange(1, 6)):
            raw[self.random.randrange(len(raw))] = self.random.randrange(256)
        return bytes(raw[: self.random.randrange(1, 2 * len(raw))])

    def stated(self, statement: dict[str, Any]) -> bytes:
        """An attestation of any format, with anything in its fields."""
        fields = self.random.sample(FIELDS, self.random.randrange(1, len(FIELDS)))
        told = {name: self.junk() for name in fields}
        if self.random.random() < 0.5:
            told |= {"ver": "2.0", "response": self.random.choice(TOKENS)}
        return cbor2.dumps({**statement, "fmt": self.random.choice(FORMATS), "attStmt": told})

    def described(self, statement: dict[str, Any]) -> bytes:
        """Another public key, or none."""
        head = statement["authData"][: 37 + 16 + 2 + len(self.key.credential)]
        return cbor2.dumps({**statement, "authData": head + cbor2.dumps(self.random.choice(KEYS))})

    def junk(self) -> Any:
        """Something that does not belong there."""
        return self.random.choice([None, 1, -7, "x", b"", self.random.randbytes(70), [], {}, [b"x"], [None]])


@pytest.mark.parametrize("seed", range(4))
def test_a_hostile_registration_is_refused_or_registers_a_key(seed: int) -> None:
    forger, refused = Forger(seed), 0
    assert registered(SITE, forger.good, CHALLENGE).credential == b64(b"k" * 32)
    for _ in range(150):
        try:
            assert registered(SITE, forger.reply(), CHALLENGE).public_key
        except SecondFactorRefused:
            refused += 1
    assert refused > 100


@pytest.mark.parametrize("stored", KEYS, ids=str)
def test_a_signature_by_a_key_that_is_none_is_refused(stored: object) -> None:
    key = SecurityKey(SITE.origin, SITE.rp_id)
    reply = key.sign({"challenge": b64(CHALLENGE)})
    with pytest.raises(SecondFactorRefused):
        asserted(SITE, reply, CHALLENGE, public_key=cbor2.dumps(stored), sign_count=0)
