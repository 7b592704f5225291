"""The leaf: version byte 0x01 and RFC 8785 canonical JSON of one fact (docs/decisions/0002-audit-leaf.md).

Standard library alone, because whoever verifies a receipt must be able to read its leaf.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from exchange.audit.errors import EntryInvalid, Malformed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

VERSION = 1
MAX_BYTES = 65_535
"""Longest leaf that the uint16 length of a C2SP entry bundle can describe."""
MAX_TEXT = 512
"""Longest text member, in code points: escaped at 6 bytes each, all of them together stay below MAX_BYTES."""
MAX_SAFE_INTEGER = 2**53 - 1
"""Largest integer that RFC 8785 can write without loss (RFC 7493)."""

TEXT, DIGEST, AMOUNT, COUNT = "text", "digest", "amount", "count"

GROUPS: dict[str, dict[str, str]] = {
    "actor": {"ref": TEXT, "org": TEXT, "role": TEXT, "auth": TEXT},
    "source": {"ip_truncated": TEXT, "request_id": TEXT},
    "object": {"type": TEXT, "id": TEXT, "version": TEXT, "dataset": TEXT},
    "licence": {"acceptance_id": TEXT, "odrl_sha256": DIGEST, "purpose": TEXT},
    "query": {"id": TEXT, "plan_sha256": DIGEST, "sql_sha256": DIGEST},
    "privacy": {
        "domain": TEXT,
        "mechanism": TEXT,
        "rho_nano": AMOUNT,
        "delta_pico": AMOUNT,
        "spent_after": AMOUNT,
        "remaining_after": AMOUNT,
    },
    "money": {"currency": TEXT, "amount_minor": AMOUNT, "journal": TEXT, "journal_sha256": DIGEST},
    "result": {"sha256": DIGEST, "bytes": COUNT},
}
"""The nested groups of a leaf and what each member is; a group or a member without a value is null."""

_REQUIRED = {"v", "seq", "id", "time", "kind", "outcome"}
_OPTIONAL = {"code", "org_seq", "prev_org_leaf", "pii_commitment"}
_KEYS = _REQUIRED | _OPTIONAL | set(GROUPS)

_AMOUNT = re.compile(r"0|-?[1-9][0-9]{0,18}")
_WRITER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
_MAX_DEPTH = 16
_NOT_PLAIN = "The document is not plain JSON with unique names and whole numbers."
_NOT_UNICODE = "A text holds half of a surrogate pair, which is not Unicode."


def canonical(value: object) -> bytes:
    """RFC 8785 bytes of `value`, for the part of JSON where Python's own writer agrees with it.

    Objects with ASCII names, arrays, texts that are valid Unicode, integers of at most 53 bits, booleans and
    null. No floating-point number has a place in an audit record, so none is accepted.

    Raises:
        Malformed: for any other value.
    """
    _assert_canonical_domain(value, 0)
    return _write(value)


def parse(data: bytes | str) -> Any:
    """Reads JSON as strictly as `canonical` writes it: no repeated name, no fraction, no NaN, bounded depth.

    Raises:
        Malformed: the bytes are not such JSON.
    """
    value = _load(data)
    _assert_canonical_domain(value, 0)
    return value


def encode(document: Mapping[str, object]) -> bytes:
    """Leaf bytes of a complete leaf document.

    Raises:
        EntryInvalid: a key is missing, unknown, too long or of the wrong form.
    """
    problem = _problem(document)
    if problem:
        raise EntryInvalid(problem)
    try:
        leaf = bytes([VERSION]) + canonical(dict(document))
    except Malformed as error:
        raise EntryInvalid(str(error)) from None
    assert len(leaf) <= MAX_BYTES, "texts are limited so that every leaf fits an entry bundle"
    return leaf


def decode(leaf: bytes) -> dict[str, Any]:
    """The document in a leaf, after checking version, canonical form and every member.

    Raises:
        Malformed: these bytes cannot have been written by `encode`.
    """
    if not 0 < len(leaf) <= MAX_BYTES or leaf[0] != VERSION:
        raise Malformed("The leaf does not begin with a known version byte.")
    try:
        # A million leaves are read in a row: json's own fast reader will do, because repeated names and other
        # spellings do not survive the comparison with the canonical form, nor fractions that of the types.
        document = json.loads(leaf[1:].decode("utf-8"))
    except (ValueError, RecursionError):
        raise Malformed(_NOT_PLAIN) from None
    if not isinstance(document, dict):
        raise Malformed("The leaf is not a JSON object.")
    problem = _problem(document)
    if problem:
        raise Malformed(problem)
    if _write(document) != leaf[1:]:  # every member's type is known by now
        raise Malformed("The leaf is not in canonical form.")
    return document


def _load(data: bytes | str) -> Any:
    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
        return json.loads(
            text, object_pairs_hook=_unique, parse_float=_no_fraction, parse_constant=_no_fraction
        )
    except (ValueError, RecursionError):
        raise Malformed(_NOT_PLAIN) from None


def _write(value: object) -> bytes:
    try:
        return _WRITER.encode(value).encode("utf-8")
    except UnicodeEncodeError:
        raise Malformed(_NOT_UNICODE) from None


def _assert_canonical_domain(value: object, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise Malformed("The document is nested too deeply.")
    kind = type(value)
    if value is None or kind is bool:
        return
    if isinstance(value, str) and kind is str:
        _assert_unicode(value)
        return
    if kind is int and abs(value) <= MAX_SAFE_INTEGER:  # type: ignore[arg-type]
        return
    if isinstance(value, list):
        for item in value:
            _assert_canonical_domain(item, depth + 1)
    elif isinstance(value, dict):
        for name, item in value.items():
            if type(name) is not str or not name.isascii():
                raise Malformed("A name in the document is not ASCII text.")
            _assert_canonical_domain(item, depth + 1)
    else:
        raise Malformed("A value is no text, 53-bit whole number, truth value, null, list or object.")


def _assert_unicode(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise Malformed(_NOT_UNICODE) from None


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("repeated name")
    return document


def _no_fraction(_: str) -> object:
    raise ValueError("not a whole number")


def _problem(document: Mapping[str, object]) -> str | None:
    """The first thing that keeps `document` from being a leaf, as a sentence, or None."""
    if document.keys() != _KEYS:
        return "The entry does not have exactly the members of a leaf."
    if document["v"] != VERSION or type(document["v"]) is not int:
        return "The entry's version is unknown."
    for name in ("seq", "org_seq"):
        if not _is(COUNT, document[name], nullable=name == "org_seq"):
            return f"The entry's {name} is not a counter."
    for name in ("id", "time", "kind", "outcome", "code"):
        if not _is(name, document[name], nullable=name == "code"):
            return f"The entry's {name} does not have the form that leaves need."
    for name in ("prev_org_leaf", "pii_commitment"):
        if not _is(DIGEST, document[name], nullable=True):
            return f"The entry's {name} is not a SHA-256 digest."
    if (document["org_seq"] in (None, 0)) != (document["prev_org_leaf"] is None):
        return "The entry's place in its organisation's chain is incomplete."
    return _group_problem(document)


def _group_problem(document: Mapping[str, object]) -> str | None:
    for group, members in GROUPS.items():
        value = document[group]
        if value is None:
            continue
        if not isinstance(value, dict) or value.keys() != members.keys():
            return f"The entry's group {group} does not have exactly its members."
        for member, kind in members.items():
            one = value[member]
            if one is not None and not _FORMS[kind](one):
                return f"The entry's {group}.{member} is not a valid {kind}."
    actor = document["actor"]
    has_org = isinstance(actor, dict) and actor["org"] is not None
    if has_org != (document["org_seq"] is not None):
        return "The entry has an organisation without a place in its chain, or the other way round."
    return None


def _is(kind: str, value: object, *, nullable: bool) -> bool:
    return nullable if value is None else _FORMS[kind](value)


def _is_text(value: object) -> bool:
    return type(value) is str and 0 < len(value) <= MAX_TEXT


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= MAX_SAFE_INTEGER


def _is_amount(value: object) -> bool:
    return type(value) is str and bool(_AMOUNT.fullmatch(value)) and -(2**63) <= int(value) < 2**63


def _matching(pattern: str) -> Callable[[object], bool]:
    matches = re.compile(pattern).fullmatch
    return lambda value: type(value) is str and len(value) <= MAX_TEXT and matches(value) is not None


_FORMS = {
    TEXT: _is_text,
    COUNT: _is_count,
    AMOUNT: _is_amount,
    DIGEST: _matching(r"[0-9a-f]{64}"),
    "id": _is_text,
    "time": _matching(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}\+00:00"),
    "kind": _matching(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+"),
    "outcome": _matching(r"[a-z][a-z0-9_]*"),
    "code": _matching(r"[a-z][a-z0-9_]*"),
}
"""What a member that is not null must be, by its kind or name."""
