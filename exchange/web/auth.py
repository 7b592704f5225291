"""Who asks: a bearer token on the API, a signed session cookie on the portal."""

from __future__ import annotations

import dataclasses
import secrets
from typing import TYPE_CHECKING, ClassVar

from flask import current_app, g, request, session

from exchange import identity
from exchange.audit import AuditError
from exchange.audit.entry import Entry, ObjectGroup, truncated_network
from exchange.errors import InProgress, NotFound, RequestInvalid, TokenUnknown
from exchange.store import is_logged

if TYPE_CHECKING:
    from exchange.identity import Actor
    from exchange.market import Market


@dataclasses.dataclass(frozen=True)
class Authenticate:
    """Come in with a token; only its refusal is ever logged, and no part of the token."""

    kind: ClassVar[str] = "token.used"
    refused: ClassVar[str] = "token.refused"

    def entry(self) -> Entry:
        """The audit entry: an attempt on the exchange as a whole."""
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="exchange", id="api"))


@dataclasses.dataclass(frozen=True)
class UseDoor:
    """Knock at one of the exchange's doors; only a refusal that no command logged is ever logged under it."""

    door: str
    kind: ClassVar[str] = "door.used"
    refused: ClassVar[str] = "request.refused"

    def entry(self) -> Entry:
        """The audit entry: the door by its name in the code, never what was sent to it."""
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="door", id=self.door))


#: The one path of the API that comes without a token: its bytes are signed by Stripe.
SIGNED = "/v1/webhooks/stripe"


def market() -> Market:
    """The market of the running application."""
    found: Market = current_app.extensions["market"]
    return found


def start_request() -> None:
    """Give the request an id, and find out who asks before anything that was sent is read.

    The id is ours: it enters the public log, where no text of a caller's choice belongs.
    """
    g.request_id = f"req_{secrets.token_hex(8)}"
    if request.path == SIGNED:
        g.visitor = caller(identity.NOBODY)
    elif request.path.startswith("/v1/"):
        actor()
    # PostgreSQL's texts hold no NUL, so nothing of ours is called by one.
    if "\x00" in request.path:
        raise NotFound("there is nothing of that name")
    if any("\x00" in value for value in request.args.values()):
        raise RequestInvalid("a parameter of the address holds a NUL character")


def actor() -> Actor:
    """The actor of this request. Raises :class:`TokenUnknown`, which is logged."""
    if "actor" not in g:
        g.actor = _from_bearer()
    found: Actor = g.actor
    return found


def caller(known: Actor) -> Actor:
    """An actor without a token, with the place and the id of this request."""
    return _located(known)


def log_refusal(refusal: Exception) -> None:
    """Give a refusal its entry in the log where no command did: what is refused to a caller leaves a trace.

    An answer that is on its way is no refusal, and is asked for again and again.
    """
    known: Actor | None = g.get("actor") or g.get("visitor")
    if known is None or is_logged(refusal) or isinstance(refusal, InProgress):
        return
    try:
        market().store.refuse(known, UseDoor(request.endpoint or "none"), refusal)
    except AuditError as broken:  # the log takes nothing more until somebody has looked: the answer goes out
        current_app.logger.critical("a refusal in request %s is not logged: %s", g.request_id, broken.code)


def signed_in() -> Actor | None:
    """The portal's visitor, or None. A revoked or expired token ends its sessions."""
    token_id = session.get("token")
    if not token_id:
        return None
    store = market().store
    try:
        found = store.read(lambda s: identity.still_valid(s, token_id, store.clock()))
    except TokenUnknown:
        session.clear()
        return None
    return dataclasses.replace(_located(found), auth="session")


def sign_in(text: str) -> Actor:
    """Start a portal session with a token's text. Raises :class:`TokenUnknown`, which is logged."""
    found = _authenticated(text)
    session.clear()
    session["token"] = found.ref
    session["csrf"] = secrets.token_urlsafe(24)
    session.permanent = True
    return found


def _from_bearer() -> Actor:
    scheme, _, text = request.headers.get("Authorization", "").partition(" ")
    return _authenticated(text.strip() if scheme.lower() == "bearer" else "")


def _authenticated(text: str) -> Actor:
    store = market().store
    try:
        return _located(store.read(lambda s: identity.authenticate(s, text, store.clock())))
    except TokenUnknown as refusal:
        store.refuse(_located(identity.NOBODY), Authenticate(), refusal)
        raise


def _located(found: Actor) -> Actor:
    network = truncated_network(request.remote_addr) or ""
    return dataclasses.replace(found, request_id=g.request_id, ip_truncated=network)
