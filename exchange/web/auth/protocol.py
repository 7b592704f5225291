"""What Authlib is told of our clients, codes and tokens, and how a request is read for it.

Authlib takes parameters from wherever they are, and one of several. Here a request to a token endpoint has
them in its body, each once, and one way of authentication.
"""

from __future__ import annotations

import base64
import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from authlib.oauth2 import OAuth2Request
from authlib.oauth2.rfc6749 import ClientMixin, InvalidClientError, InvalidRequestError, OAuth2Payload
from authlib.oauth2.rfc8628 import DeviceCredentialMixin

from exchange.authorizations import stamp
from exchange.clients import CONFIDENTIAL
from exchange.credentials import digest
from exchange.errors import ScopeInvalid
from exchange.operations import authorizing

if TYPE_CHECKING:
    from datetime import datetime

    from flask import Request
    from sqlalchemy import Row
    from werkzeug.datastructures import MultiDict

    from exchange.clients import Client

_BASIC = re.compile(r"Basic +([A-Za-z0-9+/]{1,400}={0,2})", re.ASCII | re.IGNORECASE)
_LOGIN = re.compile(rb"[\x21-\x39\x3b-\x7e]+:[\x21-\x7e]+")
_LONGEST = 4000
_FORM = "application/x-www-form-urlencoded"


class Payload(OAuth2Payload):  # type: ignore[misc]
    """The parameters of a request, each given once."""

    def __init__(self, values: MultiDict[str, str]) -> None:
        self._values = values

    @property
    def data(self) -> MultiDict[str, str]:
        """The parameters."""
        return self._values

    @property
    def datalist(self) -> defaultdict[str, list[str]]:
        """The parameters as lists."""
        return defaultdict(list, {name: self._values.getlist(name) for name in self._values})


class Asked(OAuth2Request):  # type: ignore[misc]
    """A request as Authlib reads it: at our public address, whatever a proxy made of it."""

    def __init__(self, url: str, request: Request, values: MultiDict[str, str]) -> None:
        super().__init__(request.method, url + request.path, headers=dict(request.headers))
        self.payload = Payload(values)

    @property
    def args(self) -> MultiDict[str, str]:
        """The parameters, wherever the endpoint takes them from."""
        return self.payload.data

    @property
    def form(self) -> MultiDict[str, str]:
        """The parameters, wherever the endpoint takes them from."""
        return self.payload.data


def body_of(url: str, request: Request) -> Asked:
    """A request to a token endpoint (RFC 6749, section 3.2). Raises Authlib's errors."""
    if request.args:
        raise InvalidRequestError("Parameters belong in the body of the request.")
    if request.mimetype != _FORM and request.content_length != 0:
        raise InvalidRequestError(f"The body must be {_FORM}.")
    _check_values(request.form)
    _check_login(request)
    return Asked(url, request, request.form)


def query_of(url: str, request: Request) -> Asked:
    """A request for authorization: parameters of the address, or of the form by which it is decided."""
    values = request.form if request.method == "POST" else request.args
    _check_values(values)
    return Asked(url, request, values)


def _check_values(values: MultiDict[str, str]) -> None:
    for name in values:
        if len(values.getlist(name)) > 1:
            raise InvalidRequestError("A parameter is given more than once.")
        value = values[name]
        if len(value) > _LONGEST or not value.isascii() or not (value + "x").isprintable():
            raise InvalidRequestError("A parameter is too long, or holds characters that none has.")


def _check_login(request: Request) -> None:
    """One way of authentication, and one that can be read: Authlib fails on others."""
    header = request.headers.get("Authorization")
    if header is None:
        return
    found = _BASIC.fullmatch(header)
    if found is None or "client_secret" in request.form:
        raise InvalidClientError()
    try:
        login = base64.b64decode(found[1], validate=True)
    except ValueError:
        login = b""
    if not _LOGIN.fullmatch(login) or b"%" in login:
        raise InvalidClientError()
    if request.form.get("client_id", login.partition(b":")[0].decode()).encode() != login.partition(b":")[0]:
        raise InvalidClientError()


class AskingClient(ClientMixin):  # type: ignore[misc]
    """A client as Authlib asks about it."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def get_client_id(self) -> str:
        """Its id."""
        return self.client.id

    def get_default_redirect_uri(self) -> None:
        """None: the address is named in each request."""

    def get_allowed_scope(self, scope: str | None) -> str | None:
        """What it may be given of a scope: all of it, or None."""
        try:
            return str(authorizing.asked_scopes(self.client, scope))
        except ScopeInvalid:
            return None

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        """Whether it is one of its addresses, letter by letter (RFC 9700, section 2.1)."""
        return redirect_uri in self.client.redirect_uris

    def check_client_secret(self, client_secret: str) -> bool:
        """Whether it is its secret."""
        return self.client.knows(client_secret)

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        """A confidential client proves itself at every endpoint; a public one has nothing to prove with."""
        del endpoint
        return (method != "none") == (self.client.kind == CONFIDENTIAL)

    def check_response_type(self, response_type: str) -> bool:
        """Codes alone."""
        return response_type == "code" and bool(self.client.redirect_uris)

    def check_grant_type(self, grant_type: str) -> bool:
        """Whether it may ask in this way."""
        return grant_type in self.client.grants


class Credential(DeviceCredentialMixin):  # type: ignore[misc]
    """A code, a device's code or a refresh token as Authlib asks about it: one row, whatever its state."""

    code_challenge_method = "S256"

    def __init__(self, row: Row[Any], secret: str, *, client: str, scope: str, now: datetime) -> None:
        self.row = row
        self.sha256 = digest(secret)
        self._client = client
        self._scope = scope
        self._now = now

    @property
    def authorization(self) -> str:
        """The authorization that it stands for."""
        return str(self.row.authorization_id)

    @property
    def code_challenge(self) -> str:
        """What the verifier's digest must be (RFC 7636)."""
        return str(self.row.challenge)

    def get_redirect_uri(self) -> str:
        """Where the code was sent."""
        return str(self.row.redirect_uri)

    def get_client_id(self) -> str:
        """The client that it was given to."""
        return self._client

    def get_scope(self) -> str:
        """The scope of its authorization."""
        return self._scope

    def get_user_code(self) -> str:
        """What stands for the user's code, which is not kept."""
        return self.sha256

    def is_expired(self) -> bool:
        """Whether its time is over."""
        return bool(self.row.expires_at <= stamp(self._now))

    def check_client(self, client: AskingClient) -> bool:
        """Whether it was given to this client."""
        return bool(client.get_client_id() == self._client)
