"""The four ways to a token, each set against Authlib's defaults (docs/decisions/0023-oauth-with-authlib.md).

Authlib reads requests and authenticates clients; what is used up and what is issued is decided in one
transaction of :mod:`exchange.operations.issuing`, so that of two requests with one code one is refused.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from authlib.oauth2.rfc6749 import (
    InvalidGrantError,
    InvalidRequestError,
    InvalidScopeError,
    grants,
)
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oauth2.rfc7636.challenge import compare_s256_code_challenge
from authlib.oauth2.rfc8628 import DeviceCodeGrant

from exchange import authorizations, credentials
from exchange.errors import ScopeInvalid
from exchange.identity import NOBODY
from exchange.operations import authorizing, issuing
from exchange.scopes import Scopes
from exchange.web.auth.place import caller, market
from exchange.web.auth.protocol import Credential

if TYPE_CHECKING:
    from sqlalchemy import Row

    from exchange.authorizations import Authorization
    from exchange.identity import Actor

PROVED = ["client_secret_basic", "client_secret_post"]
ANY = [*PROVED, "none"]
_POLLS_REMEMBERED = 10_000


class Alone(grants.ClientCredentialsGrant):  # type: ignore[misc]
    """A confidential client acts for its organisation (RFC 6749, section 4.4)."""

    TOKEN_ENDPOINT_AUTH_METHODS = PROVED

    def create_token_response(self) -> tuple[int, dict[str, Any], list[tuple[str, str]]]:
        """A token without a refresh token, under the client's standing authorization for the scope."""
        client = self.request.client.client
        try:
            scopes = authorizing.asked_scopes(client, self.request.payload.scope)
            self.request.user = issuing.standing(market(), caller(NOBODY), client, scopes)
        except ScopeInvalid:
            raise InvalidScopeError() from None
        token = self.generate_token(user=self.request.user, scope=str(scopes), include_refresh_token=False)
        return 200, token, self.TOKEN_RESPONSE_HEADER


class Coded(grants.AuthorizationCodeGrant):  # type: ignore[misc]
    """A person lets a client in through the browser (RFC 6749, section 4.1), always with PKCE."""

    TOKEN_ENDPOINT_AUTH_METHODS = ANY

    def generate_authorization_code(self) -> str:
        """A code for what the visitor has just allowed; it is kept as a digest, for sixty seconds."""
        visitor: Actor = self.request.user
        command = authorizing.GrantAccess(
            client=self.request.client.get_client_id(),
            scope=self.request.scope,
            redirect_uri=self.request.payload.redirect_uri,
            challenge=self.request.payload.data["code_challenge"],
        )
        return authorizing.grant_access(market(), visitor, command)

    def save_authorization_code(self, code: str, request: Any) -> None:
        """Nothing: it was kept together with the authorization."""

    def query_authorization_code(self, code: str, client: Any) -> Credential | None:
        """The code, if this client got it: one that was used is found too, so that its reuse is seen."""
        found = _credential(code, credentials.find_code)
        over = found is None or (found.is_expired() and found.row.used_at is None)
        return None if over or found is None or not found.check_client(client) else found

    def authenticate_user(self, authorization_code: Credential) -> Authorization | None:
        """The authorization that the code stands for."""
        return _authorization(authorization_code)

    def delete_authorization_code(self, authorization_code: Credential) -> None:
        """Nothing: it was used up when the tokens were issued."""


class ProofKey(CodeChallenge):  # type: ignore[misc]
    """PKCE with S256 for every client (RFC 7636; RFC 9700, section 2.1.1): Authlib's default is `plain`."""

    DEFAULT_CODE_CHALLENGE_METHOD = "S256"
    SUPPORTED_CODE_CHALLENGE_METHOD = ["S256"]  # noqa: RUF012 - as Authlib declares it
    CODE_CHALLENGE_METHODS = {"S256": compare_s256_code_challenge}  # noqa: RUF012

    def validate_code_challenge(self, grant: Any, redirect_uri: str) -> None:
        """Refuse a request without a challenge, or with another method than S256, named or not."""
        data = grant.request.payload.data
        if not data.get("code_challenge") or data.get("code_challenge_method") != "S256":
            raise InvalidRequestError("PKCE with code_challenge_method S256 is required.")
        super().validate_code_challenge(grant, redirect_uri)
        if len(data["code_challenge"]) != 43:
            raise InvalidRequestError("Invalid 'code_challenge'")

    def validate_code_verifier(self, grant: Any, result: Any) -> None:
        """Refuse a request without a verifier, also a confidential client's."""
        if not grant.request.form.get("code_verifier"):
            raise InvalidRequestError("Missing 'code_verifier'")
        super().validate_code_verifier(grant, result)


class Device(DeviceCodeGrant):  # type: ignore[misc]
    """A person confirms the code that a device shows (RFC 8628)."""

    TOKEN_ENDPOINT_AUTH_METHODS = ANY

    def query_device_credential(self, device_code: str) -> Credential:
        """The device that waits; one of another client does not exist."""
        found = _credential(device_code, credentials.find_device)
        if found is None or found.get_client_id() != self.request.payload.client_id:
            raise InvalidGrantError()
        return found

    def validate_device_credential(self, credential: Credential) -> Any:
        """The authorization, once there is one. Raises what the device is to do until then."""
        self._credential = credential
        return super().validate_device_credential(credential)

    def query_user_grant(self, user_code: str) -> tuple[Authorization | None, bool] | None:
        """What was decided; None while nothing is."""
        del user_code
        row = self._credential.row
        if row.decided_at is None:
            return None
        found = _authorization(self._credential) if row.authorization_id else None
        if row.authorization_id and found is None:
            raise InvalidGrantError()
        return found, found is not None

    def should_slow_down(self, credential: Credential) -> bool:
        """Whether the device asks more often than it was told to."""
        return _polls.too_soon(credential.sha256)


class Refreshed(grants.RefreshTokenGrant):  # type: ignore[misc]
    """A refresh token for fresh tokens: the old one is used up with it (RFC 9700, section 4.14.2)."""

    TOKEN_ENDPOINT_AUTH_METHODS = ANY
    INCLUDE_NEW_REFRESH_TOKEN = True

    def authenticate_refresh_token(self, refresh_token: str) -> Credential | None:
        """The refresh token, whatever its state: the reuse of one is seen when tokens are issued."""
        return _credential(refresh_token, credentials.find_refresh)

    def _validate_token_scope(self, token: Credential) -> None:
        """A scope may be narrower than the authorization's: Authlib compares words, and a rho is a number."""
        asked = self.request.payload.scope
        try:
            if asked and not Scopes.parse(asked).within(Scopes.parse(token.get_scope())):
                raise InvalidScopeError()
        except ScopeInvalid:
            raise InvalidScopeError() from None

    def authenticate_user(self, refresh_token: Credential) -> Authorization | None:
        """The authorization that the refresh token stands for."""
        found = _authorization(refresh_token)
        if found is None:
            raise InvalidGrantError()
        return found

    def revoke_old_credential(self, refresh_token: Credential) -> None:
        """Nothing: it was used up when the tokens were issued."""


class _Polls:
    """When each device asked last, in this process; an interval that is not kept grows by five seconds.

    Several web processes each count on their own: a device that is served by two may ask twice as often.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def too_soon(self, device: str) -> bool:
        now = time.monotonic()
        with self._lock:
            last, interval = self._seen.pop(device, (float("-inf"), credentials.POLL_S))
            early = now - last < interval
            self._seen[device] = (now, interval + credentials.POLL_S if early else interval)
            while len(self._seen) > _POLLS_REMEMBERED:
                self._seen.popitem(last=False)
        return early


_polls = _Polls()


def _credential(secret: str, find: Any) -> Credential | None:
    """What stands for a secret: its row, its client and its scope."""
    store = market().store

    def look(session: Any) -> Credential | None:
        row: Row[Any] | None = find(session, secret)
        if row is None:
            return None
        if row.authorization_id is None:
            client, scope = row.client, row.scope
        else:
            found = authorizations.find(session, row.authorization_id)
            client, scope = found.client, str(found.scopes)
        return Credential(row, secret, client=client, scope=scope, now=store.clock())

    return store.read(look)


def _authorization(credential: Credential) -> Authorization | None:
    """The authorization in force that a credential stands for, or None."""
    found = credential.authorization
    if issuing.acting(market(), found) is None:
        return None
    return market().store.read(lambda session: authorizations.find(session, found))
