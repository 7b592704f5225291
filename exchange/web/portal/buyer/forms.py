"""What the buyer's forms share: one purchase for one form, and refusals that keep what was typed."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from flask import render_template

from exchange.web.portal.pages import once_key, refused_form, told

if TYPE_CHECKING:
    from flask import Response


def key_of(*content: object) -> str | None:
    """The idempotency key of a form that was sent: of its mark and of what it says.

    Sent twice it is the same command; gone back and sent with another amount, it is another one.
    """
    return once_key(hashlib.sha256(repr(content).encode()).hexdigest()[:24])


def kept(refusal: Exception, template: str, **values: Any) -> Response:
    """The form once more, with the refusal in its place and all that was typed."""
    document = {
        "code": str(getattr(refusal, "code", "refused")),
        "message": told(refusal),
        "hint": str(getattr(refusal, "hint", "") or ""),
    }
    return refused_form(render_template(template, refusal=document, **values), refusal)


def balances(document: dict[str, Any]) -> dict[str, int]:
    """Currency -> minor units that a wallet has free."""
    return {one["currency"]: one["available_minor"] for one in document["balances"]}
