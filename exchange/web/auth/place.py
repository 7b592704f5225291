"""The running application and the request in it: who asks, from where, and what they are refused."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

from flask import current_app, g, request

from exchange.audit import AuditError
from exchange.audit.entry import Entry, ObjectGroup, truncated_network
from exchange.errors import COME_AGAIN
from exchange.store import is_logged

if TYPE_CHECKING:
    from exchange.identity import Actor
    from exchange.market import Market

#: The one path of the API that comes without a token: its bytes are signed by Stripe.
SIGNED = "/v1/webhooks/stripe"


@dataclasses.dataclass(frozen=True)
class UseDoor:
    """Knock at one of the exchange's doors; only a refusal that no command logged is ever logged under it."""

    door: str
    kind: ClassVar[str] = "door.used"
    refused: ClassVar[str] = "request.refused"

    def entry(self) -> Entry:
        """The audit entry: the door by its name in the code, never what was sent to it."""
        return Entry(kind=self.kind, outcome="done", object=ObjectGroup(type="door", id=self.door))


def market() -> Market:
    """The market of the running application."""
    found: Market = current_app.extensions["market"]
    return found


def caller(known: Actor) -> Actor:
    """An actor with the place and the id of this request."""
    network = truncated_network(request.remote_addr) or ""
    return dataclasses.replace(known, request_id=g.request_id, ip_truncated=network)


def log_refusal(refusal: Exception) -> None:
    """Give a refusal its entry in the log where no command did: what is refused to a caller leaves a trace.

    An answer that is on its way is no refusal, nor is a full queue.
    """
    known: Actor | None = g.get("actor") or g.get("visitor")
    if known is None or is_logged(refusal) or isinstance(refusal, COME_AGAIN):
        return
    try:
        market().store.refuse(known, UseDoor(request.endpoint or "none"), refusal)
    except AuditError as broken:  # the log takes nothing more until somebody has looked: the answer goes out
        current_app.logger.critical("a refusal in request %s is not logged: %s", g.request_id, broken.code)
