"""Reading a request: a JSON object with known fields of known kinds, a page, an idempotency key."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from flask import request

from exchange.errors import RequestInvalid, TooLarge
from exchange.web.auth import market

if TYPE_CHECKING:
    from collections.abc import Mapping

_PAGE, _LARGEST_PAGE = 50, 500
_DEEPEST = 32
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def body(fields: Mapping[str, type | tuple[type, ...]], *, required: tuple[str, ...] = ()) -> dict[str, Any]:
    """The JSON object of the request. Raises :class:`RequestInvalid` naming the first wrong field."""
    given = _json_object()
    for name, value in given.items():
        if name not in fields:
            raise RequestInvalid(
                f"unknown field {name!r}", hint=f"Known fields: {', '.join(sorted(fields))}."
            )
        kinds = fields[name]
        wanted = kinds if isinstance(kinds, tuple) else (kinds,)
        if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
            names = " or ".join(kind.__name__ for kind in wanted)
            raise RequestInvalid(f"the field {name!r} must be {names}")
    for name in required:
        if given.get(name) in (None, ""):
            raise RequestInvalid(f"the field {name!r} is missing")
    return given


def _json_object() -> dict[str, Any]:
    limit = market().settings.max_request_bytes
    if len(request.get_data()) >= limit and request.content_length is None:  # it was cut there, unannounced
        raise TooLarge(f"the body is larger than {limit} bytes")
    try:
        given = request.get_json(silent=True)
    except RecursionError:
        raise RequestInvalid("the body is nested too deeply") from None
    if not isinstance(given, dict):
        raise RequestInvalid("the body must be a JSON object", hint="Send Content-Type: application/json.")
    _check_texts(given)
    return given


def _check_texts(document: object) -> None:
    """Every text can be stored and hashed - no NUL, no half of a surrogate pair - and nothing is too deep."""
    waiting = [(document, 0)]
    while waiting:
        value, depth = waiting.pop()
        if depth > _DEEPEST:
            raise RequestInvalid(f"the body is nested more than {_DEEPEST} levels deep")
        if isinstance(value, dict):
            waiting += [(one, depth + 1) for pair in value.items() for one in pair]
        elif isinstance(value, list):
            waiting += [(one, depth + 1) for one in value]
        elif isinstance(value, str) and _UNSTORABLE.search(value):
            raise RequestInvalid("a text of the body holds a NUL character or half of a surrogate pair")


def page() -> tuple[int, str | None]:
    """The page's size and token from the query string."""
    text = request.args.get("limit", str(_PAGE))
    if not text.isdecimal() or len(text) > 9 or not 0 < int(text) <= _LARGEST_PAGE:
        raise RequestInvalid(f"limit must be between 1 and {_LARGEST_PAGE}")
    return int(text), request.args.get("page_token")


def idempotency_key() -> str | None:
    """The caller's Idempotency-Key (draft-ietf-httpapi-idempotency-key-header), at most 200 characters."""
    key = request.headers.get("Idempotency-Key")
    if key is not None and not (0 < len(key) <= 200 and key.isprintable()):
        raise RequestInvalid("the Idempotency-Key must be 1 to 200 printable characters")
    return key
