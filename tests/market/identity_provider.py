"""An OpenID provider on 127.0.0.1 that signs in whoever a test says, with whatever faults it says."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import secrets
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from flask import Flask, Response, jsonify, request
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey
from werkzeug.serving import make_server

from exchange.config import Secret
from exchange.web.auth.discovery import Discovery

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.market.stand import Stand

CLIENT, SECRET = "the-exchange", "s3cret of the exchange"


@dataclass
class Provider:
    """The provider. ``claims`` replace those of the next token (None leaves one out); ``forged`` makes the
    whole token of its claims, and ``published`` are other keys than its own.
    """

    url: str = ""
    key: ECKey = field(default_factory=lambda: ECKey.generate_key("P-256", {"kid": "k1"}))
    email: str = "ada@acme.example"
    subject: str = "subject-1"
    claims: dict[str, Any] = field(default_factory=dict)
    signed_by: ECKey | None = None
    unsigned: bool = False
    by_secret: bool = False
    configuration: dict[str, Any] = field(default_factory=dict)
    shift_s: float = 0.0
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    forged: Callable[[dict[str, Any]], Any] | None = None
    published: Any = None

    def authorize(self, address: str) -> dict[str, str]:
        """What the browser is sent back with after the person said yes."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
        assert asked["response_type"] == "code"
        assert asked["code_challenge_method"] == "S256"
        assert asked["client_id"] == CLIENT
        code = secrets.token_urlsafe(16)
        self.codes[code] = asked
        return {"code": code, "state": asked["state"], "iss": self.url}

    def token(self) -> tuple[Response, int]:
        """The token endpoint: the client, the code and its verifier are checked."""
        login = request.authorization
        asked = self.codes.pop(request.form.get("code", ""), None)
        digest = hashlib.sha256(request.form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        known = login is not None and (login.username, login.password) == (CLIENT, SECRET.replace(" ", "%20"))
        if not known or asked is None or asked["code_challenge"] != challenge:
            return jsonify({"error": "invalid_grant"}), 400
        assert asked["redirect_uri"] == request.form["redirect_uri"]
        return jsonify(
            {"id_token": self._signed(asked["nonce"]), "token_type": "Bearer", "access_token": "x"}
        ), 200

    def _signed(self, nonce: str) -> Any:
        now = int(time.time() + self.shift_s)
        told: dict[str, Any] = {
            "iss": self.url,
            "aud": CLIENT,
            "sub": self.subject,
            "iat": now,
            "exp": now + 300,
            "nonce": nonce,
            "email": self.email,
            "email_verified": True,
            "name": "Ada Lovelace",
            **self.claims,
        }
        told = {name: value for name, value in told.items() if value is not None}
        if self.forged:
            return self.forged(told)
        if self.unsigned:
            parts = [b'{"alg":"none","typ":"JWT"}', json.dumps(told).encode()]
            return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts) + "."
        if self.by_secret:
            return jwt.encode({"alg": "HS256"}, told, OctKey.import_key(SECRET), algorithms=["HS256"])
        return jwt.encode({"alg": "ES256", "kid": "k1"}, told, self.signed_by or self.key)

    def app(self) -> Flask:
        """The provider's endpoints."""
        app = Flask(__name__)

        @app.get("/.well-known/openid-configuration")
        def configuration() -> Response:
            places = {
                "issuer": self.url,
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
                "jwks_uri": f"{self.url}/keys",
            }
            return jsonify({**places, **self.configuration})

        @app.get("/keys")
        def keys() -> Response:
            return jsonify(self.published or {"keys": [self.key.as_dict(private=False)]})

        app.add_url_rule("/token", view_func=self.token, methods=["POST"])
        return app


def named(
    stand: Stand, issuer: str, networks: str = "127.0.0.1/32", *, known: Discovery | None = None
) -> None:
    """Name a provider in a market's settings; ``networks`` are those within that it may be in. What it says
    of itself is asked each time, unless ``known`` keeps it.
    """
    stand.app.extensions["discovery"] = known or Discovery(kept_s=0, away_s=0)
    told = {"issuer": issuer, "client_id": CLIENT, "client_secret": Secret(SECRET), "networks": networks}
    for name, value in told.items():
        object.__setattr__(stand.market.settings, f"oidc_{name}", value)


@contextlib.contextmanager
def provider() -> Iterator[Provider]:
    """A provider that is served until the block ends."""
    made = Provider()
    server = make_server("127.0.0.1", 0, made.app(), threaded=True)
    made.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
