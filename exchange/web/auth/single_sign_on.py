"""Signing in by an identity provider: OpenID Connect Core 1.0, the code flow with PKCE, state and nonce.

The provider's keys are read at each sign-in, and its configuration at most a minute before, from the issuer
that the settings name and from nowhere else. What it sends is believed only whole: signature, algorithm,
issuer, audience, time, nonce.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from authlib.oauth2.rfc6749.parameters import prepare_grant_uri
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from exchange import addresses
from exchange.errors import SingleSignOnRefused
from exchange.operations.signing_on import Identity
from exchange.persons import factors
from exchange.web.auth import outside
from exchange.web.auth.discovery import discovery
from exchange.web.auth.signing import object_of

if TYPE_CHECKING:
    from datetime import datetime

    from exchange.market import Market

_ALGORITHMS = ["ES256", "RS256", "PS256", "EdDSA", "Ed25519"]
_PURPOSE = "oidc"
_LEEWAY_S = 60
_LONGEST_SUBJECT = 255

_LOG = logging.getLogger("exchange.web")


@dataclass(frozen=True)
class Started:
    """A sign-in that has begun: where the browser goes, and what its cookie holds until it comes back."""

    address: str
    cookie: str


def configured(market: Market) -> bool:
    """Whether the settings name a provider."""
    return bool(market.settings.oidc_issuer and market.settings.oidc_client_id)


def start(market: Market, *, target: str) -> Started:
    """Begin a sign-in; ``target`` is what the callback is told again. Raises SingleSignOnRefused, Overloaded.

    The target travels in the cookie: a link to join is among them, and it is kept nowhere.
    """
    drawn, state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(4))
    cookie = f"{drawn}.{base64.urlsafe_b64encode(target.encode()).decode()}"
    provider, settings = _configuration(market), market.settings
    kept = json.dumps({"nonce": nonce, "verifier": verifier})
    market.store.jot(
        lambda session, now: factors.challenge_for(
            session, _PURPOSE, _holder(cookie), now, value=kept, id=state
        )
    )
    address = prepare_grant_uri(
        provider["authorization_endpoint"],
        client_id=settings.oidc_client_id,
        response_type="code",
        redirect_uri=_redirect_uri(market),
        scope="openid email profile",
        state=state,
        nonce=nonce,
        code_challenge=create_s256_code_challenge(verifier),
        code_challenge_method="S256",
    )
    return Started(str(address), cookie)


def finish(market: Market, cookie: str, given: dict[str, str]) -> tuple[Identity, str]:
    """End a sign-in with what the browser brought back; returns who it is, and the target of the start.

    Raises :class:`SingleSignOnRefused`, whatever is wrong: a state that is unknown, used or of another
    browser, and anything in the token that is not as it should be. Raises :class:`Overloaded` while too many
    wait for the provider.
    """
    taken = market.store.jot(
        lambda session, now: factors.take_challenge(session, _PURPOSE, _holder(cookie), now)
    )
    if taken is None or not secrets.compare_digest(taken.id.encode(), given.get("state", "").encode()):
        raise SingleSignOnRefused("the sign-in was not begun in this browser, or too long ago")
    issuer = market.settings.oidc_issuer
    if given.get("iss", issuer) != issuer or not given.get("code"):
        raise SingleSignOnRefused("the provider signed nobody in")
    kept: dict[str, str] = json.loads(taken.value)
    provider = _configuration(market)
    token = _token(market, provider, given["code"], kept["verifier"])
    with discovery().call():
        keys = _asked(market, provider["jwks_uri"])
    claims = _claims(token, keys)
    now = market.store.clock()
    target = base64.urlsafe_b64decode(cookie.partition(".")[2]).decode()  # ours: the state was found by it
    return _identity(market, claims, nonce=kept["nonce"], now=now), target


def _identity(market: Market, claims: dict[str, Any], *, nonce: str, now: datetime) -> Identity:
    """Who the claims name, once every one of them was checked (OpenID Connect Core 1.0, section 3.1.3.7)."""
    settings, at = market.settings, now.timestamp()
    issued, ends, subject = claims.get("iat"), claims.get("exp"), claims.get("sub")
    good = (
        claims.get("iss") == settings.oidc_issuer
        and claims.get("aud") in (settings.oidc_client_id, [settings.oidc_client_id])
        and claims.get("azp", settings.oidc_client_id) == settings.oidc_client_id
        and claims.get("nonce") == nonce
        and isinstance(ends, int | float)
        and at < ends
        and isinstance(issued, int | float)
        and issued <= at + _LEEWAY_S
        and isinstance(subject, str)
        and 0 < len(subject) <= _LONGEST_SUBJECT
        and claims.get("email_verified") is True
    )
    email, name = claims.get("email"), claims.get("name", "")
    if not good or not isinstance(email, str) or not isinstance(name, str):
        raise SingleSignOnRefused(
            "the provider's token is not for this sign-in, or its address is not verified"
        )
    shown = " ".join("".join(c if c.isprintable() else " " for c in name).split())[:120]
    return Identity(settings.oidc_issuer, str(subject), email, shown)


def _claims(token: str, keys: dict[str, Any]) -> dict[str, Any]:
    """What a token says that one of these keys signed; a token of another type is for another use."""
    try:
        read = jwt.decode(token, KeySet.import_key_set(keys), algorithms=_ALGORITHMS)  # type: ignore[arg-type]
        part = token.split(".")[1]
        claims = object_of(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (JoseError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise SingleSignOnRefused("the provider's token is not signed by its keys") from error
    if str(read.header.get("typ", "JWT")).upper() != "JWT" or "crit" in read.header:
        raise SingleSignOnRefused("the provider's token is not for signing in")
    return claims


def _token(market: Market, provider: dict[str, Any], code: str, verifier: str) -> str:
    """The token that the provider gives for a code; the client proves itself (RFC 6749, 2.3.1)."""
    settings = market.settings
    sent = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": _redirect_uri(market),
        "code_verifier": verifier,
    }
    secret = str.__str__(settings.oidc_client_secret)
    login = quote(settings.oidc_client_id, safe=""), quote(secret, safe="")
    with discovery().call():
        found = _asked(market, provider["token_endpoint"], form=sent, login=login).get("id_token")
    if not isinstance(found, str):
        raise SingleSignOnRefused("the provider gave no token for the code")
    return found


def _configuration(market: Market) -> dict[str, Any]:
    return discovery().configuration(market.settings.oidc_issuer, lambda: _discovered(market))


def _discovered(market: Market) -> dict[str, Any]:
    """The provider's configuration (OpenID Connect Discovery 1.0), of exactly the issuer that is set.

    Its places are the provider's choice: each is looked at when it is asked. The browser alone goes to the
    first one.
    """
    issuer = market.settings.oidc_issuer
    found = _asked(market, f"{issuer.rstrip('/')}/.well-known/openid-configuration")
    places = [found.get(name) for name in ("authorization_endpoint", "token_endpoint", "jwks_uri")]
    if found.get("issuer") != issuer or not all(isinstance(one, str) and _private(one) for one in places):
        raise SingleSignOnRefused("the identity provider is not set up as this exchange expects")
    return found


def _asked(market: Market, address: str, **more: Any) -> dict[str, Any]:
    try:
        return outside.ask(address, inside=market.settings.oidc_inside, **more)
    except outside.NotAsked as error:
        _LOG.warning("the identity provider was not asked: %s", error)
        raise SingleSignOnRefused("the identity provider does not answer") from error


def _private(address: str) -> bool:
    """Whether nobody on the way can read along: https, or this machine."""
    try:
        found = addresses.parse(address)
    except ValueError:
        return False
    return found.scheme == "https" or found.host in addresses.LOOPBACK


def _redirect_uri(market: Market) -> str:
    return f"{market.settings.base_url.rstrip('/')}/sign-in/back"


def _holder(cookie: str) -> str:
    return hashlib.sha256(f"sign-on:{cookie}".encode()).hexdigest()
