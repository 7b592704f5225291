"""Reading a request: a JSON object with known fields of known kinds, a page, an idempotency key.

A view declares what it reads - `takes`, `asks`, `keyed` - and reads that alone; the API's description is made
from the same declarations.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from flask import current_app, request

from exchange.errors import RequestInvalid, TooLarge
from exchange.web.auth import market

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

V = TypeVar("V")
_PAGE, _LARGEST_PAGE = 50, 500
_DEEPEST = 32
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


@dataclass(frozen=True)
class Declared:
    """What a view reads: fields of a JSON object (None: it takes none), parameters, an idempotency key, and
    for how long the caller would wait.
    """

    fields: Mapping[str, tuple[type, ...]] | None = None
    required: tuple[str, ...] = ()
    optional: bool = False
    parameters: tuple[str, ...] = ()
    keyed: bool = False
    defers: bool = False


def takes(
    fields: Mapping[str, Any], *, required: tuple[str, ...] = (), optional: bool = False
) -> Callable[[V], V]:
    """Declare the JSON object that a view reads: field -> type or types; ``optional``: or none."""
    kinds = {name: kind if isinstance(kind, tuple) else (kind,) for name, kind in fields.items()}
    return _declaring(fields=kinds, required=required, optional=optional)


def asks(*parameters: str) -> Callable[[V], V]:
    """Declare the parameters of the query string that a view reads, each a text that may be left out."""
    return _declaring(parameters=parameters)


def keyed(view: V) -> V:
    """Declare that a view reads the Idempotency-Key."""
    return _declaring(keyed=True)(view)


def defers(view: V) -> V:
    """Declare that a view reads ``Prefer``, and may answer 202 before it is done."""
    return _declaring(defers=True)(view)


def declared(view: object) -> Declared:
    """What a view has declared."""
    found: Declared = getattr(view, "declared", Declared())
    return found


def _declaring(**parts: Any) -> Callable[[V], V]:
    def declare(view: V) -> V:
        view.declared = replace(declared(view), **parts)  # type: ignore[attr-defined]
        return view

    return declare


def _here() -> Declared:
    return declared(current_app.view_functions[str(request.endpoint)])


def body() -> dict[str, Any]:
    """The JSON object of the request. Raises :class:`RequestInvalid` naming the first wrong field."""
    here = _here()
    fields, required = here.fields, here.required
    assert fields is not None, "the view declares no body"
    if here.optional and not request.get_data():
        return {}
    given = _json_object()
    for name, value in given.items():
        if name not in fields:
            raise RequestInvalid(
                f"unknown field {name!r}", hint=f"Known fields: {', '.join(sorted(fields))}."
            )
        wanted = fields[name]
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


def asked(name: str) -> str | None:
    """A parameter of the query string that the view declared, or None."""
    assert name in _here().parameters, f"the view does not declare {name}"
    return request.args.get(name)


def asked_all(name: str) -> list[str]:
    """A parameter that may be given several times, and that the view declared; none for one that is not."""
    assert name in _here().parameters, f"the view does not declare {name}"
    return request.args.getlist(name)


def page() -> tuple[int, str | None]:
    """The page's size and token from the query string."""
    text = asked("limit")
    text = str(_PAGE) if text is None else text
    if not text.isdecimal() or len(text) > 9 or not 0 < int(text) <= _LARGEST_PAGE:
        raise RequestInvalid(f"limit must be between 1 and {_LARGEST_PAGE}")
    return int(text), asked("page_token")


def idempotency_key() -> str | None:
    """The caller's Idempotency-Key (draft-ietf-httpapi-idempotency-key-header), at most 200 characters."""
    assert _here().keyed, "the view does not declare its key"
    key = request.headers.get("Idempotency-Key")
    if key is not None and not (0 < len(key) <= 200 and key.isprintable()):
        raise RequestInvalid("the Idempotency-Key must be 1 to 200 printable characters")
    return key


def preferred_wait_s() -> float | None:
    """For how long the caller would wait: ``Prefer: wait=N``, or 0 for ``respond-async`` alone (RFC 7240).

    None where it does not say; what it says in another form is left aside, as the RFC asks.
    """
    assert _here().defers, "the view does not declare that it may answer before it is done"
    preferred: dict[str, str] = {}
    for header in request.headers.getlist("Prefer"):
        for part in header.split(","):
            name, _, value = part.partition(";")[0].partition("=")
            preferred.setdefault(name.strip().lower(), value.strip().strip('"'))
    wait = preferred.get("wait", "")
    if wait.isascii() and wait.isdecimal() and len(wait) <= 9:
        return float(wait)
    return 0.0 if "respond-async" in preferred else None
