"""The authorization server: Authlib's, with our clients, our tokens and our transactions."""

from __future__ import annotations

import json
import logging
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from authlib.common.urls import add_params_to_uri
from authlib.oauth2 import AuthorizationServer, OAuth2Error
from authlib.oauth2.rfc6749 import (
    InvalidClientError,
    InvalidGrantError,
    InvalidRequestError,
    InvalidScopeError,
    UnauthorizedClientError,
)
from authlib.oauth2.rfc6750 import BearerTokenGenerator
from authlib.oauth2.rfc7009 import RevocationEndpoint
from authlib.oauth2.rfc7662 import IntrospectionEndpoint
from authlib.oauth2.rfc8628 import DeviceAuthorizationEndpoint
from flask import Response, current_app, request

from exchange import authorizations, clients, credentials
from exchange.clients import CODE, CONFIDENTIAL, DEVICE, REFRESH
from exchange.errors import NotFound, RequestInvalid, TokenUnknown
from exchange.identity import NOBODY
from exchange.operations import authorizing, issuing
from exchange.scopes import Scopes
from exchange.web.auth import grants
from exchange.web.auth.bearer import Authenticate
from exchange.web.auth.place import caller, market
from exchange.web.auth.protocol import Asked, AskingClient, body_of, query_of
from exchange.web.limits import request_limits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from exchange.authorizations import Authorization
    from exchange.identity import Actor
    from exchange.market import Market
    from exchange.web.auth.protocol import Credential
    from exchange.web.auth.signing import Issuer, SigningKeys

    Reply = tuple[int, Any, list[tuple[str, str]]]

_USES = {
    CODE: credentials.use_code,
    DEVICE: credentials.use_device,
    REFRESH: credentials.use_refresh,
}
_CARRIED = (
    "response_type",
    "client_id",
    "redirect_uri",
    "scope",
    "state",
    "code_challenge",
    "code_challenge_method",
)
_WAITING = frozenset({"authorization_pending", "slow_down"})

# Authlib writes tokens into its debug log.
logging.getLogger("authlib").setLevel(logging.INFO)


class _Refused(Exception):
    """A refusal of the protocol, for the log: its code alone."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True)
class Consent:
    """What a person is asked: which program wants to do what, and where its answer goes."""

    client: str
    of_everybody: bool
    scopes: Scopes
    redirect_uri: str
    parameters: tuple[tuple[str, str], ...]


class Provider(AuthorizationServer):  # type: ignore[misc]
    """The four grants and the endpoints around them."""

    def __init__(self, opened: Market, keys: SigningKeys, issuer: Issuer) -> None:
        super().__init__()
        self.keys, self.issuer = keys, issuer
        self._seconds = opened.settings.access_token_s
        self.register_token_generator(
            "default", BearerTokenGenerator(self._access_token, None, self._seconds)
        )
        for grant in (grants.Alone, grants.Device, grants.Refreshed):
            self.register_grant(grant)
        self.register_grant(grants.Coded, [grants.ProofKey(required=True)])
        for endpoint in (_Revocation, _Introspection, _DeviceStart):
            self.register_endpoint(endpoint)

    # -- what the pages and endpoints call

    def token(self) -> Response:
        """The token endpoint (RFC 6749, section 3.2)."""
        return self._guarded(lambda: self.create_token_response(body_of(self.issuer.url, request)))

    def endpoint(self, name: str) -> Response:
        """The endpoint of that name: revocation, introspection, device_authorization."""
        return self._guarded(lambda: self.create_endpoint_response(name, body_of(self.issuer.url, request)))

    def consent(self, visitor: Actor) -> Consent | Response:
        """What a visitor is to decide on, or the answer that sends a wrong request back to its client.

        Raises RequestInvalid where there is no address of the client's to send it to.
        """
        found = self._validated(visitor)
        if isinstance(found, Response):
            return found
        asked = found.request
        return Consent(
            client=asked.client.client.name,
            of_everybody=asked.client.client.org is None,
            scopes=Scopes.parse(asked.scope),
            redirect_uri=asked.payload.redirect_uri,
            parameters=tuple((name, asked.payload.data[name]) for name in _CARRIED if name in asked.form),
        )

    def decided(self, visitor: Actor, *, approve: bool) -> Response:
        """Send the visitor back to the client, with a code or with the refusal. Raises RequestInvalid."""
        found = self._validated(visitor)
        if isinstance(found, Response):
            return found
        done: Response = self.create_authorization_response(
            found.request, visitor if approve else None, found
        )
        return self._named(done)

    def _validated(self, visitor: Actor) -> Any:
        """Authlib's grant for a request of the browser's, or the answer that sends it back."""
        try:
            asked = query_of(self.issuer.url, request)
            # Before Authlib looks at the rest: it sends wrong requests back to wherever the client is.
            known = self.query_client(asked.payload.client_id or "")
            if known is None or not authorizing.may_approve(visitor, known.client):
                raise InvalidClientError()
            grant = self.get_consent_grant(asked, visitor)
        except OAuth2Error as error:
            if error.redirect_uri:
                return self._named(self.handle_error_response(None, error))
        except ValueError:  # Authlib puts what was sent into its message, and refuses letters in it
            pass
        else:
            return grant
        raise RequestInvalid(
            "the program's request for access cannot be trusted",
            hint="Its client id, or the address to send you back to, is none that your organisation knows.",
        )

    # -- what Authlib asks for

    def authenticate_client(self, asked: Asked, methods: Any, endpoint: str = "token") -> AskingClient:
        """A client that proved itself, within its own limit on requests; a public one proves nothing."""
        found: AskingClient = super().authenticate_client(asked, methods, endpoint)
        if found.client.kind == CONFIDENTIAL:
            request_limits().of_caller.take(found.client.id)
        return found

    def query_client(self, client_id: str) -> AskingClient | None:
        """A client that is not revoked."""
        found = market().store.read(lambda session: clients.find(session, client_id))
        return AskingClient(found) if found is not None else None

    def save_token(self, token: dict[str, Any], asked: Asked) -> None:
        """Use the code or refresh token up, and add a fresh refresh token; who comes second gets nothing."""
        grant_type = asked.payload.grant_type
        credential: Credential = asked.authorization_code or asked.refresh_token or asked.credential
        actor = issuing.acting(market(), credential.authorization)
        if actor is None:
            raise InvalidGrantError()
        command = issuing.IssueAccess(grant_type, credential.authorization, credential.sha256)
        more = asked.client.check_grant_type(REFRESH)
        try:
            refresh = issuing.issue(market(), caller(actor), command, _USES[grant_type], refresh=more)
        except TokenUnknown:
            raise InvalidGrantError() from None
        if refresh is None:
            raise InvalidGrantError()
        if refresh:
            token["refresh_token"] = refresh

    def create_oauth2_request(self, asked: Asked) -> Asked:
        """The request, which is read already."""
        return asked

    def send_signal(self, name: str, *args: Any, **kwargs: Any) -> None:
        """Nobody listens: what happened is in the log."""

    def validate_requested_scope(self, scope: str | None) -> None:
        """Nothing: each client's own limit is compared instead, by meaning."""

    def handle_response(self, status: int, body: Any, headers: list[tuple[str, str]]) -> Response:
        """A reply that nobody stores."""
        text = json.dumps(body) if isinstance(body, dict) else body
        reply = Response(text, status=status, headers=headers)
        reply.headers["Cache-Control"] = "no-store"
        return reply

    def handle_error_response(self, asked: Asked | None, error: OAuth2Error) -> Response:
        """A refusal, logged; a client that is not known looks like one that cannot prove itself."""
        del asked
        if isinstance(error, InvalidClientError) and not error.redirect_uri:
            error = InvalidClientError(
                description="The client is unknown, or did not authenticate.", status_code=401
            )
        if error.error not in _WAITING:
            market().store.refuse(caller(NOBODY), Authenticate(), _Refused(str(error.error)))
        reply: Response = self.handle_response(*error())
        return reply

    def _guarded(self, call: Callable[[], Response]) -> Response:
        """The reply, where Authlib stumbles over what it was sent as well."""
        try:
            return call()
        except OAuth2Error as error:
            return self.handle_error_response(None, error)
        except (ValueError, LookupError, AttributeError, TypeError) as defect:
            current_app.logger.warning("Authlib stumbled: %s", type(defect).__name__)
            return self.handle_error_response(None, InvalidRequestError("The request cannot be read."))

    def _named(self, reply: Response) -> Response:
        """An answer to a client through the browser names who answers (RFC 9207)."""
        if reply.location:
            reply.location = add_params_to_uri(reply.location, [("iss", self.issuer.url)])
        return reply

    def _access_token(self, *, client: AskingClient, user: Authorization, scope: str, **_: Any) -> str:
        """An access token (RFC 9068): short, for this exchange alone, under one authorization."""
        now = int(market().store.clock().timestamp())
        claims = self.issuer.claims(
            sub=user.subject,
            client_id=client.get_client_id(),
            authorization=user.id,
            scope=scope,
            jti=secrets.token_hex(16),
            exp=now + self._seconds,
            iat=now,
            nbf=now,
        )
        return self.keys.sign(claims)


class _Known:
    """An access or refresh token that was presented: what it stands for, and whether it still does."""

    def __init__(self, authorization: Authorization, claims: Mapping[str, Any], *, live: bool) -> None:
        self.authorization, self.claims, self.live = authorization, claims, live

    def check_client(self, client: AskingClient) -> bool:
        return client.get_client_id() == self.authorization.client

    def is_expired(self) -> bool:
        return not self.live

    def is_revoked(self) -> bool:
        return not self.live


class _Revocation(RevocationEndpoint):  # type: ignore[misc]
    """RFC 7009: a refresh token ends its authorization, an access token itself."""

    CLIENT_AUTH_METHODS = grants.ANY

    def query_token(self, text: str, hint: str | None) -> _Known | None:
        del hint
        return _known(self.server, text)

    def revoke_token(self, token: _Known, asked: Asked) -> None:
        del asked
        actor = caller(issuing.acting(market(), token.authorization.id) or NOBODY)
        if token.claims:
            ends = market().store.clock() + timedelta(hours=1)
            issuing.revoke_access(
                market(),
                actor,
                token.authorization.id,
                jti=token.claims["jti"],
                expires_at=authorizations.stamp(ends),
            )
        else:
            issuing.revoke_family(market(), actor, token.authorization.id)


class _Introspection(IntrospectionEndpoint):  # type: ignore[misc]
    """RFC 7662: what a token may do now, for a confidential client of its organisation."""

    CLIENT_AUTH_METHODS = grants.PROVED

    def query_token(self, text: str, hint: str | None) -> _Known | None:
        del hint
        return _known(self.server, text)

    def check_permission(self, token: _Known, client: AskingClient, asked: Asked) -> bool:
        del asked
        return client.client.org == token.authorization.org

    def introspect_token(self, token: _Known) -> dict[str, Any]:
        found = token.authorization
        told = {"client_id": found.client, "sub": found.subject, "scope": str(found.scopes)}
        if not token.claims:
            return {**told, "iss": self.server.issuer.url}
        return {**told, **token.claims, "token_type": "Bearer"}


class _DeviceStart(DeviceAuthorizationEndpoint):  # type: ignore[misc]
    """RFC 8628, section 3.1: a device gets its codes, for ten minutes."""

    CLIENT_AUTH_METHODS = grants.ANY
    EXPIRES_IN = credentials.DEVICE_S
    INTERVAL = credentials.POLL_S

    def authenticate_client(self, asked: Asked) -> Any:
        client = super().authenticate_client(asked)
        if not client.check_grant_type(DEVICE):
            raise UnauthorizedClientError()
        if client.get_allowed_scope(asked.payload.scope) is None:
            raise InvalidScopeError()
        return client

    def get_verification_uri(self) -> str:
        return f"{self.server.issuer.url}/device"

    def save_device_credential(self, client_id: str, scope: str | None, data: Mapping[str, Any]) -> None:
        client = market().store.read(lambda session: clients.find(session, client_id))
        if client is None:
            raise InvalidClientError()
        authorizing.start_device(
            market(),
            caller(NOBODY),
            client,
            scope,
            device=data["device_code"],
            user_code=data["user_code"],
        )


def _known(server: Provider, text: str) -> _Known | None:
    """What a presented token stands for, or None for what never was one of ours."""
    store = market().store
    now = store.clock()

    def of_refresh(session: Any) -> _Known | None:
        row = credentials.find_refresh(session, text)
        if row is None:
            return None
        found = authorizations.find(session, row.authorization_id)
        live = row.used_at is None and row.expires_at > authorizations.stamp(now)
        return _Known(found, {}, live=live and _in_force(session, found.id))

    def of_access(session: Any) -> _Known:
        found = authorizations.find(session, claims["authorization"])
        try:
            authorizations.authenticate(session, claims, now)
        except TokenUnknown:
            return _Known(found, claims, live=False)
        return _Known(found, claims, live=True)

    def _in_force(session: Any, authorization: str) -> bool:
        try:
            authorizations.require_live(session, authorization, now)
        except TokenUnknown:
            return False
        return True

    try:
        claims = server.keys.read(text, issuer=server.issuer, now=now)
    except TokenUnknown:
        return store.read(of_refresh)
    try:
        return store.read(of_access)
    except NotFound:
        return None


def provider() -> Provider:
    """The authorization server of the running application."""
    found: Provider = current_app.extensions["provider"]
    return found
