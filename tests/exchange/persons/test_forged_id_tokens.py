"""Tokens of the identity provider that somebody made or changed: each signs nobody in and opens no API."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from joserfc import jws, jwt
from joserfc.jwk import ECKey, OctKey, RSAKey

from tests.exchange.oauth.program import Program
from tests.market.browser import Browser, invited, path_of
from tests.market.identity_provider import SECRET, Provider, named, provider
from tests.market.stand import Stand, problem

Claims = dict[str, Any]


@pytest.fixture(scope="module")
def idp(shared_sqlite_stand: Stand) -> Iterator[Provider]:
    """A provider by which somebody has joined already."""
    with provider() as made:
        named(shared_sqlite_stand, made.url)
        with closing(Browser(shared_sqlite_stand)) as browser:
            browser.http.follow_redirects = False
            link = path_of(invited(shared_sqlite_stand, "buyer", made.email))
            assert sign_on(browser, made, link).headers["Location"] == "/account"
        yield made


@pytest.fixture
def browser(shared_sqlite_stand: Stand) -> Iterator[Browser]:
    with closing(Browser(shared_sqlite_stand)) as made:
        made.http.follow_redirects = False
        yield made


def sign_on(browser: Browser, idp: Provider, target: str = "/account") -> httpx.Response:
    away = browser.http.get("/sign-in/with", params={"next": target})
    assert away.status_code == 302, away.text
    return browser.http.get("/sign-in/back", params=idp.authorize(away.headers["Location"]))


def encoded(part: Any) -> str:
    data = part if isinstance(part, bytes) else json.dumps(part, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Forge:
    """What somebody can make who has the provider's public key; and its own, for what it says in a token."""

    def __init__(self, idp: Provider) -> None:
        self.key, self.public = idp.key, idp.key.as_dict(private=False)
        self.own = ECKey.generate_key("P-256", {"kid": "k1"})

    def token(self, claims: Claims, key: Any = None, **head: Any) -> str:
        """Signed, by the provider's key unless it is said whose; members of the header that are None are left
        out.
        """
        told = {"alg": "ES256", "kid": "k1", **head}
        told = {name: value for name, value in told.items() if value is not None}
        return self.text(encoded(told), encoded(claims), key)

    def text(self, head: str, body: str, key: Any = None) -> str:
        private = (key or self.key).private_key
        assert isinstance(private, ec.EllipticCurvePrivateKey)
        signed = decode_dss_signature(private.sign(f"{head}.{body}".encode(), ec.ECDSA(hashes.SHA256())))
        return f"{head}.{body}.{encoded(b''.join(n.to_bytes(32, 'big') for n in signed))}"

    def hmac(self, claims: Claims, key: bytes) -> str:
        told = f"{encoded({'alg': 'HS256', 'kid': 'k1'})}.{encoded(claims)}"
        return f"{told}.{encoded(hmac.new(key, told.encode(), hashlib.sha256).digest())}"

    def unsigned(self, claims: Claims, alg: Any = "none", signature: str = "") -> str:
        return f"{encoded({'alg': alg, 'kid': 'k1'})}.{encoded(claims)}.{signature}"


def twice(claims: Claims) -> bytes:
    return json.dumps(claims).encode()[:-1] + b',"sub":"subject-1"}'


FORGERIES: dict[str, Callable[[Forge, Claims], Any]] = {
    "alg none": lambda f, c: f.unsigned(c),
    "alg None": lambda f, c: f.unsigned(c, "None"),
    "alg NONE": lambda f, c: f.unsigned(c, "NONE"),
    "alg none with a signature": lambda f, c: f.unsigned(c, "none", "A" * 86),
    "alg empty": lambda f, c: f.unsigned(c, ""),
    "alg a list": lambda f, c: f.token(c, alg=["ES256"]),
    "alg missing": lambda f, c: f.token(c, alg=None),
    "alg in lower case": lambda f, c: f.token(c, alg="es256"),
    "alg of another curve": lambda f, c: f.token(c, alg="ES384"),
    "alg RS256 with the curve": lambda f, c: f.token(c, alg="RS256"),
    "alg of another family": lambda f, c: f.token(c, alg="ES256K"),
    "HS256 with the public key": lambda f, c: f.hmac(c, f.key.as_pem(private=False)),
    "HS256 with the public key as DER": lambda f, c: f.hmac(c, f.key.as_der(private=False)),
    "HS256 with the JWK": lambda f, c: f.hmac(c, json.dumps(f.public).encode()),
    "HS256 with the client's secret": lambda f, c: f.hmac(c, SECRET.encode()),
    "HS256 with nothing": lambda f, c: f.hmac(c, b""),
    "another key under its kid": lambda f, c: f.token(c, f.own),
    "another key without kid": lambda f, c: f.token(c, f.own, kid=None),
    "jwk": lambda f, c: f.token(c, f.own, jwk=f.own.as_dict(private=False)),
    "jwk without kid": lambda f, c: f.token(c, f.own, jwk=f.own.as_dict(private=False), kid=None),
    "jku": lambda f, c: f.token(c, f.own, jku="https://evil.test/keys"),
    "x5u": lambda f, c: f.token(c, f.own, x5u="https://evil.test/cert.pem"),
    "x5c": lambda f, c: f.token(c, f.own, x5c=[base64.b64encode(b"cert").decode()]),
    "kid of a file": lambda f, c: f.token(c, kid="../../../../dev/null"),
    "kid with SQL": lambda f, c: f.token(c, kid="x' UNION SELECT 'k1' --"),
    "kid of an address": lambda f, c: f.token(c, kid="http://169.254.169.254/keys"),
    "kid a number": lambda f, c: f.token(c, kid=1),
    "kid a list": lambda f, c: f.token(c, kid=["k1"]),
    "crit": lambda f, c: f.token(c, crit=["exp"], exp=9999999999),
    "crit of b64": lambda f, c: f.token(c, crit=["b64"], b64=False),
    "typ of an access token": lambda f, c: f.token(c, typ="at+jwt"),
    "typ of a logout token": lambda f, c: f.token(c, typ="logout+jwt"),
    "typ a list": lambda f, c: f.token(c, typ=["JWT"]),
    "cty": lambda f, c: f.text(encoded({"alg": "ES256", "cty": "JWT"}), encoded(f.token(c).encode())),
    "claims twice": lambda f, c: f.text(encoded({"alg": "ES256", "kid": "k1"}), encoded(twice(c))),
    "claims a list": lambda f, c: f.token([c]),  # type: ignore[arg-type]
    "claims deep": lambda f, c: f.text(encoded({"alg": "ES256"}), encoded(b"[" * 50_000 + b"]" * 50_000)),
    "header deep": lambda f, c: f.text(encoded(b'{"a":' * 9000 + b"1" + b"}" * 9000), encoded(c)),
    "header a list": lambda f, c: f.text(encoded([]), encoded(c)),
    "header not UTF-8": lambda f, c: f.text(encoded(b"\xff"), encoded(c)),
    "exp true": lambda f, c: f.token({**c, "exp": True}),
    "exp infinite": lambda f, c: f.token({**c, "exp": float("inf")}),
    "exp NaN": lambda f, c: f.token({**c, "exp": float("nan")}),
    "exp huge": lambda f, c: f.token({**c, "exp": 10**400, "iat": "now"}),
    "iat missing": lambda f, c: f.token({name: c[name] for name in c if name != "iat"}),
    "iat NaN": lambda f, c: f.token({**c, "iat": float("nan")}),
    "aud another": lambda f, c: f.token({**c, "aud": "exchange"}),
    "aud twice the same": lambda f, c: f.token({**c, "aud": [c["aud"], c["aud"]]}),
    "aud an object": lambda f, c: f.token({**c, "aud": {c["aud"]: True}}),
    "iss in capitals": lambda f, c: f.token({**c, "iss": c["iss"].upper()}),
    "sub a number": lambda f, c: f.token({**c, "sub": 1}),
    "sub long": lambda f, c: f.token({**c, "sub": "s" * 256}),
    "email a list": lambda f, c: f.token({**c, "email": [c["email"]]}),
    "name an object": lambda f, c: f.token({**c, "name": {}}),
    "signature cut off": lambda f, c: f.token(c)[:-2],
    "signature empty": lambda f, c: f.token(c).rpartition(".")[0] + ".",
    "signature of zeros": lambda f, c: f.token(c).rpartition(".")[0] + "." + encoded(bytes(64)),
    "claims changed": lambda f, c: f.token(c).replace(encoded(c), encoded({**c, "sub": "subject-2"})),
    "two parts": lambda f, c: f.token(c).rpartition(".")[0],
    "five parts": lambda f, c: f.token(c) + "..",
    "one part": lambda f, c: "x",
    "dots": lambda f, c: "..",
    "nothing": lambda f, c: "",
    "no text": lambda f, c: None,
    "an object": lambda f, c: {"payload": encoded(c), "protected": encoded({"alg": "ES256"})},
    "JSON serialization": lambda f, c: json.dumps({"payload": encoded(c), "signature": "A" * 86}),
    "not ASCII": lambda f, c: f.token(c) + "é",
    "huge": lambda f, c: f.token({**c, "more": "x" * 300_000}),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_id_token_signs_nobody_in(browser: Browser, idp: Provider, name: str) -> None:
    forge = Forge(idp)
    idp.forged = lambda claims: FORGERIES[name](forge, claims)
    try:
        reply = sign_on(browser, idp)
    finally:
        idp.forged = None
    assert (reply.status_code, "Single sign on refused" in reply.text) == (401, True), reply.text
    assert browser.get("/account").status_code == 302


def test_the_forge_can_make_a_good_token(browser: Browser, idp: Provider) -> None:
    """Without this, refusing everything would pass for refusing forgeries."""
    forge, sent = Forge(idp), list[str]()
    for head in ({}, {"typ": "JWT"}, {"typ": "jwt"}, {"jku": "https://evil.test/keys"}):

        def good(claims: Claims, head: dict[str, Any] = head) -> str:
            sent.append(forge.token(claims, **head))
            return sent[-1]

        idp.forged = good
        assert sign_on(browser, idp).status_code == 302
        assert browser.get("/account").status_code == 200
        browser.post("/sign-out")
    idp.forged = None
    assert len(sent) == 4
    for token in sent:
        told = problem(browser.stand.get(token, "/v1/whoami"), 401, "token_unknown")
        assert told["detail"] == "the token is missing, unknown, expired or revoked"


def test_an_access_token_of_ours_is_no_id_token(browser: Browser, idp: Provider) -> None:
    """Not even where the provider publishes our keys as its own."""
    program = Program.of(browser.stand)
    token = program.alone()
    idp.forged, idp.published = lambda _: token, browser.stand.http.get("/oauth/jwks").json()
    try:
        assert sign_on(browser, idp).status_code == 401
    finally:
        idp.forged, idp.published = None, None


def keys_of(idp: Provider) -> dict[str, Any]:
    public = idp.key.as_dict(private=False)
    secret = OctKey.import_key(SECRET.encode(), {"kid": "k1"}).as_dict(private=True)
    return {
        "none": {"keys": []},
        "no list": {"keys": public},
        "no set": {"key": [public]},
        "text": {"keys": ["k1"]},
        "a secret": {"keys": [secret]},
        "another curve": {"keys": [ECKey.generate_key("P-384", {"kid": "k1"}).as_dict(private=False)]},
        "another kind": {"keys": [RSAKey.generate_key(2048, {"kid": "k1"}).as_dict(private=False)]},
        "no kind": {"keys": [{**public, "kty": "none"}]},
        "no point": {"keys": [{**public, "x": "AA"}]},
        "numbers": {"keys": [{**public, "x": 1, "y": 2}]},
    }


@pytest.mark.parametrize(
    "name",
    [
        *("none", "no list", "no set", "text", "a secret"),
        *("another curve", "another kind", "no kind", "no point", "numbers"),
    ],
)
def test_keys_that_are_none_sign_nobody_in(browser: Browser, idp: Provider, name: str) -> None:
    idp.published = keys_of(idp)[name]
    if name == "a secret":
        idp.forged = lambda claims: jwt.encode(
            {"alg": "HS256", "kid": "k1"}, claims, OctKey.import_key(SECRET.encode()), algorithms=["HS256"]
        )
    try:
        assert sign_on(browser, idp).status_code == 401
    finally:
        idp.published, idp.forged = None, None


def test_a_token_under_another_kid_is_not_tried_with_every_key(browser: Browser, idp: Provider) -> None:
    head = {"alg": "ES256", "kid": "k2"}
    idp.forged = lambda claims: jws.serialize_compact(head, json.dumps(claims), idp.key)
    try:
        assert sign_on(browser, idp).status_code == 401
    finally:
        idp.forged = None
