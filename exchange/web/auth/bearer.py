"""The bearer token of a request to the API (RFC 6750): checked before anything else that was sent."""

from __future__ import annotations

import dataclasses
import secrets
from typing import TYPE_CHECKING, ClassVar

from flask import current_app, g, has_request_context, request

from exchange import authorizations, identity
from exchange.audit.entry import Entry, ObjectGroup, truncated_network
from exchange.errors import NotFound, RequestInvalid, TokenUnknown
from exchange.web.auth.place import SIGNED, caller, market
from exchange.web.limits import request_limits

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from exchange.identity import Actor
    from exchange.web.auth.provider import Provider

#: What an access token opens that may ask questions alone; another door asks for the scope `account`.
ASKING = frozenset(
    {
        "status.whoami",
        "datasets.search",
        "datasets.show",
        "licences.of_dataset",
        "queries.quote",
        "queries.run",
        "queries.latest",
        "queries.cancel",
        "queries.show",
        "queries.result",
        "queries.receipt",
    }
)


#: What machines ask again and again to see whether a process answers.
_UNLIMITED = frozenset({"/healthz", "/readyz", "/metrics"})
#: As many requests does a refusal count for whose caller is not known: each one is an entry of the log.
_REFUSED_COSTS = 10


@dataclasses.dataclass(frozen=True)
class Authenticate:
    """Come in with a token; only its refusal is ever logged, and no part of the token."""

    kind: ClassVar[str] = "token.used"
    refused: ClassVar[str] = "token.refused"

    def entry(self) -> Entry:
        """The audit entry: an attempt on the exchange as a whole."""
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="exchange", id="api"))


def start_request() -> None:
    """Give the request an id, and find out who asks before anything that was sent is read.

    The id is ours: it enters the public log, where no text of a caller's choice belongs.
    """
    g.request_id = f"req_{secrets.token_hex(8)}"
    limits = request_limits()
    if request.path not in _UNLIMITED:
        limits.of_network.take(_network())
    if request.path == SIGNED:
        g.visitor = caller(identity.NOBODY)
    elif request.path.startswith("/v1/"):
        found = actor()
        limits.of_caller.take(found.ref)
        _check_door(found)
    # PostgreSQL's texts hold no NUL, so nothing of ours is called by one.
    if "\x00" in request.path:
        raise NotFound("there is nothing of that name")
    if any("\x00" in value for value in request.args.values()):
        raise RequestInvalid("a parameter of the address holds a NUL character")


def actor() -> Actor:
    """The actor of this request. Raises :class:`TokenUnknown`, which is logged."""
    if "actor" not in g:
        scheme, _, text = request.headers.get("Authorization", "").partition(" ")
        g.actor = authenticated(text.strip() if scheme.lower() == "bearer" else "")
    found: Actor = g.actor
    return found


def authenticated(text: str) -> Actor:
    """The actor behind a token, an access token or one of an organisation's own.

    Raises :class:`TokenUnknown`, logged, with the same words for every cause.
    """
    store = market().store
    try:
        return caller(_known(text))
    except TokenUnknown as refusal:
        store.refuse(caller(identity.NOBODY), Authenticate(), refusal)
        raise


def spend_refused(refused: Actor) -> None:
    """What was refused to nobody in particular counts for ten requests of its network: it is an entry of the
    log for ever, and no other limit holds.
    """
    if refused.ref == identity.NOBODY.ref and has_request_context():
        request_limits().of_network.spend(_network(), _REFUSED_COSTS - 1)


def _known(text: str) -> Actor:
    store = market().store
    now = store.clock()
    if text.count(".") != 2:
        return store.read(lambda session: identity.authenticate(session, text, now))
    provider: Provider = current_app.extensions["provider"]
    claims = provider.keys.read(text, issuer=provider.issuer, now=now)

    def look(session: Session) -> Actor:
        return authorizations.authenticate(session, claims, now)

    return store.read(look)


def _network() -> str:
    return truncated_network(request.remote_addr) or ""


def _check_door(found: Actor) -> None:
    """Raise :class:`ScopeMissing`, before anything sent is read, where a token is not for this door."""
    if found.scopes is not None and request.endpoint not in ASKING:
        found.scopes.require_account()
