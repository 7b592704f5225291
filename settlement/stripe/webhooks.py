"""Webhooks: signature over the raw bytes, age, mode, API version and account, before a byte is believed."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import stripe

from settlement.errors import WebhookRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: The version that calls are made with and events must have. Raised on purpose, with the SDK.
API_VERSION = "2026-10-28.endive"

#: How old a signature may be (Stripe's own default), and how far its clock may be ahead.
TOLERANCE = timedelta(minutes=5)


def verified(
    payload: bytes,
    signature: str | None,
    *,
    secrets: Sequence[str],
    livemode: bool,
    connected: Callable[[str], bool],
    now: datetime,
) -> dict[str, Any]:
    """The event in ``payload``, if it is Stripe's and for this exchange. WebhookRefused otherwise.

    Args:
        signature: the header ``Stripe-Signature``.
        secrets: secrets of the endpoints that may have sent it; one of them must fit.
        livemode: the mode of this exchange's key; an event of the other mode is refused.
        connected: whether an account is one of our providers'; an event of any other is refused.
    """
    if not any(_signed(payload, signature, secret) for secret in secrets):
        raise WebhookRefused("The webhook's signature does not fit its bytes.")
    made = _signed_at(signature or "")
    if abs(now.timestamp() - made) > TOLERANCE.total_seconds():
        raise WebhookRefused("The webhook's signature is older than five minutes, or ahead of time.")
    event = _event(payload)
    if event.get("livemode") is not livemode:
        mode = "live" if livemode else "test"
        raise WebhookRefused(f"The webhook is of the other mode; this exchange runs in {mode} mode.")
    if event.get("api_version") != API_VERSION:
        raise WebhookRefused(f"The webhook has another API version than {API_VERSION}.")
    account = event.get("account")
    if account is not None and not connected(str(account)):
        raise WebhookRefused("The webhook is of an account that is not connected to this exchange.")
    return event


def _signed(payload: bytes, signature: str | None, secret: str) -> bool:
    try:
        # Without tolerance: the age is compared with the exchange's clock above, in both directions.
        return bool(stripe.WebhookSignature.verify_header(payload, signature, secret))
    except (stripe.SignatureVerificationError, UnicodeDecodeError, ValueError):
        return False


def _signed_at(signature: str) -> int:
    found = [part[2:] for part in signature.split(",") if part.startswith("t=")]
    try:
        return int(found[0])
    except (IndexError, ValueError):
        raise WebhookRefused("The webhook's signature has no time.") from None


def _event(payload: bytes) -> dict[str, Any]:
    try:
        event = json.loads(payload)
        about = event["data"]["object"]
        whole = (
            event["object"] == "event"
            and all(isinstance(event[name], str) and 0 < len(event[name]) <= 100 for name in ("id", "type"))
            and type(event["created"]) is int
            and isinstance(about, dict)
        )
    except (KeyError, TypeError, ValueError):
        whole = False
    if not whole:
        raise WebhookRefused("The webhook is signed and holds no event.")
    known: dict[str, Any] = event
    return known
