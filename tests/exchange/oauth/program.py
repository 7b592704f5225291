"""A program that asks for access, as its author would write it: over HTTP, with nothing of the server's."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import secrets
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    import httpx

    from tests.market.stand import Stand

REDIRECT = "https://program.test/back?from=exchange"
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
CLI = "exchange-cli"


class Program:
    """One client of one stand."""

    def __init__(self, stand: Stand, client_id: str, secret: str | None = None) -> None:
        self.stand, self.client_id, self.secret = stand, client_id, secret

    @classmethod
    def of(cls, stand: Stand, who: str = "buyer", kind: str = "confidential", **more: Any) -> Program:
        """A client that ``who`` creates through the API."""
        made = stand.post(who, "/v1/clients", {"name": "Nightly report", "kind": kind, **more})
        assert made.status_code == 201, made.text
        return cls(stand, made.json()["client_id"], made.json()["client_secret"])

    def send(self, path: str, auth: Any = "own", **form: str) -> httpx.Response:
        """Post a form to an endpoint, authenticated in the way that the client is to."""
        if auth == "own":
            auth = (self.client_id, self.secret) if self.secret else None
            form = form if self.secret else {"client_id": self.client_id, **form}
        return self.stand.http.post(path, data=form, auth=auth)

    def token(self, grant_type: str, **form: str) -> httpx.Response:
        """Ask the token endpoint."""
        return self.send("/oauth/token", grant_type=grant_type, **form)

    def alone(self, scope: str | None = None) -> str:
        """An access token by client credentials."""
        reply = self.token("client_credentials", **({"scope": scope} if scope else {}))
        assert reply.status_code == 200, reply.text
        return str(reply.json()["access_token"])

    def authorize(self, browser: httpx.Client, **more: str | None) -> httpx.Response:
        """Open the page on which a person decides."""
        asked = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": REDIRECT,
            "state": "s1",
            "code_challenge": challenge(VERIFIER),
            "code_challenge_method": "S256",
            **more,
        }
        params = {name: value for name, value in asked.items() if value is not None}
        return browser.get("/oauth/authorize", params=params, follow_redirects=False)

    def code(self, browser: httpx.Client, **more: str | None) -> str:
        """A code that a person lets the program have."""
        sent = back(decide(browser, self.authorize(browser, **more), "/oauth/authorize", "approve"))
        return sent["code"]

    def redeem(self, code: str, **more: str) -> httpx.Response:
        """A code for tokens."""
        form = {"code": code, "redirect_uri": REDIRECT, "code_verifier": VERIFIER, **more}
        return self.token("authorization_code", **form)

    def device(self, **form: str) -> dict[str, Any]:
        """Start the device flow."""
        reply = self.send("/oauth/device", **form)
        assert reply.status_code == 200, reply.text
        found: dict[str, Any] = reply.json()
        return found

    def poll(self, device_code: str) -> httpx.Response:
        """Ask whether the person has confirmed."""
        return self.token(DEVICE_GRANT, device_code=device_code)


VERIFIER = secrets.token_urlsafe(48)


def challenge(verifier: str) -> str:
    """The S256 challenge of a verifier (RFC 7636)."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def confirm(browser: httpx.Client, user_code: str, decision: str = "approve") -> httpx.Response:
    """Say yes or no on the portal's page for devices."""
    return decide(browser, browser.get("/device", params={"user_code": user_code}), "/device", decision)


def decide(browser: httpx.Client, page: httpx.Response, path: str, decision: str) -> httpx.Response:
    """Send the form of a page on which a person decides."""
    assert page.status_code == 200, page.text
    return browser.post(path, data={**hidden(page), "decision": decision}, follow_redirects=False)


def hidden(page: httpx.Response) -> dict[str, str]:
    """The hidden fields of the page's own form; the header has one more, to sign out."""
    main = page.text.partition("<main")[2]
    found = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', main)
    return {name: html.unescape(value) for name, value in found}


def back(reply: httpx.Response) -> dict[str, str]:
    """What a browser takes back to the program."""
    assert reply.status_code == 302, reply.text
    return {name: values[0] for name, values in parse_qs(urlsplit(reply.headers["Location"]).query).items()}


def claims(token: str) -> dict[str, Any]:
    """What an access token says, unchecked."""
    body = token.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return found


def header(token: str) -> dict[str, Any]:
    """How an access token says it is signed."""
    part = token.split(".")[0]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found


def refused(reply: httpx.Response, error: str, status: int = 400) -> None:
    """The reply is that refusal of RFC 6749, section 5.2, and is not stored."""
    assert (reply.status_code, reply.json()["error"]) == (status, error), reply.text
    assert reply.headers["Cache-Control"] == "no-store"
