"""A person's browser on the portal: follows links, fills in forms, keeps cookies."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape
from typing import TYPE_CHECKING, Any

import httpx
import pyotp

from exchange.identity import SYSTEM, Role
from exchange.operations import joining
from tests.market.authenticator import SecurityKey

if TYPE_CHECKING:
    from tests.market.stand import Stand

PASSWORD = "seven blue herons at noon"
ORIGIN = "http://market.test"


class Browser:
    """One browser; ``http`` is the client behind it. Redirects are followed."""

    def __init__(self, stand: Stand, *, base_url: str = ORIGIN) -> None:
        self.stand = stand
        self.http = httpx.Client(
            transport=httpx.WSGITransport(app=stand.app), base_url=base_url, follow_redirects=True
        )
        self.secret = ""

    def get(self, path: str) -> httpx.Response:
        """Open a page."""
        return self.http.get(path)

    def csrf(self, path: str = "/") -> str:
        """The session's token against forged forms, as a page carries it; empty without a session."""
        found = re.search(r'name="csrf" value="([^"]*)"', self.get(path).text)
        return found[1] if found else ""

    def post(self, path: str, *, csrf: str | None = None, **fields: str) -> httpx.Response:
        """Send a form with the session's token."""
        sent = self.csrf() if csrf is None else csrf
        return self.http.post(path, data={"csrf": sent, **fields})

    def post_json(self, path: str, body: object = None, *, csrf: str | None = None) -> httpx.Response:
        """Send what our script sends."""
        sent = self.csrf() if csrf is None else csrf
        return self.http.post(path, json=body if body is not None else {}, headers={"X-CSRF-Token": sent})

    def join(self, link: str, *, name: str = "Ada", password: str = PASSWORD) -> httpx.Response:
        """Use an invitation's link."""
        return self.post(path_of(link), name=name, password=password)

    def sign_in(self, login: str, password: str = PASSWORD, *, next: str = "/account") -> httpx.Response:  # noqa: A002
        """Sign in with login and password."""
        return self.post("/sign-in", login=login, password=password, next=next)

    def add_app(self) -> httpx.Response:
        """Take an authenticator app into use; its key is ``secret`` afterwards."""
        found = re.search(r"<pre>([A-Z2-7]{32})</pre>", self.post("/account/app").text)
        assert found is not None
        self.secret = found[1]
        return self.post("/account/app/confirm", code=self.code())

    def code(self, *, steps: int = 0) -> str:
        """What the authenticator app shows now, or some steps of half a minute away."""
        return pyotp.TOTP(self.secret).at(self.stand.clock() + timedelta(seconds=30 * steps))

    def confirm(self, **fields: str) -> httpx.Response:
        """Show the second factor, or the password."""
        return self.post("/sign-in/confirm", next="/account", **fields)

    def add_passkey(self, key: SecurityKey, name: str = "laptop") -> httpx.Response:
        """Register a security key."""
        options = self.post_json("/account/passkeys/options")
        assert options.status_code == 200, options.text
        return self.post_json("/account/passkeys", {"credential": key.register(options.json()), "name": name})

    def use_passkey(self, key: SecurityKey) -> httpx.Response:
        """Sign with a security key."""
        options = self.post_json("/sign-in/passkey/options")
        assert options.status_code == 200, options.text
        return self.post_json("/sign-in/passkey", key.sign(options.json()))

    def is_signed_in(self) -> bool:
        """Whether pages of persons open."""
        return self.get("/account").url.path == "/account"

    def close(self) -> None:
        """Close the browser."""
        self.http.close()


def path_of(link: str) -> str:
    """A link's path: tests reach the exchange under another address than the one in its settings."""
    return "/join/" + unescape(link).rpartition("/join/")[2]


def invited(stand: Stand, who: str, login: str, *, admin: bool = False) -> str:
    """The link with which ``login`` joins the organisation of a person of the stand."""
    role = Role(stand.get(who, "/v1/whoami").json()["role"])
    made = joining.invite(stand.market, SYSTEM, org=stand.orgs[who], login=login, role=role, admin=admin)
    return str(made["link"])


def member(
    stand: Stand, who: str = "buyer", login: str = "ada@acme.example", *, admin: bool = False
) -> Browser:
    """A browser in which somebody has just joined an organisation and is signed in."""
    browser = Browser(stand)
    reply = browser.join(invited(stand, who, login, admin=admin))
    assert reply.status_code == 200, reply.text
    return browser


def security_key(stand: Stand, **more: Any) -> SecurityKey:
    """A security key for this exchange's address."""
    origin = stand.settings.base_url.rstrip("/")
    return SecurityKey(**{"origin": origin, "rp_id": "127.0.0.1", **more})
