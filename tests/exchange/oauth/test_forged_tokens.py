"""Access tokens that somebody made, changed or kept: each is refused like a token that is missing."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import os
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from sqlalchemy import text

from exchange.web.auth.signing import SigningKeys
from tests.exchange.oauth.program import REDIRECT, Program, claims, header
from tests.market.stand import Stand, problem

_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def compact(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


@dataclass
class Forge:
    """What an attacker has: a good token, the public key; and the exchange's own key, for claims alone."""

    good: str
    private: ec.EllipticCurvePrivateKey

    @property
    def header(self) -> dict[str, Any]:
        return header(self.good)

    @property
    def claims(self) -> dict[str, Any]:
        return claims(self.good)

    @property
    def parts(self) -> list[str]:
        return self.good.split(".")

    def signed(
        self,
        head: bytes,
        body: bytes,
        key: ec.EllipticCurvePrivateKey | None = None,
        digest: hashes.HashAlgorithm | None = None,
        size: int = 32,
    ) -> str:
        told = f"{encoded(head)}.{encoded(body)}"
        r, s = decode_dss_signature(
            (key or self.private).sign(told.encode(), ec.ECDSA(digest or hashes.SHA256()))
        )
        return f"{told}.{encoded(r.to_bytes(size, 'big') + s.to_bytes(size, 'big'))}"

    def with_header(self, **changed: Any) -> str:
        """Signed with the exchange's key, under another header."""
        head = {name: value for name, value in {**self.header, **changed}.items() if value is not None}
        return self.signed(compact(head), compact(self.claims))

    def with_claims(self, **changed: Any) -> str:
        """Signed with the exchange's key, with other claims."""
        body = {name: value for name, value in {**self.claims, **changed}.items() if value != "absent"}
        return self.signed(compact(self.header), compact(body))

    def with_signature(self, signature: str) -> str:
        return ".".join([*self.parts[:2], signature])

    def hmac(self, key: bytes, alg: str = "HS256") -> str:
        told = f"{encoded(compact({**self.header, 'alg': alg}))}.{self.parts[1]}"
        return f"{told}.{encoded(hmac.new(key, told.encode(), hashlib.sha256).digest())}"

    @property
    def public_pem(self) -> bytes:
        return self.private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    @property
    def public_point(self) -> bytes:
        return self.private.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )


def own_key(
    forge: Forge, curve: ec.EllipticCurve | None = None
) -> tuple[ec.EllipticCurvePrivateKey, dict[str, str]]:
    """An attacker's key, and its JWK."""
    del forge
    key = ec.generate_private_key(curve or ec.SECP256R1())
    numbers, size = key.public_key().public_numbers(), (key.key_size + 7) // 8
    x, y = (encoded(n.to_bytes(size, "big")) for n in (numbers.x, numbers.y))
    return key, {"kty": "EC", "crv": "P-256" if size == 32 else "P-384", "x": x, "y": y}


def foreign(forge: Forge, **head: Any) -> str:
    """Signed with the attacker's own key, which the header offers."""
    key, jwk = own_key(forge)
    told = {**forge.header, **{name: jwk if value == "JWK" else value for name, value in head.items()}}
    return forge.signed(compact(told), compact(forge.claims), key)


def es384(forge: Forge) -> str:
    key, _ = own_key(forge, ec.SECP384R1())
    head = compact({**forge.header, "alg": "ES384"})
    return forge.signed(head, compact(forge.claims), key, hashes.SHA384(), 48)


def nested(forge: Forge) -> str:
    return forge.signed(compact({**forge.header, "cty": "JWT"}), forge.good.encode())


def der(forge: Forge) -> str:
    told = ".".join(forge.parts[:2])
    return f"{told}.{encoded(forge.private.sign(told.encode(), ec.ECDSA(hashes.SHA256())))}"


def twice(body: bytes, member: str) -> bytes:
    """A JSON object whose first member is there again."""
    return body[:-1] + f",{member}}}".encode()


def numbers(forge: Forge, r: int, s: int) -> str:
    return forge.with_signature(encoded(r.to_bytes(32, "big") + s.to_bytes(32, "big")))


def other_tail(forge: Forge) -> str:
    """The same bytes of the signature, spelt with other unused bits."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = forge.parts[2][-1]
    return forge.good[:-1] + letters[letters.index(last) ^ 1]


FORGERIES: dict[str, Callable[[Forge], str]] = {
    # the algorithm
    "alg none": lambda f: f"{encoded(compact({**f.header, 'alg': 'none'}))}.{f.parts[1]}.",
    "alg None with a signature": lambda f: f.with_header(alg="None"),
    "alg NONE": lambda f: f.with_header(alg="NONE"),
    "alg empty": lambda f: f.with_header(alg=""),
    "alg missing": lambda f: f.with_header(alg=None),
    "alg a list": lambda f: f.with_header(alg=["ES256"]),
    "alg in lower case": lambda f: f.with_header(alg="es256"),
    "alg HS256 with the public key": lambda f: f.hmac(f.public_pem),
    "alg HS256 with the public point": lambda f: f.hmac(f.public_point),
    "alg HS256 with the empty key": lambda f: f.hmac(b""),
    "alg HS256 padded to 64 bytes": lambda f: f.hmac(f.public_pem) + "A" * 43,
    "alg ES384": es384,
    "alg ES256K": lambda f: f.with_header(alg="ES256K"),
    "alg RS256": lambda f: f.with_header(alg="RS256"),
    # the key
    "kid missing": lambda f: f.with_header(kid=None),
    "kid unknown": lambda f: f.with_header(kid="20260101000000-0123456789abcdef"),
    "kid empty": lambda f: f.with_header(kid=""),
    "kid of a file": lambda f: f.with_header(kid="../../../../dev/null"),
    "kid of the secrets": lambda f: f.with_header(kid="../keys.env"),
    "kid of an address": lambda f: f.with_header(kid="https://evil.test/jwks"),
    "kid with SQL": lambda f: f.with_header(kid="x' UNION SELECT 'a' --"),
    "kid with a command": lambda f: f.with_header(kid="|id"),
    "kid a number": lambda f: f.with_header(kid=0),
    "kid a list": lambda f: f.with_header(kid=[f.header["kid"]]),
    "kid an object": lambda f: f.with_header(kid={"a": 1}),
    "kid with a NUL": lambda f: f.with_header(kid=f.header["kid"] + "\x00"),
    "another's key under our kid": foreign,
    "jwk": lambda f: foreign(f, jwk="JWK"),
    "jwk without kid": lambda f: foreign(f, jwk="JWK", kid=None),
    "jku": lambda f: foreign(f, jku="https://evil.test/jwks"),
    "x5u": lambda f: foreign(f, x5u="https://evil.test/cert.pem"),
    "x5c": lambda f: foreign(f, x5c=[base64.b64encode(b"cert").decode()]),
    "jku beside our signature": lambda f: f.with_header(jku="http://127.0.0.1:8000/oauth/jwks"),
    # the header
    "typ JWT": lambda f: f.with_header(typ="JWT"),
    "typ of an id token": lambda f: f.with_header(typ="id_token"),
    "typ missing": lambda f: f.with_header(typ=None),
    "typ spelt long": lambda f: f.with_header(typ="application/at+jwt"),
    "typ of a logout token": lambda f: f.with_header(typ="logout+jwt"),
    "crit unknown": lambda f: f.with_header(crit=["exp"], exp=9999999999),
    "crit empty": lambda f: f.with_header(crit=[]),
    "b64 false": lambda f: f.with_header(b64=False, crit=["b64"]),
    "zip": lambda f: f.with_header(zip="DEF"),
    "cty": lambda f: f.with_header(cty="JWT"),
    "nested": nested,
    "header twice": lambda f: f.signed(twice(compact(f.header), '"alg":"ES256"'), compact(f.claims)),
    "header a list": lambda f: f.signed(b"[]", compact(f.claims)),
    "header no JSON": lambda f: f.signed(b"{", compact(f.claims)),
    "header not UTF-8": lambda f: f.signed(b"\xff\xfe", compact(f.claims)),
    "header deep": lambda f: f.signed(b"[" * 1000 + b"]" * 1000, compact(f.claims)),
    # the claims, under our own signature
    "expired": lambda f: f.with_claims(exp=f.claims["iat"] - 1),
    "expires now": lambda f: f.with_claims(exp=f.claims["iat"]),
    "exp missing": lambda f: f.with_claims(exp="absent"),
    "exp text": lambda f: f.with_claims(exp=str(f.claims["exp"])),
    "exp a fraction": lambda f: f.with_claims(exp=f.claims["exp"] + 0.5),
    "exp null": lambda f: f.with_claims(exp=None),
    "exp in an hour": lambda f: f.with_claims(exp=f.claims["iat"] + 3600),
    "exp true": lambda f: f.with_claims(exp=True),
    "exp infinite": lambda f: f.signed(
        compact(f.header), compact(f.claims).replace(str(f.claims["exp"]).encode(), b"Infinity", 1)
    ),
    "exp NaN": lambda f: f.with_claims(exp=float("nan")),
    "nbf in the future": lambda f: f.with_claims(nbf=f.claims["iat"] + 300),
    "nbf missing": lambda f: f.with_claims(nbf="absent"),
    "iat in the future": lambda f: f.with_claims(iat=f.claims["iat"] + 300),
    "iss another": lambda f: f.with_claims(iss="http://127.0.0.1:8001"),
    "iss with a slash": lambda f: f.with_claims(iss=f.claims["iss"] + "/"),
    "iss missing": lambda f: f.with_claims(iss="absent"),
    "aud another": lambda f: f.with_claims(aud="https://other.test"),
    "aud several": lambda f: f.with_claims(aud=[f.claims["aud"], "https://other.test"]),
    "aud missing": lambda f: f.with_claims(aud="absent"),
    "sub another": lambda f: f.with_claims(sub="tok_" + "0" * 24),
    "sub missing": lambda f: f.with_claims(sub="absent"),
    "client another": lambda f: f.with_claims(client_id="exchange-cli"),
    "client missing": lambda f: f.with_claims(client_id="absent"),
    "authorization unknown": lambda f: f.with_claims(authorization="aut_" + "0" * 24),
    "authorization missing": lambda f: f.with_claims(authorization="absent"),
    "jti missing": lambda f: f.with_claims(jti="absent"),
    "scope wider": lambda f: f.with_claims(scope="account"),
    "scope missing": lambda f: f.with_claims(scope="absent"),
    "scope unreadable": lambda f: f.with_claims(scope="everything"),
    "a claim more": lambda f: f.with_claims(admin=True),
    "claims twice": lambda f: f.signed(compact(f.header), twice(compact(f.claims), '"exp":9999999999')),
    "claims a list": lambda f: f.signed(compact(f.header), b"[]"),
    "claims deep": lambda f: f.signed(compact(f.header), b"[" * 1400 + b"]" * 1400),
    "claims with a huge number": lambda f: f.with_claims(exp=10**400),
    # the signature and the encoding
    "unsigned": lambda f: f.with_signature(""),
    "two parts": lambda f: ".".join(f.parts[:2]),
    "four parts": lambda f: f.good + "." + f.parts[2],
    "five parts": lambda f: f.good + "..",
    "signature truncated": lambda f: f.good[:-1],
    "signature of another token": lambda f: f.with_signature(f.with_claims(jti="x").split(".")[2]),
    "claims changed": lambda f: ".".join([f.parts[0], encoded(compact({**f.claims, "x": 1})), f.parts[2]]),
    "signature padded": lambda f: f.good + "==",
    "signature with another tail": other_tail,
    "signature in DER": der,
    "signature of zeros": lambda f: numbers(f, 0, 0),
    "r zero": lambda f: numbers(f, 0, int.from_bytes(decoded(f.parts[2])[32:], "big")),
    "s zero": lambda f: numbers(f, int.from_bytes(decoded(f.parts[2])[:32], "big"), 0),
    "r and s the order": lambda f: numbers(f, _P256_ORDER, _P256_ORDER),
    "signature with 65 bytes": lambda f: f.with_signature(encoded(b"\x00" + decoded(f.parts[2]))),
    "signature in base64": lambda f: f.with_signature("+/" + f.parts[2][2:]),
    "whitespace inside": lambda f: f.good.replace(".", ". ", 1),
    "a tab inside": lambda f: f.good.replace(".", "\t.", 1),
    "letters after it": lambda f: f.good + "x",
    "huge": lambda f: f.with_claims(jti="x" * 5000),
    "huge without a signature": lambda f: f"{'A' * 60000}.{'A' * 60000}.{'A' * 86}",
    "dots alone": lambda f: "..",
    "JSON serialization": lambda f: json.dumps(
        dict(zip(("protected", "payload", "signature"), f.parts, strict=True))
    ),
}


@pytest.fixture(scope="module")
def forge(shared_sqlite_stand: Stand) -> Forge:
    good = Program.of(shared_sqlite_stand, scope="ask").alone()
    path = shared_sqlite_stand.settings.oauth_path / f"{header(good)['kid']}.pem"
    private = serialization.load_pem_private_key(path.read_bytes(), None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    return Forge(good, private)


def assert_nothing_opens(stand: Stand, token: str) -> None:
    """Every refusal reads alike, and is logged without a part of the token."""
    before = len(stand.entries())
    reply = stand.get(token, "/v1/whoami")
    told = problem(reply, 401, "token_unknown")
    assert told["detail"] == "the token is missing, unknown, expired or revoked"
    assert set(told) == {"type", "title", "status", "detail", "code", "hint", "request_id"}
    assert reply.headers["WWW-Authenticate"] == 'Bearer realm="exchange"'
    fresh = [entry.document for entry in stand.entries()[before:]]
    assert [(entry["kind"], entry["code"]) for entry in fresh] == [("token.refused", "token_unknown")]
    assert token[-20:] not in json.dumps(fresh) or len(token) < 20


def test_the_forge_can_make_a_good_token(shared_sqlite_stand: Stand, forge: Forge) -> None:
    """Without this, refusing everything would pass for refusing forgeries."""
    assert len(FORGERIES) >= 40
    assert shared_sqlite_stand.get(forge.good, "/v1/whoami").status_code == 200
    assert shared_sqlite_stand.get(forge.with_claims(jti="fresh"), "/v1/whoami").status_code == 200
    assert shared_sqlite_stand.get(forge.with_header(), "/v1/whoami").status_code == 200


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_token_opens_nothing(shared_sqlite_stand: Stand, forge: Forge, name: str) -> None:
    assert_nothing_opens(shared_sqlite_stand, FORGERIES[name](forge))


def revoked(stand: Stand, program: Program, token: str) -> None:
    assert program.send("/oauth/revoke", token=token).status_code == 200


def client_revoked(stand: Stand, program: Program, token: str) -> None:
    assert stand.call("buyer", "DELETE", f"/v1/clients/{program.client_id}").status_code == 200


def authorization_revoked(stand: Stand, program: Program, token: str) -> None:
    found = claims(token)["authorization"]
    assert stand.call("buyer", "DELETE", f"/v1/authorizations/{found}").status_code == 200


def key_retired(stand: Stand, program: Program, token: str) -> None:
    assert SigningKeys(stand.settings.oauth_path).retire(header(token)["kid"])


def organisation_gone(stand: Stand, program: Program, token: str) -> None:
    if stand.market.store.engine.dialect.name == "sqlite":
        with contextlib.closing(sqlite3.connect(stand.settings.home / "exchange.db")) as connection:
            connection.execute("DELETE FROM organisation WHERE id = ?", [stand.orgs["buyer"]])
            connection.commit()
        return
    with stand.market.store.engine.begin() as session:
        session.execute(text("SET LOCAL session_replication_role = replica"))
        session.execute(text("DELETE FROM organisation WHERE id = :id"), {"id": stand.orgs["buyer"]})


def organisation_demoted(stand: Stand, program: Program, token: str) -> None:
    with stand.market.store.engine.begin() as connection:
        connection.execute(
            text("UPDATE organisation SET role = 'provider' WHERE id = :id"), {"id": stand.orgs["buyer"]}
        )


def time_over(stand: Stand, program: Program, token: str) -> None:
    stand.clock.advance(seconds=600)


ENDINGS = [
    revoked,
    client_revoked,
    authorization_revoked,
    key_retired,
    organisation_gone,
    organisation_demoted,
    time_over,
]


@pytest.mark.parametrize("ending", ENDINGS, ids=lambda ending: str(ending.__name__))
def test_a_token_that_was_good_opens_nothing_afterwards(
    stand: Stand, ending: Callable[[Stand, Program, str], None]
) -> None:
    program = Program.of(stand)
    token = program.alone()
    assert stand.get(token, "/v1/whoami").status_code == 200
    ending(stand, program, token)
    assert_nothing_opens(stand, token)


def test_a_persons_programs_end_with_the_token_that_let_them_in(stand: Stand) -> None:
    program = Program.of(stand, kind="public", redirect_uris=[REDIRECT])
    given = program.redeem(program.code(stand.sign_in("buyer"))).json()
    assert stand.get(given["access_token"], "/v1/whoami").status_code == 200
    with stand.market.store.engine.begin() as connection:
        ended = text("UPDATE token SET revoked_at = '2026' WHERE org = :org")
        connection.execute(ended, {"org": stand.orgs["buyer"]})
    assert_nothing_opens(stand, given["access_token"])
    assert program.token("refresh_token", refresh_token=given["refresh_token"]).status_code == 400


def test_a_token_of_one_exchange_opens_no_other(sqlite_stand: Stand, tmp_path: Path) -> None:
    """Not with the same name and other keys, nor with the same keys and another name."""
    token = Program.of(sqlite_stand).alone()
    keys = SigningKeys(tmp_path / "oauth")
    kid = keys.rotate()
    elsewhere = keys.sign(claims(token))
    assert header(elsewhere)["kid"] == kid
    assert_nothing_opens(sqlite_stand, elsewhere)
    provider = sqlite_stand.app.extensions["provider"]
    ours = provider.keys.sign({**claims(token), "iss": "https://b.test", "aud": "https://b.test"})
    assert_nothing_opens(sqlite_stand, ours)


def test_keys_rotate_without_ending_what_they_signed(sqlite_stand: Stand) -> None:
    stand, program = sqlite_stand, Program.of(sqlite_stand)
    before = program.alone()
    kid = SigningKeys(stand.settings.oauth_path).rotate()  # as another process does
    after = program.alone()
    assert header(after)["kid"] == kid != header(before)["kid"]
    assert {stand.get(token, "/v1/whoami").status_code for token in (before, after)} == {200}
    published = stand.http.get("/oauth/jwks").json()["keys"]
    assert {one["kid"] for one in published} == {kid, header(before)["kid"]}
    assert all("d" not in one and (one["alg"], one["use"]) == ("ES256", "sig") for one in published)
    modes = {path.stat().st_mode & 0o777 for path in stand.settings.oauth_path.iterdir()}
    assert modes == {0o600}


def test_a_key_is_for_those_whose_folder_it_is_whoever_makes_it(tmp_path: Path) -> None:
    """The superuser rotates, and web processes of another user read."""
    folder = tmp_path / "home" / "oauth"
    folder.mkdir(parents=True)
    if os.geteuid() == 0:
        os.chown(folder, 4321, 4322)
    wanted = folder.stat()
    for mode, expected in ((0o700, 0o600), (0o770, 0o640)):
        folder.chmod(mode)
        made = (folder / f"{SigningKeys(folder).rotate()}.pem").stat()
        assert (made.st_uid, made.st_gid) == (wanted.st_uid, wanted.st_gid)
        assert made.st_mode & 0o777 == expected


def test_a_key_that_cannot_be_read_ends_no_other(
    sqlite_stand: Stand, caplog: pytest.LogCaptureFixture
) -> None:
    """The log names it once. Without any key that can be read, nothing is taken for a forgery."""
    stand, folder = sqlite_stand, sqlite_stand.settings.oauth_path
    before = Program.of(stand).alone()
    unreadable = folder / f"{'9' * 20}-{'0' * 16}.pem"
    unreadable.mkdir()
    after = Program.of(stand).alone()
    assert header(after)["kid"] == header(before)["kid"]
    assert {stand.get(token, "/v1/whoami").status_code for token in (before, after)} == {200}
    told = [one.getMessage() for one in caplog.records if one.name == "exchange.tokens"]
    assert told == [f"the signing key {unreadable.stem} cannot be read: IsADirectoryError"]
    assert SigningKeys(folder).retire(header(before)["kid"])
    with pytest.raises(IsADirectoryError):
        SigningKeys(folder).keys()
